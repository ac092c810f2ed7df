//! Decisions about who may do what: principals, their tokens, and the providers that are trusted to know people.
//!
//! Invariants: some admin can always be authenticated; one token and one identity are one principal's; whom only a provider
//! knows has a name that no enrolled principal can have.

use super::Governance;
use super::decide::refuse;
use crate::domain::command::{IssuerTrust, PrincipalEnroll, TokenIssue, TokenRevoke};
use crate::domain::principal::{Principal, Role, is_under};
use crate::domain::refusal::Refusal;
use crate::domain::time::Time;

/// The longest label, alias or name of a provider or of somebody there.
const NAME_CHARS_MAX: usize = 512;

impl Governance {
    pub(super) fn decide_enroll(&self, time: Time, enroll: &PrincipalEnroll) -> Result<(), Refusal> {
        if enroll.identity.is_none() || !enroll.token_sha256.is_empty() {
            check_sha256(&enroll.token_sha256)?;
        }
        if enroll.name.is_empty() || enroll.roles.is_empty() {
            return Err(refuse(if enroll.name.is_empty() { "name" } else { "roles" }, "it is empty"));
        }
        if let Some(issuer) = self.principals.issuer_named(&enroll.name) {
            let detail = format!("names that begin with {:?} belong to a provider", format!("{}:", issuer.alias));
            return Err(refuse("name", detail).by(issuer.position));
        }
        check_expiry("token_expires", enroll.token_expires, time)?;
        if let Some(identity) = &enroll.identity {
            check_text("identity.issuer", &identity.issuer)?;
            check_text("identity.subject", &identity.subject)?;
            if let Some((name, principal)) = self.principals.by_identity(identity)
                && name != enroll.name
            {
                return Err(refuse("identity", format!("it is {name}'s")).by(principal.position));
            }
        }
        match self.principals.by_token_sha256(&enroll.token_sha256) {
            Some((name, principal)) if name != enroll.name => {
                Err(refuse("token_sha256", "another principal holds this token").by(principal.position))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn decide_revoke(&self, name: &str) -> Result<(), Refusal> {
        let Some(principal) = self.principals.get(name) else {
            // Whom only a provider knows is barred by name.
            return match self.principals.issuer_named(name) {
                Some(_) => Ok(()),
                None => Err(refuse("name", format!("there is no principal {name:?}"))),
            };
        };
        let other_admin =
            self.principals.iter().any(|(other, found)| other != name && found.roles.contains(&Role::Admin));
        if principal.roles.contains(&Role::Admin) && !other_admin {
            return Err(refuse("name", "it is the last admin"));
        }
        Ok(())
    }

    pub(super) fn decide_token_issue(&self, time: Time, issue: &TokenIssue) -> Result<(), Refusal> {
        check_sha256(&issue.token_sha256)?;
        check_expiry("expires", issue.expires, time)?;
        if self.principals.get(&issue.name).is_none() {
            return Err(refuse("name", format!("there is no principal {:?}", issue.name)));
        }
        if let Some((_, holder)) = self.principals.by_token_sha256(&issue.token_sha256) {
            return Err(refuse("token_sha256", "this token was issued before").by(holder.position));
        }
        match self.principals.token_revoked_at(&issue.token_sha256) {
            Some(position) => Err(refuse("token_sha256", "this token was revoked").by(position)),
            None => Ok(()),
        }
    }

    pub(super) fn decide_token_revoke(&self, revoke: &TokenRevoke) -> Result<(), Refusal> {
        let principal = self.principals.get(&revoke.name);
        let Some(principal) = principal.filter(|found| found.tokens.contains_key(&revoke.token_sha256)) else {
            return Err(refuse("token_sha256", format!("{:?} has no such token", revoke.name)));
        };
        // One that expires is no way in that lasts.
        let ways_in = |found: &Principal| {
            let lasting = |(sha256, token): (&String, &crate::domain::principal::Token)| {
                token.expires.is_none() && *sha256 != revoke.token_sha256
            };
            found.roles.contains(&Role::Admin) && (found.tokens.iter().any(lasting) || !found.identities.is_empty())
        };
        let is_lasting = principal.tokens[&revoke.token_sha256].expires.is_none();
        let is_admin = principal.roles.contains(&Role::Admin);
        if is_admin && is_lasting && !self.principals.iter().any(|(_, found)| ways_in(found)) {
            return Err(refuse("token_sha256", "no admin would have a token left that does not expire"));
        }
        Ok(())
    }

    pub(super) fn decide_trust(&self, trust: &IssuerTrust) -> Result<(), Refusal> {
        check_text("issuer", &trust.issuer)?;
        check_text("alias", &trust.alias)?;
        let fits = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
        if !trust.alias.chars().all(fits) {
            let detail = format!("{:?} is no alias: lower-case letters, digits and '-' are", trust.alias);
            return Err(refuse("alias", detail));
        }
        if trust.roles.is_empty() {
            return Err(refuse("roles", "it is empty"));
        }
        if trust.roles.contains(&Role::Admin) {
            let detail = "no provider confers admin: enroll an admin by name, with their identity";
            return Err(refuse("roles", detail));
        }
        let taken = self.principals.issuers().find(|(name, other)| *name != trust.issuer && other.alias == trust.alias);
        if let Some((name, other)) = taken {
            return Err(refuse("alias", format!("it is that of {name:?}")).by(other.position));
        }
        match self.principals.iter().find(|(name, _)| is_under(&trust.alias, name)) {
            Some((name, other)) => Err(refuse("alias", format!("{name:?} is a principal")).by(other.position)),
            None => Ok(()),
        }
    }
}

fn check_sha256(text: &str) -> Result<(), Refusal> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(refuse("token_sha256", format!("{text:?} is no SHA-256 in hex")))
}

fn check_expiry(field: &str, expires: Option<Time>, time: Time) -> Result<(), Refusal> {
    match expires.filter(|expires| *expires <= time) {
        Some(expires) => Err(refuse(field, format!("{expires} is past"))),
        None => Ok(()),
    }
}

fn check_text(field: &str, text: &str) -> Result<(), Refusal> {
    if text.is_empty() || text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(refuse(field, format!("it has 1 to {NAME_CHARS_MAX} characters and no control characters")));
    }
    Ok(())
}

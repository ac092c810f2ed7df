//! Decisions about who may do what: principals, their tokens, and the providers that are trusted to know people.
//!
//! Invariants: some admin can always be authenticated; one token and one identity are one principal's; whom only a provider
//! knows has a name that no enrolled principal can have.

use super::Governance;
use super::decide::refuse;
use crate::domain::command::{IssuerTrust, PrincipalEnroll, TokenIssue, TokenRevoke};
use crate::domain::principal::{Principal, Principals, Role, is_under};
use crate::domain::refusal::Refusal;
use crate::domain::settings::RULES_PEOPLE;
use crate::domain::time::Time;

/// The longest label, alias or name of a provider or of somebody there.
const NAME_CHARS_MAX: usize = 512;

impl Governance {
    pub(super) fn decide_enroll(&self, time: Time, enroll: &PrincipalEnroll) -> Result<(), Refusal> {
        if enroll.identity.is_none() || !enroll.token_sha256.is_empty() {
            self.check_token(&enroll.token_sha256)?;
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
            _ => self.check_enrolled_again(enroll),
        }
    }

    /// An enrolment replaces roles and may give a token that is there already another expiry.
    fn check_enrolled_again(&self, enroll: &PrincipalEnroll) -> Result<(), Refusal> {
        if self.rules_version() < RULES_PEOPLE {
            return Ok(());
        }
        self.check_not_revoked(&enroll.token_sha256)?;
        let field = if enroll.roles.contains(&Role::Admin) { "token_expires" } else { "roles" };
        self.check_way_in(&enroll.name, field, |after| after.enroll(enroll, self.size))
    }

    /// A hash as tokens are looked up by. Older rules let capitals pass, under which nobody could ever come in.
    fn check_token(&self, sha256: &str) -> Result<(), Refusal> {
        let capitals = self.rules_version() < RULES_PEOPLE;
        let is_digit = |byte: u8| byte.is_ascii_hexdigit() && (capitals || !byte.is_ascii_uppercase());
        if sha256.len() == 64 && sha256.bytes().all(is_digit) {
            return Ok(());
        }
        Err(refuse("token_sha256", format!("{sha256:?} is no SHA-256 in hex")))
    }

    fn check_not_revoked(&self, token_sha256: &str) -> Result<(), Refusal> {
        match self.principals.token_revoked_at(token_sha256) {
            Some(position) => Err(refuse("token_sha256", "this token was revoked").by(position)),
            None => Ok(()),
        }
    }

    /// Refuses what takes the last way in that lasts from the admins. `name` is whom the change is about: only what somebody
    /// has can be taken from them.
    fn check_way_in(&self, name: &str, field: &str, change: impl FnOnce(&mut Principals)) -> Result<(), Refusal> {
        if !self.principals.get(name).is_some_and(Principal::is_lasting_admin) {
            return Ok(());
        }
        let mut after = self.principals.clone();
        change(&mut after);
        if after.iter().any(|(_, found)| found.is_lasting_admin()) {
            return Ok(());
        }
        Err(refuse(field, "no admin would have a token left that does not expire"))
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
        if self.rules_version() < RULES_PEOPLE {
            return Ok(());
        }
        self.check_way_in(name, "name", |after| {
            after.revoke(name, self.size);
        })
    }

    pub(super) fn decide_token_issue(&self, time: Time, issue: &TokenIssue) -> Result<(), Refusal> {
        self.check_token(&issue.token_sha256)?;
        check_expiry("expires", issue.expires, time)?;
        if self.principals.get(&issue.name).is_none() {
            return Err(refuse("name", format!("there is no principal {:?}", issue.name)));
        }
        if let Some((_, holder)) = self.principals.by_token_sha256(&issue.token_sha256) {
            return Err(refuse("token_sha256", "this token was issued before").by(holder.position));
        }
        self.check_not_revoked(&issue.token_sha256)
    }

    pub(super) fn decide_token_revoke(&self, revoke: &TokenRevoke) -> Result<(), Refusal> {
        let principal = self.principals.get(&revoke.name);
        if !principal.is_some_and(|found| found.tokens.contains_key(&revoke.token_sha256)) {
            return Err(refuse("token_sha256", format!("{:?} has no such token", revoke.name)));
        }
        self.check_way_in(&revoke.name, "token_sha256", |after| after.revoke_token(revoke, self.size))
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

//! Who may do what: roles, principals, and the one table of who may give which command.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::authentication::{Authentication, Identity};
use super::command::{IssuerTrust, PrincipalEnroll, TokenIssue, TokenRevoke};
use super::envelope::hex;
use super::settings::RULES_PEOPLE;
use super::time::Time;

/// A role. What each may do stands in [`super::command::Request::roles`] and in the API's route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads answers.
    Reader,
    /// Hands in events and metrics.
    Publisher,
    /// Works incidents, condemns and reinstates engines.
    Oncall,
    /// Decides waivers.
    Finance,
    /// Reads everything, raw entries included.
    Auditor,
    /// Manages principals, adopts engines, confirms holes.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [Self::Reader, Self::Publisher, Self::Oncall, Self::Finance, Self::Auditor, Self::Admin];

    /// The role's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Publisher => "publisher",
            Self::Oncall => "oncall",
            Self::Finance => "finance",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no role; roles are reader, publisher, oncall, finance, auditor, admin"))
    }
}

/// SHA-256 of a token, hex: all that the ledger ever holds of it.
pub fn token_sha256(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// A token of a principal: never itself, only what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// It counts for nothing from here on; none for one that lasts until it is revoked.
    pub expires: Option<Time>,
    /// What it is for, in a word or two.
    pub label: Option<String>,
    /// The entry that issued it.
    pub position: u64,
}

impl Token {
    /// Whether it counts for nothing any more.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Someone with roles, tokens and identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// Their tokens, by SHA-256.
    pub tokens: BTreeMap<String, Token>,
    /// Who they are at identity providers.
    pub identities: BTreeSet<Identity>,
    /// The entry that last changed them.
    pub position: u64,
}

impl Principal {
    /// Whether they are an admin who can always be authenticated: by a token that does not expire, or by an identity.
    pub fn is_lasting_admin(&self) -> bool {
        let is_lasting = self.tokens.values().any(|token| token.expires.is_none()) || !self.identities.is_empty();
        is_lasting && self.roles.contains(&Role::Admin)
    }
}

/// A provider that is trusted to say who somebody is, and within limits what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Whom only the provider knows is called `ALIAS:NAME` here.
    pub alias: String,
    /// The roles that its claims may confer on those.
    pub roles: BTreeSet<Role>,
    /// The entry that trusts it.
    pub position: u64,
}

/// All principals at a position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principals {
    by_name: BTreeMap<String, Principal>,
    issuers: BTreeMap<String, Issuer>,
    /// Tokens that were taken back, with the entry that did.
    revoked: BTreeMap<String, u64>,
    /// Identities of principals that were revoked: they do not come back as somebody whom only the provider knows.
    barred: BTreeSet<Identity>,
    /// The same for those whom only the provider knew, by name, in older ledgers.
    barred_names: BTreeMap<String, u64>,
    /// The same by provider and by their name there, whatever the provider's alias. See [`RULES_PEOPLE`].
    #[serde(default)]
    barred_at: BTreeMap<String, BTreeMap<String, u64>>,
    /// Whether who is barred and who may approve up to what is the provider's person's own, and not their name's.
    #[serde(default)]
    by_provider: bool,
    /// Up to which cap each may approve, and the entry that said so. Held by name, however they are known to be who they are.
    finance_limits: BTreeMap<String, (Decimal, u64)>,
}

impl Principals {
    /// Begins to follow the rules of a ledger: its first entry names their version.
    pub const fn begin(&mut self, rules_version: u32) {
        self.by_provider = rules_version >= RULES_PEOPLE;
    }

    /// Gives `enroll.name` roles, and a token or an identity; made new where unknown.
    pub fn enroll(&mut self, enroll: &PrincipalEnroll, position: u64) {
        let principal = self.by_name.entry(enroll.name.clone()).or_default();
        principal.roles.clone_from(&enroll.roles);
        principal.position = position;
        if !enroll.token_sha256.is_empty() {
            let token = Token { expires: enroll.token_expires, label: enroll.token_label.clone(), position };
            principal.tokens.insert(enroll.token_sha256.clone(), token);
            self.revoked.remove(&enroll.token_sha256);
        }
        if let Some(identity) = &enroll.identity {
            self.barred.remove(identity);
            principal.identities.insert(identity.clone());
        }
    }

    /// Takes everything from `name`. False where there was nothing.
    pub fn revoke(&mut self, name: &str, position: u64) -> bool {
        self.finance_limits.remove(name);
        let Some(principal) = self.by_name.remove(name) else {
            return self.bar(name, position);
        };
        self.revoked.extend(principal.tokens.into_keys().map(|sha256| (sha256, position)));
        self.barred.extend(principal.identities);
        true
    }

    /// Takes everything from somebody whom only a provider knows. False where no provider is trusted to know the name.
    fn bar(&mut self, name: &str, position: u64) -> bool {
        let Some((issuer, there)) = self.at_provider(name) else { return false };
        let (issuer, there) = (issuer.to_owned(), there.to_owned());
        if self.by_provider {
            self.barred_at.entry(issuer).or_default().insert(there, position);
        } else {
            self.barred_names.insert(name.to_owned(), position);
        }
        true
    }

    /// The provider under whose alias a name stands, and the name there.
    fn at_provider<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a str)> {
        self.issuers.iter().find_map(|(issuer, known)| Some((issuer.as_str(), name_there(&known.alias, name)?)))
    }

    /// Gives `name` one more token.
    pub fn issue_token(&mut self, issue: &TokenIssue, position: u64) {
        if let Some(principal) = self.by_name.get_mut(&issue.name) {
            let token = Token { expires: issue.expires, label: issue.label.clone(), position };
            principal.tokens.insert(issue.token_sha256.clone(), token);
        }
    }

    /// Takes one token from `name`.
    pub fn revoke_token(&mut self, revoke: &TokenRevoke, position: u64) {
        let taken = self.by_name.get_mut(&revoke.name).and_then(|found| found.tokens.remove(&revoke.token_sha256));
        if taken.is_some() {
            self.revoked.insert(revoke.token_sha256.clone(), position);
        }
    }

    /// Trusts a provider, or changes how far.
    pub fn trust(&mut self, trust: &IssuerTrust, position: u64) {
        if self.issuers.get(&trust.issuer).is_some_and(|known| known.alias != trust.alias) {
            self.drop_limits(&trust.issuer);
        }
        let issuer = Issuer { alias: trust.alias.clone(), roles: trust.roles.clone(), position };
        self.issuers.insert(trust.issuer.clone(), issuer);
    }

    /// Trusts a provider no more.
    pub fn distrust(&mut self, issuer: &str) {
        self.drop_limits(issuer);
        self.issuers.remove(issuer);
    }

    /// Lets go of the limits under a provider's alias: the next to have it may be another.
    fn drop_limits(&mut self, issuer: &str) {
        let Some(known) = self.issuers.get(issuer).filter(|_| self.by_provider) else { return };
        self.finance_limits.retain(|name, _| !is_under(&known.alias, name));
    }

    /// States up to which cap `name` may approve.
    pub fn limit(&mut self, name: &str, finance_limit_usd: Decimal, position: u64) {
        self.finance_limits.insert(name.to_owned(), (finance_limit_usd, position));
    }

    /// Up to which cap `name` may approve, and the entry that said so; none where nobody has said.
    pub fn finance_limit_usd(&self, name: &str) -> Option<(Decimal, u64)> {
        self.finance_limits.get(name).copied()
    }

    /// Who holds the token with this hash.
    pub fn by_token_sha256(&self, token_sha256: &str) -> Option<(&str, &Principal)> {
        self.by_name
            .iter()
            .find(|(_, principal)| principal.tokens.contains_key(token_sha256))
            .map(|(name, principal)| (name.as_str(), principal))
    }

    /// The entry that took this token back.
    pub fn token_revoked_at(&self, token_sha256: &str) -> Option<u64> {
        self.revoked.get(token_sha256).copied()
    }

    /// The principal with this identity.
    pub fn by_identity(&self, identity: &Identity) -> Option<(&str, &Principal)> {
        self.by_name
            .iter()
            .find(|(_, principal)| principal.identities.contains(identity))
            .map(|(name, principal)| (name.as_str(), principal))
    }

    /// Whether an identity or the name it goes by was taken everything from.
    pub fn is_barred(&self, identity: &Identity, name: &str) -> bool {
        self.barred.contains(identity) || self.barred_names.contains_key(name) || self.is_barred_there(identity, name)
    }

    fn is_barred_there(&self, identity: &Identity, name: &str) -> bool {
        let barred = self.barred_at.get(&identity.issuer);
        let there = self.issuers.get(&identity.issuer).and_then(|known| name_there(&known.alias, name));
        barred.zip(there).is_some_and(|(barred, there)| barred.contains_key(there))
    }

    /// Whether `name`, authenticated like this, has `role` here: decided at a command's position.
    ///
    /// An enrolled principal has the roles of the ledger, by whatever they were known; shown an identity, it must be theirs.
    /// Whom only the provider knows has what the provider is trusted to confer, which the node vouches that it did.
    pub fn holds(&self, name: &str, role: Role, by: &Authentication) -> bool {
        let identity = by.identity();
        if let Some(principal) = self.by_name.get(name) {
            return principal.roles.contains(&role)
                && identity.is_none_or(|identity| principal.identities.contains(&identity));
        }
        let Some(identity) = identity else { return false };
        let Some(issuer) = self.issuers.get(&identity.issuer) else { return false };
        is_under(&issuer.alias, name)
            && issuer.roles.contains(&role)
            && !self.is_barred(&identity, name)
            && self.by_identity(&identity).is_none()
    }

    /// A provider.
    pub fn issuer(&self, issuer: &str) -> Option<&Issuer> {
        self.issuers.get(issuer)
    }

    /// The providers, by what they call themselves.
    pub fn issuers(&self) -> impl Iterator<Item = (&str, &Issuer)> {
        self.issuers.iter().map(|(name, issuer)| (name.as_str(), issuer))
    }

    /// The provider under whose alias a name stands.
    pub fn issuer_named(&self, name: &str) -> Option<&Issuer> {
        self.issuers.values().find(|issuer| is_under(&issuer.alias, name))
    }

    /// The principal called `name`.
    pub fn get(&self, name: &str) -> Option<&Principal> {
        self.by_name.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Principal)> {
        self.by_name.iter().map(|(name, principal)| (name.as_str(), principal))
    }
}

/// Whether `name` is `ALIAS:` and something.
pub fn is_under(alias: &str, name: &str) -> bool {
    name_there(alias, name).is_some()
}

/// What follows `ALIAS:` in `name`.
fn name_there<'a>(alias: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(alias).and_then(|rest| rest.strip_prefix(':')).filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::authentication::{OidcAuthentication, OidcMethod};

    const ISSUER: &str = "https://id";

    fn by(issuer: &str, subject: &str) -> Authentication {
        Authentication::Oidc(Box::new(OidcAuthentication {
            method: OidcMethod::Oidc,
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            auth_time: None,
            acr: None,
            amr: Vec::new(),
        }))
    }

    fn people() -> Principals {
        let mut people = Principals::default();
        let identity = Some(Identity { issuer: ISSUER.to_owned(), subject: "c-1".to_owned() });
        let cleo =
            PrincipalEnroll { name: "cleo".into(), roles: [Role::Finance].into(), identity, ..Default::default() };
        people.enroll(&cleo, 1);
        let roles = [Role::Reader, Role::Oncall].into();
        people.trust(&IssuerTrust { issuer: ISSUER.to_owned(), alias: "corp".to_owned(), roles }, 2);
        people
    }

    #[test]
    fn a_role_is_held_by_the_ledger_and_by_the_identity_that_was_shown() {
        let people = people();
        let check = |name: &str, role, by: &Authentication, expected: bool| {
            assert_eq!(people.holds(name, role, by), expected, "{name} {role} {by}");
        };
        check("cleo", Role::Finance, &by(ISSUER, "c-1"), true);
        check("cleo", Role::Finance, &Authentication::token(), true);
        check("cleo", Role::Reader, &by(ISSUER, "c-1"), false);
        // Somebody else's identity under her name, at her provider or at another.
        check("cleo", Role::Finance, &by(ISSUER, "c-2"), false);
        check("cleo", Role::Finance, &by("https://evil", "c-1"), false);
        // Whom only the provider knows: what it may confer, under its alias, and nobody without an identity.
        check("corp:bob", Role::Oncall, &by(ISSUER, "b-1"), true);
        check("corp:bob", Role::Finance, &by(ISSUER, "b-1"), false);
        check("corp:bob", Role::Oncall, &by("https://evil", "b-1"), false);
        check("corp:bob", Role::Oncall, &Authentication::token(), false);
        check("bob", Role::Oncall, &by(ISSUER, "b-1"), false);
        check("corp:", Role::Oncall, &by(ISSUER, "b-1"), false);
        // An enrolled person is not a second one under the alias.
        check("corp:c-1", Role::Oncall, &by(ISSUER, "c-1"), false);
    }

    #[test]
    fn who_was_removed_stays_out_by_name_and_by_identity() {
        let mut people = people();
        assert!(people.revoke("cleo", 3) && people.revoke("corp:bob", 4) && !people.revoke("nobody", 5));
        assert!(!people.holds("corp:c-1", Role::Reader, &by(ISSUER, "c-1")));
        assert!(!people.holds("corp:bob", Role::Reader, &by(ISSUER, "b-1")));
        assert!(people.holds("corp:ann", Role::Reader, &by(ISSUER, "a-1")));
        people.distrust(ISSUER);
        assert!(!people.holds("corp:ann", Role::Reader, &by(ISSUER, "a-1")));
    }

    /// Trusts the provider under another alias, by way of trusting it no more or at once.
    fn renamed(people: &mut Principals, issuer: &str, alias: &str, at_once: bool) {
        if !at_once {
            people.distrust(issuer);
        }
        let roles = [Role::Reader, Role::Finance].into();
        people.trust(&IssuerTrust { issuer: issuer.to_owned(), alias: alias.to_owned(), roles }, 9);
    }

    #[test]
    fn who_was_removed_stays_out_under_another_alias_and_nobody_else_does() {
        for (rules_version, at_once) in [(5, true), (5, false), (4, true), (4, false)] {
            let mut people = people();
            people.begin(rules_version);
            assert!(people.revoke("corp:bob", 4));
            renamed(&mut people, ISSUER, "acme", at_once);
            let returns = people.holds("acme:bob", Role::Reader, &by(ISSUER, "b-1"));
            assert_eq!(returns, rules_version < 5, "version {rules_version}, at once {at_once}");
            assert!(people.holds("acme:ann", Role::Reader, &by(ISSUER, "a-1")));
            // The old alias is free, and the next provider's bob is another.
            renamed(&mut people, "https://other", "corp", true);
            assert_eq!(people.holds("corp:bob", Role::Reader, &by("https://other", "b")), rules_version >= 5);
            // Back under the old name, he is the same.
            renamed(&mut people, "https://other", "else", true);
            renamed(&mut people, ISSUER, "corp", at_once);
            assert!(!people.holds("corp:bob", Role::Reader, &by(ISSUER, "b-1")));
        }
    }

    #[test]
    fn a_limit_ends_with_the_alias_that_it_was_stated_under() {
        for (rules_version, at_once) in [(5, true), (5, false), (4, true), (4, false)] {
            let mut people = people();
            people.begin(rules_version);
            for name in ["corp:ann", "corps", "cleo"] {
                people.limit(name, Decimal::TEN, 3);
            }
            // The same alias again takes nothing.
            renamed(&mut people, ISSUER, "corp", true);
            assert_eq!(people.finance_limit_usd("corp:ann"), Some((Decimal::TEN, 3)));
            renamed(&mut people, ISSUER, "acme", at_once);
            assert_eq!(people.finance_limit_usd("corp:ann").is_some(), rules_version < 5, "version {rules_version}");
            assert!(["corps", "cleo"].iter().all(|name| people.finance_limit_usd(name).is_some()));
        }
    }

    #[test]
    fn an_authentication_is_a_word_or_says_more() {
        let word: Authentication = serde_json::from_str("\"token\"").unwrap();
        assert_eq!(word, Authentication::token());
        let oidc = by(ISSUER, "c-1");
        let text = serde_json::to_string(&oidc).unwrap();
        assert_eq!(text, r#"{"method":"oidc","issuer":"https://id","subject":"c-1"}"#);
        assert_eq!(serde_json::from_str::<Authentication>(&text).unwrap(), oidc);
        assert!(serde_json::from_str::<Authentication>(r#"{"method":"password","issuer":"i","subject":"s"}"#).is_err());
    }
}

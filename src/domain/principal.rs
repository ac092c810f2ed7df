//! Who may do what: roles, principals, and the one table of who may give which command.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::envelope::hex;

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

/// Someone with roles and token hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// Hashes of their tokens.
    pub tokens: BTreeSet<String>,
    /// The entry that last changed them.
    pub position: u64,
}

/// All principals at a position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principals {
    by_name: BTreeMap<String, Principal>,
}

impl Principals {
    /// Adds roles and a token to `name`, made new where unknown.
    pub fn enroll(&mut self, name: &str, roles: &BTreeSet<Role>, token_sha256: &str, position: u64) {
        let principal = self.by_name.entry(name.to_owned()).or_default();
        principal.roles.clone_from(roles);
        principal.tokens.insert(token_sha256.to_owned());
        principal.position = position;
    }

    /// Takes everything from `name`. False where there was nothing.
    pub fn revoke(&mut self, name: &str) -> bool {
        self.by_name.remove(name).is_some()
    }

    /// Who holds the token with this hash.
    pub fn by_token_sha256(&self, token_sha256: &str) -> Option<(&str, &Principal)> {
        self.by_name
            .iter()
            .find(|(_, principal)| principal.tokens.contains(token_sha256))
            .map(|(name, principal)| (name.as_str(), principal))
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

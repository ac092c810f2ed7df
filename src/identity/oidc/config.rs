//! How a provider is configured.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::principal::Role;

/// A signature algorithm that is taken. There are no others, and none of them is symmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OidcAlgorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA PKCS #1 v1.5 with SHA-256, keys of 2,048 bits or more.
    #[serde(rename = "RS256")]
    Rs256,
}

impl OidcAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Es256, Self::Rs256];

    /// The name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A provider: one `[[oidc]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// What it calls itself: `iss` of its tokens, to the letter.
    pub issuer: String,
    /// Whom its tokens must be for: one of these in `aud`.
    pub audience: BTreeSet<String>,
    /// Where its keys are. `https`, or `http` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Its keys in a file, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// Algorithms that are taken.
    #[serde(default = "all_algorithms")]
    pub algorithms: BTreeSet<OidcAlgorithm>,
    /// The claim that names whom the ledger has not enrolled. `sub` alone is never given to another.
    #[serde(default = "subject")]
    pub principal_claim: String,
    /// The claim that holds groups or roles; a dot goes into an object.
    #[serde(default = "roles_claim")]
    pub roles_claim: String,
    /// What each value of that claim stands for here; other values stand for nothing.
    #[serde(default)]
    pub roles: BTreeMap<String, BTreeSet<Role>>,
    /// How far its clock and this one may be apart.
    #[serde(default = "skew_seconds")]
    pub skew_seconds: u32,
    /// Whether an approval needs `auth_time`. Where the provider gives none, approvals would be impossible otherwise.
    #[serde(default = "yes")]
    pub auth_time_required: bool,
    /// Keys are fetched again when they are older than this.
    #[serde(default = "refresh_seconds")]
    pub refresh_seconds: u32,
    /// The least time between two fetches, however many tokens name unknown keys.
    #[serde(default = "retry_seconds")]
    pub retry_seconds: u32,
    /// Keys that could not be fetched again count for so long.
    #[serde(default = "stale_seconds_max")]
    pub stale_seconds_max: u32,
    /// How long a fetch may take.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
    /// The longest token.
    #[serde(default = "token_bytes_max")]
    pub token_bytes_max: usize,
}

fn all_algorithms() -> BTreeSet<OidcAlgorithm> {
    OidcAlgorithm::ALL.into()
}
fn subject() -> String {
    "sub".to_owned()
}
fn roles_claim() -> String {
    "roles".to_owned()
}
const fn skew_seconds() -> u32 {
    60
}
const fn yes() -> bool {
    true
}
const fn refresh_seconds() -> u32 {
    300
}
const fn retry_seconds() -> u32 {
    30
}
const fn stale_seconds_max() -> u32 {
    3_600
}
const fn timeout_seconds() -> u32 {
    5
}
const fn token_bytes_max() -> usize {
    8_192
}

/// A provider that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("oidc {issuer:?}: {reason}")]
pub struct OidcConfigError {
    /// Which.
    pub issuer: String,
    /// Why.
    pub reason: String,
}

/// Refuses what would not work, or would let in whom nobody meant.
pub(super) fn check(configs: &[OidcConfig]) -> Result<(), OidcConfigError> {
    let mut seen = BTreeSet::new();
    for config in configs {
        let wrong = |reason: &str| Err(OidcConfigError { issuer: config.issuer.clone(), reason: reason.to_owned() });
        if config.issuer.is_empty() || !seen.insert(&config.issuer) {
            return wrong("issuer is empty, or configured twice");
        }
        if config.audience.is_empty() || config.audience.contains("") {
            return wrong("audience names whom tokens must be for; without it any token of the provider would count");
        }
        if config.algorithms.is_empty() {
            return wrong("algorithms is empty");
        }
        if config.roles.values().any(|roles| roles.contains(&Role::Admin)) {
            return wrong("roles confers admin: enroll an admin by name instead, with their identity");
        }
        if config.skew_seconds > 600 || config.retry_seconds == 0 || config.timeout_seconds == 0 {
            return wrong("skew_seconds is at most 600, retry_seconds and timeout_seconds at least 1");
        }
        match (&config.jwks_url, &config.jwks_file) {
            (Some(url), None) if is_safe(url) => {}
            (Some(_), None) => return wrong("jwks_url is not https, nor http on 127.0.0.1, [::1] or localhost"),
            (None, Some(_)) => {}
            _ => return wrong("name one of jwks_url and jwks_file"),
        }
    }
    Ok(())
}

/// Keys that came over an open network would be anybody's.
fn is_safe(url: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return false };
    match uri.scheme_str() {
        Some("https") => uri.host().is_some(),
        Some("http") => matches!(uri.host(), Some("127.0.0.1" | "[::1]" | "localhost")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "issuer = \"https://id\"\naudience = [\"govledger\"]\n";

    #[test]
    fn what_would_let_anybody_in_is_refused() {
        let expect = |rest: &str, reason: &str| {
            let config: OidcConfig = toml::from_str(&format!("{BASE}{rest}")).unwrap();
            match check(&[config]) {
                Ok(()) => assert!(reason.is_empty(), "{rest} was taken"),
                Err(error) => assert!(!reason.is_empty() && error.reason.contains(reason), "{rest}: {error}"),
            }
        };
        expect("jwks_url = \"https://id/jwks\"", "");
        expect("jwks_url = \"http://127.0.0.1:9/jwks\"", "");
        expect("jwks_url = \"http://id/jwks\"", "https");
        expect("jwks_url = \"http://127.0.0.1.evil.example/jwks\"", "https");
        expect("", "one of");
        expect("jwks_file = \"a\"\njwks_url = \"https://id/jwks\"", "one of");
        expect("jwks_file = \"a\"\nalgorithms = []", "algorithms");
        expect("jwks_file = \"a\"\nskew_seconds = 601", "skew");
        expect("jwks_file = \"a\"\nroles = { ops = [\"admin\"] }", "admin");
        let symmetric = toml::from_str::<OidcConfig>(&format!("{BASE}algorithms = [\"HS256\"]"));
        assert!(symmetric.unwrap_err().to_string().contains("HS256"));
        let nobody: OidcConfig = toml::from_str("issuer = \"i\"\naudience = []\njwks_file = \"a\"").unwrap();
        assert!(check(std::slice::from_ref(&nobody)).unwrap_err().reason.contains("audience"));
    }
}

//! How a node knew who gives a command, as the command's envelope records it.
//!
//! In scope: the words for it, and what they look like in an entry. Out of scope: knowing anybody (the API's guard), and what
//! somebody may do at a position ([`super::principal`]).

use serde::{Deserialize, Serialize};

use super::time::Time;

/// Somebody at an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The provider, as its tokens call it (`iss`).
    pub issuer: String,
    /// Whom it means (`sub`): never given to another by the same provider.
    pub subject: String,
}

/// What an `OpenID` Connect token said of its bearer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OidcAuthentication {
    /// Always `oidc`.
    pub method: OidcMethod,
    /// The provider.
    pub issuer: String,
    /// Whom it means.
    pub subject: String,
    /// When the person last proved to the provider who they are, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<Time>,
    /// How (`acr`), where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// By what means (`amr`), where it says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
}

/// The only word that tells this form from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OidcMethod {
    /// A bearer token of an `OpenID` Connect provider.
    Oidc,
}

/// How a principal was authenticated. An API token knows no time of authentication: its form is the bare word `token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Authentication {
    /// By a method that says nothing else, such as `token`.
    Method(String),
    /// By a token of an identity provider.
    Oidc(Box<OidcAuthentication>),
}

impl Authentication {
    /// By an API token.
    pub fn token() -> Self {
        Self::from("token")
    }

    /// The identity that was shown, where the method has one.
    pub fn identity(&self) -> Option<Identity> {
        match self {
            Self::Method(_) => None,
            Self::Oidc(oidc) => Some(Identity { issuer: oidc.issuer.clone(), subject: oidc.subject.clone() }),
        }
    }

    /// When the person last proved who they are, where that is known.
    pub fn auth_time(&self) -> Option<Time> {
        match self {
            Self::Method(_) => None,
            Self::Oidc(oidc) => oidc.auth_time,
        }
    }
}

impl Default for Authentication {
    fn default() -> Self {
        Self::token()
    }
}

impl From<&str> for Authentication {
    fn from(method: &str) -> Self {
        Self::Method(method.to_owned())
    }
}

impl std::fmt::Display for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Method(method) => f.write_str(method),
            Self::Oidc(oidc) => {
                write!(f, "oidc {} of {}", oidc.subject, oidc.issuer)?;
                match oidc.auth_time {
                    Some(time) => write!(f, ", authenticated at {time}"),
                    None => f.write_str(", time of authentication not stated"),
                }
            }
        }
    }
}

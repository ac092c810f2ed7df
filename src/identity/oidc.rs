//! Bearer tokens of `OpenID` Connect providers: JWTs, checked here, without asking the provider about each.
//!
//! In scope: which providers are configured, their keys, and what a token says once it was checked. Out of scope: what somebody
//! may do: the governance ledger says whom a provider is trusted to name and which roles its claims may confer.
//!
//! Invariants: an algorithm is one of three asymmetric ones and is the key's own; a key is the issuer's; nothing of a token is
//! believed before its signature was verified, but which provider to ask for the key.

mod config;
mod crypto;
mod fault;
mod keys;
mod token;

use std::time::Duration;

pub use config::{OidcAlgorithm, OidcConfig, OidcConfigError};
pub use fault::Fault;
pub use token::Bearer;

use crate::domain::time::Time;
use keys::Keys;

/// Every configured provider.
#[derive(Debug, Default)]
pub struct Providers(Vec<Provider>);

/// One provider.
#[derive(Debug)]
struct Provider {
    config: OidcConfig,
    keys: Keys,
}

impl Providers {
    /// Over the configuration, checked. Nothing is fetched yet: a provider that is down holds up no start.
    pub fn new(configs: Vec<OidcConfig>) -> Result<Self, OidcConfigError> {
        config::check(&configs)?;
        crypto::install();
        let provider = |config: OidcConfig| Provider { keys: Keys::new(&config), config };
        Ok(Self(configs.into_iter().map(provider).collect()))
    }

    /// Whether any is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks a token; may fetch keys, so it must not be called where nothing may block.
    pub fn check(&self, token: &str, now: Time, elapsed: Duration) -> Result<Bearer, Fault> {
        let longest = self.0.iter().map(|provider| provider.config.token_bytes_max).max().unwrap_or_default();
        let shape = token::Shape::read(token, longest)?;
        let provider = self.0.iter().find(|provider| provider.config.issuer == shape.issuer);
        let Some(provider) = provider else { return Err(Fault::WrongIssuer { found: shape.issuer }) };
        token::check(&provider.config, &shape, now, |kid, algorithm| provider.keys.find(kid, algorithm, elapsed))
    }

    /// Whether an approval by somebody of this provider needs a stated time of authentication.
    pub fn is_auth_time_required(&self, issuer: &str) -> bool {
        let provider = self.0.iter().find(|provider| provider.config.issuer == issuer);
        provider.is_none_or(|provider| provider.config.auth_time_required)
    }
}

/// Whether a bearer token looks like a JWT: three parts. Ours have one.
pub fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

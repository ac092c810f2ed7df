//! A provider's public keys: fetched when needed, kept, and fetched again when they are old or one is missing.
//!
//! A key that the provider withdraws is gone with the next fetch. While the provider does not answer, the keys at hand count for
//! `stale_seconds_max`. Nobody waits for a fetch but the one who makes it, and there is one at a time, at most one in
//! `retry_seconds`: tokens with made-up key ids make no load on the provider.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use serde::Deserialize;

use super::config::{OidcAlgorithm, OidcConfig};
use super::fault::Fault;

/// The largest set of keys read.
const JWKS_BYTES_MAX: u64 = 256 << 10;
/// Keys of one provider.
const KEYS_MAX: usize = 64;

/// One key, for one algorithm.
#[derive(Debug, Clone)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: OidcAlgorithm,
    pub(super) decoding: DecodingKey,
}

#[derive(Debug)]
enum Source {
    Url { url: String, agent: Box<ureq::Agent> },
    File(PathBuf),
}

#[derive(Debug)]
struct Kept {
    keys: Vec<Key>,
    fetched: Duration,
}

/// When a fetch was last tried, and what came of it where it failed.
#[derive(Debug, Default)]
struct Attempt {
    at: Option<Duration>,
    error: Option<String>,
}

/// The keys of one provider.
#[derive(Debug)]
pub(super) struct Keys {
    source: Source,
    refresh: Duration,
    retry: Duration,
    stale_max: Duration,
    kept: RwLock<Option<Arc<Kept>>>,
    attempt: Mutex<Attempt>,
}

impl Keys {
    pub(super) fn new(config: &OidcConfig) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let source = match (&config.jwks_url, &config.jwks_file) {
            (Some(url), _) => {
                let agent = ureq::Agent::config_builder()
                    .max_redirects(0)
                    .proxy(None)
                    .user_agent(concat!("govledger/", env!("CARGO_PKG_VERSION")))
                    .timeout_global(Some(seconds(config.timeout_seconds)))
                    .build();
                Source::Url { url: url.clone(), agent: Box::new(agent.into()) }
            }
            (None, file) => Source::File(file.clone().unwrap_or_default()),
        };
        Self {
            source,
            refresh: seconds(config.refresh_seconds),
            retry: seconds(config.retry_seconds),
            stale_max: seconds(config.stale_seconds_max),
            kept: RwLock::new(None),
            attempt: Mutex::default(),
        }
    }

    /// The key for a token that names `kid` and `algorithm`.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: OidcAlgorithm, now: Duration) -> Result<Key, Fault> {
        let is_fresh = |kept: &Arc<Kept>| now.saturating_sub(kept.fetched) < self.refresh;
        if !self.kept().as_ref().is_some_and(is_fresh) {
            self.fetch(now);
        }
        match self.look(kid, algorithm, now) {
            // It may be a new one.
            Err(Fault::UnknownKey { .. }) if self.fetch(now) => self.look(kid, algorithm, now),
            found => found,
        }
    }

    fn kept(&self) -> Option<Arc<Kept>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self, kid: Option<&str>, algorithm: OidcAlgorithm, now: Duration) -> Result<Key, Fault> {
        let Some(kept) = self.kept().filter(|kept| now.saturating_sub(kept.fetched) <= self.stale_max) else {
            let reason = match self.attempt.try_lock() {
                Ok(attempt) => attempt.error.clone().unwrap_or_else(|| "not fetched yet".to_owned()),
                Err(_) => "they are being fetched".to_owned(),
            };
            return Err(Fault::KeysUnavailable { reason });
        };
        let unknown = || Fault::UnknownKey { kid: kid.unwrap_or_default().chars().take(80).collect() };
        let mut named = kept.keys.iter().filter(|key| match kid {
            Some(kid) => key.kid.as_deref() == Some(kid),
            None => key.algorithm == algorithm,
        });
        // Without a key id there must be no choice.
        let (first, second) = (named.next().ok_or_else(unknown)?, named.next());
        if kid.is_none() && second.is_some() {
            return Err(unknown());
        }
        if first.algorithm != algorithm {
            return Err(Fault::Algorithm { found: algorithm.as_str().to_owned() });
        }
        Ok(first.clone())
    }

    /// Fetches the keys, unless somebody does or that was tried a moment ago. Whether there are new ones.
    fn fetch(&self, now: Duration) -> bool {
        let mut attempt = match self.attempt.try_lock() {
            Ok(attempt) => attempt,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        if attempt.at.is_some_and(|at| now.saturating_sub(at) < self.retry) {
            return false;
        }
        attempt.at = Some(now);
        match self.read().and_then(|text| parse(&text)) {
            Ok(keys) => {
                attempt.error = None;
                tracing::debug!(keys = keys.len(), "oidc.keys_fetched");
                let kept = Some(Arc::new(Kept { keys, fetched: now }));
                *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
                true
            }
            Err(error) => {
                tracing::warn!(error, "oidc.keys_not_fetched");
                attempt.error = Some(error);
                false
            }
        }
    }

    fn read(&self) -> Result<String, String> {
        match &self.source {
            Source::Url { url, agent } => {
                let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
                let body = answer.body_mut().with_config().limit(JWKS_BYTES_MAX).read_to_string();
                body.map_err(|error| error.to_string())
            }
            Source::File(path) => {
                let mut text = String::new();
                let file = std::fs::File::open(path);
                let read = file.and_then(|file| file.take(JWKS_BYTES_MAX).read_to_string(&mut text));
                read.map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(text)
            }
        }
    }
}

#[derive(Deserialize)]
struct WireSet {
    keys: Vec<serde_json::Value>,
}

/// The usable keys of a set. Keys of other kinds and for other uses are passed over, as RFC 7517 asks.
fn parse(text: &str) -> Result<Vec<Key>, String> {
    let set: WireSet = serde_json::from_str(text).map_err(|error| format!("no set of keys: {error}"))?;
    let read = |value: serde_json::Value| serde_json::from_value::<Jwk>(value).ok().and_then(|jwk| usable(&jwk));
    let keys: Vec<Key> = set.keys.into_iter().take(KEYS_MAX).filter_map(read).collect();
    if keys.is_empty() { Err("none of its keys is for EdDSA, ES256 or RS256".to_owned()) } else { Ok(keys) }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named here is not taken")]
fn usable(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => OidcAlgorithm::Rs256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => OidcAlgorithm::Es256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => OidcAlgorithm::EdDsa,
        _ => return None,
    };
    let named = match &jwk.common.key_algorithm {
        None => true,
        Some(KeyAlgorithm::RS256) => algorithm == OidcAlgorithm::Rs256,
        Some(KeyAlgorithm::ES256) => algorithm == OidcAlgorithm::Es256,
        Some(KeyAlgorithm::EdDSA) => algorithm == OidcAlgorithm::EdDsa,
        Some(_) => false,
    };
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    (named && signs).then(|| Key { kid: jwk.common.key_id.clone(), algorithm, decoding })
}

#[cfg(test)]
mod tests;

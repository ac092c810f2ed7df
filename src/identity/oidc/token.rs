//! A token, read and checked.
//!
//! Signature and structure are `jsonwebtoken`'s to check; times, issuer and audience are checked here, by this node's clock and
//! each with its own fault. Order: size, structure, algorithm, issuer, key, signature, times, audience, the rest.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::{OidcAlgorithm, OidcConfig};
use super::fault::Fault;
use super::keys::Key;
use crate::domain::authentication::{OidcAuthentication, OidcMethod};
use crate::domain::principal::Role;
use crate::domain::time::Time;

/// The longest name of somebody.
const NAME_CHARS_MAX: usize = 256;
/// The last second that a time may state: the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// What a checked token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Issuer, subject, and how and when they were authenticated.
    pub authentication: OidcAuthentication,
    /// The name by the configured claim.
    pub name: String,
    /// What its claims stand for here.
    pub roles: BTreeSet<Role>,
    /// It counts for nothing from here on.
    pub expires: Time,
}

/// What can be seen of a token before anything of it is believed.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    token: &'a str,
    algorithm: String,
    kid: Option<String>,
    pub(super) issuer: String,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

impl<'a> Shape<'a> {
    pub(super) fn read(token: &'a str, bytes_max: usize) -> Result<Self, Fault> {
        if token.len() > bytes_max {
            return Err(Fault::TooLarge { bytes: token.len(), max: bytes_max });
        }
        let mut parts = token.split('.');
        let (Some(head), Some(claims)) = (parts.next(), parts.next()) else {
            return Err(Fault::malformed("it has no three parts"));
        };
        let head: Head = part(head, "header")?;
        if head.crit.is_some() {
            return Err(Fault::malformed("its header names extensions that must be understood"));
        }
        let Issued { iss } = part(claims, "claims")?;
        Ok(Self { token, algorithm: head.alg, kid: head.kid, issuer: iss })
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str, name: &str) -> Result<T, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| Fault::malformed(format!("{name}: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| Fault::malformed(format!("{name}: {error}")))
}

/// Checks a token of the provider that `config` is of.
pub(super) fn check(
    config: &OidcConfig,
    shape: &Shape<'_>,
    now: Time,
    key: impl FnOnce(Option<&str>, OidcAlgorithm) -> Result<Key, Fault>,
) -> Result<Bearer, Fault> {
    if shape.token.len() > config.token_bytes_max {
        return Err(Fault::TooLarge { bytes: shape.token.len(), max: config.token_bytes_max });
    }
    let algorithm = config.algorithms.iter().copied().find(|taken| taken.as_str() == shape.algorithm);
    let Some(algorithm) = algorithm else {
        return Err(Fault::Algorithm { found: shape.algorithm.chars().take(20).collect() });
    };
    let key = key(shape.kid.as_deref(), algorithm)?;
    let claims = verified(shape.token, algorithm, &key)?;
    let expires = check_times(config, &claims, now)?;
    check_audience(config, &claims)?;
    let authentication = OidcAuthentication {
        method: OidcMethod::Oidc,
        issuer: config.issuer.clone(),
        subject: name(&claims, "sub")?,
        auth_time: time(&claims, "auth_time")?,
        acr: claims.get("acr").and_then(Value::as_str).map(short),
        amr: words(claims.get("amr")).into_iter().take(8).map(|word| short(&word)).collect(),
    };
    let skew = i64::from(config.skew_seconds);
    if authentication.auth_time.is_some_and(|auth_time| auth_time > now.plus_seconds(skew)) {
        return Err(Fault::malformed("auth_time is yet to come"));
    }
    let name = name(&claims, &config.principal_claim)?;
    Ok(Bearer { authentication, name, roles: roles(config, &claims), expires })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what else the library finds is about structure")]
fn verified(token: &str, algorithm: OidcAlgorithm, key: &Key) -> Result<Map<String, Value>, Fault> {
    use jsonwebtoken::errors::ErrorKind;
    let mut validation = Validation::new(match algorithm {
        OidcAlgorithm::EdDsa => Algorithm::EdDSA,
        OidcAlgorithm::Es256 => Algorithm::ES256,
        OidcAlgorithm::Rs256 => Algorithm::RS256,
    });
    // The library would go by the machine's clock and answer with fewer codes.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    let decoded = decode::<Map<String, Value>>(token, &key.decoding, &validation);
    decoded.map(|decoded| decoded.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => Fault::BadSignature,
        ErrorKind::InvalidAlgorithm => Fault::Algorithm { found: algorithm.as_str().to_owned() },
        _ => Fault::malformed(error.to_string()),
    })
}

/// The instant at which it ends, skew included, where it has begun and is not over.
fn check_times(config: &OidcConfig, claims: &Map<String, Value>, now: Time) -> Result<Time, Fault> {
    let skew = i64::from(config.skew_seconds);
    let stated = time(claims, "exp")?;
    let stated = stated.ok_or_else(|| Fault::malformed("it states no exp, so it would count for ever"))?;
    let ends = stated.plus_seconds(skew);
    if now >= ends {
        return Err(Fault::Expired { expired: stated });
    }
    for claim in ["nbf", "iat"] {
        if let Some(from) = time(claims, claim)?.filter(|from| from.plus_seconds(-skew) > now) {
            return Err(Fault::NotYetValid { from });
        }
    }
    Ok(ends)
}

fn check_audience(config: &OidcConfig, claims: &Map<String, Value>) -> Result<(), Fault> {
    let found = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        several => words(several),
    };
    if found.iter().any(|audience| config.audience.contains(audience)) {
        return Ok(());
    }
    Err(Fault::WrongAudience { found: found.iter().take(4).map(|audience| short(audience)).collect() })
}

/// What the values of the roles claim stand for.
fn roles(config: &OidcConfig, claims: &Map<String, Value>) -> BTreeSet<Role> {
    let mut steps = config.roles_claim.split('.');
    let first = steps.next().and_then(|step| claims.get(step));
    let found = steps.fold(first, |value, step| value.and_then(|value| value.get(step)));
    words(found).iter().filter_map(|word| config.roles.get(word)).flatten().copied().collect()
}

/// A claim that is a text or a list of them. A text of several words is a list of them, as `scope` is.
fn words(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn short(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

fn name(claims: &Map<String, Value>, claim: &str) -> Result<String, Fault> {
    let text = claims.get(claim).and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() || text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(Fault::malformed(format!("{claim} is no text of 1 to {NAME_CHARS_MAX} characters")));
    }
    Ok(text.to_owned())
}

/// A time claim: seconds since the epoch, whole or not.
fn time(claims: &Map<String, Value>, claim: &str) -> Result<Option<Time>, Fault> {
    let seconds = match claims.get(claim) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds)),
    };
    let seconds = seconds.ok_or_else(|| Fault::malformed(format!("{claim} is no time")))?;
    #[expect(clippy::cast_possible_truncation, reason = "bounded above, and whole seconds are meant")]
    let whole = seconds.floor() as i64;
    Ok(Some(Time::from_seconds(whole)))
}

#[cfg(test)]
mod tests;

//! What an engine was built and is configured with, and who says so: the server itself, its manifest, or the policy.

use serde::{Deserialize, Serialize};

use crate::domain::event::Json;
use crate::domain::policy::CapacityPolicy;

/// Objects of a manifest that hold such settings beside its top.
const PLACES: [&str; 5] = ["config", "build_config", "triton", "triton_config", "dynamic_batching"];

/// Who states a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The server, in its metrics.
    Triton,
    /// The manifest of the stint.
    Manifest,
    /// The policy.
    Policy,
}

/// A figure, and who states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stated {
    /// The figure.
    pub value: u64,
    /// Who says so.
    pub by: Origin,
}

/// What is known of an engine's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// Tokens that a KV block holds.
    pub tokens_per_block: Option<Stated>,
    /// Requests that it takes at once.
    pub max_batch_size: Option<Stated>,
    /// How long Triton's dynamic batcher may hold a request back, in microseconds.
    pub max_queue_delay_us: Option<Stated>,
}

impl Built {
    /// What the manifest says, and where it does not, the policy.
    pub fn of(manifest: Option<&Json>, policy: &CapacityPolicy) -> Self {
        let manifest = manifest.map(Json::value).unwrap_or_default();
        let stated = |names: &[&str], fallback: Option<u64>| {
            let own = names.iter().find_map(|name| setting(&manifest, name));
            let own = own.filter(|value| *value > 0).map(|value| Stated { value, by: Origin::Manifest });
            own.or(fallback.map(|value| Stated { value, by: Origin::Policy }))
        };
        Self {
            tokens_per_block: stated(&["tokens_per_block"], policy.tokens_per_block),
            max_batch_size: stated(&["max_batch_size"], policy.max_batch_size),
            max_queue_delay_us: stated(
                &["max_queue_delay_microseconds", "max_queue_delay_us"],
                policy.max_queue_delay_microseconds,
            ),
        }
    }
}

/// A whole number that the manifest states: among its build flags (`--name 32`, `--name=32`), at its top, or in an object there.
fn setting(manifest: &serde_json::Value, name: &str) -> Option<u64> {
    let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let flag = flag(manifest, name).and_then(|text| text.parse().ok());
    let top = || manifest.get(name).and_then(number);
    let inner = || PLACES.iter().find_map(|place| manifest.get(place)?.get(name).and_then(number));
    flag.or_else(top).or_else(inner)
}

/// The value of a build flag, the last one where it is given twice, as builders take it.
pub(crate) fn flag<'a>(manifest: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    let flags: Vec<&str> = manifest.get("build_flags")?.as_array()?.iter().filter_map(|flag| flag.as_str()).collect();
    // Some write a flag and its value as one text with a space.
    let words: Vec<&str> = flags.iter().flat_map(|flag| flag.split_whitespace()).collect();
    let value = |(index, word): (usize, &&'a str)| {
        let rest = word.strip_prefix("--")?.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if rest.is_empty() => words.get(index + 1).copied().filter(|next| !next.starts_with("--")),
            None => None,
        }
    };
    words.iter().enumerate().filter_map(value).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::from(serde_json::from_str::<&serde_json::value::RawValue>(text).unwrap())
    }

    #[test]
    fn settings_are_found_where_manifests_hold_them() {
        let policy = CapacityPolicy {
            tokens_per_block: Some(64),
            max_batch_size: None,
            max_queue_delay_microseconds: Some(500),
        };
        let check = |manifest: &str, expected: [Option<(u64, Origin)>; 3]| {
            let built = Built::of(Some(&json(manifest)), &policy);
            let found = [built.tokens_per_block, built.max_batch_size, built.max_queue_delay_us];
            assert_eq!(found.map(|stated| stated.map(|stated| (stated.value, stated.by))), expected, "{manifest}");
        };
        let by_policy = |value| Some((value, Origin::Policy));
        let said = |value| Some((value, Origin::Manifest));
        check("{}", [by_policy(64), None, by_policy(500)]);
        check(
            r#"{"build_flags":["--tokens_per_block","32","--max_batch_size=4","--max_batch_size_extra","9"]}"#,
            [said(32), said(4), by_policy(500)],
        );
        check(
            r#"{"build_flags":["--max_batch_size 8","--max_batch_size","--x"]}"#,
            [by_policy(64), said(8), by_policy(500)],
        );
        check(
            r#"{"tokens_per_block":"128","triton":{"max_queue_delay_microseconds":1000}}"#,
            [said(128), None, said(1000)],
        );
        check(r#"{"tokens_per_block":0}"#, [by_policy(64), None, by_policy(500)]);
    }
}

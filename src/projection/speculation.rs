//! Speculation that nobody has shown to pay: an engine whose manifest enables it needs a calibration of each workload that the
//! policy names.
//!
//! A calibration is a fact about an engine on a stack (`llm_speculation_calibrated`): draft tokens attempted and accepted, by
//! workload. The last one of a workload counts, so one that turns out worse closes the gate again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::capacity::flag;
use super::stacks::Stack;
use crate::domain::event::Json;
use crate::domain::policy::SpeculationPolicy;

/// What a calibration saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibrated {
    /// Draft tokens proposed.
    pub attempts: u64,
    /// Draft tokens accepted.
    pub accepts: u64,
    /// The entry that says so.
    pub position: u64,
}

/// What an engine is known to do about speculation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speculation {
    /// The publish whose manifest enables it.
    pub enabled_by: Option<u64>,
    /// The last calibration of each workload.
    pub calibrations: BTreeMap<String, Calibrated>,
}

impl Speculation {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A workload whose calibration is wanting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanting {
    /// Why, in words.
    pub reason: String,
    /// The entry since which it is so.
    pub position: u64,
}

/// The workloads that the current engine needs calibrations of, each with what is wanting or the entry that shows it; empty
/// where it does not speculate, or may without.
pub fn workloads(stack: &Stack, policy: &SpeculationPolicy) -> Vec<Result<u64, Wanting>> {
    let engine = stack.current().and_then(|hash| stack.engines.get(hash));
    let Some((speculation, enabled_by)) = engine.and_then(|engine| {
        engine.speculation.enabled_by.filter(|_| !policy.allowed).map(|position| (&engine.speculation, position))
    }) else {
        return Vec::new();
    };
    let judge = |workload: &String| {
        let Some(seen) = speculation.calibrations.get(workload) else {
            let reason = format!("its manifest enables speculation, and no calibration is known for {workload}");
            return Err(Wanting { reason, position: enabled_by });
        };
        if policy.is_met(seen.attempts, seen.accepts) {
            return Ok(seen.position);
        }
        let reason = format!(
            "its manifest enables speculation, and the calibration for {workload} saw {} of {} draft tokens accepted; policy asks for {} of at least {}",
            seen.accepts, seen.attempts, policy.accept_ratio_min, policy.drafts_min
        );
        Err(Wanting { reason, position: seen.position.max(enabled_by) })
    };
    policy.workloads.iter().map(judge).collect()
}

/// Whether a manifest enables speculation: by a build flag of TensorRT-LLM (`--speculative_decoding_mode` other than `none`,
/// `--max_draft_len` above 0), or by a field `speculative`, `speculation`, `speculative_decoding` or `speculative_config` that
/// says anything but no.
pub fn is_enabled(manifest: &Json) -> bool {
    let manifest = manifest.value();
    let mode = flag(&manifest, "speculative_decoding_mode").is_some_and(|mode| !mode.eq_ignore_ascii_case("none"));
    let drafts = flag(&manifest, "max_draft_len").is_some_and(|length| length.parse() != Ok(0_u64));
    let fields = ["speculative", "speculation", "speculative_decoding", "speculative_config"];
    mode || drafts || fields.iter().any(|field| manifest.get(field).is_some_and(says_yes))
}

fn says_yes(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(word) => !["", "none", "off", "false", "no", "0"].contains(&word.to_ascii_lowercase().as_str()),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => match fields.get("enabled").or_else(|| fields.get("mode")) {
            Some(stated) => says_yes(stated),
            None => !fields.is_empty(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_that_enable_speculation_are_told_from_others() {
        let check = |text: &str, expected: bool| {
            let manifest = Json::from(serde_json::from_str::<&serde_json::value::RawValue>(text).unwrap());
            assert_eq!(is_enabled(&manifest), expected, "{text}");
        };
        for text in [
            r#"{"build_flags":["--speculative_decoding_mode","draft_tokens_external"]}"#,
            r#"{"build_flags":["--speculative_decoding_mode=eagle"]}"#,
            r#"{"build_flags":["--max_draft_len 5"]}"#,
            r#"{"speculative":true}"#,
            r#"{"speculative_decoding":{"mode":"lookahead"}}"#,
            r#"{"speculative_config":{"decoding_type":"Medusa"}}"#,
        ] {
            check(text, true);
        }
        for text in [
            "{}",
            r#"{"build_flags":["--tokens_per_block","32"]}"#,
            r#"{"build_flags":["--speculative_decoding_mode","none","--max_draft_len","0"]}"#,
            r#"{"speculative":{}}"#,
            r#"{"speculative":{"enabled":false,"mode":"eagle"}}"#,
            r#"{"speculation":"off","speculative_decoding":null}"#,
        ] {
            check(text, false);
        }
    }
}

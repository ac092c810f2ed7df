//! What one policy document changes in another, in effect: the values that hold before and after, not how they are written.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Policy, Rule, StackPolicy};
use crate::domain::envelope::hex;

/// One value that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyChange {
    /// Dotted path: `rules.latency_p95.threshold`, `stacks.NAME.max_cost_usd`.
    pub field: String,
    /// What holds before.
    pub from: String,
    /// What is to hold.
    pub to: String,
}

impl Policy {
    /// SHA-256 of the document's JSON, hex: what decisions are over. A field that a later version adds is left out of the JSON
    /// while it has its default, so the hash of an older document stays what it was.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }

    /// What `next` changes: every value that holds otherwise than now, for all stacks and for those that either document names.
    pub fn changes_to(&self, next: &Self) -> Vec<PolicyChange> {
        let mut changes = compare(&document(self), &document(next), "");
        changes.extend(compare(&self.trust.fields(&next.trust), &next.trust.fields(&self.trust), "trust."));
        let stacks: BTreeSet<&String> = self.stacks.keys().chain(next.stacks.keys()).collect();
        for stack in stacks {
            let (before, after) = (values(&self.for_stack(stack)), values(&next.for_stack(stack)));
            changes.extend(compare(&before, &after, &format!("stacks.{stack}.")));
        }
        changes
    }
}

fn compare(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, path: &str) -> Vec<PolicyChange> {
    // Both have the same fields: they are those of the types, or were made so.
    let differ = before.iter().filter_map(|(field, from)| {
        let to = after.get(field).filter(|to| *to != from)?;
        Some(PolicyChange { field: format!("{path}{field}"), from: from.clone(), to: to.clone() })
    });
    differ.collect()
}

/// What holds for every stack, and what no stack can differ in.
fn document(policy: &Policy) -> BTreeMap<String, String> {
    let mut all = values(&policy.for_stack(""));
    all.insert("gate_when_unknown".to_owned(), word(&policy.gate_when_unknown));
    all.insert("require_incident_report".to_owned(), policy.require_incident_report.to_string());
    let signatures: Vec<&str> = policy.required_signatures.iter().map(String::as_str).collect();
    all.insert(
        "required_signatures".to_owned(),
        if signatures.is_empty() { "none".to_owned() } else { signatures.join(", ") },
    );
    all
}

fn values(policy: &StackPolicy) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = [
        ("min_samples", policy.min_samples.to_string()),
        ("widen_s", policy.widen_s.to_string()),
        ("max_cost_usd", policy.max_cost_usd.0.normalize().to_string()),
        ("max_queue_delay_us", policy.max_queue_delay_us.0.normalize().to_string()),
        ("max_tokens", policy.max_tokens.to_string()),
        ("rollout", word(&policy.rollout)),
        ("require_verified_backup", policy.require_verified_backup.to_string()),
    ]
    .map(|(field, value)| (field.to_owned(), value))
    .into();
    let capacity =
        policy.capacity.fields().map(|(field, value)| (field, value.map_or("none".to_owned(), |v| v.to_string())));
    all.extend(capacity.map(|(field, value)| (format!("capacity.{field}"), value)));
    all.extend(policy.speculation.fields().map(|(field, value)| (format!("speculation.{field}"), value)));
    for rule in Rule::ALL {
        let own = policy.rule(rule);
        let threshold = own.threshold.map_or_else(|| "none".to_owned(), |amount| amount.0.normalize().to_string());
        let fields = [
            ("enabled", own.enabled.to_string()),
            ("threshold", threshold),
            ("window_s", own.window_s.to_string()),
            ("for_s", own.for_s.to_string()),
            ("keep_firing_for_s", own.keep_firing_for_s.to_string()),
            ("severity", own.severity.to_string()),
        ];
        all.extend(fields.map(|(field, value)| (format!("rules.{rule}.{field}"), value)));
    }
    all
}

/// A value's name on the wire.
fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str) -> Vec<String> {
        let next = Policy::from_toml(text).unwrap();
        let changes = Policy::default().changes_to(&next);
        changes.into_iter().map(|change| format!("{}: {} -> {}", change.field, change.from, change.to)).collect()
    }

    #[test]
    fn what_holds_otherwise_is_listed_and_nothing_else() {
        assert!(changed("revision = 7\nmax_cost_usd = \"0.100\"\n[rules.latency_p95]\nthreshold = 800\n").is_empty());
        assert_eq!(changed("[rules.latency_p95]\nthreshold = 900\n"), ["rules.latency_p95.threshold: 800 -> 900"]);
        // A stack of its own is shown with what holds for it, and one that keeps its value is not.
        assert_eq!(
            changed(
                "rollout = \"side_by_side\"\nrequired_signatures = [\"llm_engine_published\"]\n[stacks.a]\nrollout = \"in_place\"\nmax_cost_usd = 1\n"
            ),
            [
                "required_signatures: none -> llm_engine_published",
                "rollout: in_place -> side_by_side",
                "stacks.a.max_cost_usd: 0.1 -> 1",
            ]
        );
    }

    #[test]
    fn trust_is_compared_by_witness_and_group() {
        let key =
            ledger::note::VerifierKey::new("w1", ledger::note::KeyKind::Cosignature, [7; 32]).unwrap().to_string();
        let text = format!(
            "[trust]\nquorum = \"g\"\n[trust.witnesses.w1]\nvkey = \"{key}\"\nurl = \"https://w1.example\"\n[trust.groups.g]\nneeds = 1\nmembers = [\"w1\"]\n"
        );
        let added = [
            "trust.groups.g: none -> 1 of w1".to_owned(),
            "trust.quorum: none -> g".to_owned(),
            format!("trust.witnesses.w1: none -> {key} https://w1.example"),
        ];
        assert_eq!(changed(&text), added);
        let back = Policy::from_toml(&text).unwrap().changes_to(&Policy::default());
        assert_eq!(back[2].to, "none");
    }

    #[test]
    fn the_hash_of_a_document_stays() {
        // Decisions in old ledgers are over it: a change here refuses them.
        let default = "765e7580db43fee1069ce48bc27952c1b7e566fc62fcf694abe1bb73fcf2224e";
        assert_eq!(Policy::default().sha256(), default);
        let other = Policy { revision: 1, ..Policy::default() };
        assert_ne!(other.sha256(), default);
    }
}

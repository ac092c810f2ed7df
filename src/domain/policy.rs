//! The policy document: which rules judge a stack, by which thresholds, and what follows from their outcome.
//!
//! In scope: the typed, versioned document (TOML or JSON), its defaults, its check, and its resolution for one stack.
//! Out of scope: judging (`projection::slo`), and who may change it (commands).
//!
//! Invariants: a policy that passed [`Policy::validate`] has windows of whole cuts no longer than the engine keeps, and
//! thresholds that are exact decimals; a binary float never becomes a threshold except through its shortest text form.

mod amount;
mod capacity;
mod change;
mod check;
mod rule;
mod trust;

pub use amount::Amount;
pub use capacity::{CapacityPolicy, SpeculationPolicy};
pub use change::PolicyChange;
pub use rule::{Measure, Rule, Severity};
pub use trust::{GroupNeeds, GroupPolicy, NeedsWord, TrustPolicy, WitnessPolicy};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::settings::RULES_VERSION;
use check::{check_resolved, check_rules, check_signatures};

/// The longest window, since the engine keeps fifteen minutes of buckets.
pub const WINDOW_SECONDS_MAX: u32 = 900;
/// Widened windows are whole minutes.
pub const WIDEN_STEP_SECONDS: u32 = 60;
/// More overrides than this is a generated file gone wrong; each cut resolves them all.
const STACKS_MAX: usize = 10_000;

/// How an engine replaces another on this stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rollout {
    /// One server whose plan is replaced: not warm means closed.
    #[default]
    InPlace,
    /// The engine served before stays up until the new one is warm.
    SideBySide,
}

/// What the traffic gate answers where the ledger cannot say for sure: while it catches up, when nothing new comes in, for a
/// stack that it has never heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownGate {
    /// The last answer, saying that it is one; of a stack never heard of, that it is unknown, which is not closed.
    #[default]
    #[serde(alias = "unknown")]
    LastAnswer,
    /// Open.
    Open,
    /// Closed.
    Closed,
}

/// The document. Everything has a default; an empty document is the runbook's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Grows by one with every change.
    pub revision: u64,
    /// Samples below which a percentile or ratio rule widens its window, and in the end has no verdict.
    pub min_samples: u64,
    /// The widest window, in seconds.
    pub widen_s: u32,
    /// A request that costs more is an offence of `cost_per_request`.
    pub max_cost_usd: Amount,
    /// A request that waited longer is an offence of `readiness_queue_delay`.
    pub max_queue_delay_us: Amount,
    /// The token budget that the serving stack is expected to flag; shown, and compared by nothing here.
    pub max_tokens: u64,
    /// How engines replace each other.
    pub rollout: Rollout,
    /// The gate where the ledger cannot say for sure.
    pub gate_when_unknown: UnknownGate,
    /// Whether last good needs a verified backup.
    pub require_verified_backup: bool,
    /// Whether an incident is closed with its report only.
    pub require_incident_report: bool,
    /// Event types that count only where a key signed them that is enrolled for them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub required_signatures: BTreeSet<String>,
    /// What engines were built with, where their manifests do not say.
    #[serde(skip_serializing_if = "CapacityPolicy::is_default")]
    pub capacity: CapacityPolicy,
    /// When engines may speculate.
    #[serde(skip_serializing_if = "SpeculationPolicy::is_default")]
    pub speculation: SpeculationPolicy,
    /// Which witnesses are to cosign checkpoints. None by default.
    #[serde(skip_serializing_if = "TrustPolicy::is_default")]
    pub trust: TrustPolicy,
    /// What differs from the defaults, by rule.
    pub rules: BTreeMap<Rule, RuleOverride>,
    /// What differs for one stack, by its name.
    pub stacks: BTreeMap<String, StackOverride>,
}

/// What differs from a rule's default. Absent means as before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleOverride {
    /// Whether the rule is judged at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The bound, in the measure's unit: ms, µs, or a ratio. Only percentile and ratio rules have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Amount>,
    /// The trailing window, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u32>,
    /// Seconds in breach before the alert fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u32>,
    /// Seconds clear before a firing alert resolves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_firing_for_s: Option<u32>,
    /// Whom the alert is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
}

/// What differs for one stack. Absent means as in the document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackOverride {
    /// See [`Policy::min_samples`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_samples: Option<u64>,
    /// See [`Policy::widen_s`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widen_s: Option<u32>,
    /// See [`Policy::max_cost_usd`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<Amount>,
    /// See [`Policy::max_queue_delay_us`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queue_delay_us: Option<Amount>,
    /// See [`Policy::max_tokens`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// See [`Policy::rollout`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// See [`Policy::require_verified_backup`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_verified_backup: Option<bool>,
    /// See [`Policy::capacity`]; the whole of it is the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacityPolicy>,
    /// See [`Policy::speculation`]; the whole of it is the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<SpeculationPolicy>,
    /// What differs by rule, on top of the document's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<Rule, RuleOverride>,
}

/// One rule, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RulePolicy {
    /// Whether the rule is judged at all.
    pub enabled: bool,
    /// The bound, for percentile and ratio rules.
    pub threshold: Option<Amount>,
    /// The trailing window, in seconds.
    pub window_s: u32,
    /// Seconds in breach before the alert fires.
    pub for_s: u32,
    /// Seconds clear before a firing alert resolves.
    pub keep_firing_for_s: u32,
    /// Whom the alert is for.
    pub severity: Severity,
}

/// The policy of one stack, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct StackPolicy {
    /// The document's revision.
    pub revision: u64,
    /// See [`Policy::min_samples`].
    pub min_samples: u64,
    /// See [`Policy::widen_s`].
    pub widen_s: u32,
    /// See [`Policy::max_cost_usd`].
    pub max_cost_usd: Amount,
    /// See [`Policy::max_queue_delay_us`].
    pub max_queue_delay_us: Amount,
    /// See [`Policy::max_tokens`].
    pub max_tokens: u64,
    /// See [`Policy::rollout`].
    pub rollout: Rollout,
    /// See [`Policy::require_verified_backup`].
    pub require_verified_backup: bool,
    /// See [`Policy::capacity`].
    pub capacity: CapacityPolicy,
    /// See [`Policy::speculation`].
    pub speculation: SpeculationPolicy,
    rules: [RulePolicy; Rule::ALL.len()],
}

/// A document that cannot be used, with the field and what it held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML or JSON of this shape.
    #[error("the policy does not parse: {0}")]
    Syntax(String),
    /// A value outside what the field allows.
    #[error("`{field}` is {value}: {problem}")]
    Field {
        /// Dotted path of the field.
        field: String,
        /// What it held.
        value: String,
        /// What it should hold.
        problem: &'static str,
    },
    /// A witness or group that cannot be one.
    #[error("`{field}` is {value}: {problem}")]
    Trust {
        /// Dotted path of the field.
        field: String,
        /// What it held.
        value: String,
        /// Why not.
        problem: String,
    },
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            revision: 0,
            min_samples: 20,
            widen_s: WINDOW_SECONDS_MAX,
            max_cost_usd: Amount(Decimal::new(10, 2)),
            max_queue_delay_us: Amount(Decimal::new(2500, 0)),
            max_tokens: 6000,
            rollout: Rollout::default(),
            gate_when_unknown: UnknownGate::default(),
            require_verified_backup: false,
            require_incident_report: true,
            required_signatures: BTreeSet::new(),
            capacity: CapacityPolicy::default(),
            speculation: SpeculationPolicy::default(),
            trust: TrustPolicy::default(),
            rules: BTreeMap::new(),
            stacks: BTreeMap::new(),
        }
    }
}

impl Policy {
    /// Reads and checks a TOML document.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        policy.validate().map(|()| policy)
    }

    /// Reads and checks a JSON document.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = serde_json::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        policy.validate().map(|()| policy)
    }

    /// The policy of `stack`.
    pub fn for_stack(&self, stack: &str) -> StackPolicy {
        let own = self.stacks.get(stack);
        StackPolicy {
            revision: self.revision,
            min_samples: own.and_then(|o| o.min_samples).unwrap_or(self.min_samples),
            widen_s: own.and_then(|o| o.widen_s).unwrap_or(self.widen_s),
            max_cost_usd: own.and_then(|o| o.max_cost_usd).unwrap_or(self.max_cost_usd),
            max_queue_delay_us: own.and_then(|o| o.max_queue_delay_us).unwrap_or(self.max_queue_delay_us),
            max_tokens: own.and_then(|o| o.max_tokens).unwrap_or(self.max_tokens),
            rollout: own.and_then(|o| o.rollout).unwrap_or(self.rollout),
            require_verified_backup: own
                .and_then(|o| o.require_verified_backup)
                .unwrap_or(self.require_verified_backup),
            capacity: own.and_then(|o| o.capacity.as_ref()).unwrap_or(&self.capacity).clone(),
            speculation: own.and_then(|o| o.speculation.as_ref()).unwrap_or(&self.speculation).clone(),
            rules: Rule::ALL.map(|rule| {
                let mut resolved = rule.default_policy();
                resolved.apply(self.rules.get(&rule));
                resolved.apply(own.and_then(|o| o.rules.get(&rule)));
                resolved
            }),
        }
    }

    /// Checks every field; the first at fault is named.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.validate_by(RULES_VERSION)
    }

    /// The same by the rules of a ledger, of which an older one may hold what is refused today.
    pub fn validate_by(&self, rules_version: u32) -> Result<(), PolicyError> {
        if self.stacks.len() > STACKS_MAX {
            return Err(field_error("stacks", self.stacks.len(), "at most 10000 overrides"));
        }
        check_signatures(&self.required_signatures, rules_version)?;
        self.trust.check()?;
        check_rules("rules", &self.rules)?;
        check_resolved("", &self.for_stack(""))?;
        for (name, own) in &self.stacks {
            let path = format!("stacks.{name}.");
            if name.is_empty() {
                return Err(field_error("stacks", "\"\"", "a stack has a name"));
            }
            check_rules(&format!("{path}rules"), &own.rules)?;
            check_resolved(&path, &self.for_stack(name))?;
        }
        Ok(())
    }
}

impl StackPolicy {
    /// One rule's settings.
    pub const fn rule(&self, rule: Rule) -> &RulePolicy {
        &self.rules[rule as usize]
    }
}

impl RulePolicy {
    fn apply(&mut self, own: Option<&RuleOverride>) {
        let Some(own) = own else { return };
        self.enabled = own.enabled.unwrap_or(self.enabled);
        self.threshold = own.threshold.or(self.threshold);
        self.window_s = own.window_s.unwrap_or(self.window_s);
        self.for_s = own.for_s.unwrap_or(self.for_s);
        self.keep_firing_for_s = own.keep_firing_for_s.unwrap_or(self.keep_firing_for_s);
        self.severity = own.severity.unwrap_or(self.severity);
    }
}

fn field_error(field: impl Into<String>, value: impl fmt::Display, problem: &'static str) -> PolicyError {
    PolicyError::Field { field: field.into(), value: value.to_string(), problem }
}

#[cfg(test)]
mod tests;

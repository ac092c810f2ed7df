//! The policy document: which rules judge a stack, by which thresholds, and what follows from their outcome.
//!
//! In scope: the typed, versioned document (TOML or JSON), its defaults, its check, and its resolution for one stack.
//! Out of scope: judging (`projection::slo`), and who may change it (commands).
//!
//! Invariants: a policy that passed [`Policy::validate`] has windows of whole cuts no longer than the engine keeps, and
//! thresholds that are exact decimals; a binary float never becomes a threshold except through its shortest text form.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Windows and durations are whole cuts.
const STEP_SECONDS: u32 = 10;
/// The longest window, since the engine keeps fifteen minutes of buckets.
pub const WINDOW_SECONDS_MAX: u32 = 900;
/// Widened windows are whole minutes.
pub const WIDEN_STEP_SECONDS: u32 = 60;
/// No alert waits longer than a day to fire or to resolve.
const HOLD_SECONDS_MAX: u32 = 86_400;
/// More samples than this in a window would leave every rule without a verdict.
const MIN_SAMPLES_MAX: u64 = 1_000_000;
/// Decimal places that money is summed with.
const COST_DECIMALS_MAX: u32 = 18;
/// More overrides than this is a generated file gone wrong; each cut resolves them all.
const STACKS_MAX: usize = 10_000;

/// One of the nine rules. The serialized name is part of every alert and permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// P95 of the request's duration.
    LatencyP95,
    /// P95 of the delay in the queue.
    QueueDelay,
    /// Share of KV blocks that were reused.
    KvReuse,
    /// Share of draft tokens that were accepted.
    SpeculativeAccept,
    /// Requests that overran their token budget.
    TokenBudget,
    /// Requests that cost more than the policy allows.
    CostPerRequest,
    /// Requests that waited longer than the readiness policy allows.
    ReadinessQueueDelay,
    /// Requests served by an engine that should not serve.
    UnapprovedEngine,
    /// No request where there should be some.
    Silent,
}

/// How a rule measures, and so when it has a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nearest-rank P95 against a threshold; widens its window for samples.
    Percentile,
    /// A sum over a sum against a threshold; widens its window for samples.
    Ratio,
    /// Any offending record in the window; always has a verdict.
    Offences,
    /// No record in the window.
    Silence,
}

/// Whom an alert is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Someone is woken; opens an incident.
    Page,
    /// Seen in working hours.
    Warning,
    /// Money; opens an incident for the finance role.
    Finance,
}

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

/// What the traffic gate answers for a stack that the ledger has never heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownGate {
    /// That it is unknown, which is neither.
    #[default]
    Unknown,
    /// Open.
    Open,
    /// Closed.
    Closed,
}

/// An exact amount: written as text or as a number, always kept as a decimal and written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub Decimal);

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
    /// The gate of a stack that the ledger has never heard of.
    pub gate_when_unknown: UnknownGate,
    /// Whether last good needs a verified backup.
    pub require_verified_backup: bool,
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
    rules: [RulePolicy; 9],
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
}

impl Rule {
    /// Every rule, in the order of judging and of showing.
    pub const ALL: [Self; 9] = [
        Self::LatencyP95,
        Self::QueueDelay,
        Self::KvReuse,
        Self::SpeculativeAccept,
        Self::TokenBudget,
        Self::CostPerRequest,
        Self::ReadinessQueueDelay,
        Self::UnapprovedEngine,
        Self::Silent,
    ];

    /// The name in alerts, answers and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LatencyP95 => "latency_p95",
            Self::QueueDelay => "queue_delay",
            Self::KvReuse => "kv_reuse",
            Self::SpeculativeAccept => "speculative_accept",
            Self::TokenBudget => "token_budget",
            Self::CostPerRequest => "cost_per_request",
            Self::ReadinessQueueDelay => "readiness_queue_delay",
            Self::UnapprovedEngine => "unapproved_engine",
            Self::Silent => "silent",
        }
    }

    /// How the rule measures.
    pub const fn measure(self) -> Measure {
        match self {
            Self::LatencyP95 | Self::QueueDelay => Measure::Percentile,
            Self::KvReuse | Self::SpeculativeAccept => Measure::Ratio,
            Self::TokenBudget | Self::CostPerRequest | Self::ReadinessQueueDelay | Self::UnapprovedEngine => Measure::Offences,
            Self::Silent => Measure::Silence,
        }
    }

    /// Whether the rule speaks about the engine itself, so that last good heeds it.
    pub const fn is_engine_health(self) -> bool {
        matches!(self.measure(), Measure::Percentile | Measure::Ratio)
    }

    /// The unit of the measured value.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::LatencyP95 => "ms",
            Self::QueueDelay => "us",
            Self::KvReuse | Self::SpeculativeAccept => "ratio",
            Self::TokenBudget | Self::CostPerRequest | Self::ReadinessQueueDelay | Self::UnapprovedEngine => "records",
            Self::Silent => "s",
        }
    }

    /// The rule as the runbook has it.
    pub fn default_policy(self) -> RulePolicy {
        let rule = |threshold: Option<Decimal>, window_s, for_s, severity| RulePolicy {
            enabled: true,
            threshold: threshold.map(Amount),
            window_s,
            for_s,
            keep_firing_for_s: 60,
            severity,
        };
        match self {
            Self::LatencyP95 => rule(Some(Decimal::new(800, 0)), 60, 300, Severity::Page),
            Self::QueueDelay => rule(Some(Decimal::new(1500, 0)), 60, 300, Severity::Page),
            Self::KvReuse => rule(Some(Decimal::new(4, 1)), 60, 600, Severity::Page),
            Self::SpeculativeAccept => rule(Some(Decimal::new(6, 1)), 60, 900, Severity::Warning),
            Self::TokenBudget => rule(None, 60, 300, Severity::Warning),
            Self::CostPerRequest => rule(None, 60, 0, Severity::Finance),
            Self::ReadinessQueueDelay => rule(None, 60, 0, Severity::Warning),
            Self::UnapprovedEngine => rule(None, 60, 120, Severity::Page),
            Self::Silent => rule(None, 600, 0, Severity::Warning),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Rule {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let found = Self::ALL.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| field_error("rule", format!("{text:?}"), "no rule of that name; see `govledger policy show`"))
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Page => "page",
            Self::Warning => "warning",
            Self::Finance => "finance",
        })
    }
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
            require_verified_backup: own.and_then(|o| o.require_verified_backup).unwrap_or(self.require_verified_backup),
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
        if self.stacks.len() > STACKS_MAX {
            return Err(field_error("stacks", self.stacks.len(), "at most 10000 overrides"));
        }
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

/// What can only be seen in the override itself: a threshold on a rule that has none.
fn check_rules(path: &str, rules: &BTreeMap<Rule, RuleOverride>) -> Result<(), PolicyError> {
    for (rule, own) in rules {
        let Some(Amount(threshold)) = own.threshold else { continue };
        let field = format!("{path}.{rule}.threshold");
        match rule.measure() {
            Measure::Offences | Measure::Silence => {
                return Err(field_error(field, threshold, "this rule has no threshold; see `max_cost_usd`, `max_queue_delay_us` and `window_s`"));
            }
            Measure::Percentile if threshold <= Decimal::ZERO || threshold > Decimal::from(1_000_000_000_u32) => {
                return Err(field_error(field, threshold, "a threshold is more than 0 and at most 1000000000"));
            }
            Measure::Ratio if threshold <= Decimal::ZERO || threshold > Decimal::ONE => {
                return Err(field_error(field, threshold, "a ratio is more than 0 and at most 1"));
            }
            Measure::Ratio if threshold.normalize().scale() > 9 => {
                return Err(field_error(field, threshold, "a ratio has at most 9 decimals"));
            }
            Measure::Percentile | Measure::Ratio => {}
        }
    }
    Ok(())
}

fn check_resolved(path: &str, policy: &StackPolicy) -> Result<(), PolicyError> {
    let whole = |seconds: u32| seconds.is_multiple_of(STEP_SECONDS);
    if policy.min_samples == 0 || policy.min_samples > MIN_SAMPLES_MAX {
        return Err(field_error(format!("{path}min_samples"), policy.min_samples, "from 1 to 1000000"));
    }
    if !policy.widen_s.is_multiple_of(WIDEN_STEP_SECONDS) || policy.widen_s > WINDOW_SECONDS_MAX || policy.widen_s == 0 {
        return Err(field_error(format!("{path}widen_s"), policy.widen_s, "whole minutes, from 60 to 900"));
    }
    let Amount(cost) = policy.max_cost_usd;
    if cost.is_sign_negative() || cost.normalize().scale() > COST_DECIMALS_MAX || cost > Decimal::from(1_000_000_000_u32) {
        return Err(field_error(format!("{path}max_cost_usd"), cost, "from 0 to 1000000000, with at most 18 decimals"));
    }
    let Amount(queue) = policy.max_queue_delay_us;
    if queue.is_sign_negative() || queue > Decimal::from(1_000_000_000_000_u64) {
        return Err(field_error(format!("{path}max_queue_delay_us"), queue, "from 0 to 1000000000000"));
    }
    for rule in Rule::ALL {
        let settings = policy.rule(rule);
        let field = |name: &str| format!("{path}rules.{rule}.{name}");
        if !whole(settings.window_s) || settings.window_s == 0 || settings.window_s > WINDOW_SECONDS_MAX {
            return Err(field_error(field("window_s"), settings.window_s, "a multiple of 10, from 10 to 900"));
        }
        if !whole(settings.for_s) || settings.for_s > HOLD_SECONDS_MAX {
            return Err(field_error(field("for_s"), settings.for_s, "a multiple of 10, at most 86400"));
        }
        if !whole(settings.keep_firing_for_s) || settings.keep_firing_for_s > HOLD_SECONDS_MAX {
            return Err(field_error(field("keep_firing_for_s"), settings.keep_firing_for_s, "a multiple of 10, at most 86400"));
        }
    }
    Ok(())
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number, or its text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                let parsed = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
                parsed.map(Amount).map_err(|_| E::custom(format!("{text:?} is no exact decimal number")))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Amount, E> {
                Ok(Amount(Decimal::from(value)))
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Amount, E> {
                Ok(Amount(Decimal::from(value)))
            }

            // The shortest text that reads back as this float is what the author wrote, up to 15 digits.
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Amount, E> {
                self.visit_str(&value.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "number"], "description": "An exact decimal; written as text" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_document_is_the_runbook() {
        let policy = Policy::from_toml("").unwrap();
        assert_eq!(policy, Policy::default());
        let stack = policy.for_stack("engine-qwen3");
        assert_eq!(stack.rule(Rule::LatencyP95).threshold, Some(Amount(Decimal::from(800))));
        assert_eq!(stack.rule(Rule::SpeculativeAccept).for_s, 900);
        assert_eq!(stack.rule(Rule::Silent).window_s, 600);
        assert_eq!(policy, Policy::from_json(&serde_json::to_string(&policy).unwrap()).unwrap());
    }

    #[test]
    fn overrides_stack_up() {
        let policy = Policy::from_toml(
            "revision = 3\n[rules.latency_p95]\nthreshold = 0.3\nfor_s = 60\n[stacks.a]\nmax_cost_usd = \"0.25\"\n[stacks.a.rules.latency_p95]\nthreshold = \"900.5\"\n",
        )
        .unwrap();
        let (a, b) = (policy.for_stack("a"), policy.for_stack("b"));
        assert_eq!(a.rule(Rule::LatencyP95).threshold.unwrap().to_string(), "900.5");
        assert_eq!(b.rule(Rule::LatencyP95).threshold.unwrap().to_string(), "0.3");
        assert_eq!((a.rule(Rule::LatencyP95).for_s, a.max_cost_usd.to_string()), (60, "0.25".to_owned()));
        assert_eq!(policy, Policy::from_toml(&toml::to_string(&policy).unwrap()).unwrap());
    }

    #[test]
    fn faults_name_the_field() {
        let check = |text: &str, expected: &str| {
            let said = Policy::from_toml(text).unwrap_err().to_string();
            assert!(said.contains(expected), "{said:?} lacks {expected:?}");
        };
        check("[rules.latency_p95]\nwindow_s = 65\n", "`rules.latency_p95.window_s` is 65");
        check("[rules.kv_reuse]\nthreshold = 1.5\n", "`rules.kv_reuse.threshold` is 1.5");
        check("[rules.token_budget]\nthreshold = 1\n", "`rules.token_budget.threshold` is 1");
        check("[stacks.a]\nwiden_s = 930\n", "`stacks.a.widen_s` is 930");
        check("[rules.latency_p95]\nthresold = 1\n", "thresold");
        check("min_samples = 0\n", "`min_samples` is 0");
        check("max_cost_usd = \"cheap\"\n", "no exact decimal");
    }

    #[test]
    fn names_are_the_serialized_ones() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{rule}\""));
            assert_eq!(rule.as_str().parse::<Rule>().unwrap(), rule);
        }
    }
}

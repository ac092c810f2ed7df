//! The twelve rules: their names, how each measures, and what the runbook sets for it.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Amount, PolicyError, RulePolicy, field_error};
use crate::domain::settings::RULES_CAPACITY;

/// One of the twelve rules. The serialized name is part of every alert and permanent.
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
    /// The current engine was published under a waiver that does not cover it.
    UncoveredPublish,
    /// Share of GPU memory that is free, by the server's own metrics.
    VramHeadroom,
    /// The current engine speculates, and no calibration shows that it pays.
    UncalibratedSpeculation,
}

/// How a rule measures, and so when it has a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nearest-rank P95 against a threshold; widens its window for samples.
    Percentile,
    /// A sum over a sum against a threshold; widens its window for samples.
    Ratio,
    /// Any offending record in the window, or waiver now; always has a verdict.
    Offences,
    /// No record in the window.
    Silence,
    /// The last scrape in the window against a threshold; no verdict without one.
    Gauge,
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

impl Rule {
    /// Every rule, in the order of judging and of showing.
    pub const ALL: [Self; 12] = [
        Self::LatencyP95,
        Self::QueueDelay,
        Self::KvReuse,
        Self::SpeculativeAccept,
        Self::TokenBudget,
        Self::CostPerRequest,
        Self::ReadinessQueueDelay,
        Self::UnapprovedEngine,
        Self::Silent,
        Self::UncoveredPublish,
        Self::VramHeadroom,
        Self::UncalibratedSpeculation,
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
            Self::UncoveredPublish => "uncovered_publish",
            Self::VramHeadroom => "vram_headroom",
            Self::UncalibratedSpeculation => "uncalibrated_speculation",
        }
    }

    /// How the rule measures.
    pub const fn measure(self) -> Measure {
        match self {
            Self::LatencyP95 | Self::QueueDelay => Measure::Percentile,
            Self::KvReuse | Self::SpeculativeAccept => Measure::Ratio,
            Self::TokenBudget
            | Self::CostPerRequest
            | Self::ReadinessQueueDelay
            | Self::UnapprovedEngine
            | Self::UncoveredPublish
            | Self::UncalibratedSpeculation => Measure::Offences,
            Self::Silent => Measure::Silence,
            Self::VramHeadroom => Measure::Gauge,
        }
    }

    /// Whether the rule speaks about the engine itself, so that last good heeds it.
    pub const fn is_engine_health(self) -> bool {
        matches!(self.measure(), Measure::Percentile | Measure::Ratio)
    }

    /// The rules version of a ledger from which on the rule is judged there.
    pub const fn since(self) -> u32 {
        match self {
            Self::LatencyP95
            | Self::QueueDelay
            | Self::KvReuse
            | Self::SpeculativeAccept
            | Self::TokenBudget
            | Self::CostPerRequest
            | Self::ReadinessQueueDelay
            | Self::UnapprovedEngine
            | Self::Silent
            | Self::UncoveredPublish => 1,
            Self::VramHeadroom | Self::UncalibratedSpeculation => RULES_CAPACITY,
        }
    }

    /// The unit of the measured value.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::LatencyP95 => "ms",
            Self::QueueDelay => "us",
            Self::KvReuse | Self::SpeculativeAccept | Self::VramHeadroom => "ratio",
            Self::TokenBudget | Self::CostPerRequest | Self::ReadinessQueueDelay | Self::UnapprovedEngine => "records",
            Self::Silent => "s",
            Self::UncoveredPublish => "waivers",
            Self::UncalibratedSpeculation => "workloads",
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
            Self::CostPerRequest | Self::UncoveredPublish => rule(None, 60, 0, Severity::Finance),
            Self::ReadinessQueueDelay => rule(None, 60, 0, Severity::Warning),
            Self::UnapprovedEngine => rule(None, 60, 120, Severity::Page),
            Self::Silent => rule(None, 600, 0, Severity::Warning),
            Self::VramHeadroom => rule(Some(Decimal::new(25, 2)), 60, 600, Severity::Warning),
            Self::UncalibratedSpeculation => rule(None, 60, 0, Severity::Page),
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
        found.ok_or_else(|| {
            field_error("rule", format!("{text:?}"), "no rule of that name; see `govledger policy show`")
        })
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

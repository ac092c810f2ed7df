//! What an operator states about capacity and speculation where the manifest or the server does not.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Amount, PolicyError, field_error};

/// More than this is a slip of the pen.
const SETTING_MAX: u64 = 1_000_000_000;
/// Workloads that calibrations are asked for, at the most.
const WORKLOADS_MAX: usize = 32;
const WORKLOAD_BYTES_MAX: usize = 64;

/// What engines were built and are configured with, for those whose manifest does not say. The report alone uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CapacityPolicy {
    /// Tokens that a KV block holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_block: Option<u64>,
    /// Requests that an engine takes at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<u64>,
    /// How long Triton's dynamic batcher may hold a request back, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue_delay_microseconds: Option<u64>,
}

/// When an engine may speculate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpeculationPolicy {
    /// Whether engines may speculate without a calibration. By default they may not: a publish whose manifest enables it
    /// closes the gate until the calibrations below are in.
    pub allowed: bool,
    /// The share of draft tokens that a calibration has to see accepted.
    pub accept_ratio_min: Amount,
    /// The draft tokens that it has to have seen.
    pub drafts_min: u64,
    /// The workloads that each need a calibration.
    pub workloads: BTreeSet<String>,
}

impl Default for SpeculationPolicy {
    fn default() -> Self {
        Self {
            allowed: false,
            accept_ratio_min: Amount(Decimal::new(6, 1)),
            drafts_min: 10_000,
            workloads: BTreeSet::from(["long-form".to_owned()]),
        }
    }
}

impl CapacityPolicy {
    pub(super) fn check(&self, path: &str) -> Result<(), PolicyError> {
        for (name, value) in self.fields() {
            if value.is_some_and(|value| value == 0 || value > SETTING_MAX) {
                return Err(field_error(format!("{path}capacity.{name}"), value.unwrap_or(0), "from 1 to 1000000000"));
            }
        }
        Ok(())
    }

    /// Its fields by name.
    pub(super) fn fields(&self) -> [(&'static str, Option<u64>); 3] {
        [
            ("tokens_per_block", self.tokens_per_block),
            ("max_batch_size", self.max_batch_size),
            ("max_queue_delay_microseconds", self.max_queue_delay_microseconds),
        ]
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl SpeculationPolicy {
    pub(super) fn check(&self, path: &str) -> Result<(), PolicyError> {
        let Amount(ratio) = self.accept_ratio_min;
        let field = |name: &str| format!("{path}speculation.{name}");
        if ratio <= Decimal::ZERO || ratio > Decimal::ONE || ratio.normalize().scale() > 9 {
            return Err(field_error(
                field("accept_ratio_min"),
                ratio,
                "more than 0, at most 1, with at most 9 decimals",
            ));
        }
        if self.drafts_min == 0 || self.drafts_min > SETTING_MAX {
            return Err(field_error(field("drafts_min"), self.drafts_min, "from 1 to 1000000000"));
        }
        if self.workloads.is_empty() || self.workloads.len() > WORKLOADS_MAX {
            return Err(field_error(
                field("workloads"),
                self.workloads.len(),
                "from 1 to 32 workloads; `allowed = true` asks for none",
            ));
        }
        let is_wrong = |name: &&String| name.is_empty() || name.len() > WORKLOAD_BYTES_MAX;
        match self.workloads.iter().find(is_wrong) {
            Some(name) => Err(field_error(field("workloads"), format!("{name:?}"), "a name has from 1 to 64 bytes")),
            None => Ok(()),
        }
    }

    /// Its fields by name, as text.
    pub(super) fn fields(&self) -> [(&'static str, String); 4] {
        let workloads: Vec<&str> = self.workloads.iter().map(String::as_str).collect();
        [
            ("allowed", self.allowed.to_string()),
            ("accept_ratio_min", self.accept_ratio_min.0.normalize().to_string()),
            ("drafts_min", self.drafts_min.to_string()),
            ("workloads", workloads.join(", ")),
        ]
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `accepts` of `attempts` draft tokens are enough.
    pub fn is_met(&self, attempts: u64, accepts: u64) -> bool {
        let share = Decimal::from(attempts).checked_mul(self.accept_ratio_min.0).unwrap_or(Decimal::MAX);
        attempts >= self.drafts_min && Decimal::from(accepts) >= share
    }
}

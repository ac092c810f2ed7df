//! What `/v1/deliveries` shows of the witnesses.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::alarms::WitnessAlarm;
use crate::domain::policy::WitnessPolicy;
use crate::domain::time::Time;

/// How a witness is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WitnessState {
    /// Not asked yet.
    New,
    /// It signed what it was last asked for.
    Active,
    /// It did not; it is asked again.
    Failing,
    /// It holds another history, or a longer one: it is not asked again before somebody looked.
    Alarmed,
}

/// One witness of the policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WitnessRow {
    /// As the policy calls it.
    pub name: String,
    /// Its submission prefix.
    pub url: String,
    /// How it is.
    pub state: WitnessState,
    /// Entries under the checkpoint that it last cosigned.
    pub size: Option<u64>,
    /// When it did, as it says.
    pub time: Option<Time>,
    /// Attempts that failed since the start.
    pub failures_total: u64,
    /// What was wrong at the last attempt.
    pub last_error: Option<String>,
    /// What nobody honest comes to.
    pub alarm: Option<WitnessAlarm>,
}

/// The latest checkpoint that had its quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CosignedRow {
    /// Its entries.
    pub size: u64,
    /// The latest time that a cosignature on it states.
    pub time: Option<Time>,
    /// Whether it has the quorum of the policy in force.
    pub has_quorum: bool,
    /// Witnesses of the policy in force that cosigned it.
    pub cosigners: Vec<String>,
}

impl WitnessRow {
    pub(super) fn new(name: &str, policy: &WitnessPolicy) -> Self {
        Self {
            name: name.to_owned(),
            url: policy.url.clone(),
            state: WitnessState::New,
            size: None,
            time: None,
            failures_total: 0,
            last_error: None,
            alarm: None,
        }
    }
}

/// The witnesses as the thread last left them.
#[derive(Debug, Clone, Default)]
pub struct Witnessed(Arc<Mutex<(Vec<WitnessRow>, Option<CosignedRow>)>>);

impl Witnessed {
    /// The witnesses of the policy in force, by name.
    pub fn rows(&self) -> Vec<WitnessRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The latest checkpoint that had its quorum.
    pub fn cosigned(&self) -> Option<CosignedRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(super) fn put(&self, rows: Vec<WitnessRow>, cosigned: Option<CosignedRow>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (rows, cosigned);
    }
}

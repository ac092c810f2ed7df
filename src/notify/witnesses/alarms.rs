//! What no honest ledger and witness come to, kept over restarts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::policy::WitnessPolicy;
use crate::domain::time::Time;
use crate::sequencer::{Handle, write_durably};

/// What an alarm is. Codes are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WitnessCode {
    /// 422: the witness holds a checkpoint of this ledger that this history does not extend.
    #[serde(rename = "witness_fork")]
    Fork,
    /// 409 without a size: the same, by a witness that says it so.
    #[serde(rename = "witness_conflict")]
    Conflict,
    /// 409 with a size above this ledger's: entries that the witness vouched for are not here.
    #[serde(rename = "witness_ahead")]
    Ahead,
}

impl WitnessCode {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "witness_fork",
            Self::Conflict => "witness_conflict",
            Self::Ahead => "witness_ahead",
        }
    }

    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Fork | Self::Conflict => "the witness holds another history under this ledger's key",
            Self::Ahead => "the witness has signed more entries than this ledger has",
        }
    }
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WitnessAlarm {
    /// What it is.
    pub code: WitnessCode,
    /// What was asked and answered.
    pub detail: String,
    /// When, by this node's clock.
    pub time: Time,
}

/// An alarm of a witness as the policy had it: with another key or URL it is another witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    policy: WitnessPolicy,
    alarm: WitnessAlarm,
}

/// All alarms, in one small file that is replaced whole.
#[derive(Debug)]
pub(super) struct Alarms {
    path: PathBuf,
    by_witness: BTreeMap<String, Kept>,
}

impl Alarms {
    pub(super) fn load(handle: &Handle) -> Self {
        // No endpoint can have a name with a dot, so this is none of their files.
        let path = handle.data_dir().root().join("notify").join("witnesses.alarms.json");
        let kept = std::fs::read(&path).ok().map(|bytes| serde_json::from_slice(&bytes));
        let by_witness = match kept {
            None => BTreeMap::new(),
            Some(Ok(kept)) => kept,
            Some(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "witness.alarms_lost: what is wrong is found again");
                BTreeMap::new()
            }
        };
        Self { path, by_witness }
    }

    pub(super) fn of(&self, name: &str, policy: &WitnessPolicy) -> Option<WitnessAlarm> {
        self.by_witness.get(name).filter(|kept| kept.policy == *policy).map(|kept| kept.alarm.clone())
    }

    pub(super) fn raise(&mut self, name: &str, policy: &WitnessPolicy, alarm: &WitnessAlarm) {
        self.by_witness.insert(name.to_owned(), Kept { policy: policy.clone(), alarm: alarm.clone() });
        self.store();
    }

    pub(super) fn clear(&mut self, name: &str) {
        if self.by_witness.remove(name).is_some() {
            self.store();
        }
    }

    /// Forgets witnesses that the policy does not name.
    pub(super) fn retain(&mut self, names: &[String]) {
        let before = self.by_witness.len();
        self.by_witness.retain(|name, _| names.contains(name));
        if self.by_witness.len() != before {
            self.store();
        }
    }

    fn store(&self) {
        let stored = serde_json::to_vec(&self.by_witness)
            .map_err(crate::sequencer::SequencerError::from)
            .and_then(|bytes| write_durably(&self.path, &bytes, 0o600));
        if let Err(error) = stored {
            tracing::error!(%error, "witness.alarm_unkept: a start finds it again");
        }
    }
}

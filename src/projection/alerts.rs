//! Every alert of ours, as the governance ledger tells it: one record an episode, from firing to resolved.
//!
//! Transitions are compared by the instants they carry, never by position: in a catch-up the alert of 10:05 is appended
//! after the rollback of 10:30, and still was firing at 10:06.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::event::{Alert, AlertState};
use crate::domain::time::Time;

/// An alert with the entry that said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecordedAlert {
    /// The alert in its latest state.
    #[serde(flatten)]
    pub alert: Alert,
    /// Position of the entry that said it fires.
    pub position: u64,
    /// Position of the entry that said it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_position: Option<u64>,
}

/// All alerts of ours, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    by_id: BTreeMap<String, Stored>,
}

/// As [`RecordedAlert`], in the form that snapshots keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    alert: Alert,
    position: u64,
    resolved_position: Option<u64>,
}

impl Alerts {
    /// Folds one alert entry. What firing measured stays; resolving adds when and why.
    pub fn apply(&mut self, position: u64, alert: &Alert) {
        let stored = self.by_id.entry(alert.id.clone()).or_insert_with(|| Stored {
            alert: alert.clone(),
            position,
            resolved_position: None,
        });
        if alert.state == AlertState::Resolved {
            stored.alert.state = AlertState::Resolved;
            stored.alert.resolved_at = alert.resolved_at;
            stored.alert.reason.clone_from(&alert.reason);
            stored.resolved_position = Some(position);
        }
    }

    /// One alert by its id.
    pub fn get(&self, id: &str) -> Option<RecordedAlert> {
        self.by_id.get(id).map(Stored::recorded)
    }

    /// All, oldest first.
    pub fn oldest_first(&self) -> Vec<RecordedAlert> {
        let mut alerts: Vec<_> = self.by_id.values().map(Stored::recorded).collect();
        alerts.sort_by_key(|recorded| (recorded.alert.firing_since, recorded.position));
        alerts
    }

    /// Those that fire now on `stack`.
    pub fn firing<'a>(&'a self, stack: &'a str) -> impl Iterator<Item = &'a Alert> {
        self.by_id
            .values()
            .map(|stored| &stored.alert)
            .filter(move |alert| alert.stack == stack && alert.state == AlertState::Firing)
    }

    /// Engine-health alerts on an engine that were firing at `instant`, with the entries that say so; at no instant: now.
    pub fn unhealthy(&self, stack: &str, engine_hash: &str, instant: Option<Time>) -> Vec<(&Alert, u64)> {
        let fires = |alert: &Alert| match instant {
            None => alert.state == AlertState::Firing,
            Some(instant) => {
                alert.firing_since <= instant && alert.resolved_at.is_none_or(|resolved| resolved > instant)
            }
        };
        self.by_id
            .values()
            .filter(|stored| {
                stored.alert.stack == stack
                    && stored.alert.engine_hash == engine_hash
                    && stored.alert.rule.is_engine_health()
                    && fires(&stored.alert)
            })
            .map(|stored| (&stored.alert, stored.position))
            .collect()
    }
}

impl Stored {
    fn recorded(&self) -> RecordedAlert {
        RecordedAlert { alert: self.alert.clone(), position: self.position, resolved_position: self.resolved_position }
    }
}

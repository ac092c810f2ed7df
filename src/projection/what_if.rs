//! What another policy would have made of the alerts that were recorded: two lists of episodes, compared.
//!
//! In scope: the comparison. Out of scope: folding under the other policy, which reads the metrics ledgers (the sequencer).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::event::{Alert, AlertState};
use crate::domain::policy::{PolicyChange, Rule, Severity};
use crate::domain::time::Time;

/// Changed alerts listed at the most; the counts go on.
const LISTED_MAX: usize = 1_000;

/// What a proposed policy would have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DryRunAnswer {
    /// As if the proposed policy had been in force from here on.
    pub since: Time,
    /// Up to this cut.
    pub through: Time,
    /// Cuts folded again.
    pub cuts: u64,
    /// Metric records read again for that.
    pub records_read: u64,
    /// What the document changes in the one in force.
    pub changes: Vec<PolicyChange>,
    /// Alerts that were recorded in this time.
    pub recorded: u64,
    /// Alerts that there would have been.
    pub proposed: u64,
    /// Of them the same: firing and resolved at the same cuts, for the same people.
    pub unchanged: u64,
    /// The others, oldest first, at most 1,000.
    pub alerts: Vec<AlertDifference>,
}

/// How an alert would have been otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// It was recorded and would not have been.
    WouldNotFire,
    /// It was not recorded and would have been.
    WouldFire,
    /// It would have fired or ended at another cut, or for other people.
    WouldDiffer,
}

/// One alert that would have been otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AlertDifference {
    /// How.
    pub difference: Difference,
    /// The stack.
    pub stack: String,
    /// The engine.
    pub engine_hash: String,
    /// The rule.
    pub rule: Rule,
    /// As it was.
    pub recorded: Option<Episode>,
    /// As it would have been.
    pub proposed: Option<Episode>,
}

/// An alert from firing to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Episode {
    /// Its id.
    pub id: String,
    /// Firing since.
    pub firing_since: Time,
    /// Over since; none while it fires at the end of the time looked at.
    pub resolved_at: Option<Time>,
    /// For whom.
    pub severity: Severity,
    /// Value at firing.
    pub value: String,
    /// Threshold at firing.
    pub threshold: String,
}

impl Episode {
    fn of(alert: &Alert) -> Self {
        Self {
            id: alert.id.clone(),
            firing_since: alert.firing_since,
            resolved_at: alert.resolved_at,
            severity: alert.severity,
            value: alert.value.clone(),
            threshold: alert.threshold.clone(),
        }
    }

    fn is_as(&self, other: &Self) -> bool {
        self.firing_since == other.firing_since
            && self.resolved_at == other.resolved_at
            && self.severity == other.severity
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ends_after = |one: &Self, start: Time| one.resolved_at.is_none_or(|end| end > start);
        ends_after(self, other.firing_since) && ends_after(other, self.firing_since)
    }
}

/// What an alert is about: stack, engine, rule.
type Subject = (String, String, Rule);

/// Alerts by what they are about, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Episodes(BTreeMap<Subject, Vec<Episode>>);

impl Episodes {
    /// Takes in an alert that fires, or that a firing one is over.
    pub fn see(&mut self, alert: &Alert) {
        let subject = (alert.stack.clone(), alert.engine_hash.clone(), alert.rule);
        let of_subject = self.0.entry(subject).or_default();
        match (of_subject.iter_mut().find(|episode| episode.id == alert.id), alert.state) {
            (Some(known), AlertState::Resolved) => known.resolved_at = alert.resolved_at,
            (Some(_), AlertState::Firing) => {}
            (None, _) => of_subject.push(Episode::of(alert)),
        }
    }

    fn len(&self) -> u64 {
        self.0.values().map(|episodes| episodes.len() as u64).sum()
    }
}

/// Fills in the comparison of what was recorded with what would have been.
pub fn compare(mut answer: DryRunAnswer, recorded: &Episodes, proposed: &Episodes) -> DryRunAnswer {
    answer.recorded = recorded.len();
    answer.proposed = proposed.len();
    let subjects: std::collections::BTreeSet<&Subject> = recorded.0.keys().chain(proposed.0.keys()).collect();
    let none = Vec::new();
    for subject in subjects {
        let was = recorded.0.get(subject).unwrap_or(&none);
        let mut would: Vec<&Episode> = proposed.0.get(subject).unwrap_or(&none).iter().collect();
        for episode in was {
            // The same one, else the first that fires in the same time.
            let same = would.iter().position(|other| other.id == episode.id);
            let found = same.or_else(|| would.iter().position(|other| other.overlaps(episode)));
            let other = found.map(|index| would.remove(index));
            match other {
                Some(other) if other.is_as(episode) => answer.unchanged += 1,
                Some(other) => {
                    answer.alerts.push(difference(subject, Difference::WouldDiffer, Some(episode), Some(other)));
                }
                None => answer.alerts.push(difference(subject, Difference::WouldNotFire, Some(episode), None)),
            }
        }
        let more = would.into_iter().map(|other| difference(subject, Difference::WouldFire, None, Some(other)));
        answer.alerts.extend(more);
    }
    answer.alerts.sort_by_key(|alert| alert.recorded.as_ref().or(alert.proposed.as_ref()).map(|one| one.firing_since));
    answer.alerts.truncate(LISTED_MAX);
    answer
}

fn difference(
    (stack, engine_hash, rule): &Subject,
    difference: Difference,
    recorded: Option<&Episode>,
    proposed: Option<&Episode>,
) -> AlertDifference {
    AlertDifference {
        difference,
        stack: stack.clone(),
        engine_hash: engine_hash.clone(),
        rule: *rule,
        recorded: recorded.cloned(),
        proposed: proposed.cloned(),
    }
}

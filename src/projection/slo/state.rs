//! What one stack's engine is in, rule by rule: counted, pending, firing, clearing.
//!
//! The steps are Prometheus' own (`for`, `keep_firing_for`), with one thing more: a cut may have no verdict. Then nothing
//! moves, and after five minutes of it what was pending or clearing is forgotten.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::counts::{Bounds, Counts};
use super::judge::Judged;
use crate::domain::policy::{Rule, RulePolicy, Severity};
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::projection::capacity::Load;

/// Without a verdict for this long, pending and clear times no longer count.
const NO_VERDICT_SECONDS: i64 = 300;

/// What is known of one engine on one stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Series {
    /// The bounds that `tallies` were counted by.
    pub(super) bounds: Bounds,
    /// Counts by the cut that brought the records, oldest first, within the longest window.
    pub(super) tallies: VecDeque<Tally>,
    /// The cut before the engine last became current: nothing earlier counts.
    pub(super) fresh_from: Option<Time>,
    /// Latency verdicts of the present stint.
    pub(super) latency_verdicts: u32,
    pub(super) rules: BTreeMap<Rule, RuleState>,
}

/// Counts of the records that one cut brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) until: Time,
    pub(super) counts: Counts,
    /// What the report alone needs.
    #[serde(default)]
    pub(super) load: Load,
}

/// One rule on one engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RuleState {
    pub(super) pending_since: Option<Time>,
    pub(super) firing: Option<Firing>,
    pub(super) clear_since: Option<Time>,
    pub(super) last_verdict: Option<Time>,
    /// The last verdict, for showing.
    pub(super) judged: Option<Judged>,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Firing {
    pub(super) pending_since: Time,
    pub(super) since: Time,
    pub(super) severity: Severity,
}

/// How an alert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Clear for long enough.
    Recovered,
    /// No verdict for five minutes, on an engine that is not current any more.
    NoLongerServing,
    /// The policy switched the rule off.
    RuleDisabled,
}

/// What a cut did to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Fired(Firing),
    Ended(Firing, Ending),
}

/// What of the surroundings a step depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) instant: Time,
    /// False at a cut that names a partition missing.
    pub(super) may_resolve: bool,
    /// Whether the engine is current on the stack.
    pub(super) current: bool,
}

impl Ending {
    pub(super) fn reason(self) -> Option<String> {
        match self {
            Self::Recovered => None,
            Self::NoLongerServing => Some("no_longer_serving".to_owned()),
            Self::RuleDisabled => Some("rule_disabled".to_owned()),
        }
    }
}

impl Series {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self { bounds, tallies: VecDeque::new(), fresh_from: None, latency_verdicts: 0, rules: BTreeMap::new() }
    }

    /// The engine became current after the cut of `before`: only an alert that fires outlives it.
    pub(super) fn begin_afresh(&mut self, before: Option<Time>) {
        self.tallies.clear();
        self.fresh_from = before;
        self.latency_verdicts = 0;
        for state in self.rules.values_mut() {
            state.pending_since = None;
            state.clear_since = None;
            state.judged = None;
        }
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_over(&self, oldest: Option<Time>) -> bool {
        let idle = |state: &RuleState| state.firing.is_none() && state.pending_since.is_none();
        self.tallies.is_empty() && self.fresh_from <= oldest && self.rules.values().all(idle)
    }
}

impl RuleState {
    /// Takes the verdict of a cut, if there is one: `Some(true)` is a breach.
    pub(super) fn step(&mut self, at: At, policy: &RulePolicy, verdict: Option<bool>) -> Vec<Step> {
        let mut steps = Vec::new();
        if !policy.enabled {
            self.pending_since = None;
            self.clear_since = None;
            steps.extend(self.end(at, Ending::RuleDisabled));
            return steps;
        }
        // Before any verdict of this cut applies: one that comes after five minutes finds nothing pending.
        if self.last_verdict.is_some_and(|last| reached(at.instant, last, NO_VERDICT_SECONDS)) {
            self.pending_since = None;
            self.clear_since = None;
            if !at.current {
                steps.extend(self.end(at, Ending::NoLongerServing));
            }
        }
        let Some(breach) = verdict else { return steps };
        self.last_verdict = Some(at.instant);
        if breach {
            steps.extend(self.breach(at, policy));
        } else {
            steps.extend(self.clear(at, policy));
        }
        steps
    }

    fn breach(&mut self, at: At, policy: &RulePolicy) -> Option<Step> {
        self.clear_since = None;
        if self.firing.is_some() {
            return None;
        }
        let pending_since = *self.pending_since.get_or_insert(at.instant);
        if !reached(at.instant, pending_since, i64::from(policy.for_s)) {
            return None;
        }
        self.pending_since = None;
        let firing = Firing { pending_since, since: at.instant, severity: policy.severity };
        self.firing = Some(firing.clone());
        Some(Step::Fired(firing))
    }

    fn clear(&mut self, at: At, policy: &RulePolicy) -> Option<Step> {
        self.pending_since = None;
        self.firing.as_ref()?;
        let clear_since = *self.clear_since.get_or_insert(at.instant);
        let long_enough = reached(at.instant, clear_since, i64::from(policy.keep_firing_for_s));
        if long_enough { self.end(at, Ending::Recovered) } else { None }
    }

    fn end(&mut self, at: At, ending: Ending) -> Option<Step> {
        if !at.may_resolve {
            return None;
        }
        let firing = self.firing.take()?;
        self.clear_since = None;
        Some(Step::Ended(firing, ending))
    }
}

fn reached(now: Time, since: Time, seconds: i64) -> bool {
    now.micros_since(since) >= seconds * MICROS_PER_SECOND
}

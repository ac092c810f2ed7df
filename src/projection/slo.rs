//! The SLO engine: folds metric records from cut to cut and says which alerts fire, resolve, and which engines are proven.
//!
//! In scope: whose record counts where, the windows, the verdicts, the alerts' states, and what is shown of them. Out of
//! scope: making cuts (the sequencer), recording what is found (the caller), incidents and waivers (their own folds).
//!
//! Invariants:
//! - A verdict depends on the cuts, the records between them and the governance entries whose time is not after the cut's
//!   instant; never on a clock, on when a batch arrived, or on how many partitions the records came by.
//! - Everything decided is decided on integers. A percentile is two counts, a ratio is two sums.
//! - The state holds no record: its size depends on the number of stacks, engines and cuts in the last quarter of an hour.
//! - What left the window can still be asked for through [`Records`]; after a policy change the window is counted anew.
//!
//! After an error the fold stands between two cuts and has to be rebuilt; the caller throws it away.

mod counts;
mod engine;
mod episode;
mod figures;
mod fold;
mod judge;
mod loads;
mod state;
mod view;
mod window;

pub use figures::{Measured, Replay, figures, measure};
pub use loads::EngineLoad;
pub use view::{IntervalTotals, Latencies, RowState, RuleRow};

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::capacity::Scrapes;
use super::policies::Policies;
use super::stacks::Stacks;
use super::waivers::{Said, Waivers};
use crate::domain::command::Request;
use crate::domain::cut::Cut;
use crate::domain::event::{Alert, EngineProven, Event};
use crate::domain::incident::IncidentImpact;
use crate::domain::metric::{Figures, Observed};
use crate::domain::policy::{Policy, Rule, StackPolicy};
use crate::domain::settings::{RULES_INCIDENTS, RULES_METERED};
use crate::domain::time::Time;

use episode::Episode;
use state::Series;
use window::Mark;

/// Latency verdicts in one stint that prove an engine: a quarter of an hour of cuts.
pub const PROVEN_VERDICTS: u32 = 90;

/// Why records could not be read, as the reader put it.
pub type RecordsError = Box<dyn std::error::Error + Send + Sync>;

/// The metric records, by ledger and position.
pub trait Records {
    /// Visits what counts of `metrics-<ledger>` at positions `from..to`: samples in order, and scrapes in order.
    fn for_each(
        &mut self,
        ledger: u32,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), RecordsError>;
}

/// What a cut brought to light.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// An alert fires.
    Firing(AlertDraft),
    /// An alert is over.
    Resolved(AlertDraft),
    /// An engine has had its ninetieth latency verdict in this stint.
    Proven(EngineProven),
    /// What became of a waiver.
    Waiver(Said),
    /// What an episode of alerts cost.
    Impact(IncidentImpact),
}

/// An alert as it is to be recorded, with the exact figures.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertDraft {
    /// The alert; not yet marked as covered by a waiver.
    pub alert: Alert,
    /// What was measured at this cut; `None` where it resolves without a verdict.
    pub figures: Option<Figures>,
}

/// Why a cut cannot be folded. Each means that the caller, or what it reads, is at fault.
#[derive(Debug, thiserror::Error)]
pub enum SloError {
    /// Cuts come in the order of their instants.
    #[error("the cut of {instant} is not after the cut of {last}, which is folded already")]
    OutOfOrder {
        /// The cut given.
        instant: Time,
        /// The last one folded.
        last: Time,
    },
    /// Ledgers only grow.
    #[error("metrics-{ledger} has {size} entries at the cut of {instant}, but had {before} at the one before")]
    Shrunk {
        /// The ledger.
        ledger: u32,
        /// The cut given.
        instant: Time,
        /// Its size there.
        size: u64,
        /// Its size at the cut before.
        before: u64,
    },
    /// The records could not be read.
    #[error("cannot read positions {from} to {to} of metrics-{ledger}")]
    Records {
        /// The ledger.
        ledger: u32,
        /// First position.
        from: u64,
        /// One past the last.
        to: u64,
        /// What went wrong.
        source: RecordsError,
    },
    /// The same records, read a second time, were others.
    #[error("{rule} on {stack}: counted {counted:?}, but reading the evidence again gives {again:?}")]
    Differs {
        /// The rule.
        rule: Rule,
        /// The stack.
        stack: String,
        /// What the fold counted.
        counted: Figures,
        /// What the second reading gave.
        again: Figures,
    },
}

/// A governance fact that waits for the cut whose instant reaches its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fact {
    position: u64,
    time: Time,
    stack: Option<String>,
    event: Event,
}

/// The fold. See the module for what it promises.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Slo {
    stacks: Stacks,
    policy: Policy,
    /// What was put forward, for the approval that names it.
    policies: Policies,
    facts: VecDeque<Fact>,
    /// Waivers as of the last cut, with what was spent under them by then: the entries that say so come later.
    waivers: Waivers,
    /// Whether the ledger's rules meter spend. See [`crate::domain::settings::RULES_METERED`].
    metered: bool,
    /// The cuts that a window may begin at, oldest first, and the last one.
    marks: VecDeque<Mark>,
    /// Whether records from before the first mark have left the windows.
    trimmed: bool,
    /// By stack, then engine.
    series: BTreeMap<String, BTreeMap<String, Series>>,
    /// The cut that brought the last record of each stack.
    last_record: BTreeMap<String, Time>,
    evaluated_through: Option<Time>,
    /// The last cut, as it was read.
    cut: Option<Cut>,
    /// Whether the ledger's rules measure incidents. See [`crate::domain::settings::RULES_INCIDENTS`].
    measures_incidents: bool,
    /// Version of the rules that the ledger was begun with.
    #[serde(default)]
    rules_version: u32,
    /// What servers said of themselves, as far as the cuts go.
    #[serde(default)]
    scrapes: Scrapes,
    /// Episodes that go on, by stack, then engine.
    episodes: BTreeMap<String, BTreeMap<String, Episode>>,
}

impl Slo {
    /// Takes in an admitted governance entry. It has effect from the first cut whose instant reaches its time.
    pub fn observe(&mut self, position: u64, time: Time, stack: Option<&str>, event: &Event) {
        if concerns(event) {
            self.facts.push_back(Fact { position, time, stack: stack.map(str::to_owned), event: event.clone() });
        }
    }

    /// Begins to follow the rules of a ledger: its first entry names their version.
    pub const fn begin(&mut self, rules_version: u32) {
        self.metered = rules_version >= RULES_METERED;
        self.stacks.begin(rules_version);
        self.measures_incidents = rules_version >= RULES_INCIDENTS;
        self.rules_version = rules_version;
    }

    /// The rules that are judged here: those that the ledger's version knows.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + use<> {
        let version = self.rules_version;
        Rule::ALL.into_iter().filter(move |rule| rule.since() <= version.max(1))
    }

    /// What the servers said of themselves.
    pub const fn scrapes(&self) -> &Scrapes {
        &self.scrapes
    }

    /// Whether the ledger's rules measure incidents.
    pub const fn measures_incidents(&self) -> bool {
        self.measures_incidents
    }

    /// The waivers as of the last cut.
    pub const fn waivers(&self) -> &Waivers {
        &self.waivers
    }

    /// The last cut at which every partition could be read.
    pub const fn evaluated_through(&self) -> Option<Time> {
        self.evaluated_through
    }

    /// Judges by `policy` from here on, whatever the ledger says about policies: for a dry run.
    pub fn suppose(&mut self, policy: &Policy) {
        self.policy = policy.clone();
        self.facts.retain(|fact| !Self::is_about_policy(&fact.event));
    }

    /// Whether an event changes which policy judges.
    #[expect(clippy::wildcard_enum_match_arm, reason = "it asks about these alone")]
    pub fn is_about_policy(event: &Event) -> bool {
        match event {
            Event::PolicyRevised(_) => true,
            Event::Command(command) => matches!(
                command.request,
                Request::PolicyPropose(_) | Request::PolicyApprove(_) | Request::PolicyRefuse(_)
            ),
            _ => false,
        }
    }

    /// Entries of `metrics-<ledger>` that are folded.
    pub fn folded_to(&self, ledger: u32) -> u64 {
        self.marks.back().and_then(|mark| mark.sizes.get(&ledger)).copied().unwrap_or(0)
    }

    /// The last cut.
    pub fn last_cut(&self) -> Option<Time> {
        self.marks.back().map(|mark| mark.instant)
    }

    /// The policy in force at the last cut.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The policy of `stack` at the last cut.
    pub fn policy_for(&self, stack: &str) -> StackPolicy {
        self.policy.for_stack(stack)
    }
}

/// Whether the rules depend on it: what moves stints, warm-ups and judgements of engines, waivers, and the policy.
fn concerns(event: &Event) -> bool {
    match event {
        Event::EnginePublished { .. }
        | Event::WarmupCompleted { .. }
        | Event::WarmupFailed { .. }
        | Event::RollbackCompleted { .. }
        | Event::WaiverReported { .. }
        | Event::SpeculationCalibrated { .. }
        | Event::PolicyRevised(_) => true,
        Event::Command(command) => {
            matches!(
                command.request,
                Request::EngineCondemn(_)
                    | Request::EngineReinstate(_)
                    | Request::EngineAdopt(_)
                    | Request::RollbackWork(_)
                    | Request::WaiverRequest(_)
                    | Request::WaiverApprove(_)
                    | Request::WaiverRefuse(_)
                    | Request::WaiverRevoke(_)
                    | Request::PolicyPropose(_)
                    | Request::PolicyApprove(_)
                    | Request::PolicyRefuse(_)
            )
        }
        Event::BackupRecorded(_)
        | Event::BackupVerified { .. }
        | Event::BackupRestored { .. }
        | Event::ProviderAlert { .. }
        | Event::Other
        | Event::Cut(_)
        | Event::Alert(_)
        | Event::EngineProven(_)
        | Event::FileRegistered(_)
        | Event::WaiverExpired { .. }
        | Event::WaiverSpend(_)
        | Event::WaiverExhausted(_)
        | Event::WaiverExpiring(_)
        | Event::IncidentSnapshot(_)
        | Event::IncidentImpact(_) => false,
    }
}

#[cfg(test)]
mod tests;

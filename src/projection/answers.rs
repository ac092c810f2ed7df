//! The questions that can be asked, and their answers: one place for the API, the command line and offline checks.
//!
//! An answer is a function of the governance fold at a stated size and root (and of the metrics folds where figures are asked
//! for). It carries `asked`, the path that asks it again, and `as_of`, so that a saved answer can be folded again by anyone.

mod asked;
mod backups;
mod capacity;
mod govern;
mod incident;
mod incident_report;
mod lists;
mod rollback;
mod stack;
mod waivers;

use serde::{Deserialize, Serialize};

use super::governance::Governance;
use super::slo::Slo;
use crate::domain::time::Time;

pub use asked::{Asked, AskedError};
pub use backups::{BackupDuty, BackupsAnswer, backup_duties};
pub use capacity::{
    CalibrationRow, CapacityAnswer, EngineCapacity, Headroom, KvInferred, QueueCapacity, ServerRow, ServersCapacity,
    TokenLimit,
};
pub use govern::{
    AuthorKeyRow, CheckpointKeyRow, KeyStatus, KeysAnswer, MaintenanceAnswer, NodeKeyRow, PolicyAnswer, ProposalAnswer,
    ProposalRow, WindowRow,
};
pub use incident::{CheckState, CheckStep, IncidentAnswer, IncidentRow, IncidentsAnswer, due_counts};
pub use incident_report::{
    Duration, ImpactEpisode, IncidentReportAnswer, Moment, ReportAlert, ReportImpact, Statement,
};
pub use lists::{
    AlertRow, AlertsAnswer, CommandAnswer, CommandStatus, OurAlert, RejectedAnswer, SloAnswer, WaiverProposal,
};
pub use rollback::{RollbackAnswer, RollbackBackup, WayBack, ways_back};
pub use stack::{
    LastGoodAnswer, ManifestAnswer, NowAnswer, StackAnswer, StackRow, StacksAnswer, TimelineAnswer, TimelineRow,
    TrafficAnswer,
};
pub use waivers::{Proof, WaiverAnswer, WaiverRow, WaiversAnswer};

/// The governance ledger at the size that an answer was computed at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AsOf {
    /// Always `governance`.
    pub ledger: String,
    /// Entries folded.
    pub size: u64,
    /// Root at that size, base64.
    pub root: String,
}

/// What answers are computed from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The governance fold.
    pub governance: &'a Governance,
    /// The metrics folds, where at hand.
    pub slo: Option<&'a Slo>,
    /// Root of the governance ledger at `governance.size`.
    pub root: ledger::Hash,
    /// The present, for the one question that asks how stale it is; none when a past state is asked about.
    pub now: Option<Time>,
}

impl View<'_> {
    fn as_of(&self) -> AsOf {
        AsOf { ledger: "governance".to_owned(), size: self.governance.size, root: self.root.to_string() }
    }
}

/// An answer: its JSON, and whether it says no.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The JSON object, `asked` and `as_of` included.
    pub body: serde_json::Value,
    /// The answer is no: no last good engine, or not one as sure as asked for; a closed gate.
    pub negative: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Nothing by that name.
    #[error("the ledger has never heard of {kind} {name:?}")]
    Unknown {
        /// `stack`, `waiver`, `incident`, `command`.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The figures are not at hand here.
    #[error("the answer needs the metrics ledgers, which are not at hand")]
    NoMetrics,
}

/// Answers `asked` from `view`.
pub fn answer(view: &View<'_>, asked: &Asked) -> Result<Answer, AnswerError> {
    Ok(match asked {
        Asked::Stacks => done(view, asked, &stack::stacks(view), false),
        Asked::Stack { stack } => done(view, asked, &stack::stack(view, stack)?, false),
        Asked::Manifest { stack } => done(view, asked, &stack::manifest(view, stack)?, false),
        Asked::LastGood { stack, not_current, strict } => {
            let answer = stack::last_good(view, stack, *not_current)?;
            let negative = answer.engine_hash.is_none() || (*strict && !stack::is_strictly_good(view, &answer));
            done(view, asked, &answer, negative)
        }
        Asked::Traffic { stack, engine } => {
            let answer = stack::traffic(view, stack, engine.as_deref());
            let negative = answer.open == Some(false);
            done(view, asked, &answer, negative)
        }
        Asked::Timeline { stack, incident } => {
            done(view, asked, &stack::timeline(view, stack, incident.as_deref())?, false)
        }
        Asked::Now { stack } => done(view, asked, &stack::now(view, stack)?, false),
        Asked::Rollback { stack } => {
            let answer = rollback::rollback(view, stack)?;
            let negative = answer.run.is_none() && answer.last_good.engine_hash.is_none();
            done(view, asked, &answer, negative)
        }
        Asked::Slo { stack } => done(view, asked, &lists::slo(view, stack)?, false),
        Asked::Capacity { stack } => done(view, asked, &capacity::capacity(view, stack)?, false),
        Asked::Alerts { stack, state, all } => {
            done(view, asked, &lists::alerts(view, stack.as_deref(), *state, *all), false)
        }
        Asked::Waivers { stack } => done(view, asked, &waivers::waivers(view, stack.as_deref()), false),
        Asked::Waiver { id } => done(view, asked, &waivers::waiver(view, id)?, false),
        Asked::Incidents { stack } => done(view, asked, &incident::incidents(view, stack.as_deref()), false),
        Asked::Incident { id } => done(view, asked, &incident::incident(view, id)?, false),
        Asked::IncidentReport { id } => done(view, asked, &incident_report::report(view, id)?, false),
        Asked::Backups { stack } => done(view, asked, &backups::backups(view, stack.as_deref()), false),
        Asked::Policy { stack } => done(view, asked, &govern::policy(view, stack.as_deref()), false),
        Asked::Proposal { id } => done(view, asked, &govern::proposal(view, id)?, false),
        Asked::Maintenance { stack } => done(view, asked, &govern::maintenance(view, stack.as_deref()), false),
        Asked::Keys => done(view, asked, &govern::keys(view), false),
        Asked::Command { id } => done(view, asked, &lists::command(view, id)?, false),
        Asked::Rejected { after, limit } => done(view, asked, &lists::rejected(view, *after, *limit), false),
    })
}

fn done<T: Serialize>(view: &View<'_>, asked: &Asked, body: &T, negative: bool) -> Answer {
    let mut body = serde_json::to_value(body).unwrap_or_default();
    if let Some(object) = body.as_object_mut() {
        object.insert("asked".to_owned(), asked.path().into());
        object.insert("as_of".to_owned(), serde_json::to_value(view.as_of()).unwrap_or_default());
        let through = view.governance.evaluated_through.map(|time| time.to_string());
        object.entry("evaluated_through").or_insert(through.into());
    }
    Answer { body, negative }
}

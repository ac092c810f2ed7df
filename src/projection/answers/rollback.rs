//! The plan of a rollback: where to, from which backup, who holds one, and when it was last practised.

use serde::{Deserialize, Serialize};

use super::stack::{LastGoodAnswer, StackRow, last_good, now_row};
use super::{AnswerError, View};
use crate::domain::event::Json;
use crate::domain::time::Time;
use crate::projection::governance::Governance;
use crate::projection::rollbacks::{Last, Run};
use crate::projection::stacks::{Gate, Stack};

/// What a rollback would do, or does.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RollbackAnswer {
    /// The stack.
    pub stack: String,
    /// What serves.
    pub current: StackRow,
    /// Its manifest.
    pub current_manifest: Option<Json>,
    /// The gate.
    pub traffic: Gate,
    /// Where to: the last good engine other than the current one.
    pub last_good: LastGoodAnswer,
    /// Backups of the stack that name their engine, the newest first.
    pub backups: Vec<RollbackBackup>,
    /// The rollback under way.
    pub run: Option<Run>,
    /// The last that was completed by a claimed attempt.
    pub completed: Option<Last>,
    /// The last that was done for practice.
    pub rehearsed: Option<Last>,
    /// By when the way back has to have been gone again, if only for practice; none before the first engine.
    pub rehearsal_due: Option<Time>,
    /// Whether that is past, by the time of the last entry.
    pub rehearsal_overdue: bool,
}

/// A backup that an engine can be restored from.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RollbackBackup {
    /// Its id.
    pub backup_id: String,
    /// The engine.
    pub engine_hash: String,
    /// Where copies lie.
    pub targets: Vec<String>,
    /// Whether it was last read again with success, without, or never.
    pub verified: Option<bool>,
    /// The entry that says so.
    pub verified_position: Option<u64>,
    /// The entry that recorded it.
    pub position: u64,
    /// An entry that reports another content under the same id.
    pub contradicted_by: Option<u64>,
    /// SHA-256 of the backup's manifest in the targets.
    pub manifest_sha256: Option<String>,
    /// The manifest that the engine would come back with.
    pub manifest: Option<Json>,
}

/// The way back of one stack, in short.
#[derive(Debug)]
pub struct WayBack {
    /// The stack.
    pub stack: String,
    /// Whether it was not gone for 30 days, by the time of the last entry.
    pub rehearsal_overdue: bool,
    /// Whether a rollback stopped and nobody has gone on.
    pub stopped: bool,
}

/// The ways back of all stacks that serve.
pub fn ways_back(governance: &Governance) -> Vec<WayBack> {
    let serving = governance.stacks.iter().filter(|(_, stack)| stack.stint.is_some());
    let short = |(name, stack): (&String, &Stack)| WayBack {
        stack: name.clone(),
        rehearsal_overdue: due(governance, name, stack).is_some_and(|due| due <= governance.time),
        stopped: stack.rollbacks.run.as_ref().is_some_and(|run| run.stopped.is_some() && !run.claim.rehearsal),
    };
    serving.map(short).collect()
}

fn due(governance: &Governance, name: &str, stack: &Stack) -> Option<Time> {
    let first = governance.timeline.of(name).first().map(|item| item.time);
    first.map(|first| stack.rollbacks.rehearsal_due(first))
}

pub(super) fn rollback(view: &View<'_>, name: &str) -> Result<RollbackAnswer, AnswerError> {
    let governance = view.governance;
    let stack =
        governance.stacks.get(name).ok_or_else(|| AnswerError::Unknown { kind: "stack", name: name.to_owned() })?;
    let (current, traffic) = now_row(view, name, stack);
    let mut backups: Vec<RollbackBackup> = governance
        .backups
        .oldest_first()
        .into_iter()
        .filter(|recorded| recorded.stack.as_deref() == Some(name))
        .filter_map(|recorded| {
            let engine_hash = recorded.engine_hash.clone()?;
            Some(RollbackBackup {
                manifest: stack.manifest_of(&engine_hash).cloned(),
                backup_id: recorded.backup.backup_id.clone(),
                manifest_sha256: recorded.backup.manifest_sha256.clone(),
                engine_hash,
                targets: recorded.backup.replication_targets.clone(),
                verified: recorded.verified,
                verified_position: recorded.verified_position,
                position: recorded.position,
                contradicted_by: recorded.contradicted_by,
            })
        })
        .collect();
    backups.reverse();
    let rehearsal_due = due(governance, name, stack);
    Ok(RollbackAnswer {
        stack: name.to_owned(),
        current,
        current_manifest: stack.stint.as_ref().and_then(|stint| stint.manifest.clone()),
        traffic,
        last_good: last_good(view, name, true)?,
        backups,
        run: stack.rollbacks.run.clone(),
        completed: stack.rollbacks.completed,
        rehearsed: stack.rollbacks.rehearsed,
        rehearsal_due,
        rehearsal_overdue: rehearsal_due.is_some_and(|due| due <= governance.time),
    })
}

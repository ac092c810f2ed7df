//! Backups, and what a stack owes: a verified backup of the engine that serves, and a restore once in a while.
//!
//! Everything is by the ledger's own time, so that an answer can be folded again.

use serde::{Deserialize, Serialize};

use super::View;
use crate::domain::time::Time;
use crate::projection::backups::{RecordedBackup, backup_due};
use crate::projection::governance::Governance;

/// Backups, oldest first, and what the stacks owe.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupsAnswer {
    /// All.
    pub backups: Vec<BackupRow>,
    /// The stacks that serve, by name.
    #[serde(default)]
    pub stacks: Vec<BackupDuty>,
}

/// One backup.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupRow {
    /// What the ledger tells of it.
    #[serde(flatten)]
    pub recorded: RecordedBackup,
    /// When it has to have been restored by, if only for practice.
    pub drill_due: Time,
    /// Whether that time has passed.
    pub drill_overdue: bool,
}

/// What one stack owes.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupDuty {
    /// The stack.
    pub stack: String,
    /// The engine that serves.
    pub engine_hash: String,
    /// When that engine has to have a verified backup by; none where it has one.
    pub backup_due: Option<Time>,
    /// Whether that time has passed.
    pub backup_overdue: bool,
    /// When some backup of the stack has to have been restored by; none where there is no backup.
    pub drill_due: Option<Time>,
    /// Whether that time has passed.
    pub drill_overdue: bool,
}

/// What the stacks that serve owe, by name.
pub fn backup_duties(governance: &Governance) -> Vec<BackupDuty> {
    let passed = |due: Option<Time>| due.is_some_and(|due| governance.time > due);
    let duty = |(name, engine_hash, since): (&String, &String, Time)| {
        let backed_up = governance.backups.verified_engines(name).contains(engine_hash);
        let backup_due = (!backed_up).then(|| backup_due(since));
        let drill_due = governance.backups.drill_due(name);
        BackupDuty {
            stack: name.clone(),
            engine_hash: engine_hash.clone(),
            backup_due,
            backup_overdue: passed(backup_due),
            drill_due,
            drill_overdue: passed(drill_due),
        }
    };
    let serving = governance.stacks.iter();
    let serving =
        serving.filter_map(|(name, stack)| stack.stint.as_ref().map(|stint| (name, &stint.engine_hash, stint.since)));
    serving.map(duty).collect()
}

pub(super) fn backups(view: &View<'_>, stack: Option<&str>) -> BackupsAnswer {
    let present = view.governance.time;
    let wanted = view
        .governance
        .backups
        .oldest_first()
        .into_iter()
        .filter(|backup| stack.is_none_or(|stack| backup.stack.as_deref() == Some(stack)));
    let row = |recorded: &RecordedBackup| BackupRow {
        drill_due: recorded.drill_due(),
        drill_overdue: present > recorded.drill_due(),
        recorded: recorded.clone(),
    };
    let mut stacks = backup_duties(view.governance);
    stacks.retain(|duty| stack.is_none_or(|stack| duty.stack == stack));
    BackupsAnswer { backups: wanted.map(row).collect(), stacks }
}

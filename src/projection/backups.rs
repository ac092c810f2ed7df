//! Backups as the ledger tells of them: what was taken, where copies lie, which were read again and compared.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::event::Backup;
use crate::domain::time::Time;

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecordedBackup {
    /// The stack, where the report names one.
    pub stack: Option<String>,
    /// The engine, where the report names one.
    pub engine_hash: Option<String>,
    /// The report.
    pub backup: Backup,
    /// When it was recorded.
    pub time: Time,
    /// The entry that recorded it.
    pub position: u64,
    /// Whether it was last read again with success (`true`), without (`false`), or never.
    pub verified: Option<bool>,
    /// The entry that says so.
    pub verified_position: Option<u64>,
}

/// All backups, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    by_id: BTreeMap<String, RecordedBackup>,
}

impl Backups {
    /// Folds a backup report.
    pub fn record(&mut self, recorded: RecordedBackup) {
        self.by_id.insert(recorded.backup.backup_id.clone(), recorded);
    }

    /// Folds the outcome of reading one again.
    pub fn verify(&mut self, position: u64, backup_id: &str, ok: bool) {
        if let Some(backup) = self.by_id.get_mut(backup_id) {
            backup.verified = Some(ok);
            backup.verified_position = Some(position);
        }
    }

    /// All, in the order recorded.
    pub fn oldest_first(&self) -> Vec<&RecordedBackup> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by_key(|backup| backup.position);
        all
    }

    /// The engines of `stack` that have a verified backup.
    pub fn verified_engines(&self, stack: &str) -> BTreeSet<String> {
        let verified = self
            .by_id
            .values()
            .filter(|backup| backup.stack.as_deref() == Some(stack) && backup.verified == Some(true));
        verified.filter_map(|backup| backup.engine_hash.clone()).collect()
    }
}

//! Backups as the ledger tells of them: what was taken, where copies lie, which were read again, compared, restored.
//!
//! Invariant: the first report of an id says what the backup holds. A later one with another digest changes nothing but
//! that it is shown as a contradiction: whoever may report facts must not be able to have another engine restored.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::event::{About, Backup};
use crate::domain::time::Time;

/// A backup is to be restored, if only for practice, once in so long: 90 days.
const DRILL_SECONDS: i64 = 90 * 86_400;

/// The engine that serves is to have a verified backup so long after it came: 48 hours, two nights of the timer.
const BACKUP_SECONDS: i64 = 48 * 3_600;

/// By when an engine that came at `since` has to have a verified backup.
pub const fn backup_due(since: Time) -> Time {
    since.plus_seconds(BACKUP_SECONDS)
}

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
    /// When it was last restored, and the entry that says so.
    #[serde(default)]
    pub restored: Option<(Time, u64)>,
    /// An entry that reports another content under the same id.
    #[serde(default)]
    pub contradicted_by: Option<u64>,
}

impl RecordedBackup {
    /// As it was reported; nobody has read it again yet.
    pub fn new(position: u64, time: Time, about: &About, backup: &Backup) -> Self {
        Self {
            stack: about.stack.clone(),
            engine_hash: about.engine_hash.clone(),
            backup: backup.clone(),
            time,
            position,
            verified: None,
            verified_position: None,
            restored: None,
            contradicted_by: None,
        }
    }

    /// A later report under the same id: further targets of the same content, or a contradiction.
    fn report_again(&mut self, later: Self) {
        let same = |one: &Option<String>, other: &Option<String>| one.is_none() || other.is_none() || one == other;
        if !same(&self.backup.verification_hash, &later.backup.verification_hash)
            || !same(&self.backup.manifest_sha256, &later.backup.manifest_sha256)
            || !same(&self.engine_hash, &later.engine_hash)
        {
            self.contradicted_by = Some(later.position);
            return;
        }
        for target in later.backup.replication_targets {
            if !self.backup.replication_targets.contains(&target) {
                self.backup.replication_targets.push(target);
            }
        }
    }

    /// When it has to have been restored by: a backup that nobody has brought back for so long is a hope.
    pub const fn drill_due(&self) -> Time {
        let last = match self.restored {
            Some((time, _)) => time,
            None => self.time,
        };
        last.plus_seconds(DRILL_SECONDS)
    }
}

/// All backups, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    by_id: BTreeMap<String, RecordedBackup>,
}

impl Backups {
    /// Folds a backup report.
    pub fn record(&mut self, recorded: RecordedBackup) {
        match self.by_id.entry(recorded.backup.backup_id.clone()) {
            Entry::Vacant(first) => {
                first.insert(recorded);
            }
            Entry::Occupied(first) => first.into_mut().report_again(recorded),
        }
    }

    /// Folds the outcome of reading one again.
    pub fn verify(&mut self, position: u64, backup_id: &str, ok: bool) {
        if let Some(backup) = self.by_id.get_mut(backup_id) {
            backup.verified = Some(ok);
            backup.verified_position = Some(position);
        }
    }

    /// Folds a restore.
    pub fn restore(&mut self, position: u64, time: Time, backup_id: &str) {
        if let Some(backup) = self.by_id.get_mut(backup_id) {
            backup.restored = Some((time, position));
        }
    }

    /// All, in the order recorded.
    pub fn oldest_first(&self) -> Vec<&RecordedBackup> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by_key(|backup| backup.position);
        all
    }

    /// When some backup of `stack` has to have been restored by, counted from the last restore of any of them or, before the
    /// first one, from the oldest backup; none where there is no backup.
    pub fn drill_due(&self, stack: &str) -> Option<Time> {
        let of_stack = || self.by_id.values().filter(|backup| backup.stack.as_deref() == Some(stack));
        let restored = of_stack().filter_map(|backup| backup.restored.map(|(time, _)| time)).max();
        restored.or_else(|| of_stack().map(|backup| backup.time).min()).map(|last| last.plus_seconds(DRILL_SECONDS))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(hash: &str, target: &str, position: u64) -> RecordedBackup {
        let backup = Backup {
            backup_id: "b".into(),
            artifacts: Vec::new(),
            verification_hash: Some(hash.into()),
            replication_targets: vec![target.into()],
            snapshot_time: None,
            manifest_sha256: None,
            total_bytes: None,
        };
        let about = About { stack: Some("s".into()), engine_hash: Some("e".into()), ..About::default() };
        RecordedBackup::new(position, Time::from_seconds(i64::try_from(position).unwrap()), &about, &backup)
    }

    #[test]
    fn a_second_report_adds_targets_and_never_changes_the_content() {
        let mut backups = Backups::default();
        backups.record(reported("aa", "file:///one", 1));
        backups.record(reported("aa", "s3://two", 2));
        backups.record(reported("bb", "s3://evil", 3));
        let kept = backups.oldest_first()[0];
        assert_eq!(kept.backup.verification_hash.as_deref(), Some("aa"));
        assert_eq!(kept.backup.replication_targets, ["file:///one", "s3://two"]);
        assert_eq!((kept.position, kept.contradicted_by), (1, Some(3)));
    }

    #[test]
    fn a_restore_puts_the_next_drill_off() {
        let mut backups = Backups::default();
        backups.record(reported("aa", "file:///one", 1));
        let due = |backups: &Backups| backups.oldest_first()[0].drill_due();
        assert_eq!(due(&backups), Time::from_seconds(1 + DRILL_SECONDS));
        backups.restore(9, Time::from_seconds(100), "b");
        assert_eq!(due(&backups), Time::from_seconds(100 + DRILL_SECONDS));
    }

    #[test]
    fn a_stack_counts_from_its_last_restore_and_before_the_first_from_its_oldest_backup() {
        let mut backups = Backups::default();
        assert_eq!(backups.drill_due("s"), None);
        for (id, position) in [("b", 1), ("c", 50), ("d", 60)] {
            let mut backup = reported("aa", "file:///one", position);
            backup.backup.backup_id = id.into();
            backups.record(backup);
        }
        assert_eq!(backups.drill_due("s"), Some(Time::from_seconds(1 + DRILL_SECONDS)));
        backups.restore(70, Time::from_seconds(300), "c");
        backups.restore(71, Time::from_seconds(200), "b");
        assert_eq!(backups.drill_due("s"), Some(Time::from_seconds(300 + DRILL_SECONDS)));
        assert_eq!(backups.drill_due("other"), None);
    }
}

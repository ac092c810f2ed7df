//! When the folds are kept, for the next start and for answers about the past, and which of those kept may be used.

use std::collections::BTreeMap;

use ledger::Ledger;

use super::Core;
use crate::domain::cut::Cut;
use crate::sequencer::cache::{Cache, Snapshot};
use crate::sequencer::error::{SequencerError, of};

/// Governance entries between snapshots.
const SNAPSHOT_ENTRIES: u64 = 4_096;
/// Metric records between snapshots: what a start reads again at the most, some 0.2 s of two cores, however long ago the last
/// 4,096 governance entries began. Such a snapshot takes the place of the last of its kind, so that those kept for answers about
/// the past stay as far apart as they were.
const SNAPSHOT_RECORDS: u64 = 1 << 18;
/// Where the folds have grown large, a snapshot for the records' sake waits for one record in so many of its bytes: it then takes
/// a tenth of the writer's time at the most.
const SNAPSHOT_BYTES_PER_RECORD: u64 = 16;
/// Metric records between two states of the metrics folds that are kept for answers about the past: reading so many again
/// takes some 20 ms of one core.
const PAST_SLO_RECORDS: u64 = 32_768;

/// The snapshot last kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Metric records that it knew.
    records: u64,
    bytes: u64,
    /// Its governance entries, where it was kept for the records' sake alone.
    passing: Option<u64>,
}

impl Kept {
    /// One that knew so many records, of a size that is not known.
    pub(super) fn of_records(records: u64) -> Self {
        Self { records, ..Self::default() }
    }
}

impl Core {
    /// Keeps a snapshot where enough happened since the last.
    pub fn snapshot_if_due(&mut self) -> Result<(), SequencerError> {
        if self.governance.size() >= self.snapshot_at + SNAPSHOT_ENTRIES {
            return self.snapshot();
        }
        let records = self.records();
        if records < self.kept.records + SNAPSHOT_RECORDS.max(self.kept.bytes / SNAPSHOT_BYTES_PER_RECORD) {
            return Ok(());
        }
        self.keep(true)
    }

    /// Records in the metrics ledgers.
    pub(super) fn records(&self) -> u64 {
        self.metrics.values().map(Ledger::size).sum()
    }

    /// Keeps a snapshot of the folds.
    pub fn snapshot(&mut self) -> Result<(), SequencerError> {
        self.keep(false)
    }

    /// Both folds must have followed the same entries, so nothing is kept while some are deferred.
    fn keep(&mut self, is_passing: bool) -> Result<(), SequencerError> {
        if !self.deferred.is_empty() {
            return Ok(());
        }
        let governance = self.shared.governance().clone();
        let size = governance.size;
        let root = self.governance.root_at(size).map_err(of("governance"))?;
        let unsaid = self.unsaid.iter().map(|(_, saying)| saying.clone()).collect();
        let snapshot = Snapshot::new(
            root,
            governance,
            self.shared.slo().clone(),
            self.shared.metrics().clone(),
            self.files.clone(),
            unsaid,
        );
        let replaced = self.kept.passing.filter(|passing| *passing != size);
        let bytes = self.cache.store(&snapshot, replaced)?;
        // One that took the place of a lasting one lasts.
        let passing = Some(size).filter(|size| is_passing && *size != self.snapshot_at);
        self.kept = Kept { records: self.records(), bytes, passing };
        if passing.is_none() {
            self.snapshot_at = size;
        }
        Ok(())
    }

    /// Keeps the state after a cut, where many records were folded since the last one kept.
    pub(super) fn keep_past_slo(&mut self, size: u64, cut: &Cut) -> Result<(), SequencerError> {
        let records: u64 = cut.ledgers.iter().map(|listed| listed.size).sum();
        if records < self.past_slo_at + PAST_SLO_RECORDS {
            return Ok(());
        }
        self.past_slo_at = records;
        let root = self.governance.root_at(size).map_err(of("governance"))?;
        self.cache.keep_past_slo(size, root, &self.shared.slo())
    }
}

/// The last snapshot, where it fits all ledgers here.
pub(super) fn usable_snapshot(cache: &Cache, governance: &Ledger, metrics: &BTreeMap<u32, Ledger>) -> Option<Snapshot> {
    let snapshot = cache.snapshot_before(governance.size())?;
    let fits = snapshot.matches(&governance.reader())
        && snapshot
            .metrics
            .iter()
            .all(|(number, state)| metrics.get(number).is_some_and(|ledger| state.size <= ledger.size()));
    if !fits {
        tracing::warn!(
            size = snapshot.governance.size,
            "cache.snapshot_rejected: it does not fit the ledgers; folding from nothing"
        );
    }
    fits.then_some(snapshot)
}

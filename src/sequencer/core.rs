//! The writer's core: ledgers, folds and what follows from an entry. One thread owns it; it reads no clock and spawns nothing.
//!
//! For every batch: (1) the entries are framed and hashed; (2) one append makes them durable and signed — a crash before this
//! loses only what nobody was told of; (3) they are folded, in order — a crash here is made good by the fold at the next start;
//! (4) what the service has to say about them is kept as *unsaid* until its own entry is folded, so that a crash between a
//! cut and its alerts says them at the next start; (5) the caller is answered.

mod keys;
mod saying;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledger::{EntrySource, Ledger};

use super::ahead::Ahead;
use super::cache::{Cache, CacheIds};
use super::data_dir::{DataDir, metrics_number};
use super::error::{SequencerError, of};
use super::files::FileState;
use super::metrics::{LedgerRecords, MetricsChunk, MetricsState, Pending, Prepare, keep_large};
use super::past::follow;
use super::sayings::Saying;
use super::sealing::Sealers;
use super::shared::Shared;
use crate::domain::cut::{Cut, CutLedger};
use crate::domain::event::Event;
use crate::domain::leaf::{self, Header};
use crate::domain::metric::TimeFields;
use crate::domain::report::Identity;
use crate::domain::settings::SourceSettings;
use crate::domain::time::Time;
use crate::projection::governance::{Applied, Governance, Verdict};
use crate::projection::slo::Slo;

use self::keys::is_key_rotation;
use self::snapshots::{Kept, usable_snapshot};

/// A governance entry on its way in. Its time becomes the later of its own and that of the entry before.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// What the intake knows.
    pub header: Header,
    /// The bytes as received.
    pub body: Vec<u8>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Outcome {
    /// Its position.
    pub position: u64,
    /// Its time.
    pub time: Time,
    /// What it counts for.
    pub verdict: Verdict,
}

/// The writer's core.
#[derive(Debug)]
pub struct Core {
    data_dir: DataDir,
    governance: Ledger,
    metrics: BTreeMap<u32, Ledger>,
    pending: BTreeMap<u32, Pending>,
    cache: Cache,
    ids: CacheIds,
    files: FileState,
    unsaid: Vec<(Identity, Saying)>,
    /// Governance entries that the rules have not followed yet: from a cut on whose sizes the ledgers here have not reached.
    deferred: VecDeque<Applied>,
    snapshot_at: u64,
    kept: Kept,
    /// Metric records folded when a state of the metrics folds was last kept.
    past_slo_at: u64,
    /// While starting: the metrics entries that follow the snapshot.
    ahead: BTreeMap<u32, Ahead<MetricsChunk>>,
    sealers: Sealers,
    shared: Arc<Shared>,
    embedded: bool,
}

impl Core {
    /// Opens everything, recovers, and folds what follows the last snapshot.
    #[expect(clippy::needless_pass_by_value, reason = "configuration is handed over at start")]
    pub fn open(data_dir: DataDir, times: TimeFields) -> Result<Self, SequencerError> {
        let node_key = data_dir.node_key()?;
        data_dir.finish_rotations()?;
        let embedded = data_dir.settings().source == SourceSettings::Embedded;
        let governance = open_ledger(&data_dir, "governance", &data_dir.settings().entry()?)?;
        let mut metrics = BTreeMap::new();
        for name in data_dir.ledgers()? {
            if let Some(number) = metrics_number(&name) {
                metrics.insert(number, open_ledger(&data_dir, &name, &data_dir.settings().metrics(number)?.entry()?)?);
            }
        }
        let cache = Cache::open(&data_dir.root().join("cache"))?;
        let snapshot = usable_snapshot(&cache, &governance, &metrics);
        let (state, slo, metrics_state, files, unsaid) = if let Some(snapshot) = snapshot {
            (snapshot.governance, snapshot.slo, snapshot.metrics, snapshot.files, snapshot.unsaid)
        } else {
            cache.clear()?;
            (Governance::default(), Slo::default(), BTreeMap::new(), FileState::default(), Vec::new())
        };
        tracing::info!(from = state.size, to = governance.size(), "fold.started");
        let mut readers: BTreeMap<String, _> =
            metrics.iter().map(|(number, ledger)| (format!("metrics-{number}"), ledger.reader())).collect();
        readers.insert("governance".to_owned(), governance.reader());
        let snapshot_at = state.size;
        let kept = Kept::of_records(metrics_state.values().map(|state| state.size).sum());
        let shared = Arc::new(Shared::new(state, slo, metrics_state, readers, Some(cache.clone()), node_key));
        let ids = cache.ids();
        let unsaid = unsaid.into_iter().map(|saying| (saying.identity(), saying)).collect();
        let mut core = Self {
            data_dir,
            governance,
            pending: BTreeMap::new(),
            metrics,
            cache,
            ids,
            files,
            unsaid,
            deferred: VecDeque::new(),
            snapshot_at,
            kept,
            past_slo_at: 0,
            ahead: BTreeMap::new(),
            sealers: Sealers::default(),
            shared,
            embedded,
        };
        core.sealers.add("governance", core.governance.sealer());
        for (number, ledger) in &core.metrics {
            core.sealers.add(&format!("metrics-{number}"), ledger.sealer());
        }
        core.replay(&times)?;
        core.settle_keys()?;
        Ok(core)
    }

    /// Begins to read the metrics entries that follow the snapshot.
    fn read_ahead(&mut self, times: &TimeFields) {
        let prepare = Prepare::new(self.data_dir.blobs(), times.clone());
        for (number, ledger) in &self.metrics {
            let reader = ledger.reader();
            let mut metrics = self.shared.metrics_mut();
            let state = metrics.entry(*number).or_default();
            // The first entry holds the settings.
            let range = state.size.max(1)..reader.size();
            state.size = state.size.max(1);
            self.shared.status.read_at_start.fetch_add(range.end - range.start, Ordering::Relaxed);
            let prepare = prepare.clone();
            let see = move |chunk: &mut MetricsChunk, entry: &[u8]| prepare.review(chunk, entry);
            self.ahead.insert(*number, Ahead::over(&format!("metrics-{number}"), &reader, range, see));
        }
    }

    /// Takes note of the entries of one ledger up to `size`, as they were when they were appended: so each is parsed once, and
    /// what a cut takes is in memory when the cut is folded.
    fn take_ahead(&mut self, number: u32, size: u64) -> Result<(), SequencerError> {
        while let Some(ahead) = self.ahead.get_mut(&number).filter(|ahead| ahead.at() < size)
            && let Some((first, mut chunk)) = ahead.next()?
        {
            self.note(number, first, std::iter::once(&mut chunk));
        }
        Ok(())
    }

    /// Takes note of what was appended at `first`, and keeps its records for the cut.
    fn note<'a>(&mut self, number: u32, first: u64, chunks: impl Iterator<Item = &'a mut MetricsChunk>) {
        let name = format!("metrics-{number}");
        let mut metrics = self.shared.metrics_mut();
        let (state, pending) = (metrics.entry(number).or_default(), self.pending.entry(number).or_default());
        let mut first = first;
        for chunk in chunks {
            for (file, run) in &chunk.files {
                self.files.see_run(&name, *file, run.after(first));
            }
            state.see_chunk(first, chunk);
            chunk.batch.first_position = first;
            first += chunk.len() as u64;
            pending.push(&mut chunk.batch);
        }
    }

    /// Folds the governance entries that follow the snapshot, and with each cut the records that it takes.
    fn replay(&mut self, times: &TimeFields) -> Result<(), SequencerError> {
        self.read_ahead(times);
        let reader = self.governance.reader();
        let from = self.shared.governance().size;
        self.shared.status.read_at_start.fetch_add(reader.size() - from, Ordering::Relaxed);
        for entry in reader.entries(from..reader.size()) {
            let (position, entry) = entry.map_err(of("governance"))?;
            self.fold(position, &entry)?;
        }
        let numbers: Vec<u32> = self.ahead.keys().copied().collect();
        for number in numbers {
            self.take_ahead(number, u64::MAX)?;
        }
        self.ahead.clear();
        self.shared.announce();
        Ok(())
    }

    /// What readers share with this writer.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// What seals the segments of all ledgers here, those to come included.
    pub fn sealers(&self) -> Sealers {
        self.sealers.clone()
    }

    /// The data directory.
    pub const fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// How far files were read.
    pub const fn files(&self) -> &FileState {
        &self.files
    }

    /// Whether order comes from this node's own queue.
    pub const fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// Appends governance entries, durably, and folds them.
    pub fn append_governance(&mut self, items: Vec<Incoming>) -> Result<Vec<Outcome>, SequencerError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut time = self.shared.governance().time;
        let mut entries = Vec::with_capacity(items.len());
        for Incoming { mut header, body } in items {
            time = time.max(header.time);
            header.time = time;
            entries.push(self.entry(header, &body)?);
        }
        let range = self.governance.append_entries(&entries).map_err(of("governance"))?;
        // Durable and signed from here on.
        let mut outcomes = Vec::with_capacity(entries.len());
        for (position, entry) in range.zip(&entries) {
            let applied = self.fold(position, entry)?;
            outcomes.push(Outcome { position, time: applied.time, verdict: applied.verdict });
        }
        self.shared.announce();
        Ok(outcomes)
    }

    fn entry(&self, mut header: Header, body: &[u8]) -> Result<Vec<u8>, SequencerError> {
        let mut entry = header.line();
        if entry.len() + body.len() > ledger::ENTRY_BYTES_MAX {
            header.oversize = Some(keep_large(&self.data_dir.blobs(), body)?);
            return Ok(header.line());
        }
        entry.extend_from_slice(body);
        Ok(entry)
    }

    /// Folds one durable governance entry and keeps what follows from it.
    fn fold(&mut self, position: u64, entry: &[u8]) -> Result<Applied, SequencerError> {
        if let Ok(leaf) = leaf::split(entry) {
            self.files.see("governance", position, &leaf.header);
        }
        let applied = self.shared.governance_mut().apply(position, entry, &mut self.ids);
        if is_key_rotation(&applied) {
            self.settle_keys()?;
        }
        if self.deferred.is_empty() && self.can_follow(&applied) {
            self.follow_on(&applied)?;
        } else if applied.verdict == Verdict::Admitted {
            self.deferred.push_back(applied.clone());
        }
        Ok(applied)
    }

    /// Whether the ledgers here have what a cut names. A node that consumes may read the cut before the records.
    fn can_follow(&self, applied: &Applied) -> bool {
        let reaches =
            |listed: &CutLedger| self.metrics.get(&listed.ledger).is_some_and(|ledger| ledger.size() >= listed.size);
        match &applied.event {
            Some(Event::Cut(cut)) if applied.verdict == Verdict::Admitted => cut.ledgers.iter().all(reaches),
            _ => true,
        }
    }

    /// Follows what was deferred, in order, as far as the ledgers here reach.
    fn follow_deferred(&mut self) -> Result<(), SequencerError> {
        while let Some(applied) = self.deferred.pop_front() {
            if !self.can_follow(&applied) {
                self.deferred.push_front(applied);
                return Ok(());
            }
            self.follow_on(&applied)?;
        }
        Ok(())
    }

    /// Lets the rules follow an entry, and keeps what comes of it.
    fn follow_on(&mut self, applied: &Applied) -> Result<(), SequencerError> {
        if applied.verdict != Verdict::Admitted {
            return Ok(());
        }
        if let Some(Event::Cut(cut)) = &applied.event {
            for listed in &cut.ledgers {
                self.take_ahead(listed.ledger, listed.size)?;
            }
        }
        let sources: BTreeMap<u32, ledger::Reader> =
            self.metrics.iter().map(|(number, ledger)| (*number, ledger.reader())).collect();
        let sources = sources.iter().map(|(number, reader)| (*number, reader as &dyn EntrySource)).collect();
        let mut records = LedgerRecords::with_pending(sources, &self.pending);
        let findings = follow(&mut self.shared.slo_mut(), applied, &mut records)?;
        self.settle(applied);
        if let Some(Event::Cut(cut)) = &applied.event {
            self.after_cut(cut, findings)?;
            self.keep_past_slo(applied.position + 1, cut)?;
        }
        // The figures that an incident finds are those of the last cut before the entry that opens it.
        if let Some((incident, stack)) = self.opened_by(applied) {
            let sources: BTreeMap<u32, ledger::Reader> =
                self.metrics.iter().map(|(number, ledger)| (*number, ledger.reader())).collect();
            let sources = sources.iter().map(|(number, reader)| (*number, reader as &dyn EntrySource)).collect();
            let mut records = LedgerRecords::with_pending(sources, &self.pending);
            let snapshot = self.shared.slo().snapshot(&incident, &stack, &mut records)?;
            self.owe(Saying::incident_snapshot(&snapshot));
        }
        Ok(())
    }

    /// The cut of `instant` over everything durable here, then what it brings to light.
    pub fn make_cut(&mut self, instant: Time) -> Result<(), SequencerError> {
        let ledgers = self
            .metrics
            .iter()
            .map(|(number, ledger)| CutLedger { ledger: *number, size: ledger.size(), root: ledger.root() })
            .collect();
        self.say(&[Saying::cut(&Cut { instant, ledgers, missing: Vec::new() })], instant)?;
        self.say_unsaid()?;
        self.snapshot_if_due()
    }

    /// Appends metric records to `metrics-<number>`, durably.
    pub fn append_metrics(&mut self, number: u32, mut chunks: Vec<MetricsChunk>) -> Result<Range<u64>, SequencerError> {
        self.append_chunks(number, &mut chunks.iter_mut().collect::<Vec<_>>())
    }

    /// The same for chunks that lie apart. They keep their buffers, so that whoever made them frees them.
    pub(super) fn append_chunks(
        &mut self,
        number: u32,
        chunks: &mut [&mut MetricsChunk],
    ) -> Result<Range<u64>, SequencerError> {
        let name = || format!("metrics-{number}");
        let ledger = self.metrics.get_mut(&number).ok_or_else(|| SequencerError::Invalid {
            what: "ledger".to_owned(),
            value: name(),
            reason: "there is no such ledger here".to_owned(),
        })?;
        let framed: Vec<&ledger::Chunk> = chunks.iter().map(|chunk| &chunk.chunk).collect();
        let range = ledger.append_each(&framed).map_err(|error| of(&name())(error))?;
        // Durable and signed from here on.
        self.note(number, range.start, chunks.iter_mut().map(|chunk| &mut **chunk));
        self.follow_deferred()?;
        Ok(range)
    }

    /// Makes the ledger of a partition, where there is none yet.
    pub fn ensure_metrics(&mut self, number: u32) -> Result<(), SequencerError> {
        if self.metrics.contains_key(&number) {
            return Ok(());
        }
        let name = format!("metrics-{number}");
        let ledger = self.data_dir.create_ledger(&name, &self.data_dir.settings().metrics(number)?.entry()?)?;
        self.shared.add_reader(&name, ledger.reader());
        self.sealers.add(&name, ledger.sealer());
        self.shared.metrics_mut().insert(number, MetricsState { size: 1, ..MetricsState::default() });
        self.metrics.insert(number, ledger);
        self.follow_deferred()
    }

    /// Latest time of a record or report; none while there was neither.
    pub fn last_activity(&self) -> Option<Time> {
        let records = self.shared.metrics().values().map(|state| state.last_time).max();
        records.into_iter().chain([self.shared.governance().last_report]).max().filter(|time| *time > Time::default())
    }
}

fn open_ledger(data_dir: &DataDir, name: &str, first_entry: &[u8]) -> Result<Ledger, SequencerError> {
    open_ledger_with(data_dir, name, data_dir.ledger_key()?, first_entry)
}

pub(super) fn open_ledger_with(
    data_dir: &DataDir,
    name: &str,
    key: ledger::LedgerKey,
    first_entry: &[u8],
) -> Result<Ledger, SequencerError> {
    let (ledger, recovery) = Ledger::open_on(
        data_dir.disk(),
        &data_dir.ledger_dir(name),
        &data_dir.origin(name),
        key,
        data_dir.ledger_options(),
    )
    .map_err(of(name))?;
    if !recovery.was_clean() {
        tracing::warn!(ledger = name, ?recovery, "ledger.recovered: the last stop was not clean");
    }
    if ledger.reader().entry(0).map_err(of(name))? != first_entry {
        return Err(SequencerError::OtherSettings {
            ledger: name.to_owned(),
            path: data_dir.root().join("settings.json"),
        });
    }
    Ok(ledger)
}

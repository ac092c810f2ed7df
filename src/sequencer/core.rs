//! The writer's core: ledgers, folds and what follows from an entry. One thread owns it; it reads no clock and spawns nothing.
//!
//! For every batch: (1) the entries are framed and hashed; (2) one append makes them durable and signed — a crash before this
//! loses only what nobody was told of; (3) they are folded, in order — a crash here is made good by the fold at the next start;
//! (4) what the service has to say about them is kept as *unsaid* until its own entry is folded, so that a crash between a
//! cut and its alerts says them at the next start; (5) the caller is answered.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ledger::chain::{self, Rotation};
use ledger::{EntrySource, Ledger};

use super::ahead::Ahead;
use super::cache::{Cache, CacheIds, Snapshot};
use super::data_dir::{DataDir, metrics_number};
use super::error::{SequencerError, of};
use super::files::FileState;
use super::metrics::{LedgerRecords, MetricsChunk, MetricsState, Pending, Prepare, keep_large};
use super::past::follow;
use super::sayings::Saying;
use super::sealing::Sealers;
use super::shared::Shared;
use crate::domain::command::{Request, incident_id};
use crate::domain::cut::{Cut, CutLedger};
use crate::domain::envelope::key_id;
use crate::domain::event::Event;
use crate::domain::leaf::{self, Header};
use crate::domain::metric::TimeFields;
use crate::domain::policy::Policy;
use crate::domain::report::Identity;
use crate::domain::settings::{RULES_TWO_PEOPLE, SourceSettings};
use crate::domain::time::Time;
use crate::projection::governance::{Applied, Governance, Verdict};
use crate::projection::slo::{Finding, Slo};
use crate::projection::waivers::Said;

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
/// An alert brings about a snapshot, and a snapshot nothing: two rounds of sayings, and one to spare.
const SAYING_ROUNDS_MAX: usize = 3;

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

/// The snapshot last kept.
#[derive(Debug, Default)]
struct Kept {
    /// Metric records that it knew.
    records: u64,
    bytes: u64,
    /// Its governance entries, where it was kept for the records' sake alone.
    passing: Option<u64>,
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
        let kept = Kept { records: metrics_state.values().map(|state| state.size).sum(), ..Kept::default() };
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
        let mut metrics = self.shared.metrics_mut();
        let (state, pending) = (metrics.entry(number).or_default(), self.pending.entry(number).or_default());
        let mut first = first;
        for chunk in chunks {
            for (index, file, line) in &chunk.files {
                self.files.see_line(first + index, *file, *line);
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
            self.files.see(position, &leaf.header);
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

    /// Signs with the key that the ledger says this node signs with. Where the entry that rotates it is durable, the new key
    /// takes the old one's place here; a crash in between is made good at the next start, by the same step.
    fn settle_node_key(&mut self) -> Result<(), SequencerError> {
        let wanted = self.shared.governance().keys.of_node(self.data_dir.node()).map(str::to_owned);
        let is_wanted = |key: &ledger::LedgerKey| wanted.as_deref() == Some(key_id(&key.public()).as_str());
        if is_wanted(&self.shared.node_key()) {
            return Ok(());
        }
        let Some(next) = self.data_dir.next_node_key()?.filter(|next| is_wanted(next)) else { return Ok(()) };
        self.data_dir.promote_node_key()?;
        tracing::info!(key_id = wanted, "keys.node_rotated: envelopes are signed with the new key from here on");
        self.shared.set_node_key(next);
        Ok(())
    }

    fn settle_keys(&mut self) -> Result<(), SequencerError> {
        self.settle_node_key()?;
        self.settle_ledger_key()
    }

    /// Signs checkpoints with the key that the ledger's last entry about it names. The note of the rotation is kept first: with it the
    /// rotation is done, and whatever of the rest a crash leaves undone is done before the ledgers are opened again.
    fn settle_ledger_key(&mut self) -> Result<(), SequencerError> {
        let mut rotations = self.data_dir.rotations()?;
        let done = chain::read_rotations(&rotations).map_err(|error| of("ledger key")(error.into()))?.len();
        let wanted = self.shared.governance().keys.checkpoint_keys(self.data_dir.node()).get(done).cloned();
        let Some(wanted) = wanted else { return Ok(()) };
        let (old, next) = (self.data_dir.ledger_key()?, self.data_dir.next_ledger_key()?);
        let Some(next) = next.filter(|next| next.public() == wanted.new && old.public() == wanted.old) else {
            tracing::error!(position = wanted.position, "keys.missing: an entry names a ledger key that is not here");
            return Ok(());
        };
        let mut sizes = vec![(self.data_dir.origin("governance"), self.governance.size())];
        sizes.extend(
            self.metrics.iter().map(|(n, ledger)| (self.data_dir.origin(&format!("metrics-{n}")), ledger.size())),
        );
        let note = Rotation::sign(&old, wanted.new, &sizes).map_err(|error| of("ledger key")(error.into()))?;
        rotations.push_str(&note);
        self.data_dir.settle_own_key(super::own::ACCESS);
        self.data_dir.store_rotations(&rotations)?;
        for (number, ledger) in &mut self.metrics {
            ledger.rotate(next.clone(), &rotations).map_err(of(&format!("metrics-{number}")))?;
        }
        self.governance.rotate(next, &rotations).map_err(of("governance"))?;
        self.data_dir.promote_ledger_key(&rotations)?;
        tracing::info!(
            position = wanted.position,
            "keys.ledger_rotated: checkpoints are signed with the new key from here on"
        );
        Ok(())
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

    /// Keeps the state after a cut, where many records were folded since the last one kept.
    fn keep_past_slo(&mut self, size: u64, cut: &Cut) -> Result<(), SequencerError> {
        let records: u64 = cut.ledgers.iter().map(|listed| listed.size).sum();
        if records < self.past_slo_at + PAST_SLO_RECORDS {
            return Ok(());
        }
        self.past_slo_at = records;
        let root = self.governance.root_at(size).map_err(of("governance"))?;
        self.cache.keep_past_slo(size, root, &self.shared.slo())
    }

    /// The incident that an entry opened, and its stack, where the ledger's rules measure incidents.
    fn opened_by(&self, applied: &Applied) -> Option<(String, String)> {
        let may_open = match &applied.event {
            Some(Event::Alert(_)) => true,
            Some(Event::Command(command)) => matches!(command.request, Request::IncidentOpen(_)),
            _ => false,
        };
        if !may_open || !self.shared.slo().measures_incidents() {
            return None;
        }
        let governance = self.shared.governance();
        let incident = governance.incidents.get(&incident_id(applied.position))?;
        Some((incident.id.clone(), incident.stack.clone()))
    }

    /// Keeps what is to be said, once.
    fn owe(&mut self, saying: Saying) {
        let identity = saying.identity();
        if !self.unsaid.iter().any(|(unsaid, _)| *unsaid == identity) {
            self.unsaid.push((identity, saying));
        }
    }

    /// An entry of the service was folded: it is said. One that this node did not derive itself is an integrity alarm.
    fn settle(&mut self, applied: &Applied) {
        let saying = match &applied.event {
            Some(Event::Alert(alert)) => Saying::alert(alert),
            Some(Event::EngineProven(proven)) => Saying::engine_proven(proven),
            Some(Event::IncidentSnapshot(snapshot)) => Saying::incident_snapshot(snapshot),
            Some(Event::IncidentImpact(impact)) => Saying::incident_impact(impact),
            Some(event) => match Said::of(event) {
                Some(said) => Saying::waiver(&said),
                None => return,
            },
            None => return,
        };
        let identity = saying.identity();
        let before = self.unsaid.len();
        // What is said of a waiver or an incident is wholly derived, so it must be the same, and not only about the same.
        let is_derived = applied.event.as_ref().is_some_and(|event| {
            matches!(event, Event::IncidentSnapshot(_) | Event::IncidentImpact(_)) || Said::of(event).is_some()
        });
        let differs =
            is_derived && self.unsaid.iter().any(|(unsaid, derived)| *unsaid == identity && *derived != saying);
        self.unsaid.retain(|(unsaid, _)| *unsaid != identity);
        if differs || self.unsaid.len() == before {
            self.shared.status.integrity_alarms.fetch_add(1, Ordering::SeqCst);
            tracing::error!(
                position = applied.position,
                event_type = applied.about.event_type,
                "integrity.underived: an entry of the service that this node does not derive itself"
            );
        }
    }

    /// Checks a cut against the ledgers here and keeps what it brought to light.
    fn after_cut(&mut self, cut: &Cut, findings: Vec<Finding>) -> Result<(), SequencerError> {
        for listed in &cut.ledgers {
            if let Some(ledger) = self.metrics.get(&listed.ledger)
                && ledger.size() >= listed.size
                && ledger.root_at(listed.size).map_err(of("metrics"))? != listed.root
            {
                self.shared.status.integrity_alarms.fetch_add(1, Ordering::SeqCst);
                tracing::error!(ledger = listed.ledger, size = listed.size, instant = %cut.instant, "integrity.root: the cut names another root than this node's");
            }
        }
        let mut sayings = Vec::new();
        {
            let slo = self.shared.slo();
            for finding in findings {
                sayings.push(match finding {
                    Finding::Firing(draft) | Finding::Resolved(draft) => {
                        let mut alert = draft.alert;
                        alert.covered_by = slo
                            .waivers()
                            .covers(&alert.stack, &alert.engine_hash, alert.rule, cut.instant)
                            .map(str::to_owned);
                        Saying::alert(&alert)
                    }
                    Finding::Proven(proven) => Saying::engine_proven(&proven),
                    Finding::Waiver(said) => Saying::waiver(&said),
                    Finding::Impact(impact) => Saying::incident_impact(&impact),
                });
            }
        }
        for saying in sayings {
            self.owe(saying);
        }
        for (number, pending) in &mut self.pending {
            pending.release(cut.size_of(*number));
        }
        for state in self.shared.metrics_mut().values_mut() {
            state.forget_slots(cut.instant);
        }
        Ok(())
    }

    /// What was derived and is not yet in the ledger, sealed.
    pub fn unsaid(&self) -> Result<Vec<String>, SequencerError> {
        self.unsaid.iter().map(|(_, saying)| Ok(saying.seal(&self.shared.node_key())?)).collect()
    }

    /// Says what is unsaid, in this node's own order, and what that brings about (an alert opens an incident, which finds
    /// figures). For embedded mode; in Kafka mode it is produced.
    pub fn say_unsaid(&mut self) -> Result<(), SequencerError> {
        for _ in 0..SAYING_ROUNDS_MAX {
            let sayings: Vec<Saying> = self.unsaid.iter().map(|(_, saying)| saying.clone()).collect();
            if sayings.is_empty() {
                break;
            }
            self.say(&sayings, Time::default())?;
        }
        Ok(())
    }

    /// Appends sayings dated `time`, or like the entry before where that is later.
    pub fn say(&mut self, sayings: &[Saying], time: Time) -> Result<Vec<Outcome>, SequencerError> {
        let first = self.governance.size();
        let seal = |(index, saying): (u64, &Saying)| {
            Ok(Incoming {
                header: Header { serial: Some(first + index), ..Header::at(time) },
                body: saying.seal(&self.shared.node_key())?.into_bytes(),
            })
        };
        let items = (0..).zip(sayings).map(seal).collect::<Result<Vec<_>, SequencerError>>()?;
        self.append_governance(items)
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

    /// The saying that puts the configured `policy` in force, where it can still be the first one. From the first cut on, or
    /// once a policy is in force, two admins change it and the file is only compared.
    pub fn policy_saying(&self, policy: &Policy) -> Result<Option<Saying>, SequencerError> {
        let governance = self.shared.governance();
        if governance.rules_version() < RULES_TWO_PEOPLE {
            return older_policy_saying(&governance, policy);
        }
        if *policy == governance.policy || (policy.revision == 0 && *policy == Policy::default()) {
            return Ok(None);
        }
        if governance.is_before_first_policy() {
            return Ok(Some(Saying::policy_revised(policy)));
        }
        tracing::warn!(
            configured = policy.revision,
            in_force = governance.policy.revision,
            position = governance.policy_position,
            "policy.file_differs: the configured policy is not the one in force; two admins change it with `govledger policy propose` and `policy approve`"
        );
        Ok(None)
    }

    /// The same, sealed, for whoever produces it.
    pub fn policy_sealed(&self, policy: &Policy) -> Result<Option<String>, SequencerError> {
        self.policy_saying(policy)?.map(|saying| Ok(saying.seal(&self.shared.node_key())?)).transpose()
    }

    /// Latest time of a record or report; none while there was neither.
    pub fn last_activity(&self) -> Option<Time> {
        let records = self.shared.metrics().values().map(|state| state.last_time).max();
        records.into_iter().chain([self.shared.governance().last_report]).max().filter(|time| *time > Time::default())
    }

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
    fn records(&self) -> u64 {
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
}

fn is_key_rotation(applied: &Applied) -> bool {
    match &applied.event {
        Some(Event::Command(command)) if applied.verdict == Verdict::Admitted => {
            matches!(command.request, Request::NodeKeyRotate(_) | Request::LedgerKeyRotate(_))
        }
        _ => false,
    }
}

/// As a ledger of an older rules version has it: the higher revision wins.
fn older_policy_saying(governance: &Governance, policy: &Policy) -> Result<Option<Saying>, SequencerError> {
    match governance.policy_position {
        Some(position) if policy.revision == governance.policy.revision => {
            if *policy == governance.policy {
                Ok(None)
            } else {
                Err(SequencerError::PolicyConflict { revision: policy.revision, position })
            }
        }
        Some(_) if policy.revision < governance.policy.revision => {
            tracing::warn!(
                configured = policy.revision,
                in_force = governance.policy.revision,
                "policy.older: the configured policy is older than what is in force"
            );
            Ok(None)
        }
        None if policy.revision == 0 && *policy == Policy::default() => Ok(None),
        Some(_) | None => Ok(Some(Saying::policy_revised(policy))),
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

/// The last snapshot, where it fits all ledgers here.
fn usable_snapshot(cache: &Cache, governance: &Ledger, metrics: &BTreeMap<u32, Ledger>) -> Option<Snapshot> {
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

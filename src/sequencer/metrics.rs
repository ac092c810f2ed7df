//! The metrics hot path: lines framed, hashed and parsed ahead of the writer, and read back for the rules.
//!
//! A [`MetricsChunk`] is made on any thread; the writer only orders, appends and keeps its typed records until the cut that
//! takes them. Beyond a bound the records are dropped and read again from the ledger.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use ledger::EntrySource;
use serde::{Deserialize, Serialize};

use super::ahead::{Ahead, PART_ENTRIES};
use super::error::{SequencerError, of};
use super::files::LineRun;
use crate::domain::cut::CUT_SECONDS;
use crate::domain::envelope::hex;
use crate::domain::leaf::{self, Header, Oversize};
use crate::domain::metric::{self, Batch, Kind, MetricEvent, Observed, Sample, TimeFields};
use crate::domain::offsets::Offsets;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::report;
use crate::domain::time::Time;
use crate::projection::slo::{Records, RecordsError};

/// Typed records kept for the next cut, over all metrics ledgers: 64 bytes each.
const PENDING_SAMPLES_MAX: usize = 1_000_000;
/// Batches of so few records are kept as one: a batch of one record takes many times the memory of the record.
const SMALL_SAMPLES_MAX: usize = 1_024;
/// Bytes that header, LF and the longest body may not exceed.
const ENTRY_BYTES_MAX: usize = ledger::ENTRY_BYTES_MAX;

/// A run of metric records, ready to be appended.
#[derive(Debug, Default)]
pub struct MetricsChunk {
    pub(super) chunk: ledger::Chunk,
    pub(super) batch: Batch,
    pub(super) refusals: Vec<(u64, Refusal)>,
    pub(super) notices: u64,
    /// Offsets by index.
    pub(super) offsets: Vec<(u64, u64)>,
    pub(super) last_offset: Option<u64>,
    /// Runs of each file's lines; their positions are indexes.
    pub(super) files: Vec<(u64, LineRun)>,
    pub(super) last_time: Time,
    /// See [`MetricsState::slots`]; the position is an index.
    pub(super) slots: Vec<(Time, u64)>,
}

/// Makes chunks.
#[derive(Debug, Clone)]
pub struct Prepare {
    blobs: PathBuf,
    times: TimeFields,
}

impl Prepare {
    /// Large records go to `blobs`.
    pub const fn new(blobs: PathBuf, times: TimeFields) -> Self {
        Self { blobs, times }
    }

    /// Adds one record to `chunk` and says what it counts for by the rules of the moment.
    pub fn push(
        &self,
        chunk: &mut MetricsChunk,
        header: Header,
        body: &[u8],
    ) -> Result<Result<Kind, Refusal>, SequencerError> {
        self.add(chunk, header, body, report::text)
    }

    /// The same for a body that was found to be UTF-8 already, together with others.
    pub fn push_text(
        &self,
        chunk: &mut MetricsChunk,
        header: Header,
        body: &str,
    ) -> Result<Result<Kind, Refusal>, SequencerError> {
        self.add(chunk, header, body.as_bytes(), |_| Ok(body))
    }

    fn add<'a>(
        &self,
        chunk: &mut MetricsChunk,
        mut header: Header,
        body: &'a [u8],
        text: impl FnOnce(&'a [u8]) -> Result<&'a str, Refusal>,
    ) -> Result<Result<Kind, Refusal>, SequencerError> {
        let index = chunk.batch.len() as u64;
        let mut line = header.line();
        let large = line.len() + body.len() > ENTRY_BYTES_MAX;
        if large {
            header.oversize = Some(keep_large(&self.blobs, body)?);
            line = header.line();
        }
        let kept = if large { &[] } else { body };
        chunk.chunk.push_parts(&[&line, kept]).map_err(of("metrics"))?;
        chunk.see(index, &header);
        let judged = match (large, text(body)) {
            (true, _) => {
                chunk.batch.push_none();
                Err(too_large(body.len(), header.oversize.as_ref()))
            }
            (false, Err(refusal)) => {
                chunk.batch.push_none();
                Err(refusal)
            }
            (false, Ok(text)) => chunk.batch.push_line_with(text, &self.times),
        };
        match &judged {
            Ok(Kind::Notice) => chunk.notices += 1,
            Ok(Kind::Request | Kind::Scrape) => {}
            Err(refusal) => chunk.refusals.push((index, refusal.clone())),
        }
        Ok(judged)
    }
}

impl Prepare {
    /// Takes note of an entry that is in the ledger already.
    pub(super) fn review(&self, chunk: &mut MetricsChunk, entry: &[u8]) {
        let index = chunk.batch.len() as u64;
        let Ok(leaf) = leaf::split(entry) else {
            chunk.batch.push_none();
            chunk.refusals.push((index, Refusal::new(Code::MalformedJson, None, "no header line")));
            return;
        };
        chunk.see(index, &leaf.header);
        let judged = match (&leaf.header.oversize, report::text(leaf.body)) {
            (Some(oversize), _) => {
                chunk.batch.push_none();
                Err(too_large(usize::try_from(oversize.bytes).unwrap_or(usize::MAX), Some(oversize)))
            }
            (None, Err(refusal)) => {
                chunk.batch.push_none();
                Err(refusal)
            }
            (None, Ok(text)) => chunk.batch.push_line_with(text, &self.times),
        };
        match judged {
            Ok(Kind::Notice) => chunk.notices += 1,
            Ok(Kind::Request | Kind::Scrape) => {}
            Err(refusal) => chunk.refusals.push((index, refusal)),
        }
    }
}

/// Keeps a record too large for an entry beside the ledger, durably, and says where.
pub(super) fn keep_large(blobs: &std::path::Path, body: &[u8]) -> Result<Oversize, SequencerError> {
    let hash = ledger::blob::put(blobs, body).map_err(of("blobs"))?;
    Ok(Oversize { bytes: body.len() as u64, sha256: hex(&hash.0) })
}

fn too_large(bytes: usize, oversize: Option<&Oversize>) -> Refusal {
    let kept = oversize.map(|oversize| oversize.sha256.as_str()).unwrap_or_default();
    Refusal::new(
        Code::TooLarge,
        None,
        format!(
            "the record has {bytes} bytes, more than the {ENTRY_BYTES_MAX} of an entry; its bytes are kept as {kept}"
        ),
    )
}

impl MetricsChunk {
    /// An empty chunk with room for so many records of so many bytes in all, headers included.
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        Self { chunk: ledger::Chunk::with_capacity(records, bytes), ..Self::default() }
    }

    fn see(&mut self, index: u64, header: &Header) {
        if header.time > self.last_time {
            let slot = header.time.ceil_to_seconds(CUT_SECONDS);
            if slot > self.last_time.ceil_to_seconds(CUT_SECONDS) {
                self.slots.push((slot, index));
            }
            self.last_time = header.time;
        }
        if let Some(offset) = header.offset {
            if self.last_offset.is_none_or(|last| last + 1 != offset) {
                self.offsets.push((index, offset));
            }
            self.last_offset = Some(offset);
        }
        if let (Some(file), Some(line)) = (header.file, header.line) {
            let next = LineRun::at(line, index);
            match self.files.last_mut() {
                Some((last_file, run)) if *last_file == file && run.goes_on_with(&next) => run.absorb(&next),
                _ => self.files.push((file, next)),
            }
        }
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Bytes that it takes in the queue.
    pub fn bytes(&self) -> usize {
        self.chunk.bytes().len()
    }

    /// What was refused, by index.
    pub fn refusals(&self) -> &[(u64, Refusal)] {
        &self.refusals
    }
}

/// What is known of a metrics ledger beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsState {
    /// Entries seen, the first (settings) included.
    pub size: u64,
    /// Records refused.
    pub refused: u64,
    /// Refused records by code.
    pub refused_by_code: BTreeMap<Code, u64>,
    /// Notices of the provider's logger.
    pub notices: u64,
    /// Runs of refused positions, `from..to`.
    pub refused_runs: Vec<(u64, u64)>,
    /// Kafka offsets.
    pub offsets: Offsets,
    /// Latest entry time.
    pub last_time: Time,
    /// The ten seconds that entry times reached for the first time since the last cut, by their end, each with the position
    /// that did. Stamps need not rise; where they first pass an instant is found here all the same.
    pub(super) slots: Vec<(Time, u64)>,
}

impl MetricsState {
    pub(super) fn see_chunk(&mut self, first: u64, chunk: &MetricsChunk) {
        for (index, offset) in &chunk.offsets {
            self.offsets.see(first + index, *offset);
        }
        if chunk.last_offset.is_some() {
            self.offsets.last = chunk.last_offset;
        }
        let reached = self.last_time.ceil_to_seconds(CUT_SECONDS);
        let new = chunk.slots.iter().filter(|(slot, _)| *slot > reached);
        self.slots.extend(new.map(|(slot, index)| (*slot, first + index)));
        self.last_time = self.last_time.max(chunk.last_time);
        self.notices += chunk.notices;
        for (index, refusal) in &chunk.refusals {
            self.refuse(first + index, refusal.code);
        }
        self.size = first + chunk.len() as u64;
    }

    /// The position of the first entry stamped after `instant`, a cut's that is after the last one.
    pub fn first_after(&self, instant: Time) -> Option<u64> {
        let after = self.slots.partition_point(|(slot, _)| *slot <= instant);
        self.slots.get(after).map(|(_, position)| *position)
    }

    /// A cut was folded: what its instant covers is not asked about again.
    pub(super) fn forget_slots(&mut self, instant: Time) {
        let covered = self.slots.partition_point(|(slot, _)| *slot <= instant);
        self.slots.drain(..covered);
    }

    fn refuse(&mut self, position: u64, code: Code) {
        self.refused += 1;
        *self.refused_by_code.entry(code).or_default() += 1;
        match self.refused_runs.last_mut() {
            Some((_, to)) if *to == position => *to += 1,
            _ => self.refused_runs.push((position, position + 1)),
        }
    }
}

/// Why the record at a position of a metrics ledger counts for nothing; `None` where it counts.
pub fn judge(entry: &[u8], times: &TimeFields) -> Option<Refusal> {
    let leaf = match leaf::split(entry) {
        Ok(leaf) => leaf,
        Err(error) => return Some(Refusal::new(Code::MalformedJson, None, error.to_string())),
    };
    if let Some(oversize) = &leaf.header.oversize {
        return Some(too_large(usize::try_from(oversize.bytes).unwrap_or(usize::MAX), Some(oversize)));
    }
    report::text(leaf.body).and_then(|text| metric::parse_with(text, times).map(|_| ())).err()
}

/// Typed records that wait for the next cut of one ledger.
#[derive(Debug, Default)]
pub(super) struct Pending {
    batches: VecDeque<Batch>,
    samples: usize,
}

impl Pending {
    /// Takes the records of a batch, and the batch itself unless it is small.
    pub(super) fn push(&mut self, batch: &mut Batch) {
        self.samples += batch.len();
        match self.batches.back_mut() {
            Some(last)
                if last.len() + batch.len() <= SMALL_SAMPLES_MAX
                    && last.first_position + last.len() as u64 == batch.first_position =>
            {
                last.absorb(batch);
            }
            _ => self.batches.push_back(std::mem::take(batch)),
        }
        while self.samples > PENDING_SAMPLES_MAX {
            let Some(dropped) = self.batches.pop_front() else { break };
            self.samples -= dropped.len();
        }
    }

    /// Forgets what lies before `position`.
    pub(super) fn release(&mut self, position: u64) {
        while let Some(batch) =
            self.batches.front().filter(|batch| batch.first_position + batch.len() as u64 <= position)
        {
            self.samples -= batch.len();
            self.batches.pop_front();
        }
    }
}

/// Records read from the ledgers, the recent ones from memory.
pub(super) struct LedgerRecords<'a> {
    sources: BTreeMap<u32, &'a dyn EntrySource>,
    pending: Option<&'a BTreeMap<u32, Pending>>,
}

impl<'a> LedgerRecords<'a> {
    pub(super) fn new(sources: &BTreeMap<String, &'a dyn EntrySource>) -> Self {
        let sources = sources
            .iter()
            .filter_map(|(name, source)| super::metrics_number(name).map(|number| (number, *source)))
            .collect();
        Self { sources, pending: None }
    }

    pub(super) fn with_pending(
        sources: BTreeMap<u32, &'a dyn EntrySource>,
        pending: &'a BTreeMap<u32, Pending>,
    ) -> Self {
        Self { sources, pending: Some(pending) }
    }

    fn reread(&self, ledger: u32, from: u64, to: u64, visit: &mut dyn FnMut(Observed<'_>)) -> Result<(), RecordsError> {
        if from >= to {
            return Ok(());
        }
        let source = self.sources.get(&ledger).ok_or_else(|| format!("metrics-{ledger} is not at hand"))?;
        if to - from > PART_ENTRIES {
            return reread_ahead((&format!("metrics-{ledger}"), *source), from..to, visit);
        }
        source.for_each_entry(from..to, &mut |_, entry| {
            match event_in(entry) {
                Some(MetricEvent::Request(record)) => visit(Observed::Request(Sample::from(&record))),
                Some(MetricEvent::Scrape(scrape)) => visit(Observed::Scrape(&scrape)),
                Some(MetricEvent::Notice(_)) | None => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }
}

/// Reads many records again, on all cores.
fn reread_ahead(
    source: (&str, &dyn EntrySource),
    range: Range<u64>,
    visit: &mut dyn FnMut(Observed<'_>),
) -> Result<(), RecordsError> {
    std::thread::scope(|scope| {
        let see = |part: &mut Batch, entry: &[u8]| match event_in(entry) {
            Some(MetricEvent::Request(record)) => part.push(&record),
            Some(MetricEvent::Scrape(scrape)) => part.push_scrape(scrape),
            Some(MetricEvent::Notice(_)) | None => part.push_none(),
        };
        let mut ahead = Ahead::within(scope, source, range, see);
        while let Some((_, part)) = ahead.next()? {
            part.observed_between(0, u64::MAX).for_each(&mut *visit);
        }
        Ok(())
    })
}

/// What an entry says, where it says something.
fn event_in(entry: &[u8]) -> Option<MetricEvent<'_>> {
    metric::parse(report::text(leaf::body(entry)).ok()?).ok()
}

impl Records for LedgerRecords<'_> {
    fn for_each(
        &mut self,
        ledger: u32,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), RecordsError> {
        let batches = self.pending.and_then(|pending| pending.get(&ledger)).map(|pending| &pending.batches);
        let in_memory_from = batches.and_then(VecDeque::front).map_or(u64::MAX, |batch| batch.first_position);
        self.reread(ledger, from, to.min(in_memory_from), visit)?;
        let mut next = from.max(in_memory_from);
        for batch in batches.into_iter().flatten() {
            let end = batch.first_position + batch.len() as u64;
            if end <= from || batch.first_position >= to {
                continue;
            }
            // A hole between batches cannot be: each append pushes one. What is missing is read again all the same.
            self.reread(ledger, next, batch.first_position.min(to), visit)?;
            batch.observed_between(from, to).for_each(&mut *visit);
            next = end;
        }
        if next < to && next >= in_memory_from { self.reread(ledger, next, to, visit) } else { Ok(()) }
    }
}

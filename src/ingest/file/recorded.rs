//! History with its recorded times: the files of one command, merged by time, cut every ten seconds of their own time.
//!
//! Two passes over the files. The first only checks, so that a line which cannot be taken refuses the whole command before
//! anything is appended. The second appends, one step a cut; killed in between, a repeat compares and goes on, as long as nothing
//! of the present came first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::compare::Comparer;
use super::lines::{self, FileKind, Line, Lines, is_blank, recorded_time};
use super::{CHUNK_BYTES, FileIdentity, FileSource, IngestError, Report, known, number_of};
use crate::clock::monotonic;
use crate::domain::cut::{CUT_SECONDS, next_instant};
use crate::domain::leaf::{Header, Leaf};
use crate::domain::metric::TimeFields;
use crate::domain::report;
use crate::domain::time::Time;
use crate::sequencer::{BackfillStep, Handle, MetricsChunk, RecordedLine};

/// Lines checked before the writer is told again that a backfill is under way: some tenths of a second.
const LINES_PER_HOLD: u64 = 1 << 16;

/// One file under way.
struct Stream {
    source: FileSource,
    identity: FileIdentity,
    lines: Lines,
    comparer: Comparer,
    number: u64,
    /// The latest time so far; at first that of the first line which has one.
    time: Time,
    next: Option<Line>,
}

/// Takes whole files with the times that their lines state; `until` defaults to the present.
pub async fn ingest_recorded(
    handle: &Handle,
    files: Vec<FileSource>,
    until: Option<Time>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, IngestError> {
    if handle.is_kafka() {
        return Err(IngestError::RecordedNeedsEmbedded);
    }
    let began = monotonic();
    let until = until.unwrap_or_else(|| handle.now());
    // From here on nothing comes between: neither what the check has not seen, nor anything of the present amid the history.
    handle.backfill_begin().await?;
    let taken = take(handle, files, until, progress).await;
    handle.backfill_end();
    let mut report = taken?;
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

async fn take(
    handle: &Handle,
    files: Vec<FileSource>,
    until: Time,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, IngestError> {
    let total = files.iter().filter_map(|file| std::fs::metadata(&file.path).ok()).map(|metadata| metadata.len()).sum();
    let mut checked = Vec::new();
    for file in files {
        let identity = lines::identify(&file)?;
        refuse_twice(&checked, &file, &identity)?;
        let first = check(handle, &file, &identity, until).await?;
        checked.push((file, identity, first));
    }
    let (mut streams, mut numbered) = (Vec::new(), Vec::new());
    for (source, identity, first) in checked {
        let number = number_of(handle, &identity, Time::default()).await?;
        numbered.push((source, identity, first, number));
    }
    // In the order of the numbers, so that two that wait for each other cannot be.
    let mut turns = Vec::new();
    for number in numbered.iter().map(|(.., number)| *number).collect::<BTreeSet<_>>() {
        turns.push(handle.file_turn(number).await);
    }
    for (source, identity, first, number) in numbered {
        let comparer = Comparer::new(handle, &identity, number).await?;
        let lines = Lines::open(&source)?;
        streams.push(Stream { source, identity, lines, comparer, number, time: first, next: None });
    }
    let mut backfill = Backfill::new(handle, total, progress);
    backfill.run(streams).await?;
    drop(turns);
    Ok(backfill.report)
}

/// A file beside a copy or an older part of itself: each line would be taken twice, since neither is there to compare with.
fn refuse_twice(
    checked: &[(FileSource, FileIdentity, Time)],
    file: &FileSource,
    identity: &FileIdentity,
) -> Result<(), IngestError> {
    let is_same =
        |other: &FileIdentity| other.kind == identity.kind && other.first_line_sha256 == identity.first_line_sha256;
    match checked.iter().find(|(_, other, _)| is_same(other)) {
        Some((other, ..)) => Err(IngestError::GivenTwice { name: file.name.clone(), other: other.name.clone() }),
        None => Ok(()),
    }
}

/// Checks every line that would be new. Returns the first time that the file states.
async fn check(handle: &Handle, file: &FileSource, identity: &FileIdentity, until: Time) -> Result<Time, IngestError> {
    let (last_cut, last_entry) = {
        let governance = handle.shared().governance();
        (governance.last_cut.as_ref().map(|cut| cut.instant), governance.time)
    };
    let mut comparer = match known(handle, identity) {
        Ok(number) => Some(Comparer::new(handle, identity, number).await?),
        Err(_) => None,
    };
    let mut lines = Lines::open(file)?;
    let (mut first, mut latest) = (None, Time::from_micros(i64::MIN));
    while let Some(line) = lines.line()? {
        if line.number % LINES_PER_HOLD == 1 {
            handle.backfill_begin().await?;
        }
        if is_blank(&line.bytes) {
            continue;
        }
        let own = recorded_time(identity.kind, &line.bytes, handle.times());
        first = first.or(own);
        latest = own.map_or(latest, |own| own.max(latest));
        if let Some(comparer) = &mut comparer
            && comparer.has(line.number, &line.bytes)?
        {
            continue;
        }
        if first.is_none() {
            continue;
        }
        let name = || file.name.clone();
        if latest > until {
            return Err(IngestError::AfterUntil { name: name(), line: line.number, time: latest, until });
        }
        let behind_cut = last_cut.filter(|last_cut| latest <= *last_cut);
        if (behind_cut.is_none() && latest >= last_entry) || is_known(handle, identity.kind, &line.bytes) {
            continue;
        }
        return Err(match behind_cut {
            Some(last_cut) => IngestError::BehindCut { name: name(), line: line.number, time: latest, last_cut },
            // Entries' times do not fall: what follows a later entry would be stamped, and judged, as of that one.
            None => IngestError::BehindEntry { name: name(), line: line.number, time: latest, last_entry },
        });
    }
    first.ok_or_else(|| IngestError::NoTime { name: file.name.clone() })
}

/// Whether a governance line is here already by its id: then its time does not matter.
fn is_known(handle: &Handle, kind: FileKind, line: &[u8]) -> bool {
    kind == FileKind::Governance
        && report::read(&Leaf { header: Header::default(), body: line })
            .is_ok_and(|report| handle.shared().is_claimed(&report.identity))
}

impl Stream {
    /// Reads up to the next line that is new. Those that are here count as duplicates.
    fn advance(&mut self, times: &TimeFields, report: &mut Report, done: &mut u64) -> Result<(), IngestError> {
        self.next = None;
        while let Some(line) = self.lines.line()? {
            *done += line.bytes.len() as u64 + 1;
            if is_blank(&line.bytes) {
                continue;
            }
            report.read += 1;
            self.time =
                recorded_time(self.identity.kind, &line.bytes, times).map_or(self.time, |own| own.max(self.time));
            if self.comparer.has(line.number, &line.bytes)? {
                report.duplicates += 1;
                continue;
            }
            self.next = Some(line);
            return Ok(());
        }
        Ok(())
    }
}

struct Backfill<'a> {
    handle: &'a Handle,
    progress: &'a (dyn Fn(u64, u64) + Sync),
    total: u64,
    done: u64,
    report: Report,
    step: BackfillStep,
    chunk: MetricsChunk,
}

impl<'a> Backfill<'a> {
    fn new(handle: &'a Handle, total: u64, progress: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        Self {
            handle,
            progress,
            total,
            done: 0,
            report: Report::default(),
            step: BackfillStep::default(),
            chunk: MetricsChunk::default(),
        }
    }

    async fn run(&mut self, mut streams: Vec<Stream>) -> Result<(), IngestError> {
        let times = self.handle.times().clone();
        let prepare = self.handle.prepare();
        let mut heap = BinaryHeap::new();
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.advance(&times, &mut self.report, &mut self.done)?;
            if stream.next.is_some() {
                heap.push(Reverse((stream.time, index)));
            }
        }
        let mut next_cut = None;
        let mut last = None;
        while let Some(Reverse((time, index))) = heap.pop() {
            let mut cut = next_cut.unwrap_or_else(|| self.first_cut(time));
            while cut < time {
                self.flush(Some(cut)).await?;
                cut = next_instant(cut, last.unwrap_or(time));
            }
            // A line in a quiet stretch: cuts come every ten seconds again from here.
            next_cut = Some(cut.min(time.ceil_to_seconds(CUT_SECONDS)));
            last = Some(last.map_or(time, |last: Time| last.max(time)));
            let stream = &mut streams[index];
            if let Some(line) = stream.next.take() {
                let header = Header { file: Some(stream.number), line: Some(line.number), ..Header::at(time) };
                self.take(&prepare, stream.identity.kind, header, line.bytes)?;
            }
            if self.chunk.bytes() >= CHUNK_BYTES {
                self.flush(None).await?;
            }
            stream.advance(&times, &mut self.report, &mut self.done)?;
            if stream.next.is_some() {
                heap.push(Reverse((stream.time, index)));
            }
        }
        if let (Some(mut cut), Some(last)) = (next_cut, last) {
            let end = last.ceil_to_seconds(CUT_SECONDS);
            while cut < end {
                self.flush(Some(cut)).await?;
                cut = next_instant(cut, last);
            }
            self.flush(Some(cut)).await?;
        }
        (self.progress)(self.total, self.total);
        tracing::debug!(files = ?streams.iter().map(|stream| &stream.source.name).collect::<Vec<_>>(), "backfill.done");
        Ok(())
    }

    /// The instant of the first cut: after the last one here, else the first not before the first line.
    fn first_cut(&self, time: Time) -> Time {
        let governance = self.handle.shared().governance();
        let after_last =
            governance.last_cut.as_ref().map(|cut| next_instant(cut.instant, cut.instant.max(governance.last_report)));
        after_last.unwrap_or_else(|| time.ceil_to_seconds(CUT_SECONDS))
    }

    fn take(
        &mut self,
        prepare: &crate::sequencer::Prepare,
        kind: FileKind,
        header: Header,
        body: Vec<u8>,
    ) -> Result<(), IngestError> {
        match kind {
            FileKind::Governance => self.step.governance.push(RecordedLine { header, body }),
            FileKind::Metrics => match prepare.push(&mut self.chunk, header, &body)? {
                Ok(_) => self.report.admitted += 1,
                Err(_) => self.report.rejected += 1,
            },
        }
        Ok(())
    }

    /// Hands over what came so far, with the cut that ends it.
    async fn flush(&mut self, cut: Option<Time>) -> Result<(), IngestError> {
        let mut step = std::mem::take(&mut self.step);
        let chunk = std::mem::take(&mut self.chunk);
        if !chunk.is_empty() {
            step.metrics.push(chunk);
        }
        step.cut = cut;
        for verdict in self.handle.backfill(step).await? {
            self.report.count(&verdict);
        }
        (self.progress)(self.done, self.total);
        Ok(())
    }
}

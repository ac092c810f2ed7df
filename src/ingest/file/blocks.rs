//! The fast way for a file of provider logs: blocks of lines are parsed, framed and hashed on all cores, the writer syncs
//! meanwhile, and everything keeps the order of the file.
//!
//! In scope: lines that the ledger does not have yet. Out of scope: telling those (the caller compares the others).
//!
//! Bounds: one block more than there are workers is being prepared, and [`QUEUED_MAX`] wait for the disk.

use std::collections::VecDeque;

use tokio::task::JoinHandle;

use super::lines::{self, Block};
use super::{HEADER_BYTES, IngestError, Report};
use crate::domain::leaf::Header;
use crate::sequencer::{Handle, MetricsChunk, Prepare, Queued, SequencerError, SubmitError};

/// Bytes of a block: large enough that handing it over costs nothing, small enough to stay in a core's cache.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// Blocks handed to the writer and not yet durable.
const QUEUED_MAX: usize = 24;

type Prepared = Result<(MetricsChunk, Report), SequencerError>;

/// Blocks under way, in the order of the file.
pub(super) struct Blocks<'a> {
    handle: &'a Handle,
    file: u64,
    workers: usize,
    preparing: VecDeque<JoinHandle<Prepared>>,
    queued: VecDeque<Queued>,
    report: Report,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(handle: &'a Handle, file: u64) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (preparing, queued) = (VecDeque::new(), VecDeque::new());
        Self { handle, file, workers, preparing, queued, report: Report::default() }
    }

    /// Takes a block of new lines, of which the first has the number `from_line`.
    pub(super) async fn push(&mut self, from_line: u64, block: Block) -> Result<(), IngestError> {
        if self.preparing.len() > self.workers {
            self.hand_over().await?;
        }
        let (prepare, header) =
            (self.handle.prepare(), Header { file: Some(self.file), ..Header::at(self.handle.now()) });
        self.preparing.push_back(tokio::task::spawn_blocking(move || make(&prepare, &header, from_line, &block)));
        Ok(())
    }

    /// Waits until everything is durable.
    pub(super) async fn finish(mut self) -> Result<Report, IngestError> {
        while !self.preparing.is_empty() {
            self.hand_over().await?;
        }
        for queued in self.queued {
            queued.durable().await?;
        }
        Ok(self.report)
    }

    /// Hands the oldest block to the writer.
    async fn hand_over(&mut self) -> Result<(), IngestError> {
        let Some(oldest) = self.preparing.pop_front() else { return Ok(()) };
        let (chunk, report) =
            oldest.await.map_err(|error| SubmitError::Stopped(format!("a worker ended: {error}")))??;
        self.report.add(&report);
        if chunk.is_empty() {
            return Ok(());
        }
        if self.queued.len() >= QUEUED_MAX
            && let Some(first) = self.queued.pop_front()
        {
            first.durable().await?;
        }
        self.queued.push_back(self.handle.queue_metrics_waiting(0, chunk).await?);
        Ok(())
    }
}

/// Makes a chunk of a block. UTF-8 is checked once for all lines; only where it fails, line by line.
fn make(prepare: &Prepare, header: &Header, from_line: u64, block: &Block) -> Prepared {
    let lines = usize::try_from(block.lines).unwrap_or_default();
    let mut chunk = MetricsChunk::with_capacity(lines, block.bytes.len() + lines * HEADER_BYTES);
    let mut report = Report::default();
    let text = std::str::from_utf8(&block.bytes).ok();
    let mut start = 0;
    for (line, end) in (from_line..).zip(memchr::memchr_iter(b'\n', &block.bytes)) {
        let range = start..end;
        start = end + 1;
        let body = &block.bytes[range.clone()];
        if lines::is_blank(body) {
            continue;
        }
        report.read += 1;
        let header = Header { line: Some(line), ..header.clone() };
        let judged = match text.and_then(|text| text.get(range)) {
            Some(text) => prepare.push_text(&mut chunk, header, text)?,
            None => prepare.push(&mut chunk, header, body)?,
        };
        match judged {
            Ok(_) => report.admitted += 1,
            Err(_) => report.rejected += 1,
        }
    }
    Ok((chunk, report))
}

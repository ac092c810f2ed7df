//! Records of one partition on their way to the writer: several blocks at once, in the order of their offsets.
//!
//! A block is parsed, framed and hashed on a worker while the partition's thread collects the next one and the writer syncs
//! those before. Each block waits for the one before it to be queued; where that one failed, so do all after it. So what a
//! crash or an error leaves is a prefix, whichever worker was first.
//!
//! Bounds: [`IN_FLIGHT_BYTES_MAX`] and [`IN_FLIGHT_MAX`] a partition, and as many workers as there are cores for all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::progress::Progress;
use crate::domain::leaf::Header;
use crate::sequencer::{Handle, MetricsChunk, Prepare, SequencerError, SubmitError};

/// Bytes handed over and not yet durable, for each partition: a few syncs' worth.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// Blocks handed over and not yet durable: small ones cost more than their bytes.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes that a header adds to a record, about.
const HEADER_BYTES: usize = 48;

/// Records as they came.
#[derive(Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// Each header, and where its body ends.
    records: Vec<(Header, usize)>,
}

impl Block {
    pub(super) fn push(&mut self, header: Header, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.records.push((header, self.bytes.len()));
    }

    /// Parses, frames and hashes. UTF-8 is checked once for all records; only where it fails, one by one.
    fn prepare(self, prepare: &Prepare) -> Result<MetricsChunk, SequencerError> {
        let count = self.records.len();
        let mut chunk = MetricsChunk::with_capacity(count, self.bytes.len() + count * HEADER_BYTES);
        let text = std::str::from_utf8(&self.bytes).ok();
        let mut start = 0;
        for (header, end) in self.records {
            let range = start..end;
            start = end;
            // What a record counts for is said by the fold. A record that ends amid a character is none of the text's ranges.
            let _ = match text.and_then(|text| text.get(range.clone())) {
                Some(text) => prepare.push_text(&mut chunk, header, text)?,
                None => prepare.push(&mut chunk, header, &self.bytes[range])?,
            };
        }
        Ok(chunk)
    }
}

/// What was handed over and is not known to be durable.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    tasks: VecDeque<(JoinHandle<Result<(), SubmitError>>, usize)>,
    bytes: usize,
}

impl InFlight {
    /// Adds a task that ends when its records are durable.
    pub(super) fn push(&mut self, task: JoinHandle<Result<(), SubmitError>>, bytes: usize) {
        self.tasks.push_back((task, bytes));
        self.bytes += bytes;
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<JoinHandle<Result<(), SubmitError>>> {
        let (task, bytes) = self.tasks.pop_front()?;
        self.bytes -= bytes;
        Some(task)
    }

    /// Whether the oldest has ended.
    pub(super) fn is_oldest_over(&self) -> bool {
        self.tasks.front().is_some_and(|(task, _)| task.is_finished())
    }

    /// Whether no more may be handed over.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= IN_FLIGHT_BYTES_MAX || self.tasks.len() >= IN_FLIGHT_MAX
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// Hands blocks to the writer, each after the one before.
#[derive(Debug)]
pub(super) struct Blocks {
    handle: Handle,
    ledger: u32,
    progress: Arc<Progress>,
    workers: Arc<Semaphore>,
    /// The last block was queued.
    turn: oneshot::Receiver<()>,
}

impl Blocks {
    pub(super) fn new(handle: Handle, ledger: u32, progress: Arc<Progress>, workers: Arc<Semaphore>) -> Self {
        Self { handle, ledger, progress, workers, turn: passed() }
    }

    /// A task that ends when the block's records, of which the last has the offset before `next`, are durable.
    pub(super) fn hand_over(
        &mut self,
        runtime: &runtime::Handle,
        block: Block,
        next: u64,
    ) -> JoinHandle<Result<(), SubmitError>> {
        let (pass, turn) = oneshot::channel();
        let before = std::mem::replace(&mut self.turn, turn);
        let (handle, progress, workers) = (self.handle.clone(), Arc::clone(&self.progress), Arc::clone(&self.workers));
        let (ledger, prepare) = (self.ledger, self.handle.prepare());
        runtime.spawn(async move {
            let stopped = |reason: &dyn std::fmt::Display| SubmitError::Stopped(reason.to_string());
            let worker = workers.acquire_owned().await.map_err(|closed| stopped(&closed))?;
            let prepared = tokio::task::spawn_blocking(move || {
                let chunk = block.prepare(&prepare);
                drop(worker);
                chunk
            });
            let chunk = prepared.await.map_err(|error| stopped(&error))?.map_err(Arc::new)?;
            before.await.map_err(|_dropped| stopped(&"the records before these were not taken"))?;
            let queued = handle.queue_metrics_waiting(ledger, chunk).await?;
            // Whoever waits for its turn may have gone: nothing comes after this block then.
            let _ = pass.send(());
            queued.durable().await?;
            progress.appended(next, handle.now());
            Ok(())
        })
    }
}

/// The turn of the first block.
fn passed() -> oneshot::Receiver<()> {
    let (pass, turn) = oneshot::channel();
    // The receiver is right here.
    let _ = pass.send(());
    turn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::metric::TimeFields;
    use crate::domain::time::Time;

    fn header(offset: u64) -> Header {
        Header { offset: Some(offset), ..Header::at(Time::from_seconds(5)) }
    }

    /// The bodies, made one by one and as a block.
    fn check(bodies: &[&[u8]]) -> MetricsChunk {
        let prepare = Prepare::new("/nonexistent".into(), TimeFields::default());
        let (mut block, mut expected) = (Block::default(), MetricsChunk::default());
        for (offset, body) in (0..).zip(bodies) {
            block.push(header(offset), body);
            let _ = prepare.push(&mut expected, header(offset), body).unwrap();
        }
        let chunk = block.prepare(&prepare).unwrap();
        assert_eq!(format!("{chunk:?}"), format!("{expected:?}"));
        chunk
    }

    #[test]
    fn a_block_is_what_its_records_are_one_by_one() {
        let line = r#"{"event":"llm.request","model":"m","engine_hash":"e","duration_ms":1.5,"operation":"ä"}"#;
        check(&[line.as_bytes(), b"", b"{}", line.as_bytes()]);
        // Bytes that are text only together, as one record's end and the next one's beginning.
        let (before, after) = "ä".as_bytes().split_at(1);
        let chunk = check(&[before, after, line.as_bytes()]);
        assert_eq!((chunk.len(), chunk.refusals().len()), (3, 2));
        check(&[b"\xff\xfe", line.as_bytes()]);
    }

    #[test]
    fn in_flight_is_bounded_by_bytes_and_by_number() {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        let task = || runtime.spawn(async { Ok(()) });
        let mut in_flight = InFlight::default();
        in_flight.push(task(), IN_FLIGHT_BYTES_MAX - 1);
        assert!(!in_flight.is_full());
        in_flight.push(task(), 1);
        assert!(in_flight.is_full());
        assert!(in_flight.pop().is_some() && !in_flight.is_full());
        (0..IN_FLIGHT_MAX).for_each(|_| in_flight.push(task(), 0));
        assert!(in_flight.is_full());
        while in_flight.pop().is_some() {}
        assert!(in_flight.is_empty() && !in_flight.is_full());
    }
}

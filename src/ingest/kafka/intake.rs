//! One partition into one ledger: a thread that asks the broker, and hands batches to the writer.
//!
//! Invariants: every record becomes one leaf, in offset order; a batch is queued only after the one before it, so what a
//! crash leaves is a prefix; the position is the ledger's own. While the writer is busy the partition is paused, so memory
//! stays at the batches in flight (see [`super::block`]), the one being collected, and what the client fetched ahead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Part;
use super::block::{Block, Blocks, InFlight};
use super::client::{self, Consumer};
use super::config::KafkaConfig;
use super::cursor::Cursor;
use super::error::{KafkaIntakeError, doing};
use super::progress::{End, Progress};
use super::record;
use super::source::{Found, Place};
use crate::clock::monotonic;
use crate::sequencer::{Handle, Incoming, SubmitError};

/// How long a poll waits for a first record: bounds how late a stop or a pause is seen.
const POLL: Duration = Duration::from_millis(100);
/// How often the partition's end is asked for.
const END_EVERY: Duration = Duration::from_secs(1);
/// How often the position is committed, for whoever displays lags.
const COMMIT_EVERY: Duration = Duration::from_secs(5);
/// A batch that the writer has not taken after this long pauses the partition.
const PAUSE_AFTER: Duration = Duration::from_millis(200);
/// Pause before the broker is asked again after an error.
const RETRY: Duration = Duration::from_millis(500);
/// A client that has brought nothing for so long, where there is something, is replaced: after a restart of the broker one partition of
/// many was read no more, at the first offset of the new leader, and no error was reported (docs/RELIABILITY.md).
const STALLED_AFTER: Duration = Duration::from_secs(20);
/// Where the next client brings nothing either it is given longer, up to this: what is there may be of no use to anybody (aborted
/// transactions under `read_committed`).
const STALLED_AFTER_MAX: Duration = Duration::from_mins(10);
/// Longest single wait for the broker while others may want this thread to stop.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// What the records of a partition become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Governance,
    Metrics(u32),
}

/// One partition's intake.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) place: Place,
    pub(super) target: Target,
    pub(super) handle: Handle,
    pub(super) config: KafkaConfig,
    pub(super) part: Part,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) runtime: runtime::Handle,
    /// Bounds the blocks that are parsed at once, for all partitions.
    pub(super) workers: Arc<Semaphore>,
}

/// Records ready to be handed over.
enum Batch {
    Events(Vec<Incoming>),
    Records(Block),
}

/// A batch, its bytes, and the offset after it.
struct Collected {
    batch: Batch,
    bytes: usize,
    next: u64,
}

/// While a partition is read.
struct Reading {
    consumer: Consumer,
    /// Where metrics go.
    blocks: Option<Blocks>,
    /// What is expected next.
    cursor: Cursor,
    in_flight: InFlight,
    end_asked: Option<Instant>,
    /// When the broker last gave the end.
    end_given: Instant,
    /// When something last came or was under way, or nothing was there to come.
    moved: Instant,
    /// How long the client may bring nothing.
    patience: Duration,
    /// Where it was last.
    position: Option<u64>,
    committed: (Instant, u64),
}

impl Intake {
    /// Reads until it is told to stop. What stops the intake is shown in the status and looked at again.
    pub(super) fn run(self) {
        let (mut patience, mut stalled_at) = (STALLED_AFTER, None);
        while !self.is_stopping() {
            match self.open() {
                Ok(Found::Ready { next, hole }) => {
                    self.goes_on();
                    if stalled_at != Some(next) {
                        patience = STALLED_AFTER;
                    }
                    if let Err(error) = self.read(next, hole, patience) {
                        if matches!(error, KafkaIntakeError::Stalled { is_more: true, .. })
                            && stalled_at.replace(next) == Some(next)
                        {
                            patience = (patience * 2).min(STALLED_AFTER_MAX);
                        }
                        tracing::warn!(ledger = self.ledger(), %error, "kafka.intake_interrupted: the source is checked again");
                        if matches!(error, KafkaIntakeError::Writer(SubmitError::Stopped(_) | SubmitError::Sequencer(_))) {
                            self.stopped(format!("the writer has stopped: {error}"));
                            return;
                        }
                    }
                }
                Ok(Found::Hole { from, to }) => {
                    self.stopped(format!(
                        "offsets {from} to {to} of {}, partition {}, are no longer at the broker and were never read. Accept the loss with: govledger confirm-hole {} --from {from} --to {to} --reason TEXT",
                        self.place.topic,
                        self.place.partition,
                        self.ledger()
                    ));
                }
                Ok(Found::Other(reason)) => self.stopped(format!(
                    "{}, partition {}: {reason}. This ledger goes on with the topic it was made from alone; for another, start a new data directory with `govledger init`",
                    self.place.topic, self.place.partition
                )),
                Err(error) => {
                    tracing::warn!(ledger = self.ledger(), %error, "kafka.unreachable: trying again");
                }
            }
            self.rest(RETRY);
        }
    }

    fn ledger(&self) -> String {
        match self.target {
            Target::Governance => "governance".to_owned(),
            Target::Metrics(number) => format!("metrics-{number}"),
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn rest(&self, time: Duration) {
        let began = monotonic();
        while began.elapsed() < time && !self.is_stopping() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn request_limit(&self) -> Duration {
        self.config.request_timeout().min(REQUEST_MAX)
    }

    fn stopped(&self, reason: String) {
        let mut stopped = self.handle.shared().status.stopped_intakes.lock().unwrap_or_else(PoisonError::into_inner);
        if stopped.get(&self.ledger()) != Some(&reason) {
            tracing::error!(ledger = self.ledger(), reason, "kafka.intake_stopped");
            stopped.insert(self.ledger(), reason);
        }
    }

    fn goes_on(&self) {
        let mut stopped = self.handle.shared().status.stopped_intakes.lock().unwrap_or_else(PoisonError::into_inner);
        if stopped.remove(&self.ledger()).is_some() {
            tracing::info!(ledger = self.ledger(), "kafka.intake_resumed");
        }
    }

    /// The last offset that the ledger holds.
    fn last_offset(&self) -> Option<u64> {
        match self.target {
            Target::Governance => self.handle.shared().governance().offsets.last,
            Target::Metrics(number) => self.handle.shared().metrics().get(&number).and_then(|state| state.offsets.last),
        }
    }

    /// Where that offset lies: at the end, but for what a shadow said after it.
    fn position_of(&self, offset: u64, size: u64) -> u64 {
        let at = match self.target {
            Target::Governance => self.handle.shared().governance().offsets.position_of(offset, size),
            Target::Metrics(_) => None,
        };
        at.unwrap_or(size.saturating_sub(1))
    }

    /// Checks the source. Only called while nothing is in flight.
    fn open(&self) -> Result<Found, KafkaIntakeError> {
        let consumer = self.consumer()?;
        let ledger = self.ledger();
        let last = match (self.last_offset(), self.handle.shared().reader(&ledger)) {
            (Some(offset), Some(reader)) => {
                let position = self.position_of(offset, reader.size());
                let entry = reader
                    .entry(position)
                    .map_err(|source| KafkaIntakeError::Ledger { ledger: ledger.clone(), source })?;
                Some((offset, entry))
            }
            _ => None,
        };
        let confirmed = match self.part {
            // It joins topics whose beginning has expired, and nobody can decide anything there: the next leaf says what is missing.
            Part::Shadow => vec![(0, u64::MAX, 0)],
            Part::Full | Part::Follower => {
                self.handle.shared().governance().holes.get(&ledger).cloned().unwrap_or_default()
            }
        };
        self.place.examine(&consumer, last, &confirmed, self.config.request_timeout())
    }

    /// A consumer for one assignment. A second assignment on the same client can meet the stop of the first half done, where
    /// librdkafka asserts (`rd_kafka_assignment_partition_stopped`) and takes the process with it.
    fn consumer(&self) -> Result<Consumer, KafkaIntakeError> {
        client::consumer(&self.config, self.handle.data_dir().node())
    }

    fn read(&self, next: u64, hole: Option<(u64, u64)>, patience: Duration) -> Result<(), KafkaIntakeError> {
        let consumer = self.consumer()?;
        self.place.assign(&consumer, next)?;
        self.passed(next);
        let mut reading = Reading {
            consumer,
            blocks: self.blocks(),
            cursor: Cursor::at(next, hole),
            in_flight: InFlight::default(),
            end_asked: None,
            end_given: monotonic(),
            moved: monotonic(),
            patience,
            position: None,
            committed: (monotonic(), 0),
        };
        let result = self.read_on(&mut reading);
        // Whatever ended the reading: the position is known only once the last batch has ended too.
        let settled = self.settle(&mut reading);
        self.commit(&mut reading, CommitMode::Async);
        result.and(settled)
    }

    fn blocks(&self) -> Option<Blocks> {
        let Target::Metrics(number) = self.target else { return None };
        Some(Blocks::new(self.handle.clone(), number, Arc::clone(&self.progress), Arc::clone(&self.workers)))
    }

    fn read_on(&self, reading: &mut Reading) -> Result<(), KafkaIntakeError> {
        while !self.is_stopping() {
            self.ask_end(reading);
            if let Target::Metrics(number) = self.target
                && self.config.is_paused(number)
            {
                self.settle(reading)?;
                self.hold(reading, number)?;
                reading.moved = monotonic();
                continue;
            }
            let collected = self.collect(reading)?;
            while reading.in_flight.is_oldest_over() {
                self.settle_oldest(reading)?;
            }
            if let Some(collected) = collected {
                self.hand_over(reading, collected)?;
                (reading.moved, reading.patience) = (monotonic(), STALLED_AFTER);
            } else if !reading.in_flight.is_empty() {
                reading.moved = monotonic();
            } else {
                let position = self.position(reading);
                if let Some(position) = position {
                    self.passed(position);
                }
                self.check_fetching(reading, position)?;
                if reading.committed.0.elapsed() >= COMMIT_EVERY {
                    self.commit(reading, CommitMode::Async);
                }
            }
        }
        Ok(())
    }

    /// An error where the client, now at `position`, has got on by nothing for too long, and this is not known to be the end.
    fn check_fetching(&self, reading: &mut Reading, position: Option<u64>) -> Result<(), KafkaIntakeError> {
        let next = self.progress.next();
        let is_end_known = reading.end_given.elapsed() < reading.patience;
        let is_more = self.progress.end().is_none_or(|end| end.offset > next);
        if position > reading.position || (is_end_known && !is_more) {
            reading.moved = monotonic();
        }
        reading.position = position;
        if reading.moved.elapsed() < reading.patience {
            return Ok(());
        }
        Err(KafkaIntakeError::Stalled { next, seconds: reading.patience.as_secs(), is_more: is_end_known && is_more })
    }

    /// Takes what is there, up to a batch; waits a moment where nothing is.
    fn collect(&self, reading: &mut Reading) -> Result<Option<Collected>, KafkaIntakeError> {
        let (mut events, mut block) = (Vec::new(), Block::default());
        let (mut records, mut bytes) = (0, 0);
        let mut cursor = reading.cursor;
        while records < self.config.batch_records_max && bytes < self.config.batch_bytes_max {
            let wait = if records == 0 { POLL } else { Duration::ZERO };
            let message = match reading.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(error)) if ends_reading(&error) => {
                    return Err(KafkaIntakeError::Client { doing: "records", source: error });
                }
                Some(Err(error)) => {
                    tracing::debug!(ledger = self.ledger(), %error, "kafka.poll");
                    break;
                }
            };
            let offset = u64::try_from(message.offset()).unwrap_or_default();
            let mut header = record::header_of(&message, offset);
            cursor.pass(&mut header, offset);
            let body = message.payload().unwrap_or_default();
            match self.target {
                Target::Governance => events.push(Incoming { header, body: body.to_vec() }),
                Target::Metrics(_) => block.push(header, body),
            }
            records += 1;
            bytes += body.len() + 64;
        }
        if records == 0 {
            return Ok(None);
        }
        reading.cursor = cursor;
        let batch = match self.target {
            Target::Governance => Batch::Events(events),
            Target::Metrics(_) => Batch::Records(block),
        };
        Ok(Some(Collected { batch, bytes, next: cursor.next() }))
    }

    /// Gives a batch to the writer, as soon as there is room for it.
    fn hand_over(&self, reading: &mut Reading, collected: Collected) -> Result<(), KafkaIntakeError> {
        let Collected { batch, bytes, next } = collected;
        let task = match (batch, &mut reading.blocks) {
            (Batch::Records(block), Some(blocks)) => {
                let task = blocks.hand_over(&self.runtime, block, next);
                reading.in_flight.push(task, bytes);
                while reading.in_flight.is_full() {
                    self.settle_oldest(reading)?;
                }
                return Ok(());
            }
            (Batch::Records(_), None) => return Ok(()),
            (Batch::Events(events), _) => {
                // One at a time: a batch that found the queue full is handed in again, and none may overtake it.
                self.settle(reading)?;
                self.append_events(events, next)
            }
        };
        reading.in_flight.push(task, bytes);
        Ok(())
    }

    fn append_events(&self, events: Vec<Incoming>, next: u64) -> JoinHandle<Result<(), SubmitError>> {
        let (handle, progress) = (self.handle.clone(), Arc::clone(&self.progress));
        self.runtime.spawn(async move {
            loop {
                match handle.append_events(events.clone()).await {
                    Err(SubmitError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => break other.map(|_| ())?,
                }
            }
            progress.appended(next, handle.now());
            Ok(())
        })
    }

    /// Waits for everything in flight.
    fn settle(&self, reading: &mut Reading) -> Result<(), KafkaIntakeError> {
        let mut result = Ok(());
        while !reading.in_flight.is_empty() {
            // All of them, even after one that failed: the position is known only once nothing is under way.
            result = result.and(self.settle_oldest(reading));
        }
        result
    }

    /// Waits for the oldest batch in flight; a writer that takes long pauses the partition.
    fn settle_oldest(&self, reading: &mut Reading) -> Result<(), KafkaIntakeError> {
        let Some(mut task) = reading.in_flight.pop() else { return Ok(()) };
        let early = self.runtime.block_on(async { tokio::time::timeout(PAUSE_AFTER, &mut task).await });
        let ended = if let Ok(ended) = early {
            ended
        } else {
            let list = self.assigned(None)?;
            reading.consumer.pause(&list).map_err(doing("a pause"))?;
            tracing::info!(ledger = self.ledger(), "kafka.paused: the writer is busy");
            self.count_pause();
            let ended = self.runtime.block_on(task);
            reading.consumer.resume(&list).map_err(doing("a resumption"))?;
            ended
        };
        let stopped = |error: tokio::task::JoinError| SubmitError::Stopped(error.to_string());
        Ok(ended.map_err(stopped)??)
    }

    fn count_pause(&self) {
        let mut pauses = self.handle.shared().status.kafka_pauses.lock().unwrap_or_else(PoisonError::into_inner);
        *pauses.entry(self.ledger()).or_default() += 1;
    }

    /// Keeps an operator's pause: reads nothing, and still knows the partition's end.
    fn hold(&self, reading: &mut Reading, number: u32) -> Result<(), KafkaIntakeError> {
        let list = self.assigned(None)?;
        reading.consumer.pause(&list).map_err(doing("a pause"))?;
        tracing::warn!(ledger = self.ledger(), "kafka.held: this partition is not read until it is resumed");
        while self.config.is_paused(number) && !self.is_stopping() {
            self.ask_end(reading);
            self.rest(POLL);
        }
        reading.consumer.resume(&list).map_err(doing("a resumption"))
    }

    /// Where the client is: control records after the last one that became a leaf are passed over.
    fn position(&self, reading: &Reading) -> Option<u64> {
        let list = reading.consumer.position().ok()?;
        match list.find_partition(&self.place.topic, self.place.number())?.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
        }
    }

    /// No record is left before `next`.
    fn passed(&self, next: u64) {
        self.progress.advance(next);
        let mut passed = self.handle.shared().status.kafka_passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.insert(self.ledger(), self.progress.next());
    }

    /// Asks for the partition's end, now and then.
    fn ask_end(&self, reading: &mut Reading) {
        if reading.end_asked.is_some_and(|asked| asked.elapsed() < END_EVERY) {
            return;
        }
        reading.end_asked = Some(monotonic());
        let asked_at = self.handle.now();
        match reading.consumer.fetch_watermarks(&self.place.topic, self.place.number(), self.request_limit()) {
            Ok((_, end)) => {
                reading.end_given = monotonic();
                let offset = u64::try_from(end).unwrap_or_default();
                self.progress.see_end(End { asked_at, offset });
                let lag = offset.saturating_sub(self.progress.next());
                let mut lags = self.handle.shared().status.kafka_lag.lock().unwrap_or_else(PoisonError::into_inner);
                lags.insert((self.place.topic.clone(), self.place.partition), i64::try_from(lag).unwrap_or(i64::MAX));
            }
            Err(error) => {
                tracing::warn!(ledger = self.ledger(), %error, "kafka.unreachable: the partition's end is unknown");
            }
        }
    }

    fn commit(&self, reading: &mut Reading, mode: CommitMode) {
        let next = self.progress.next();
        let unchanged = reading.committed.1 == next;
        reading.committed = (monotonic(), next);
        // A shadow leaves nothing at the broker, its position included.
        if unchanged || self.part == Part::Shadow {
            return;
        }
        // Only a display depends on it; a failure is worth no more than a word.
        let committed = self.assigned(Some(next)).map(|list| reading.consumer.commit(&list, mode));
        if let Ok(Err(error)) = committed {
            tracing::debug!(ledger = self.ledger(), %error, "kafka.commit");
        }
    }

    fn assigned(&self, offset: Option<u64>) -> Result<TopicPartitionList, KafkaIntakeError> {
        let mut list = TopicPartitionList::new();
        let offset = offset.map_or(Offset::Invalid, |offset| Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX)));
        list.add_partition_offset(&self.place.topic, self.place.number(), offset)
            .map_err(doing("a list of partitions"))?;
        Ok(list)
    }
}

/// Whether an error ends the reading, so that the source is checked again. Others pass: the client reconnects by itself.
fn ends_reading(error: &KafkaError) -> bool {
    let of_the_source = matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
        )
    );
    of_the_source || matches!(error, KafkaError::MessageConsumptionFatal(_))
}

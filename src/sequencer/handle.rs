//! How everything else reaches the writer: bounded, and in Kafka mode through the broker.
//!
//! Embedded, what is handed in goes to the writer's queue. In Kafka mode it is produced to the topic and takes effect when
//! this node's own consumer reads it; the caller waits for that, up to a limit.

mod read_back;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::key::LedgerKey;
use tokio::sync::{Semaphore, oneshot};

use super::backfill::BackfillStep;
use super::core::{Incoming, Outcome};
use super::data_dir::DataDir;
use super::error::SequencerError;
use super::files::{FileTurn, FileTurns};
use super::metrics::{MetricsChunk, Prepare};
use super::run::{Appended, Body, Message, Running};
use super::sayings::{Saying, command_event};
use super::shared::Shared;
use crate::clock::Clock;
use crate::domain::authentication::Authentication;
use crate::domain::command::{Command, LedgerKeyRotate, NOT_AFTER_SECONDS, NodeKeyRotate, Request, command_id};
use crate::domain::envelope::{hex, key_id};
use crate::domain::event::FileRegistered;
use crate::domain::leaf::Header;
use crate::domain::metric::TimeFields;
use crate::domain::policy::Policy;
use crate::domain::principal::Role;
use crate::domain::time::Time;
use crate::projection::governance::Verdict;

pub use read_back::{Ends, ReadBack, Topic};

/// Bytes waiting in the queue at the most; with 4,096 messages of headers this bounds its memory.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// How long a caller waits for its own entry to be applied.
const APPLIED_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether what was produced is here.
const READ_BACK_EVERY: Duration = Duration::from_millis(10);
/// When to come again after finding the queue full.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Bytes handed in, with what the intake knows of them.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Source, submitter, content type; its time is set by whoever orders it.
    pub header: Header,
    /// As received.
    pub body: Vec<u8>,
}

/// Why the writer did not do it: whoever comes while a history is taken comes again.
fn not_taken(error: Arc<SequencerError>) -> SubmitError {
    if matches!(*error, SequencerError::Backfilling) {
        SubmitError::Busy { retry_after_s: RETRY_AFTER_SECONDS }
    } else {
        SubmitError::Sequencer(error)
    }
}

/// Where a produced record landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
}

/// A record that did not reach the broker, or not for sure.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The broker, or the client on its way to it.
    #[error("the broker did not confirm: {0}")]
    Unconfirmed(String),
    /// A node that only reads.
    #[error("{0}")]
    ReadsOnly(&'static str),
}

/// What is asked of the broker.
pub type AtBroker<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProduceError>> + Send + 'a>>;

/// Produces to the topics of Kafka mode.
pub trait Producer: Send + Sync + std::fmt::Debug {
    /// To the governance topic, in order.
    fn governance(&self, items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>>;
    /// To the metrics topic.
    fn metrics(&self, items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>>;
    /// Where the partitions of a topic end, asked for after whatever this producer sent.
    fn ends(&self, topic: Topic) -> AtBroker<'_, Ends>;
}

/// Why something handed in was not taken, or not for sure.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full, or a backfill is under way: what comes between its lines would have the present's time, and so
    /// would all that follow.
    #[error("the queue is full, or a history is being taken; come again in {retry_after_s} s")]
    Busy {
        /// Seconds.
        retry_after_s: u64,
    },
    /// The writer has stopped.
    #[error("the writer has stopped: {0}")]
    Stopped(String),
    /// The broker.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// It is on its way, and was not applied in time.
    #[error("not applied within {} s; it may still be", APPLIED_WITHIN.as_secs())]
    NotYet,
    /// Lines of a file may be among the records that this node has not read yet; to take them now could be to take them twice.
    #[error(
        "this node has not read {ledger} up to offset {end} yet, and what is to come may hold the same lines; come again in {retry_after_s} s"
    )]
    NotReadYet {
        /// The ledger of the partition.
        ledger: String,
        /// Where the partition ended.
        end: u64,
        /// Seconds.
        retry_after_s: u64,
    },
    /// It cannot be written.
    #[error(transparent)]
    Sequencer(#[from] Arc<SequencerError>),
}

/// Reaches the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    queue: std::sync::mpsc::SyncSender<Message>,
    bytes: Arc<Semaphore>,
    shared: Arc<Shared>,
    data_dir: Arc<DataDir>,
    clock: Clock,
    times: TimeFields,
    producer: Option<Arc<dyn Producer>>,
    file_turns: FileTurns,
}

/// Records on their way to the disk.
#[derive(Debug)]
#[must_use = "only once they are durable are they there"]
pub struct Queued(oneshot::Receiver<Result<Appended, Arc<SequencerError>>>);

impl Queued {
    /// Waits until they are durable; their positions.
    pub async fn durable(self) -> Result<Range<u64>, SubmitError> {
        let appended = self.0.await.map_err(|_discarded| SubmitError::Stopped("an error; see the log".to_owned()))?;
        Ok(appended.map_err(not_taken)?.range)
    }
}

/// How a command ended, so far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// It was decided at this position.
    Decided(Outcome),
    /// On its way.
    Pending,
}

impl Handle {
    /// A handle on a running writer; with `producer`, writes go through the broker.
    pub fn new(
        running: &Running,
        data_dir: DataDir,
        clock: Clock,
        times: TimeFields,
        producer: Option<Arc<dyn Producer>>,
    ) -> Result<Self, SequencerError> {
        Ok(Self {
            queue: running.queue.clone(),
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            shared: running.shared(),
            data_dir: Arc::new(data_dir),
            clock,
            times,
            producer,
            file_turns: FileTurns::default(),
        })
    }

    /// What readers share with the writer.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The data directory.
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// The present.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Where the present comes from.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Whether writes go through a broker.
    pub fn is_kafka(&self) -> bool {
        self.producer.is_some()
    }

    /// Makes metrics chunks.
    pub fn prepare(&self) -> Prepare {
        Prepare::new(self.data_dir.blobs(), self.times.clone())
    }

    /// The names under which a logger's record may hold its time.
    pub const fn times(&self) -> &TimeFields {
        &self.times
    }

    /// Hands in governance events, in order; their verdicts.
    pub async fn submit_events(&self, items: Vec<Submission>) -> Result<Vec<Outcome>, SubmitError> {
        let Some(producer) = &self.producer else {
            return self
                .append_events(
                    items.into_iter().map(|item| Incoming { header: item.header, body: item.body }).collect(),
                )
                .await;
        };
        // What may yet reach the topic has not failed.
        let sent = tokio::time::timeout(APPLIED_WITHIN, producer.governance(items));
        self.outcomes(sent.await.map_err(|_elapsed| SubmitError::NotYet)??).await
    }

    /// The verdicts on governance records, once they are folded.
    async fn outcomes(&self, landed: Vec<Produced>) -> Result<Vec<Outcome>, SubmitError> {
        let Some(last) = landed.last().map(|produced| produced.offset) else { return Ok(Vec::new()) };
        self.applied(last).await?;
        let governance = self.shared.governance();
        let outcome = |produced: &Produced| {
            let position = governance.offsets.position_of(produced.offset, governance.size)?;
            Some(Outcome { position, time: governance.time, verdict: governance.verdict_at(position) })
        };
        Ok(landed.iter().filter_map(outcome).collect())
    }

    /// Waits until the governance record at `offset` is folded.
    async fn applied(&self, offset: u64) -> Result<(), SubmitError> {
        let mut watch = self.shared.watch();
        let folded = async {
            while self.shared.governance().offsets.last.is_none_or(|last| last < offset) {
                if watch.changed().await.is_err() {
                    return Err(SubmitError::Stopped("it ended".to_owned()));
                }
            }
            Ok(())
        };
        tokio::time::timeout(APPLIED_WITHIN, folded).await.unwrap_or(Err(SubmitError::NotYet))
    }

    /// Straight to the writer: embedded mode's way in, and the consumer's.
    pub async fn append_events(&self, items: Vec<Incoming>) -> Result<Vec<Outcome>, SubmitError> {
        let bytes = items.iter().map(|item| item.body.len() + 256).sum();
        self.ask(bytes, |reply| Body::Governance { items, reply: Some(reply) }).await
    }

    /// Straight to the writer: metric records that are to be entries of `metrics-<ledger>`.
    pub async fn append_metrics(&self, ledger: u32, chunk: MetricsChunk) -> Result<Range<u64>, SubmitError> {
        let bytes = chunk.bytes();
        let chunk = Box::new(chunk);
        let appended = self.ask(bytes, |reply| Body::Metrics { ledger, chunk, reply: Some(reply) }).await?;
        Ok(appended.range)
    }

    /// Produces metric records to the broker, at least once.
    pub async fn produce_metrics(&self, items: Vec<Submission>) -> Result<Vec<Produced>, SubmitError> {
        match &self.producer {
            Some(producer) => Ok(producer.metrics(items).await?),
            None => Err(SubmitError::Stopped("there is no broker in embedded mode".to_owned())),
        }
    }

    /// [`Self::command_by`] of somebody known by an API token.
    pub async fn command(
        &self,
        principal: &str,
        role: Role,
        idempotency_key: &str,
        request: Request,
    ) -> Result<(String, CommandOutcome), SubmitError> {
        self.command_by(Authentication::token(), principal, role, idempotency_key, request).await
    }

    /// Puts a command by an authenticated principal into its envelope and hands it in.
    pub async fn command_by(
        &self,
        authenticated_by: Authentication,
        principal: &str,
        role: Role,
        idempotency_key: &str,
        request: Request,
    ) -> Result<(String, CommandOutcome), SubmitError> {
        let now = self.now();
        let genesis = self
            .shared
            .governance()
            .genesis
            .parse()
            .map_err(|_discarded| SubmitError::Stopped("the governance ledger has no first entry".to_owned()))?;
        let command = Command {
            command_id: command_id(principal, idempotency_key),
            principal: principal.to_owned(),
            role,
            not_after: now.plus_seconds(NOT_AFTER_SECONDS),
            governance: genesis,
            authenticated_by,
            request,
        };
        let body = command_event(&command, &self.node_key())
            .map_err(|error| Arc::new(SequencerError::from(error)))?
            .into_bytes();
        let submission =
            Submission { header: Header { submitter: Some(principal.to_owned()), ..Header::default() }, body };
        match self.submit_events(vec![submission]).await {
            Ok(outcomes) => match outcomes.into_iter().next() {
                Some(outcome) => Ok((command.command_id, CommandOutcome::Decided(self.first_outcome(outcome)))),
                None => Ok((command.command_id, CommandOutcome::Pending)),
            },
            Err(SubmitError::NotYet) => Ok((command.command_id, CommandOutcome::Pending)),
            Err(error) => Err(error),
        }
    }

    /// A repeat returns the outcome of the first.
    fn first_outcome(&self, outcome: Outcome) -> Outcome {
        match outcome.verdict {
            Verdict::Duplicate { of } => {
                Outcome { position: of, time: outcome.time, verdict: self.shared.governance().verdict_at(of) }
            }
            Verdict::Admitted | Verdict::Refused(_) => outcome,
        }
    }

    /// A backfill begins, or goes on: until it ends nothing is taken with the present's time, and no live cut is made. Holds
    /// for half a minute, and from each step on again.
    pub async fn backfill_begin(&self) -> Result<(), SubmitError> {
        self.ask(0, |reply| Body::BackfillBegin { reply }).await
    }

    /// One step of a backfill. It waits while the queue is full: ended half-way, the rest might be too late.
    pub async fn backfill(&self, step: BackfillStep) -> Result<Vec<Verdict>, SubmitError> {
        let bytes = step.metrics.iter().map(MetricsChunk::bytes).sum::<usize>()
            + step.governance.iter().map(|line| line.body.len()).sum::<usize>();
        let answer = self.hand_over(bytes, |reply| Body::Backfill { step, reply }).await?;
        let answer = answer.await.map_err(|_discarded| SubmitError::Stopped("an error; see the log".to_owned()))?;
        answer.map_err(not_taken)
    }

    /// The backfill is over: live cuts may be made.
    pub fn backfill_end(&self) {
        // A writer that has stopped makes no cuts.
        let _ = self.send(Message { body: Body::BackfillEnd, _permit: None });
    }

    /// Says that a file has a number; what that counts for.
    pub async fn register_file(&self, file: FileRegistered, time: Time) -> Result<Verdict, SubmitError> {
        if self.is_kafka() {
            let sealed = Saying::file_registered(&file).seal(&self.node_key());
            let body = sealed.map_err(|error| Arc::new(SequencerError::from(error)))?.into_bytes();
            let outcome = self.submit_events(vec![Submission { header: Header::default(), body }]).await?.pop();
            return outcome.map(|outcome| outcome.verdict).ok_or(SubmitError::NotYet);
        }
        self.ask(256, |reply| Body::File { file, time, reply }).await
    }

    /// Waits until nobody else hands in lines of file `number`.
    pub async fn file_turn(&self, number: u64) -> FileTurn {
        self.file_turns.take(number).await
    }

    /// Where in each ledger the lines of file `number` may lie.
    pub async fn file_progress(&self, number: u64) -> Result<BTreeMap<String, super::FileProgress>, SubmitError> {
        self.ask(0, |reply| Body::Progress { file: number, reply }).await
    }

    /// Makes the ledger of a partition, where there is none yet.
    pub async fn ensure_metrics(&self, number: u32) -> Result<(), SubmitError> {
        self.ask(0, |reply| Body::Partition { number, reply }).await
    }

    /// What this node derived and has not read back yet, sealed: to be produced.
    pub async fn unsaid(&self) -> Result<Vec<String>, SubmitError> {
        self.ask(0, |reply| Body::Unsaid { reply }).await
    }

    /// The saying that puts `policy` in force, sealed, where it is newer than what is: to be produced.
    pub async fn policy_saying(&self, policy: Policy) -> Result<Option<String>, SubmitError> {
        self.ask(0, |reply| Body::Policy { policy: Box::new(policy), reply }).await
    }

    /// Whether this node's envelopes have effect: its key is the one that the ledger knows for it.
    pub fn is_enrolled(&self) -> bool {
        let governance = self.shared.governance();
        governance.keys.of_node(self.data_dir.node()) == Some(key_id(&self.node_key().public()).as_str())
    }

    /// The node key of this moment: seals what is produced.
    pub fn node_key(&self) -> Arc<LedgerKey> {
        self.shared.node_key()
    }

    /// What asks for this node's key to be rotated: makes the new key, and has it sign that it is one.
    pub fn node_key_rotation(&self) -> Result<Request, SequencerError> {
        let next = self.data_dir.make_next_node_key()?;
        let (node, old) = (self.data_dir.node().to_owned(), key_id(&self.node_key().public()));
        let new = hex(&next.public());
        let statement = NodeKeyRotate::statement(&node, &old, &new, &self.shared.governance().genesis);
        let proof = STANDARD.encode(next.sign(statement.as_bytes()));
        Ok(Request::NodeKeyRotate(NodeKeyRotate { node, old, new, proof }))
    }

    /// What asks for the key of this node's checkpoints to be rotated: makes the new key; the old one signs it, and it signs too.
    pub fn ledger_key_rotation(&self) -> Result<Request, SequencerError> {
        let (current, next) = (self.data_dir.ledger_key()?, self.data_dir.make_next_ledger_key()?);
        let (node, old, new) = (self.data_dir.node().to_owned(), hex(&current.public()), hex(&next.public()));
        let statement = LedgerKeyRotate::statement(&node, &old, &new, &self.shared.governance().genesis);
        let sign = |key: &LedgerKey| STANDARD.encode(key.sign(statement.as_bytes()));
        let (by_old, by_new) = (sign(&current), sign(&next));
        Ok(Request::LedgerKeyRotate(LedgerKeyRotate { node, old, new, by_old, by_new }))
    }

    /// As [`Self::append_metrics`], for a source that can wait: a file waits while the queue is full.
    pub async fn append_metrics_waiting(&self, ledger: u32, chunk: MetricsChunk) -> Result<Range<u64>, SubmitError> {
        self.queue_metrics_waiting(ledger, chunk).await?.durable().await
    }

    /// Hands records to the writer, as soon as the queue has room, without waiting until they are durable: so the next ones
    /// are prepared meanwhile. Order is that of the calls.
    pub async fn queue_metrics_waiting(&self, ledger: u32, chunk: MetricsChunk) -> Result<Queued, SubmitError> {
        let chunk = Box::new(chunk);
        Ok(Queued(self.hand_over(chunk.bytes(), |reply| Body::Metrics { ledger, chunk, reply: Some(reply) }).await?))
    }

    /// As soon as the queue has room.
    async fn hand_over<T>(
        &self,
        bytes: usize,
        body: impl FnOnce(oneshot::Sender<T>) -> Body,
    ) -> Result<oneshot::Receiver<T>, SubmitError> {
        let permits = u32::try_from(bytes.min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.bytes)
            .acquire_many_owned(permits)
            .await
            .map_err(|_discarded| SubmitError::Stopped("it ended".to_owned()))?;
        let (reply, answer) = oneshot::channel();
        let mut message = Message { body: body(reply), _permit: Some(permit) };
        while let Err(error) = self.send(message) {
            let TrySendError::Full(back) = error else {
                return Err(SubmitError::Stopped("an error; see the log".to_owned()));
            };
            message = back;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(answer)
    }

    fn send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        self.queue.try_send(message)?;
        self.shared.status.queued.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn ask<T>(
        &self,
        bytes: usize,
        body: impl FnOnce(oneshot::Sender<Result<T, Arc<SequencerError>>>) -> Body,
    ) -> Result<T, SubmitError> {
        if self.shared.is_poisoned() {
            return Err(SubmitError::Stopped("an I/O error; see the log".to_owned()));
        }
        let permits = u32::try_from(bytes.min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.bytes)
            .try_acquire_many_owned(permits)
            .map_err(|_discarded| SubmitError::Busy { retry_after_s: RETRY_AFTER_SECONDS })?;
        let (reply, answer) = oneshot::channel();
        self.send(Message { body: body(reply), _permit: Some(permit) }).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy { retry_after_s: RETRY_AFTER_SECONDS },
            TrySendError::Disconnected(_) => SubmitError::Stopped("an error; see the log".to_owned()),
        })?;
        let answer = answer.await.map_err(|_discarded| SubmitError::Stopped("an error; see the log".to_owned()))?;
        answer.map_err(not_taken)
    }
}

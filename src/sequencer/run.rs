//! The writer's thread: takes from the queue, makes the cuts that are due, appends what came as one batch, answers.
//!
//! The queue is bounded in messages here and in bytes by the [`super::Handle`]; whoever finds it full is told to come again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::backfill::BackfillStep;
use super::core::{Core, Incoming, Outcome};
use super::error::SequencerError;
use super::metrics::MetricsChunk;
use super::sayings::Saying;
use super::shared::Shared;
use crate::clock::{Clock, monotonic};
use crate::domain::cut::{latest_instant, next_instant};
use crate::domain::event::FileRegistered;
use crate::domain::policy::Policy;
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::projection::governance::Verdict;

/// Messages waiting at the most. Bytes are bounded by the handle; this bounds what many small ones cost.
const QUEUE_MESSAGES_MAX: usize = 4_096;
/// Messages appended as one batch at the most: bounds how long the first waits.
const BATCH_MESSAGES_MAX: usize = 1_024;
/// Bytes appended as one batch at the most.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// The buffers of a chunk up to this size go back with the answer. Of a larger one they are freed at once, since whoever
/// reads a file fetches its answers late.
const RETURNED_BYTES_MAX: usize = 16 << 10;
/// Longest sleep, so that a stop or a clock change is seen.
const TICK: Duration = Duration::from_millis(500);
/// A cut that is later than this is left out: the process was suspended, and no cut is made for the time it was down.
const LATE_CUT_SECONDS: i64 = 60;
/// Live cuts and live entries wait this long after the last step of a backfill that did not say that it ended.
const BACKFILL_GRACE_SECONDS: i64 = 30;
/// Batch figures kept for the metrics page.
const FIGURES_KEPT: usize = 4_096;

type Reply<T> = oneshot::Sender<Result<T, Arc<SequencerError>>>;

/// Where records lie now.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) range: Range<u64>,
    /// The buffers of a small chunk: freed by the caller's thread, which made them, and not by the writer, for whom all wait.
    _chunk: Option<Box<MetricsChunk>>,
}

pub(super) enum Body {
    Governance { items: Vec<Incoming>, reply: Option<Reply<Vec<Outcome>>> },
    Metrics { ledger: u32, chunk: Box<MetricsChunk>, reply: Option<Reply<Appended>> },
    Backfill { step: BackfillStep, reply: Reply<Vec<Verdict>> },
    BackfillBegin { reply: Reply<()> },
    BackfillEnd,
    File { file: FileRegistered, time: Time, reply: Reply<Verdict> },
    Progress { file: u64, reply: Reply<BTreeMap<String, super::FileProgress>> },
    Partition { number: u32, reply: Reply<()> },
    Unsaid { reply: Reply<Vec<String>> },
    Policy { policy: Box<Policy>, reply: Reply<Option<String>> },
    Stop,
}

pub(super) struct Message {
    pub(super) body: Body,
    /// The queue's bytes that it takes; given back when it is done.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// How the writer runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Makes cuts as time passes (embedded mode).
    pub live_cuts: bool,
    /// Where time comes from.
    pub clock: Clock,
    /// Put in force at start, where newer.
    pub policy: Option<Policy>,
}

/// A running writer.
#[derive(Debug)]
pub struct Running {
    pub(super) queue: SyncSender<Message>,
    thread: Option<JoinHandle<Result<(), Arc<SequencerError>>>>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// A writer that its owner turns, one batch at a time, in the place of the thread.
#[derive(Debug)]
pub struct ByHand {
    writer: Writer,
    receiver: Receiver<Message>,
}

/// Starts the writer's thread.
pub fn start(core: Core, options: Options) -> Result<Running, SequencerError> {
    let (mut running, by_hand) = by_hand(core, options)?;
    let ByHand { writer, receiver } = by_hand;
    let thread = std::thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || writer.run(&receiver))
        .map_err(|source| SequencerError::Io { path: "writer thread".into(), source })?;
    running.thread = Some(thread);
    Ok(running)
}

/// The writer without its thread: for lives that are played step by step.
pub fn by_hand(mut core: Core, options: Options) -> Result<(Running, ByHand), SequencerError> {
    if core.is_embedded() {
        core.say_unsaid()?;
        if let Some(saying) = options.policy.as_ref().map(|policy| core.policy_saying(policy)).transpose()?.flatten() {
            core.say(&[saying], Time::default())?;
        }
        core.shared().status.caught_up.store(true, Ordering::SeqCst);
    }
    let (queue, receiver) = sync_channel(QUEUE_MESSAGES_MAX);
    let shared = core.shared();
    let writer =
        Writer { next_cut: None, backfilling_until: None, held: None, core, options, shared: Arc::clone(&shared) };
    Ok((Running { queue, thread: None, shared }, ByHand { writer, receiver }))
}

impl ByHand {
    /// What the thread does between two looks at the clock: makes the cuts that are due, takes what is queued, answers. An
    /// error is the end, as it is of the thread.
    pub fn turn(&mut self) -> Result<(), SequencerError> {
        let result = self.writer.turn(&self.receiver, Duration::ZERO).map(|_| ());
        ended(&result);
        result
    }

    /// The core, to look at.
    pub const fn core(&self) -> &Core {
        &self.writer.core
    }

    /// Keeps a snapshot, as the thread does at its end.
    pub fn snapshot(&mut self) -> Result<(), SequencerError> {
        self.writer.core.snapshot()
    }
}

impl Running {
    /// What readers share with it.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Lets it finish what is queued, keep a snapshot, and end.
    pub fn stop(mut self) -> Result<(), Arc<SequencerError>> {
        // A writer that stopped by itself has closed its queue; joining tells why.
        let _ = self.queue.send(Message { body: Body::Stop, _permit: None });
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Arc::new(SequencerError::Stopped("the writer's thread panicked".to_owned()))),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Writer {
    core: Core,
    options: Options,
    shared: Arc<Shared>,
    next_cut: Option<Time>,
    backfilling_until: Option<Time>,
    /// Taken from the queue, and left for the next turn.
    held: Option<Message>,
}

/// A chunk, and who waits for its positions.
type WaitingChunk = (Box<MetricsChunk>, Option<Reply<Appended>>);

/// What of one batch goes where.
#[derive(Default)]
struct Batch {
    items: Vec<Incoming>,
    replies: Vec<(usize, Option<Reply<Vec<Outcome>>>)>,
    chunks: BTreeMap<u32, Vec<WaitingChunk>>,
    /// The queue's bytes that the batch takes.
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
    messages: usize,
}

/// A panic in the writer's thread stops the writer like an error does.
struct StoppedByPanic(Option<Arc<Shared>>);

impl Drop for StoppedByPanic {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.status.poisoned.store(true, Ordering::SeqCst);
        }
    }
}

/// Tells whoever runs the service that the writer has stopped. Readers know by then.
fn ended<T>(result: &Result<T, SequencerError>) {
    if let Err(error) = result {
        tracing::error!(%error, "writer.stopped: restart the service to recover");
    }
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) -> Result<(), Arc<SequencerError>> {
        let mut unless_foreseen = StoppedByPanic(Some(Arc::clone(&self.shared)));
        let result = self.serve(receiver);
        ended(&result);
        unless_foreseen.0 = None;
        result.map_err(Arc::new)
    }

    /// An error stops the writer. Readers are told before whoever waits for an answer is told, or finds that there will be
    /// none: so nobody who knows of the stop is then told by `/healthz` that all is well.
    fn stopping<T>(&self, result: Result<T, SequencerError>) -> Result<T, SequencerError> {
        if result.is_err() {
            self.shared.status.poisoned.store(true, Ordering::SeqCst);
        }
        result
    }

    fn serve(&mut self, receiver: &Receiver<Message>) -> Result<(), SequencerError> {
        while self.turn(receiver, TICK)? {}
        self.last_snapshot()
    }

    /// One batch, or one message that is none; waits for it `wait` at the most. False: stop.
    fn turn(&mut self, receiver: &Receiver<Message>, wait: Duration) -> Result<bool, SequencerError> {
        let due = self.cuts_due();
        self.stopping(due)?;
        let wait = wait.min(self.sleep());
        let first = match self.held.take().map_or_else(|| receiver.recv_timeout(wait), Ok) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return Ok(true),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        };
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(message) = next {
            match self.sort(message, &mut batch) {
                Some(other) => {
                    self.held = Some(other);
                    break;
                }
                None if batch.bytes >= BATCH_BYTES_MAX || batch.messages >= BATCH_MESSAGES_MAX => break,
                None => next = receiver.try_recv().ok(),
            }
        }
        self.commit(batch)?;
        // A message that is no plain append waits until those before it are durable.
        let other =
            self.held.take_if(|message| !matches!(message.body, Body::Governance { .. } | Body::Metrics { .. }));
        other.map_or(Ok(true), |message| Ok(!self.handle(message)?))
    }

    fn last_snapshot(&mut self) -> Result<(), SequencerError> {
        let kept = self.core.snapshot();
        self.stopping(kept)
    }

    /// Puts a plain append into the batch; gives anything else back.
    fn sort(&self, message: Message, batch: &mut Batch) -> Option<Message> {
        self.shared
            .status
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| queued.checked_sub(1))
            .ok();
        let Message { body, _permit: permit } = message;
        match body {
            Body::Governance { reply, .. } if self.is_backfilling() => {
                reply.map(|reply| reply.send(Err(Arc::new(SequencerError::Backfilling))));
                return None;
            }
            Body::Metrics { reply, .. } if self.is_backfilling() => {
                reply.map(|reply| reply.send(Err(Arc::new(SequencerError::Backfilling))));
                return None;
            }
            Body::Governance { mut items, reply } => {
                if self.core.is_embedded() {
                    let now = self.options.clock.now();
                    for item in &mut items {
                        item.header.time = now;
                    }
                }
                batch.bytes += items.iter().map(|item| item.body.len()).sum::<usize>();
                batch.replies.push((items.len(), reply));
                batch.items.extend(items);
            }
            Body::Metrics { ledger, chunk, reply } => {
                batch.bytes += chunk.bytes();
                batch.chunks.entry(ledger).or_default().push((chunk, reply));
            }
            body @ (Body::Backfill { .. }
            | Body::BackfillBegin { .. }
            | Body::BackfillEnd
            | Body::File { .. }
            | Body::Progress { .. }
            | Body::Partition { .. }
            | Body::Unsaid { .. }
            | Body::Policy { .. }
            | Body::Stop) => {
                return Some(Message { body, _permit: permit });
            }
        }
        match (&mut batch.permit, permit) {
            (Some(all), Some(permit)) => all.merge(permit),
            (all @ None, permit) => *all = permit,
            (Some(_), None) => {}
        }
        batch.messages += 1;
        None
    }

    fn commit(&mut self, batch: Batch) -> Result<(), SequencerError> {
        if batch.messages == 0 {
            return Ok(());
        }
        let began = monotonic();
        let mut entries = batch.items.len() as u64;
        for (ledger, chunks) in batch.chunks {
            entries += self.commit_chunks(ledger, chunks)?;
        }
        let appended = self.core.append_governance(batch.items);
        let mut outcomes = self.stopping(appended)?.into_iter();
        if self.core.is_embedded() {
            // An incident opened by hand finds its figures before whoever opened it reads on.
            let said = self.core.say_unsaid();
            self.stopping(said)?;
        }
        for (count, reply) in batch.replies {
            let own: Vec<Outcome> = outcomes.by_ref().take(count).collect();
            if let Some(reply) = reply {
                let _ = reply.send(Ok(own));
            }
        }
        self.record(entries, began.elapsed());
        let kept = self.core.snapshot_if_due();
        self.stopping(kept)
    }

    /// Appends chunks and says where they lie.
    fn commit_chunks(&mut self, ledger: u32, mut chunks: Vec<WaitingChunk>) -> Result<u64, SequencerError> {
        let lengths: Vec<u64> = chunks.iter().map(|(chunk, _)| chunk.len() as u64).collect();
        let mut parts: Vec<&mut MetricsChunk> = chunks.iter_mut().map(|(chunk, _)| &mut **chunk).collect();
        let appended = self.core.append_chunks(ledger, &mut parts);
        let range = self.stopping(appended)?;
        let mut first = range.start;
        for (length, (chunk, reply)) in lengths.into_iter().zip(chunks) {
            let range = first..first + length;
            first = range.end;
            if let Some(reply) = reply {
                let chunk = Some(chunk).filter(|chunk| chunk.bytes() <= RETURNED_BYTES_MAX);
                // Whoever asked may have gone; the entries are there all the same.
                let _ = reply.send(Ok(Appended { range, _chunk: chunk }));
            }
        }
        Ok(range.end - range.start)
    }

    fn record(&self, entries: u64, took: Duration) {
        let mut figures = self.shared.status.batches.lock().unwrap_or_else(PoisonError::into_inner);
        figures.count += 1;
        figures.entries += entries;
        if figures.recent_entries.len() == FIGURES_KEPT {
            figures.recent_entries.clear();
            figures.recent_commit_us.clear();
        }
        figures.recent_entries.push(entries);
        figures.recent_commit_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Everything that is no plain append. True: stop.
    fn handle(&mut self, message: Message) -> Result<bool, SequencerError> {
        match message.body {
            Body::BackfillBegin { reply } => {
                self.hold_for_backfill();
                let _ = reply.send(Ok(()));
            }
            Body::Backfill { step, reply } => {
                self.hold_for_backfill();
                let taken = self.core.backfill(step);
                let _ = reply.send(Ok(self.stopping(taken)?));
            }
            Body::BackfillEnd => self.backfilling_until = None,
            Body::File { time, reply, .. } if time > Time::default() && self.is_backfilling() => {
                let _ = reply.send(Err(Arc::new(SequencerError::Backfilling)));
            }
            Body::File { file, time, reply } => {
                let said = self.core.say(&[Saying::file_registered(&file)], time);
                let outcome = self.stopping(said)?.pop();
                let _ = reply.send(Ok(outcome.map_or(Verdict::Admitted, |outcome| outcome.verdict)));
            }
            Body::Progress { file, reply } => {
                let _ = reply.send(Ok(self.core.files().get(file)));
            }
            Body::Partition { number, reply } => {
                let made = self.core.ensure_metrics(number);
                let _ = reply.send(Ok(self.stopping(made)?));
            }
            Body::Policy { policy, reply } => {
                let _ = reply.send(self.core.policy_sealed(&policy).map_err(Arc::new));
            }
            Body::Unsaid { reply } => {
                let _ = reply.send(self.core.unsaid().map_err(Arc::new));
            }
            Body::Stop => return Ok(true),
            // Plain appends never come here: `sort` takes them.
            Body::Governance { .. } | Body::Metrics { .. } => {}
        }
        Ok(false)
    }

    fn hold_for_backfill(&mut self) {
        self.backfilling_until = Some(self.options.clock.now().plus_seconds(BACKFILL_GRACE_SECONDS));
    }

    /// Whether a history is being taken: an entry of the present between its lines would give all that follow its own time,
    /// so that the cuts of their day would not see them.
    fn is_backfilling(&self) -> bool {
        self.backfilling_until.is_some_and(|until| self.options.clock.now() < until)
    }

    /// Makes the cuts that are due. None before the first record or report, none for the time that the process was down.
    fn cuts_due(&mut self) -> Result<(), SequencerError> {
        if !self.options.live_cuts {
            return Ok(());
        }
        let now = self.options.clock.now();
        if self.is_backfilling() {
            self.next_cut = None;
            return Ok(());
        }
        let Some(active) = self.core.last_activity() else { return Ok(()) };
        let last = self.shared.governance().last_cut.as_ref().map(|cut| cut.instant);
        let soonest = next_instant(now, active);
        let first = last.map_or(soonest, |last| soonest.max(next_instant(last, active)));
        let mut next = self.next_cut.unwrap_or(first);
        while next < now {
            if now.micros_since(next) > LATE_CUT_SECONDS * MICROS_PER_SECOND {
                next = latest_instant(now, active);
            }
            self.core.make_cut(next)?;
            next = next_instant(next, active);
        }
        // Something came after cuts had thinned out: they come every ten seconds again. A clock that was set back makes
        // those again that a start had left out, and none before the last one.
        self.next_cut = Some(next.min(first));
        Ok(())
    }

    fn sleep(&self) -> Duration {
        let until = self
            .next_cut
            .map_or(i64::MAX, |next| next.micros_since(self.options.clock.now()).max(0).saturating_add(1_000));
        TICK.min(Duration::from_micros(u64::try_from(until).unwrap_or(u64::MAX)))
    }
}

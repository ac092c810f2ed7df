//! Kafka as the engine of order: partitions into ledgers, and what this node says into the governance topic.
//!
//! In scope: the start-up checks, one thread a partition, partitions added later, the producer, the cuts. Out of scope: what
//! the records mean. Each partition has its own client and thread, so that one that hangs holds up no other, and governance
//! waits for no metrics partition.
//!
//! Invariants: partitions are assigned, never subscribed; every record becomes exactly one leaf of its partition's ledger, in
//! offset order; a node says nothing until it has read the governance topic to the end that it found at start; a follower
//! says nothing at all.

mod block;
mod checks;
mod client;
mod config;
mod cursor;
mod cuts;
pub mod doctor;
mod ends;
mod error;
mod intake;
mod producer;
mod progress;
mod record;
mod rights;
mod shadow;
mod source;
mod speaker;
mod speech;

/// The intake's decisions without its client and threads: what the service runs, and what a simulation of it can run.
pub mod decisions {
    pub use super::checks::Stamp;
    pub use super::cursor::Cursor;
    pub use super::cuts::{Draft, Sizes};
    pub use super::progress::{End, Partitions, Progress};
    pub use super::source::{Found, is_same, judge};
    pub use super::speech::Speech;
}

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub use config::{IsolationLevel, KafkaConfig, Pauses, SaslMechanism, SecurityProtocol};
pub use error::KafkaIntakeError;
pub use producer::{follower_producer, producer, shadow_producer};

use self::checks::{Checked, Topics};
use self::cuts::Sizes;
use self::intake::{Intake, Target};
use self::progress::{Partitions, Progress};
use self::source::Place;
use self::speaker::Speaker;
use crate::domain::policy::Policy;
use crate::sequencer::{Handle, SubmitError};

/// Pause before a broker that did not answer at start is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// The name under which the broker itself is shown among what is stopped.
const BROKER: &str = "kafka";

/// What a node does beside reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It says what it derives, and takes commands.
    Full,
    /// Nothing: it checks what others say.
    Follower,
    /// What it says stays in its own ledger.
    Shadow,
}

/// Runs the intake until `shutdown` says so; ends early where the topics or the policy are refused.
pub fn run(
    handle: Handle,
    config: KafkaConfig,
    part: Part,
    policy: Option<Policy>,
    shutdown: watch::Receiver<bool>,
) -> JoinHandle<Result<(), KafkaIntakeError>> {
    tokio::spawn(async move {
        let mut running = Service {
            handle,
            config,
            part,
            stop: Arc::new(AtomicBool::new(false)),
            partitions: Partitions::default(),
            threads: Vec::new(),
            workers: Arc::new(Semaphore::new(cores())),
            shutdown,
        };
        let result = running.serve(policy).await;
        running.end().await;
        result
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

struct Service {
    handle: Handle,
    config: KafkaConfig,
    part: Part,
    stop: Arc<AtomicBool>,
    partitions: Partitions,
    threads: Vec<thread::JoinHandle<()>>,
    workers: Arc<Semaphore>,
    shutdown: watch::Receiver<bool>,
}

impl Service {
    async fn serve(&mut self, policy: Option<Policy>) -> Result<(), KafkaIntakeError> {
        let topics = checks::topics(self.handle.data_dir().settings(), &self.config)?;
        let Some(checked) = self.check(&topics).await? else { return Ok(()) };
        tracing::info!(?topics, ?checked, part = ?self.part, "kafka.started");
        // Governance first and by itself: its answers wait for nothing.
        let governance = Arc::new(Progress::new(self.handle.clock()));
        let place = Place { topic: topics.governance.clone(), partition: 0 };
        self.start(place, Target::Governance, Arc::clone(&governance))?;
        self.add_partitions(&topics, checked.metrics_partitions).await?;
        if !self.caught_up(&governance, checked.governance_end).await {
            return Ok(());
        }
        // From here on this node knows what was said before it came.
        self.handle.shared().status.caught_up.store(true, Ordering::SeqCst);
        let speaker = if self.part == Part::Follower { None } else { Some(self.speaker(policy, &checked).await?) };
        self.watch_partitions(&topics).await?;
        if let Some(speaker) = speaker {
            // It has seen the same signal.
            let _ = speaker.await;
        }
        Ok(())
    }

    /// The start-up checks; asks again while the broker does not answer. None: told to stop.
    async fn check(&mut self, topics: &Topics) -> Result<Option<Checked>, KafkaIntakeError> {
        loop {
            match checks::check(&self.config, self.handle.data_dir().node(), topics).await {
                Ok(checked) => {
                    self.stopped().remove(BROKER);
                    return Ok(Some(checked));
                }
                Err(error) if error.is_passing() => {
                    tracing::warn!(%error, "kafka.unreachable: trying again");
                    self.stopped().insert(BROKER.to_owned(), error.to_string());
                }
                Err(error) => return Err(error),
            }
            if self.rest(RETRY).await {
                return Ok(None);
            }
        }
    }

    fn stopped(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, String>> {
        self.handle.shared().status.stopped_intakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; true: told to stop.
    async fn rest(&mut self, time: Duration) -> bool {
        tokio::select! {
            // Whoever could say so is gone: that is a stop too.
            changed = self.shutdown.changed() => changed.is_err() || *self.shutdown.borrow(),
            () = tokio::time::sleep(time) => *self.shutdown.borrow(),
        }
    }

    fn start(&mut self, place: Place, target: Target, progress: Arc<Progress>) -> Result<(), KafkaIntakeError> {
        let name = format!("kafka-{}-{}", place.topic, place.partition);
        let intake = Intake {
            place,
            target,
            handle: self.handle.clone(),
            config: self.config.clone(),
            part: self.part,
            progress,
            stop: Arc::clone(&self.stop),
            runtime: tokio::runtime::Handle::current(),
            workers: Arc::clone(&self.workers),
        };
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || intake.run())
            .map_err(|error| KafkaIntakeError::Thread { name, reason: error.to_string() })?;
        self.threads.push(thread);
        Ok(())
    }

    /// A ledger and a thread for each partition that has none yet.
    async fn add_partitions(&mut self, topics: &Topics, count: u32) -> Result<(), KafkaIntakeError> {
        for number in (0..count).filter(|number| !self.partitions.has(*number)).collect::<Vec<_>>() {
            while let Err(error) = self.handle.ensure_metrics(number).await {
                if !matches!(error, SubmitError::Busy { .. }) {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let progress = Arc::new(Progress::new(self.handle.clock()));
            self.partitions.add(number, Arc::clone(&progress));
            let place = Place { topic: topics.metrics.clone(), partition: number };
            self.start(place, Target::Metrics(number), progress)?;
        }
        Ok(())
    }

    /// Waits until the governance topic was read to `end`; false: told to stop.
    async fn caught_up(&mut self, governance: &Progress, end: u64) -> bool {
        while governance.next() < end {
            if self.rest(Duration::from_millis(20)).await {
                return false;
            }
        }
        true
    }

    async fn speaker(&mut self, policy: Option<Policy>, checked: &Checked) -> Result<JoinHandle<()>, KafkaIntakeError> {
        let producer = match self.part {
            Part::Shadow => shadow::voice(self.handle.clone()),
            Part::Full | Part::Follower => producer(&self.config, self.handle.data_dir().settings())?,
        };
        if let Some(policy) = policy
            && let Some(sealed) = self.handle.policy_saying(policy).await?
        {
            while let Err(error) = speaker::produce(producer.as_ref(), vec![sealed.clone()]).await {
                tracing::warn!(%error, "kafka.unreachable: the policy is not said yet");
                if self.rest(RETRY).await {
                    break;
                }
            }
        }
        let sizes = Sizes {
            shared: Arc::clone(self.handle.shared()),
            partitions: self.partitions.clone(),
            stamp: checked.metrics_stamp,
        };
        Ok(tokio::spawn(Speaker::new(self.handle.clone(), producer, sizes).speak(self.shutdown.clone())))
    }

    /// Looks for partitions added later, until told to stop.
    async fn watch_partitions(&mut self, topics: &Topics) -> Result<(), KafkaIntakeError> {
        let every = Duration::from_secs(self.config.partition_check_s.max(1));
        let limit = self.config.request_timeout();
        let consumer = Arc::new(client::consumer(&self.config, self.handle.data_dir().node())?);
        while !self.rest(every).await {
            let (consumer, topic) = (Arc::clone(&consumer), topics.metrics.clone());
            let found = tokio::task::spawn_blocking(move || checks::partitions(&consumer, &topic, limit)).await;
            match found {
                Ok(Ok(count)) => self.add_partitions(topics, u32::try_from(count).unwrap_or(u32::MAX)).await?,
                Ok(Err(error)) => tracing::warn!(%error, "kafka.unreachable: partitions were not looked at"),
                Err(error) => {
                    return Err(KafkaIntakeError::Thread { name: "partitions".to_owned(), reason: error.to_string() });
                }
            }
        }
        Ok(())
    }

    /// Stops every intake and waits for what is in flight.
    async fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let threads = std::mem::take(&mut self.threads);
        // A thread that panicked has said so on its own; what it read is in the ledger or is read again.
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
    }
}

//! Telling the outside: what the governance ledger decided, to Alertmanager and to webhooks; and its checkpoints, to witnesses.
//!
//! In scope: reading the ledger from a cursor, forming messages, sending them at least once, saying what did not arrive.
//! Out of scope: deciding anything, and writing to a ledger; nothing here reaches an entry.
//!
//! Invariants: a cursor moves past an entry only once its message was taken, is kept as pending beside the cursor, or is
//! listed as a dead end; a crash therefore repeats and never loses. A message's id is a function of its ledger and position,
//! so a repeat carries the same one. The ledger itself is the queue: what waits in memory has a bound.

mod alertmanager;
mod client;
mod config;
mod kept;
mod message;
mod schedule;
mod secrets;
mod stop;
mod view;
mod webhook;
mod witnesses;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::sequencer::Handle;
pub use config::{AlertmanagerConfig, NotifyConfig, WebhookConfig, WebhookKind};
pub use kept::{DeadEnd, Pending};
use stop::Stop;
pub use view::{Deliveries, DeliveriesAnswer, Endpoint, EndpointKind, EndpointState};
pub use witnesses::{
    CosignConfig, CosignedRow, WitnessAlarm, WitnessCode, WitnessRow, WitnessState, Witnessed, Witnesses,
};

/// How long the stop waits for requests under way; what they carry is sent again at the next start.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How often it is looked whether the node has read what it found at start.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until the node has read what it found at start: before, what fires may long be over. False: it is time to stop.
fn caught_up(handle: &Handle, stop: &Stop) -> bool {
    while !handle.shared().status.caught_up.load(Ordering::SeqCst) {
        if stop.wait(LOOK) {
            return false;
        }
    }
    true
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// A setting of an endpoint.
    #[error("notify endpoint {name:?}: {reason}")]
    Endpoint {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file with a secret.
    #[error("notify: {}: {reason}", path.display())]
    Secret {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No thread.
    #[error("notify: cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Threads that tell; one an endpoint, so that none waits for another.
#[derive(Debug)]
pub struct Notifier {
    stop: Stop,
    ended: Receiver<()>,
    deliveries: Deliveries,
}

impl Notifier {
    /// Starts telling. `url` is the base of links, where the configuration names none.
    pub fn start(config: &NotifyConfig, handle: &Handle, url: &str) -> Result<Self, NotifyError> {
        config.check()?;
        let link = config.link.as_deref().unwrap_or(url).trim_end_matches('/').to_owned();
        let (stop, deliveries) = (Stop::default(), Deliveries::default());
        let (alive, ended) = channel::<()>();
        let mut tasks: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
        for endpoint in &config.alertmanager {
            let worker = alertmanager::Worker::new(endpoint, handle.clone(), &link, stop.clone(), deliveries.clone())?;
            tasks.push((endpoint.name.clone(), Box::new(move || worker.run())));
        }
        for endpoint in &config.webhook {
            let worker = webhook::Worker::new(endpoint, handle.clone(), &link, stop.clone(), deliveries.clone())?;
            tasks.push((endpoint.name.clone(), Box::new(move || worker.run())));
        }
        for (name, task) in tasks {
            let alive = alive.clone();
            std::thread::Builder::new().name(format!("notify-{name}")).spawn(move || {
                task();
                drop(alive);
            })?;
        }
        Ok(Self { stop, ended, deliveries })
    }

    /// What arrived and what did not.
    pub const fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// Stops; waits a little for requests under way.
    pub fn stop(self) {
        self.stop.ask();
        if matches!(self.ended.recv_timeout(LAST_WORDS), Err(RecvTimeoutError::Timeout)) {
            tracing::info!("notify.stopped_early: a request under way was left; its message is sent again");
        }
    }
}

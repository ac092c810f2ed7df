//! Sealing in the background: segments that are no longer written to are compressed, on a thread of their own.
//!
//! The writer does not wait for it and does not stop because of it. What cannot be sealed (no space, say) is logged,
//! counted, and tried again later; the raw segment serves until then. A segment that is damaged is reported once.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ledger::Sealer;

use super::error::SequencerError;
use super::shared::Shared;
use crate::clock::monotonic;

/// How often it is looked for new segments. At the highest rates one fills in under a second, and waits at most as long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A ledger whose sealing failed is left alone for so long: a full disk is not freed within a second.
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// What was sealed since the start of the process, of one ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealingFigures {
    /// Segments sealed.
    pub segments: u64,
    /// Their bytes before.
    pub raw_bytes: u64,
    /// Their bytes after.
    pub sealed_bytes: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Full segments that wait.
    pub waiting: u64,
}

/// The sealers of all ledgers, by name; the writer adds one for each new ledger.
#[derive(Clone, Debug, Default)]
pub struct Sealers(Arc<Mutex<BTreeMap<String, Sealer>>>);

impl Sealers {
    pub(super) fn add(&self, name: &str, sealer: Sealer) {
        self.lock().insert(name.to_owned(), sealer);
    }

    fn all(&self) -> Vec<(String, Sealer)> {
        self.lock().iter().map(|(name, sealer)| (name.clone(), sealer.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Sealer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that seals. Dropping this lets it finish the segment that it is at, and ends it. It holds the ledgers'
/// locks, so that comes before the directory is opened again.
#[derive(Debug)]
pub struct Sealing {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Sealing {
    /// Starts it. What it does is counted in `shared`.
    pub fn start(sealers: Sealers, shared: Arc<Shared>) -> Result<Self, SequencerError> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let mut work = Work { sealers, shared, failed: BTreeMap::new() };
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("sealer".to_owned())
            .spawn(move || {
                let is_stopped = || *told.0.lock().unwrap_or_else(PoisonError::into_inner);
                while !is_stopped() {
                    if work.round(&is_stopped) {
                        continue;
                    }
                    let stopped = told.0.lock().unwrap_or_else(PoisonError::into_inner);
                    // Woken early or late, it looks again.
                    let _ = told.1.wait_timeout_while(stopped, LOOK_EVERY, |stopped| !*stopped);
                }
            })
            .map_err(|source| SequencerError::Io { path: "sealer thread".into(), source })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("sealing.stopped: the thread panicked; segments stay as they are until the next start");
        }
    }
}

struct Work {
    sealers: Sealers,
    shared: Arc<Shared>,
    /// When sealing last failed, by ledger.
    failed: BTreeMap<String, Instant>,
}

impl Work {
    /// Seals one segment of each ledger that has any waiting, and says whether there was one.
    fn round(&mut self, is_stopped: &dyn Fn() -> bool) -> bool {
        let mut has_sealed = false;
        for (name, sealer) in self.sealers.all() {
            if is_stopped() || self.failed.get(&name).is_some_and(|at| at.elapsed() < RETRY_AFTER) {
                continue;
            }
            has_sealed |= self.seal(&name, &sealer);
        }
        has_sealed
    }

    fn seal(&mut self, name: &str, sealer: &Sealer) -> bool {
        let began = monotonic();
        let outcome = sealer.seal_next();
        let mut all = self.shared.status.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = all.entry(name.to_owned()).or_default();
        figures.waiting = sealer.waiting() as u64;
        match outcome {
            Ok(None) => false,
            Ok(Some(segment)) => {
                self.failed.remove(name);
                figures.segments += 1;
                figures.raw_bytes += segment.raw_bytes;
                figures.sealed_bytes += segment.sealed_bytes;
                tracing::info!(
                    ledger = name,
                    first = segment.first,
                    entries = segment.entries,
                    raw_bytes = segment.raw_bytes,
                    sealed_bytes = segment.sealed_bytes,
                    took_ms = began.elapsed().as_millis(),
                    "segment.sealed"
                );
                true
            }
            Err(error) => {
                figures.failures += 1;
                self.failed.insert(name.to_owned(), monotonic());
                if error.damage().is_some() {
                    tracing::error!(ledger = name, %error, "segment.damaged: it is left as it is; see `govledger verify`");
                } else {
                    tracing::warn!(
                        ledger = name,
                        %error,
                        retry_s = RETRY_AFTER.as_secs(),
                        "segment.not_sealed: the raw segment serves on, and sealing is tried again"
                    );
                }
                false
            }
        }
    }
}

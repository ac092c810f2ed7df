//! How far each partition was read: written by its intake, read by whoever makes the cuts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::time::Time;

/// A partition that made no progress for this long, and is not at its end, cannot be read.
const UNREADABLE_AFTER: Duration = Duration::from_secs(10);

/// The end of a partition, as the broker gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// When it was asked for: every record before it was appended earlier than its answer.
    pub asked_at: Time,
    /// The next offset to be written.
    pub offset: u64,
}

/// How far one partition was read.
#[derive(Debug)]
pub struct Progress {
    next: AtomicU64,
    end: Mutex<Option<End>>,
    alive: Mutex<Duration>,
    clock: Clock,
    first_arrival_micros: AtomicI64,
    last_arrival_micros: AtomicI64,
}

impl Progress {
    /// Nothing read yet, and alive from now on.
    pub fn new(clock: Clock) -> Self {
        Self {
            next: AtomicU64::new(0),
            end: Mutex::new(None),
            alive: Mutex::new(clock.elapsed()),
            clock,
            first_arrival_micros: AtomicI64::new(i64::MAX),
            last_arrival_micros: AtomicI64::new(0),
        }
    }

    /// Every record before this offset is durable in the ledger, or lost and confirmed so.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Records were appended, up to before `next`.
    pub fn appended(&self, next: u64, now: Time) {
        self.next.fetch_max(next, Ordering::SeqCst);
        self.first_arrival_micros.fetch_min(now.micros(), Ordering::SeqCst);
        self.last_arrival_micros.fetch_max(now.micros(), Ordering::SeqCst);
        self.touch();
    }

    /// Nothing lies between the last record and `next`.
    pub fn advance(&self, next: u64) {
        self.next.fetch_max(next, Ordering::SeqCst);
    }

    /// The broker gave the end.
    pub fn see_end(&self, end: End) {
        *lock(&self.end) = Some(end);
        if self.next() >= end.offset {
            self.touch();
        }
    }

    /// The last end that the broker gave.
    pub fn end(&self) -> Option<End> {
        *lock(&self.end)
    }

    /// When the first and the last record since the start came.
    pub fn arrivals(&self) -> Option<(Time, Time)> {
        let last = self.last_arrival_micros.load(Ordering::SeqCst);
        let first = self.first_arrival_micros.load(Ordering::SeqCst);
        (last > 0).then(|| (Time::from_micros(first), Time::from_micros(last)))
    }

    /// Whether nothing was read for too long, with something there to read.
    pub fn is_unreadable(&self) -> bool {
        self.clock.elapsed().saturating_sub(*lock(&self.alive)) > UNREADABLE_AFTER
    }

    fn touch(&self) {
        *lock(&self.alive) = self.clock.elapsed();
    }
}

/// The metrics partitions, by number.
#[derive(Debug, Clone, Default)]
pub struct Partitions(Arc<Mutex<BTreeMap<u32, Arc<Progress>>>>);

impl Partitions {
    /// Adds one.
    pub fn add(&self, number: u32, progress: Arc<Progress>) {
        lock(&self.0).insert(number, progress);
    }

    /// Whether it is there.
    pub fn has(&self, number: u32) -> bool {
        lock(&self.0).contains_key(&number)
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<u32, Arc<Progress>> {
        lock(&self.0).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! How far each partition was read: written by its intake, read by whoever makes the cuts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::monotonic;
use crate::domain::time::Time;

/// A partition that made no progress for this long, and is not at its end, cannot be read.
const UNREADABLE_AFTER: Duration = Duration::from_secs(10);

/// The end of a partition, as the broker gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// When it was asked for: every record before it was appended earlier than its answer.
    pub(super) asked_at: Time,
    /// The next offset to be written.
    pub(super) offset: u64,
}

/// How far one partition was read.
#[derive(Debug)]
pub(super) struct Progress {
    next: AtomicU64,
    end: Mutex<Option<End>>,
    alive: Mutex<Instant>,
    first_arrival_micros: AtomicI64,
    last_arrival_micros: AtomicI64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
            end: Mutex::new(None),
            alive: Mutex::new(monotonic()),
            first_arrival_micros: AtomicI64::new(i64::MAX),
            last_arrival_micros: AtomicI64::new(0),
        }
    }

    /// Every record before this offset is durable in the ledger, or lost and confirmed so.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Records were appended, up to before `next`.
    pub(super) fn appended(&self, next: u64, now: Time) {
        self.next.fetch_max(next, Ordering::SeqCst);
        self.first_arrival_micros.fetch_min(now.micros(), Ordering::SeqCst);
        self.last_arrival_micros.fetch_max(now.micros(), Ordering::SeqCst);
        self.touch();
    }

    /// Nothing lies between the last record and `next`.
    pub(super) fn advance(&self, next: u64) {
        self.next.fetch_max(next, Ordering::SeqCst);
    }

    /// The broker gave the end.
    pub(super) fn see_end(&self, end: End) {
        *lock(&self.end) = Some(end);
        if self.next() >= end.offset {
            self.touch();
        }
    }

    pub(super) fn end(&self) -> Option<End> {
        *lock(&self.end)
    }

    /// When the first and the last record since the start came.
    pub(super) fn arrivals(&self) -> Option<(Time, Time)> {
        let last = self.last_arrival_micros.load(Ordering::SeqCst);
        let first = self.first_arrival_micros.load(Ordering::SeqCst);
        (last > 0).then(|| (Time::from_micros(first), Time::from_micros(last)))
    }

    pub(super) fn is_unreadable(&self) -> bool {
        lock(&self.alive).elapsed() > UNREADABLE_AFTER
    }

    fn touch(&self) {
        *lock(&self.alive) = monotonic();
    }
}

/// The metrics partitions, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Partitions(Arc<Mutex<BTreeMap<u32, Arc<Progress>>>>);

impl Partitions {
    pub(super) fn add(&self, number: u32, progress: Arc<Progress>) {
        lock(&self.0).insert(number, progress);
    }

    pub(super) fn has(&self, number: u32) -> bool {
        lock(&self.0).contains_key(&number)
    }

    pub(super) fn all(&self) -> BTreeMap<u32, Arc<Progress>> {
        lock(&self.0).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

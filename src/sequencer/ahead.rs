//! A ledger's entries read and parsed on all cores, ahead of whoever takes them, in order.
//!
//! The workers take the parts of a range in turn, each into a queue of its own, and the queues are emptied in turn; so what
//! comes out has the order of the ledger, whichever worker is faster.
//!
//! Bounds: [`PART_ENTRIES`] a part, and [`QUEUED_MAX`] parts of each worker that nobody has taken yet.

use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, Scope};

use ledger::{EntrySource, Reader};

use super::error::{SequencerError, of};

/// Entries of a part: some megabytes of provider logs. A range that is no longer is read by whoever asks.
pub(super) const PART_ENTRIES: u64 = 4_096;
/// Parts of each worker waiting to be taken.
const QUEUED_MAX: usize = 2;

type Made<T> = Result<T, ledger::Error>;
/// What one worker takes, and where it goes.
type Share<T> = (Parts, SyncSender<Made<T>>);

/// What the parts of a range become, in order.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    name: String,
    queues: Vec<Receiver<Made<T>>>,
    workers: Vec<JoinHandle<()>>,
    turn: usize,
    rest: Range<u64>,
}

impl<T: Default + Send> Ahead<T> {
    /// Begins to read a range of the ledger called `name`; `see` is given each entry of a part.
    pub(super) fn over(
        name: &str,
        reader: &Reader,
        range: Range<u64>,
        see: impl Fn(&mut T, &[u8]) + Clone + Send + 'static,
    ) -> Self
    where
        T: 'static,
    {
        let is_short = range.end.saturating_sub(range.start) <= PART_ENTRIES;
        let (mut ahead, shares) = Self::shared_out(name, range);
        for (parts, queue) in shares {
            let (reader, see) = (reader.clone(), see.clone());
            if is_short {
                work(&reader, &parts, &see, &queue);
            } else {
                ahead.workers.push(std::thread::spawn(move || work(&reader, &parts, &see, &queue)));
            }
        }
        ahead
    }

    /// The same of any source, by threads of a scope.
    pub(super) fn within<'scope>(
        scope: &'scope Scope<'scope, '_>,
        (name, source): (&str, &'scope dyn EntrySource),
        range: Range<u64>,
        see: impl Fn(&mut T, &[u8]) + Copy + Send + 'scope,
    ) -> Self
    where
        T: 'scope,
    {
        let (ahead, shares) = Self::shared_out(name, range);
        for (parts, queue) in shares {
            scope.spawn(move || work(source, &parts, &see, &queue));
        }
        ahead
    }

    /// The parts of each worker, and where they go.
    fn shared_out(name: &str, range: Range<u64>) -> (Self, Vec<Share<T>>) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let parts = range.end.saturating_sub(range.start).div_ceil(PART_ENTRIES);
        let workers = usize::try_from(parts).unwrap_or(usize::MAX).min(cores);
        let (mut queues, mut shares) = (Vec::new(), Vec::new());
        for number in 0..workers as u64 {
            let (queue, made) = sync_channel(QUEUED_MAX);
            let (start, step) = (range.start + number * PART_ENTRIES, workers as u64 * PART_ENTRIES);
            shares.push((Parts { start, end: range.end, step }, queue));
            queues.push(made);
        }
        (Self { name: name.to_owned(), queues, workers: Vec::new(), turn: 0, rest: range }, shares)
    }

    /// The position from which nothing was taken yet.
    pub(super) const fn at(&self) -> u64 {
        self.rest.start
    }

    /// The next part, and the position of its first entry.
    pub(super) fn next(&mut self) -> Result<Option<(u64, T)>, SequencerError> {
        let Some(queue) = self.queues.get(self.turn).filter(|_| !self.rest.is_empty()) else { return Ok(None) };
        let made =
            queue.recv().map_err(|_ended| SequencerError::Stopped("a thread that reads ahead ended".to_owned()))?;
        let first = self.rest.start;
        self.turn = (self.turn + 1) % self.queues.len();
        self.rest.start = self.rest.end.min(first + PART_ENTRIES);
        made.map(|part| Some((first, part))).map_err(of(&self.name))
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        // Without its queue a worker ends.
        self.queues.clear();
        for worker in self.workers.drain(..) {
            // One that panicked was noticed where its part was missing.
            let _ = worker.join();
        }
    }
}

/// The parts that one worker takes: every so many.
#[derive(Debug)]
struct Parts {
    start: u64,
    end: u64,
    step: u64,
}

fn work<T: Default>(
    source: &dyn EntrySource,
    parts: &Parts,
    see: &impl Fn(&mut T, &[u8]),
    queue: &SyncSender<Made<T>>,
) {
    let mut start = parts.start;
    while start < parts.end {
        let mut part = T::default();
        let read = source.for_each_entry(start..parts.end.min(start + PART_ENTRIES), &mut |_, entry| {
            see(&mut part, entry);
            ControlFlow::Continue(())
        });
        let is_wanted = queue.send(read.map(|()| part)).is_ok();
        if !is_wanted {
            return;
        }
        start += parts.step;
    }
}

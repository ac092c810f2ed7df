//! Files as sources: where in a ledger the lines of each may lie, so that a repeated or interrupted intake finds them.
//!
//! Invariants: each ledger has its own account of each file, so what a metric record claims says nothing of a governance file.
//! An account claims too much rather than too little (runs are merged where there are many): whoever asks reads the entries
//! and compares. A line that no run covers is not here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use crate::domain::leaf::Header;

/// Lines no farther apart are one run: blank ones are no entries.
const LINES_APART_MAX: u64 = 64;
/// Positions that a run spans, so that looking a line up reads no more.
const RUN_POSITIONS_MAX: u64 = 1 << 14;
/// Runs of one file in one ledger: 67 million entries; with more, neighbours become one.
const RUNS_MAX: usize = 4_096;

/// Lines of a file that follow one another, and the positions among which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRun {
    /// First line.
    pub first_line: u64,
    /// Last line.
    pub last_line: u64,
    /// Position of the first.
    pub first_position: u64,
    /// Position of the last.
    pub last_position: u64,
}

impl LineRun {
    /// One line.
    pub const fn at(line: u64, position: u64) -> Self {
        Self { first_line: line, last_line: line, first_position: position, last_position: position }
    }

    /// Whether `next` goes on where this run ends.
    pub(super) fn goes_on_with(&self, next: &Self) -> bool {
        next.first_line > self.last_line
            && next.first_line - self.last_line <= LINES_APART_MAX
            && next.first_position > self.last_position
            && next.last_position - self.first_position < RUN_POSITIONS_MAX
    }

    /// Covers what `other` covers too.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.first_line = self.first_line.min(other.first_line);
        self.last_line = self.last_line.max(other.last_line);
        self.first_position = self.first_position.min(other.first_position);
        self.last_position = self.last_position.max(other.last_position);
    }

    /// The same run with positions counted from `first`.
    pub(super) const fn after(self, first: u64) -> Self {
        Self { first_position: self.first_position + first, last_position: self.last_position + first, ..self }
    }
}

/// What one ledger has of one file: runs, by their first line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProgress {
    runs: Vec<LineRun>,
}

impl FileProgress {
    /// The runs, by their first line.
    pub fn runs(&self) -> &[LineRun] {
        &self.runs
    }

    /// The last line that may be here.
    pub fn last_line(&self) -> u64 {
        self.runs.iter().map(|run| run.last_line).max().unwrap_or(0)
    }

    fn add(&mut self, run: LineRun) {
        let at = self.runs.partition_point(|known| known.first_line <= run.first_line);
        match self.runs[..at].last_mut().filter(|before| before.goes_on_with(&run)) {
            Some(before) => before.absorb(&run),
            None => self.runs.insert(at, run),
        }
        if self.runs.len() > RUNS_MAX {
            let merged = |pair: &[LineRun]| {
                let mut run = pair[0];
                for other in pair {
                    run.absorb(other);
                }
                run
            };
            self.runs = self.runs.chunks(2).map(merged).collect();
        }
    }
}

/// All files, by ledger and number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    by_ledger: BTreeMap<String, BTreeMap<u64, FileProgress>>,
}

impl FileState {
    /// Takes note of an entry's header.
    pub fn see(&mut self, ledger: &str, position: u64, header: &Header) {
        if let (Some(file), Some(line)) = (header.file, header.line) {
            self.see_run(ledger, file, LineRun::at(line, position));
        }
    }

    /// Takes note of a run of a file's lines.
    pub fn see_run(&mut self, ledger: &str, file: u64, run: LineRun) {
        if !self.by_ledger.contains_key(ledger) {
            self.by_ledger.insert(ledger.to_owned(), BTreeMap::new());
        }
        if let Some(files) = self.by_ledger.get_mut(ledger) {
            files.entry(file).or_default().add(run);
        }
    }

    /// What each ledger has of file `number`.
    pub fn get(&self, number: u64) -> BTreeMap<String, FileProgress> {
        let of = |(ledger, files): (&String, &BTreeMap<u64, FileProgress>)| {
            Some((ledger.clone(), files.get(&number)?.clone()))
        };
        self.by_ledger.iter().filter_map(of).collect()
    }
}

/// Lets one intake of a file at a time compare and hand in, so that two callers do not both find a line missing; and keeps,
/// for each file, whether all that was handed in of it is known to be here.
#[derive(Clone, Debug, Default)]
pub struct FileTurns(Arc<Mutex<BTreeMap<u64, Arc<tokio::sync::Mutex<bool>>>>>);

impl FileTurns {
    /// Waits for the turn of an intake of file `number`.
    pub async fn take(&self, number: u64) -> FileTurn {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(number).or_default())
        };
        FileTurn(turn.lock_owned().await)
    }
}

/// The turn of one intake of a file, until it is dropped.
#[derive(Debug)]
#[must_use = "the turn is over when this is dropped"]
pub struct FileTurn(OwnedMutexGuard<bool>);

impl FileTurn {
    /// Whether everything handed in of the file is known to be here. It is not at first: this process may have been killed,
    /// as another, between the broker and the ledger.
    pub fn is_certain(&self) -> bool {
        *self.0
    }

    /// Lines are handed in from here on; whatever ends that before [`Self::settle`] leaves it uncertain where they are.
    pub fn doubt(&mut self) {
        *self.0 = false;
    }

    /// What was handed in, and all before it, is here, or not for sure.
    pub fn settle(&mut self, is_here: bool) {
        *self.0 = is_here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_order_are_few_runs_and_none_is_left_out() {
        let mut progress = FileProgress::default();
        (0..3 * RUN_POSITIONS_MAX).for_each(|index| progress.add(LineRun::at(2 * index + 1, index + 5)));
        assert_eq!(progress.runs().len(), 3);
        // What somebody claims far ahead is a run of its own, and covers no line between.
        progress.add(LineRun::at(999_999_999, 70_000));
        progress.add(LineRun::at(6 * RUN_POSITIONS_MAX + 1, 70_001));
        let covers = |progress: &FileProgress, line| {
            progress.runs().iter().any(|run| (run.first_line..=run.last_line).contains(&line))
        };
        assert!(covers(&progress, 6 * RUN_POSITIONS_MAX + 1) && !covers(&progress, 500_000_000));
        assert_eq!(progress.last_line(), 999_999_999);
    }

    #[test]
    fn however_lines_come_they_are_covered_and_runs_are_bounded() {
        let mut progress = FileProgress::default();
        let lines: Vec<u64> = (0..20_000_u64).map(|index| (index * 7_919) % 20_011 * 100).collect();
        (0..).zip(&lines).for_each(|(position, line)| progress.add(LineRun::at(*line, position)));
        assert!(progress.runs().len() <= RUNS_MAX);
        for (position, line) in (0..).zip(lines) {
            assert!(progress.runs().iter().any(|run| (run.first_line..=run.last_line).contains(&line)
                && (run.first_position..=run.last_position).contains(&position)));
        }
    }

    #[tokio::test]
    async fn where_lines_are_is_certain_only_after_a_turn_that_read_them_back() {
        let turns = FileTurns::default();
        let mut turn = turns.take(1).await;
        assert!(!turn.is_certain(), "nobody knows what an earlier process handed in");
        turn.settle(true);
        drop(turn);
        let mut turn = turns.clone().take(1).await;
        assert!(turn.is_certain());
        // An error, or a panic, ends a turn without a word.
        turn.doubt();
        drop(turn);
        let mut turn = turns.take(1).await;
        assert!(!turn.is_certain());
        turn.settle(false);
        drop(turn);
        assert!(!turns.take(1).await.is_certain(), "what was not read back in time");
        turns.take(1).await.settle(true);
        assert!(turns.take(1).await.is_certain() && !turns.take(2).await.is_certain(), "each file has its own account");
    }
}

//! A reader's entries one after the other, and a reader as any other source.

use std::{
    collections::VecDeque,
    ops::{ControlFlow, Range},
};

use crate::{
    error::Error,
    hash::Hash,
    reader::Reader,
    source::{EntrySource, Visit},
};

/// [`Entries`] reads ahead so many entries, or so many bytes.
const AHEAD_ENTRIES_MAX: usize = 256;
const AHEAD_BYTES_MAX: usize = 1 << 20;

impl EntrySource for Reader {
    fn size(&self) -> u64 {
        self.size()
    }

    fn root(&self) -> Hash {
        self.root()
    }

    fn root_at(&self, size: u64) -> Result<Hash, Error> {
        self.root_at(size)
    }

    fn entry(&self, position: u64) -> Result<Vec<u8>, Error> {
        self.entry(position)
    }

    fn for_each_entry(&self, range: Range<u64>, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.for_each_entry(range, visit)
    }

    fn inclusion_proof(&self, position: u64, size: u64) -> Result<Vec<Hash>, Error> {
        self.inclusion_proof(position, size)
    }

    fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        self.consistency_proof(old, new)
    }

    fn rotations_text(&self) -> String {
        self.keys().text().to_owned()
    }

    fn checkpoint_text(&self) -> String {
        self.checkpoint().text().to_owned()
    }
}

/// The entries of a range, from [`Reader::entries`].
#[derive(Debug)]
pub struct Entries {
    reader: Reader,
    /// What is not read yet.
    range: Range<u64>,
    ahead: VecDeque<(u64, Vec<u8>)>,
    has_failed: bool,
}

impl Entries {
    pub(crate) fn new(reader: Reader, range: Range<u64>) -> Self {
        Self { reader, range, ahead: VecDeque::new(), has_failed: false }
    }

    fn read_ahead(&mut self) -> Result<(), Error> {
        let mut bytes = 0;
        let ahead = &mut self.ahead;
        self.reader.for_each_entry(self.range.clone(), |position, entry| {
            bytes += entry.len();
            ahead.push_back((position, entry.to_vec()));
            if ahead.len() < AHEAD_ENTRIES_MAX && bytes < AHEAD_BYTES_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        self.range.start += self.ahead.len() as u64;
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = Result<(u64, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ahead.is_empty()
            && !self.range.is_empty()
            && !self.has_failed
            && let Err(error) = self.read_ahead()
        {
            self.has_failed = true;
            self.ahead.clear();
            return Some(Err(error));
        }
        self.ahead.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::LedgerKey,
        ledger::{Ledger, Options},
    };

    /// How many entries lie ready after each read, over all of a ledger of so many entries of so many bytes.
    fn reads(count: usize, bytes: usize) -> Vec<usize> {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("ledger");
        let all = vec![vec![7; bytes]; count];
        let mut ledger =
            Ledger::create(&dir, "node/x", LedgerKey::generate([1; 32]), Options::default(), &all[0]).unwrap();
        ledger.append_entries(&all[1..]).unwrap();
        let mut entries = ledger.reader().entries(0..count as u64);
        let mut reads = Vec::new();
        while entries.next().is_some() {
            reads.push(entries.ahead.len() + 1);
            for _ in 1..reads[reads.len() - 1] {
                entries.next().unwrap().unwrap();
            }
        }
        reads
    }

    #[test]
    fn no_more_is_read_ahead_than_the_bounds_allow() {
        assert_eq!(reads(AHEAD_ENTRIES_MAX * 2 + 3, 10), [AHEAD_ENTRIES_MAX, AHEAD_ENTRIES_MAX, 3]);
        let long = AHEAD_BYTES_MAX / 32;
        assert_eq!(reads(67, long), [32, 32, 3]);
    }
}

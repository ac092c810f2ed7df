//! What a ledger directory and a verified export have in common for those who read.

use std::ops::{ControlFlow, Range};

use crate::{error::Error, hash::Hash};

/// What [`EntrySource::for_each_entry`] calls for each entry.
pub type Visit<'a> = dyn FnMut(u64, &[u8]) -> ControlFlow<()> + 'a;

/// A ledger to read from, wherever it lies, and from several threads at once.
pub trait EntrySource: Sync {
    /// The number of entries.
    fn size(&self) -> u64;
    /// The signed root at that size.
    fn root(&self) -> Hash;
    /// The root at an earlier size.
    fn root_at(&self, size: u64) -> Result<Hash, Error>;
    /// One entry.
    fn entry(&self, position: u64) -> Result<Vec<u8>, Error>;
    /// Hands each entry of a range to `visit`, until it breaks off.
    fn for_each_entry(&self, range: Range<u64>, visit: &mut Visit<'_>) -> Result<(), Error>;
    /// The path from an entry to the root at `size`.
    fn inclusion_proof(&self, position: u64, size: u64) -> Result<Vec<Hash>, Error>;
    /// The proof that the first `old` entries are a prefix of the first `new`.
    fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error>;
    /// The signed checkpoint, verbatim.
    fn checkpoint_text(&self) -> String;
    /// The rotations of the ledger's key, verbatim: by these and the first key the checkpoint is verified.
    fn rotations_text(&self) -> String;
}

/// Checks that a position is held at a size.
pub(crate) fn check_position(position: u64, size: u64) -> Result<(), Error> {
    if position < size { Ok(()) } else { Err(Error::Position { position, from: 0, size }) }
}

/// Checks that a size was reached.
pub(crate) fn check_size(asked: u64, size: u64) -> Result<(), Error> {
    if asked <= size { Ok(()) } else { Err(Error::Size { asked, size }) }
}

//! What can go wrong, each fault its own variant with the value that offends.
//!
//! [`Error::Damage`] is apart from all others: the bytes at hand contradict what was once made durable
//! and signed. A torn tail is no damage; recovery cuts it off and says so in its report.

use std::{io, path::PathBuf};

use crate::{
    hash::Hash, key::KeyError, note::NoteError, proof::ProofFileError, tile::TilePathError, verify::VerifyError,
};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was durable is no longer what it was.
    #[error(transparent)]
    Damage(#[from] Box<Damage>),
    /// An earlier I/O error stopped this writer; only opening the ledger again can tell what became durable.
    #[error("the writer stopped after an error and must be opened again: {cause}")]
    Poisoned {
        /// The error that stopped it.
        cause: String,
    },
    /// Another process, or another handle in this one, is the writer.
    #[error("{path} is in use by another writer")]
    Locked {
        /// The ledger's directory.
        path: PathBuf,
    },
    /// `create` found something at the place.
    #[error("{path} exists already and is not empty")]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is no ledger at the place.
    #[error("{path} holds no ledger")]
    NoLedger {
        /// The directory.
        path: PathBuf,
    },
    /// The ledger is intact and belongs to another origin or key than the one given.
    #[error("{path} is not the ledger of {expected}: it was written under another origin or key")]
    OtherLedger {
        /// The directory.
        path: PathBuf,
        /// The verifier key that was expected.
        expected: String,
    },
    /// The origin cannot be the name of a key, or is too long.
    #[error("{0:?} cannot be an origin: 1 to 200 bytes, no space, no '+', no control character")]
    Origin(String),
    /// An entry over [`crate::ENTRY_BYTES_MAX`].
    #[error("an entry of {bytes} bytes is over the limit of 65535")]
    EntryTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The position is not held: not yet written, or before the first position held.
    #[error("position {position} is not held: the ledger holds {from}..{size}")]
    Position {
        /// The position asked for.
        position: u64,
        /// The first position held.
        from: u64,
        /// One past the last position held.
        size: u64,
    },
    /// The size is larger than the ledger.
    #[error("size {asked} is over the ledger's size {size}")]
    Size {
        /// The size asked for.
        asked: u64,
        /// The ledger's.
        size: u64,
    },
    /// No size that was reached has this tile.
    #[error("there is no {path} at size {size}")]
    NoTile {
        /// The tile's path.
        path: String,
        /// The ledger's size.
        size: u64,
    },
    /// An export directory is ahead of, or not of, the ledger that is to be exported into it.
    #[error("{path} holds an export that this ledger does not extend (size {export_size}, ledger {size})")]
    ExportDiffers {
        /// The directory.
        path: PathBuf,
        /// The size of the export there.
        export_size: u64,
        /// The ledger's size.
        size: u64,
    },
    /// No blob of this hash is there.
    #[error("there is no blob {hex}", hex = .hash.to_hex())]
    NoBlob {
        /// The hash.
        hash: Hash,
    },
    /// A key file or key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A signed note or checkpoint.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A proof that does not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A proof file.
    #[error(transparent)]
    ProofFile(#[from] ProofFileError),
    /// A tile path.
    #[error(transparent)]
    TilePath(#[from] TilePathError),
}

/// Where something is not what was once durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damage in {file} at byte {offset}: {kind}")]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The byte at which what is wrong begins.
    pub offset: u64,
    /// What is wrong.
    pub kind: DamageKind,
}

/// What is wrong about damaged bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    /// A segment's header is none, or is not what its name and neighbours say.
    #[error("the segment header is not valid")]
    SegmentHeader,
    /// A segment between others is missing, or none is there.
    #[error("the segment that should hold position {position} is missing")]
    SegmentMissing {
        /// The first position that has no segment.
        position: u64,
    },
    /// A frame's type or length cannot be.
    #[error("no frame can start like this (position {position})")]
    FrameHeader {
        /// The position of the next entry.
        position: u64,
    },
    /// A frame's checksum does not fit its bytes.
    #[error("the checksum of the frame does not fit (position {position})")]
    FrameChecksum {
        /// The position of the entry, or of the next one where the frame is a checkpoint.
        position: u64,
    },
    /// A file ends where it should go on.
    #[error("the file ends too early (position {position})")]
    Short {
        /// The position of the next entry.
        position: u64,
    },
    /// The ledger ends below the size that the head file says was durable.
    #[error("the ledger ends at {size}, and {head_size} entries were durable")]
    BelowHead {
        /// The size found.
        size: u64,
        /// The size in the head file.
        head_size: u64,
    },
    /// The head file is not valid.
    #[error("the head file is not valid")]
    Head,
    /// A checkpoint cannot be read or its signature does not verify.
    #[error("the checkpoint for position {position} is not valid: {why}")]
    Checkpoint {
        /// The size at which it stands.
        position: u64,
        /// The reason.
        why: String,
    },
    /// A checkpoint's size is not the number of entries before it.
    #[error("the checkpoint says size {stated} after {counted} entries")]
    CheckpointSize {
        /// The size it states.
        stated: u64,
        /// The entries counted.
        counted: u64,
    },
    /// The entries do not give the signed root.
    #[error("the entries give root {computed} at size {size}, and {signed} was signed")]
    Root {
        /// The size.
        size: u64,
        /// The root computed.
        computed: Hash,
        /// The root signed.
        signed: Hash,
    },
    /// A stored tree hash is not the one computed.
    #[error("the stored hash at level {level}, index {index} is not that of the entries")]
    TreeHash {
        /// Tile level.
        level: u8,
        /// Index in the level.
        index: u64,
    },
    /// An entry of the offset index is wrong.
    #[error("the offset index does not lead to position {position}")]
    Index {
        /// The position.
        position: u64,
    },
    /// The entry's hash is not the leaf in the tree.
    #[error("the entry at position {position} is not the one in the tree")]
    Entry {
        /// Its position.
        position: u64,
    },
    /// A tile of an export is missing, of a wrong length or does not give the root.
    #[error("the tile is missing, too short or does not lead to the signed root")]
    Tile,
    /// A file that does not belong.
    #[error("the file does not belong here")]
    Unknown,
    /// A blob whose bytes do not hash to its name.
    #[error("the bytes do not hash to the name")]
    Blob,
    /// The table at the end of a sealed segment is not valid.
    #[error("the block table of the sealed segment is not valid")]
    BlockTable,
    /// A block of a sealed segment is not what was written, or does not hold what the table says.
    #[error("block {block} of the sealed segment (positions {from} to {to}) is not valid")]
    SealedBlock {
        /// Its number.
        block: u64,
        /// The first position in it.
        from: u64,
        /// One past the last position in it.
        to: u64,
    },
}

impl Damage {
    pub(crate) fn error(file: impl Into<PathBuf>, offset: u64, kind: DamageKind) -> Error {
        Error::Damage(Box::new(Self { file: file.into(), offset, kind }))
    }
}

impl Error {
    /// The damage, where the error is that.
    pub fn damage(&self) -> Option<&Damage> {
        if let Self::Damage(damage) = self { Some(damage) } else { None }
    }
}

/// Gives an I/O error its file and what was tried.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        // What a sealed segment found wrong with its bytes is damage, and comes through the seam of the disk as
        // an error like any other.
        self.map_err(|source| match source.downcast::<Damage>() {
            Ok(damage) => Error::Damage(Box::new(damage)),
            Err(source) => Error::Io { action, path: path.into(), source },
        })
    }
}

//! An append-only ledger: bytes in; a signed Merkle tree, proofs and tiles out.
//!
//! In scope: segments of framed entries, the tree beside them, checkpoints, proofs, static export,
//! verification of all of it, keys, and recovery after a crash. Out of scope: what an entry means, where it
//! comes from, and what time it is. There is no clock here, no JSON and no randomness; a seed or a time is
//! handed in where a format asks for one.
//!
//! Invariants that hold everywhere:
//!
//! - What [`Ledger::append`] has returned is durable and signed, in the order of its positions.
//! - Nothing signed leaves the writer before it is durable.
//! - After an I/O error the writer stops for good; only [`Ledger::open`] finds out what became durable.
//! - A torn tail is cut off and reported. Bytes that contradict what was durable are [`Error::Damage`],
//!   and are never cut off.

pub mod blob;
mod block;
mod block_table;
mod blocks;
pub mod chain;
pub mod checkpoint;
pub mod copy;
pub mod cosigned;
mod create;
mod derived;
pub mod disk;
mod entries;
mod error;
pub mod export;
mod frame;
mod hash;
pub mod key;
mod layout;
mod ledger;
pub mod note;
pub mod proof;
mod reader;
mod recovery;
mod scan;
mod scanner;
mod seal;
mod sealed;
mod source;
pub mod tile;
mod tiles;
pub mod tree;
pub mod trust;
pub mod verify;

pub use chain::KeyChain;
pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use entries::Entries;
pub use error::{Damage, DamageKind, Error};
pub use frame::Chunk;
pub use hash::{Hash, HashError};
pub use key::{LedgerKey, verify_signature};
pub use ledger::{Ledger, Options};
pub use note::VerifierKey;
pub use reader::Reader;
pub use recovery::{HeadState, Recovery};
pub use seal::{SealedSegment, Sealer};
pub use source::{EntrySource, Visit};
pub use tile::TilePath;
pub use trust::TrustPolicy;

/// The longest entry: tiles give an entry's length in 16 bits.
pub const ENTRY_BYTES_MAX: usize = 65_535;

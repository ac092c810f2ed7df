//! Backups of what a serving stack needs to come back: files found, copied content-addressed to replication targets, read
//! again, compared, restored.
//!
//! In scope: files, objects and the manifest that lists them. Out of scope: what the ledger makes of the reports (the fold of
//! backups), and who sends them (the CLI).
//!
//! Order of a backup, per target: every object, each read again and compared; then the manifest, read again; only then is it
//! reported. A crash before the manifest leaves objects that the next run finds under their hashes and does not send again;
//! one between manifest and report leaves a backup that nobody was told of, and the next run reports one. Nothing is ever
//! overwritten: an object's name is its content's hash.
//!
//! The digest over the set is that of `OpenSSF` model signing: SHA-256 over the files' SHA-256 digests, in the order of their
//! names. It does not bind the names, so a report carries the manifest's own SHA-256 beside it.

mod artifacts;
mod error;
mod manifest;
mod read;
mod restore;
mod send;
mod target;

pub use artifacts::{Found, Kind, Links, Source, in_order, walk};
pub use error::BackupError;
pub use manifest::{File, Manifest};
pub use read::{Problem, check};
pub use restore::{Fetched, discard, restore};
pub use send::{Sent, describe, send};
pub use target::Target;

/// Told of bytes worked through, whatever was done with them.
pub type Progress<'a> = dyn Fn(u64) + Send + Sync + 'a;

/// Bytes sent at a time: a multipart upload's part.
const CHUNK_BYTES: u64 = 8 << 20;
/// Bytes read and hashed at a time.
const READ_BYTES: u64 = 4 << 20;
/// Files worked on at once. Each holds a few chunks, so this bounds memory.
const FILES_AT_ONCE: usize = 2;

//! Names in a ledger's directory, and how a segment begins.
//!
//! ```text
//! lock                                the writer's lock; empty
//! head                                how far the ledger is durable; unsynced
//! index                               where every sixteenth entry lies; rebuildable
//! segments/<first position>.segment   entries and checkpoints: the ledger itself
//! tree/<tile level>                   packed hashes of one tile level; rebuildable
//! ```
//!
//! A segment begins with a block that holds the signed checkpoint of the ledger as it was before the
//! segment's first entry. It is synced before anything is written after it, and it is written only when
//! tree and index are synced up to there: so it is also the last known good point from which a start reads on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    block::{BLOCK_BYTES, Block, SEGMENT_MAGIC},
    disk::{Access, Disk, DiskFile},
    error::{Damage, DamageKind, Error, IoContext as _},
    note::VerifierKey,
};

/// Where the first frame of a segment starts.
pub(crate) const SEGMENT_DATA_AT: u64 = BLOCK_BYTES as u64;
const SUFFIX: &str = ".segment";

pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

pub(crate) fn head_path(dir: &Path) -> PathBuf {
    dir.join("head")
}

pub(crate) fn index_path(dir: &Path) -> PathBuf {
    dir.join("index")
}

pub(crate) fn tree_dir(dir: &Path) -> PathBuf {
    dir.join("tree")
}

pub(crate) fn level_path(dir: &Path, level: u8) -> PathBuf {
    tree_dir(dir).join(level.to_string())
}

pub(crate) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("segments")
}

pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    segments_dir(dir).join(format!("{first:020}{SUFFIX}"))
}

/// The first positions of the segments that are there, in order. A name that is none is no segment.
pub(crate) fn list_segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let path = segments_dir(dir);
    let names = disk.list(&path).at("list", &path)?;
    Ok(names.iter().filter_map(|name| parse_segment_name(name)).collect())
}

pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Whether there is a ledger in the directory at all.
pub(crate) fn check_is_ledger(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let path = segments_dir(dir);
    match disk.stat(&path).at("examine", &path)? {
        Some(stat) if stat.is_dir => Ok(()),
        _ => Err(Error::NoLedger { path: dir.to_owned() }),
    }
}

/// A segment's file with the block that it begins with, or nothing in place of the block where it is not
/// valid, or not of this segment.
pub(crate) fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    first: u64,
    access: Access,
) -> Result<(Arc<dyn DiskFile>, Option<Block>), Error> {
    let path = segment_path(dir, first);
    let file = disk.open(&path, access).at("open", &path)?;
    let mut bytes = [0; BLOCK_BYTES];
    let filled = file.read_full_at(&mut bytes, 0).at("read", &path)?;
    let block = Block::decode(SEGMENT_MAGIC, &bytes[..filled])
        .filter(|block| block.segment == first && block.checkpoint.size() == first);
    Ok((file, block))
}

/// Checks that a block's checkpoint is signed by the ledger's key under its origin. The bytes have passed
/// their checksum, so where they are not, the ledger is another one.
pub(crate) fn check_identity(dir: &Path, block: &Block, key: &VerifierKey) -> Result<(), Error> {
    block
        .checkpoint
        .verify(key)
        .map_err(|_error| Error::OtherLedger { path: dir.to_owned(), expected: key.to_string() })
}

pub(crate) fn header_damage(dir: &Path, first: u64) -> Error {
    Damage::error(segment_path(dir, first), 0, DamageKind::SegmentHeader)
}

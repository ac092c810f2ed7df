//! Names in a ledger's directory, and how a segment begins.
//!
//! ```text
//! lock                                the writer's lock; empty
//! head                                how far the ledger is durable; unsynced
//! index                               where every sixteenth entry lies; rebuildable
//! segments/<first position>.segment   entries and checkpoints: the ledger itself
//! segments/<first position>.sealed    the same, compressed, of a segment that is no longer written to
//! segments/<first position>.sealing   one that is being made; of no account, and removed at a start
//! checkpoint.cosigned                 the last checkpoint that witnesses cosigned, where there are any
//! tree/<tile level>                   packed hashes of one tile level; rebuildable
//! ```
//!
//! A segment begins with a block that holds the signed checkpoint of the ledger as it was before the
//! segment's first entry. It is synced before anything is written after it, and it is written only when
//! tree and index are synced up to there: so it is also the last known good point from which a start reads on.
//!
//! A segment is there raw, or sealed, or both; where both are, the raw one counts (see `seal`).

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    block::{BLOCK_BYTES, Block, SEGMENT_MAGIC},
    blocks::Blocks,
    chain::KeyChain,
    disk::{Access, Disk, DiskFile},
    error::{Damage, DamageKind, Error, IoContext as _},
    sealed::SealedFile,
};

/// Where the first frame of a segment starts.
pub(crate) const SEGMENT_DATA_AT: u64 = BLOCK_BYTES as u64;
pub(crate) const RAW: &str = "segment";
pub(crate) const SEALED: &str = "sealed";
const SEALING: &str = "sealing";

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
    path_of(dir, first, RAW)
}

pub(crate) fn sealed_path(dir: &Path, first: u64) -> PathBuf {
    path_of(dir, first, SEALED)
}

pub(crate) fn sealing_path(dir: &Path, first: u64) -> PathBuf {
    path_of(dir, first, SEALING)
}

fn path_of(dir: &Path, first: u64, form: &str) -> PathBuf {
    segments_dir(dir).join(format!("{first:020}.{form}"))
}

/// The first positions of the segments that are there, raw or sealed, in order. A name that is none is no segment.
///
/// Listed twice: while one listing is under way a segment can change its name from one that is not yet passed to
/// one that is. It does so once, so the second listing has it.
pub(crate) fn list_segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let path = segments_dir(dir);
    let mut found = BTreeSet::new();
    for _ in 0..2 {
        let names = disk.list(&path).at("list", &path)?;
        found.extend(names.iter().filter_map(|name| parse_segment_name(name)));
    }
    Ok(found.into_iter().collect())
}

/// The first position of a segment that is there under this name, raw or sealed.
fn parse_segment_name(name: &str) -> Option<u64> {
    let (first, form) = parse_name(name)?;
    (form != SEALING).then_some(first)
}

/// Whether a file of this name belongs among the segments.
pub(crate) fn belongs(name: &str) -> bool {
    parse_name(name).is_some()
}

/// Whether this is the name of a segment that is being sealed, or was when the writer stopped.
pub(crate) fn is_sealing(name: &str) -> bool {
    parse_name(name).is_some_and(|(_, form)| form == SEALING)
}

fn parse_name(name: &str) -> Option<(u64, &str)> {
    let (digits, form) = name.split_once('.')?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_form = [RAW, SEALED, SEALING].contains(&form);
    (is_number && is_form).then_some(())?;
    Some((digits.parse().ok()?, form))
}

/// Whether there is a ledger in the directory at all.
pub(crate) fn check_is_ledger(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let path = segments_dir(dir);
    match disk.stat(&path).at("examine", &path)? {
        Some(stat) if stat.is_dir => Ok(()),
        _ => Err(Error::NoLedger { path: dir.to_owned() }),
    }
}

/// A segment that is open for reading.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// The raw segment's bytes, whichever form they are kept in.
    pub(crate) file: Arc<dyn DiskFile>,
    /// The same file, where it is a sealed one.
    pub(crate) sealed: Option<Arc<SealedFile>>,
}

/// Opens a segment for reading. The raw one counts where it is there. It goes only after the sealed one has
/// come, so whoever finds it gone finds that.
pub(crate) fn find_segment(disk: &dyn Disk, dir: &Path, first: u64, blocks: &Arc<Blocks>) -> Result<Segment, Error> {
    let path = segment_path(dir, first);
    match disk.open(&path, Access::Read) {
        Ok(file) => return Ok(Segment { path, file, sealed: None }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).at("open", path),
    }
    let path = sealed_path(dir, first);
    let sealed = Arc::new(SealedFile::open(disk, &path, first, blocks)?);
    let file: Arc<dyn DiskFile> = Arc::<SealedFile>::clone(&sealed);
    Ok(Segment { path, file, sealed: Some(sealed) })
}

impl Segment {
    /// The block that the segment begins with, or nothing where that is not valid, or not of this segment.
    pub(crate) fn header(&self, first: u64) -> Result<Option<Block>, Error> {
        read_header(self.file.as_ref(), first).at("read", &self.path)
    }

    /// The same, where it must be valid.
    pub(crate) fn valid_header(&self, first: u64) -> Result<Block, Error> {
        self.header(first)?.ok_or_else(|| header_damage(&self.path))
    }
}

pub(crate) fn read_header(file: &dyn DiskFile, first: u64) -> io::Result<Option<Block>> {
    let mut bytes = [0; BLOCK_BYTES];
    let filled = file.read_full_at(&mut bytes, 0)?;
    let block = Block::decode(SEGMENT_MAGIC, &bytes[..filled]);
    Ok(block.filter(|block| block.segment == first && block.checkpoint.size() == first))
}

/// Checks that a block's checkpoint is signed by the ledger's key under its origin. The bytes have passed
/// their checksum, so where they are not, the ledger is another one.
pub(crate) fn check_identity(dir: &Path, block: &Block, keys: &KeyChain) -> Result<(), Error> {
    keys.verify(&block.checkpoint)
        .map_err(|_error| Error::OtherLedger { path: dir.to_owned(), expected: keys.first().to_string() })
}

pub(crate) fn header_damage(path: &Path) -> Error {
    Damage::error(path, 0, DamageKind::SegmentHeader)
}

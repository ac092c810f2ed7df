//! Opening: what of the bytes on disk is the ledger.
//!
//! The last segment is read from its header on, and each batch that its checkpoint frame closes is taken
//! into tree and index as if it had just been appended. What follows the last checkpoint frame was never
//! acknowledged and is cut off, but only where nothing contradicts that:
//!
//! - the head file says that no more was durable;
//! - no whole signed checkpoint with further bytes behind it follows the fault. A batch is begun only when
//!   the one before it is durable, so there the fault is in a durable batch.
//!
//! Anything else is damage, is left as it is, and opens nothing.
//!
//! A last segment is never sealed, so a sealed one says that there was another after it. Sealing that the writer's
//! end interrupted left a file of no account, which is removed, or both forms of a segment, which both stay: the
//! raw one counts, and the next sealing puts the other anew (see `seal`).
//!
//! The last batch may be pages that a failed sync left clean in memory and that never reached the disk. So
//! it is written and synced again, always, before it is trusted.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    block::{BLOCK_BYTES, Block, HEAD_MAGIC, SEGMENT_MAGIC},
    blocks::Blocks,
    chain::KeyChain,
    checkpoint::SignedCheckpoint,
    derived::{DerivedFiles, DerivedWriter, TreeView},
    disk::{Access, Disk, DiskFile, parent, read_file},
    error::{Damage, DamageKind, Error, IoContext as _},
    frame::FrameKind,
    hash::Hash,
    layout::{
        SEGMENT_DATA_AT, check_identity, find_segment, head_path, header_damage, is_sealing, list_segments,
        read_header, sealed_path, segment_path, segments_dir,
    },
    ledger::OpenSegment,
    scan::{SCAN_READ_BYTES, Scanned, fault_damage, scan},
    scanner::{Scan, Scanner, find_checkpoint},
    sealed::SealedFile,
    tiles::TileCache,
    tree,
};

/// What opening found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The number of entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Entries read to get there: those of the last segment, or all where the tree had to be made again.
    pub entries_scanned: u64,
    /// Bytes after the last checkpoint frame, cut off.
    pub tail_bytes_cut: u64,
    /// Whole entries among them. They were never acknowledged.
    pub tail_entries_cut: u64,
    /// Bytes of the last batch, written and synced again.
    pub suspect_bytes_rewritten: u64,
    /// Whether tree and index did not lead to the signed root and were made again from the entries.
    pub tree_rebuilt: bool,
    /// Whether a segment that was begun and never used was removed.
    pub empty_segment_removed: bool,
    /// Files of a sealing that was interrupted, removed.
    pub sealings_removed: u64,
    /// What the head file said.
    pub head: HeadState,
}

impl Recovery {
    /// Whether the ledger was found as a writer leaves it that was not interrupted.
    pub fn was_clean(&self) -> bool {
        self.tail_bytes_cut == 0 && !self.tree_rebuilt && !self.empty_segment_removed && self.head == HeadState::Agrees
    }
}

/// What the head file said, compared with what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadState {
    /// The size found.
    Agrees,
    /// An earlier size: the writer was stopped, or the machine, before the head was on disk.
    Behind {
        /// That size.
        size: u64,
    },
    /// There is none.
    Missing,
    /// It is not valid; it was no help against loss at the tail.
    Unreadable,
}

/// A ledger as found, ready to be appended to.
pub(crate) struct Recovered {
    pub(crate) segments: Vec<u64>,
    pub(crate) segment: OpenSegment,
    pub(crate) derived: DerivedWriter,
    pub(crate) checkpoint: SignedCheckpoint,
    pub(crate) report: Recovery,
}

/// The last segment and what precedes it.
struct Last {
    segments: Vec<u64>,
    first: u64,
    file: Arc<dyn DiskFile>,
    header: Block,
    empty_segment_removed: bool,
}

pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    keys: &KeyChain,
    files: &Arc<DerivedFiles>,
) -> Result<Recovered, Error> {
    let head = read_head(disk.as_ref(), dir, keys)?;
    let last = find_last(disk.as_ref(), dir, head.as_ref())?;
    check_identity(dir, &last.header, keys)?;
    let (mut derived, tree_rebuilt) = match resume(files, &last) {
        Some(derived) => (derived, false),
        None => (rebuild(disk.as_ref(), dir, files, &last)?, true),
    };
    let scanned = scan(&segment_path(dir, last.first), &last.file, &mut derived)?;
    let checkpoint = last_checkpoint(dir, &last, &scanned, keys, &derived)?;
    derived.flush()?;
    check_head(dir, head.as_ref(), &checkpoint, &scanned, files)?;
    let tail_bytes_cut = cut_tail(dir, &last, &scanned, keys, checkpoint.size())?;
    let suspect_bytes_rewritten = rewrite_suspect(disk.as_ref(), dir, &last, &scanned)?;
    derived.cut()?;
    let sealings_removed = remove_sealings(disk.as_ref(), dir)?;
    let size = checkpoint.size();
    let report = Recovery {
        size,
        root: checkpoint.root(),
        entries_scanned: if tree_rebuilt { size } else { size - last.first },
        tail_bytes_cut,
        tail_entries_cut: scanned.tail_entries,
        suspect_bytes_rewritten,
        tree_rebuilt,
        empty_segment_removed: last.empty_segment_removed,
        sealings_removed,
        head: match head {
            Head::Block(block) if block.checkpoint.size() == size => HeadState::Agrees,
            Head::Block(block) => HeadState::Behind { size: block.checkpoint.size() },
            Head::Missing => HeadState::Missing,
            Head::Unreadable => HeadState::Unreadable,
        },
    };
    let segment = OpenSegment { first: last.first, file: last.file, end: scanned.batch.end };
    Ok(Recovered { segments: last.segments, segment, derived, checkpoint, report })
}

/// The head file as it is.
#[derive(Debug)]
pub(crate) enum Head {
    Block(Box<Block>),
    Missing,
    Unreadable,
}

impl Head {
    fn as_ref(&self) -> Option<&Block> {
        if let Self::Block(block) = self { Some(block) } else { None }
    }
}

/// Reads the head file. One whose signature is not by the ledger's key is as good as none: whether it is
/// another ledger's is decided by the segments.
pub(crate) fn read_head(disk: &dyn Disk, dir: &Path, keys: &KeyChain) -> Result<Head, Error> {
    let path = head_path(dir);
    if disk.stat(&path).at("examine", &path)?.is_none() {
        return Ok(Head::Missing);
    }
    let bytes = read_file(disk, &path, BLOCK_BYTES).at("read", &path)?;
    let block = Block::decode(HEAD_MAGIC, &bytes).filter(|block| keys.verify(&block.checkpoint).is_ok());
    Ok(block.map_or(Head::Unreadable, |block| Head::Block(Box::new(block))))
}

/// Opens the last segment, after removing one that was begun and holds nothing.
fn find_last(disk: &dyn Disk, dir: &Path, head: Option<&Block>) -> Result<Last, Error> {
    let mut segments = list_segments(disk, dir)?;
    if segments.first() != Some(&0) {
        return Err(Damage::error(segments_dir(dir), 0, DamageKind::SegmentMissing { position: 0 }));
    }
    // A segment that the head file names held a durable batch.
    if let Some(head) = head.filter(|head| !segments.contains(&head.segment)) {
        return Err(Damage::error(segments_dir(dir), 0, DamageKind::SegmentMissing { position: head.segment }));
    }
    // Removed only once it is known that it was the only one begun: damage is left as it is.
    let mut begun: Option<PathBuf> = None;
    loop {
        let Some(&first) = segments.last() else {
            return Err(Damage::error(segments_dir(dir), 0, DamageKind::SegmentMissing { position: 0 }));
        };
        let path = segment_path(dir, first);
        let file = match disk.open(&path, Access::Write) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(sealed_is_last(disk, dir, first)),
            Err(error) => return Err(error).at("open", path),
        };
        let header = read_header(file.as_ref(), first).at("read", &path)?;
        if let Some(header) = header {
            if let Some(begun) = &begun {
                disk.remove_file(begun).at("remove", begun)?;
                disk.sync_dir(&segments_dir(dir)).at("sync", segments_dir(dir))?;
            }
            return Ok(Last { segments, first, file, header, empty_segment_removed: begun.is_some() });
        }
        // A header is synced before anything is written after it. So without anything after it, it was
        // being written when the writer stopped; with anything, it was valid once. So it was where the segment
        // before it is sealed, which no last one ever was.
        let len = file.len().at("examine", &path)?;
        let before = segments.iter().rev().nth(1).map(|before| sealed_path(dir, *before));
        let is_sealed = match before {
            Some(before) => disk.stat(&before).at("examine", &before)?.is_some(),
            None => false,
        };
        let is_used = is_sealed || len > SEGMENT_DATA_AT || head.is_some_and(|head| head.segment == first);
        if is_used || segments.len() == 1 || begun.is_some() {
            return Err(header_damage(&path));
        }
        segments.pop();
        begun = Some(path);
    }
}

/// What is wrong where the last segment is a sealed one: there was another.
pub(crate) fn sealed_is_last(disk: &dyn Disk, dir: &Path, first: u64) -> Error {
    match SealedFile::open(disk, &sealed_path(dir, first), first, &Arc::default()) {
        Ok(sealed) => {
            let kind = DamageKind::SegmentMissing { position: sealed.table().end_position() };
            Damage::error(segments_dir(dir), 0, kind)
        }
        Err(error) => error,
    }
}

/// Removes what an interrupted sealing left. It is not made durable: what comes back is removed again.
fn remove_sealings(disk: &dyn Disk, dir: &Path) -> Result<u64, Error> {
    let segments = segments_dir(dir);
    let mut removed = 0;
    for name in disk.list(&segments).at("list", &segments)?.iter().filter(|name| is_sealing(name)) {
        let path = segments.join(name);
        disk.remove_file(&path).at("remove", &path)?;
        removed += 1;
    }
    Ok(removed)
}

/// Takes up tree and index at the last segment's first position, if they lead to the root signed there.
fn resume(files: &Arc<DerivedFiles>, last: &Last) -> Option<DerivedWriter> {
    // An I/O error here is answered like a wrong root: by making everything again, which reports it if it stays.
    let derived = DerivedWriter::resume(Arc::clone(files), last.first).ok()?;
    (derived.frontier().root() == last.header.checkpoint.root()).then_some(derived)
}

/// Makes tree and index again from all segments before the last.
fn rebuild(disk: &dyn Disk, dir: &Path, files: &Arc<DerivedFiles>, last: &Last) -> Result<DerivedWriter, Error> {
    let mut derived = DerivedWriter::resume(Arc::clone(files), 0)?;
    let blocks = Arc::<Blocks>::default();
    for &first in last.segments.iter().take_while(|first| **first != last.first) {
        let at = derived.frontier().size();
        if first != at {
            return Err(Damage::error(segments_dir(dir), 0, DamageKind::SegmentMissing { position: at }));
        }
        let segment = find_segment(disk, dir, first, &blocks)?;
        let header = segment.valid_header(first)?;
        check_root(&segment.path, 0, &header.checkpoint, &derived)?;
        let scanned = scan(&segment.path, &segment.file, &mut derived)?;
        // Only the last segment can end in anything but a checkpoint frame.
        if scanned.fault.is_some() || scanned.tail_entries > 0 {
            return Err(fault_damage(&segment.path, &scanned, derived.frontier().size()));
        }
    }
    check_root(&segment_path(dir, last.first), 0, &last.header.checkpoint, &derived)?;
    Ok(derived)
}

/// The checkpoint of what was found: signed by the key, for as many entries, with their root.
fn last_checkpoint(
    dir: &Path,
    last: &Last,
    scanned: &Scanned,
    keys: &KeyChain,
    derived: &DerivedWriter,
) -> Result<SignedCheckpoint, Error> {
    let Some(text) = &scanned.checkpoint else {
        return Ok(last.header.checkpoint.clone());
    };
    let position = derived.frontier().size();
    let checkpoint = str::from_utf8(text)
        .map_err(|error| error.to_string())
        .and_then(|text| keys.checkpoint(text).map_err(|error| error.to_string()));
    let checkpoint = checkpoint.map_err(|why| {
        let kind = DamageKind::Checkpoint { position, why };
        Damage::error(segment_path(dir, last.first), scanned.batch.end, kind)
    })?;
    check_root(&segment_path(dir, last.first), scanned.batch.end, &checkpoint, derived)?;
    Ok(checkpoint)
}

fn check_root(path: &Path, offset: u64, checkpoint: &SignedCheckpoint, derived: &DerivedWriter) -> Result<(), Error> {
    let frontier = derived.frontier();
    let (size, computed) = (frontier.size(), frontier.root());
    let kind = if checkpoint.size() != size {
        DamageKind::CheckpointSize { stated: checkpoint.size(), counted: size }
    } else if checkpoint.root() != computed {
        DamageKind::Root { size, computed, signed: checkpoint.root() }
    } else {
        return Ok(());
    };
    Err(Damage::error(path, offset, kind))
}

/// The ledger must be at least what the head file says was durable, and have the root signed then.
fn check_head(
    dir: &Path,
    head: Option<&Block>,
    checkpoint: &SignedCheckpoint,
    scanned: &Scanned,
    files: &Arc<DerivedFiles>,
) -> Result<(), Error> {
    let Some(head) = head else { return Ok(()) };
    let (size, head_size) = (checkpoint.size(), head.checkpoint.size());
    if size < head_size {
        let last = head.segment;
        let offset = scanned.fault.map_or(scanned.batch.end, |(offset, _)| offset);
        return Err(Damage::error(segment_path(dir, last), offset, DamageKind::BelowHead { size, head_size }));
    }
    // The head signed before is a prefix of what was found.
    let view = TreeView { files, cache: &TileCache::default(), size };
    let computed = tree::root(&view, head_size)?;
    if computed != head.checkpoint.root() {
        let kind = DamageKind::Root { size: head_size, computed, signed: head.checkpoint.root() };
        return Err(Damage::error(head_path(dir), 0, kind));
    }
    Ok(())
}

/// Cuts off what follows the last checkpoint frame, unless it shows that more was durable.
fn cut_tail(dir: &Path, last: &Last, scanned: &Scanned, keys: &KeyChain, size: u64) -> Result<u64, Error> {
    let path = segment_path(dir, last.first);
    let len = last.file.len().at("examine", &path)?;
    let tail = len.saturating_sub(scanned.batch.end);
    if tail == 0 {
        return Ok(0);
    }
    if let Some((offset, _)) = scanned.fault {
        let rest = usize::try_from(len - offset).unwrap_or(usize::MAX);
        let mut bytes = vec![0; rest];
        last.file.read_exact_at(&mut bytes, offset).at("read", &path)?;
        if was_durable(&bytes, keys) {
            return Err(fault_damage(&path, scanned, size));
        }
    }
    last.file.set_len(scanned.batch.end).at("cut", &path)?;
    Ok(tail)
}

/// Whether bytes that begin with no valid frame show that what they begin with was durable: a signed
/// checkpoint follows, and after it another batch was begun.
fn was_durable(bytes: &[u8], keys: &KeyChain) -> bool {
    let is_signed = |text: &[u8]| str::from_utf8(text).is_ok_and(|text| keys.checkpoint(text).is_ok());
    find_checkpoint(bytes, 1, is_signed).is_some_and(|(_, end)| bytes[end..].iter().any(|byte| *byte != 0))
}

/// Writes the last batch (or the header, where there is no batch after it) again and syncs it, with the
/// shorter length and the names.
fn rewrite_suspect(disk: &dyn Disk, dir: &Path, last: &Last, scanned: &Scanned) -> Result<u64, Error> {
    let path = segment_path(dir, last.first);
    let rewritten = if scanned.checkpoint.is_some() {
        rewrite_batch(&last.file, &path, scanned)?
    } else {
        last.file.write_all_at(&last.header.encode(SEGMENT_MAGIC), 0).at("write", &path)?;
        SEGMENT_DATA_AT
    };
    last.file.sync_data().at("sync", &path)?;
    // The names down to the file too: the sync that should have made one durable may be the one that failed,
    // be it that of the ledger's own name when it was made.
    for path in [&segments_dir(dir), dir, parent(dir)] {
        disk.sync_dir(path).at("sync", path)?;
    }
    Ok(rewritten)
}

/// Writes the last batch as it is read once more. Memory may have dropped a page since it was scanned, one
/// that looked clean and never reached the disk; what is written is therefore checked again. Being dirty now,
/// it stays as it is until it is synced.
fn rewrite_batch(file: &Arc<dyn DiskFile>, path: &Path, scanned: &Scanned) -> Result<u64, Error> {
    let batch = scanned.batch.clone();
    let mut at = batch.start;
    let mut buffer = vec![0; SCAN_READ_BYTES];
    while at < batch.end {
        let len = usize::try_from(batch.end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..len], at).at("read", path)?;
        file.write_all_at(&buffer[..len], at).at("write", path)?;
        at += len as u64;
    }
    let mut frames = Scanner::new(Arc::clone(file), batch.start, SCAN_READ_BYTES);
    while frames.offset() < batch.end {
        let is_as_before = match frames.next().at("read", path)? {
            Scan::Frame(frame) if frame.end() < batch.end => frame.kind == FrameKind::Entry,
            Scan::Frame(frame) => scanned.checkpoint.as_deref() == Some(frame.payload()),
            Scan::End | Scan::Bad(_) => false,
        };
        if !is_as_before {
            let source = io::Error::other("the last batch is not what it was when it was read before");
            return Err(source).at("make durable", path);
        }
    }
    Ok(batch.end - batch.start)
}

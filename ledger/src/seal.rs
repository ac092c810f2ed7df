//! Sealing: putting a compressed file in the place of a segment that is no longer written to.
//!
//! The order, and what a crash after each step leaves. Until step 4 the raw segment is all that counts; from
//! step 5 on the sealed one is there for good, and it is only then that the raw one goes.
//!
//! 1. The raw segment is read, each frame checked, and its blocks are written to `<first>.sealing`. *A crash
//!    leaves some of it: of no account, and removed when the ledger is opened.*
//! 2. `<first>.sealing` is synced. *As before.*
//! 3. It is opened as any sealed segment is, and every block is compared with the raw segment. *As before.* What
//!    does not come out as it went in is never put in place.
//! 4. It is renamed to `<first>.sealed`. *A crash leaves it under the old name, or under the new one beside the
//!    raw segment: then the raw one counts, and it is sealed again.*
//! 5. The directory is synced: the sealed segment is durable, name and content.
//! 6. The raw segment is removed. *A crash leaves both, or the sealed one alone.*
//! 7. Handles of the raw file that readers here have kept are dropped, so that its space is free. Dropped any
//!    sooner, one might be opened and kept again; who still reads through one reads the same bytes.
//! 8. The directory is synced. *Should this fail, a raw segment may come back: both are there, as after 6.*
//!
//! Where both forms are there the sealed one is not removed at once: until the raw one was read from end to end
//! it may be the better one. Sealing again does that, and puts its own in the place of the other.
//!
//! Invariants: the last segment is never sealed; a raw segment is removed only when a sealed one with its very
//! bytes is durable; an error here stops nobody, and what was not sealed is sealed later. The handle holds the
//! writer's lock, so no other process seals, or opens for writing, meanwhile.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use zstd::bulk::Compressor;

use crate::{
    block_table::{BLOCK_RAW_BYTES_MAX, BlockTable},
    blocks::Blocks,
    chain::KeyChain,
    disk::{Access, DiskFile},
    error::{Damage, DamageKind, Error, IoContext as _},
    frame::FrameKind,
    layout::{SEGMENT_DATA_AT, header_damage, read_header, sealed_path, sealing_path, segment_path, segments_dir},
    reader::Shared,
    scan::SCAN_READ_BYTES,
    scanner::{Fault, Scan, Scanner},
    sealed::SealedFile,
};

/// Higher levels took more time and gave nothing on provider logs.
const LEVEL: i32 = 1;
/// Written with one call.
const WRITE_BYTES: usize = 1 << 18;

/// What a ledger's sealers have in common.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Segments that need no look any more: sealed, or found damaged.
    done: BTreeSet<u64>,
}

/// A handle that seals a ledger's segments, to be used from any thread while the writer appends and readers
/// read. One segment is sealed at a time, however many handles there are. The directory stays locked as long as
/// there is one.
#[derive(Clone, Debug)]
pub struct Sealer {
    shared: Arc<Shared>,
    progress: Arc<Mutex<Progress>>,
    block_bytes: usize,
    /// Never read.
    _lock: Arc<dyn DiskFile>,
}

/// A segment that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its first position.
    pub first: u64,
    /// Its entries.
    pub entries: u64,
    /// Its bytes before.
    pub raw_bytes: u64,
    /// Its bytes now.
    pub sealed_bytes: u64,
}

impl Sealer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        progress: Arc<Mutex<Progress>>,
        block_bytes: u32,
        lock: Arc<dyn DiskFile>,
    ) -> Self {
        let block_bytes = usize::try_from(block_bytes).unwrap_or(usize::MAX).min(BLOCK_RAW_BYTES_MAX);
        Self { shared, progress, block_bytes, _lock: lock }
    }

    /// Seals the first segment that waits for it and says which; nothing where none does. After an I/O error the
    /// next call tries the same segment again. One that is damaged is reported once, and left as it is.
    pub fn seal_next(&self) -> Result<Option<SealedSegment>, Error> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        for pair in self.shared.segments().windows(2) {
            let [first, next] = [pair[0], pair[1]];
            if progress.done.contains(&first) {
                continue;
            }
            let raw = segment_path(self.shared.dir(), first);
            let is_raw = self.shared.disk().stat(&raw).at("examine", &raw)?.is_some();
            let sealed = if is_raw { self.seal(first, next).map(Some) } else { Ok(None) };
            if !matches!(sealed, Err(Error::Io { .. })) {
                progress.done.insert(first);
            }
            match sealed {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return sealed,
            }
        }
        Ok(None)
    }

    /// The number of segments before the last that were not looked at yet.
    pub fn waiting(&self) -> usize {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.segments().len().saturating_sub(1).saturating_sub(progress.done.len())
    }

    fn seal(&self, first: u64, next: u64) -> Result<SealedSegment, Error> {
        let (disk, dir) = (self.shared.disk(), self.shared.dir());
        let (raw_path, sealing, sealed) = (segment_path(dir, first), sealing_path(dir, first), sealed_path(dir, first));
        let raw = disk.open(&raw_path, Access::Read).at("open", &raw_path)?;
        let put = self.write(&raw, first, next).and_then(|sealed_bytes| {
            self.compare(raw.as_ref(), first)?;
            disk.rename(&sealing, &sealed).at("put in place", &sealed)?;
            Ok(sealed_bytes)
        });
        let sealed_bytes = put.inspect_err(|_error| {
            // Where there is no space, what was written must not take up what is left. If it stays it is of no account.
            let _ = disk.remove_file(&sealing);
        })?;
        let segments = segments_dir(dir);
        disk.sync_dir(&segments).at("sync", &segments)?;
        // From here on the sealed segment is durable, so the raw one may go.
        let raw_bytes = raw.len().at("examine", &raw_path)?;
        disk.remove_file(&raw_path).at("remove", &raw_path)?;
        self.shared.forget_segment(first);
        disk.sync_dir(&segments).at("sync", &segments)?;
        Ok(SealedSegment { first, entries: next - first, raw_bytes, sealed_bytes })
    }

    /// Writes the blocks of a segment and their table, synced, and says how long the file is.
    fn write(&self, raw: &Arc<dyn DiskFile>, first: u64, next: u64) -> Result<u64, Error> {
        let (disk, dir) = (self.shared.disk(), self.shared.dir());
        let (raw_path, path) = (segment_path(dir, first), sealing_path(dir, first));
        // What an earlier attempt left may hold pages that look clean and are not: a new file has none.
        if disk.stat(&path).at("examine", &path)?.is_some() {
            disk.remove_file(&path).at("remove", &path)?;
        }
        let file = disk.open(&path, Access::CreateNew).at("create", &path)?;
        let mut writer = BlockWriter::new(file.as_ref(), first).at("make a compressor for", &path)?;
        let header = read_header(raw.as_ref(), first).at("read", &raw_path)?;
        if header.is_none() {
            return Err(header_damage(&raw_path));
        }
        let mut bytes = vec![0; usize::try_from(SEGMENT_DATA_AT).unwrap_or_default()];
        raw.read_exact_at(&mut bytes, 0).at("read", &raw_path)?;
        writer.block(&bytes, 0).at("write", &path)?;
        let keys = self.shared.keys();
        let frames = Frames { raw, path: &raw_path, keys: &keys, positions: first..next };
        frames.cut(self.block_bytes, |block, entries| writer.block(block, entries).at("write", &path))?;
        let len = writer.finish().at("write", &path)?;
        file.sync_data().at("sync", &path)?;
        Ok(len)
    }

    /// Reads what was written back, as any reader does, and compares it with the segment.
    fn compare(&self, raw: &dyn DiskFile, first: u64) -> Result<(), Error> {
        let (path, raw_path) = (sealing_path(self.shared.dir(), first), segment_path(self.shared.dir(), first));
        // Nothing that was durable is damaged: what was just written is not what it should be.
        let differs = |why: &str| Error::Io { action: "read back", path: path.clone(), source: io::Error::other(why) };
        let as_difference = |error: Error| if error.damage().is_some() { differs(&error.to_string()) } else { error };
        let blocks = Arc::<Blocks>::default();
        let sealed = SealedFile::open(self.shared.disk(), &path, first, &blocks).map_err(as_difference)?;
        if sealed.table().raw_len() != raw.len().at("examine", &raw_path)? {
            return Err(differs("it is not as long as the segment"));
        }
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        for (index, row) in sealed.table().rows().iter().enumerate() {
            found.resize(row.raw_len, 0);
            wanted.resize(row.raw_len, 0);
            sealed.read_block(index, row, &mut found).at("read", &path).map_err(as_difference)?;
            raw.read_exact_at(&mut wanted, row.raw_at).at("read", &raw_path)?;
            if found != wanted {
                return Err(differs("a block is not what it was made of"));
            }
        }
        Ok(())
    }
}

/// The frames of a segment that is to be sealed.
struct Frames<'a> {
    raw: &'a Arc<dyn DiskFile>,
    path: &'a Path,
    keys: &'a KeyChain,
    positions: std::ops::Range<u64>,
}

impl Frames<'_> {
    /// Hands over runs of whole frames, each at most so many bytes or one frame long, with the number of entries
    /// in each. A segment whose frames are not those that were durable is damaged.
    fn cut(&self, block_bytes: usize, mut block: impl FnMut(&[u8], u64) -> Result<(), Error>) -> Result<(), Error> {
        let mut scanner = Scanner::new(Arc::clone(self.raw), SEGMENT_DATA_AT, SCAN_READ_BYTES);
        let (mut bytes, mut entries, mut position) = (Vec::with_capacity(block_bytes), 0, self.positions.start);
        let mut closing = None;
        loop {
            let offset = scanner.offset();
            let frame = match scanner.next().at("read", self.path)? {
                Scan::Frame(frame) => frame,
                Scan::End => break,
                Scan::Bad(fault) => return Err(Damage::error(self.path, offset, fault.kind(position))),
            };
            if !bytes.is_empty() && bytes.len() + frame.bytes.len() > block_bytes {
                block(&bytes, entries)?;
                (entries, position) = (0, position + entries);
                bytes.clear();
            }
            bytes.extend_from_slice(frame.bytes);
            entries += u64::from(frame.kind == FrameKind::Entry);
            closing = (frame.kind == FrameKind::Checkpoint).then(|| (frame.offset, frame.payload().to_vec()));
        }
        self.check_end(position + entries, closing.as_ref(), scanner.offset())?;
        block(&bytes, entries)
    }

    /// A segment ends with the signed checkpoint of the entries up to the next one.
    fn check_end(&self, counted: u64, closing: Option<&(u64, Vec<u8>)>, end: u64) -> Result<(), Error> {
        let damage = |offset, kind| Err(Damage::error(self.path, offset, kind));
        let Some((offset, text)) = closing.filter(|_| counted == self.positions.end) else {
            return damage(end, Fault::Short.kind(counted));
        };
        let checkpoint = str::from_utf8(text)
            .map_err(|error| error.to_string())
            .and_then(|text| self.keys.checkpoint(text).map_err(|error| error.to_string()));
        match checkpoint {
            Err(why) => damage(*offset, DamageKind::Checkpoint { position: counted, why }),
            Ok(signed) if signed.size() != counted => {
                damage(*offset, DamageKind::CheckpointSize { stated: signed.size(), counted })
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Writes blocks one after the other, and their table.
struct BlockWriter<'a> {
    file: &'a dyn DiskFile,
    compressor: Compressor<'static>,
    table: BlockTable,
    /// Not yet written, and where it goes.
    pending: Vec<u8>,
    at: u64,
}

impl<'a> BlockWriter<'a> {
    fn new(file: &'a dyn DiskFile, first: u64) -> io::Result<Self> {
        let compressor = Compressor::new(LEVEL)?;
        Ok(Self { file, compressor, table: BlockTable::new(first), pending: Vec::new(), at: 0 })
    }

    fn block(&mut self, raw: &[u8], entries: u64) -> io::Result<()> {
        let stored = self.compressor.compress(raw)?;
        self.table.push(&stored, raw.len(), entries);
        self.pending.extend_from_slice(&stored);
        if self.pending.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.pending, self.at)?;
        self.at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes the table, and says how long the file is.
    fn finish(mut self) -> io::Result<u64> {
        self.pending.extend_from_slice(&self.table.encode());
        self.flush()?;
        Ok(self.at)
    }
}

//! Walking a ledger's segments in units, for the audit's threads to take.
//!
//! A unit is a run of whole frames of one segment. Of a raw one it ends at a multiple of 4,096 entries, or sooner
//! where it gets long: cutting needs only the lengths of the frames, which are read on the way. Of a sealed one it
//! is a run of blocks, as the block table has them, and whoever takes it reads and decompresses them.

use std::{ops::Range, path::Path, sync::Arc};

use crate::{
    block::Block,
    blocks::Blocks,
    disk::{Disk, DiskFile},
    error::{Damage, Error, IoContext as _},
    frame::{FRAME_HEAD_BYTES, FrameHead, FrameKind},
    layout::{SEGMENT_DATA_AT, Segment, find_segment},
    scanner::Fault,
    sealed::SealedFile,
};

/// Entries of a unit of a raw segment, which ends where they are a multiple of this.
const UNIT_ENTRIES: u64 = 4_096;
/// A unit longer than this ends at the next multiple of 256 entries: at most 16 MiB later.
const UNIT_BYTES: usize = 8 << 20;
/// A unit of a sealed segment ends with the block that makes it so long.
const SEALED_UNIT_BYTES: u64 = 2 << 20;
const READ_BYTES: usize = 256 << 10;
/// What the first read asks for; each further one asks for what the unit before it took, and a little more.
const FIRST_READ_BYTES: usize = 1 << 20;

/// A run of whole frames.
pub(super) struct Unit {
    /// Its place in the order.
    pub(super) number: u64,
    /// The segment that it is of.
    pub(super) segment: u64,
    /// That segment's file.
    pub(super) path: Arc<Path>,
    /// Whether it is the segment's first.
    pub(super) opens: bool,
    /// Then, the segment's header, if that is valid.
    pub(super) header: Option<Block>,
    /// The position of its first entry.
    pub(super) first: u64,
    /// Where it starts in the segment.
    pub(super) offset: u64,
    /// Of a raw segment its frames, and behind them what was read too much; else room for a block.
    pub(super) bytes: Vec<u8>,
    /// The length of its frames.
    pub(super) len: usize,
    /// Where and why walking on was not possible.
    pub(super) fault: Option<(u64, Fault)>,
    /// Of a sealed segment, the blocks that it is made of.
    pub(super) sealed: Option<(Arc<SealedFile>, Range<usize>)>,
    /// What lies from this offset on does not count.
    pub(super) limit: u64,
    /// Why nothing of the segment can be read.
    pub(super) unreadable: Option<Damage>,
    /// Whether it is the segment's last, the segment not being the one still written to.
    pub(super) closes: bool,
}

/// Cuts segments into units, in order.
pub(super) struct Walker<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    /// First positions, the next to open first.
    segments: std::vec::IntoIter<u64>,
    /// The last segment, and how much of it is durable.
    limit: (u64, u64),
    current: Option<Current>,
    blocks: Arc<Blocks>,
    number: u64,
}

struct Current {
    first: u64,
    path: Arc<Path>,
    file: Arc<dyn DiskFile>,
    sealed: Option<Arc<SealedFile>>,
    /// Of a sealed segment, the block that the next unit begins with.
    next_block: usize,
    opens: bool,
    header: Option<Block>,
    position: u64,
    /// Where `carry` starts in the file.
    offset: u64,
    /// Read and not yet in a unit.
    carry: Vec<u8>,
    /// How much the next unit is likely to need.
    unit_bytes: usize,
}

impl<'a> Walker<'a> {
    pub(super) fn new(disk: &'a dyn Disk, dir: &'a Path, segments: Vec<u64>, limit: (u64, u64)) -> Self {
        Self { disk, dir, segments: segments.into_iter(), limit, current: None, blocks: Arc::default(), number: 0 }
    }

    /// The next unit, or nothing at the end. One of a raw segment is read into `buffer`, which an earlier unit was
    /// in: new memory for each would cost more than the reading.
    pub(super) fn next(&mut self, buffer: Vec<u8>) -> Result<Option<Unit>, Error> {
        let current = match self.current.take() {
            Some(current) => Ok(current),
            None => match self.segments.next() {
                Some(first) => self.open(first),
                None => return Ok(None),
            },
        };
        let mut current = match current {
            Ok(current) => current,
            Err((first, Error::Damage(damage))) => {
                let mut unit = self.unit(first, Path::new("").into(), buffer);
                unit.unreadable = Some(*damage);
                return Ok(Some(unit));
            }
            Err((_, error)) => return Err(error),
        };
        let mut unit = self.unit(current.first, Arc::clone(&current.path), buffer);
        (unit.opens, unit.header) = (std::mem::take(&mut current.opens), current.header.take());
        (unit.first, unit.offset) = (current.position, current.offset);
        unit.limit = if current.first == self.limit.0 { self.limit.1 } else { u64::MAX };
        let is_last = if let Some(sealed) = current.sealed.clone() {
            current.take_blocks(&mut unit, sealed)
        } else {
            let is_last = current.cut(&mut unit).at("read", &*current.path)?;
            current.offset += unit.len as u64;
            is_last
        };
        if is_last {
            unit.closes = current.first != self.limit.0;
        } else {
            self.current = Some(current);
        }
        Ok(Some(unit))
    }

    fn unit(&mut self, segment: u64, path: Arc<Path>, bytes: Vec<u8>) -> Unit {
        self.number += 1;
        Unit {
            number: self.number - 1,
            segment,
            path,
            opens: false,
            header: None,
            first: segment,
            offset: 0,
            bytes,
            len: 0,
            fault: None,
            sealed: None,
            limit: u64::MAX,
            unreadable: None,
            closes: false,
        }
    }

    fn open(&self, first: u64) -> Result<Current, (u64, Error)> {
        let segment = find_segment(self.disk, self.dir, first, &self.blocks).map_err(|error| (first, error))?;
        let header = match segment.header(first) {
            Ok(header) => header,
            // Its block is damaged: the header is not valid, and the rest can still be read.
            Err(Error::Damage(_)) => None,
            Err(error) => return Err((first, error)),
        };
        let Segment { path, file, sealed } = segment;
        Ok(Current {
            first,
            path: path.into(),
            file,
            sealed,
            // The first is the header's.
            next_block: 1,
            opens: true,
            header,
            position: first,
            offset: SEGMENT_DATA_AT,
            carry: Vec::new(),
            unit_bytes: FIRST_READ_BYTES,
        })
    }
}

impl Current {
    /// Gives a unit the next blocks, and says whether the segment ends with them.
    fn take_blocks(&mut self, unit: &mut Unit, sealed: Arc<SealedFile>) -> bool {
        let rows = sealed.table().rows();
        let start = self.next_block;
        let mut len = 0;
        let counts = |index: usize| rows.get(index).filter(|row| row.raw_at < unit.limit);
        while let Some(row) = counts(self.next_block).filter(|_| len < SEALED_UNIT_BYTES) {
            len += row.raw_len as u64;
            self.next_block += 1;
            self.position = row.position + row.entries;
            self.offset = row.raw_at + row.raw_len as u64;
        }
        let is_last = counts(self.next_block).is_none();
        unit.sealed = Some((sealed, start..self.next_block));
        is_last
    }

    /// Reads until the unit is whole, and says whether the segment ends with it.
    fn cut(&mut self, unit: &mut Unit) -> std::io::Result<bool> {
        // What was read for the unit before and is not in it comes first.
        let mut filled = self.carry.len();
        unit.bytes.resize(filled.max(unit.bytes.len()), 0);
        unit.bytes[..filled].copy_from_slice(&self.carry);
        loop {
            let is_whole = self.walk(unit, filled);
            if is_whole || unit.fault.is_some() {
                self.carry.clear();
                self.carry.extend_from_slice(&unit.bytes[unit.len..filled]);
                self.unit_bytes = unit.len + unit.len / 64;
                return Ok(!is_whole);
            }
            let read_at = self.offset + filled as u64;
            let likely = self.unit_bytes.saturating_sub(filled).max(READ_BYTES);
            let wanted = usize::try_from(unit.limit.saturating_sub(read_at)).unwrap_or(usize::MAX).min(likely);
            if unit.bytes.len() < filled + wanted {
                unit.bytes.resize(filled + wanted, 0);
            }
            let count = self.file.read_full_at(&mut unit.bytes[filled..filled + wanted], read_at)?;
            filled += count;
            if count == 0 {
                if unit.len < filled || (unit.limit != u64::MAX && read_at < unit.limit) {
                    unit.fault = Some((self.offset + unit.len as u64, Fault::Short));
                }
                return Ok(true);
            }
        }
    }

    /// Goes over the whole frames that are there, and says whether the unit is whole with them.
    fn walk(&mut self, unit: &mut Unit, filled: usize) -> bool {
        loop {
            let rest = &unit.bytes[unit.len..filled];
            let head = FrameHead::parse(rest);
            if rest.len() >= FRAME_HEAD_BYTES && head.is_none() {
                unit.fault = Some((self.offset + unit.len as u64, Fault::Head));
            }
            let Some(head) = head.filter(|head| head.frame_bytes() <= rest.len()) else {
                return false;
            };
            unit.len += head.frame_bytes();
            if head.kind == FrameKind::Entry {
                self.position += 1;
                let is_long = unit.len > UNIT_BYTES && self.position.is_multiple_of(256);
                if self.position.is_multiple_of(UNIT_ENTRIES) || is_long {
                    return true;
                }
            }
        }
    }
}

impl Unit {
    /// Gives up the room that the unit was read into, for the next one.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

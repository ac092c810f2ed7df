//! The parallel part of a ledger's audit: walking segments in units, and checking one unit on its own.
//!
//! A unit is a run of whole frames of one segment that ends at a multiple of 4,096 entries, or sooner where
//! it gets long. Cutting units needs only the lengths of the frames; everything dear (checksums, leaves,
//! inner nodes, signatures) is done on the unit by whichever thread took it. What a unit cannot know, the
//! tree to its left, is left to the merge in `ledger_audit`.

use std::{path::Path, sync::Arc};

use crate::{
    block::Block,
    checkpoint::Checkpoint,
    derived::{DerivedFiles, INDEX_STEP},
    disk::{Access, Disk, DiskFile},
    error::{Damage, DamageKind, Error, IoContext as _},
    frame::{FRAME_HEAD_BYTES, FrameHead, FrameKind},
    hash::Hash,
    key::verify_signatures,
    layout::{SEGMENT_DATA_AT, level_path, open_segment, segment_path},
    note::{Note, NoteError, VerifierKey},
    scanner::Fault,
    tile::TILE_HEIGHT,
    tree::node_hash,
};

/// Entries of a unit, which ends where they are a multiple of this.
const UNIT_ENTRIES: u64 = 4_096;
/// A unit longer than this ends at the next multiple of 256 entries: at most 16 MiB later.
const UNIT_BYTES: usize = 8 << 20;
const READ_BYTES: usize = 256 << 10;
/// What the first read asks for; each further one asks for what the unit before it took, and a little more.
const FIRST_READ_BYTES: usize = 1 << 20;

/// A run of whole frames.
pub(super) struct Unit {
    /// Its place in the order.
    pub(super) number: u64,
    /// The segment that it is of.
    pub(super) segment: u64,
    /// Whether it is the segment's first.
    pub(super) opens: bool,
    /// Then, the segment's header, if that is valid.
    pub(super) header: Option<Block>,
    /// The position of its first entry.
    pub(super) first: u64,
    /// Where it starts in the segment.
    pub(super) offset: u64,
    /// Its frames, and behind them what was read too much.
    bytes: Vec<u8>,
    /// The length of its frames.
    len: usize,
    /// Entries among them.
    entries: usize,
    /// Where and why walking on was not possible.
    fault: Option<(u64, Fault)>,
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
    number: u64,
}

struct Current {
    first: u64,
    file: Arc<dyn DiskFile>,
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
        Self { disk, dir, segments: segments.into_iter(), limit, current: None, number: 0 }
    }

    /// The next unit, or nothing at the end. It is read into `buffer`, one that an earlier unit was in: new
    /// memory for each would cost more than the reading.
    pub(super) fn next(&mut self, mut buffer: Vec<u8>) -> Result<Option<Unit>, Error> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => match self.segments.next() {
                Some(first) => self.open(first)?,
                None => return Ok(None),
            },
        };
        let path = segment_path(self.dir, current.first);
        let limit = if current.first == self.limit.0 { self.limit.1 } else { u64::MAX };
        let filled = current.carry.len();
        if buffer.len() < filled {
            buffer.resize(filled, 0);
        }
        buffer[..filled].copy_from_slice(&current.carry);
        let mut unit = Unit {
            number: self.number,
            segment: current.first,
            opens: std::mem::take(&mut current.opens),
            header: current.header.take(),
            first: current.position,
            offset: current.offset,
            bytes: buffer,
            len: 0,
            entries: 0,
            fault: None,
            closes: false,
        };
        self.number += 1;
        let is_last = current.cut(&mut unit, filled, limit).at("read", &path)?;
        current.offset += unit.len as u64;
        if is_last {
            unit.closes = current.first != self.limit.0;
        } else {
            self.current = Some(current);
        }
        Ok(Some(unit))
    }

    fn open(&self, first: u64) -> Result<Current, Error> {
        let (file, header) = open_segment(self.disk, self.dir, first, Access::Read)?;
        let offset = SEGMENT_DATA_AT;
        Ok(Current {
            first,
            file,
            opens: true,
            header,
            position: first,
            offset,
            carry: Vec::new(),
            unit_bytes: FIRST_READ_BYTES,
        })
    }
}

impl Current {
    /// Reads until the unit is whole, `filled` bytes being there, and says whether the segment ends with it.
    fn cut(&mut self, unit: &mut Unit, mut filled: usize, limit: u64) -> std::io::Result<bool> {
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
            let wanted = usize::try_from(limit.saturating_sub(read_at)).unwrap_or(usize::MAX).min(likely);
            if unit.bytes.len() < filled + wanted {
                unit.bytes.resize(filled + wanted, 0);
            }
            let count = self.file.read_full_at(&mut unit.bytes[filled..filled + wanted], read_at)?;
            filled += count;
            if count == 0 {
                if unit.len < filled || (limit != u64::MAX && read_at < limit) {
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
                unit.entries += 1;
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

/// What checking a unit gives the merge, in order.
pub(super) enum Piece {
    /// A complete aligned subtree.
    Subtree { height: u8, hash: Hash },
    /// A checkpoint frame, signed well and of the right size, whose root the merge has to compare.
    Checkpoint { offset: u64, root: Hash, before: Vec<(u8, Hash)> },
}

/// A unit after its check.
pub(super) struct Checked {
    pub(super) unit: Unit,
    pub(super) pieces: Vec<Piece>,
    pub(super) problems: Vec<Damage>,
    pub(super) entries: u64,
    /// Whether frames could not be followed to the unit's end, so that positions after it are not known.
    pub(super) is_broken: bool,
    /// Whether the last frame is a checkpoint.
    pub(super) ends_with_checkpoint: bool,
}

/// What a unit is checked against.
pub(super) struct Against<'a> {
    pub(super) dir: &'a Path,
    pub(super) key: &'a VerifierKey,
    pub(super) files: &'a DerivedFiles,
}

/// Checks one unit on its own. The signatures of its checkpoints are verified all at once, which says whether all are good;
/// where one is not, the unit is checked again with each verified by itself, so that the report names the one.
pub(super) fn check(unit: Unit, against: &Against<'_>) -> Result<Checked, Error> {
    let mut check = Check::new(unit, against);
    check.run()?;
    if verify_signatures(against.key.public(), &check.signed).is_err() && !check.signed.is_empty() {
        check = Check { one_by_one: true, ..Check::new(check.done.unit, against) };
        check.run()?;
    }
    let mut done = check.done;
    done.pieces.extend(check.subtrees.into_iter().map(|(height, hash)| Piece::Subtree { height, hash }));
    Ok(done)
}

struct Check<'a> {
    against: &'a Against<'a>,
    path: std::path::PathBuf,
    position: u64,
    /// Complete aligned subtrees of the unit so far, left to right.
    subtrees: Vec<(u8, Hash)>,
    done: Checked,
    /// The leaf hashes that the tree files have for the unit.
    stored: Vec<Hash>,
    /// Where the index says that the unit's entries lie, every sixteenth.
    indexed: std::vec::IntoIter<u64>,
    /// Texts and signatures of the unit's checkpoints, still to be verified.
    signed: Vec<(String, [u8; 64])>,
    /// Whether each signature is verified by itself instead.
    one_by_one: bool,
}

impl<'a> Check<'a> {
    fn new(unit: Unit, against: &'a Against<'a>) -> Self {
        Self {
            against,
            path: segment_path(against.dir, unit.segment),
            position: unit.first,
            subtrees: Vec::new(),
            done: Checked {
                pieces: Vec::new(),
                problems: Vec::new(),
                entries: 0,
                is_broken: false,
                ends_with_checkpoint: false,
                unit,
            },
            stored: Vec::new(),
            indexed: Vec::new().into_iter(),
            signed: Vec::new(),
            one_by_one: false,
        }
    }
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let buffer = std::mem::take(&mut self.done.unit.bytes);
        let checked = self.frames(&buffer[..self.done.unit.len]);
        self.done.unit.bytes = buffer;
        checked
    }

    fn frames(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.load_stored()?;
        let mut at = 0;
        let mut was_wrong = false;
        while let Some(head) = FrameHead::parse(&bytes[at..]) {
            let frame = &bytes[at..at + head.frame_bytes()];
            let offset = self.done.unit.offset + at as u64;
            let fits = head.fits(frame);
            if !fits {
                // Where the frame after a wrong one is wrong too, it is the length that cannot be followed;
                // where the type is wrong, the count of entries.
                if !was_wrong {
                    self.problem(offset, DamageKind::FrameChecksum { position: self.position });
                }
                if was_wrong || head.fits_other_kind(frame) {
                    self.done.is_broken = true;
                    break;
                }
            }
            was_wrong = !fits;
            self.done.ends_with_checkpoint = head.kind == FrameKind::Checkpoint;
            match head.kind {
                FrameKind::Entry => self.entry(offset, frame, fits)?,
                FrameKind::Checkpoint if fits => {
                    self.checkpoint(offset, &frame[FRAME_HEAD_BYTES..]);
                }
                FrameKind::Checkpoint => {}
            }
            at += head.frame_bytes();
        }
        if let Some((offset, fault)) = self.done.unit.fault {
            self.done.is_broken = true;
            if !was_wrong {
                self.problem(offset, fault.kind(self.position));
            }
        }
        Ok(())
    }

    fn problem(&mut self, offset: u64, kind: DamageKind) {
        self.done.problems.push(Damage { file: self.path.clone(), offset, kind });
    }

    /// Reads what the files hold for the unit, leaf hashes and offsets, in one go.
    fn load_stored(&mut self) -> Result<(), Error> {
        let (files, first, entries) = (self.against.files, self.done.unit.first, self.done.unit.entries);
        match files.hashes(0, first, entries) {
            Ok(stored) => self.stored = stored,
            Err(Error::Damage(damage)) => self.done.problems.push(*damage),
            Err(error) if is_absent(&error) => self.stored_wrong(0, first),
            Err(error) => return Err(error),
        }
        let indexed = first.next_multiple_of(INDEX_STEP);
        match files.offsets(indexed, entries.div_ceil(16)) {
            Ok(offsets) => self.indexed = offsets.into_iter(),
            // Each entry that should be in it is then a problem.
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn stored_wrong(&mut self, level: u8, index: u64) {
        let kind = DamageKind::TreeHash { level, index };
        self.done.problems.push(Damage { file: level_path(self.against.dir, level), offset: index * 32, kind });
    }

    fn entry(&mut self, offset: u64, frame: &[u8], fits: bool) -> Result<(), Error> {
        let position = self.position;
        let stored = usize::try_from(position - self.done.unit.first).ok().and_then(|at| self.stored.get(at)).copied();
        let computed = Hash::of(&frame[FRAME_HEAD_BYTES - 1..]);
        let leaf = match stored {
            // For an entry already known to be wrong the stored hash stands in, so that whatever else is
            // wrong is still found; the signed roots say whether it is the right one.
            Some(stored) if !fits => stored,
            Some(stored) if stored != computed => {
                self.stored_wrong(0, position);
                computed
            }
            _ => computed,
        };
        if position.is_multiple_of(INDEX_STEP) && self.indexed.next() != Some(offset) {
            let damage = self.against.files.index_damage(position).damage().cloned();
            self.done.problems.extend(damage);
        }
        self.position += 1;
        self.done.entries += 1;
        self.grow(leaf)
    }

    /// Joins a leaf with the complete subtrees to its left, as far as the unit has them.
    fn grow(&mut self, leaf: Hash) -> Result<(), Error> {
        let (mut height, mut hash) = (0_u8, leaf);
        // The leaf is at `position - 1`; a node is a right child where its index is odd.
        while (self.position - 1) >> height & 1 == 1 {
            let Some((_, left)) = self.subtrees.pop_if(|(left, _)| *left == height) else {
                break;
            };
            hash = node_hash(&left, &hash);
            height += 1;
            if height.is_multiple_of(TILE_HEIGHT) {
                let (level, index) = (height / TILE_HEIGHT, (self.position - 1) >> height);
                let problem = check_stored(self.against, level, index, &hash)?;
                self.done.problems.extend(problem);
            }
        }
        self.subtrees.push((height, hash));
        Ok(())
    }

    fn checkpoint(&mut self, offset: u64, text: &[u8]) {
        let position = self.position;
        match self.signed_checkpoint(text) {
            Err(error) => self.problem(offset, DamageKind::Checkpoint { position, why: error.to_string() }),
            Ok(checkpoint) if checkpoint.size != position => {
                let kind = DamageKind::CheckpointSize { stated: checkpoint.size, counted: position };
                self.problem(offset, kind);
            }
            Ok(checkpoint) => {
                let before = self.subtrees.clone();
                self.done.pieces.push(Piece::Checkpoint { offset, root: checkpoint.root, before });
            }
        }
    }

    /// Reads a checkpoint. The plain one, with the ledger's signature and no other, is verified later with the unit's others.
    fn signed_checkpoint(&mut self, text: &[u8]) -> Result<Checkpoint, NoteError> {
        let note = Note::parse(text)?;
        let key = self.against.key;
        let checkpoint: Checkpoint = note.text().parse()?;
        match note.lone_signature(key).filter(|_| !self.one_by_one && checkpoint.origin == key.name()) {
            Some(signature) => self.signed.push((note.text().to_owned(), signature)),
            None => {
                let text = str::from_utf8(text).map_err(|_error| NoteError::Text)?;
                super::checkpoint(text, key)?;
            }
        }
        Ok(checkpoint)
    }
}

/// Compares a computed hash with the one that the tree files have.
pub(super) fn check_stored(
    against: &Against<'_>,
    level: u8,
    index: u64,
    computed: &Hash,
) -> Result<Option<Damage>, Error> {
    let wrong = || {
        let kind = DamageKind::TreeHash { level, index };
        Some(Damage { file: level_path(against.dir, level), offset: index * 32, kind })
    };
    match against.files.hashes(level, index, 1) {
        Ok(stored) if stored.first() == Some(computed) => Ok(None),
        Ok(_) | Err(Error::Damage(_)) => Ok(wrong()),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(wrong()),
        Err(error) => Err(error),
    }
}

/// Whether a file is not there at all.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

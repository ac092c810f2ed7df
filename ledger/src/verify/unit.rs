//! The parallel part of a ledger's audit: checking one unit (see `walk`) on its own.
//!
//! Everything dear (decompression, checksums, leaves, inner nodes, signatures) is done on the unit by whichever
//! thread took it. What a unit cannot know, the tree to its left, is left to the merge in `ledger_audit`.
//!
//! A block of a sealed segment that is not what was written is one problem. The stored leaf hashes stand in for its
//! entries, as for any entry already known to be wrong, so that whatever else is wrong is still found.

use std::{ops::Range, path::Path};

use super::walk::Unit;
use crate::{
    block_table::Row,
    chain::KeyChain,
    checkpoint::Checkpoint,
    derived::{DerivedFiles, INDEX_STEP},
    error::{Damage, DamageKind, Error, IoContext as _},
    frame::{FRAME_HEAD_BYTES, FrameHead, FrameKind},
    hash::Hash,
    key::verify_signatures,
    layout::level_path,
    note::{Note, NoteError, VerifierKey},
    sealed::SealedFile,
    tile::TILE_HEIGHT,
    tree::node_hash,
};

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

/// Leaf hashes read at once at the most: more than there is room for entries in a unit.
const STORED_MAX: usize = 1 << 19;

/// What a unit is checked against.
pub(super) struct Against<'a> {
    pub(super) dir: &'a Path,
    pub(super) keys: &'a KeyChain,
    pub(super) files: &'a DerivedFiles,
}

/// Checks one unit on its own. The signatures of its checkpoints are verified all at once, which says whether all are good;
/// where one is not, the unit is checked again with each verified by itself, so that the report names the one.
pub(super) fn check(unit: Unit, against: &Against<'_>) -> Result<Checked, Error> {
    let mut check = Check::new(unit, against);
    check.run()?;
    if verify_signatures(check.key.public(), &check.signed).is_err() && !check.signed.is_empty() {
        check = Check { one_by_one: true, ..Check::new(check.done.unit, against) };
        check.run()?;
    }
    let mut done = check.done;
    done.pieces.extend(check.subtrees.into_iter().map(|(height, hash)| Piece::Subtree { height, hash }));
    Ok(done)
}

struct Check<'a> {
    against: &'a Against<'a>,
    /// The key that signs where the unit begins: its signatures are verified together. A rotation within the unit is rare.
    key: &'a VerifierKey,
    position: u64,
    /// Complete aligned subtrees of the unit so far, left to right.
    subtrees: Vec<(u8, Hash)>,
    done: Checked,
    /// The leaf hashes that the tree files have for the unit.
    stored: Vec<Hash>,
    /// Where the index says that the unit's entries lie, every sixteenth.
    indexed: std::vec::IntoIter<u64>,
    /// Whether the frame before this one was wrong.
    was_wrong: bool,
    /// Texts and signatures of the unit's checkpoints, still to be verified.
    signed: Vec<(String, [u8; 64])>,
    /// Whether each signature is verified by itself instead.
    one_by_one: bool,
}

impl<'a> Check<'a> {
    fn new(unit: Unit, against: &'a Against<'a>) -> Self {
        Self {
            against,
            key: against.keys.key_at(unit.first + 1),
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
            was_wrong: false,
            signed: Vec::new(),
            one_by_one: false,
        }
    }
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.done.unit.bytes);
        let checked = match self.done.unit.sealed.clone() {
            Some((sealed, blocks)) => self.blocks(&sealed, blocks, &mut buffer),
            None => self.raw(&buffer[..self.done.unit.len]),
        };
        self.done.unit.bytes = buffer;
        checked
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.load_stored(entries_of(bytes))?;
        self.frames(self.done.unit.offset, bytes)?;
        if let Some((offset, fault)) = self.done.unit.fault {
            self.done.is_broken = true;
            if !self.was_wrong {
                self.problem(offset, fault.kind(self.position));
            }
        }
        Ok(())
    }

    /// Decompresses and checks one block after the other, each while it is in the processor's cache.
    fn blocks(&mut self, sealed: &SealedFile, blocks: Range<usize>, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let rows = sealed.table().rows().get(blocks.clone()).unwrap_or_default();
        let entries = rows.iter().map(|row| row.entries).sum::<u64>();
        // What the table claims is believed only as far as there is room in memory for its leaf hashes.
        self.load_stored(usize::try_from(entries).unwrap_or(usize::MAX).min(STORED_MAX))?;
        for (index, row) in blocks.zip(rows) {
            if buffer.len() < row.raw_len {
                buffer.resize(row.raw_len, 0);
            }
            match sealed.read_block(index, row, &mut buffer[..row.raw_len]).at("read", &*self.done.unit.path) {
                Ok(()) => self.block(sealed, index, row, &buffer[..row.raw_len])?,
                Err(Error::Damage(damage)) => {
                    self.done.problems.push(*damage);
                    self.pass_over(row)?;
                }
                Err(error) => return Err(error),
            }
            if self.done.is_broken {
                break;
            }
        }
        Ok(())
    }

    /// A block holds whole frames, and as many entries as the table says.
    fn block(&mut self, sealed: &SealedFile, index: usize, row: &Row, bytes: &[u8]) -> Result<(), Error> {
        let counts = self.done.unit.limit.saturating_sub(row.raw_at);
        let counted = &bytes[..usize::try_from(counts).unwrap_or(usize::MAX).min(bytes.len())];
        let checked = self.frames(row.raw_at, counted)?;
        let is_cut = counted.len() < bytes.len();
        let is_whole = checked == counted.len() && (is_cut || self.position == row.position + row.entries);
        if !is_whole && !self.done.is_broken {
            self.done.problems.push(sealed.block_damage(index, row));
            self.done.is_broken = true;
        }
        Ok(())
    }

    /// Goes on behind a block that cannot be read.
    fn pass_over(&mut self, row: &Row) -> Result<(), Error> {
        for _ in 0..row.entries {
            let Some(stored) = self.stored() else {
                self.done.is_broken = true;
                return Ok(());
            };
            if self.position.is_multiple_of(INDEX_STEP) {
                self.indexed.next();
            }
            self.position += 1;
            self.grow(stored)?;
        }
        // How it ends is not known.
        self.done.ends_with_checkpoint = true;
        self.was_wrong = false;
        Ok(())
    }

    /// Checks the frames that lie at `offset` of the segment, and says how many bytes were frames.
    fn frames(&mut self, offset: u64, bytes: &[u8]) -> Result<usize, Error> {
        let mut at = 0;
        while let Some(head) = FrameHead::parse(&bytes[at..]) {
            let Some(frame) = bytes.get(at..at + head.frame_bytes()) else { break };
            let offset = offset + at as u64;
            let fits = head.fits(frame);
            if !fits {
                // Where the frame after a wrong one is wrong too, it is the length that cannot be followed;
                // where the type is wrong, the count of entries.
                if !self.was_wrong {
                    self.problem(offset, DamageKind::FrameChecksum { position: self.position });
                }
                if self.was_wrong || head.fits_other_kind(frame) {
                    self.done.is_broken = true;
                    break;
                }
            }
            self.was_wrong = !fits;
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
        Ok(at)
    }

    fn problem(&mut self, offset: u64, kind: DamageKind) {
        self.done.problems.push(Damage { file: self.done.unit.path.to_path_buf(), offset, kind });
    }

    /// Reads what the files hold for the unit, leaf hashes and offsets, in one go.
    fn load_stored(&mut self, entries: usize) -> Result<(), Error> {
        let (files, first) = (self.against.files, self.done.unit.first);
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

    /// The leaf hash that the files have for the next entry.
    fn stored(&self) -> Option<Hash> {
        let at = usize::try_from(self.position - self.done.unit.first).ok()?;
        self.stored.get(at).copied()
    }

    fn entry(&mut self, offset: u64, frame: &[u8], fits: bool) -> Result<(), Error> {
        let position = self.position;
        let stored = self.stored();
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
        let checkpoint: Checkpoint = note.text().parse()?;
        let key = self.key;
        let is_plain = !self.one_by_one && checkpoint.origin == key.name();
        let is_its_time = self.against.keys.key_at(checkpoint.size) == key;
        if let Some(signature) = note.lone_signature(key).filter(|_| is_plain && is_its_time) {
            self.signed.push((note.text().to_owned(), signature));
        } else {
            let text = str::from_utf8(text).map_err(|_error| NoteError::Text)?;
            self.against.keys.checkpoint(text)?;
        }
        Ok(checkpoint)
    }
}

fn entries_of(bytes: &[u8]) -> usize {
    let (mut at, mut entries) = (0, 0);
    while let Some(head) = FrameHead::parse(&bytes[at..]) {
        entries += usize::from(head.kind == FrameKind::Entry);
        at += head.frame_bytes();
    }
    entries
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

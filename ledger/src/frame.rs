//! Frames: how entries and checkpoints lie in a segment, and the chunks in which they are made.
//!
//! A frame is length (of the payload, 4 bytes little endian), CRC-32C (of length, type and payload,
//! 4 bytes little endian), type (1 byte) and payload. An entry's type is 0x00, which is also the prefix
//! of a leaf in RFC 6962: type and payload together are the input of the leaf hash, in one piece.
//!
//! Invariant: a frame whose checksum fits is one that was written. What cannot be a frame is never
//! interpreted further, and no length is believed before it is within its bound.

use crc32c::{crc32c, crc32c_append};

use crate::{ENTRY_BYTES_MAX, error::Error, hash::Hash};

/// Length, checksum, type.
pub(crate) const FRAME_HEAD_BYTES: usize = 9;
/// The longest checkpoint that is framed; see [`crate::note::NAME_BYTES_MAX`].
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 992;
pub(crate) const TYPE_AT: usize = 8;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// An entry. The type is the leaf prefix.
    Entry = 0x00,
    /// The signed checkpoint that closes a batch. Not 0x01, the prefix of inner nodes.
    Checkpoint = 0x02,
}

/// Length, checksum and type of a frame, within their bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    pub(crate) kind: FrameKind,
    pub(crate) len: usize,
    crc: u32,
}

impl FrameHead {
    /// Reads the start of a frame, or nothing where none can start like this.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        let crc = u32::from_le_bytes(bytes.get(4..TYPE_AT)?.try_into().ok()?);
        let (kind, len_max) = match bytes.get(TYPE_AT)? {
            0x00 => (FrameKind::Entry, ENTRY_BYTES_MAX),
            0x02 => (FrameKind::Checkpoint, CHECKPOINT_BYTES_MAX),
            _ => return None,
        };
        let len = usize::try_from(len).ok().filter(|len| *len <= len_max)?;
        Some(Self { kind, len, crc })
    }

    /// The length of the whole frame.
    pub(crate) fn frame_bytes(&self) -> usize {
        FRAME_HEAD_BYTES + self.len
    }

    /// Whether the checksum fits the whole frame.
    pub(crate) fn fits(&self, frame: &[u8]) -> bool {
        crc32c_append(crc32c(&frame[..4]), &frame[TYPE_AT..]) == self.crc
    }
}

impl FrameHead {
    /// Whether the checksum would fit if the frame were of the other kind: then the type is what is wrong,
    /// and whether the frame counts as an entry with it.
    pub(crate) fn fits_other_kind(&self, frame: &[u8]) -> bool {
        let other = match self.kind {
            FrameKind::Entry => FrameKind::Checkpoint,
            FrameKind::Checkpoint => FrameKind::Entry,
        };
        let crc = crc32c_append(crc32c(&frame[..4]), &[other as u8]);
        crc32c_append(crc, &frame[FRAME_HEAD_BYTES..]) == self.crc
    }
}

/// Appends a frame to `out`, its payload in parts. The caller has checked the length.
pub(crate) fn encode(kind: FrameKind, payload: &[&[u8]], out: &mut Vec<u8>) {
    let start = out.len();
    let len: usize = payload.iter().map(|part| part.len()).sum();
    debug_assert!(len <= ENTRY_BYTES_MAX, "the caller has checked {len}");
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&len);
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8]);
    for part in payload {
        out.extend_from_slice(part);
    }
    let crc = crc32c_append(crc32c(&len), &out[start + TYPE_AT..]);
    out[start + 4..start + TYPE_AT].copy_from_slice(&crc.to_le_bytes());
}

/// A run of entries framed and hashed ahead of the writer, on any thread: the writer then only orders,
/// writes and syncs.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    /// Where each frame starts in `bytes`.
    starts: Vec<usize>,
    leaves: Vec<Hash>,
}

impl Chunk {
    /// An empty chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty chunk with room for so many entries of so many bytes in all.
    pub fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes + entries * FRAME_HEAD_BYTES),
            starts: Vec::with_capacity(entries),
            leaves: Vec::with_capacity(entries),
        }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &[u8]) -> Result<(), Error> {
        self.push_parts(&[entry])
    }

    /// Adds an entry given in parts, which need not be joined first.
    pub fn push_parts(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if bytes > ENTRY_BYTES_MAX {
            return Err(Error::EntryTooLarge { bytes });
        }
        let start = self.bytes.len();
        self.bytes.reserve(FRAME_HEAD_BYTES + bytes);
        encode(FrameKind::Entry, parts, &mut self.bytes);
        self.starts.push(start);
        self.leaves.push(Hash::of(&self.bytes[start + TYPE_AT..]));
        Ok(())
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The frames, as they will be written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The leaf hashes, in order.
    pub fn leaf_hashes(&self) -> &[Hash] {
        &self.leaves
    }

    /// The entry at an index of this chunk.
    pub fn entry(&self, index: usize) -> Option<&[u8]> {
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).copied().unwrap_or(self.bytes.len());
        self.bytes.get(start + FRAME_HEAD_BYTES..end)
    }

    /// Forgets the entries and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.leaves.clear();
    }

    /// Where each frame starts, and its leaf hash.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (usize, Hash)> {
        self.starts.iter().copied().zip(self.leaves.iter().copied())
    }
}

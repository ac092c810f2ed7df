//! Frames: how entries and checkpoints lie in a segment, and the chunks in which they are made.
//!
//! A frame is length (of the payload, 4 bytes little endian), CRC-32C (of length, type and payload,
//! 4 bytes little endian), type (1 byte) and payload. An entry's type is 0x00, which is also the prefix
//! of a leaf in RFC 6962: type and payload together are the input of the leaf hash, in one piece.
//!
//! Invariant: a frame whose checksum fits is one that was written. What cannot be a frame is never
//! interpreted further, and no length is believed before it is within its bound.

use std::{io, sync::Arc};

use crc32c::{crc32c, crc32c_append};

use crate::{ENTRY_BYTES_MAX, disk::DiskFile, error::Error, hash::Hash};

/// Length, checksum, type.
pub(crate) const FRAME_HEAD_BYTES: usize = 9;
/// The longest checkpoint that is framed; see [`crate::note::NAME_BYTES_MAX`].
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 992;
const TYPE_AT: usize = 8;

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
        let bytes = parts
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if bytes > ENTRY_BYTES_MAX {
            return Err(Error::EntryTooLarge { bytes });
        }
        let start = self.bytes.len();
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
        let end = self
            .starts
            .get(index + 1)
            .copied()
            .unwrap_or(self.bytes.len());
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

/// A frame as it was read, its checksum checked.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Where it starts in the file.
    pub(crate) offset: u64,
    pub(crate) kind: FrameKind,
    /// Type and payload: for an entry, what the leaf hash is taken of.
    typed: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.typed[1..]
    }

    /// The leaf hash of an entry.
    pub(crate) fn leaf(&self) -> Hash {
        Hash::of(self.typed)
    }

    /// Where the next frame starts.
    pub(crate) fn end(&self) -> u64 {
        self.offset + (TYPE_AT + self.typed.len()) as u64
    }
}

/// Why there is no frame at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Type or length cannot be.
    Head,
    /// The checksum does not fit.
    Checksum,
    /// The file ends within the frame.
    Short,
}

/// What is at the scanner's place.
#[derive(Debug)]
pub(crate) enum Scan<'a> {
    Frame(Frame<'a>),
    /// The file ends here, between two frames.
    End,
    /// There is no frame here. The scanner stays where it is.
    Bad(Fault),
}

/// Reads the frames of a file one after the other.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// How much of the buffer is read.
    filled: usize,
    /// File offset of `buffer[0]`.
    base: u64,
    /// Index in `buffer` of the next frame.
    at: usize,
}

impl Scanner {
    /// A scanner that begins at `offset` and asks for `read_bytes` at a time.
    pub(crate) fn new(file: Arc<dyn DiskFile>, offset: u64, read_bytes: usize) -> Self {
        Self {
            file,
            buffer: vec![0; read_bytes],
            filled: 0,
            base: offset,
            at: 0,
        }
    }

    /// Where the next frame starts in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The next frame.
    pub(crate) fn next(&mut self) -> io::Result<Scan<'_>> {
        let available = self.ensure(FRAME_HEAD_BYTES)?;
        if available == 0 {
            return Ok(Scan::End);
        }
        if available < FRAME_HEAD_BYTES {
            return Ok(Scan::Bad(Fault::Short));
        }
        let Some(head) = FrameHead::parse(&self.buffer[self.at..self.filled]) else {
            return Ok(Scan::Bad(Fault::Head));
        };
        if self.ensure(head.frame_bytes())? < head.frame_bytes() {
            return Ok(Scan::Bad(Fault::Short));
        }
        let frame = &self.buffer[self.at..self.at + head.frame_bytes()];
        if !head.fits(frame) {
            return Ok(Scan::Bad(Fault::Checksum));
        }
        let offset = self.base + self.at as u64;
        self.at += head.frame_bytes();
        Ok(Scan::Frame(Frame {
            offset,
            kind: head.kind,
            typed: &frame[TYPE_AT..],
        }))
    }

    /// Has at least `wanted` bytes from the scanner's place in the buffer, where the file has them, and
    /// says how many there are.
    fn ensure(&mut self, wanted: usize) -> io::Result<usize> {
        let available = self.filled - self.at;
        if available >= wanted {
            return Ok(available);
        }
        self.buffer.copy_within(self.at..self.filled, 0);
        self.base += self.at as u64;
        (self.at, self.filled) = (0, available);
        if self.buffer.len() < wanted {
            let mut larger = vec![0; wanted];
            larger[..available].copy_from_slice(&self.buffer[..available]);
            self.buffer = larger;
        }
        self.filled += self
            .file
            .read_full_at(&mut self.buffer[available..], self.base + available as u64)?;
        Ok(self.filled)
    }
}

/// The first place at or after `from` in `bytes` where a whole checkpoint frame lies whose text `accepts`:
/// its start and end.
pub(crate) fn find_checkpoint(
    bytes: &[u8],
    from: usize,
    accepts: impl Fn(&[u8]) -> bool,
) -> Option<(usize, usize)> {
    (from..bytes.len().saturating_sub(FRAME_HEAD_BYTES)).find_map(|start| {
        let head =
            FrameHead::parse(&bytes[start..]).filter(|head| head.kind == FrameKind::Checkpoint)?;
        let frame = bytes.get(start..start + head.frame_bytes())?;
        (head.fits(frame) && accepts(&frame[FRAME_HEAD_BYTES..]))
            .then_some((start, start + frame.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::{Access, Disk as _, OsDisk},
        tree::leaf_hash,
    };

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, Arc<dyn DiskFile>) {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk
            .open(&dir.path().join("file"), Access::CreateNew)
            .unwrap();
        file.write_all_at(bytes, 0).unwrap();
        (dir, file)
    }

    #[test]
    fn a_chunk_is_read_back_by_the_scanner() {
        let entries: Vec<Vec<u8>> = [0, 1, 9, 300, ENTRY_BYTES_MAX]
            .iter()
            .map(|len| vec![0x5a; *len])
            .collect();
        let mut chunk = Chunk::with_capacity(5, 70_000);
        for entry in &entries {
            let (left, right) = entry.split_at(entry.len() / 2);
            chunk.push_parts(&[left, right]).unwrap();
        }
        assert!(matches!(
            chunk.push(&vec![0; ENTRY_BYTES_MAX + 1]),
            Err(Error::EntryTooLarge { bytes: 65_536 })
        ));
        assert_eq!(chunk.len(), 5);
        let (_dir, file) = file_of(chunk.bytes());
        let mut scanner = Scanner::new(file, 0, 64);
        for (index, entry) in entries.iter().enumerate() {
            let Scan::Frame(frame) = scanner.next().unwrap() else {
                panic!("no frame {index}")
            };
            assert_eq!(frame.payload(), entry);
            assert_eq!(frame.leaf(), leaf_hash(entry));
            assert_eq!(chunk.leaf_hashes()[index], leaf_hash(entry));
            assert_eq!(chunk.entry(index), Some(&entry[..]));
        }
        assert!(matches!(scanner.next().unwrap(), Scan::End));
        chunk.clear();
        assert!(chunk.is_empty());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut good = Vec::new();
        encode(FrameKind::Entry, &[b"entry"], &mut good);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (_dir, file) = file_of(&bad);
            assert!(
                matches!(Scanner::new(file, 0, 64).next().unwrap(), Scan::Bad(_)),
                "bit {bit}"
            );
        }
        for len in 1..good.len() {
            let (_dir, file) = file_of(&good[..len]);
            assert!(
                matches!(
                    Scanner::new(file, 0, 64).next().unwrap(),
                    Scan::Bad(Fault::Short)
                ),
                "length {len}"
            );
        }
    }

    #[test]
    fn a_checkpoint_is_found_after_garbage() {
        let mut bytes = vec![0x02; 40];
        encode(FrameKind::Checkpoint, &[b"wrong"], &mut bytes);
        let start = bytes.len();
        encode(FrameKind::Checkpoint, &[b"right"], &mut bytes);
        let end = bytes.len();
        assert_eq!(
            find_checkpoint(&bytes, 0, |text| text == b"right"),
            Some((start, end))
        );
        assert_eq!(
            find_checkpoint(&bytes[..end - 1], 0, |text| text == b"right"),
            None
        );
    }
}

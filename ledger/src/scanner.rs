//! Reading frames from a file, one after the other.
//!
//! Invariant: a frame that is handed out passed its checksum, and nothing is skipped: where there is no
//! frame, the scanner says why and stays.

use std::{io, sync::Arc};

use crate::{
    disk::DiskFile,
    error::DamageKind,
    frame::{FRAME_HEAD_BYTES, FrameHead, FrameKind, TYPE_AT},
    hash::Hash,
};

/// A frame as it was read, its checksum checked.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Where it starts in the file.
    pub(crate) offset: u64,
    pub(crate) kind: FrameKind,
    /// All of it.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEAD_BYTES..]
    }

    /// The leaf hash of an entry: that of type and payload.
    pub(crate) fn leaf(&self) -> Hash {
        Hash::of(&self.bytes[TYPE_AT..])
    }

    /// Where the next frame starts.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
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

impl Fault {
    /// The damage that this is where a frame was durable.
    pub(crate) fn kind(self, position: u64) -> DamageKind {
        match self {
            Self::Head => DamageKind::FrameHeader { position },
            Self::Checksum => DamageKind::FrameChecksum { position },
            Self::Short => DamageKind::Short { position },
        }
    }
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
        Self { file, buffer: vec![0; read_bytes], filled: 0, base: offset, at: 0 }
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
        Ok(Scan::Frame(Frame { offset, kind: head.kind, bytes: frame }))
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
        // No more than is needed for `wanted`: where the file gives less at a time than there is room for, as a
        // sealed segment gives a block, what is not asked for is not made.
        while self.filled < wanted {
            match self.file.read_at(&mut self.buffer[self.filled..], self.base + self.filled as u64) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.filled)
    }
}

/// The first place at or after `from` in `bytes` where a whole checkpoint frame lies whose text `accepts`:
/// its start and end.
pub(crate) fn find_checkpoint(bytes: &[u8], from: usize, accepts: impl Fn(&[u8]) -> bool) -> Option<(usize, usize)> {
    (from..bytes.len().saturating_sub(FRAME_HEAD_BYTES)).find_map(|start| {
        let head = FrameHead::parse(&bytes[start..]).filter(|head| head.kind == FrameKind::Checkpoint)?;
        let frame = bytes.get(start..start + head.frame_bytes())?;
        (head.fits(frame) && accepts(&frame[FRAME_HEAD_BYTES..])).then_some((start, start + frame.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ENTRY_BYTES_MAX,
        disk::{Access, Disk as _, OsDisk, tests::Halting},
        error::Error,
        frame::{Chunk, encode},
        tree::leaf_hash,
    };

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, Arc<dyn DiskFile>) {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("file"), Access::CreateNew).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        (dir, file)
    }

    #[test]
    fn a_chunk_is_read_back_by_the_scanner() {
        let entries: Vec<Vec<u8>> = [0, 1, 9, 300, ENTRY_BYTES_MAX].iter().map(|len| vec![0x5a; *len]).collect();
        let mut chunk = Chunk::with_capacity(5, 70_000);
        for entry in &entries {
            let (left, right) = entry.split_at(entry.len() / 2);
            chunk.push_parts(&[left, right]).unwrap();
        }
        assert!(matches!(chunk.push(&vec![0; ENTRY_BYTES_MAX + 1]), Err(Error::EntryTooLarge { bytes: 65_536 })));
        assert_eq!(chunk.len(), 5);
        let (_dir, file) = file_of(chunk.bytes());
        let mut scanner = Scanner::new(file, 0, 64);
        for (index, entry) in entries.iter().enumerate() {
            let Scan::Frame(frame) = scanner.next().unwrap() else { panic!("no frame {index}") };
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
    fn a_scan_that_is_interrupted_goes_on_and_one_that_fails_does_not() {
        let mut chunk = Chunk::new();
        for _ in 0..9 {
            chunk.push(b"an entry over several reads").unwrap();
        }
        let scanner = |kind| Scanner::new(Arc::new(Halting::new(chunk.bytes().to_vec(), kind)), 0, 64);
        let mut interrupted = scanner(io::ErrorKind::Interrupted);
        for _ in 0..9 {
            assert!(matches!(interrupted.next().unwrap(), Scan::Frame(_)));
        }
        assert!(matches!(interrupted.next().unwrap(), Scan::End));
        assert_eq!(scanner(io::ErrorKind::TimedOut).next().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut good = Vec::new();
        encode(FrameKind::Entry, &[b"entry"], &mut good);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (_dir, file) = file_of(&bad);
            assert!(matches!(Scanner::new(file, 0, 64).next().unwrap(), Scan::Bad(_)), "bit {bit}");
        }
        for len in 1..good.len() {
            let (_dir, file) = file_of(&good[..len]);
            assert!(matches!(Scanner::new(file, 0, 64).next().unwrap(), Scan::Bad(Fault::Short)), "length {len}");
        }
    }

    #[test]
    fn a_checkpoint_is_found_after_garbage() {
        let mut bytes = vec![0x02; 40];
        encode(FrameKind::Checkpoint, &[b"wrong"], &mut bytes);
        let start = bytes.len();
        encode(FrameKind::Checkpoint, &[b"right"], &mut bytes);
        let end = bytes.len();
        assert_eq!(find_checkpoint(&bytes, 0, |text| text == b"right"), Some((start, end)));
        assert_eq!(find_checkpoint(&bytes[..end - 1], 0, |text| text == b"right"), None);
    }
}

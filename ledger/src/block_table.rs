//! The block table that closes a sealed segment.
//!
//! ```text
//! magic of a zstd skippable frame, 0x184d2a5e            4 bytes   all numbers little endian
//! length of what follows                                 4
//! per block: stored length, raw length, entries, crc     4 x 4
//! first position of the segment                          8
//! number of blocks                                       4
//! CRC-32C of everything above                            4
//! "ldg-sld1"                                             8
//! ```
//!
//! The checksum in a row is that of the block's stored bytes, so a block that passes is decompressed from what
//! was written and from nothing else. Block 0 is the segment's header and holds no entries.
//!
//! Invariant: a table that was decoded fits its file: the blocks fill it from its first byte to the table's.

use crc32c::crc32c;

use crate::block::BLOCK_BYTES;

/// zstd tools pass over a frame that begins like this.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a5e;
/// The last digit is the version of the format.
const MAGIC: [u8; 8] = *b"ldg-sld1";
/// Magic and length.
const HEAD_BYTES: usize = 8;
const ROW_BYTES: usize = 16;
/// First position, count, checksum, magic: what is read first.
pub(crate) const FOOT_BYTES: usize = 24;
/// The longest block that is decompressed, many times what is written: bounds what a table can ask for.
pub(crate) const BLOCK_RAW_BYTES_MAX: usize = 1 << 20;
/// zstd adds at most 1/256 and some bytes to what it cannot compress.
pub(crate) const BLOCK_STORED_BYTES_MAX: usize = BLOCK_RAW_BYTES_MAX + (BLOCK_RAW_BYTES_MAX >> 8) + 64;
/// Blocks of a table, bounding its length to 64 MiB: a segment of over 200 GiB.
const BLOCKS_MAX: usize = 1 << 22;

/// Where a block lies, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where it begins in the sealed file.
    pub(crate) stored_at: u64,
    pub(crate) stored_len: usize,
    /// Where it begins in the segment.
    pub(crate) raw_at: u64,
    pub(crate) raw_len: usize,
    /// The position of its first entry.
    pub(crate) position: u64,
    pub(crate) entries: u64,
    /// Of the stored bytes.
    pub(crate) crc: u32,
}

/// The blocks of a segment, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockTable {
    first: u64,
    rows: Vec<Row>,
}

impl BlockTable {
    pub(crate) fn new(first: u64) -> Self {
        Self { first, rows: Vec::new() }
    }

    /// Adds a block behind the others. The caller keeps it within its bounds.
    pub(crate) fn push(&mut self, stored: &[u8], raw_len: usize, entries: u64) {
        let (stored_at, raw_at, position) = self.ends();
        let crc = crc32c(stored);
        self.rows.push(Row { stored_at, stored_len: stored.len(), raw_at, raw_len, position, entries, crc });
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Where the next block would begin: in the sealed file, in the segment, and with which position.
    fn ends(&self) -> (u64, u64, u64) {
        self.rows.last().map_or((0, 0, self.first), |row| {
            (row.stored_at + row.stored_len as u64, row.raw_at + row.raw_len as u64, row.position + row.entries)
        })
    }

    /// Length of the segment.
    pub(crate) fn raw_len(&self) -> u64 {
        self.ends().1
    }

    /// One past the segment's last position.
    pub(crate) fn end_position(&self) -> u64 {
        self.ends().2
    }

    /// The block that holds an offset of the segment.
    pub(crate) fn find(&self, raw_offset: u64) -> Option<(usize, &Row)> {
        let index = self.rows.partition_point(|row| row.raw_at <= raw_offset).checked_sub(1)?;
        let row = self.rows.get(index)?;
        (raw_offset < row.raw_at + row.raw_len as u64).then_some((index, row))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // All lengths are within the bounds above, which fit.
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let entries = |entries: u64| u32::try_from(entries).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = SKIPPABLE_MAGIC.to_le_bytes().to_vec();
        bytes.extend_from_slice(&number(self.rows.len() * ROW_BYTES + FOOT_BYTES));
        for row in &self.rows {
            for field in [number(row.stored_len), number(row.raw_len), entries(row.entries), row.crc.to_le_bytes()] {
                bytes.extend_from_slice(&field);
            }
        }
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&number(self.rows.len()));
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    /// How long the table is that ends with these bytes, or nothing where none does.
    pub(crate) fn len_by_foot(foot: &[u8]) -> Option<usize> {
        let foot: &[u8; FOOT_BYTES] = foot.try_into().ok()?;
        let count = usize::try_from(u32_at(foot, 8)?).ok().filter(|count| *count <= BLOCKS_MAX)?;
        (foot[16..] == MAGIC).then_some(HEAD_BYTES + count * ROW_BYTES + FOOT_BYTES)
    }

    /// Reads the table of the segment `first` in a file of `file_len` bytes, or nothing where the bytes are none.
    pub(crate) fn decode(bytes: &[u8], first: u64, file_len: u64) -> Option<Self> {
        let foot_at = bytes.len().checked_sub(FOOT_BYTES)?;
        let is_whole = Self::len_by_foot(bytes.get(foot_at..)?)? == bytes.len();
        let crc_at = foot_at + 12;
        let stated = usize::try_from(u32_at(bytes, 4)?).ok()?;
        if !is_whole
            || crc32c(bytes.get(..crc_at)?) != u32_at(bytes, crc_at)?
            || u32_at(bytes, 0)? != SKIPPABLE_MAGIC
            || stated + HEAD_BYTES != bytes.len()
            || bytes.get(foot_at..foot_at + 8)? != first.to_le_bytes()
        {
            return None;
        }
        let mut table = Self::new(first);
        for row in bytes.get(HEAD_BYTES..foot_at)?.as_chunks::<ROW_BYTES>().0 {
            table.add_row(row)?;
        }
        let header = table.rows.first()?;
        let is_sound = header.raw_len == BLOCK_BYTES && header.entries == 0;
        (is_sound && table.ends().0 + bytes.len() as u64 == file_len).then_some(table)
    }

    fn add_row(&mut self, row: &[u8; ROW_BYTES]) -> Option<()> {
        let (stored_at, raw_at, position) = self.ends();
        let len = |at, len_max| usize::try_from(u32_at(row, at)?).ok().filter(|len| (1..=len_max).contains(len));
        let (stored_len, raw_len) = (len(0, BLOCK_STORED_BYTES_MAX)?, len(4, BLOCK_RAW_BYTES_MAX)?);
        // A position beyond 2^64 cannot be; the sum of lengths, bounded by count and length, fits.
        let entries = u64::from(u32_at(row, 8)?);
        position.checked_add(entries)?;
        self.rows.push(Row { stored_at, stored_len, raw_at, raw_len, position, entries, crc: u32_at(row, 12)? });
        Some(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (BlockTable, u64) {
        let mut table = BlockTable::new(40);
        table.push(&[1; 300], BLOCK_BYTES, 0);
        table.push(&[2; 700], 60_000, 120);
        table.push(&[3; 90], 5_000, 7);
        (table, 1_090)
    }

    #[test]
    fn a_table_is_read_back_and_finds_its_blocks() {
        let (table, stored) = table();
        let bytes = table.encode();
        assert_eq!(BlockTable::len_by_foot(&bytes[bytes.len() - FOOT_BYTES..]), Some(bytes.len()));
        assert_eq!(BlockTable::decode(&bytes, 40, stored + bytes.len() as u64), Some(table.clone()));
        assert_eq!((table.raw_len(), table.end_position()), (66_024, 167));
        let found = |offset| table.find(offset).map(|(index, row)| (index, row.position));
        assert_eq!(found(0), Some((0, 40)));
        assert_eq!(found(1_024), Some((1, 40)));
        assert_eq!(found(61_023), Some((1, 40)));
        assert_eq!(found(61_024), Some((2, 160)));
        assert_eq!(found(66_023), Some((2, 160)));
        assert_eq!(found(66_024), None);
    }

    #[test]
    fn a_flipped_bit_another_segment_and_another_length_are_seen() {
        let (table, stored) = table();
        let bytes = table.encode();
        let len = stored + bytes.len() as u64;
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockTable::decode(&bad, 40, len), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(BlockTable::decode(&bytes[cut + 1..], 40, len), None);
            assert_eq!(BlockTable::decode(&bytes[..cut], 40, len), None);
        }
        assert_eq!(BlockTable::decode(&bytes, 41, len), None);
        assert_eq!(BlockTable::decode(&bytes, 40, len + 1), None);
    }

    #[test]
    fn a_table_that_asks_for_too_much_is_none_whatever_its_checksum() {
        let check_row = |row: usize, change: &dyn Fn(&mut Row)| {
            let (mut table, _) = table();
            change(&mut table.rows[row]);
            let bytes = table.encode();
            let len = table.rows.iter().map(|row| row.stored_len as u64).sum::<u64>() + bytes.len() as u64;
            BlockTable::decode(&bytes, 40, len).is_some()
        };
        let check = |change: &dyn Fn(&mut Row)| check_row(1, change);
        assert!(check(&|_| ()));
        assert!(!check(&|row| row.raw_len = BLOCK_RAW_BYTES_MAX + 1));
        assert!(!check(&|row| row.raw_len = 0));
        assert!(!check(&|row| row.stored_len = 0));
        assert!(!check(&|row| row.stored_len = BLOCK_STORED_BYTES_MAX + 1));
        // The first block is the header's.
        assert!(!check_row(0, &|row| row.entries = 1));
        assert!(!check_row(0, &|row| row.raw_len = BLOCK_BYTES + 1));
        let (sound, stored) = table();
        let bytes = sound.encode();
        // Another magic, another length stated, and both, under a checksum that fits them.
        for places in [&[0][..], &[4], &[0, 4]] {
            let mut bad = bytes.clone();
            for at in places {
                bad[*at] ^= 1;
            }
            let crc_at = bad.len() - 12;
            let crc = crc32c(&bad[..crc_at]);
            bad[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(BlockTable::decode(&bad, 40, stored + bad.len() as u64), None, "{places:?}");
        }
        let (mut headless, _) = table();
        headless.rows.remove(0);
        let bytes = headless.encode();
        assert_eq!(BlockTable::decode(&bytes, 40, 790 + bytes.len() as u64), None);
    }
}

//! The block of 1,024 bytes that heads a segment and that fills the head file: two numbers and a signed
//! checkpoint under a checksum, all in one write.

use crc32c::crc32c;

use crate::{checkpoint::SignedCheckpoint, frame::CHECKPOINT_BYTES_MAX};

/// The length of a block.
pub(crate) const BLOCK_BYTES: usize = 1_024;
const TEXT_AT: usize = 28;
const CRC_AT: usize = BLOCK_BYTES - 4;
const _: () = assert!(CHECKPOINT_BYTES_MAX == CRC_AT - TEXT_AT, "a checkpoint fits its block");

/// Which kind of block: the last digit is the version of the directory's format.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"ldg-seg1";
pub(crate) const HEAD_MAGIC: [u8; 8] = *b"ldg-hed1";

/// What a block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first position of a segment: this one, or for the head file the last one.
    pub(crate) segment: u64,
    /// Bytes of that segment that the checkpoint covers: none yet for a segment's own header.
    pub(crate) end: u64,
    /// The checkpoint: the ledger as it was when the segment began, or as it is.
    pub(crate) checkpoint: SignedCheckpoint,
}

impl Block {
    pub(crate) fn encode(&self, magic: [u8; 8]) -> [u8; BLOCK_BYTES] {
        let text = self.checkpoint.text().as_bytes();
        let mut bytes = [0; BLOCK_BYTES];
        bytes[..8].copy_from_slice(&magic);
        bytes[8..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.end.to_le_bytes());
        // The length is bounded by that of the origin, which was checked when the ledger was made.
        bytes[24..TEXT_AT].copy_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes[TEXT_AT..TEXT_AT + text.len()].copy_from_slice(text);
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a block, or nothing where the bytes are none. The signature is the caller's to check.
    pub(crate) fn decode(magic: [u8; 8], bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BLOCK_BYTES] = bytes.try_into().ok()?;
        let crc = u32::from_le_bytes(bytes[CRC_AT..].try_into().ok()?);
        if bytes[..8] != magic || crc32c(&bytes[..CRC_AT]) != crc {
            return None;
        }
        let segment = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
        let end = u64::from_le_bytes(bytes[16..24].try_into().ok()?);
        let len = usize::try_from(u32::from_le_bytes(bytes[24..TEXT_AT].try_into().ok()?)).ok()?;
        let text = bytes[TEXT_AT..CRC_AT].get(..len)?;
        let checkpoint = SignedCheckpoint::parse(str::from_utf8(text).ok()?).ok()?;
        Some(Self { segment, end, checkpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::Checkpoint, key::LedgerKey, note::NAME_BYTES_MAX, tree::EMPTY_ROOT};

    #[test]
    fn the_longest_checkpoint_fits_and_a_flipped_bit_is_seen() {
        let origin = "o".repeat(NAME_BYTES_MAX);
        let checkpoint = Checkpoint { origin, size: u64::MAX, root: EMPTY_ROOT }.sign(&LedgerKey::generate([1; 32]));
        let block = Block { segment: 7, end: 9, checkpoint };
        let bytes = block.encode(HEAD_MAGIC);
        assert_eq!(Block::decode(HEAD_MAGIC, &bytes), Some(block));
        assert_eq!(Block::decode(SEGMENT_MAGIC, &bytes), None);
        assert_eq!(Block::decode(HEAD_MAGIC, &bytes[1..]), None);
        for bit in 0..BLOCK_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Block::decode(HEAD_MAGIC, &bad), None, "bit {bit}");
        }
    }
}

//! Reading a sealed segment as if it were the raw one.
//!
//! ```text
//! zstd frame       the segment's header, 1,024 bytes
//! zstd frame ...   blocks of about 64 KiB: whole ledger frames, each block to be read by itself
//! skippable frame  the block table (see `block_table`)
//! ```
//!
//! Any zstd decompressor makes the raw segment of it. In here a [`SealedFile`] is a [`DiskFile`] whose offsets
//! and length are those of the raw segment, so that scanner, index and recovery know nothing of compression.
//! The audit takes whole blocks ([`SealedFile::read_block`]).
//!
//! Invariant: no byte is handed out that did not come from a block whose stored bytes fit the checksum in a
//! table that fits its own. Whatever does not is damage, never an I/O error: it travels through [`io::Error`],
//! and `error::IoContext` takes it out again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crc32c::crc32c;

use crate::{
    block_table::{BlockTable, FOOT_BYTES, Row},
    blocks::Blocks,
    disk::{Access, Disk, DiskFile},
    error::{Damage, DamageKind, Error, IoContext as _},
};

/// A sealed segment, open for reading.
#[derive(Debug)]
pub(crate) struct SealedFile {
    path: PathBuf,
    first: u64,
    file: Arc<dyn DiskFile>,
    table: BlockTable,
    blocks: Arc<Blocks>,
}

impl SealedFile {
    /// Opens the sealed form of the segment `first` at `path`. What was decompressed before is taken from `blocks`.
    pub(crate) fn open(disk: &dyn Disk, path: &Path, first: u64, blocks: &Arc<Blocks>) -> Result<Self, Error> {
        let file = disk.open(path, Access::Read).at("open", path)?;
        let len = file.len().at("examine", path)?;
        let foot_at = len.saturating_sub(FOOT_BYTES as u64);
        let mut foot = [0; FOOT_BYTES];
        let filled = file.read_full_at(&mut foot, foot_at).at("read", path)?;
        let damage = || Damage::error(path, foot_at, DamageKind::BlockTable);
        let table_len = BlockTable::len_by_foot(&foot[..filled]).ok_or_else(damage)?;
        let table_at = len.checked_sub(table_len as u64).ok_or_else(damage)?;
        let mut bytes = vec![0; table_len];
        let filled = file.read_full_at(&mut bytes, table_at).at("read", path)?;
        let table = BlockTable::decode(&bytes[..filled], first, len).ok_or_else(damage)?;
        Ok(Self { path: path.to_owned(), first, file, table, blocks: Arc::clone(blocks) })
    }

    pub(crate) fn table(&self) -> &BlockTable {
        &self.table
    }

    /// Reads a block and decompresses it into `raw`, which has its length.
    pub(crate) fn read_block(&self, index: usize, row: &Row, raw: &mut [u8]) -> io::Result<()> {
        let mut stored = vec![0; row.stored_len];
        let filled = self.file.read_full_at(&mut stored, row.stored_at)?;
        // The checksum comes first: the decompressor sees what was written, or nothing.
        let is_good = filled == stored.len() && crc32c(&stored) == row.crc && self.blocks.decompress(&stored, raw)?;
        if is_good { Ok(()) } else { Err(io::Error::other(self.block_damage(index, row))) }
    }

    /// What is wrong where a block is not what was written.
    pub(crate) fn block_damage(&self, index: usize, row: &Row) -> Damage {
        let kind = DamageKind::SealedBlock { block: index as u64, from: row.position, to: row.position + row.entries };
        Damage { file: self.path.clone(), offset: row.stored_at, kind }
    }

    /// A block out of the cache, or into it.
    fn cached(&self, index: usize, row: &Row) -> io::Result<Arc<[u8]>> {
        self.blocks.block((self.first, index), || {
            let mut raw = vec![0; row.raw_len];
            self.read_block(index, row, &mut raw)?;
            Ok(raw.into())
        })
    }
}

impl DiskFile for SealedFile {
    /// Gives bytes of one block at a time, so that no more is decompressed than is asked for.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some((index, row)) = self.table.find(offset).filter(|_| !buffer.is_empty()) else {
            return Ok(0);
        };
        if offset == row.raw_at
            && let Some(whole) = buffer.get_mut(..row.raw_len)
        {
            self.read_block(index, row, whole)?;
            return Ok(row.raw_len);
        }
        let block = self.cached(index, row)?;
        let rest = usize::try_from(offset - row.raw_at).ok().and_then(|within| block.get(within..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.table.raw_len())
    }

    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(never_changes())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(never_changes())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(never_changes())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Err(never_changes())
    }
}

fn never_changes() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a sealed segment is only read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::OsDisk,
        key::LedgerKey,
        layout::sealed_path,
        ledger::{Ledger, Options},
    };

    #[test]
    fn a_sealed_segment_has_the_raw_ones_length_and_is_only_read() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("ledger");
        let options = Options { segment_bytes_max: 2_000, sealed_block_bytes: 700 };
        let mut ledger = Ledger::create(&dir, "node/x", LedgerKey::generate([1; 32]), options, b"first").unwrap();
        for _ in 0..20 {
            ledger.append_entries(&[[7; 300]]).unwrap();
        }
        let sealed = ledger.sealer().seal_next().unwrap().unwrap();
        let file = SealedFile::open(&OsDisk, &sealed_path(&dir, 0), 0, &Arc::default()).unwrap();
        assert_eq!(file.len().unwrap(), sealed.raw_bytes);
        let refusals = [file.write_all_at(b"x", 0), file.set_len(0), file.sync_data(), file.try_lock().map(drop)];
        assert!(refusals.iter().all(Result::is_err), "{refusals:?}");
    }
}

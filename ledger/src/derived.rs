//! What follows from the segments and can be made again from them: tree hashes by tile level, and the
//! sparse offset index.
//!
//! Both are flat files of fixed-width records (32 and 8 bytes), written after the batch that they follow
//! from is durable, and not synced with it. They are synced when a new segment begins, so whatever a crash
//! leaves of them is right up to the last segment's first position or is made again.
//!
//! Reading trusts nothing blindly: a root is compared with the signed one before it serves.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use crate::{
    disk::{Access, Disk, DiskFile},
    error::{Damage, DamageKind, Error, IoContext as _},
    hash::Hash,
    layout::{index_path, level_path, tree_dir},
    tile::{LEVELS_MAX, TILE_HEIGHT, TileKind},
    tiles::{TileCache, TileTree},
    tree::{Frontier, NodeSource},
};

/// Every so many entries the index says where one lies: one read of some kilobytes finds any entry, and
/// the index is a small part of the ledger.
pub(crate) const INDEX_STEP: u64 = 16;
const HASH_BYTES: u64 = 32;
const OFFSET_BYTES: u64 = 8;
/// Buffered records are written at the latest when they are so many bytes.
const BUFFER_BYTES_MAX: usize = 1 << 20;

/// The files, opened when first asked for.
#[derive(Debug)]
pub(crate) struct DerivedFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    access: Access,
    levels: [OnceLock<Arc<dyn DiskFile>>; LEVELS_MAX as usize],
    index: OnceLock<Arc<dyn DiskFile>>,
}

impl DerivedFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, access: Access) -> Self {
        Self { disk, dir: dir.to_owned(), access, levels: Default::default(), index: OnceLock::new() }
    }

    fn opened<'a>(&self, cell: &'a OnceLock<Arc<dyn DiskFile>>, path: &Path) -> Result<&'a Arc<dyn DiskFile>, Error> {
        if let Some(file) = cell.get() {
            return Ok(file);
        }
        let file = self.disk.open(path, self.access).at("open", path)?;
        Ok(cell.get_or_init(|| file))
    }

    fn level(&self, level: u8) -> Result<&Arc<dyn DiskFile>, Error> {
        self.opened(&self.levels[usize::from(level)], &level_path(&self.dir, level))
    }

    fn index(&self) -> Result<&Arc<dyn DiskFile>, Error> {
        self.opened(&self.index, &index_path(&self.dir))
    }

    /// Hashes `start..start + count` of a level.
    pub(crate) fn hashes(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, Error> {
        let path = || level_path(&self.dir, level);
        let mut bytes = vec![0; count * 32];
        let offset = start * HASH_BYTES;
        match self.level(level)?.read_exact_at(&mut bytes, offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Damage::error(path(), offset, DamageKind::TreeHash { level, index: start }));
            }
            Err(error) => return Err(error).at("read", path()),
        }
        Ok(bytes.as_chunks::<32>().0.iter().map(|hash| Hash(*hash)).collect())
    }

    /// Where the index says that the entry at `position`, a multiple of [`INDEX_STEP`], lies in its segment.
    pub(crate) fn offset(&self, position: u64) -> Result<u64, Error> {
        let offsets = self.offsets(position, 1)?;
        offsets.first().copied().ok_or_else(|| self.index_damage(position))
    }

    /// The offsets of so many indexed entries from `position` on; fewer where the index ends.
    pub(crate) fn offsets(&self, position: u64, count: usize) -> Result<Vec<u64>, Error> {
        let mut bytes = vec![0; count * 8];
        let at = position / INDEX_STEP * OFFSET_BYTES;
        let filled = self.index()?.read_full_at(&mut bytes, at);
        let filled = filled.at("read", index_path(&self.dir))?;
        Ok(bytes[..filled].as_chunks::<8>().0.iter().map(|offset| u64::from_le_bytes(*offset)).collect())
    }

    pub(crate) fn index_damage(&self, position: u64) -> Error {
        let at = position / INDEX_STEP * OFFSET_BYTES;
        Damage::error(index_path(&self.dir), at, DamageKind::Index { position })
    }
}

/// The tree of the first `size` entries, as the files have it.
pub(crate) struct TreeView<'a> {
    pub(crate) files: &'a DerivedFiles,
    pub(crate) cache: &'a TileCache,
    pub(crate) size: u64,
}

impl NodeSource for TreeView<'_> {
    fn node(&self, height: u8, index: u64) -> Result<Hash, Error> {
        let (level, rise) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        let first = index << rise;
        if rise == 0 {
            // A hash that is stored as it is: one read, and no tile is made for it.
            return self.one(level, first);
        }
        let tile = first >> TILE_HEIGHT;
        if (tile + 1) << TILE_HEIGHT <= TileKind::Hashes(level).count(self.size) {
            let tree = self.cache.tile(level, tile, || {
                Ok(TileTree::new(self.files.hashes(level, tile << TILE_HEIGHT, 1 << TILE_HEIGHT)?))
            })?;
            return tree
                .node(rise, index - (tile << (TILE_HEIGHT - rise)))
                .ok_or_else(|| damage(self.files, level, first));
        }
        // In a tile that is still filling up, the node is complete and will not change; the tile will.
        self.cache.node(height, index, || {
            let tree = TileTree::new(self.files.hashes(level, first, 1 << rise)?);
            tree.node(rise, 0).ok_or_else(|| damage(self.files, level, first))
        })
    }
}

impl TreeView<'_> {
    fn one(&self, level: u8, index: u64) -> Result<Hash, Error> {
        let hashes = self.files.hashes(level, index, 1)?;
        hashes.first().copied().ok_or_else(|| damage(self.files, level, index))
    }
}

fn damage(files: &DerivedFiles, level: u8, index: u64) -> Error {
    Damage::error(level_path(&files.dir, level), index * HASH_BYTES, DamageKind::TreeHash { level, index })
}

/// Grows the files, and holds the tree's right edge.
#[derive(Debug)]
pub(crate) struct DerivedWriter {
    files: Arc<DerivedFiles>,
    frontier: Frontier,
    levels: [Pending; LEVELS_MAX as usize],
    index: Pending,
    /// Whether a file was made since the directory was last synced.
    has_new_file: bool,
}

/// Records not yet written, and where they belong.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    at: u64,
}

impl Pending {
    fn flush(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        file.write_all_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

impl DerivedWriter {
    /// Goes on after the first `size` entries with what the files hold of them; what they hold beyond is
    /// cut off by [`DerivedWriter::cut`].
    pub(crate) fn resume(files: Arc<DerivedFiles>, size: u64) -> Result<Self, Error> {
        let cache = TileCache::default();
        let frontier = Frontier::load(size, &TreeView { files: &files, cache: &cache, size })?;
        if size > 0 {
            files.offset((size - 1) / INDEX_STEP * INDEX_STEP)?;
        }
        let mut levels: [Pending; LEVELS_MAX as usize] = Default::default();
        for (pending, level) in levels.iter_mut().zip(0..) {
            pending.at = TileKind::Hashes(level).count(size) * HASH_BYTES;
        }
        let index = Pending { bytes: Vec::new(), at: size.div_ceil(INDEX_STEP) * OFFSET_BYTES };
        Ok(Self { files, frontier, levels, index, has_new_file: true })
    }

    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Adds the leaf of an entry that lies at `offset` of its segment.
    pub(crate) fn push(&mut self, leaf: Hash, offset: u64) {
        if self.frontier.size().is_multiple_of(INDEX_STEP) {
            self.index.bytes.extend_from_slice(&offset.to_le_bytes());
        }
        let levels = &mut self.levels;
        self.frontier.push_with(0, leaf, |height, hash| {
            if height.is_multiple_of(TILE_HEIGHT) {
                levels[usize::from(height / TILE_HEIGHT)].bytes.extend_from_slice(&hash.0);
            }
        });
    }

    /// Whether enough is buffered to be worth writing.
    pub(crate) fn is_full(&self) -> bool {
        self.levels[0].bytes.len() >= BUFFER_BYTES_MAX
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        for (pending, level) in self.levels.iter_mut().zip(0..) {
            if pending.bytes.is_empty() {
                continue;
            }
            self.has_new_file |= pending.at == 0;
            let path = || level_path(&self.files.dir, level);
            pending.flush(self.files.level(level)?.as_ref()).at("write", path())?;
        }
        if !self.index.bytes.is_empty() {
            self.index.flush(self.files.index()?.as_ref()).at("write", index_path(&self.files.dir))?;
        }
        Ok(())
    }

    /// Cuts the files off where the tree ends.
    pub(crate) fn cut(&self) -> Result<(), Error> {
        let cut = |file: &Arc<dyn DiskFile>, len: u64, path: PathBuf| {
            if file.len().at("examine", &path)? > len {
                file.set_len(len).at("cut", &path)?;
            }
            Ok::<_, Error>(())
        };
        for (pending, level) in self.levels.iter().zip(0..) {
            let path = level_path(&self.files.dir, level);
            if self.files.disk.stat(&path).at("examine", &path)?.is_some() {
                cut(self.files.level(level)?, pending.at, path)?;
            }
        }
        cut(self.files.index()?, self.index.at, index_path(&self.files.dir))
    }

    /// Makes the files durable as they are.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        for (pending, level) in self.levels.iter().zip(0..) {
            if pending.at > 0 {
                self.files.level(level)?.sync_data().at("sync", level_path(&self.files.dir, level))?;
            }
        }
        self.files.index()?.sync_data().at("sync", index_path(&self.files.dir))?;
        if self.has_new_file {
            let dir = tree_dir(&self.files.dir);
            self.files.disk.sync_dir(&dir).at("sync", &dir)?;
            self.files.disk.sync_dir(&self.files.dir).at("sync", &self.files.dir)?;
            self.has_new_file = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;

    #[test]
    fn what_is_buffered_is_written_when_it_is_a_mebibyte() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        OsDisk.create_dir(&tree_dir(dir)).unwrap();
        let files = Arc::new(DerivedFiles::new(Arc::new(OsDisk), dir, Access::Create));
        let mut writer = DerivedWriter::resume(Arc::clone(&files), 0).unwrap();
        for position in 0..(1 << 20) / HASH_BYTES {
            assert!(!writer.is_full(), "{position}");
            writer.push(Hash::of(&position.to_le_bytes()), position);
        }
        assert!(writer.is_full());
        writer.flush().unwrap();
        assert!(!writer.is_full());
        assert_eq!(files.hashes(0, 32_767, 1).unwrap(), [Hash::of(&32_767_u64.to_le_bytes())]);
    }
}

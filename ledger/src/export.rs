//! The static form of a ledger: the directory that tlog-tiles describes, to be served by any file server.
//!
//! An export is made from a [`Reader`] and read through [`ExportReader`], which believes nothing but the
//! checkpoint's signature: every tile is checked against the root, and every entry against its tile, before
//! anything of it is handed out.

use std::{
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    chain::KeyChain,
    checkpoint::SignedCheckpoint,
    cosigned,
    disk::{Access, Disk, OsDisk, parent, read_file, write_file},
    error::{Damage, DamageKind, Error, IoContext as _},
    hash::Hash,
    note::{NOTE_BYTES_MAX, VerifierKey},
    reader::Reader,
    source::{EntrySource, Visit, check_position, check_size},
    tile::{TILE_HEIGHT, TileKind, TilePath},
    tiles::{TileCache, TileTree},
    tree::{self, NodeSource, leaf_hash},
};

/// A bundle of 256 entries of the longest kind.
pub(crate) const BUNDLE_BYTES_MAX: usize = 256 * (2 + crate::ENTRY_BYTES_MAX);
/// Files written before they are synced: bounds what is remembered of them.
const UNSYNCED_MAX: usize = 1_024;

/// What an export added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportReport {
    /// The size of the ledger that the directory now holds.
    pub size: u64,
    /// Hash tiles written.
    pub tiles_written: u64,
    /// Entry bundles written.
    pub bundles_written: u64,
}

impl Reader {
    /// Writes the ledger's tiles, entry bundles and checkpoint into a directory. What an earlier export
    /// left there is taken over, and only what is new is written. The checkpoint comes last, when all that
    /// it covers is durable: a crash leaves the export as it was, with some files to spare. Partial tiles
    /// of earlier sizes stay.
    pub fn export(&self, dir: &Path) -> Result<ExportReport, Error> {
        let disk = OsDisk;
        let checkpoint = self.checkpoint();
        let size = checkpoint.size();
        let done = self.exported_before(&disk, dir, size)?;
        let mut report = ExportReport { size, tiles_written: 0, bundles_written: 0 };
        let mut unsynced = Vec::new();
        for path in TilePath::all_at(size) {
            // What the earlier checkpoint covered was durable before it was written.
            if path.exists_at(done) && disk.stat(&dir.join(path.to_string())).at("examine", dir)?.is_some() {
                continue;
            }
            let file = dir.join(path.to_string());
            write_tile(&disk, &file, &self.tile(&path)?)?;
            unsynced.push(file);
            match path.kind {
                TileKind::Hashes(_) => report.tiles_written += 1,
                TileKind::Entries => report.bundles_written += 1,
            }
            if unsynced.len() >= UNSYNCED_MAX {
                sync_tiles(&disk, dir, &mut unsynced)?;
            }
        }
        disk.create_dir(dir).at("create", dir)?;
        sync_tiles(&disk, dir, &mut unsynced)?;
        let keys = self.keys();
        if !keys.text().is_empty() {
            // By these the checkpoint is verified, so they come before it.
            keys.store(&disk, dir)?;
        }
        // All that the checkpoint covers is durable. Now the directory can say so.
        let path = dir.join("checkpoint");
        write_file(&disk, &path, checkpoint.text().as_bytes()).at("write", &path)?;
        self.export_cosigned(&disk, dir, size)?;
        Ok(report)
    }

    /// Puts the cosigned checkpoint beside the export's own, where one is kept that the export covers.
    fn export_cosigned(&self, disk: &dyn Disk, dir: &Path, size: u64) -> Result<(), Error> {
        match cosigned::load_on(disk, self.dir(), &self.keys())? {
            Some(kept) if kept.size() <= size => cosigned::keep_on(disk, dir, &kept),
            // One that came since is for the next export.
            Some(_) | None => Ok(()),
        }
    }

    /// The size of the export that is there, after checking that this ledger extends it.
    fn exported_before(&self, disk: &dyn Disk, dir: &Path, size: u64) -> Result<u64, Error> {
        let path = dir.join("checkpoint");
        if disk.stat(&path).at("examine", &path)?.is_none() {
            return Ok(0);
        }
        let there = read_checkpoint(disk, dir, &self.keys())?;
        let export_size = there.size();
        if export_size > size || self.root_at(export_size)? != there.root() {
            return Err(Error::ExportDiffers { path: dir.to_owned(), export_size, size });
        }
        Ok(export_size)
    }
}

/// Puts a tile in place as a whole: nobody sees a part of one under a tile's name.
fn write_tile(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_added_extension("tmp");
    disk.create_dir(parent(path)).at("create", parent(path))?;
    let file = disk.open(&temporary, Access::Create).at("create", &temporary)?;
    file.set_len(0).at("cut", &temporary)?;
    file.write_all_at(bytes, 0).at("write", &temporary)?;
    disk.rename(&temporary, path).at("put in place", path)
}

/// Makes tiles durable: their bytes, and the names of all directories down to them.
fn sync_tiles(disk: &dyn Disk, dir: &Path, unsynced: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut directories = std::collections::BTreeSet::from([dir.to_owned(), parent(dir).to_owned()]);
    for path in unsynced.drain(..) {
        let file = disk.open(&path, Access::Write).at("open", &path)?;
        file.sync_data().at("sync", &path)?;
        directories.extend(path.ancestors().skip(1).take_while(|above| *above != dir).map(Path::to_owned));
    }
    for directory in directories.iter().rev() {
        disk.sync_dir(directory).at("sync", directory)?;
    }
    Ok(())
}

pub(crate) fn read_checkpoint(disk: &dyn Disk, dir: &Path, keys: &KeyChain) -> Result<SignedCheckpoint, Error> {
    let path = dir.join("checkpoint");
    if disk.stat(&path).at("examine", &path)?.is_none() {
        return Err(Error::NoLedger { path: dir.to_owned() });
    }
    let bytes = read_file(disk, &path, NOTE_BYTES_MAX).at("read", &path)?;
    let text = str::from_utf8(&bytes).map_err(|_error| crate::note::NoteError::Text)?;
    Ok(keys.checkpoint(text)?)
}

/// A reader of an export, which checks everything against the signed root before handing it out.
#[derive(Clone, Debug)]
pub struct ExportReader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    keys: KeyChain,
    checkpoint: SignedCheckpoint,
    cache: TileCache,
}

impl ExportReader {
    /// Opens an export: the checkpoint's signature and the tree's right edge are checked now, everything
    /// else when it is read.
    pub fn open(dir: &Path, key: &VerifierKey) -> Result<Self, Error> {
        Self::open_on(Arc::new(OsDisk), dir, key)
    }

    /// [`ExportReader::open`] on a disk of the caller's.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, key: &VerifierKey) -> Result<Self, Error> {
        let keys = KeyChain::load(disk.as_ref(), dir, key)?;
        let checkpoint = read_checkpoint(disk.as_ref(), dir, &keys)?;
        let inner = Inner { disk, dir: dir.to_owned(), keys, checkpoint, cache: TileCache::default() };
        // The partial tiles hold the complete subtrees of the right edge, all of their hashes among them:
        // if those give the signed root, every hash in a partial tile is right.
        let size = inner.checkpoint.size();
        let computed = tree::root(&Unchecked(&inner), size)?;
        if computed != inner.checkpoint.root() {
            let kind = DamageKind::Root { size, computed, signed: inner.checkpoint.root() };
            return Err(Damage::error(dir, 0, kind));
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The ledger's name.
    pub fn origin(&self) -> &str {
        self.0.checkpoint.origin()
    }

    /// The signed checkpoint.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.0.checkpoint
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The leaf hash of an entry.
    pub fn leaf_hash_at(&self, position: u64) -> Result<Hash, Error> {
        check_position(position, self.size())?;
        self.0.node(0, position)
    }

    /// The hashes of the tile `index` of `level`, checked.
    pub(crate) fn hashes(&self, level: u8, index: u64) -> Result<Arc<TileTree>, Error> {
        self.0.checked_tile(level, index)
    }

    /// Checks a bundle's entries against the tree and hands them to `visit`.
    fn visit_bundle(&self, index: u64, wanted: &Range<u64>, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, Error> {
        let path = self.0.path(TileKind::Entries, index)?;
        let file = self.0.dir.join(path.to_string());
        let bytes = self.0.read(&file, BUNDLE_BYTES_MAX)?;
        let leaves = self.hashes(0, index)?;
        let entries =
            split_bundle(&bytes, path.width).map_err(|offset| Damage::error(&file, offset as u64, DamageKind::Tile))?;
        for ((position, (offset, entry)), leaf) in (index << TILE_HEIGHT..).zip(entries).zip(leaves.hashes()) {
            if leaf_hash(entry) != *leaf {
                return Err(Damage::error(&file, offset as u64, DamageKind::Entry { position }));
            }
            if wanted.contains(&position) && visit(position, entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The entries of a bundle, each with the offset of its length, or the offset at which it is malformed.
pub(crate) fn split_bundle(bytes: &[u8], width: u16) -> Result<Vec<(usize, &[u8])>, usize> {
    let mut entries = Vec::with_capacity(usize::from(width));
    let mut at = 0;
    for _ in 0..width {
        let (len, rest) = bytes[at..].split_first_chunk::<2>().ok_or(at)?;
        let len = usize::from(u16::from_be_bytes(*len));
        entries.push((at, rest.get(..len).ok_or(at)?));
        at += 2 + len;
    }
    if at == bytes.len() { Ok(entries) } else { Err(at) }
}

impl Inner {
    fn path(&self, kind: TileKind, index: u64) -> Result<TilePath, Error> {
        let size = self.checkpoint.size();
        TilePath::at_size(kind, index, size)
            .ok_or_else(|| Error::NoTile { path: format!("{kind:?} tile {index}"), size })
    }

    fn read(&self, file: &Path, len_max: usize) -> Result<Vec<u8>, Error> {
        if self.disk.stat(file).at("examine", file)?.is_none() {
            return Err(Damage::error(file, 0, DamageKind::Tile));
        }
        read_file(self.disk.as_ref(), file, len_max).at("read", file)
    }

    /// A tile as the file has it.
    fn read_tile(&self, level: u8, index: u64) -> Result<TileTree, Error> {
        let path = self.path(TileKind::Hashes(level), index)?;
        let file = self.dir.join(path.to_string());
        let bytes = self.read(&file, 8_192)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() != usize::from(path.width) || !rest.is_empty() {
            return Err(Damage::error(file, 0, DamageKind::Tile));
        }
        Ok(TileTree::new(hashes.iter().map(|hash| Hash(*hash)).collect()))
    }

    /// A tile whose hashes are known to lead to the root: a full one by its own root in the tile above, a
    /// partial one because opening checked the right edge.
    fn checked_tile(&self, level: u8, index: u64) -> Result<Arc<TileTree>, Error> {
        self.cache.tile(level, index, || {
            let tile = self.read_tile(level, index)?;
            if let Some(root) = tile.root() {
                let above = self.checked_tile(level + 1, index >> TILE_HEIGHT)?;
                if above.node(0, index & 0xff) != Some(root) {
                    let path = self.path(TileKind::Hashes(level), index)?;
                    return Err(Damage::error(self.dir.join(path.to_string()), 0, DamageKind::Tile));
                }
            }
            Ok(tile)
        })
    }
}

impl NodeSource for Inner {
    fn node(&self, height: u8, index: u64) -> Result<Hash, Error> {
        node_in(height, index, |level, tile| self.checked_tile(level, tile))
    }
}

/// The tree before anything of it is checked.
struct Unchecked<'a>(&'a Inner);

impl NodeSource for Unchecked<'_> {
    fn node(&self, height: u8, index: u64) -> Result<Hash, Error> {
        node_in(height, index, |level, tile| self.0.read_tile(level, tile).map(Arc::new))
    }
}

fn node_in(height: u8, index: u64, load: impl FnOnce(u8, u64) -> Result<Arc<TileTree>, Error>) -> Result<Hash, Error> {
    let (level, rise) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
    let tile = index << rise >> TILE_HEIGHT;
    let node = load(level, tile)?.node(rise, index - (tile << (TILE_HEIGHT - rise)));
    node.ok_or(Error::NoTile { path: format!("node {height}/{index}"), size: 0 })
}

impl EntrySource for ExportReader {
    fn size(&self) -> u64 {
        self.0.checkpoint.size()
    }

    fn root(&self) -> Hash {
        self.0.checkpoint.root()
    }

    fn root_at(&self, size: u64) -> Result<Hash, Error> {
        check_size(size, self.size())?;
        tree::root(self.0.as_ref(), size)
    }

    fn entry(&self, position: u64) -> Result<Vec<u8>, Error> {
        check_position(position, self.size())?;
        let mut found = Vec::new();
        self.for_each_entry(position..position + 1, &mut |_, entry| {
            found.extend_from_slice(entry);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn for_each_entry(&self, range: Range<u64>, visit: &mut Visit<'_>) -> Result<(), Error> {
        check_size(range.end, self.size())?;
        if range.is_empty() {
            return Ok(());
        }
        for index in range.start >> TILE_HEIGHT..=(range.end - 1) >> TILE_HEIGHT {
            if self.visit_bundle(index, &range, visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn inclusion_proof(&self, position: u64, size: u64) -> Result<Vec<Hash>, Error> {
        check_size(size, self.size())?;
        check_position(position, size)?;
        tree::inclusion_proof(self.0.as_ref(), position, size)
    }

    fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        check_size(new, self.size())?;
        check_size(old, new)?;
        tree::consistency_proof(self.0.as_ref(), old, new)
    }

    fn checkpoint_text(&self) -> String {
        self.0.checkpoint.text().to_owned()
    }

    fn rotations_text(&self) -> String {
        self.0.keys.text().to_owned()
    }
}

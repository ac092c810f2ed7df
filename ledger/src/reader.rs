//! Reading: entries, roots, proofs and tiles of what is durable.
//!
//! A [`Reader`] is a handle; its clones share what they have opened and cached. One that a writer gave out
//! follows that writer. One opened on a directory takes no lock, reads while another process may be writing,
//! and goes by the head file, which never says more than is durable; [`Reader::refresh`] reads it again.
//!
//! What is handed out was checked: an entry by its checksum (a single one against its leaf hash too, a
//! range where it begins), a proof against the root that it is for, an earlier root, a leaf hash and a tile
//! against the signed root.

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::{
    blocks::Blocks,
    chain::KeyChain,
    checkpoint::SignedCheckpoint,
    derived::{DerivedFiles, INDEX_STEP, TreeView},
    disk::{Access, Disk, OsDisk},
    entries::Entries,
    error::{Damage, DamageKind, Error, IoContext as _},
    frame::FrameKind,
    hash::Hash,
    layout::{
        SEGMENT_DATA_AT, Segment, check_identity, check_is_ledger, find_segment, head_path, list_segments,
        segments_dir, tree_dir,
    },
    note::VerifierKey,
    recovery::{Head, read_head},
    scan::SCAN_READ_BYTES,
    scanner::{Scan, Scanner},
    source::{check_position, check_size},
    tile::{TILE_HEIGHT, TileKind, TilePath},
    tiles::{TileCache, TileTree},
    tree::{self, NodeSource as _},
    verify,
};

/// Segment files kept open.
const FILES_MAX: usize = 64;
/// What a read of one entry asks for: sixteen entries of half a kilobyte.
const ENTRY_READ_BYTES: usize = 8 << 10;
/// How often a head file that is being written this moment is read again.
const HEAD_READS_MAX: usize = 100;

/// What the clones of a reader share, with its writer if it has one.
#[derive(Debug)]
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The key that everything is verified from.
    first: VerifierKey,
    keys: RwLock<Arc<KeyChain>>,
    files: Arc<DerivedFiles>,
    cache: TileCache,
    blocks: Arc<Blocks>,
    open: Mutex<OpenSegments>,
    state: RwLock<Arc<State>>,
    /// Whether a writer in this process tells what is durable.
    is_attached: bool,
}

/// Segments kept open.
#[derive(Debug, Default)]
struct OpenSegments {
    by_first: BTreeMap<u64, Arc<Segment>>,
    /// Counts the segments that were sealed, so that one opened before is not kept after.
    sealed: u64,
}

#[derive(Debug)]
struct State {
    checkpoint: SignedCheckpoint,
    segments: Arc<[u64]>,
}

impl Shared {
    pub(crate) fn attached(
        disk: Arc<dyn Disk>,
        dir: &Path,
        keys: Arc<KeyChain>,
        files: Arc<DerivedFiles>,
        checkpoint: SignedCheckpoint,
        segments: Arc<[u64]>,
    ) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            first: keys.first().clone(),
            keys: RwLock::new(keys),
            files,
            cache: TileCache::default(),
            blocks: Arc::default(),
            open: Mutex::default(),
            state: RwLock::new(Arc::new(State { checkpoint, segments })),
            is_attached: true,
        }
    }

    /// Lets readers see what has become durable.
    pub(crate) fn publish(&self, checkpoint: SignedCheckpoint, segments: Arc<[u64]>) {
        let state = Arc::new(State { checkpoint, segments });
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Lets readers know by which keys checkpoints are verified from here on.
    pub(crate) fn rotate(&self, keys: Arc<KeyChain>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    pub(crate) fn keys(&self) -> Arc<KeyChain> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn view(&self, size: u64) -> TreeView<'_> {
        TreeView { files: &self.files, cache: &self.cache, size }
    }

    fn segment(&self, first: u64) -> Result<Arc<Segment>, Error> {
        let held = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = {
            let held = held();
            if let Some(segment) = held.by_first.get(&first) {
                return Ok(Arc::clone(segment));
            }
            held.sealed
        };
        let segment = Arc::new(find_segment(self.disk.as_ref(), &self.dir, first, &self.blocks)?);
        segment.valid_header(first)?;
        let mut held = held();
        if held.sealed == sealed {
            if held.by_first.len() >= FILES_MAX {
                held.by_first.pop_first();
            }
            held.by_first.insert(first, Arc::clone(&segment));
        }
        Ok(segment)
    }

    /// Lets go of a segment's file, which was removed: as long as it is open its space is not given back.
    pub(crate) fn forget_segment(&self, first: u64) {
        let mut held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        held.sealed += 1;
        // Closed when the lock is given back.
        let segment = held.by_first.remove(&first);
        drop(held);
        drop(segment);
    }

    /// The first positions of all segments with anything durable in them.
    pub(crate) fn segments(&self) -> Arc<[u64]> {
        Arc::clone(&self.state().segments)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A reader of a ledger. Cheap to clone, and to be used from many threads.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Opens a ledger's directory for reading alone. Nothing is written, no lock is taken, and the writer
    /// may be at work; what its head file calls durable is seen.
    pub fn open(dir: &Path, key: &VerifierKey) -> Result<Self, Error> {
        Self::open_on(Arc::new(OsDisk), dir, key)
    }

    /// [`Reader::open`] on a disk of the caller's.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, key: &VerifierKey) -> Result<Self, Error> {
        check_is_ledger(disk.as_ref(), dir)?;
        let header = find_segment(disk.as_ref(), dir, 0, &Arc::default())?.valid_header(0)?;
        let keys = KeyChain::load(disk.as_ref(), dir, key)?;
        check_identity(dir, &header, &keys)?;
        let files = Arc::new(DerivedFiles::new(Arc::clone(&disk), dir, Access::Read));
        let mut shared = Shared::attached(disk, dir, Arc::new(keys), files, header.checkpoint, Arc::new([0]));
        shared.is_attached = false;
        let reader = Self { shared: Arc::new(shared) };
        reader.refresh()?;
        Ok(reader)
    }

    /// Sees what was committed since, where the writer is another process. A reader that a writer gave out
    /// sees it anyway.
    pub fn refresh(&self) -> Result<(), Error> {
        let shared = &self.shared;
        if shared.is_attached {
            return Ok(());
        }
        let head = self.durable_head()?;
        let state = shared.state();
        let (size, seen) = (head.size(), state.checkpoint.size());
        if size < seen {
            let kind = DamageKind::BelowHead { size, head_size: seen };
            return Err(Damage::error(head_path(&shared.dir), 0, kind));
        }
        if size == seen && head.root() == state.checkpoint.root() {
            return Ok(());
        }
        // The tree files are written before the head that counts on them.
        let computed = tree::root(&shared.view(size), size)?;
        if computed != head.root() {
            let kind = DamageKind::Root { size, computed, signed: head.root() };
            return Err(Damage::error(tree_dir(&shared.dir), 0, kind));
        }
        let segments = list_segments(shared.disk.as_ref(), &shared.dir)?;
        shared.publish(head, segments.into());
        Ok(())
    }

    fn durable_head(&self) -> Result<SignedCheckpoint, Error> {
        for _ in 0..HEAD_READS_MAX {
            if let Head::Block(block) = read_head(self.shared.disk.as_ref(), &self.shared.dir, &self.shared.keys())? {
                return Ok(block.checkpoint);
            }
            // It may be signed by a key that came since.
            let keys = KeyChain::load(self.shared.disk.as_ref(), &self.shared.dir, &self.shared.first)?;
            self.shared.rotate(Arc::new(keys));
            std::thread::yield_now();
        }
        Err(Damage::error(head_path(&self.shared.dir), 0, DamageKind::Head))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The key from which the ledger's checkpoints are verified: the first one.
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.shared.first
    }

    /// The keys that signed and sign.
    pub fn keys(&self) -> Arc<KeyChain> {
        self.shared.keys()
    }

    /// The ledger's name.
    pub fn origin(&self) -> &str {
        self.shared.first.name()
    }

    /// The first position held: 0 as long as nothing is given up.
    pub fn held_from(&self) -> u64 {
        0
    }

    /// The number of entries that are durable.
    pub fn size(&self) -> u64 {
        self.shared.state().checkpoint.size()
    }

    /// The signed root over them.
    pub fn root(&self) -> Hash {
        self.shared.state().checkpoint.root()
    }

    /// The signed checkpoint.
    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.shared.state().checkpoint.clone()
    }

    /// The entry at a position, checked against its leaf in the tree.
    pub fn entry(&self, position: u64) -> Result<Vec<u8>, Error> {
        let mut found = Vec::new();
        let end = position.saturating_add(1);
        check_position(position, self.size())?;
        self.for_each_entry(position..end, |_, entry| {
            found.extend_from_slice(entry);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The entries of a range, in order. It ends after the first error.
    pub fn entries(&self, range: Range<u64>) -> Entries {
        Entries::new(self.clone(), range)
    }

    /// Hands each entry of a range to `visit`, without a copy, until it breaks off.
    pub fn for_each_entry(
        &self,
        range: Range<u64>,
        mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let state = self.shared.state();
        check_size(range.end, state.checkpoint.size())?;
        let mut position = range.start;
        while position < range.end {
            let next = self.visit_segment(&state, position..range.end, &mut visit)?;
            match next {
                ControlFlow::Continue(next) => position = next,
                ControlFlow::Break(()) => break,
            }
        }
        Ok(())
    }

    /// Visits what one segment has of the range, and says at which position to go on.
    fn visit_segment(
        &self,
        state: &State,
        range: Range<u64>,
        visit: &mut impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), u64>, Error> {
        let dir = &self.shared.dir;
        let after = state.segments.partition_point(|first| *first <= range.start);
        let Some(&first) = after.checked_sub(1).and_then(|index| state.segments.get(index)) else {
            let kind = DamageKind::SegmentMissing { position: range.start };
            return Err(Damage::error(segments_dir(dir), 0, kind));
        };
        let segment = self.shared.segment(first)?;
        let path = &segment.path;
        let (mut position, offset) = self.start_of(first, range.start)?;
        let is_short = range.end - range.start <= INDEX_STEP;
        let read_bytes = if is_short { ENTRY_READ_BYTES } else { SCAN_READ_BYTES };
        let mut scanner = Scanner::new(Arc::clone(&segment.file), offset, read_bytes);
        loop {
            let offset = scanner.offset();
            match scanner.next().at("read", path)? {
                Scan::Frame(frame) if frame.kind == FrameKind::Entry => {
                    // One leaf compared shows that the index led to the right place; from there on the
                    // frames follow each other.
                    if position == range.start && frame.leaf() != self.stored_leaf(position)? {
                        return Err(Damage::error(path, frame.offset, DamageKind::Entry { position }));
                    }
                    if position >= range.start && visit(position, frame.payload()).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    position += 1;
                    if position >= range.end {
                        return Ok(ControlFlow::Continue(position));
                    }
                }
                Scan::Frame(_) => {}
                Scan::End if state.segments.get(after) == Some(&position) && position > range.start => {
                    return Ok(ControlFlow::Continue(position));
                }
                Scan::End => {
                    return Err(Damage::error(path, offset, DamageKind::Short { position }));
                }
                Scan::Bad(fault) => {
                    return Err(Damage::error(path, offset, fault.kind(position)));
                }
            }
        }
    }

    /// A place from which an entry is found: some position not after it, and where that one lies.
    fn start_of(&self, first: u64, position: u64) -> Result<(u64, u64), Error> {
        let indexed = position / INDEX_STEP * INDEX_STEP;
        if indexed < first {
            return Ok((first, SEGMENT_DATA_AT));
        }
        let offset = self.shared.files.offset(indexed)?;
        if offset < SEGMENT_DATA_AT {
            return Err(self.shared.files.index_damage(indexed));
        }
        Ok((indexed, offset))
    }

    /// The root at an earlier size.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        let state = self.shared.state();
        check_size(size, state.checkpoint.size())?;
        if size == state.checkpoint.size() {
            return Ok(state.checkpoint.root());
        }
        // What is stored may be wrong where the present root does not show it, so the two are compared.
        let (now, signed) = (state.checkpoint.size(), state.checkpoint.root());
        let view = self.shared.view(now);
        let computed = tree::root(&view, size)?;
        let proof = tree::consistency_proof(&view, size, now)?;
        verify::consistency(size, &computed, now, &signed, &proof).map_err(|_error| self.root_damage(now, signed))?;
        Ok(computed)
    }

    /// The leaf hash of an entry, checked against the root.
    pub fn leaf_hash_at(&self, position: u64) -> Result<Hash, Error> {
        let leaf = self.stored_leaf(position)?;
        self.check_node(0, position, &leaf)?;
        Ok(leaf)
    }

    /// The leaf hash of an entry, as the tree has it.
    fn stored_leaf(&self, position: u64) -> Result<Hash, Error> {
        let size = self.size();
        check_position(position, size)?;
        self.shared.view(size).node(0, position)
    }

    /// Checks that a complete subtree's hash leads to the signed root. Seen from its height, the tree is one
    /// whose leaves are the subtrees, so the path of any leaf in it, from there on, is the path of the subtree.
    fn check_node(&self, height: u8, index: u64, hash: &Hash) -> Result<(), Error> {
        let state = self.shared.state();
        let (size, signed) = (state.checkpoint.size(), state.checkpoint.root());
        let path = tree::inclusion_proof(&self.shared.view(size), index << height, size)?;
        let above = path.get(usize::from(height)..).unwrap_or_default();
        verify::inclusion(index, size.div_ceil(1 << height), hash, above, &signed)
            .map_err(|_error| self.root_damage(size, signed))
    }

    /// Checks that the hashes of a tile lead to the signed root, by the complete subtrees that they make up.
    fn check_tile(&self, level: u8, start: u64, hashes: Vec<Hash>) -> Result<(), Error> {
        let (mut at, width) = (0, hashes.len() as u64);
        let tile = TileTree::new(hashes);
        for rise in (0..=TILE_HEIGHT).rev().filter(|rise| width >> rise & 1 == 1) {
            let node = tile.node(rise, at >> rise).ok_or_else(|| self.root_damage(self.size(), self.root()))?;
            self.check_node(level * TILE_HEIGHT + rise, (start + at) >> rise, &node)?;
            at += 1 << rise;
        }
        Ok(())
    }

    /// A stored hash that does not lead to the root: which one of those on the way is wrong is for an audit to say.
    fn root_damage(&self, size: u64, signed: Hash) -> Error {
        let computed = tree::root(&self.shared.view(size), size).unwrap_or(signed);
        Damage::error(tree_dir(&self.shared.dir), 0, DamageKind::Root { size, computed, signed })
    }

    /// The path from an entry's leaf to the root at `size`, leaf side first.
    pub fn inclusion_proof(&self, position: u64, size: u64) -> Result<Vec<Hash>, Error> {
        check_size(size, self.size())?;
        check_position(position, size)?;
        let proof = tree::inclusion_proof(&self.shared.view(self.size()), position, size)?;
        let leaf = self.stored_leaf(position)?;
        self.check_made(size, |root| verify::inclusion(position, size, &leaf, &proof, root))?;
        Ok(proof)
    }

    /// The proof that the first `old` entries are a prefix of the first `new`.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        check_size(new, self.size())?;
        check_size(old, new)?;
        let view = self.shared.view(self.size());
        let proof = tree::consistency_proof(&view, old, new)?;
        // Not checked by itself: it is, by the proof.
        let old_root = tree::root(&view, old)?;
        self.check_made(new, |root| verify::consistency(old, &old_root, new, root, &proof))?;
        Ok(proof)
    }

    /// A proof made from stored hashes is checked before it goes out: where it does not hold, one of them is wrong.
    fn check_made(&self, size: u64, check: impl FnOnce(&Hash) -> Result<(), verify::VerifyError>) -> Result<(), Error> {
        let root = self.root_at(size)?;
        check(&root).map_err(|error| {
            let computed = if let verify::VerifyError::Root { computed, .. } = error { computed } else { root };
            Damage::error(tree_dir(&self.shared.dir), 0, DamageKind::Root { size, computed, signed: root })
        })
    }

    /// The bytes of a tile or entry bundle, at any width that some size up to this one has given it.
    pub fn tile(&self, path: &TilePath) -> Result<Vec<u8>, Error> {
        let size = self.size();
        if !path.exists_at(size) {
            return Err(Error::NoTile { path: path.to_string(), size });
        }
        let start = path.index << 8;
        match path.kind {
            TileKind::Hashes(level) => {
                let hashes = self.shared.files.hashes(level, start, usize::from(path.width))?;
                let bytes = hashes.iter().flat_map(|hash| hash.0).collect();
                self.check_tile(level, start, hashes)?;
                Ok(bytes)
            }
            TileKind::Entries => {
                let mut bundle = Vec::new();
                self.for_each_entry(start..start + u64::from(path.width), |_, entry| {
                    // An entry is at most 65,535 bytes: the frame was read under that bound.
                    let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
                    bundle.extend_from_slice(&len.to_be_bytes());
                    bundle.extend_from_slice(entry);
                    ControlFlow::Continue(())
                })?;
                Ok(bundle)
            }
        }
    }
}

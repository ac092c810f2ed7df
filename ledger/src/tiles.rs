//! Tiles in memory: the inner nodes of one, and a small cache of many.
//!
//! A proof in a tree of ten million entries touches three tiles; hashing their inner nodes each time would
//! cost more than all else together. Full tiles never change, so what is cached needs no invalidation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{error::Error, hash::Hash, tree::node_hash};

/// Tiles kept: 16 KiB each with their inner nodes.
const TILES_MAX: usize = 256;
/// Single nodes kept, those of tiles that are still filling up; a few dozen are in use at a time.
const NODES_MAX: usize = 4_096;

/// The complete nodes over the hashes of one tile, the hashes themselves included.
#[derive(Debug)]
pub(crate) struct TileTree {
    /// Row by row, each complete node above the two below it.
    rows: Vec<Vec<Hash>>,
}

impl TileTree {
    pub(crate) fn new(hashes: Vec<Hash>) -> Self {
        let mut rows = vec![hashes];
        while let Some(below) = rows.last().filter(|row| row.len() > 1) {
            let row = below.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
            rows.push(row);
        }
        Self { rows }
    }

    /// The node `rise` rows above the hashes, if it is complete.
    pub(crate) fn node(&self, rise: u8, index: u64) -> Option<Hash> {
        self.rows.get(usize::from(rise))?.get(usize::try_from(index).ok()?).copied()
    }

    /// The root of a full tile.
    pub(crate) fn root(&self) -> Option<Hash> {
        self.node(8, 0)
    }

    /// The hashes that the tile is made of.
    pub(crate) fn hashes(&self) -> &[Hash] {
        &self.rows[0]
    }
}

/// Tiles and single nodes, the least recently used dropped first.
#[derive(Debug, Default)]
pub(crate) struct TileCache(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    clock: u64,
    tiles: BTreeMap<(u8, u64), (u64, Arc<TileTree>)>,
    nodes: BTreeMap<(u8, u64), Hash>,
}

impl TileCache {
    /// The tile `index` of `level`, loaded where it is not held. Loading happens outside of the lock.
    pub(crate) fn tile(
        &self,
        level: u8,
        index: u64,
        load: impl FnOnce() -> Result<TileTree, Error>,
    ) -> Result<Arc<TileTree>, Error> {
        {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.clock += 1;
            let now = held.clock;
            if let Some((used, tile)) = held.tiles.get_mut(&(level, index)) {
                *used = now;
                return Ok(Arc::clone(tile));
            }
        }
        let tile = Arc::new(load()?);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.tiles.len() >= TILES_MAX {
            let oldest = held.tiles.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.map(|key| held.tiles.remove(&key));
        }
        let now = held.clock;
        held.tiles.insert((level, index), (now, Arc::clone(&tile)));
        Ok(tile)
    }

    /// The node `(height, index)`, computed where it is not held.
    pub(crate) fn node(
        &self,
        height: u8,
        index: u64,
        compute: impl FnOnce() -> Result<Hash, Error>,
    ) -> Result<Hash, Error> {
        let held = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = held().nodes.get(&(height, index)) {
            return Ok(*hash);
        }
        let hash = compute()?;
        let mut held = held();
        if held.nodes.len() >= NODES_MAX {
            held.nodes.clear();
        }
        held.nodes.insert((height, index), hash);
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Frontier;

    #[test]
    fn the_inner_nodes_are_those_of_the_tree() {
        let hashes: Vec<Hash> = (0..=255_u8).map(|byte| Hash::of(&[byte])).collect();
        let mut frontier = Frontier::new();
        for hash in &hashes {
            frontier.push(*hash);
        }
        let full = TileTree::new(hashes.clone());
        assert_eq!(full.root(), Some(frontier.root()));
        assert_eq!(full.hashes(), hashes);
        let partial = TileTree::new(hashes[..7].to_vec());
        assert_eq!(partial.root(), None);
        assert_eq!(partial.node(1, 2), Some(node_hash(&hashes[4], &hashes[5])));
        assert_eq!(partial.node(1, 3), None);
        assert_eq!(partial.node(2, 0), full.node(2, 0));
    }

    #[test]
    fn the_cache_stays_within_its_bound() {
        let cache = TileCache::default();
        for index in 0..1_000 {
            cache.tile(0, index, || Ok(TileTree::new(vec![Hash::default()]))).unwrap();
            // The first is used all the time, so it stays.
            cache.tile(0, 0, || panic!("tile 0 was dropped")).unwrap();
        }
        assert!(cache.0.lock().unwrap().tiles.len() <= TILES_MAX);
    }
}

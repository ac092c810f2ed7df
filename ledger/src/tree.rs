//! The Merkle tree of RFC 6962: hashes, the compact right edge, and the walks that make roots and proofs.
//!
//! In scope: everything that follows from node hashes alone. Where they come from is a [`NodeSource`]:
//! flat files beside a ledger, or the tiles of an export. Out of scope: checking a proof somebody else
//! made, which is [`crate::verify`] and shares no code with the making.
//!
//! A *node* `(height, index)` is the root of the complete subtree over the leaves
//! `index << height .. (index + 1) << height`. Such a node never changes once its last leaf is there,
//! which is why roots and proofs at every earlier size stay computable.

use sha2::{Digest as _, Sha256};

use crate::{error::Error, hash::Hash};

/// The root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// The hash of an entry as a leaf.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    // Not in one piece here, so by a hasher; frames have the prefix before the entry (see `frame`).
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(entry);
    Hash(hasher.finalize().into())
}

/// The hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut input = [0x01; 65];
    input[1..33].copy_from_slice(&left.0);
    input[33..].copy_from_slice(&right.0);
    Hash::of(&input)
}

/// The right edge of a growing tree: its complete subtrees from the largest to the smallest, one for each
/// bit of the size. It is all that appending needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The edge of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of the first `size` leaves of `source`.
    pub fn load(size: u64, source: &impl NodeSource) -> Result<Self, Error> {
        Ok(Self { size, peaks: peaks(source, 0, size)? })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(0, leaf, |_, _| ());
    }

    /// Adds a complete subtree of `1 << height` leaves, and names every node `(height, hash)` that this
    /// completes, the subtree itself first.
    ///
    /// # Panics
    ///
    /// Where the size is not a multiple of the subtree's: its leaves would not be where they claim to be.
    pub fn push_with(&mut self, height: u8, subtree: Hash, mut completed: impl FnMut(u8, Hash)) {
        assert!(self.size.is_multiple_of(1 << height), "a subtree of height {height} cannot start at {}", self.size);
        let (mut at, mut hash) = (height, subtree);
        completed(at, hash);
        while self.size >> at & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            at += 1;
            completed(at, hash);
        }
        self.peaks.push(hash);
        self.size += 1 << height;
    }

    /// The root.
    pub fn root(&self) -> Hash {
        fold(&self.peaks)
    }
}

/// Where node hashes are read from.
pub trait NodeSource {
    /// The hash of the complete subtree `(height, index)`.
    fn node(&self, height: u8, index: u64) -> Result<Hash, Error>;
}

/// The root of the first `size` leaves.
pub fn root(source: &impl NodeSource, size: u64) -> Result<Hash, Error> {
    range_root(source, 0, size)
}

/// The hashes that lead from the leaf at `position` to the root of the first `size` leaves, leaf side first.
/// The caller has checked that `position < size`.
pub fn inclusion_proof(source: &impl NodeSource, position: u64, size: u64) -> Result<Vec<Hash>, Error> {
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if position < middle {
            path.push(range_root(source, middle, to)?);
            to = middle;
        } else {
            path.push(range_root(source, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The hashes that show the first `old` leaves to be a prefix of the first `new`. Empty where there is
/// nothing to show: from the empty tree, and between equal sizes. The caller has checked `old <= new`.
pub fn consistency_proof(source: &impl NodeSource, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut from, mut to) = (0, new);
    // While only left turns were taken, the subtree is the old tree itself, whose root the verifier holds.
    let mut is_known = true;
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range_root(source, middle, to)?);
            to = middle;
        } else {
            path.push(range_root(source, from, middle)?);
            from = middle;
            is_known = false;
        }
    }
    if !is_known {
        path.push(range_root(source, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// The largest power of two below `width`; `width` is at least 2.
fn split(width: u64) -> u64 {
    1 << (width - 1).ilog2()
}

/// The root over `from..to`, where `from` is a multiple of the largest power of two in the range's length,
/// as it is for every range that the walks above come to.
fn range_root(source: &impl NodeSource, from: u64, to: u64) -> Result<Hash, Error> {
    Ok(fold(&peaks(source, from, to)?))
}

/// The complete subtrees that make up `from..to`, largest first.
fn peaks(source: &impl NodeSource, mut from: u64, to: u64) -> Result<Vec<Hash>, Error> {
    let mut peaks = Vec::new();
    while from < to {
        let height = (to - from).ilog2();
        // A height is below 64.
        let height = u8::try_from(height).unwrap_or(u8::MAX);
        peaks.push(source.node(height, from >> height)?);
        from += 1 << height;
    }
    Ok(peaks)
}

/// Joins complete subtrees, largest first, from the right.
fn fold(peaks: &[Hash]) -> Hash {
    let Some((last, rest)) = peaks.split_last() else {
        return EMPTY_ROOT;
    };
    rest.iter().rev().fold(*last, |right, left| node_hash(left, &right))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eight entries with which the reference implementation of RFC 6962 is tested.
    const ENTRIES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    /// The roots of the first one to eight of them.
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn roots_are_those_of_rfc_6962() {
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root().to_string(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        for (entry, root) in ENTRIES.iter().zip(ROOTS) {
            frontier.push(leaf_hash(entry));
            assert_eq!(frontier.root().to_hex(), root);
        }
        assert_eq!(frontier.size(), 8);
    }

    /// The leaves themselves, hashed up each time: slow and obviously right.
    struct Leaves(Vec<Hash>);

    impl NodeSource for Leaves {
        fn node(&self, height: u8, index: u64) -> Result<Hash, Error> {
            if height == 0 {
                return Ok(self.0[usize::try_from(index).unwrap()]);
            }
            Ok(node_hash(&self.node(height - 1, index * 2)?, &self.node(height - 1, index * 2 + 1)?))
        }
    }

    fn leaves() -> Leaves {
        Leaves(ENTRIES.iter().map(|entry| leaf_hash(entry)).collect())
    }

    #[test]
    fn inclusion_proofs_are_those_of_rfc_6962() {
        let hex = |path: Vec<Hash>| path.iter().map(Hash::to_hex).collect::<Vec<_>>();
        assert_eq!(
            hex(inclusion_proof(&leaves(), 0, 8).unwrap()),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        assert_eq!(
            hex(inclusion_proof(&leaves(), 5, 8).unwrap()),
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        assert!(inclusion_proof(&leaves(), 0, 1).unwrap().is_empty());
    }

    #[test]
    fn consistency_proofs_are_those_of_rfc_6962() {
        let hex = |path: Vec<Hash>| path.iter().map(Hash::to_hex).collect::<Vec<_>>();
        assert_eq!(
            hex(consistency_proof(&leaves(), 6, 8).unwrap()),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        assert!(consistency_proof(&leaves(), 0, 8).unwrap().is_empty());
        assert!(consistency_proof(&leaves(), 8, 8).unwrap().is_empty());
    }

    #[test]
    fn an_edge_loaded_from_nodes_is_the_edge_pushed() {
        let mut pushed = Frontier::new();
        for size in 0..=8_u64 {
            assert_eq!(Frontier::load(size, &leaves()).unwrap(), pushed);
            assert_eq!(root(&leaves(), size).unwrap(), pushed.root());
            if let Some(leaf) = leaves().0.get(usize::try_from(size).unwrap()) {
                pushed.push(*leaf);
            }
        }
    }
}

//! Blocks of sealed segments in memory: a small cache of those that were decompressed, and the contexts to
//! decompress with.
//!
//! A block never changes, and the cache holds only what passed its checksum, so nothing is ever invalidated.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use zstd::bulk::Decompressor;

/// Blocks kept: some 4 MiB.
const BLOCKS_MAX: usize = 64;

/// A block's segment and its number there.
pub(crate) type BlockKey = (u64, usize);

/// What the readers of one ledger share.
#[derive(Default)]
pub(crate) struct Blocks {
    held: Mutex<Held>,
    /// Contexts that are not in use: as many as there were threads at a time.
    idle: Mutex<Vec<Decompressor<'static>>>,
}

#[derive(Default)]
struct Held {
    clock: u64,
    blocks: BTreeMap<BlockKey, (u64, Arc<[u8]>)>,
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").finish_non_exhaustive()
    }
}

impl Blocks {
    /// The block of a key, loaded where it is not held. Loading happens outside of the lock.
    pub(crate) fn block(&self, key: BlockKey, load: impl FnOnce() -> io::Result<Arc<[u8]>>) -> io::Result<Arc<[u8]>> {
        let held = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut held = held();
            held.clock += 1;
            let now = held.clock;
            if let Some((used, block)) = held.blocks.get_mut(&key) {
                *used = now;
                return Ok(Arc::clone(block));
            }
        }
        let block = load()?;
        let mut held = held();
        if held.blocks.len() >= BLOCKS_MAX {
            let oldest = held.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.map(|key| held.blocks.remove(&key));
        }
        let now = held.clock;
        held.blocks.insert(key, (now, Arc::clone(&block)));
        Ok(block)
    }

    /// Decompresses what fills `raw` exactly, or says `false`.
    pub(crate) fn decompress(&self, stored: &[u8], raw: &mut [u8]) -> io::Result<bool> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = match idle().pop() {
            Some(context) => context,
            None => Decompressor::new()?,
        };
        // Bytes that are no zstd frame, or one of another length, are the caller's to judge.
        let is_exact = context.decompress_to_buffer(stored, raw).is_ok_and(|len| len == raw.len());
        idle().push(context);
        Ok(is_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let blocks = Blocks::default();
        for number in 0..1_000 {
            blocks.block((0, number), || Ok(Arc::from([7_u8]))).unwrap();
            blocks.block((0, 0), || panic!("it is held")).unwrap();
        }
        assert_eq!(blocks.held.lock().unwrap().blocks.len(), BLOCKS_MAX);
        assert!(blocks.block((1, 0), || Err(io::ErrorKind::UnexpectedEof.into())).is_err());
        assert!(blocks.block((1, 0), || Ok(Arc::from([8_u8]))).is_ok());
    }

    #[test]
    fn only_the_exact_length_is_taken() {
        let blocks = Blocks::default();
        let raw = vec![9; 5_000];
        let stored = zstd::bulk::compress(&raw, 1).unwrap();
        let mut exact = vec![0; 5_000];
        assert!(blocks.decompress(&stored, &mut exact).unwrap());
        assert_eq!(exact, raw);
        assert!(!blocks.decompress(&stored, &mut vec![0; 4_999]).unwrap());
        assert!(!blocks.decompress(&stored, &mut vec![0; 5_001]).unwrap());
        assert!(!blocks.decompress(&stored[1..], &mut exact).unwrap());
        assert!(blocks.decompress(&stored, &mut exact).unwrap());
    }
}

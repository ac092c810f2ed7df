//! When each token was last used at this node.
//!
//! What another node saw is not known here, and none of it is an entry: it is a help for whoever tidies up tokens, no record.
//! In memory, written to a small file now and then, so a crash loses the last minute. Only tokens that the ledger knows are
//! noted, by their hashes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::domain::time::Time;
use crate::sequencer::{SequencerError, write_durably};

/// Tokens noted at the most; more are not.
const TOKENS_MAX: usize = 100_000;
/// A use within this time of the one noted is not worth another note.
const RESOLUTION_MICROS: i64 = 1_000_000;

/// Last uses, by the hash of the token.
#[derive(Debug)]
pub struct LastUses {
    path: PathBuf,
    seen: Mutex<BTreeMap<String, Time>>,
    changed: AtomicBool,
}

impl LastUses {
    /// Those of the file at `path`; none where it is absent or cannot be read, which loses nothing that counts.
    pub fn open(path: PathBuf) -> Self {
        let seen = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, seen: Mutex::new(seen), changed: AtomicBool::new(false) }
    }

    /// Notes a use.
    pub fn note(&self, token_sha256: &str, now: Time) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = seen.len() >= TOKENS_MAX;
        match seen.get_mut(token_sha256) {
            Some(last) if now.micros_since(*last) < RESOLUTION_MICROS => return,
            Some(last) => *last = now,
            None if is_full => return,
            None => {
                seen.insert(token_sha256.to_owned(), now);
            }
        }
        self.changed.store(true, Ordering::Release);
    }

    /// When this token was last used here.
    pub fn of(&self, token_sha256: &str) -> Option<Time> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(token_sha256).copied()
    }

    /// Writes the file where anything changed; forgets tokens that nobody holds.
    pub fn store(&self, is_held: impl Fn(&str) -> bool) -> Result<(), SequencerError> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let bytes = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.retain(|token_sha256, _| is_held(token_sha256));
            serde_json::to_vec(&*seen)?
        };
        write_durably(&self.path, &bytes, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("last-use.json");
        let uses = LastUses::open(path.clone());
        uses.note("a", Time::from_seconds(100));
        uses.note("b", Time::from_seconds(100));
        uses.note("a", Time::from_seconds(160));
        uses.store(|token| token == "a").unwrap();
        let again = LastUses::open(path.clone());
        assert_eq!((again.of("a"), again.of("b")), (Some(Time::from_seconds(160)), None));
        std::fs::write(&path, "{\"a\":").unwrap();
        assert_eq!(LastUses::open(path).of("a"), None);
    }
}

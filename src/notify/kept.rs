//! What an endpoint keeps on disk: its cursor, what waits for another attempt, and the dead ends.
//!
//! One small file an endpoint, replaced whole. It is a cursor *of this ledger*: it carries the root at its position, and one
//! that does not fit is set back to nothing, which repeats what was told and loses nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::time::Time;
use crate::sequencer::{Handle, SequencerError, write_durably};

/// Dead ends kept; the count goes on.
const DEAD_MAX: usize = 100;

/// A message that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pending {
    /// Its id.
    pub id: String,
    /// The entry that it tells of.
    pub position: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried again.
    pub due: Time,
    /// What was wrong.
    pub error: String,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeadEnd {
    /// Its id.
    pub id: String,
    /// The entry that it tells of.
    pub position: u64,
    /// Attempts made.
    pub attempts: u32,
    /// When it was given up.
    pub time: Time,
    /// What was wrong at the last attempt.
    pub error: String,
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) cursor: u64,
    /// Root of the governance ledger at the cursor.
    root: String,
    pub(super) delivered: u64,
    pub(super) pending: Vec<Pending>,
    pub(super) dead: Vec<DeadEnd>,
    pub(super) dead_total: u64,
}

/// Where it is kept.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    handle: Handle,
}

impl Keeper {
    pub(super) fn new(handle: &Handle, name: &str) -> Self {
        Self { path: handle.data_dir().root().join("notify").join(format!("{name}.json")), handle: handle.clone() }
    }

    /// What was kept, or nothing.
    pub(super) fn load(&self) -> Kept {
        let Ok(bytes) = std::fs::read(&self.path) else { return Kept::default() };
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.cursor == 0 || self.root_at(kept.cursor).is_some_and(|root| root == kept.root) => kept,
            Ok(_) => self.begin_again("it is a cursor of another ledger"),
            Err(error) => self.begin_again(&error.to_string()),
        }
    }

    fn begin_again(&self, reason: &str) -> Kept {
        let path: &Path = &self.path;
        tracing::warn!(path = %path.display(), reason, "notify.cursor_lost: everything is told again");
        Kept::default()
    }

    /// Keeps it.
    pub(super) fn store(&self, kept: &mut Kept) -> Result<(), SequencerError> {
        kept.root = self.root_at(kept.cursor).unwrap_or_default();
        write_durably(&self.path, &serde_json::to_vec(kept)?, 0o600)
    }

    fn root_at(&self, size: u64) -> Option<String> {
        let root = self.handle.shared().reader("governance")?.root_at(size).ok()?;
        Some(root.to_string())
    }
}

impl Kept {
    /// Gives a message up.
    pub(super) fn bury(&mut self, dead: DeadEnd) {
        self.dead_total += 1;
        if self.dead.len() == DEAD_MAX {
            self.dead.remove(0);
        }
        self.dead.push(dead);
    }
}

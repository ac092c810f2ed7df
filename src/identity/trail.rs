//! The access trail: who was let in to what, and who was not, in a ledger of this node's own.
//!
//! In scope: refused requests, commands, and reads of raw entries and of principals, as entries of the ledger `access`, with the same proofs as any
//! other. It is never sent anywhere, decides nothing, and is no part of what nodes agree on. Out of scope: answers that are folds, which
//! anybody with a role may have, and what a command did, which is an entry of the governance ledger.
//!
//! Invariants: no token and no query string in it, only digests of tokens that cannot be guessed; what is asked without
//! credentials never crowds out what principals do; whatever was not kept is counted, and the count is an entry. A trail that
//! cannot be written holds up nobody: commands are entries of the governance ledger anyway, with the principal and how they were
//! known, and its writer stops by itself where the disk is full.

mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::domain::time::Time;
pub use crate::sequencer::ACCESS;
use crate::sequencer::{DataDir, SequencerError};

/// Notes waiting for the writer; more are counted and not kept.
const QUEUE_NOTES_MAX: usize = 4_096;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrailConfig {
    /// Entries a second, in the long run, of each kind, for principals and for all others apart.
    pub entries_per_second: u32,
    /// Entries at once.
    pub entries_burst: u32,
}

impl Default for TrailConfig {
    fn default() -> Self {
        // At most some 90 MB a day of each sort, and enough for what people do.
        Self { entries_per_second: 5, entries_burst: 1_000 }
    }
}

/// What sort of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// A request that was refused for who asked, or how often.
    Denied,
    /// A command, whatever came of it.
    Act,
    /// A read of raw entries, or of principals and their tokens.
    RawRead,
}

/// One access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Note {
    /// What sort.
    pub kind: NoteKind,
    /// HTTP method.
    pub method: String,
    /// The route's pattern.
    pub route: String,
    /// The path, without its query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Its problem code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Who asked, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// How they were known: `token`, `oidc …`, or `owner` for the data directory's own token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_by: Option<String>,
    /// The first half of the SHA-256 of the token that was shown, where its form says that it cannot be guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_digest: Option<String>,
    /// How many alike this entry stands for: those within a quarter of a second.
    pub count: u64,
}

/// What was not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NotKept {
    /// Always `not_kept`.
    pub kind: String,
    /// How many of each kind.
    pub counts: BTreeMap<NoteKind, u64>,
    /// Since when.
    pub since: Time,
    /// Until when.
    pub until: Time,
}

/// The body of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum AccessEvent {
    /// One access, or several alike.
    Note(Note),
    /// A count.
    NotKept(NotKept),
}

/// The ledger's first entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// Always `access`.
    pub ledger: String,
    /// Entry format.
    pub format: u32,
    /// Leaf hash of governance entry 0.
    #[serde(with = "crate::domain::cut::hash_text")]
    #[schemars(with = "String")]
    pub governance: ledger::Hash,
}

enum Message {
    Note(Time, Box<Note>),
    Stop,
}

/// What the writer and those who read share.
#[derive(Debug, Default)]
struct Shared {
    reader: RwLock<Option<ledger::Reader>>,
    up: AtomicBool,
    /// Accesses that were not kept, in all.
    not_kept: AtomicU64,
    /// Those that the queue had no room for, since the writer last looked.
    overflown: Mutex<BTreeMap<NoteKind, u64>>,
}

/// The trail of a running service.
#[derive(Debug)]
pub struct Trail {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Trail {
    /// Opens the ledger, or makes it, and starts its writer. Where that fails the service runs without, and it is tried again.
    pub fn start(data_dir: DataDir, clock: Clock, config: TrailConfig) -> Result<Self, SequencerError> {
        let (queue, notes) = sync_channel(QUEUE_NOTES_MAX);
        let shared = Arc::new(Shared::default());
        let mut writer = writer::Writer::new(data_dir, clock, config, Arc::clone(&shared))?;
        writer.open();
        let thread = std::thread::Builder::new().name("access-trail".to_owned()).spawn(move || writer.run(&notes));
        let thread = thread.map_err(|source| SequencerError::Io { path: ACCESS.into(), source })?;
        Ok(Self { queue, shared, writer: Mutex::new(Some(thread)) })
    }

    /// Notes an access. Never waits.
    pub fn note(&self, time: Time, note: Note) {
        let kind = note.kind;
        if self.queue.try_send(Message::Note(time, Box::new(note))).is_err() {
            let mut overflown = self.shared.overflown.lock().unwrap_or_else(PoisonError::into_inner);
            *overflown.entry(kind).or_default() += 1;
            self.shared.not_kept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A reader of the ledger, where it is open.
    pub fn reader(&self) -> Option<ledger::Reader> {
        self.shared.reader.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it can be written.
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Relaxed)
    }

    /// Accesses that were not kept since the start, in all.
    pub fn not_kept(&self) -> u64 {
        self.shared.not_kept.load(Ordering::Relaxed)
    }

    /// Writes what is waiting and ends. Blocks until it has.
    pub fn stop(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It may have ended already, with nobody to hear this.
        let _ = self.queue.send(Message::Stop);
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

/// What a trail may keep of a token: half of its digest, and that only of tokens that nobody can guess from it.
pub fn token_digest(token: &str) -> Option<String> {
    let is_ours = token.len() == 68 && token.starts_with("glt_");
    (is_ours || super::oidc::is_jwt(token)).then(|| crate::domain::principal::token_sha256(token)[..32].to_owned())
}

//! What readers see: the folds behind locks, readers of every ledger, and a signal of progress.
//!
//! The writer holds a lock for the fold of one batch at the most; whoever answers holds it while it computes and never while
//! it writes to a socket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ledger::key::LedgerKey;
use ledger::{EntrySource, Reader};
use tokio::sync::watch;

use super::cache::Cache;
use super::error::{SequencerError, of};
use super::metrics::MetricsState;
use super::past;
use super::sealing::SealingFigures;
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use crate::projection::answers::{Answer, AnswerError, Asked, View, answer};
use crate::projection::governance::Governance;
use crate::projection::ids::IdIndex as _;
use crate::projection::slo::Slo;
use crate::projection::what_if::DryRunAnswer;

pub use super::past::PastView;

/// A past state: governance entries, whether with the metrics folds, the state.
type PastKept = ((u64, bool), Arc<PastView>);

/// Past states kept at hand.
const PAST_VIEWS_MAX: usize = 8;

/// How the writer is.
#[derive(Debug, Default)]
pub struct Status {
    /// An I/O error stopped the writer; only a restart opens the ledger again.
    pub poisoned: AtomicBool,
    /// Alerts or roots in the governance ledger that this node does not derive itself.
    pub integrity_alarms: AtomicU64,
    /// Submissions waiting in the queue.
    pub queued: AtomicU64,
    /// Entries read at start: those that follow the last snapshot.
    pub read_at_start: AtomicU64,
    /// Whether everything found at start was folded.
    pub caught_up: AtomicBool,
    /// Records that the broker has and this node has not, by topic and partition (Kafka mode).
    pub kafka_lag: Mutex<BTreeMap<(String, u32), i64>>,
    /// The offset before which each ledger's partition was read where no record is left: transactions end with markers that
    /// become no entry, and a hole may be the last that there is (Kafka mode).
    pub kafka_passed: Mutex<BTreeMap<String, u64>>,
    /// How often the writer, being busy, had a partition paused at the broker, by ledger (Kafka mode).
    pub kafka_pauses: Mutex<BTreeMap<String, u64>>,
    /// Partitions whose intake stopped, with the reason.
    pub stopped_intakes: Mutex<BTreeMap<String, String>>,
    /// How the scrapes of each server go, by stack and server.
    pub scrapes: Mutex<BTreeMap<(String, String), ScrapeFigures>>,
    /// What was sealed, by ledger.
    pub sealing: Mutex<BTreeMap<String, SealingFigures>>,
    /// Entries a batch, and microseconds a commit, since the start: count, sum, and per bucket.
    pub batches: Mutex<BatchFigures>,
}

/// How the scrapes of one server go.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ScrapeFigures {
    /// Scrapes that were recorded and count.
    pub recorded: u64,
    /// Scrapes that were recorded and refused: their page could not be read.
    pub refused: u64,
    /// Scrapes that brought nothing to record.
    pub failed: u64,
    /// When the last one that counts was recorded.
    pub last: Option<Time>,
    /// Why the last one does not count; none where it does.
    pub failing: Option<String>,
}

/// Figures of committed batches.
#[derive(Debug, Default, Clone)]
pub struct BatchFigures {
    /// Batches.
    pub count: u64,
    /// Entries in them.
    pub entries: u64,
    /// Entries of each batch, of the most recent ones.
    pub recent_entries: Vec<u64>,
    /// Microseconds that the commit of each took, of the most recent ones.
    pub recent_commit_us: Vec<u64>,
}

/// What readers share with the writer.
#[derive(Debug)]
pub struct Shared {
    governance: RwLock<Governance>,
    slo: RwLock<Slo>,
    metrics: RwLock<BTreeMap<u32, MetricsState>>,
    readers: RwLock<BTreeMap<String, Reader>>,
    /// Governance entries folded; changes wake whoever waits.
    size: watch::Sender<u64>,
    past: Mutex<Vec<PastKept>>,
    cache: Option<Cache>,
    node_key: RwLock<Arc<LedgerKey>>,
    /// How the writer is.
    pub status: Status,
}

impl Shared {
    pub(super) fn new(
        governance: Governance,
        slo: Slo,
        metrics: BTreeMap<u32, MetricsState>,
        readers: BTreeMap<String, Reader>,
        cache: Option<Cache>,
        node_key: LedgerKey,
    ) -> Self {
        let (size, _) = watch::channel(governance.size);
        Self {
            governance: RwLock::new(governance),
            slo: RwLock::new(slo),
            metrics: RwLock::new(metrics),
            readers: RwLock::new(readers),
            size,
            past: Mutex::new(Vec::new()),
            cache,
            node_key: RwLock::new(Arc::new(node_key)),
            status: Status::default(),
        }
    }

    /// The governance fold.
    pub fn governance(&self) -> RwLockReadGuard<'_, Governance> {
        self.governance.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn governance_mut(&self) -> RwLockWriteGuard<'_, Governance> {
        self.governance.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metrics folds.
    pub fn slo(&self) -> RwLockReadGuard<'_, Slo> {
        self.slo.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slo_mut(&self) -> RwLockWriteGuard<'_, Slo> {
        self.slo.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of each metrics ledger, by number.
    pub fn metrics(&self) -> RwLockReadGuard<'_, BTreeMap<u32, MetricsState>> {
        self.metrics.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn metrics_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, MetricsState>> {
        self.metrics.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of the ledger called `name`.
    pub fn reader(&self, name: &str) -> Option<Reader> {
        self.readers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All readers, by ledger name.
    pub fn readers(&self) -> BTreeMap<String, Reader> {
        self.readers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add_reader(&self, name: &str, reader: Reader) {
        self.readers.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), reader);
    }

    /// The number of governance entries folded, and word of every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    pub(super) fn announce(&self) {
        let size = self.governance().size;
        self.size.send_replace(size);
    }

    /// Whether the writer has stopped after an error.
    pub fn is_poisoned(&self) -> bool {
        self.status.poisoned.load(Ordering::SeqCst)
    }

    /// Answers from the present state.
    pub fn answer(&self, asked: &Asked, now: Time) -> Result<Result<Answer, AnswerError>, SequencerError> {
        let governance = self.governance();
        let root = self.root_at(governance.size)?;
        let slo = asked.needs_metrics().then(|| self.slo());
        Ok(answer(&View { governance: &governance, slo: slo.as_deref(), root, now: Some(now) }, asked))
    }

    /// Answers from the state after the first `size` governance entries.
    pub fn answer_at(&self, asked: &Asked, size: u64) -> Result<Result<Answer, AnswerError>, SequencerError> {
        let past = self.past(size, asked.needs_metrics())?;
        let root = self.root_at(size)?;
        let slo = asked.needs_metrics().then_some(&past.slo);
        Ok(answer(&View { governance: &past.governance, slo, root, now: None }, asked))
    }

    /// What `policy` would have changed in the alerts of the last day.
    pub fn dry_run(&self, policy: &Policy) -> Result<DryRunAnswer, SequencerError> {
        let readers = self.readers();
        let sources: BTreeMap<String, &dyn EntrySource> =
            readers.iter().map(|(name, reader)| (name.clone(), reader as &dyn EntrySource)).collect();
        super::dry_run::dry_run(&sources, self.cache.as_ref(), policy)
    }

    /// The key with which this node signs envelopes now.
    pub fn node_key(&self) -> Arc<LedgerKey> {
        Arc::clone(&self.node_key.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_node_key(&self, key: LedgerKey) {
        *self.node_key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// Whether an admitted governance entry has this identity.
    pub fn is_claimed(&self, identity: &crate::domain::report::Identity) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.ids().claimed(identity, u64::MAX).is_some())
    }

    fn root_at(&self, size: u64) -> Result<ledger::Hash, SequencerError> {
        match self.reader("governance") {
            Some(reader) => reader.root_at(size).map_err(of("governance")),
            None => Ok(ledger::tree::EMPTY_ROOT),
        }
    }

    /// The number of governance entries whose time is not after `time`.
    pub fn size_at(&self, time: Time) -> Result<u64, SequencerError> {
        let Some(reader) = self.reader("governance") else { return Ok(0) };
        past::size_at(&reader, self.governance().size, time)
    }

    /// The folds after the first `size` governance entries; those of the metrics ledgers only where asked for.
    fn past(&self, size: u64, with_metrics: bool) -> Result<Arc<PastView>, SequencerError> {
        let present = self.governance().size;
        if size == 0 || size > present {
            return Err(SequencerError::Invalid {
                what: "as_of".to_owned(),
                value: size.to_string(),
                reason: format!("the governance ledger has {present} entries"),
            });
        }
        if let Some((_, view)) = self.lock_past().iter().find(|(at, _)| *at == (size, with_metrics)) {
            return Ok(Arc::clone(view));
        }
        let readers = self.readers();
        let sources: BTreeMap<String, &dyn EntrySource> =
            readers.iter().map(|(name, reader)| (name.clone(), reader as &dyn EntrySource)).collect();
        let view = Arc::new(past::fold_to(&sources, self.cache.as_ref(), size, with_metrics)?);
        let mut kept = self.lock_past();
        kept.insert(0, ((size, with_metrics), Arc::clone(&view)));
        kept.truncate(PAST_VIEWS_MAX);
        Ok(view)
    }

    fn lock_past(&self) -> std::sync::MutexGuard<'_, Vec<PastKept>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The cache in sled: snapshots of the folds, and who claimed which id. Everything here can be rebuilt.
//!
//! A snapshot carries the sizes and roots it was taken at. One that does not match the ledgers is thrown away; a directory
//! that does not open is deleted and made anew. Both are said in the log.

use std::collections::BTreeMap;
use std::path::Path;

use ledger::{EntrySource, Hash};
use serde::{Deserialize, Serialize};

use super::error::SequencerError;
use super::files::FileState;
use super::metrics::MetricsState;
use super::sayings::Saying;
use crate::domain::report::Identity;
use crate::projection::governance::Governance;
use crate::projection::ids::{Claim, IdIndex};
use crate::projection::slo::Slo;

/// Snapshots kept; older ones are thinned out to every second one.
const SNAPSHOTS_MAX: usize = 32;

/// How often a cache in use is tried, and how long apart: two seconds in all.
const OPEN_ATTEMPTS: u32 = 20;
const OPEN_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The folds at a size.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Root of the governance ledger at `governance.size`.
    #[serde(with = "crate::domain::cut::hash_text")]
    root: Hash,
    /// Governance alone.
    pub(super) governance: Governance,
    /// The metrics folds.
    pub(super) slo: Slo,
    /// What is known of each metrics ledger.
    pub(super) metrics: BTreeMap<u32, MetricsState>,
    /// How far each file was read.
    pub(super) files: FileState,
    /// Sayings derived and not yet seen in the ledger.
    pub(super) unsaid: Vec<Saying>,
}

impl Snapshot {
    /// A snapshot of folds that belong together.
    pub(super) const fn new(
        root: Hash,
        governance: Governance,
        slo: Slo,
        metrics: BTreeMap<u32, MetricsState>,
        files: FileState,
        unsaid: Vec<Saying>,
    ) -> Self {
        Self { root, governance, slo, metrics, files, unsaid }
    }

    /// Whether it was taken from this ledger.
    pub(super) fn matches(&self, governance: &dyn EntrySource) -> bool {
        self.governance.size <= governance.size()
            && governance.root_at(self.governance.size).is_ok_and(|root| root == self.root)
    }
}

/// The metrics folds after so many governance entries: kept wherever reading the records again would take long, so that what
/// they said at any time in the past is at hand. Small, whatever the age of the ledgers, and so all are kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PastSlo {
    /// Governance entries followed.
    #[serde(skip)]
    pub(super) size: u64,
    /// Root of the governance ledger at that size.
    #[serde(with = "crate::domain::cut::hash_text")]
    root: Hash,
    pub(super) slo: Slo,
}

impl PastSlo {
    pub(super) fn matches(&self, governance: &dyn EntrySource) -> bool {
        self.size <= governance.size() && governance.root_at(self.size).is_ok_and(|root| root == self.root)
    }
}

/// The cache.
#[derive(Debug, Clone)]
pub struct Cache {
    db: sled::Db,
    snapshots: sled::Tree,
    /// [`PastSlo`] by governance entries.
    past: sled::Tree,
    ids: sled::Tree,
}

/// Claims in the cache.
#[derive(Debug, Clone)]
pub struct CacheIds(sled::Tree);

fn wrong(error: impl std::fmt::Display) -> SequencerError {
    SequencerError::Cache(error.to_string())
}

/// Whether another process holds the cache: sled says so in words alone.
fn is_held(error: &SequencerError) -> bool {
    error.to_string().contains("could not acquire lock")
}

impl Cache {
    /// Opens it; what cannot be opened is deleted and made anew. One that is in use is waited for, since a reading command
    /// holds it for a moment only, and is never deleted: if it stays in use, this run makes do with a temporary one.
    pub fn open(path: &Path) -> Result<Self, SequencerError> {
        for _ in 0..OPEN_ATTEMPTS {
            match Self::open_as_it_is(path) {
                Err(error) if is_held(&error) => std::thread::sleep(OPEN_PAUSE),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cache.rebuilt: the cache did not open and is made anew");
                    std::fs::remove_dir_all(path).map_err(super::error::at(path))?;
                    return Self::open_as_it_is(path);
                }
                opened => return opened,
            }
        }
        tracing::warn!(path = %path.display(), "cache.in_use: somebody else holds the cache; this run folds from nothing without it");
        Self::over(&sled::Config::new().temporary(true))
    }

    /// Opens it, or says why not (another process holds it).
    pub fn open_as_it_is(path: &Path) -> Result<Self, SequencerError> {
        Self::over(&sled::Config::new().path(path))
    }

    fn over(config: &sled::Config) -> Result<Self, SequencerError> {
        let db = config.clone().cache_capacity(16 << 20).flush_every_ms(None).open().map_err(wrong)?;
        let snapshots = db.open_tree("snapshots").map_err(wrong)?;
        let past = db.open_tree("past_slo").map_err(wrong)?;
        let ids = db.open_tree("ids").map_err(wrong)?;
        Ok(Self { db, snapshots, past, ids })
    }

    /// Deletes the cache at `path`.
    pub fn delete(path: &Path) -> Result<(), SequencerError> {
        if path.exists() { std::fs::remove_dir_all(path).map_err(super::error::at(path)) } else { Ok(()) }
    }

    /// The claims.
    pub fn ids(&self) -> CacheIds {
        CacheIds(self.ids.clone())
    }

    /// Keeps a snapshot, and with it every claim made so far; the one at `replaced` governance entries is let go of after it, so
    /// that a crash leaves one of the two at least. Its bytes.
    pub fn store(&self, snapshot: &Snapshot, replaced: Option<u64>) -> Result<u64, SequencerError> {
        let bytes = serde_json::to_vec(snapshot)?;
        let length = bytes.len() as u64;
        self.snapshots.insert(snapshot.governance.size.to_be_bytes(), bytes).map_err(wrong)?;
        if let Some(replaced) = replaced {
            self.snapshots.remove(replaced.to_be_bytes()).map_err(wrong)?;
        }
        if self.snapshots.len() > SNAPSHOTS_MAX {
            let keys: Vec<_> = self.snapshots.iter().keys().filter_map(Result::ok).collect();
            for key in keys.iter().take(SNAPSHOTS_MAX / 2).step_by(2) {
                self.snapshots.remove(key).map_err(wrong)?;
            }
        }
        self.db.flush().map_err(wrong)?;
        Ok(length)
    }

    /// The last snapshot at or before `size` entries.
    pub fn snapshot_before(&self, size: u64) -> Option<Snapshot> {
        let (_, bytes) = self.snapshots.range(..=size.to_be_bytes()).next_back()?.ok()?;
        serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(%error, "cache.snapshot_unreadable: folding from nothing"))
            .ok()
    }

    /// Keeps the metrics folds as they are after `size` governance entries, whose root is `root`. It becomes durable with the
    /// next snapshot; until then a crash costs time and nothing else.
    pub(super) fn keep_past_slo(&self, size: u64, root: Hash, slo: &Slo) -> Result<(), SequencerError> {
        #[derive(Serialize)]
        struct Kept<'a> {
            #[serde(with = "crate::domain::cut::hash_text")]
            root: Hash,
            slo: &'a Slo,
        }
        self.past.insert(size.to_be_bytes(), serde_json::to_vec(&Kept { root, slo })?).map_err(wrong)?;
        Ok(())
    }

    /// The last of the kept metrics folds at or before `size` governance entries.
    pub(super) fn past_slo_before(&self, size: u64) -> Option<PastSlo> {
        let (at, bytes) = self.past.range(..=size.to_be_bytes()).next_back()?.ok()?;
        let kept: PastSlo = serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(%error, "cache.past_unreadable: folding from further back"))
            .ok()?;
        Some(PastSlo { size: u64::from_be_bytes(at.as_ref().try_into().ok()?), ..kept })
    }

    /// Forgets everything.
    pub fn clear(&self) -> Result<(), SequencerError> {
        self.snapshots.clear().map_err(wrong)?;
        self.past.clear().map_err(wrong)?;
        self.ids.clear().map_err(wrong)
    }
}

impl IdIndex for CacheIds {
    fn claimed(&self, identity: &Identity, position: u64) -> Option<Claim> {
        let value = self.0.get(identity).ok()??;
        let (at, content) = value.split_at_checked(8)?;
        let claim = Claim { position: u64::from_be_bytes(at.try_into().ok()?), content: content.try_into().ok()? };
        Some(claim).filter(|claim| claim.position < position)
    }

    fn claim(&mut self, identity: &Identity, claim: Claim) {
        if self.claimed(identity, claim.position).is_some() {
            return;
        }
        let mut value = claim.position.to_be_bytes().to_vec();
        value.extend_from_slice(&claim.content);
        if let Err(error) = self.0.insert(identity, value) {
            // The claim is in the ledger; without it here the next rebuild brings it back.
            tracing::error!(%error, "cache.claim_lost: run `govledger rebuild`");
        }
    }
}

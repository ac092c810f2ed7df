//! Past states: the same folds, from the nearest snapshot up to an earlier size; from nothing where there is none.
//!
//! Works over any [`EntrySource`]: the ledgers of a running service, a data directory at rest, a verified export.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ledger::EntrySource;

use super::cache::{Cache, CacheIds};
use super::error::{SequencerError, of};
use super::metrics::LedgerRecords;
use crate::domain::cut::Cut;
use crate::domain::event::Event;
use crate::domain::leaf;
use crate::domain::time::Time;
use crate::projection::governance::{Applied, Governance, Verdict};
use crate::projection::ids::{Claim, IdIndex, MemoryIds};
use crate::projection::slo::{Finding, Records, Slo};

/// The folds at a past size.
#[derive(Debug, Clone, Default)]
pub struct PastView {
    /// Governance alone.
    pub governance: Governance,
    /// The metrics folds, up to the last cut before, where they were asked for.
    pub slo: Slo,
}

/// Claims made while folding, over those that the cache knows.
pub(super) struct Overlay {
    cached: Option<CacheIds>,
    own: MemoryIds,
}

impl Overlay {
    pub(super) fn over(cache: Option<&Cache>) -> Self {
        Self { cached: cache.map(Cache::ids), own: MemoryIds::default() }
    }
}

impl IdIndex for Overlay {
    fn claimed(&self, identity: &crate::domain::report::Identity, position: u64) -> Option<Claim> {
        self.own
            .claimed(identity, position)
            .or_else(|| self.cached.as_ref().and_then(|cached| cached.claimed(identity, position)))
    }

    fn claim(&mut self, identity: &crate::domain::report::Identity, claim: Claim) {
        self.own.claim(identity, claim);
    }
}

/// Folds `sources` (`governance`, and what metrics ledgers there are) up to `size` governance entries. Without
/// `with_metrics` no metrics record is read, and the metrics folds stay empty.
pub fn fold_to(
    sources: &BTreeMap<String, &dyn EntrySource>,
    cache: Option<&Cache>,
    size: u64,
    with_metrics: bool,
) -> Result<PastView, SequencerError> {
    let Some(governance) = sources.get("governance") else { return Ok(PastView::default()) };
    let mut view = PastView::default();
    if let Some(snapshot) = cache.and_then(|cache| cache.snapshot_before(size))
        && snapshot.matches(*governance)
    {
        view.governance = snapshot.governance;
        if with_metrics {
            view.slo = snapshot.slo;
        }
    }
    // The governance entries that the metrics folds have followed.
    let mut followed = view.governance.size;
    if with_metrics
        && let Some(kept) = cache.and_then(|cache| cache.past_slo_before(size))
        && kept.size > followed
        && kept.matches(*governance)
    {
        followed = kept.size;
        view.slo = kept.slo;
    }
    let mut ids = Overlay::over(cache);
    let mut records = LedgerRecords::new(sources);
    let mut failed = None;
    governance
        .for_each_entry(view.governance.size..size, &mut |position, entry| {
            let applied = view.governance.apply(position, entry, &mut ids);
            if !with_metrics || position < followed {
                return ControlFlow::Continue(());
            }
            match follow_again(&mut view.slo, &applied, &mut records) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
        .map_err(of("governance"))?;
    failed.map_or(Ok(view), Err)
}

/// What an applied governance entry means for the metrics folds.
pub(super) fn follow(
    slo: &mut Slo,
    applied: &Applied,
    records: &mut dyn Records,
) -> Result<Vec<Finding>, SequencerError> {
    match observe(slo, applied) {
        Some(cut) => Ok(slo.cut(cut, records)?),
        None => Ok(Vec::new()),
    }
}

/// The same for an entry that was followed before: what it brought to light is in the ledger.
fn follow_again(slo: &mut Slo, applied: &Applied, records: &mut dyn Records) -> Result<(), SequencerError> {
    match observe(slo, applied) {
        Some(cut) => Ok(slo.pass(cut, records)?),
        None => Ok(()),
    }
}

/// Takes in an entry; the cut, if it is one.
fn observe<'a>(slo: &mut Slo, applied: &'a Applied) -> Option<&'a Cut> {
    if applied.verdict != Verdict::Admitted {
        return None;
    }
    if applied.position == 0 {
        slo.begin(applied.rules_version);
    }
    let event = applied.event.as_ref()?;
    slo.observe(applied.position, applied.time, applied.about.stack.as_deref(), event);
    if let Event::Cut(cut) = event { Some(cut) } else { None }
}

/// The number of entries, of the first `size`, whose time is not after `time`: entry times never go back.
pub fn size_at(governance: &dyn EntrySource, size: u64, time: Time) -> Result<u64, SequencerError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = governance.entry(middle).map_err(of("governance"))?;
        let at = leaf::split(&entry).map(|leaf| leaf.header.time).unwrap_or_default();
        if at <= time { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

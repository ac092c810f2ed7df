//! A proposed policy over the last day: the same cuts and records, folded again under it.
//!
//! What was recorded is taken from the governance ledger; what would have been is folded from the state at the beginning of
//! the time looked at, as if the policy had been put in force there. Nothing is appended and nothing shared is touched.
//!
//! Bounds: the records to be read are counted before any is read, and where they are too many a shorter time is looked at.
//! The state is that of one more fold, and the alerts of that time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ledger::EntrySource;

use super::cache::Cache;
use super::error::{SequencerError, of};
use super::metrics::LedgerRecords;
use super::past::{Overlay, fold_to, follow, size_at};
use crate::domain::metric::Observed;
use crate::domain::policy::Policy;
use crate::domain::time::Time;
use crate::projection::slo::{Finding, Records, RecordsError, Slo};
use crate::projection::what_if::{DryRunAnswer, Episodes, compare};

/// Hours looked at, the first that its records allow.
const HOURS: [i64; 5] = [24, 12, 6, 3, 1];
/// Records read at the most: some ten seconds of one core.
const RECORDS_MAX: u64 = 5_000_000;

/// What `policy` would have changed in the alerts of the last 24 hours before the last cut, or of fewer.
pub fn dry_run(
    sources: &BTreeMap<String, &dyn EntrySource>,
    cache: Option<&Cache>,
    policy: &Policy,
) -> Result<DryRunAnswer, SequencerError> {
    let refused = |reason: &str| SequencerError::Invalid {
        what: "dry run".to_owned(),
        value: format!("revision {}", policy.revision),
        reason: reason.to_owned(),
    };
    policy.validate().map_err(|error| refused(&error.to_string()))?;
    let governance = *sources.get("governance").ok_or_else(|| refused("there is no governance ledger"))?;
    let present = fold_to(sources, cache, governance.size(), false)?.governance;
    let through = present.last_cut.as_ref().map(|cut| cut.instant);
    let through = through.ok_or_else(|| refused("no cut was made yet, so no rule has judged anything"))?;
    let (since, start) = beginning(sources, cache, through)?
        .ok_or_else(|| refused("even one hour holds more records than are read for it"))?;
    let answer = DryRunAnswer {
        since,
        through,
        cuts: 0,
        records_read: 0,
        changes: present.policy.changes_to(policy),
        recorded: 0,
        proposed: 0,
        unchanged: 0,
        alerts: Vec::new(),
    };
    let (mut recorded, mut proposed) = (Episodes::default(), Episodes::default());
    for alert in present.alerts.oldest_first().into_iter().map(|known| known.alert) {
        // What was said by the last cut: an alert that is over fired and ended.
        if alert.resolved_at.is_none_or(|end| end > since) {
            recorded.see(&alert);
            if alert.firing_since <= since {
                let firing = crate::domain::event::Alert {
                    state: crate::domain::event::AlertState::Firing,
                    resolved_at: None,
                    ..alert
                };
                proposed.see(&firing);
            }
        }
    }
    let mut again = Again { policy, sources, cache, start, proposed, answer };
    again.fold(governance)?;
    Ok(compare(again.answer, &recorded, &again.proposed))
}

/// The time looked at, and the number of governance entries up to it: the longest whose records are not too many.
fn beginning(
    sources: &BTreeMap<String, &dyn EntrySource>,
    cache: Option<&Cache>,
    through: Time,
) -> Result<Option<(Time, u64)>, SequencerError> {
    let Some(governance) = sources.get("governance") else { return Ok(None) };
    for hours in HOURS {
        let since = through.plus_seconds(-hours * 3_600);
        let start = size_at(*governance, governance.size(), since)?.max(1);
        let folded = cache.and_then(|cache| cache.snapshot_before(start)).filter(|kept| kept.matches(*governance));
        let known = |name: &str| {
            let number = super::metrics_number(name)?;
            folded.as_ref().map(|kept| kept.slo.folded_to(number))
        };
        let metrics = sources.iter().filter(|(name, _)| super::metrics_number(name).is_some());
        let records: u64 = metrics.map(|(name, source)| source.size().saturating_sub(known(name).unwrap_or(0))).sum();
        if records <= RECORDS_MAX {
            return Ok(Some((since, start)));
        }
    }
    Ok(None)
}

/// The fold under the proposed policy.
struct Again<'a> {
    policy: &'a Policy,
    sources: &'a BTreeMap<String, &'a dyn EntrySource>,
    cache: Option<&'a Cache>,
    start: u64,
    proposed: Episodes,
    answer: DryRunAnswer,
}

impl Again<'_> {
    fn fold(&mut self, governance: &dyn EntrySource) -> Result<(), SequencerError> {
        let mut view = fold_to(self.sources, self.cache, self.start, true)?;
        view.slo.suppose(self.policy);
        let mut ids = Overlay::over(self.cache);
        let mut records = Counted { inner: LedgerRecords::new(self.sources), read: 0 };
        let mut failed = None;
        governance
            .for_each_entry(self.start..governance.size(), &mut |position, entry| {
                let applied = view.governance.apply(position, entry, &mut ids);
                if applied.event.as_ref().is_some_and(Slo::is_about_policy) {
                    return ControlFlow::Continue(());
                }
                let before = view.slo.last_cut();
                match follow(&mut view.slo, &applied, &mut records) {
                    Ok(findings) => {
                        self.answer.cuts += u64::from(view.slo.last_cut() != before);
                        self.take(findings);
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
            .map_err(of("governance"))?;
        self.answer.records_read = records.read;
        failed.map_or(Ok(()), Err)
    }

    fn take(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            match finding {
                Finding::Firing(draft) | Finding::Resolved(draft) => self.proposed.see(&draft.alert),
                Finding::Proven(_) | Finding::Waiver(_) | Finding::Impact(_) => {}
            }
        }
    }
}

/// Records with a count of those that were read.
struct Counted<'a> {
    inner: LedgerRecords<'a>,
    read: u64,
}

impl Records for Counted<'_> {
    fn for_each(
        &mut self,
        ledger: u32,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), RecordsError> {
        let read = &mut self.read;
        self.inner.for_each(ledger, from, to, &mut |observed| {
            *read += 1;
            visit(observed);
        })
    }
}

//! What an incident found, and what an episode of alerts cost: figures that outlive the windows, so they are said as entries.
//!
//! An *episode* of an engine lasts from the first cut in breach of a rule that pages or costs, and that then fires, to the cut
//! at which no such rule fires any more. Each cut counts once, however many rules are in breach, so that nothing is counted
//! twice; its records are one run of positions in each ledger, which anyone can count again.

use std::collections::{BTreeMap, VecDeque};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::state::Series;
use super::{Finding, Records, RowState, Slo, SloError, view, window};
use crate::domain::cut::Cut;
use crate::domain::event::{Alert, Evidence};
use crate::domain::incident::{EngineTotals, IncidentImpact, IncidentSnapshot, SnapshotRule};
use crate::domain::policy::{Rule, Severity, StackPolicy};
use crate::domain::time::Time;

/// An engine on which a rule that pages or costs is in breach.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Episode {
    /// Cuts of which nobody knows yet whether they belong to one: a rule is in breach since them and has not fired.
    undecided: VecDeque<CutSums>,
    fired: Option<Fired>,
}

/// What one cut brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CutSums {
    until: Time,
    /// Entries by ledger at the cut before.
    from: BTreeMap<u32, u64>,
    counts: Counts,
    excess_usd: Decimal,
}

/// What is summed of an episode that goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fired {
    since: Time,
    /// The earliest cut that is in the sums.
    counted_from: Option<Time>,
    /// Entries by ledger at the cut before that.
    from: BTreeMap<u32, u64>,
    counts: Counts,
    excess_usd: Decimal,
    alerts: Vec<String>,
    cost_alone: bool,
}

/// What a cut found of the rules that page or cost on one engine.
struct Standing<'a> {
    /// The earliest cut since which one is in breach without having fired.
    pending_since: Option<Time>,
    fires: bool,
    /// Alerts that fire from this cut on.
    alerts: Vec<&'a Alert>,
}

const fn concerns_incidents(severity: Severity) -> bool {
    matches!(severity, Severity::Page | Severity::Finance)
}

impl Slo {
    /// Takes this cut into every episode that goes on or begins, and says what those cost that end. `findings` are those of
    /// this cut.
    pub(super) fn episodes(&mut self, cut: &Cut, findings: &[Finding]) -> Vec<IncidentImpact> {
        if !self.measures_incidents {
            return Vec::new();
        }
        let mut ended = Vec::new();
        for (stack, engines) in &self.series {
            let policy = self.policy.for_stack(stack);
            for (engine, series) in engines {
                let standing = Standing::of(series, &policy, (stack, engine), findings);
                let known = self.episodes.entry(stack.clone()).or_default();
                if !known.contains_key(engine) && standing.is_quiet() {
                    continue;
                }
                let episode = known.entry(engine.clone()).or_default();
                episode.undecided.push_back(brought(series, &policy, cut.instant, before(&self.marks)));
                if let Some(fired) = episode.step(&standing) {
                    ended.push(fired.impact(stack, engine, cut));
                }
                if episode.is_over() {
                    known.remove(engine);
                }
            }
        }
        self.episodes.retain(|_, engines| !engines.is_empty());
        ended
    }

    /// The figures of `stack` at the last cut, as `incident` finds them. The value of a percentile is read from the records.
    pub fn snapshot(
        &self,
        incident: &str,
        stack: &str,
        records: &mut dyn Records,
    ) -> Result<IncidentSnapshot, SloError> {
        let mut snapshot = IncidentSnapshot {
            incident: incident.to_owned(),
            stack: stack.to_owned(),
            instant: self.last_cut(),
            rules: Vec::new(),
            totals: Vec::new(),
        };
        let (Some(cut), Some(engines)) = (&self.cut, self.series.get(stack)) else { return Ok(snapshot) };
        let policy = self.policy.for_stack(stack);
        for row in self.slo_rows(stack).into_iter().filter(|row| row.state != RowState::Disabled) {
            let judged = engines
                .get(&row.engine_hash)
                .and_then(|series| series.rules.get(&row.rule))
                .and_then(|state| state.judged.clone())
                .filter(|_| !row.no_verdict);
            let value = match &judged {
                Some(judged) => self.stated_value((stack, &row.engine_hash), row.rule, &policy, judged, records)?,
                None => None,
            };
            snapshot.rules.push(SnapshotRule {
                state: state_name(row.state).to_owned(),
                value,
                threshold: super::engine::threshold(row.rule, &policy),
                samples: judged.as_ref().map_or(0, |judged| judged.figures.samples()),
                breaching: judged.as_ref().map_or(0, |judged| judged.figures.breaching()),
                evidence: judged
                    .as_ref()
                    .map(|judged| window::evidence(&self.marks, judged.start, cut))
                    .unwrap_or_default(),
                engine_hash: row.engine_hash,
                rule: row.rule,
            });
        }
        for (engine, series) in engines {
            let start = self.oldest_kept().max(series.fresh_from);
            let mut counts = Counts::default();
            series
                .tallies
                .iter()
                .filter(|tally| start < Some(tally.until))
                .for_each(|tally| counts.merge(&tally.counts));
            if counts.requests > 0 {
                let excess_usd = view::totals(stack, engine, cut.instant, &counts).excess_usd(policy.max_cost_usd.0);
                let evidence = window::evidence(&self.marks, start, cut);
                snapshot.totals.push(totals(engine, &counts, excess_usd, evidence));
            }
        }
        Ok(snapshot)
    }

    /// What the episodes that go on on `stack` have cost so far, up to the last cut.
    pub fn running_impact(&self, stack: &str) -> Vec<IncidentImpact> {
        let Some(cut) = &self.cut else { return Vec::new() };
        let engines = self.episodes.get(stack).into_iter().flatten();
        let running = |(engine, episode): (&String, &Episode)| {
            episode.fired.clone().map(|fired| fired.impact(stack, engine, cut))
        };
        engines.filter_map(running).collect()
    }
}

impl<'a> Standing<'a> {
    fn of(series: &Series, policy: &StackPolicy, (stack, engine): (&str, &str), findings: &'a [Finding]) -> Self {
        let mut standing = Self { pending_since: None, fires: false, alerts: Vec::new() };
        for (rule, state) in &series.rules {
            match &state.firing {
                Some(firing) => standing.fires |= concerns_incidents(firing.severity),
                None if concerns_incidents(policy.rule(*rule).severity) => {
                    standing.pending_since = standing.pending_since.into_iter().chain(state.pending_since).min();
                }
                None => {}
            }
        }
        for finding in findings {
            let Finding::Firing(draft) = finding else { continue };
            let alert = &draft.alert;
            if alert.stack == stack && alert.engine_hash == engine && concerns_incidents(alert.severity) {
                standing.alerts.push(alert);
            }
        }
        standing
    }

    const fn is_quiet(&self) -> bool {
        self.pending_since.is_none() && !self.fires && self.alerts.is_empty()
    }
}

impl Episode {
    /// Takes in the cut that was appended last: what belongs to the episode is summed, and what cannot any more is dropped.
    /// What it cost, where it ends here.
    fn step(&mut self, standing: &Standing<'_>) -> Option<Fired> {
        for alert in &standing.alerts {
            // What was counted in the episode before is not counted again, though the breach goes back into it.
            let since = self.undecided.front().map_or(alert.pending_since, |sums| sums.until.max(alert.pending_since));
            let fired = self.fired.get_or_insert_with(|| Fired {
                since,
                counted_from: None,
                from: BTreeMap::new(),
                counts: Counts::default(),
                excess_usd: Decimal::ZERO,
                alerts: Vec::new(),
                cost_alone: true,
            });
            fired.since = fired.since.min(since);
            fired.alerts.push(alert.id.clone());
            fired.cost_alone &= alert.rule == Rule::CostPerRequest;
        }
        if let Some(fired) = &mut self.fired {
            while let Some(sums) = self.undecided.pop_back_if(|sums| sums.until >= fired.since) {
                fired.counts.merge(&sums.counts);
                fired.excess_usd = fired.excess_usd.saturating_add(sums.excess_usd);
                if fired.counted_from.is_none_or(|counted| sums.until < counted) {
                    (fired.counted_from, fired.from) = (Some(sums.until), sums.from);
                }
            }
        }
        let ended = if standing.fires { None } else { self.fired.take() };
        if ended.is_some() {
            // Whatever is in breach still has been counted up to here.
            self.undecided.clear();
        }
        match standing.pending_since {
            Some(since) => while self.undecided.pop_front_if(|sums| sums.until < since).is_some() {},
            None => self.undecided.clear(),
        }
        ended
    }

    fn is_over(&self) -> bool {
        self.undecided.is_empty() && self.fired.is_none()
    }
}

impl Fired {
    /// What it cost by `cut`.
    fn impact(self, stack: &str, engine: &str, cut: &Cut) -> IncidentImpact {
        let mut listed: Vec<_> = cut.ledgers.iter().collect();
        listed.sort_by_key(|listed| listed.ledger);
        let evidence = listed
            .into_iter()
            .map(|listed| Evidence {
                ledger: format!("metrics-{}", listed.ledger),
                from: self.from.get(&listed.ledger).copied().unwrap_or(0),
                to: listed.size,
                size: listed.size,
                root: listed.root,
            })
            .collect();
        IncidentImpact {
            stack: stack.to_owned(),
            since: self.since,
            until: cut.instant,
            alerts: self.alerts,
            cost_alone: self.cost_alone,
            totals: totals(engine, &self.counts, self.excess_usd, evidence),
        }
    }
}

/// What the cut of `until` brought on one engine.
fn brought(series: &Series, policy: &StackPolicy, until: Time, from: BTreeMap<u32, u64>) -> CutSums {
    let newest = series.tallies.back().filter(|tally| tally.until == until);
    let counts = newest.map(|tally| tally.counts).unwrap_or_default();
    let excess_usd = view::totals("", "", until, &counts).excess_usd(policy.max_cost_usd.0);
    CutSums { until, from, counts, excess_usd }
}

/// Entries by ledger at the cut before the last one.
fn before(marks: &VecDeque<window::Mark>) -> BTreeMap<u32, u64> {
    let before = marks.len().checked_sub(2).and_then(|index| marks.get(index));
    before.map(|mark| mark.sizes.clone()).unwrap_or_default()
}

fn totals(engine: &str, counts: &Counts, excess_usd: Decimal, evidence: Vec<Evidence>) -> EngineTotals {
    let sums = view::totals("", engine, Time::default(), counts);
    EngineTotals {
        engine_hash: sums.engine_hash,
        requests: sums.requests,
        failed: sums.failed,
        tokens_in: sums.tokens_in,
        tokens_out: sums.tokens_out,
        cost_usd: sums.cost_usd.normalize(),
        unpriced: sums.unpriced,
        requests_over: sums.cost_over,
        gross_usd: sums.cost_of_over_usd.normalize(),
        excess_usd: excess_usd.normalize(),
        evidence,
    }
}

const fn state_name(state: RowState) -> &'static str {
    match state {
        RowState::Disabled => "disabled",
        RowState::NoVerdict => "no_verdict",
        RowState::Met => "met",
        RowState::Pending => "pending",
        RowState::Firing => "firing",
    }
}

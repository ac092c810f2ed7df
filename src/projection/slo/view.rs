//! What the engine's state shows: rules as rows, totals by cut, and latencies for the eye.

use hdrhistogram::Histogram;
use rust_decimal::Decimal;

use super::counts::Counts;
use super::fold;
use super::window;
use super::{Records, Slo, SloError, figures};
use crate::domain::event::AlertCost;
use crate::domain::metric::{Figures, Observed, Sample, usd};
use crate::domain::policy::{Amount, Rule, Severity};
use crate::domain::time::Time;

/// Significant digits of a displayed percentile.
const DISPLAY_DIGITS: u8 = 3;
/// The longest displayed duration, a day; longer ones show as this.
const DISPLAY_MAX_US: u64 = 86_400_000_000;

/// One rule on one engine, as of the last cut.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct RuleRow {
    /// The stack.
    pub stack: String,
    /// The engine, by the client's claim.
    pub engine_hash: String,
    /// Whether the engine is current on the stack.
    pub current: bool,
    /// The rule.
    pub rule: Rule,
    /// Where it stands.
    pub state: RowState,
    /// Whether the last cut brought no verdict. What was pending or firing then stands as it was.
    pub no_verdict: bool,
    /// The cut of the last verdict.
    pub last_verdict: Option<Time>,
    /// The exact figures of the last verdict in this stint.
    pub figures: Option<Figures>,
    /// Their value in `unit`, where the figures hold it (a percentile is stated by its counts).
    pub value: Option<String>,
    /// Unit of the value and the threshold.
    pub unit: &'static str,
    /// The bound in force.
    pub threshold: Option<Amount>,
    /// The window that the last verdict used, in seconds.
    pub window_s: Option<u32>,
    /// In breach since this cut.
    pub pending_since: Option<Time>,
    /// Firing since this cut.
    pub firing_since: Option<Time>,
    /// While firing: clear since this cut.
    pub clear_since: Option<Time>,
    /// Whom an alert is for.
    pub severity: Severity,
    /// Of `cost_per_request`: what the requests of the window cost, and how many of them carry no price.
    pub cost: Option<AlertCost>,
}

/// Where a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// Switched off by policy.
    Disabled,
    /// Not known: never shown as met.
    NoVerdict,
    /// Met at the last cut.
    Met,
    /// In breach, not for long enough.
    Pending,
    /// An alert fires.
    Firing,
}

/// What one cut brought for one stack and engine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct IntervalTotals {
    /// The stack.
    pub stack: String,
    /// The engine, by the client's claim.
    pub engine_hash: String,
    /// The cut that brought the records.
    pub until: Time,
    /// Requests.
    pub requests: u64,
    /// Those with an error code.
    pub failed: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// KV blocks reused.
    pub kv_hits: u64,
    /// KV blocks asked for.
    pub kv_blocks: u64,
    /// Draft tokens accepted.
    pub spec_accepts: u64,
    /// Draft tokens proposed.
    pub spec_attempts: u64,
    /// Cost of all requests.
    #[schemars(with = "String")]
    pub cost_usd: Decimal,
    /// Requests above the policy's cost limit, by the limit counted with.
    pub cost_over: u64,
    /// Requests without a price: the cost above does not hold them.
    pub unpriced: u64,
    /// What those cost.
    #[schemars(with = "String")]
    pub cost_of_over_usd: Decimal,
}

impl IntervalTotals {
    /// What the requests above a limit of `threshold_usd` cost beyond it.
    pub fn excess_usd(&self, threshold_usd: Decimal) -> Decimal {
        super::counts::excess_usd(self.cost_of_over_usd, self.cost_over, threshold_usd)
    }
}

/// Durations as a histogram has them: for the eye, never for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Latencies {
    /// Requests.
    pub requests: u64,
    /// Median, in microseconds.
    pub p50_us: u64,
    /// 95th percentile, in microseconds.
    pub p95_us: u64,
    /// 99th percentile, in microseconds.
    pub p99_us: u64,
    /// Longest, in microseconds.
    pub max_us: u64,
}

impl Slo {
    /// Names of the stacks that have rows.
    pub fn stack_names(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// Every rule on every engine of `stack`.
    pub fn slo_rows(&self, stack: &str) -> Vec<RuleRow> {
        let Some(engines) = self.series.get(stack) else { return Vec::new() };
        let policy = self.policy.for_stack(stack);
        let current = self.stacks.get(stack).and_then(super::super::stacks::Stack::current);
        let last_cut = self.last_cut();
        let mut rows = Vec::with_capacity(engines.len() * Rule::ALL.len());
        for (engine, series) in engines {
            for rule in self.rules() {
                let settings = policy.rule(rule);
                let state = series.rules.get(&rule).cloned().unwrap_or_default();
                let no_verdict = state.last_verdict.is_none() || state.last_verdict != last_cut;
                rows.push(RuleRow {
                    stack: stack.to_owned(),
                    engine_hash: engine.clone(),
                    current: current == Some(engine),
                    rule,
                    state: match &state {
                        _ if !settings.enabled => RowState::Disabled,
                        state if state.firing.is_some() => RowState::Firing,
                        state if state.pending_since.is_some() => RowState::Pending,
                        _ if no_verdict => RowState::NoVerdict,
                        _ => RowState::Met,
                    },
                    no_verdict,
                    last_verdict: state.last_verdict,
                    figures: state.judged.as_ref().map(|judged| judged.figures),
                    value: state.judged.as_ref().and_then(|judged| figures::value(&judged.figures)),
                    unit: rule.unit(),
                    threshold: settings.threshold,
                    window_s: state.judged.as_ref().map(|judged| judged.window_s),
                    pending_since: state
                        .pending_since
                        .or_else(|| state.firing.as_ref().map(|firing| firing.pending_since)),
                    firing_since: state.firing.as_ref().map(|firing| firing.since),
                    clear_since: state.clear_since,
                    cost: state.judged.as_ref().and_then(|judged| judged.cost.clone()),
                    severity: state.firing.as_ref().map_or(settings.severity, |firing| firing.severity),
                });
            }
        }
        rows
    }

    /// What each cut of the last quarter of an hour brought for `stack`, oldest first.
    pub fn interval_totals(&self, stack: &str) -> Vec<IntervalTotals> {
        let engines = self.series.get(stack).into_iter().flatten();
        let tallies = engines.flat_map(|(engine, series)| series.tallies.iter().map(move |tally| (engine, tally)));
        let mut totals: Vec<_> =
            tallies.map(|(engine, tally)| totals(stack, engine, tally.until, &tally.counts)).collect();
        totals.sort_by_key(|totals| totals.until);
        totals
    }

    /// What the last cut brought, for every stack and engine: the spend that waivers are metered by.
    pub fn last_interval(&self) -> Vec<IntervalTotals> {
        let last = self.last_cut();
        let of_engine = |stack: &str, engine: &str, series: &super::Series| {
            let newest = series.tallies.back().filter(|tally| Some(tally.until) == last);
            newest.map(|tally| totals(stack, engine, tally.until, &tally.counts))
        };
        let stacks = self.series.iter();
        stacks
            .flat_map(|(stack, engines)| {
                engines.iter().filter_map(move |(engine, series)| of_engine(stack, engine, series))
            })
            .collect()
    }

    /// Durations on an engine over the last `seconds` (at most the longest window), read from the records.
    pub fn latencies(
        &self,
        stack: &str,
        engine: &str,
        seconds: u32,
        records: &mut dyn Records,
    ) -> Result<Option<Latencies>, SloError> {
        let Some(last) = self.last_cut() else { return Ok(None) };
        let start = window::start(&self.marks, last, seconds).max(self.oldest_kept());
        let Ok(mut histogram) = Histogram::<u64>::new_with_max(DISPLAY_MAX_US, DISPLAY_DIGITS) else { return Ok(None) };
        self.replay(stack, engine, start, records, &mut |sample| histogram.saturating_record(sample.duration_us))?;
        Ok((!histogram.is_empty()).then(|| Latencies {
            requests: histogram.len(),
            p50_us: histogram.value_at_quantile(0.50),
            p95_us: histogram.value_at_quantile(0.95),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        }))
    }

    /// Visits the records after the cut of `start` that count for `stack` and carry `engine`.
    pub(super) fn replay(
        &self,
        stack: &str,
        engine: &str,
        start: Option<Time>,
        records: &mut dyn Records,
        visit: &mut dyn FnMut(&Sample<'_>),
    ) -> Result<(), SloError> {
        for (before, mark) in window::intervals(&self.marks, start) {
            let Some(models) = mark.attribution.get(engine) else { continue };
            let counts = |model: &str| models.get(model).is_some_and(|stacks| stacks.iter().any(|name| name == stack));
            for range in window::ranges(before, mark) {
                fold::read(records, range, &mut |observed| match observed {
                    Observed::Request(sample) if sample.engine_hash == engine && counts(sample.model) => visit(&sample),
                    Observed::Request(_) | Observed::Scrape(_) => {}
                })?;
            }
        }
        Ok(())
    }

    /// The cut that the oldest figures kept begin at; none where they begin with the ledger.
    pub fn oldest_kept(&self) -> Option<Time> {
        self.marks.front().filter(|_| self.trimmed).map(|mark| mark.instant)
    }
}

pub(super) fn totals(stack: &str, engine: &str, until: Time, counts: &Counts) -> IntervalTotals {
    IntervalTotals {
        stack: stack.to_owned(),
        engine_hash: engine.to_owned(),
        until,
        requests: counts.requests,
        failed: counts.failed,
        tokens_in: counts.tokens_in,
        tokens_out: counts.tokens_out,
        kv_hits: counts.kv_hits,
        kv_blocks: counts.kv_blocks,
        spec_accepts: counts.spec_accepts,
        spec_attempts: counts.spec_attempts,
        cost_usd: usd(counts.cost.0),
        cost_over: counts.cost_over,
        unpriced: counts.unpriced,
        cost_of_over_usd: usd(counts.cost_of_over.0),
    }
}

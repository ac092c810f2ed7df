//! One rule's verdict on one engine at one cut.

use std::collections::VecDeque;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::state::Series;
use super::window::{self, Mark};
use crate::domain::event::AlertCost;
use crate::domain::metric::Figures;
use crate::domain::policy::{Measure, Rule, RulePolicy, StackPolicy, WIDEN_STEP_SECONDS};
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::projection::capacity::Scrapes;

/// Ratio thresholds are compared in billionths, which is as fine as a policy may write them.
const RATIO_DECIMALS: u32 = 9;

/// A verdict and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Judged {
    pub(super) breach: bool,
    pub(super) figures: Figures,
    /// The cut that the window begins at; `None` is the ledgers' beginning.
    pub(super) start: Option<Time>,
    /// The window that was used, in seconds.
    pub(super) window_s: u32,
    /// What the requests above the limit cost, where the rule is about that.
    pub(super) cost: Option<AlertCost>,
}

/// What a verdict depends on beside the counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bench<'a> {
    pub(super) t: Time,
    pub(super) marks: &'a VecDeque<Mark>,
    pub(super) policy: &'a StackPolicy,
    /// Whether the engine should not serve.
    pub(super) unapproved: bool,
    /// Waivers that the publish of the engine names, where it is current, and how many of them do not cover it.
    pub(super) relies_on: (u64, u64),
    /// Workloads that the engine needs calibrations of, where it is current and speculates, and how many of them want one.
    pub(super) speculates: (u64, u64),
    /// The stack's name and what the servers said, where the engine is current: they serve that one.
    pub(super) scrapes: Option<(&'a str, &'a Scrapes)>,
    /// The cut of the stack's last record, where the stack has reported and its gate is open for this engine.
    pub(super) awaited_since: Option<Time>,
    /// Whether every partition could be read.
    pub(super) complete: bool,
}

/// The verdict of `rule`, or none.
pub(super) fn judge(bench: &Bench<'_>, rule: Rule, series: &Series) -> Option<Judged> {
    let settings = bench.policy.rule(rule);
    match rule.measure() {
        Measure::Percentile | Measure::Ratio => sampled(bench, rule, settings, series),
        Measure::Offences => Some(offences(bench, rule, settings, series)),
        Measure::Gauge => gauge(bench, settings, series),
        Measure::Silence => bench.complete.then(|| silence(bench, settings, series)),
    }
}

/// Where a window begins for this engine: never before the cut at which its figures start afresh.
fn start(bench: &Bench<'_>, series: &Series, seconds: u32) -> Option<Time> {
    window::start(bench.marks, bench.t, seconds).max(series.fresh_from)
}

fn sampled(bench: &Bench<'_>, rule: Rule, settings: &RulePolicy, series: &Series) -> Option<Judged> {
    let samples = |counts: &Counts| counts.figures(rule).samples();
    // Only a cut that brought records of the measure judges it.
    series.tallies.back().filter(|tally| tally.until == bench.t && samples(&tally.counts) > 0)?;
    let widened =
        (1..).map(|minutes| minutes * WIDEN_STEP_SECONDS).take_while(|&seconds| seconds <= bench.policy.widen_s);
    let windows = std::iter::once(settings.window_s).chain(widened.filter(|&seconds| seconds > settings.window_s));
    let mut older = series.tallies.iter().rev().peekable();
    let mut counts = Counts::default();
    for window_s in windows {
        let start = start(bench, series, window_s);
        while let Some(tally) = older.next_if(|tally| start < Some(tally.until)) {
            counts.merge(&tally.counts);
        }
        if samples(&counts) >= bench.policy.min_samples {
            let figures = counts.figures(rule);
            let breach = breach(&figures, settings)?;
            return Some(Judged { breach, figures, start, window_s, cost: None });
        }
    }
    None
}

fn offences(bench: &Bench<'_>, rule: Rule, settings: &RulePolicy, series: &Series) -> Judged {
    let start = start(bench, series, settings.window_s);
    let mut counts = Counts::default();
    for tally in series.tallies.iter().rev().take_while(|tally| start < Some(tally.until)) {
        counts.merge(&tally.counts);
    }
    let figures = match counts.figures(rule) {
        Figures::Offences { .. } if rule == Rule::UncoveredPublish => {
            Figures::Offences { samples: bench.relies_on.0, offences: bench.relies_on.1 }
        }
        Figures::Offences { .. } if rule == Rule::UncalibratedSpeculation => {
            Figures::Offences { samples: bench.speculates.0, offences: bench.speculates.1 }
        }
        Figures::Offences { samples, .. } if rule == Rule::UnapprovedEngine && !bench.unapproved => {
            Figures::Offences { samples, offences: 0 }
        }
        figures @ (Figures::Offences { .. }
        | Figures::Percentile { .. }
        | Figures::Ratio { .. }
        | Figures::Silence { .. }) => figures,
    };
    let cost = (rule == Rule::CostPerRequest).then(|| counts.cost(bench.policy.max_cost_usd.0, settings.window_s));
    Judged { breach: figures.breaching() > 0, figures, start, window_s: settings.window_s, cost }
}

/// The last scrape of each server in the window: the tightest GPU of them all.
fn gauge(bench: &Bench<'_>, settings: &RulePolicy, series: &Series) -> Option<Judged> {
    let start = start(bench, series, settings.window_s);
    let (stack, scrapes) = bench.scrapes?;
    let (samples, (part, whole)) = scrapes.headroom(stack, start)?;
    let figures = Figures::Ratio { samples, part, whole };
    Some(Judged { breach: breach(&figures, settings)?, figures, start, window_s: settings.window_s, cost: None })
}

fn silence(bench: &Bench<'_>, settings: &RulePolicy, series: &Series) -> Judged {
    let start = start(bench, series, settings.window_s);
    let since = bench.awaited_since.max(bench.awaited_since.and(series.fresh_from));
    let seconds = since.map_or(0, |since| bench.t.micros_since(since) / MICROS_PER_SECOND);
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let breach = since.is_some() && seconds >= u64::from(settings.window_s);
    Judged { breach, figures: Figures::Silence { seconds }, start, window_s: settings.window_s, cost: None }
}

/// Whether the figures are in breach of the threshold; `None` where a ratio has nothing to divide by.
pub(super) fn breach(figures: &Figures, settings: &RulePolicy) -> Option<bool> {
    match *figures {
        // Nearest-rank P95 < T exactly when count(x < T) >= ceil(0.95 n), and a count is whole.
        Figures::Percentile { samples, below } => Some(u128::from(below) * 20 < u128::from(samples) * 19),
        Figures::Ratio { whole: 0, .. } => None,
        Figures::Ratio { part, whole, .. } => {
            let threshold = settings.threshold.map_or(Decimal::ZERO, |amount| amount.0);
            let billionths = (threshold * Decimal::from(10_u64.pow(RATIO_DECIMALS))).to_u128()?;
            Some(u128::from(part) * 10_u128.pow(RATIO_DECIMALS) < billionths * u128::from(whole))
        }
        Figures::Offences { offences, .. } => Some(offences > 0),
        Figures::Silence { seconds } => Some(seconds >= u64::from(settings.window_s)),
    }
}

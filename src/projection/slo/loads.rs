//! What each engine of a stack did over the kept cuts, as one sum: for the report on capacity.

use super::counts::Counts;
use super::{IntervalTotals, Slo, view};
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::projection::capacity::Load;

/// One engine over the kept cuts.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineLoad {
    /// Whether it is current on the stack.
    pub current: bool,
    /// The cut that the sums begin at; none where they begin with the ledger.
    pub start: Option<Time>,
    /// From there to the last cut, in seconds.
    pub seconds: u64,
    /// What its records sum up to.
    pub totals: IntervalTotals,
    /// What the report needs beside that.
    pub load: Load,
}

impl Slo {
    /// The engines of `stack`, each over the last quarter of an hour, or since it became current.
    pub fn loads(&self, stack: &str) -> Vec<EngineLoad> {
        let (Some(engines), Some(last)) = (self.series.get(stack), self.last_cut()) else { return Vec::new() };
        let current = self.stacks.get(stack).and_then(super::super::stacks::Stack::current);
        let of_engine = |(engine, series): (&String, &super::Series)| {
            let start = self.oldest_kept().max(series.fresh_from);
            let (mut counts, mut load) = (Counts::default(), Load::default());
            for tally in series.tallies.iter().filter(|tally| start < Some(tally.until)) {
                counts.merge(&tally.counts);
                load.merge(&tally.load);
            }
            EngineLoad {
                current: current == Some(engine),
                start,
                seconds: self.seconds_since(start, last),
                totals: view::totals(stack, engine, last, &counts),
                load,
            }
        };
        engines.iter().map(of_engine).collect()
    }

    /// Where there is no cut to begin at, the first one covers the ten seconds before it.
    fn seconds_since(&self, start: Option<Time>, last: Time) -> u64 {
        let first = || self.marks.front().map(|mark| mark.instant.plus_seconds(-crate::domain::cut::CUT_SECONDS));
        let begin = start.or_else(first).unwrap_or(last);
        u64::try_from(last.micros_since(begin) / MICROS_PER_SECOND).unwrap_or(0)
    }
}

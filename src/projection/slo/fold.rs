//! One pass over the records between two cuts.
//!
//! A record costs a comparison with the pair before, and the additions; names are looked up when the pair changes. Nothing
//! of a record is kept, so memory grows with the pairs of engine and model that occur, not with the records.

use std::collections::BTreeMap;

use super::counts::{Bounds, Counts};
use super::window::Range;
use super::{Records, SloError};
use crate::domain::metric::{Observed, Sample, Scrape};
use crate::projection::capacity::Load;

/// By engine, then model: the stacks that such a record counts for.
pub(super) type Attribution = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What decides where a record counts, and by which bounds.
pub(super) struct Rules<'a> {
    /// The stacks for an engine and model.
    pub(super) attribute: &'a dyn Fn(&str, &str) -> Vec<String>,
    /// The bounds for a stack and engine; `None` where it is not to be counted.
    pub(super) bounds: &'a dyn Fn(&str, &str) -> Option<Bounds>,
}

/// Counts by stack, then engine.
pub(super) type Folded = BTreeMap<String, BTreeMap<String, (Counts, Load)>>;

#[derive(Default)]
struct Pass {
    slots: Vec<Slot>,
    by_name: BTreeMap<(String, String), usize>,
    pairs: Vec<Pair>,
    by_engine: BTreeMap<String, Vec<usize>>,
    last: usize,
}

struct Slot {
    bounds: Bounds,
    counts: Counts,
    load: Load,
}

struct Pair {
    engine_hash: String,
    model: String,
    stacks: Vec<String>,
    slots: Vec<usize>,
}

/// Counts the records in `ranges`, and hands on the scrapes among them.
pub(super) fn fold(
    records: &mut dyn Records,
    ranges: &[Range],
    rules: &Rules<'_>,
    scraped: &mut dyn FnMut(&Scrape),
) -> Result<(Folded, Attribution), SloError> {
    let mut pass = Pass::default();
    for range in ranges {
        read(records, *range, &mut |observed| match observed {
            Observed::Request(sample) => pass.add(&sample, rules),
            Observed::Scrape(scrape) => scraped(scrape),
        })?;
    }
    let mut folded = Folded::new();
    for ((stack, engine), index) in pass.by_name {
        if let Some(slot) = pass.slots.get_mut(index) {
            folded.entry(stack).or_default().insert(engine, (slot.counts, std::mem::take(&mut slot.load)));
        }
    }
    let mut attribution = Attribution::new();
    for pair in pass.pairs {
        attribution.entry(pair.engine_hash).or_default().insert(pair.model, pair.stacks);
    }
    Ok((folded, attribution))
}

/// Visits what counts in one range, and says which range could not be read.
pub(super) fn read(
    records: &mut dyn Records,
    range: Range,
    visit: &mut dyn FnMut(Observed<'_>),
) -> Result<(), SloError> {
    let Range { ledger, from, to } = range;
    records.for_each(ledger, from, to, visit).map_err(|source| SloError::Records { ledger, from, to, source })
}

impl Pass {
    fn add(&mut self, sample: &Sample<'_>, rules: &Rules<'_>) {
        let is = |pair: &Pair| pair.engine_hash == sample.engine_hash && pair.model == sample.model;
        if !self.pairs.get(self.last).is_some_and(is) {
            let candidates = self.by_engine.get(sample.engine_hash);
            let known =
                candidates.and_then(|list| list.iter().copied().find(|&index| self.pairs.get(index).is_some_and(is)));
            self.last = known.unwrap_or_else(|| self.enter(sample, rules));
        }
        let Some(pair) = self.pairs.get(self.last) else { return };
        for &index in &pair.slots {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.counts.add(sample, &slot.bounds);
                slot.load.add(sample, slot.bounds.tokens);
            }
        }
    }

    /// A pair that occurs for the first time in this pass.
    fn enter(&mut self, sample: &Sample<'_>, rules: &Rules<'_>) -> usize {
        let (engine, model) = (sample.engine_hash.to_owned(), sample.model.to_owned());
        let stacks = (rules.attribute)(&engine, &model);
        let mut slots = Vec::new();
        for stack in &stacks {
            let Some(bounds) = (rules.bounds)(stack, &engine) else { continue };
            let new = self.slots.len();
            let index = *self.by_name.entry((stack.clone(), engine.clone())).or_insert(new);
            if index == new {
                self.slots.push(Slot { bounds, counts: Counts::default(), load: Load::default() });
            }
            slots.push(index);
        }
        let index = self.pairs.len();
        self.by_engine.entry(engine.clone()).or_default().push(index);
        self.pairs.push(Pair { engine_hash: engine, model, stacks, slots });
        index
    }
}

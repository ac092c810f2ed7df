//! The cuts that windows begin and end at.
//!
//! A window `(t - w, t]` begins at the last cut not after `t - w`; where there is none, at the ledgers' beginning. `None` as
//! a beginning means that, and sorts before every cut.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::domain::cut::Cut;
use crate::domain::event::Evidence;
use crate::domain::policy::WINDOW_SECONDS_MAX;
use crate::domain::time::Time;

/// A cut, as the windows need it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) instant: Time,
    /// Entries by ledger.
    pub(super) sizes: BTreeMap<u32, u64>,
    /// For the records between the cut before and this one: engine, model, and the stacks that they count for. By the
    /// governance state of this cut, and for good.
    pub(super) attribution: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// A run of positions in one metrics ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) ledger: u32,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Where a window of `seconds` that ends at `t` begins.
pub(super) fn start(marks: &VecDeque<Mark>, t: Time, seconds: u32) -> Option<Time> {
    let bound = t.plus_seconds(-i64::from(seconds));
    let after = marks.partition_point(|mark| mark.instant <= bound);
    after.checked_sub(1).and_then(|index| marks.get(index)).map(|mark| mark.instant)
}

/// The index from which cuts have to be kept after the cut of `t`: the one that the longest window begins at.
pub(super) fn oldest_needed(marks: &VecDeque<Mark>, t: Time) -> Option<usize> {
    let bound = t.plus_seconds(-i64::from(WINDOW_SECONDS_MAX));
    marks.partition_point(|mark| mark.instant <= bound).checked_sub(1)
}

/// What lies between the cut before and this one, ledger by ledger.
pub(super) fn ranges(before: Option<&Mark>, mark: &Mark) -> Vec<Range> {
    let from = |ledger: u32| before.and_then(|before| before.sizes.get(&ledger)).copied().unwrap_or(0);
    let ranges = mark.sizes.iter().map(|(&ledger, &to)| Range { ledger, from: from(ledger), to });
    ranges.filter(|range| range.from < range.to).collect()
}

/// The marks whose records lie after the cut of `start`, each with the one before it.
pub(super) fn intervals(marks: &VecDeque<Mark>, start: Option<Time>) -> impl Iterator<Item = (Option<&Mark>, &Mark)> {
    let first = start.map_or(0, |start| marks.partition_point(|mark| mark.instant <= start));
    (first..marks.len()).filter_map(move |index| {
        let before = index.checked_sub(1).and_then(|before| marks.get(before));
        marks.get(index).map(|mark| (before, mark))
    })
}

/// The positions between the cut of `start` and `cut`, with what the cut says of each ledger.
pub(super) fn evidence(marks: &VecDeque<Mark>, start: Option<Time>, cut: &Cut) -> Vec<Evidence> {
    let begin = start.and_then(|start| marks.iter().find(|mark| mark.instant == start));
    let from = |ledger: u32| begin.and_then(|mark| mark.sizes.get(&ledger)).copied().unwrap_or(0);
    let mut evidence: Vec<_> = cut.ledgers.iter().collect();
    evidence.sort_by_key(|listed| listed.ledger);
    evidence
        .into_iter()
        .map(|listed| Evidence {
            ledger: format!("metrics-{}", listed.ledger),
            from: from(listed.ledger),
            to: listed.size,
            size: listed.size,
            root: listed.root,
        })
        .collect()
}

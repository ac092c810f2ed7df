//! When the next cut is due, and how large each metrics ledger was at its instant.
//!
//! Where the broker stamps the records, a ledger's size at T is the number of its leaves before the first stamped after T:
//! known once there is such a leaf, or once a partition's end asked for after T was reached. Elsewhere it is the number of
//! leaves below an end asked for after T, so that the records of an outage count at the first cut after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::Reader;

use super::checks::Stamp;
use super::error::KafkaIntakeError;
use super::progress::{Partitions, Progress};
use crate::domain::cut::{CUT_SECONDS, Cut, CutLedger, latest_instant, next_instant};
use crate::domain::leaf::{self, Header};
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::projection::governance::ReportTimes;
use crate::sequencer::Shared;

/// The broker's clock may be behind ours by this much: an end shows that nothing stamped up to T is to come only this long
/// after T.
const GRACE_SECONDS: i64 = 2;
/// Without the broker's stamps there are no cuts for a time when nobody was here: one that is later than this is left out.
const LATE_SECONDS: i64 = 60;

/// The cut that is being made ready.
#[derive(Debug)]
pub struct Draft {
    /// Its instant.
    pub instant: Time,
    /// Ends asked for after the instant; the first of each partition counts.
    ends: BTreeMap<u32, u64>,
}

/// Reads what the cuts are made of.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// What the writer shares.
    pub shared: Arc<Shared>,
    /// How far each partition was read.
    pub partitions: Partitions,
    /// Who stamps the records.
    pub stamp: Stamp,
}

impl Draft {
    /// One of which nothing is known yet.
    pub const fn at(instant: Time) -> Self {
        Self { instant, ends: BTreeMap::new() }
    }
}

impl Sizes {
    /// The instant of the next cut, whether it has come yet or not; none before the first record or report.
    pub fn next_instant(&self, now: Time) -> Result<Option<Time>, KafkaIntakeError> {
        let (last, reports) = {
            let governance = self.shared.governance();
            (governance.last_cut.clone(), governance.reports.clone())
        };
        match self.stamp {
            Stamp::LogAppend => self.next_by_stamps(last.as_ref(), &reports),
            Stamp::Create => Ok(self.next_by_arrival(last.as_ref(), &reports, now)),
        }
    }

    fn next_by_stamps(&self, last: Option<&Cut>, reports: &ReportTimes) -> Result<Option<Time>, KafkaIntakeError> {
        let none = Time::default();
        // Latest activity before the last cut, and the first after it.
        let since = last.map_or(none, |cut| cut.instant);
        let (mut before, mut after) = (none, None);
        let mut see = |time: Time| {
            if time <= since {
                before = before.max(time);
            } else {
                after = Some(after.map_or(time, |first: Time| first.min(time)));
            }
        };
        reports.before_cut().into_iter().chain(reports.after_cut()).for_each(&mut see);
        for (number, reader) in self.readers() {
            let size = last.map_or(0, |cut| cut.size_of(number)).max(1);
            if size > 1 {
                see(header(&reader, size - 1)?.time);
            }
            if size < reader.size() {
                see(header(&reader, size)?.time);
            }
        }
        let at_once = after.map(|first| first.ceil_to_seconds(CUT_SECONDS));
        if last.is_none() {
            return Ok(at_once);
        }
        let regular = next_instant(since, before);
        let soon = at_once.map(|first| first.max(since.plus_seconds(CUT_SECONDS)));
        Ok(Some(soon.map_or(regular, |soon| soon.min(regular))))
    }

    fn next_by_arrival(&self, last: Option<&Cut>, reports: &ReportTimes, now: Time) -> Option<Time> {
        let arrivals: Vec<(Time, Time)> =
            self.partitions.all().values().filter_map(|progress| progress.arrivals()).collect();
        // What came before this start is known by its stamp alone, which may be ahead of any clock.
        let stamped =
            self.shared.metrics().values().filter(|state| state.size > 1).map(|state| state.last_time.min(now)).max();
        let next = if let Some(cut) = last {
            let active = arrivals.iter().map(|(_, last)| *last).chain(reports.latest()).chain(stamped).max()?;
            let next = next_instant(cut.instant, active);
            let is_late = now.micros_since(next) > LATE_SECONDS * MICROS_PER_SECOND;
            if is_late { latest_instant(now, active) } else { next }
        } else {
            let began = arrivals.iter().map(|(first, _)| *first).chain(reports.after_cut()).min();
            let began = began.map(|began| began.ceil_to_seconds(CUT_SECONDS));
            let is_late = began.is_none_or(|began| now.micros_since(began) > LATE_SECONDS * MICROS_PER_SECOND);
            if is_late { began.or(stamped).map(|_| now.floor_to_seconds(CUT_SECONDS))? } else { began? }
        };
        Some(next)
    }

    /// The cut, once every partition's size is known or known to be missing.
    pub fn cut(&self, draft: &mut Draft) -> Result<Option<Cut>, KafkaIntakeError> {
        let last = self.shared.governance().last_cut.clone();
        let progress = self.partitions.all();
        let mut cut = Cut { instant: draft.instant, ledgers: Vec::new(), missing: Vec::new() };
        for (number, reader) in self.readers() {
            let floor = last.as_ref().map_or(0, |cut| cut.size_of(number)).max(1);
            let known = match progress.get(&number) {
                Some(progress) => self.size_at(draft, number, &reader, progress, floor)?,
                None => None,
            };
            let size = match known {
                Some(size) => size,
                None if progress.get(&number).is_none_or(|progress| progress.is_unreadable()) => {
                    cut.missing.push(number);
                    floor
                }
                None => return Ok(None),
            };
            let root = reader.root_at(size).map_err(of(number))?;
            cut.ledgers.push(CutLedger { ledger: number, size, root });
        }
        Ok(Some(cut))
    }

    /// The size of one ledger at the instant, where it is known. It never falls below `floor`, that of the last cut.
    fn size_at(
        &self,
        draft: &mut Draft,
        number: u32,
        reader: &Reader,
        progress: &Progress,
        floor: u64,
    ) -> Result<Option<u64>, KafkaIntakeError> {
        let instant = draft.instant;
        // The order matters: what is durable by now was read before the end was compared.
        let end = progress.end();
        let next = progress.next();
        match self.stamp {
            Stamp::LogAppend => {
                let (size, after) = {
                    let metrics = self.shared.metrics();
                    metrics.get(&number).map_or((floor, None), |state| (state.size, state.first_after(instant)))
                };
                let at = after.unwrap_or(size).clamp(floor, size.max(floor));
                let at_end =
                    end.is_some_and(|end| end.asked_at >= instant.plus_seconds(GRACE_SECONDS) && next >= end.offset);
                Ok((at < size || at_end).then_some(at))
            }
            Stamp::Create => {
                if let Some(end) = end.filter(|end| end.asked_at >= instant) {
                    draft.ends.entry(number).or_insert(end.offset);
                }
                let Some(end) = draft.ends.get(&number).copied().filter(|end| next >= *end) else { return Ok(None) };
                partition_point(reader, floor..reader.size(), |header| header.offset.is_some_and(|offset| offset < end))
                    .map(Some)
            }
        }
    }

    fn readers(&self) -> BTreeMap<u32, Reader> {
        let readers = self.shared.readers();
        readers
            .into_iter()
            .filter_map(|(name, reader)| Some((crate::sequencer::metrics_number(&name)?, reader)))
            .collect()
    }
}

/// The first position of the range whose header is not `before` what is looked for.
fn partition_point(
    reader: &Reader,
    range: std::ops::Range<u64>,
    before: impl Fn(&Header) -> bool,
) -> Result<u64, KafkaIntakeError> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(&header(reader, middle)?) { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn header(reader: &Reader, position: u64) -> Result<Header, KafkaIntakeError> {
    let ledger = || reader.origin().to_owned();
    let entry = reader.entry(position).map_err(|source| KafkaIntakeError::Ledger { ledger: ledger(), source })?;
    // This node wrote the header itself; one that cannot be read counts as stamped at the epoch.
    Ok(leaf::split(&entry).map(|leaf| leaf.header).unwrap_or_default())
}

fn of(number: u32) -> impl FnOnce(ledger::Error) -> KafkaIntakeError {
    move |source| KafkaIntakeError::Ledger { ledger: format!("metrics-{number}"), source }
}

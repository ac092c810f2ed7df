//! When a cut is due, worked out from the stamps and reports that a node has: every ten seconds until twenty minutes after the
//! last record or report, then each full minute, and again soon after something comes.

use std::collections::BTreeMap;

use govledger::domain::cut::Cut;
use govledger::domain::leaf;
use govledger::domain::time::Time;
use govledger::ingest::kafka::decisions::Stamp;
use ledger::Reader;

const SECOND: i64 = 1_000_000;

/// What a node's ledgers hold, and when it came to this process.
#[derive(Debug, Default)]
pub(crate) struct Spacing {
    stamps: BTreeMap<u32, Vec<i64>>,
    /// The first and the last arrival since the start.
    arrived: Option<(i64, i64)>,
}

impl Spacing {
    /// Another process: it knows the ledgers, and nothing of when their entries came.
    pub(crate) fn restart(&mut self) {
        self.arrived = None;
    }

    pub(crate) fn arrive(&mut self, now: Time) {
        let now = now.micros();
        self.arrived = Some(self.arrived.map_or((now, now), |(first, _)| (first, now)));
    }

    pub(crate) fn follow(&mut self, number: u32, reader: &Reader) {
        let stamps = self.stamps.entry(number).or_default();
        for position in stamps.len() as u64 + 1..reader.size() {
            let entry = reader.entry(position).unwrap();
            stamps.push(leaf::split(&entry).unwrap().header.time.micros());
        }
    }

    /// The instant of the cut after `last` where it is due by `now`.
    pub(crate) fn due(&self, stamp: Stamp, last: Option<&Cut>, reports: &[Time], now: Time) -> Option<Time> {
        let reports: Vec<i64> = reports.iter().map(|time| time.micros()).collect();
        let due = match stamp {
            Stamp::LogAppend => self.by_stamps(last, &reports),
            Stamp::Create => self.by_arrival(last, &reports, now.micros()),
        };
        due.filter(|due| *due <= now.micros()).map(Time::from_micros)
    }

    fn by_stamps(&self, last: Option<&Cut>, reports: &[i64]) -> Option<i64> {
        let since = last.map_or(i64::MIN, |cut| cut.instant.micros());
        let mut activity = reports.to_vec();
        for (number, stamps) in &self.stamps {
            let counted = usize::try_from(last.map_or(0, |cut| cut.size_of(*number)).max(1) - 1).unwrap();
            activity.extend(stamps[..counted].last());
            activity.extend(stamps.get(counted));
        }
        let first_after = activity.iter().filter(|time| **time > since).min().map(|time| ceil(*time, 10));
        let Some(last) = last else { return first_after };
        let before = activity.iter().filter(|time| **time <= since).max();
        let regular = next(last.instant.micros(), before.copied().unwrap_or_default());
        let soon = first_after.map(|first| first.max(since + 10 * SECOND));
        Some(soon.map_or(regular, |soon| soon.min(regular)))
    }

    /// Without the broker's stamps: by what came to this process, and no cut for a time when nobody was there to see.
    fn by_arrival(&self, last: Option<&Cut>, reports: &[i64], now: i64) -> Option<i64> {
        let here = self.stamps.values().flatten().max().map(|stamp| (*stamp).min(now));
        let Some(last) = last else {
            let first = reports.iter().copied().chain(self.arrived.map(|(first, _)| first)).min();
            return match first.map(|first| ceil(first, 10)) {
                Some(first) if now - first <= 60 * SECOND => Some(first),
                Some(_) => Some(floor(now, 10)),
                None => here.map(|_| floor(now, 10)),
            };
        };
        let active = reports.iter().copied().chain(self.arrived.map(|(_, last)| last)).chain(here).max()?;
        let due = next(last.instant.micros(), active);
        let is_quiet = floor(now, 10) > active + 1_200 * SECOND;
        Some(if now - due > 60 * SECOND { floor(now, if is_quiet { 60 } else { 10 }) } else { due })
    }
}

fn next(last: i64, active: i64) -> i64 {
    let soon = last + 10 * SECOND;
    if soon <= active + 1_200 * SECOND { soon } else { ceil(soon, 60) }
}

fn floor(micros: i64, seconds: i64) -> i64 {
    micros - micros.rem_euclid(seconds * SECOND)
}

fn ceil(micros: i64, seconds: i64) -> i64 {
    floor(micros + seconds * SECOND - 1, seconds)
}

//! What the scrapes of the last quarter of an hour said, by stack and cut.
//!
//! A scrape counts at the cut that brought it, as a record does. One that is not after its server's last one was delivered
//! twice, and changes nothing. A counter that went back was reset by a restart: what it counts since then is its growth.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::domain::metric::Scrape;
use crate::domain::metric::scrape::Model;
use crate::domain::time::Time;

/// Readings kept of one stack and cut: 25 servers scraped each second. Of more, a server's last one stands for those before.
const READINGS_MAX: usize = 256;

/// The scrapes of all stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrapes(BTreeMap<String, OfStack>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OfStack {
    /// By the cut that brought them, oldest first.
    cuts: VecDeque<(Time, Vec<Reading>)>,
    /// What each server's counters last were.
    servers: BTreeMap<String, Server>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Server {
    scraped_at: Option<Time>,
    /// The cut of its last scrape.
    seen: Time,
    counters: BTreeMap<String, Counted>,
}

/// One scrape, as far as anything asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The server.
    pub instance: String,
    /// When it was asked.
    pub scraped_at: Option<Time>,
    /// Free and total bytes of its tightest GPU.
    pub gpu: Option<(u64, u64)>,
    /// The busiest GPU's share of time in use, in millionths.
    pub utilization_ppm: Option<u64>,
    /// KV blocks in use and in all, over its models.
    pub kv_blocks: Option<(u64, u64)>,
    /// Tokens that a block holds; of several models the first that says.
    pub tokens_per_block: Option<u64>,
    /// Requests that the batcher takes at once; of several models the largest.
    pub max_requests: Option<u64>,
    /// What its counters grew by since the scrape before.
    pub grown: Counted,
    /// Counters that went back.
    pub resets: u64,
}

/// Counters of a server, or their growth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Time in Triton's queue, in microseconds.
    pub queue_us: u64,
    /// Requests that succeeded.
    pub requests: u64,
    /// Executions, each of one batch.
    pub executions: u64,
    /// Inferences.
    pub inferences: u64,
}

impl Counted {
    fn of(model: &Model) -> Self {
        Self {
            queue_us: model.queue_us.unwrap_or(0),
            requests: model.requests.unwrap_or(0),
            executions: model.executions.unwrap_or(0),
            inferences: model.inferences.unwrap_or(0),
        }
    }

    /// What they grew by since `before`, and whether any went back: then all were reset.
    const fn since(self, before: Self) -> (Self, bool) {
        let reset = self.queue_us < before.queue_us
            || self.requests < before.requests
            || self.executions < before.executions
            || self.inferences < before.inferences;
        if reset {
            return (self, true);
        }
        let grown = Self {
            queue_us: self.queue_us - before.queue_us,
            requests: self.requests - before.requests,
            executions: self.executions - before.executions,
            inferences: self.inferences - before.inferences,
        };
        (grown, false)
    }

    /// Adds those of another model, server or cut.
    pub const fn add(&mut self, other: Self) {
        self.queue_us = self.queue_us.saturating_add(other.queue_us);
        self.requests = self.requests.saturating_add(other.requests);
        self.executions = self.executions.saturating_add(other.executions);
        self.inferences = self.inferences.saturating_add(other.inferences);
    }
}

impl Scrapes {
    /// Takes one scrape in, which the cut of `instant` brought.
    pub fn take(&mut self, instant: Time, scrape: &Scrape) {
        let stack = self.0.entry(scrape.stack.to_string()).or_default();
        let server = stack.servers.entry(scrape.instance.to_string()).or_default();
        let is_known = server.scraped_at.zip(scrape.scraped_at).is_some_and(|(last, this)| this <= last);
        if is_known {
            return;
        }
        let reading = server.read(scrape);
        server.seen = instant;
        match stack.cuts.back_mut() {
            Some((cut, readings)) if *cut == instant => keep(readings, reading),
            _ => stack.cuts.push_back((instant, vec![reading])),
        }
    }

    /// Forgets what the cuts up to `oldest` brought.
    pub fn trim(&mut self, oldest: Time) {
        for stack in self.0.values_mut() {
            while stack.cuts.pop_front_if(|(cut, _)| *cut <= oldest).is_some() {}
            stack.servers.retain(|_, server| server.seen > oldest);
        }
        self.0.retain(|_, stack| !stack.servers.is_empty());
    }

    /// Stacks of which something is known.
    pub fn stacks(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The readings of `stack` after the cut of `start`, oldest first, each with its cut.
    pub fn after(&self, stack: &str, start: Option<Time>) -> impl DoubleEndedIterator<Item = (Time, &Reading)> {
        let cuts = self.0.get(stack).into_iter().flat_map(|stack| &stack.cuts);
        cuts.filter(move |(cut, _)| start < Some(*cut))
            .flat_map(|(cut, readings)| readings.iter().map(move |reading| (*cut, reading)))
    }

    /// The last reading of each server of `stack` after the cut of `start`, by name.
    pub fn last_of_each(&self, stack: &str, start: Option<Time>) -> BTreeMap<&str, &Reading> {
        self.after(stack, start).map(|(_, reading)| (reading.instance.as_str(), reading)).collect()
    }

    /// Free and total bytes of the tightest GPU that the servers' last readings after the cut of `start` tell of, and the
    /// number of readings that tell of one.
    pub fn headroom(&self, stack: &str, start: Option<Time>) -> Option<(u64, (u64, u64))> {
        let tell = self.after(stack, start).filter(|(_, reading)| reading.gpu.is_some());
        let mut last = BTreeMap::new();
        let mut readings = 0;
        for (_, reading) in tell {
            readings += 1;
            last.insert(reading.instance.as_str(), reading.gpu);
        }
        tightest(last.into_values().flatten()).map(|gpu| (readings, gpu))
    }
}

/// The pair of free and total with the smallest share free; the first of several.
pub(super) fn tightest(pairs: impl Iterator<Item = (u64, u64)>) -> Option<(u64, u64)> {
    pairs.reduce(|tightest, next| if is_tighter(next, tightest) { next } else { tightest })
}

/// Whether the first has the smaller share free: without a division.
pub(super) fn is_tighter(one: (u64, u64), other: (u64, u64)) -> bool {
    u128::from(one.0) * u128::from(other.1) < u128::from(other.0) * u128::from(one.1)
}

fn keep(readings: &mut Vec<Reading>, mut reading: Reading) {
    if readings.len() < READINGS_MAX {
        readings.push(reading);
    } else if let Some(last) = readings.iter_mut().rev().find(|known| known.instance == reading.instance) {
        reading.grown.add(last.grown);
        reading.resets += last.resets;
        *last = reading;
    }
}

impl Server {
    fn read(&mut self, scrape: &Scrape) -> Reading {
        let mut reading = Reading {
            instance: scrape.instance.to_string(),
            scraped_at: scrape.scraped_at,
            gpu: scrape.tightest_gpu(),
            utilization_ppm: scrape.gpus.iter().filter_map(|gpu| gpu.utilization_ppm).max(),
            tokens_per_block: scrape.models.iter().find_map(|model| model.kv_tokens_per_block),
            max_requests: scrape.models.iter().filter_map(|model| model.max_requests).max(),
            ..Reading::default()
        };
        let mut counters = BTreeMap::new();
        for model in &scrape.models {
            if let Some((used, max)) = kv_blocks(model) {
                let known = reading.kv_blocks.get_or_insert((0, 0));
                *known = (known.0.saturating_add(used), known.1.saturating_add(max));
            }
            let name = format!("{}/{}", model.name, model.version);
            let now = Counted::of(model);
            if let Some(before) = self.counters.get(&name) {
                let (grown, reset) = now.since(*before);
                reading.grown.add(grown);
                reading.resets += u64::from(reset);
            }
            counters.insert(name, now);
        }
        self.counters = counters;
        self.scraped_at = scrape.scraped_at;
        reading
    }
}

/// Blocks in use and in all. The inflight batcher's `free` counts a block that is used and may be evicted as free, so what is
/// in use is what it says is in use, and only where it does not say so, what is not free.
fn kv_blocks(model: &Model) -> Option<(u64, u64)> {
    let max = model.kv_max?;
    let used = model.kv_used.or_else(|| model.kv_free.map(|free| max.saturating_sub(free)))?;
    Some((used, max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::metric::scrape::Gpu;

    fn scrape(instance: &str, at: i64, used: u64, requests: u64) -> Scrape {
        let model = Model {
            name: "m".into(),
            version: "1".into(),
            requests: Some(requests),
            queue_us: Some(requests * 10),
            ..Model::default()
        };
        let gpu = |uuid: &str, used| Gpu {
            uuid: uuid.into(),
            used_bytes: Some(used),
            total_bytes: Some(100),
            utilization_ppm: None,
        };
        Scrape {
            stack: "s".into(),
            instance: instance.into(),
            scraped_at: Some(Time::from_seconds(at)),
            gpus: vec![gpu("a", used), gpu("b", used / 2)],
            models: vec![model],
        }
    }

    #[test]
    fn a_counter_that_was_reset_counts_from_its_reset_on() {
        let mut scrapes = Scrapes::default();
        for (at, requests) in [(5, 100), (15, 130), (25, 20), (25, 20), (35, 50)] {
            scrapes.take(Time::from_seconds(at + 5), &scrape("x", at, 10, requests));
        }
        let grown: Vec<(u64, u64)> =
            scrapes.after("s", None).map(|(_, reading)| (reading.grown.requests, reading.resets)).collect();
        assert_eq!(grown, [(0, 0), (30, 0), (20, 1), (30, 0)], "the scrape that came twice counts once");
    }

    #[test]
    fn the_tightest_gpu_of_the_last_readings_decides() {
        let mut scrapes = Scrapes::default();
        let mut take = |instance: &str, cut: i64, used| {
            scrapes.take(Time::from_seconds(cut), &scrape(instance, cut, used, 1));
        };
        take("x", 10, 90);
        take("y", 10, 30);
        take("x", 20, 40);
        assert_eq!(scrapes.headroom("s", None), Some((3, (60, 100))), "x was at 90 before and is at 40 now");
        assert_eq!(scrapes.headroom("s", Some(Time::from_seconds(20))), None);
        assert_eq!(scrapes.headroom("t", None), None);
        scrapes.trim(Time::from_seconds(10));
        assert_eq!(scrapes.headroom("s", None), Some((1, (60, 100))));
        scrapes.trim(Time::from_seconds(20));
        assert_eq!(scrapes, Scrapes::default());
    }

    #[test]
    fn what_a_cut_brings_is_bounded() {
        let mut scrapes = Scrapes::default();
        for at in 0..1_000 {
            scrapes.take(Time::from_seconds(2_000), &scrape("x", at, 10, 7 * at.unsigned_abs()));
        }
        let all: Vec<_> = scrapes.after("s", None).collect();
        assert_eq!(all.len(), READINGS_MAX);
        assert_eq!(all.iter().map(|(_, reading)| reading.grown.requests).sum::<u64>(), 7 * 999);
    }
}

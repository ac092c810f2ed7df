//! Lives of a service, each from one seed: a model of the source, faults of disk and process between and within steps, and a
//! follower with another schedule that never crashes.
//!
//! `GOVLEDGER_SIM_SEEDS=FROM..TO cargo test --test simulation` runs another range; a seed that fails is printed.

#![cfg(test)]

#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/embedded.rs"]
mod embedded;
#[path = "simulation/facts.rs"]
mod facts;
#[path = "simulation/life.rs"]
mod life;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/past.rs"]
mod past;
#[path = "simulation/spacing.rs"]
mod spacing;
#[path = "simulation/stopped.rs"]
mod stopped;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use govledger::domain::policy::{Policy, Rule, RuleOverride};

use facts::Facts;

const SEEDS: Range<u64> = 0..1_000;

#[expect(clippy::disallowed_methods, reason = "the seeds of a long run are handed in by the environment")]
fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("GOVLEDGER_SIM_SEEDS") else { return SEEDS };
    let (from, to) = range.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// What there was in the lives, so that a run shows that it tried what it is for.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    cuts: u64,
    said: u64,
    approved: u64,
    expired: u64,
    exhausted: u64,
    refused_cuts: u64,
}

impl Counts {
    fn of(facts: &Facts) -> Self {
        let [approved, expired, exhausted, refused_cuts] = facts.counts();
        let (cuts, said) = (facts.cuts.len() as u64, facts.said.len() as u64);
        Self { cuts, said, approved, expired, exhausted, refused_cuts }
    }

    fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.said += other.said;
        self.approved += other.approved;
        self.expired += other.expired;
        self.exhausted += other.exhausted;
        self.refused_cuts += other.refused_cuts;
    }
}

/// A directory in memory where the machine has one: what a sync costs is tried elsewhere.
fn scratch() -> tempfile::TempDir {
    let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { env!("CARGO_TARGET_TMPDIR") };
    tempfile::Builder::new().prefix("govledger-sim-").tempdir_in(base).unwrap()
}

/// Short policies, so that a life of minutes has alerts.
fn quick_policy() -> Policy {
    let quick = RuleOverride { for_s: Some(10), keep_firing_for_s: Some(10), ..RuleOverride::default() };
    let rules = [(Rule::LatencyP95, quick)].into();
    Policy { revision: 1, min_samples: 1, rules, ..Policy::default() }
}

/// Lives every seed, on all cores.
fn live_all(life: fn(u64) -> Counts) -> Counts {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let (mut failed, mut counts) = (Vec::new(), Counts::default());
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                return (failed, counts);
            }
            match std::panic::catch_unwind(|| life(seed)) {
                Ok(lived) => counts.add(lived),
                Err(_) => failed.push(seed),
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (mut failed, mut counts) = (Vec::new(), Counts::default());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        for (of_thread, lived) in threads.into_iter().map(|thread| thread.join().unwrap()) {
            failed.extend(of_thread);
            counts.add(lived);
        }
    });
    assert!(failed.is_empty(), "failed seeds: {failed:?}; replay one: GOVLEDGER_SIM_SEEDS=N..N+1");
    eprintln!("{} lives: {counts:?}", seeds.end - seeds.start);
    counts
}

#[test]
fn every_seed_keeps_the_invariants() {
    let counts = live_all(life::live);
    let each = [counts.cuts, counts.said, counts.approved, counts.expired, counts.exhausted, counts.refused_cuts];
    assert!(seeds().end - seeds().start < 100 || !each.contains(&0), "something was never tried: {counts:?}");
}

#[test]
fn every_embedded_life_keeps_what_it_acknowledged() {
    let counts = live_all(embedded::live);
    let each = [counts.cuts, counts.said, counts.approved, counts.expired, counts.exhausted];
    assert!(seeds().end - seeds().start < 100 || !each.contains(&0), "something was never tried: {counts:?}");
}

//! Seeded lives of a ledger on a disk that may lose or keep any page, length and name that was not synced.
//!
//! A life is a run of appends, rolls, sealings, clean stops, kills, failed operations and losses of power, some of
//! them while the ledger is being opened after another. After each, everything acknowledged is there,
//! nothing else is, and the whole ledger is sound.
//!
//! `GOVLEDGER_SEED=N` plays life N alone; `GOVLEDGER_SEEDS=A..B` plays others than the default.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{
    audit_sound,
    life::{Told, dir, disk},
    rng::Rng,
    sim::{Fault, SimDisk, Survives},
};
use ledger::{Error, HeadState, Ledger, Options, Recovery};

/// Enough lives for over 10,000 crash points.
const SEEDS: Range<u64> = 0..1_000;
/// A life ends after so many crash points: long lives take long to audit.
const CRASHES_MAX: u64 = 12;

#[derive(Debug, Default)]
struct Tally {
    crashes: u64,
    in_recovery: u64,
    tails_cut: u64,
    trees_rebuilt: u64,
    segments_removed: u64,
    segments_sealed: u64,
    sealings_failed: u64,
    sealings_removed: u64,
    heads_behind: u64,
    heads_torn: u64,
    size_max: u64,
}

struct Life {
    rng: Rng,
    options: Options,
    disk: SimDisk,
    told: Told,
    tally: Tally,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let page_bytes = [64, 512, 512, 4_096][rng.index(4)];
        let options = Options { segment_bytes_max: 1_800 + rng.below(5_000), sealed_block_bytes: 700 };
        Self { disk: disk(page_bytes), rng, options, told: Told::default(), tally: Tally::default() }
    }

    fn live(mut self) -> Tally {
        while self.tally.crashes < CRASHES_MAX {
            self.disk.with_kernel(self.rng.number());
            if !self.rng.one_in(4) {
                let within = if self.rng.one_in(4) { 16 } else { 90 };
                let after = self.rng.index(within);
                let fault = self.fault();
                self.disk.fault_at(after, fault, self.rng.one_in(2));
            }
            // Whatever error ends this, what counts is what is found afterwards.
            let ended = self.work();
            let is_recovering = ended.is_err() && self.told.acknowledged.is_none();
            self.tally.in_recovery += u64::from(is_recovering || matches!(ended, Err(Ended::Opening)));
            self.stop();
        }
        self.settle();
        self.tally
    }

    fn fault(&mut self) -> Fault {
        match self.rng.below(6) {
            0 => Fault::Fail,
            1 | 2 => Fault::Torn(self.rng.index(700)),
            3 => Fault::FailedClean,
            4 => Fault::Full(self.rng.index(700)),
            _ => Fault::DoneButFailed,
        }
    }

    /// Opens, checks and appends until something fails or the life goes on elsewhere.
    fn work(&mut self) -> Result<(), Ended> {
        let mut ledger = self.start().map_err(|error| self.opening(&error))?;
        for _ in 0..=self.rng.below(14) {
            let count = if self.rng.one_in(10) { 40 } else { 1 + self.rng.below(9) };
            self.told.append(&mut ledger, count).map_err(|_error| Ended::Appending)?;
            if self.rng.one_in(3) {
                self.seal(&ledger);
            }
        }
        Ok(())
    }

    /// Seals some segments. Sealing may fail on the disk that was made to fail, and stops nobody.
    fn seal(&mut self, ledger: &Ledger) {
        let sealer = ledger.sealer();
        for _ in 0..=self.rng.below(3) {
            match sealer.seal_next() {
                Ok(Some(_)) => self.tally.segments_sealed += 1,
                Ok(None) => break,
                Err(error) => {
                    assert!(self.disk.fault_came() && matches!(error, Error::Io { .. }), "{error}");
                    self.tally.sealings_failed += 1;
                }
            }
        }
        assert!(ledger.poison().is_none());
    }

    fn start(&mut self) -> Result<Ledger, Error> {
        let opened = self.told.open(&self.disk, self.options);
        let (ledger, report) = match opened {
            Err(Error::NoLedger { .. }) if self.told.acknowledged.is_none() => {
                return self.told.create(&self.disk, self.options);
            }
            other => other?,
        };
        self.tally.count(&report);
        Ok(ledger)
    }

    /// Opening may fail on the disk that was made to fail, or where memory forgot a page between two reads,
    /// and never for damage.
    fn opening(&self, error: &Error) -> Ended {
        let Error::Io { action, .. } = error else { panic!("{error}") };
        assert!(self.disk.fault_came() || *action == "make durable", "{error}");
        Ended::Opening
    }

    /// The process ends; the machine may go on, or lose power and keep any part of what was not synced.
    fn stop(&mut self) {
        self.tally.crashes += 1;
        if self.rng.one_in(4) {
            self.disk = self.disk.kill();
            if self.rng.one_in(2) {
                self.disk.evict();
            }
            return;
        }
        let survives = match self.rng.below(8) {
            0 => Survives::Nothing,
            1 => Survives::Everything,
            2 => Survives::File("head"),
            _ => Survives::Seeded(self.rng.number()),
        };
        // Of one moment, a second outcome is looked at too, and not lived on with.
        let other = self.disk.lose_power(Survives::Seeded(self.rng.number()));
        self.look(&other);
        self.disk = self.disk.lose_power(survives);
        if self.rng.one_in(3) {
            let now = self.disk.kill();
            self.look(&now);
        }
    }

    /// A start on a healthy disk, and an audit.
    fn look(&mut self, disk: &SimDisk) {
        self.tally.crashes += 1;
        let mut told = self.told.clone();
        match told.open(disk, self.options) {
            Ok((ledger, report)) => {
                self.tally.count(&report);
                assert_eq!(audit_sound(&disk.arc(), dir()).size, ledger.size());
            }
            Err(Error::NoLedger { .. }) if told.acknowledged.is_none() => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// In the end all is opened, audited and gone on with.
    fn settle(&mut self) {
        self.disk = self.disk.kill();
        let mut ledger = self.start().unwrap();
        self.told.append(&mut ledger, 5).unwrap();
        drop(ledger);
        let (ledger, report) = self.told.open(&self.disk, self.options).unwrap();
        assert!(report.was_clean(), "{report:?}");
        assert_eq!(audit_sound(&self.disk.arc(), dir()).size, ledger.size());
    }
}

#[derive(Clone, Copy, Debug)]
enum Ended {
    Opening,
    Appending,
}

#[expect(clippy::disallowed_methods, reason = "a test is told its seeds through the environment")]
fn seeds() -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    if let Ok(seed) = std::env::var("GOVLEDGER_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    std::env::var("GOVLEDGER_SEEDS").map_or(SEEDS, |range| {
        let (from, to) = range.split_once("..").unwrap();
        number(from)..number(to)
    })
}

#[test]
fn lives_with_crashes() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let lived = std::panic::catch_unwind(|| Life::new(seed).live());
                    let tally = lived.unwrap_or_else(|_| panic!("replay with GOVLEDGER_SEED={seed}"));
                    total.lock().unwrap().add(&tally);
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    eprintln!("seeds {seeds:?}: {total:?}");
    let is_whole = seeds.end - seeds.start >= SEEDS.end;
    if is_whole {
        assert!(total.crashes >= 10_000, "{total:?}");
        // The lives come to every part of recovery.
        assert!(total.tails_cut > 100 && total.trees_rebuilt > 30, "{total:?}");
        assert!(
            total.segments_sealed > 1_000 && total.sealings_failed > 100 && total.sealings_removed > 30,
            "{total:?}"
        );
        assert!(total.segments_removed > 10 && total.heads_behind > 100 && total.in_recovery > 100, "{total:?}");
    }
}

impl Tally {
    fn count(&mut self, report: &Recovery) {
        self.tails_cut += u64::from(report.tail_bytes_cut > 0);
        self.trees_rebuilt += u64::from(report.tree_rebuilt);
        self.segments_removed += u64::from(report.empty_segment_removed);
        self.sealings_removed += report.sealings_removed;
        self.heads_behind += u64::from(matches!(report.head, HeadState::Behind { .. }));
        self.heads_torn += u64::from(report.head == HeadState::Unreadable);
        self.size_max = self.size_max.max(report.size);
    }

    fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.in_recovery += other.in_recovery;
        self.tails_cut += other.tails_cut;
        self.trees_rebuilt += other.trees_rebuilt;
        self.segments_removed += other.segments_removed;
        self.segments_sealed += other.segments_sealed;
        self.sealings_failed += other.sealings_failed;
        self.sealings_removed += other.sealings_removed;
        self.heads_behind += other.heads_behind;
        self.heads_torn += other.heads_torn;
        self.size_max = self.size_max.max(other.size_max);
    }
}

//! One byte of a ledger's directory changed at a time, every byte in its turn: the audit reports it, a start
//! either says that the ledger is damaged, or opens one that is right as far as anybody can read it; and no
//! reader hands out a wrong entry, hash, root or proof.
//!
//! Checked here: every byte of a small ledger, and every 97th of one of 1,000 entries; of both with their segments
//! raw, and sealed. `GOVLEDGER_FLIPS=all` changes every byte of the latter.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{
    entry,
    life::{Told, check_answers, dir, disk, open},
    seal_all,
    sim::SimDisk,
    verifier,
};
use ledger::{Error, Hash, Options, Reader, tree::Frontier, verify::audit_on};

/// A ledger of so many entries in batches that grow, sealed or not, and the root at each size.
fn ledger(size: u64, options: Options, is_sealed: bool) -> (SimDisk, Vec<Hash>) {
    let (disk, mut told) = (disk(512), Told::default());
    let mut ledger = told.create(&disk, options).unwrap();
    let mut batch = 3;
    while told.size() < size {
        told.append(&mut ledger, batch.min(size - told.size())).unwrap();
        batch = batch * 2 % 257;
    }
    let mut frontier = Frontier::new();
    let mut roots = vec![frontier.root()];
    for position in 0..size {
        frontier.push(ledger::tree::leaf_hash(&entry(position)));
        roots.push(frontier.root());
    }
    if is_sealed {
        assert!(seal_all(&ledger.sealer()).unwrap() > 1);
    }
    drop(ledger);
    (disk.kill(), roots)
}

/// How a start takes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Damage,
    /// It made again what was wrong, or said that the head file is not valid.
    Repaired,
    /// What is wrong is not read by a start.
    NotRead,
}

fn check_flip(disk: &SimDisk, path: &Path, byte: usize, roots: &[Hash], deep: bool) -> Start {
    let what = format!("byte {byte} of {}", path.display());
    let changed = disk.kill();
    changed.with_file(path, |bytes| bytes[byte] ^= 1 << (byte % 8));
    match audit_on(&changed.arc(), dir(), &verifier(), &|_| ()) {
        Ok(report) => assert!(!report.is_ok(), "{what}: the audit does not see it"),
        Err(error) => assert!(error.damage().is_some(), "{what}: {error}"),
    }
    if deep {
        check_answers(&changed, roots);
        check_tiles(&changed, disk);
    }
    let size = roots.len() as u64 - 1;
    let (start, ledger) = match open(&changed, Options::default()) {
        Err(error) => {
            assert!(error.damage().is_some(), "{what}: {error}");
            return Start::Damage;
        }
        Ok((ledger, report)) if report.was_clean() => (Start::NotRead, ledger),
        Ok((ledger, _)) => (Start::Repaired, ledger),
    };
    assert_eq!((ledger.size(), ledger.root()), (size, roots[roots.len() - 1]), "{what}");
    drop(ledger);
    if start == Start::Repaired {
        let report = audit_on(&changed.arc(), dir(), &verifier(), &|_| ()).unwrap();
        assert!(report.is_ok(), "{what}: said to be made again, and is not: {report:?}");
    }
    start
}

/// No tile or bundle is handed out that is not the right one.
fn check_tiles(changed: &SimDisk, good: &SimDisk) {
    let Ok(reader) = Reader::open_on(changed.arc(), dir(), &verifier()) else { return };
    let right = Reader::open_on(good.arc(), dir(), &verifier()).unwrap();
    for path in ledger::TilePath::all_at(right.size()) {
        if let Ok(tile) = reader.tile(&path) {
            assert_eq!(tile, right.tile(&path).unwrap(), "{path}");
        }
    }
}

/// Changes every `stride`-th byte; of every `deep`-th of them everything is read.
fn check_flips(size: u64, options: Options, is_sealed: bool, stride: usize, deep: usize) {
    let (disk, roots) = ledger(size, options, is_sealed);
    let files: Vec<(String, usize)> = disk.image().into_iter().map(|(path, bytes)| (path, bytes.len())).collect();
    let flips: Vec<(&str, usize)> =
        files.iter().flat_map(|(path, len)| (0..*len).map(move |byte| (&path[..], byte))).step_by(stride).collect();
    let (next, table) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<(String, Start), u64>::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some((nth, (path, byte))) =
                    flips.get(next.fetch_add(1, Ordering::Relaxed)).map(|flip| (next.load(Ordering::Relaxed), flip))
                {
                    let start = check_flip(&disk, Path::new(path), *byte, &roots, nth.is_multiple_of(deep));
                    let kind = path.trim_start_matches("/data/ledger/").split('/').next().unwrap().to_owned();
                    *table.lock().unwrap().entry((kind, start)).or_default() += 1;
                }
            });
        }
    });
    let table = table.into_inner().unwrap();
    eprintln!("{size} entries, {} files, {} bytes changed: {table:?}", files.len(), flips.len());
    assert_eq!(table.values().sum::<u64>(), flips.len() as u64);
    assert!(table.keys().any(|(kind, start)| kind == "segments" && *start == Start::Damage));
    // What follows from the segments is made again, and stops nobody.
    assert!(table.keys().all(|(kind, start)| kind == "segments" || *start != Start::Damage), "{table:?}");
}

#[test]
fn every_byte_of_a_small_ledger() {
    check_flips(60, Options { segment_bytes_max: 3_500, sealed_block_bytes: 700 }, false, 1, 32);
}

#[test]
fn every_byte_of_a_small_sealed_ledger() {
    check_flips(60, Options { segment_bytes_max: 3_500, sealed_block_bytes: 700 }, true, 1, 8);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test is told by the environment how much to do")]
fn bytes_of_a_sealed_ledger_of_a_thousand_entries() {
    let stride = if std::env::var("GOVLEDGER_FLIPS").is_ok_and(|value| value == "all") { 1 } else { 97 };
    check_flips(1_000, Options { segment_bytes_max: 30_000, sealed_block_bytes: 4_000 }, true, stride, 8);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test is told by the environment how much to do")]
fn bytes_of_a_ledger_of_a_thousand_entries() {
    let stride = if std::env::var("GOVLEDGER_FLIPS").is_ok_and(|value| value == "all") { 1 } else { 97 };
    check_flips(1_000, Options { segment_bytes_max: 30_000, sealed_block_bytes: 700 }, false, stride, 32);
}

#[test]
fn a_ledger_that_is_not_changed_is_right() {
    for is_sealed in [false, true] {
        let (disk, roots) = ledger(300, Options { segment_bytes_max: 5_000, sealed_block_bytes: 700 }, is_sealed);
        check_answers(&disk, &roots);
        check_tiles(&disk, &disk);
        assert!(matches!(open(&disk, Options::default()), Ok((_, report)) if report.was_clean()));
    }
    assert!(matches!(open(&SimDisk::new(512), Options::default()), Err(Error::NoLedger { .. })));
}

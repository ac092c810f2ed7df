//! What the ledger's tests share: a key, entries, one way to make a ledger, and one way to check all of it.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of this, and all of it is test code"
)]

pub mod life;
pub mod rng;
pub mod sim;

use std::{path::Path, sync::Arc};

use ledger::{
    EntrySource, Error, Ledger, LedgerKey, Options, Sealer, VerifierKey,
    disk::Disk,
    verify::{AuditReport, audit_on},
};

pub const ORIGIN: &str = "node-1/governance";

pub fn key() -> LedgerKey {
    LedgerKey::generate([42; 32])
}

pub fn verifier() -> VerifierKey {
    key().verifier_key(ORIGIN)
}

/// Small segments, so that a few batches go over several.
pub fn options() -> Options {
    Options { segment_bytes_max: 4_096, sealed_block_bytes: 700 }
}

/// The entry at a position: lengths vary, so that frames lie at all alignments.
pub fn entry(position: u64) -> Vec<u8> {
    let len = usize::try_from(position * 37 % 101).unwrap();
    format!("entry {position} {}", "x".repeat(len)).into_bytes()
}

pub fn entries(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(entry).collect()
}

/// A ledger of `size` entries in batches of varying length.
pub fn ledger_of(dir: &Path, size: u64, options: Options) -> Ledger {
    let mut ledger = Ledger::create(dir, ORIGIN, key(), options, &entry(0)).unwrap();
    let mut batch = 1;
    while ledger.size() < size {
        let end = size.min(ledger.size() + batch);
        ledger.append_entries(&entries(ledger.size()..end)).unwrap();
        batch = batch % 700 * 3 + 1;
    }
    ledger
}

/// Whether a source holds exactly the entries of these positions, each provable.
pub fn check_entries(source: &dyn EntrySource, size: u64) {
    assert_eq!(source.size(), size);
    let mut next = 0;
    source
        .for_each_entry(0..size, &mut |position, found| {
            assert_eq!(position, next);
            assert_eq!(found, entry(position), "position {position}");
            next += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(next, size);
}

/// Seals every segment before the last, and says how many there were to seal.
pub fn seal_all(sealer: &Sealer) -> Result<u64, Error> {
    let mut count = 0;
    while sealer.seal_next()?.is_some() {
        count += 1;
    }
    assert_eq!(sealer.waiting(), 0);
    Ok(count)
}

pub fn audit_sound(disk: &Arc<dyn Disk>, dir: &Path) -> AuditReport {
    let report = audit_on(disk, dir, &verifier(), &|_| ()).unwrap();
    assert!(report.is_ok(), "{report:#?}");
    assert_eq!(report.entries_checked, report.size);
    report
}

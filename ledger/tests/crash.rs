//! A crash at every operation of the commit order, with every kind of fault and every outcome for what was
//! not synced: then everything acknowledged is there, nothing else is, and the whole ledger is sound.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::Path;

use common::{
    ORIGIN, audit_sound, check_entries, entries, entry, key, options,
    sim::{Fault, SimDisk, Survives},
};
use ledger::{Error, Hash, Ledger, Recovery, verify};

/// Enough for several segments.
const BATCHES: u64 = 16;
const DIR: &str = "/data/ledger";
const FAULTS: [Fault; 3] = [Fault::Fail, Fault::DoneButFailed, Fault::Torn];
const SURVIVES: [Survives; 3] = [Survives::Nothing, Survives::Everything, Survives::EverySecond];

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    let data = ledger::disk::Disk::create_dir(&disk, Path::new("/data"));
    data.and_then(|()| ledger::disk::Disk::sync_dir(&disk, Path::new("/"))).unwrap();
    disk
}

fn create(disk: &SimDisk) -> Result<Ledger, Error> {
    Ledger::create_on(disk.arc(), Path::new(DIR), ORIGIN, key(), options(), &entry(0))
}

fn open(disk: &SimDisk) -> Result<(Ledger, Recovery), Error> {
    Ledger::open_on(disk.arc(), Path::new(DIR), ORIGIN, key(), options())
}

/// Appends batches of growing size, over several segments, until the disk fails. Returned is what was
/// acknowledged: size and root.
fn work(ledger: &mut Ledger, batches: u64) -> (u64, Hash) {
    for batch in 0..batches {
        let from = ledger.size();
        let to = from + 1 + batch % 5 * 4;
        if ledger.append_entries(&entries(from..to)).is_err() {
            assert!(ledger.poison().is_some());
            let again = ledger.append_entries(&[b"more"]);
            assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
            break;
        }
    }
    (ledger.size(), ledger.root())
}

/// Opens what a crash left, and checks it against what was acknowledged.
fn check_after(found: &SimDisk, (size, root): (u64, Hash), batch_max: u64, what: &str) {
    let (mut ledger, report) = open(found).unwrap_or_else(|error| panic!("{what}: {error}"));
    let reader = ledger.reader();
    // A batch that became durable and was not acknowledged may be there, whole.
    assert!((size..=size + batch_max).contains(&ledger.size()), "{what}: {size} acknowledged, {report:?}");
    check_entries(&reader, ledger.size());
    let proof = reader.consistency_proof(size, ledger.size()).unwrap();
    verify::consistency(size, &root, ledger.size(), &ledger.root(), &proof).unwrap();
    audit_sound(&found.arc(), Path::new(DIR));
    // It goes on as if nothing had been.
    let from = ledger.size();
    ledger.append_entries(&entries(from..from + 40)).unwrap();
    ledger.append_entries(&entries(from + 40..from + 45)).unwrap();
    drop(ledger);
    let (ledger, report) = open(found).unwrap();
    assert!(report.was_clean(), "{what}: {report:?}");
    check_entries(&ledger.reader(), from + 45);
    audit_sound(&found.arc(), Path::new(DIR));
}

#[test]
fn a_crash_while_appending_loses_nothing_acknowledged() {
    let whole = disk();
    let mut ledger = create(&whole).unwrap();
    let before = whole.operations();
    work(&mut ledger, BATCHES);
    let operations = whole.operations() - before;
    assert!(ledger::disk::Disk::list(&whole, Path::new("/data/ledger/segments")).unwrap().len() > 2);
    for at in 0..operations {
        for fault in FAULTS {
            let disk = disk();
            let mut ledger = create(&disk).unwrap();
            disk.fail_at(at, fault);
            let acknowledged = work(&mut ledger, BATCHES);
            assert!(disk.has_stopped());
            for survives in SURVIVES {
                let what = format!("{fault:?} at {at}, {survives:?} survives");
                check_after(&disk.crash(survives), acknowledged, 17, &what);
            }
        }
    }
}

#[test]
fn a_crash_while_creating_leaves_nothing_or_all() {
    let whole = disk();
    let before = whole.operations();
    create(&whole).unwrap();
    for at in 0..whole.operations() - before {
        for fault in FAULTS {
            for survives in SURVIVES {
                let disk = disk();
                disk.fail_at(at, fault);
                assert!(create(&disk).is_err());
                let found = disk.crash(survives);
                let what = format!("{fault:?} at {at}, {survives:?} survives");
                let ledger = match open(&found) {
                    Ok((ledger, _)) => ledger,
                    Err(Error::NoLedger { .. }) => create(&found).unwrap_or_else(|error| panic!("{what}: {error}")),
                    Err(error) => panic!("{what}: {error}"),
                };
                check_entries(&ledger.reader(), 1);
                audit_sound(&found.arc(), Path::new(DIR));
            }
        }
    }
}

#[test]
fn a_crash_while_opening_changes_nothing() {
    // A torn batch to be cut off, and tree files to be made again.
    let torn = || {
        let disk = disk();
        let mut ledger = create(&disk).unwrap();
        work(&mut ledger, 9);
        let acknowledged = (ledger.size(), ledger.root());
        disk.fail_at(0, Fault::Torn);
        ledger.append_entries(&entries(ledger.size()..ledger.size() + 3)).unwrap_err();
        (disk.crash(Survives::Everything), acknowledged)
    };
    let (whole, _) = torn();
    let before = whole.operations();
    let (ledger, report) = open(&whole).unwrap();
    assert!(report.tail_bytes_cut > 0 && report.tail_entries_cut > 0 && !report.was_clean(), "{report:?}");
    drop(ledger);
    for at in 0..whole.operations() - before {
        for fault in FAULTS {
            for survives in SURVIVES {
                let (disk, acknowledged) = torn();
                disk.fail_at(at, fault);
                assert!(open(&disk).is_err());
                check_after(&disk.crash(survives), acknowledged, 0, &format!("{fault:?} at {at}, {survives:?}"));
            }
        }
    }
}

#[test]
fn a_batch_that_a_failed_sync_left_in_memory_is_made_durable_again() {
    let disk = disk();
    let mut ledger = create(&disk).unwrap();
    work(&mut ledger, 3);
    // The write arrives in memory, the sync fails and leaves clean-looking pages.
    disk.fail_at(1, Fault::Fail);
    let size = ledger.size();
    ledger.append_entries(&entries(size..size + 2)).unwrap_err();
    drop(ledger);
    // The process starts again on the same machine; then power is lost.
    let running = disk.crash(Survives::Everything);
    let (ledger, report) = open(&running).unwrap();
    assert_eq!((report.size, report.tail_bytes_cut), (size + 2, 0));
    assert!(report.suspect_bytes_rewritten > 0);
    drop(ledger);
    let (ledger, _) = open(&running.crash(Survives::Nothing)).unwrap();
    assert_eq!(ledger.size(), size + 2);
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out_by_the_head() {
    let disk = disk();
    let mut ledger = create(&disk).unwrap();
    work(&mut ledger, 3);
    disk.lie(true);
    work(&mut ledger, 3);
    disk.lie(false);
    // The head reached the disk by itself, the entries did not.
    let head = {
        let mut head = Vec::new();
        disk.with_file(Path::new("/data/ledger/head"), |bytes| {
            head.clone_from(bytes);
        });
        head
    };
    drop(ledger);
    let found = disk.crash(Survives::Nothing);
    found.with_file(Path::new("/data/ledger/head"), |bytes| {
        bytes.clone_from(&head);
    });
    let error = open(&found).unwrap_err();
    assert!(error.damage().is_some(), "{error}");
}

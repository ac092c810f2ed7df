//! Blobs under faults: a blob whose `put` has returned is there after any crash, whole; one whose `put` has
//! failed is there whole or not at all, and putting it again on the same machine makes it so.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::Path;

use common::{
    life::disk,
    sim::{Fault, SimDisk, Step, Survives},
};
use ledger::{Error, Hash, blob};

const FAULTS: [Fault; 6] =
    [Fault::Fail, Fault::DoneButFailed, Fault::FailedClean, Fault::Torn(1_000), Fault::Full(0), Fault::Full(1_500)];
const SURVIVES: [Survives; 4] = [Survives::Nothing, Survives::Everything, Survives::EverySecond, Survives::Seeded(7)];

fn dir() -> &'static Path {
    Path::new("/data/blobs")
}

fn bytes() -> Vec<u8> {
    (0..2_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn put(disk: &SimDisk) -> Result<Hash, Error> {
    blob::put_on(disk, dir(), &bytes())
}

fn steps() -> Vec<Step> {
    let disk = disk(512);
    let before = disk.step_count();
    put(&disk).unwrap();
    disk.steps().split_off(before)
}

#[test]
fn a_blob_is_there_whole_or_not_at_all() {
    let steps = steps();
    assert!(steps.iter().filter(|step| step.operation == "sync_dir").count() >= 3, "{steps:?}");
    for (at, step) in steps.iter().enumerate() {
        for fault in FAULTS {
            let what = format!("{fault:?} at step {at}, {step:?}");
            let disk = disk(512);
            disk.fault_at(at, fault, false);
            assert!(put(&disk).is_err(), "{what}");
            for survives in SURVIVES {
                match blob::get_on(&disk.lose_power(survives), dir(), &Hash::of(&bytes())) {
                    Ok(found) => assert_eq!(found, bytes(), "{what}"),
                    Err(error) => assert!(matches!(error, Error::NoBlob { .. }), "{what}, {survives:?}: {error}"),
                }
            }
            // The process tries again, or starts again and tries, on a machine that may have forgotten clean pages.
            disk.free_space();
            disk.evict();
            let hash = put(&disk).unwrap();
            for survives in SURVIVES {
                assert_eq!(blob::get_on(&disk.lose_power(survives), dir(), &hash).unwrap(), bytes(), "{what}");
            }
        }
    }
}

#[test]
fn a_blob_that_a_lying_disk_lost_is_never_handed_out_wrong() {
    for (at, step) in steps().iter().enumerate() {
        let disk = disk(512);
        disk.fault_at(at, Fault::Lost, false);
        let hash = put(&disk).unwrap();
        for survives in SURVIVES {
            match blob::get_on(&disk.lose_power(survives), dir(), &hash) {
                Ok(found) => assert_eq!(found, bytes()),
                Err(error) => {
                    let is_said = error.damage().is_some() || matches!(error, Error::NoBlob { .. });
                    assert!(is_said, "step {at}, {step:?}, {survives:?}: {error}");
                }
            }
        }
    }
}

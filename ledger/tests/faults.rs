//! The fault table: every step that the ledger takes on its disk, going wrong in every way, and everything
//! that can be found afterwards. Steps are counted in a first run, so a step that is added later is in the
//! table by itself.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{collections::BTreeMap, io::ErrorKind::StorageFull};

use common::{
    audit_sound, check_entries, entry,
    life::{Told, check_answers, check_found, dir, disk, evidence_beyond, is_damaged, open},
    seal_all,
    sim::{Fault, SimDisk, Step, Survives},
};
use ledger::{Error, Hash, Options, disk::Disk as _, tree::Frontier};

const PAGE_BYTES: usize = 512;
/// Batches of one to nine entries; with the small segments below they go over several.
const BATCHES: [u64; 9] = [1, 5, 9, 3, 7, 2, 9, 1, 4];
const AFTER_POWER_LOSS: [Survives; 4] =
    [Survives::Nothing, Survives::Everything, Survives::File("head"), Survives::EverySecond];

fn options() -> Options {
    Options { segment_bytes_max: 3_000, sealed_block_bytes: 700 }
}

/// A piece of a ledger's life: where it begins, and what is done from there until an error.
struct Scene {
    name: &'static str,
    begin: fn() -> (SimDisk, Told),
    act: fn(&SimDisk, &mut Told) -> Result<(), Error>,
}

const CREATE: Scene = Scene {
    name: "create",
    begin: || (disk(PAGE_BYTES), Told::default()),
    act: |disk, told| told.create(disk, options()).map(drop),
};

const APPEND: Scene = Scene {
    name: "append, with rolls",
    begin: || grown(2),
    act: |disk, told| {
        let (mut ledger, _) = told.open(disk, options())?;
        BATCHES.iter().try_for_each(|count| told.append(&mut ledger, *count))
    },
};

/// A torn batch to be cut off.
const OPEN_TORN: Scene = Scene {
    name: "open, tail torn",
    begin: || {
        let (disk, mut told) = grown(5);
        let (mut ledger, _) = told.open(&disk, options()).unwrap();
        disk.fault_at(0, Fault::Torn(150), true);
        told.append(&mut ledger, 4).unwrap_err();
        (disk.lose_power(Survives::Everything), told)
    },
    act: reopen,
};

/// A batch whose sync failed and left clean pages in memory.
const OPEN_SUSPECT: Scene = Scene {
    name: "open, sync had failed",
    begin: || {
        let (disk, mut told) = grown(5);
        let (mut ledger, _) = told.open(&disk, options()).unwrap();
        disk.fault_at(1, Fault::FailedClean, true);
        told.append(&mut ledger, 4).unwrap_err();
        (disk.kill(), told)
    },
    act: reopen,
};

/// A segment begun and not used.
const OPEN_BEGUN: Scene = Scene {
    name: "open, segment begun",
    begin: || {
        // Appends go on until the step that fails is the write of a segment's header.
        let is_header = |step: &Step| step.operation == "write" && step.name.ends_with("segment") && step.len == 1_024;
        let torn_at = |after| {
            let (disk, mut told) = grown(9);
            let (mut ledger, _) = told.open(&disk, options()).unwrap();
            disk.fault_at(after, Fault::Torn(700), true);
            while told.append(&mut ledger, 3).is_ok() {}
            let is_there = disk.steps().last().is_some_and(is_header);
            is_there.then(|| (disk.lose_power(Survives::Everything), told))
        };
        (0..).find_map(torn_at).unwrap()
    },
    act: reopen,
};

/// Tree, index and head gone.
const OPEN_BARE: Scene = Scene {
    name: "open, tree rebuilt",
    begin: || {
        let (disk, told) = grown(9);
        for name in ["tree/0", "index", "head"] {
            disk.remove_file(&dir().join(name)).unwrap();
        }
        for name in ["tree", ""] {
            disk.sync_dir(&dir().join(name)).unwrap();
        }
        (disk.kill(), told)
    },
    act: reopen,
};

/// Segments are sealed while the writer goes on.
const SEAL: Scene = Scene {
    name: "seal, and append",
    begin: || grown(5),
    act: |disk, told| {
        let (mut ledger, _) = told.open(disk, options())?;
        let sealer = ledger.sealer();
        let done = seal_all(&sealer);
        // Whatever became of it, the writer goes on as far as there is space, and sealing is tried again later.
        assert!(ledger.poison().is_none());
        let is_full = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == StorageFull);
        if let Err(error) = &done {
            assert!(matches!(error, Error::Io { .. }), "{error}");
            match told.append(&mut ledger, 4).and_then(|()| seal_all(&sealer)) {
                Ok(_) => check_entries(&ledger.reader(), ledger.size()),
                Err(error) => assert!(is_full(&error), "{error}"),
            }
        }
        done?;
        told.append(&mut ledger, 9)?;
        told.append(&mut ledger, 9)?;
        seal_all(&sealer).map(drop)
    },
};

/// A sealing that was begun, and one that was in place before the raw segment was removed.
const OPEN_SEALING: Scene =
    Scene { name: "open, sealing begun", begin: || interrupted("rename", ".sealed"), act: reopen_sealed };
const OPEN_BOTH: Scene =
    Scene { name: "open, raw and sealed", begin: || interrupted("remove", ".segment"), act: reopen_sealed };

/// Tree and index made again out of sealed segments.
const OPEN_BARE_SEALED: Scene = Scene {
    name: "open sealed, tree rebuilt",
    begin: || {
        let (disk, mut told) = grown(9);
        let (ledger, _) = told.open(&disk, options()).unwrap();
        assert!(seal_all(&ledger.sealer()).unwrap() > 1);
        drop(ledger);
        for name in ["tree/0", "index"] {
            disk.remove_file(&dir().join(name)).unwrap();
        }
        for name in ["tree", ""] {
            disk.sync_dir(&dir().join(name)).unwrap();
        }
        (disk.kill(), told)
    },
    act: reopen,
};

const SCENES: [Scene; 10] =
    [CREATE, APPEND, OPEN_TORN, OPEN_SUSPECT, OPEN_BEGUN, OPEN_BARE, SEAL, OPEN_SEALING, OPEN_BOTH, OPEN_BARE_SEALED];

/// A ledger whose second sealing was stopped by the failure of a step.
fn interrupted(operation: &str, suffix: &str) -> (SimDisk, Told) {
    let stopped_at = |after| {
        let (disk, mut told) = grown(9);
        let (ledger, _) = told.open(&disk, options()).unwrap();
        let sealer = ledger.sealer();
        sealer.seal_next().unwrap().unwrap();
        disk.fault_at(after, Fault::Fail, true);
        sealer.seal_next().unwrap_err();
        let is_there =
            disk.steps().last().is_some_and(|step| step.operation == operation && step.name.ends_with(suffix));
        is_there.then(|| (disk.kill(), told))
    };
    (0..).find_map(stopped_at).unwrap()
}

fn reopen_sealed(disk: &SimDisk, told: &mut Told) -> Result<(), Error> {
    let (mut ledger, _) = told.open(disk, options())?;
    told.append(&mut ledger, 2)?;
    seal_all(&ledger.sealer()).map(drop)
}

fn reopen(disk: &SimDisk, told: &mut Told) -> Result<(), Error> {
    let (mut ledger, _) = told.open(disk, options())?;
    told.append(&mut ledger, 2)
}

/// A ledger of so many batches, all of it durable.
fn grown(batches: usize) -> (SimDisk, Told) {
    let (disk, mut told) = (disk(PAGE_BYTES), Told::default());
    let mut ledger = told.create(&disk, options()).unwrap();
    for count in BATCHES.iter().cycle().take(batches) {
        told.append(&mut ledger, *count).unwrap();
    }
    drop(ledger);
    (disk.kill(), told)
}

/// The steps of a scene when nothing goes wrong.
fn steps_of(scene: &Scene) -> Vec<Step> {
    let (begin, mut told) = (scene.begin)();
    let disk = begin.kill();
    (scene.act)(&disk, &mut told).unwrap();
    disk.steps()
}

/// Plays a scene with one step going wrong, and gives the disk and what callers were told. Some faults are
/// survived, such as that of a tree file, which is then made again.
fn play(scene: &Scene, begin: &(SimDisk, Told), at: usize, fault: Fault) -> (SimDisk, Told, Result<(), Error>) {
    let (disk, mut told) = (begin.0.kill(), begin.1.clone());
    disk.fault_at(at, fault, false);
    let result = (scene.act)(&disk, &mut told);
    assert!(disk.fault_came(), "{}: step {at}", scene.name);
    (disk, told, result)
}

/// What may be there after a failure: the ledger, or, where its creation had no answer, none.
fn check_or_absent(found: &SimDisk, told: &Told, what: &str) -> Option<u64> {
    if told.acknowledged.is_none() && matches!(open(found, options()), Err(Error::NoLedger { .. })) {
        let mut told = told.clone();
        drop(told.create(found, options()).unwrap_or_else(|error| panic!("{what}: {error}")));
        audit_sound(&found.arc(), dir());
        return None;
    }
    Some(check_found(found, told, options(), what))
}

/// All that can happen after a fault: power is lost at once; or the process starts again on the same
/// machine, which may have forgotten clean pages, and power is lost after that.
fn check_aftermath(disk: &SimDisk, told: &Told, what: &str) {
    for survives in AFTER_POWER_LOSS {
        check_or_absent(&disk.lose_power(survives), told, &format!("{what}, {survives:?} survives"));
    }
    for forgets in [false, true] {
        let what = format!("{what}, started again, memory forgets: {forgets}");
        let running = disk.kill();
        if forgets {
            running.evict();
        }
        let mut told = told.clone();
        let mut ledger = match told.open(&running, options()) {
            Ok((ledger, _)) => ledger,
            Err(Error::NoLedger { .. }) if told.acknowledged.is_none() => continue,
            Err(error) => panic!("{what}: {error}"),
        };
        // Opening has said what the ledger is, so no loss of power takes anything from that.
        check_found(&running.lose_power(Survives::Nothing), &told, options(), &what);
        // Nor from what is appended then: it must not lie behind pages that never reached the disk.
        told.append(&mut ledger, 3).unwrap();
        drop(ledger);
        check_found(&running.lose_power(Survives::Nothing), &told, options(), &what);
    }
}

fn check_scenes(faults: &[Fault]) {
    let mut cases = 0;
    for scene in &SCENES {
        let begin = (scene.begin)();
        for (at, step) in steps_of(scene).iter().enumerate() {
            for fault in faults {
                let (disk, told, _) = play(scene, &begin, at, *fault);
                check_aftermath(&disk, &told, &format!("{}: {fault:?} at step {at}, {step:?}", scene.name));
                cases += 1;
            }
        }
    }
    eprintln!("{cases} faults, {} outcomes each", AFTER_POWER_LOSS.len() + 4);
    assert!(cases > 100, "{cases}");
}

#[test]
fn a_step_that_fails() {
    check_scenes(&[Fault::Fail]);
}

#[test]
fn a_step_that_is_done_and_reported_to_have_failed() {
    check_scenes(&[Fault::DoneButFailed]);
}

#[test]
fn a_sync_that_fails_and_leaves_clean_pages() {
    check_scenes(&[Fault::FailedClean]);
}

/// A sync has failed, the process starts again, and the machine forgets pages that look clean between any two of its reads.
#[test]
fn pages_are_forgotten_while_a_ledger_opens() {
    let (mut refused, mut opened) = (0, 0);
    for scene in &SCENES {
        let begin = (scene.begin)();
        for (at, step) in steps_of(scene).iter().enumerate().filter(|(_, step)| step.operation == "sync") {
            let (disk, told, _) = play(scene, &begin, at, Fault::FailedClean);
            let counted = disk.kill();
            drop(told.clone().open(&counted, options()));
            for read in 0..counted.reads() {
                let what = format!("{}: step {at}, {step:?}, pages forgotten before read {read}", scene.name);
                let running = disk.kill();
                running.forget_at_read(read);
                let mut now = told.clone();
                match now.open(&running, options()) {
                    Ok((ledger, _)) => {
                        drop(ledger);
                        check_found(&running.lose_power(Survives::Nothing), &now, options(), &what);
                        opened += 1;
                    }
                    Err(Error::NoLedger { .. }) if told.acknowledged.is_none() => {}
                    // What was written again is not what had been read: the next opening sees what is there.
                    Err(Error::Io { .. }) => {
                        check_or_absent(&running.kill(), &told, &what);
                        refused += 1;
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
    }
    eprintln!("{refused} openings refused, {opened} held");
    assert!(refused > 10 && opened > 100, "{refused}, {opened}");
}

/// Where a write can be torn: any byte of what is no longer than two frames, and of longer ones the last two.
fn tears(step: &Step) -> std::ops::Range<usize> {
    // An entry of at most 120 bytes with its head, and a checkpoint with its own.
    step.len.saturating_sub(2 * 9 + 120 + 260)..step.len
}

#[test]
fn a_write_torn_at_every_byte_of_the_last_two_frames() {
    let mut cases = 0;
    for scene in &SCENES {
        let begin = (scene.begin)();
        for (at, step) in steps_of(scene).iter().enumerate().filter(|(_, step)| step.operation == "write") {
            // Those of a header or a head file, which have no frames, at every seventh byte.
            let stride = if step.name.ends_with("segment") && step.len != 1_024 { 1 } else { 7 };
            for len in tears(step).step_by(stride) {
                let (disk, told, _) = play(scene, &begin, at, Fault::Torn(len));
                let what = format!("{}: torn after {len} bytes at step {at}, {step:?}", scene.name);
                let found = disk.lose_power(Survives::Everything);
                if told.acknowledged.is_none() && matches!(open(&found, options()), Err(Error::NoLedger { .. })) {
                    continue;
                }
                let mut told = told;
                let (ledger, _) = told.open(&found, options()).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(audit_sound(&found.arc(), dir()).size, ledger.size(), "{what}");
                cases += 1;
            }
        }
    }
    eprintln!("{cases} torn writes");
    assert!(cases > 3_000, "{cases}");
}

#[test]
fn no_space_at_any_write_and_then_there_is_again() {
    let mut cases = 0;
    for scene in &SCENES {
        let begin = (scene.begin)();
        for (at, step) in steps_of(scene).iter().enumerate() {
            for len in [0, step.len / 2, step.len.saturating_sub(1)] {
                let what = format!("{}: full after {len} bytes at step {at}, {step:?}", scene.name);
                let (disk, mut told, result) = play(scene, &begin, at, Fault::Full(len));
                // Without space a start either succeeds or says that there is none, and takes nothing for damage.
                let running = disk.kill();
                running.fault_at(usize::MAX / 2, Fault::Fail, false);
                match told.open(&running, options()).map(drop) {
                    Ok(()) | Err(Error::Io { .. }) => {}
                    Err(Error::NoLedger { .. }) if told.acknowledged.is_none() => {}
                    Err(error) => panic!("{what}: {error}"),
                }
                running.free_space();
                check_or_absent(&running, &told, &what);
                // Where it was survived, no caller was told of an error.
                let is_swallowed = result.is_ok() && step.operation == "write";
                assert!(!is_swallowed, "{what}: nobody was told");
                cases += 1;
            }
        }
    }
    eprintln!("{cases} times without space");
}

#[test]
fn a_read_that_fails_is_an_error_and_changes_nothing() {
    for scene in &SCENES {
        let begin = (scene.begin)();
        let (counted, mut told) = (begin.0.kill(), begin.1.clone());
        told.is_blind = true;
        (scene.act)(&counted, &mut told).unwrap();
        for at in 0..counted.reads() {
            let (disk, mut told) = (begin.0.kill(), begin.1.clone());
            disk.fail_read(at);
            told.is_blind = true;
            let what = format!("{}: read {at} fails", scene.name);
            // A tree that cannot be read is made again; anything else is an I/O error, and no damage.
            match (scene.act)(&disk, &mut told) {
                Ok(()) | Err(Error::Io { .. }) => {}
                Err(error) => panic!("{what}: {error}"),
            }
            told.is_blind = false;
            check_or_absent(&disk.kill(), &told, &what);
        }
    }
}

/// What became of a step that the disk claimed to have done and never did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lie {
    /// Nothing that was acknowledged depends on it.
    Harmless,
    /// Opening says that the ledger is damaged, or that there is none.
    FoundAtOpen,
    /// Opening reads the last segment alone; an audit, and whoever reads the place, finds it.
    FoundByAudit,
    /// The ledger is shorter, and nothing on the disk shows that there was more.
    Unknowable,
}

fn judge_lie(found: &SimDisk, told: &Told, roots: &[Hash], what: &str) -> Lie {
    let before = found.kill();
    let size = match open(found, options()) {
        Ok((ledger, _)) => ledger.size(),
        Err(error) if error.damage().is_some() || matches!(error, Error::NoLedger { .. }) => return Lie::FoundAtOpen,
        Err(error) => panic!("{what}: {error}"),
    };
    if size >= told.size() {
        return if is_damaged(found, roots) { Lie::FoundByAudit } else { Lie::Harmless };
    }
    let evidence = evidence_beyond(&before, size);
    assert_eq!(evidence, None, "{what}: silently shortened from {} to {size}", told.size());
    check_answers(found, roots);
    audit_sound(&found.arc(), dir());
    Lie::Unknowable
}

#[test]
fn a_step_that_never_reached_the_disk_is_found_out_wherever_anything_shows_it() {
    let mut frontier = Frontier::new();
    let mut roots = vec![frontier.root()];
    for position in 0..200 {
        frontier.push(ledger::tree::leaf_hash(&entry(position)));
        roots.push(frontier.root());
    }
    let mut table: BTreeMap<(&str, &str, Survives, Lie), u64> = BTreeMap::new();
    for scene in &SCENES {
        let begin = (scene.begin)();
        for (at, step) in steps_of(scene).iter().enumerate() {
            let (disk, told, result) = play(scene, &begin, at, Fault::Lost);
            result.unwrap();
            for survives in AFTER_POWER_LOSS {
                let what = format!("{}: lost at step {at}, {step:?}, {survives:?} survives", scene.name);
                let lie = judge_lie(&disk.lose_power(survives), &told, &roots, &what);
                // The head file reached the disk: then nothing is lost without being found out.
                let is_head_there = matches!(survives, Survives::Everything | Survives::File("head"));
                let is_about_head = step.name == "head" || step.name == "ledger" || scene.name == "create";
                assert!(lie != Lie::Unknowable || !is_head_there || is_about_head, "{what}");
                *table.entry((scene.name, step.operation, survives, lie)).or_default() += 1;
            }
        }
    }
    for ((scene, operation, survives, lie), count) in table {
        eprintln!("{scene:24} {operation:10} {:16} {lie:?}: {count}", format!("{:?}", survives));
    }
}

//! The ledger's key gives way to another: who trusts the first key alone checks everything, before and after, whatever is cut off
//! in between.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::Path;

use common::{
    ORIGIN, audit_sound, check_entries, entries, key,
    life::{dir, disk},
    options,
    sim::{Fault, SimDisk, Survives},
    verifier,
};
use ledger::{
    Error, Ledger, LedgerKey, Reader, SignedCheckpoint,
    chain::{Rotation, last_key, put_rotations, read_rotations},
    export::ExportReader,
    note::NoteError,
    proof::ProofFile,
    verify::{audit, audit_extends},
};

fn next_key(seed: u8) -> LedgerKey {
    LedgerKey::generate([seed; 32])
}

/// The notes of a ledger with one more, at its size.
fn notes(ledger: &Ledger, old: &LedgerKey, new: &LedgerKey) -> String {
    let note = Rotation::sign(old, new.public(), &[(ORIGIN.to_owned(), ledger.size())]).unwrap();
    ledger.keys().text().to_owned() + &note
}

fn grow(ledger: &mut Ledger, count: u64) {
    let from = ledger.size();
    for position in from..from + count {
        ledger.append_entries(&entries(position..position + 1)).unwrap();
    }
}

fn rotate(ledger: &mut Ledger, old: &LedgerKey, new: &LedgerKey) {
    let text = notes(ledger, old, new);
    ledger.rotate(new.clone(), &text).unwrap();
}

/// A ledger of 90 entries over several segments and three keys, with the checkpoints at each change.
fn rotated(path: &Path) -> (Ledger, Vec<SignedCheckpoint>) {
    let (first, second, third) = (key(), next_key(2), next_key(3));
    let mut ledger = common::ledger_of(path, 30, options());
    let mut kept = vec![ledger.checkpoint()];
    rotate(&mut ledger, &first, &second);
    grow(&mut ledger, 30);
    kept.push(ledger.checkpoint());
    rotate(&mut ledger, &second, &third);
    grow(&mut ledger, 30);
    kept.push(ledger.checkpoint());
    (ledger, kept)
}

#[test]
fn everything_is_checked_with_the_first_key_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ledger");
    let (ledger, kept) = rotated(&path);
    let signers: Vec<bool> = kept.iter().map(|checkpoint| checkpoint.verify(&verifier()).is_ok()).collect();
    assert_eq!(signers, [true, false, false], "each was signed by another key");
    assert!(kept.iter().all(|checkpoint| checkpoint.origin() == ORIGIN));
    check_entries(&ledger.reader(), 90);
    drop(ledger);

    let report = audit(&path, &verifier(), &|_| ()).unwrap();
    assert!(report.is_ok() && report.entries_checked == 90, "{report:#?}");
    check_entries(&Reader::open(&path, &verifier()).unwrap(), 90);
    for old in &kept {
        assert_eq!(audit_extends(&path, old.text(), &verifier()).unwrap().old_size, old.size());
    }
    // The last key does not vouch for those before it.
    let last = next_key(3).verifier_key(ORIGIN);
    assert!(audit(&path, &last, &|_| ()).is_err() && Reader::open(&path, &last).is_err());

    // Opened again with the last key, and with no other.
    for (signer, fits) in [(key(), false), (next_key(2), false), (next_key(3), true)] {
        let opened = Ledger::open(&path, ORIGIN, signer, options());
        assert_eq!(opened.is_ok(), fits, "{opened:?}");
        let _ = opened.map(|(mut ledger, report)| {
            assert!(report.was_clean(), "{report:?}");
            grow(&mut ledger, 5);
        });
    }
    assert_eq!(audit_sound(&(std::sync::Arc::new(ledger::disk::OsDisk) as _), &path).size, 95);
}

#[test]
fn an_export_and_a_proof_carry_the_chain() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, export) = (scratch.path().join("ledger"), scratch.path().join("export"));
    let first = key();
    let mut ledger = common::ledger_of(&path, 30, options());
    ledger.reader().export(&export).unwrap();
    let early = Some(ledger.reader()).map(|reader| proof_of(&reader, 7)).unwrap();
    rotate(&mut ledger, &first, &next_key(2));
    // Nothing new was signed: the export is as it was, with the way to the new key.
    ledger.reader().export(&export).unwrap();
    assert!(audit(&export, &verifier(), &|_| ()).unwrap().is_ok());
    grow(&mut ledger, 300);
    ledger.reader().export(&export).unwrap();
    let report = audit(&export, &verifier(), &|_| ()).unwrap();
    assert!(report.is_ok() && report.size == 330, "{report:#?}");
    check_entries(&ExportReader::open(&export, &verifier()).unwrap(), 330);
    assert!(audit_extends(&export, early.checkpoint.text(), &verifier()).is_ok());

    for reader in [&ledger.reader() as &dyn ledger::EntrySource, &ExportReader::open(&export, &verifier()).unwrap()] {
        let proof = proof_of(reader, 7);
        let read = ProofFile::parse(&proof.to_string()).unwrap();
        read.verify(&common::entry(7), &verifier()).unwrap();
        assert!(read.verify(&common::entry(8), &verifier()).is_err());
        assert!(matches!(read.verify(&common::entry(7), &next_key(9).verifier_key(ORIGIN)), Err(Error::Note(_))));
        let bare = ProofFile { extra: None, ..proof };
        assert!(matches!(bare.verify(&common::entry(7), &verifier()), Err(Error::Note(_))), "the chain is needed");
        bare.verify(&common::entry(7), &next_key(2).verifier_key(ORIGIN)).unwrap();
    }
    early.verify(&common::entry(7), &verifier()).unwrap();

    // An export without its rotations cannot be checked, and one with others is refused.
    std::fs::write(export.join("rotations"), "").unwrap();
    assert!(!audit(&export, &verifier(), &|_| ()).unwrap().is_ok());
    let forged = Rotation::sign(&next_key(9), next_key(2).public(), &[(ORIGIN.into(), 30)]).unwrap();
    std::fs::write(export.join("rotations"), forged).unwrap();
    assert!(matches!(audit(&export, &verifier(), &|_| ()), Err(Error::Note(NoteError::Rotation(_)))));
}

fn proof_of(source: &dyn ledger::EntrySource, position: u64) -> ProofFile {
    let checkpoint = SignedCheckpoint::parse(&source.checkpoint_text()).unwrap();
    let hashes = source.inclusion_proof(position, checkpoint.size()).unwrap();
    ProofFile { extra: ProofFile::extra_of(&source.rotations_text()), index: position, hashes, checkpoint }
}

#[test]
fn the_old_key_signs_nothing_more_than_its_own_time() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, fork) = (scratch.path().join("ledger"), scratch.path().join("fork"));
    let mut ledger = common::ledger_of(&path, 30, options());
    let rotations = notes(&ledger, &key(), &next_key(2));
    // Somebody has the old key and goes on with it from the same entries.
    let mut forked = common::ledger_of(&fork, 30, options());
    forked.append_entries(&[b"forged".to_vec()]).unwrap();
    drop(forked);
    let signed_by_old = Reader::open(&fork, &verifier()).unwrap().checkpoint();
    ledger.rotate(next_key(2), &rotations).unwrap();
    grow(&mut ledger, 1);
    assert!(ledger.keys().verify(&signed_by_old).is_err(), "the old key, for a size after its time");
    assert!(ledger.keys().verify(&ledger.checkpoint()).is_ok());
    std::fs::write(fork.join("rotations"), &rotations).unwrap();
    let found = audit(&fork, &verifier(), &|_| ()).map(|report| report.is_ok());
    assert!(!matches!(found, Ok(true)), "{found:?}");
    assert!(Reader::open(&fork, &verifier()).is_err());
}

#[test]
fn a_rotation_that_leaves_out_those_before_it_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let mut ledger = common::ledger_of(&scratch.path().join("ledger"), 30, options());
    rotate(&mut ledger, &key(), &next_key(2));
    // Signed by the first key, at the ledger's size: a way to the third key that knows nothing of the second.
    let other = Rotation::sign(&key(), next_key(3).public(), &[(ORIGIN.to_owned(), 30)]).unwrap();
    let refused = ledger.rotate(next_key(3), &other).unwrap_err();
    assert!(matches!(refused, Error::Note(NoteError::Rotation(_))), "{refused}");
    assert_eq!(ledger.keys().current(), &next_key(2).verifier_key(ORIGIN));
    grow(&mut ledger, 1);
    rotate(&mut ledger, &next_key(2), &next_key(3));
}

#[test]
fn a_rotation_that_is_not_the_next_one_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ledger");
    let mut ledger = common::ledger_of(&path, 30, options());
    let note = |old: u8, new: u8, origin: &str, size: u64| {
        let old = if old == 42 { key() } else { next_key(old) };
        Rotation::sign(&old, next_key(new).public(), &[(origin.to_owned(), size)]).unwrap()
    };
    for (text, signer) in [
        (note(9, 2, ORIGIN, 30), 2),
        (note(42, 2, ORIGIN, 29), 2),
        (note(42, 2, ORIGIN, 31), 2),
        (note(42, 2, "other/ledger", 30), 2),
        (note(42, 2, ORIGIN, 30), 3),
        (String::new(), 2),
    ] {
        let refused = ledger.rotate(next_key(signer), &text);
        assert!(matches!(refused, Err(Error::Note(_))), "{text}: {refused:?}");
    }
    grow(&mut ledger, 1);
    assert!(ledger.poison().is_none() && !path.join("rotations").exists());
    assert!(ledger.checkpoint().verify(&verifier()).is_ok());
}

#[test]
fn a_reader_in_another_process_follows() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ledger");
    let mut ledger = common::ledger_of(&path, 30, options());
    let (outside, inside) = (Reader::open(&path, &verifier()).unwrap(), ledger.reader());
    rotate(&mut ledger, &key(), &next_key(2));
    outside.refresh().unwrap();
    assert_eq!(outside.size(), 30);
    grow(&mut ledger, 40);
    outside.refresh().unwrap();
    assert_eq!((outside.size(), inside.size()), (70, 70));
    for reader in [outside, inside] {
        assert_eq!(reader.keys().current(), &next_key(2).verifier_key(ORIGIN));
        assert_eq!(reader.verifier_key(), &verifier());
        reader.keys().verify(&reader.checkpoint()).unwrap();
    }
}

/// Opens with whichever key the directory's rotations end with, as a writer does that was stopped.
fn reopen(disk: &SimDisk, rotations: Option<&str>) -> Ledger {
    if let Some(text) = rotations {
        put_rotations(disk, dir(), text).unwrap();
    }
    let text = disk.bytes(&dir().join("rotations")).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
    let last = last_key(&text).unwrap();
    let signer = if last == Some(next_key(2).public()) { next_key(2) } else { key() };
    Ledger::open_on(disk.arc(), dir(), ORIGIN, signer, options()).unwrap().0
}

fn life(disk: &SimDisk) -> Result<(), Error> {
    let (mut ledger, _) = Ledger::open_on(disk.arc(), dir(), ORIGIN, key(), options())?;
    let text = notes(&ledger, &key(), &next_key(2));
    ledger.rotate(next_key(2), &text)?;
    for position in 20..40 {
        ledger.append_entries(&entries(position..position + 1))?;
    }
    Ok(())
}

#[test]
fn a_crash_at_any_step_of_a_rotation_leaves_one_of_the_two_keys_in_force() {
    let begin = disk(512);
    let mut ledger = Ledger::create_on(begin.arc(), dir(), ORIGIN, key(), options(), &common::entry(0)).unwrap();
    grow(&mut ledger, 19);
    let rotations = notes(&ledger, &key(), &next_key(2));
    drop(ledger);
    let counted = begin.kill();
    life(&counted).unwrap();
    let (mut before, mut after) = (0, 0);
    for at in 0..counted.step_count() {
        for fault in [Fault::Fail, Fault::DoneButFailed, Fault::Torn(7)] {
            let faulty = begin.kill();
            faulty.fault_at(at, fault, true);
            let ended = life(&faulty);
            assert_eq!(ended.is_err(), faulty.fault_came());
            for survives in [Survives::Nothing, Survives::Everything, Survives::EverySecond] {
                // What the writer's caller wrote down of the rotation may be there, or not.
                for known in [None, Some(rotations.as_str())] {
                    let found = faulty.lose_power(survives);
                    let mut ledger = reopen(&found, known);
                    let is_new = ledger.keys().current() == &next_key(2).verifier_key(ORIGIN);
                    assert!(known.is_none() || is_new, "step {at}, {fault:?}, {survives:?}");
                    *(if is_new { &mut after } else { &mut before }) += 1;
                    assert!(ledger.size() >= 20);
                    grow(&mut ledger, 3);
                    check_entries(&ledger.reader(), ledger.size());
                    audit_sound(&found.arc(), dir());
                }
            }
        }
    }
    assert!(before > 50 && after > 50, "{before} before, {after} after");
    assert_eq!(read_rotations(&rotations).unwrap().len(), 1);
}

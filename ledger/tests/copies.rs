//! Copies of a ledger: what belongs to one, whatever form the segments have, and that nothing but a whole one opens.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{ORIGIN, audit_sound, check_entries, entry, key, ledger_of, options, seal_all, verifier};
use ledger::{
    DamageKind, Error, HeadState, Ledger, LedgerKey, Options,
    chain::Rotation,
    copy::{Copy, complete, sealed_form},
    disk::OsDisk,
};

/// Writes the copy to `into`, and says what was written of it beside the finished segments.
fn write(copy: &Copy, into: &Path) -> Vec<PathBuf> {
    let written = copy.write_open(into).unwrap();
    assert!(written.iter().all(|path| into.join(path).is_file()), "{written:?}");
    for from in copy.finished() {
        // As `backup` does: what was sealed since it was taken down is found under its other name.
        let from = if from.exists() { from.clone() } else { sealed_form(from).unwrap() };
        fs::copy(&from, into.join("segments").join(from.file_name().unwrap())).unwrap();
    }
    written
}

/// Makes a ledger of a copy, and checks that it is the one of `size` entries that it was taken of.
fn check_copy(copy: &Copy, into: &Path, size: u64, signer: LedgerKey) {
    assert_eq!(copy.checkpoint().size(), size);
    let report = complete(into, &verifier()).unwrap();
    assert_eq!((report.size, report.root), (size, copy.checkpoint().root()));
    assert_eq!((report.head, report.tail_bytes_cut), (HeadState::Agrees, 0), "nothing beyond the head was copied");
    audit_sound(&(Arc::new(OsDisk) as _), into);
    let (mut ledger, report) = Ledger::open(into, ORIGIN, signer, options()).unwrap();
    assert!(report.was_clean(), "{report:?}");
    check_entries(&ledger.reader(), size);
    // It goes on as the ledger does.
    ledger.append_entries(&[entry(size)]).unwrap();
    check_entries(&ledger.reader(), size + 1);
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn a_copy_is_the_ledger_as_of_its_head_whatever_is_appended_rolled_and_sealed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (path, into) = (dir.path().join("ledger"), dir.path().join("copy"));
    let mut ledger = ledger_of(&path, 300, options());
    assert!(ledger.sealer().seal_next().unwrap().is_some());
    let copy = Copy::of(&path, &verifier()).unwrap();
    // One segment is sealed, the others are not; the last one is no finished one.
    let finished = names(copy.finished());
    assert_eq!(finished[0], format!("{:020}.sealed", 0));
    assert!(finished.len() > 2 && finished[1..].iter().all(|name| name.ends_with(".segment")), "{finished:?}");
    assert_eq!(fs::read_dir(path.join("segments")).unwrap().count(), finished.len() + 1);

    let last = ledger.checkpoint();
    for position in 300..500 {
        ledger.append_entries(&[entry(position)]).unwrap();
    }
    assert!(seal_all(&ledger.sealer()).unwrap() > 3, "the segment that was the last one is sealed now");
    let written = write(&copy, &into);
    assert_eq!(copy.checkpoint().text(), last.text());
    let open = written[1].to_str().unwrap();
    assert!(written.len() == 2 && written[0] == Path::new("head") && open.ends_with(".segment"), "{written:?}");
    check_copy(&copy, &into, 300, key());
    check_entries(&ledger.reader(), 500);
}

#[test]
fn a_last_segment_of_some_mebibytes_is_copied_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (path, into) = (dir.path().join("ledger"), dir.path().join("copy"));
    let size = 40_000;
    drop(ledger_of(&path, size, Options::default()));
    let copy = Copy::of(&path, &verifier()).unwrap();
    let written = write(&copy, &into);
    let [from, to] = [&path, &into].map(|dir| fs::read(dir.join(&written[1])).unwrap());
    assert!(from.len() > 2 << 20, "{} bytes", from.len());
    assert!(from == to, "the very bytes");
    check_copy(&copy, &into, size, key());
}

#[test]
fn a_copy_of_a_ledger_with_another_key_takes_the_rotations_along() {
    let dir = tempfile::tempdir().unwrap();
    let (path, into) = (dir.path().join("ledger"), dir.path().join("copy"));
    let mut ledger = ledger_of(&path, 30, options());
    let second = LedgerKey::generate([2; 32]);
    let note = Rotation::sign(&key(), second.public(), &[(ORIGIN.to_owned(), 30)]).unwrap();
    ledger.rotate(second.clone(), &note).unwrap();
    ledger.append_entries(&[entry(30)]).unwrap();
    drop(ledger);
    let copy = Copy::of(&path, &verifier()).unwrap();
    let written = write(&copy, &into);
    assert_eq!(written.last().unwrap(), Path::new("rotations"));
    assert_eq!(fs::read_to_string(into.join("rotations")).unwrap(), note);
    check_copy(&copy, &into, 31, second);
}

#[test]
fn of_what_is_no_ledger_or_another_one_or_has_no_head_there_is_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let none = Copy::of(&path, &verifier()).unwrap_err();
    assert!(matches!(none, Error::NoLedger { .. }), "{none}");
    drop(ledger_of(&path, 30, options()));
    let other = LedgerKey::generate([9; 32]).verifier_key(ORIGIN);
    let refused = Copy::of(&path, &other).unwrap_err();
    assert!(matches!(refused, Error::OtherLedger { .. }), "{refused}");
    let head = fs::read(path.join("head")).unwrap();
    fs::write(path.join("head"), &head[1..]).unwrap();
    assert_eq!(Copy::of(&path, &verifier()).unwrap_err().damage().unwrap().kind, DamageKind::Head);
    fs::remove_file(path.join("head")).unwrap();
    assert_eq!(Copy::of(&path, &verifier()).unwrap_err().damage().unwrap().kind, DamageKind::Head);
    fs::write(path.join("head"), head).unwrap();
    assert_eq!(Copy::of(&path, &verifier()).unwrap().checkpoint().size(), 30);
}

#[test]
fn a_copy_without_a_segment_is_not_completed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, into) = (dir.path().join("ledger"), dir.path().join("copy"));
    drop(ledger_of(&path, 300, options()));
    let copy = Copy::of(&path, &verifier()).unwrap();
    write(&copy, &into);
    fs::remove_file(into.join("segments").join(copy.finished()[1].file_name().unwrap())).unwrap();
    assert!(complete(&into, &verifier()).unwrap_err().damage().is_some());
}

#[test]
fn only_a_raw_segment_has_a_sealed_form() {
    let raw = Path::new("segments/00000000000000000007.segment");
    assert_eq!(sealed_form(raw), Some(raw.with_extension("sealed")));
    for other in ["segments/00000000000000000007.sealed", "segments/00000000000000000007.sealing", "head", "head.tmp"] {
        assert_eq!(sealed_form(Path::new(other)), None, "{other}");
    }
}

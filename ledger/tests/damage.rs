//! Bytes that are not what they were: a torn tail is cut off at whatever byte it ends, anything else is
//! told apart from it; and an audit finds every flipped bit.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{ORIGIN, check_entries, entries, entry, key, ledger_of, options, verifier};
use ledger::{DamageKind, EntrySource as _, Ledger, Options, export::ExportReader, verify::audit};

/// All in one segment.
fn one_segment() -> Options {
    Options::default()
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
    found.sort();
}

fn last_segment(dir: &Path) -> PathBuf {
    let mut found = Vec::new();
    files(&dir.join("segments"), &mut found);
    found.pop().unwrap()
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = ledger_of(&path, 4, one_segment());
    let segment = last_segment(&path);
    let durable = fs::read(&segment).unwrap();
    let head = fs::read(path.join("head")).unwrap();
    ledger.append_entries(&[entry(4)]).unwrap();
    drop(ledger);
    let whole = fs::read(&segment).unwrap();
    for len in durable.len()..whole.len() {
        fs::write(&segment, &whole[..len]).unwrap();
        fs::write(path.join("head"), &head).unwrap();
        let (ledger, report) = Ledger::open(&path, ORIGIN, key(), one_segment()).unwrap();
        assert_eq!(report.tail_bytes_cut, (len - durable.len()) as u64);
        assert_eq!(ledger.size(), 4);
        assert_eq!(fs::read(&segment).unwrap(), durable);
    }
    // The same with the sectors in another order: the start of the batch is what is missing.
    for hole in durable.len()..whole.len() {
        let mut torn = whole.clone();
        torn[durable.len()..=hole].fill(0);
        fs::write(&segment, &torn).unwrap();
        fs::write(path.join("head"), &head).unwrap();
        let (ledger, _) = Ledger::open(&path, ORIGIN, key(), one_segment()).unwrap();
        assert_eq!(ledger.size(), 4);
    }
    // Whole, it counts, though the head file has not come to it.
    fs::write(&segment, &whole).unwrap();
    fs::write(path.join("head"), &head).unwrap();
    let (ledger, report) = Ledger::open(&path, ORIGIN, key(), one_segment()).unwrap();
    assert_eq!(report.head, ledger::HeadState::Behind { size: 4 });
    check_entries(&ledger.reader(), 5);
}

#[test]
fn a_tail_that_ends_below_the_head_is_damage_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 4, one_segment()));
    let segment = last_segment(&path);
    let whole = fs::read(&segment).unwrap();
    for len in 0..whole.len() {
        fs::write(&segment, &whole[..len]).unwrap();
        let error = Ledger::open(&path, ORIGIN, key(), one_segment()).unwrap_err();
        assert!(error.damage().is_some(), "length {len}: {error}");
        // Nothing was changed.
        assert_eq!(fs::read(&segment).unwrap().len(), len);
    }
}

#[test]
fn damage_before_the_last_commit_is_no_torn_tail_even_without_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = Ledger::create(&path, ORIGIN, key(), one_segment(), &entry(0)).unwrap();
    let segment = last_segment(&path);
    let from = fs::read(&segment).unwrap().len();
    ledger.append_entries(&entries(1..3)).unwrap();
    let to = fs::read(&segment).unwrap().len();
    ledger.append_entries(&entries(3..4)).unwrap();
    drop(ledger);
    let whole = fs::read(&segment).unwrap();
    fs::remove_file(path.join("head")).unwrap();
    for byte in (from..to - 300).step_by(3) {
        let mut bad = whole.clone();
        bad[byte] ^= 0x10;
        fs::write(&segment, &bad).unwrap();
        let error = Ledger::open(&path, ORIGIN, key(), one_segment()).unwrap_err();
        assert!(error.damage().is_some(), "byte {byte}: {error}");
        assert_eq!(fs::read(&segment).unwrap(), bad);
    }
}

/// Flips bits all over a directory, one at a time, and has each found.
fn check_flips(dir: &Path, step: usize) {
    assert!(audit(dir, &verifier(), &|_| ()).unwrap().is_ok());
    let mut found = Vec::new();
    files(dir, &mut found);
    let mut flips = 0;
    for file in &found {
        let good = fs::read(file).unwrap();
        for byte in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            fs::write(file, &bad).unwrap();
            let report = audit(dir, &verifier(), &|_| ()).unwrap();
            assert!(!report.is_ok(), "byte {byte} of {}", file.display());
            // One flipped bit makes few problems.
            assert!(report.problems_found < 12, "byte {byte} of {}: {report:#?}", file.display());
            flips += 1;
        }
        fs::write(file, &good).unwrap();
    }
    assert!(flips > 100, "{flips}");
    assert!(audit(dir, &verifier(), &|_| ()).unwrap().is_ok());
}

#[test]
fn an_audit_finds_every_flipped_bit_of_a_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 300, options()));
    check_flips(&path, 17);
}

#[test]
fn an_audit_finds_every_flipped_bit_of_an_export() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("ledger"), dir.path().join("export"));
    let mut ledger = ledger_of(&path, 270, options());
    ledger.reader().export(&target).unwrap();
    ledger.append_entries(&entries(270..300)).unwrap();
    ledger.reader().export(&target).unwrap();
    check_flips(&target, 31);
}

#[test]
fn an_audit_says_which_entry_is_wrong_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 200, one_segment()));
    let segment = last_segment(&path);
    let mut bytes = fs::read(&segment).unwrap();
    let wanted = entry(150);
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    bytes[at + 3] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let report = audit(&path, &verifier(), &|_| ()).unwrap();
    assert_eq!(report.entries_checked, 200);
    assert_eq!(report.problems.len(), 1, "{report:#?}");
    assert_eq!(report.problems[0].kind, DamageKind::FrameChecksum { position: 150 });
    assert_eq!(report.problems[0].offset, at as u64 - 9);
}

#[test]
fn a_frame_of_another_type_is_named_and_nothing_is_counted_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 200, one_segment()));
    let segment = last_segment(&path);
    let good = fs::read(&segment).unwrap();
    let wanted = entry(150);
    let an_entry = good.windows(wanted.len()).position(|window| window == wanted).unwrap();
    let a_note = format!("{ORIGIN}\n");
    let first_note =
        1_024 + good[1_024..].windows(a_note.len()).position(|window| window == a_note.as_bytes()).unwrap();
    for (payload, position) in [(an_entry, 150), (first_note, 1)] {
        let mut bytes = good.clone();
        bytes[payload - 1] ^= 0x02;
        fs::write(&segment, &bytes).unwrap();
        let report = audit(&path, &verifier(), &|_| ()).unwrap();
        assert_eq!(report.entries_checked, position);
        // An entry too many also asks for a hash that the tree does not have.
        let found = report.problems.iter().find(|problem| problem.file == segment).unwrap();
        assert_eq!((&found.kind, found.offset), (&DamageKind::FrameChecksum { position }, payload as u64 - 9));
        assert!(report.problems_found <= 2, "{report:#?}");
    }
}

#[test]
fn an_entry_changed_with_its_checksum_is_found_by_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = ledger_of(&path, 20, one_segment());
    let segment = last_segment(&path);
    let mut bytes = fs::read(&segment).unwrap();
    let wanted = entry(15);
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    let mut forged = ledger::Chunk::new();
    forged.push(&[b"E", &wanted[1..]].concat()).unwrap();
    bytes[at - 9..at + wanted.len()].copy_from_slice(forged.bytes());
    fs::write(&segment, &bytes).unwrap();
    let error = ledger.reader().entry(15).unwrap_err();
    assert_eq!(error.damage().unwrap().kind, DamageKind::Entry { position: 15 });
    let report = audit(&path, &verifier(), &|_| ()).unwrap();
    assert!(report.problems.iter().any(|problem| matches!(problem.kind, DamageKind::Root { .. })), "{report:#?}");
    // A start compares what it reads with the signed root, with a head file or without.
    drop(ledger);
    for _ in 0..2 {
        let error = Ledger::open(&path, ORIGIN, key(), one_segment()).unwrap_err();
        let damage = error.damage().unwrap();
        assert!(matches!(damage.kind, DamageKind::Root { size: 20, .. }), "{error}");
        assert_eq!(damage.file, segment);
        let _ = fs::remove_file(path.join("head"));
    }
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 900, options()));
    let mut found = Vec::new();
    files(&path.join("segments"), &mut found);
    fs::remove_file(&found[1]).unwrap();
    let report = audit(&path, &verifier(), &|_| ()).unwrap();
    let missing = |problem: &ledger::Damage| matches!(problem.kind, DamageKind::SegmentMissing { .. });
    assert!(report.problems.iter().any(missing), "{report:#?}");
    fs::remove_file(found.last().unwrap()).unwrap();
    let error = Ledger::open(&path, ORIGIN, key(), options()).unwrap_err();
    assert!(matches!(error.damage().unwrap().kind, DamageKind::SegmentMissing { .. }), "{error}");
}

#[test]
fn an_export_hands_out_nothing_that_is_not_under_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("ledger"), dir.path().join("export"));
    ledger_of(&path, 600, options()).reader().export(&target).unwrap();
    // A full tile replaced by a truncated one, a bundle by another's, a tile missing.
    let bundle = target.join("tile/entries/001");
    let good = fs::read(&bundle).unwrap();
    fs::write(&bundle, fs::read(target.join("tile/entries/000")).unwrap()).unwrap();
    let export = ExportReader::open(&target, &verifier()).unwrap();
    assert_eq!(export.entry(300).unwrap_err().damage().unwrap().kind, DamageKind::Entry { position: 256 });
    assert_eq!(export.entry(3).unwrap(), entry(3));
    fs::write(&bundle, good).unwrap();
    let tile = target.join("tile/0/001");
    let good = fs::read(&tile).unwrap();
    fs::write(&tile, &good[..4_096]).unwrap();
    let export = ExportReader::open(&target, &verifier()).unwrap();
    assert_eq!(export.entry(300).unwrap_err().damage().unwrap().kind, DamageKind::Tile);
    fs::remove_file(&tile).unwrap();
    assert_eq!(export.inclusion_proof(300, 600).unwrap_err().damage().unwrap().kind, DamageKind::Tile);
    assert!(!audit(&target, &verifier(), &|_| ()).unwrap().is_ok());
}

/// The signatures of many checkpoints are verified at once: the one that is wrong is named all the same, and no other.
#[test]
fn a_checkpoint_with_a_wrong_signature_alone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = ledger_of(&path, 1, one_segment());
    for position in 1..40 {
        ledger.append_entries(&[entry(position)]).unwrap();
    }
    drop(ledger);
    let segment = last_segment(&path);
    let sound = fs::read(&segment).unwrap();
    for position in [2_u64, 20, 39] {
        let mut bytes = sound.clone();
        // The frame: length, checksum, type, and the note, which ends with a signature in base64 and a line feed.
        let start = format!("{ORIGIN}\n{position}\n");
        let note = bytes.windows(start.len()).position(|window| window == start.as_bytes()).unwrap();
        let frame = note - 9;
        let len = usize::try_from(u32::from_le_bytes(bytes[frame..frame + 4].try_into().unwrap())).unwrap();
        let digit = &mut bytes[note + len - 20];
        *digit = if *digit == b'A' { b'B' } else { b'A' };
        let covered = [&bytes[frame..frame + 4], &bytes[frame + 8..note + len]].concat();
        let crc = crc32c::crc32c(&covered).to_le_bytes();
        bytes[frame + 4..frame + 8].copy_from_slice(&crc);
        fs::write(&segment, &bytes).unwrap();
        let report = audit(&path, &verifier(), &|_| ()).unwrap();
        let [problem] = &report.problems[..] else { panic!("{:#?}", report.problems) };
        assert_eq!(problem.offset, frame as u64);
        assert!(
            matches!(&problem.kind, DamageKind::Checkpoint { position: named, why } if *named == position && why.contains("does not verify")),
            "{problem:?}"
        );
    }
}

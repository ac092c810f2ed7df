//! What no other test of segments, raw and sealed, would notice: each of these was found by a mutant of the code that survived
//! the others.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{ORIGIN, audit_sound, check_entries, entry, key, ledger_of, options, rng::Rng, seal_all, verifier};
use crc32c::{crc32c, crc32c_append};
use ledger::{
    Checkpoint, DamageKind, Error, Hash, Ledger, Options,
    disk::OsDisk,
    verify::{AuditReport, audit},
};

const HEADER_BYTES: usize = 1_024;
const FRAME_HEAD_BYTES: usize = 9;
const TABLE_FOOT_BYTES: usize = 24;

fn segments(ledger: &Path, form: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(ledger.join("segments")).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<PathBuf> = found.filter(|path| path.extension().is_some_and(|kind| kind == form)).collect();
    found.sort();
    found
}

fn report_of(ledger: &Path) -> AuditReport {
    audit(ledger, &verifier(), &|_| ()).unwrap()
}

/// The lengths of a raw segment's frames.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), HEADER_BYTES);
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize + FRAME_HEAD_BYTES;
        found.push(len);
        at += len;
    }
    found
}

/// The raw lengths of a sealed segment's blocks, but for the header's.
fn blocks(bytes: &[u8]) -> Vec<usize> {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let foot = bytes.len() - TABLE_FOOT_BYTES;
    let rows = foot - number(foot + 8) * 16;
    (rows..foot).step_by(16).skip(1).map(|row| number(row + 4)).collect()
}

#[test]
fn a_block_takes_every_frame_that_fits_it_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let block_bytes = 700;
    let options = Options { segment_bytes_max: 6_000, sealed_block_bytes: 700 };
    let mut ledger = Ledger::create(&path, ORIGIN, key(), options, &entry(0)).unwrap();
    // Seven frames of 100 bytes fill a block to the byte; an entry longer than a block has one of its own.
    let mut batch = vec![vec![7; 100 - FRAME_HEAD_BYTES]; 30];
    batch[20] = vec![8; 1_000];
    for _ in 0..4 {
        ledger.append_entries(&batch).unwrap();
    }
    let raw = segments(&path, "segment");
    let lengths: Vec<Vec<usize>> = raw.iter().map(|file| frames(&fs::read(file).unwrap())).collect();
    let sealer = ledger.sealer();
    let mut waiting = raw.len() - 1;
    assert!(waiting > 1);
    for (file, frames) in raw[..raw.len() - 1].iter().zip(lengths) {
        assert_eq!(sealer.waiting(), waiting);
        sealer.seal_next().unwrap().unwrap();
        waiting -= 1;
        let mut wanted = vec![0];
        for len in frames {
            match wanted.last_mut().filter(|block| **block == 0 || **block + len <= block_bytes) {
                Some(block) => *block += len,
                None => wanted.push(len),
            }
        }
        assert!(wanted.contains(&700) && wanted.contains(&1_009), "{wanted:?}");
        assert_eq!(blocks(&fs::read(file.with_extension("sealed")).unwrap()), wanted);
    }
    assert_eq!((sealer.waiting(), waiting), (0, 0));
}

#[test]
fn a_sealed_segment_of_several_writes_and_several_parts_of_an_audit_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let options = Options { segment_bytes_max: 5_000_000, sealed_block_bytes: 1 << 16 };
    let mut ledger = Ledger::create(&path, ORIGIN, key(), options, &entry(0)).unwrap();
    // What cannot be compressed, so that it stays above the 256 KiB of one write; an audit takes 2 MiB at a time.
    let mut rng = Rng::new(7);
    let batches: Vec<Vec<u8>> =
        (0..110).map(|_| (0..50_000).map(|_| rng.number().to_le_bytes()[0]).collect()).collect();
    for entry in &batches {
        ledger.append_entries(&[entry]).unwrap();
    }
    let sealed = ledger.sealer().seal_next().unwrap().unwrap();
    assert!(sealed.sealed_bytes > 4 << 20, "{sealed:?}");
    let reader = ledger.reader();
    assert!((1..=110).zip(&batches).all(|(position, entry)| reader.entry(position).unwrap() == *entry));
    audit_sound(&(Arc::new(OsDisk) as _), &path);
}

#[test]
fn a_segment_that_another_checkpoint_closes_is_not_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = ledger_of(&path, 300, options());
    let raw = segments(&path, "segment").swap_remove(0);
    let next: u64 = segments(&path, "segment")[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let bytes = fs::read(&raw).unwrap();
    let at = bytes.len() - frames(&bytes).pop().unwrap();
    // Signed by the ledger's key, in a frame with a checksum that fits, and of one entry less.
    let root = ledger.reader().root_at(next - 1).unwrap();
    let wrong = Checkpoint { origin: ORIGIN.into(), size: next - 1, root }.sign(&key());
    let text = wrong.text().as_bytes();
    let len = u32::try_from(text.len()).unwrap().to_le_bytes();
    let crc = crc32c_append(crc32c_append(crc32c(&len), &[2]), text).to_le_bytes();
    fs::write(&raw, [&bytes[..at], &len, &crc, &[2], text].concat()).unwrap();
    let error = ledger.sealer().seal_next().unwrap_err();
    let damage = error.damage().unwrap();
    assert_eq!(damage.kind, DamageKind::CheckpointSize { stated: next - 1, counted: next });
    assert_eq!((&damage.file, damage.offset), (&raw, at as u64));
    assert!(raw.exists() && !raw.with_extension("sealed").exists());
}

#[test]
fn a_name_that_is_no_segments_is_reported_and_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 300, options()));
    audit_sound(&(Arc::new(OsDisk) as _), &path);
    // Too short, too long, no number, another form, no form.
    for name in [
        "0000000000000000007.segment",
        "000000000000000000007.segment",
        "0000000000000000000x.segment",
        "00000000000000000007.other",
        "00000000000000000007",
        "notes.txt",
    ] {
        let stray = path.join("segments").join(name);
        fs::write(&stray, b"stray").unwrap();
        let report = report_of(&path);
        let found: Vec<_> = report.problems.iter().map(|problem| (&problem.file, &problem.kind)).collect();
        assert_eq!(found, [(&stray, &DamageKind::Unknown)], "{name}");
        let (ledger, recovery) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
        assert!(recovery.was_clean(), "{name}: {recovery:?}");
        check_entries(&ledger.reader(), 300);
        fs::remove_file(stray).unwrap();
    }
}

#[test]
fn a_file_in_the_place_of_the_segments_is_no_ledger() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("segments"), b"no directory").unwrap();
    let none = |error: &Error| matches!(error, Error::NoLedger { path } if path == dir.path());
    let opened = Ledger::open(dir.path(), ORIGIN, key(), options()).unwrap_err();
    let audited = audit(dir.path(), &verifier(), &|_| ()).unwrap_err();
    assert!(none(&opened) && none(&audited), "{opened}, {audited}");
}

#[test]
fn a_header_of_another_segment_is_no_header_whatever_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 300, options()));
    let raw = segments(&path, "segment");
    let firsts: Vec<u64> =
        raw.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap()).collect();
    let good = fs::read(&raw[1]).unwrap();
    let other = fs::read(&raw[2]).unwrap();
    // Its own checkpoint under another number, and another's checkpoint under its number.
    for (from, number) in [(&good, firsts[2]), (&other, firsts[1])] {
        let mut bad = good.clone();
        bad[..HEADER_BYTES].copy_from_slice(&from[..HEADER_BYTES]);
        bad[8..16].copy_from_slice(&number.to_le_bytes());
        let crc = crc32c(&bad[..HEADER_BYTES - 4]);
        bad[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        fs::write(&raw[1], &bad).unwrap();
        let report = report_of(&path);
        let found: Vec<_> = report.problems.iter().map(|problem| (&problem.file, &problem.kind)).collect();
        assert_eq!(found, [(&raw[1], &DamageKind::SegmentHeader)], "{number}");
    }
    // Of the right size, signed by the key, and over another root.
    let wrong = Checkpoint { origin: ORIGIN.into(), size: firsts[1], root: Hash::of(b"other") }.sign(&key());
    let mut bad = good.clone();
    bad[24..28].copy_from_slice(&u32::try_from(wrong.text().len()).unwrap().to_le_bytes());
    bad[28..28 + wrong.text().len()].copy_from_slice(wrong.text().as_bytes());
    let crc = crc32c(&bad[..HEADER_BYTES - 4]);
    bad[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    fs::write(&raw[1], &bad).unwrap();
    let report = report_of(&path);
    let is_root = |kind: &DamageKind| matches!(kind, DamageKind::Root { signed, .. } if *signed == wrong.root());
    assert!(report.problems.iter().any(|problem| problem.file == raw[1] && is_root(&problem.kind)), "{report:#?}");
    fs::write(&raw[1], good).unwrap();
    assert_eq!(
        seal_all(&Ledger::open(&path, ORIGIN, key(), options()).unwrap().0.sealer()).unwrap(),
        raw.len() as u64 - 1
    );
}

fn found(report: &AuditReport) -> Vec<(&Path, &DamageKind)> {
    report.problems.iter().map(|problem| (problem.file.as_path(), &problem.kind)).collect()
}

#[test]
fn an_audit_misses_the_checkpoint_that_should_close_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 300, options()));
    let raw = segments(&path, "segment");
    let next: u64 = raw[2].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let bytes = fs::read(&raw[1]).unwrap();
    fs::write(&raw[1], &bytes[..bytes.len() - frames(&bytes).pop().unwrap()]).unwrap();
    let report = report_of(&path);
    assert_eq!(found(&report), [(raw[1].as_path(), &DamageKind::Short { position: next })]);
    assert_eq!(report.entries_checked, 300);
    fs::write(&raw[1], bytes).unwrap();
    // Where the last segment is gone the head says so, and that the entries end below it follows from that.
    let last = raw.last().unwrap();
    let position = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::remove_file(last).unwrap();
    let report = report_of(&path);
    assert!(
        found(&report).contains(&(&path.join("segments"), &DamageKind::SegmentMissing { position })),
        "{report:#?}"
    );
    assert!(found(&report).iter().all(|(_, kind)| !matches!(kind, DamageKind::BelowHead { .. })), "{report:#?}");
}

#[test]
fn an_audit_goes_on_behind_a_header_and_a_segment_that_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = Ledger::create(&path, ORIGIN, key(), options(), &entry(0)).unwrap();
    for position in 1..300 {
        ledger.append_entries(&[entry(position)]).unwrap();
    }
    drop(ledger);
    let raw = segments(&path, "segment");
    let first = |index: usize| raw[index].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let gone = fs::read(&raw[1]).unwrap();
    fs::remove_file(&raw[1]).unwrap();
    let report = report_of(&path);
    assert_eq!(found(&report), [(raw[2].as_path(), &DamageKind::SegmentMissing { position: first(1) })]);
    assert_eq!(report.entries_checked, 300 - (first(2) - first(1)));
    fs::write(&raw[1], gone).unwrap();
    let mut bytes = fs::read(&raw[2]).unwrap();
    bytes[100] ^= 1;
    fs::write(&raw[2], bytes).unwrap();
    // The header alone: its entries follow from those before, and all are checked.
    let report = report_of(&path);
    assert_eq!(found(&report), [(raw[2].as_path(), &DamageKind::SegmentHeader)]);
    assert_eq!(report.entries_checked, 300);
    // With the segment before it gone too, nothing says where its entries are; those of the next are checked again.
    fs::remove_file(&raw[1]).unwrap();
    let report = report_of(&path);
    assert_eq!(found(&report), [(raw[2].as_path(), &DamageKind::SegmentHeader)]);
    assert_eq!(report.entries_checked, 300 - (first(3) - first(1)));
}

/// Puts another block in the head file's place, its checksum made to fit.
fn change_head(ledger: &Path, change: impl FnOnce(&mut [u8])) {
    let path = ledger.join("head");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes[..HEADER_BYTES - 4]);
    let crc = crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_audit_compares_the_entries_with_the_head_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = ledger_of(&path, 30, Options::default());
    let (head, root) = (path.join("head"), ledger.root());
    let end = fs::metadata(&segments(&path, "segment")[0]).unwrap().len();
    ledger.append_entries(&[entry(30)]).unwrap();
    drop(ledger);
    let good = fs::read(&head).unwrap();
    // The signed size, and less of the segment than there is of it.
    change_head(&path, |block| block[16..24].copy_from_slice(&end.to_le_bytes()));
    let report = report_of(&path);
    assert_eq!(found(&report), [(head.as_path(), &DamageKind::BelowHead { size: 30, head_size: 31 })]);
    // A root that the key has signed, and the entries do not give; with another problem, and without.
    let wrong = Checkpoint { origin: ORIGIN.into(), size: 31, root }.sign(&key());
    fs::write(&head, &good).unwrap();
    change_head(&path, |block| {
        block[24..28].copy_from_slice(&u32::try_from(wrong.text().len()).unwrap().to_le_bytes());
        block[28..].fill(0);
        block[28..28 + wrong.text().len()].copy_from_slice(wrong.text().as_bytes());
    });
    for strays in [0, 1] {
        let report = report_of(&path);
        let is_root = |kind: &DamageKind| matches!(kind, DamageKind::Root { size: 31, signed, .. } if *signed == root);
        assert!(report.problems_found == 1 + strays, "{report:#?}");
        assert!(found(&report).iter().any(|(file, kind)| *file == head && is_root(kind)), "{report:#?}");
        fs::write(path.join("segments/stray"), b"").unwrap();
    }
    fs::remove_file(path.join("segments/stray")).unwrap();
    // Without it the entries say what there is.
    fs::remove_file(&head).unwrap();
    let report = report_of(&path);
    assert_eq!(found(&report), [(head.as_path(), &DamageKind::Head)]);
    assert_eq!(report.size, 31);
    fs::write(&head, &good).unwrap();
    let whole = audit_sound(&(Arc::new(OsDisk) as _), &path);
    assert_eq!((report.root, report.entries_checked), (whole.root, 31));
}

#[test]
fn a_wrong_hash_of_the_tree_is_one_problem_however_the_segments_lie() {
    for options in [Options::default(), options()] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let mut ledger = Ledger::create(&path, ORIGIN, key(), options, &entry(0)).unwrap();
        for position in 1..300 {
            ledger.append_entries(&[entry(position)]).unwrap();
        }
        drop(ledger);
        for (level, index) in [(0, 7), (1, 0)] {
            let file = path.join("tree").join(level.to_string());
            let good = fs::read(&file).unwrap();
            let mut bad = good.clone();
            bad[index * 32 + 5] ^= 1;
            fs::write(&file, bad).unwrap();
            let report = report_of(&path);
            assert_eq!(found(&report), [(file.as_path(), &DamageKind::TreeHash { level, index: index as u64 })]);
            fs::write(&file, good).unwrap();
        }
    }
}

#[test]
fn so_many_problems_are_listed_and_all_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 2_000, Options::default()));
    fs::write(path.join("tree/0"), vec![0; 2_000 * 32]).unwrap();
    let report = report_of(&path);
    assert_eq!((report.problems.len(), report.problems_found), (ledger::verify::PROBLEMS_MAX, 2_000));
}

#[test]
fn what_is_audited_as_an_export_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let (path, export) = (dir.path().join("ledger"), dir.path().join("export"));
    let ledger = ledger_of(&path, 300, options());
    ledger.reader().export(&export).unwrap();
    drop(ledger);
    // A ledger stays one with whatever lies beside its segments.
    fs::write(path.join("checkpoint"), b"stray").unwrap();
    fs::create_dir(path.join("tile")).unwrap();
    assert!(report_of(&path).is_ok());
    // Without its checkpoint there is nothing to check against; without its tiles an export is damaged, and not none.
    let checkpoint = fs::read(export.join("checkpoint")).unwrap();
    fs::remove_file(export.join("checkpoint")).unwrap();
    let none = audit(&export, &verifier(), &|_| ()).unwrap_err();
    assert!(matches!(none, Error::NoLedger { .. }), "{none}");
    fs::write(export.join("checkpoint"), checkpoint).unwrap();
    assert!(report_of(&export).is_ok());
    fs::remove_dir_all(export.join("tile")).unwrap();
    assert!(!report_of(&export).is_ok());
}

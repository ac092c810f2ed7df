//! A ledger on the machine's own disk: what is appended is read back, by its own readers, by readers of
//! other processes, and from an export.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{fs, ops::ControlFlow, sync::Arc};

use common::{ORIGIN, audit_sound, check_entries, entries, entry, key, ledger_of, options, verifier};
use ledger::{
    Chunk, DamageKind, EntrySource as _, Error, Hash, HeadState, Ledger, LedgerKey, Options, Reader, TilePath,
    disk::OsDisk,
    export::ExportReader,
    proof::ProofFile,
    tree::leaf_hash,
    verify::{self, VerifyError, audit, audit_extends},
};

#[test]
fn a_ledger_begins_with_one_entry_and_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("governance");
    let ledger = Ledger::create(&path, ORIGIN, key(), Options::default(), b"settings").unwrap();
    assert_eq!((ledger.size(), ledger.root()), (1, leaf_hash(b"settings")));
    let checkpoint = ledger.checkpoint();
    checkpoint.verify(&verifier()).unwrap();
    drop(ledger);
    let (mut ledger, report) = Ledger::open(&path, ORIGIN, key(), Options::default()).unwrap();
    assert!(report.was_clean(), "{report:?}");
    assert_eq!(report.entries_scanned, 1);
    assert_eq!(ledger.checkpoint(), checkpoint);
    assert_eq!(ledger.append(&[]).unwrap(), 1..1);
    assert_eq!(ledger.append(&[Chunk::new()]).unwrap(), 1..1);
    assert_eq!(ledger.append_entries(&[b"a", b"b"]).unwrap(), 1..3);
    let mut chunk = Chunk::new();
    chunk.push_parts(&[b"c", b"", b"d"]).unwrap();
    assert_eq!(ledger.append(&[chunk, Chunk::new()]).unwrap(), 3..4);
    let reader = ledger.reader();
    assert_eq!(reader.entry(3).unwrap(), b"cd");
    assert_eq!(reader.origin(), ORIGIN);
    assert!(matches!(reader.entry(4), Err(Error::Position { position: 4, from: 0, size: 4 })));
    assert!(matches!(reader.root_at(5), Err(Error::Size { asked: 5, size: 4 })));
    assert!(matches!(ledger.append_entries(&[vec![0; 65_536]]), Err(Error::EntryTooLarge { bytes: 65_536 })));
    // A refused entry does not stop the writer; the longest one and an empty one are fine.
    assert_eq!(ledger.append_entries(&[vec![0; 65_535], Vec::new()]).unwrap(), 4..6);
    assert_eq!(reader.entry(4).unwrap().len(), 65_535);
    assert_eq!(reader.entry(5).unwrap(), b"");
}

#[test]
fn create_refuses_what_is_there_and_what_cannot_be_an_origin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("governance");
    for origin in ["", "a b", "a+b", "a\nb", &"o".repeat(201)] {
        let made = Ledger::create(&path, origin, key(), options(), b"x");
        assert!(matches!(made, Err(Error::Origin(_))), "{origin:?}");
    }
    assert!(matches!(Ledger::open(&path, ORIGIN, key(), options()), Err(Error::NoLedger { .. })));
    assert!(matches!(Reader::open(&path, &verifier()), Err(Error::NoLedger { .. })));
    // An attempt that broke off is no obstacle, nor is an empty directory.
    fs::create_dir_all(dir.path().join("governance.creating/segments")).unwrap();
    fs::write(dir.path().join("governance.creating/head"), vec![1; 5_000]).unwrap();
    fs::create_dir(&path).unwrap();
    let ledger = Ledger::create(&path, ORIGIN, key(), options(), b"x").unwrap();
    assert!(matches!(Ledger::create(&path, ORIGIN, key(), options(), b"x"), Err(Error::Exists { .. })));
    drop(ledger);
    audit_sound(&(Arc::new(OsDisk) as _), &path);
}

#[test]
fn a_second_writer_is_refused_and_so_is_another_key_or_origin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = ledger_of(&path, 5, options());
    assert!(matches!(Ledger::open(&path, ORIGIN, key(), options()), Err(Error::Locked { .. })));
    drop(ledger);
    let other = LedgerKey::generate([1; 32]);
    assert!(matches!(Ledger::open(&path, ORIGIN, other.clone(), options()), Err(Error::OtherLedger { .. })));
    assert!(matches!(Ledger::open(&path, "node-2", key(), options()), Err(Error::OtherLedger { .. })));
    assert!(matches!(Reader::open(&path, &other.verifier_key(ORIGIN)), Err(Error::OtherLedger { .. })));
    assert!(matches!(audit(&path, &other.verifier_key(ORIGIN), &|_| ()), Err(Error::OtherLedger { .. })));
    Ledger::open(&path, ORIGIN, key(), options()).unwrap();
}

#[test]
fn entries_roots_proofs_and_tiles_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let size = 1_500;
    let ledger = ledger_of(&path, size, options());
    assert!(fs::read_dir(path.join("segments")).unwrap().count() > 3);
    for reader in [ledger.reader(), Reader::open(&path, &verifier()).unwrap()] {
        check_entries(&reader, size);
        let leaves: Vec<Hash> = (0..size).map(|position| leaf_hash(&entry(position))).collect();
        let collected: Result<Vec<_>, _> = reader.entries(700..1_300).collect();
        assert!(
            collected
                .unwrap()
                .iter()
                .zip(700..)
                .all(|((at, found), position)| { *at == position && *found == entry(position) })
        );
        for position in (0..size).step_by(97) {
            assert_eq!(reader.entry(position).unwrap(), entry(position));
            assert_eq!(reader.leaf_hash_at(position).unwrap(), leaf_hash(&entry(position)));
            for at in [position + 1, size.midpoint(position + 1), size] {
                let proof = reader.inclusion_proof(position, at).unwrap();
                let leaf = leaf_hash(&entry(position));
                verify::inclusion(position, at, &leaf, &proof, &reader.root_at(at).unwrap()).unwrap();
            }
        }
        let tile = reader.tile(&TilePath::parse("tile/0/003.p/17").unwrap()).unwrap();
        assert_eq!(tile, leaves[768..785].iter().flat_map(|hash| hash.0).collect::<Vec<u8>>());
        let tile = reader.tile(&TilePath::parse("tile/1/000.p/5").unwrap()).unwrap();
        assert_eq!(tile.len(), 160);
        let bundle = reader.tile(&TilePath::parse("tile/entries/005.p/1").unwrap()).unwrap();
        assert_eq!(bundle[2..], entry(1_280)[..]);
        for absent in ["tile/0/005.p/221", "tile/0/006", "tile/1/000.p/6", "tile/2/000.p/1", "tile/entries/005"] {
            let found = reader.tile(&TilePath::parse(absent).unwrap());
            assert!(matches!(found, Err(Error::NoTile { .. })), "{absent}");
        }
        let mut seen = 0;
        let visit = |_, _: &[u8]| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        reader.for_each_entry(10..size, visit).unwrap();
        assert_eq!(seen, 3);
    }
}

#[test]
fn tree_and_index_are_made_again_when_they_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let (size, root) = {
        let ledger = ledger_of(&path, 700, options());
        (ledger.size(), ledger.root())
    };
    fs::remove_dir_all(path.join("tree")).unwrap();
    fs::remove_file(path.join("index")).unwrap();
    fs::remove_file(path.join("head")).unwrap();
    let (ledger, report) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    assert!(report.tree_rebuilt);
    assert_eq!((report.size, report.root, report.entries_scanned), (size, root, size));
    assert_eq!(report.head, HeadState::Missing);
    check_entries(&ledger.reader(), size);
    audit_sound(&(Arc::new(OsDisk) as _), &path);
}

#[test]
fn a_start_reads_only_the_last_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 2_000, options()));
    let (_, report) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    assert!(report.entries_scanned < 1_500, "{report:?}");
    assert!(report.was_clean());
}

#[test]
fn readers_read_while_the_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = ledger_of(&path, 1, options());
    let outside = Reader::open(&path, &verifier()).unwrap();
    let inside = ledger.reader();
    std::thread::scope(|scope| {
        for reader in [inside.clone(), outside.clone()] {
            scope.spawn(move || {
                let mut before = (0, Hash::default());
                while before.0 < 600 {
                    reader.refresh().unwrap();
                    let checkpoint = reader.checkpoint();
                    let (size, root) = (checkpoint.size(), checkpoint.root());
                    assert!(size >= before.0);
                    assert_eq!(reader.root_at(size).unwrap(), root);
                    assert_eq!(reader.entry(size - 1).unwrap(), entry(size - 1));
                    if before.0 > 0 {
                        let proof = reader.consistency_proof(before.0, size).unwrap();
                        verify::consistency(before.0, &before.1, size, &root, &proof).unwrap();
                    }
                    before = (size, root);
                }
            });
        }
        while ledger.size() < 600 {
            let from = ledger.size();
            ledger.append_entries(&entries(from..from + from % 7 + 1)).unwrap();
        }
    });
    outside.refresh().unwrap();
    assert_eq!(outside.checkpoint(), ledger.checkpoint());
    check_entries(&inside, ledger.size());
}

#[test]
fn an_export_is_read_back_and_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("ledger"), dir.path().join("export"));
    let mut ledger = ledger_of(&path, 300, options());
    let report = ledger.reader().export(&target).unwrap();
    assert_eq!((report.size, report.tiles_written, report.bundles_written), (300, 3, 2));
    let first = ExportReader::open(&target, &verifier()).unwrap();
    check_entries(&first, 300);
    let kept = first.checkpoint_text();
    // What it has is not written again.
    let report = ledger.reader().export(&target).unwrap();
    assert_eq!((report.tiles_written, report.bundles_written), (0, 0));
    ledger.append_entries(&entries(300..1_100)).unwrap();
    let report = ledger.reader().export(&target).unwrap();
    assert_eq!((report.tiles_written, report.bundles_written), (5, 4));
    let export = ExportReader::open(&target, &verifier()).unwrap();
    check_entries(&export, 1_100);
    assert_eq!(export.origin(), ORIGIN);
    let reader = ledger.reader();
    for (old, new) in [(0, 5), (1, 1_100), (299, 300), (256, 1_024), (777, 1_100)] {
        assert_eq!(export.consistency_proof(old, new).unwrap(), reader.consistency_proof(old, new).unwrap());
        assert_eq!(export.root_at(new).unwrap(), reader.root_at(new).unwrap());
    }
    assert_eq!(export.inclusion_proof(77, 1_000).unwrap(), reader.inclusion_proof(77, 1_000).unwrap());
    assert_eq!(export.entry(1_099).unwrap(), entry(1_099));
    assert!(matches!(export.entry(1_100), Err(Error::Position { .. })));
    let report = audit_sound(&(Arc::new(OsDisk) as _), &target);
    assert_eq!((report.size, report.root), (1_100, ledger.root()));
    // An older checkpoint that was kept is extended by both.
    for source in [&path, &target] {
        let report = audit_extends(source, &kept, &verifier()).unwrap();
        assert_eq!((report.old_size, report.size), (300, 1_100));
    }
    let small = dir.path().join("small");
    let behind = ledger_of(&small, 20, options());
    assert!(matches!(behind.reader().export(&target), Err(Error::ExportDiffers { export_size: 1_100, size: 20, .. })));
}

#[test]
fn a_ledger_written_anew_does_not_extend_a_kept_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (path, forged) = (dir.path().join("ledger"), dir.path().join("forged"));
    let kept = ledger_of(&path, 50, options()).checkpoint();
    let mut ledger = ledger_of(&forged, 20, options());
    ledger.append_entries(&[b"changed"]).unwrap();
    ledger.append_entries(&entries(21..90)).unwrap();
    audit_sound(&(Arc::new(OsDisk) as _), &forged);
    let extends = audit_extends(&forged, kept.text(), &verifier());
    assert!(matches!(extends, Err(Error::Verify(VerifyError::Root { .. }))), "{extends:?}");
    let shorter = dir.path().join("shorter");
    drop(ledger_of(&shorter, 49, options()));
    let extends = audit_extends(&shorter, kept.text(), &verifier());
    assert!(matches!(extends, Err(Error::Verify(VerifyError::Order { old: 50, new: 49 }))), "{extends:?}");
}

#[test]
fn a_proof_file_proves_an_entry_to_someone_who_has_the_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger_of(&dir.path().join("ledger"), 123, options());
    let hashes = ledger.reader().inclusion_proof(77, 123).unwrap();
    let proof = ProofFile { extra: None, index: 77, hashes, checkpoint: ledger.checkpoint() };
    let read = ProofFile::parse(&proof.to_string()).unwrap();
    read.verify(&entry(77), &verifier()).unwrap();
    assert!(read.verify(&entry(78), &verifier()).is_err());
}

#[test]
fn a_reader_of_another_process_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 40, options()));
    fs::remove_file(path.join("head")).unwrap();
    let error = Reader::open(&path, &verifier()).unwrap_err();
    assert_eq!(error.damage().unwrap().kind, DamageKind::Head);
}

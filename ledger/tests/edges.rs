//! What no other test would notice: each of these was found by a mutant of the code that survived the others.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    ORIGIN, check_entries, entries, entry, key, ledger_of,
    life::{Told, disk},
    options,
    sim::{Fault, Survives},
    verifier,
};
use ledger::{Chunk, DamageKind, EntrySource, HeadState, Ledger, Options, Reader, Recovery, disk::Disk as _};

fn segments(ledger: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(ledger.join("segments")).unwrap().map(|file| file.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn a_healthy_ledger_says_its_name_and_no_reason_to_have_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger_of(&dir.path().join("ledger"), 3, options());
    assert_eq!((ledger.origin(), ledger.poison()), (ORIGIN, None));
}

#[test]
fn a_batch_too_large_to_be_joined_is_written_chunk_after_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let options = Options::default();
    let mut ledger = Ledger::create(&path, ORIGIN, key(), options, &entry(0)).unwrap();
    let (mut chunks, mut position) = (Vec::new(), 1);
    for _ in 0..3 {
        let mut chunk = Chunk::new();
        while chunk.bytes().len() < 200_000 {
            chunk.push(&entry(position)).unwrap();
            position += 1;
        }
        chunks.push(chunk);
    }
    assert_eq!(ledger.append(&chunks).unwrap(), 1..position);
    check_entries(&ledger.reader(), position);
    // The index leads into every chunk.
    let reader = ledger.reader();
    assert!((0..position).step_by(16).all(|position| reader.entry(position).unwrap() == entry(position)));
    drop((reader, ledger));
    let (ledger, report) = Ledger::open(&path, ORIGIN, key(), options).unwrap();
    assert!(report.was_clean(), "{report:?}");
    check_entries(&ledger.reader(), position);
}

#[test]
fn a_used_segment_whose_header_is_damaged_is_no_segment_just_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 900, options()));
    let last = segments(&path).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[20] ^= 1;
    fs::write(&last, &bytes).unwrap();
    let check = |what: &str| {
        let error = Ledger::open(&path, ORIGIN, key(), options()).unwrap_err();
        assert_eq!(error.damage().unwrap().kind, DamageKind::SegmentHeader, "{what}");
        assert_eq!(fs::read(&last).unwrap(), bytes, "{what}: left as it is");
    };
    check("with its head file");
    fs::remove_file(path.join("head")).unwrap();
    check("without");
}

#[test]
fn a_segment_of_which_only_the_length_reached_the_disk_was_just_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 900, options()));
    let begun = path.join("segments").join(format!("{:020}.segment", 900));
    // The header's block and no more: nothing was ever written behind it.
    for (len, is_begun) in [(0, true), (1_023, true), (1_024, true), (1_025, false)] {
        fs::write(&begun, vec![0; len]).unwrap();
        match Ledger::open(&path, ORIGIN, key(), options()) {
            Ok((ledger, report)) => {
                assert!(is_begun, "{len} bytes: {report:?}");
                check_entries(&ledger.reader(), 900);
                assert!(!begun.exists(), "{len} bytes");
            }
            Err(error) => {
                assert!(!is_begun, "{len} bytes: {error}");
                assert_eq!(error.damage().unwrap().kind, DamageKind::SegmentHeader);
            }
        }
    }
}

#[test]
fn damage_in_an_earlier_segment_names_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 900, options()));
    // Only a start that makes the tree again reads the earlier segments.
    fs::remove_dir_all(path.join("tree")).unwrap();
    fs::remove_file(path.join("index")).unwrap();
    let segment = segments(&path).swap_remove(1);
    let first: u64 = segment.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let wanted = entry(first + 2);
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let error = Ledger::open(&path, ORIGIN, key(), options()).unwrap_err();
    assert_eq!(error.damage().unwrap().kind, DamageKind::FrameChecksum { position: first + 2 }, "{error}");
}

#[test]
fn a_tree_file_that_is_cut_off_is_damage_and_names_the_hash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 300, options()));
    // The root over 300 is made of the one hash of the second level, and of the last 44 of the first: 32, 8 and 4.
    for (level, index, len) in [(1, 0, 31), (0, 296, 300 * 32 - 1)] {
        let file = path.join("tree").join(level.to_string());
        let good = fs::read(&file).unwrap();
        fs::write(&file, &good[..len]).unwrap();
        let error = Reader::open(&path, &verifier()).unwrap_err();
        let damage = error.damage().unwrap();
        assert_eq!((&damage.file, damage.offset), (&file, index * 32), "{error}");
        assert_eq!(damage.kind, DamageKind::TreeHash { level, index });
        fs::write(&file, good).unwrap();
    }
    check_entries(&Reader::open(&path, &verifier()).unwrap(), 300);
}

#[test]
fn an_index_that_ends_before_the_last_segment_is_made_again_and_one_that_ends_with_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let entries = vec![vec![7; 200]; 16];
    let mut ledger = Ledger::create(&path, ORIGIN, key(), options(), &entries[0]).unwrap();
    ledger.append_entries(&entries[1..]).unwrap();
    for _ in 0..4 {
        ledger.append_entries(&entries).unwrap();
    }
    drop(ledger);
    assert!(segments(&path).pop().unwrap().ends_with(format!("{:020}.segment", 64)));
    let index = path.join("index");
    let good = fs::read(&index).unwrap();
    assert_eq!(good.len(), 5 * 8, "of every sixteenth entry");
    for (records, is_rebuilt) in [(5, false), (4, false), (3, true), (0, true)] {
        fs::write(&index, &good[..records * 8]).unwrap();
        // Who only reads says what is missing, and where.
        let reader = Reader::open(&path, &verifier()).unwrap();
        for position in 0..80 {
            let indexed = position / 16 * 16;
            match reader.entry(position) {
                Ok(found) => assert!(found == entries[0] && (indexed / 16 < records as u64 || indexed == 0)),
                Err(error) => {
                    let damage = error.damage().unwrap();
                    assert_eq!((&damage.file, damage.offset), (&index, indexed / 2), "{error}");
                    assert_eq!(damage.kind, DamageKind::Index { position: indexed });
                    assert!(indexed / 16 >= records as u64, "{position}: {error}");
                }
            }
        }
        let (ledger, report) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
        assert_eq!(report.tree_rebuilt, is_rebuilt, "{records} records: {report:?}");
        let reader = ledger.reader();
        assert!((0..80).all(|position| reader.entry(position).unwrap() == entries[0]));
        drop((reader, ledger));
        assert_eq!(fs::read(&index).unwrap(), good);
    }
}

#[test]
fn what_tree_and_index_hold_beyond_the_entries_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = ledger_of(&path, 250, Options::default());
    let (segment, head) = (segments(&path).pop().unwrap(), path.join("head"));
    let before = [&segment, &head].map(|file| fs::read(file).unwrap());
    ledger.append_entries(&entries(250..300)).unwrap();
    drop(ledger);
    // Pages of tree and index reached the disk, and those of the batch did not.
    fs::write(&segment, &before[0]).unwrap();
    fs::write(&head, &before[1]).unwrap();
    let (ledger, _) = Ledger::open(&path, ORIGIN, key(), Options::default()).unwrap();
    check_entries(&ledger.reader(), 250);
    let lengths = ["tree/0", "tree/1", "index"].map(|name| fs::metadata(path.join(name)).unwrap().len());
    assert_eq!(lengths, [250 * 32, 0, 16 * 8]);
}

#[test]
fn a_loss_of_power_after_a_segment_begins_takes_nothing_of_the_tree() {
    let (disk, mut told) = (disk(512), Told::default());
    let mut ledger = told.create(&disk, options()).unwrap();
    let begun = || disk.list("/data/ledger/segments".as_ref()).unwrap().len();
    for size in 1..700 {
        let before = begun();
        told.append(&mut ledger, 1).unwrap();
        if begun() > before {
            // A new level of the tree is a new name, which must be as durable as what it holds.
            let (_, report) = told.clone().open(&disk.lose_power(Survives::Nothing), options()).unwrap();
            assert!(!report.tree_rebuilt, "{size}: {report:?}");
        }
    }
    assert!(disk.bytes("/data/ledger/tree/1".as_ref()).is_some_and(|level| level.len() == 2 * 32));
}

#[test]
fn one_entry_of_any_source_is_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let reader = ledger_of(&dir.path().join("ledger"), 40, options()).reader();
    let source: &dyn EntrySource = &reader;
    assert!((0..40).all(|position| source.entry(position).unwrap() == entry(position)));
    assert!(source.entry(40).is_err());
}

#[test]
fn a_start_was_clean_where_nothing_was_cut_made_again_or_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(ledger_of(&path, 40, options()));
    let (_, clean) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    // What is always done, and what a sealing left, say nothing of the ledger itself.
    for same in
        [Recovery { suspect_bytes_rewritten: 7, ..clean.clone() }, Recovery { sealings_removed: 1, ..clean.clone() }]
    {
        assert!(same.was_clean(), "{same:?}");
    }
    let changed = [
        Recovery { tail_bytes_cut: 1, ..clean.clone() },
        Recovery { tree_rebuilt: true, ..clean.clone() },
        Recovery { empty_segment_removed: true, ..clean.clone() },
        Recovery { head: HeadState::Missing, ..clean.clone() },
        Recovery { head: HeadState::Behind { size: 30 }, ..clean },
    ];
    assert!(changed.iter().all(|report| !report.was_clean()), "{changed:?}");
}

#[test]
fn no_more_than_one_segment_is_taken_for_begun_and_never_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let check_left = |path: &Path, torn: &[PathBuf]| {
        for _ in 0..2 {
            let error = Ledger::open(path, ORIGIN, key(), options()).unwrap_err();
            assert_eq!(error.damage().unwrap().kind, DamageKind::SegmentHeader, "{error}");
            assert!(torn.iter().all(|file| fs::read(file).unwrap() == [0; 700]), "left as they are");
        }
    };
    let path = dir.path().join("one");
    drop(ledger_of(&path, 3, options()));
    fs::remove_file(path.join("head")).unwrap();
    let only = segments(&path);
    assert_eq!(only.len(), 1);
    fs::write(&only[0], [0; 700]).unwrap();
    check_left(&path, &only);

    let path = dir.path().join("many");
    drop(ledger_of(&path, 300, options()));
    let begun = [300, 301].map(|first| path.join("segments").join(format!("{first:020}.segment")));
    for file in &begun {
        fs::write(file, [0; 700]).unwrap();
    }
    // The writer begins one at a time: of two, one was used, and which one nothing tells.
    check_left(&path, &begun);
    fs::remove_file(&begun[0]).unwrap();
    let (ledger, report) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    assert!(report.empty_segment_removed && !begun[1].exists(), "{report:?}");
    check_entries(&ledger.reader(), 300);
}

#[test]
fn a_segment_takes_every_batch_that_fits_it_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let options = options();
    let mut ledger = Ledger::create(&path, ORIGIN, key(), options, &entry(0)).unwrap();
    let file_of = |first: u64| path.join("segments").join(format!("{first:020}.segment"));
    let (mut first, mut rolls) = (0, 0);
    for position in 1..600 {
        let end = fs::metadata(file_of(first)).unwrap().len();
        // How long its checkpoint will be is taken from the one before.
        let batch = 9 + entry(position).len() + 9 + ledger.checkpoint().text().len();
        let fits = end + batch as u64 <= options.segment_bytes_max;
        ledger.append_entries(&[entry(position)]).unwrap();
        assert_eq!(file_of(position).exists(), !fits, "{position}: {end} and {batch} bytes");
        if !fits {
            (first, rolls) = (position, rolls + 1);
        }
    }
    assert!(rolls > 30, "{rolls}");
}

#[test]
fn zeros_behind_a_torn_batch_are_no_further_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = ledger_of(&path, 20, Options::default());
    let segment = segments(&path).pop().unwrap();
    let durable = fs::read(&segment).unwrap();
    ledger.append_entries(&[entry(20)]).unwrap();
    drop(ledger);
    fs::remove_file(path.join("head")).unwrap();
    let mut torn = fs::read(&segment).unwrap();
    torn[durable.len() + 12] ^= 1;
    // Its checkpoint is whole: with anything behind it the batch was durable, and with zeros it was not.
    for (behind, is_damage) in [(vec![0xff; 9], true), (vec![0; 90], false)] {
        fs::write(&segment, [&torn[..], &behind].concat()).unwrap();
        let opened = Ledger::open(&path, ORIGIN, key(), Options::default());
        assert_eq!(opened.is_err(), is_damage, "{opened:?}");
    }
    assert_eq!(fs::read(&segment).unwrap(), durable);
}

#[test]
fn a_last_batch_of_several_reads_is_written_again_whole() {
    let (disk, mut told) = (disk(4_096), Told::default());
    let mut ledger = told.create(&disk, Options::default()).unwrap();
    // The entries, the checkpoint, and the sync, which fails and leaves clean pages in memory.
    disk.fault_at(2, Fault::FailedClean, true);
    told.append(&mut ledger, 12_000).unwrap_err();
    drop(ledger);
    let running = disk.kill();
    let (ledger, report) = told.open(&running, Options::default()).unwrap();
    assert!(ledger.size() == 12_001 && report.suspect_bytes_rewritten > 3 << 18, "{report:?}");
    drop(ledger);
    told.open(&running.lose_power(Survives::Nothing), Options::default()).unwrap();
}

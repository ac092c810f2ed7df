//! Sealed segments: whatever reads a ledger reads the same, in this process and in others, while sealing is under
//! way and after; what is wrong in one is said and never handed out. No other process is started in here (see `zstd.rs`).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{ORIGIN, audit_sound, check_entries, entries, entry, key, options, rng::Rng, seal_all, verifier};
use ledger::{
    DamageKind, Error, Ledger, Options, Reader, TilePath,
    disk::{Access, Disk, DiskFile, OsDisk, Stat},
    export::ExportReader,
    verify::{audit, audit_extends},
};
use proptest::prelude::*;

const TABLE_FOOT_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;

fn os() -> Arc<dyn Disk> {
    Arc::new(OsDisk)
}

/// The files of a ledger's segments that are of this form.
fn segments(dir: &Path, form: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join("segments")).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<PathBuf> = found.filter(|path| path.extension().is_some_and(|kind| kind == form)).collect();
    found.sort();
    found
}

/// A ledger of so many entries in batches that fit a segment.
fn grown(dir: &Path, size: u64, options: Options) -> Ledger {
    let mut ledger = Ledger::create(dir, ORIGIN, key(), options, &entry(0)).unwrap();
    while ledger.size() < size {
        let end = size.min(ledger.size() + 1 + ledger.size() % 20);
        ledger.append_entries(&entries(ledger.size()..end)).unwrap();
    }
    ledger
}

/// A ledger of so many entries, sealed but for its last segment.
fn sealed_ledger(dir: &Path, size: u64) -> Ledger {
    let ledger = grown(dir, size, options());
    assert!(seal_all(&ledger.sealer()).unwrap() > 3);
    ledger
}

/// What is read of a ledger, by a reader opened now.
fn all_of(dir: &Path) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let reader = Reader::open(dir, &verifier()).unwrap();
    let size = reader.size();
    check_entries(&reader, size);
    let tiles = TilePath::all_at(size).map(|path| reader.tile(&path).unwrap()).collect();
    (reader.entries(0..size).map(|entry| entry.unwrap().1).collect(), tiles)
}

fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for path in fs::read_dir(next).unwrap().map(|file| file.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn everything_reads_the_same_over_sealed_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("ledger"), dir.path().join("export"));
    let mut ledger = grown(&path, 900, options());
    let kept = ledger.checkpoint();
    let before = all_of(&path);
    let (raw_export, sealed_export) = (dir.path().join("raw"), dir.path().join("sealed"));
    ledger.reader().export(&raw_export).unwrap();
    assert!(seal_all(&ledger.sealer()).unwrap() > 3);
    assert_eq!(all_of(&path), before);
    // An export is the same byte by byte, so whoever verifies one sees no difference.
    Reader::open(&path, &verifier()).unwrap().export(&sealed_export).unwrap();
    assert_eq!(files_below(&sealed_export), files_below(&raw_export));
    audit_sound(&os(), &path);
    ledger.append_entries(&entries(900..1_000)).unwrap();
    seal_all(&ledger.sealer()).unwrap();
    assert_eq!(audit_extends(&path, kept.text(), &verifier()).unwrap().size, 1_000);
    ledger.reader().export(&target).unwrap();
    check_entries(&ExportReader::open(&target, &verifier()).unwrap(), 1_000);
    assert!(audit(&target, &verifier(), &|_| ()).unwrap().is_ok());
    let root = ledger.root();
    drop(ledger);
    // Tree and index are made again from sealed segments.
    fs::remove_dir_all(path.join("tree")).unwrap();
    fs::remove_file(path.join("index")).unwrap();
    let (ledger, report) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    assert!(report.tree_rebuilt && ledger.root() == root, "{report:?}");
    assert_eq!(all_of(&path).0[..900], before.0);
    audit_sound(&os(), &path);
}

#[test]
fn readers_of_another_process_survive_that_a_segment_is_sealed_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = grown(&path, 900, options());
    let fresh = Reader::open(&path, &verifier()).unwrap();
    let used = Reader::open(&path, &verifier()).unwrap();
    check_entries(&used, 900);
    let mut half_way = used.entries(0..900);
    assert_eq!(half_way.next().unwrap().unwrap().1, entry(0));
    seal_all(&ledger.sealer()).unwrap();
    // One has all files open, one has the names alone.
    check_entries(&used, 900);
    check_entries(&fresh, 900);
    assert_eq!(half_way.map(|entry| entry.unwrap().1).collect::<Vec<_>>(), entries(1..900));
}

#[test]
fn reading_goes_on_while_segments_are_sealed_and_appended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = grown(&path, 600, options());
    let is_done = AtomicBool::new(false);
    let (reader, sealer) = (ledger.reader(), ledger.sealer());
    let read = |reader: Reader, seed: u64| {
        let mut rng = Rng::new(seed);
        let mut rounds = 0;
        while !is_done.load(Ordering::Relaxed) || rounds < 50 {
            reader.refresh().unwrap();
            let from = rng.below(reader.size());
            let mut next = from;
            reader
                .for_each_entry(from..reader.size().min(from + 200), |position, found| {
                    assert_eq!((position, found), (next, &entry(position)[..]));
                    next += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            let position = rng.below(reader.size());
            assert_eq!(reader.entry(position).unwrap(), entry(position));
            rounds += 1;
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| read(reader.clone(), 1));
        scope.spawn(|| read(Reader::open(&path, &verifier()).unwrap(), 2));
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                assert!(audit(&path, &verifier(), &|_| ()).unwrap().is_ok());
            }
        });
        let sealing = scope.spawn(|| {
            let mut count = 0;
            while !is_done.load(Ordering::Relaxed) {
                count += seal_next_count(&sealer);
            }
            count
        });
        for _ in 0..60 {
            ledger.append_entries(&entries(ledger.size()..ledger.size() + 40)).unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(sealing.join().unwrap() > 10);
    });
    seal_all(&sealer).unwrap();
    check_entries(&ledger.reader(), 3_000);
    audit_sound(&os(), &path);
}

fn seal_next_count(sealer: &ledger::Sealer) -> u64 {
    u64::from(sealer.seal_next().unwrap().is_some())
}

#[test]
fn the_space_of_a_raw_segment_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = grown(&path, 900, options());
    check_entries(&ledger.reader(), 900);
    // A file that was removed and is open still takes its space. (Others of this process are of other directories.)
    let removed = || {
        let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        open.filter(|file| file.starts_with(&path) && file.to_string_lossy().ends_with("(deleted)")).count()
    };
    let sealer = ledger.sealer();
    seal_all(&sealer).unwrap();
    assert_eq!(removed(), 0);
    check_entries(&ledger.reader(), 900);
    assert_eq!(removed(), 0);
    // What is sealed stays so: a second handle has nothing to do, and neither has the next start.
    assert_eq!(seal_all(&ledger.sealer()).unwrap(), 0);
    assert!(matches!(Ledger::open(&path, ORIGIN, key(), options()), Err(Error::Locked { .. })));
    drop((ledger, sealer));
    let (ledger, _) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    assert_eq!(seal_all(&ledger.sealer()).unwrap(), 0);
}

#[test]
fn the_handle_keeps_the_directory_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = grown(&path, 300, options());
    let sealer = ledger.sealer();
    drop(ledger);
    assert!(matches!(Ledger::open(&path, ORIGIN, key(), options()), Err(Error::Locked { .. })));
    seal_all(&sealer).unwrap();
    drop(sealer);
    check_entries(&Ledger::open(&path, ORIGIN, key(), options()).unwrap().0.reader(), 300);
}

#[test]
fn a_sealed_segment_is_never_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(sealed_ledger(&path, 900));
    let last = segments(&path, "segment").pop().unwrap();
    let first: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    // The head file says more, and goes too: the sealed segments show it all the same.
    for _ in 0..2 {
        let bytes = fs::read(&last).unwrap();
        let missing = DamageKind::SegmentMissing { position: first };
        fs::remove_file(&last).unwrap();
        let error = Ledger::open(&path, ORIGIN, key(), options()).unwrap_err();
        assert!(matches!(error.damage().unwrap().kind, DamageKind::SegmentMissing { .. }), "{error}");
        let report = audit(&path, &verifier(), &|_| ()).unwrap();
        assert!(report.problems.iter().any(|problem| problem.kind == missing), "{report:#?}");
        // A segment begun and torn is not taken for one that was never used.
        fs::write(&last, &bytes[..700]).unwrap();
        let error = Ledger::open(&path, ORIGIN, key(), options()).unwrap_err();
        assert_eq!(error.damage().unwrap().kind, DamageKind::SegmentHeader);
        fs::write(&last, bytes).unwrap();
        fs::remove_file(path.join("head")).unwrap_or(());
    }
}

#[test]
fn a_damaged_segment_is_not_sealed_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = grown(&path, 900, options());
    let raw = segments(&path, "segment");
    let mut bytes = fs::read(&raw[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&raw[1], &bytes).unwrap();
    // Cut off between two frames, before the head that closes it.
    let cut = fs::read(&raw[2]).unwrap();
    let origin = [ORIGIN, "\n"].concat().into_bytes();
    let head = cut.windows(origin.len()).rposition(|window| window == origin).unwrap() - FRAME_HEAD_BYTES;
    fs::write(&raw[2], &cut[..head]).unwrap();
    let sealer = ledger.sealer();
    assert_eq!(sealer.seal_next().unwrap().unwrap().first, 0);
    for file in &raw[1..3] {
        let error = sealer.seal_next().unwrap_err();
        assert_eq!(&error.damage().unwrap().file, file, "{error}");
    }
    assert_eq!(seal_all(&sealer).unwrap(), raw.len() as u64 - 4);
    assert_eq!(segments(&path, "segment"), [&raw[1..3], &raw[raw.len() - 1..]].concat());
    assert_eq!(fs::read(&raw[1]).unwrap(), bytes);
}

/// The machine's disk, but that one bit of what is written to a file that is being sealed arrives wrong.
#[derive(Debug)]
struct WrongBit {
    at: u64,
}

#[derive(Debug)]
struct WrongBitFile {
    inner: Arc<dyn DiskFile>,
    at: u64,
}

impl Disk for WrongBit {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let inner = OsDisk.open(path, access)?;
        let is_sealing = path.extension().is_some_and(|form| form == "sealing");
        Ok(if is_sealing { Arc::new(WrongBitFile { inner, at: self.at }) } else { inner })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        OsDisk.stat(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.sync_dir(path)
    }
}

impl DiskFile for WrongBitFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        let hit = self.at.checked_sub(offset).and_then(|at| bytes.get_mut(usize::try_from(at).unwrap()));
        if let Some(byte) = hit {
            *byte ^= 1;
        }
        self.inner.write_all_at(&bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}

#[test]
fn what_is_not_read_back_as_it_was_is_never_put_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(grown(&path, 300, options()));
    let raw = segments(&path, "segment");
    for at in (0..700).step_by(23) {
        let disk = Arc::new(WrongBit { at });
        let (ledger, _) = Ledger::open_on(disk, &path, ORIGIN, key(), options()).unwrap();
        let error = ledger.sealer().seal_next().unwrap_err();
        assert!(matches!(&error, Error::Io { action: "read back", .. }), "byte {at}: {error}");
        assert!(ledger.poison().is_none());
        assert_eq!(segments(&path, "segment"), raw);
        assert_eq!(segments(&path, "sealed").len() + segments(&path, "sealing").len(), 0);
    }
    let (ledger, _) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    assert_eq!(seal_all(&ledger.sealer()).unwrap(), raw.len() as u64 - 1);
    audit_sound(&os(), &path);
}

#[test]
fn the_raw_segment_counts_where_both_are_there_and_is_sealed_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = grown(&path, 900, options());
    let raw = segments(&path, "segment").remove(1);
    let bytes = fs::read(&raw).unwrap();
    seal_all(&ledger.sealer()).unwrap();
    drop(ledger);
    let sealed = raw.with_extension("sealed");
    let good = fs::read(&sealed).unwrap();
    fs::write(&raw, &bytes).unwrap();
    fs::write(&sealed, &good[1..]).unwrap();
    fs::write(raw.with_extension("sealing"), b"begun").unwrap();
    audit_sound(&os(), &path);
    let (ledger, report) = Ledger::open(&path, ORIGIN, key(), options()).unwrap();
    assert_eq!(report.sealings_removed, 1);
    assert!(!raw.with_extension("sealing").exists());
    check_entries(&ledger.reader(), 900);
    // The other one is kept until the raw one was read from end to end.
    assert!(sealed.exists());
    assert_eq!(seal_all(&ledger.sealer()).unwrap(), 1);
    assert_eq!(fs::read(&sealed).unwrap(), good);
    assert!(!raw.exists());
    check_entries(&ledger.reader(), 900);
    audit_sound(&os(), &path);
}

/// The block table of a sealed file: where its rows begin, and how many there are.
fn rows_of(bytes: &[u8]) -> (usize, usize) {
    let foot = bytes.len() - TABLE_FOOT_BYTES;
    let count = u32::from_le_bytes(bytes[foot + 8..foot + 12].try_into().unwrap()) as usize;
    (foot - count * 16, count)
}

#[test]
fn an_audit_says_which_block_is_wrong_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(sealed_ledger(&path, 900));
    let file = segments(&path, "sealed").remove(2);
    let good = fs::read(&file).unwrap();
    let (rows, count) = rows_of(&good);
    assert!(count > 3, "{count}");
    let mut at = 0;
    for block in 0..count {
        let row = rows + block * 16;
        let number = |field: usize| u32::from_le_bytes(good[row + field..row + field + 4].try_into().unwrap());
        let mut bad = good.clone();
        bad[at + number(0) as usize / 2] ^= 1;
        fs::write(&file, &bad).unwrap();
        let report = audit(&path, &verifier(), &|_| ()).unwrap();
        assert_eq!(report.problems_found, 1, "{report:#?}");
        if block > 0 {
            let problem = &report.problems[0];
            let DamageKind::SealedBlock { block: found, from, to } = problem.kind else { panic!("{problem}") };
            assert_eq!((found, to - from, problem.offset), (block as u64, u64::from(number(8)), at as u64));
            assert_eq!((report.entries_checked, &problem.file), (900 - (to - from), &file));
            // Readers do without the block, and with all others.
            let reader = Reader::open(&path, &verifier()).unwrap();
            for position in 0..900 {
                let read = reader.entry(position);
                let is_hit = |error: &Error| matches!(error.damage(), Some(damage) if damage.kind == problem.kind);
                assert!(read.as_ref().map_or_else(is_hit, |found| *found == entry(position)), "{position}: {read:?}");
                // The index leads to every sixteenth entry, and from there on frames are read.
                assert!(read.is_ok() || (from <= position && position / 16 * 16 < to), "{position}: {read:?}");
            }
        }
        at += number(0) as usize;
    }
    fs::write(&file, good).unwrap();
    audit_sound(&os(), &path);
}

#[test]
fn a_table_that_lies_under_a_checksum_of_its_own_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    drop(sealed_ledger(&path, 900));
    let file = segments(&path, "sealed").remove(2);
    let good = fs::read(&file).unwrap();
    let (rows, _) = rows_of(&good);
    for (block, change) in [(1, 1), (1, u32::MAX), (2, 40), (2, u32::MAX - 1)] {
        let mut bad = good.clone();
        let entries = rows + block * 16 + 8;
        let stated = u32::from_le_bytes(bad[entries..entries + 4].try_into().unwrap());
        bad[entries..entries + 4].copy_from_slice(&stated.wrapping_add(change).to_le_bytes());
        let crc_at = bad.len() - 12;
        let crc = crc32c::crc32c(&bad[rows - 8..crc_at]);
        bad[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        fs::write(&file, &bad).unwrap();
        let report = audit(&path, &verifier(), &|_| ()).unwrap();
        assert!(!report.is_ok() && report.problems_found < 12, "{report:#?}");
        // Nobody reads by it.
        check_entries(&Reader::open(&path, &verifier()).unwrap(), 900);
    }
}

#[test]
fn an_audit_goes_by_a_head_file_that_is_older_than_the_sealed_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = grown(&path, 100, options());
    let mut heads = Vec::new();
    for size in 100..140 {
        heads.push((size, fs::read(path.join("head")).unwrap()));
        ledger.append_entries(&[entry(size)]).unwrap();
    }
    seal_all(&ledger.sealer()).unwrap();
    drop(ledger);
    assert!(segments(&path, "sealed").len() > 3);
    for (size, head) in heads {
        fs::write(path.join("head"), head).unwrap();
        assert_eq!(audit_sound(&os(), &path).size, size);
        check_entries(&Reader::open(&path, &verifier()).unwrap(), size);
    }
    check_entries(&Ledger::open(&path, ORIGIN, key(), options()).unwrap().0.reader(), 140);
}

fn random_byte(rng: &mut Rng) -> u8 {
    rng.number().to_le_bytes()[0]
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap()
}

/// Entries that are alike, or not, in length and content.
fn random_entry(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(20) {
        0 => rng.index(ledger::ENTRY_BYTES_MAX + 1),
        1 => ledger::ENTRY_BYTES_MAX,
        2 => 0,
        _ => rng.index(400),
    };
    let is_random = rng.one_in(3);
    (0..len).map(|at| if is_random { random_byte(rng) } else { b"abcdefgh"[at % 8] }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the sizes of segments, blocks, batches and entries: what is read is what was appended.
    #[test]
    fn what_is_sealed_is_what_was_appended(
        seed: u64, segment_bytes_max in 1_500_u64..200_000, sealed_block_bytes in 1_u32..150_000,
    ) {
        let mut rng = Rng::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let options = Options { segment_bytes_max, sealed_block_bytes };
        let mut all = vec![random_entry(&mut rng)];
        let mut ledger = Ledger::create(&path, ORIGIN, key(), options, &all[0]).unwrap();
        for _ in 0..=rng.below(12) {
            let batch: Vec<Vec<u8>> = (0..=rng.below(20)).map(|_| random_entry(&mut rng)).collect();
            ledger.append_entries(&batch).unwrap();
            all.extend(batch);
            if rng.one_in(4) {
                seal_all(&ledger.sealer()).unwrap();
            }
        }
        seal_all(&ledger.sealer()).unwrap();
        prop_assert_eq!(segments(&path, "segment").len(), 1);
        let size = all.len() as u64;
        for reader in [ledger.reader(), Reader::open(&path, &verifier()).unwrap()] {
            for _ in 0..40 {
                let position = rng.below(size);
                prop_assert_eq!(&reader.entry(position).unwrap(), &all[index(position)]);
                let from = rng.below(size);
                let to = from + rng.below(size - from + 1);
                let found: Vec<Vec<u8>> = reader.entries(from..to).map(|entry| entry.unwrap().1).collect();
                prop_assert_eq!(&found[..], &all[index(from)..index(to)]);
            }
        }
        audit_sound(&os(), &path);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A sealed file changed in any way is found by the audit; what is read of it is right or an error.
    #[test]
    fn a_sealed_file_changed_in_any_way_is_found(seed: u64) {
        let mut rng = Rng::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        drop(sealed_ledger(&path, 400));
        let files = segments(&path, "sealed");
        for _ in 0..20 {
            let file = &files[rng.index(files.len())];
            let good = fs::read(file).unwrap();
            let mut bad = good.clone();
            change(&mut bad, &mut rng);
            if bad == good {
                continue;
            }
            fs::write(file, &bad).unwrap();
            match audit(&path, &verifier(), &|_| ()) {
                Ok(report) => prop_assert!(!report.is_ok()),
                Err(error) => prop_assert!(error.damage().is_some(), "{}", error),
            }
            if let Ok(reader) = Reader::open(&path, &verifier()) {
                for position in 0..400 {
                    match reader.entry(position) {
                        Ok(found) => prop_assert_eq!(found, entry(position)),
                        Err(error) => prop_assert!(error.damage().is_some(), "{}", error),
                    }
                }
            }
            fs::write(file, &good).unwrap();
        }
    }
}

/// Cut off, filled up, moved, zeroed or replaced in part.
fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.index(bytes.len());
    match rng.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.extend((0..=rng.below(40)).map(|_| 0)),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, random_byte(rng)),
        4 => {
            let end = bytes.len().min(at + 1 + rng.index(600));
            bytes[at..end].fill(0);
        }
        _ => {
            let foot = bytes.len() - 1 - rng.index(60.min(bytes.len()));
            bytes[foot] = random_byte(rng);
        }
    }
}

//! What the ledger does in a second, each figure beside what the raw work alone allows, measured in the same run.
//!
//! usage: cargo run --release -p ledger --example figures -- [--json] [ENTRIES] [DIR] [LOG]
//!
//! `--json` prints what `govledger bench --plot` and `--fill` read; a table otherwise.
//!
//! Entries look like provider logs of some 540 bytes, whose figures are all over their ranges; with LOG, a file of
//! provider logs, they are its lines, over again until there are enough. DIR (the system's temporary directory where
//! absent) is where the ledger of the run is made and removed.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads the clock and prints")]

mod rows;
mod sealed;
mod source;

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use ledger::{Chunk, Hash, Ledger, LedgerKey, Options, Reader, tree, verify};
use sha2::{Digest as _, Sha256};

use crate::{
    rows::{Row, print_json, print_table, timed},
    source::{Source, mix},
};

const ORIGIN: &str = "figures/metrics-0";
/// Rounds of audit and hashing: entries are made again for each, so a large ledger has one, in which noise evens out.
const fn audit_rounds(size: u64) -> usize {
    if size > 2_000_000 { 1 } else { 3 }
}

/// Entries made at a time, so that memory stays flat.
const PART: u64 = 100_000;
/// Single questions of a kind, at positions all over the ledger.
const QUESTIONS: u64 = 5_000;
/// The most that one of them may take.
const QUESTION_US_MAX: (f64, &str) = (100.0, "< 100 µs");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, dir] = arguments.as_slice()
        && word == APPEND_UNTIL_KILLED
    {
        return append_until_killed(Path::new(dir));
    }
    let as_json = arguments.first().is_some_and(|word| word == "--json");
    if as_json {
        arguments.remove(0);
    }
    let mut arguments = arguments.into_iter();
    let size: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let source = arguments.next().map_or_else(|| Ok(Source::made()), |log| Source::of_log(Path::new(&log)))?;
    let scratch = tempfile::tempdir_in(parent)?;
    let rows = measure(&source, scratch.path(), size)?;
    if as_json {
        print_json(size, &rows);
    } else {
        print_table(&rows);
    }
    Ok(())
}

fn measure(source: &Source, scratch: &Path, size: u64) -> Result<Vec<Row>, Box<dyn Error>> {
    let dir = scratch.join("ledger");
    let mut rows = vec![append(source, scratch, 1_000)?, append(source, scratch, 10_000)?];
    // The service's batches, as small as waiting callers make them and as large as a file's intake makes them.
    fill(source, &dir, size, 100)?;
    rows.push(audit(source, &dir, "full audit of batches of 100", (0.80, ">= 80 %"))?);
    rows.push(open_after_kill(&dir)?);
    fs::remove_dir_all(&dir)?;
    fill(source, &dir, size, 10_000)?;
    rows.push(audit(source, &dir, "full audit of batches of 10000", (0.80, ">= 80 %"))?);
    rows.push(open(&dir, "open the ledger, clean")?);
    reads(&dir, &mut rows)?;
    rows.push(sealed::disk(source, &dir, "open", (1.3, "<= 1.3 x"))?);
    sealed::seal(source, &dir, &mut rows)?;
    rows.push(sealed::disk(source, &dir, "sealed", (0.25, "<= 0.25 x"))?);
    rows.push(audit(source, &dir, "full audit, segments sealed", (0.60, ">= 60 %"))?);
    rows.push(open(&dir, "open the ledger, segments sealed")?);
    rows.push(read_sealed(&dir)?);
    Ok(rows)
}

fn key() -> LedgerKey {
    LedgerKey::generate([7; 32])
}

/// Durable batches against leaf hashes, a write and an fdatasync of the same batches.
fn append(source: &Source, scratch: &Path, batch: u64) -> Result<Row, Box<dyn Error>> {
    let total = (batch * 50).max(100_000);
    let entries = source.entries(1..total + 1);
    let batches = || entries.chunks(usize::try_from(batch).unwrap_or(usize::MAX));
    let dir = scratch.join(format!("append-{batch}"));
    let mut ledger = Ledger::create(&dir, ORIGIN, key(), Options::default(), b"figures")?;
    let (done, time) = timed(|| batches().try_for_each(|batch| ledger.append_entries(batch).map(|_| ())));
    done?;
    let mut file = fs::File::create(scratch.join("raw"))?;
    let mut sum = Hash::default();
    let (done, raw) = timed(|| {
        batches().try_for_each(|batch| {
            let mut bytes = Vec::new();
            for entry in batch {
                sum = Hash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into());
                bytes.extend_from_slice(entry.as_bytes());
            }
            file.write_all(&bytes)?;
            file.sync_data()
        })
    });
    done?;
    std::hint::black_box(sum);
    fs::remove_dir_all(&dir)?;
    Ok(Row::share(&format!("durable append, batches of {batch}"), total, time, raw, (0.75, ">= 75 %")))
}

fn fill(source: &Source, dir: &Path, size: u64, batch: u64) -> Result<(), Box<dyn Error>> {
    let mut ledger = Ledger::create(dir, ORIGIN, key(), Options::default(), b"figures")?;
    let mut at = 1;
    while at < size {
        let mut chunk = Chunk::new();
        let end = size.min(at + batch);
        source.entries(at..end).iter().try_for_each(|entry| chunk.push(entry.as_bytes()))?;
        ledger.append(&[chunk])?;
        at = end;
    }
    Ok(())
}

/// A full audit against leaf and node hashes of the same entries.
fn audit(source: &Source, dir: &Path, work: &str, least: (f64, &'static str)) -> Result<Row, Box<dyn Error>> {
    let verifier = key().verifier_key(ORIGIN);
    // Once to have it in the page cache; then by turns, and the best of each, since a processor that others use too gives now
    // more and now less.
    let size = verify::audit(dir, &verifier, &|_| ())?.size;
    let (mut ours, mut raw) = (Duration::MAX, Duration::MAX);
    for _ in 0..audit_rounds(size) {
        let (report, time) = timed(|| verify::audit(dir, &verifier, &|_| ()));
        let report = report?;
        assert!(report.is_ok() && report.entries_checked == size, "{:?}", report.problems);
        ours = ours.min(time);
        raw = raw.min(hashing_alone(source, size)?);
    }
    let work = format!("{work}, from page cache");
    Ok(Row::share(&work, size, ours, raw, least))
}

/// What leaf and node hashes of all entries take, in memory, on all cores.
fn hashing_alone(source: &Source, size: u64) -> Result<Duration, Box<dyn Error>> {
    let threads = std::thread::available_parallelism()?.get();
    let mut raw = Duration::ZERO;
    let mut at = 1;
    while at < size {
        let end = size.min(at + PART);
        let part: Vec<Vec<u8>> =
            source.entries(at..end).iter().map(|entry| [&[0], entry.as_bytes()].concat()).collect();
        let share = part.len().div_ceil(threads);
        let ((), time) = timed(|| {
            std::thread::scope(|scope| {
                for part in part.chunks(share) {
                    scope.spawn(move || std::hint::black_box(hash_alone(part)));
                }
            });
        });
        raw += time;
        at = end;
    }
    Ok(raw)
}

/// The leaves, and as many nodes.
fn hash_alone(leaves: &[Vec<u8>]) -> Hash {
    let mut hashes: Vec<Hash> = leaves.iter().map(|leaf| Hash(Sha256::digest(leaf).into())).collect();
    while hashes.len() > 1 {
        hashes = hashes
            .chunks(2)
            .map(|pair| pair.get(1).map_or(pair[0], |right| tree::node_hash(&pair[0], right)))
            .collect();
    }
    hashes.first().copied().unwrap_or_default()
}

fn open(dir: &Path, work: &str) -> Result<Row, Box<dyn Error>> {
    let (ledger, time) = timed(|| Ledger::open(dir, ORIGIN, key(), Options::default()));
    let (_, report) = ledger?;
    assert!(report.was_clean(), "{report:?}");
    Ok(Row::within(work, time.as_secs_f64() * 1e3, "ms", Some((1e3, "< 1 s"))))
}

/// What this example is told to be killed at.
const APPEND_UNTIL_KILLED: &str = "--append-until-killed";

/// Appends batches until somebody ends it, and says once that it has begun.
fn append_until_killed(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (mut ledger, _) = Ledger::open(dir, ORIGIN, key(), Options::default())?;
    let batch = Source::made().entries(1..1_001);
    for count in 0_u64.. {
        ledger.append_entries(&batch)?;
        if count == 20 {
            println!("begun");
        }
    }
    Ok(())
}

/// Opens what a writer left that was killed amid its appends.
fn open_after_kill(dir: &Path) -> Result<Row, Box<dyn Error>> {
    let mut writer =
        Command::new(std::env::current_exe()?).arg(APPEND_UNTIL_KILLED).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    if let Some(output) = writer.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    writer.kill()?;
    writer.wait()?;
    assert_eq!(said.trim(), "begun", "the writer ended by itself");
    let (ledger, time) = timed(|| Ledger::open(dir, ORIGIN, key(), Options::default()));
    ledger?;
    Ok(Row::within("open the ledger, after kill -9", time.as_secs_f64() * 1e3, "ms", Some((1e3, "< 1 s"))))
}

/// The mean time of one question.
fn ask(
    name: &str,
    size: u64,
    most: Option<(f64, &'static str)>,
    question: impl Fn(u64) -> Result<(), ledger::Error>,
) -> Result<Row, Box<dyn Error>> {
    let (done, time) = timed(|| (0..QUESTIONS).try_for_each(|index| question(mix(index) % size)));
    done?;
    Ok(Row::within(name, time.as_secs_f64() * 1e6 / 5e3, "µs", most))
}

fn reader(dir: &Path) -> Result<Reader, Box<dyn Error>> {
    Ok(Ledger::open(dir, ORIGIN, key(), Options::default())?.0.reader())
}

/// Single questions while all segments are raw.
fn reads(dir: &Path, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let reader = reader(dir)?;
    let size = reader.size();
    let most = Some(QUESTION_US_MAX);
    rows.push(ask("one entry", size, None, |position| reader.entry(position).map(|_| ()))?);
    rows.push(ask("inclusion proof", size, most, |position| reader.inclusion_proof(position, size).map(|_| ()))?);
    let consistency = |position| reader.consistency_proof(position + 1, size).map(|_| ());
    rows.push(ask("consistency proof", size, most, consistency)?);
    Ok(())
}

/// One entry out of compressed blocks: the last entry, in a raw segment, is not asked for.
fn read_sealed(dir: &Path) -> Result<Row, Box<dyn Error>> {
    let reader = reader(dir)?;
    let entry = |position| reader.entry(position).map(|_| ());
    ask("one entry, out of a sealed segment", reader.size() - 1, Some(QUESTION_US_MAX), entry)
}

//! What the ledger does in a second, each figure beside what the raw work alone allows, measured in the same run.
//!
//! usage: cargo run --release -p ledger --example figures -- [--json] [ENTRIES] [DIR]
//!
//! `--json` prints what `govledger bench --plot` and `--fill` read; a table otherwise.
//!
//! Entries look like provider logs of some 480 bytes. DIR (the system's temporary directory where absent) is where the
//! ledger of the run is made and removed.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads the clock and prints")]

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ledger::{Chunk, Hash, Ledger, LedgerKey, Options, tree, verify};
use sha2::{Digest as _, Sha256};

const ORIGIN: &str = "figures/metrics-0";
/// Entries made at a time, so that memory stays flat.
const PART: u64 = 100_000;

/// One figure beside the raw work, and what it is to reach.
struct Row {
    work: String,
    measured: f64,
    unit: &'static str,
    raw: Option<f64>,
    target: &'static str,
    met: Option<bool>,
}

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
    let scratch = tempfile::tempdir_in(parent)?;
    let dir = scratch.path().join("ledger");
    let mut rows = Vec::new();
    for (batch, least) in [(1_000, 0.75), (10_000, 0.75)] {
        rows.push(append(scratch.path(), batch, least)?);
    }
    // The service's batches, as large as a file's intake makes them and as small as waiting callers make them.
    for batch in [100, 10_000] {
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fill(&dir, size, batch)?;
        rows.push(audit(&dir, batch)?);
    }
    rows.push(open(&dir)?);
    rows.push(open_after_kill(&dir)?);
    reads(&dir, &mut rows)?;
    if as_json {
        print_json(size, &rows);
    } else {
        print_table(&rows);
    }
    Ok(())
}

fn print_table(rows: &[Row]) {
    println!("| work | figure | raw work alone | ratio | target | met |\n| --- | --- | --- | --- | --- | --- |");
    for Row { work, measured, unit, raw, target, met } in rows {
        let shown =
            |value: f64| if *unit == "/s" { format!("{:.0} k/s", value / 1e3) } else { format!("{value:.1} {unit}") };
        let ratio = raw.map_or_else(String::new, |raw| format!("{:.2}", measured / raw));
        let met = met.map_or("", |met| if met { "yes" } else { "no" });
        let raw = raw.map_or_else(String::new, shown);
        println!("| {work} | {} | {raw} | {ratio} | {target} | {met} |", shown(*measured));
    }
}

/// The same as JSON: no word here needs an escape.
fn print_json(size: u64, rows: &[Row]) {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    let rows: Vec<String> = rows
        .iter()
        .map(|Row { work, measured, unit, raw, target, met }| {
            let baseline = optional(raw.map(|raw| raw.to_string()));
            let ratio = optional(raw.map(|raw| (measured / raw).to_string()));
            let met = optional(met.map(|met| met.to_string()));
            let against = if raw.is_some() { "the raw work alone" } else { "" };
            format!(
                r#"{{"work":"{work}","measured":{measured},"unit":"{unit}","baseline":{baseline},"against":"{against}","ratio":{ratio},"target":"{target}","met":{met}}}"#
            )
        })
        .collect();
    let machine = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!(r#"{{"records":{size},"machine":"{machine} cores","figures":[{}]}}"#, rows.join(",\n"));
}

fn key() -> LedgerKey {
    LedgerKey::generate([7; 32])
}

/// Pseudo-random numbers that are the same in every run.
fn mix(position: u64) -> u64 {
    let mut value = position.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn entry(position: u64) -> String {
    let [a, b, c] = [mix(position), mix(position ^ 1 << 40), mix(position ^ 1 << 41)];
    let time_us = 1_790_845_200_000_000 + position * 180_871;
    format!(
        r#"{{"t":{time_us},"f":1,"l":{position}}}
{{"event":"llm.request","operation":"judge","model":"qwen3-32b","engine_hash":"sha256:934e4215157825f0c2127b83fceace96533aa140c73280d85de038456859bc53","quantisation":"w4a8","duration_ms":{}.{:03},"queue_delay_us":{}.{},"tokens_in":{}.0,"tokens_out":{}.0,"kv_cache_reuse":{{"hits":{},"misses":{}}},"speculative":{{"accepts":{},"attempts":{}}},"cost_usd":0.0{:07},"error_code":null,"recorded_at":"2026-10-01T09:{:02}:{:02}.{:06}+00:00"}}"#,
        100 + a % 1_900,
        a >> 32 & 511,
        b % 4_000,
        b >> 40 & 7,
        c % 4_096,
        c >> 20 & 1_023,
        c >> 32 & 63,
        c >> 40 & 63,
        a >> 48 & 31,
        32 + (b >> 50 & 31),
        b >> 20 & 0x7f_ffff,
        a >> 12 & 31,
        b >> 12 & 31,
        c >> 44,
    )
}

fn entries(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(entry).collect()
}

/// A rate beside that of the raw work, and the share of it that is to be reached.
fn share(work: &str, count: u64, time: Duration, raw: Duration, least: f64, target: &'static str) -> Row {
    let rate = |time: Duration| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64();
    let (measured, raw) = (rate(time), rate(raw));
    Row { work: work.to_owned(), measured, unit: "/s", raw: Some(raw), target, met: Some(measured >= raw * least) }
}

/// A time, and the bound below which it is to stay.
fn below(work: &str, measured: f64, unit: &'static str, most: Option<(f64, &'static str)>) -> Row {
    let (target, met) = (most.map_or("", |(_, words)| words), most.map(|(most, _)| measured < most));
    Row { work: work.to_owned(), measured, unit, raw: None, target, met }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Durable batches against leaf hashes, a write and an fdatasync of the same batches.
fn append(scratch: &Path, batch: u64, least: f64) -> Result<Row, Box<dyn Error>> {
    let total = (batch * 50).max(100_000);
    let entries = entries(1..total + 1);
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
    Ok(share(&format!("durable append, batches of {batch}"), total, time, raw, least, ">= 75 %"))
}

fn fill(dir: &Path, size: u64, batch: u64) -> Result<(), Box<dyn Error>> {
    let mut ledger = Ledger::create(dir, ORIGIN, key(), Options::default(), b"figures")?;
    let mut at = 1;
    while at < size {
        let mut chunk = Chunk::new();
        let end = size.min(at + batch);
        entries(at..end).iter().try_for_each(|entry| chunk.push(entry.as_bytes()))?;
        ledger.append(&[chunk])?;
        at = end;
    }
    Ok(())
}

/// A full audit against leaf and node hashes of the same entries, in memory, on all cores.
fn audit(dir: &Path, batch: u64) -> Result<Row, Box<dyn Error>> {
    let verifier = key().verifier_key(ORIGIN);
    // Once to have it in the page cache.
    verify::audit(dir, &verifier, &|_| ())?;
    let (report, time) = timed(|| verify::audit(dir, &verifier, &|_| ()));
    let report = report?;
    assert!(report.is_ok(), "{:?}", report.problems);
    let threads = std::thread::available_parallelism()?.get();
    let mut raw = Duration::ZERO;
    let mut at = 1;
    while at < report.size {
        let end = report.size.min(at + PART);
        let part: Vec<Vec<u8>> = entries(at..end).iter().map(|entry| [&[0], entry.as_bytes()].concat()).collect();
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
    let work = format!("full audit of batches of {batch}, from page cache");
    Ok(share(&work, report.entries_checked, time, raw, 0.80, ">= 80 %"))
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

fn open(dir: &Path) -> Result<Row, Box<dyn Error>> {
    let (ledger, time) = timed(|| Ledger::open(dir, ORIGIN, key(), Options::default()));
    let (_, report) = ledger?;
    assert!(report.was_clean(), "{report:?}");
    Ok(below("open the ledger, clean", time.as_secs_f64() * 1e3, "ms", Some((1e3, "< 1 s"))))
}

/// What this example is told to be killed at.
const APPEND_UNTIL_KILLED: &str = "--append-until-killed";

/// Appends batches until somebody ends it, and says once that it has begun.
fn append_until_killed(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (mut ledger, _) = Ledger::open(dir, ORIGIN, key(), Options::default())?;
    let batch = entries(1..1_001);
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
    Ok(below("open the ledger, after kill -9", time.as_secs_f64() * 1e3, "ms", Some((1e3, "< 1 s"))))
}

/// Single questions, at positions all over the ledger.
fn reads(dir: &Path, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    const QUESTIONS: u64 = 5_000;
    let (ledger, _) = Ledger::open(dir, ORIGIN, key(), Options::default())?;
    let reader = ledger.reader();
    let size = reader.size();
    type Question<'a> = &'a dyn Fn(u64) -> Result<(), ledger::Error>;
    let mut ask = |name: &str, question: Question<'_>, most| -> Result<(), Box<dyn Error>> {
        let (done, time) = timed(|| (0..QUESTIONS).try_for_each(|index| question(mix(index) % size)));
        done?;
        rows.push(below(name, time.as_secs_f64() * 1e6 / 5e3, "µs", most));
        Ok(())
    };
    let bound = Some((100.0, "< 100 µs"));
    ask("one entry", &|position| reader.entry(position).map(|_| ()), None)?;
    ask("inclusion proof", &|position| reader.inclusion_proof(position, size).map(|_| ()), bound)?;
    ask("consistency proof", &|position| reader.consistency_proof(position + 1, size).map(|_| ()), bound)
}

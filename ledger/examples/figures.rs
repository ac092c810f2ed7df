//! What the ledger does in a second, each figure beside what the raw work alone allows, measured in the same run.
//!
//! usage: cargo run --release -p ledger --example figures -- [ENTRIES] [DIR]
//!
//! Entries look like provider logs of some 480 bytes. DIR (the system's temporary directory where absent) is where the
//! ledger of the run is made and removed.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads the clock and prints")]

use std::{
    error::Error,
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use ledger::{Chunk, Hash, Ledger, LedgerKey, Options, tree, verify};
use sha2::{Digest as _, Sha256};

const ORIGIN: &str = "figures/metrics-0";
/// Entries made at a time, so that memory stays flat.
const PART: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let size: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let scratch = tempfile::tempdir_in(parent)?;
    let dir = scratch.path().join("ledger");
    println!("| work | figure | raw work alone | ratio |\n| --- | --- | --- | --- |");
    for batch in [1_000, 10_000] {
        append(scratch.path(), batch)?;
    }
    fill(&dir, size)?;
    audit(&dir)?;
    open(&dir)?;
    reads(&dir)?;
    Ok(())
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

fn row(work: &str, count: u64, time: Duration, raw: Duration) {
    let rate = |time: Duration| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64() / 1e3;
    let ratio = raw.as_secs_f64() / time.as_secs_f64();
    println!("| {work} | {:.0} k/s | {:.0} k/s | {ratio:.2} |", rate(time), rate(raw));
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Durable batches against leaf hashes, a write and an fdatasync of the same batches.
fn append(scratch: &Path, batch: u64) -> Result<(), Box<dyn Error>> {
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
    row(&format!("durable append, batches of {batch}"), total, time, raw);
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn fill(dir: &Path, size: u64) -> Result<(), Box<dyn Error>> {
    let mut ledger = Ledger::create(dir, ORIGIN, key(), Options::default(), b"figures")?;
    let mut at = 1;
    while at < size {
        let mut chunk = Chunk::new();
        let end = size.min(at + 10_000);
        entries(at..end).iter().try_for_each(|entry| chunk.push(entry.as_bytes()))?;
        ledger.append(&[chunk])?;
        at = end;
    }
    Ok(())
}

/// A full audit against leaf and node hashes of the same entries, in memory, on all cores.
fn audit(dir: &Path) -> Result<(), Box<dyn Error>> {
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
    row("full audit, from page cache", report.entries_checked, time, raw);
    Ok(())
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

fn open(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (ledger, time) = timed(|| Ledger::open(dir, ORIGIN, key(), Options::default()));
    let (ledger, report) = ledger?;
    assert!(report.was_clean(), "{report:?}");
    println!("| open, {} entries | {:.1} ms | | |", ledger.size(), time.as_secs_f64() * 1e3);
    Ok(())
}

/// Single questions, at positions all over the ledger.
fn reads(dir: &Path) -> Result<(), Box<dyn Error>> {
    const QUESTIONS: u64 = 5_000;
    let (ledger, _) = Ledger::open(dir, ORIGIN, key(), Options::default())?;
    let reader = ledger.reader();
    let size = reader.size();
    let ask = |name: &str, question: &dyn Fn(u64) -> Result<(), ledger::Error>| -> Result<(), Box<dyn Error>> {
        let (done, time) = timed(|| (0..QUESTIONS).try_for_each(|index| question(mix(index) % size)));
        done?;
        println!("| {name} | {:.1} µs | | |", time.as_secs_f64() * 1e6 / 5e3);
        Ok(())
    };
    ask("one entry", &|position| reader.entry(position).map(|_| ()))?;
    ask("inclusion proof", &|position| reader.inclusion_proof(position, size).map(|_| ()))?;
    ask("consistency proof", &|position| reader.consistency_proof(position + 1, size).map(|_| ()))
}

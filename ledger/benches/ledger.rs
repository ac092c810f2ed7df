//! Parts of the ledger, each in one group with the raw work that it cannot do without: `cargo bench -p ledger`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ledger::note::{self, Note};
use ledger::{Checkpoint, Chunk, Hash, Ledger, LedgerKey, Options, Reader, tree, verify_signature};
use sha2::{Digest as _, Sha256};

const ORIGIN: &str = "bench/metrics-0";
/// Bytes of an entry: those of a provider log with its header line.
const ENTRY_BYTES: usize = 480;
const LEAVES: usize = 1_000;
/// Entries of the ledger that proofs are asked of.
const PROVEN: usize = 1 << 20;

fn key() -> LedgerKey {
    LedgerKey::generate([7; 32])
}

/// Entries that differ from each other.
fn entries(count: usize) -> Vec<Vec<u8>> {
    let entry = |number: usize| {
        let mut entry = format!("{{\"t\":1790845200000000,\"o\":{number}}}\n").into_bytes();
        entry.resize(ENTRY_BYTES, b'x');
        entry
    };
    (0..count).map(entry).collect()
}

/// A leaf hash and a frame, beside SHA-256 of the same bytes and a copy of them.
fn frame(criterion: &mut Criterion) {
    let entries = entries(LEAVES);
    let mut group = criterion.benchmark_group("leaf hash and frame");
    group.throughput(Throughput::Elements(LEAVES as u64));
    group.bench_function("leaf hash", |bencher| {
        bencher.iter(|| {
            for entry in &entries {
                black_box(tree::leaf_hash(black_box(entry)));
            }
        });
    });
    group.bench_function("frame: CRC-32C, copy and leaf hash", |bencher| {
        let mut chunk = Chunk::with_capacity(LEAVES, LEAVES * ENTRY_BYTES);
        bencher.iter(|| {
            chunk.clear();
            for entry in &entries {
                chunk.push(black_box(entry)).unwrap();
            }
            black_box(chunk.leaf_hashes().len())
        });
    });
    group.bench_function("baseline: SHA-256 alone", |bencher| {
        bencher.iter(|| {
            for entry in &entries {
                black_box(Sha256::digest(black_box(entry)));
            }
        });
    });
    group.bench_function("baseline: SHA-256 and a copy", |bencher| {
        let mut copy = Vec::with_capacity(LEAVES * ENTRY_BYTES);
        bencher.iter(|| {
            copy.clear();
            for entry in &entries {
                black_box(Sha256::digest(black_box(entry)));
                copy.extend_from_slice(entry);
            }
            black_box(copy.len())
        });
    });
    group.finish();
}

/// One durable batch, beside a write and an fdatasync of the same bytes to an appending file.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable append");
    group.sample_size(20);
    for size in [1, 100, 1_000, 10_000] {
        let entries = entries(size);
        group.throughput(Throughput::Elements(size as u64));
        let scratch = tempfile::tempdir().unwrap();
        let mut ledger =
            Ledger::create(&scratch.path().join("ledger"), ORIGIN, key(), Options::default(), b"bench").unwrap();
        group.bench_function(BenchmarkId::new("append", size), |bencher| {
            bencher.iter(|| ledger.append_entries(&entries).unwrap());
        });
        drop(ledger);
        let mut file = File::options().create(true).append(true).open(scratch.path().join("raw")).unwrap();
        let bytes = entries.concat();
        group.bench_function(BenchmarkId::new("baseline: write and fdatasync", size), |bencher| {
            bencher.iter(|| {
                file.write_all(&bytes).unwrap();
                file.sync_data().unwrap();
            });
        });
    }
    group.finish();
}

/// A ledger to ask.
fn filled(dir: &Path) -> Reader {
    let mut ledger = Ledger::create(dir, ORIGIN, key(), Options::default(), b"bench").unwrap();
    let entries = entries(PROVEN - 1);
    for part in entries.chunks(16_384) {
        ledger.append_entries(part).unwrap();
    }
    ledger.reader()
}

/// Positions all over the ledger, the same in every run.
fn positions() -> impl Iterator<Item = u64> {
    (0_u64..).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % PROVEN as u64)
}

/// Proofs from disk, beside the hashes that checking one takes.
fn proofs(criterion: &mut Criterion) {
    let scratch = tempfile::tempdir().unwrap();
    let reader = filled(&scratch.path().join("ledger"));
    let size = reader.size();
    let mut group = criterion.benchmark_group("proofs of 2^20 entries");
    group.bench_function("one entry", |bencher| {
        let mut next = positions();
        bencher.iter(|| reader.entry(next.next().unwrap()).unwrap());
    });
    group.bench_function("inclusion", |bencher| {
        let mut next = positions();
        bencher.iter(|| reader.inclusion_proof(next.next().unwrap(), size).unwrap());
    });
    group.bench_function("consistency", |bencher| {
        let mut next = positions();
        bencher.iter(|| reader.consistency_proof(next.next().unwrap() + 1, size).unwrap());
    });
    group.bench_function("baseline: 20 node hashes", |bencher| {
        let (left, right) = (Hash([1; 32]), Hash([2; 32]));
        bencher.iter(|| (0..20).fold(left, |hash, _| tree::node_hash(black_box(&hash), black_box(&right))));
    });
    group.finish();
}

/// Reading and checking a signed checkpoint, beside the Ed25519 work alone.
fn notes(criterion: &mut Criterion) {
    let key = key();
    let root = Hash([3; 32]);
    let signed = Checkpoint { origin: ORIGIN.to_owned(), size: 1_000, root }.sign(&key);
    let verifier = key.verifier_key(ORIGIN);
    let text = signed.text().to_owned();
    let body = signed.body().to_owned();
    let signature = key.sign(body.as_bytes());
    let mut group = criterion.benchmark_group("signed notes");
    group.bench_function("sign", |bencher| bencher.iter(|| note::sign(black_box(&body), ORIGIN, &key)));
    group.bench_function("baseline: Ed25519 sign", |bencher| bencher.iter(|| key.sign(black_box(body.as_bytes()))));
    group.bench_function("parse and verify", |bencher| {
        let keys = [verifier.clone()];
        bencher.iter(|| Note::parse(black_box(text.as_bytes())).unwrap().verify(&keys).unwrap());
    });
    group.bench_function("baseline: Ed25519 verify", |bencher| {
        let public = key.public();
        bencher.iter(|| verify_signature(&public, black_box(body.as_bytes()), &signature).unwrap());
    });
    group.finish();
}

/// The right edge of a tree that grows, beside as many node hashes.
fn frontier(criterion: &mut Criterion) {
    let leaves: Vec<Hash> = entries(LEAVES).iter().map(|entry| tree::leaf_hash(entry)).collect();
    let mut group = criterion.benchmark_group("tree");
    group.throughput(Throughput::Elements(LEAVES as u64));
    group.bench_function("push and root", |bencher| {
        bencher.iter_batched(
            tree::Frontier::new,
            |mut frontier| {
                for leaf in &leaves {
                    frontier.push(*leaf);
                }
                frontier.root()
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("baseline: as many node hashes", |bencher| {
        bencher.iter(|| {
            leaves.iter().fold(Hash([0; 32]), |hash, leaf| tree::node_hash(black_box(&hash), black_box(leaf)))
        });
    });
    group.finish();
}

criterion_group!(benches, frame, append, proofs, notes, frontier);
criterion_main!(benches);

//! Parts of the service, each in one group with the plain work that it stands against: `cargo bench --bench parts`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to say")]

#[path = "../../src/cli/bench/plain.rs"]
mod plain;
mod traffic;

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use govledger::domain::cut::{Cut, CutLedger};
use govledger::domain::event::{EngineRef, Event};
use govledger::domain::leaf::Header;
use govledger::domain::metric::{self, Batch, Observed, TimeFields};
use govledger::domain::settings::SourceSettings;
use govledger::domain::time::Time;
use govledger::projection::governance::Governance;
use govledger::projection::ids::MemoryIds;
use govledger::projection::slo::{Records, RecordsError, Slo};
use govledger::sequencer::{DataDir, InitOptions, MetricsChunk, Prepare};
use plain::Plain;
use sha2::{Digest as _, Sha256};

const LINES: u64 = 1_000;
const REPORTS: u64 = 1_000;
const START: i64 = 1_790_845_200;

/// One line into typed figures, beside `serde_json` into a plain struct of the same fields.
fn parse(criterion: &mut Criterion) {
    let lines = traffic::lines(LINES);
    let mut group = criterion.benchmark_group("metric parse");
    group.throughput(Throughput::Elements(LINES));
    group.bench_function("one pass", |bencher| {
        bencher.iter(|| lines.iter().filter(|line| black_box(metric::parse(black_box(line))).is_ok()).count());
    });
    group.bench_function("baseline: serde_json::from_str", |bencher| {
        bencher.iter(|| {
            lines.iter().filter(|line| black_box(serde_json::from_str::<Plain<'_>>(black_box(line))).is_ok()).count()
        });
    });
    group.finish();
}

/// All that a worker does with a line before the writer has it, beside the parse and the hash alone.
fn prepare(criterion: &mut Criterion) {
    let lines = traffic::lines(LINES);
    let prepare = Prepare::new(PathBuf::from("/nonexistent"), TimeFields::default());
    let header = |number: u64| Header { offset: Some(number), ..Header::at(Time::from_seconds(START)) };
    let mut group = criterion.benchmark_group("record into a chunk");
    group.throughput(Throughput::Elements(LINES));
    group.bench_function("header, frame, leaf hash, parse", |bencher| {
        bencher.iter(|| {
            let mut chunk = MetricsChunk::default();
            for (number, line) in (0..).zip(&lines) {
                prepare.push(&mut chunk, header(number), line.as_bytes()).unwrap().unwrap();
            }
            chunk
        });
    });
    group.bench_function("baseline: serde_json::from_str and SHA-256", |bencher| {
        bencher.iter(|| {
            for line in &lines {
                black_box(serde_json::from_str::<Plain<'_>>(black_box(line)).unwrap());
                black_box(Sha256::digest(black_box(line)));
            }
        });
    });
    group.finish();
}

/// The governance ledger's first entry, as `init` makes it.
fn first_entry() -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let options = InitOptions {
        node: "bench".to_owned(),
        source: SourceSettings::Embedded,
        admin: "ada".to_owned(),
        settings: None,
        further_node_keys: Vec::new(),
        now: Time::from_seconds(START),
    };
    DataDir::init(&data, options).unwrap();
    let data_dir = DataDir::open(&data).unwrap();
    let key = data_dir.verifier_key("governance").unwrap();
    ledger::Reader::open(&data_dir.ledger_dir("governance"), &key).unwrap().entry(0).unwrap()
}

/// Reports judged and folded, beside `serde_json` into a tree of values.
fn governance(criterion: &mut Criterion) {
    let entries: Vec<Vec<u8>> = (0..REPORTS)
        .map(|number| {
            let header = Header { file: Some(1), line: Some(number + 1), ..Header::at(Time::from_seconds(START)) };
            [header.line(), traffic::report(number).into_bytes()].concat()
        })
        .collect();
    let mut begun = (Governance::default(), MemoryIds::default());
    begun.0.apply(0, &first_entry(), &mut begun.1);
    let mut group = criterion.benchmark_group("governance fold");
    group.throughput(Throughput::Elements(REPORTS));
    group.bench_function("judge and fold a report", |bencher| {
        bencher.iter_batched(
            || (begun.0.clone(), MemoryIds::default()),
            |(mut governance, mut ids)| {
                (1..).zip(&entries).for_each(|(position, entry)| drop(governance.apply(position, entry, &mut ids)));
                assert_eq!(governance.counts.refused, 0, "{:?}", governance.rejected.first());
                governance
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("baseline: serde_json::from_str into values", |bencher| {
        let reports: Vec<String> = (0..REPORTS).map(traffic::report).collect();
        bencher.iter(|| {
            for report in &reports {
                black_box(serde_json::from_str::<serde_json::Value>(report).unwrap());
            }
        });
    });
    group.finish();
}

struct Memory<'a>(&'a Batch);

impl Records for Memory<'_> {
    fn for_each(
        &mut self,
        _ledger: u32,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), RecordsError> {
        self.0.observed_between(from, to).for_each(&mut *visit);
        Ok(())
    }
}

/// Rules that follow one engine.
fn rules() -> Slo {
    let mut slo = Slo::default();
    let engine = EngineRef { engine_hash: traffic::ENGINE.to_owned(), version: None };
    let published = Event::EnginePublished { engine: engine.clone(), manifest: None, waivers: Vec::new() };
    slo.observe(1, Time::from_seconds(START), Some("engine-qwen3"), &published);
    let warm = Event::WarmupCompleted { engine, rehearsal: false };
    slo.observe(2, Time::from_seconds(START), Some("engine-qwen3"), &warm);
    slo
}

/// One cut over nine rules, beside one pass over the same records that counts and sums what the rules ask for.
fn cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules at a cut");
    for records in [100, 10_000, 100_000] {
        let mut batch = Batch::default();
        batch.first_position = 1;
        for line in traffic::lines(records) {
            batch.push_line(&line).unwrap();
        }
        let listed = CutLedger { ledger: 0, size: records + 1, root: ledger::Hash::default() };
        let cut = Cut { instant: Time::from_seconds(START + 10), ledgers: vec![listed], missing: Vec::new() };
        group.throughput(Throughput::Elements(records));
        group.bench_with_input(BenchmarkId::new("fold and judge", records), &cut, |bencher, cut| {
            bencher.iter_batched(
                rules,
                |mut slo| drop(black_box(slo.cut(cut, &mut Memory(&batch)).unwrap())),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("baseline: one pass of sums", records), |bencher| {
            bencher.iter(|| plain_sums(&batch));
        });
    }
    group.finish();
}

fn plain_sums(batch: &Batch) -> (u64, u64, u64, u64, u128) {
    let mut sums = (0, 0, 0, 0, 0);
    for (_, sample) in batch.samples() {
        sums.0 += u64::from(sample.duration_us < 800_000);
        sums.1 += u64::from(sample.queue_delay_ns.is_some_and(|delay| delay < 1_500_000));
        sums.2 += u64::from(sample.kv_hits.unwrap_or_default());
        sums.3 += u64::from(sample.spec_accepts.unwrap_or_default());
        sums.4 += sample.cost_atto_usd.unwrap_or_default();
    }
    black_box(sums)
}

criterion_group!(benches, parse, prepare, governance, cut);
criterion_main!(benches);

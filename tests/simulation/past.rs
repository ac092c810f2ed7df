//! What the rules said at any past position: the same as a fold from nothing says, from a bounded number of records.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use govledger::domain::leaf::Header;
use govledger::domain::metric::TimeFields;
use govledger::domain::settings::SourceSettings;
use govledger::domain::time::Time;
use govledger::sequencer::{Cache, Core, DataDir, InitOptions, MetricsChunk, Prepare, fold_to};
use ledger::{EntrySource, Error, Hash, Visit};

const ROUNDS: i64 = 8;
const ROUND_RECORDS: u64 = 12_000;
/// Records between two states that are kept.
const READ_MAX: u64 = 32_768;

/// A source that counts the entries handed out.
struct Counting<'a>(&'a dyn EntrySource, &'a AtomicU64);

impl EntrySource for Counting<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn root(&self) -> Hash {
        self.0.root()
    }
    fn root_at(&self, size: u64) -> Result<Hash, Error> {
        self.0.root_at(size)
    }
    fn entry(&self, position: u64) -> Result<Vec<u8>, Error> {
        self.0.entry(position)
    }
    fn for_each_entry(&self, range: Range<u64>, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.1.fetch_add(range.end - range.start, Ordering::SeqCst);
        self.0.for_each_entry(range, visit)
    }
    fn inclusion_proof(&self, position: u64, size: u64) -> Result<Vec<Hash>, Error> {
        self.0.inclusion_proof(position, size)
    }
    fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        self.0.consistency_proof(old, new)
    }
    fn rotations_text(&self) -> String {
        self.0.rotations_text()
    }
    fn checkpoint_text(&self) -> String {
        self.0.checkpoint_text()
    }
}

fn record(number: u64) -> String {
    let (engine, duration) = (number % 3, 100 + number * 7919 % 1_500);
    format!(
        r#"{{"event":"llm.request","model":"m","engine_hash":"sha256:{engine}","duration_ms":{duration},"cost_usd":0.2}}"#
    )
}

#[test]
fn the_rules_of_any_past_position_are_at_hand() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, start) = (scratch.path().join("data"), Time::from_seconds(1_790_000_000));
    let options = InitOptions {
        node: "n1".to_owned(),
        source: SourceSettings::Embedded,
        admin: "ada".to_owned(),
        settings: None,
        further_node_keys: Vec::new(),
        now: start,
    };
    DataDir::init(&root, options).unwrap();
    let data_dir = DataDir::open(&root).unwrap();
    let prepare = Prepare::new(data_dir.blobs(), TimeFields::default());
    let mut core = Core::open(data_dir, TimeFields::default()).unwrap();
    for round in 0..ROUNDS {
        let mut chunk = MetricsChunk::default();
        for number in 0..ROUND_RECORDS {
            let header = Header::at(start.plus_seconds(round * 10 + 1));
            let body = record(number + round.unsigned_abs() * ROUND_RECORDS);
            prepare.push(&mut chunk, header, body.as_bytes()).unwrap().unwrap();
        }
        core.append_metrics(0, vec![chunk]).unwrap();
        core.make_cut(start.plus_seconds(round * 10 + 10)).unwrap();
    }
    core.snapshot().unwrap();
    let shared = core.shared();
    let live = serde_json::to_string(&*shared.slo()).unwrap();
    let (governance, metrics) = (shared.reader("governance").unwrap(), shared.reader("metrics-0").unwrap());
    drop((core, shared));

    let cache = Cache::open(&root.join("cache")).unwrap();
    let (read, read_again, other) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let governance_counted = Counting(&governance, &other);
    let (kept, plain) = (Counting(&metrics, &read), Counting(&metrics, &read_again));
    let with = |metrics| {
        let governance: &dyn EntrySource = &governance_counted;
        BTreeMap::from([("governance".to_owned(), governance), ("metrics-0".to_owned(), metrics)])
    };
    let (kept, plain) = (with(&kept as &dyn EntrySource), with(&plain));
    let mut last = String::new();
    for size in 1..=governance.size() {
        read.store(0, Ordering::SeqCst);
        let at_hand = fold_to(&kept, Some(&cache), size, true).unwrap();
        let from_nothing = fold_to(&plain, None, size, true).unwrap();
        last = serde_json::to_string(&from_nothing.slo).unwrap();
        assert_eq!(serde_json::to_string(&at_hand.slo).unwrap(), last, "after {size} entries");
        let read = read.load(Ordering::SeqCst);
        assert!(read <= READ_MAX, "{read} records read again for the state after {size} entries");
    }
    assert_eq!(last, live, "the fold of the day itself");
    assert!(
        read_again.load(Ordering::SeqCst) > 10 * READ_MAX,
        "the folds from nothing read too little to prove anything"
    );
}

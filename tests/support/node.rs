//! A whole embedded node in this process: data directory, writer, handle.

use std::path::Path;

use govledger::clock::Clock;
use govledger::domain::leaf::Header;
use govledger::domain::metric::TimeFields;
use govledger::domain::settings::SourceSettings;
use govledger::domain::time::Time;
use govledger::ingest::file::{FileSource, IngestError, Report, ingest_recorded};
use govledger::projection::answers::Asked;
use govledger::sequencer::{Core, DataDir, Handle, InitOptions, MetricsChunk, Options, Running, start};

/// The clock of a node that a test starts: well after every recorded time.
pub(crate) const NOW: &str = "2026-11-01T00:00:00Z";

/// A running node and the directory it lives in.
#[derive(Debug)]
pub(crate) struct Node {
    /// Reaches the writer.
    pub(crate) handle: Handle,
    /// The first admin's token.
    pub(crate) admin_token: String,
    /// A clock that the test moves.
    pub(crate) clock: Clock,
    running: Running,
}

impl Node {
    /// Makes a data directory at `root` and starts a node there.
    pub(crate) fn init(root: &Path) -> Self {
        let now: Time = NOW.parse().unwrap();
        let options = InitOptions {
            node: "test".into(),
            source: SourceSettings::Embedded,
            admin: "root".into(),
            settings: None,
            further_node_keys: Vec::new(),
            now,
        };
        let made = DataDir::init(root, options).unwrap();
        Self::start(made.data_dir, made.admin_token.unwrap(), false, Clock::manual(now))
    }

    /// The same, with cuts as the node's clock passes.
    pub(crate) fn init_live(root: &Path) -> Self {
        let Self { handle, admin_token, running, .. } = Self::init(root);
        drop(handle);
        running.stop().unwrap();
        Self::start(DataDir::open(root).unwrap(), admin_token, true, Clock::manual(NOW.parse().unwrap()))
    }

    /// Starts a node with cuts on a directory made before.
    pub(crate) fn open_live(root: &Path, clock: Clock) -> Self {
        Self::start(DataDir::open(root).unwrap(), String::new(), true, clock)
    }

    /// Starts a node on a directory made before.
    pub(crate) fn open(root: &Path) -> Self {
        Self::start(DataDir::open(root).unwrap(), String::new(), false, Clock::manual(NOW.parse().unwrap()))
    }

    fn start(data_dir: DataDir, admin_token: String, live_cuts: bool, clock: Clock) -> Self {
        let core = Core::open(data_dir.clone(), TimeFields::default()).unwrap();
        let running = start(core, Options { live_cuts, clock: clock.clone(), policy: None }).unwrap();
        let handle = Handle::new(&running, data_dir, clock.clone(), TimeFields::default(), None).unwrap();
        Self { handle, admin_token, clock, running }
    }

    /// Ingests files with their recorded times.
    pub(crate) fn backfill(&self, files: &[&Path]) -> Result<Report, IngestError> {
        let files = files
            .iter()
            .map(|path| FileSource { name: path.display().to_string(), path: path.to_path_buf() })
            .collect();
        block_on(ingest_recorded(&self.handle, files, None, &|_, _| {}))
    }

    /// One record of `metrics-0`, now by the node's clock.
    pub(crate) fn request(&self, body: &str) {
        let mut chunk = MetricsChunk::default();
        self.handle.prepare().push(&mut chunk, Header::at(self.clock.now()), body.as_bytes()).unwrap().unwrap();
        block_on(self.handle.append_metrics(0, chunk)).unwrap();
    }

    /// The answer's JSON, and whether it says no.
    pub(crate) fn ask(&self, path: &str) -> (serde_json::Value, bool) {
        let asked = Asked::parse(path).unwrap();
        let answer = self.handle.shared().answer(&asked, self.clock.now()).unwrap().unwrap();
        (answer.body, answer.negative)
    }

    /// The same as of a time.
    pub(crate) fn ask_at(&self, path: &str, time: &str) -> serde_json::Value {
        let asked = Asked::parse(path).unwrap();
        let size = self.handle.shared().size_at(time.parse().unwrap()).unwrap();
        self.handle.shared().answer_at(&asked, size).unwrap().unwrap().body
    }

    /// Digests of both folds.
    pub(crate) fn digests(&self) -> (String, String) {
        let slo = serde_json::to_string(&*self.handle.shared().slo()).unwrap();
        (self.handle.shared().governance().digest(), slo)
    }

    /// Sizes and roots of all ledgers.
    pub(crate) fn roots(&self) -> Vec<(String, u64, String)> {
        self.handle
            .shared()
            .readers()
            .into_iter()
            .map(|(name, reader)| (name, reader.size(), reader.root().to_string()))
            .collect()
    }

    /// Stops it as SIGTERM would.
    pub(crate) fn stop(self) {
        self.running.stop().unwrap();
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

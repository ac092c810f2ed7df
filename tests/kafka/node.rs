//! A node of Kafka mode in the test's process: data directory, writer, intake.

use std::path::Path;
use std::time::Duration;

use govledger::clock::Clock;
use govledger::domain::command::Request;
use govledger::domain::leaf;
use govledger::domain::metric::TimeFields;
use govledger::domain::policy::Policy;
use govledger::domain::principal::Role;
use govledger::domain::settings::SourceSettings;
use govledger::ingest::kafka::{KafkaConfig, KafkaIntakeError, Part, follower_producer, producer, run};
use govledger::projection::answers::Asked;
use govledger::projection::governance::Verdict;
use govledger::sequencer::{CommandOutcome, Core, DataDir, Handle, InitOptions, Options, Running, start};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::wait::wait_for;

/// How long anything may take that takes well under a second on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) handle: Handle,
    running: Option<Running>,
    task: JoinHandle<Result<(), KafkaIntakeError>>,
    shutdown: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
}

/// Makes a data directory for these topics; with `like`, a further node of the same ledger. The first admin's token.
pub(crate) fn init(root: &Path, name: &str, topics: (&str, &str), like: Option<&Path>) -> Option<String> {
    let options = InitOptions {
        node: name.to_owned(),
        source: SourceSettings::Kafka { governance_topic: topics.0.to_owned(), metrics_topic: topics.1.to_owned() },
        admin: "root".to_owned(),
        settings: like.map(|like| DataDir::open(like).unwrap().settings().clone()),
        further_node_keys: Vec::new(),
        now: Clock::System.now(),
    };
    DataDir::init(root, options).unwrap().admin_token
}

impl Node {
    pub(crate) fn start(root: &Path, config: &KafkaConfig) -> Self {
        Self::launch(root, config, false, None)
    }

    pub(crate) fn follow(root: &Path, config: &KafkaConfig) -> Self {
        Self::launch(root, config, true, None)
    }

    pub(crate) fn launch(root: &Path, config: &KafkaConfig, follower: bool, policy: Option<Policy>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let _inside = runtime.enter();
        let data_dir = DataDir::open(root).unwrap();
        let core = Core::open(data_dir.clone(), TimeFields::default()).unwrap();
        let options = Options { live_cuts: false, clock: Clock::System, policy: None };
        let running = start(core, options).unwrap();
        let producer = if follower { follower_producer() } else { producer(config, data_dir.settings()).unwrap() };
        let handle = Handle::new(&running, data_dir, Clock::System, TimeFields::default(), Some(producer)).unwrap();
        let (shutdown, stop) = watch::channel(false);
        let task =
            run(handle.clone(), config.clone(), if follower { Part::Follower } else { Part::Full }, policy, stop);
        Self { handle, running: Some(running), task, shutdown, runtime }
    }

    /// Waits until the intake ends by itself: what it says.
    pub(crate) fn refusal(mut self) -> String {
        let ended = self.runtime.block_on(async { tokio::time::timeout(SOON, &mut self.task).await });
        let refusal = ended.expect("the intake goes on").unwrap().unwrap_err().to_string();
        self.running.take().unwrap().stop().unwrap();
        refusal
    }

    pub(crate) fn stop(mut self) {
        self.shutdown.send(true).unwrap();
        self.runtime.block_on(&mut self.task).unwrap().unwrap();
        self.running.take().unwrap().stop().unwrap();
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    pub(crate) fn command(&self, role: Role, key: &str, request: Request) -> CommandOutcome {
        self.command_of("root", role, key, request)
    }

    pub(crate) fn command_of(&self, principal: &str, role: Role, key: &str, request: Request) -> CommandOutcome {
        self.runtime.block_on(self.handle.command(principal, role, key, request)).unwrap().1
    }

    pub(crate) fn ask(&self, path: &str) -> serde_json::Value {
        let asked = Asked::parse(path).unwrap();
        self.handle.shared().answer(&asked, self.handle.now()).unwrap().unwrap().body
    }

    pub(crate) fn size(&self, ledger: &str) -> u64 {
        self.handle.shared().reader(ledger).map_or(0, |reader| reader.size())
    }

    pub(crate) fn wait_size(&self, ledger: &str, size: u64) {
        wait_for(&format!("{size} entries in {ledger}"), SOON, || (self.size(ledger) >= size).then_some(()));
    }

    pub(crate) fn headers(&self, ledger: &str) -> Vec<leaf::Header> {
        let reader = self.handle.shared().reader(ledger).unwrap();
        let entries = reader.entries(1..reader.size());
        entries.map(|entry| leaf::split(&entry.unwrap().1).unwrap().header).collect()
    }

    /// (type, stated identity) of every admitted entry that the service said or was asked for.
    pub(crate) fn said(&self) -> Vec<(String, String)> {
        let reader = self.handle.shared().reader("governance").unwrap();
        let governance = self.handle.shared().governance();
        let mut said = Vec::new();
        for entry in reader.entries(1..reader.size()) {
            let (position, entry) = entry.unwrap();
            let leaf = leaf::split(&entry).unwrap();
            if governance.verdict_at(position) != Verdict::Admitted {
                continue;
            }
            let report = govledger::domain::report::read(&leaf).unwrap();
            if report.envelope.is_some() {
                said.push((report.about.event_type, format!("{:?}", report.identity)));
            }
        }
        said
    }

    pub(crate) fn offsets(&self, ledger: &str) -> Vec<u64> {
        self.headers(ledger).into_iter().map(|header| header.offset.unwrap()).collect()
    }

    /// Why the intake of a ledger stopped.
    pub(crate) fn wait_stopped(&self, ledger: &str) -> String {
        let stopped = || self.handle.shared().status.stopped_intakes.lock().unwrap().get(ledger).cloned();
        wait_for(&format!("the intake of {ledger} to stop"), SOON, stopped)
    }

    /// Every ledger of both has the same root at the size that both have.
    pub(crate) fn assert_same_trees(&self, other: &Self) {
        let mut compared = 0;
        for (name, reader) in self.handle.shared().readers() {
            let theirs = other.handle.shared().reader(&name).unwrap();
            let size = reader.size().min(theirs.size());
            assert_eq!(reader.root_at(size).unwrap(), theirs.root_at(size).unwrap(), "{name} at {size}");
            compared += size;
        }
        assert!(compared > 0);
    }

    pub(crate) fn integrity_alarms(&self) -> u64 {
        self.handle.shared().status.integrity_alarms.load(std::sync::atomic::Ordering::SeqCst)
    }
}

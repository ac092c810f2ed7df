//! Lines that reached the broker without anybody being told, handed in again before this node has read them back.

use std::collections::BTreeSet;
use std::path::Path;

use govledger::domain::leaf;
use govledger::ingest::file::{FileKind, IngestError, append_lines, first_line_sha256};
use govledger::ingest::kafka::{KafkaConfig, producer};
use govledger::sequencer::{DataDir, SubmitError, Topic};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::files::{hand_in, identity, there};
use crate::node::{Node, SOON, init};
use crate::support::http::{Http, Reply};
use crate::support::kafka::{Kafka, Options, Record};
use crate::support::parts;
use crate::support::process::{Service, ServiceOptions, free_port};
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;
use crate::{STAMPED, Stage, request};

const LINES: usize = 60;
const PARTITIONS: [u32; 3] = [0, 1, 2];

fn lines() -> Vec<String> {
    (0..LINES).map(|index| request(&format!("e{index}"), index, "0.02")).collect()
}

/// Records in all partitions of the metrics topic.
fn at_broker(stage: &Stage) -> usize {
    usize::try_from(stage.kafka.end_offsets(&stage.metrics).iter().sum::<i64>()).unwrap()
}

/// The client of the directory's owner, who may hand files in; each start makes a token of its own.
fn owner(service: &Service, data: &Path) -> Http {
    let found: Value = serde_json::from_slice(&std::fs::read(data.join("service.json")).unwrap()).unwrap();
    service.http().with_token(found["token"].as_str().unwrap())
}

fn post(http: &Http, lines: &[String]) -> Result<Reply, String> {
    let path = format!("/v1/files/{}/lines?from_line=1&kind=metrics&name=log", first_line_sha256(lines[0].as_bytes()));
    http.try_send("POST", &path, &[("content-type", "application/x-ndjson")], (lines.join("\n") + "\n").as_bytes())
}

/// The numbers of the lines in the stopped service's ledgers.
fn line_numbers(data: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (name, reader) in DataDir::open(data).unwrap().readers().unwrap() {
        if name != "governance" {
            let entries = reader.entries(1..reader.size());
            numbers.extend(entries.filter_map(|entry| leaf::split(&entry.unwrap().1).unwrap().header.line));
        }
    }
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_kill_between_broker_and_ledger_doubles_no_line() {
    let Some(stage) = Stage::new("again", 3) else { return };
    let data = stage.scratch.join("service");
    init(&data, "a", stage.topics(), None);
    let configure = |paused: &[u32]| {
        let text = format!("[kafka]\nbrokers = {:?}\npaused_partitions = {paused:?}\n", stage.kafka.bootstrap());
        stage.scratch.write("govledger.toml", text)
    };
    // Held up, the partitions keep what is produced: the service cannot read it back before it is killed.
    let config = configure(&PARTITIONS);
    let port = free_port();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["--data", &path(&data), "--config", &path(&config), "serve", "--listen", &listen];
    let mut service = Service::start(ServiceOptions::new(arguments.map(str::to_owned), port));
    let http = owner(&service, &data);
    let lines = lines();
    std::thread::scope(|scope| {
        let request = scope.spawn(|| post(&http, &lines));
        wait_for("the lines at the broker", SOON, || (at_broker(&stage) == LINES).then_some(()));
        service.kill9();
        assert!(request.join().unwrap().is_err(), "it was answered: nothing is shown");
    });

    service.start_again();
    let early = post(&owner(&service, &data), &lines).unwrap();
    assert_eq!(service.terminate(), 0);
    configure(&[]);
    service.start_again();
    let http = owner(&service, &data);
    let report = wait_for("the lines to be compared", SOON, || {
        let reply = post(&http, &lines).unwrap();
        (reply.status != 503).then(|| reply.expect(200).json())
    });
    assert_eq!(service.terminate(), 0);
    assert_eq!(line_numbers(&data), (1..=LINES as u64).collect::<Vec<_>>());
    assert_eq!((report["admitted"].as_u64(), report["duplicates"].as_u64()), (Some(0), Some(LINES as u64)));
    assert_eq!(at_broker(&stage), LINES);

    let problem = early.json();
    assert_eq!((early.status, early.header("retry-after")), (503, Some("1")), "{problem}");
    assert_eq!(problem["code"], "busy");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("this node has not read metrics-"), "{detail}");
}

#[test]
fn a_delivery_limit_doubles_no_line() {
    let Some(parts) = parts::kafka() else { return };
    let mut kafka = Kafka::start(&parts, &Options::default());
    kafka.create_topic("limit-governance", 1, STAMPED);
    kafka.create_topic("limit-metrics", 3, STAMPED);
    let scratch = Scratch::new("limit");
    init(&scratch.join("data"), "a", ("limit-governance", "limit-metrics"), None);
    let config =
        KafkaConfig { bootstrap_servers: kafka.bootstrap(), delivery_timeout_ms: 2_000, ..KafkaConfig::default() };
    let node = Node::start(&scratch.join("data"), &config);
    let lines = lines();
    let file = identity(FileKind::Metrics, &lines);
    let again = |lines: &[String]| {
        let bytes = lines.join("\n") + "\n";
        node.block_on(append_lines(&node.handle, &file, 1, bytes.as_bytes(), None))
    };
    wait_for("the first line", SOON, || again(&lines[..1]).ok());
    let number = node.handle.shared().governance().files.values().next().unwrap().file;
    let is_certain = || node.block_on(node.handle.file_turn(number)).is_certain();
    assert!(is_certain());

    // A broker that hangs takes the lines once it goes on, long after they were given up.
    for partition in PARTITIONS {
        config.pauses.pause(partition);
    }
    kafka.pause();
    let given_up = again(&lines).unwrap_err();
    assert!(matches!(&given_up, IngestError::Submit(SubmitError::Produce(_))), "{given_up}");
    assert!(!is_certain());
    kafka.resume();
    let at_broker = || kafka.end_offsets("limit-metrics").iter().sum::<i64>();
    wait_for("the lines at the broker", SOON, || (at_broker() == i64::try_from(LINES).unwrap()).then_some(()));
    for partition in PARTITIONS {
        config.pauses.resume(partition);
    }
    let report = wait_for("the lines to be compared", SOON, || again(&lines).ok());
    assert_eq!((report.admitted, report.duplicates), (0, LINES as u64));
    assert!(is_certain());
    assert_eq!(there(&node, number), (1..).zip(lines).collect::<Vec<_>>());
    node.stop();
}

#[test]
fn a_node_that_is_behind_takes_lines_once_it_has_caught_up() {
    let Some(stage) = Stage::new("behind", 3) else { return };
    let node = stage.node();
    let lines = lines();
    let file = identity(FileKind::Metrics, &lines);
    let half = &lines[..LINES / 2];
    assert_eq!(hand_in(&node, &file, half), (half.len() as u64, 0));
    for partition in PARTITIONS {
        stage.config.pauses.pause(partition);
    }
    // Longer than the intakes' look at the pauses.
    std::thread::sleep(std::time::Duration::from_millis(500));
    // All that came before was read back, so these are compared and produced at once; they are at the broker and not here.
    assert_eq!(hand_in(&node, &file, &lines), ((LINES - half.len()) as u64, half.len() as u64));
    let bytes = lines.join("\n") + "\n";
    let refused = node.block_on(append_lines(&node.handle, &file, 1, bytes.as_bytes(), None)).unwrap_err();
    assert!(matches!(&refused, IngestError::Submit(SubmitError::NotReadYet { .. })), "{refused}");
    // What goes to the other topic does not wait for this one.
    assert!(node.block_on(node.handle.read_to_ends(Topic::Governance)).unwrap());

    for partition in PARTITIONS {
        stage.config.pauses.resume(partition);
    }
    assert_eq!(hand_in(&node, &file, &lines), (0, LINES as u64));
    let number = node.handle.shared().governance().files.values().next().unwrap().file;
    assert_eq!(there(&node, number), (1..).zip(lines).collect::<Vec<_>>());
    node.stop();
}

#[test]
fn what_holds_no_record_that_can_be_read_holds_no_file_up() {
    let Some(stage) = Stage::new("ends", 3) else { return };
    let node = stage.node();
    let lines = lines();
    let file = identity(FileKind::Metrics, &lines);
    assert_eq!(hand_in(&node, &file, &lines), (LINES as u64, 0));
    node.stop();
    // A transaction ends with a marker in its partition, which becomes no entry.
    stage.kafka.produce_transaction(&stage.metrics, &[Record::new(lines[0].as_bytes()).partition(0)], true);
    for start in ["that reads the record", "with nothing but the marker left to read"] {
        let node = stage.node();
        assert_eq!(hand_in(&node, &file, &lines), (0, LINES as u64), "a start {start}");
        node.stop();
    }
    // What has expired unread stops the partition, and is not waited for.
    let offset = stage.kafka.produce(&stage.metrics, &[Record::new(lines[0].as_bytes()).partition(1)])[0].1;
    stage.kafka.delete_records_before(&stage.metrics, 1, offset + 1);
    let node = stage.node();
    node.wait_stopped("metrics-1");
    assert_eq!(hand_in(&node, &file, &lines), (0, LINES as u64));
    node.stop();
}

#[test]
fn an_end_covers_transactions_that_are_open() {
    let Some(stage) = Stage::new("open", 1) else { return };
    let settings = DataDir::open(&stage.scratch.join("data")).unwrap().settings().clone();
    let asked = producer(&stage.config, &settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ends = || runtime.block_on(asked.ends(Topic::Metrics)).unwrap();
    assert!(ends().offsets.is_empty() && ends().leaderless == BTreeSet::new());
    let other: BaseProducer = stage.kafka.client().set("transactional.id", "open").create().unwrap();
    other.init_transactions(SOON).unwrap();
    other.begin_transaction().unwrap();
    other.send(BaseRecord::<(), str>::to(&stage.metrics).payload("{}").partition(0)).unwrap();
    other.flush(SOON).unwrap();
    assert_eq!(ends().offsets.get("metrics-0"), Some(&1));
    other.abort_transaction(SOON).unwrap();
}

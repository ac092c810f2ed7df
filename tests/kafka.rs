//! The intake against a real Apache Kafka: nothing lost, nothing twice, and every oddity of a topic found out.

#![cfg(test)]

#[path = "kafka/files.rs"]
mod files;
#[path = "kafka/forgeries.rs"]
mod forgeries;
#[path = "kafka/handed_in_again.rs"]
mod handed_in_again;
#[path = "kafka/joining.rs"]
mod joining;
#[path = "kafka/kills.rs"]
mod kills;
#[path = "kafka/leaderless.rs"]
mod leaderless;
#[path = "kafka/node.rs"]
mod node;
#[path = "kafka/outage.rs"]
mod outage;
#[path = "kafka/rotations.rs"]
mod rotations;
#[path = "kafka/scrapes.rs"]
mod scrapes;
#[path = "kafka/stalled.rs"]
mod stalled;
mod support;
#[path = "kafka/told.rs"]
mod told;

use std::sync::OnceLock;
use std::time::Duration;

use govledger::domain::command::{EngineJudgement, HoleConfirm, Request};
use govledger::domain::principal::Role;
use govledger::ingest::kafka::{KafkaConfig, SaslMechanism, SecurityProtocol, producer};
use govledger::projection::governance::Verdict;
use govledger::sequencer::{CommandOutcome, DataDir};

use node::{Node, SOON, init};
use support::kafka::{Kafka, Options, Record, SASL_PASSWORD, SASL_USER};
use support::parts;
use support::scratch::Scratch;
use support::wait::wait_for;

const STAMPED: &[(&str, &str)] = &[("message.timestamp.type", "LogAppendTime")];
const STACK: &str = "engine-qwen3";

/// One broker for all tests of this file; each has topics of its own.
fn broker() -> Option<&'static Kafka> {
    static BROKER: OnceLock<Kafka> = OnceLock::new();
    let parts = parts::kafka()?;
    Some(BROKER.get_or_init(|| Kafka::start(&parts, &Options { sasl_ssl: true, ..Options::default() })))
}

/// A broker with two fresh topics, and a directory.
struct Stage {
    kafka: &'static Kafka,
    scratch: Scratch,
    governance: String,
    metrics: String,
    config: KafkaConfig,
}

impl Stage {
    fn new(name: &str, partitions: i32) -> Option<Self> {
        let kafka = broker()?;
        let stage = Self {
            kafka,
            scratch: Scratch::new(name),
            governance: format!("{name}-governance"),
            metrics: format!("{name}-metrics"),
            config: KafkaConfig {
                bootstrap_servers: kafka.bootstrap(),
                partition_check_s: 1,
                ..KafkaConfig::default()
            },
        };
        kafka.create_topic(&stage.governance, 1, STAMPED);
        kafka.create_topic(&stage.metrics, partitions, STAMPED);
        init(&stage.scratch.join("data"), "a", stage.topics(), None);
        Some(stage)
    }

    fn topics(&self) -> (&str, &str) {
        (&self.governance, &self.metrics)
    }

    fn node(&self) -> Node {
        Node::start(&self.scratch.join("data"), &self.config)
    }

    /// A further node that has seen nothing yet.
    fn follower(&self) -> Node {
        let root = self.scratch.join("follower");
        init(&root, "b", self.topics(), Some(&self.scratch.join("data")));
        Node::follow(&root, &self.config)
    }

    fn report(&self, lines: &[String]) {
        self.kafka
            .produce(&self.governance, &lines.iter().map(|line| Record::new(line.as_bytes())).collect::<Vec<_>>());
    }

    fn requests(&self, partition: i32, count: usize, cost: &str) {
        let records: Vec<Record> =
            (0..count).map(|index| Record::new(request("sha256:41", index, cost)).partition(partition)).collect();
        self.kafka.produce(&self.metrics, &records);
    }
}

fn event(kind: &str, hash: &str, version: &str, second: u32) -> String {
    format!(
        r#"{{"event_type":"{kind}","artifact":{{"artifact_id":"{STACK}","version":"{version}","hash":"{hash}"}},"actor":"ci","payload":{{}},"timestamp":"2026-10-01T08:30:{second:02}.000000+00:00"}}"#
    )
}

fn published() -> Vec<String> {
    vec![event("llm_engine_published", "sha256:41", "1.4.0", 0), event("llm_warmup_completed", "sha256:41", "1.4.0", 1)]
}

fn request(engine: &str, index: usize, cost: &str) -> String {
    format!(
        r#"{{"event":"llm.request","operation":"judge","model":"qwen3-32b","engine_hash":"{engine}","quantisation":"w4a8","duration_ms":{}.125,"queue_delay_us":400.0,"tokens_in":512.0,"tokens_out":64.0,"kv_cache_reuse":{{"hits":6,"misses":4}},"speculative":{{}},"cost_usd":{cost},"error_code":null}}"#,
        300 + index % 97
    )
}

#[test]
fn restarts_lose_nothing_and_repeat_nothing() {
    let Some(stage) = Stage::new("restarts", 4) else { return };
    stage.report(&published());
    std::thread::scope(|scope| {
        let producing = scope.spawn(|| {
            for round in 0..12 {
                for partition in 0..4 {
                    stage.requests(partition, 100 + round, "0.02");
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let mut rounds = 0;
        while !producing.is_finished() {
            let node = stage.node();
            std::thread::sleep(Duration::from_millis(150 + 90 * rounds));
            node.stop();
            rounds += 1;
        }
    });
    // Transactions leave markers behind, and aborted records: offsets that are no records.
    let marked = |count| (0..count).map(|index| Record::new(request("sha256:41", index, "0.02"))).collect::<Vec<_>>();
    stage.kafka.produce_transaction(&stage.metrics, &marked(3), true);
    stage.kafka.produce_transaction(&stage.metrics, &marked(2), false);
    stage.requests(0, 1, "0.02");
    stage.kafka.produce_transaction(&stage.metrics, &marked(1), true);

    let node = stage.node();
    let (plain, total) = (1266, 1266 + 3 + 1 + 1);
    node.wait_size("metrics-0", total + 1);
    for partition in 1..4 {
        node.wait_size(&format!("metrics-{partition}"), plain + 1);
        assert_eq!(node.offsets(&format!("metrics-{partition}")), (0..plain).collect::<Vec<_>>());
    }
    let headers = node.headers("metrics-0");
    assert_eq!(headers.len() as u64, total);
    let gaps: Vec<_> = headers.iter().filter_map(|header| Some((header.offset?, header.skipped_offsets?))).collect();
    // Three records, a marker, two aborted ones, their marker; the record; and one more after it with no gap.
    assert_eq!(gaps, [(plain + 7, 4)]);
    // The first cut that names none missing shows that markers at the end hold nothing up.
    wait_for("a cut", SOON, || node.handle.shared().governance().evaluated_through);

    let follower = stage.follower();
    for (name, reader) in node.handle.shared().readers() {
        follower.wait_size(&name, reader.size());
    }
    follower.assert_same_trees(&node);
    let rules = |node: &Node| serde_json::to_string(&*node.handle.shared().slo()).unwrap();
    let caught_up = || (rules(&follower) == rules(&node)).then_some(());
    wait_for("the follower's rules", SOON, caught_up);
    assert_eq!((node.integrity_alarms(), follower.integrity_alarms()), (0, 0));
    assert_eq!(node.handle.shared().governance().counts.refused, 0);
    follower.stop();
    node.stop();
}

#[test]
fn a_partition_added_later_gets_its_ledger() {
    let Some(stage) = Stage::new("added", 1) else { return };
    let node = stage.node();
    stage.requests(0, 3, "0.02");
    node.wait_size("metrics-0", 4);
    stage.kafka.add_partitions(&stage.metrics, 2);
    stage.requests(1, 5, "0.02");
    node.wait_size("metrics-1", 6);
    assert_eq!(node.offsets("metrics-1"), [0, 1, 2, 3, 4]);
    node.stop();
}

#[test]
fn a_hole_stops_the_partition_until_it_is_confirmed() {
    let Some(stage) = Stage::new("hole", 1) else { return };
    let node = stage.node();
    stage.requests(0, 5, "0.02");
    node.wait_size("metrics-0", 6);
    node.stop();
    stage.requests(0, 10, "0.02");
    // Expired up to the next offset is no hole.
    stage.kafka.delete_records_before(&stage.metrics, 0, 5);
    let node = stage.node();
    node.wait_size("metrics-0", 16);
    node.stop();
    stage.requests(0, 10, "0.02");
    stage.kafka.delete_records_before(&stage.metrics, 0, 20);

    let node = stage.node();
    let reason = node.wait_stopped("metrics-0");
    assert!(reason.contains("offsets 15 to 19 of hole-metrics, partition 0"), "{reason}");
    assert!(reason.contains("govledger confirm-hole metrics-0 --from 15 --to 19 --reason"), "{reason}");
    assert_eq!(node.size("metrics-0"), 16);
    let confirm = |from, to| {
        Request::HoleConfirm(HoleConfirm { ledger: "metrics-0".into(), from, to, reason: "retention too short".into() })
    };
    let outcome = node.command(Role::Admin, "hole-1", confirm(15, 19));
    assert!(
        matches!(&outcome, CommandOutcome::Decided(outcome) if outcome.verdict == Verdict::Admitted),
        "{outcome:?}"
    );
    node.wait_size("metrics-0", 21);
    let headers = node.headers("metrics-0");
    assert_eq!((headers[15].offset, headers[15].hole), (Some(20), Some((15, 19))));
    assert_eq!((headers[16].offset, headers[16].hole), (Some(21), None));
    assert!(node.handle.shared().status.stopped_intakes.lock().unwrap().is_empty());
    node.stop();
}

#[test]
fn a_topic_made_anew_is_found_out() {
    let Some(stage) = Stage::new("anew", 1) else { return };
    let node = stage.node();
    stage.requests(0, 5, "0.02");
    node.wait_size("metrics-0", 6);
    node.stop();
    stage.kafka.delete_topic(&stage.metrics);
    stage.kafka.create_topic(&stage.metrics, 1, STAMPED);
    stage.requests(0, 2, "0.02");
    let node = stage.node();
    let reason = node.wait_stopped("metrics-0");
    assert!(reason.contains("last record has offset 4") && reason.contains("made anew"), "{reason}");
    stage.requests(0, 8, "0.02");
    let another = || Some(node.wait_stopped("metrics-0")).filter(|reason| reason.contains("record at offset 4"));
    let reason = wait_for("the comparison of the last record", SOON, another);
    assert!(reason.contains("is not the one that the ledger holds"), "{reason}");
    assert_eq!(node.size("metrics-0"), 6);
    node.stop();
}

#[test]
fn topics_that_will_not_do_are_refused_with_what_fixes_them() {
    let Some(kafka) = broker() else { return };
    let scratch = Scratch::new("refused");
    let config = KafkaConfig { bootstrap_servers: kafka.bootstrap(), ..KafkaConfig::default() };
    kafka.create_topic("refused-good", 1, STAMPED);
    kafka.create_topic("refused-metrics", 2, &[]);
    kafka.create_topic("refused-two", 2, STAMPED);
    kafka.create_topic("refused-unstamped", 1, &[]);
    kafka.create_topic(
        "refused-compacted",
        1,
        &[("cleanup.policy", "compact"), ("message.timestamp.type", "LogAppendTime")],
    );
    let check = |governance: &str, metrics: &str, expected: &[&str]| {
        let root = scratch.join(format!("{governance}-{metrics}"));
        init(&root, "a", (governance, metrics), None);
        let refusal = Node::start(&root, &config).refusal();
        for part in expected {
            assert!(refusal.contains(part), "{refusal}");
        }
    };
    check("refused-absent", "refused-metrics", &["does not exist", "--create --topic refused-absent --partitions 1"]);
    check("refused-good", "refused-none", &["does not exist", "--create --topic refused-none"]);
    check("refused-two", "refused-metrics", &["has 2 partitions", "exactly 1"]);
    check("refused-unstamped", "refused-metrics", &["CreateTime", "--add-config message.timestamp.type=LogAppendTime"]);
    check("refused-compacted", "refused-metrics", &["cleanup.policy=compact", "--add-config cleanup.policy=delete"]);
    check("refused-good", "refused-compacted", &["cleanup.policy=compact"]);
    // A topic that the ledger was not made for.
    let root = scratch.join("other");
    init(&root, "a", ("refused-good", "refused-metrics"), None);
    let other = KafkaConfig { metrics_topic: Some("x".into()), ..config.clone() };
    let settings = DataDir::open(&root).unwrap().settings().clone();
    let refusal = producer(&other, &settings).unwrap_err().to_string();
    assert!(
        refusal.contains("\"x\" as the metrics topic") && refusal.contains("made for \"refused-metrics\""),
        "{refusal}"
    );
}

#[test]
fn sasl_over_tls_reads_and_writes() {
    let Some(stage) = Stage::new("sasl", 1) else { return };
    for (mechanism, expected) in [(SaslMechanism::Plain, 3), (SaslMechanism::ScramSha256, 6)] {
        let config = KafkaConfig {
            bootstrap_servers: stage.kafka.sasl_bootstrap(),
            security_protocol: SecurityProtocol::SaslSsl,
            sasl_mechanism: mechanism,
            sasl_username: Some(SASL_USER.into()),
            sasl_password_file: Some(stage.scratch.write("password", format!("{SASL_PASSWORD}\n"))),
            ssl_ca_file: Some(stage.kafka.ca_file()),
            ..KafkaConfig::default()
        };
        stage.requests(0, 3, "0.02");
        let node = Node::start(&stage.scratch.join("data"), &config);
        node.wait_size("metrics-0", expected + 1);
        stage.report(&published());
        let condemn = EngineJudgement { stack: STACK.into(), engine_hash: "sha256:none".into(), reason: "test".into() };
        let outcome = node.command(Role::Admin, &format!("{mechanism:?}"), Request::EngineCondemn(condemn));
        assert!(matches!(outcome, CommandOutcome::Decided(_)), "{outcome:?}");
        node.stop();
    }
}

#[test]
fn a_partition_that_is_not_read_hides_no_rollback() {
    let Some(stage) = Stage::new("paused", 2) else { return };
    let node = stage.node();
    stage.report(&published());
    stage.requests(0, 30, "0.02");
    stage.requests(1, 30, "0.25");
    // The dear requests fire at the first cut, which counts both partitions.
    let alert = wait_for("an alert", SOON, || {
        let alerts = node.ask("/v1/alerts");
        alerts["alerts"].as_array().and_then(|alerts| alerts.first().cloned())
    });
    assert_eq!(
        (alert["rule"].as_str(), alert["state"].as_str()),
        (Some("cost_per_request"), Some("firing")),
        "{alert}"
    );

    stage.config.pauses.pause(1);
    std::thread::sleep(Duration::from_millis(300));
    stage.requests(1, 10, "0.02");
    let evaluated = node.handle.shared().governance().evaluated_through.unwrap();
    stage.report(&[
        event("llm_engine_published", "sha256:42", "1.5.0", 2),
        event("llm_rollback_completed", "sha256:41", "1.4.0", 3),
    ]);
    wait_for("the rollback", Duration::from_secs(2), || {
        let manifest = node.ask(&format!("/v1/stacks/{STACK}/manifest"));
        (manifest["version"] == "1.4.0" && node.handle.shared().governance().counts.admitted > 5).then_some(())
    });
    let missing = wait_for("a cut that names the partition missing", Duration::from_secs(40), || {
        node.handle.shared().governance().last_cut.clone().filter(|cut| !cut.missing.is_empty())
    });
    assert_eq!(missing.missing, [1]);
    let through = node.handle.shared().governance().evaluated_through.unwrap();
    assert!(through < missing.instant && through >= evaluated);
    assert_eq!(node.size("metrics-1"), 31);

    stage.config.pauses.resume(1);
    node.wait_size("metrics-1", 41);
    wait_for("the figures to go on", SOON, || {
        (node.handle.shared().governance().evaluated_through? > missing.instant).then_some(())
    });
    node.stop();
}

#[test]
fn records_stamped_by_their_senders_count_at_the_cut_after_they_came() {
    let Some(kafka) = broker() else { return };
    let scratch = Scratch::new("sent");
    let config = KafkaConfig { bootstrap_servers: kafka.bootstrap(), ..KafkaConfig::default() };
    kafka.create_topic("sent-governance", 1, STAMPED);
    kafka.create_topic("sent-metrics", 1, &[]);
    init(&scratch.join("data"), "a", ("sent-governance", "sent-metrics"), None);
    let node = Node::start(&scratch.join("data"), &config);
    // One clock a year behind, one ahead of any.
    let records = [
        Record::new(request("sha256:41", 0, "0.02")).timestamp_ms(1_700_000_000_000),
        Record::new(request("sha256:41", 1, "0.02")).timestamp_ms(4_102_444_800_000),
        Record::new("not json at all").timestamp_ms(i64::MAX / 2),
    ];
    kafka.produce("sent-metrics", &records);
    node.wait_size("metrics-0", 4);
    let now = node.handle.now();
    let cut = wait_for("a cut", SOON, || node.handle.shared().governance().last_cut.clone());
    assert_eq!(cut.size_of(0), 4);
    assert!(cut.instant.micros_since(now).abs() < 60_000_000, "{}", cut.instant);
    assert_eq!(node.handle.shared().metrics()[&0].refused, 1);
    node.stop();
}

/// This process's resident memory, KiB; 0 where the system does not say.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).map_or(0, |kib| kib.parse().unwrap())
}

#[test]
fn a_busy_writer_holds_the_partition_back_with_memory_flat() {
    let Some(stage) = Stage::new("busy", 1) else { return };
    // 96 MB of records wait at the broker.
    let filler = "x".repeat(48_000);
    for _ in 0..20 {
        let records: Vec<Record> = (0..100).map(|_| Record::new(filler.as_bytes())).collect();
        stage.kafka.produce(&stage.metrics, &records);
    }
    stage.config.pauses.pause(0);
    let node = stage.node();
    wait_for("the start", SOON, || {
        node.handle.shared().status.caught_up.load(std::sync::atomic::Ordering::SeqCst).then_some(())
    });
    // A reader that keeps its lock holds up the fold of the next governance entry, and so the writer.
    let shared = std::sync::Arc::clone(node.handle.shared());
    let reader = shared.governance();
    stage.report(&published());
    std::thread::sleep(Duration::from_millis(500));
    let before = resident_kib();
    let paused = || node.handle.shared().status.kafka_pauses.lock().unwrap().get("metrics-0").copied();
    assert_eq!(paused(), None);
    stage.config.pauses.resume(0);
    assert_eq!(wait_for("the pause at the broker", SOON, paused), 1);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((node.size("metrics-0"), paused()), (1, Some(1)), "the writer is held up, and so is the partition");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 60 << 10, "{grown} KiB more for a backlog of 94,000");
    drop(reader);
    node.wait_size("metrics-0", 2_001);
    assert_eq!(node.offsets("metrics-0"), (0..2_000).collect::<Vec<_>>());
    node.stop();
}

//! One partition without a leader: its only replica is on a broker that is killed, and comes back.

use std::time::Duration;

use govledger::ingest::kafka::{KafkaConfig, producer};
use govledger::sequencer::{DataDir, Topic};

use crate::node::{Node, SOON, init};
use crate::support::kafka::{Kafka, Options, Record};
use crate::support::parts;
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;
use crate::{STACK, STAMPED, event, published, request};

#[test]
fn a_leaderless_partition_is_named_missing_and_caught_up_with() {
    let Some(parts) = parts::kafka() else { return };
    let kafka = Kafka::start(&parts, &Options::default());
    let mut second = kafka.second();
    kafka.create_topic_on("leaderless-governance", &[1], STAMPED);
    kafka.create_topic_on("leaderless-metrics", &[1, 2], STAMPED);
    let scratch = Scratch::new("leaderless");
    init(&scratch.join("data"), "a", ("leaderless-governance", "leaderless-metrics"), None);
    let config = KafkaConfig { bootstrap_servers: kafka.bootstrap(), partition_check_s: 1, ..KafkaConfig::default() };
    let node = Node::start(&scratch.join("data"), &config);
    let requests = |partition: i32, count: usize| {
        let records: Vec<Record> =
            (0..count).map(|index| Record::new(request("sha256:41", index, "0.02")).partition(partition)).collect();
        kafka.produce("leaderless-metrics", &records);
    };
    let report = |lines: &[String]| {
        let records: Vec<Record> = lines.iter().map(|line| Record::new(line.as_bytes())).collect();
        kafka.produce("leaderless-governance", &records);
    };
    report(&published());
    requests(0, 30);
    requests(1, 30);
    node.wait_size("metrics-0", 31);
    node.wait_size("metrics-1", 31);
    wait_for("a cut of all of them", SOON, || {
        node.handle.shared().governance().last_cut.clone().filter(|cut| (cut.size_of(0), cut.size_of(1)) == (31, 31))
    });

    second.kill9();
    // The other partition and the governance go on, and a rollback shows at once.
    requests(0, 10);
    node.wait_size("metrics-0", 41);
    report(&[
        event("llm_engine_published", "sha256:42", "1.5.0", 2),
        event("llm_rollback_completed", "sha256:41", "1.4.0", 3),
    ]);
    wait_for("the rollback", SOON, || {
        let manifest = node.ask(&format!("/v1/stacks/{STACK}/manifest"));
        (manifest["version"] == "1.4.0" && node.handle.shared().governance().counts.admitted > 4).then_some(())
    });
    let missing = wait_for("a cut that names the partition missing", Duration::from_mins(1), || {
        node.handle.shared().governance().last_cut.clone().filter(|cut| !cut.missing.is_empty())
    });
    assert_eq!((missing.missing.as_slice(), missing.size_of(1)), ([1].as_slice(), 31));
    assert!(node.handle.shared().governance().evaluated_through.is_some_and(|through| through < missing.instant));

    // Lines of files do not wait for it; what it holds is not known.
    let settings = DataDir::open(&scratch.join("data")).unwrap().settings().clone();
    let ends = node.block_on(producer(&config, &settings).unwrap().ends(Topic::Metrics)).unwrap();
    assert_eq!(ends.offsets.keys().collect::<Vec<_>>(), ["metrics-0"]);
    assert_eq!(ends.leaderless.iter().collect::<Vec<_>>(), ["metrics-1"]);
    assert!(!node.block_on(node.handle.read_to_ends(Topic::Metrics)).unwrap());

    second.start_again();
    wait_for("a leader", SOON, || kafka.watermarks_if_led("leaderless-metrics", 1).then_some(()));
    requests(1, 10);
    node.wait_size("metrics-1", 41);
    assert_eq!(node.offsets("metrics-1"), (0..40).collect::<Vec<_>>());
    assert_eq!(node.offsets("metrics-0"), (0..40).collect::<Vec<_>>());
    wait_for("the figures to go on", Duration::from_mins(1), || {
        (node.handle.shared().governance().evaluated_through? > missing.instant).then_some(())
    });
    assert_eq!(node.integrity_alarms(), 0);
    node.stop();
}

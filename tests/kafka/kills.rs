//! The service killed again and again while the broker goes on, and the broker restarted in between: beside it a follower
//! that nothing interrupted. Both must end with the same trees, and nothing may be in effect twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use govledger::ingest::kafka::KafkaConfig;
use govledger::sequencer::DataDir;
use serde_json::json;

use crate::node::{Node, init};
use crate::support::http::{Http, Reply};
use crate::support::kafka::{Kafka, Options, Record, produce};
use crate::support::parts;
use crate::support::process::{Service, ServiceOptions, free_port};
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;
use crate::{STACK, STAMPED, event, published, request};

/// In the quick form; `GOVLEDGER_KILLS=200` for the long one.
const KILLS: u32 = 30;
const PARTITIONS: i32 = 4;

/// Records of the partition that is added while all this goes on.
const ADDED: usize = 100;

/// Produces until told to stop; the number of records of each metrics partition.
fn traffic(client: &rdkafka::ClientConfig, stop: &AtomicBool) -> usize {
    let mut count = 0;
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        let size = 20 + round % 17;
        for partition in 0..PARTITIONS {
            // Dear requests now and then: alerts fire and resolve while the service is killed.
            let cost = if round % 40 < 4 { "0.25" } else { "0.02" };
            let records: Vec<Record> =
                (0..size).map(|index| Record::new(request("sha256:41", index, cost)).partition(partition)).collect();
            produce(client, "kills-metrics", &records);
        }
        if round % 10 == 0 {
            let second = u32::try_from(round / 10 % 60).unwrap();
            let report = event("llm_warmup_completed", "sha256:41", "1.4.0", second);
            produce(client, "kills-governance", &[Record::new(report)]);
        }
        count += size;
        round += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    count
}

/// The stopped service's ledgers are the follower's, and hold every record of the topics once.
fn assert_same_and_complete(kafka: &Kafka, data: &std::path::Path, follower: &Node) {
    for (name, reader) in DataDir::open(data).unwrap().readers().unwrap() {
        follower.wait_size(&name, reader.size());
        let theirs = follower.handle.shared().reader(&name).unwrap();
        assert_eq!(theirs.root_at(reader.size()).unwrap(), reader.root(), "{name}");
        let offsets = follower.offsets(&name);
        let records = kafka.end_offsets(if name == "governance" { "kills-governance" } else { "kills-metrics" });
        let partition = name.strip_prefix("metrics-").map_or(0, |number| number.parse().unwrap());
        let end: usize = records[partition].try_into().unwrap();
        assert_eq!(offsets, (0..offsets.len() as u64).collect::<Vec<_>>(), "{name}");
        assert_eq!(offsets.len(), end, "{name}");
    }
}

/// Whatever else happens around a kill: the broker is restarted or killed, or the topic grows.
fn disturb(kafka: &mut Kafka, kill: u32) {
    match kill {
        15 => {
            kafka.add_partitions("kills-metrics", 5);
            let records: Vec<Record> = (0..ADDED)
                .map(|index| Record::new(request("sha256:41", index, "0.02")).partition(PARTITIONS))
                .collect();
            produce(&kafka.client(), "kills-metrics", &records);
        }
        _ if kill % 30 == 10 => kafka.restart(),
        _ if kill % 30 == 20 => {
            kafka.kill9();
            kafka.start_again();
        }
        _ => {}
    }
}

fn condemn(http: &Http) -> Result<Reply, String> {
    let headers = [("content-type", "application/json"), ("idempotency-key", "condemn-41")];
    let body = json!({ "engine_hash": "sha256:41", "reason": "asked for again after every kill" }).to_string();
    http.try_send("POST", &format!("/v1/stacks/{STACK}/condemn"), &headers, body.as_bytes())
}

#[test]
fn kills_and_broker_restarts_lose_and_repeat_nothing() {
    let Some(parts) = parts::kafka() else { return };
    let mut kafka = Kafka::start(&parts, &Options::default());
    kafka.create_topic("kills-governance", 1, STAMPED);
    kafka.create_topic("kills-metrics", PARTITIONS, STAMPED);
    let scratch = Scratch::new("kills");
    let (data, further) = (scratch.join("data"), scratch.join("follower"));
    let token = init(&data, "a", ("kills-governance", "kills-metrics"), None).unwrap();
    init(&further, "b", ("kills-governance", "kills-metrics"), Some(&data));
    let follower =
        Node::follow(&further, &KafkaConfig { bootstrap_servers: kafka.bootstrap(), ..KafkaConfig::default() });

    let config = scratch.write("govledger.toml", format!("[kafka]\nbrokers = \"{}\"\n", kafka.bootstrap()));
    let port = free_port();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let arguments =
        ["--data", &path(&data), "--config", &path(&config), "serve", "--listen", &format!("127.0.0.1:{port}")];
    let mut service = Service::spawn(ServiceOptions::new(arguments.map(str::to_owned), port));
    let admin = service.http().with_token(&token);
    let client = kafka.client();
    produce(
        &client,
        "kills-governance",
        &published().iter().map(|line| Record::new(line.as_bytes())).collect::<Vec<_>>(),
    );
    let stop = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(&client, &stop));
        let kills = parts::setting("GOVLEDGER_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
        let mut random = 20_261_001_u64;
        for kill in 1..=kills {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_millis(200 + (random >> 33) % 1_800));
            if kill % 5 == 0 {
                // Whatever it answers, or whether at all: the same command all the time.
                let _ = condemn(&admin);
            }
            service.kill9();
            disturb(&mut kafka, kill);
            service.spawn_again();
        }
        stop.store(true, Ordering::SeqCst);
        traffic.join().unwrap()
    });
    service.wait_ready();
    condemn(&admin).unwrap().expect(200);

    let size = count as u64 + 1;
    for partition in 0..PARTITIONS {
        follower.wait_size(&format!("metrics-{partition}"), size);
    }
    follower.wait_size("metrics-4", ADDED as u64 + 1);
    // The service has them all at a cut of all sizes.
    let all = |cut: &govledger::domain::cut::Cut| {
        cut.ledgers.iter().filter(|listed| listed.size == size || listed.size == ADDED as u64 + 1).count() == 5
    };
    wait_for("a cut over everything", Duration::from_mins(1), || {
        follower.handle.shared().governance().last_cut.clone().filter(|cut| all(cut) && cut.missing.is_empty())
    });
    assert_eq!(service.terminate(), 0);

    assert_same_and_complete(&kafka, &data, &follower);
    let said = follower.said();
    let kinds: BTreeSet<&str> = said.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(said.iter().collect::<BTreeSet<_>>().len(), said.len(), "something is in effect twice");
    assert!(kinds.len() >= 3, "cuts, alerts and a decision: {kinds:?}");
    assert_eq!(follower.integrity_alarms(), 0);
    eprintln!("{} records in {PARTITIONS} partitions, {} sayings and commands in effect once", count * 4, said.len());
    follower.stop();
}

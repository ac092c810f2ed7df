//! Joining a running shop: what `doctor` finds and a shadow shows, against the real Kafka, with nothing produced.

#![cfg(test)]

#[path = "joining/disk.rs"]
mod disk;
#[path = "joining/sasl.rs"]
mod sasl;
mod support;

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use support::http::Http;
use support::kafka::{Kafka, Options, Record};
use support::parts;
use support::process::{Finished, Service, ServiceOptions, finish, free_port, govledger};
use support::scratch::Scratch;
use support::wait::wait_for;

const SOON: Duration = Duration::from_mins(1);
const STAMPED: &[(&str, &str)] = &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")];

/// A broker that knows rights, where what nobody was given is everybody's; with users too, where it has a listener for them.
fn broker(sasl_ssl: bool) -> Option<Kafka> {
    let parts = parts::kafka()?;
    let settings = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Some(Kafka::start(&parts, &Options { sasl_ssl, settings, ..Options::default() }))
}

fn allow(kafka: &Kafka, principal: &str, topic: &str, operations: &[&str]) {
    let mut tool = kafka.tool("org.apache.kafka.tools.AclCommand");
    tool.args(["--bootstrap-server", &kafka.bootstrap(), "--add", "--allow-principal", principal]);
    tool.args(["--topic", topic]);
    for operation in operations {
        tool.args(["--operation", operation]);
    }
    finish(&mut tool).expect(0);
}

fn published() -> Vec<Record> {
    let event = |kind: &str, second: u32| {
        Record::new(format!(
            r#"{{"event_type":"{kind}","artifact":{{"artifact_id":"engine-qwen3","version":"1.4.0","hash":"sha256:41"}},"actor":"ci","payload":{{}},"timestamp":"2026-10-01T08:30:{second:02}.000000+00:00"}}"#
        ))
    };
    vec![event("llm_engine_published", 0), event("llm_warmup_completed", 1)]
}

/// Dearer than the policy allows, so that the first cut that counts them brings an alert.
fn dear(count: usize) -> Vec<Record> {
    let one = r#"{"event":"llm.request","operation":"judge","model":"qwen3-32b","engine_hash":"sha256:41","quantisation":"w4a8","duration_ms":300.125,"queue_delay_us":400.0,"tokens_in":512.0,"tokens_out":64.0,"kv_cache_reuse":{"hits":6,"misses":4},"speculative":{},"cost_usd":0.25,"error_code":null}"#;
    (0..count).map(|_| Record::new(one)).collect()
}

/// The ends of every topic of the broker that these nodes could have written to.
fn ends(kafka: &Kafka, topics: &[&str]) -> Vec<Vec<i64>> {
    topics.iter().map(|topic| kafka.end_offsets(topic)).collect()
}

/// The broker makes this topic when a consumer first asks who keeps its group; a commit would be a record in it.
fn nothing_committed(kafka: &Kafka) -> bool {
    kafka.end_offsets("__consumer_offsets").iter().all(|end| *end == 0)
}

fn finding<'a>(answer: &'a Value, check: &str, part: &str) -> &'a Value {
    let findings = answer["findings"].as_array().unwrap();
    let found =
        findings.iter().find(|finding| finding["check"] == check && finding["what"].as_str().unwrap().contains(part));
    found.unwrap_or_else(|| panic!("no finding of {check} with {part:?} in {answer:#}"))
}

#[test]
fn the_doctor_names_what_is_wrong_and_produces_nothing() {
    let Some(kafka) = broker(false) else { return };
    let scratch = Scratch::new("doctor");
    kafka.create_topic("good", 1, STAMPED);
    kafka.create_topic("requests", 2, &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "604800000")]);
    kafka.create_topic("bad", 1, &[("cleanup.policy", "compact"), ("retention.ms", "3600000")]);
    kafka.create_topic("sent", 1, &[("retention.ms", "3600000")]);
    kafka.create_topic("locked", 1, STAMPED);
    allow(&kafka, "User:ANONYMOUS", "locked", &["Read", "Describe", "DescribeConfigs"]);
    kafka.produce("good", &published());
    kafka.produce("requests", &dear(5));
    kafka.produce("sent", &[Record::new("{}").timestamp_ms(4_102_444_800_000)]);
    let topics = ["good", "requests", "bad", "sent", "locked"];
    let before = ends(&kafka, &topics);
    let doctor = |governance: &str, metrics: &str, further: &[&str]| -> Finished {
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ngovernance_topic = \"{governance}\"\nmetrics_topic = \"{metrics}\"\n",
            kafka.bootstrap()
        );
        let config = scratch.write(format!("{governance}-{metrics}.toml"), config).display().to_string();
        let data = scratch.join("data").display().to_string();
        govledger(&[&["--data", &data, "--config", &config, "--json", "doctor"], further].concat())
    };

    let fine = doctor("good", "requests", &[]).expect(0).json();
    assert_eq!(fine["ok"], true, "{fine:#}");
    assert_eq!(finding(&fine, "rights", "good")["level"], "ok");
    assert_eq!(finding(&fine, "timestamp_type", "requests")["level"], "ok");
    assert_eq!(finding(&fine, "fdatasync", "median")["level"].as_str().map(|level| level == "error"), Some(false));
    assert!(finding(&fine, "lag", "requests, partition 0")["what"].as_str().unwrap().contains("5 records to read"));
    let writes = fine["writes"].to_string();
    for part in ["topic good, partition 0", "a cut every 10 s", "__consumer_offsets"] {
        assert!(writes.contains(part), "{writes}");
    }
    let shadow = doctor("good", "requests", &["--shadow"]).expect(0).json();
    assert!(shadow["writes"].to_string().contains("a shadow writes to none"), "{shadow:#}");

    // The same topics for a node that reads alone, and for one that writes: only the second lacks a right.
    assert_eq!(doctor("locked", "requests", &["--shadow"]).expect(0).json()["ok"], true);
    let locked = doctor("locked", "requests", &[]).expect(1).json();
    let right = finding(&locked, "rights", "may not Write the governance topic locked");
    assert_eq!(right["level"], "error");
    assert!(right["fix"].as_str().unwrap().contains("--operation Write --topic locked"), "{right}");

    let bad = doctor("bad", "sent", &[]).expect(1).json();
    assert!(finding(&bad, "cleanup_policy", "compact")["fix"].as_str().unwrap().contains("cleanup.policy=delete"));
    assert_eq!(finding(&bad, "timestamp_type", "bad has")["level"], "error");
    assert_eq!(finding(&bad, "timestamp_type", "sent has")["level"], "warning");
    assert_eq!(finding(&bad, "retention", "sent keeps records for 1 h")["level"], "warning");
    assert_eq!(finding(&bad, "clock", "ahead of this machine's clock")["level"], "error");
    let absent = doctor("absent", "requests", &[]).expect(1).json();
    assert!(
        finding(&absent, "topic", "absent is not there")["fix"].as_str().unwrap().contains("--create --topic absent")
    );
    assert_eq!(ends(&kafka, &topics), before, "something was produced");
    let mut listed = kafka.tool("org.apache.kafka.tools.TopicCommand");
    let listed = finish(listed.args(["--bootstrap-server", &kafka.bootstrap(), "--list"])).expect(0);
    assert!(!listed.stdout.contains("absent"), "{}", listed.stdout);
    assert!(nothing_committed(&kafka), "offsets were committed");
}

/// A port, and the arguments that serve a directory there.
fn serving(scratch: &Scratch, kafka: &Kafka) -> (u16, impl Fn(&str, &[&str]) -> Vec<String>) {
    let config = format!("open_reads = true\n[kafka]\nbootstrap_servers = \"{}\"\n", kafka.bootstrap());
    let config = scratch.write("config.toml", config).display().to_string();
    let (port, root) = (free_port(), scratch.path().to_owned());
    let address = format!("127.0.0.1:{port}");
    let serve = move |data: &str, further: &[&str]| {
        let data = root.join(data).display().to_string();
        let arguments = [&["--data", &data, "--config", &config, "serve", "--listen", &address], further].concat();
        arguments.into_iter().map(str::to_owned).collect()
    };
    (port, serve)
}

fn neither_passes_for_the_other(scratch: &Scratch, serve: &impl Fn(&str, &[&str]) -> Vec<String>) {
    let refused = govledger(&serve("shadow", &[])).expect(2);
    assert!(refused.stderr.contains("only `serve --shadow` starts it"), "{}", refused.stderr);
    let refused = govledger(&serve("shadow", &["--follower"])).expect(2);
    assert!(refused.stderr.contains("only `serve --shadow` starts it"), "{}", refused.stderr);
    let refused = govledger(&serve("full", &["--shadow"])).expect(2);
    assert!(refused.stderr.contains("init --shadow"), "{}", refused.stderr);
    let (third, settings) = (scratch.join("third"), scratch.join("shadow/settings.json"));
    let third = ["--data", third.to_str().unwrap(), "init", "--settings", settings.to_str().unwrap()];
    let refused = govledger(&third).expect(2);
    assert!(refused.stderr.contains("settings of a shadow"), "{}", refused.stderr);
}

fn what_would_be_produced_is_refused(scratch: &Scratch, http: &Http) {
    let token = fs::read_to_string(scratch.join("token")).unwrap();
    let admin = http.with_token(token.trim());
    let body = json!({ "engine_hash": "sha256:41", "reason": "test" }).to_string();
    let key = [("idempotency-key", "one"), ("content-type", "application/json")];
    let refused = admin.post("/v1/stacks/engine-qwen3/condemn", &key, body.as_bytes()).expect(409).json();
    assert_eq!(refused["code"], "reads_only", "{refused}");
    let lines = [("content-type", "application/x-ndjson")];
    let owner: Value = serde_json::from_slice(&fs::read(scratch.join("shadow/service.json")).unwrap()).unwrap();
    let owner = http.with_token(owner["token"].as_str().unwrap());
    let refused = owner.post("/v1/metrics", &lines, dear(1)[0].payload.as_deref().unwrap());
    assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("reads_only")));
}

#[test]
fn a_shadow_shows_cuts_and_alerts_and_produces_nothing() {
    let Some(kafka) = broker(false) else { return };
    let scratch = Scratch::new("shadow");
    kafka.create_topic("events", 1, STAMPED);
    kafka.create_topic("requests", 2, STAMPED);
    kafka.produce("events", &published());
    kafka.produce("requests", &dear(30));
    // What is older has expired, as it has wherever somebody joins late.
    kafka.delete_records_before("requests", 0, 5);
    let topics = ["events", "requests"];
    let produced = ends(&kafka, &topics);
    let at = |name: &str| scratch.join(name).display().to_string();
    let init =
        ["--kafka-governance-topic", "events", "--kafka-metrics-topic", "requests", "--node", "a", "--token-out"];
    govledger(&[&["--data", &at("shadow"), "init", "--shadow"], &init[..], &[&at("token")]].concat()).expect(0);
    govledger(&[&["--data", &at("full"), "init"], &init[..], &[&at("other")]].concat()).expect(0);
    let (port, serve) = serving(&scratch, &kafka);
    neither_passes_for_the_other(&scratch, &serve);

    let mut service = Service::start(ServiceOptions::new(serve("shadow", &["--shadow"]), port));
    let http = service.http();
    let alerts = || http.get("/v1/alerts").expect(200).json()["alerts"].as_array().cloned().unwrap_or_default();
    let dear_alert = |alerts: &[Value]| alerts.iter().filter(|alert| alert["rule"] == "cost_per_request").count();
    wait_for("the alert", SOON, || (dear_alert(&alerts()) == 1).then_some(()));
    assert_eq!(http.get("/healthz").expect(200).json(), json!({ "status": "ok", "mode": "shadow" }));
    let page = http.get("/").expect(200);
    assert_eq!(page.header("govledger-mode"), Some("shadow"));
    assert!(page.text().contains("This node reads the topics of others and writes nothing"), "{}", page.text());
    let checkpoint = http.get("/ledger/governance/checkpoint").expect(200);
    assert!(checkpoint.text().starts_with("a.shadow/governance\n"), "{}", checkpoint.text());

    what_would_be_produced_is_refused(&scratch, &http);
    // A crash, and records meanwhile: it goes on where it was.
    service.kill9();
    kafka.produce("requests", &dear(10));
    let produced_after = ends(&kafka, &topics);
    assert_eq!((produced_after[0].clone(), produced_after[1][0]), (produced[0].clone(), produced[1][0] + 10));
    service.start_again();
    let size = |ledger: &str| http.get(&format!("/ledger/{ledger}/checkpoint")).expect(200).text();
    wait_for("the records", SOON, || size("metrics-0").lines().nth(1).is_some_and(|size| size == "36").then_some(()));
    let through = || http.get("/readyz").expect(200).json()["evaluated_through"].as_str().map(str::to_owned);
    let before = through();
    wait_for("a further cut", SOON, || (through() != before).then_some(()));
    assert_eq!(service.terminate(), 0);
    assert_eq!(ends(&kafka, &topics), produced_after, "a shadow produced something");
    let kept = govledger(&["--data", &at("shadow"), "--json", "alerts"]).expect(0).json();
    assert!(dear_alert(kept.as_array().unwrap()) >= 1, "{kept:#}");
    govledger(&["--data", &at("shadow"), "verify"]).expect(0);
    let data_dir = govledger::sequencer::DataDir::open(&scratch.join("shadow")).unwrap();
    let first = data_dir.reader("metrics-0").unwrap().entry(1).unwrap();
    assert!(first.starts_with(br#"{"t":"#) && String::from_utf8_lossy(&first).contains(r#""hole":[0,4]"#));
    assert!(nothing_committed(&kafka), "offsets were committed");
}

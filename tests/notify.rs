//! Telling the outside: a real Alertmanager, and a webhook receiver that verifies with libraries that are not ours.

#![cfg(test)]

#[path = "notify/held.rs"]
mod held;
#[path = "notify/paths.rs"]
mod paths;
#[path = "notify/receiver.rs"]
mod receiver;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use govledger::clock::Clock;
use govledger::domain::leaf::Header;
use govledger::domain::principal::token_sha256;
use govledger::domain::time::Time;
use govledger::notify::{AlertmanagerConfig, Notifier, NotifyConfig};
use govledger::sequencer::MetricsChunk;
use serde_json::{Value, json};

use receiver::Receiver;
use support::alertmanager::Alertmanager;
use support::http::Http;
use support::node::{Node, block_on};
use support::parts;
use support::process::{Service, ServiceOptions, free_port, govledger};
use support::scratch::Scratch;
use support::wait::wait_for;

const QUIET: &str = "route: {receiver: none}\nreceivers: [{name: none}]\n";
const STACKS: usize = 1_000;
const WAIVERS: usize = 100;
const LIMIT: Duration = Duration::from_secs(90);

/// A service on a new data directory, with these `[notify]` tables; and its admin's token.
fn serve(scratch: &Scratch, notify: &str) -> (Service, String) {
    let (data, token_file, port) = (scratch.join("data"), scratch.join("admin"), free_port());
    let data = data.to_str().unwrap();
    govledger(&["--data", data, "init", "--node", "test", "--token-out", token_file.to_str().unwrap()]).expect(0);
    let config = format!("data = {data:?}\nlisten = \"127.0.0.1:{port}\"\nopen_reads = true\n[notify]\n{notify}");
    let config = scratch.write("govledger.toml", config);
    let arguments = ["--config", config.to_str().unwrap(), "serve"].map(str::to_owned);
    let service = Service::start(ServiceOptions::new(arguments, port));
    (service, std::fs::read_to_string(token_file).unwrap().trim().to_owned())
}

fn principal(service: &Service, admin: &str, name: &str) -> Http {
    let body = json!({ "name": name, "roles": [name], "token_sha256": token_sha256(&format!("glt_{name}")) });
    let headers = [("idempotency-key", name)];
    service.http().with_token(admin).post("/v1/principals", &headers, body.to_string().as_bytes()).expect(200);
    service.http().with_token(&format!("glt_{name}"))
}

fn publish(publisher: &Http, stacks: std::ops::Range<usize>) {
    let mut events = String::new();
    for n in stacks {
        writeln!(events, r#"{{"event_type":"llm_engine_published","artifact":{{"artifact_id":"stack-{n}","hash":"e{n}"}},"payload":{{"n":{n}}}}}"#).unwrap();
    }
    publisher.post("/v1/events", &[("content-type", "application/x-ndjson")], events.as_bytes()).expect(200);
}

fn dear_requests(publisher: &Http, stacks: std::ops::Range<usize>) {
    let mut logs = String::new();
    for n in stacks {
        writeln!(logs, r#"{{"model":"m","engine_hash":"e{n}","duration_ms":10.0,"cost_usd":0.15}}"#).unwrap();
    }
    publisher.post("/v1/metrics", &[("content-type", "application/x-ndjson")], logs.as_bytes()).expect(200);
}

/// Asks again, under the same key, until there is an answer: the service may be killed under the question.
fn in_the_end(http: &Http, method: &str, path: &str, key: &str, body: &Value) -> Value {
    wait_for(path, LIMIT, || {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = http.try_send(method, path, &[("idempotency-key", key)], body.as_bytes()).ok()?;
        (reply.status != 202 && reply.status < 500).then(|| reply.expect(200).json())
    })
}

/// Asks for a waiver of another rule than the one that fires, and approves it.
fn approve(publisher: &Http, finance: &Http, n: usize) {
    let scope = json!({ "rule": "latency_p95", "stack": format!("stack-{n}"), "justification": "known", "mitigation_plan": "next engine", "expires": "2099-01-01T00:00:00Z" });
    let asked = in_the_end(publisher, "POST", "/v1/waivers", &format!("ask-{n}"), &scope);
    let path = format!("/v1/waivers/waiver-{}", asked["position"]);
    let waiver = in_the_end(finance, "GET", &path, "", &Value::Null);
    let decision = json!({ "scope_sha256": waiver["scope_sha256"] });
    in_the_end(finance, "POST", &format!("{path}/approve"), &format!("say-{n}"), &decision);
}

#[test]
fn a_burst_of_a_thousand_alerts_survives_kill_9() {
    let (Some(prometheus), Some(webhooks)) = (parts::prometheus(), parts::webhooks()) else { return };
    let scratch = Scratch::new("notify-burst");
    let alertmanager = Alertmanager::start(&prometheus, QUIET);
    let receiver = Receiver::start(&webhooks, &scratch);
    let notify = format!(
        "[[notify.alertmanager]]\nname = \"am\"\nurl = \"{}\"\nresend_seconds = 60\n{}",
        alertmanager.url(),
        receiver.table("ok", "kind = \"readiness\"\nallow_private = true")
    );
    let (mut service, admin) = serve(&scratch, &notify);
    let (publisher, finance) = (principal(&service, &admin, "publisher"), principal(&service, &admin, "finance"));
    publish(&publisher, 0..STACKS);
    (0..WAIVERS / 2).for_each(|n| approve(&publisher, &finance, n));
    dear_requests(&publisher, 0..STACKS);

    // Approvals go on being asked for while it is killed: whoever gets no answer asks again, under the same key.
    let approving = std::thread::spawn(move || (WAIVERS / 2..WAIVERS).for_each(|n| approve(&publisher, &finance, n)));
    // Twice in the middle of the burst: nothing is flushed, nobody is told.
    let alerts = || receiver.received("/ok").iter().filter(|line| line["message"]["data"]["state"] == "firing").count();
    let mut cut_short = Vec::new();
    for least in [1, 300] {
        wait_for("a part of the burst", LIMIT, || (alerts() >= least).then_some(()));
        service.kill9();
        cut_short.push(alerts());
        service.start_again();
    }
    assert!(cut_short.iter().all(|count| *count < STACKS), "killed too late to show anything: {cut_short:?}");
    approving.join().unwrap();

    let mut reached = BTreeSet::new();
    wait_for("every alert in Alertmanager", LIMIT, || {
        let firing = alertmanager.alerts().into_iter().filter(|alert| alert["labels"]["rule"] == "cost_per_request");
        reached.extend(firing.map(|alert| alert["labels"]["stack"].as_str().unwrap().to_owned()));
        (reached.len() == STACKS).then_some(())
    });
    let told = |predicate: &dyn Fn(&Value) -> bool| -> BTreeSet<u64> {
        let all = receiver.received("/ok");
        all.iter()
            .filter(|line| predicate(&line["message"]))
            .map(|line| line["message"]["data"]["position"].as_u64().unwrap())
            .collect()
    };
    wait_for("every alert and approval at the webhook", LIMIT, || {
        let alerts =
            told(&|message| message["data"]["state"] == "firing" && message["data"]["rule"] == "cost_per_request");
        let approvals = told(&|message| message["type"] == "llm_waiver_approved");
        (alerts.len() == STACKS && approvals.len() == WAIVERS).then_some(())
    });

    // Every signature held, and what was told twice carries one id.
    let messages = receiver.received("/ok");
    let mut ids: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for line in &messages {
        assert_eq!(line["error"], Value::Null, "{line}");
        let position = line["message"]["data"]["position"].as_u64().unwrap();
        ids.entry(position).or_default().insert(line["id"].as_str().unwrap().to_owned());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert_eq!(ids.values().flatten().collect::<BTreeSet<_>>().len(), ids.len(), "an id stands for one entry");
    eprintln!("{} messages for {} entries; killed after {cut_short:?} alerts", messages.len(), ids.len());

    let alert = &alertmanager.alerts()[0];
    assert_eq!(alert["labels"]["severity"], "finance", "{alert:#}");
    assert_eq!(alert["annotations"]["threshold"], "0.10", "{alert:#}");
    assert!(alert["annotations"]["evidence"].as_str().unwrap().contains("/v1/entries/governance/"), "{alert:#}");
    let data = scratch.join("data");
    let shown = govledger(&["--data", data.to_str().unwrap(), "--json", "deliveries"]).expect(0).json();
    assert_eq!(shown["endpoints"].as_array().unwrap().len(), 2, "{shown:#}");
}

#[test]
fn receivers_that_fail_are_tried_again_and_given_up_where_they_say_so() {
    let Some(webhooks) = parts::webhooks() else { return };
    let scratch = Scratch::new("notify-retries");
    let receiver = Receiver::start(&webhooks, &scratch);
    let events = "kind = \"events\"\nevents = [\"llm_engine_published\"]\nretry_seconds = [1]\n";
    let open = format!("{events}allow_private = true");
    let tables: Vec<String> = ["flaky", "limited", "gone", "broken"].map(|name| receiver.table(name, &open)).to_vec();
    let refused = receiver.table("ok", events);
    let (mut service, admin) = serve(&scratch, &(tables.join("") + &refused));
    let publisher = principal(&service, &admin, "publisher");
    publish(&publisher, 0..3);

    let positions = |path: &str, status: u64| -> BTreeSet<u64> {
        let all = receiver.received(path);
        let fitting = all.iter().filter(|line| line["status"] == status);
        fitting.map(|line| line["message"]["data"]["position"].as_u64().unwrap()).collect()
    };
    let endpoint = |name: &str| -> Value {
        let answer = service.http().get("/v1/deliveries").expect(200).json();
        answer["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["name"] == name).unwrap().clone()
    };
    wait_for("a second attempt for each 500", LIMIT, || (positions("/flaky", 204).len() == 3).then_some(()));
    let flaky = receiver.received("/flaky");
    let of_one: Vec<&Value> = flaky.iter().filter(|line| line["id"] == flaky[0]["id"]).collect();
    assert_eq!(of_one.len(), 2);
    assert_eq!(of_one[0]["message"], of_one[1]["message"]);

    wait_for("all after the 429", LIMIT, || (positions("/limited", 200).len() == 3).then_some(()));
    let limited = receiver.received("/limited");
    let waited = limited[1]["at"].as_f64().unwrap() - limited[0]["at"].as_f64().unwrap();
    assert!((2.9..20.0).contains(&waited), "asked to wait 3 s, waited {waited}");

    wait_for("dead ends", LIMIT, || (endpoint("broken")["dead_total"] == 3).then_some(()));
    assert_eq!(receiver.received("/broken").len(), 6, "two attempts each");
    assert!(endpoint("broken")["dead"][0]["error"].as_str().unwrap().starts_with("500"));
    wait_for("the private address to be a dead end", LIMIT, || (endpoint("ok")["dead_total"] == 3).then_some(()));
    assert!(endpoint("ok")["last_error"].as_str().unwrap().contains("allow_private"));
    assert_eq!(receiver.received("/ok").len(), 0, "nobody connected");
    let data = scratch.join("data");
    let shown = govledger(&["--data", data.to_str().unwrap(), "deliveries"]).expect(1);
    assert!(shown.stdout.contains("broken") && shown.stdout.contains("500"), "{}", shown.stdout);

    assert_eq!(endpoint("gone")["state"], "disabled");
    publish(&publisher, 3..4);
    wait_for("the fourth elsewhere", LIMIT, || (positions("/flaky", 204).len() == 4).then_some(()));
    assert_eq!(receiver.received("/gone").len(), 1, "told nothing after its 410");
    assert!(receiver.received("/flaky").iter().all(|line| line["error"].is_null()), "every signature holds");
    // A restart asks it again, for the same message; the dead ends stay listed.
    assert_eq!(service.terminate(), 0);
    service.start_again();
    wait_for("another 410", LIMIT, || (receiver.received("/gone").len() == 2).then_some(()));
    let gone = receiver.received("/gone");
    assert_eq!(gone[0]["id"], gone[1]["id"]);
    let answer = service.http().get("/v1/deliveries").expect(200).json();
    let broken = answer["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["name"] == "broken").unwrap();
    assert!(broken["dead_total"].as_u64().unwrap() >= 3, "{broken:#}");
}

/// In this process, with a clock that the test moves: ten minutes behind the machine's, so that what ends has ended for
/// Alertmanager too.
#[test]
fn an_alert_fires_and_ends_in_alertmanager() {
    let Some(prometheus) = parts::prometheus() else { return };
    let scratch = Scratch::new("notify-resolved");
    let alertmanager = Alertmanager::start(&prometheus, QUIET);
    let node = Node::init_live(&scratch.join("data"));
    let start: Time = Clock::System.now().floor_to_seconds(10).plus_seconds(-600);
    let pass = |from: i64, to: i64| {
        for seconds in (from..=to).step_by(10) {
            node.clock.set(start.plus_seconds(seconds + 1));
            block_on(node.handle.file_progress(0)).unwrap();
            block_on(node.handle.file_progress(0)).unwrap();
        }
    };
    node.clock.set(start);
    let config = NotifyConfig {
        alertmanager: vec![AlertmanagerConfig {
            name: "am".to_owned(),
            url: alertmanager.url().to_owned(),
            bearer_token_file: None,
            resend_seconds: 600,
        }],
        ..NotifyConfig::default()
    };
    let notifier = Notifier::start(&config, &node.handle, "http://ledger.example").unwrap();
    let mut chunk = MetricsChunk::default();
    let body = br#"{"model":"m","engine_hash":"e","duration_ms":100,"cost_usd":0.5}"#;
    node.handle.prepare().push(&mut chunk, Header::at(node.clock.now()), body).unwrap().unwrap();
    block_on(node.handle.append_metrics(0, chunk)).unwrap();
    pass(10, 20);
    let firing = || {
        let all = alertmanager.alerts();
        all.into_iter().filter(|alert| alert["labels"]["alertname"] == "govledger_cost_per_request").collect::<Vec<_>>()
    };
    let alert = wait_for("the alert to fire", LIMIT, || firing().into_iter().next());
    assert_eq!((&alert["labels"]["stack"], &alert["labels"]["engine"]), (&json!("m"), &json!("e")), "{alert:#}");
    assert_eq!(alert["generatorURL"], "http://ledger.example/stacks/m");
    pass(30, 200);
    assert_eq!(
        node.ask("/v1/alerts?state=firing").0["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|alert| alert["rule"] == "cost_per_request")
            .count(),
        0
    );
    wait_for("the alert to end", LIMIT, || firing().is_empty().then_some(()));
    let told = notifier.deliveries().endpoints();
    assert!(told[0].delivered >= 2, "{told:?}");
    notifier.stop();
    node.stop();
}

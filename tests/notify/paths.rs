//! What goes wrong on the way to the outside, and that nothing is lost by it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{LIMIT, QUIET, dear_requests, principal, publish, serve};
use crate::receiver::Receiver;
use crate::support::alertmanager::Alertmanager;
use crate::support::guarded::Guarded;
use crate::support::http::Http;
use crate::support::parts;
use crate::support::process::{Service, free_port};
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;

fn endpoint(service: &Service, name: &str) -> Value {
    let answer = service.http().get("/v1/deliveries").expect(200).json();
    answer["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["name"] == name).unwrap().clone()
}

/// A figure of the metrics page for an endpoint.
fn figure(service: &Service, name: &str, endpoint: &str) -> f64 {
    let page = service.http().get("/metrics").expect(200).text();
    let series = format!("{name}{{endpoint=\"{endpoint}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{series} in {page}"));
    line.parse().unwrap()
}

/// Stacks of which Alertmanager holds an alert of cost as firing.
fn firing(alertmanager: &Alertmanager) -> BTreeSet<String> {
    let all = alertmanager.alerts().into_iter().filter(|alert| alert["labels"]["rule"] == "cost_per_request");
    all.map(|alert| alert["labels"]["stack"].as_str().unwrap().to_owned()).collect()
}

fn stacks(range: std::ops::Range<usize>) -> BTreeSet<String> {
    range.map(|n| format!("stack-{n}")).collect()
}

fn table(url: &str, more: &str) -> String {
    format!("[[notify.alertmanager]]\nname = \"am\"\nurl = \"{url}\"\nresend_seconds = 600\n{more}")
}

#[test]
fn a_lost_cursor_tells_again_with_the_same_ids() {
    let Some(webhooks) = parts::webhooks() else { return };
    let scratch = Scratch::new("notify-cursor");
    let receiver = Receiver::start(&webhooks, &scratch);
    let events = "kind = \"events\"\nevents = [\"llm_engine_published\"]\nallow_private = true";
    let (mut service, admin) = serve(&scratch, &receiver.table("ok", events));
    let publisher = principal(&service, &admin, "publisher");
    publish(&publisher, 0..5);
    let ids = || -> Vec<String> {
        receiver.received("/ok").iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    wait_for("the first messages", LIMIT, || (ids().len() == 5).then_some(()));
    let first: BTreeSet<String> = ids().into_iter().collect();
    let cursor = scratch.join("data/notify/ok.json");
    let kept = std::fs::read(&cursor).unwrap();
    // A restart alone repeats nothing.
    assert_eq!(service.terminate(), 0);
    service.start_again();
    publish(&publisher, 5..6);
    wait_for("the sixth", LIMIT, || (ids().len() == 6).then_some(()));
    // Lost, cut short, and of another ledger.
    let mut other: Value = serde_json::from_slice(&kept).unwrap();
    other["root"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    for (round, damage) in
        [None, Some(kept[..kept.len() / 2].to_vec()), Some(other.to_string().into_bytes())].into_iter().enumerate()
    {
        assert_eq!(service.terminate(), 0);
        match damage {
            None => std::fs::remove_file(&cursor).unwrap(),
            Some(bytes) => std::fs::write(&cursor, bytes).unwrap(),
        }
        service.start_again();
        let expected = 6 * (round + 2);
        wait_for("all of them again", LIMIT, || (ids().len() == expected).then_some(()));
    }
    let all: BTreeSet<String> = ids().into_iter().collect();
    assert!(all.len() == 6 && all.is_superset(&first), "{all:?}");
    assert!(receiver.received("/ok").iter().all(|line| line["error"].is_null()), "every signature holds");
}

#[test]
fn cover_that_begins_or_ends_while_an_alert_fires_is_told() {
    let Some(prometheus) = parts::prometheus() else { return };
    let scratch = Scratch::new("notify-cover");
    let alertmanager = Alertmanager::start(&prometheus, QUIET);
    let (service, admin) = serve(&scratch, &table(alertmanager.url(), ""));
    let (publisher, finance) = (principal(&service, &admin, "publisher"), principal(&service, &admin, "finance"));
    let post = |http: &Http, path: &str, key: &str, body: &Value| {
        http.post(path, &[("idempotency-key", key)], body.to_string().as_bytes()).expect(200).json()
    };
    let limit = json!({ "finance_limit_usd": "100" });
    post(&service.http().with_token(&admin), "/v1/principals/finance/limit", "limit", &limit);
    publish(&publisher, 0..2);
    dear_requests(&publisher, 0..2);
    wait_for("both alerts", LIMIT, || (firing(&alertmanager) == stacks(0..2)).then_some(()));
    let scope = json!({ "rule": "cost_per_request", "stack": "stack-1", "cap_usd": "10", "justification": "j", "mitigation_plan": "m", "expires": "2099-01-01T00:00:00Z" });
    let asked = post(&publisher, "/v1/waivers", "ask", &scope);
    let path = format!("/v1/waivers/{}", asked["waiver"].as_str().unwrap());
    let seen = json!({ "scope_sha256": finance.get(&path).expect(200).json()["scope_sha256"] });
    post(&finance, &format!("{path}/approve"), "approve", &seen);
    wait_for("cover to silence it", LIMIT, || (firing(&alertmanager) == stacks(0..1)).then_some(()));
    // Both still fire in the ledger: what cover changes is the telling.
    dear_requests(&publisher, 0..2);
    let alerts = service.http().get("/v1/alerts?state=firing").expect(200).json();
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 2, "{alerts:#}");
    post(&finance, &format!("{path}/revoke"), "revoke", &json!({ "reason": "not any more" }));
    wait_for("the end of cover to be told", LIMIT, || (firing(&alertmanager) == stacks(0..2)).then_some(()));
}

#[test]
fn a_batch_is_split_until_the_bad_one_is_found_and_a_wrong_token_loses_nothing() {
    let (Some(prometheus), Some(webhooks)) = (parts::prometheus(), parts::webhooks()) else { return };
    let scratch = Scratch::new("notify-gate");
    let alertmanager = Alertmanager::start(&prometheus, QUIET);
    let (port, log) = (free_port(), scratch.write("gate.ndjson", ""));
    let mut command = Command::new(&webhooks.python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/notify/gate.py"));
    command.arg(port.to_string()).arg(&log).arg(alertmanager.url()).arg("s3cret");
    let _gate = Guarded::start(&command, &scratch.join("gate.log"));
    wait_for("the gate", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(()));
    let token = scratch.write("am-token", "wrong\n");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let more = format!("bearer_token_file = {token:?}");
    let (mut service, admin) = serve(&scratch, &table(&format!("http://127.0.0.1:{port}"), &more));
    let publisher = principal(&service, &admin, "publisher");
    publish(&publisher, 0..5);
    let bad =
        r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"bad-one","hash":"e-bad"},"payload":{}}"#;
    publisher.post("/v1/events", &[("content-type", "application/json")], bad.as_bytes()).expect(200);
    dear_requests(&publisher, 0..5);
    let bad = r#"{"model":"m","engine_hash":"e-bad","duration_ms":10.0,"cost_usd":0.15}"#;
    publisher.post("/v1/metrics", &[("content-type", "application/x-ndjson")], bad.as_bytes()).expect(200);
    let failed = |service: &Service| endpoint(service, "am")["failed_total"].as_u64().unwrap();
    wait_for("a 401", LIMIT, || (failed(&service) > 0).then_some(()));
    let shown = endpoint(&service, "am");
    assert_eq!((&shown["state"], &shown["dead_total"]), (&json!("failing"), &json!(0)), "{shown:#}");
    assert!(shown["last_error"].as_str().unwrap().starts_with("401"), "{shown:#}");
    wait_for("the lag to show", LIMIT, || (figure(&service, "govledger_notify_lag_seconds", "am") > 1.0).then_some(()));
    assert!(figure(&service, "govledger_notify_failed_total", "am") >= 1.0);
    assert_eq!(firing(&alertmanager).len(), 0);

    std::fs::write(&token, "s3cret\n").unwrap();
    assert_eq!(service.terminate(), 0);
    service.start_again();
    wait_for("the good ones", LIMIT, || (firing(&alertmanager) == stacks(0..5)).then_some(()));
    wait_for("the bad one's end", LIMIT, || (endpoint(&service, "am")["dead_total"] == 1).then_some(()));
    let dead = &endpoint(&service, "am")["dead"][0];
    assert!(dead["error"].as_str().unwrap().starts_with("400"), "{dead:#}");
    let lines = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused = |many: bool| {
        lines.iter().any(|line| line["status"] == 400 && (line["stacks"].as_array().unwrap().len() > 1) == many)
    };
    assert!(refused(true) && refused(false), "first the batch, then the bad one alone: {lines:#?}");
    for (name, least) in [("delivered", 5.0), ("dead", 1.0)] {
        let value = figure(&service, &format!("govledger_notify_{name}_total"), "am");
        assert!(value >= least, "{name} {value}");
    }
    wait_for("nothing to wait", LIMIT, || {
        (figure(&service, "govledger_notify_lag_seconds", "am") < 15.0).then_some(())
    });
}

#[test]
fn an_alertmanager_that_is_down_for_a_while_is_told_once_it_is_back() {
    let Some(prometheus) = parts::prometheus() else { return };
    let scratch = Scratch::new("notify-down");
    let mut alertmanager = Alertmanager::start(&prometheus, QUIET);
    let (service, admin) = serve(&scratch, &table(alertmanager.url(), ""));
    let publisher = principal(&service, &admin, "publisher");
    publish(&publisher, 0..3);
    dear_requests(&publisher, 0..1);
    wait_for("the first alert", LIMIT, || (firing(&alertmanager) == stacks(0..1)).then_some(()));
    alertmanager.kill9();
    dear_requests(&publisher, 1..3);
    let failed = || endpoint(&service, "am")["failed_total"].as_u64().unwrap();
    wait_for("several failures", LIMIT, || (failed() >= 3).then_some(()));
    assert_eq!(endpoint(&service, "am")["state"], "failing");
    alertmanager.start_again();
    // What it had forgotten is told again at the latest at the next interval; what is new, at once.
    wait_for("those of the meantime", LIMIT, || {
        firing(&alertmanager).is_superset(&BTreeSet::from(["stack-1".into(), "stack-2".into()])).then_some(())
    });
    // Alertmanager has it a moment before the endpoint shows it.
    wait_for("the endpoint to recover", LIMIT, || (endpoint(&service, "am")["state"] == "active").then_some(()));
    assert_eq!(endpoint(&service, "am")["dead_total"], json!(0));
}

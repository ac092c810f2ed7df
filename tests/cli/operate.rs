//! Commands that a host runs beside the serving stack: what they record, and what stays when the ledger is away.

use serde_json::Value;

use super::bench::{Bench, QWEN};

/// The payload of the newest report of this type on the demo's stack.
fn last(bench: &Bench, event_type: &str) -> Value {
    let listed = bench.json(&["entries", "--type", event_type, "--stack", QWEN]);
    let position = listed["entries"].as_array().unwrap().last().unwrap()["position"].to_string();
    let event: Value = serde_json::from_str(bench.json(&["entries", &position])["body"].as_str().unwrap()).unwrap();
    event["data"].clone()
}

#[test]
fn a_warm_up_is_recorded_as_it_ended() {
    let bench = Bench::demo();
    let spool = bench.data("../unsent");
    let engine = bench.json(&["manifest", QWEN])["engine_hash"].as_str().unwrap().to_owned();
    let script = "echo \"of $GOVLEDGER_STACK $GOVLEDGER_ENGINE\"; echo golden sample mismatch >&2; exit 4";
    let warm_up = ["warmup", QWEN, "--spool", &spool, "--schema-version", "mapping=v3", "--"];
    bench.run(&[&warm_up[..], &["sh", "-c", script]].concat()).exits(1).says("failed after").says("exit code 4");
    let data = last(&bench, "llm_warmup_failed");
    assert_eq!(data["engine_hash"], engine.as_str(), "{data:#}");
    assert_eq!((data["exit_code"].as_i64(), &data["schema_versions"]["mapping"]), (Some(4), &"v3".into()));
    assert_eq!(data["output_tail"], format!("of {QWEN} {engine}\ngolden sample mismatch\n"));
    assert_eq!(data["command"], "sh", "the arguments are nobody's business");
    bench.run(&["traffic", QWEN]).exits(1).says("last warm-up failed");

    bench.run(&[&warm_up[..], &["true"]].concat()).exits(0).says("completed after");
    bench.run(&["traffic", QWEN]).exits(0);
    assert!(!std::path::Path::new(&spool).exists());
}

#[test]
fn a_rehearsed_warm_up_and_a_slow_one() {
    let bench = Bench::demo();
    let spool = bench.data("../unsent");
    bench.run(&["warmup", QWEN, "--spool", &spool, "--rehearsal", "--no-output", "--", "false"]).exits(1);
    bench.run(&["traffic", QWEN]).exits(0);
    assert!(last(&bench, "llm_warmup_failed")["output_tail"].is_null());
    let slow = ["warmup", QWEN, "--spool", &spool, "--timeout", "1s", "--", "sleep", "60"];
    bench.run(&slow).exits(1).says("stopped after its time limit of 1 s");
    bench.run(&["warmup", QWEN, "--timeout", "90x", "--", "true"]).exits(2).says("none of the units");
    bench.run(&["warmup", "nobody", "--", "true"]).exits(1).says("never heard of");
}

#[test]
fn what_could_not_be_recorded_is_kept_and_counts_once() {
    let bench = Bench::demo();
    let spool = bench.data("../unsent");
    // Another process holds the ledger: nothing answers, and nothing can be written.
    let nobody =
        ["--server", "http://127.0.0.1:9", "warmup", QWEN, "--engine", "e", "--retry-for", "2s", "--spool", &spool];
    let ran = bench.run_in("nowhere", &[&nobody[..], &["--", "true"]].concat()).exits(6);
    ran.says("the report is kept in");
    let kept = std::fs::read_dir(&spool).unwrap().next().unwrap().unwrap().path();
    let file = kept.to_str().unwrap();
    bench.run(&["ingest", file]).exits(0).says("1 admitted");
    bench.run(&["ingest", file]).exits(0).says("0 admitted");
}

#[test]
fn waiting_for_traffic_ends_with_an_answer() {
    let bench = Bench::demo();
    bench.run(&["wait-traffic", QWEN, "--timeout", "5s"]).exits(0).says("traffic open");
    bench
        .run(&["wait-traffic", QWEN, "--engine", "another", "--timeout", "1s"])
        .exits(1)
        .says("still closed after 1 s");
    let away = ["--server", "http://127.0.0.1:9", "wait-traffic", QWEN, "--timeout", "1s"];
    bench.run_in("nowhere", &away).exits(6).says("nobody answered in 1 s");
    bench.run_in("nowhere", &[&away[..], &["--open-when-unreachable"]].concat()).exits(0).says("going on without");
}

//! Real traces through the whole embedded node: right answers, as of any time, and nothing twice.
//!
//! The traces are not part of the repository. `GOVLEDGER_TRACES` names a directory with a folder a trace, each holding
//! `provider-logs.ndjson` and `governance-events.ndjson`; without it these tests say that they were skipped.

#![cfg(test)]

mod support;

use std::path::PathBuf;

use support::node::Node;
use support::process::{finish, govledger};

fn trace(name: &str) -> Option<(PathBuf, PathBuf)> {
    let Some(root) = std::env::var_os("GOVLEDGER_TRACES").map(PathBuf::from) else {
        eprintln!("SKIPPED: trace {name}: GOVLEDGER_TRACES is not set");
        return None;
    };
    let folder = root.join(name);
    Some((folder.join("provider-logs.ndjson"), folder.join("governance-events.ndjson")))
}

#[test]
fn azure_regression_is_rolled_back_to_the_proven_engine() {
    let Some((logs, events)) = trace("azure") else { return };
    let root = tempfile::tempdir().unwrap();
    let node = Node::init(&root.path().join("data"));
    let report = node.backfill(&[&logs, &events]).unwrap();
    assert_eq!((report.rejected, report.duplicates), (0, 0));
    assert_eq!(report.read, report.admitted);

    let (manifest, _) = node.ask("/v1/stacks/engine-qwen3/manifest");
    assert_eq!(manifest["version"], "1.4.0");
    assert_eq!(manifest["traffic"]["open"], true);
    let (last_good, negative) = node.ask("/v1/stacks/engine-qwen3/last-good?strict=true");
    assert!(!negative, "{last_good:#}");
    assert_eq!((last_good["version"].as_str(), last_good["confidence"].as_str()), (Some("1.4.0"), Some("proven")));
    assert_eq!(last_good["passed_over"][0]["version"], "1.5.0");
    assert_eq!(last_good["passed_over"][0]["reason"], "rolled back from");

    let then = node.ask_at("/v1/stacks/engine-qwen3/manifest", "2026-10-01T09:30:00Z");
    assert_eq!(then["version"], "1.5.0");
    let then = node.ask_at("/v1/stacks/engine-qwen3/last-good", "2026-10-01T09:30:00Z");
    assert_eq!(then["version"], "1.4.0");

    // Again: nothing is added. A copy under another name: the same file, by its first line.
    let before = (node.roots(), node.digests());
    let again = node.backfill(&[&logs, &events]).unwrap();
    assert_eq!((again.read, again.duplicates, again.admitted), (report.read, report.read, 0));
    let copy = root.path().join("copy.ndjson");
    std::fs::copy(&events, &copy).unwrap();
    node.backfill(&[&copy]).unwrap();
    assert_eq!((node.roots(), node.digests()), before);

    // A restart, with the snapshot and without it, comes to the same state.
    node.stop();
    let node = Node::open(&root.path().join("data"));
    assert_eq!((node.roots(), node.digests()), before);
    node.stop();
    std::fs::remove_dir_all(root.path().join("data/cache")).unwrap();
    let node = Node::open(&root.path().join("data"));
    assert_eq!((node.roots(), node.digests()), before);
}

#[test]
fn mooncake_overload_leaves_only_a_degraded_engine() {
    let Some((logs, events)) = trace("mooncake") else { return };
    let root = tempfile::tempdir().unwrap();
    let node = Node::init(&root.path().join("data"));
    node.backfill(&[&events, &logs]).unwrap();
    let (last_good, _) = node.ask("/v1/stacks/engine-qwen3/last-good");
    assert_eq!(
        (last_good["version"].as_str(), last_good["confidence"].as_str()),
        (Some("1.4.0"), Some("degraded")),
        "{last_good:#}"
    );
}

/// The oracle shares nothing with the service but the definitions; it works the alerts out by brute force.
#[test]
fn alerts_are_those_of_the_oracle_to_the_second() {
    for name in ["azure", "mooncake"] {
        let Some((logs, events)) = trace(name) else { return };
        let root = tempfile::tempdir().unwrap();
        let node = Node::init(&root.path().join("data"));
        node.backfill(&[&logs, &events]).unwrap();
        let (answer, _) = node.ask("/v1/alerts");
        let mut ours: Vec<_> = answer["alerts"].as_array().unwrap().iter().map(|alert| key(alert, &micros)).collect();
        let oracle = std::process::Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/slo_oracle.py"))
            .arg(logs.parent().unwrap())
            .output()
            .unwrap();
        assert!(oracle.status.success(), "{}", String::from_utf8_lossy(&oracle.stderr));
        let theirs: Vec<serde_json::Value> = serde_json::from_slice(&oracle.stdout).unwrap();
        let mut theirs: Vec<_> = theirs.iter().map(|alert| key(alert, &|value| value.as_i64())).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{name}");
        assert!(ours.len() >= 8, "{name}: {ours:?}");
        node.stop();
        figures_recompute(root.path());
    }
}

/// Each alert's figures, from the entries that its evidence names, by a script that reads a static export alone.
fn figures_recompute(root: &std::path::Path) {
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let alerts = govledger(&["--data", &path("data"), "alerts", "--json"]).expect(0);
    std::fs::write(path("alerts.json"), alerts.stdout).unwrap();
    govledger(&["--data", &path("data"), "export", &path("export")]).expect(0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/alert_figures.py");
    let told =
        finish(std::process::Command::new("python3").arg(script).args([path("export"), path("alerts.json")])).expect(0);
    assert!(told.stdout.ends_with(" 0 wrong\n"), "{}", told.stdout);
}

type Key = (String, String, String, Option<i64>, Option<i64>, Option<i64>);

fn key(alert: &serde_json::Value, time: &dyn Fn(&serde_json::Value) -> Option<i64>) -> Key {
    let text = |field: &str| alert[field].as_str().unwrap().to_owned();
    let times = [&alert["pending_since"], &alert["firing_since"], &alert["resolved_at"]].map(time);
    (text("rule"), text("stack"), text("engine_hash"), times[0], times[1], times[2])
}

fn micros(value: &serde_json::Value) -> Option<i64> {
    value.as_str().map(|text| text.parse::<govledger::domain::time::Time>().unwrap().micros())
}

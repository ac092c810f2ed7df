//! Real traces through the whole embedded node: right answers, as of any time, and nothing twice.
//!
//! The traces are not part of the repository. `GOVLEDGER_TRACES` names a directory with a folder a trace, each holding
//! `provider-logs.ndjson` and `governance-events.ndjson`; without it these tests say that they were skipped.

#![cfg(test)]

mod support;

use std::path::PathBuf;

use govledger::domain::command::Request;
use govledger::domain::principal::Role;
use govledger::projection::governance::Verdict;
use govledger::sequencer::CommandOutcome;
use serde_json::json;

use support::node::{Node, block_on};
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

/// The incident of the regression from its opening to its end, and every figure of its report worked out anew from an export.
#[test]
fn the_regression_is_an_incident_whose_report_recomputes() {
    let Some((logs, events)) = trace("azure") else { return };
    let root = tempfile::tempdir().unwrap();
    let node = Node::init(&root.path().join("data"));
    node.backfill(&[&logs, &events]).unwrap();
    let (list, _) = node.ask("/v1/incidents?stack=engine-qwen3");
    let opened = &list["incidents"].as_array().unwrap()[0];
    let id = opened["id"].as_str().unwrap().to_owned();
    let before = node.ask(&format!("/v1/incidents/{id}")).0;
    assert_eq!(before["status"], "open");
    // The rollback and the warm-up after it tick their steps by themselves.
    assert_eq!(ticked(&before), [(3, true), (4, true)], "{:#}", before["checklist"]);
    let rollback = before["checklist"][3]["position"].as_u64().unwrap();
    let snapshot = before["snapshot"]["position"].as_u64().unwrap();
    assert_eq!(before["snapshot"]["instant"], before["declared"], "the cut that opened it");
    assert!(before["impact"].as_array().is_some_and(|impact| !impact.is_empty()), "{before:#}");

    let position = |path: &str, kind: &str, request: serde_json::Value| {
        let request = Request::read(kind, &request.to_string()).unwrap();
        let asked = node.handle.command("root", Role::Admin, path, request);
        match block_on(asked).unwrap().1 {
            CommandOutcome::Decided(outcome) => {
                assert_eq!(outcome.verdict, Verdict::Admitted, "{path}");
                outcome.position
            }
            CommandOutcome::Pending => panic!("{path} is pending"),
        }
    };
    let enroll = json!({ "name": "root", "roles": ["admin"], "token_sha256": "0".repeat(64) });
    position("enroll", "ledger_principal_enrolled", enroll);
    let acknowledged = position("ack", "llm_incident_acknowledged", json!({ "incident": id }));
    let reviewed =
        position("look", "llm_incident_noted", json!({ "incident": id, "kind": "reviewed", "snapshot": snapshot }));
    position("lead", "llm_incident_assigned", json!({ "incident": id, "duty": "commander", "assignee": "olu" }));
    position("why", "llm_incident_noted", json!({ "incident": id, "kind": "root_cause", "text": "no KV reuse" }));
    // Requests above the cost limit fired in it as well: that finance was told has a note of its own.
    assert_eq!(node.ask(&format!("/v1/incidents/{id}")).0["checklist"][5]["state"], "open");
    let told = position("money", "llm_incident_noted", json!({ "incident": id, "kind": "finance_told" }));
    let item = json!({ "incident": id, "title": "test for it", "owner": "pat", "due": "2026-12-01T00:00:00Z" });
    position("todo", "llm_incident_action_item", item);
    let closed = position("close", "llm_incident_closed", json!({ "incident": id, "report": "https://wiki/pm-7" }));

    let (report, _) = node.ask(&format!("/v1/incidents/{id}/report"));
    let steps: Vec<_> = report["checklist"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["state"].as_str().unwrap(), step["position"].as_u64()))
        .collect();
    assert_eq!((steps[0], steps[1]), (("done", Some(acknowledged)), ("done", Some(reviewed))));
    assert_eq!((steps[3], steps[4]), (("done", Some(rollback)), ("done", Some(closed))));
    assert_eq!(steps[5], ("done", Some(told)));
    assert!(steps.iter().all(|(state, _)| *state != "open"), "{:#}", report["checklist"]);
    let mitigated = report["durations"].as_array().unwrap().iter().find(|row| row["name"] == "mitigate").unwrap();
    assert_eq!(mitigated["to"]["position"], rollback, "the rollback is the mitigation");
    assert!(report["impact"]["requests"].as_u64().unwrap() > 100, "{:#}", report["impact"]);

    // Folded again without the cache, it is the same answer.
    node.stop();
    std::fs::remove_dir_all(root.path().join("data/cache")).unwrap();
    let node = Node::open(&root.path().join("data"));
    assert_eq!(node.ask(&format!("/v1/incidents/{id}/report")).0, report);
    node.stop();
    report_recomputes(root.path(), &id, report);
}

/// Every figure of a report, from a static export alone; a report that is off by one is caught.
fn report_recomputes(root: &std::path::Path, id: &str, report: serde_json::Value) {
    let path = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let told = govledger(&["--data", &path("data"), "incidents", "report", id, "--format", "json"]).expect(0);
    std::fs::write(path("report.json"), told.stdout).unwrap();
    govledger(&["--data", &path("data"), "export", &path("export")]).expect(0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/incident_figures.py");
    let oracle = |report: &str| {
        let mut python = std::process::Command::new("python3");
        python.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).args([path("export"), path(report)]);
        finish(&mut python)
    };
    let told = oracle("report.json").expect(0);
    assert!(told.stdout.ends_with(" 0 wrong\n"), "{}", told.stdout);
    // The oracle sees a figure that is off by one.
    let mut forged = report;
    let requests = forged["impact"]["episodes"][0]["impact"]["totals"]["requests"].as_u64().unwrap();
    forged["impact"]["episodes"][0]["impact"]["totals"]["requests"] = (requests + 1).into();
    std::fs::write(path("forged.json"), forged.to_string()).unwrap();
    oracle("forged.json").expect(1);
}

/// The numbers of the steps that are done, and whether each names its entry.
fn ticked(incident: &serde_json::Value) -> Vec<(u64, bool)> {
    let steps = incident["checklist"].as_array().unwrap().iter();
    let done = steps.filter(|step| step["state"] == "done");
    done.map(|step| (step["number"].as_u64().unwrap(), step["position"].is_u64())).collect()
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

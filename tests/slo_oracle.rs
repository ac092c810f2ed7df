//! The SLO engine against two judges that share no code with it: a brute-force oracle in Python, which knows the definitions
//! alone, and Prometheus' own rule evaluation (promtool).
//!
//! Every alert has to agree to the second: when it was pending, when it fired, when and why it ended, over how many records
//! and at which value. Real traces are used where `GOVLEDGER_TRACES` names a directory with a folder a trace.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests fail like tests, and say what they compared"
)]

#[path = "slo_oracle/drive.rs"]
mod drive;
#[path = "slo_oracle/promtool.rs"]
mod promtool;
#[path = "slo_oracle/trace.rs"]
mod trace;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use drive::{Episode, Logs, episodes};
use govledger::domain::time::Time;
use govledger::projection::slo::Slo;

/// Runs the oracle; its output is JSON.
fn oracle(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/slo_oracle.py");
    let output = Command::new("python3").arg(script).arg(folder).args(arguments).output().expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A skipped test says so, and is a failure where everything has to be there.
fn skip(why: &str) {
    assert!(env_is_not_ci(), "CI has to have it: {why}");
    eprintln!("SKIPPED: {why}");
}

/// The promtool that `tests/parts/install` put there, else the machine's own.
fn promtool() -> PathBuf {
    let parts = variable("GOVLEDGER_PARTS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/parts"), PathBuf::from);
    let installed = parts.join("prometheus/bin/promtool");
    if installed.exists() { installed } else { PathBuf::from("promtool") }
}

#[expect(clippy::disallowed_methods, reason = "a test is configured by its environment")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn env_is_not_ci() -> bool {
    variable("CI").as_deref() != Some("true")
}

fn have_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok();
    if !found {
        skip("no python3, so the oracle cannot run");
    }
    found
}

fn expected(folder: &Path) -> Vec<Episode> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let time = |value: &serde_json::Value| value.as_i64().map(Time::from_micros);
    let alerts = oracle(folder, &[]);
    let mut episodes: Vec<_> = alerts
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| Episode {
            firing_since: time(&alert["firing_since"]).unwrap(),
            rule: text(&alert["rule"]).unwrap(),
            stack: text(&alert["stack"]).unwrap(),
            engine_hash: text(&alert["engine_hash"]).unwrap(),
            pending_since: time(&alert["pending_since"]).unwrap(),
            resolved_at: time(&alert["resolved_at"]),
            reason: text(&alert["reason"]),
            value: text(&alert["value"]).unwrap(),
            samples: alert["n"].as_u64().unwrap(),
        })
        .collect();
    episodes.sort();
    episodes
}

/// Values as each side writes them: the oracle's ratios have all their digits, ours are cut after nine.
fn same_value(ours: &str, theirs: &str) -> bool {
    let plain = |text: &str| -> String {
        let cut = text
            .split_once('.')
            .map_or(text.to_owned(), |(whole, rest)| format!("{whole}.{}", &rest[..rest.len().min(9)]));
        if cut.contains('.') { cut.trim_end_matches('0').trim_end_matches('.').to_owned() } else { cut }
    };
    plain(ours) == plain(theirs)
}

/// The one door: folds the logs over `ledgers` metrics ledgers and compares with the oracle. Returns the alerts.
fn check(folder: &Path, ledgers: usize) -> Vec<Episode> {
    let ours = episodes(&Logs::read(folder, ledgers).drive(|_, slo| slo));
    let theirs = expected(folder);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(same_value(&ours.value, &theirs.value), "{}: {ours:?}\noracle: {theirs:?}", folder.display());
        assert_eq!(&Episode { value: theirs.value.clone(), ..ours.clone() }, theirs, "{}", folder.display());
    }
    assert_eq!(
        ours.len(),
        theirs.len(),
        "{}: one side has more alerts: {ours:#?}\noracle: {theirs:#?}",
        folder.display()
    );
    ours
}

#[test]
fn random_traces_agree_with_the_oracle() {
    if !have_python() {
        return;
    }
    let mut fired = std::collections::BTreeMap::new();
    let mut unserved = 0;
    let seeds = variable("GOVLEDGER_SLO_SEEDS").and_then(|seeds| seeds.parse().ok()).unwrap_or(16);
    for seed in 1..=seeds {
        let folder = tempfile::tempdir().unwrap();
        trace::random(seed, folder.path());
        for episode in check(folder.path(), usize::try_from(1 + seed % 3).unwrap()) {
            unserved += u32::from(episode.reason.is_some());
            *fired.entry(episode.rule).or_insert(0_u32) += 1;
        }
    }
    println!("alerts by rule: {fired:?}, of which {unserved} ended for want of a verdict");
    assert_eq!(fired.len(), 9, "the traces make every rule fire: {fired:?}");
    assert!(unserved > 0, "and some alert end because its engine serves no more");
}

#[test]
fn the_number_of_ledgers_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    trace::random(99, folder.path());
    let one = episodes(&Logs::read(folder.path(), 1).drive(|_, slo| slo));
    let five = episodes(&Logs::read(folder.path(), 5).drive(|_, slo| slo));
    assert_eq!(one, five);
}

#[test]
fn a_snapshot_at_any_cut_continues_the_same() {
    let folder = tempfile::tempdir().unwrap();
    trace::random(7, folder.path());
    let straight = Logs::read(folder.path(), 2).drive(|_, slo| slo);
    let resumed = Logs::read(folder.path(), 2).drive(|index, slo| {
        if index % 17 != 0 {
            return slo;
        }
        let text = serde_json::to_string(&slo).unwrap();
        let again: Slo = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text, "the snapshot reads back as itself");
        again
    });
    assert_eq!(straight, resumed);
}

#[test]
fn real_traces_agree_with_the_oracle() {
    let Some(folders) = variable("GOVLEDGER_TRACES") else {
        eprintln!("SKIPPED: GOVLEDGER_TRACES is not set");
        return;
    };
    if !have_python() {
        return;
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folders).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let alerts = check(&folder, 1);
        println!("{}: {} alerts agree", folder.display(), alerts.len());
        assert!(!alerts.is_empty());
    }
}

#[test]
fn prometheus_agrees_where_every_cut_has_a_verdict() {
    let Ok(version) = Command::new(promtool()).arg("--version").output() else {
        return skip("no promtool, so Prometheus cannot judge");
    };
    if !have_python() {
        return;
    }
    let version = String::from_utf8_lossy(&[version.stdout, version.stderr].concat()).into_owned();
    println!("{}", version.lines().next().unwrap_or_default());
    for seed in 1..=4 {
        let folder = tempfile::tempdir().unwrap();
        trace::dense(seed, folder.path());
        let alerts = check(folder.path(), 2);
        assert!(alerts.len() > 1, "seed {seed} makes alerts: {alerts:?}");
        promtool::check(folder.path(), &oracle(folder.path(), &["--measures"]), &alerts);
    }
}

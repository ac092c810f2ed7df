//! Checking a ledger with tools that are not ours, and catching those who change it.

#![cfg(test)]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use support::node::Node;
use support::scratch::Scratch;
use support::{parts, verifiers};

const LINES: usize = 100_000;

/// Provider logs, half an hour of them, `count` lines.
fn provider_logs(scratch: &Scratch, count: usize) -> PathBuf {
    let start: govledger::domain::time::Time = "2026-10-01T09:00:00Z".parse().unwrap();
    let mut text = String::new();
    for index in 0..count {
        let at = govledger::domain::time::Time::from_micros(
            start.micros() + i64::try_from(index * 1_800_000_000 / count).unwrap(),
        );
        writeln!(
            text,
            r#"{{"event":"llm.request","operation":"generate_json","model":"qwen3-32b","engine_hash":"sha256:aa","quantisation":"w4a8","duration_ms":{}.5,"queue_delay_us":{}.0,"recorded_at":"{at}"}}"#,
            200 + index % 300,
            index % 1_000
        )
        .unwrap();
    }
    scratch.write("provider-logs.ndjson", text)
}

/// A node with `count` records, exported; the paths of the export and its vkey.
fn exported(scratch: &Scratch, count: usize) -> (PathBuf, PathBuf) {
    let logs = provider_logs(scratch, count);
    let node = Node::init(&scratch.join("data"));
    node.backfill(&[&logs]).unwrap();
    let reader = node.handle.shared().reader("metrics-0").unwrap();
    assert_eq!(reader.size(), count as u64 + 1);
    let export = scratch.join("export");
    reader.export(&export).unwrap();
    let vkey = scratch.write("metrics-0.vkey", format!("{}\n", reader.verifier_key()));
    node.stop();
    (export, vkey)
}

/// Every file of the export that is not the checkpoint, in a fixed order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|name| name != "checkpoint") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn other_peoples_verifiers_accept_the_export_and_report_one_flipped_bit() {
    let Some(go) = parts::go() else { return };
    let scratch = Scratch::new("verifiers");
    let (export, vkey) = exported(&scratch, LINES);
    verifiers::fsck(&go, &export, &vkey, "test/metrics-0").expect(0);
    verifiers::walker(&go, &export, &vkey).expect(0);
    let key = ledger::note::VerifierKey::parse(std::fs::read_to_string(&vkey).unwrap().trim()).unwrap();
    assert!(ledger::verify::audit(&export, &key, &|_| {}).unwrap().is_ok());

    let all = files(&export);
    assert!(all.len() > 700, "{} files", all.len());
    for path in [&all[3], &all[all.len() / 2], &all[all.len() - 2]] {
        let whole = std::fs::read(path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(path, &flipped).unwrap();
        assert_ne!(verifiers::walker(&go, &export, &vkey).code, 0, "walker: {}", path.display());
        assert_ne!(verifiers::fsck(&go, &export, &vkey, "test/metrics-0").code, 0, "fsck: {}", path.display());
        assert!(!ledger::verify::audit(&export, &key, &|_| {}).unwrap().is_ok(), "verify: {}", path.display());
        std::fs::write(path, &whole).unwrap();
    }
    verifiers::walker(&go, &export, &vkey).expect(0);
}

/// Somebody with the key rebuilds the whole ledger with one entry changed. It verifies by itself; it does not extend what was.
#[test]
fn a_rewritten_and_resigned_history_is_caught_by_a_kept_checkpoint() {
    let scratch = Scratch::new("rewritten");
    let key = || ledger::LedgerKey::generate([5; 32]);
    let entries: Vec<String> = (0..1_000).map(|index| format!("{{\"t\":{index}}}\nentry {index}")).collect();
    let build = |name: &str, changed: Option<usize>| {
        let directory = scratch.join(name);
        let mut ledger =
            ledger::Ledger::create(&directory, "n/governance", key(), ledger::Options::default(), b"{\"t\":0}\nfirst")
                .unwrap();
        let changed: Vec<String> = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| if Some(index) == changed { format!("{entry}!") } else { entry.clone() })
            .collect();
        ledger.append_entries(&changed[..500]).unwrap();
        let kept = ledger.checkpoint().text().to_owned();
        ledger.append_entries(&changed[500..]).unwrap();
        (directory, kept)
    };
    let (honest, kept) = build("honest", None);
    let (forged, _) = build("forged", Some(123));
    let vkey = key().verifier_key("n/governance");
    assert!(ledger::verify::audit(&honest, &vkey, &|_| {}).unwrap().is_ok());
    assert!(ledger::verify::audit(&forged, &vkey, &|_| {}).unwrap().is_ok(), "by itself it looks well");
    ledger::verify::audit_extends(&honest, &kept, &vkey).unwrap();
    let caught = ledger::verify::audit_extends(&forged, &kept, &vkey);
    assert!(caught.is_err(), "{caught:?}");
}

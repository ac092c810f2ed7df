//! Each real part that the other tests stand on does what they take for granted.
#![cfg(test)]

mod support;

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use support::alertmanager::Alertmanager;
use support::kafka::{self, Kafka, Options, Record};
use support::prometheus::{amtool, promtool};
use support::scratch::Scratch;
use support::{browser, parts, verifiers};

#[test]
fn a_killed_broker_keeps_what_it_acknowledged() {
    let Some(parts) = parts::kafka() else { return };
    let mut kafka = Kafka::start(&parts, &Options::default());
    kafka.create_topic("kept", 4, &[("message.timestamp.type", "LogAppendTime")]);
    let records: Vec<Record> = (0..1_000)
        .map(|n| Record::new(format!("record {n}")).partition(n % 4).header("ce_id", n.to_string()))
        .collect();

    let offsets = kafka.produce("kept", &records);
    assert_eq!(offsets[996..], [(0, 249), (1, 249), (2, 249), (3, 249)]);
    let before = kafka.consume_all("kept");
    assert_eq!(before.len(), 1_000);
    assert_eq!(before[1].payload.as_deref(), Some(&b"record 4"[..]));
    assert_eq!(before[1].headers, [("ce_id".to_owned(), b"4".to_vec())]);

    kafka.kill9();
    kafka.start_again();
    assert_eq!(kafka.consume_all("kept"), before);
    kafka.restart();
    assert_eq!(kafka.end_offsets("kept"), [250; 4]);
    assert_eq!(kafka.consume_all("kept"), before);
}

#[test]
fn topics_can_be_grown_holed_recreated_and_written_in_transactions() {
    let Some(kafka) = kafka::shared() else { return };
    kafka.create_topic("changed", 1, &[]);
    kafka.produce("changed", &[Record::new("a").timestamp_ms(1_000), Record::new("b"), Record::new("c")]);
    assert_eq!(kafka.consume_all("changed")[0].timestamp_ms, Some(1_000));

    kafka.delete_records_before("changed", 0, 2);
    assert_eq!(kafka.watermarks("changed"), [(2, 3)]);

    kafka.add_partitions("changed", 3);
    assert_eq!(kafka.end_offsets("changed"), [3, 0, 0]);

    let in_transaction =
        kafka.produce_transaction("changed", &[Record::new("d").partition(1), Record::new("e").partition(1)], true);
    assert_eq!(in_transaction, [(1, 0), (1, 1)]);
    assert_eq!(kafka.end_offsets("changed"), [3, 3, 0], "the marker takes an offset");
    kafka.produce_transaction("changed", &[Record::new("never").partition(2)], false);
    let read: Vec<(i32, i64)> =
        kafka.consume_all("changed").iter().map(|record| (record.partition, record.offset)).collect();
    assert_eq!(read, [(0, 2), (1, 0), (1, 1)]);

    kafka.alter_topic("changed", &[("cleanup.policy", "compact")]);
    kafka.delete_topic("changed");
    kafka.create_topic("changed", 1, &[]);
    assert_eq!(kafka.watermarks("changed"), [(0, 0)]);
}

#[test]
fn a_broker_with_tls_and_sasl_lets_in_who_knows_the_password() {
    let Some(parts) = parts::kafka() else { return };
    let kafka = Kafka::start(&parts, &Options { sasl_ssl: true, ..Options::default() });
    kafka.create_topic("secret", 1, &[]);
    for (number, mechanism) in ["PLAIN", "SCRAM-SHA-256"].into_iter().enumerate() {
        let client = kafka.sasl_client(mechanism);
        kafka::produce(&client, "secret", &[Record::new(mechanism)]);
        let read = kafka::consume_all(&client, "secret");
        assert_eq!(read[number].payload.as_deref(), Some(mechanism.as_bytes()));
    }

    let mut stranger = kafka.sasl_client("SCRAM-SHA-256");
    stranger.set("sasl.password", "wrong");
    let consumer: rdkafka::consumer::BaseConsumer = stranger.create().unwrap();
    let refused = rdkafka::consumer::Consumer::fetch_metadata(&consumer, Some("secret"), Duration::from_secs(2));
    assert!(refused.is_err(), "a wrong password gets metadata");
}

#[test]
fn a_paused_broker_answers_again_when_resumed() {
    let Some(parts) = parts::kafka() else { return };
    let mut kafka = Kafka::start(&parts, &Options::default());
    kafka.create_topic("paused", 1, &[]);
    kafka.pause();
    let consumer: rdkafka::consumer::BaseConsumer = kafka.client().create().unwrap();
    let silent = rdkafka::consumer::Consumer::fetch_metadata(&consumer, Some("paused"), Duration::from_secs(1));
    assert!(silent.is_err(), "a stopped broker answers");
    kafka.resume();
    assert_eq!(kafka.produce("paused", &[Record::new("x")]), [(0, 0)]);
}

#[test]
fn promtool_and_amtool_tell_good_files_from_bad_ones() {
    let Some(parts) = parts::prometheus() else {
        return;
    };
    let scratch = Scratch::new("promtool");
    scratch
        .write("good.yml", "groups: [{name: g, rules: [{alert: A, expr: up == 0, for: 1m, keep_firing_for: 1m}]}]\n");
    scratch.write("bad.yml", "groups: [{name: g, rules: [{alert: A, expr: 'up ==='}]}]\n");
    promtool(&parts, &["check", "rules", "good.yml"], scratch.path()).expect(0);
    promtool(&parts, &["check", "rules", "bad.yml"], scratch.path()).expect(1);
    scratch.write("am.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
    scratch.write("am-bad.yml", "route: {receiver: nobody}\nreceivers: [{name: none}]\n");
    amtool(&parts, &["check-config", "am.yml"], scratch.path()).expect(0);
    amtool(&parts, &["check-config", "am-bad.yml"], scratch.path()).expect(1);
}

#[test]
fn an_alertmanager_takes_an_alert() {
    let Some(parts) = parts::prometheus() else {
        return;
    };
    let alertmanager = Alertmanager::start(&parts, "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let http = support::http::Http::new(alertmanager.url());
    http.post_json("/api/v2/alerts", &json!([{"labels": {"alertname": "latency_p95", "stack": "engine-qwen3"}}]))
        .expect(200);
    let alerts = alertmanager.alerts();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["labels"]["stack"], "engine-qwen3");
}

#[test]
fn a_browser_clicks_reads_and_takes_a_picture() {
    let Some(parts) = parts::browser() else {
        return;
    };
    let scratch = Scratch::new("browser");
    let html = "<!doctype html><html lang=en><title>t</title><main><h1>Before</h1>\
        <button onclick=\"document.querySelector('h1').textContent='After'\">Go</button></main></html>";
    let page = scratch.write("page.html", html);
    let picture = scratch.join("page.png");
    let steps = [
        json!({"goto": format!("file://{}", page.display())}),
        json!({"click": "button"}),
        json!({"text": "h1"}),
        json!({"screenshot": picture}),
        json!({"axe": true}),
    ];
    let driven = browser::drive(&parts, &steps);
    assert_eq!(driven.results[2], "After");
    assert_eq!(driven.results[4], json!([]), "axe finds nothing wrong with it");
    assert_eq!(driven.errors, [""; 0]);
    assert!(std::fs::read(picture).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn the_verifiers_pass_a_good_export_and_see_each_flipped_bit() {
    let Some(parts) = parts::go() else { return };
    let scratch = Scratch::new("export");
    let export = scratch.join("export");
    let vkey = write_export(&export, "tests/metrics-0", 70_000);
    let check = || {
        let fsck = verifiers::fsck(&parts, &export, &vkey, "tests/metrics-0");
        let walker = verifiers::walker(&parts, &export, &vkey);
        assert_eq!(fsck.code == 0, walker.code == 0, "fsck: {fsck:?}\nwalker: {walker:?}");
        walker
    };
    assert!(check().expect(0).stdout.starts_with("ok tests/metrics-0 size 70000 root "));

    let files = [
        "tile/0/000",
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
        "tile/entries/272",
        "tile/entries/273.p/112",
        "checkpoint",
    ];
    for file in files {
        let path = export.join(file);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        // The last line of a checkpoint is its signature, so a late byte of any file matters.
        let at = bad.len() - 20;
        bad[at] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert_ne!(check().code, 0, "a flipped bit in {file} is not seen");
        std::fs::write(&path, good).unwrap();
    }
    check().expect(0);
}

/// A tlog-tiles export of `size` small entries, written with nothing of the crate under test. Returns the vkey's file.
fn write_export(directory: &Path, origin: &str, size: usize) -> std::path::PathBuf {
    let entries: Vec<Vec<u8>> = (0..size).map(|n| format!("entry {n}").into_bytes()).collect();
    for (number, bundle) in entries.chunks(256).enumerate() {
        let framed = |entry: &Vec<u8>| [&u16::try_from(entry.len()).unwrap().to_be_bytes()[..], entry].concat();
        write_tile(directory, "entries", number, bundle.len(), &bundle.iter().flat_map(framed).collect::<Vec<u8>>());
    }
    let mut level: Vec<[u8; 32]> = entries.iter().map(|entry| hash(&[&[0], entry])).collect();
    let root = tree_hash(&level);
    for number in 0.. {
        for (tile, hashes) in level.chunks(256).enumerate() {
            write_tile(directory, &number.to_string(), tile, hashes.len(), &hashes.concat());
        }
        level = level.chunks_exact(256).map(tree_hash).collect();
        if level.is_empty() {
            break;
        }
    }
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = [&[1], key.verifying_key().as_bytes().as_slice()].concat();
    let key_id = hash(&[origin.as_bytes(), b"\n", &public])[..4].to_vec();
    let text = format!("{origin}\n{size}\n{}\n", STANDARD.encode(root));
    let signature = STANDARD.encode([&key_id[..], &key.sign(text.as_bytes()).to_bytes()].concat());
    std::fs::write(directory.join("checkpoint"), format!("{text}\n\u{2014} {origin} {signature}\n")).unwrap();
    let vkey = directory.with_extension("vkey");
    let hex = u32::from_be_bytes(key_id[..].try_into().unwrap());
    std::fs::write(&vkey, format!("{origin}+{hex:08x}+{}\n", STANDARD.encode(public))).unwrap();
    vkey
}

fn write_tile(directory: &Path, level: &str, number: usize, width: usize, content: &[u8]) {
    assert!(number < 1_000, "one path element is enough here");
    let name = if width == 256 { format!("{number:03}") } else { format!("{number:03}.p/{width}") };
    let path = directory.join("tile").join(level).join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// The Merkle tree hash as RFC 6962 defines it: split at the largest power of two below the size.
fn tree_hash(leaves: &[[u8; 32]]) -> [u8; 32] {
    if let [leaf] = leaves {
        return *leaf;
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    hash(&[&[1], &tree_hash(left), &tree_hash(right)])
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), Sha256::chain_update).finalize().into()
}

//! Following a provider log as it is written, over a rotation and over `kill -9`: every line once, in order.

#![cfg(test)]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use govledger::domain::leaf;
use govledger::sequencer::DataDir;

use support::process::{Service, ServiceOptions, govledger};
use support::scratch::Scratch;
use support::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(30);

fn line(index: usize) -> String {
    format!("{{\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":{index}}}\n")
}

fn append(path: &Path, lines: std::ops::Range<usize>) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(lines.map(line).collect::<String>().as_bytes()).unwrap();
}

/// Bodies of the metrics ledger, the settings left out.
fn bodies(data: &Path) -> Vec<String> {
    let data_dir = DataDir::open(data).unwrap();
    let key = data_dir.verifier_key("metrics-0").unwrap();
    let reader = ledger::Reader::open(&data_dir.ledger_dir("metrics-0"), &key).unwrap();
    let entries = reader.entries(1..reader.size());
    entries.map(|entry| String::from_utf8(leaf::body(&entry.unwrap().1).to_vec()).unwrap() + "\n").collect()
}

#[test]
fn every_line_once_over_rotations_and_kills() {
    let scratch = Scratch::new("follow");
    let (data, log) = (scratch.join("data"), scratch.join("provider.log"));
    let data_text = data.to_str().unwrap().to_owned();
    govledger(&[
        "--data",
        &data_text,
        "init",
        "--node",
        "test",
        "--token-out",
        scratch.join("token").to_str().unwrap(),
    ])
    .expect(0);
    append(&log, 0..50);
    let arguments = ["--data", &data_text, "ingest", "--follow", log.to_str().unwrap()].map(str::to_owned);
    let mut follow = Service::spawn(ServiceOptions::new(arguments, 1));
    let arrived = |count: usize| {
        wait_for(&format!("{count} entries"), LIMIT, || (bodies(&data).len() == count).then_some(()));
    };
    arrived(50);
    follow.kill9();

    // While nobody follows: more lines, a rotation, and a new file.
    append(&log, 50..80);
    std::fs::rename(&log, scratch.join("provider.log.1")).unwrap();
    append(&log, 80..100);
    follow.spawn_again();
    arrived(100);

    // A rotation under its eyes, a line that is written in two halves, and an end.
    append(&log, 100..105);
    std::fs::rename(&log, scratch.join("provider.log.2")).unwrap();
    append(&log, 105..109);
    let half = line(109);
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(&half.as_bytes()[..10]).unwrap();
    arrived(109);
    file.write_all(&half.as_bytes()[10..]).unwrap();
    arrived(110);
    assert_eq!(follow.terminate(), 0, "{}", follow.log());
    assert_eq!(bodies(&data), (0..110).map(line).collect::<Vec<_>>());
    govledger(&["--data", &data_text, "verify"]).expect(0);
}

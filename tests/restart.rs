//! Stopping and starting: what is read again, and what comes out.

#![cfg(test)]

mod support;

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use support::node::Node;
use support::scratch::{Scratch, copy_dir};

const LINES: usize = 1_000_000;

#[test]
fn a_start_reads_only_what_follows_the_snapshot() {
    let scratch = Scratch::new("restart");
    let mut logs = String::with_capacity(LINES * 120);
    for index in 0..LINES {
        let (minute, second) = (index * 60 / LINES, index * 3_600 / LINES % 60);
        writeln!(logs, r#"{{"model":"m","engine_hash":"e","duration_ms":{},"recorded_at":"2026-10-01T09:{minute:02}:{second:02}Z"}}"#, index % 900).unwrap();
    }
    let logs = scratch.write("provider-logs.ndjson", logs);
    let node = Node::init(&scratch.join("data"));
    node.backfill(&[&logs]).unwrap();
    let before = (node.roots(), node.digests());
    node.stop();
    let (cache, kept) = (scratch.join("data/cache"), scratch.join("cache.kept"));
    copy_dir(&cache, &kept);

    let node = Node::open(&scratch.join("data"));
    assert_eq!(node.handle.shared().status.read_at_start.load(Ordering::Relaxed), 0);
    assert_eq!((node.roots(), node.digests()), before);
    // Ten more lines after the snapshot, and no snapshot after them, as if the process had died.
    let more = (0..10).map(|index| format!("{{\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":{index},\"recorded_at\":\"2026-10-01T11:00:0{index}Z\"}}\n"));
    let more = scratch.write("more.ndjson", more.collect::<String>());
    node.backfill(&[&more]).unwrap();
    let after = (node.roots(), node.digests());
    let governance =
        node.handle.shared().governance().size - before.0.iter().find(|(name, ..)| name == "governance").unwrap().1;
    node.stop();
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::rename(&kept, &cache).unwrap();

    let node = Node::open(&scratch.join("data"));
    assert_eq!(node.handle.shared().status.read_at_start.load(Ordering::Relaxed), 10 + governance);
    assert_eq!((node.roots(), node.digests()), after);
}

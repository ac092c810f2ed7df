//! Stopping and starting: what is read again, and what comes out.

#![cfg(test)]

mod support;

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use govledger::domain::leaf::Header;
use govledger::sequencer::MetricsChunk;
use support::node::{Node, block_on};
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

/// What a start reads again at the most: the records between two snapshots, and the batch that came with the last.
const READ_AT_START_MAX: u64 = (1 << 18) + BATCH;
const BATCH: u64 = 20_000;

#[test]
fn a_start_after_a_kill_reads_few_records_however_few_governance_entries_there_were() {
    let scratch = Scratch::new("killed");
    let data = scratch.join("data");
    let node = Node::init_live(&data);
    let prepare = node.handle.prepare();
    for batch in 0..40 {
        let mut chunk = MetricsChunk::default();
        for index in 0..BATCH {
            let body = format!(r#"{{"model":"m","engine_hash":"e","duration_ms":{}}}"#, (batch + index) % 900);
            prepare.push(&mut chunk, Header::at(node.clock.now()), body.as_bytes()).unwrap().unwrap();
        }
        block_on(node.handle.append_metrics(0, chunk)).unwrap();
        node.clock.set(node.clock.now().plus_seconds(10));
        // Answered by the writer once the batch before, its snapshot and the cuts that are due are behind it.
        block_on(node.handle.file_progress(0)).unwrap();
        block_on(node.handle.file_progress(0)).unwrap();
    }
    let (roots, digests) = (node.roots(), node.digests());
    let kept = scratch.join("cache.kept");
    copy_dir(&data.join("cache"), &kept);
    node.stop();
    std::fs::remove_dir_all(data.join("cache")).unwrap();
    std::fs::rename(&kept, data.join("cache")).unwrap();

    let node = Node::open(&data);
    let read = node.handle.shared().status.read_at_start.load(Ordering::Relaxed);
    assert!((1..=READ_AT_START_MAX).contains(&read), "{read} entries were read again");
    assert_eq!((node.roots(), node.digests()), (roots, digests));
    node.stop();
    // Those made for the records' sake give way to each other: that of the first stop, one of them, that of the last stop.
    let cache = sled::open(data.join("cache")).unwrap();
    assert_eq!(cache.open_tree("snapshots").unwrap().len(), 3);
}

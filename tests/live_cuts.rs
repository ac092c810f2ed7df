//! Cuts as time passes, with a clock that the test moves: every ten seconds, thinned out when nothing happens, back again.

#![cfg(test)]

mod support;

use std::time::Duration;

use govledger::clock::Clock;
use govledger::domain::event::Event;
use govledger::domain::leaf::{self, Header};
use govledger::domain::report;
use govledger::domain::time::Time;
use govledger::sequencer::{MetricsChunk, Submission};

use support::node::{NOW, Node, block_on};
use support::scratch::Scratch;
use support::wait::wait_for;

/// Instants of all cuts, as seconds after the start, and the positions of alerts between them.
fn cuts(node: &Node) -> Vec<i64> {
    let start: Time = NOW.parse().unwrap();
    let reader = node.handle.shared().reader("governance").unwrap();
    let instant = |entry: &[u8]| {
        let Event::Cut(cut) = report::read(&leaf::split(entry).ok()?).ok()?.event else { return None };
        Some(cut.instant.micros_since(start) / 1_000_000)
    };
    reader.entries(1..reader.size()).filter_map(|entry| instant(&entry.unwrap().1)).collect()
}

fn record(node: &Node, duration_ms: u32) {
    let mut chunk = MetricsChunk::default();
    let body = format!(r#"{{"model":"m","engine_hash":"e","duration_ms":{duration_ms},"cost_usd":0.5}}"#);
    node.handle.prepare().push(&mut chunk, Header::at(node.clock.now()), body.as_bytes()).unwrap().unwrap();
    block_on(node.handle.append_metrics(0, chunk)).unwrap();
}

/// Moves the clock to `seconds` after the start, in steps that a running service would see.
fn pass(node: &Node, from: i64, to: i64) {
    let start: Time = NOW.parse().unwrap();
    for seconds in (from..=to).step_by(10) {
        node.clock.set(start.plus_seconds(seconds).plus_seconds(1));
        wake(node);
    }
}

/// Whatever reaches the writer lets it look at the clock.
fn wake(node: &Node) {
    block_on(node.handle.file_progress(0)).unwrap();
    block_on(node.handle.file_progress(0)).unwrap();
}

#[test]
fn cuts_follow_the_clock_and_alerts_follow_the_cuts() {
    let scratch = Scratch::new("live-cuts");
    let node = Node::init_live(&scratch.join("data"));
    pass(&node, 0, 120);
    assert_eq!(cuts(&node), Vec::<i64>::new(), "nothing has happened that could be cut");
    record(&node, 100);
    // The writer has to see that something happened before the clock goes on: the first cut is the next one from then.
    pass(&node, 120, 120);
    pass(&node, 130, 160);
    assert_eq!(cuts(&node), [130, 140, 150, 160]);
    let (alerts, _) = node.ask("/v1/alerts?state=firing");
    let rules: Vec<&str> =
        alerts["alerts"].as_array().unwrap().iter().map(|alert| alert["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["cost_per_request"], "{alerts:#}");

    // Twenty quiet minutes later the cuts thin out to full minutes; a report brings them back.
    pass(&node, 170, 1_500);
    let seen = cuts(&node);
    assert!(seen.windows(2).all(|pair| [10, 60].contains(&(pair[1] - pair[0]))), "{seen:?}");
    assert_eq!(seen.iter().rev().take(2).copied().collect::<Vec<_>>(), [1_500, 1_440], "{seen:?}");
    let event = r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s","hash":"e"},"payload":{}}"#;
    block_on(node.handle.submit_events(vec![Submission { header: Header::default(), body: event.into() }])).unwrap();
    pass(&node, 1_510, 1_530);
    assert_eq!(cuts(&node).iter().rev().take(2).copied().collect::<Vec<_>>(), [1_530, 1_520]);

    // The clock is set back an hour: no cut goes back, and cuts go on once the last one is passed.
    pass(&node, -2_000, -1_980);
    assert_eq!(*cuts(&node).last().unwrap(), 1_530);
    pass(&node, 1_540, 1_540);
    wait_for("the next cut", Duration::from_secs(5), || (cuts(&node).last() == Some(&1_540)).then_some(()));
    assert_eq!(node.handle.shared().governance().rejected.len(), 0);
    let before = node.digests();
    node.stop();
    std::fs::remove_dir_all(scratch.join("data/cache")).unwrap();
    let again = Node::open(&scratch.join("data"));
    assert_eq!(again.digests(), before, "a fold from nothing takes the steps of the day itself");
}

#[test]
fn a_clock_set_back_after_a_start_leaves_out_no_cut() {
    let scratch = Scratch::new("live-cuts-back");
    let start: Time = NOW.parse().unwrap();
    let node = Node::init_live(&scratch.join("data"));
    record(&node, 100);
    pass(&node, 0, 20);
    assert_eq!(cuts(&node), [10, 20]);
    node.stop();

    // Away when the next one was due, which is not made afterwards.
    let node = Node::open_live(&scratch.join("data"), Clock::manual(start.plus_seconds(33)));
    wake(&node);
    assert_eq!(cuts(&node), [10, 20]);
    // Now its time comes once more.
    for seconds in [22, 55] {
        node.clock.set(start.plus_seconds(seconds));
        wake(&node);
    }
    assert_eq!(cuts(&node), [10, 20, 30, 40, 50]);
}

//! Bad input: a clear reason that names the field and the value, the bytes in the ledger, and nothing lost around it.

#![cfg(test)]

mod support;

use std::path::Path;

use govledger::domain::leaf;
use govledger::domain::metric::TimeFields;
use govledger::ingest::file::{FileSource, IngestError, Report, ingest_arrival};
use govledger::sequencer::judge;

use support::node::{Node, block_on};
use support::scratch::Scratch;

fn ingest(node: &Node, path: &Path) -> Report {
    let file = FileSource { name: path.display().to_string(), path: path.to_owned() };
    block_on(ingest_arrival(&node.handle, vec![file], &|_, _| {})).unwrap()
}

/// Each bad line with the code it is refused with and words that its reason holds.
type Case = (Vec<u8>, &'static str, &'static [&'static str]);

fn text(line: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    (line.as_bytes().to_vec(), code, words)
}

#[test]
fn governance_lines_are_kept_and_refused_with_reason() {
    let scratch = Scratch::new("bad-governance");
    let node = Node::init(&scratch.join("data"));
    let good = r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s","version":"1","hash":"h"},"actor":"ci","payload":{},"timestamp":"2026-10-01T08:30:00+00:00"}"#;
    let event = |data: &str| {
        format!(r#"{{"specversion":"1.0","id":"7","source":"ci","type":"note","subject":"s","data":{data}}}"#)
    };
    let mut large = br#"{"event_type":"note","artifact":{"artifact_id":"s"},"payload":{"text":""#.to_vec();
    large.extend(std::iter::repeat_n(b'x', 1 << 20));
    large.extend_from_slice(br#""}}"#);
    let envelope =
        r#"{"payloadType":"application/cloudevents+json","payload":"e30=","signatures":[{"keyid":"k","sig":"AAAA"}]}"#;
    let cases: Vec<Case> = vec![
        text(r#"{"event_type":"x","#, "malformed_json", &["not JSON"]),
        text(r#"{"event_type":"x","payload":{"a":NaN}}"#, "not_finite_number", &["`a`", "NaN"]),
        text(
            r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s","hash":42}}"#,
            "wrong_type",
            &["hash", "42"],
        ),
        text(
            r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s"}}"#,
            "missing_field",
            &["engine_hash"],
        ),
        (large, "too_large", &["1048650", "65535"]),
        (b"{\"event_type\":\"x\xff\"}".to_vec(), "invalid_utf8", &["0xff", "byte 16"]),
        (event(r#"{"a":2}"#).into_bytes(), "id_conflict", &["position"]),
        text(envelope, "bad_envelope", &["64 bytes", "AAAA"]),
        text(r#"{"event_type":"llm_waiver_approved","payload":{}}"#, "envelope_required", &["llm_waiver_approved"]),
        text(r#"{"event":"llm.request","duration_ms":1}"#, "wrong_kind", &["metrics ledger"]),
    ];
    let mut file = format!("{good}\n{}\n", event(r#"{"a":1}"#)).into_bytes();
    for (line, ..) in &cases {
        file.extend_from_slice(line);
        file.push(b'\n');
    }
    file.extend_from_slice(
        b"{\"event_type\":\"mapping_batch_published\",\"artifact\":{\"artifact_id\":\"s\"},\"payload\":{}}\n",
    );
    let report = ingest(&node, &scratch.write("events.ndjson", &file));
    assert_eq!((report.admitted, report.rejected), (3, cases.len() as u64));

    let (rejected, _) = node.ask("/v1/rejected");
    let rejected = rejected["rejected"].as_array().unwrap().clone();
    let reader = node.handle.shared().reader("governance").unwrap();
    assert_eq!(rejected.len(), cases.len());
    for (row, (line, code, words)) in rejected.iter().zip(&cases) {
        assert_eq!(row["refusal"]["code"], *code, "{row}");
        let detail = row["refusal"]["detail"].as_str().unwrap();
        assert!(words.iter().all(|word| detail.contains(word)), "{detail:?} lacks one of {words:?}");
        let entry = reader.entry(row["position"].as_u64().unwrap()).unwrap();
        let leaf = leaf::split(&entry).unwrap();
        match leaf.header.oversize {
            None => assert_eq!(leaf.body, line),
            Some(oversize) => {
                let hash = ledger::Hash::from_hex(&oversize.sha256).unwrap();
                assert_eq!(&ledger::blob::get(&node.handle.data_dir().blobs(), &hash).unwrap(), line);
            }
        }
    }
    // The unknown type is no fault: it is on the timeline.
    let (timeline, _) = node.ask("/v1/stacks/s/timeline");
    let kinds: Vec<&str> =
        timeline["timeline"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["llm_engine_published", "note", "mapping_batch_published"]);
}

#[test]
fn metric_lines_are_kept_and_refused_with_reason() {
    let scratch = Scratch::new("bad-metrics");
    let node = Node::init(&scratch.join("data"));
    let good = r#"{"event":"llm.request","operation":"judge","model":"m","engine_hash":"e","duration_ms":812.5,"queue_delay_us":811.0,"cost_usd":1e-05}"#;
    let mut large = br#"{"event":"llm.request","model":""#.to_vec();
    large.extend(std::iter::repeat_n(b'm', 1 << 20));
    large.extend_from_slice(br#""}"#);
    let cases: Vec<Case> = vec![
        text(r#"{"event":"llm.request","model":"m""#, "malformed_json", &["not JSON"]),
        text(
            r#"{"event":"llm.request","model":"m","engine_hash":"e","duration_ms":NaN}"#,
            "not_finite_number",
            &["duration_ms", "NaN"],
        ),
        text(
            r#"{"event":"llm.request","model":"m","engine_hash":"e","duration_ms":"fast"}"#,
            "wrong_type",
            &["duration_ms", "fast"],
        ),
        text(r#"{"event":"llm.request","model":"m","engine_hash":"e"}"#, "missing_field", &["duration_ms"]),
        text(
            r#"{"event":"llm.request","model":"m","engine_hash":"e","duration_ms":-1}"#,
            "out_of_range",
            &["duration_ms", "-1"],
        ),
        (large, "too_large", &["65535"]),
        (b"{\"event\":\"llm.request\xff\"}".to_vec(), "invalid_utf8", &["0xff"]),
    ];
    let mut file = format!("{good}\n").into_bytes();
    for (line, ..) in &cases {
        file.extend_from_slice(line);
        file.push(b'\n');
    }
    let report = ingest(&node, &scratch.write("logs.ndjson", &file));
    assert_eq!((report.admitted, report.rejected), (1, cases.len() as u64));
    let reader = node.handle.shared().reader("metrics-0").unwrap();
    assert_eq!(reader.size(), 2 + cases.len() as u64);
    for (position, (line, code, words)) in (2..).zip(&cases) {
        let entry = reader.entry(position).unwrap();
        let refusal = judge(&entry, &TimeFields::default()).unwrap();
        assert_eq!(refusal.code.as_str(), *code, "{refusal}");
        assert!(words.iter().all(|word| refusal.detail.contains(word)), "{:?} lacks one of {words:?}", refusal.detail);
        let leaf = leaf::split(&entry).unwrap();
        assert!(leaf.header.oversize.is_some() || leaf.body == line);
    }
    assert_eq!(node.handle.shared().metrics()[&0].refused, cases.len() as u64);
}

#[test]
fn a_senders_clock_far_ahead_refuses_the_whole_backfill() {
    let scratch = Scratch::new("clock-ahead");
    let node = Node::init(&scratch.join("data"));
    let line = |time: &str| {
        format!("{{\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":1,\"recorded_at\":\"{time}\"}}\n")
    };
    let logs = scratch.write("logs.ndjson", line("2026-10-01T09:00:00Z") + &line("2031-01-01T00:00:00Z"));
    let before = node.roots();
    let error = node.backfill(&[&logs]).unwrap_err();
    assert!(matches!(error, IngestError::AfterUntil { line: 2, .. }), "{error}");
    assert!(error.to_string().contains("line 2 is of 2031-01-01T00:00:00Z, which is after"), "{error}");
    assert_eq!(node.roots(), before);
}

#[test]
fn history_is_closed_up_to_the_last_cut() {
    let scratch = Scratch::new("behind-cut");
    let node = Node::init(&scratch.join("data"));
    let line = |time: &str| {
        format!("{{\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":1,\"recorded_at\":\"{time}\"}}\n")
    };
    node.backfill(&[&scratch.write("a.ndjson", line("2026-10-01T09:00:05Z"))]).unwrap();
    let before = node.roots();
    let error = node.backfill(&[&scratch.write("b.ndjson", line("2026-10-01T09:00:09Z"))]).unwrap_err();
    assert!(matches!(error, IngestError::BehindCut { line: 1, .. }), "{error}");
    assert_eq!(node.roots(), before);
    node.backfill(&[&scratch.write("c.ndjson", line("2026-10-01T09:00:10.000001Z"))]).unwrap();
}

#[test]
fn no_history_follows_an_entry_of_the_present() {
    let scratch = Scratch::new("behind-entry");
    let node = Node::init(&scratch.join("data"));
    let event = |id: &str, time: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"ci","type":"note","subject":"s","time":"{time}","data":{{}}}}"#
        ) + "\n"
    };
    // Of the present, by its arrival: no cut yet.
    ingest(&node, &scratch.write("live.ndjson", event("1", "2026-10-01T09:00:00Z")));
    assert!(node.handle.shared().governance().last_cut.is_none());
    let before = node.roots();
    let record = "{\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":1,\"recorded_at\":\"2026-10-01T09:00:05Z\"}\n";
    for file in [scratch.write("a.ndjson", event("2", "2026-10-01T09:00:01Z")), scratch.write("b.ndjson", record)] {
        let error = node.backfill(&[&file]).unwrap_err();
        assert!(matches!(error, IngestError::BehindEntry { line: 1, .. }), "{error}");
        assert!(error.to_string().contains("line 1 is of 2026-10-01T09:00:0"), "{error}");
    }
    assert_eq!(node.roots(), before);
    // What is here already has its time.
    let report = node.backfill(&[&scratch.write("again.ndjson", event("1", "2026-10-01T09:00:00Z"))]).unwrap();
    assert_eq!((report.read, report.duplicates), (1, 1));
    assert_eq!(node.roots(), before);
}

#[test]
fn a_file_given_twice_is_refused() {
    let scratch = Scratch::new("given-twice");
    let node = Node::init(&scratch.join("data"));
    let line = |second: &str| {
        format!(
            "{{\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":1,\"recorded_at\":\"2026-10-01T09:00:{second}Z\"}}\n"
        )
    };
    let whole = scratch.write("whole.ndjson", line("01") + &line("12"));
    let part = scratch.write("part.ndjson", line("01"));
    let before = node.roots();
    for files in [[whole.as_path(), &whole], [&part, &whole]] {
        let error = node.backfill(&files).unwrap_err();
        assert!(matches!(error, IngestError::GivenTwice { .. }), "{error}");
        assert_eq!(node.roots(), before);
    }
    node.backfill(&[&part]).unwrap();
    assert_eq!(node.backfill(&[&whole]).unwrap().duplicates, 1);
}

#[test]
fn a_file_that_changed_behind_our_back_is_named() {
    let scratch = Scratch::new("changed");
    let node = Node::init(&scratch.join("data"));
    let line = |duration: u32| format!("{{\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":{duration}}}\n");
    ingest(&node, &scratch.write("a.ndjson", line(1) + &line(2)));
    let path = scratch.write("a.ndjson", line(1) + &line(3));
    let file = FileSource { name: "a.ndjson".into(), path };
    let error = block_on(ingest_arrival(&node.handle, vec![file], &|_, _| {})).unwrap_err();
    assert!(error.to_string().contains("line 2 differs from entry 2 of metrics-0"), "{error}");
}

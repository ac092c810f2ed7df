//! Files that are handed in side by side, out of order, or beside records that claim to be theirs: every line once.

#![cfg(test)]

mod support;

use govledger::domain::leaf::{self, Header};
use govledger::domain::settings::SourceSettings;
use govledger::ingest::file::{FileIdentity, FileKind, Report, append_lines, first_line_sha256};
use govledger::sequencer::{
    BackfillStep, DataDir, InitOptions, MetricsChunk, RecordedLine, SequencerError, Submission, SubmitError,
};

use support::node::{Node, block_on};
use support::scratch::Scratch;

fn publish(stack: &str, engine: usize) -> String {
    format!(
        r#"{{"event_type":"llm_engine_published","artifact":{{"artifact_id":"{stack}","version":"1","hash":"{engine}"}},"payload":{{}}}}"#
    )
}

fn request(duration_ms: usize) -> String {
    format!(r#"{{"model":"m","engine_hash":"e","duration_ms":{duration_ms}}}"#)
}

fn identity(name: &str, kind: FileKind, lines: &[String]) -> FileIdentity {
    FileIdentity { name: name.to_owned(), first_line_sha256: first_line_sha256(lines[0].as_bytes()), kind }
}

fn governance_file(stack: &str) -> (FileIdentity, Vec<String>) {
    let lines: Vec<String> = (0..3).map(|engine| publish(stack, engine)).collect();
    (identity(stack, FileKind::Governance, &lines), lines)
}

async fn hand_in(node: &Node, identity: &FileIdentity, from_line: u64, lines: &[String]) -> Report {
    append_lines(&node.handle, identity, from_line, (lines.join("\n") + "\n").as_bytes(), None).await.unwrap()
}

/// (admitted, duplicates)
fn counts(report: &Report) -> (u64, u64) {
    assert_eq!((report.rejected, report.read), (0, report.admitted + report.duplicates));
    (report.admitted, report.duplicates)
}

/// File and line of every entry of a ledger that states them, with the body.
fn entries(node: &Node, ledger: &str) -> Vec<(u64, u64, String)> {
    let reader = node.handle.shared().reader(ledger).unwrap();
    let of = |entry: &[u8]| {
        let leaf = leaf::split(entry).unwrap();
        let body = String::from_utf8(leaf.body.to_vec()).unwrap();
        Some((leaf.header.file?, leaf.header.line?, body))
    };
    reader.entries(1..reader.size()).filter_map(|entry| of(&entry.unwrap().1)).collect()
}

#[test]
fn files_that_come_at_once_get_a_number_each() {
    let scratch = Scratch::new("intake-at-once");
    let node = Node::init(&scratch.join("data"));
    let files = ["a", "b", "c"].map(governance_file);
    let records: Vec<String> = (0..3).map(request).collect();
    let provider = identity("provider.log", FileKind::Metrics, &records);
    let hand_in_all = || {
        let [a, b, c] = &files;
        block_on(async {
            let (a, b, c, metrics) = tokio::join!(
                hand_in(&node, &a.0, 1, &a.1),
                hand_in(&node, &b.0, 1, &b.1),
                hand_in(&node, &c.0, 1, &c.1),
                hand_in(&node, &provider, 1, &records),
            );
            [a, b, c, metrics].map(|report| counts(&report))
        })
    };
    assert_eq!(hand_in_all(), [(3, 0); 4]);
    for (file, lines) in &files {
        let number = node
            .handle
            .shared()
            .governance()
            .files
            .values()
            .find(|known| known.first_line_sha256 == file.first_line_sha256)
            .map(|known| known.file)
            .unwrap();
        let own: Vec<(u64, u64, String)> = (1..).zip(lines).map(|(line, body)| (number, line, body.clone())).collect();
        let there: Vec<_> = entries(&node, "governance").into_iter().filter(|(file, ..)| *file == number).collect();
        assert_eq!(there, own, "{}", file.name);
    }
    assert_eq!(hand_in_all(), [(0, 3); 4]);
    // And after a start that folds from nothing.
    node.stop();
    std::fs::remove_dir_all(scratch.join("data/cache")).unwrap();
    let node = Node::open(&scratch.join("data"));
    for (file, lines) in &files {
        assert_eq!(counts(&block_on(hand_in(&node, file, 1, lines))), (0, 3));
    }
    assert_eq!(counts(&block_on(hand_in(&node, &provider, 1, &records))), (0, 3));
}

#[test]
fn a_metric_record_that_claims_a_governance_files_lines_takes_none_of_them() {
    let scratch = Scratch::new("intake-claimed");
    let node = Node::init(&scratch.join("data"));
    let (file, lines) = governance_file("s");
    assert_eq!(counts(&block_on(hand_in(&node, &file, 1, &lines[..1]))), (1, 0));
    let number = node.handle.shared().governance().files.values().next().unwrap().file;
    let mut chunk = MetricsChunk::default();
    let header = Header { file: Some(number), line: Some(999_999_999), ..Header::at(node.clock.now()) };
    node.handle.prepare().push(&mut chunk, header, request(1).as_bytes()).unwrap().unwrap();
    block_on(node.handle.append_metrics(0, chunk)).unwrap();
    assert_eq!(counts(&block_on(hand_in(&node, &file, 1, &lines))), (2, 1));
    assert_eq!(node.ask("/v1/stacks/s/manifest").0["engine_hash"], "2");
}

#[test]
fn lines_out_of_order_and_from_two_callers_are_taken_once() {
    let scratch = Scratch::new("intake-order");
    let node = Node::init(&scratch.join("data"));
    let lines: Vec<String> = (0..40).map(request).collect();
    let file = identity("provider.log", FileKind::Metrics, &lines);
    assert_eq!(counts(&block_on(hand_in(&node, &file, 31, &lines[30..]))), (10, 0));
    let (first, second) =
        block_on(async { tokio::join!(hand_in(&node, &file, 1, &lines), hand_in(&node, &file, 1, &lines)) });
    let mut both = [counts(&first), counts(&second)];
    both.sort_unstable();
    assert_eq!(both, [(0, 40), (30, 10)]);
    let mut there: Vec<u64> = entries(&node, "metrics-0").into_iter().map(|(_, line, _)| line).collect();
    there.sort_unstable();
    assert_eq!(there, (1..=40).collect::<Vec<_>>());
    // Another file that begins with the same line is told apart where it differs.
    let mut other = lines.clone();
    other[35] = request(99);
    let answer = block_on(append_lines(&node.handle, &file, 1, (other.join("\n") + "\n").as_bytes(), None));
    assert!(answer.unwrap_err().to_string().contains("line 36"));
}

#[test]
fn nothing_of_the_present_comes_amid_a_history() {
    let scratch = Scratch::new("intake-history");
    let node = Node::init(&scratch.join("data"));
    let stamped = |second: u32, engine: usize| {
        let event = publish("s", engine);
        format!("{},\"timestamp\":\"2026-10-01T08:00:{second:02}+00:00\"}}\n", &event[..event.len() - 1])
    };
    let path = scratch.write("events.ndjson", (stamped(1, 0) + &stamped(35, 1)).as_bytes());
    let live = || {
        let event = Submission { header: Header::default(), body: publish("live", 9).into_bytes() };
        let mut chunk = MetricsChunk::default();
        node.handle.prepare().push(&mut chunk, Header::at(node.clock.now()), request(1).as_bytes()).unwrap().unwrap();
        block_on(async { (node.handle.submit_events(vec![event]).await, node.handle.append_metrics(0, chunk).await) })
    };
    // Between two steps of the history, as somebody else would come.
    let answers = std::sync::Mutex::new(Vec::new());
    let come =
        |_: u64, _: u64| std::thread::scope(|scope| answers.lock().unwrap().push(scope.spawn(live).join().unwrap()));
    let file = govledger::ingest::file::FileSource { name: "events".to_owned(), path };
    let report = block_on(govledger::ingest::file::ingest_recorded(&node.handle, vec![file], None, &come)).unwrap();
    assert_eq!(counts(&report), (2, 0));
    let answers = answers.into_inner().unwrap();
    assert!(answers.len() > 3);
    for (event, record) in answers {
        assert!(matches!(event, Err(SubmitError::Busy { .. })), "{event:?}");
        assert!(matches!(record, Err(SubmitError::Busy { .. })), "{record:?}");
    }
    // Each line has its own time, and the cuts of its day see it.
    let at = |time: &str| node.ask_at("/v1/stacks/s/manifest", time)["engine_hash"].clone();
    assert_eq!((at("2026-10-01T08:00:10Z"), at("2026-10-01T08:00:40Z")), ("0".into(), "1".into()));
    // Once it is in, the present is taken again.
    let (event, record) = live();
    assert!(event.is_ok() && record.is_ok(), "{event:?} {record:?}");
    // A history whose intake ended without a word holds nobody up for long.
    let header = Header { file: Some(1), line: Some(3), ..Header::at(node.clock.now()) };
    let step = BackfillStep {
        governance: vec![RecordedLine { header, body: publish("s", 2).into_bytes() }],
        ..BackfillStep::default()
    };
    block_on(node.handle.backfill(step)).unwrap();
    assert!(live().0.is_err());
    node.clock.set(node.clock.now().plus_seconds(31));
    assert!(live().0.is_ok());
}

#[test]
fn an_init_removes_what_one_that_was_cut_off_has_left_and_nothing_else() {
    let scratch = Scratch::new("intake-init");
    let data = scratch.join("data");
    let init = || {
        DataDir::init(
            &data,
            InitOptions {
                node: "test".into(),
                source: SourceSettings::Embedded,
                admin: "root".into(),
                settings: None,
                further_node_keys: Vec::new(),
                now: support::node::NOW.parse().unwrap(),
            },
        )
    };
    init().unwrap();
    // Cut off before its last file: a repeat goes on.
    std::fs::remove_file(data.join("node.json")).unwrap();
    std::fs::create_dir_all(data.join("governance.creating")).unwrap();
    init().unwrap();
    let node = Node::open(&data);
    let (file, lines) = governance_file("s");
    assert_eq!(counts(&block_on(hand_in(&node, &file, 1, &lines))), (3, 0));
    let roots = node.roots();
    node.stop();
    let node_file = std::fs::read(data.join("node.json")).unwrap();
    for gone in ["node.json", "keys/governance.vkey"] {
        let kept = std::fs::read(data.join(gone)).unwrap();
        let _ = std::fs::remove_file(data.join("node.json"));
        let _ = std::fs::remove_file(data.join(gone));
        let refused = init().unwrap_err();
        assert!(matches!(refused, SequencerError::NodeFileMissing { .. }), "{refused}");
        assert!(refused.to_string().contains("node.json") && refused.to_string().contains("governance"), "{refused}");
        std::fs::write(data.join(gone), kept).unwrap();
        std::fs::write(data.join("node.json"), &node_file).unwrap();
    }
    let node = Node::open(&data);
    assert_eq!(node.roots(), roots);
}

//! Files handed in in Kafka mode: what did not arrive is handed in again, and what others claim takes no line of theirs.

use govledger::domain::leaf;
use govledger::ingest::file::{FileIdentity, FileKind, Report, append_lines, first_line_sha256};

use crate::node::{Node, SOON};
use crate::support::kafka::Record;
use crate::support::wait::wait_for;
use crate::{STACK, Stage, event, request};

pub(crate) fn identity(kind: FileKind, lines: &[String]) -> FileIdentity {
    FileIdentity { name: "log".to_owned(), first_line_sha256: first_line_sha256(lines[0].as_bytes()), kind }
}

/// (admitted, duplicates)
pub(crate) fn hand_in(node: &Node, identity: &FileIdentity, lines: &[String]) -> (u64, u64) {
    let bytes = lines.join("\n") + "\n";
    let report: Report = node.block_on(append_lines(&node.handle, identity, 1, bytes.as_bytes(), None)).unwrap();
    assert_eq!(report.read, report.admitted + report.duplicates);
    (report.admitted, report.duplicates)
}

/// The bodies of a file's lines in all partitions, by line.
pub(crate) fn there(node: &Node, file: u64) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    for ledger in ["metrics-0", "metrics-1", "metrics-2"] {
        let reader = node.handle.shared().reader(ledger).unwrap();
        for entry in reader.entries(1..reader.size()) {
            let (_, entry) = entry.unwrap();
            let leaf = leaf::split(&entry).unwrap();
            if leaf.header.file == Some(file) {
                lines.push((leaf.header.line.unwrap(), String::from_utf8(leaf.body.to_vec()).unwrap()));
            }
        }
    }
    lines.sort_unstable();
    lines
}

#[test]
fn lines_that_did_not_arrive_are_handed_in_again_and_claims_take_none() {
    let Some(stage) = Stage::new("files", 3) else { return };
    let node = stage.node();
    wait_for("the ledgers", SOON, || node.handle.shared().reader("metrics-2").map(|_| ()));
    let lines: Vec<String> = (0..60).map(|index| request(&format!("e{index}"), index, "0.02")).collect();
    let file = identity(FileKind::Metrics, &lines);
    assert_eq!(hand_in(&node, &file, &lines[..1]), (1, 0));
    // The sender repeats what it was not told of; the records have been read back, so none is there twice.
    assert_eq!(hand_in(&node, &file, &lines[..1]), (0, 1));
    let number = node.handle.shared().governance().files.values().next().unwrap().file;

    // What a sender leaves that was cut off: lines on all partitions up to 40, and of those 21 to 26 did not arrive.
    let claim = |body: &str, line: usize| {
        Record::new(body.as_bytes())
            .partition(i32::try_from(line % 3).unwrap())
            .header("gl-file", number.to_string())
            .header("gl-line", line.to_string())
    };
    let arrived = (2..=40).filter(|line| !(21..=26).contains(line));
    let mut records: Vec<Record> = arrived.map(|line| claim(&lines[line - 1], line)).collect();
    // And what a stranger may write: other bytes under lines of the file, and a line far beyond it.
    let forged = [(22, "{\"forged\":1}"), (50, "{\"forged\":2}"), (999_999_999, "{\"forged\":3}")];
    records.extend(forged.map(|(line, body)| claim(body, line)));
    stage.kafka.produce(&stage.metrics, &records);
    let size = || ["metrics-0", "metrics-1", "metrics-2"].iter().map(|ledger| node.size(ledger) - 1).sum::<u64>();
    wait_for("what was produced", SOON, || (size() == 1 + 33 + 3).then_some(()));

    assert_eq!(hand_in(&node, &file, &lines), (6 + 20, 34));
    assert_eq!(hand_in(&node, &file, &lines), (0, 60));
    let mut expected: Vec<(u64, String)> = (1..).zip(lines.iter().cloned()).collect();
    expected.extend(forged.map(|(line, body)| (line as u64, body.to_owned())));
    expected.sort_unstable();
    assert_eq!(there(&node, number), expected);

    // The same claims under the number of a governance file: its lines are taken all the same.
    let events: Vec<String> =
        (0..4).map(|second| event("llm_engine_published", &format!("h{second}"), "1", second)).collect();
    let log = identity(FileKind::Governance, &events);
    assert_eq!(hand_in(&node, &log, &events[..1]), (1, 0));
    let number = node.handle.shared().governance().files.values().last().unwrap().file;
    let record = Record::new(lines[0].as_bytes()).header("gl-file", number.to_string()).header("gl-line", "999999999");
    let before = size();
    stage.kafka.produce(&stage.metrics, &[record]);
    wait_for("the claim", SOON, || (size() == before + 1).then_some(()));
    assert_eq!(hand_in(&node, &log, &events), (3, 1));
    assert_eq!(node.ask(&format!("/v1/stacks/{STACK}/manifest"))["engine_hash"], "h3");
    assert_eq!(hand_in(&node, &log, &events), (0, 4));
    node.stop();
}

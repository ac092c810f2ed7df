//! The keys of a node are rotated while records come and cuts go on; a follower folds the same and accepts all of it. Whoever kept the
//! old keys and can produce to the topic has nothing.

use govledger::domain::cut::Cut;
use govledger::domain::envelope::{hex, seal};
use govledger::domain::principal::Role;
use govledger::projection::governance::Verdict;
use govledger::sequencer::{CommandOutcome, Saying};
use ledger::key::LedgerKey;
use serde_json::json;

use crate::node::{Node, SOON};
use crate::support::wait::wait_for;
use crate::{STACK, Stage, published};

/// Waits for two cuts from now on, so that one was made and read back under the keys of now.
fn two_cuts(stage: &Stage, node: &Node) {
    let last = || node.handle.shared().governance().last_cut.as_ref().map(|cut| cut.instant);
    for _ in 0..2 {
        let before = last();
        stage.requests(0, 1, "0.02");
        wait_for("a cut", SOON, || (last() > before).then_some(()));
    }
}

fn rotated(node: &Node, key: &str, ledger: bool) -> u64 {
    let request = if ledger { node.handle.ledger_key_rotation() } else { node.handle.node_key_rotation() }.unwrap();
    match node.command(Role::Admin, key, request) {
        CommandOutcome::Decided(outcome) if outcome.verdict == Verdict::Admitted => outcome.position,
        other @ (CommandOutcome::Decided(_) | CommandOutcome::Pending) => panic!("{other:?}"),
    }
}

#[test]
fn keys_rotate_while_cuts_go_on_and_a_follower_accepts_them() {
    let Some(stage) = Stage::new("rotations", 2) else { return };
    let (node, follower) = (stage.node(), stage.follower());
    let (first_node, first_ledger) = {
        let data = node.handle.data_dir();
        (data.node_key().unwrap(), data.verifier_key("governance").unwrap())
    };
    stage.report(&published());
    stage.requests(0, 30, "0.02");
    stage.requests(1, 30, "0.02");
    two_cuts(&stage, &node);
    for round in 0..2 {
        rotated(&node, &format!("n{round}"), false);
        two_cuts(&stage, &node);
        rotated(&node, &format!("l{round}"), true);
        two_cuts(&stage, &node);
    }

    // The first keys are out of force: what they sign is refused, and so is the signature of a stranger who calls himself an author.
    let cut = Cut { instant: node.handle.now().ceil_to_seconds(10), ledgers: Vec::new(), missing: Vec::new() };
    let report = json!({ "specversion": "1.0", "id": "forged", "source": "ci", "type": "llm_engine_published", "subject": STACK, "data": { "engine_hash": "sha256:66" } });
    let stranger = LedgerKey::generate([66; 32]);
    let forged = [
        Saying::cut(&cut).seal(&first_node).unwrap(),
        seal(report.to_string().as_bytes(), &first_node).unwrap(),
        seal(report.to_string().as_bytes(), &stranger).unwrap(),
    ];
    let before = node.size("governance");
    stage.report(&forged);
    let codes = || -> Vec<String> {
        let governance = node.handle.shared().governance();
        let new = governance.rejected.iter().filter(|row| row.position >= before);
        new.map(|row| row.refusal.code.to_string()).collect()
    };
    wait_for("the forged ones", SOON, || (codes().len() >= 3).then_some(()));
    assert_eq!(codes(), ["unknown_key"; 3]);
    two_cuts(&stage, &node);

    for (name, reader) in node.handle.shared().readers() {
        follower.wait_size(&name, reader.size());
    }
    follower.assert_same_trees(&node);
    assert_eq!((node.integrity_alarms(), follower.integrity_alarms()), (0, 0));
    let keys = |node: &Node| node.ask("/v1/keys");
    wait_for("the same keys", SOON, || (keys(&follower)["checkpoints"] == keys(&node)["checkpoints"]).then_some(()));
    assert_eq!(keys(&node)["checkpoints"].as_array().unwrap().len(), 2);
    assert_eq!(keys(&node)["nodes"].as_array().unwrap().len(), 3);
    let last = node.handle.shared().node_key().public();
    assert_eq!(hex(&last), hex(&node.handle.data_dir().node_key().unwrap().public()));
    follower.stop();
    let root = node.handle.data_dir().root().to_owned();
    node.stop();
    // A restart goes on with the last keys; the first one checks every ledger of the node.
    let node = stage.node();
    two_cuts(&stage, &node);
    assert_eq!(node.integrity_alarms(), 0);
    node.stop();
    for name in ["governance", "metrics-0", "metrics-1"] {
        let origin = format!("a/{name}");
        let first = ledger::VerifierKey::new(&origin, first_ledger.kind(), *first_ledger.public()).unwrap();
        let report = ledger::verify::audit(&root.join(name), &first, &|_| {}).unwrap();
        assert!(report.is_ok(), "{name}: {report:#?}");
    }
}

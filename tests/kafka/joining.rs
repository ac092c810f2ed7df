//! A further node joins a ledger that runs: it follows until two admins have enrolled its key, and then says and decides like the first.

use govledger::domain::command::{
    KeyConfirm, KeyRevoke, NodeEnroll, PrincipalEnroll, Request, WaiverDecision, WaiverScope, waiver_id,
};
use govledger::domain::envelope::{hex, key_id};
use govledger::domain::policy::Rule;
use govledger::domain::principal::{Role, token_sha256};
use govledger::domain::refusal::Code;
use govledger::projection::governance::Verdict;
use govledger::sequencer::CommandOutcome;
use serde_json::{Value, json};

use crate::node::{Node, SOON, init};
use crate::support::wait::wait_for;
use crate::{STACK, Stage, published};

/// The position of an admitted command, or the code of a refused one.
fn outcome(outcome: CommandOutcome) -> Result<u64, Code> {
    match outcome {
        CommandOutcome::Decided(outcome) => match outcome.verdict {
            Verdict::Admitted => Ok(outcome.position),
            Verdict::Refused(refusal) => Err(refusal.code),
            other @ Verdict::Duplicate { .. } => panic!("{other:?}"),
        },
        CommandOutcome::Pending => panic!("it is pending"),
    }
}

fn admin(name: &str) -> Request {
    Request::PrincipalEnroll(PrincipalEnroll {
        name: name.to_owned(),
        roles: [Role::Admin].into(),
        token_sha256: token_sha256(&format!("glt_{name}")),
        ..PrincipalEnroll::default()
    })
}

/// A waiver that ends in a few seconds, asked for at one node and approved at the other.
fn approved_waiver(first: &Node, second: &Node) -> String {
    let finance = PrincipalEnroll {
        name: "fin".to_owned(),
        roles: [Role::Finance].into(),
        token_sha256: token_sha256("glt_fin"),
        ..PrincipalEnroll::default()
    };
    outcome(first.command(Role::Admin, "fin", Request::PrincipalEnroll(finance))).unwrap();
    let expires = first.handle.now().plus_seconds(15);
    let scope = WaiverScope::new(Rule::LatencyP95, STACK, "a short one", "none", expires);
    let scope_sha256 = Some(scope.sha256());
    let position = outcome(first.command(Role::Admin, "ask", Request::WaiverRequest(scope))).unwrap();
    second.wait_size("governance", position + 1);
    let waiver = waiver_id(position);
    let decision = WaiverDecision { waiver: waiver.clone(), scope_sha256, reason: None };
    outcome(second.command_of("fin", Role::Finance, "say", Request::WaiverApprove(decision))).unwrap();
    waiver
}

fn refused_entries(node: &Node) -> usize {
    node.handle.shared().governance().rejected.len()
}

#[test]
fn a_further_node_is_enrolled_by_two_admins_while_the_first_one_runs() {
    let Some(stage) = Stage::new("joining", 1) else { return };
    let first = stage.node();
    stage.report(&published());
    stage.requests(0, 10, "0.02");
    outcome(first.command(Role::Admin, "ada", admin("ada"))).unwrap();
    let root = stage.scratch.join("second");
    init(&root, "b", stage.topics(), Some(&stage.scratch.join("data")));
    let second = Node::start(&root, &stage.config);
    second.wait_size("governance", first.size("governance"));

    // Not enrolled: it reads everything, says nothing, and what is asked of it is refused.
    let at_first = refused_entries(&first);
    let last_cut = |node: &Node| node.handle.shared().governance().last_cut.as_ref().map(|cut| cut.instant);
    for _ in 0..2 {
        let before = last_cut(&second);
        stage.requests(0, 1, "0.02");
        wait_for("a cut at the second node", SOON, || (last_cut(&second) > before).then_some(()));
    }
    assert!(!second.handle.is_enrolled());
    assert_eq!(refused_entries(&first), at_first, "the second node said something");
    assert_eq!(outcome(second.command(Role::Admin, "early", admin("eve"))), Err(Code::UnknownKey));

    // One admin is not enough, and is not two.
    let public = second.handle.node_key().public();
    let enroll = Request::NodeEnroll(NodeEnroll { node: "b".to_owned(), public_key: hex(&public) });
    let enrolled = outcome(first.command(Role::Admin, "enroll", enroll)).unwrap();
    let confirm = Request::KeyConfirm(KeyConfirm { key_id: key_id(&public), enrolled });
    let oneself = outcome(first.command(Role::Admin, "oneself", confirm.clone()));
    assert_eq!(oneself, Err(Code::CommandRefused));
    second.wait_size("governance", first.size("governance"));
    assert!(!second.handle.is_enrolled());
    outcome(first.command_of("ada", Role::Admin, "confirm", confirm)).unwrap();
    wait_for("the second node's enrolment", SOON, || second.handle.is_enrolled().then_some(()));

    // In force: what it vouches for has effect at both, and it goes on alone.
    outcome(second.command(Role::Admin, "late", admin("bo"))).unwrap();
    let waiver = approved_waiver(&first, &second);
    first.stop();
    for _ in 0..2 {
        let before = last_cut(&second);
        stage.requests(0, 1, "0.02");
        wait_for("a cut by the second node", SOON, || (last_cut(&second) > before).then_some(()));
    }
    let first = stage.node();
    first.wait_size("governance", second.size("governance"));
    first.wait_size("metrics-0", second.size("metrics-0"));
    first.assert_same_trees(&second);
    // What time brings about is said once, by however many nodes, one of which was away.
    for node in [&first, &second] {
        let ended = || node.ask("/v1/waivers")["waivers"].as_array().unwrap()[0]["status"] == "expired";
        wait_for("the waiver's end", SOON, || ended().then_some(()));
        for kind in ["llm_waiver_expiring", "llm_waiver_expired"] {
            let said = node.said().into_iter().filter(|(name, _)| name == kind).count();
            assert_eq!(said, 1, "{kind} of {waiver}");
        }
    }
    let row = |node: &Node| -> Value {
        let keys = node.ask("/v1/keys");
        keys["nodes"].as_array().unwrap().iter().find(|row| row["node"] == "b").unwrap().clone()
    };
    assert_eq!((&row(&first)["status"], &row(&first)["position"]), (&json!("in_force"), &json!(enrolled)));

    // Revoked: it follows again.
    let revoke = Request::KeyRevoke(KeyRevoke { key_id: key_id(&public), reason: "taken out of the rack".to_owned() });
    outcome(first.command(Role::Admin, "revoke", revoke)).unwrap();
    wait_for("the second node's end", SOON, || (!second.handle.is_enrolled()).then_some(()));
    assert_eq!(outcome(second.command(Role::Admin, "after", admin("eve"))), Err(Code::UnknownKey));
    assert_eq!(row(&first)["status"], "revoked");
    assert_eq!((first.integrity_alarms(), second.integrity_alarms()), (0, 0));
    second.stop();
    first.stop();
}

//! Who can only produce to the governance topic can report facts, and can approve nothing, raise no alert and move no cut.

use govledger::domain::command::{
    Command, PrincipalEnroll, PrincipalLimit, Request, WaiverDecision, WaiverScope, command_id, waiver_id,
};
use govledger::domain::cut::Cut;
use govledger::domain::envelope::key_id;
use govledger::domain::principal::{Role, token_sha256};
use govledger::domain::time::Time;
use govledger::projection::governance::Verdict;
use govledger::sequencer::{CommandOutcome, Saying, command_event};
use ledger::key::LedgerKey;
use serde_json::json;

use crate::node::{Node, SOON};
use crate::support::kafka::Record;
use crate::support::wait::wait_for;
use crate::{STACK, Stage, published};

const FAR: &str = "2030-01-01T00:00:00Z";

fn far() -> Time {
    FAR.parse().unwrap()
}

/// The position of a command that has to be admitted.
fn admitted(outcome: CommandOutcome) -> u64 {
    match outcome {
        CommandOutcome::Decided(outcome) if outcome.verdict == Verdict::Admitted => outcome.position,
        other @ (CommandOutcome::Decided(_) | CommandOutcome::Pending) => panic!("{other:?}"),
    }
}

fn enroll(node: &Node, name: &str, role: Role) {
    let request = PrincipalEnroll {
        name: name.into(),
        roles: [role].into(),
        token_sha256: token_sha256(&format!("glt_{name}")),
        ..PrincipalEnroll::default()
    };
    admitted(node.command(Role::Admin, name, Request::PrincipalEnroll(request)));
}

fn decision(waiver: &str, scope: &WaiverScope) -> WaiverDecision {
    WaiverDecision { waiver: waiver.into(), scope_sha256: Some(scope.sha256()), reason: None }
}

/// What the node says of a waiver: its status, and the alert that it covers.
fn standing(node: &Node, waiver: &str) -> (String, Option<String>) {
    let waivers = node.ask("/v1/waivers");
    let row = waivers["waivers"].as_array().unwrap().iter().find(|row| row["id"] == waiver).cloned().unwrap();
    let alerts = node.ask("/v1/alerts");
    let cover = alerts["alerts"].as_array().unwrap().iter().find_map(|alert| alert["covered_by"].as_str());
    (row["status"].as_str().unwrap().to_owned(), cover.map(str::to_owned))
}

/// Everything that an approval can be made to look like without a key of an enrolled node.
fn forged_approvals(node: &Node, waiver: &str, scope: &WaiverScope) -> Vec<String> {
    let stranger = LedgerKey::generate([66; 32]);
    let governance = node.handle.shared().reader("governance").unwrap();
    let command = Command {
        command_id: command_id("fin", "forged"),
        principal: "fin".into(),
        role: Role::Finance,
        not_after: far(),
        governance: ledger::tree::leaf_hash(&governance.entry(0).unwrap()),
        authenticated_by: "token".into(),
        request: Request::WaiverApprove(decision(waiver, scope)),
    };
    let sealed = command_event(&command, &stranger).unwrap();
    // The stranger's signature under the name of the node's own key.
    let mut renamed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    renamed["signatures"][0]["keyid"] = json!(key_id(&node.handle.data_dir().node_key().unwrap().public()));
    let event = json!({ "specversion": "1.0", "id": "x1", "source": "govledger", "type": "llm_waiver_approved", "subject": STACK, "data": command.data() });
    let legacy = json!({ "event_type": "waiver_granted", "artifact": { "artifact_id": STACK }, "actor": "fin", "payload": { "waiver_id": waiver, "owner": "fin", "expires_at": FAR }, "timestamp": "2026-10-01T08:30:05+00:00" });
    vec![sealed, renamed.to_string(), event.to_string(), legacy.to_string()]
}

#[test]
fn nothing_produced_straight_to_the_topic_approves_raises_or_cuts() {
    let Some(stage) = Stage::new("forgeries", 1) else { return };
    let node = stage.node();
    stage.report(&published());
    stage.requests(0, 30, "0.25");
    enroll(&node, "pat", Role::Publisher);
    enroll(&node, "fin", Role::Finance);
    let limit = PrincipalLimit { name: "fin".into(), finance_limit_usd: "100".parse().unwrap() };
    admitted(node.command(Role::Admin, "limit fin", Request::PrincipalLimit(limit)));
    let firing = |node: &Node| node.ask("/v1/alerts?state=firing")["alerts"].as_array().unwrap().len();
    wait_for("the alert", SOON, || (firing(&node) == 1).then_some(()));
    let scope = WaiverScope {
        cap_usd: Some("50".parse().unwrap()),
        ..WaiverScope::new(
            govledger::domain::policy::Rule::CostPerRequest,
            STACK,
            "launch week",
            "shorter prompts",
            far(),
        )
    };
    let waiver =
        waiver_id(admitted(node.command_of("pat", Role::Publisher, "r", Request::WaiverRequest(scope.clone()))));
    let refused = || node.handle.shared().governance().counts.refused;
    assert_eq!((standing(&node, &waiver), refused()), (("requested".into(), None), 0));

    let mut forged = forged_approvals(&node, &waiver, &scope);
    let stranger = LedgerKey::generate([66; 32]);
    let cut = Cut { instant: node.handle.now().ceil_to_seconds(10), ledgers: Vec::new(), missing: Vec::new() };
    forged.push(Saying::cut(&cut).seal(&stranger).unwrap());
    let alert = json!({ "specversion": "1.0", "id": "x2", "source": "provider", "type": "llm_observability_alert", "subject": STACK, "data": { "reason": "queue_delay", "rule": "latency_p95", "state": "firing", "engine_hash": "sha256:41", "severity": "page", "value": "900", "threshold": "800" } });
    forged.push(
        json!({ "specversion": "1.0", "id": "of a cut to come", "source": "govledger", "type": "of_some_kind" })
            .to_string(),
    );
    forged.push(alert.to_string());
    let before = node.size("governance");
    stage.report(&forged);
    // Each is in the ledger with its reason; the legacy grant and the alert are reports, which count as what they are.
    let last_forged = || {
        let offsets = stage.kafka.consume_all(&stage.governance);
        let last = forged.last().unwrap().as_bytes();
        offsets.iter().find(|record| record.payload.as_deref() == Some(last)).map(|record| record.offset)
    };
    let offset = u64::try_from(wait_for("the last of them", SOON, last_forged)).unwrap();
    node.wait_size("governance", offset + 2);
    let rejected = node.handle.shared().governance().rejected.clone();
    let codes: Vec<&str> =
        rejected.iter().filter(|row| row.position >= before).map(|row| row.refusal.code.as_str()).collect();
    assert_eq!(codes, ["unknown_key", "bad_signature", "envelope_required", "unknown_key", "envelope_required"]);
    assert_eq!(standing(&node, &waiver), ("requested".into(), None), "{codes:?}");
    assert_eq!(firing(&node), 1);

    // The real approval holds; after it was revoked, its own record produced again changes nothing.
    let approved =
        admitted(node.command_of("fin", Role::Finance, "a", Request::WaiverApprove(decision(&waiver, &scope))));
    assert_eq!(standing(&node, &waiver), ("approved".into(), Some(waiver.clone())));
    admitted(node.command_of("fin", Role::Finance, "v", Request::WaiverRevoke(decision(&waiver, &scope))));
    let records = stage.kafka.consume_all(&stage.governance);
    let offset = node.headers("governance")[usize::try_from(approved).unwrap() - 1].offset.unwrap();
    let approval = records.iter().find(|record| u64::try_from(record.offset) == Ok(offset)).unwrap_or_else(|| {
        panic!(
            "entry {approved} is of offset {offset}; {:?}",
            records.iter().map(|record| record.offset).collect::<Vec<_>>()
        )
    });
    let replayed = Record { headers: approval.headers.clone(), ..Record::new(approval.payload.clone().unwrap()) };
    let offset = stage.kafka.produce(&stage.governance, &[replayed])[0].1;
    node.wait_size("governance", u64::try_from(offset).unwrap() + 2);
    assert_eq!(standing(&node, &waiver), ("revoked".into(), None));
    assert_eq!(node.integrity_alarms(), 0);
    node.stop();
}

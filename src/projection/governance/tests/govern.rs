//! Two people for a policy and for the first key of a type; a node's key retires itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::domain::command::{
    KeyConfirm, KeyEnroll, KeyRevoke, MaintenanceEnd, MaintenanceWindow, NodeEnroll, NodeKeyRotate, PolicyDecision,
    PolicyProposal,
};
use crate::domain::envelope::key_id;
use crate::domain::policy::{Amount, Policy, Rule, RuleOverride};

fn bench() -> Bench {
    let mut bench = Bench::new();
    for name in ["ada", "bob"] {
        let enroll = PrincipalEnroll {
            name: name.into(),
            roles: [Role::Admin].into(),
            token_sha256: token_sha256(name),
            ..PrincipalEnroll::default()
        };
        assert_eq!(bench.ask("root", Role::Admin, name, Request::PrincipalEnroll(enroll)), Verdict::Admitted);
    }
    bench
}

fn with_threshold(revision: u64, ms: i64) -> Policy {
    let own = RuleOverride { threshold: Some(Amount(ms.into())), ..RuleOverride::default() };
    Policy { revision, rules: [(Rule::LatencyP95, own)].into(), ..Policy::default() }
}

fn propose(bench: &Bench, policy: &Policy) -> Request {
    let in_force = &bench.state.policy;
    Request::PolicyPropose(PolicyProposal {
        policy: Box::new(policy.clone()),
        replaces_sha256: in_force.sha256(),
        changes: in_force.changes_to(policy),
        reason: "slower engines".into(),
    })
}

fn decision(bench: &Bench, position: u64) -> PolicyDecision {
    let proposal = format!("policy-{position}");
    let asked = &bench.state.policies.get(&proposal).unwrap().proposal;
    PolicyDecision {
        proposal,
        policy_sha256: asked.policy.sha256(),
        replaces_sha256: asked.replaces_sha256.clone(),
        reason: None,
    }
}

fn field(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Refused(refusal) => refusal.field.as_deref().unwrap(),
        Verdict::Admitted | Verdict::Duplicate { .. } => panic!("not refused: {verdict:?}"),
    }
}

#[test]
fn a_policy_takes_two_people_and_is_in_force_from_the_approval() {
    let mut bench = bench();
    let policy = with_threshold(1, 900);
    let request = propose(&bench, &policy);
    assert_eq!(bench.ask("ada", Role::Admin, "p", request), Verdict::Admitted);
    let position = bench.state.size - 1;
    assert_eq!(bench.state.policy, Policy::default(), "proposed is not in force");
    let decided = decision(&bench, position);
    let approve = Request::PolicyApprove(decided.clone());
    let own = bench.ask("ada", Role::Admin, "own", approve.clone());
    assert_eq!((field(&own), refused(&own).1), ("principal", Some(position)));
    assert_eq!(field(&bench.ask("oncall", Role::Oncall, "o", approve.clone())), "role");
    let other = PolicyDecision { policy_sha256: with_threshold(1, 999).sha256(), ..decided.clone() };
    assert_eq!(field(&bench.ask("bob", Role::Admin, "h", Request::PolicyApprove(other))), "policy_sha256");
    let other = PolicyDecision { replaces_sha256: policy.sha256(), ..decided };
    assert_eq!(field(&bench.ask("bob", Role::Admin, "r", Request::PolicyApprove(other))), "replaces_sha256");
    assert_eq!(bench.state.policy, Policy::default());
    assert_eq!(bench.ask("bob", Role::Admin, "a", approve.clone()), Verdict::Admitted);
    let winner = bench.state.size - 1;
    assert_eq!((&bench.state.policy, bench.state.policy_position), (&policy, Some(winner)));
    // Two at once: the second is told the first one's position.
    assert_eq!(refused(&bench.ask("root", Role::Admin, "a2", approve)), (Code::CommandRefused, Some(winner)));
}

#[test]
fn a_stale_proposal_is_refused_with_the_position_of_what_changed() {
    let mut bench = bench();
    let (first, second) = (propose(&bench, &with_threshold(1, 900)), propose(&bench, &with_threshold(2, 700)));
    assert_eq!(bench.ask("ada", Role::Admin, "p1", first), Verdict::Admitted);
    let first = bench.state.size - 1;
    assert_eq!(bench.ask("bob", Role::Admin, "p2", second), Verdict::Admitted);
    let second = bench.state.size - 1;
    let approve = Request::PolicyApprove(decision(&bench, first));
    assert_eq!(bench.ask("bob", Role::Admin, "a1", approve), Verdict::Admitted);
    let changed = bench.state.size - 1;
    let approve = Request::PolicyApprove(decision(&bench, second));
    let stale = bench.ask("ada", Role::Admin, "a2", approve);
    assert_eq!((field(&stale), refused(&stale).1), ("replaces_sha256", Some(changed)));
    assert_eq!(bench.state.policy, with_threshold(1, 900));
    // So is one that is put forward over what is no longer in force.
    let late = Request::PolicyPropose(PolicyProposal {
        policy: Box::new(with_threshold(3, 700)),
        replaces_sha256: Policy::default().sha256(),
        changes: Vec::new(),
        reason: String::new(),
    });
    assert_eq!(refused(&bench.ask("ada", Role::Admin, "p3", late)), (Code::CommandRefused, Some(changed)));
}

#[test]
fn a_proposal_says_what_it_changes_and_nothing_else() {
    let mut bench = bench();
    let policy = with_threshold(1, 900);
    let Request::PolicyPropose(honest) = propose(&bench, &policy) else { panic!() };
    assert_eq!(honest.changes.len(), 1);
    let ask = |bench: &mut Bench, key: &str, proposal: PolicyProposal| {
        bench.ask("ada", Role::Admin, key, Request::PolicyPropose(proposal))
    };
    let silent = PolicyProposal { changes: Vec::new(), ..honest.clone() };
    assert_eq!(field(&ask(&mut bench, "1", silent)), "changes");
    let same = PolicyProposal { policy: Box::new(Policy { revision: 9, ..Policy::default() }), ..honest.clone() };
    assert_eq!(field(&ask(&mut bench, "2", same)), "policy");
    let behind = PolicyProposal { policy: Box::new(with_threshold(0, 900)), ..honest.clone() };
    assert_eq!(field(&ask(&mut bench, "3", behind)), "policy.revision");
    let broken = PolicyProposal { policy: Box::new(with_threshold(1, -1)), ..honest };
    assert_eq!(field(&ask(&mut bench, "4", broken)), "policy");
    assert_eq!(bench.state.policies.oldest_first().len(), 0);
}

#[test]
fn a_node_alone_puts_the_first_policy_in_force_and_no_other() {
    let mut bench = bench();
    let revised = |policy: &Policy, id: &str| json!({ "specversion": "1.0", "id": id, "source": "govledger", "type": "ledger_policy_revised", "data": policy });
    let body = bench.sealed(&revised(&with_threshold(1, 900), "first"));
    assert_eq!(bench.put(&body), Verdict::Admitted);
    let first = bench.state.size - 1;
    let body = bench.sealed(&revised(&with_threshold(2, 950), "second"));
    assert_eq!(refused(&bench.put(&body)), (Code::CommandRefused, Some(first)));
    assert_eq!(bench.state.policy, with_threshold(1, 900));
    // Once a cut has judged by what is built in, that is in force too.
    let mut bench = self::bench();
    assert_eq!(bench.cut(Time::from_seconds(1_000)), Verdict::Admitted);
    let body = bench.sealed(&revised(&with_threshold(1, 900), "late"));
    assert_eq!(refused(&bench.put(&body)), (Code::CommandRefused, None));
    assert_eq!(bench.state.policy, Policy::default());
}

#[test]
fn a_window_holds_until_its_end_or_until_it_is_ended() {
    let mut bench = bench();
    let window = |from, to| {
        Request::MaintenanceSet(MaintenanceWindow {
            stack: "s".into(),
            rules: [Rule::LatencyP95].into(),
            from: Time::from_seconds(from),
            to: Time::from_seconds(to),
            reason: "new driver".into(),
        })
    };
    assert_eq!(field(&bench.ask("oncall", Role::Oncall, "1", window(2_000, 2_000))), "to");
    assert_eq!(field(&bench.ask("oncall", Role::Oncall, "2", window(100, 1_000))), "to", "it is over already");
    assert_eq!(field(&bench.ask("oncall", Role::Oncall, "3", window(0, 8 * 86_400))), "to");
    assert_eq!(field(&bench.ask("pub", Role::Publisher, "4", window(0, 5_000))), "role");
    assert_eq!(bench.ask("oncall", Role::Oncall, "5", window(2_000, 3_000)), Verdict::Admitted);
    let id = format!("maintenance-{}", bench.state.size - 1);
    let holds = |bench: &Bench, stack: &str, rule: Rule, at: i64| {
        bench.state.maintenance.holds(stack, rule, Time::from_seconds(at)).is_some()
    };
    let at = [1_999, 2_000, 2_999, 3_000].map(|at| holds(&bench, "s", Rule::LatencyP95, at));
    assert_eq!(at, [false, true, true, false]);
    assert!(!holds(&bench, "t", Rule::LatencyP95, 2_500) && !holds(&bench, "s", Rule::QueueDelay, 2_500));
    bench.time = Time::from_seconds(2_400);
    let end = Request::MaintenanceEnd(MaintenanceEnd { window: id.clone(), reason: "done".into() });
    assert_eq!(bench.ask("ada", Role::Admin, "6", end.clone()), Verdict::Admitted);
    let ended = bench.state.size - 1;
    assert!(holds(&bench, "s", Rule::LatencyP95, 2_399) && !holds(&bench, "s", Rule::LatencyP95, 2_400));
    assert_eq!(refused(&bench.ask("ada", Role::Admin, "7", end)), (Code::CommandRefused, Some(ended)));
}

/// A published event of an author, in an envelope under `seed`'s key.
fn signed(id: &str, event_type: &str, seed: u8) -> String {
    let event = json!({ "specversion": "1.0", "id": id, "source": "ci", "type": event_type, "subject": "s", "data": { "engine_hash": "e" } });
    seal(&serde_json::to_vec(&event).unwrap(), &author(seed)).unwrap()
}

fn author(seed: u8) -> ledger::key::LedgerKey {
    ledger::key::LedgerKey::generate([seed; 32])
}

fn enroll(seed: u8, types: &[&str], replaces: Option<u8>) -> Request {
    Request::KeyEnroll(KeyEnroll {
        author: "ci".into(),
        public_key: hex(&author(seed).public()),
        event_types: types.iter().map(|name| (*name).to_owned()).collect(),
        replaces: replaces.map(|seed| key_id(&author(seed).public())),
    })
}

fn confirm(bench: &Bench, seed: u8) -> Request {
    let id = key_id(&author(seed).public());
    let enrolled = bench.state.keys.authors().iter().find(|(known, _)| **known == id).unwrap().1.enrolled.1;
    Request::KeyConfirm(KeyConfirm { key_id: id, enrolled })
}

const PUBLISHED: &str = "llm_engine_published";

#[test]
fn a_key_signs_its_types_from_the_second_admins_word_until_it_is_revoked() {
    let mut bench = bench();
    assert_eq!(refused(&bench.put(&signed("0", PUBLISHED, 7))), (Code::UnknownKey, None));
    assert_eq!(bench.ask("ada", Role::Admin, "e", enroll(7, &[PUBLISHED], None)), Verdict::Admitted);
    let enrolled = bench.state.size - 1;
    assert_eq!(refused(&bench.put(&signed("1", PUBLISHED, 7))), (Code::UnknownKey, Some(enrolled)), "it waits");
    let word = confirm(&bench, 7);
    assert_eq!(field(&bench.ask("ada", Role::Admin, "c1", word.clone())), "principal");
    assert_eq!(bench.ask("bob", Role::Admin, "c2", word), Verdict::Admitted);
    assert_eq!(bench.put(&signed("2", PUBLISHED, 7)), Verdict::Admitted);
    assert_eq!(refused(&bench.put(&signed("3", "llm_warmup_completed", 7))), (Code::KeyNotForType, Some(enrolled)));
    // The key of a type that has one takes one admin; a rotation revokes the old one in the same entry.
    assert_eq!(bench.ask("ada", Role::Admin, "r", enroll(8, &[PUBLISHED], Some(7))), Verdict::Admitted);
    let rotated = bench.state.size - 1;
    assert_eq!(bench.put(&signed("4", PUBLISHED, 8)), Verdict::Admitted);
    assert_eq!(refused(&bench.put(&signed("5", PUBLISHED, 7))), (Code::UnknownKey, Some(rotated)));
    let revoke = Request::KeyRevoke(KeyRevoke { key_id: key_id(&author(8).public()), reason: "lost".into() });
    assert_eq!(bench.ask("bob", Role::Admin, "v", revoke), Verdict::Admitted);
    assert_eq!(refused(&bench.put(&signed("6", PUBLISHED, 8))).0, Code::UnknownKey);
    // What it signed before still counts, and the same key is not enrolled again.
    assert!(bench.state.stacks.get("s").is_some());
    assert_eq!(field(&bench.ask("bob", Role::Admin, "again", enroll(8, &[PUBLISHED], None))), "public_key");
    // Without a key in force the next one takes two again.
    assert_eq!(bench.ask("ada", Role::Admin, "e9", enroll(9, &[PUBLISHED], None)), Verdict::Admitted);
    assert_eq!(refused(&bench.put(&signed("7", PUBLISHED, 9))).0, Code::UnknownKey);
}

#[test]
fn a_further_nodes_key_takes_two_admins_and_a_name_that_was_never_here() {
    let mut bench = bench();
    let node = |name: &str, seed: u8| {
        Request::NodeEnroll(NodeEnroll { node: name.into(), public_key: hex(&author(seed).public()) })
    };
    let mut asked = 0;
    let mut ask = |bench: &mut Bench, who: &str, request: Request| {
        asked += 1;
        bench.ask(who, Role::Admin, &format!("n{asked}"), request)
    };
    assert_eq!(field(&bench.ask("pub", Role::Publisher, "p", node("b", 50))), "role");
    for name in ["", "b/c", "n"] {
        assert_eq!(field(&ask(&mut bench, "ada", node(name, 50))), "node", "{name:?}");
    }
    assert_eq!(ask(&mut bench, "ada", node("b", 50)), Verdict::Admitted);
    let enrolled = bench.state.size - 1;
    assert_eq!(refused(&ask(&mut bench, "bob", node("b", 51))), (Code::CommandRefused, Some(enrolled)));
    assert_eq!(refused(&bench.put(&signed("0", PUBLISHED, 50))), (Code::UnknownKey, Some(enrolled)));
    let word = |enrolled| Request::KeyConfirm(KeyConfirm { key_id: key_id(&author(50).public()), enrolled });
    assert_eq!(field(&ask(&mut bench, "ada", word(enrolled))), "principal");
    assert_eq!(field(&ask(&mut bench, "bob", word(enrolled + 1))), "enrolled");
    assert_eq!(ask(&mut bench, "bob", word(enrolled)), Verdict::Admitted);
    assert_eq!(bench.state.keys.of_node("b"), Some(key_id(&author(50).public()).as_str()));
    assert_eq!(bench.put(&signed("1", PUBLISHED, 50)), Verdict::Admitted);
    let revoke =
        |seed: u8| Request::KeyRevoke(KeyRevoke { key_id: key_id(&author(seed).public()), reason: "gone".into() });
    assert_eq!(ask(&mut bench, "ada", revoke(50)), Verdict::Admitted);
    let revoked = bench.state.size - 1;
    assert_eq!(refused(&bench.put(&signed("2", PUBLISHED, 50))), (Code::UnknownKey, Some(revoked)));
    assert_eq!(field(&ask(&mut bench, "ada", node("b", 52))), "node", "a name is one node's for ever");
    // One that waits may be taken back, which leaves the name free.
    assert_eq!(ask(&mut bench, "ada", node("c", 53)), Verdict::Admitted);
    assert_eq!(ask(&mut bench, "bob", revoke(53)), Verdict::Admitted);
    assert_eq!(ask(&mut bench, "bob", node("c", 54)), Verdict::Admitted);
}

#[test]
fn an_author_says_nothing_for_the_service() {
    let mut bench = bench();
    assert_eq!(bench.ask("ada", Role::Admin, "e", enroll(7, &["of_some_kind", PUBLISHED], None)), Verdict::Admitted);
    let word = confirm(&bench, 7);
    assert_eq!(bench.ask("bob", Role::Admin, "c", word), Verdict::Admitted);
    let claim =
        json!({ "specversion": "1.0", "id": "soon", "source": "govledger", "type": "of_some_kind", "data": {} });
    let sealed = seal(&serde_json::to_vec(&claim).unwrap(), &author(7)).unwrap();
    assert_eq!(refused(&bench.put(&sealed)).0, Code::KeyNotForType);
    let command = bench.command("root", Role::Admin, "forged", enroll(9, &[PUBLISHED], None));
    let sealed = seal(&serde_json::to_vec(&Bench::event_of(&command)).unwrap(), &author(7)).unwrap();
    assert_eq!(refused(&bench.put(&sealed)).0, Code::KeyNotForType);
    for name in ["ledger_cut", "llm_waiver_approved", ""] {
        assert_eq!(
            field(&bench.ask("ada", Role::Admin, &format!("n{name}"), enroll(20, &[name], None))),
            "event_types"
        );
    }
}

#[test]
fn the_policy_may_demand_a_signature_and_a_nodes_is_none() {
    let mut bench = bench();
    let bare = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "ci", "type": PUBLISHED, "subject": "s", "data": { "engine_hash": "e" } });
    assert_eq!(bench.put(&bare("1").to_string()), Verdict::Admitted, "none by default");
    let demanding = Policy { revision: 1, required_signatures: [PUBLISHED.to_owned()].into(), ..Policy::default() };
    let request = propose(&bench, &demanding);
    assert_eq!(bench.ask("ada", Role::Admin, "p", request), Verdict::Admitted);
    let approve = Request::PolicyApprove(decision(&bench, bench.state.size - 1));
    assert_eq!(bench.ask("bob", Role::Admin, "a", approve), Verdict::Admitted);
    assert_eq!(refused(&bench.put(&bare("2").to_string())).0, Code::SignatureRequired);
    let legacy = r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s","hash":"h"},"payload":{}}"#;
    assert_eq!(refused(&bench.put(legacy)).0, Code::SignatureRequired);
    let by_node = bench.sealed(&bare("3"));
    assert_eq!(refused(&bench.put(&by_node)).0, Code::SignatureRequired);
    assert_eq!(bench.ask("ada", Role::Admin, "e", enroll(7, &[PUBLISHED], None)), Verdict::Admitted);
    let word = confirm(&bench, 7);
    assert_eq!(bench.ask("bob", Role::Admin, "c", word), Verdict::Admitted);
    assert_eq!(bench.put(&signed("4", PUBLISHED, 7)), Verdict::Admitted);
    // Another type is as free as before.
    let warm = json!({ "specversion": "1.0", "id": "5", "source": "ci", "type": "llm_warmup_completed", "subject": "s", "data": { "engine_hash": "e" } });
    assert_eq!(bench.put(&warm.to_string()), Verdict::Admitted);
}

#[test]
fn a_nodes_key_is_rotated_by_itself_alone() {
    let mut bench = bench();
    let (old, new) = (bench.key.clone(), author(40));
    let rotate = |proof_by: &ledger::key::LedgerKey, governance: &str| {
        let (old, new) = (key_id(&old.public()), hex(&new.public()));
        let statement = NodeKeyRotate::statement("n", &old, &new, governance);
        let proof = STANDARD.encode(proof_by.sign(statement.as_bytes()));
        Request::NodeKeyRotate(NodeKeyRotate { node: "n".into(), old, new, proof })
    };
    let genesis = bench.state.genesis.clone();
    assert_eq!(field(&bench.ask("ada", Role::Admin, "1", rotate(&author(41), &genesis))), "proof");
    assert_eq!(field(&bench.ask("ada", Role::Admin, "2", rotate(&new, "another ledger"))), "proof");
    assert_eq!(bench.ask("ada", Role::Admin, "3", rotate(&new, &genesis)), Verdict::Admitted);
    let rotated = bench.state.size - 1;
    // The old key says nothing more, whoever holds it; the new one does.
    assert_eq!(bench.cut(Time::from_seconds(1_000)), {
        let refusal = Refusal::new(
            Code::UnknownKey,
            "signatures.keyid".to_owned(),
            format!("key {} is out of force since position {rotated}", key_id(&old.public())),
        );
        Verdict::Refused(refusal.by(rotated))
    });
    bench.key = new.clone();
    assert_eq!(bench.cut(Time::from_seconds(1_000)), Verdict::Admitted);
    // Back to the old one it never goes.
    let statement = NodeKeyRotate::statement("n", &key_id(&new.public()), &hex(&old.public()), &genesis);
    let back = Request::NodeKeyRotate(NodeKeyRotate {
        node: "n".into(),
        old: key_id(&new.public()),
        new: hex(&old.public()),
        proof: STANDARD.encode(old.sign(statement.as_bytes())),
    });
    assert_eq!(field(&bench.ask("ada", Role::Admin, "4", back)), "new");
}

#[test]
fn a_policy_that_would_silence_the_service_is_not_put_forward() {
    for (rules_version, refused) in [(RULES_VERSION, true), (4, false)] {
        let mut bench = Bench::by(rules_version);
        let types = ["llm_observability_alert".to_owned()].into();
        let request = propose(&bench, &Policy { revision: 1, required_signatures: types, ..Policy::default() });
        let verdict = bench.ask("root", Role::Admin, "p", request);
        assert_eq!(verdict != Verdict::Admitted, refused, "version {rules_version}: {verdict:?}");
        if refused {
            assert_eq!(field(&verdict), "policy");
            assert!(format!("{verdict:?}").contains("llm_observability_alert"), "{verdict:?}");
        }
    }
}

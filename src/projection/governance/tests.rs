use serde_json::{Value, json};

mod govern;
mod people;

use super::*;
use crate::domain::command::{Command, NOT_AFTER_SECONDS, PrincipalLimit, WaiverDecision, WaiverScope, command_id};
use crate::domain::envelope::{hex, seal};
use crate::domain::leaf::Header;
use crate::domain::principal::token_sha256;
use crate::domain::settings::{FORMAT, FirstAdmin, NodeKey, RULES_VERSION, SourceSettings};
use crate::projection::ids::MemoryIds;

/// A governance ledger in memory: entries in, verdicts out.
struct Bench {
    state: Governance,
    ids: MemoryIds,
    key: ledger::key::LedgerKey,
    time: Time,
}

impl Bench {
    fn new() -> Self {
        Self::by(RULES_VERSION)
    }

    /// A ledger that was begun with this rules version.
    fn by(rules_version: u32) -> Self {
        let key = ledger::key::LedgerKey::generate([1; 32]);
        let settings = Settings {
            ledger: "governance".into(),
            format: FORMAT,
            rules_version,
            created: Time::default(),
            source: SourceSettings::Embedded,
            entry_bytes_max: ledger::ENTRY_BYTES_MAX,
            node_keys: vec![NodeKey { node: "n".into(), public_key: hex(&key.public()) }],
            admin: FirstAdmin { name: "root".into(), token_sha256: token_sha256("t") },
        };
        let mut bench =
            Self { state: Governance::default(), ids: MemoryIds::default(), key, time: Time::from_seconds(1_000) };
        bench.state.apply(0, &settings.entry().unwrap(), &mut bench.ids);
        for (name, role) in
            [("fin", Role::Finance), ("fin2", Role::Finance), ("oncall", Role::Oncall), ("pub", Role::Publisher)]
        {
            let enroll = PrincipalEnroll {
                name: name.into(),
                roles: [role].into(),
                token_sha256: token_sha256(name),
                ..Default::default()
            };
            assert_eq!(bench.ask("root", Role::Admin, name, Request::PrincipalEnroll(enroll)), Verdict::Admitted);
        }
        for name in ["fin", "fin2"] {
            assert_eq!(bench.limit(name, 1_000), Verdict::Admitted);
        }
        bench
    }

    fn limit(&mut self, name: &str, usd: i64) -> Verdict {
        let limit = PrincipalLimit { name: name.into(), finance_limit_usd: usd.into() };
        self.ask("root", Role::Admin, &format!("limit {name} {usd}"), Request::PrincipalLimit(limit))
    }

    fn put(&mut self, body: &str) -> Verdict {
        let mut entry = Header::at(self.time).line();
        entry.extend_from_slice(body.as_bytes());
        self.state.apply(self.state.size, &entry, &mut self.ids).verdict
    }

    fn sealed(&self, event: &Value) -> String {
        seal(&serde_json::to_vec(event).unwrap(), &self.key).unwrap()
    }

    fn command(&self, principal: &str, role: Role, idempotency_key: &str, request: Request) -> Command {
        Command {
            command_id: command_id(principal, idempotency_key),
            principal: principal.into(),
            role,
            not_after: self.time.plus_seconds(NOT_AFTER_SECONDS),
            governance: self.state.genesis.parse().unwrap(),
            authenticated_by: "token".into(),
            request,
        }
    }

    fn event_of(command: &Command) -> Value {
        json!({ "specversion": "1.0", "id": command.command_id, "source": "govledger", "type": command.request.event_type(), "data": command.data() })
    }

    fn ask(&mut self, principal: &str, role: Role, idempotency_key: &str, request: Request) -> Verdict {
        let command = self.command(principal, role, idempotency_key, request);
        let body = self.sealed(&Self::event_of(&command));
        self.put(&body)
    }

    fn cut(&mut self, instant: Time) -> Verdict {
        let cut = Cut { instant, ledgers: Vec::new(), missing: Vec::new() };
        let body = self.sealed(&json!({ "specversion": "1.0", "id": instant.to_string(), "source": "govledger", "type": "ledger_cut", "data": cut }));
        self.put(&body)
    }
}

fn refused(verdict: &Verdict) -> (Code, Option<u64>) {
    match verdict {
        Verdict::Refused(refusal) => (refusal.code, refusal.by_position),
        Verdict::Admitted | Verdict::Duplicate { .. } => panic!("not refused: {verdict:?}"),
    }
}

fn scope(expires: i64) -> WaiverScope {
    let rule = crate::domain::policy::Rule::CostPerRequest;
    WaiverScope {
        cap_usd: Some(rust_decimal::Decimal::from(50)),
        ..WaiverScope::new(rule, "s", "launch", "smaller prompts", Time::from_seconds(expires))
    }
}

fn approve(waiver: &str, scope: &WaiverScope) -> Request {
    Request::WaiverApprove(WaiverDecision { waiver: waiver.into(), scope_sha256: Some(scope.sha256()), reason: None })
}

#[test]
fn a_second_copy_of_a_legacy_line_is_a_duplicate() {
    let mut bench = Bench::new();
    let line = r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s","version":"1","hash":"h"},"actor":"ci","payload":{},"timestamp":"2026-10-01T08:30:00+00:00"}"#;
    assert_eq!(bench.put(line), Verdict::Admitted);
    let first = bench.state.size - 1;
    assert_eq!(bench.put(line), Verdict::Duplicate { of: first });
    assert_eq!(bench.state.verdict_at(first + 1), Verdict::Duplicate { of: first });
}

#[test]
fn an_id_with_other_bytes_is_a_conflict() {
    let mut bench = Bench::new();
    let event = |data: &str| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"ci","type":"x","subject":"s","data":{data}}}"#)
    };
    assert_eq!(bench.put(&event("{}")), Verdict::Admitted);
    let first = bench.state.size - 1;
    assert_eq!(refused(&bench.put(&event(r#"{"a":1}"#))), (Code::IdConflict, Some(first)));
}

#[test]
fn bad_input_is_refused_with_a_code_and_kept_in_view() {
    let mut bench = Bench::new();
    let before = bench.state.rejected.len();
    let check = |bench: &mut Bench, body: &str, code: Code| assert_eq!(refused(&bench.put(body)).0, code, "{body}");
    check(&mut bench, "{", Code::MalformedJson);
    check(&mut bench, r#"{"event_type": NaN}"#, Code::NotFiniteNumber);
    check(&mut bench, r#"{"event":"llm.request","duration_ms":1}"#, Code::WrongKind);
    check(&mut bench, r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s"}}"#, Code::MissingField);
    check(&mut bench, r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":5}}"#, Code::WrongType);
    check(&mut bench, r#"{"event_type":"llm_waiver_approved","payload":{}}"#, Code::EnvelopeRequired);
    check(&mut bench, r#"{"event_type":"ledger_cut","payload":{}}"#, Code::EnvelopeRequired);
    // The id of a saying to come is claimed by nobody else, whatever the type.
    let ours = r#"{"specversion":"1.0","id":"soon","source":"govledger","type":"of_some_kind","data":{}}"#;
    check(&mut bench, ours, Code::EnvelopeRequired);
    check(&mut bench, r#"{"payloadType":"text/plain","payload":"","signatures":[]}"#, Code::BadEnvelope);
    assert_eq!(bench.state.rejected.len(), before + 9);
    let other = ledger::key::LedgerKey::generate([2; 32]);
    let event = br#"{"specversion":"1.0","id":"1","source":"x","type":"t"}"#;
    let unknown = seal(event, &other).unwrap();
    check(&mut bench, &unknown, Code::UnknownKey);
    let genuine = bench.sealed(&json!({ "specversion": "1.0", "id": "9", "source": "x", "type": "t" }));
    let mut forged: Value = serde_json::from_str(&genuine).unwrap();
    forged["payload"] = serde_json::from_str::<Value>(&unknown).unwrap()["payload"].clone();
    check(&mut bench, &forged.to_string(), Code::BadSignature);
}

#[test]
fn an_unknown_type_is_admitted_and_shown() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.put(r#"{"event_type":"audit_completed","artifact":{"artifact_id":"s"},"actor":"a","payload":{}}"#),
        Verdict::Admitted
    );
    assert_eq!(bench.state.timeline.of("s").len(), 1);
}

#[test]
fn finance_decides_waivers_once_and_never_its_own() {
    let mut bench = Bench::new();
    let scope = scope(5_000);
    assert_eq!(bench.ask("fin", Role::Finance, "r", Request::WaiverRequest(scope.clone())), Verdict::Admitted);
    let waiver = format!("waiver-{}", bench.state.size - 1);
    assert_eq!(refused(&bench.ask("fin", Role::Finance, "a1", approve(&waiver, &scope))).0, Code::CommandRefused);
    assert_eq!(refused(&bench.ask("oncall", Role::Oncall, "a2", approve(&waiver, &scope))).0, Code::CommandRefused);
    assert_eq!(refused(&bench.ask("oncall", Role::Finance, "a3", approve(&waiver, &scope))).0, Code::CommandRefused);
    let mut other = scope.clone();
    other.cap_usd = Some(rust_decimal::Decimal::from(500));
    assert_eq!(refused(&bench.ask("fin2", Role::Finance, "a4", approve(&waiver, &other))).0, Code::CommandRefused);
    let covers =
        |bench: &Bench, at: i64| bench.state.waivers.covers("s", "h", scope.rule, Time::from_seconds(at)).is_some();
    assert!(!covers(&bench, 2_000));
    assert_eq!(bench.ask("fin2", Role::Finance, "a5", approve(&waiver, &scope)), Verdict::Admitted);
    let winner = bench.state.size - 1;
    assert!(covers(&bench, 2_000) && covers(&bench, 4_999) && !covers(&bench, 5_000) && !covers(&bench, 999));
    // Two at once: the second is told the first one's position. A repeat of the first is the first.
    let late = Request::WaiverRefuse(WaiverDecision { waiver: waiver.clone(), scope_sha256: None, reason: None });
    assert_eq!(refused(&bench.ask("fin2", Role::Finance, "a6", late)), (Code::CommandRefused, Some(winner)));
    assert_eq!(bench.ask("fin2", Role::Finance, "a5", approve(&waiver, &scope)), Verdict::Duplicate { of: winner });
    // Revoked: no cover from that instant.
    bench.time = Time::from_seconds(3_000);
    let revoke = Request::WaiverRevoke(WaiverDecision { waiver, scope_sha256: None, reason: Some("done".into()) });
    assert_eq!(bench.ask("fin", Role::Finance, "v", revoke), Verdict::Admitted);
    assert!(covers(&bench, 2_999) && !covers(&bench, 3_000));
}

#[test]
fn an_approver_has_a_limit_as_of_the_approval() {
    let mut bench = Bench::new();
    bench.limit("fin2", 49);
    let limited = bench.state.size - 1;
    let scope = scope(5_000);
    bench.ask("fin", Role::Finance, "r", Request::WaiverRequest(scope.clone()));
    let waiver = format!("waiver-{}", bench.state.size - 1);
    let check = |verdict: &Verdict, position: Option<u64>, amounts: [&str; 2]| match verdict {
        Verdict::Refused(refusal) => {
            assert_eq!((refusal.code, refusal.by_position), (Code::OverLimit, position), "{refusal:?}");
            assert!(amounts.iter().all(|amount| refusal.detail.contains(amount)), "{refusal:?}");
        }
        Verdict::Admitted | Verdict::Duplicate { .. } => panic!("{verdict:?}"),
    };
    let verdict = bench.ask("fin2", Role::Finance, "a1", approve(&waiver, &scope));
    check(&verdict, Some(limited), ["cap_usd of waiver-", "is 50, and finance_limit_usd of fin2 is 49"]);
    // Exactly the cap will do, and a limit that sinks later takes nothing back.
    bench.limit("fin2", 50);
    assert_eq!(bench.ask("fin2", Role::Finance, "a2", approve(&waiver, &scope)), Verdict::Admitted);
    bench.limit("fin2", 0);
    assert!(bench.state.waivers.covers("s", "h", scope.rule, Time::from_seconds(2_000)).is_some());

    // Without a limit nothing that has a cap is theirs to approve; what has none is.
    let enroll = PrincipalEnroll {
        name: "new".into(),
        roles: [Role::Finance].into(),
        token_sha256: token_sha256("new"),
        ..PrincipalEnroll::default()
    };
    bench.ask("root", Role::Admin, "new", Request::PrincipalEnroll(enroll));
    bench.ask("pub", Role::Publisher, "r2", Request::WaiverRequest(scope.clone()));
    let second = format!("waiver-{}", bench.state.size - 1);
    check(&bench.ask("new", Role::Finance, "a3", approve(&second, &scope)), None, ["is 50", "of new is 0"]);
    let latency = WaiverScope { rule: crate::domain::policy::Rule::LatencyP95, cap_usd: None, ..scope.clone() };
    bench.ask("pub", Role::Publisher, "r3", Request::WaiverRequest(latency.clone()));
    let third = format!("waiver-{}", bench.state.size - 1);
    assert_eq!(bench.ask("new", Role::Finance, "a4", approve(&third, &latency)), Verdict::Admitted);
    // Only an admin states limits, and none below nothing; whoever is revoked loses theirs.
    let own = PrincipalLimit { name: "fin".into(), finance_limit_usd: 5_000.into() };
    let own = bench.ask("fin", Role::Finance, "own", Request::PrincipalLimit(own));
    assert_eq!(refused(&own).0, Code::CommandRefused);
    assert_eq!(refused(&bench.limit("fin", -1)).0, Code::CommandRefused);
    let revoke = crate::domain::command::PrincipalRevoke { name: "fin".into() };
    bench.ask("root", Role::Admin, "gone", Request::PrincipalRevoke(revoke));
    assert_eq!(bench.state.principals.finance_limit_usd("fin"), None);
}

#[test]
fn a_scope_is_refused_with_the_field_named() {
    use crate::domain::policy::Rule;
    let mut bench = Bench::new();
    let mut tried = 0;
    let mut check = |scope: WaiverScope, expected: Option<&str>| {
        tried += 1;
        let verdict = bench.ask("pub", Role::Publisher, &format!("try {tried}"), Request::WaiverRequest(scope));
        let field = match &verdict {
            Verdict::Refused(refusal) => refusal.field.as_deref(),
            Verdict::Admitted | Verdict::Duplicate { .. } => None,
        };
        assert_eq!(field, expected, "{verdict:?}");
    };
    let good = scope(9_000);
    let of = |change: fn(&mut WaiverScope)| {
        let mut scope = good.clone();
        change(&mut scope);
        scope
    };
    check(good.clone(), None);
    check(of(|scope| scope.cap_usd = None), Some("cap_usd"));
    check(of(|scope| scope.cap_usd = Some(0.into())), Some("cap_usd"));
    check(of(|scope| scope.rule = Rule::QueueDelay), Some("cap_usd"));
    check(of(|scope| (scope.rule, scope.cap_usd) = (Rule::QueueDelay, None)), None);
    check(of(|scope| scope.justification = " ".into()), Some("justification"));
    check(of(|scope| scope.owner = Some(String::new())), Some("owner"));
    check(of(|scope| scope.alternatives = Some(" ".into())), Some("alternatives"));
    check(of(|scope| scope.advisories = vec!["CVE-1".into(), String::new()]), Some("advisories"));
    check(of(|scope| scope.expires = Time::from_seconds(1_000)), Some("expires"));
    check(of(|scope| scope.starts = Some(scope.expires)), Some("expires"));
    // Retroactive is said, and then has a start in the past that spend is kept by.
    check(of(|scope| scope.retroactive = true), Some("starts"));
    let starting = |seconds: i64| {
        let mut scope = good.clone();
        (scope.retroactive, scope.starts) = (true, Some(Time::from_seconds(seconds)));
        scope
    };
    check(starting(1_200), Some("starts"));
    check(starting(610), Some("starts"));
    check(starting(600 - 8 * 86_400), Some("starts"));
    check(starting(600), None);
    check(of(|scope| scope.reported = Some("legacy".into())), Some("reported"));
}

#[test]
fn an_early_start_covers_nothing_before_the_approval_unless_it_is_retroactive() {
    let mut bench = Bench::new();
    bench.time = Time::from_seconds(2_000);
    for (retroactive, begins) in [(false, 2_100), (true, 1_200)] {
        let scope = WaiverScope { starts: Some(Time::from_seconds(1_200)), retroactive, ..scope(5_000) };
        bench.ask("pub", Role::Publisher, &format!("r{retroactive}"), Request::WaiverRequest(scope.clone()));
        let waiver = format!("waiver-{}", bench.state.size - 1);
        bench.time = Time::from_seconds(2_100);
        bench.ask("fin", Role::Finance, &format!("a{retroactive}"), approve(&waiver, &scope));
        let waivers = &bench.state.waivers;
        let first =
            (0..6_000).step_by(10).find(|at| waivers.covers("s", "h", scope.rule, Time::from_seconds(*at)).is_some());
        assert_eq!(first, Some(begins));
        let flagged = waivers.covers_retroactively("s", "h", scope.rule, Time::from_seconds(1_500));
        assert_eq!(flagged.is_some(), retroactive);
        assert_eq!(waivers.covers_retroactively("s", "h", scope.rule, Time::from_seconds(2_500)), None);
        bench.time = Time::from_seconds(2_000);
    }
}

#[test]
fn what_the_legacy_log_grants_covers_nothing() {
    let mut bench = Bench::new();
    let line = r#"{"event_type":"waiver_granted","artifact":{"artifact_id":"s"},"actor":"a","payload":{"waiver_id":"w","owner":"o","expires_at":"2030-01-01T00:00:00Z"}}"#;
    assert_eq!(bench.put(line), Verdict::Admitted);
    assert_eq!(bench.state.waivers.get("w").unwrap().status, crate::projection::waivers::Status::Reported);
    for rule in crate::domain::policy::Rule::ALL {
        assert!(bench.state.waivers.covers("s", "h", rule, bench.time).is_none());
    }
}

#[test]
fn a_command_lapses_and_leaves_its_id_free() {
    let mut bench = Bench::new();
    let command = bench.command("pub", Role::Publisher, "k", Request::WaiverRequest(scope(9_000)));
    let body = bench.sealed(&Bench::event_of(&command));
    bench.time = Time::from_seconds(1_100);
    assert_eq!(bench.cut(Time::from_seconds(1_100)), Verdict::Admitted);
    assert_eq!(refused(&bench.put(&body)).0, Code::CommandRefused);
    assert!(!bench.state.commands.contains_key(&command.command_id));
    assert_eq!(bench.ask("pub", Role::Publisher, "k", Request::WaiverRequest(scope(9_000))), Verdict::Admitted);
}

#[test]
fn the_first_cut_of_an_instant_counts_and_cuts_only_go_forward() {
    let mut bench = Bench::new();
    assert_eq!(bench.cut(Time::from_seconds(1_000)), Verdict::Admitted);
    let first = bench.state.size - 1;
    assert_eq!(bench.cut(Time::from_seconds(1_000)), Verdict::Duplicate { of: first });
    assert_eq!(refused(&bench.cut(Time::from_seconds(990))).0, Code::LateCut);
    assert_eq!(refused(&bench.cut(Time::from_seconds(1_070))).0, Code::LateCut);
    assert_eq!(refused(&bench.cut(Time::from_seconds(1_005))).0, Code::LateCut);
    assert_eq!(bench.cut(Time::from_seconds(1_060)), Verdict::Admitted);
}

#[test]
fn folding_again_gives_the_same_state() {
    let mut bench = Bench::new();
    bench.put("{");
    bench.put(r#"{"event_type":"x","artifact":{"artifact_id":"s"}}"#);
    let text = serde_json::to_string(&bench.state).unwrap();
    let back: Governance = serde_json::from_str(&text).unwrap();
    assert_eq!(back.digest(), bench.state.digest());
}

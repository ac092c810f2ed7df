use super::*;

/// `p41` publishes 41, `p41m2` with manifest 2, `w41` warms it up, `f41` fails to, `r41` rolls back to it, `a41` adopts it,
/// `c41` condemns and `i41` reinstates it. Positions count from 1; an entry's time is its position in seconds.
fn fold(script: &str) -> Stack {
    let mut stacks = Stacks::default();
    for (position, step) in (1..).zip(script.split_whitespace()) {
        let (kind, rest) = step.split_at(1);
        let (hash, manifest) = rest.split_once('m').unwrap_or((rest, ""));
        let engine = EngineRef { engine_hash: hash.to_owned(), version: None };
        let manifest = (!manifest.is_empty()).then(|| serde_json::from_str(manifest).unwrap());
        let judgement = || crate::domain::command::EngineJudgement {
            stack: "s".into(),
            engine_hash: hash.into(),
            reason: "why".into(),
        };
        let command = |request| {
            Event::Command(Box::new(Command {
                command_id: String::new(),
                principal: String::new(),
                role: crate::domain::principal::Role::Oncall,
                not_after: Time::default(),
                governance: ledger::tree::EMPTY_ROOT,
                authenticated_by: "".into(),
                request,
            }))
        };
        let event = match kind {
            "p" => Event::EnginePublished { engine, manifest, waivers: Vec::new() },
            "w" => Event::WarmupCompleted { engine, rehearsal: false },
            "h" => Event::WarmupFailed { engine, rehearsal: true, error: None },
            "f" => Event::WarmupFailed { engine, rehearsal: false, error: None },
            "r" => Event::RollbackCompleted { restored: engine, replaced: None, manifest, reason: None, attempt: None },
            "c" => command(Request::EngineCondemn(judgement())),
            "i" => command(Request::EngineReinstate(judgement())),
            "a" => command(Request::EngineAdopt(crate::domain::command::EngineAdopt {
                stack: "s".into(),
                engine_hash: hash.into(),
                version: None,
                manifest,
            })),
            other => panic!("no step {other}"),
        };
        stacks.apply(position, Time::from_seconds(i64::try_from(position).unwrap()), Some("s"), &event);
    }
    stacks.get("s").unwrap().clone()
}

fn gate(script: &str, rollout: Rollout) -> (bool, Option<String>, u64) {
    let gate = fold(script).gate(rollout);
    (gate.open, gate.engine_hash, gate.position)
}

#[test]
fn the_gate_in_place() {
    let check = |script: &str, open: bool, engine: &str, position: u64| {
        assert_eq!(gate(script, Rollout::InPlace), (open, Some(engine.to_owned()), position), "{script}");
    };
    check("p41", false, "41", 1);
    check("p41 w41", true, "41", 2);
    check("p41 w41 f41", false, "41", 3);
    check("p41 w41 h41", true, "41", 2);
    check("p41 w41 p42", false, "42", 3);
    // A warm-up counts whether it comes before or after the rollback is recorded.
    check("p41 w41 p42 w42 r41 w41", true, "41", 6);
    check("p41 w41 p42 w42 w41 r41", true, "41", 6);
    check("p41 w41 p42 w42 r41", false, "41", 5);
    // Reports on other engines move no gate.
    check("p41 w41 f42", true, "41", 2);
    check("a41", true, "41", 1);
}

#[test]
fn the_gate_side_by_side() {
    let check = |script: &str, open: bool, engine: &str| {
        let (is_open, for_engine, _) = gate(script, Rollout::SideBySide);
        assert_eq!((is_open, for_engine.as_deref()), (open, Some(engine)), "{script}");
    };
    check("p41 w41 p42", true, "41");
    check("p41 w41 p42 f42", true, "41");
    check("p41 w41 p42 w42", true, "42");
    check("p41 w41 p42 c41", false, "42");
    check("p41 w41 p42 w42 r43", false, "43");
    check("p41", false, "41");
}

#[test]
fn stints() {
    let stint = |script: &str| {
        fold(script).stint.map(|stint| (stint.engine_hash, stint.position, stint.manifest_position)).unwrap()
    };
    assert_eq!(stint("p41m1 p41m1"), ("41".into(), 1, 1));
    assert_eq!(stint("p41m1 p41"), ("41".into(), 1, 1));
    assert_eq!(stint("p41m1 p41m2"), ("41".into(), 2, 2));
    // The first manifest published for an adopted engine starts no stint; the second does.
    assert_eq!(stint("a41 p41m1"), ("41".into(), 1, 2));
    assert_eq!(stint("a41 p41m1 p41m2"), ("41".into(), 3, 3));
    // A rollback to the current engine restores the manifest that it names and marks nothing.
    assert_eq!(stint("p41m1 r41m2"), ("41".into(), 1, 2));
    assert!(fold("p41m1 r41m2").engines["41"].last_finished.is_none());
    // What is restored without a manifest is the one in force when that engine last served.
    let restored = fold("p41m1 p41m2 p42m3 r41").stint.unwrap();
    assert_eq!(restored.manifest.unwrap().text(), "2");
}

#[test]
fn unapproved_engines() {
    let check = |script: &str, engine: &str, expected: Option<&str>| {
        assert_eq!(fold(script).unapproved(engine), expected, "{script}");
    };
    check("p41 w41", "41", None);
    check("p41 w41", "99", Some("unpublished"));
    check("p41", "41", Some("never_warmed_up"));
    check("p41 f41", "41", Some("warmup_failed"));
    check("p41 w41 c41", "41", Some("condemned"));
    check("p41 w41 c41 i41", "41", None);
    check("p41 w41 p42 w42 r41", "42", Some("rolled_back_from"));
    check("p41 w41 p42 w42 r41", "41", None);
    check("p41 w41 p42 w42 r41 p42", "42", None);
}

#[test]
fn records_count_where_their_engine_is_current_else_where_it_last_was() {
    let mut stacks = Stacks::default();
    let publish = |hash: &str| Event::EnginePublished {
        engine: EngineRef { engine_hash: hash.into(), version: None },
        manifest: None,
        waivers: Vec::new(),
    };
    for (position, stack, hash) in [(1, "a", "41"), (2, "b", "41"), (3, "a", "42"), (4, "b", "43")] {
        stacks.apply(position, Time::default(), Some(stack), &publish(hash));
    }
    assert_eq!(stacks.attribute("42", "m"), ["a"]);
    assert_eq!(stacks.attribute("41", "m"), ["b"]);
    assert_eq!(stacks.attribute("99", "m"), ["m"]);
}

#[test]
fn contradictions_are_admitted_and_flagged() {
    let stack = fold("p41 w41 r99");
    assert_eq!(stack.current(), Some("99"));
    assert_eq!(stack.contradictions.len(), 1);
}

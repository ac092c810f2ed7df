//! While a rollback holds the gate closed nobody is to send traffic, and silence is no finding.

use super::*;
use crate::domain::rollback::{RollbackAbandon, RollbackClaim, RollbackStep, RollbackWork, Stage, StageState};

impl Bench {
    fn rollback(&mut self, work: RollbackWork) {
        self.observe(&Event::Command(Box::new(Command {
            command_id: String::new(),
            principal: "ann".into(),
            role: Role::Publisher,
            not_after: Time::default(),
            governance: ledger::Hash([0; 32]),
            authenticated_by: "token".into(),
            request: Request::RollbackWork(work),
        })));
    }

    /// Claims a rollback to `to`, and lets the server be touched; the attempt.
    fn reload_begun(&mut self, to: &str, rehearsal: bool) -> u64 {
        let attempt = self.position;
        self.rollback(RollbackWork::Claim(RollbackClaim::of("s", to, rehearsal)));
        self.step(attempt, Stage::Reload, StageState::Begun);
        attempt
    }

    fn step(&mut self, attempt: u64, stage: Stage, is: StageState) {
        let step = RollbackStep { stack: "s".into(), attempt, stage, state: is, code: None, detail: String::new() };
        self.rollback(RollbackWork::Step(step));
    }
}

#[test]
fn silence_is_no_finding_while_a_rollback_holds_the_gate_closed_and_is_one_again_after_it() {
    let mut bench = Bench::new();
    bench.publish("b");
    bench.run(1, "b", FAST, 20);
    let attempt = bench.reload_begun("a", false);
    assert_eq!(said(&bench.run(200, "b", FAST, 0)), [], "half an hour under way");
    bench.step(attempt, Stage::WarmUp, StageState::Failed);
    assert_eq!(said(&bench.run(200, "b", FAST, 0)), [], "half an hour stopped");
    let engine = EngineRef { engine_hash: "a".into(), version: None };
    bench.observe(&Event::RollbackCompleted {
        restored: engine.clone(),
        replaced: None,
        manifest: None,
        reason: None,
        attempt: Some(attempt),
    });
    bench.observe(&Event::WarmupCompleted { engine, rehearsal: false });
    // The engine that came back begins afresh: ten minutes of its own.
    assert_eq!(said(&bench.run(59, "a", FAST, 0)), []);
    let found = bench.run(2, "a", FAST, 0);
    let found: Vec<_> = said(&found).into_iter().map(|(_, rule, how)| (rule, how)).collect();
    assert_eq!(found, [("silent", "fires".to_owned())]);
}

#[test]
fn a_silence_that_fires_ends_when_the_gate_closes_and_a_rehearsal_does_not_end_it() {
    let mut bench = Bench::new();
    bench.run(1, "a", FAST, 20);
    assert_eq!(said(&bench.run(61, "a", FAST, 0)), [(610, "silent", "fires".to_owned())]);
    let practice = bench.reload_begun("a", true);
    assert_eq!(said(&bench.run(60, "a", FAST, 0)), [], "practice closes nothing: it goes on firing");
    bench.rollback(RollbackWork::Abandon(RollbackAbandon { stack: "s".into(), attempt: practice, reason: "r".into() }));
    bench.reload_begun("a", false);
    let found = bench.run(60, "a", FAST, 0);
    let ended = said(&found);
    assert_eq!(ended.iter().map(|(_, rule, how)| (*rule, how.as_str())).collect::<Vec<_>>(), [("silent", "recovered")]);
}

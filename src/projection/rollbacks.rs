//! Rollbacks under way: who holds one, how far it is, and whether it closes the gate.
//!
//! Invariants: one attempt holds the rollback of a stack; which one, entries decide by their position, so of two claims at
//! once the second is refused with the first as the reason. An attempt that was taken over, or has ended, says nothing any
//! more. The gate closes by the entry before the server is touched or by the one that says where it stopped, whichever is
//! first, and stays closed until a completion or an abandonment; a rehearsal closes nothing. Nothing here reads a clock:
//! whether a process is gone is the claimant's word, and is shown as such.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stacks::Stacks;
use crate::domain::command::Request;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::rollback::{RollbackClaim, RollbackStep, RollbackWork, Stage, StageState, rollback_id};
use crate::domain::settings::RULES_ENDINGS;
use crate::domain::time::Time;

/// A rollback is to be done once in so long, if only for practice: 30 days.
const REHEARSAL_SECONDS: i64 = 30 * 86_400;

/// A rollback that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Run {
    /// Its id, from the entry that began it.
    pub id: String,
    /// The entry of the claim that holds it.
    pub attempt: u64,
    /// Who holds it.
    pub holder: String,
    /// What they claimed.
    pub claim: RollbackClaim,
    /// When they claimed it.
    pub since: Time,
    /// The engine that was current when it began.
    pub from: Option<String>,
    /// Stages done, with the entries that say so.
    pub done: BTreeMap<Stage, u64>,
    /// The entry that closed the gate.
    pub closed_by: Option<u64>,
    /// Whether the server was touched, by the entry before.
    pub touched: bool,
    /// Where it stopped, until somebody goes on.
    pub stopped: Option<Stopped>,
}

/// Where a rollback stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Stopped {
    /// The entry that says so.
    pub position: u64,
    /// The stage that failed.
    pub stage: Stage,
    /// Why, by code.
    pub code: Option<String>,
    /// Why, in words.
    pub detail: String,
}

/// When something was last done, and the entry that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Last {
    /// The entry's time.
    pub time: Time,
    /// The entry.
    pub position: u64,
}

/// The rollbacks of one stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollbacks {
    /// The one under way.
    pub run: Option<Run>,
    /// The last that was completed by its attempt.
    pub completed: Option<Last>,
    /// The last that was done for practice.
    pub rehearsed: Option<Last>,
    /// The last attempt that ended, and the entry that ended it.
    ended: Option<(u64, u64)>,
}

impl Rollbacks {
    /// The entry that closed the gate, and why.
    pub fn closes(&self) -> Option<(u64, String)> {
        let run = self.run.as_ref()?;
        let position = run.closed_by?;
        let at = run.stopped.as_ref().map_or_else(
            || "is under way".to_owned(),
            |stopped| format!("stopped at {}: {}", stopped.stage.as_str(), stopped.detail),
        );
        Some((position, format!("the rollback {} by {} {at}", run.id, run.holder)))
    }

    /// When the way back has to have been gone again: 30 days after it last was, counted from `first` where it never was.
    pub fn rehearsal_due(&self, first: Time) -> Time {
        let times = [self.completed, self.rehearsed].into_iter().flatten().map(|last| last.time);
        times.max().unwrap_or(first).plus_seconds(REHEARSAL_SECONDS)
    }

    fn claim(&mut self, position: u64, time: Time, principal: &str, claim: &RollbackClaim, current: Option<&str>) {
        let before = self.run.take();
        let fresh = Run {
            id: rollback_id(position),
            attempt: position,
            holder: principal.to_owned(),
            claim: claim.clone(),
            since: time,
            from: current.map(str::to_owned),
            done: BTreeMap::new(),
            closed_by: None,
            touched: false,
            stopped: None,
        };
        self.run = Some(match before {
            None => fresh,
            // Practice leaves nothing that another rollback could go on from.
            Some(run) if run.claim.rehearsal && !continues(&run, claim) => fresh,
            // What was done stays done; the gate stays as it is.
            Some(run) => Run {
                id: run.id,
                from: run.from,
                done: run.done,
                closed_by: run.closed_by,
                touched: run.touched,
                ..fresh
            },
        });
    }

    fn step(&mut self, position: u64, time: Time, step: &RollbackStep) {
        let Some(run) = self.run.as_mut() else { return };
        let moves = !run.claim.rehearsal;
        match step.state {
            StageState::Begun if step.stage == Stage::Reload => {
                run.done.retain(|stage, _| *stage < Stage::Reload);
                run.touched = moves;
                if moves {
                    run.closed_by.get_or_insert(position);
                }
            }
            StageState::Begun => {}
            StageState::Done => {
                run.done.insert(step.stage, position);
                if step.stage == Stage::Complete {
                    self.rehearsed = Some(Last { time, position });
                    self.end(position);
                }
            }
            StageState::Failed => {
                run.stopped =
                    Some(Stopped { position, stage: step.stage, code: step.code.clone(), detail: step.detail.clone() });
                if moves {
                    run.closed_by.get_or_insert(position);
                }
            }
        }
    }

    fn end(&mut self, position: u64) {
        if let Some(run) = self.run.take() {
            self.ended = Some((run.attempt, position));
        }
    }

    /// Folds an admitted command. Whether the current engine has to be warmed up again.
    pub fn apply(
        &mut self,
        position: u64,
        time: Time,
        principal: &str,
        work: &RollbackWork,
        current: Option<&str>,
    ) -> bool {
        match work {
            RollbackWork::Claim(claim) => self.claim(position, time, principal, claim, current),
            RollbackWork::Step(step) => self.step(position, time, step),
            RollbackWork::Abandon(_) => {
                let touched = self.run.as_ref().is_some_and(|run| run.touched);
                self.end(position);
                return touched;
            }
        }
        false
    }

    /// Folds a reported rollback that names its attempt; what is odd about it.
    ///
    /// By the rules of older ledgers one that names an attempt which ended is not odd, however it ended.
    pub fn complete(&mut self, position: u64, time: Time, attempt: u64, rules_version: u32) -> Option<String> {
        match &self.run {
            Some(run) if run.attempt == attempt && !run.claim.rehearsal => {
                self.completed = Some(Last { time, position });
                self.end(position);
                None
            }
            Some(run) => Some(format!(
                "a rollback was completed by attempt {attempt}; {} holds it by entry {}",
                run.holder, run.attempt
            )),
            None if self.ended.is_some_and(|(ended, _)| ended == attempt) => {
                self.after_end(attempt).filter(|_| rules_version >= RULES_ENDINGS)
            }
            None => Some(format!("a rollback was completed by attempt {attempt}, which the ledger does not know")),
        }
    }
}

impl Rollbacks {
    /// What is odd about a completion by the attempt that ended last. It ended at the entry of its completion, of a rehearsal's, or
    /// of an abandonment.
    fn after_end(&self, attempt: u64) -> Option<String> {
        let (_, ended) = self.ended?;
        let is_at = |last: Option<Last>| last.is_some_and(|last| last.position == ended);
        // The same completion told a second time.
        if is_at(self.completed) {
            return None;
        }
        let how = if is_at(self.rehearsed) { "was a rehearsal that ended" } else { "was abandoned" };
        Some(format!("a rollback was completed by attempt {attempt}, which {how} at entry {ended}"))
    }
}

/// Decides about a command of a rollback: nothing, or why not.
pub fn decide(stacks: &Stacks, request: &Request) -> Result<(), Refusal> {
    let Request::RollbackWork(work) = request else { return Ok(()) };
    let stack = stacks
        .get(work.stack())
        .ok_or_else(|| refuse("stack", format!("the ledger has never heard of stack {:?}", work.stack())))?;
    match work {
        RollbackWork::Claim(claim) => {
            for (field, value) in [("to", &claim.to), ("backup_id", &claim.backup_id), ("reason", &claim.reason)] {
                if value.trim().is_empty() {
                    return Err(refuse(field, format!("field `{field}` is empty")));
                }
            }
            let engine = stack.engines.get(&claim.to).filter(|engine| engine.first_published.is_some());
            let engine =
                engine.ok_or_else(|| refuse("to", format!("{} was never published on {}", claim.to, claim.stack)))?;
            if let Some((position, reason)) = &engine.condemned {
                return Err(refuse("to", format!("{} is condemned: {reason}", claim.to)).by(*position));
            }
            free(&stack.rollbacks, claim)
        }
        RollbackWork::Step(step) => {
            let run = held(&stack.rollbacks, step.attempt)?;
            if let Some(stopped) = &run.stopped {
                let detail = format!("the attempt stopped at {}; claim it again to go on", stopped.stage.as_str());
                return Err(refuse("attempt", detail).by(stopped.position));
            }
            if step.stage == Stage::Complete && !run.claim.rehearsal {
                return Err(refuse("stage", "a rollback is completed by llm_rollback_completed, a rehearsal by this"));
            }
            Ok(())
        }
        RollbackWork::Abandon(abandon) if abandon.reason.trim().is_empty() => {
            Err(refuse("reason", "field `reason` is empty"))
        }
        RollbackWork::Abandon(abandon) => held(&stack.rollbacks, abandon.attempt).map(|_run| ()),
    }
}

/// Whether a claim may be made with what is under way.
fn free(rollbacks: &Rollbacks, claim: &RollbackClaim) -> Result<(), Refusal> {
    let Some(run) = &rollbacks.run else {
        return match (claim.takes_over, rollbacks.ended) {
            (None, _) => Ok(()),
            (Some(attempt), Some((ended, position))) if attempt == ended => {
                Err(refuse("takes_over", format!("the attempt of entry {attempt} ended at entry {position}"))
                    .by(position))
            }
            (Some(attempt), _) => Err(refuse("takes_over", format!("no rollback is held by entry {attempt}"))),
        };
    };
    let held = format!(
        "{} holds the {} to {} since {} (entry {}, {} on {})",
        run.holder,
        if run.claim.rehearsal { "rehearsal of a rollback" } else { "rollback" },
        run.claim.to,
        run.since,
        run.attempt,
        run.claim.process,
        run.claim.host
    );
    if run.stopped.is_none() && claim.takes_over != Some(run.attempt) {
        return Err(refuse("takes_over", held).by(run.attempt));
    }
    // A rehearsal gives way: it moved nothing.
    if !run.claim.rehearsal && !continues(run, claim) {
        let detail = format!("{held}; go on with the same engine and backup, or abandon it first");
        return Err(refuse("to", detail).by(run.attempt));
    }
    Ok(())
}

fn continues(run: &Run, claim: &RollbackClaim) -> bool {
    run.claim.to == claim.to && run.claim.rehearsal == claim.rehearsal && run.claim.backup_id == claim.backup_id
}

fn held(rollbacks: &Rollbacks, attempt: u64) -> Result<&Run, Refusal> {
    match &rollbacks.run {
        Some(run) if run.attempt == attempt => Ok(run),
        Some(run) => {
            Err(refuse("attempt", format!("{} holds the rollback by entry {}", run.holder, run.attempt))
                .by(run.attempt))
        }
        None => {
            let refusal = refuse("attempt", format!("no rollback is held by entry {attempt}"));
            Err(match rollbacks.ended {
                Some((ended, position)) if ended == attempt => refusal.by(position),
                _ => refusal,
            })
        }
    }
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{EngineRef, Event};
    use crate::domain::rollback::RollbackAbandon;

    const STACK: &str = "s";

    fn claim(to: &str, takes_over: Option<u64>, rehearsal: bool) -> RollbackClaim {
        RollbackClaim { takes_over, ..RollbackClaim::of(STACK, to, rehearsal) }
    }

    /// A stack with two engines, and rollbacks as commands do them.
    struct Fold {
        stacks: Stacks,
        position: u64,
    }

    impl Fold {
        fn new() -> Self {
            let mut fold = Self { stacks: Stacks::default(), position: 0 };
            for engine in ["good", "bad"] {
                let engine = EngineRef { engine_hash: engine.into(), version: None };
                let published = Event::EnginePublished { engine: engine.clone(), manifest: None, waivers: Vec::new() };
                fold.fact(&published);
                fold.fact(&Event::WarmupCompleted { engine, rehearsal: false });
            }
            fold
        }

        fn fact(&mut self, event: &Event) {
            self.position += 1;
            self.stacks.apply(self.position, Time::default(), Some(STACK), event);
        }

        /// The position where it is admitted, or the one that stands in the way.
        fn ask(&mut self, who: &str, work: RollbackWork) -> Result<u64, Option<u64>> {
            let request = Request::RollbackWork(work);
            decide(&self.stacks, &request).map_err(|refusal| refusal.by_position)?;
            self.position += 1;
            let Request::RollbackWork(work) = &request else { unreachable!() };
            let mut stack = self.stacks.get(STACK).unwrap().clone();
            let current = stack.current().map(str::to_owned);
            stack.rollbacks.apply(self.position, Time::default(), who, work, current.as_deref());
            self.stacks.put(STACK, stack);
            Ok(self.position)
        }

        fn step(&mut self, attempt: u64, stage: Stage, ended: StageState) -> Result<u64, Option<u64>> {
            let (code, detail) = (None, String::new());
            self.ask(
                "",
                RollbackWork::Step(RollbackStep { stack: STACK.into(), attempt, stage, state: ended, code, detail }),
            )
        }

        fn closed(&self) -> bool {
            self.stacks.get(STACK).unwrap().rollbacks.closes().is_some()
        }
    }

    #[test]
    fn of_two_claims_the_first_holds_and_of_two_takeovers_too() {
        let mut fold = Fold::new();
        let first = fold.ask("ann", RollbackWork::Claim(claim("good", None, false))).unwrap();
        assert_eq!(fold.ask("bob", RollbackWork::Claim(claim("good", None, false))), Err(Some(first)));
        let second = fold.ask("bob", RollbackWork::Claim(claim("good", Some(first), false))).unwrap();
        assert_eq!(fold.ask("eve", RollbackWork::Claim(claim("good", Some(first), false))), Err(Some(second)));
        assert_eq!(fold.step(first, Stage::Restore, StageState::Done), Err(Some(second)));
        fold.step(second, Stage::Restore, StageState::Done).unwrap();
    }

    #[test]
    fn the_gate_closes_before_the_server_is_touched_and_by_any_failure() {
        let mut fold = Fold::new();
        let attempt = fold.ask("ann", RollbackWork::Claim(claim("good", None, false))).unwrap();
        fold.step(attempt, Stage::Restore, StageState::Done).unwrap();
        assert!(!fold.closed());
        fold.step(attempt, Stage::Reload, StageState::Begun).unwrap();
        assert!(fold.closed());
        let failed = fold.step(attempt, Stage::Reload, StageState::Failed).unwrap();
        assert_eq!(fold.step(attempt, Stage::Reload, StageState::Done), Err(Some(failed)));
        // Stopped, it is free for whoever goes on with the same, and stays closed.
        assert_eq!(fold.ask("bob", RollbackWork::Claim(claim("bad", None, false))), Err(Some(attempt)));
        fold.ask("bob", RollbackWork::Claim(claim("good", None, false))).unwrap();
        assert!(fold.closed());

        let mut fold = Fold::new();
        let attempt = fold.ask("ann", RollbackWork::Claim(claim("good", None, false))).unwrap();
        fold.step(attempt, Stage::Restore, StageState::Failed).unwrap();
        assert!(fold.closed());
    }

    #[test]
    fn a_completion_ends_the_attempt_that_it_names_and_no_other() {
        let mut rollbacks = Rollbacks::default();
        rollbacks.claim(7, Time::default(), "ann", &claim("good", None, false), Some("bad"));
        assert!(rollbacks.complete(8, Time::default(), 6, 5).is_some_and(|odd| odd.contains("ann")));
        assert!(rollbacks.run.is_some());
        assert_eq!(rollbacks.complete(9, Time::default(), 7, 5), None);
        assert!(rollbacks.run.is_none() && rollbacks.completed.is_some());
        assert_eq!(rollbacks.complete(10, Time::default(), 7, 5), None);
        assert_eq!(rollbacks.completed.unwrap().position, 9);
    }

    #[test]
    fn a_completion_after_an_abandonment_or_a_rehearsal_is_flagged() {
        for (rehearsal, how) in [(false, "abandoned at entry 8"), (true, "rehearsal that ended at entry 8")] {
            let mut rollbacks = Rollbacks::default();
            rollbacks.claim(7, Time::default(), "ann", &claim("good", None, rehearsal), Some("bad"));
            let work = if rehearsal {
                RollbackWork::Step(RollbackStep {
                    stack: STACK.into(),
                    attempt: 7,
                    stage: Stage::Complete,
                    state: StageState::Done,
                    code: None,
                    detail: String::new(),
                })
            } else {
                RollbackWork::Abandon(RollbackAbandon { stack: STACK.into(), attempt: 7, reason: "lost".into() })
            };
            rollbacks.apply(8, Time::default(), "ann", &work, Some("bad"));
            let odd = rollbacks.clone().complete(9, Time::default(), 7, 5);
            assert!(odd.as_ref().is_some_and(|odd| odd.contains(how)), "{odd:?}");
            assert_eq!(rollbacks.complete(9, Time::default(), 7, 4), None, "older ledgers answer as before");
            assert_eq!(rollbacks.completed, None);
        }
    }

    #[test]
    fn a_rehearsal_gives_way_and_leaves_nothing() {
        let mut fold = Fold::new();
        let attempt = fold.ask("ann", RollbackWork::Claim(claim("good", None, true))).unwrap();
        fold.step(attempt, Stage::Restore, StageState::Done).unwrap();
        fold.step(attempt, Stage::WarmUp, StageState::Failed).unwrap();
        assert!(!fold.closed());
        fold.ask("bob", RollbackWork::Claim(claim("good", None, false))).unwrap();
        assert!(fold.stacks.get(STACK).unwrap().rollbacks.run.as_ref().unwrap().done.is_empty());
    }
}

//! `rollback`: back to an engine that was good, each step told to the ledger before anything rests on it.
//!
//! The order, and what a crash after each step leaves:
//!
//! 1. *Claim.* An entry says who holds the rollback of this stack; the ledger's order decides between two. A crash leaves the
//!    claim. The next run sees on the same host that its process is gone and takes it over, in an entry that says so; on another
//!    host, in another container or after a boot somebody has to say so, with `--take-over`. The old engine goes on serving.
//! 2. *Restore.* Files come whole under their directory or not at all, each compared with the manifest that the ledger knows.
//!    A crash leaves a partial directory that the next run goes on with. The old engine goes on serving.
//! 3. *Reload begins*: an entry, and the gate is closed from here. Only then the server is touched. A crash leaves the gate
//!    closed; the next run reloads again, so a reload must bear being done twice.
//! 4. *Reload ends*: the deployed files hash as before, and the proof says that the server holds them; an entry. Where a proof
//!    is configured and holds, the next run passes over the reload; without a proof it reloads again.
//! 5. *Warm-up*, reported as one, and an entry. The next run passes over it if it passed over the reload.
//! 6. *Completed*: one entry, `llm_rollback_completed`, makes the engine current, opens the gate and ends the claim. A crash
//!    before it leaves a kept report that never counted; the run that completes removes it, so that nobody ingests a second
//!    completion. A crash behind it leaves nothing to do, and the next run says so.
//!
//! A step that fails is an entry too: the gate is closed by it, whatever was open before, and the claim is free for whoever goes
//! on. The attempt is the fence: one that was taken over can say nothing more, and finds out at its next entry.
//!
//! A ledger that cannot be reached is tried for `--retry-for` with the same key, so that a service that starts again meanwhile
//! ends no rollback. If it stays away nothing can be recorded: the gate is as the last entry left it, and the claim stands.

mod claim;
mod kept;
mod process;
mod proof;

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::backup::{Told, fetch, told};
use super::report::{Ledger, Report};
use super::supervise;
use crate::backup::{BackupError, Manifest};
use crate::cli::args::{Options, Reporting, RollbackRun, RollbackTask, Warmup};
use crate::cli::decide::read_to_decide;
use crate::cli::error::{CliError, Exit, Outcome};
use crate::cli::node::{runtime, stop_flag};
use crate::cli::out::{self, Tone, tone};
use crate::cli::source::Place;
use crate::domain::command::Request;
use crate::domain::rollback::{RollbackAbandon, RollbackClaim, RollbackStep, RollbackWork, Stage, StageState};
use crate::projection::answers::Asked;
use claim::{asked, backup, held, is_of_the_ledger, manifest_of, patiently, serves_already, taken_over, target};
use proof::Seen;

pub(in crate::cli) fn run(place: &Place, options: &Options, task: RollbackTask) -> Outcome {
    match task {
        RollbackTask::Plan { stack, past } => crate::cli::ask::answer(place, options, &Asked::Rollback { stack }, past),
        RollbackTask::Run(run) => {
            if let Some(rollback) = Rollback::begin(place, options, &run)? {
                return rollback.go();
            }
            Ok(Exit::Fine)
        }
        RollbackTask::Abandon { stack, reason } => {
            let body = read_to_decide(place, &Asked::Rollback { stack: stack.clone() })?;
            let attempt = body["run"]["attempt"]
                .as_u64()
                .ok_or_else(|| CliError::new(Exit::No, format!("no rollback of {stack} is under way")))?;
            let abandon = RollbackWork::Abandon(RollbackAbandon { stack, attempt, reason });
            crate::cli::decide::give(place, options, None, &Request::RollbackWork(abandon))
        }
    }
}

/// Why a step failed: the exit code, and the code that the entry carries.
struct Failure {
    stage: Stage,
    exit: Exit,
    code: &'static str,
    detail: String,
}

fn failure(stage: Stage, exit: Exit, code: &'static str, detail: impl Into<String>) -> Failure {
    Failure { stage, exit, code, detail: detail.into() }
}

/// A step fails, or the ledger says no.
enum Stop {
    Failed(Failure),
    Ledger(CliError),
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A rollback that this process holds.
struct Rollback<'a> {
    place: &'a Place,
    options: &'a Options,
    run: &'a RollbackRun,
    /// As the ledger answered after the claim.
    plan: Value,
    to: String,
    backup_id: String,
    attempt: u64,
    /// The stage that it is at.
    at: Cell<Stage>,
    stop: Arc<AtomicBool>,
}

impl<'a> Rollback<'a> {
    /// Claims it; none where there is nothing to do, which is told.
    fn begin(place: &'a Place, options: &'a Options, run: &'a RollbackRun) -> Result<Option<Self>, CliError> {
        let stop = stop_flag()?;
        let question = Asked::Rollback { stack: run.stack.clone() };
        let read = || patiently(&run.reporting, || read_to_decide(place, &question));
        let plan = read()?;
        // A script that repeats what succeeded does it once.
        if let Some(serves) = serves_already(place, run, &plan)? {
            kept::remove(&run.reporting.spool, &run.stack, |data| data["restored"]["hash"] == serves.as_str())?;
            return Ok(None);
        }
        let to = target(run, &plan)?;
        let backup_id = backup(run, &plan, &to)?;
        let host = crate::config::host_name().unwrap_or_else(|| "unnamed".to_owned());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let claim = RollbackClaim {
            stack: run.stack.clone(),
            to: to.clone(),
            backup_id: backup_id.clone(),
            reason: run.reason.clone(),
            incident: run.incident.clone().or_else(|| text(&plan["current"]["incident"])),
            rehearsal: run.rehearsal,
            takes_over: taken_over(run, &plan["run"], &host),
            host,
            process: process::this(),
        };
        let request = Request::RollbackWork(RollbackWork::Claim(claim));
        let attempt = match asked(place, options, &run.reporting, &request) {
            Ok(given) => given.position,
            Err(error) => return Err(held(place, &question, error)),
        };
        let plan = read()?;
        Ok(Some(Self { place, options, run, plan, to, backup_id, attempt, at: Cell::new(Stage::Restore), stop }))
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger { place: self.place, options: self.options, reporting: &self.run.reporting }
    }

    fn is_done(&self, stage: Stage) -> bool {
        self.plan["run"]["done"][stage.as_str()].is_u64()
    }

    fn step(&self, stage: Stage, how: StageState, code: Option<&str>, detail: &str) -> Result<u64, CliError> {
        let step = RollbackStep {
            stack: self.run.stack.clone(),
            attempt: self.attempt,
            stage,
            state: how,
            code: code.map(str::to_owned),
            detail: detail.to_owned(),
        };
        let request = Request::RollbackWork(RollbackWork::Step(step));
        let given = asked(self.place, self.options, &self.run.reporting, &request).map_err(|error| {
            if error.exit == Exit::Refused {
                return CliError::new(Exit::TakenOver, format!("rollback_taken_over: {}", error.text));
            }
            error
        })?;
        let word = match how {
            StageState::Begun => "begins",
            StageState::Done => "done",
            StageState::Failed => "failed",
        };
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        out::note(format!("{} {word}{detail} (entry {})", stage.as_str().replace('_', "-"), given.position));
        Ok(given.position)
    }

    /// Goes through the steps; one that fails is told to the ledger before this process ends.
    fn go(&self) -> Outcome {
        match self.steps() {
            Ok(told) => {
                self.tell(&told);
                Ok(Exit::Fine)
            }
            Err(Stop::Ledger(error)) if is_of_the_ledger(error.exit) => Err(error),
            Err(stop) => {
                let Failure { stage, exit, code, detail } = match stop {
                    Stop::Failed(failure) => failure,
                    // A disk that is full, a process that cannot be started: the step failed all the same.
                    Stop::Ledger(error) => failure(self.at.get(), error.exit, "rollback_host_failed", error.text),
                };
                let gate =
                    if self.run.rehearsal { "it was a rehearsal: no gate moved" } else { "traffic stays closed" };
                let position = self.step(stage, StageState::Failed, Some(code), &detail)?;
                Err(CliError::new(
                    exit,
                    format!(
                        "{code}: {detail}\nstopped at {} (entry {position}); {gate}; run the same command again to go on",
                        stage.as_str().replace('_', "-")
                    ),
                ))
            }
        }
    }

    fn steps(&self) -> Result<Value, Stop> {
        let ledger = self.ledger();
        // A ledger that is away says nothing of a backup, and is no reason to close a gate.
        let unknown = |error: CliError| match error.exit {
            exit if is_of_the_ledger(exit) => Stop::Ledger(error),
            exit => failure(Stage::Restore, exit, "rollback_no_backup", error.text).into(),
        };
        let told = patiently(&self.run.reporting, || told(&ledger, &self.backup_id)).map_err(unknown)?;
        if told.engine_hash != self.to {
            let detail = format!("backup {} is of engine {}, not {}", self.backup_id, told.engine_hash, self.to);
            return Err(failure(Stage::Restore, Exit::No, "rollback_no_backup", detail).into());
        }
        let manifest = self.restore(&told)?;
        let deployed = self.run.deployed.as_ref().unwrap_or(&self.run.restore_into);
        let passed = self.still_served(&manifest, deployed)?;
        let served = match passed {
            Some(by) => {
                out::note("reload passed over: the server holds the plan already");
                Some(by)
            }
            None => self.reload(&manifest, deployed)?,
        };
        let warm_up = if passed.is_some() && self.is_done(Stage::WarmUp) {
            out::note("warm-up passed over: it completed, and the server holds the plan still");
            None
        } else {
            Some(self.warm_up()?)
        };
        if self.run.rehearsal {
            let position = self.step(Stage::Complete, StageState::Done, None, "rehearsed")?;
            return Ok(json!({ "rehearsal": true, "position": position }));
        }
        self.at.set(Stage::Complete);
        let mut data = self.completed(&told, &manifest, served);
        data["warm_up"] = warm_up.into();
        let report = Report { event_type: "llm_rollback_completed", stack: &self.run.stack, data: data.clone() };
        data["position"] = ledger.record(&report)?.into();
        let id = &self.plan["run"]["id"];
        kept::remove(&self.run.reporting.spool, &self.run.stack, |kept| kept["rollback"]["id"] == *id)?;
        Ok(data)
    }

    fn restore(&self, told: &Told) -> Result<Manifest, Stop> {
        let into = &self.run.restore_into;
        let failed = |detail: String| failure(Stage::Restore, Exit::RestoreFailed, "rollback_restore_failed", detail);
        let runtime = runtime()?;
        let mut last = "no target holds it".to_owned();
        for (_, target) in told.targets(None).map_err(|error| failed(error.text))? {
            let fetched = target.and_then(|target| {
                if into.exists() {
                    return Ok((runtime.block_on(told.manifest(&self.backup_id, &target))?, target));
                }
                let manifest = fetch(&runtime, told, &self.backup_id, &target, into)?;
                out::note(format!("{} restored from {} into {}", self.backup_id, target.url(), into.display()));
                Ok((manifest, target))
            });
            match fetched {
                Ok((manifest, target)) => {
                    check(Stage::Restore, &manifest, into)?;
                    if !self.is_done(Stage::Restore) {
                        let data = json!({
                            "backup_id": self.backup_id, "engine_hash": self.to, "target": target.url(),
                        });
                        let report = Report { event_type: "llm_backup_restored", stack: &self.run.stack, data };
                        self.ledger().record(&report)?;
                        let detail = format!("{} files, every hash holds", manifest.files.len());
                        self.step(Stage::Restore, StageState::Done, None, &detail)?;
                    }
                    return Ok(manifest);
                }
                Err(error @ BackupError::Exists { .. }) => return Err(failed(error.to_string()).into()),
                Err(error) => last = error.to_string(),
            }
            out::note(&last);
        }
        Err(failed(format!("{} could not be restored: {last}", self.backup_id)).into())
    }

    /// Whether an earlier attempt reloaded, and a look at the host confirms it; by what.
    fn still_served(&self, manifest: &Manifest, deployed: &Path) -> Result<Option<&'static str>, Stop> {
        if !self.is_done(Stage::Reload) || !matches!(proof::differing(manifest, deployed), Ok(None)) {
            return Ok(None);
        }
        Ok(match proof::served(self.run, manifest, deployed, true, &self.stop)? {
            Seen::Proven(by) => Some(by),
            Seen::Unproven | Seen::Not(_) => None,
        })
    }

    /// By what it is known that the server holds the plan; none where nobody looked.
    fn reload(&self, manifest: &Manifest, deployed: &Path) -> Result<Option<&'static str>, Stop> {
        self.at.set(Stage::Reload);
        let Some(reload) = &self.run.reload else { return Ok(None) };
        self.step(Stage::Reload, StageState::Begun, None, "")?;
        let plan: Vec<&str> = proof::hashes(manifest, "plan").into_values().collect();
        let mut command = Command::new("sh");
        let restored = std::path::absolute(&self.run.restore_into).map_err(CliError::failed)?;
        command.args(["-c", reload]).env("GOVLEDGER_RESTORED", restored).env("GOVLEDGER_PLAN_SHA256", plan.join(" "));
        command.env("GOVLEDGER_STACK", &self.run.stack).env("GOVLEDGER_ENGINE", &self.to);
        let ran = supervise::run(&mut command, self.run.reload_timeout.0, &self.stop)?;
        if !ran.succeeded() {
            let detail = format!("the reload command: {}", ran.ending);
            return Err(failure(Stage::Reload, Exit::ReloadFailed, "rollback_reload_failed", detail).into());
        }
        check(Stage::Reload, manifest, deployed)?;
        let by = match proof::served(self.run, manifest, deployed, false, &self.stop)? {
            Seen::Proven(by) => Some(by),
            Seen::Unproven => None,
            Seen::Not(detail) => {
                return Err(failure(Stage::Reload, Exit::NotServed, "rollback_not_served", detail).into());
            }
        };
        let detail = by.map_or_else(|| "served: unproven".to_owned(), |by| format!("served: proven by {by}"));
        self.step(Stage::Reload, StageState::Done, None, &detail)?;
        Ok(by)
    }

    /// The entry of the warm-up's report.
    fn warm_up(&self) -> Result<u64, Stop> {
        self.at.set(Stage::WarmUp);
        let run = self.run;
        let (program, arguments) =
            run.command.split_first().ok_or_else(|| CliError::usage("no warm-up command was given"))?;
        let mut command = Command::new(program);
        command.args(arguments).env("GOVLEDGER_STACK", &run.stack).env("GOVLEDGER_ENGINE", &self.to);
        let ran = supervise::run(&mut command, run.timeout.0, &self.stop)?;
        let warm_up = Warmup {
            stack: run.stack.clone(),
            engine: Some(self.to.clone()),
            timeout: run.timeout,
            schema_version: Vec::new(),
            rehearsal: run.rehearsal,
            no_output: false,
            reporting: Reporting { retry_for: run.reporting.retry_for, spool: run.reporting.spool.clone() },
            command: run.command.clone(),
        };
        let event_type = if ran.succeeded() { "llm_warmup_completed" } else { "llm_warmup_failed" };
        let data = super::warmup::payload(&warm_up, &self.to, &std::collections::BTreeMap::new(), &ran);
        let position = self.ledger().record(&Report { event_type, stack: &run.stack, data })?;
        if !ran.succeeded() {
            let detail = format!("the warm-up: {} (entry {position})", ran.ending);
            return Err(failure(Stage::WarmUp, Exit::WarmUpFailed, "rollback_warmup_failed", detail).into());
        }
        self.step(Stage::WarmUp, StageState::Done, None, "")?;
        Ok(position)
    }

    fn completed(&self, told: &Told, manifest: &Manifest, served: Option<&'static str>) -> Value {
        let claim = &self.plan["run"]["claim"];
        let replaced = &self.plan["run"]["from"];
        let mut data = json!({
            "rollback": { "id": self.plan["run"]["id"], "attempt": self.attempt },
            "restored": { "artifact_id": self.run.stack, "hash": self.to },
            "restored_manifest": manifest_of(&self.plan, &self.to),
            "replaced_manifest": self.plan["current_manifest"],
            "backup_id": self.backup_id,
            "verification_hash": told.verification_hash,
            "deployed": { "plan": proof::hashes(manifest, "plan"), "config": proof::hashes(manifest, "config") },
            "served": if served.is_some() { "proven" } else { "unproven" },
            "served_by": served,
            "actor": self.plan["run"]["holder"],
            "reason": claim["reason"],
            "incident": claim["incident"],
        });
        if !replaced.is_null() {
            data["from"] = json!({ "artifact_id": self.run.stack, "hash": replaced });
        }
        if let Some(object) = data.as_object_mut() {
            object.retain(|_, value| !value.is_null());
        }
        data
    }

    fn tell(&self, told: &Value) {
        if self.options.json {
            out::json(told);
            return;
        }
        let what = if self.run.rehearsal { "rehearsal of a rollback" } else { "rollback" };
        let served = told["served"].as_str().map(|served| format!(", served: {served}")).unwrap_or_default();
        out::line(format!(
            "{} of {} to {} {}{served}, recorded at entry {}",
            what,
            self.run.stack,
            out::short(&self.to.as_str().into()),
            tone(Tone::Good, "completed"),
            out::text(&told["position"])
        ));
    }
}

/// Every file is as the manifest says, or the step fails.
fn check(stage: Stage, manifest: &Manifest, directory: &Path) -> Result<(), Stop> {
    let differs = |detail: String| failure(stage, Exit::FilesDiffer, "rollback_files_differ", detail);
    match proof::differing(manifest, directory).map_err(|error| differs(error.text))? {
        None => Ok(()),
        Some(detail) => Err(differs(detail).into()),
    }
}

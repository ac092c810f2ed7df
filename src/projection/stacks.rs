//! Stints, manifests, warm-ups and the traffic gate: what each stack serves, and since when.
//!
//! In scope: folding lifecycle events, the current engine, whether it is warm, the gate, which stack a metric record counts
//! for. Out of scope: which engine is safe to go back to ([`super::last_good`]), alerts.
//!
//! Folded twice over the same events: once up to the last governance entry, for answers; once up to each cut, for the rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rollbacks::Rollbacks;
use super::speculation::{self, Calibrated, Speculation};
use crate::domain::command::{Command, Request};
use crate::domain::event::{EngineRef, Event, Json};
use crate::domain::policy::Rollout;
use crate::domain::settings::{RULES_CAPACITY, RULES_LIMITED};
use crate::domain::time::Time;

/// All stacks that the governance ledger knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stacks {
    by_name: BTreeMap<String, Stack>,
    /// Whether a publish relies on the waivers that it names. See [`RULES_LIMITED`].
    heeds_waivers: bool,
    /// Whether a publish that enables speculation needs calibrations. See [`RULES_CAPACITY`].
    #[serde(default)]
    heeds_speculation: bool,
    /// By which rules a completed rollback is odd. See [`crate::domain::settings::RULES_ENDINGS`].
    #[serde(default)]
    rules_version: u32,
}

/// One governed stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// Every engine ever named, by hash.
    pub engines: BTreeMap<String, Engine>,
    /// The stint under way.
    pub stint: Option<Stint>,
    /// The engine that traffic was last opened for, and the entry that did it.
    served: Option<(String, u64)>,
    /// Rollbacks under way and done.
    #[serde(default)]
    pub rollbacks: Rollbacks,
    /// Reports that contradict what came before: position and what is odd.
    pub contradictions: Vec<(u64, String)>,
}

/// From the entry that made an engine current to the one that ended it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stint {
    /// The engine.
    pub engine_hash: String,
    /// Position of the entry that began it.
    pub position: u64,
    /// That entry's time.
    pub since: Time,
    /// The manifest in force.
    pub manifest: Option<Json>,
    /// Where the manifest in force came from.
    pub manifest_position: u64,
}

/// A stint that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedStint {
    /// Position of the entry that ended it.
    pub ended_by: u64,
    /// That entry's time.
    pub ended: Time,
    /// Whether a rollback to another engine ended it.
    pub rolled_back: bool,
    /// Whether the engine was warm at its end.
    pub warm: bool,
    /// The manifest in force at its end.
    pub manifest: Option<Json>,
    /// Position of the entry that began it.
    pub began: u64,
}

/// How a warm-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    /// Completed, or failed.
    pub completed: bool,
    /// The entry that says so.
    pub position: u64,
}

/// One engine of a stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Version, as last named.
    pub version: Option<String>,
    /// Where it was first published or adopted.
    pub first_published: Option<u64>,
    /// Whether it is here by adoption and nothing was published for it since.
    adopted_only: bool,
    /// Last warm-up after the end of the previous stint; in the first stint, ever.
    pub warm_up: Option<WarmUp>,
    /// Last warm-up ever.
    pub last_warm_up: Option<WarmUp>,
    /// Condemned by this entry, for this reason.
    pub condemned: Option<(u64, String)>,
    /// The last stint that is over.
    pub last_finished: Option<FinishedStint>,
    /// Where it last became current.
    pub last_current: Option<u64>,
    /// Manifest last published for it.
    manifest: Option<Json>,
    /// The waivers that its last publish names, with that publish.
    relies_on: Option<(u64, Vec<String>)>,
    /// Whether it speculates, and what calibrations saw.
    #[serde(default, skip_serializing_if = "Speculation::is_empty")]
    pub speculation: Speculation,
    /// Entry that said it proven, with the position that began that stint.
    pub proven: Option<(u64, u64)>,
}

/// Whether traffic may flow, for which engine, and by which entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gate {
    /// Open or closed.
    pub open: bool,
    /// The engine that it is open or closed for.
    pub engine_hash: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// The entry that made it so.
    pub position: u64,
}

impl Stacks {
    /// Begins to follow the rules of a ledger: its first entry names their version.
    pub const fn begin(&mut self, rules_version: u32) {
        self.heeds_waivers = rules_version >= RULES_LIMITED;
        self.heeds_speculation = rules_version >= RULES_CAPACITY;
        self.rules_version = rules_version;
    }

    /// Flags a report of `stack` that contradicts what is known.
    pub fn flag(&mut self, stack: &str, position: u64, what: String) {
        self.stack(stack).contradictions.push((position, what));
    }

    /// Folds one admitted event about `stack`.
    pub fn apply(&mut self, position: u64, time: Time, stack: Option<&str>, event: &Event) {
        let Some(name) = stack else { return };
        match event {
            Event::EnginePublished { engine, manifest, waivers } => {
                let heeded = self.heeds_waivers && !waivers.is_empty();
                let speculates = manifest.as_ref().filter(|_| self.heeds_speculation).map(speculation::is_enabled);
                let stack = self.stack(name);
                if let Some(speculates) = speculates {
                    stack.engine(&engine.engine_hash).speculation.enabled_by = speculates.then_some(position);
                }
                stack.engine(&engine.engine_hash).relies_on = heeded.then(|| (position, waivers.clone()));
                stack.publish(position, time, engine, manifest.as_ref());
            }
            Event::WarmupCompleted { engine, rehearsal: false } => {
                self.stack(name).warm_up(engine, WarmUp { completed: true, position });
            }
            Event::WarmupFailed { engine, rehearsal: false, .. } => {
                self.stack(name).warm_up(engine, WarmUp { completed: false, position });
            }
            Event::RollbackCompleted { restored, replaced, manifest, attempt, .. } => {
                let rules_version = self.rules_version;
                let stack = self.stack(name);
                stack.roll_back(position, time, restored, replaced.as_deref(), manifest.as_ref());
                if let Some(odd) = attempt.and_then(|at| stack.rollbacks.complete(position, time, at, rules_version)) {
                    stack.contradictions.push((position, odd));
                }
            }
            Event::SpeculationCalibrated { engine, workload, attempts, accepts } if self.heeds_speculation => {
                let seen = Calibrated { attempts: *attempts, accepts: *accepts, position };
                self.stack(name).named(engine).speculation.calibrations.insert(workload.clone(), seen);
            }
            Event::EngineProven(proven) => {
                self.stack(name).engine(&proven.engine_hash).proven = Some((position, proven.stint));
            }
            Event::Command(command) => self.command(position, time, command),
            Event::SpeculationCalibrated { .. }
            | Event::WarmupCompleted { .. }
            | Event::WarmupFailed { .. }
            | Event::BackupRecorded(_)
            | Event::BackupVerified { .. }
            | Event::BackupRestored { .. }
            | Event::ProviderAlert { .. }
            | Event::WaiverReported { .. }
            | Event::Other
            | Event::Cut(_)
            | Event::Alert(_)
            | Event::PolicyRevised(_)
            | Event::FileRegistered(_)
            | Event::WaiverExpired { .. }
            | Event::WaiverSpend(_)
            | Event::WaiverExhausted(_)
            | Event::WaiverExpiring(_)
            | Event::IncidentSnapshot(_)
            | Event::IncidentImpact(_) => {}
        }
    }

    fn command(&mut self, position: u64, time: Time, command: &Command) {
        match &command.request {
            Request::RollbackWork(work) => {
                let stack = self.stack(work.stack());
                let current = stack.current().map(str::to_owned);
                if stack.rollbacks.apply(position, time, &command.principal, work, current.as_deref())
                    && let Some(engine) = current.and_then(|hash| stack.engines.get_mut(&hash))
                {
                    // Nobody knows what the server holds now.
                    engine.warm_up = None;
                }
            }
            Request::EngineCondemn(judgement) => {
                self.stack(&judgement.stack).engine(&judgement.engine_hash).condemned =
                    Some((position, judgement.reason.clone()));
            }
            Request::EngineReinstate(judgement) => {
                self.stack(&judgement.stack).engine(&judgement.engine_hash).condemned = None;
            }
            Request::EngineAdopt(adopt) => {
                let engine = EngineRef { engine_hash: adopt.engine_hash.clone(), version: adopt.version.clone() };
                self.stack(&adopt.stack).adopt(position, time, &engine, adopt.manifest.as_ref());
            }
            Request::WaiverRequest(_)
            | Request::WaiverApprove(_)
            | Request::WaiverRefuse(_)
            | Request::WaiverRevoke(_)
            | Request::IncidentOpen(_)
            | Request::IncidentAcknowledge(_)
            | Request::IncidentNote(_)
            | Request::IncidentClose(_)
            | Request::IncidentWork(_)
            | Request::PrincipalEnroll(_)
            | Request::TokenIssue(_)
            | Request::TokenRevoke(_)
            | Request::IssuerTrust(_)
            | Request::IssuerDistrust(_)
            | Request::PrincipalRevoke(_)
            | Request::HoleConfirm(_)
            | Request::PrincipalLimit(_)
            | Request::PolicyPropose(_)
            | Request::PolicyApprove(_)
            | Request::PolicyRefuse(_)
            | Request::MaintenanceSet(_)
            | Request::MaintenanceEnd(_)
            | Request::KeyEnroll(_)
            | Request::KeyConfirm(_)
            | Request::KeyRevoke(_)
            | Request::NodeKeyRotate(_)
            | Request::LedgerKeyRotate(_)
            | Request::NodeEnroll(_) => {}
        }
    }

    fn stack(&mut self, name: &str) -> &mut Stack {
        self.by_name.entry(name.to_owned()).or_default()
    }

    /// The stack called `name`.
    pub fn get(&self, name: &str) -> Option<&Stack> {
        self.by_name.get(name)
    }

    /// Puts a stack in place as it is.
    #[cfg(test)]
    pub(super) fn put(&mut self, name: &str, stack: Stack) {
        self.by_name.insert(name.to_owned(), stack);
    }

    /// All stacks, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Stack)> {
        self.by_name.iter()
    }

    /// The stacks that a record of this engine counts for: those where it is current; else the one where it last was; else,
    /// for an engine that was never published, a stack named after the model.
    pub fn attribute(&self, engine_hash: &str, model: &str) -> Vec<String> {
        let current: Vec<String> = self
            .iter()
            .filter(|(_, stack)| stack.current() == Some(engine_hash))
            .map(|(name, _)| name.clone())
            .collect();
        if !current.is_empty() {
            return current;
        }
        let last = self
            .iter()
            .filter_map(|(name, stack)| {
                stack.engines.get(engine_hash).and_then(|engine| engine.last_current).map(|position| (position, name))
            })
            .max();
        vec![last.map_or_else(|| model.to_owned(), |(_, name)| name.clone())]
    }
}

impl Stack {
    /// The current engine's hash.
    pub fn current(&self) -> Option<&str> {
        self.stint.as_ref().map(|stint| stint.engine_hash.as_str())
    }

    /// The waivers that the last publish of the current engine names, with that publish.
    pub fn relies_on(&self) -> Option<(u64, &[String])> {
        let engine = self.engines.get(self.current()?)?;
        engine.relies_on.as_ref().map(|(position, waivers)| (*position, waivers.as_slice()))
    }

    /// The manifest that an engine would come back with.
    pub fn manifest_of(&self, hash: &str) -> Option<&Json> {
        let engine = self.engines.get(hash)?;
        let finished = engine.last_finished.as_ref().and_then(|finished| finished.manifest.as_ref());
        finished.or(engine.manifest.as_ref())
    }

    /// Time and position of the entry that began the present stint.
    pub fn current_since(&self) -> Option<(Time, u64)> {
        self.stint.as_ref().map(|stint| (stint.since, stint.position))
    }

    fn engine(&mut self, hash: &str) -> &mut Engine {
        self.engines.entry(hash.to_owned()).or_default()
    }

    fn named(&mut self, named: &EngineRef) -> &mut Engine {
        let engine = self.engine(&named.engine_hash);
        if named.version.is_some() {
            engine.version.clone_from(&named.version);
        }
        engine
    }

    fn publish(&mut self, position: u64, time: Time, named: &EngineRef, manifest: Option<&Json>) {
        let engine = self.named(named);
        engine.first_published.get_or_insert(position);
        let first_for_adopted = std::mem::take(&mut engine.adopted_only);
        if let Some(manifest) = manifest {
            engine.manifest = Some(manifest.clone());
        }
        if let Some(stint) = self.stint.as_mut().filter(|stint| stint.engine_hash == named.engine_hash) {
            let changed = manifest.is_some_and(|manifest| stint.manifest.as_ref() != Some(manifest));
            if !changed {
                return;
            }
            if first_for_adopted {
                stint.manifest = manifest.cloned();
                stint.manifest_position = position;
                return;
            }
        }
        self.begin(position, time, &named.engine_hash, manifest, false);
    }

    fn warm_up(&mut self, named: &EngineRef, warm_up: WarmUp) {
        let engine = self.named(named);
        engine.warm_up = Some(warm_up);
        engine.last_warm_up = Some(warm_up);
        if warm_up.completed && self.current() == Some(named.engine_hash.as_str()) {
            self.served = Some((named.engine_hash.clone(), warm_up.position));
        }
    }

    fn adopt(&mut self, position: u64, time: Time, named: &EngineRef, manifest: Option<&Json>) {
        let again = self.current() == Some(named.engine_hash.as_str());
        let engine = self.named(named);
        engine.adopted_only = engine.first_published.is_none();
        engine.first_published.get_or_insert(position);
        if let Some(manifest) = manifest {
            engine.manifest = Some(manifest.clone());
        }
        if !again {
            self.begin(position, time, &named.engine_hash, manifest, false);
        }
        self.warm_up(named, WarmUp { completed: true, position });
    }

    fn roll_back(
        &mut self,
        position: u64,
        time: Time,
        restored: &EngineRef,
        replaced: Option<&str>,
        manifest: Option<&Json>,
    ) {
        if self.engines.get(&restored.engine_hash).is_none_or(|engine| engine.first_published.is_none()) {
            self.contradictions
                .push((position, format!("rolled back to {}, which was never published here", restored.engine_hash)));
        }
        if let Some(replaced) = replaced.filter(|replaced| {
            self.current() != Some(replaced) && self.current() != Some(restored.engine_hash.as_str())
        }) {
            self.contradictions.push((position, format!("rolled back from {replaced}, which was not current")));
        }
        self.named(restored);
        if let Some(stint) = self.stint.as_mut().filter(|stint| stint.engine_hash == restored.engine_hash) {
            if manifest.is_some() {
                stint.manifest = manifest.cloned();
                stint.manifest_position = position;
            }
            return;
        }
        self.begin(position, time, &restored.engine_hash, manifest, true);
    }

    /// Ends the stint under way, if any, and begins one of `hash`.
    fn begin(&mut self, position: u64, time: Time, hash: &str, manifest: Option<&Json>, by_rollback: bool) {
        if let Some(stint) = self.stint.take() {
            let rolled_back = by_rollback && stint.engine_hash != hash;
            let engine = self.engine(&stint.engine_hash);
            engine.last_finished = Some(FinishedStint {
                ended_by: position,
                ended: time,
                rolled_back,
                warm: engine.warm_up.is_some_and(|warm_up| warm_up.completed),
                manifest: stint.manifest,
                began: stint.position,
            });
            engine.warm_up = None;
        }
        let engine = self.engine(hash);
        engine.last_current = Some(position);
        let last_manifest = engine.last_finished.as_ref().and_then(|finished| finished.manifest.clone());
        let manifest = manifest.cloned().or(last_manifest).or_else(|| engine.manifest.clone());
        let warm_at = engine.warm_up.filter(|warm_up| warm_up.completed).map(|_| position);
        self.stint =
            Some(Stint { engine_hash: hash.to_owned(), position, since: time, manifest, manifest_position: position });
        if let Some(position) = warm_at {
            self.served = Some((hash.to_owned(), position));
        }
    }

    /// Whether traffic may flow to this stack.
    pub fn gate(&self, rollout: Rollout) -> Gate {
        let Some(stint) = &self.stint else {
            return Gate {
                open: false,
                engine_hash: None,
                reason: "no engine was ever published or adopted".to_owned(),
                position: 0,
            };
        };
        if let Some((position, reason)) = self.rollbacks.closes() {
            let engine_hash = Some(stint.engine_hash.clone());
            return Gate { open: false, engine_hash, reason, position };
        }
        let warm_up = self.engines.get(&stint.engine_hash).and_then(|engine| engine.warm_up);
        let (why, position) = match warm_up {
            Some(WarmUp { completed: true, position }) => {
                return Gate {
                    open: true,
                    engine_hash: Some(stint.engine_hash.clone()),
                    reason: "the current engine is warm".to_owned(),
                    position: position.max(stint.position),
                };
            }
            Some(WarmUp { position, .. }) => ("the current engine's last warm-up failed", position.max(stint.position)),
            None => ("the current engine is not warmed up", stint.position),
        };
        let closed = |reason: String, position| Gate {
            open: false,
            engine_hash: Some(stint.engine_hash.clone()),
            reason,
            position,
        };
        if rollout == Rollout::InPlace {
            return closed(why.to_owned(), position);
        }
        let Some((served, opened)) = &self.served else { return closed(why.to_owned(), position) };
        let engine = self.engines.get(served);
        if let Some((position, _)) = engine.and_then(|engine| engine.condemned.as_ref()) {
            return closed(format!("{why}, and the engine served before was condemned"), *position);
        }
        let finished = engine
            .and_then(|engine| engine.last_finished.as_ref())
            .filter(|finished| finished.rolled_back && served != &stint.engine_hash);
        if let Some(finished) = finished {
            return closed(format!("{why}, and the engine served before was rolled back from"), finished.ended_by);
        }
        Gate {
            open: true,
            engine_hash: Some(served.clone()),
            reason: format!("{why}; side by side, the engine served before goes on"),
            position: *opened,
        }
    }

    /// Why records on `hash` are an offence, if they are.
    pub fn unapproved(&self, hash: &str) -> Option<&'static str> {
        let Some(engine) = self.engines.get(hash).filter(|engine| engine.first_published.is_some()) else {
            return Some("unpublished");
        };
        if engine.condemned.is_some() {
            return Some("condemned");
        }
        let rolled_back = engine.last_finished.as_ref().is_some_and(|finished| finished.rolled_back);
        if rolled_back && self.current() != Some(hash) {
            return Some("rolled_back_from");
        }
        match engine.last_warm_up {
            None => Some("never_warmed_up"),
            Some(WarmUp { completed: false, .. }) => Some("warmup_failed"),
            Some(WarmUp { completed: true, .. }) => None,
        }
    }
}

#[cfg(test)]
mod tests;

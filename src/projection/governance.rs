//! The fold of the governance ledger: judges each entry at its position and gives it its effect.
//!
//! Order for every entry: read, envelope, identity, decision, effect. The verdict is a pure function of the entry and of the
//! entries before it; nothing here reads a clock, a secret or another ledger. Only admitted entries claim an id.
//!
//! Out of scope: figures that need the metrics ledgers ([`super::slo`]).

mod decide;
mod people;
mod reports;
mod second;
mod signatures;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::reports::ReportTimes;
use super::alerts::Alerts;
use super::backups::{Backups, RecordedBackup};
use super::ids::{Claim, IdIndex};
use super::incidents::Incidents;
use super::keys::Keys;
use super::maintenance::Maintenance;
use super::policies::Policies;
use super::stacks::Stacks;
use super::timeline::Timeline;
use super::waivers::Waivers;
use crate::domain::authentication::{Authentication, Identity};
use crate::domain::command::{Command, PrincipalEnroll, Request};
use crate::domain::cut::Cut;
use crate::domain::event::{About, Event, FileRegistered, WaiverExhausted, WaiverExpiring};
use crate::domain::leaf;
use crate::domain::offsets::Offsets;
use crate::domain::policy::Policy;
use crate::domain::principal::{Principals, Role};
use crate::domain::refusal::{Code, Refusal};
use crate::domain::report::{self, Report};
use crate::domain::settings::{RULES_LIMITED, Settings};
use crate::domain::time::Time;

/// What an entry counts for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has its effect.
    Admitted,
    /// A second one: no effect.
    Duplicate {
        /// Position of the first.
        of: u64,
    },
    /// Kept, without effect.
    Refused(Refusal),
}

/// An entry judged.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its position.
    pub position: u64,
    /// Its time.
    pub time: Time,
    /// What it counts for.
    pub verdict: Verdict,
    /// Who and what it is about, where it could be read.
    pub about: About,
    /// What happened, where it could be read.
    pub event: Option<Event>,
    /// The rules version in force.
    pub rules_version: u32,
}

/// A refused entry, for the `rejected` view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rejected {
    /// The ledger that holds it.
    pub ledger: String,
    /// Where.
    pub position: u64,
    /// The entry's time.
    pub time: Time,
    /// Why.
    #[serde(rename = "refusal")]
    pub refusal: Refusal,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// Position of the command's entry.
    pub position: u64,
    /// What the id stands for.
    pub digest: String,
    /// None: applied.
    pub refusal: Option<Refusal>,
}

/// Everything that the governance ledger says, up to `size` entries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Governance {
    /// Entries folded.
    pub size: u64,
    /// Time of the last one.
    pub time: Time,
    /// The first entry.
    pub settings: Option<Settings>,
    /// Its leaf hash, base64.
    pub genesis: String,
    /// Keys of nodes and authors.
    pub keys: Keys,
    /// Who may do what.
    pub principals: Principals,
    /// Thresholds and limits in force.
    pub policy: Policy,
    /// Position of the entry that put it in force; none for the defaults.
    pub policy_position: Option<u64>,
    /// Policies put forward, and what became of them.
    pub policies: Policies,
    /// Times in which nobody is told.
    pub maintenance: Maintenance,
    /// Stints, manifests, gates.
    pub stacks: Stacks,
    /// Alerts of ours.
    pub alerts: Alerts,
    /// Incidents.
    pub incidents: Incidents,
    /// Waivers.
    pub waivers: Waivers,
    /// Backups.
    pub backups: Backups,
    /// Timelines.
    pub timeline: Timeline,
    /// Files that lines came from.
    pub files: BTreeMap<u64, FileRegistered>,
    /// Commands by id.
    pub commands: BTreeMap<String, CommandRecord>,
    /// How whoever decided about a waiver was known, by the position of the decision.
    pub authentications: BTreeMap<u64, Authentication>,
    /// As whom providers knew those who asked for waivers, by the position of the request.
    #[serde(default)]
    requesters: BTreeMap<u64, BTreeSet<Identity>>,
    /// Holes of sources that an operator accepted: ledger name to ranges with the confirming position.
    pub holes: BTreeMap<String, Vec<(u64, u64, u64)>>,
    /// Refused entries.
    pub rejected: Vec<Rejected>,
    /// The last admitted cut.
    pub last_cut: Option<Cut>,
    /// The last cut that named none missing.
    pub evaluated_through: Option<Time>,
    /// The last report of the stack: its entry's time. Cuts and other sayings do not count.
    pub last_report: Time,
    /// The reports around the last cut.
    pub reports: ReportTimes,
    /// Admitted, duplicate and refused entries.
    pub counts: Counts,
    /// Duplicates, with the position of the first.
    duplicates: BTreeMap<u64, u64>,
    /// Kafka offsets of the entries.
    pub offsets: Offsets,
}

/// How many entries counted for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Counts {
    /// With effect.
    pub admitted: u64,
    /// A second time.
    pub duplicates: u64,
    /// Without effect.
    pub refused: u64,
}

impl Governance {
    /// Judges the entry at `position` and gives it its effect. Entries come in order, each once.
    pub fn apply(&mut self, position: u64, entry: &[u8], ids: &mut dyn IdIndex) -> Applied {
        debug_assert_eq!(position, self.size, "entries come in order");
        self.size = position + 1;
        let (time, read) = match leaf::split(entry) {
            Ok(leaf) => (leaf.header.time.max(self.time), Ok(leaf)),
            Err(error) => (self.time, Err(Refusal::new(Code::MalformedJson, None, error.to_string()))),
        };
        self.time = time;
        if position == 0 {
            return self.begin(time, entry, read.map(|leaf| leaf.body));
        }
        if let Some(offset) = read.as_ref().ok().and_then(|leaf| leaf.header.offset) {
            self.offsets.see(position, offset);
        }
        let report = read.and_then(|leaf| report::read(&leaf));
        let (verdict, about, event) = match report {
            Err(refusal) => (Verdict::Refused(refusal), About::default(), None),
            Ok(report) => {
                let verdict = self.judge(position, time, &report, ids);
                (verdict, report.about, Some(report.event))
            }
        };
        match &verdict {
            Verdict::Admitted => {
                self.counts.admitted += 1;
                if let Some(event) = &event {
                    self.effect(position, time, &about, event);
                }
            }
            Verdict::Duplicate { of } => {
                self.counts.duplicates += 1;
                self.duplicates.insert(position, *of);
            }
            Verdict::Refused(refusal) => {
                self.counts.refused += 1;
                self.rejected.push(Rejected {
                    ledger: "governance".to_owned(),
                    position,
                    time,
                    refusal: refusal.clone(),
                });
            }
        }
        Applied { position, time, verdict, about, event, rules_version: self.rules_version() }
    }

    /// The rules version in force.
    pub fn rules_version(&self) -> u32 {
        self.settings.as_ref().map_or(0, |settings| settings.rules_version)
    }

    /// Entry 0: the settings.
    fn begin(&mut self, time: Time, entry: &[u8], body: Result<&[u8], Refusal>) -> Applied {
        self.genesis = ledger::tree::leaf_hash(entry).to_string();
        let settings = body.and_then(|body| {
            let text = report::text(body)?;
            serde_json::from_str::<Settings>(text).map_err(|error| Refusal::from_json(&error, text))
        });
        let about = About { event_type: "ledger_settings".to_owned(), ..About::default() };
        let verdict = match settings {
            Err(refusal) => Verdict::Refused(refusal),
            Ok(settings) => {
                self.keys.begin(&settings.node_keys);
                let first = PrincipalEnroll {
                    name: settings.admin.name.clone(),
                    roles: [Role::Admin].into(),
                    token_sha256: settings.admin.token_sha256.clone(),
                    ..PrincipalEnroll::default()
                };
                self.principals.begin(settings.rules_version);
                self.principals.enroll(&first, 0);
                self.stacks.begin(settings.rules_version);
                self.settings = Some(settings);
                Verdict::Admitted
            }
        };
        Applied { position: 0, time, verdict, about, event: None, rules_version: self.rules_version() }
    }

    /// The verdict over a readable entry. Claims its id where it is admitted.
    fn judge(&mut self, position: u64, time: Time, report: &Report, ids: &mut dyn IdIndex) -> Verdict {
        if let Err(refusal) = self.check_signatures(report) {
            return Verdict::Refused(refusal);
        }
        if let Event::Command(command) = &report.event {
            return self.judge_command(position, time, command);
        }
        if let Some(claim) = ids.claimed(&report.identity, position) {
            // What the service says is the same thing whatever its bytes: the first one counts.
            return if report.privileged || claim.content == report.content {
                Verdict::Duplicate { of: claim.position }
            } else {
                let detail = format!("its id was claimed at position {} by an event with other bytes", claim.position);
                Verdict::Refused(Refusal::new(Code::IdConflict, "id".to_owned(), detail).by(claim.position))
            };
        }
        if let Err(refusal) = self.check_saying(time, &report.event) {
            return Verdict::Refused(refusal);
        }
        ids.claim(&report.identity, Claim { position, content: report.content });
        Verdict::Admitted
    }

    fn judge_command(&mut self, position: u64, time: Time, command: &Command) -> Verdict {
        let digest = command.digest();
        if let Some(first) = self.commands.get(&command.command_id) {
            return if first.digest == digest {
                Verdict::Duplicate { of: first.position }
            } else {
                let detail = format!("the idempotency key was used at position {} for another command", first.position);
                Verdict::Refused(Refusal::new(Code::IdConflict, "command_id".to_owned(), detail).by(first.position))
            };
        }
        if let Err(refusal) = self.in_time(command) {
            return Verdict::Refused(refusal);
        }
        let refusal = self.decide(time, command).err();
        self.commands.insert(command.command_id.clone(), CommandRecord { position, digest, refusal: refusal.clone() });
        refusal.map_or(Verdict::Admitted, Verdict::Refused)
    }

    fn effect(&mut self, position: u64, time: Time, about: &About, event: &Event) {
        let is_report = !matches!(
            event,
            Event::Cut(_)
                | Event::Alert(_)
                | Event::EngineProven(_)
                | Event::PolicyRevised(_)
                | Event::FileRegistered(_)
                | Event::WaiverExpired { .. }
                | Event::WaiverSpend(_)
                | Event::WaiverExhausted(_)
                | Event::WaiverExpiring(_)
                | Event::IncidentSnapshot(_)
                | Event::IncidentImpact(_)
        );
        if is_report {
            self.last_report = time;
            self.reports.see(time, self.last_cut.as_ref().map(|cut| cut.instant));
        }
        self.stacks.apply(position, time, about.stack.as_deref(), event);
        self.incidents.observe(position, time, about.stack.as_deref(), event, &self.timeline);
        match event {
            Event::Cut(cut) => {
                if cut.missing.is_empty() {
                    self.evaluated_through = Some(cut.instant);
                }
                self.reports.cut(cut.instant);
                self.last_cut = Some(cut.clone());
            }
            Event::Alert(alert) => self.alerts.apply(position, alert),
            Event::PolicyRevised(policy) => {
                self.policy = (**policy).clone();
                self.policy_position = Some(position);
            }
            Event::FileRegistered(file) => {
                self.files.insert(file.file, file.clone());
            }
            Event::WaiverExpired { .. }
            | Event::WaiverSpend(_)
            | Event::WaiverExhausted(_)
            | Event::WaiverExpiring(_)
            | Event::WaiverReported { .. } => self.waivers.say(position, about.stack.as_deref(), event),
            Event::BackupRecorded(backup) => self.backups.record(RecordedBackup::new(position, time, about, backup)),
            Event::BackupVerified { backup_id, ok } => self.backups.verify(position, backup_id, *ok),
            Event::BackupRestored { backup_id } => self.backups.restore(position, time, backup_id),
            Event::Command(command) => self.command_effect(position, time, command),
            Event::EnginePublished { engine, waivers, .. } => {
                self.flag_uncovered(position, time, about.stack.as_deref(), &engine.engine_hash, waivers);
            }
            Event::SpeculationCalibrated { .. }
            | Event::WarmupCompleted { .. }
            | Event::WarmupFailed { .. }
            | Event::RollbackCompleted { .. }
            | Event::IncidentSnapshot(_)
            | Event::IncidentImpact(_)
            | Event::ProviderAlert { .. }
            | Event::EngineProven(_)
            | Event::Other => {}
        }
        self.remember(position, time, about, event);
    }

    /// A publish that names a waiver which does not cover it is a fact all the same, and flagged. The gate heeds it too.
    fn flag_uncovered(&mut self, position: u64, time: Time, stack: Option<&str>, engine: &str, waivers: &[String]) {
        let Some(stack) = stack.filter(|_| self.rules_version() >= RULES_LIMITED) else { return };
        for id in waivers {
            if let Err(uncovered) = self.waivers.relied_on(id, stack, engine, time) {
                self.stacks.flag(stack, position, format!("published under waiver {id}, {}", uncovered.reason));
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other requests have their effect in their own projections")]
    fn command_effect(&mut self, position: u64, time: Time, command: &Command) {
        self.waivers.apply(position, time, &command.principal, &command.request);
        self.keep_requester(position, command);
        self.incidents.apply(position, time, &command.principal, &command.request, &self.timeline);
        self.maintenance.apply(position, time, &command.principal, &command.request);
        self.keys.apply(position, &command.principal, &command.request);
        if let Some(policy) = self.policies.apply(position, time, &command.principal, &command.request) {
            self.policy = policy;
            self.policy_position = Some(position);
        }
        match &command.request {
            Request::WaiverApprove(_) | Request::WaiverRefuse(_) | Request::WaiverRevoke(_) => {
                self.authentications.insert(position, command.authenticated_by.clone());
            }
            Request::PrincipalEnroll(enroll) => self.principals.enroll(enroll, position),
            Request::PrincipalRevoke(revoke) => {
                self.principals.revoke(&revoke.name, position);
            }
            Request::TokenIssue(issue) => self.principals.issue_token(issue, position),
            Request::TokenRevoke(revoke) => self.principals.revoke_token(revoke, position),
            Request::IssuerTrust(trust) => self.principals.trust(trust, position),
            Request::IssuerDistrust(distrust) => self.principals.distrust(&distrust.issuer),
            Request::PrincipalLimit(limit) => {
                self.principals.limit(&limit.name, limit.finance_limit_usd, position);
            }
            Request::HoleConfirm(hole) => {
                self.holes.entry(hole.ledger.clone()).or_default().push((hole.from, hole.to, position));
            }
            _ => {}
        }
    }

    /// The line on the timeline, on the stack that the event is about.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most events are about nothing but their stack")]
    fn remember(&mut self, position: u64, time: Time, about: &About, event: &Event) {
        let (subject, stack) = match event {
            // One at each cut: the sums stand at the waiver.
            Event::WaiverSpend(_) => return,
            Event::WaiverExpired { waiver, .. }
            | Event::WaiverExhausted(WaiverExhausted { waiver, .. })
            | Event::WaiverExpiring(WaiverExpiring { waiver, .. }) => {
                (Some(waiver.clone()), self.waivers.get(waiver).map(|waiver| waiver.stack.clone()))
            }
            Event::Command(command) => self.subject(position, &command.request),
            Event::IncidentSnapshot(snapshot) => (Some(snapshot.incident.clone()), None),
            Event::Alert(alert) => (Some(alert.id.clone()), None),
            _ => (None, None),
        };
        if let Some(stack) = stack.or_else(|| about.stack.clone()) {
            self.timeline.push(&stack, position, time, about, event, subject);
        }
    }

    /// What a command is about: the waiver or incident, and the stack of one that was there before.
    fn subject(&self, position: u64, request: &Request) -> (Option<String>, Option<String>) {
        if let Some(id) = request.waiver(position) {
            let stack = self.waivers.get(&id).map(|waiver| waiver.stack.clone());
            return (Some(id), stack);
        }
        if let Request::MaintenanceEnd(end) = request {
            let stack = self.maintenance.get(&end.window).map(|window| window.window.stack.clone());
            return (Some(end.window.clone()), stack);
        }
        let id = request.incident(position);
        let stack = id.as_ref().and_then(|id| self.incidents.get(id)).map(|incident| incident.stack.clone());
        (id, stack)
    }

    /// What the entry at a folded position counted for.
    pub fn verdict_at(&self, position: u64) -> Verdict {
        if let Some(of) = self.duplicates.get(&position) {
            return Verdict::Duplicate { of: *of };
        }
        match self.rejected.binary_search_by_key(&position, |rejected| rejected.position) {
            Ok(index) => Verdict::Refused(self.rejected[index].refusal.clone()),
            Err(_) => Verdict::Admitted,
        }
    }

    /// SHA-256 over the whole state, hex: equal exactly when two folds agree.
    pub fn digest(&self) -> String {
        crate::domain::envelope::hex(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;

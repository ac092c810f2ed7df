//! The timeline of each stack: everything admitted about it, in order, in words.
//!
//! What the provider itself alerts of comes once a request, so it is collapsed by reason and minute.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::command::Request;
use crate::domain::event::{About, AlertState, Event, Nearing};
use crate::domain::incident::{IncidentImpact, IncidentSnapshot, IncidentWork, NoteKind};
use crate::domain::time::Time;

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Item {
    /// The entry's time.
    pub time: Time,
    /// The entry; of a collapsed line the first.
    pub position: u64,
    /// The ledger that holds it.
    pub ledger: String,
    /// Event type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The engine, where one is named.
    pub engine_hash: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// In words.
    pub summary: String,
    /// How many entries this line stands for.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// The incident or waiver it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

const fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_one(count: &u64) -> bool {
    *count == 1
}

/// All timelines, by stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    by_stack: BTreeMap<String, Vec<Item>>,
    /// Index of the line that the next provider alert of (stack, reason, minute) goes to.
    collapsing: BTreeMap<String, BTreeMap<String, (i64, usize)>>,
}

impl Timeline {
    /// Adds an admitted event to the timeline of `stack`.
    pub fn push(
        &mut self,
        stack: &str,
        position: u64,
        time: Time,
        about: &About,
        event: &Event,
        subject: Option<String>,
    ) {
        let items = self.by_stack.entry(stack.to_owned()).or_default();
        if let Event::ProviderAlert { reason, measured } = event {
            let minute = time.floor_to_seconds(60).micros();
            let open = self.collapsing.entry(stack.to_owned()).or_default();
            if let Some((_, index)) = open.get(reason).filter(|(at, _)| *at == minute)
                && let Some(item) = items.get_mut(*index)
            {
                item.count += 1;
                item.summary = format!(
                    "provider alert {reason}, {} in this minute; last {}",
                    item.count,
                    measured.as_deref().unwrap_or("without a value")
                );
                return;
            }
            open.insert(reason.clone(), (minute, items.len()));
        }
        items.push(Item {
            time,
            position,
            ledger: "governance".to_owned(),
            event_type: about.event_type.clone(),
            engine_hash: about.engine_hash.clone(),
            actor: about.actor.clone(),
            summary: summary(about, event),
            count: 1,
            about: subject,
        });
    }

    /// The lines of `stack`, oldest first.
    pub fn of(&self, stack: &str) -> &[Item] {
        self.by_stack.get(stack).map_or(&[], Vec::as_slice)
    }

    /// Stacks that have a timeline.
    pub fn stacks(&self) -> impl Iterator<Item = &String> {
        self.by_stack.keys()
    }
}

fn named(engine: &crate::domain::event::EngineRef) -> String {
    engine
        .version
        .as_ref()
        .map_or_else(|| short(&engine.engine_hash), |version| format!("{version} ({})", short(&engine.engine_hash)))
}

/// A hash short enough to read.
fn short(hash: &str) -> String {
    let digits = hash.strip_prefix("sha256:").unwrap_or(hash);
    digits.chars().take(12).collect()
}

/// An event in one line of plain words.
pub fn summary(about: &About, event: &Event) -> String {
    match event {
        Event::EnginePublished { engine, .. } => format!("engine {} published", named(engine)),
        Event::WarmupCompleted { engine, rehearsal } => {
            format!("{}warm-up of {} completed", rehearsed(*rehearsal), named(engine))
        }
        Event::WarmupFailed { engine, rehearsal, error } => {
            format!(
                "{}warm-up of {} failed: {}",
                rehearsed(*rehearsal),
                named(engine),
                error.as_deref().unwrap_or("no reason given")
            )
        }
        Event::RollbackCompleted { restored, reason, .. } => {
            format!("rolled back to {}: {}", named(restored), reason.as_deref().unwrap_or("no reason given"))
        }
        Event::BackupRecorded(backup) => {
            format!("backup {} recorded, copies at {}", backup.backup_id, listed(&backup.replication_targets))
        }
        Event::BackupVerified { backup_id, ok } => {
            format!("backup {backup_id} {}", if *ok { "verified" } else { "failed verification" })
        }
        Event::BackupRestored { backup_id } => format!("backup {backup_id} restored, every hash held"),
        Event::SpeculationCalibrated { engine, workload, attempts, accepts } => {
            format!(
                "speculation of {} calibrated for {workload}: {accepts} of {attempts} draft tokens accepted",
                named(engine)
            )
        }
        Event::ProviderAlert { reason, measured } => {
            format!("provider alert {reason}: {}", measured.as_deref().unwrap_or("no value"))
        }
        Event::WaiverReported { waiver_id, owner, .. } => format!(
            "waiver {waiver_id} reported by {}; covers nothing until finance approves",
            owner.as_deref().unwrap_or("unknown")
        ),
        Event::Alert(alert) => match alert.state {
            AlertState::Firing => format!(
                "{} firing: {} against {}, pending since {}",
                alert.rule.as_str(),
                alert.value,
                alert.threshold,
                alert.pending_since
            ),
            AlertState::Resolved => format!(
                "{} resolved{}",
                alert.rule.as_str(),
                alert.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
            ),
        },
        Event::EngineProven(proven) => {
            format!("engine {} proven: 15 minutes of latency verdicts", short(&proven.engine_hash))
        }
        Event::WaiverExpired { waiver, .. } => format!("waiver {waiver} expired"),
        Event::WaiverExhausted(exhausted) => {
            format!("waiver {} exhausted: {} USD of excess reach its cap", exhausted.waiver, exhausted.excess_usd)
        }
        Event::WaiverExpiring(expiring) => match expiring.reason {
            Nearing::Time => format!("waiver {} expires at {}", expiring.waiver, expiring.expires),
            Nearing::Cap => {
                format!("waiver {} nears its cap: {} USD of excess", expiring.waiver, expiring.excess_usd)
            }
        },
        Event::IncidentSnapshot(snapshot) => snapshot_summary(snapshot),
        Event::IncidentImpact(impact) => impact_summary(impact),
        Event::Command(command) => request_summary(&command.request),
        Event::Cut(_) | Event::WaiverSpend(_) | Event::PolicyRevised(_) | Event::FileRegistered(_) | Event::Other => {
            about.event_type.replace('_', " ")
        }
    }
}

const fn rehearsed(rehearsal: bool) -> &'static str {
    if rehearsal { "rehearsed " } else { "" }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "no target".to_owned() } else { names.join(", ") }
}

fn snapshot_summary(snapshot: &IncidentSnapshot) -> String {
    let at = snapshot.instant.map(|instant| format!(", at the cut of {instant}")).unwrap_or_default();
    format!("figures that {} found{at}", snapshot.incident)
}

fn impact_summary(impact: &IncidentImpact) -> String {
    format!(
        "{} requests affected from {} to {}: {} USD, and {} without a price",
        impact.requests(),
        impact.since,
        impact.until,
        impact.cost_usd(),
        impact.totals.unpriced
    )
}

fn incident_summary(work: &IncidentWork) -> String {
    match work {
        IncidentWork::Assign(assign) => {
            format!("{} is {} of {}", assign.assignee, assign.duty.as_str(), assign.incident)
        }
        IncidentWork::Progress(progress) => {
            let text = if progress.text.is_empty() { String::new() } else { format!(": {}", progress.text) };
            format!("incident {} {}{text}", progress.incident, progress.status.as_str())
        }
        IncidentWork::ActionItem(add) => {
            format!("action item of {} for {} until {}: {}", add.incident, add.owner, add.due, add.title)
        }
        IncidentWork::ActionItemDone(done) => format!("action item {} of {} done", done.item, done.incident),
        IncidentWork::Report(report) => format!(
            "report of {} filed{}",
            report.incident,
            report.report.as_ref().map(|at| format!(": {at}")).unwrap_or_default()
        ),
    }
}

fn request_summary(request: &Request) -> String {
    match request {
        Request::WaiverRequest(scope) => {
            let cap = scope.cap_usd.map(|cap| format!(" up to {cap} USD")).unwrap_or_default();
            let kind = if scope.retroactive { "RETROACTIVE waiver" } else { "waiver" };
            let from =
                scope.starts.filter(|_| scope.retroactive).map(|from| format!(" from {from}")).unwrap_or_default();
            let rule = scope.rule.as_str();
            format!("{kind} of {rule} requested{from} until {}{cap}: {}", scope.expires, scope.justification)
        }
        Request::WaiverApprove(decision) => format!("waiver {} approved", decision.waiver),
        Request::WaiverRefuse(decision) => {
            format!("waiver {} refused: {}", decision.waiver, decision.reason.as_deref().unwrap_or("no reason given"))
        }
        Request::WaiverRevoke(decision) => {
            format!("waiver {} revoked: {}", decision.waiver, decision.reason.as_deref().unwrap_or("no reason given"))
        }
        Request::IncidentOpen(open) => format!("incident opened: {}", open.title),
        Request::IncidentAcknowledge(note) => format!("incident {} acknowledged", note.incident),
        Request::IncidentNote(note) if note.kind == NoteKind::Note => {
            format!("note on {}: {}", note.incident, note.text)
        }
        Request::IncidentNote(note) => {
            let text = if note.text.is_empty() { String::new() } else { format!(": {}", note.text) };
            format!("{} on {}{text}", note.kind.as_str().replace('_', " "), note.incident)
        }
        Request::IncidentClose(close) => format!(
            "incident {} closed: {}{}",
            close.incident,
            close.text,
            close.report.as_ref().map(|report| format!(" (report at {report})")).unwrap_or_default()
        ),
        Request::IncidentWork(work) => incident_summary(work),
        Request::RollbackWork(work) => work.summary(),
        Request::EngineCondemn(judgement) => {
            format!("engine {} condemned: {}", short(&judgement.engine_hash), judgement.reason)
        }
        Request::EngineReinstate(judgement) => {
            format!("engine {} reinstated: {}", short(&judgement.engine_hash), judgement.reason)
        }
        Request::EngineAdopt(adopt) => format!("engine {} adopted: it runs already", short(&adopt.engine_hash)),
        Request::PrincipalEnroll(enroll) => format!("principal {} enrolled", enroll.name),
        Request::PrincipalRevoke(revoke) => format!("principal {} revoked", revoke.name),
        Request::TokenIssue(issue) => format!("token issued to {}", issue.name),
        Request::TokenRevoke(revoke) => format!("token of {} revoked", revoke.name),
        Request::IssuerTrust(trust) => format!("provider {} trusted as {}", trust.issuer, trust.alias),
        Request::IssuerDistrust(distrust) => format!("provider {} trusted no more", distrust.issuer),
        Request::PrincipalLimit(limit) => {
            format!("principal {} may approve waivers up to {} USD", limit.name, limit.finance_limit_usd)
        }
        Request::HoleConfirm(hole) => {
            format!("offsets {} to {} of {} confirmed lost: {}", hole.from, hole.to, hole.ledger, hole.reason)
        }
        Request::PolicyPropose(proposal) => {
            format!("policy revision {} proposed: {}", proposal.policy.revision, proposal.reason)
        }
        Request::PolicyApprove(decision) => format!("{} approved: it is in force", decision.proposal),
        Request::PolicyRefuse(decision) => {
            format!("{} refused: {}", decision.proposal, decision.reason.as_deref().unwrap_or("no reason given"))
        }
        Request::MaintenanceSet(window) => {
            format!("maintenance from {} to {}: {}", window.from, window.to, window.reason)
        }
        Request::MaintenanceEnd(end) => format!("{} ended early: {}", end.window, end.reason),
        Request::KeyEnroll(enroll) => format!("key of {} enrolled", enroll.author),
        Request::KeyConfirm(confirm) => format!("key {} confirmed", confirm.key_id),
        Request::KeyRevoke(revoke) => format!("key {} revoked: {}", revoke.key_id, revoke.reason),
        Request::NodeKeyRotate(rotate) => format!("key of node {} rotated", rotate.node),
        Request::LedgerKeyRotate(rotate) => format!("key of the checkpoints of node {} rotated", rotate.node),
        Request::NodeEnroll(enroll) => format!("key of node {} enrolled", enroll.node),
    }
}

//! Incidents as they stand: the list, one with its checklist, and what is overdue by the ledger's own time.
//!
//! The checklist holds the runbook's six steps. A step is done where an entry shows it, and names that entry; nothing else
//! ticks it. What no entry could show (that somebody looked, that finance was told) has a note of its own kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AnswerError, View};
use crate::domain::event::{Alert, AlertState};
use crate::domain::incident::{Duty, NoteKind, REPORT_DUE_HOURS};
use crate::domain::policy::{Rule, Severity};
use crate::domain::time::Time;
use crate::projection::alerts::RecordedAlert;
use crate::projection::governance::Governance;
use crate::projection::incidents::{ActionItem, Happened, Incident, Lifecycle, Status, Step};
use crate::projection::stacks::Stack;
use crate::projection::timeline::Item;

/// Incidents, oldest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IncidentsAnswer {
    /// All.
    pub incidents: Vec<IncidentRow>,
}

/// One incident in a list.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IncidentRow {
    /// Its id.
    pub id: String,
    /// The stack.
    pub stack: String,
    /// One line.
    pub title: String,
    /// Where it stands.
    pub status: Status,
    /// When what opened it began.
    pub began: Time,
    /// When it was known.
    pub declared: Time,
    /// When it ended, by whoever resolved or closed it, else by the last of its alerts.
    pub ended: Option<Time>,
    /// The entry that opened it.
    pub position: u64,
    /// Who leads.
    pub commander: Option<String>,
    /// Steps of the checklist that are done or not needed.
    pub steps_done: usize,
    /// When the report is due; none while it goes on, or where it is filed.
    pub report_due: Option<Time>,
    /// Whether it is past due.
    pub report_overdue: bool,
    /// Ids of action items that are past due.
    pub action_items_overdue: Vec<String>,
}

/// One incident with its checklist and timeline.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IncidentAnswer {
    /// The incident.
    #[serde(flatten)]
    pub incident: Incident,
    /// The row of the list.
    pub standing: IncidentRow,
    /// The runbook's six steps.
    pub checklist: Vec<CheckStep>,
    /// From half an hour before, warm-up failures and rollbacks first.
    pub timeline: Vec<Item>,
}

/// Whether a step is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// An entry shows it.
    Done,
    /// No entry shows it.
    Open,
    /// This incident does not need it.
    NotNeeded,
}

/// One step of the runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckStep {
    /// From 1 to 6.
    pub number: u8,
    /// What is to be done.
    pub title: String,
    /// Whether it is.
    pub state: CheckState,
    /// The entry that shows it.
    pub position: Option<u64>,
    /// Its time.
    pub time: Option<Time>,
    /// What shows it, or what would.
    pub how: String,
}

/// What an entry shows.
struct Shown {
    position: u64,
    time: Option<Time>,
    how: String,
}

impl Shown {
    fn by(step: &Step, how: String) -> Self {
        Self { position: step.position, time: Some(step.time), how }
    }
}

pub(super) fn incidents(view: &View<'_>, stack: Option<&str>) -> IncidentsAnswer {
    let all = view.governance.incidents.oldest_first().into_iter();
    let wanted = all.filter(|incident| stack.is_none_or(|stack| incident.stack == stack));
    IncidentsAnswer { incidents: wanted.map(|incident| row(view.governance, incident)).collect() }
}

pub(super) fn incident(view: &View<'_>, id: &str) -> Result<IncidentAnswer, AnswerError> {
    let incident = known(view, id)?;
    Ok(IncidentAnswer {
        incident: incident.clone(),
        standing: row(view.governance, incident),
        checklist: checklist(view.governance, incident),
        timeline: super::stack::timeline(view, &incident.stack, Some(id))?.timeline,
    })
}

pub(super) fn known<'a>(view: &View<'a>, id: &str) -> Result<&'a Incident, AnswerError> {
    let found = view.governance.incidents.get(id);
    found.ok_or_else(|| AnswerError::Unknown { kind: "incident", name: id.to_owned() })
}

/// How many incidents and action items there are, by what is due of them: for whoever watches.
pub fn due_counts(governance: &Governance) -> BTreeMap<&'static str, usize> {
    let mut counts: BTreeMap<&'static str, usize> =
        ["open", "unacknowledged", "report_overdue", "action_item_overdue"].map(|name| (name, 0)).into();
    for incident in governance.incidents.oldest_first() {
        let due = Due::of(governance, incident);
        for (name, count) in [
            ("open", usize::from(incident.status.is_open())),
            ("unacknowledged", usize::from(incident.status == Status::Open)),
            ("report_overdue", usize::from(due.report_overdue)),
            ("action_item_overdue", due.items_overdue.len()),
        ] {
            *counts.entry(name).or_default() += count;
        }
    }
    counts
}

/// What is due of an incident, by the ledger's own time: that of its last entry.
struct Due {
    ended: Option<Time>,
    report: Option<Time>,
    report_overdue: bool,
    items_overdue: Vec<String>,
}

impl Due {
    fn of(governance: &Governance, incident: &Incident) -> Self {
        let ended = ended(governance, incident).map(|(time, _)| time);
        let report =
            ended.filter(|_| incident.report.is_none()).map(|ended| ended.plus_seconds(REPORT_DUE_HOURS * 3_600));
        let is_overdue = |item: &&ActionItem| item.done.is_none() && item.due < governance.time;
        Self {
            ended,
            report,
            report_overdue: report.is_some_and(|due| due < governance.time),
            items_overdue: incident.action_items.iter().filter(is_overdue).map(|item| item.id.clone()).collect(),
        }
    }
}

/// The incident in a list.
pub(super) fn row(governance: &Governance, incident: &Incident) -> IncidentRow {
    let due = Due::of(governance, incident);
    let done = |step: &CheckStep| step.state != CheckState::Open;
    IncidentRow {
        id: incident.id.clone(),
        stack: incident.stack.clone(),
        title: incident.title.clone(),
        status: incident.status,
        began: incident.began,
        declared: incident.declared,
        ended: due.ended,
        position: incident.position,
        commander: incident.duties.get(&Duty::Commander).map(|assigned| assigned.assignee.clone()),
        steps_done: checklist(governance, incident).iter().filter(|step| done(step)).count(),
        report_due: due.report,
        report_overdue: due.report_overdue,
        action_items_overdue: due.items_overdue,
    }
}

/// The alerts of an incident, oldest first.
pub(super) fn alerts_of(governance: &Governance, incident: &Incident) -> Vec<RecordedAlert> {
    incident.alerts.iter().filter_map(|id| governance.alerts.get(id)).collect()
}

/// When an incident ended, and the entry that says so: it was resolved or closed, or the last of its alerts is over.
pub(super) fn ended(governance: &Governance, incident: &Incident) -> Option<(Time, u64)> {
    if let Some(step) = incident.ended_by() {
        return Some((step.time, step.position));
    }
    alerts_over(&alerts_of(governance, incident))
}

/// When the last of `alerts` was over; none where one fires, or there is none.
pub(super) fn alerts_over(alerts: &[RecordedAlert]) -> Option<(Time, u64)> {
    let over = |alert: &RecordedAlert| alert.alert.resolved_at.zip(alert.resolved_position);
    let over: Option<Vec<(Time, u64)>> = alerts.iter().map(over).collect();
    over?.into_iter().max()
}

/// The runbook's six steps as the ledger shows them.
pub(super) fn checklist(governance: &Governance, incident: &Incident) -> Vec<CheckStep> {
    let alerts = alerts_of(governance, incident);
    // An incident of money alone leaves the engine where it is. One opened by hand may be anything.
    let engine_is_fine = !alerts.is_empty() && alerts.iter().all(|alert| alert.alert.severity == Severity::Finance);
    let not_the_engine = engine_is_fine.then_some("only cost is affected");
    vec![
        step(1, "Acknowledge", Ok(acknowledged(incident)), "an acknowledgement"),
        step(
            2,
            "Look at the snapshot and the history",
            Ok(reviewed(incident)),
            "a note of kind `reviewed` that names the snapshot's entry",
        ),
        step(
            3,
            "Warm up the engine that serves, and see that the gate opens",
            not_the_engine.map_or_else(|| Ok(warmed(governance, incident)), Err),
            "a warm-up of the engine that serves, since the incident began",
        ),
        step(
            4,
            "Roll back, and record it",
            not_the_engine.map_or_else(|| rolled_back(incident), Err),
            "a rollback since the incident began, or a note of kind `mitigation` where it ended without one",
        ),
        step(5, "File the report", Ok(reported(incident)), "the report, filed or given on closing"),
        step(
            6,
            "Tell finance, and capture the waiver",
            told(governance, incident, &alerts),
            "a note of kind `finance_told` or a request for a waiver of cost, and that waiver's decision",
        ),
    ]
}

fn step(number: u8, title: &str, shown: Result<Option<Shown>, &str>, missing: &str) -> CheckStep {
    let (state, position, time, how) = match shown {
        Ok(Some(shown)) => (CheckState::Done, Some(shown.position), shown.time, shown.how),
        Ok(None) => (CheckState::Open, None, None, format!("shown by {missing}")),
        Err(why) => (CheckState::NotNeeded, None, None, why.to_owned()),
    };
    CheckStep { number, title: title.to_owned(), state, position, time, how }
}

fn acknowledged(incident: &Incident) -> Option<Shown> {
    incident.steps_called("acknowledged").next().map(|step| Shown::by(step, format!("acknowledged by {}", step.actor)))
}

fn reviewed(incident: &Incident) -> Option<Shown> {
    let snapshot = incident.snapshot.as_ref()?;
    let step = incident.notes(NoteKind::Reviewed).next()?;
    Some(Shown::by(step, format!("{} looked at the snapshot, entry {}", step.actor, snapshot.position)))
}

/// The last warm-up of the engine that serves now. One that failed ran, and its gate says the rest.
fn warmed(governance: &Governance, incident: &Incident) -> Option<Shown> {
    let stack = governance.stacks.get(&incident.stack)?;
    let current = stack.current()?;
    let of_current = |happened: &&Happened| happened.what != Lifecycle::RolledBack && happened.engine_hash == current;
    let warm_up = incident.lifecycle.iter().rev().find(of_current)?;
    let ended = if warm_up.what == Lifecycle::WarmupCompleted { "completed" } else { "failed" };
    let how =
        format!("warm-up of {} {ended}; {}", engine_name(warm_up), gate(governance, incident, stack, warm_up.position));
    Some(Shown { position: warm_up.position, time: Some(warm_up.time), how })
}

/// The gate in words; the entry that made it so where that is another than `shown`.
fn gate(governance: &Governance, incident: &Incident, stack: &Stack, shown: u64) -> String {
    let gate = stack.gate(governance.policy.for_stack(&incident.stack).rollout);
    let entry = if gate.position == shown { String::new() } else { format!(" (entry {})", gate.position) };
    format!("the gate is {}: {}{entry}", if gate.open { "open" } else { "closed" }, gate.reason)
}

fn rolled_back(incident: &Incident) -> Result<Option<Shown>, &'static str> {
    let rollback = incident.lifecycle.iter().find(|happened| happened.what == Lifecycle::RolledBack);
    if rollback.is_none() && incident.ended_by().is_some() && incident.notes(NoteKind::Mitigation).next().is_some() {
        return Err("it ended by another mitigation");
    }
    Ok(rollback.map(|rollback| Shown {
        position: rollback.position,
        time: Some(rollback.time),
        how: format!("rolled back to {}", engine_name(rollback)),
    }))
}

/// An engine by its version, where it has one.
pub(super) fn engine_name(happened: &Happened) -> String {
    happened.version.clone().unwrap_or_else(|| happened.engine_hash.clone())
}

fn reported(incident: &Incident) -> Option<Shown> {
    let filed = incident.report.as_ref()?;
    let at = filed.report.as_ref().map(|at| format!(", at {at}")).unwrap_or_default();
    Some(Shown { position: filed.position, time: Some(filed.time), how: format!("filed by {}{at}", filed.actor) })
}

/// Finance knows, and its decision is here: a delivery is no entry, so a note or a request for a waiver shows it.
fn told(governance: &Governance, incident: &Incident, alerts: &[RecordedAlert]) -> Result<Option<Shown>, &'static str> {
    let costs: Vec<&RecordedAlert> = alerts.iter().filter(|alert| alert.alert.severity == Severity::Finance).collect();
    if costs.is_empty() {
        return Err("cost is not affected");
    }
    let waivers = governance.waivers.oldest_first();
    let of_cost = |scope: &crate::domain::command::WaiverScope| {
        scope.stack == incident.stack && scope.rule == Rule::CostPerRequest
    };
    // One that covers already was decided before; of those asked for since, the last decision counts.
    let covering = costs.iter().find_map(|alert| cover(governance, &alert.alert));
    let decided = waivers
        .iter()
        .filter(|(_, waiver)| waiver.scope.as_ref().is_some_and(of_cost) && waiver.position > incident.position)
        .map(|(id, waiver)| (*id, waiver.position, waiver.decided_position));
    let asked: Vec<_> = decided.collect();
    let note = incident.notes(NoteKind::FinanceTold).next();
    let told = note
        .map(|step| (step.position, format!("finance was told by {}", step.actor)))
        .or_else(|| asked.first().map(|(id, position, _)| (*position, format!("{id} was asked for"))));
    let captured = asked
        .iter()
        .rev()
        .find_map(|(id, _, decision)| decision.map(|position| (position, format!("{id} was decided"))))
        .or_else(|| covering.map(|(id, position)| (position, format!("{id} covers it"))))
        .or_else(|| {
            // What is over needs no cover, unless somebody waits for a decision.
            let over: Vec<RecordedAlert> = costs.iter().map(|alert| (*alert).clone()).collect();
            let over = alerts_over(&over).filter(|_| asked.is_empty());
            over.map(|(_, position)| (position, "the overrun ended without a waiver".to_owned()))
        });
    Ok(told.zip(captured).map(|((told_at, told), (captured_at, captured))| Shown {
        position: told_at.max(captured_at),
        time: None,
        how: format!("{told} (entry {told_at}); {captured} (entry {captured_at})"),
    }))
}

/// The waiver that covers an alert of cost, and the entry that approved it.
fn cover(governance: &Governance, alert: &Alert) -> Option<(String, u64)> {
    let at = if alert.state == AlertState::Firing { governance.time } else { alert.firing_since };
    let id = governance.waivers.covers(&alert.stack, &alert.engine_hash, alert.rule, at)?;
    let position = governance.waivers.get(id).and_then(|waiver| waiver.decided_position)?;
    Some((id.to_owned(), position))
}

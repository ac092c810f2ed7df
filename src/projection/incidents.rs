//! Incidents: opened by an alert that pages or costs, or by hand; worked; resolved; closed with a report.
//!
//! In scope: what the entries say of each. Out of scope: what follows from it at the time of an answer (the checklist, what
//! is overdue, the report), which is [`super::answers`]' part.
//!
//! A stack has at most one incident that is neither resolved nor closed; further alerts join it.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the incident requests mean anything here")]

mod decide;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::timeline::{Item, Timeline};
use crate::domain::command::{IncidentOpen, Request, incident_id};
use crate::domain::event::{Alert, AlertState, Event};
use crate::domain::incident::{
    ActionItemAdd, Duty, IncidentImpact, IncidentSnapshot, IncidentWork, NoteKind, Progress, action_item_id,
};
use crate::domain::policy::Severity;
use crate::domain::time::Time;

/// How far back the history goes that an incident takes along.
const HISTORY_SECONDS: i64 = 24 * 3_600;

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has acknowledged it.
    Open,
    /// Somebody works on it.
    Acknowledged,
    /// The cause is looked for.
    Investigating,
    /// The cause is known.
    Identified,
    /// A remedy is in place and watched.
    Monitoring,
    /// Over; not yet closed.
    Resolved,
    /// Closed.
    Closed,
}

impl Status {
    /// Whether a further alert joins it.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Resolved | Self::Closed)
    }
}

impl From<Progress> for Status {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Investigating => Self::Investigating,
            Progress::Identified => Self::Identified,
            Progress::Monitoring => Self::Monitoring,
            Progress::Resolved => Self::Resolved,
        }
    }
}

/// One step in an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Step {
    /// When.
    pub time: Time,
    /// The entry.
    pub position: u64,
    /// Who.
    pub actor: String,
    /// `acknowledged`, the kind of a note, `assigned`, a status, `action_item`, `action_item_done`, `reported` or `closed`.
    pub step: String,
    /// What was said.
    pub text: String,
}

/// Who has a duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Assigned {
    /// Who.
    pub assignee: String,
    /// The entry that says so.
    pub position: u64,
}

/// Something to be done afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ActionItem {
    /// Its id: `act-` and the position of the entry that made it.
    pub id: String,
    /// What.
    pub title: String,
    /// Who sees to it.
    pub owner: String,
    /// Overdue after this.
    pub due: Time,
    /// The entry.
    pub position: u64,
    /// When it was done.
    pub done: Option<Time>,
    /// The entry that says so.
    pub done_position: Option<u64>,
}

/// The report, as it was filed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Filed {
    /// When.
    pub time: Time,
    /// The entry.
    pub position: u64,
    /// Who.
    pub actor: String,
    /// The report itself, where it is kept here.
    pub text: String,
    /// Where it lies, where it is kept elsewhere.
    pub report: Option<String>,
}

/// A warm-up or rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// A warm-up ended well.
    WarmupCompleted,
    /// A warm-up failed.
    WarmupFailed,
    /// The stack went back.
    RolledBack,
}

/// What the stack reported while the incident was open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Happened {
    /// When.
    pub time: Time,
    /// The entry.
    pub position: u64,
    /// What.
    pub what: Lifecycle,
    /// The engine that was warmed, or that serves again.
    pub engine_hash: String,
    /// Its version.
    pub version: Option<String>,
    /// Why, as reported.
    pub reason: Option<String>,
}

impl Happened {
    /// Of an event, where it is a warm-up that is no rehearsal, or a rollback.
    pub fn of(position: u64, time: Time, event: &Event) -> Option<Self> {
        let (what, engine, reason) = match event {
            Event::WarmupCompleted { engine, rehearsal: false } => (Lifecycle::WarmupCompleted, engine, None),
            Event::WarmupFailed { engine, rehearsal: false, error } => (Lifecycle::WarmupFailed, engine, error.clone()),
            Event::RollbackCompleted { restored, reason, .. } => (Lifecycle::RolledBack, restored, reason.clone()),
            _ => return None,
        };
        Some(Self {
            time,
            position,
            what,
            engine_hash: engine.engine_hash.clone(),
            version: engine.version.clone(),
            reason,
        })
    }
}

/// A saying about an incident with its entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Recorded<T> {
    /// The entry.
    pub position: u64,
    /// What it says.
    #[serde(flatten)]
    pub said: T,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Incident {
    /// Its id: `inc-` and the position of the entry that opened it.
    pub id: String,
    /// The stack.
    pub stack: String,
    /// One line.
    pub title: String,
    /// Where it stands.
    pub status: Status,
    /// When it was opened.
    pub opened: Time,
    /// When what opened it was known: the alert's firing instant.
    pub declared: Time,
    /// When what opened it began: the first cut in breach; when opened by hand, then.
    pub began: Time,
    /// The entry that opened it.
    pub position: u64,
    /// Who opened it; none for an alert.
    pub opened_by: Option<String>,
    /// Alerts that belong to it.
    pub alerts: Vec<String>,
    /// Who has which duty.
    pub duties: BTreeMap<Duty, Assigned>,
    /// What was done.
    pub steps: Vec<Step>,
    /// The figures that it found.
    pub snapshot: Option<Recorded<IncidentSnapshot>>,
    /// Warm-up failures and rollbacks of the stack in the 24 hours before it was opened.
    pub history: Vec<Item>,
    /// Warm-ups and rollbacks while it was open, and from its beginning on.
    pub lifecycle: Vec<Happened>,
    /// What it cost, episode by episode, as said at the end of each.
    pub impact: Vec<Recorded<IncidentImpact>>,
    /// What is to be done afterwards.
    pub action_items: Vec<ActionItem>,
    /// The report.
    pub report: Option<Filed>,
}

/// All incidents, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incidents {
    by_id: BTreeMap<String, Incident>,
    open_by_stack: BTreeMap<String, String>,
    /// Warm-ups and rollbacks of the last day, by stack: what an alert that fires late may find has happened already.
    recent: BTreeMap<String, Vec<Happened>>,
}

/// What opens an incident.
struct Opening<'a> {
    position: u64,
    time: Time,
    began: Time,
    declared: Time,
    stack: &'a str,
    title: String,
    opened_by: Option<String>,
    alerts: Vec<String>,
}

impl Incidents {
    /// Folds an admitted event that is no command, on `stack` where it names one.
    pub fn observe(&mut self, position: u64, time: Time, stack: Option<&str>, event: &Event, timeline: &Timeline) {
        match event {
            Event::Alert(alert) => self.alert(position, time, alert, timeline),
            Event::IncidentSnapshot(snapshot) => self.attach(position, snapshot),
            Event::IncidentImpact(impact) => self.cost(position, impact),
            _ => {
                if let Some(stack) = stack {
                    self.lifecycle(position, time, stack, event);
                }
            }
        }
    }

    /// Folds an alert of ours.
    fn alert(&mut self, position: u64, time: Time, alert: &Alert, timeline: &Timeline) {
        if alert.state != AlertState::Firing || !matches!(alert.severity, Severity::Page | Severity::Finance) {
            return;
        }
        if let Some(incident) = self.open_by_stack.get(&alert.stack).and_then(|id| self.by_id.get_mut(id)) {
            incident.alerts.push(alert.id.clone());
            incident.began = incident.began.min(alert.pending_since);
            return;
        }
        let title = format!("{} on {}: {} against {}", alert.rule.as_str(), alert.stack, alert.value, alert.threshold);
        let opening = Opening {
            position,
            time,
            began: alert.pending_since,
            declared: alert.firing_since,
            stack: &alert.stack,
            title,
            opened_by: None,
            alerts: vec![alert.id.clone()],
        };
        self.open(opening, timeline);
    }

    fn open(&mut self, opening: Opening<'_>, timeline: &Timeline) {
        let Opening { position, time, began, declared, stack, title, opened_by, alerts } = opening;
        let id = incident_id(position);
        let recent = self.recent.get(stack).map_or(&[][..], Vec::as_slice);
        let incident = Incident {
            id: id.clone(),
            stack: stack.to_owned(),
            title,
            status: Status::Open,
            opened: time,
            declared,
            began,
            position,
            opened_by,
            alerts,
            duties: BTreeMap::new(),
            steps: Vec::new(),
            snapshot: None,
            history: history(timeline.of(stack), position, time),
            lifecycle: recent.iter().filter(|happened| happened.time >= began).cloned().collect(),
            impact: Vec::new(),
            action_items: Vec::new(),
            report: None,
        };
        self.open_by_stack.insert(stack.to_owned(), id.clone());
        self.by_id.insert(id, incident);
    }

    /// Folds what the stack reports of warm-ups and rollbacks.
    fn lifecycle(&mut self, position: u64, time: Time, stack: &str, event: &Event) {
        let Some(happened) = Happened::of(position, time, event) else { return };
        if let Some(incident) = self.open_by_stack.get(stack).and_then(|id| self.by_id.get_mut(id)) {
            incident.lifecycle.push(happened.clone());
        }
        let recent = self.recent.entry(stack.to_owned()).or_default();
        recent.retain(|earlier| earlier.time > time.plus_seconds(-HISTORY_SECONDS));
        recent.push(happened);
    }

    /// Folds an admitted incident command.
    pub fn apply(&mut self, position: u64, time: Time, principal: &str, request: &Request, timeline: &Timeline) {
        if let Request::IncidentOpen(IncidentOpen { stack, title }) = request {
            let opening = Opening {
                position,
                time,
                began: time,
                declared: time,
                stack,
                title: title.clone(),
                opened_by: Some(principal.to_owned()),
                alerts: Vec::new(),
            };
            return self.open(opening, timeline);
        }
        let Some(incident) = request.incident(position).and_then(|id| self.by_id.get_mut(&id)) else { return };
        incident.work(position, time, principal, request);
        if incident.status.is_open() {
            self.open_by_stack.insert(incident.stack.clone(), incident.id.clone());
        } else if self.open_by_stack.get(&incident.stack) == Some(&incident.id) {
            self.open_by_stack.remove(&incident.stack);
        }
    }

    /// Folds the figures that an incident found.
    fn attach(&mut self, position: u64, snapshot: &IncidentSnapshot) {
        if let Some(incident) = self.by_id.get_mut(&snapshot.incident) {
            incident.snapshot = Some(Recorded { position, said: snapshot.clone() });
        }
    }

    /// Folds what an episode cost. It belongs to the incident that its first alert belongs to.
    fn cost(&mut self, position: u64, impact: &IncidentImpact) {
        let holds = |incident: &&mut Incident| {
            incident.stack == impact.stack && impact.alerts.first().is_some_and(|first| incident.alerts.contains(first))
        };
        if let Some(incident) = self.by_id.values_mut().find(holds) {
            incident.impact.push(Recorded { position, said: impact.clone() });
        }
    }

    /// One incident.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.by_id.get(id)
    }

    /// The incident of `stack` that is neither resolved nor closed.
    pub fn open_on(&self, stack: &str) -> Option<&Incident> {
        self.open_by_stack.get(stack).and_then(|id| self.by_id.get(id))
    }

    /// All, oldest first.
    pub fn oldest_first(&self) -> Vec<&Incident> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by_key(|incident| incident.position);
        all
    }
}

impl Incident {
    fn work(&mut self, position: u64, time: Time, principal: &str, request: &Request) {
        let (step, text) = match request {
            Request::IncidentAcknowledge(acknowledgement) => {
                if self.status == Status::Open {
                    self.status = Status::Acknowledged;
                }
                ("acknowledged", acknowledgement.text.clone())
            }
            Request::IncidentNote(note) => (note.kind.as_str(), note.text.clone()),
            Request::IncidentClose(close) => {
                self.status = Status::Closed;
                self.file(position, time, principal, &close.text, close.report.as_deref());
                ("closed", said(&close.text, close.report.as_deref()))
            }
            Request::IncidentWork(work) => self.further(position, time, principal, work),
            _ => return,
        };
        self.steps.push(Step { time, position, actor: principal.to_owned(), step: step.to_owned(), text });
    }

    /// What to remember of a further act, and its effect.
    fn further(&mut self, position: u64, time: Time, principal: &str, work: &IncidentWork) -> (&'static str, String) {
        match work {
            IncidentWork::Assign(assign) => {
                self.duties.insert(assign.duty, Assigned { assignee: assign.assignee.clone(), position });
                ("assigned", format!("{} is {}", assign.assignee, assign.duty.as_str()))
            }
            IncidentWork::Progress(progress) => {
                self.status = progress.status.into();
                (progress.status.as_str(), progress.text.clone())
            }
            IncidentWork::ActionItem(ActionItemAdd { title, owner, due, .. }) => {
                let id = action_item_id(position);
                let text = format!("{id} for {owner} until {due}: {title}");
                let (title, owner, due) = (title.clone(), owner.clone(), *due);
                self.action_items.push(ActionItem { id, title, owner, due, position, done: None, done_position: None });
                ("action_item", text)
            }
            IncidentWork::ActionItemDone(done) => {
                if let Some(item) = self.action_items.iter_mut().find(|item| item.id == done.item) {
                    (item.done, item.done_position) = (Some(time), Some(position));
                }
                let text = if done.text.is_empty() { String::new() } else { format!(": {}", done.text) };
                ("action_item_done", format!("{}{text}", done.item))
            }
            IncidentWork::Report(report) => {
                self.file(position, time, principal, &report.text, report.report.as_deref());
                ("reported", said(&report.text, report.report.as_deref()))
            }
        }
    }

    fn file(&mut self, position: u64, time: Time, principal: &str, text: &str, report: Option<&str>) {
        let report = report.filter(|report| !report.trim().is_empty());
        if text.trim().is_empty() && report.is_none() {
            return;
        }
        self.report = Some(Filed {
            time,
            position,
            actor: principal.to_owned(),
            text: text.to_owned(),
            report: report.map(str::to_owned),
        });
    }

    /// The steps called `step`, oldest first.
    pub fn steps_called<'a>(&'a self, step: &'a str) -> impl DoubleEndedIterator<Item = &'a Step> {
        self.steps.iter().filter(move |taken| taken.step == step)
    }

    /// Notes of a kind, oldest first.
    pub fn notes(&self, kind: NoteKind) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps_called(kind.as_str())
    }

    /// The step that resolved or closed it, where it is; of two, the earlier.
    pub fn ended_by(&self) -> Option<&Step> {
        if self.status.is_open() {
            return None;
        }
        let last_open = self.steps.iter().rposition(|step| is_open_status(&step.step)).map_or(0, |index| index + 1);
        self.steps.iter().skip(last_open).find(|step| step.step == "resolved" || step.step == "closed")
    }
}

/// Whether a step put an incident into a status in which it is open.
fn is_open_status(step: &str) -> bool {
    Progress::ALL.iter().any(|progress| *progress != Progress::Resolved && progress.as_str() == step)
}

fn said(text: &str, report: Option<&str>) -> String {
    match report {
        None => text.to_owned(),
        Some(report) if text.is_empty() => format!("report at {report}"),
        Some(report) => format!("{text} (report at {report})"),
    }
}

/// Warm-up failures and rollbacks of the day before the entry at `position`.
fn history(items: &[Item], position: u64, time: Time) -> Vec<Item> {
    let from = time.plus_seconds(-HISTORY_SECONDS);
    let is_wanted = |item: &&Item| {
        item.time >= from
            && item.position < position
            && matches!(item.event_type.as_str(), "llm_warmup_failed" | "llm_rollback_completed")
    };
    items.iter().filter(is_wanted).cloned().collect()
}

//! Incidents: opened by an alert that pages or costs, or by hand; worked; closed with a report.
//!
//! A stack has at most one open incident; further alerts join it.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the incident requests mean anything here")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::command::{IncidentNote, Request, incident_id};
use crate::domain::event::{Alert, AlertState};
use crate::domain::policy::Severity;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::time::Time;

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has acknowledged it.
    Open,
    /// Somebody works on it.
    Acknowledged,
    /// Over.
    Closed,
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
    /// `acknowledged`, `note` or `closed`.
    pub step: String,
    /// What was said.
    pub text: String,
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
    /// When what opened it began: the alert's firing instant.
    pub declared: Time,
    /// The entry that opened it.
    pub position: u64,
    /// Who opened it; none for an alert.
    pub opened_by: Option<String>,
    /// Alerts that belong to it.
    pub alerts: Vec<String>,
    /// What was done.
    pub steps: Vec<Step>,
}

/// All incidents, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incidents {
    by_id: BTreeMap<String, Incident>,
    open_by_stack: BTreeMap<String, String>,
}

impl Incidents {
    /// Folds an alert of ours.
    pub fn alert(&mut self, position: u64, time: Time, alert: &Alert) {
        if alert.state != AlertState::Firing || !matches!(alert.severity, Severity::Page | Severity::Finance) {
            return;
        }
        if let Some(incident) = self.open_by_stack.get(&alert.stack).and_then(|id| self.by_id.get_mut(id)) {
            incident.alerts.push(alert.id.clone());
            return;
        }
        let title = format!("{} on {}: {} against {}", alert.rule.as_str(), alert.stack, alert.value, alert.threshold);
        self.open(position, time, alert.firing_since, &alert.stack, title, None, vec![alert.id.clone()]);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a new incident, each from another source")]
    fn open(
        &mut self,
        position: u64,
        time: Time,
        declared: Time,
        stack: &str,
        title: String,
        opened_by: Option<String>,
        alerts: Vec<String>,
    ) {
        let id = incident_id(position);
        self.open_by_stack.insert(stack.to_owned(), id.clone());
        let incident = Incident {
            id: id.clone(),
            stack: stack.to_owned(),
            title,
            status: Status::Open,
            opened: time,
            declared,
            position,
            opened_by,
            alerts,
            steps: Vec::new(),
        };
        self.by_id.insert(id, incident);
    }

    /// Decides about an incident command.
    pub fn decide(&self, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::IncidentOpen(open) => {
                match self.open_by_stack.get(&open.stack).and_then(|id| self.by_id.get(id)) {
                    Some(incident) => {
                        Err(refuse("stack", format!("{} already has the open incident {}", open.stack, incident.id))
                            .by(incident.position))
                    }
                    None if open.title.trim().is_empty() => Err(refuse("title", "field `title` is empty")),
                    None => Ok(()),
                }
            }
            Request::IncidentAcknowledge(note) | Request::IncidentNote(note) => self.still_open(note).map(|_| ()),
            Request::IncidentClose(note) => {
                self.still_open(note)?;
                if note.text.trim().is_empty() {
                    Err(refuse("text", "closing an incident takes a report in `text`"))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn still_open(&self, note: &IncidentNote) -> Result<&Incident, Refusal> {
        let incident = self
            .by_id
            .get(&note.incident)
            .ok_or_else(|| refuse("incident", format!("there is no incident {:?}", note.incident)))?;
        if incident.status == Status::Closed {
            let position = incident.steps.last().map_or(incident.position, |step| step.position);
            return Err(refuse("incident", format!("{} is closed", note.incident)).by(position));
        }
        Ok(incident)
    }

    /// Folds an admitted incident command.
    pub fn apply(&mut self, position: u64, time: Time, principal: &str, request: &Request) {
        let (note, step) = match request {
            Request::IncidentOpen(open) => {
                return self.open(
                    position,
                    time,
                    time,
                    &open.stack,
                    open.title.clone(),
                    Some(principal.to_owned()),
                    Vec::new(),
                );
            }
            Request::IncidentAcknowledge(note) => (note, "acknowledged"),
            Request::IncidentNote(note) => (note, "note"),
            Request::IncidentClose(note) => (note, "closed"),
            _ => return,
        };
        let Some(incident) = self.by_id.get_mut(&note.incident) else { return };
        incident.steps.push(Step {
            time,
            position,
            actor: principal.to_owned(),
            step: step.to_owned(),
            text: note.text.clone(),
        });
        match step {
            "acknowledged" => incident.status = Status::Acknowledged,
            "closed" => {
                incident.status = Status::Closed;
                self.open_by_stack.remove(&incident.stack);
            }
            _ => {}
        }
    }

    /// One incident.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.by_id.get(id)
    }

    /// All, oldest first.
    pub fn oldest_first(&self) -> Vec<&Incident> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by_key(|incident| incident.position);
        all
    }
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

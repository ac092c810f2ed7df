//! What is refused about incidents: acts on one that is unknown or closed, and acts that say too little.

use super::{Incident, Incidents, Status};
use crate::domain::command::Request;
use crate::domain::incident::{IncidentWork, NoteKind, Progress};
use crate::domain::refusal::{Code, Refusal};
use crate::domain::time::Time;

impl Incidents {
    /// Decides about an incident command at `time`. Whether closing takes a report is the policy's to say.
    pub fn decide(&self, time: Time, needs_report: bool, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::IncidentOpen(open) => match self.open_on(&open.stack) {
                Some(incident) => {
                    Err(refuse("stack", format!("{} already has the open incident {}", open.stack, incident.id))
                        .by(incident.position))
                }
                None => filled("title", &open.title),
            },
            Request::IncidentAcknowledge(acknowledgement) => self.not_closed(&acknowledgement.incident).map(drop),
            Request::IncidentNote(note) => {
                let incident = self.not_closed(&note.incident)?;
                match note.kind {
                    NoteKind::Reviewed => saw_snapshot(incident, note.snapshot),
                    NoteKind::RootCause | NoteKind::Mitigation => filled("text", &note.text),
                    NoteKind::Note | NoteKind::FinanceTold => Ok(()),
                }
            }
            Request::IncidentClose(close) => {
                let incident = self.not_closed(&close.incident)?;
                let has_report = incident.report.is_some() || has_report(&close.text, close.report.as_deref());
                if has_report || !needs_report {
                    return Ok(());
                }
                Err(refuse("text", "closing an incident takes a report in `text`, or `report`, where it lies"))
            }
            Request::IncidentWork(work) => self.decide_work(time, work),
            _ => Ok(()),
        }
    }

    fn decide_work(&self, time: Time, work: &IncidentWork) -> Result<(), Refusal> {
        match work {
            IncidentWork::Assign(assign) => {
                self.not_closed(&assign.incident)?;
                filled("assignee", &assign.assignee)
            }
            IncidentWork::Progress(progress) => {
                let incident = self.not_closed(&progress.incident)?;
                match self.open_on(&incident.stack) {
                    // One that was resolved is open again by this, and a stack has one open incident.
                    Some(other) if other.id != incident.id && progress.status != Progress::Resolved => {
                        Err(refuse("incident", format!("{} has the open incident {}", incident.stack, other.id))
                            .by(other.position))
                    }
                    _ => Ok(()),
                }
            }
            // What is to be done afterwards is done afterwards, and a report may come after the end.
            IncidentWork::ActionItem(add) => {
                self.known(&add.incident)?;
                filled("title", &add.title)?;
                filled("owner", &add.owner)?;
                if add.due <= time {
                    return Err(refuse("due", format!("{} is past: it is {time}", add.due)));
                }
                Ok(())
            }
            IncidentWork::ActionItemDone(done) => {
                let incident = self.known(&done.incident)?;
                let item =
                    incident.action_items.iter().find(|item| item.id == done.item).ok_or_else(|| {
                        refuse("item", format!("{} has no action item {:?}", done.incident, done.item))
                    })?;
                match item.done_position {
                    Some(position) => Err(refuse("item", format!("{} is done", done.item)).by(position)),
                    None => Ok(()),
                }
            }
            IncidentWork::Report(report) => {
                self.known(&report.incident)?;
                if has_report(&report.text, report.report.as_deref()) {
                    return Ok(());
                }
                Err(refuse("text", "a report is its `text`, or `report`, where it lies"))
            }
        }
    }

    fn known(&self, id: &str) -> Result<&Incident, Refusal> {
        self.get(id).ok_or_else(|| refuse("incident", format!("there is no incident {id:?}")))
    }

    fn not_closed(&self, id: &str) -> Result<&Incident, Refusal> {
        let incident = self.known(id)?;
        if incident.status == Status::Closed {
            let position = incident.steps_called("closed").next().map_or(incident.position, |step| step.position);
            return Err(refuse("incident", format!("{id} is closed")).by(position));
        }
        Ok(incident)
    }
}

fn saw_snapshot(incident: &Incident, named: Option<u64>) -> Result<(), Refusal> {
    let Some(snapshot) = &incident.snapshot else {
        return Err(refuse("snapshot", format!("{} has no snapshot yet that could be looked at", incident.id)));
    };
    if named == Some(snapshot.position) {
        return Ok(());
    }
    let named = named.map_or_else(|| "none".to_owned(), |position| position.to_string());
    Err(refuse("snapshot", format!("the snapshot is entry {}, the note names {named}", snapshot.position))
        .by(snapshot.position))
}

fn has_report(text: &str, report: Option<&str>) -> bool {
    [Some(text), report].into_iter().flatten().any(|given| !given.trim().is_empty())
}

fn filled(field: &str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() { Err(refuse(field, format!("field `{field}` is empty"))) } else { Ok(()) }
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

//! `incidents`: what people do about one, each act a command.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "reading and acting are told apart, and acts on incidents from all others"
)]

use serde_json::Value;

use super::args::{IncidentTask, Options, Past, ReportGiven};
use super::decide::{PRESENT, give, read_to_decide};
use super::error::{CliError, Exit, Outcome, file_error};
use super::out;
use super::source::Place;
use crate::domain::command::{Acknowledgement, IncidentClose, IncidentNote, IncidentOpen, Request};
use crate::domain::incident::{
    ActionItemAdd, ActionItemDone, IncidentAssign, IncidentProgress, IncidentReport, IncidentWork, NoteKind,
};
use crate::projection::answers::Asked;

/// `incidents`.
pub(crate) fn run(place: &Place, options: &Options, task: Option<IncidentTask>) -> Outcome {
    match task.unwrap_or(IncidentTask::List { stack: None, past: PRESENT }) {
        IncidentTask::List { stack, past } => super::ask::answer(place, options, &Asked::Incidents { stack }, past),
        IncidentTask::Show { id, past } => super::ask::answer(place, options, &Asked::Incident { id }, past),
        IncidentTask::Report { id, format, past } => report(place, options, id, &format, past),
        act => {
            let (request, key) = request(place, act)?;
            give(place, options, key, &request)
        }
    }
}

/// The report, in a form to be kept or handed on.
fn report(place: &Place, options: &Options, id: String, format: &str, past: Past) -> Outcome {
    let body = place.open()?.ask(&Asked::IncidentReport { id }, past.as_of)?.body;
    match format {
        _ if options.json => out::json(&body),
        "html" => out::line(crate::web::report_html(&body).trim_end()),
        "json" => out::json(&body),
        _ => out::line(crate::web::report_markdown(&body).trim_end()),
    }
    Ok(Exit::Fine)
}

/// What an act asks of the ledger, and under which key.
fn request(place: &Place, task: IncidentTask) -> Result<(Request, Option<String>), CliError> {
    let work = Request::IncidentWork;
    Ok(match task {
        IncidentTask::Open { stack, title, key } => (Request::IncidentOpen(IncidentOpen { stack, title }), key),
        IncidentTask::Ack { id, text, key } => {
            let text = text.unwrap_or_default();
            (Request::IncidentAcknowledge(Acknowledgement { incident: id, text }), key)
        }
        IncidentTask::Assign { id, assignee, duty, key } => {
            (work(IncidentWork::Assign(IncidentAssign { incident: id, duty, assignee })), key)
        }
        IncidentTask::Note { id, text, kind, snapshot, key } => {
            let snapshot = match snapshot {
                None if kind == NoteKind::Reviewed => seen_snapshot(place, &id)?,
                given => given,
            };
            (Request::IncidentNote(IncidentNote { incident: id, text, kind, snapshot }), key)
        }
        IncidentTask::Status { id, status, text, key } => {
            (work(IncidentWork::Progress(IncidentProgress { incident: id, status, text })), key)
        }
        IncidentTask::ActionItem { id, title, owner, due, key } => {
            (work(IncidentWork::ActionItem(ActionItemAdd { incident: id, title, owner, due })), key)
        }
        IncidentTask::ActionDone { id, item, text, key } => {
            (work(IncidentWork::ActionItemDone(ActionItemDone { incident: id, item, text })), key)
        }
        IncidentTask::FileReport { id, report, key } => {
            let (text, report) = given(report)?;
            (work(IncidentWork::Report(IncidentReport { incident: id, text, report })), key)
        }
        IncidentTask::Close { id, report, key } => {
            let (text, report) = given(report)?;
            (Request::IncidentClose(IncidentClose { incident: id, text, report }), key)
        }
        IncidentTask::List { .. } | IncidentTask::Show { .. } | IncidentTask::Report { .. } => {
            return Err(CliError::failed("reading is no act"));
        }
    })
}

/// The report's text and where it lies.
fn given(report: ReportGiven) -> Result<(String, Option<String>), CliError> {
    let text = match (report.report, report.report_file) {
        (Some(text), _) => text,
        (None, Some(path)) => std::fs::read_to_string(&path).map_err(file_error(&path))?,
        (None, None) => String::new(),
    };
    Ok((text, report.report_at))
}

/// The entry of an incident's snapshot as it stands: what a review without `--snapshot` is of.
fn seen_snapshot(place: &Place, id: &str) -> Result<Option<u64>, CliError> {
    let asked = Asked::Incident { id: id.to_owned() };
    Ok(read_to_decide(place, &asked)?["snapshot"]["position"].as_u64())
}

/// Where the API takes an act, and with which body: the request without what the path names.
pub(super) fn route(request: &Request) -> Result<(String, Value), CliError> {
    let mut body = request.json();
    let mut take = |name: &str| {
        let taken = body.as_object_mut().and_then(|object| object.remove(name));
        taken.and_then(|value| value.as_str().map(out::encode)).unwrap_or_default()
    };
    let incident = take("incident");
    let verb = match request {
        Request::IncidentAcknowledge(_) => "acknowledge".to_owned(),
        Request::IncidentNote(_) => "notes".to_owned(),
        Request::IncidentClose(_) => "close".to_owned(),
        Request::IncidentWork(IncidentWork::Assign(_)) => "assign".to_owned(),
        Request::IncidentWork(IncidentWork::Progress(_)) => "status".to_owned(),
        Request::IncidentWork(IncidentWork::ActionItem(_)) => "action-items".to_owned(),
        Request::IncidentWork(IncidentWork::ActionItemDone(_)) => format!("action-items/{}/done", take("item")),
        Request::IncidentWork(IncidentWork::Report(_)) => "report".to_owned(),
        _ => return Err(CliError::failed("this is no act on an incident")),
    };
    Ok((format!("/v1/incidents/{incident}/{verb}"), body))
}

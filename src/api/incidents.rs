//! What people do about an incident, each act a command, and its report as JSON, Markdown or HTML. The incident is named by
//! the path, what is said by the body.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::ApiState;
use super::commands::{Input, Order, order};
use super::problem::{Kind, Problem};
use super::read;
use crate::domain::command::{Acknowledgement, IncidentClose, IncidentNote, IncidentOpen, Request};
use crate::domain::incident::{
    ActionItemAdd, ActionItemDone, Duty, IncidentAssign, IncidentProgress, IncidentReport, IncidentWork, NoteKind,
    Progress,
};
use crate::domain::time::Time;
use crate::web;

/// What to remember.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TextBody {
    /// What to remember.
    pub text: String,
}

/// Something said about an incident.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NoteBody {
    /// What.
    pub text: String,
    /// What the note is.
    pub kind: NoteKind,
    /// Of a `reviewed` note: the entry of the snapshot that was looked at. Where absent, that of the incident as it is.
    pub snapshot: Option<u64>,
}

/// The report of an incident.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReportBody {
    /// The report itself, or what to remember.
    pub text: String,
    /// Where the report lies, where it is kept elsewhere.
    pub report: Option<String>,
}

/// Gives somebody a duty.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AssignBody {
    /// The duty.
    pub duty: Duty,
    /// Who.
    pub assignee: String,
}

/// How far the work is.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProgressBody {
    /// How far.
    pub status: Progress,
    /// What to remember.
    #[serde(default)]
    pub text: String,
}

/// Something to be done afterwards.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionItemBody {
    /// What.
    pub title: String,
    /// Who sees to it.
    pub owner: String,
    /// Overdue after this.
    pub due: Time,
}

/// An order about an incident that the ledger knows; about another, 404 and no entry.
async fn about(input: Input, incident: &str, body: Body) -> Result<Order, Problem> {
    let order = order(input, body).await?;
    if order.state.handle().shared().governance().incidents.get(incident).is_none() {
        return Err(Problem::new(Kind::NotFound, format!("the ledger has never heard of incident {incident:?}")));
    }
    Ok(order)
}

/// `POST /v1/incidents`.
pub(crate) async fn open(input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let open: IncidentOpen = order.json()?;
    order.give(Request::IncidentOpen(open)).await
}

/// `POST /v1/incidents/{id}/acknowledge`.
pub(crate) async fn acknowledge(Path(incident): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let TextBody { text } = order.json()?;
    order.give(Request::IncidentAcknowledge(Acknowledgement { incident, text })).await
}

/// `POST /v1/incidents/{id}/notes`.
pub(crate) async fn note(Path(incident): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let NoteBody { text, kind, mut snapshot } = order.json()?;
    if kind == NoteKind::Reviewed && snapshot.is_none() {
        let governance = order.state.handle().shared().governance();
        let known = governance.incidents.get(&incident).and_then(|incident| incident.snapshot.as_ref());
        snapshot = known.map(|snapshot| snapshot.position);
    }
    order.give(Request::IncidentNote(IncidentNote { incident, text, kind, snapshot })).await
}

/// `POST /v1/incidents/{id}/assign`.
pub(crate) async fn assign(Path(incident): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let AssignBody { duty, assignee } = order.json()?;
    let assign = IncidentAssign { incident, duty, assignee };
    order.give(Request::IncidentWork(IncidentWork::Assign(assign))).await
}

/// `POST /v1/incidents/{id}/status`.
pub(crate) async fn status(Path(incident): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let ProgressBody { status, text } = order.json()?;
    let progress = IncidentProgress { incident, status, text };
    order.give(Request::IncidentWork(IncidentWork::Progress(progress))).await
}

/// `POST /v1/incidents/{id}/action-items`.
pub(crate) async fn action_item(Path(incident): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let ActionItemBody { title, owner, due } = order.json()?;
    let add = ActionItemAdd { incident, title, owner, due };
    order.give(Request::IncidentWork(IncidentWork::ActionItem(add))).await
}

/// `POST /v1/incidents/{id}/action-items/{item}/done`.
pub(crate) async fn action_item_done(
    Path((incident, item)): Path<(String, String)>,
    input: Input,
    body: Body,
) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let TextBody { text } = order.json()?;
    let done = ActionItemDone { incident, item, text };
    order.give(Request::IncidentWork(IncidentWork::ActionItemDone(done))).await
}

/// `POST /v1/incidents/{id}/report`.
pub(crate) async fn file_report(Path(incident): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let ReportBody { text, report } = order.json()?;
    let report = IncidentReport { incident, text, report };
    order.give(Request::IncidentWork(IncidentWork::Report(report))).await
}

/// How a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Markdown,
    Html,
}

impl Format {
    /// By `?format=` where it is given, else by what the client would rather have; JSON where it does not say.
    fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let query = read::Query::of(uri, &["as_of", "format"])?;
        match query.get("format") {
            Some("json") => Ok(Self::Json),
            Some("md") => Ok(Self::Markdown),
            Some("html") => Ok(Self::Html),
            Some(other) => Err(Problem::invalid("format", format!("format is {other:?}, not md, html or json"))),
            None => {
                let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
                Ok(Self::accepted(accept))
            }
        }
    }

    fn accepted(accept: &str) -> Self {
        let mut best = (Self::Json, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next() {
                Some("application/json") => Self::Json,
                Some("text/markdown") => Self::Markdown,
                Some("text/html") => Self::Html,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |text| text.parse().ok());
            if let Some(quality) = quality.filter(|quality: &f32| *quality > best.1) {
                best = (format, quality);
            }
        }
        best.0
    }
}

/// `GET /v1/incidents/{id}/report`.
pub(crate) async fn report(
    State(state): State<ApiState>,
    Path(incident): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let format = Format::of(&uri, &headers)?;
    let as_of = read::Query::of(&uri, &["as_of", "format"])?.get("as_of").map(str::to_owned);
    let asked: Uri = {
        let id = web::path_segment(&incident);
        let as_of = as_of.map(|as_of| format!("?as_of={}", web::path_segment(&as_of))).unwrap_or_default();
        format!("/v1/incidents/{id}/report{as_of}").parse().map_err(|_error| Problem::invalid("id", "not a path"))?
    };
    let (_, answer) = tokio::task::spawn_blocking(move || read::ask(&state, &asked)).await??;
    let vary = (header::VARY, "accept");
    Ok(match format {
        Format::Json => ([vary], Json(answer.body)).into_response(),
        Format::Markdown => {
            let typed = (header::CONTENT_TYPE, "text/markdown; charset=utf-8");
            ([vary, typed], web::report_markdown(&answer.body)).into_response()
        }
        Format::Html => {
            let headers = [
                vary,
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CONTENT_SECURITY_POLICY, web::REPORT_POLICY),
            ];
            (headers, web::report_html(&answer.body)).into_response()
        }
    })
}

/// `POST /v1/incidents/{id}/close`.
pub(crate) async fn close(Path(incident): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = about(input, &incident, body).await?;
    let ReportBody { text, report } = order.json()?;
    order.give(Request::IncidentClose(IncidentClose { incident, text, report })).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gets_what_it_would_rather_have() {
        let check = |accept: &str, expected: Format| assert_eq!(Format::accepted(accept), expected, "{accept}");
        check("", Format::Json);
        check("*/*", Format::Json);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Html);
        check("text/markdown", Format::Markdown);
        check("text/html;q=0.2, text/markdown;q=0.7", Format::Markdown);
        check("application/json, text/html", Format::Json);
        check("text/html;q=0", Format::Json);
    }
}

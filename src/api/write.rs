//! What is handed in: governance events and metric lines.
//!
//! Each element becomes one entry, whatever it is; the answer says what each counts for, once all are durable and folded.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::ApiState;
use super::guard::Caller;
use super::problem::{ElementError, Kind, Problem};
use super::read::Query;
use super::types::{EventsReply, MetricsReply, PendingReply};
use crate::ingest::http::{self, Encoding};
use crate::projection::governance::Verdict;
use crate::sequencer::{Outcome, Submission, SubmitError};

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The body, read and decoded within the limits.
pub(super) async fn body_of(
    state: &ApiState,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, Problem> {
    let encoding = Encoding::of(text(headers, &header::CONTENT_ENCODING))?;
    let bytes = http::read(body, caller.body_bytes_max).await?;
    let max = state.config().decompressed_bytes_max;
    if encoding == Encoding::Plain {
        return Ok(bytes);
    }
    Ok(tokio::task::spawn_blocking(move || http::decode(encoding, bytes, max)).await??)
}

/// `POST /v1/events`.
pub(crate) async fn events(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Response, Problem> {
    Query::of(&uri, &[])?;
    let body = body_of(&state, &caller, &headers, body).await?;
    let elements = http::split_events(text(&headers, &header::CONTENT_TYPE), &body)?;
    let items = http::submissions(elements, state.next_request(), &caller.name);
    hand_in(&state, items).await
}

/// Hands events in; what each counts for.
pub(super) async fn hand_in(state: &ApiState, items: Vec<Submission>) -> Result<Response, Problem> {
    match state.handle().submit_events(items).await {
        Ok(outcomes) => Ok(events_reply(outcomes)),
        Err(SubmitError::NotYet) => {
            Ok(not_yet(None, "it is on its way; hand in the same bytes again to learn what became of them"))
        }
        Err(error) => Err(error.into()),
    }
}

fn events_reply(outcomes: Vec<Outcome>) -> Response {
    let refused = |(element, outcome): (u64, &Outcome)| match &outcome.verdict {
        Verdict::Refused(refusal) => {
            Some(ElementError { element, position: outcome.position, refusal: refusal.clone() })
        }
        Verdict::Admitted | Verdict::Duplicate { .. } => None,
    };
    let errors: Vec<ElementError> = (1..).zip(&outcomes).filter_map(refused).collect();
    let Some(first) = errors.first() else {
        return Json(EventsReply { outcomes }).into_response();
    };
    let mut problem = Problem::refusal(Kind::EventsRefused, &first.refusal).at(first.position);
    problem.errors = errors;
    problem.outcomes = outcomes;
    problem.into_response()
}

/// 202: it may still be applied.
pub(super) fn not_yet(command_id: Option<String>, detail: &str) -> Response {
    let location = command_id.as_ref().map(|id| format!("/v1/commands/{id}"));
    let mut response = (
        StatusCode::ACCEPTED,
        Json(PendingReply { command_id, status: "pending".to_owned(), detail: detail.to_owned() }),
    )
        .into_response();
    if let Some(value) = location.and_then(|location| location.parse().ok()) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// `POST /v1/metrics`. Always 200 once durable: a shipper that repeats a whole request for one bad line would count the
/// good ones twice, since a metric record has no id.
pub(crate) async fn metrics(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Json<MetricsReply>, Problem> {
    Query::of(&uri, &[])?;
    let body = body_of(&state, &caller, &headers, body).await?;
    let (prepare, request, now, kafka) =
        (state.handle().prepare(), state.next_request(), state.handle().now(), state.handle().is_kafka());
    let taken =
        tokio::task::spawn_blocking(move || http::metric_lines(&prepare, &body, request, now, kafka)).await???;
    let mut verdicts = taken.verdicts;
    if kafka {
        let produced = state.handle().produce_metrics(taken.items).await?;
        verdicts.iter_mut().zip(produced).for_each(|(verdict, at)| verdict.produced = Some((at.partition, at.offset)));
    } else {
        let positions = state.handle().append_metrics(0, taken.chunk).await?;
        verdicts.iter_mut().zip(positions).for_each(|(verdict, position)| verdict.position = Some(position));
    }
    let rejected = verdicts.iter().filter(|line| matches!(line.verdict, Verdict::Refused(_))).count() as u64;
    let read = verdicts.len() as u64;
    Ok(Json(MetricsReply {
        ledger: (!kafka).then(|| "metrics-0".to_owned()),
        read,
        admitted: read - rejected,
        rejected,
        verdicts,
    }))
}

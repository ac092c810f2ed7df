//! Questions: a path and its query become an `Asked`, the fold answers, the status says what a program needs first.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;

use super::ApiState;
use super::precondition;
use super::problem::{Kind, Problem};
use super::types::MetricsRejected;
use crate::domain::time::Time;
use crate::notify::DeliveriesAnswer;
use crate::projection::answers::{Answer, AsOf, Asked};
use crate::projection::governance::Rejected;
use crate::sequencer::{judge, metrics_number};

/// Refused metrics records in one answer.
const REJECTED_LIMIT: usize = 1_000;

/// A query string, decoded. The parameters are few, so a list will do.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Of a URI; a parameter outside `known` is an error, so that a misspelt filter is not passed over.
    pub(crate) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(uri)
            .map(|query| query.0)
            .map_err(|error| Problem::invalid("query", error.to_string()))?;
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                Err(Problem::invalid(name, format!("unknown parameter {name:?}; known are {}", known.join(", "))))
            }
            None => Ok(Self(pairs)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn parsed<T: std::str::FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &str| {
            text.parse().map_err(|_error| Problem::invalid(name, format!("{name} is {text:?}, not {what}")))
        };
        self.get(name).map(parse).transpose()
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<Time>, Problem> {
        self.parsed(name, "an RFC 3339 time with an offset, such as 2026-10-01T09:30:00Z")
    }
}

/// Which state of the governance ledger `?as_of=` names: after an entry, or at a time. Its size.
fn size_as_of(state: &ApiState, text: &str) -> Result<u64, Problem> {
    let shared = state.handle().shared();
    let present = shared.governance().size;
    if let Ok(position) = text.parse::<u64>() {
        if position >= present {
            return Err(Problem::invalid(
                "as_of",
                format!(
                    "as_of is entry {position}; the governance ledger has {present} entries, the last is {}",
                    present.saturating_sub(1)
                ),
            ));
        }
        return Ok(position + 1);
    }
    // A `+` in a query means a space; a time with an offset is often pasted as it is.
    let time: Time = text.replace(' ', "+").parse().map_err(|_error| {
        Problem::invalid("as_of", format!("as_of is {text:?}, neither a position nor an RFC 3339 time"))
    })?;
    Ok(shared.size_at(time)?)
}

/// The question that a URI asks, answered.
pub(crate) fn ask(state: &ApiState, uri: &Uri) -> Result<(Asked, Answer), Problem> {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let asked = Asked::parse(path).map_err(|error| Problem::invalid("query", error.to_string()))?;
    let query: Vec<(String, String)> = axum::extract::Query::try_from_uri(uri)
        .map(|query| query.0)
        .map_err(|error| Problem::invalid("query", error.to_string()))?;
    let as_of = query.iter().find(|(name, _)| name == "as_of").map(|(_, value)| value.as_str());
    let shared = state.handle().shared();
    let answer = match as_of {
        None => shared.answer(&asked, state.handle().now())??,
        Some(text) => shared.answer_at(&asked, size_as_of(state, text)?)??,
    };
    Ok((asked, answer))
}

/// Every path that is an `Asked`.
pub(crate) async fn answer(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    // A past state may have to be folded first, and the fold's lock may be held for a batch: neither belongs on the runtime.
    let (asked, answer) = tokio::task::spawn_blocking(move || ask(&state, &uri)).await??;
    let status = if answer.negative { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let etag = matches!(asked, Asked::Waiver { .. }).then(|| answer.body["version"].as_u64()).flatten();
    let mut response = (status, Json(answer.body)).into_response();
    if let Some(etag) = etag.and_then(|version| precondition::etag(version).parse().ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
        .headers_mut()
        .insert("govledger-answer", HeaderValue::from_static(if answer.negative { "no" } else { "yes" }));
    Ok(response)
}

/// The governance ledger as it is now.
pub(crate) fn present(state: &ApiState) -> Result<AsOf, Problem> {
    let size = state.handle().shared().governance().size;
    let reader = reader(state, "governance")?;
    let root = reader.root_at(size)?;
    Ok(AsOf { ledger: "governance".to_owned(), size, root: root.to_string() })
}

/// A reader of the ledger called `name`.
pub(crate) fn reader(state: &ApiState, name: &str) -> Result<ledger::Reader, Problem> {
    state.handle().shared().reader(name).ok_or_else(|| {
        let names: Vec<String> = state.handle().shared().readers().into_keys().collect();
        Problem::new(Kind::NotFound, format!("there is no ledger {name:?}; there are {}", names.join(", ")))
            .field("ledger")
    })
}

/// `/v1/rejected`: of the governance ledger by the fold, of a metrics ledger by judging its refused runs again.
pub(crate) async fn rejected(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let ledger = uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("ledger=")));
    if !ledger {
        return answer(State(state), uri).await;
    }
    let pairs: Query = axum::extract::Query::try_from_uri(&uri)
        .map(|query| Query(query.0))
        .map_err(|error| Problem::invalid("query", error.to_string()))?;
    let name = pairs.get("ledger").unwrap_or_default().to_owned();
    if name == "governance" {
        let rest = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.starts_with("ledger="));
        let plain: Uri = format!("/v1/rejected?{}", rest.collect::<Vec<_>>().join("&"))
            .parse()
            .map_err(|_error| Problem::invalid("query", "not a query"))?;
        return answer(State(state), plain).await;
    }
    let query = Query::of(&uri, &["ledger", "after", "limit"])?;
    let after: Option<u64> = query.parsed("after", "a position")?;
    let limit = query.parsed("limit", "a number")?.unwrap_or(REJECTED_LIMIT).clamp(1, REJECTED_LIMIT);
    let rows = tokio::task::spawn_blocking(move || metrics_rejected(&state, &name, after, limit)).await??;
    Ok(Json(rows).into_response())
}

fn metrics_rejected(
    state: &ApiState,
    name: &str,
    after: Option<u64>,
    limit: usize,
) -> Result<MetricsRejected, Problem> {
    let reader = reader(state, name)?;
    let number =
        metrics_number(name).ok_or_else(|| Problem::invalid("ledger", format!("{name:?} is no ledger of metrics")))?;
    let from = after.map_or(0, |after| after.saturating_add(1));
    let mut positions: Vec<u64> = {
        let metrics = state.handle().shared().metrics();
        let runs = metrics.get(&number).map_or(&[][..], |known| known.refused_runs.as_slice());
        runs.iter().flat_map(|(first, end)| from.max(*first)..*end).take(limit + 1).collect()
    };
    let next = (positions.len() > limit).then(|| positions[limit - 1]);
    positions.truncate(limit);
    let mut rejected = Vec::with_capacity(positions.len());
    for position in positions {
        let entry = reader.entry(position)?;
        if let Some(refusal) = judge(&entry, state.handle().times()) {
            let time = crate::domain::leaf::split(&entry).map(|leaf| leaf.header.time).unwrap_or_default();
            rejected.push(Rejected { ledger: name.to_owned(), position, time, refusal });
        }
    }
    let cursor = after.map(|after| format!("&after={after}")).unwrap_or_default();
    Ok(MetricsRejected {
        rejected,
        next,
        asked: format!("/v1/rejected?ledger={name}{cursor}&limit={limit}"),
        as_of: present(state)?,
    })
}

/// `/v1/deliveries`: what this node told the outside, and what did not arrive.
pub(crate) async fn deliveries(State(state): State<ApiState>) -> Json<DeliveriesAnswer> {
    Json(state.deliveries())
}

/// A record too large for an entry, by the SHA-256 that its entry states.
pub(crate) async fn blob(
    State(state): State<ApiState>,
    axum::extract::Path(sha256): axum::extract::Path<String>,
) -> Result<Response, Problem> {
    let hash = ledger::Hash::from_hex(&sha256).map_err(|error| Problem::invalid("sha256", error.to_string()))?;
    let blobs = state.handle().data_dir().blobs();
    let bytes = tokio::task::spawn_blocking(move || ledger::blob::get(&blobs, &hash)).await??;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

//! `POST /v1/backups`: a manifest that another tool wrote, recorded as the backup that it tells of.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use super::ApiState;
use super::guard::Caller;
use super::problem::{Kind, Problem};
use super::read::Query;
use super::write::{body_of, hand_in};
use crate::domain::backup_import;
use crate::ingest::http;

/// Takes the manifest as it is; the query says what it is of.
pub(crate) async fn import(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Response, Problem> {
    let query = Query::of(&uri, &["stack", "engine"])?;
    let named = |name: &str| {
        let given = query.get(name).filter(|value| !value.is_empty());
        given.ok_or_else(|| Problem::invalid(name, format!("{name} is missing: the manifest does not name it")))
    };
    let (stack, engine) = (named("stack")?, named("engine")?);
    let body = body_of(&state, &caller, &headers, body).await?;
    let event = backup_import::event(&body, stack, engine);
    let event = event.map_err(|error| Problem::new(Kind::InvalidBody, error.to_string()))?;
    let items = http::submissions(vec![event.to_string().into_bytes()], state.next_request(), &caller.name);
    hand_in(&state, items).await
}

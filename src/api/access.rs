//! The access trail over HTTP: its entries, proofs and tiles, for auditors and admins.

use std::ops::ControlFlow;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use ledger::proof::ProofFile;
use ledger::{Reader, TilePath};
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::problem::{Kind, Problem};
use super::read::Query;
use crate::domain::leaf;
use crate::domain::time::Time;
use crate::identity::trail::AccessEvent;

/// Entries in one answer.
const LIMIT_MAX: usize = 1_000;
const TEXT: &str = "text/plain; charset=utf-8";

/// Who was let in to what, and who was not.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AccessAnswer {
    /// By position.
    pub entries: Vec<AccessRow>,
    /// Ask again with `after` set to this for more; none at the end.
    pub next: Option<u64>,
    /// Entries under the ledger's checkpoint.
    pub size: u64,
    /// Root at that size, base64.
    pub root: String,
    /// Accesses that were not kept since the start of the process, in all.
    pub not_kept: u64,
}

/// One entry of the trail.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AccessRow {
    /// Its position.
    pub position: u64,
    /// Its time.
    pub time: Time,
    /// What happened.
    #[serde(flatten)]
    pub event: AccessEvent,
}

fn reader(state: &ApiState) -> Result<Reader, Problem> {
    let reader = state.trail().and_then(crate::identity::trail::Trail::reader);
    reader.ok_or_else(|| Problem::not_found("this node keeps no access trail, or cannot open it; see its log"))
}

/// The rows of a ledger after `after`, and where to go on.
pub(crate) fn rows(
    reader: &dyn ledger::EntrySource,
    after: Option<u64>,
    limit: usize,
) -> Result<(Vec<AccessRow>, Option<u64>), ledger::Error> {
    // Entry 0 holds the settings.
    let start = after.unwrap_or(0).saturating_add(1);
    let end = reader.size().min(start.saturating_add(limit as u64));
    let mut rows = Vec::new();
    if start < end {
        reader.for_each_entry(start..end, &mut |position, entry| {
            if let Ok(leaf) = leaf::split(entry)
                && let Ok(event) = serde_json::from_slice(leaf.body)
            {
                rows.push(AccessRow { position, time: leaf.header.time, event });
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok((rows, (end < reader.size()).then(|| end.saturating_sub(1))))
}

/// `/v1/access`.
pub(crate) async fn list(State(state): State<ApiState>, uri: Uri) -> Result<Json<AccessAnswer>, Problem> {
    let query = Query::of(&uri, &["after", "limit"])?;
    let after: Option<u64> = query.parsed("after", "a position")?;
    let limit = query.parsed("limit", "a number")?.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let reader = reader(&state)?;
    let not_kept = state.trail().map_or(0, crate::identity::trail::Trail::not_kept);
    let answer = tokio::task::spawn_blocking(move || {
        let checkpoint = reader.checkpoint();
        let (entries, next) = rows(&reader, after, limit)?;
        let (size, root) = (checkpoint.size(), checkpoint.root().to_string());
        Ok::<_, ledger::Error>(AccessAnswer { entries, next, size, root, not_kept })
    });
    Ok(Json(answer.await??))
}

/// `/v1/access/{position}/proof`.
pub(crate) async fn proof(State(state): State<ApiState>, Path(position): Path<String>) -> Result<Response, Problem> {
    let parsed = position.parse();
    let position: u64 = parsed.map_err(|_error| Problem::invalid("position", format!("{position:?} is no number")))?;
    let reader = reader(&state)?;
    let text = tokio::task::spawn_blocking(move || {
        let checkpoint = reader.checkpoint();
        let hashes = reader.inclusion_proof(position, checkpoint.size())?;
        Ok::<_, ledger::Error>(ProofFile { extra: None, index: position, hashes, checkpoint }.to_string())
    });
    Ok(([(header::CONTENT_TYPE, TEXT)], text.await??).into_response())
}

/// `/ledger/access/checkpoint`.
pub(crate) async fn checkpoint(State(state): State<ApiState>) -> Result<Response, Problem> {
    let text = reader(&state)?.checkpoint().to_string();
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// `/ledger/access/vkey`.
pub(crate) async fn vkey(State(state): State<ApiState>) -> Result<Response, Problem> {
    let text = format!("{}\n", reader(&state)?.verifier_key());
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}

/// `/ledger/access/tile/…`: not to be kept by caches that serve others.
pub(crate) async fn tile(State(state): State<ApiState>, Path(path): Path<String>) -> Result<Response, Problem> {
    let reader = reader(&state)?;
    let path =
        TilePath::parse(&format!("tile/{path}")).map_err(|error| Problem::new(Kind::NotFound, error.to_string()))?;
    let bytes = tokio::task::spawn_blocking(move || reader.tile(&path)).await??;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "private")], bytes)
        .into_response())
}

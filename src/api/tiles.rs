//! The tlog-tiles of each ledger (C2SP): checkpoint, tiles and entry bundles, and beside them the verifier key and the
//! checkpoint that witnesses cosigned.
//!
//! A tile of a given width never changes, so it may be cached for ever, by others than the reader only where everybody may read;
//! the checkpoint must not be.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ledger::TilePath;
use ledger::cosigned::load_cosigned;

use super::ApiState;
use super::problem::{Kind, Problem};
use super::read::reader;

const TEXT: &str = "text/plain; charset=utf-8";
/// For caches that serve many, where everybody may read.
const FOR_ALL: &str = "public, max-age=31536000, immutable";
/// For the reader's own cache alone, where a token is needed: entries are in the tiles.
const FOR_READER: &str = "private, max-age=31536000, immutable";

/// `/ledger/{name}/checkpoint`.
pub(crate) async fn checkpoint(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Response, Problem> {
    let text = reader(&state, &name)?.checkpoint().to_string();
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// `/ledger/{name}/checkpoint.cosigned`: the latest one that had the quorum of the policy's witnesses.
pub(crate) async fn cosigned(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Response, Problem> {
    let reader = reader(&state, &name)?;
    let kept = tokio::task::spawn_blocking(move || load_cosigned(reader.dir(), &reader.keys())).await??;
    let none = || Problem::new(Kind::NotFound, format!("no checkpoint of {name} was cosigned by witnesses"));
    let text = kept.ok_or_else(none)?.to_string();
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// `/ledger/{name}/vkey`: convenient, and worth nothing as proof; keep the key from `init`.
pub(crate) async fn vkey(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Response, Problem> {
    let keys = reader(&state, &name)?.keys();
    let text = keys.keys().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n";
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// `/ledger/{name}/rotations`: by these the first key leads to the one that signs now.
pub(crate) async fn rotations(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Response, Problem> {
    let text = reader(&state, &name)?.keys().text().to_owned();
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// `/ledger/{name}/tile/…`.
pub(crate) async fn tile(
    State(state): State<ApiState>,
    Path((name, path)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let reader = reader(&state, &name)?;
    let path =
        TilePath::parse(&format!("tile/{path}")).map_err(|error| Problem::new(Kind::NotFound, error.to_string()))?;
    let bytes = tokio::task::spawn_blocking(move || reader.tile(&path)).await??;
    let kept = if state.config().open_reads { FOR_ALL } else { FOR_READER };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, kept)], bytes).into_response())
}

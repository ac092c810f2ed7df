//! Whether the process answers, and whether it can serve.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::types::{HealthAnswer, ReadyAnswer};
use crate::notify::WitnessRow;

/// `/healthz`: 200 while the writer runs; after an I/O error only a restart helps, so 503 asks for one.
pub(crate) async fn health(State(state): State<ApiState>) -> Response {
    let (status, word) = if state.handle().shared().is_poisoned() {
        (StatusCode::SERVICE_UNAVAILABLE, "writer_stopped")
    } else {
        (StatusCode::OK, "ok")
    };
    (status, Json(HealthAnswer { status: word.to_owned(), mode: super::shadow::mode(&state).to_owned() }))
        .into_response()
}

/// `/readyz`: 200 once everything found at start is folded and while the writer runs.
pub(crate) async fn ready(State(state): State<ApiState>) -> Response {
    let shared = state.handle().shared();
    let (writer, caught_up) = (!shared.is_poisoned(), shared.status.caught_up.load(Ordering::SeqCst));
    let stopped_intakes = shared.status.stopped_intakes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let failing_scrapes = crate::ingest::triton::failing(state.handle());
    let alarm =
        |row: WitnessRow| row.alarm.map(|alarm| (row.name, format!("{}: {}", alarm.code.as_str(), alarm.detail)));
    let witness_alarms = state.deliveries().witnesses.into_iter().filter_map(alarm).collect();
    let (size, evaluated_through) = {
        let governance = shared.governance();
        (governance.size, governance.evaluated_through)
    };
    let ready = writer && caught_up;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = ReadyAnswer {
        ready,
        caught_up,
        writer,
        stopped_intakes,
        failing_scrapes,
        witness_alarms,
        size,
        evaluated_through,
    };
    (status, Json(answer)).into_response()
}

/// `/metrics`.
pub(crate) async fn metrics(State(state): State<ApiState>) -> Response {
    let text = tokio::task::spawn_blocking(move || super::meters::text(&state)).await.unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

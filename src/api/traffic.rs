//! The traffic gate as load balancers, init containers and their caches ask for it.
//!
//! In scope: what a status and its headers say when the ledger's own answer is missing or may be old. Out of scope: what the
//! gate is ([`crate::projection::stacks`]).
//!
//! Invariant: by default only an entry closes the gate. Whoever serves traffic must not stop because this service catches
//! up, has lost its broker or never heard of a stack; policy's `gate_when_unknown` may say otherwise.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::problem::Problem;
use super::read::ask;
use crate::domain::policy::UnknownGate;

/// How long a cache may use an answer without asking, and how long it may go on while nobody answers (RFC 5861).
const CACHE_CONTROL: &str = "max-age=1, stale-if-error=86400";
/// Open, closed or unknown.
const GATE: HeaderName = HeaderName::from_static("govledger-gate");
/// Where that comes from.
const GATE_BASIS: HeaderName = HeaderName::from_static("govledger-gate-basis");

/// What the status is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Open,
    Closed,
    Unknown,
}

/// What an answer rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// An entry, and nothing newer is known to be missing.
    Ledger,
    /// The last answer: what was found at start is still being read.
    CatchingUp,
    /// The last answer: nothing new comes in, because the writer or the intake of governance entries has stopped.
    Stale,
    /// Nothing: no entry names the stack.
    NeverHeardOf,
}

impl Shown {
    const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Unknown => "unknown",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Closed => StatusCode::SERVICE_UNAVAILABLE,
            Self::Open | Self::Unknown => StatusCode::OK,
        }
    }
}

impl Basis {
    const fn word(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::CatchingUp => "catching-up",
            Self::Stale => "stale",
            Self::NeverHeardOf => "never-heard-of",
        }
    }

    /// By what this node knows of itself.
    fn of(state: &ApiState) -> Self {
        let shared = state.handle().shared();
        let stopped = shared.status.stopped_intakes.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.status.caught_up.load(Ordering::SeqCst) {
            Self::CatchingUp
        } else if shared.is_poisoned() || stopped.contains_key("governance") {
            Self::Stale
        } else {
            Self::Ledger
        }
    }
}

/// What is shown of the ledger's last answer.
const fn shown(open: Option<bool>, basis: Basis, when_unknown: UnknownGate) -> Shown {
    let last = match open {
        Some(true) => Shown::Open,
        Some(false) => Shown::Closed,
        None => Shown::Unknown,
    };
    match (basis, when_unknown) {
        (Basis::Ledger, _) | (_, UnknownGate::LastAnswer) => last,
        (_, UnknownGate::Open) => Shown::Open,
        (_, UnknownGate::Closed) => Shown::Closed,
    }
}

/// `/v1/stacks/{stack}/traffic`.
pub(crate) async fn traffic(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    // Looked at first: an answer must not be called fresh by what was learnt after it.
    let basis = Basis::of(&state);
    let asks_past = uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("as_of=")));
    let asking = state.clone();
    let (_, answer) = tokio::task::spawn_blocking(move || ask(&asking, &uri)).await??;
    let open = answer.body["open"].as_bool();
    let when_unknown = state.handle().shared().governance().policy.gate_when_unknown;
    let (basis, when_unknown) = match (asks_past, open) {
        // The past is what it was.
        (true, _) => (Basis::Ledger, UnknownGate::LastAnswer),
        (false, None) => (Basis::NeverHeardOf, when_unknown),
        (false, Some(_)) => (basis, when_unknown),
    };
    let shown = shown(open, basis, when_unknown);
    let mut response = (shown.status(), Json(answer.body)).into_response();
    let headers = response.headers_mut();
    headers.insert(GATE, HeaderValue::from_static(shown.word()));
    headers.insert(GATE_BASIS, HeaderValue::from_static(basis.word()));
    headers.insert("govledger-answer", HeaderValue::from_static(if answer.negative { "no" } else { "yes" }));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::{Basis, Shown, UnknownGate, shown};

    #[test]
    fn only_an_entry_closes_the_gate_by_default() {
        for basis in [Basis::Ledger, Basis::CatchingUp, Basis::Stale] {
            assert_eq!(shown(Some(true), basis, UnknownGate::LastAnswer), Shown::Open);
            assert_eq!(shown(Some(false), basis, UnknownGate::LastAnswer), Shown::Closed);
        }
        assert_eq!(shown(None, Basis::NeverHeardOf, UnknownGate::LastAnswer), Shown::Unknown);
        assert_eq!(Shown::Unknown.status().as_u16(), 200);
    }

    #[test]
    fn policy_decides_where_the_ledger_cannot_and_only_there() {
        for basis in [Basis::CatchingUp, Basis::Stale, Basis::NeverHeardOf] {
            for open in [Some(true), Some(false), None] {
                assert_eq!(shown(open, basis, UnknownGate::Closed), Shown::Closed);
                assert_eq!(shown(open, basis, UnknownGate::Open), Shown::Open);
            }
        }
        assert_eq!(shown(Some(true), Basis::Ledger, UnknownGate::Closed), Shown::Open);
        assert_eq!(shown(Some(false), Basis::Ledger, UnknownGate::Open), Shown::Closed);
    }
}

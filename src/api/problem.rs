//! Problem details (RFC 9457): one closed list of what can go wrong, each with its status and title.
//!
//! What the caller reads is here; what the operator reads goes to the log where it happens. Names are permanent.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::refusal::Refusal;
use crate::identity::oidc::Fault;
use crate::ingest::file::IngestError;
use crate::ingest::http::BodyError;
use crate::projection::answers::AnswerError;
use crate::sequencer::{Outcome, ProduceError, SequencerError, SubmitError};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unauthenticated,
    TokenMalformed,
    TokenTooLarge,
    TokenAlgorithm,
    TokenUnknownKey,
    TokenBadSignature,
    TokenWrongIssuer,
    TokenWrongAudience,
    TokenNotYetValid,
    TokenExpired,
    TokenRevoked,
    TokenWithoutRole,
    Reauthenticate,
    RateLimited,
    KeysUnavailable,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    InvalidParameter,
    InvalidBody,
    EmptyBody,
    TruncatedBody,
    BodyTooLarge,
    UnsupportedEncoding,
    IdempotencyKeyMissing,
    PreconditionRequired,
    PreconditionFailed,
    EventsRefused,
    CommandRefused,
    RoleRefused,
    IntakeRefused,
    IntakeConflict,
    FiguresUnavailable,
    Busy,
    WriterStopped,
    BrokerUnavailable,
    ReadsOnly,
    Timeout,
    Internal,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 39] = [
        Self::Unauthenticated,
        Self::TokenMalformed,
        Self::TokenTooLarge,
        Self::TokenAlgorithm,
        Self::TokenUnknownKey,
        Self::TokenBadSignature,
        Self::TokenWrongIssuer,
        Self::TokenWrongAudience,
        Self::TokenNotYetValid,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::TokenWithoutRole,
        Self::Reauthenticate,
        Self::RateLimited,
        Self::KeysUnavailable,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::InvalidParameter,
        Self::InvalidBody,
        Self::EmptyBody,
        Self::TruncatedBody,
        Self::BodyTooLarge,
        Self::UnsupportedEncoding,
        Self::IdempotencyKeyMissing,
        Self::PreconditionRequired,
        Self::PreconditionFailed,
        Self::EventsRefused,
        Self::CommandRefused,
        Self::RoleRefused,
        Self::IntakeRefused,
        Self::IntakeConflict,
        Self::FiguresUnavailable,
        Self::Busy,
        Self::WriterStopped,
        Self::BrokerUnavailable,
        Self::ReadsOnly,
        Self::Timeout,
        Self::Internal,
    ];

    /// Status, permanent code, title.
    pub(crate) const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "A token is needed"),
            Self::TokenMalformed
            | Self::TokenTooLarge
            | Self::TokenAlgorithm
            | Self::TokenUnknownKey
            | Self::TokenBadSignature
            | Self::TokenWrongIssuer
            | Self::TokenWrongAudience
            | Self::TokenNotYetValid
            | Self::TokenExpired
            | Self::TokenRevoked
            | Self::TokenWithoutRole
            | Self::Reauthenticate
            | Self::RateLimited
            | Self::KeysUnavailable => self.identity_parts(),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "None of your roles may do this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "There is no such thing"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The path does not take this method")
            }
            Self::InvalidParameter => (StatusCode::BAD_REQUEST, "invalid_parameter", "A parameter cannot be read"),
            Self::InvalidBody => (StatusCode::BAD_REQUEST, "invalid_body", "The body cannot be read"),
            Self::EmptyBody => (StatusCode::BAD_REQUEST, "empty_body", "The body is empty"),
            Self::TruncatedBody => (StatusCode::BAD_REQUEST, "truncated_body", "The upload was cut off"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::UnsupportedEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", "The encoding is not taken")
            }
            Self::IdempotencyKeyMissing => {
                (StatusCode::BAD_REQUEST, "idempotency_key_missing", "A command needs an Idempotency-Key")
            }
            Self::PreconditionRequired => {
                (StatusCode::PRECONDITION_REQUIRED, "precondition_required", "Say what you saw")
            }
            Self::PreconditionFailed => {
                (StatusCode::PRECONDITION_FAILED, "precondition_failed", "It is no longer what you saw")
            }
            Self::EventsRefused => (StatusCode::UNPROCESSABLE_ENTITY, "events_refused", "Recorded, and without effect"),
            Self::CommandRefused => (StatusCode::CONFLICT, "command_refused", "Decided against"),
            Self::RoleRefused => (StatusCode::FORBIDDEN, "role_refused", "Decided against: the role does not allow it"),
            Self::IntakeRefused => (StatusCode::UNPROCESSABLE_ENTITY, "intake_refused", "The file cannot be taken"),
            Self::IntakeConflict => (StatusCode::CONFLICT, "intake_conflict", "The file contradicts the ledger"),
            Self::FiguresUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "figures_unavailable", "The metrics ledgers are not at hand")
            }
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too much is under way"),
            Self::WriterStopped => (StatusCode::SERVICE_UNAVAILABLE, "writer_stopped", "The writer has stopped"),
            Self::BrokerUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "broker_unavailable", "The broker did not confirm")
            }
            Self::ReadsOnly => (StatusCode::CONFLICT, "reads_only", "This node writes nothing"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout", "It took too long"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something failed here"),
        }
    }

    /// Those about who asks, and how often.
    #[expect(clippy::wildcard_enum_match_arm, reason = "`parts` hands on only those that are named here, and the last")]
    const fn identity_parts(self) -> (StatusCode, &'static str, &'static str) {
        let (status, code, title) = match self {
            Self::TokenTooLarge => (StatusCode::UNAUTHORIZED, "token_too_large", "The token is too large"),
            Self::TokenAlgorithm => (StatusCode::UNAUTHORIZED, "token_algorithm", "The token's algorithm is not taken"),
            Self::TokenUnknownKey => (StatusCode::UNAUTHORIZED, "token_unknown_key", "The provider has no such key"),
            Self::TokenBadSignature => {
                (StatusCode::UNAUTHORIZED, "token_bad_signature", "The token's signature does not verify")
            }
            Self::TokenWrongIssuer => (StatusCode::UNAUTHORIZED, "token_wrong_issuer", "The token is another issuer's"),
            Self::TokenWrongAudience => {
                (StatusCode::UNAUTHORIZED, "token_wrong_audience", "The token is for somebody else")
            }
            Self::TokenNotYetValid => (StatusCode::UNAUTHORIZED, "token_not_yet_valid", "The token does not count yet"),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "token_expired", "The token has expired"),
            Self::TokenRevoked => (StatusCode::UNAUTHORIZED, "token_revoked", "The token was revoked"),
            Self::TokenWithoutRole => (StatusCode::FORBIDDEN, "token_without_role", "The token confers no role here"),
            Self::Reauthenticate => {
                (StatusCode::UNAUTHORIZED, "reauthentication_required", "Sign in again to decide this")
            }
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::KeysUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", "The provider's keys are not to be had")
            }
            _ => (StatusCode::UNAUTHORIZED, "token_malformed", "The token cannot be read"),
        };
        (status, code, title)
    }

    /// Whether the caller's token is what is wrong.
    const fn is_about_token(self) -> bool {
        matches!(
            self,
            Self::TokenMalformed
                | Self::TokenTooLarge
                | Self::TokenAlgorithm
                | Self::TokenUnknownKey
                | Self::TokenBadSignature
                | Self::TokenWrongIssuer
                | Self::TokenWrongAudience
                | Self::TokenNotYetValid
                | Self::TokenExpired
                | Self::TokenRevoked
        )
    }
}

/// A problem on its way to the caller. Boxed, so that every `Result` of a handler stays small.
#[derive(Debug, Clone)]
pub struct Problem(Box<ProblemDetails>);

impl std::ops::Deref for Problem {
    type Target = ProblemDetails;

    fn deref(&self) -> &ProblemDetails {
        &self.0
    }
}

impl std::ops::DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut ProblemDetails {
        &mut self.0
    }
}

/// The code of a problem, beside its response.
#[derive(Debug, Clone)]
pub(crate) struct ProblemCode(pub(crate) String);

/// Problem details, as they are sent.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemDetails {
    /// `urn:govledger:problem:` and the code.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The same for every problem of this type.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here, with the offending value.
    pub detail: String,
    /// Permanent code: of the refusal where there is one, else of the problem type.
    pub code: String,
    /// The field or parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The entry that records what was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The entry that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_position: Option<u64>,
    /// The command's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// What `If-Match` would have to name now; the header `ETag` says it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_etag: Option<String>,
    /// One refusal an element, where several were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ElementError>,
    /// Every element's outcome, refused or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Outcome>,
    #[serde(skip)]
    #[schemars(skip)]
    retry_after_s: Option<u64>,
    /// What stands in `WWW-Authenticate` after the realm.
    #[serde(skip)]
    #[schemars(skip)]
    challenge: String,
}

/// One refused element of a request.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct ElementError {
    /// The element in the request, from 1.
    pub element: u64,
    /// The entry that keeps it.
    pub position: u64,
    /// Why.
    pub refusal: Refusal,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, code, title) = kind.parts();
        Self(Box::new(ProblemDetails {
            problem_type: format!("urn:govledger:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            field: None,
            position: None,
            by_position: None,
            command_id: None,
            current_etag: None,
            errors: Vec::new(),
            outcomes: Vec::new(),
            retry_after_s: (kind == Kind::Busy).then_some(1),
            challenge: if kind.is_about_token() {
                format!(", error=\"invalid_token\", error_description=\"{title}\"")
            } else {
                String::new()
            },
        }))
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    pub(crate) fn field(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Asks for an authentication not older than `max_age_s` (RFC 9470).
    pub(crate) fn step_up(detail: String, max_age_s: u64) -> Self {
        let mut problem = Self::new(Kind::Reauthenticate, detail);
        problem.challenge = format!(
            ", error=\"insufficient_user_authentication\", error_description=\"{}\", max_age=\"{max_age_s}\"",
            problem.title
        );
        problem
    }

    /// Names the entry that stands in the way.
    pub(crate) fn by(mut self, position: u64) -> Self {
        self.by_position = Some(position);
        self
    }

    pub(crate) fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    pub(crate) fn invalid(parameter: &str, detail: impl Into<String>) -> Self {
        Self::new(Kind::InvalidParameter, detail).field(parameter)
    }

    /// A problem that is a refusal: its code, field and sentence.
    pub(crate) fn refusal(kind: Kind, refusal: &Refusal) -> Self {
        let mut problem = Self::new(kind, refusal.detail.clone());
        refusal.code.as_str().clone_into(&mut problem.code);
        problem.field.clone_from(&refusal.field);
        problem.by_position = refusal.by_position;
        problem
    }

    /// Something of the service's own: the caller learns that it failed, the log why.
    pub(crate) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "api.failed");
        Self::new(Kind::Internal, "the service could not do this; its log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry = self.retry_after_s;
        let code = ProblemCode(self.code.clone());
        let challenge = format!("Bearer realm=\"govledger\"{}", self.challenge);
        let etag = self.current_etag.as_deref().and_then(|etag| etag.parse::<HeaderValue>().ok());
        let mut response = (status, Json(&*self.0)).into_response();
        response.extensions_mut().insert(code);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_str(&challenge);
            headers.insert(
                header::WWW_AUTHENTICATE,
                value.unwrap_or(HeaderValue::from_static("Bearer realm=\"govledger\"")),
            );
        }
        if let Some(etag) = etag {
            headers.insert(header::ETAG, etag);
        }
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let kind = match &error {
            BodyError::Empty => Kind::EmptyBody,
            BodyError::TooLarge { .. } | BodyError::Bomb { .. } | BodyError::TooMany { .. } => Kind::BodyTooLarge,
            BodyError::Truncated { .. } => Kind::TruncatedBody,
            BodyError::Encoding { .. } => Kind::UnsupportedEncoding,
            BodyError::Gzip { .. } | BodyError::Unreadable { .. } => Kind::InvalidBody,
        };
        Self::new(kind, format!("{error}; nothing was recorded"))
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let kind = match &fault {
            Fault::Malformed { .. } => Kind::TokenMalformed,
            Fault::TooLarge { .. } => Kind::TokenTooLarge,
            Fault::Algorithm { .. } => Kind::TokenAlgorithm,
            Fault::WrongIssuer { .. } => Kind::TokenWrongIssuer,
            Fault::UnknownKey { .. } => Kind::TokenUnknownKey,
            Fault::BadSignature => Kind::TokenBadSignature,
            Fault::WrongAudience { .. } => Kind::TokenWrongAudience,
            Fault::NotYetValid { .. } => Kind::TokenNotYetValid,
            Fault::Expired { .. } => Kind::TokenExpired,
            // Where they are and why they do not answer is for the operator, whose log has it.
            Fault::KeysUnavailable { .. } => {
                let detail = "the provider's keys are not to be had at the moment; an API token works without them";
                return Self::new(Kind::KeysUnavailable, detail).retry_after(5);
            }
        };
        Self::new(kind, fault.to_string())
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        let kind = match &error {
            AnswerError::Unknown { .. } => Kind::NotFound,
            AnswerError::NoMetrics => Kind::FiguresUnavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SequencerError> for Problem {
    fn from(error: SequencerError) -> Self {
        match &error {
            SequencerError::Invalid { what, .. } => Self::invalid(what, error.to_string()),
            SequencerError::Stopped(_) => Self::new(Kind::WriterStopped, error.to_string()),
            SequencerError::Backfilling => Self::new(Kind::Busy, error.to_string()).retry_after(1),
            SequencerError::Ledger { .. }
            | SequencerError::Io { .. }
            | SequencerError::NotInitialised { .. }
            | SequencerError::AlreadyInitialised { .. }
            | SequencerError::NodeFileMissing { .. }
            | SequencerError::OtherSettings { .. }
            | SequencerError::Slo(_)
            | SequencerError::Encode(_)
            | SequencerError::UnknownRules { .. }
            | SequencerError::PolicyConflict { .. }
            | SequencerError::Cache(_) => Self::internal(&error),
        }
    }
}

impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Self {
        use ledger::Error as E;
        match &error {
            E::Position { .. } | E::Size { .. } | E::NoTile { .. } | E::NoBlob { .. } | E::TilePath(_) => {
                Self::new(Kind::NotFound, error.to_string())
            }
            E::Io { .. }
            | E::Damage(_)
            | E::Poisoned { .. }
            | E::Locked { .. }
            | E::Exists { .. }
            | E::NoLedger { .. }
            | E::OtherLedger { .. }
            | E::Origin(_)
            | E::EntryTooLarge { .. }
            | E::ExportDiffers { .. }
            | E::Key(_)
            | E::Note(_)
            | E::Verify(_)
            | E::ProofFile(_) => Self::internal(&error),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match &error {
            SubmitError::Busy { retry_after_s } | SubmitError::NotReadYet { retry_after_s, .. } => {
                Self::new(Kind::Busy, error.to_string()).retry_after(*retry_after_s)
            }
            SubmitError::Stopped(_) => Self::new(Kind::WriterStopped, error.to_string()),
            SubmitError::Produce(ProduceError::ReadsOnly(why)) => Self::new(Kind::ReadsOnly, *why),
            SubmitError::Produce(ProduceError::Unconfirmed(_)) => {
                Self::new(Kind::BrokerUnavailable, error.to_string()).retry_after(1)
            }
            SubmitError::NotYet => Self::new(Kind::Timeout, error.to_string()),
            SubmitError::Sequencer(inner) => Self::internal(inner),
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Submit(error) => error.into(),
            IngestError::Sequencer(error) => error.into(),
            IngestError::Read { .. } => Self::internal(&error),
            IngestError::Unclassified { .. }
            | IngestError::NoTime { .. }
            | IngestError::AfterUntil { .. }
            | IngestError::GivenTwice { .. } => Self::new(Kind::IntakeRefused, error.to_string()),
            IngestError::Differs { position, .. } => {
                let mut problem = Self::new(Kind::IntakeConflict, error.to_string());
                problem.by_position = Some(position);
                problem
            }
            IngestError::BehindCut { .. }
            | IngestError::BehindEntry { .. }
            | IngestError::NotRegistered { .. }
            | IngestError::RecordedNeedsEmbedded => Self::new(Kind::IntakeConflict, error.to_string()),
        }
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(&error)
    }
}

//! Commands: what an authenticated principal asks the ledger to decide.
//!
//! The role is the first of the caller's that the request allows. The decision falls at the command's own position; here it
//! is only put into words: 200 applied, 409 refused (403 where the role is why), 202 on its way.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ApiState;
use super::guard::Caller;
use super::precondition;
use super::problem::{Kind, Problem};
use super::read::reader;
use super::types::CommandReply;
use super::write::not_yet;
use crate::domain::command::{
    EngineAdopt, EngineJudgement, HoleConfirm, PrincipalLimit, Request, WaiverDecision, WaiverScope, command_id,
};
use crate::domain::event::{Event, Json as RawJson};
use crate::domain::leaf;
use crate::domain::refusal::Refusal;
use crate::domain::report;
use crate::domain::rollback::RollbackWork;
use crate::ingest::http;
use crate::projection::governance::Verdict;
use crate::sequencer::{CommandOutcome, Outcome};

/// A command's body is a form's worth of text.
const COMMAND_BYTES_MAX: usize = 1 << 20;
/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 255;
/// How long a caller waits for the decision.
const DECIDED_WITHIN: Duration = Duration::from_secs(15);

/// A decision about a waiver.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DecisionBody {
    /// The hash of the scope that was seen. An approval must name it, or be conditional by `If-Match`.
    pub scope_sha256: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// A judgement about an engine.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JudgementBody {
    /// The engine.
    pub engine_hash: String,
    /// Why.
    pub reason: String,
}

/// Records an engine that runs already.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdoptBody {
    /// The engine.
    pub engine_hash: String,
    /// Its version.
    #[serde(default)]
    pub version: Option<String>,
    /// Its manifest, where known.
    #[serde(default)]
    pub manifest: Option<RawJson>,
}

/// A command on its way in: who, under which key, with which body.
#[derive(Debug)]
pub(crate) struct Order {
    pub(super) state: ApiState,
    caller: Caller,
    key: String,
    body: Vec<u8>,
}

impl Order {
    async fn take(state: ApiState, caller: Caller, headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let key = headers.get("idempotency-key").map(|value| value.to_str().unwrap_or_default()).unwrap_or_default();
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let detail = format!(
                "send `Idempotency-Key` with a text of your choice of up to {KEY_BYTES_MAX} bytes; a repeat under it returns the first outcome"
            );
            return Err(Problem::new(Kind::IdempotencyKeyMissing, detail).field("Idempotency-Key"));
        }
        let body = match http::read(body, COMMAND_BYTES_MAX.min(caller.body_bytes_max)).await {
            Err(http::BodyError::Empty) => Vec::new(),
            other => other?,
        };
        Ok(Self { state, caller, key: key.to_owned(), body })
    }

    /// The body as JSON; an empty one is an empty object.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let text = std::str::from_utf8(&self.body)
            .map_err(|error| Problem::new(Kind::InvalidBody, format!("byte {} is not UTF-8", error.valid_up_to())))?;
        let text = if text.trim().is_empty() { "{}" } else { text };
        serde_json::from_str(text).map_err(|error| {
            let refusal = Refusal::from_json(&error, text);
            Problem::refusal(Kind::InvalidBody, &refusal)
        })
    }

    /// How a command under the same key ended, where its request is made anew each time and so could not be compared.
    pub(super) fn outcome_known(&self) -> Option<Result<Response, Problem>> {
        let id = self.command_id();
        let governance = self.state.handle().shared().governance();
        let record = governance.commands.get(&id)?;
        Some(match &record.refusal {
            Some(refusal) => {
                let mut problem = Problem::refusal(Kind::CommandRefused, refusal).at(record.position);
                problem.command_id = Some(id);
                Err(problem)
            }
            None => Ok(Json(CommandReply::applied(id, record.position)).into_response()),
        })
    }

    /// What was first asked under the same key, as its entry has it: what a request leaves to the moment is that of the first time.
    pub(super) async fn first_request(&self) -> Result<Option<Request>, Problem> {
        let position =
            self.state.handle().shared().governance().commands.get(&self.command_id()).map(|record| record.position);
        let Some(position) = position else { return Ok(None) };
        let reader = reader(&self.state, "governance")?;
        let entry = tokio::task::spawn_blocking(move || reader.entry(position)).await??;
        let report = leaf::split(&entry).ok().and_then(|leaf| report::read(&leaf).ok());
        let Some(Event::Command(command)) = report.map(|report| report.event) else { return Ok(None) };
        Ok(Some(command.request))
    }

    fn command_id(&self) -> String {
        command_id(&self.caller.name, &self.key)
    }

    pub(super) async fn give(self, request: Request) -> Result<Response, Problem> {
        let allowed = request.roles();
        let Some(role) = self.caller.roles.iter().find(|role| allowed.contains(role)).copied() else {
            return Err(Problem::new(
                Kind::Forbidden,
                format!("{} may not ask for {}", self.caller.name, request.event_type()),
            ));
        };
        let id = self.command_id();
        let given = tokio::time::timeout(
            DECIDED_WITHIN,
            self.state.handle().command_by(
                self.caller.authenticated_by.clone(),
                &self.caller.name,
                role,
                &self.key,
                request.clone(),
            ),
        )
        .await;
        let outcome = match given {
            Ok(given) => given?.1,
            Err(_) => CommandOutcome::Pending,
        };
        match outcome {
            CommandOutcome::Pending => Ok(not_yet(Some(id), "it is on its way; the Location says how it ended")),
            CommandOutcome::Decided(outcome) => decided(&request, id, &outcome),
        }
    }
}

fn decided(request: &Request, command_id: String, outcome: &Outcome) -> Result<Response, Problem> {
    if let Verdict::Refused(refusal) = &outcome.verdict {
        let kind = if refusal.field.as_deref() == Some("role") { Kind::RoleRefused } else { Kind::CommandRefused };
        let mut problem = Problem::refusal(kind, refusal).at(outcome.position);
        problem.command_id = Some(command_id);
        return Err(problem);
    }
    let position = outcome.position;
    let (waiver, incident) = (request.waiver(position), request.incident(position));
    let made = request.made(position);
    let headers = waiver.as_ref().map(|waiver| waiver_headers(waiver, position));
    let reply = CommandReply { waiver, incident, made, ..CommandReply::applied(command_id, position) };
    let mut response = Json(reply).into_response();
    response.headers_mut().extend(headers.into_iter().flatten());
    Ok(response)
}

/// Where the waiver of a command is, and what it is since that command: a shell script needs no more to go on.
fn waiver_headers(waiver: &str, position: u64) -> HeaderMap {
    let values = [(header::LOCATION, format!("/v1/waivers/{waiver}")), (header::ETAG, precondition::etag(position))];
    values.into_iter().filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

pub(super) type Input = (State<ApiState>, Extension<Caller>, HeaderMap);

pub(super) async fn order((State(state), Extension(caller), headers): Input, body: Body) -> Result<Order, Problem> {
    Order::take(state, caller, &headers, body).await
}

/// Which decision a path asks for.
#[derive(Debug, Clone, Copy)]
enum Deciding {
    Approve,
    Refuse,
    Revoke,
}

async fn decide(input: Input, waiver: String, deciding: Deciding, body: Body) -> Result<Response, Problem> {
    let headers = input.2.clone();
    let order = order(input, body).await?;
    let mut sent: DecisionBody = order.json()?;
    {
        let governance = order.state.handle().shared().governance();
        let Some(found) = governance.waivers.get(&waiver) else {
            return Err(Problem::new(Kind::NotFound, format!("the ledger has never heard of waiver {waiver:?}")));
        };
        if !governance.commands.contains_key(&order.command_id()) {
            let is_seen = precondition::check(&headers, found.changed)? || sent.scope_sha256.is_some();
            if matches!(deciding, Deciding::Approve) && !is_seen {
                return Err(precondition::required(found.changed));
            }
        }
        if matches!(deciding, Deciding::Approve) && sent.scope_sha256.is_none() {
            sent.scope_sha256 = found.scope.as_ref().map(WaiverScope::sha256);
        }
    }
    let decision = WaiverDecision { waiver, scope_sha256: sent.scope_sha256, reason: sent.reason };
    let request = match deciding {
        Deciding::Approve => Request::WaiverApprove(decision),
        Deciding::Refuse => Request::WaiverRefuse(decision),
        Deciding::Revoke => Request::WaiverRevoke(decision),
    };
    order.give(request).await
}

async fn judge(
    input: Input,
    stack: String,
    request: fn(EngineJudgement) -> Request,
    body: Body,
) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let JudgementBody { engine_hash, reason } = order.json()?;
    order.give(request(EngineJudgement { stack, engine_hash, reason })).await
}

/// `POST /v1/waivers`.
pub(crate) async fn waiver_request(input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let scope = order.json()?;
    order.give(Request::WaiverRequest(scope)).await
}

/// `POST /v1/waivers/{id}/approve`.
pub(crate) async fn waiver_approve(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    decide(input, id, Deciding::Approve, body).await
}

/// `POST /v1/waivers/{id}/refuse`.
pub(crate) async fn waiver_refuse(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    decide(input, id, Deciding::Refuse, body).await
}

/// `POST /v1/waivers/{id}/revoke`.
pub(crate) async fn waiver_revoke(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    decide(input, id, Deciding::Revoke, body).await
}

/// `POST /v1/stacks/{stack}/condemn`.
pub(crate) async fn condemn(Path(stack): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    judge(input, stack, Request::EngineCondemn, body).await
}

/// `POST /v1/stacks/{stack}/reinstate`.
pub(crate) async fn reinstate(Path(stack): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    judge(input, stack, Request::EngineReinstate, body).await
}

/// `POST /v1/stacks/{stack}/rollback`.
pub(crate) async fn rollback(Path(stack): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let work: RollbackWork = order.json()?;
    if work.stack() != stack {
        let detail = format!("the path names stack {stack:?}, the body {:?}", work.stack());
        return Err(Problem::new(Kind::InvalidBody, detail).field("stack"));
    }
    order.give(Request::RollbackWork(work)).await
}

/// `POST /v1/stacks/{stack}/adopt`.
pub(crate) async fn adopt(Path(stack): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let AdoptBody { engine_hash, version, manifest } = order.json()?;
    order.give(Request::EngineAdopt(EngineAdopt { stack, engine_hash, version, manifest })).await
}

/// A limit of a principal.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitBody {
    /// The largest `cap_usd` that they may approve from here on.
    #[schemars(with = "String")]
    pub finance_limit_usd: rust_decimal::Decimal,
}

/// `POST /v1/principals/{name}/limit`.
pub(crate) async fn limit_principal(Path(name): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let LimitBody { finance_limit_usd } = order.json()?;
    order.give(Request::PrincipalLimit(PrincipalLimit { name, finance_limit_usd })).await
}

/// A command whose body is the request itself.
pub(super) async fn plain<T: DeserializeOwned>(
    input: Input,
    body: Body,
    request: impl FnOnce(T) -> Request,
) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let asked = order.json()?;
    order.give(request(asked)).await
}

/// `POST /v1/holes`.
pub(crate) async fn hole(input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let confirm: HoleConfirm = order.json()?;
    order.give(Request::HoleConfirm(confirm)).await
}

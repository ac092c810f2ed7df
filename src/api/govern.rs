//! What governs: policies put forward and decided, the dry run of one, maintenance windows, keys.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::ApiState;
use super::commands::{Input, Order, order, plain};
use super::problem::{Kind, Problem};
use crate::domain::command::{
    KeyConfirm, KeyEnroll, KeyRevoke, MaintenanceEnd, MaintenanceWindow, NodeEnroll, PolicyDecision, PolicyProposal,
    Request,
};
use crate::domain::policy::{Policy, PolicyChange};
use crate::ingest::http;
use crate::projection::what_if::DryRunAnswer;
use crate::sequencer::{Handle, SequencerError};

/// The largest policy document.
const POLICY_BYTES_MAX: usize = 1 << 20;

/// A policy to be put forward.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyBody {
    /// The whole document. Its revision must be above the one in force; where it is 0 or absent, the next one is taken.
    pub policy: Policy,
    /// The hash of the policy in force that the proposer saw; that of the moment where absent.
    #[serde(default)]
    pub replaces_sha256: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// A decision about a proposed policy.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyDecisionBody {
    /// The hash of the proposed document that was seen.
    pub policy_sha256: String,
    /// The hash of the document that it replaces.
    pub replaces_sha256: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Why.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    /// Why.
    pub reason: String,
}

/// The second admin's word for a key.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmBody {
    /// The entry that enrolled it, as it was seen.
    pub enrolled: u64,
}

/// What a proposal says of the policy in force: the next revision, its hash, and what the document changes in it.
fn moment(order: &Order, policy: &Policy) -> (u64, String, Vec<PolicyChange>) {
    let governance = order.state.handle().shared().governance();
    let in_force = &governance.policy;
    (in_force.revision + 1, in_force.sha256(), in_force.changes_to(policy))
}

/// `POST /v1/policy/proposals`.
pub(crate) async fn propose(input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let PolicyBody { mut policy, replaces_sha256, reason } = order.json()?;
    // A repeat under the same key is compared with the first, so what it leaves open is what was taken then.
    let (revision, replaces, changes) = if let Some(Request::PolicyPropose(first)) = order.first_request().await? {
        (first.policy.revision, first.replaces_sha256, first.changes)
    } else {
        moment(&order, &policy)
    };
    if policy.revision == 0 {
        policy.revision = revision;
    }
    let replaces_sha256 = replaces_sha256.unwrap_or(replaces);
    let proposal = PolicyProposal { changes, policy: Box::new(policy), replaces_sha256, reason };
    order.give(Request::PolicyPropose(proposal)).await
}

async fn decide(
    id: String,
    input: Input,
    body: Body,
    request: fn(PolicyDecision) -> Request,
) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let PolicyDecisionBody { policy_sha256, replaces_sha256, reason } = order.json()?;
    if order.state.handle().shared().governance().policies.get(&id).is_none() {
        return Err(Problem::new(Kind::NotFound, format!("the ledger has never heard of policy proposal {id:?}")));
    }
    order.give(request(PolicyDecision { proposal: id, policy_sha256, replaces_sha256, reason })).await
}

/// `POST /v1/policy/proposals/{id}/approve`.
pub(crate) async fn approve(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    decide(id, input, body, Request::PolicyApprove).await
}

/// `POST /v1/policy/proposals/{id}/refuse`.
pub(crate) async fn refuse(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    decide(id, input, body, Request::PolicyRefuse).await
}

/// `POST /v1/policy/dry-run`.
pub(crate) async fn dry_run(State(state): State<ApiState>, body: Body) -> Result<Json<DryRunAnswer>, Problem> {
    let bytes = http::read(body, POLICY_BYTES_MAX).await?;
    let sent: PolicyBody = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new(Kind::InvalidBody, format!("the body is no `{{\"policy\": …}}`: {error}")))?;
    // Each reads up to millions of records: one at a time.
    let permit = std::sync::Arc::clone(state.dry_runs())
        .try_acquire_owned()
        .map_err(|_discarded| Problem::new(Kind::Busy, "another dry run is under way; come again in 1 s"))?;
    let answer = tokio::task::spawn_blocking(move || {
        let answer = state.handle().shared().dry_run(&sent.policy);
        drop(permit);
        answer
    });
    Ok(Json(answer.await??))
}

/// `POST /v1/maintenance`.
pub(crate) async fn maintenance(input: Input, body: Body) -> Result<Response, Problem> {
    plain::<MaintenanceWindow>(input, body, Request::MaintenanceSet).await
}

/// `POST /v1/maintenance/{id}/end`.
pub(crate) async fn maintenance_end(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    plain(input, body, |ReasonBody { reason }| Request::MaintenanceEnd(MaintenanceEnd { window: id, reason })).await
}

/// `POST /v1/keys`.
pub(crate) async fn enroll(input: Input, body: Body) -> Result<Response, Problem> {
    plain::<KeyEnroll>(input, body, Request::KeyEnroll).await
}

/// `POST /v1/nodes`.
pub(crate) async fn enroll_node(input: Input, body: Body) -> Result<Response, Problem> {
    plain::<NodeEnroll>(input, body, Request::NodeEnroll).await
}

/// `POST /v1/keys/{id}/confirm`.
pub(crate) async fn confirm(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    plain(input, body, |ConfirmBody { enrolled }| Request::KeyConfirm(KeyConfirm { key_id: id, enrolled })).await
}

/// `POST /v1/keys/{id}/revoke`.
pub(crate) async fn revoke(Path(id): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    plain(input, body, |ReasonBody { reason }| Request::KeyRevoke(KeyRevoke { key_id: id, reason })).await
}

/// `POST /v1/node-key/rotate`: the key of the node that is asked.
pub(crate) async fn rotate_node_key(input: Input, body: Body) -> Result<Response, Problem> {
    rotate(input, body, Handle::node_key_rotation).await
}

/// `POST /v1/ledger-key/rotate`: the key of the checkpoints of the node that is asked.
pub(crate) async fn rotate_ledger_key(input: Input, body: Body) -> Result<Response, Problem> {
    rotate(input, body, Handle::ledger_key_rotation).await
}

async fn rotate(
    input: Input,
    body: Body,
    request: fn(&Handle) -> Result<Request, SequencerError>,
) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    if let Some(again) = order.outcome_known() {
        return again;
    }
    let state = order.state.clone();
    let request = tokio::task::spawn_blocking(move || request(state.handle())).await??;
    order.give(request).await
}

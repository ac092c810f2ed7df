//! Principals, their tokens, and the providers that are trusted to know people.
//!
//! A token is made by whoever asks for it and never travels here: only its SHA-256 does. When one was last used is this node's
//! own knowledge; everything else is a fold of the governance ledger.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::commands::{Input, order};
use super::guard::LOCAL;
use super::problem::{Kind, Problem};
use super::read::{Query, present};
use crate::domain::authentication::Identity;
use crate::domain::command::{
    IssuerDistrust, IssuerTrust, PrincipalEnroll, PrincipalRevoke, Request, TokenIssue, TokenRevoke,
};
use crate::domain::principal::{Principal, Role};
use crate::domain::time::Time;
use crate::projection::answers::AsOf;

/// A token for a principal.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    /// SHA-256 of the token, hex.
    pub token_sha256: String,
    /// It counts for nothing from here on; it lasts until it is revoked where absent.
    #[serde(default)]
    pub expires: Option<Time>,
    /// What it is for, in a word or two.
    #[serde(default)]
    pub label: Option<String>,
}

/// Who may do what.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PrincipalsAnswer {
    /// By name.
    pub principals: Vec<PrincipalRow>,
    /// Providers that are trusted to know people, by what they call themselves.
    pub issuers: Vec<IssuerRow>,
    /// The governance ledger at the time of the answer.
    pub as_of: AsOf,
}

/// One principal.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PrincipalRow {
    /// The name.
    pub name: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// Their tokens, oldest first.
    pub tokens: Vec<TokenRow>,
    /// Who they are at identity providers.
    pub identities: Vec<Identity>,
    /// The largest `cap_usd` that they may approve; none where nobody has said.
    #[schemars(with = "Option<String>")]
    pub finance_limit_usd: Option<Decimal>,
    /// The entry that last changed them.
    pub position: u64,
}

/// One token.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenRow {
    /// Its SHA-256, hex: what it is called where it is revoked.
    pub token_sha256: String,
    /// What it is for.
    pub label: Option<String>,
    /// It counts for nothing from here on.
    pub expires: Option<Time>,
    /// It counts for nothing any more.
    pub expired: bool,
    /// When it was last used at this node, to the second; what other nodes saw is not known here.
    pub last_used: Option<Time>,
    /// The entry that issued it.
    pub position: u64,
}

/// One provider.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IssuerRow {
    /// What it calls itself.
    pub issuer: String,
    /// Whom only it knows is called `ALIAS:NAME` here.
    pub alias: String,
    /// What its claims may confer on those.
    pub roles: Vec<Role>,
    /// The entry that trusts it.
    pub position: u64,
}

/// `GET /v1/principals`.
pub(crate) async fn list(State(state): State<ApiState>, uri: Uri) -> Result<Json<PrincipalsAnswer>, Problem> {
    Query::of(&uri, &[])?;
    let as_of = present(&state)?;
    let governance = state.handle().shared().governance();
    let principals = governance
        .principals
        .iter()
        .map(|(name, found)| {
            let limit = governance.principals.finance_limit_usd(name);
            row(&state, name, found, limit.map(|(limit_usd, _)| limit_usd))
        })
        .collect();
    let issuers = governance.principals.issuers().map(|(name, issuer)| IssuerRow {
        issuer: name.to_owned(),
        alias: issuer.alias.clone(),
        roles: issuer.roles.iter().copied().collect(),
        position: issuer.position,
    });
    Ok(Json(PrincipalsAnswer { principals, issuers: issuers.collect(), as_of }))
}

fn row(state: &ApiState, name: &str, principal: &Principal, finance_limit_usd: Option<Decimal>) -> PrincipalRow {
    let now = state.handle().now();
    let tokens = principal.tokens.iter().map(|(sha256, token)| TokenRow {
        token_sha256: sha256.clone(),
        label: token.label.clone(),
        expires: token.expires,
        expired: token.is_expired(now),
        last_used: state.last_uses().of(sha256),
        position: token.position,
    });
    let mut tokens: Vec<TokenRow> = tokens.collect();
    tokens.sort_by_key(|token| token.position);
    PrincipalRow {
        name: name.to_owned(),
        roles: principal.roles.iter().copied().collect(),
        tokens,
        identities: principal.identities.iter().cloned().collect(),
        finance_limit_usd,
        position: principal.position,
    }
}

/// `POST /v1/principals`.
pub(crate) async fn enroll(input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let enroll: PrincipalEnroll = order.json()?;
    if enroll.name == LOCAL {
        return Err(
            Problem::new(Kind::InvalidBody, "the name `local` stands for the data directory's owner").field("name")
        );
    }
    order.give(Request::PrincipalEnroll(enroll)).await
}

/// `DELETE /v1/principals/{name}`.
pub(crate) async fn revoke(Path(name): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    order.give(Request::PrincipalRevoke(PrincipalRevoke { name })).await
}

/// `POST /v1/principals/{name}/tokens`.
pub(crate) async fn issue_token(Path(name): Path<String>, input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let TokenBody { token_sha256, expires, label } = order.json()?;
    order.give(Request::TokenIssue(TokenIssue { name, token_sha256, expires, label })).await
}

/// `DELETE /v1/principals/{name}/tokens/{token_sha256}`.
pub(crate) async fn revoke_token(
    Path((name, token_sha256)): Path<(String, String)>,
    input: Input,
    body: Body,
) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    order.give(Request::TokenRevoke(TokenRevoke { name, token_sha256 })).await
}

/// `POST /v1/issuers`.
pub(crate) async fn trust(input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let trust: IssuerTrust = order.json()?;
    order.give(Request::IssuerTrust(trust)).await
}

/// `POST /v1/issuers/distrust`.
pub(crate) async fn distrust(input: Input, body: Body) -> Result<Response, Problem> {
    let order = order(input, body).await?;
    let distrust: IssuerDistrust = order.json()?;
    order.give(Request::IssuerDistrust(distrust)).await
}

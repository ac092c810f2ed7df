//! Commands that decide: given to the service over HTTP, or to a writer of this process. Either way a principal's token says
//! who asks, and the ledger decides at the command's position.

use serde_json::{Value, json};

use super::args::{Adopt, Hole, Judgement, Options, Past, TokenTask, WaiverTask};
use super::error::{CliError, Exit, Outcome, file_error};
use super::node::{Node, config_error};
use super::out::{self, Tone, tone};
use super::source::{Client, Place, Response, Source};
use crate::config::Config;
use crate::domain::command::{
    EngineAdopt, EngineJudgement, HoleConfirm, PolicyDecision, PrincipalLimit, PrincipalRevoke, Request, WaiverDecision,
};
use crate::domain::principal::token_sha256;
use crate::projection::answers::Asked;
use crate::projection::governance::Verdict;
use crate::sequencer::{CommandOutcome, new_token};

/// Where a node's own key is rotated.
const ROTATE_NODE: &str = "/v1/node-key/rotate";
const ROTATE_LEDGER: &str = "/v1/ledger-key/rotate";
/// Past states can be read, not decided about.
pub(super) const PRESENT: Past = Past { as_of: None };

/// `waivers`.
pub(crate) fn waivers(place: &Place, options: &Options, task: Option<WaiverTask>) -> Outcome {
    let task = task.unwrap_or(WaiverTask::List { stack: None, past: PRESENT });
    let decision = |waiver: String, scope_sha256, reason| WaiverDecision { waiver, scope_sha256, reason };
    let (request, key, seen) = match task {
        WaiverTask::List { stack, past } => return super::ask::answer(place, options, &Asked::Waivers { stack }, past),
        WaiverTask::Show { id, past } => return super::ask::answer(place, options, &Asked::Waiver { id }, past),
        WaiverTask::Request(ask) => {
            let key = ask.key.clone();
            (Request::WaiverRequest(super::waiver_ask::scope(place, *ask)?), key, None)
        }
        WaiverTask::Approve { id, scope_sha256, reason, if_match, key } => {
            let scope = match scope_sha256 {
                Some(scope) => Some(scope),
                None => seen_scope(place, &id)?,
            };
            (Request::WaiverApprove(decision(id, scope, reason)), key, if_match)
        }
        WaiverTask::Refuse { id, reason, if_match, key } => {
            (Request::WaiverRefuse(decision(id, None, Some(reason))), key, if_match)
        }
        WaiverTask::Revoke { id, reason, if_match, key } => {
            (Request::WaiverRevoke(decision(id, None, Some(reason))), key, if_match)
        }
    };
    give_if(place, options, key, &request, seen)
}

/// The scope of a waiver as it stands: what an approval without `--scope-sha256` is over.
fn seen_scope(place: &Place, id: &str) -> Result<Option<String>, CliError> {
    let asked = Asked::Waiver { id: id.to_owned() };
    Ok(read_to_decide(place, &asked)?["scope_sha256"].as_str().map(str::to_owned))
}

/// An answer that a decision needs first.
pub(super) fn read_to_decide(place: &Place, asked: &Asked) -> Result<Value, CliError> {
    let place = Place { export: None, ..place.clone() };
    let source = match place.open()? {
        // Whoever decides may read, with the same token.
        Source::Server(client) => Source::Server(match place.token()? {
            Some(token) => client.with_token(token),
            None => client,
        }),
        files @ Source::Files(_) => files,
    };
    Ok(source.ask(asked, None)?.body)
}

/// `condemn` and `reinstate`.
pub(crate) fn judge(place: &Place, options: &Options, judgement: Judgement, condemn: bool) -> Outcome {
    let Judgement { stack, engine, reason, key } = judgement;
    let judgement = EngineJudgement { stack, engine_hash: engine, reason };
    give(
        place,
        options,
        key,
        &if condemn { Request::EngineCondemn(judgement) } else { Request::EngineReinstate(judgement) },
    )
}

/// `adopt`.
pub(crate) fn adopt(place: &Place, options: &Options, adopt: Adopt) -> Outcome {
    let manifest = match &adopt.manifest {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(file_error(path))?;
            Some(serde_json::from_str(&text).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?)
        }
    };
    give(
        place,
        options,
        adopt.key,
        &Request::EngineAdopt(EngineAdopt {
            stack: adopt.stack,
            engine_hash: adopt.engine,
            version: adopt.version,
            manifest,
        }),
    )
}

/// `confirm-hole`.
pub(crate) fn hole(place: &Place, options: &Options, hole: Hole) -> Outcome {
    give(
        place,
        options,
        hole.key,
        &Request::HoleConfirm(HoleConfirm { ledger: hole.ledger, from: hole.from, to: hole.to, reason: hole.reason }),
    )
}

/// `token`.
pub(crate) fn token(place: &Place, options: &Options, task: TokenTask) -> Outcome {
    match task {
        TokenTask::List => super::principals::names(place, options),
        TokenTask::Revoke { principal, key } => {
            give(place, options, key, &Request::PrincipalRevoke(PrincipalRevoke { name: principal }))
        }
        TokenTask::Limit { principal, finance_limit_usd, key } => {
            let limit = PrincipalLimit { name: principal, finance_limit_usd };
            give(place, options, key, &Request::PrincipalLimit(limit))
        }
        TokenTask::Create { principal, role, expires, out: file, key } => {
            let issue = super::principals::NewToken { expires, label: None, file, key };
            super::principals::enroll(place, options, &principal, &role, issue)
        }
    }
}

/// A command that was decided in favour.
pub(super) struct Given {
    pub(super) position: u64,
    pub(super) body: Value,
}

pub(super) fn give(place: &Place, options: &Options, key: Option<String>, request: &Request) -> Outcome {
    give_if(place, options, key, request, None)
}

/// Gives it, if the waiver that it is about was last changed by the entry `seen`.
fn give_if(place: &Place, options: &Options, key: Option<String>, request: &Request, seen: Option<u64>) -> Outcome {
    let what = request.event_type().trim_start_matches("llm_").trim_start_matches("ledger_").replace('_', " ");
    let given = given(place, options, key, request, seen)?;
    if options.json {
        out::json(&given.body);
    } else {
        let subject = ["waiver", "incident", "made"]
            .iter()
            .find_map(|name| given.body[*name].as_str())
            .map(|id| format!(" {id}"))
            .unwrap_or_default();
        out::line(format!("{}:{subject} {what}, at entry {}", tone(Tone::Good, "applied"), given.position));
    }
    Ok(Exit::Fine)
}

pub(super) fn given(
    place: &Place,
    options: &Options,
    key: Option<String>,
    request: &Request,
    seen: Option<u64>,
) -> Result<Given, CliError> {
    let (token, key) = who_and_key(place, key)?;
    match place.service()? {
        Some(client) => remote(&client.with_token(token), &key, request, seen),
        None => local(place, options, (&token, &key), |node| {
            check_seen(node, request, seen)?;
            Ok(request.clone())
        }),
    }
}

/// Which key of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodesKey {
    /// That of its envelopes.
    Envelopes,
    /// That of its checkpoints.
    Checkpoints,
}

/// `keys rotate-node` and `rotate-ledger`: the node makes its new key itself, so what is asked is known there alone.
pub(super) fn rotate(place: &Place, options: &Options, key: Option<String>, which: NodesKey) -> Outcome {
    let (token, key) = who_and_key(place, key)?;
    let (path, what) = match which {
        NodesKey::Envelopes => (ROTATE_NODE, "the node signs envelopes"),
        NodesKey::Checkpoints => (ROTATE_LEDGER, "the node signs checkpoints"),
    };
    let given = match place.service()? {
        Some(client) => post(&client.with_token(token), &key, (path, &Value::Null), None)?,
        None => local(place, options, (&token, &key), |node| match which {
            NodesKey::Envelopes => Ok(node.handle.node_key_rotation()?),
            NodesKey::Checkpoints => Ok(node.handle.ledger_key_rotation()?),
        })?,
    };
    if options.json {
        out::json(&given.body);
    } else {
        let key_id = out::text(&given.body["made"]);
        out::line(format!("{}: {what} with key {key_id} since entry {}", tone(Tone::Good, "applied"), given.position));
    }
    Ok(Exit::Fine)
}

/// The token of whoever asks, and the idempotency key.
fn who_and_key(place: &Place, key: Option<String>) -> Result<(String, String), CliError> {
    if place.export.is_some() {
        return Err(CliError::usage(
            "an export can be read, not written to; name the service with --server or its directory with --data",
        ));
    }
    let token = place.token()?.ok_or_else(|| {
        CliError::usage("this decides something, so it needs to know who asks: --token-file FILE, or GOVLEDGER_TOKEN")
    })?;
    let key = match key {
        Some(key) => key,
        // A key nobody else uses; repeating the command asks again.
        None => new_token()?.trim_start_matches("glt_").to_owned(),
    };
    Ok((token, key))
}

fn local(
    place: &Place,
    options: &Options,
    (token, key): (&str, &str),
    request: impl FnOnce(&Node) -> Result<Request, CliError>,
) -> Result<Given, CliError> {
    let config = Config::load(options.config.as_deref()).map_err(|error| config_error(&error))?;
    let node = Node::open(&place.data, &config, false)?;
    let done = request(&node).and_then(|request| through(&node, token, key, &request));
    node.stop()?;
    done
}

/// As the service does for `If-Match`.
fn check_seen(node: &Node, request: &Request, seen: Option<u64>) -> Result<(), CliError> {
    let Some((seen, waiver)) = seen.zip(request.waiver(0)) else { return Ok(()) };
    let changed = node.handle.shared().governance().waivers.get(&waiver).map(|waiver| waiver.changed);
    match changed.filter(|changed| *changed != seen) {
        None => Ok(()),
        Some(changed) => Err(CliError::new(
            Exit::Refused,
            format!("{waiver} is no longer what was seen: entry {changed} changed it, not {seen}"),
        )),
    }
}

fn through(node: &Node, token: &str, key: &str, request: &Request) -> Result<Given, CliError> {
    let (principal, roles) = {
        let governance = node.handle.shared().governance();
        let found = governance.principals.by_token_sha256(&token_sha256(token));
        let (name, principal) = found.ok_or_else(|| {
            CliError::new(Exit::Refused, "the ledger knows nobody with this token; `govledger token create` makes one")
        })?;
        let expires = principal.tokens.get(&token_sha256(token)).and_then(|token| token.expires);
        if let Some(expires) = expires.filter(|expires| *expires <= node.handle.now()) {
            return Err(CliError::new(Exit::Refused, format!("the token of {name} expired at {expires}")));
        }
        (name.to_owned(), principal.roles.clone())
    };
    let role = roles.iter().find(|role| request.roles().contains(role)).copied().ok_or_else(|| {
        let allowed: Vec<&str> = request.roles().iter().map(|role| role.as_str()).collect();
        CliError::new(
            Exit::Refused,
            format!("{principal} lacks the role {}, which {} takes", allowed.join(" or "), request.event_type()),
        )
    })?;
    let (command_id, outcome) = node.block_on(node.handle.command(&principal, role, key, request.clone()))?;
    let outcome = match outcome {
        CommandOutcome::Decided(outcome) => outcome,
        CommandOutcome::Pending => {
            return Err(CliError::new(
                Exit::Unreachable,
                format!("command {command_id} is on its way and was not applied in time"),
            ));
        }
    };
    if let Verdict::Refused(refusal) = &outcome.verdict {
        let by =
            refusal.by_position.map(|position| format!(" (entry {position} stands in the way)")).unwrap_or_default();
        return Err(CliError::new(
            Exit::Refused,
            format!("refused at entry {}: {}{by}", outcome.position, refusal.detail),
        ));
    }
    let position = outcome.position;
    let mut body = json!({ "command_id": command_id, "status": "applied", "position": position });
    if let Some(waiver) = request.waiver(position) {
        body["waiver"] = waiver.into();
    }
    if let Some(incident) = request.incident(position) {
        body["incident"] = incident.into();
    }
    if let Some(made) = request.made(position) {
        body["made"] = made.into();
    }
    Ok(Given { position, body })
}

/// Where the API takes a request, and with which body.
fn route(request: &Request) -> Result<(String, Value), CliError> {
    let encode = out::encode;
    let decision = |verb: &str, decision: &WaiverDecision| {
        (
            format!("/v1/waivers/{}/{verb}", encode(&decision.waiver)),
            json!({ "scope_sha256": decision.scope_sha256, "reason": decision.reason }),
        )
    };
    let policy = |verb: &str, inner: &PolicyDecision| {
        (
            format!("/v1/policy/proposals/{}/{verb}", encode(&inner.proposal)),
            json!({ "policy_sha256": inner.policy_sha256, "replaces_sha256": inner.replaces_sha256, "reason": inner.reason }),
        )
    };
    let judged = |verb: &str, judged: &EngineJudgement| {
        (
            format!("/v1/stacks/{}/{verb}", encode(&judged.stack)),
            json!({ "engine_hash": judged.engine_hash, "reason": judged.reason }),
        )
    };
    Ok(match request {
        Request::WaiverRequest(scope) => ("/v1/waivers".to_owned(), serde_json::to_value(scope)?),
        Request::WaiverApprove(inner) => decision("approve", inner),
        Request::WaiverRefuse(inner) => decision("refuse", inner),
        Request::WaiverRevoke(inner) => decision("revoke", inner),
        Request::IncidentOpen(open) => ("/v1/incidents".to_owned(), serde_json::to_value(open)?),
        Request::IncidentAcknowledge(_)
        | Request::IncidentNote(_)
        | Request::IncidentClose(_)
        | Request::IncidentWork(_) => super::incidents::route(request)?,
        Request::RollbackWork(work) => {
            (format!("/v1/stacks/{}/rollback", encode(work.stack())), serde_json::to_value(work)?)
        }
        Request::EngineCondemn(inner) => judged("condemn", inner),
        Request::EngineReinstate(inner) => judged("reinstate", inner),
        Request::EngineAdopt(adopt) => {
            let mut body = serde_json::to_value(adopt)?;
            if let Some(object) = body.as_object_mut() {
                object.remove("stack");
            }
            (format!("/v1/stacks/{}/adopt", encode(&adopt.stack)), body)
        }
        Request::PrincipalEnroll(_)
        | Request::PrincipalRevoke(_)
        | Request::PrincipalLimit(_)
        | Request::TokenIssue(_)
        | Request::TokenRevoke(_)
        | Request::IssuerTrust(_)
        | Request::IssuerDistrust(_) => super::principals::route(request)?,
        Request::HoleConfirm(hole) => ("/v1/holes".to_owned(), serde_json::to_value(hole)?),
        Request::PolicyPropose(inner) => (
            "/v1/policy/proposals".to_owned(),
            json!({ "policy": inner.policy, "replaces_sha256": inner.replaces_sha256, "reason": inner.reason }),
        ),
        Request::PolicyApprove(inner) => policy("approve", inner),
        Request::PolicyRefuse(inner) => policy("refuse", inner),
        Request::MaintenanceSet(window) => ("/v1/maintenance".to_owned(), serde_json::to_value(window)?),
        Request::MaintenanceEnd(end) => {
            (format!("/v1/maintenance/{}/end", encode(&end.window)), json!({ "reason": end.reason }))
        }
        Request::KeyEnroll(enroll) => ("/v1/keys".to_owned(), serde_json::to_value(enroll)?),
        Request::NodeEnroll(enroll) => ("/v1/nodes".to_owned(), serde_json::to_value(enroll)?),
        Request::KeyConfirm(confirm) => {
            (format!("/v1/keys/{}/confirm", encode(&confirm.key_id)), json!({ "enrolled": confirm.enrolled }))
        }
        Request::KeyRevoke(revoke) => {
            (format!("/v1/keys/{}/revoke", encode(&revoke.key_id)), json!({ "reason": revoke.reason }))
        }
        // The service makes the key itself.
        Request::NodeKeyRotate(_) => (ROTATE_NODE.to_owned(), Value::Null),
        Request::LedgerKeyRotate(_) => (ROTATE_LEDGER.to_owned(), Value::Null),
    })
}

fn remote(client: &Client, key: &str, request: &Request, seen: Option<u64>) -> Result<Given, CliError> {
    let (path, body) = route(request)?;
    let if_match = seen.map(|version| format!("\"{version}\""));
    let tag = if_match.as_deref().map(|tag| ("if-match", tag));
    if matches!(request, Request::PrincipalRevoke(_) | Request::TokenRevoke(_)) {
        return answered(client, &client.delete(&path, &[("idempotency-key", key)])?);
    }
    post(client, key, (&path, &body), tag)
}

fn post(
    client: &Client,
    key: &str,
    (path, body): (&str, &Value),
    tag: Option<(&str, &str)>,
) -> Result<Given, CliError> {
    let mut headers = vec![("idempotency-key", key), ("content-type", "application/json")];
    headers.extend(tag);
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    answered(client, &client.post(path, &headers, &body)?)
}

fn answered(client: &Client, response: &Response) -> Result<Given, CliError> {
    let answer = response.json();
    match response.status {
        202 => Err(CliError::new(
            Exit::Unreachable,
            format!(
                "command {} is on its way and was not applied in time; ask {}/v1/commands/{0} how it ended",
                out::text(&answer["command_id"]),
                client.url()
            ),
        )),
        200..=299 => Ok(Given { position: answer["position"].as_u64().unwrap_or_default(), body: answer }),
        _ => Err(client.refusal(response)),
    }
}

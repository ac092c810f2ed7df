//! `policy`: what the rules go by. Shown, put forward by one admin and put in force by another.

use ledger::KeyChain;
use ledger::note::VerifierKey;

use super::args::{Options, Past, PolicyTask};
use super::decide::{give, read_to_decide};
use super::error::{CliError, Exit, Outcome, file_error};
use super::out::{self, text};
use super::show::govern;
use super::source::{Keys, Place, Source};
use crate::domain::command::{PolicyDecision, PolicyProposal, Request};
use crate::domain::policy::Policy;
use crate::projection::answers::{Asked, ProposalAnswer};
use crate::projection::what_if::DryRunAnswer;

pub(crate) fn run(place: &Place, options: &Options, task: PolicyTask) -> Outcome {
    match task {
        PolicyTask::Check { file } => {
            let policy = read(&file).map_err(|error| CliError { exit: Exit::No, ..error })?;
            out::line(format!("{}: revision {} can be put in force", file.display(), policy.revision));
            Ok(Exit::Fine)
        }
        PolicyTask::Show { stack, past } => super::ask::answer(place, options, &Asked::Policy { stack }, past),
        PolicyTask::Trust { past } => trust(place, options, past),
        PolicyTask::Proposal { id, past } => super::ask::answer(place, options, &Asked::Proposal { id }, past),
        PolicyTask::Propose { file, reason: _, dry_run: true, key: _ } => dry_run(place, options, &read(&file)?),
        PolicyTask::Propose { file, reason, dry_run: false, key } => {
            let proposal = proposal(place, read(&file)?, reason.unwrap_or_default())?;
            if !options.json {
                govern::changes(&serde_json::to_value(&proposal.changes)?);
            }
            give(place, options, key, &Request::PolicyPropose(proposal))
        }
        PolicyTask::Approve { id, policy_sha256, reason, key } => {
            let decision = decision(place, options, &id, policy_sha256, reason)?;
            give(place, options, key, &Request::PolicyApprove(decision))
        }
        PolicyTask::Refuse { id, reason, key } => {
            let decision = decision(place, options, &id, None, Some(reason))?;
            give(place, options, key, &Request::PolicyRefuse(decision))
        }
    }
}

/// What an auditor keeps: the key of this node's governance ledger, the witnesses, and how many of them it takes.
fn trust(place: &Place, options: &Options, past: Past) -> Outcome {
    let source = place.open()?;
    let body = source.ask(&Asked::Policy { stack: None }, past.as_of)?.body;
    let policy: Policy = serde_json::from_value(body["policy"].clone())?;
    let mut trust = policy.trust.resolve().map_err(CliError::failed)?;
    let key = log_key(place, &source)?;
    trust.add_log(key, None).map_err(CliError::failed)?;
    if options.json {
        out::json(&serde_json::json!({ "as_of": body["as_of"], "tlog_policy": trust.to_string() }));
    } else {
        for line in trust.to_string().lines() {
            out::line(line);
        }
    }
    Ok(Exit::Fine)
}

/// The key that signs the governance ledger's checkpoints now.
fn log_key(place: &Place, source: &Source) -> Result<VerifierKey, CliError> {
    match source {
        Source::Server(client) => {
            let keys = String::from_utf8(client.fetch("/ledger/governance/vkey")?).map_err(CliError::failed)?;
            VerifierKey::parse(keys.lines().last().unwrap_or_default()).map_err(CliError::failed)
        }
        Source::Files(files) => {
            let keys = match &place.export {
                Some(_) => Keys::read(&place.vkey)?,
                None => Keys::of_data(&place.data)?,
            };
            let rotations = files.ledger("governance")?.rotations_text();
            let chain = KeyChain::follow(&keys.of_ledger("governance")?, &rotations).map_err(ledger::Error::from)?;
            Ok(chain.current().clone())
        }
    }
}

fn read(file: &std::path::Path) -> Result<Policy, CliError> {
    let text = std::fs::read_to_string(file).map_err(file_error(file))?;
    Policy::from_toml(&text).map_err(|error| CliError::usage(format!("{}: {error}", file.display())))
}

/// What is put forward, over the policy in force as it is read now.
fn proposal(place: &Place, mut policy: Policy, reason: String) -> Result<PolicyProposal, CliError> {
    let body = read_to_decide(place, &Asked::Policy { stack: None })?;
    let in_force: Policy = serde_json::from_value(body["policy"].clone())?;
    if policy.revision == 0 {
        policy.revision = in_force.revision + 1;
    }
    let changes = in_force.changes_to(&policy);
    Ok(PolicyProposal { policy: Box::new(policy), replaces_sha256: in_force.sha256(), changes, reason })
}

/// A decision over what is read now, or over the document that was seen before.
fn decision(
    place: &Place,
    options: &Options,
    id: &str,
    seen: Option<String>,
    reason: Option<String>,
) -> Result<PolicyDecision, CliError> {
    let body = read_to_decide(place, &Asked::Proposal { id: id.to_owned() })?;
    if !options.json {
        govern::changes(&body["changes"]);
    }
    let found: ProposalAnswer = serde_json::from_value(body)?;
    Ok(PolicyDecision {
        proposal: id.to_owned(),
        policy_sha256: seen.unwrap_or(found.row.policy_sha256),
        replaces_sha256: found.row.replaces_sha256,
        reason,
    })
}

fn dry_run(place: &Place, options: &Options, policy: &Policy) -> Outcome {
    let answer: DryRunAnswer = match place.open()? {
        Source::Files(files) => files.dry_run(policy)?,
        Source::Server(client) => {
            let client = match place.token()? {
                Some(token) => client.with_token(token),
                None => client,
            };
            let body = serde_json::to_vec(&serde_json::json!({ "policy": policy }))?;
            let response = client.post("/v1/policy/dry-run", &[("content-type", "application/json")], &body)?;
            if !response.is_success() {
                return Err(client.refusal(&response));
            }
            serde_json::from_slice(&response.bytes)?
        }
    };
    let body = serde_json::to_value(&answer)?;
    if options.json {
        out::json(&body);
        return Ok(Exit::Fine);
    }
    govern::changes(&body["changes"]);
    govern::differences(&body["alerts"]);
    out::line(format!(
        "from {} to {}: {} alerts recorded, {} there would have been, {} the same; {} cuts and {} records folded again",
        text(&body["since"]),
        text(&body["through"]),
        answer.recorded,
        answer.proposed,
        answer.unchanged,
        answer.cuts,
        answer.records_read
    ));
    Ok(Exit::Fine)
}

//! The scope of a waiver that is asked for: as given, or filled in from a firing alert.

use serde_json::Value;

use super::args::WaiverAsk;
use super::error::CliError;
use super::source::Place;
use crate::domain::command::WaiverScope;
use crate::domain::event::AlertState;
use crate::projection::answers::{Asked, OurAlert};

/// What `ask` asks for. What it leaves open and the alert knows is taken from there.
pub(super) fn scope(place: &Place, ask: WaiverAsk) -> Result<WaiverScope, CliError> {
    let alert = ask.from_alert.as_deref().map(|id| firing(place, id)).transpose()?;
    let alert = alert.as_ref();
    let proposal = alert.and_then(|alert| alert.proposal.as_ref());
    let missing = |what: &str| CliError::usage(format!("give --{what}; the alert does not say it"));
    Ok(WaiverScope {
        rule: ask.rule.or_else(|| alert.map(|alert| alert.rule)).ok_or_else(|| missing("rule"))?,
        stack: ask.stack.or_else(|| alert.map(|alert| alert.stack.clone())).ok_or_else(|| missing("stack"))?,
        engine_hash: ask.engine.or_else(|| alert.map(|alert| alert.engine_hash.clone())),
        justification: ask.justification,
        mitigation_plan: ask.mitigation,
        cap_usd: ask.cap_usd.or_else(|| proposal.and_then(|proposal| proposal.cap_usd)),
        starts: ask.starts,
        expires: ask.expires.or_else(|| proposal.map(|proposal| proposal.expires)).ok_or_else(|| missing("expires"))?,
        ticket: ask.ticket,
        owner: ask.owner,
        alternatives: ask.alternatives,
        advisories: ask.advisory,
        retroactive: ask.retroactive,
        reported: ask.reported,
    })
}

fn firing(place: &Place, id: &str) -> Result<OurAlert, CliError> {
    let asked = Asked::Alerts { stack: None, state: Some(AlertState::Firing), all: false };
    let body = super::decide::read_to_decide(place, &asked)?;
    let alerts = body["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = alerts.iter().find(|alert| alert["id"] == id).cloned().unwrap_or(Value::Null);
    serde_json::from_value(found).map_err(|_discarded| CliError::usage(format!("no alert {id:?} fires now")))
}

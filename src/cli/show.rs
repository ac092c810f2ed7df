//! Answers for the eye: what matters first, times to the second, hashes short.

mod capacity;
pub(crate) mod govern;
mod incident;
mod lists;
pub(crate) mod rollback;
mod stack;

use serde_json::Value;

use super::out::{self, Tone, text, tone, when};
use super::source::Reply;
use crate::projection::answers::Asked;
pub(crate) use incident::checklist;
pub(crate) use lists::rejected;

/// Prints an answer.
pub(crate) fn answer(asked: &Asked, reply: &Reply) {
    let body = &reply.body;
    match asked {
        Asked::Stacks => stack::stacks(body),
        Asked::Stack { .. } => stack::stack(body),
        Asked::Manifest { .. } => stack::manifest(body),
        Asked::LastGood { strict, .. } => stack::last_good(body, *strict, reply.negative),
        Asked::Traffic { .. } => stack::traffic(body),
        Asked::Timeline { .. } => lists::timeline(&body["timeline"]),
        Asked::Now { .. } => stack::now(body),
        Asked::Slo { .. } => lists::slo(body),
        Asked::Capacity { .. } => capacity::capacity(body),
        Asked::Alerts { .. } => lists::alerts(&body["alerts"]),
        Asked::Waivers { .. } => lists::waivers(&body["waivers"]),
        Asked::Waiver { .. } => lists::waiver(body),
        Asked::Incidents { .. } => incident::incidents(&body["incidents"]),
        Asked::Incident { .. } => incident::incident(body),
        Asked::Backups { .. } => lists::backups(body),
        Asked::Policy { .. } => govern::policy(body),
        Asked::Proposal { .. } => govern::proposal(body),
        Asked::Maintenance { .. } => govern::maintenance(body),
        Asked::Keys => govern::keys(body),
        Asked::Rollback { .. } => rollback::plan(body),
        Asked::Command { .. } | Asked::IncidentReport { .. } => out::json(body),
        Asked::Rejected { .. } => rejected(body),
    }
    as_of(body);
}

/// How far the answer goes.
fn as_of(body: &Value) {
    let size = text(&body["as_of"]["size"]);
    let root: String = text(&body["as_of"]["root"]).chars().take(12).collect();
    let through = if body["evaluated_through"].is_null() {
        "no cut yet".to_owned()
    } else {
        format!("figures up to {} UTC", when(&body["evaluated_through"]))
    };
    out::line(format!("as of {size} governance entries, root {root}…; {through}"));
}

/// Items of a JSON array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A gate in one line.
fn gate(traffic: &Value) -> String {
    let state = match traffic["open"].as_bool() {
        Some(true) => tone(Tone::Good, "open"),
        Some(false) => tone(Tone::Bad, "closed"),
        None => tone(Tone::Warn, "unknown"),
    };
    let position = traffic["position"].as_u64().map(|position| format!(" (entry {position})")).unwrap_or_default();
    format!("{state}: {}{position}", text(&traffic["reason"]))
}

//! `maintenance` and `keys`: commands that an admin or whoever is on call gives, and the lists beside them.

use super::args::{KeyTask, MaintenanceTask, Options};
use super::decide::{NodesKey, give, read_to_decide, rotate};
use super::error::{CliError, Outcome};
use super::source::Place;
use crate::clock::Clock;
use crate::domain::command::{
    KeyConfirm, KeyEnroll, KeyRevoke, MaintenanceEnd, MaintenanceWindow, NodeEnroll, Request,
};
use crate::projection::answers::Asked;

/// `maintenance`.
pub(crate) fn maintenance(place: &Place, options: &Options, task: MaintenanceTask) -> Outcome {
    let (request, key) = match task {
        MaintenanceTask::List { stack, past } => {
            return super::ask::answer(place, options, &Asked::Maintenance { stack }, past);
        }
        MaintenanceTask::Set { stack, rule, from, to, reason, key } => {
            let from = from.unwrap_or_else(|| Clock::System.now());
            let rules = rule.into_iter().collect();
            (Request::MaintenanceSet(MaintenanceWindow { stack, rules, from, to, reason }), key)
        }
        MaintenanceTask::End { id, reason, key } => {
            (Request::MaintenanceEnd(MaintenanceEnd { window: id, reason }), key)
        }
    };
    give(place, options, key, &request)
}

/// `keys`.
pub(crate) fn keys(place: &Place, options: &Options, task: KeyTask) -> Outcome {
    let (request, key) = match task {
        KeyTask::List { past } => return super::ask::answer(place, options, &Asked::Keys, past),
        KeyTask::RotateNode { key } => return rotate(place, options, key, NodesKey::Envelopes),
        KeyTask::RotateLedger { key } => return rotate(place, options, key, NodesKey::Checkpoints),
        KeyTask::Enroll { author, public_key, event_type, replaces, key } => {
            let public_key = public_key.to_ascii_lowercase();
            let event_types = event_type.into_iter().collect();
            (Request::KeyEnroll(KeyEnroll { author, public_key, event_types, replaces }), key)
        }
        KeyTask::EnrollNode { node, public_key, key } => {
            let public_key = public_key.to_ascii_lowercase();
            (Request::NodeEnroll(NodeEnroll { node, public_key }), key)
        }
        KeyTask::Confirm { id, key } => {
            let enrolled = enrolled(place, &id)?;
            (Request::KeyConfirm(KeyConfirm { key_id: id, enrolled }), key)
        }
        KeyTask::Revoke { id, reason, key } => (Request::KeyRevoke(KeyRevoke { key_id: id, reason }), key),
    };
    give(place, options, key, &request)
}

/// The entry that enrolled a key: what a confirmation is of.
fn enrolled(place: &Place, id: &str) -> Result<u64, CliError> {
    let body = read_to_decide(place, &Asked::Keys)?;
    let rows = ["authors", "nodes"].iter().filter_map(|sort| body[*sort].as_array()).flatten();
    let found = rows.into_iter().find(|row| row["key_id"] == id).and_then(|row| row["position"].as_u64());
    found.ok_or_else(|| {
        CliError::usage(format!("there is no key {id:?} that was enrolled; `govledger keys list` shows them"))
    })
}

//! Reading commands: one question, one answer, as JSON or for the eye.

use serde_json::Value;

use super::args::{Options, Past, Read};
use super::error::Outcome;
use super::out;
use super::show;
use super::source::{Place, exit};
use crate::domain::event::AlertState;
use crate::projection::answers::Asked;

pub(crate) fn run(place: &Place, options: &Options, read: Read) -> Outcome {
    // The refusals of a metrics ledger are no fold's: its records are judged again, one by one.
    if let Read::Rejected { ledger, after, limit, .. } = &read
        && ledger != "governance"
    {
        return super::entries::rejected(place, options, ledger, *after, *limit);
    }
    let (asked, past) = question(read);
    answer(place, options, &asked, past)
}

/// Asks and prints.
pub(crate) fn answer(place: &Place, options: &Options, asked: &Asked, past: Past) -> Outcome {
    let source = place.open()?;
    let reply = source.ask(asked, past.as_of)?;
    if options.json {
        out::json(bare(asked, &reply.body));
    } else {
        show::answer(asked, &reply);
    }
    Ok(exit(asked, &reply))
}

/// Lists that other programs read are printed as arrays.
fn bare<'a>(asked: &Asked, body: &'a Value) -> &'a Value {
    if matches!(asked, Asked::Alerts { .. }) {
        &body["alerts"]
    } else if matches!(asked, Asked::Timeline { .. }) {
        &body["timeline"]
    } else if matches!(asked, Asked::Waivers { .. }) {
        &body["waivers"]
    } else {
        body
    }
}

fn question(read: Read) -> (Asked, Past) {
    match read {
        Read::Stacks { past } => (Asked::Stacks, past),
        Read::Now { stack, past } => (Asked::Now { stack }, past),
        Read::Manifest { stack, past } => (Asked::Manifest { stack }, past),
        Read::LastGood { stack, not_current, strict, past } => (Asked::LastGood { stack, not_current, strict }, past),
        Read::Traffic { stack, engine, past } => (Asked::Traffic { stack, engine }, past),
        Read::Timeline { stack, incident, past } => (Asked::Timeline { stack, incident }, past),
        Read::Alerts { stack, state, all, past } => {
            let state = state.map(|state| if state == "firing" { AlertState::Firing } else { AlertState::Resolved });
            (Asked::Alerts { stack, state, all }, past)
        }
        Read::Slo { stack, past } => (Asked::Slo { stack }, past),
        Read::Capacity { stack, past } => (Asked::Capacity { stack }, past),
        Read::Backups { stack, past } => (Asked::Backups { stack }, past),
        Read::Rejected { ledger: _, after, limit, past } => (Asked::Rejected { after, limit }, past),
    }
}

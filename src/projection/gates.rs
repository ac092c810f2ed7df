//! The traffic gate of a stack whose publish relies on waivers or calibrations.
//!
//! A publish that names waivers relies on each of them: one that does not cover the publish closes the gate for that engine
//! as long as it is current, from the entry that published or that ended the cover, until an approval covers it. A publish
//! whose manifest enables speculation closes it in the same way, until the calibrations that policy asks for are in.

use super::speculation;
use super::stacks::{Gate, Stack};
use super::waivers::Waivers;
use crate::domain::policy::StackPolicy;
use crate::domain::time::Time;

/// Whether traffic may flow to `stack`, called `name`, at `time`.
pub fn gate(name: &str, stack: &Stack, policy: &StackPolicy, waivers: &Waivers, time: Time) -> Gate {
    let gate = stack.gate(policy.rollout);
    let Some(engine) = stack.current() else { return gate };
    // Side by side the engine served before needs nothing of what its successor was published under.
    if !gate.open || gate.engine_hash.as_deref() != Some(engine) {
        return gate;
    }
    let mut opened = gate.position;
    for shown in speculation::workloads(stack, &policy.speculation) {
        match shown {
            Ok(position) => opened = opened.max(position),
            Err(wanting) => {
                return Gate {
                    open: false,
                    reason: wanting.reason,
                    position: gate.position.max(wanting.position),
                    ..gate
                };
            }
        }
    }
    let (published, named) = stack.relies_on().unwrap_or_default();
    for id in named {
        match waivers.relied_on(id, name, engine, time) {
            Ok(position) => opened = opened.max(position),
            Err(uncovered) => {
                let reason = format!("it was published at entry {published} under waiver {id}, {}", uncovered.reason);
                return Gate { open: false, reason, position: published.max(uncovered.position), ..gate };
            }
        }
    }
    Gate { position: opened, ..gate }
}

/// How many waivers the publish of the current engine of `stack` names, and how many of them do not cover it at `time`.
pub fn reliance(name: &str, stack: &Stack, waivers: &Waivers, time: Time) -> (u64, u64) {
    let (Some(engine), Some((_, named))) = (stack.current(), stack.relies_on()) else { return (0, 0) };
    let uncovered = named.iter().filter(|id| waivers.relied_on(id, name, engine, time).is_err());
    (named.len() as u64, uncovered.count() as u64)
}

//! Waivers: asked for, decided, ended. One function, [`Waivers::covers`], says whether something is covered.
//!
//! A waiver silences telling and unblocks; it hides no record. What the legacy log calls granted is shown as *reported* and
//! covers nothing until a waiver that stands for it, with a scope of its own, is approved. Cover begins with the approval;
//! only a waiver that was asked for as retroactive covers what lies before, from its start.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the waiver requests and decided states mean anything here")]

mod decide;
mod meter;
mod past;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::command::{Request, WaiverScope, waiver_id};
use crate::domain::event::{Event, Nearing};
use crate::domain::policy::Rule;
use crate::domain::time::Time;

pub use decide::{Decider, Limit};
pub use meter::{Forecast, Said, Spend, Spent};
use past::Past;

/// Where a waiver stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for finance.
    Requested,
    /// Covers between its start and its end.
    Approved,
    /// Declined.
    Refused,
    /// Taken back.
    Revoked,
    /// Over.
    Expired,
    /// Its cap is reached.
    Exhausted,
    /// Claimed by the legacy log; covers nothing.
    Reported,
}

/// One waiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// What it covers; none for a reported one.
    pub scope: Option<WaiverScope>,
    /// Where it stands.
    pub status: Status,
    /// The stack.
    pub stack: String,
    /// Who asked, or is said to own it.
    pub requested_by: String,
    /// Who decided.
    pub decided_by: Option<String>,
    /// The entry that decided.
    pub decided_position: Option<u64>,
    /// When finance approved.
    pub approved: Option<Time>,
    /// Since when it covers nothing any more: revoked, expired or exhausted.
    pub ended: Option<Time>,
    /// When it is to end.
    pub expires: Option<Time>,
    /// Why it is asked for.
    pub justification: String,
    /// The entry that asked.
    pub position: u64,
    /// What was spent under it.
    pub spend: Spend,
    /// What was warned of.
    pub warned: BTreeSet<Nearing>,
    /// The entry that last changed where it stands: what a decision may be conditional on.
    pub changed: u64,
    /// Of a reported one: the approved waiver that stands for it.
    pub approved_as: Option<String>,
    /// Of a retroactive one: the rules have charged it with what the past brought.
    past_charged: bool,
}

/// Why a waiver does not cover what relies on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// In words, to follow its name: `which ...`.
    pub reason: String,
    /// The entry that made it so, or nothing.
    pub position: u64,
}

/// All waivers, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waivers {
    by_id: BTreeMap<String, Waiver>,
    /// What requests above the limit cost without cover: what retroactive cover is charged with.
    past: Past,
}

impl Waivers {
    /// Folds an admitted waiver command.
    pub fn apply(&mut self, position: u64, time: Time, principal: &str, request: &Request) {
        if let Request::WaiverRequest(scope) = request {
            self.by_id.insert(
                waiver_id(position),
                Waiver {
                    scope: Some(scope.clone()),
                    expires: Some(scope.expires),
                    ..Waiver::new(Status::Requested, position, &scope.stack, principal, &scope.justification)
                },
            );
            return;
        }
        let (decision, status) = match request {
            Request::WaiverApprove(decision) => (decision, Status::Approved),
            Request::WaiverRefuse(decision) => (decision, Status::Refused),
            Request::WaiverRevoke(decision) => (decision, Status::Revoked),
            _ => return,
        };
        let Some(waiver) = self.by_id.get_mut(&decision.waiver) else { return };
        waiver.status = status;
        waiver.decided_by = Some(principal.to_owned());
        waiver.decided_position = Some(position);
        waiver.changed = position;
        let mut stands_for = None;
        match status {
            Status::Approved => {
                waiver.approved = Some(time);
                stands_for = waiver.scope.as_ref().and_then(|scope| scope.reported.clone());
            }
            // One that was over before stays over since then.
            Status::Revoked => waiver.end(time),
            _ => {}
        }
        if let Some(reported) = stands_for.and_then(|id| self.by_id.get_mut(&id)) {
            reported.approved_as = Some(decision.waiver.clone());
            reported.changed = position;
        }
    }

    /// Folds an entry about a waiver that nobody decided: what the service says of one, and what the legacy log reports.
    pub fn say(&mut self, position: u64, stack: Option<&str>, event: &Event) {
        match event {
            Event::WaiverExpired { waiver, expired } => self.expire(waiver, *expired, Some(position)),
            Event::WaiverSpend(spend) => self.spend(spend),
            Event::WaiverExhausted(ended) => self.exhaust(&ended.waiver, ended.instant, Some(position)),
            Event::WaiverExpiring(expiring) => self.warn(&expiring.waiver, expiring.reason),
            Event::WaiverReported { waiver_id, owner, justification, expires } => {
                self.report(position, stack, waiver_id, owner.as_deref(), justification.as_deref(), *expires);
            }
            _ => {}
        }
    }

    /// Folds a waiver of the legacy log.
    pub fn report(
        &mut self,
        position: u64,
        stack: Option<&str>,
        waiver_id: &str,
        owner: Option<&str>,
        justification: Option<&str>,
        expires: Option<Time>,
    ) {
        self.by_id.entry(waiver_id.to_owned()).or_insert_with(|| {
            let [stack, owner, justification] = [stack, owner, justification].map(Option::unwrap_or_default);
            Waiver { expires, ..Waiver::new(Status::Reported, position, stack, owner, justification) }
        });
    }

    /// Folds the entry that says a waiver reached its end. One that was revoked in the meantime covered nothing since then.
    pub fn expire(&mut self, waiver: &str, expired: Time, position: Option<u64>) {
        self.over(waiver, expired, Status::Expired, position);
    }

    /// The rules find that it is over before there is an entry that says so, and so without a position.
    fn over(&mut self, waiver: &str, since: Time, status: Status, position: Option<u64>) {
        let Some(waiver) = self.by_id.get_mut(waiver).filter(|waiver| waiver.approved.is_some()) else { return };
        if waiver.status == Status::Approved {
            waiver.status = status;
            waiver.changed = position.unwrap_or(waiver.changed);
        }
        waiver.end(since);
    }

    /// Approved waivers whose end is not after `instant`, with that end: what the cut of `instant` has to say.
    fn due(&self, instant: Time) -> Vec<(String, Time)> {
        let over =
            |waiver: &Waiver| waiver.expires.filter(|expires| waiver.status == Status::Approved && *expires <= instant);
        self.by_id.iter().filter_map(|(id, waiver)| over(waiver).map(|expires| (id.clone(), expires))).collect()
    }

    /// The waiver that covers `rule` on an engine of `stack` at `time`, if any.
    pub fn covers(&self, stack: &str, engine_hash: &str, rule: Rule, time: Time) -> Option<&str> {
        let matches = |scope: &WaiverScope| {
            scope.stack == stack
                && scope.rule == rule
                && scope.engine_hash.as_ref().is_none_or(|engine| engine == engine_hash)
        };
        let covering =
            |waiver: &Waiver| waiver.scope.as_ref().is_some_and(|scope| matches(scope) && waiver.in_force(time));
        self.by_id.iter().find(|(_, waiver)| covering(waiver)).map(|(id, _)| id.as_str())
    }

    /// The entry by which `id`, whatever its rule, covers an engine that was published under it; or why it does not.
    pub fn relied_on(&self, id: &str, stack: &str, engine_hash: &str, time: Time) -> Result<u64, Uncovered> {
        let uncovered = |reason: String, position| Err(Uncovered { reason, position });
        let Some(named) = self.by_id.get(id) else { return uncovered("which the ledger has never heard of".into(), 0) };
        let Some((waiver, scope)) = self.standing(named).and_then(|waiver| Some((waiver, waiver.scope.as_ref()?)))
        else {
            return uncovered("which is reported and not approved".into(), named.changed);
        };
        let reason = if scope.stack != stack {
            format!("which is for {}", scope.stack)
        } else if scope.engine_hash.as_ref().is_some_and(|engine| engine != engine_hash) {
            "which is for another engine".to_owned()
        } else if waiver.in_force(time) {
            return Ok(waiver.changed);
        } else if waiver.status == Status::Approved {
            format!("which covers from {} until {}", waiver.begins().unwrap_or_default(), scope.expires)
        } else {
            format!("which is {}", status_name(waiver.status))
        };
        uncovered(reason, waiver.changed)
    }

    /// The waiver that a waiver stands on: itself, or the approved one that stands for a reported one.
    pub fn standing<'a>(&'a self, waiver: &'a Waiver) -> Option<&'a Waiver> {
        if waiver.status != Status::Reported {
            return Some(waiver);
        }
        waiver.approved_as.as_ref().and_then(|id| self.by_id.get(id))
    }

    /// The retroactive waiver that covers `rule` on an engine of `stack` at `time`, which was before its approval.
    pub fn covers_retroactively(&self, stack: &str, engine_hash: &str, rule: Rule, time: Time) -> Option<&str> {
        let id = self.covers(stack, engine_hash, rule, time)?;
        self.by_id.get(id).filter(|waiver| waiver.approved.is_some_and(|approved| time < approved)).map(|_| id)
    }

    /// One waiver.
    pub fn get(&self, id: &str) -> Option<&Waiver> {
        self.by_id.get(id)
    }

    /// All, in the order asked for.
    pub fn oldest_first(&self) -> Vec<(&str, &Waiver)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, waiver)| (id.as_str(), waiver)).collect();
        all.sort_by_key(|(_, waiver)| waiver.position);
        all
    }
}

impl Waiver {
    fn new(status: Status, position: u64, stack: &str, requested_by: &str, justification: &str) -> Self {
        Self {
            scope: None,
            status,
            stack: stack.to_owned(),
            requested_by: requested_by.to_owned(),
            decided_by: None,
            decided_position: None,
            approved: None,
            ended: None,
            expires: None,
            justification: justification.to_owned(),
            position,
            spend: Spend::default(),
            warned: BTreeSet::new(),
            changed: position,
            approved_as: None,
            past_charged: false,
        }
    }

    /// Whether it covers what lies before its approval as well.
    pub fn is_retroactive(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.retroactive)
    }

    /// Since when it covers, where it was approved: its approval or its later start; its start where it is retroactive.
    pub fn begins(&self) -> Option<Time> {
        let (scope, approved) = (self.scope.as_ref()?, self.approved?);
        Some(match scope.starts {
            Some(starts) if scope.retroactive => starts,
            starts => starts.into_iter().fold(approved, Time::max),
        })
    }

    fn in_force(&self, time: Time) -> bool {
        self.begins().is_some_and(|begins| begins <= time)
            && self.expires.is_some_and(|expires| time < expires)
            && self.ended.is_none_or(|ended| time < ended)
    }
}

/// The name of a status.
pub const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Requested => "requested",
        Status::Approved => "approved",
        Status::Refused => "refused",
        Status::Revoked => "revoked",
        Status::Expired => "expired",
        Status::Exhausted => "exhausted",
        Status::Reported => "reported",
    }
}

#[cfg(test)]
mod tests;

//! Waivers: asked for, decided, ended. One function, [`Waivers::covers`], says whether something is covered.
//!
//! A waiver silences telling and unblocks; it hides no record. What the legacy log calls granted is shown as *reported* and
//! covers nothing.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the waiver requests and decided states mean anything here")]

mod meter;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::command::{Request, WaiverDecision, WaiverScope, waiver_id};
use crate::domain::event::Nearing;
use crate::domain::policy::Rule;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::time::Time;

pub use meter::{Said, Spend, Spent};

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
}

/// All waivers, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waivers {
    by_id: BTreeMap<String, Waiver>,
}

impl Waivers {
    /// Decides about a waiver command by `principal` at `time`: nothing, or why not.
    pub fn decide(&self, principal: &str, time: Time, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::WaiverRequest(scope) => check_scope(scope, time),
            Request::WaiverApprove(decision) => {
                let waiver = self.undecided(decision)?;
                let scope = waiver.scope.as_ref().ok_or_else(|| {
                    refuse(
                        "waiver",
                        "a reported waiver names no rule; request one with its full scope and approve that",
                    )
                })?;
                if waiver.requested_by == principal {
                    return Err(refuse(
                        "principal",
                        format!("{principal} requested {} and cannot approve it", decision.waiver),
                    )
                    .by(waiver.position));
                }
                if decision.scope_sha256.as_deref() != Some(scope.sha256().as_str()) {
                    let named = decision.scope_sha256.as_deref().unwrap_or("none");
                    return Err(refuse(
                        "scope_sha256",
                        format!("the approval is over scope {named}, the waiver's is {}", scope.sha256()),
                    )
                    .by(waiver.position));
                }
                if scope.expires <= time {
                    return Err(refuse("expires", format!("the waiver ends at {}, which is past", scope.expires))
                        .by(waiver.position));
                }
                Ok(())
            }
            Request::WaiverRefuse(decision) => self.undecided(decision).map(|_| ()),
            Request::WaiverRevoke(decision) => {
                let waiver = self.named(decision)?;
                if waiver.status == Status::Approved {
                    return Ok(());
                }
                Err(refuse("waiver", format!("{} is {}, not approved", decision.waiver, status_name(waiver.status)))
                    .by(waiver.decided_position.unwrap_or(waiver.position)))
            }
            _ => Ok(()),
        }
    }

    fn named(&self, decision: &WaiverDecision) -> Result<&Waiver, Refusal> {
        self.by_id
            .get(&decision.waiver)
            .ok_or_else(|| refuse("waiver", format!("there is no waiver {:?}", decision.waiver)))
    }

    fn undecided(&self, decision: &WaiverDecision) -> Result<&Waiver, Refusal> {
        let waiver = self.named(decision)?;
        match waiver.decided_position {
            Some(position) => Err(refuse(
                "waiver",
                format!(
                    "{} was already {} by {} at position {position}",
                    decision.waiver,
                    status_name(waiver.status),
                    waiver.decided_by.as_deref().unwrap_or("nobody")
                ),
            )
            .by(position)),
            None => Ok(waiver),
        }
    }

    /// Folds an admitted waiver command.
    pub fn apply(&mut self, position: u64, time: Time, principal: &str, request: &Request) {
        if let Request::WaiverRequest(scope) = request {
            let waiver = Waiver {
                scope: Some(scope.clone()),
                status: Status::Requested,
                stack: scope.stack.clone(),
                requested_by: principal.to_owned(),
                decided_by: None,
                decided_position: None,
                approved: None,
                ended: None,
                expires: Some(scope.expires),
                justification: scope.justification.clone(),
                position,
                spend: Spend::default(),
                warned: BTreeSet::new(),
            };
            self.by_id.insert(waiver_id(position), waiver);
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
        match status {
            Status::Approved => waiver.approved = Some(time),
            // One that was over before stays over since then.
            Status::Revoked => waiver.end(time),
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
        self.by_id.entry(waiver_id.to_owned()).or_insert_with(|| Waiver {
            scope: None,
            status: Status::Reported,
            stack: stack.unwrap_or_default().to_owned(),
            requested_by: owner.unwrap_or_default().to_owned(),
            decided_by: None,
            decided_position: None,
            approved: None,
            ended: None,
            expires,
            justification: justification.unwrap_or_default().to_owned(),
            position,
            spend: Spend::default(),
            warned: BTreeSet::new(),
        });
    }

    /// Folds the entry that says a waiver reached its end. One that was revoked in the meantime covered nothing since then.
    pub fn expire(&mut self, waiver: &str, expired: Time) {
        self.over(waiver, expired, Status::Expired);
    }

    fn over(&mut self, waiver: &str, since: Time, status: Status) {
        let Some(waiver) = self.by_id.get_mut(waiver).filter(|waiver| waiver.approved.is_some()) else { return };
        if waiver.status == Status::Approved {
            waiver.status = status;
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
        let in_force = |waiver: &Waiver, scope: &WaiverScope| {
            let starts = scope.starts.into_iter().chain(waiver.approved).max();
            waiver.approved.is_some()
                && starts.is_some_and(|starts| starts <= time)
                && time < scope.expires
                && waiver.ended.is_none_or(|ended| time < ended)
        };
        let matches = |scope: &WaiverScope| {
            scope.stack == stack
                && scope.rule == rule
                && scope.engine_hash.as_ref().is_none_or(|engine| engine == engine_hash)
        };
        let covering =
            |waiver: &Waiver| waiver.scope.as_ref().is_some_and(|scope| matches(scope) && in_force(waiver, scope));
        self.by_id.iter().find(|(_, waiver)| covering(waiver)).map(|(id, _)| id.as_str())
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

fn check_scope(scope: &WaiverScope, time: Time) -> Result<(), Refusal> {
    for (field, value) in
        [("stack", &scope.stack), ("justification", &scope.justification), ("mitigation_plan", &scope.mitigation_plan)]
    {
        if value.trim().is_empty() {
            return Err(refuse(field, format!("field `{field}` is empty")));
        }
    }
    let cap_ok = scope.cap_usd.is_none_or(|cap| cap > rust_decimal::Decimal::ZERO);
    if !cap_ok {
        return Err(refuse("cap_usd", format!("cap_usd is {}; it must be above 0", scope.cap_usd.unwrap_or_default())));
    }
    if scope.rule == Rule::CostPerRequest && scope.cap_usd.is_none() {
        return Err(refuse("cap_usd", "a waiver of cost_per_request needs a cap_usd"));
    }
    if scope.rule != Rule::CostPerRequest && scope.cap_usd.is_some() {
        return Err(refuse("cap_usd", format!("cap_usd has no meaning for {}", scope.rule.as_str())));
    }
    if scope.expires <= time || scope.starts.is_some_and(|starts| starts >= scope.expires) {
        return Err(refuse("expires", format!("expires {} is not after its start or is past", scope.expires)));
    }
    Ok(())
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
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

//! What stands before a waiver command's effect: its scope, the waiver that it is about, and who decides.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the waiver requests mean anything here")]

use rust_decimal::Decimal;

use super::past::{PAST_SECONDS, PAST_STEP_SECONDS};
use super::{Status, Waiver, Waivers, status_name};
use crate::domain::command::{Request, WaiverDecision, WaiverScope};
use crate::domain::policy::Rule;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::time::Time;

/// Who decides, and up to which cap, at the position of the command.
#[derive(Clone, Copy, Debug)]
pub struct Decider<'a> {
    /// Their name.
    pub principal: &'a str,
    /// Up to which cap they may approve.
    pub limit: Limit,
}

/// Up to which cap somebody may approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// By the rules of older ledgers: up to any.
    Unknown,
    /// Nobody has stated one.
    Unstated,
    /// Up to so much, said by this entry.
    Usd(Decimal, u64),
}

impl Waivers {
    /// Decides about a waiver command at `time`: nothing, or why not.
    pub fn decide(&self, by: Decider<'_>, time: Time, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::WaiverRequest(scope) => {
                check_scope(scope, time)?;
                self.check_reported(scope)
            }
            Request::WaiverApprove(decision) => self.decide_approval(by, time, decision),
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

    fn decide_approval(&self, by: Decider<'_>, time: Time, decision: &WaiverDecision) -> Result<(), Refusal> {
        let principal = by.principal;
        let waiver = self.undecided(decision)?;
        let scope = waiver.scope.as_ref().ok_or_else(|| {
            refuse(
                "waiver",
                "a reported waiver names no rule; request one with its full scope and `reported`, and approve that",
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
            return Err(
                refuse("expires", format!("the waiver ends at {}, which is past", scope.expires)).by(waiver.position)
            );
        }
        if scope.retroactive {
            check_past(scope, time).map_err(|refusal| refusal.by(waiver.position))?;
        }
        self.check_reported(scope)?;
        scope.cap_usd.map_or(Ok(()), |cap_usd| check_limit(by, &decision.waiver, cap_usd))
    }

    /// A reported waiver that the scope stands for is there, of the same stack, and nothing approved stands for it yet.
    fn check_reported(&self, scope: &WaiverScope) -> Result<(), Refusal> {
        let Some(id) = &scope.reported else { return Ok(()) };
        let Some(reported) = self.by_id.get(id).filter(|waiver| waiver.status == Status::Reported) else {
            return Err(refuse("reported", format!("there is no reported waiver {id:?}")));
        };
        if !reported.stack.is_empty() && reported.stack != scope.stack {
            return Err(refuse("reported", format!("{id} is of stack {:?}, not {:?}", reported.stack, scope.stack)));
        }
        match &reported.approved_as {
            Some(by) => Err(refuse("reported", format!("{id} was approved as {by}")).by(reported.changed)),
            None => Ok(()),
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
}

fn check_scope(scope: &WaiverScope, time: Time) -> Result<(), Refusal> {
    for (field, value) in
        [("stack", &scope.stack), ("justification", &scope.justification), ("mitigation_plan", &scope.mitigation_plan)]
    {
        if value.trim().is_empty() {
            return Err(refuse(field, format!("field `{field}` is empty")));
        }
    }
    for (field, value) in [("owner", &scope.owner), ("alternatives", &scope.alternatives), ("ticket", &scope.ticket)] {
        if value.as_ref().is_some_and(|value| value.trim().is_empty()) {
            return Err(refuse(field, format!("field `{field}` is empty; leave it out where there is none")));
        }
    }
    if scope.advisories.iter().any(|advisory| advisory.trim().is_empty()) {
        return Err(refuse("advisories", "one of the advisories is empty"));
    }
    check_cap(scope)?;
    if scope.expires <= time || scope.starts.is_some_and(|starts| starts >= scope.expires) {
        return Err(refuse("expires", format!("expires {} is not after its start or is past", scope.expires)));
    }
    if scope.retroactive { check_past(scope, time) } else { Ok(()) }
}

/// A cap belongs to the rules of cost, and to them alone.
fn check_cap(scope: &WaiverScope) -> Result<(), Refusal> {
    let cap_ok = scope.cap_usd.is_none_or(|cap| cap > Decimal::ZERO);
    if !cap_ok {
        return Err(refuse("cap_usd", format!("cap_usd is {}; it must be above 0", scope.cap_usd.unwrap_or_default())));
    }
    if scope.rule == Rule::CostPerRequest && scope.cap_usd.is_none() {
        return Err(refuse("cap_usd", "a waiver of cost_per_request needs a cap_usd"));
    }
    if scope.rule != Rule::CostPerRequest && scope.cap_usd.is_some() {
        return Err(refuse("cap_usd", format!("cap_usd has no meaning for {}", scope.rule.as_str())));
    }
    Ok(())
}

fn check_limit(by: Decider<'_>, waiver: &str, cap_usd: Decimal) -> Result<(), Refusal> {
    let over = |limit: &str| {
        let detail = format!("cap_usd of {waiver} is {cap_usd}, and finance_limit_usd of {} is {limit}", by.principal);
        Refusal::new(Code::OverLimit, "finance_limit_usd".to_owned(), detail)
    };
    match by.limit {
        Limit::Unknown => Ok(()),
        Limit::Usd(limit_usd, _) if cap_usd <= limit_usd => Ok(()),
        Limit::Usd(limit_usd, position) => Err(over(&limit_usd.to_string()).by(position)),
        Limit::Unstated => Err(over("0, since nobody has stated one")),
    }
}

/// Retroactive cover begins in the past, at a step that spend is kept by, and no further back than it is kept.
fn check_past(scope: &WaiverScope, time: Time) -> Result<(), Refusal> {
    let starts = scope.starts.ok_or_else(|| refuse("starts", "a retroactive waiver states when its cover begins"))?;
    if starts >= time {
        return Err(refuse(
            "starts",
            format!("starts {starts} is not in the past, so nothing about it is retroactive"),
        ));
    }
    if starts.floor_to_seconds(PAST_STEP_SECONDS) != starts {
        let detail = format!("starts {starts} of a retroactive waiver is not at a full ten minutes");
        return Err(refuse("starts", detail));
    }
    let earliest = time.plus_seconds(-PAST_SECONDS);
    if starts < earliest {
        let detail =
            format!("starts {starts} is more than seven days back, before {earliest}: what it cost is not kept");
        return Err(refuse("starts", detail));
    }
    Ok(())
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

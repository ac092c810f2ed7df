//! The checks that stand before an entry's effect: its envelope, its time, its author's rights, and the state it meets.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each check is about the few requests it names and lets all others pass"
)]

use rust_decimal::Decimal;

use super::super::policies::InForce;
use super::Governance;
use crate::domain::command::{Command, Request};
use crate::domain::cut::{CUT_AHEAD_SECONDS_MAX, CUT_SECONDS};
use crate::domain::event::Event;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::settings::{RULES_LIMITED, RULES_ROLLBACKS, RULES_TWO_PEOPLE};
use crate::domain::time::Time;
use crate::projection::rollbacks;
use crate::projection::waivers::{Decider, Limit};

impl Governance {
    /// What the service says must fit what was said before.
    pub(super) fn check_saying(&self, time: Time, event: &Event) -> Result<(), Refusal> {
        match event {
            Event::Cut(cut) => self.check_cut(time, cut.instant),
            Event::PolicyRevised(_) if self.rules_version() >= RULES_TWO_PEOPLE => self.check_first_policy(),
            Event::PolicyRevised(policy) => {
                if policy.revision > self.policy.revision || self.policy_position.is_none() {
                    return Ok(());
                }
                let detail = format!(
                    "policy revision {} is not above {}, which is in force",
                    policy.revision, self.policy.revision
                );
                Err(refusal_by(Code::OutOfRange, "revision", detail, self.policy_position))
            }
            Event::FileRegistered(file) => match self.files.get(&file.file) {
                Some(known) => Err(Refusal::new(
                    Code::IdConflict,
                    "file".to_owned(),
                    format!("file number {} belongs to {:?}", file.file, known.name),
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A node puts a policy in force by itself only where nothing was judged yet; from then on it takes two people.
    fn check_first_policy(&self) -> Result<(), Refusal> {
        if self.is_before_first_policy() {
            return Ok(());
        }
        let detail =
            "a policy is in force or a cut was judged: two admins change it, by `policy propose` and `policy approve`";
        Err(refusal_by(Code::CommandRefused, "revision", detail.to_owned(), self.policy_position))
    }

    /// Whether the configured policy can still be put in force as the first one.
    pub fn is_before_first_policy(&self) -> bool {
        self.policy_position.is_none() && self.last_cut.is_none()
    }

    fn check_cut(&self, time: Time, instant: Time) -> Result<(), Refusal> {
        let late = |detail: String| Err(Refusal::new(Code::LateCut, "instant".to_owned(), detail));
        if instant.floor_to_seconds(CUT_SECONDS) != instant {
            return late(format!("the cut of {instant} is not at a multiple of {CUT_SECONDS} seconds"));
        }
        if instant > time.plus_seconds(CUT_AHEAD_SECONDS_MAX) {
            return late(format!(
                "the cut of {instant} is more than {CUT_AHEAD_SECONDS_MAX} s after its entry's time, {time}"
            ));
        }
        match &self.last_cut {
            Some(last) if instant <= last.instant => {
                late(format!("the cut of {instant} comes after that of {}", last.instant))
            }
            _ => Ok(()),
        }
    }

    /// A command lapses when time has gone past it; it leaves its id free.
    pub(super) fn in_time(&self, command: &Command) -> Result<(), Refusal> {
        match &self.last_cut {
            Some(cut) if cut.instant > command.not_after => Err(refuse(
                "not_after",
                format!("it lapsed at {}, before the cut of {}; ask again", command.not_after, cut.instant),
            )),
            _ => Ok(()),
        }
    }

    /// Decides a command: by this ledger, by who asks, by what is asked.
    pub(super) fn decide(&self, time: Time, command: &Command) -> Result<(), Refusal> {
        if command.governance.to_string() != self.genesis {
            return Err(refuse("governance", format!("it was made for another ledger, {}", command.governance)));
        }
        if !self.principals.holds(&command.principal, command.role, &command.authenticated_by) {
            return Err(refuse("role", format!("{:?} does not have the role {}", command.principal, command.role)));
        }
        if !command.request.roles().contains(&command.role) {
            let allowed: Vec<&str> = command.request.roles().iter().map(|role| role.as_str()).collect();
            return Err(refuse(
                "role",
                format!(
                    "{} takes the role {}, not {}",
                    command.request.event_type(),
                    allowed.join(" or "),
                    command.role
                ),
            ));
        }
        let decider = Decider { principal: &command.principal, limit: self.limit_of(&command.principal) };
        self.waivers.decide(decider, time, &command.request)?;
        self.check_not_requester(command)?;
        self.decide_limit(&command.request)?;
        self.incidents.decide(time, self.policy.require_incident_report, &command.request)?;
        let in_force =
            InForce { policy: &self.policy, position: self.policy_position, rules_version: self.rules_version() };
        self.policies.decide(&command.principal, in_force, &command.request)?;
        self.maintenance.decide(time, &command.request)?;
        self.keys.decide(&command.principal, &self.genesis, &command.request)?;
        self.decide_rollback(&command.request)?;
        self.decide_engine(&command.request)?;
        self.decide_principal(time, &command.request)
    }

    /// Up to which cap somebody may approve, by the rules in force.
    fn limit_of(&self, principal: &str) -> Limit {
        if self.rules_version() < RULES_LIMITED {
            return Limit::Unknown;
        }
        let limit = self.principals.finance_limit_usd(principal);
        limit.map_or(Limit::Unstated, |(limit_usd, position)| Limit::Usd(limit_usd, position))
    }

    /// A limit is no debt; and older rules know no retroactive cover, and nothing that stands for a reported waiver.
    fn decide_limit(&self, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::PrincipalLimit(limit) if limit.finance_limit_usd < Decimal::ZERO => {
                let detail = format!("finance_limit_usd is {}; it cannot be below 0", limit.finance_limit_usd);
                Err(refuse("finance_limit_usd", detail))
            }
            Request::WaiverRequest(scope) if self.rules_version() < RULES_LIMITED => {
                let newer = [("retroactive", scope.retroactive), ("reported", scope.reported.is_some())];
                match newer.into_iter().find(|(_, given)| *given) {
                    Some((field, _)) => Err(refuse(field, "the rules version of this ledger does not know it")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn decide_rollback(&self, request: &Request) -> Result<(), Refusal> {
        if matches!(request, Request::RollbackWork(_)) && self.rules_version() < RULES_ROLLBACKS {
            return Err(refuse("type", "the rules version of this ledger does not know rollbacks under way"));
        }
        rollbacks::decide(&self.stacks, request)
    }

    fn decide_engine(&self, request: &Request) -> Result<(), Refusal> {
        let engine = |judgement: &crate::domain::command::EngineJudgement| {
            self.stacks.get(&judgement.stack).and_then(|stack| stack.engines.get(&judgement.engine_hash)).ok_or_else(
                || refuse("engine_hash", format!("{} knows no engine {:?}", judgement.stack, judgement.engine_hash)),
            )
        };
        match request {
            Request::EngineCondemn(judgement) => match &engine(judgement)?.condemned {
                Some((position, _)) => {
                    Err(refuse("engine_hash", format!("it was condemned at position {position}")).by(*position))
                }
                None => Ok(()),
            },
            Request::EngineReinstate(judgement) => match engine(judgement)?.condemned {
                None => Err(refuse("engine_hash", "it is not condemned")),
                Some(_) => Ok(()),
            },
            Request::EngineAdopt(adopt) if adopt.stack.is_empty() || adopt.engine_hash.is_empty() => {
                Err(refuse(if adopt.stack.is_empty() { "stack" } else { "engine_hash" }, "it is empty"))
            }
            _ => Ok(()),
        }
    }

    fn decide_principal(&self, time: Time, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::PrincipalEnroll(enroll) => self.decide_enroll(time, enroll),
            Request::PrincipalRevoke(revoke) => self.decide_revoke(&revoke.name),
            Request::TokenIssue(issue) => self.decide_token_issue(time, issue),
            Request::TokenRevoke(revoke) => self.decide_token_revoke(revoke),
            Request::IssuerTrust(trust) => self.decide_trust(trust),
            Request::IssuerDistrust(distrust) => match self.principals.issuer(&distrust.issuer) {
                Some(_) => Ok(()),
                None => Err(refuse("issuer", format!("{:?} is not trusted", distrust.issuer))),
            },
            Request::HoleConfirm(hole) if hole.from > hole.to => {
                Err(refuse("to", format!("{} comes before {}", hole.to, hole.from)))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

fn refusal_by(code: Code, field: &str, detail: String, position: Option<u64>) -> Refusal {
    let refusal = Refusal::new(code, field.to_owned(), detail);
    match position {
        Some(position) => refusal.by(position),
        None => refusal,
    }
}

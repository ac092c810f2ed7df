//! Policies put forward and decided, by two people: who proposes one does not approve it, and an approval is over both the
//! document that it puts in force and the one that it replaces.
//!
//! In scope: proposals and their decisions. Out of scope: the policy in force, which the governance fold keeps.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the requests about policy mean anything here")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::command::{PolicyDecision, PolicyProposal, Request, proposal_id};
use crate::domain::policy::Policy;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::time::Time;

/// Proposals that wait at once: each is a whole document, held until it is decided.
const WAITING_MAX: usize = 100;

/// Where a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProposalStatus {
    /// Waits for another admin.
    Proposed,
    /// Put in force.
    Approved,
    /// Declined or taken back.
    Refused,
}

/// A policy put forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// What is proposed.
    pub proposal: PolicyProposal,
    /// Who proposed it.
    pub proposed_by: String,
    /// The entry that proposed it.
    pub position: u64,
    /// That entry's time.
    pub time: Time,
    /// Where it stands.
    pub status: ProposalStatus,
    /// Who decided, at which entry.
    pub decided: Option<(String, u64)>,
}

/// The policy in force, as decisions need it.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    /// The document.
    pub policy: &'a Policy,
    /// The entry that put it in force; none for the defaults.
    pub position: Option<u64>,
    /// The rules version of the ledger.
    pub rules_version: u32,
}

/// All proposals, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    by_id: BTreeMap<String, Proposal>,
}

impl Policies {
    /// Decides about a policy command by `principal`: nothing, or why not.
    pub fn decide(&self, principal: &str, in_force: InForce<'_>, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::PolicyPropose(proposal) => self.may_propose(in_force, proposal),
            Request::PolicyApprove(decision) => {
                let proposal = self.undecided(decision)?;
                if proposal.proposed_by == principal {
                    return Err(refuse(
                        "principal",
                        format!("{principal} proposed {} and cannot approve it", decision.proposal),
                    )
                    .by(proposal.position));
                }
                over_both(proposal, decision)?;
                fresh(in_force, &decision.replaces_sha256)
            }
            Request::PolicyRefuse(decision) => over_both(self.undecided(decision)?, decision),
            _ => Ok(()),
        }
    }

    fn may_propose(&self, in_force: InForce<'_>, proposal: &PolicyProposal) -> Result<(), Refusal> {
        if self.by_id.values().filter(|known| known.status == ProposalStatus::Proposed).count() >= WAITING_MAX {
            return Err(refuse("policy", format!("{WAITING_MAX} proposals wait for a decision")));
        }
        proposal.policy.validate_by(in_force.rules_version).map_err(|error| refuse("policy", error.to_string()))?;
        fresh(in_force, &proposal.replaces_sha256)?;
        let (found, present) = (proposal.policy.revision, in_force.policy.revision);
        if found <= present {
            return Err(by(
                refuse("policy.revision", format!("revision {found} is not above {present}, which is in force")),
                in_force.position,
            ));
        }
        if *proposal.policy == (Policy { revision: found, ..in_force.policy.clone() }) {
            return Err(refuse("policy", "it changes nothing"));
        }
        if proposal.changes != in_force.policy.changes_to(&proposal.policy) {
            return Err(refuse("changes", "they are not what the document changes in the one in force"));
        }
        Ok(())
    }

    fn undecided(&self, decision: &PolicyDecision) -> Result<&Proposal, Refusal> {
        let proposal = self
            .by_id
            .get(&decision.proposal)
            .ok_or_else(|| refuse("proposal", format!("there is no proposal {:?}", decision.proposal)))?;
        match &proposal.decided {
            Some((who, position)) => {
                let how = if proposal.status == ProposalStatus::Approved { "approved" } else { "refused" };
                Err(refuse(
                    "proposal",
                    format!("{} was already {how} by {who} at position {position}", decision.proposal),
                )
                .by(*position))
            }
            None => Ok(proposal),
        }
    }

    /// Folds an admitted policy command; the policy that it puts in force, if it does.
    pub fn apply(&mut self, position: u64, time: Time, principal: &str, request: &Request) -> Option<Policy> {
        let (decision, status) = match request {
            Request::PolicyPropose(proposal) => {
                let proposal = Proposal {
                    proposal: proposal.clone(),
                    proposed_by: principal.to_owned(),
                    position,
                    time,
                    status: ProposalStatus::Proposed,
                    decided: None,
                };
                self.by_id.insert(proposal_id(position), proposal);
                return None;
            }
            Request::PolicyApprove(decision) => (decision, ProposalStatus::Approved),
            Request::PolicyRefuse(decision) => (decision, ProposalStatus::Refused),
            _ => return None,
        };
        let proposal = self.by_id.get_mut(&decision.proposal)?;
        proposal.status = status;
        proposal.decided = Some((principal.to_owned(), position));
        (status == ProposalStatus::Approved).then(|| (*proposal.proposal.policy).clone())
    }

    /// One proposal.
    pub fn get(&self, id: &str) -> Option<&Proposal> {
        self.by_id.get(id)
    }

    /// All, in the order of their entries.
    pub fn oldest_first(&self) -> Vec<(&str, &Proposal)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, proposal)| (id.as_str(), proposal)).collect();
        all.sort_by_key(|(_, proposal)| proposal.position);
        all
    }
}

/// A decision is over what was seen.
fn over_both(proposal: &Proposal, decision: &PolicyDecision) -> Result<(), Refusal> {
    let proposed = proposal.proposal.policy.sha256();
    if decision.policy_sha256 != proposed {
        let detail = format!("the decision is over document {}, the proposal's is {proposed}", decision.policy_sha256);
        return Err(refuse("policy_sha256", detail).by(proposal.position));
    }
    if decision.replaces_sha256 != proposal.proposal.replaces_sha256 {
        let detail = format!(
            "the decision is about replacing {}, the proposal about {}",
            decision.replaces_sha256, proposal.proposal.replaces_sha256
        );
        return Err(refuse("replaces_sha256", detail).by(proposal.position));
    }
    Ok(())
}

/// What is to be replaced must be what is in force; else the entry that changed it stands in the way.
fn fresh(in_force: InForce<'_>, replaces_sha256: &str) -> Result<(), Refusal> {
    let present = in_force.policy.sha256();
    if replaces_sha256 == present {
        return Ok(());
    }
    let since = in_force.position.map_or_else(String::new, |position| format!(" since position {position}"));
    let detail = format!("it is to replace {replaces_sha256}, but {present} is in force{since}: propose it again");
    Err(by(refuse("replaces_sha256", detail), in_force.position))
}

fn by(refusal: Refusal, position: Option<u64>) -> Refusal {
    match position {
        Some(position) => refusal.by(position),
        None => refusal,
    }
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

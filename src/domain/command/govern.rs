//! What is asked about the policy and about maintenance: proposals, decisions over their hashes, windows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::policy::{Policy, PolicyChange, Rule};
use crate::domain::time::Time;

/// Puts a policy forward. Another admin has to approve it before it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyProposal {
    /// The whole document, its revision above that in force.
    pub policy: Box<Policy>,
    /// Hash of the policy that it is to replace: the one in force.
    pub replaces_sha256: String,
    /// What changes, in effect. The ledger computes it again from both documents and refuses another one.
    pub changes: Vec<PolicyChange>,
    /// Why.
    pub reason: String,
}

/// A decision about a proposed policy, over both documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDecision {
    /// Which: `policy-` and the position of the proposal.
    pub proposal: String,
    /// Hash of the proposed document that the decider saw.
    pub policy_sha256: String,
    /// Hash of the document that it replaces.
    pub replaces_sha256: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A maintenance window: alerts in it are recorded, and nobody is told before it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// The stack.
    pub stack: String,
    /// The rules; all where none is named.
    #[serde(default)]
    pub rules: BTreeSet<Rule>,
    /// From this instant on.
    pub from: Time,
    /// Up to this instant, which is no longer in it.
    pub to: Time,
    /// Why.
    pub reason: String,
}

/// Ends a maintenance window before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceEnd {
    /// Which: `maintenance-` and the position of the entry that set it.
    pub window: String,
    /// Why.
    pub reason: String,
}

/// The id of the policy proposed at `position`.
pub fn proposal_id(position: u64) -> String {
    format!("policy-{position}")
}

/// The id of the maintenance window set at `position`.
pub fn maintenance_id(position: u64) -> String {
    format!("maintenance-{position}")
}

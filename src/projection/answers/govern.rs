//! Answers about what governs: the policy with what was put forward, maintenance windows, keys.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{AnswerError, View};
use crate::domain::policy::{Policy, PolicyChange, Rule, StackPolicy};
use crate::domain::time::Time;
use crate::projection::maintenance::Window;
use crate::projection::policies::{Proposal, ProposalStatus};

/// The policy in force.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct PolicyAnswer {
    /// The entry that put it in force; none for what is built in.
    pub position: Option<u64>,
    /// What decisions about another one name as replaced.
    pub policy_sha256: String,
    /// The document.
    pub policy: Policy,
    /// The stack that the following is resolved for; empty for all that the document does not name.
    pub stack: String,
    /// As it applies to the stack.
    pub resolved: StackPolicy,
    /// Each rule as it applies to the stack.
    pub rules: BTreeMap<Rule, crate::domain::policy::RulePolicy>,
    /// Everything that was put forward, oldest first.
    pub proposals: Vec<ProposalRow>,
}

/// A policy put forward.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProposalRow {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: ProposalStatus,
    /// Its revision.
    pub revision: u64,
    /// Why.
    pub reason: String,
    /// What it changes, in effect.
    pub changes: Vec<PolicyChange>,
    /// What a decision has to name.
    pub policy_sha256: String,
    /// What a decision has to name as replaced.
    pub replaces_sha256: String,
    /// Whether what it replaces is no longer in force, so that it can only be proposed anew.
    pub is_stale: bool,
    /// Who proposed it.
    pub proposed_by: String,
    /// When.
    pub time: Time,
    /// The entry that proposed it.
    pub position: u64,
    /// Who decided.
    pub decided_by: Option<String>,
    /// The entry that decided: the policy is in force from there on.
    pub decided_position: Option<u64>,
}

/// A policy put forward, whole.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProposalAnswer {
    /// The row of the list.
    #[serde(flatten)]
    pub row: ProposalRow,
    /// The document.
    pub policy: Policy,
}

/// Maintenance windows, oldest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MaintenanceAnswer {
    /// All that were ever set.
    pub windows: Vec<WindowRow>,
}

/// A maintenance window.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WindowRow {
    /// Its id.
    pub id: String,
    /// The stack.
    pub stack: String,
    /// The rules; all where none is named.
    pub rules: BTreeSet<Rule>,
    /// From here on.
    pub from: Time,
    /// Up to here, as it was set.
    pub to: Time,
    /// Up to here in fact.
    pub ends: Time,
    /// Why.
    pub reason: String,
    /// Who set it.
    pub set_by: String,
    /// The entry that set it.
    pub position: u64,
    /// Who ended it early.
    pub ended_by: Option<String>,
    /// The entry that ended it early.
    pub ended_position: Option<u64>,
    /// Whether it holds telling at the time of the answer.
    pub holds_now: bool,
}

/// Keys of authors and nodes.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KeysAnswer {
    /// Authors' keys, oldest first.
    pub authors: Vec<AuthorKeyRow>,
    /// Nodes' keys, by id.
    pub nodes: Vec<NodeKeyRow>,
    /// Rotations of the keys that sign checkpoints, by node.
    pub checkpoints: Vec<CheckpointKeyRow>,
    /// Event types that count only with an author's signature.
    pub required_signatures: BTreeSet<String>,
}

/// Whether a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// Waits for another admin.
    Waiting,
    /// May sign.
    InForce,
    /// May sign nothing more.
    Revoked,
}

/// An author's key.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuthorKeyRow {
    /// Its id.
    pub key_id: String,
    /// Whose.
    pub author: String,
    /// The public key, hex.
    pub public_key: String,
    /// What it may sign.
    pub event_types: BTreeSet<String>,
    /// Whether it may.
    pub status: KeyStatus,
    /// Who enrolled it.
    pub enrolled_by: String,
    /// The entry that enrolled it.
    pub position: u64,
    /// Who confirmed it, where that was needed.
    pub confirmed_by: Option<String>,
    /// The entry since which it may sign.
    pub in_force_position: Option<u64>,
    /// The key whose place it took.
    pub replaces: Option<String>,
    /// The entry since which it may not.
    pub revoked_position: Option<u64>,
}

/// A node's key for envelopes.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NodeKeyRow {
    /// Its id.
    pub key_id: String,
    /// The node.
    pub node: String,
    /// The public key, hex.
    pub public_key: String,
    /// Whether it may sign.
    pub status: KeyStatus,
    /// Who enrolled it; none of one that the first entry names.
    pub enrolled_by: Option<String>,
    /// The entry that enrolled it.
    pub position: Option<u64>,
    /// The entry that retired it.
    pub retired_position: Option<u64>,
}

/// A key of checkpoints giving way to another.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckpointKeyRow {
    /// The node.
    pub node: String,
    /// The old public key, hex.
    pub old: String,
    /// The new public key, hex.
    pub new: String,
    /// The entry in which the old key signs the new one.
    pub position: u64,
}

pub(super) fn policy(view: &View<'_>, stack: Option<&str>) -> PolicyAnswer {
    let governance = view.governance;
    let stack = stack.unwrap_or_default();
    let resolved = governance.policy.for_stack(stack);
    let present = governance.policy.sha256();
    let proposals = governance.policies.oldest_first().into_iter();
    PolicyAnswer {
        position: governance.policy_position,
        policy: governance.policy.clone(),
        stack: stack.to_owned(),
        rules: Rule::ALL.into_iter().map(|rule| (rule, resolved.rule(rule).clone())).collect(),
        resolved,
        proposals: proposals.map(|(id, proposal)| row(id, proposal, &present)).collect(),
        policy_sha256: present,
    }
}

fn row(id: &str, proposal: &Proposal, present: &str) -> ProposalRow {
    let asked = &proposal.proposal;
    ProposalRow {
        id: id.to_owned(),
        status: proposal.status,
        revision: asked.policy.revision,
        reason: asked.reason.clone(),
        changes: asked.changes.clone(),
        policy_sha256: asked.policy.sha256(),
        replaces_sha256: asked.replaces_sha256.clone(),
        is_stale: proposal.status == ProposalStatus::Proposed && asked.replaces_sha256 != present,
        proposed_by: proposal.proposed_by.clone(),
        time: proposal.time,
        position: proposal.position,
        decided_by: proposal.decided.as_ref().map(|(who, _)| who.clone()),
        decided_position: proposal.decided.as_ref().map(|(_, position)| *position),
    }
}

pub(super) fn proposal(view: &View<'_>, id: &str) -> Result<ProposalAnswer, AnswerError> {
    let found = view.governance.policies.get(id);
    let found = found.ok_or_else(|| AnswerError::Unknown { kind: "policy proposal", name: id.to_owned() })?;
    let row = row(id, found, &view.governance.policy.sha256());
    Ok(ProposalAnswer { row, policy: (*found.proposal.policy).clone() })
}

pub(super) fn maintenance(view: &View<'_>, stack: Option<&str>) -> MaintenanceAnswer {
    // A window begins and ends by time alone, so the present counts where there is one.
    let time = view.now.unwrap_or(view.governance.time);
    let all = view.governance.maintenance.oldest_first().into_iter();
    let wanted = all.filter(|(_, window)| stack.is_none_or(|stack| window.window.stack == stack));
    MaintenanceAnswer { windows: wanted.map(|(id, window)| window_row(id, window, time)).collect() }
}

fn window_row(id: &str, known: &Window, time: Time) -> WindowRow {
    let window = known.window.clone();
    WindowRow {
        id: id.to_owned(),
        holds_now: window.from <= time && time < known.ends,
        stack: window.stack,
        rules: window.rules,
        from: window.from,
        to: window.to,
        ends: known.ends,
        reason: window.reason,
        set_by: known.set_by.clone(),
        position: known.position,
        ended_by: known.ended.as_ref().map(|(who, _)| who.clone()),
        ended_position: known.ended.as_ref().map(|(_, position)| *position),
    }
}

pub(super) fn keys(view: &View<'_>) -> KeysAnswer {
    let hex = crate::domain::envelope::hex;
    let keys = &view.governance.keys;
    let authors = keys.authors().into_iter().map(|(id, key)| AuthorKeyRow {
        key_id: id.to_owned(),
        author: key.author.clone(),
        public_key: hex(&key.public),
        event_types: key.event_types.clone(),
        status: match (key.revoked, key.in_force) {
            (Some(_), _) => KeyStatus::Revoked,
            (None, Some(_)) => KeyStatus::InForce,
            (None, None) => KeyStatus::Waiting,
        },
        enrolled_by: key.enrolled.0.clone(),
        position: key.enrolled.1,
        confirmed_by: key.confirmed_by.clone(),
        in_force_position: key.in_force,
        replaces: key.replaces.clone(),
        revoked_position: key.revoked,
    });
    let nodes = keys.nodes().map(|(id, key)| NodeKeyRow {
        key_id: id.to_owned(),
        node: key.node.clone(),
        public_key: hex(&key.public),
        status: if key.retired.is_some() { KeyStatus::Revoked } else { KeyStatus::InForce },
        enrolled_by: key.enrolled.as_ref().map(|(who, _)| who.clone()),
        position: key.enrolled.as_ref().map(|(_, position)| *position),
        retired_position: key.retired,
    });
    let waiting = keys.waiting_nodes().map(|(id, key)| NodeKeyRow {
        key_id: id.to_owned(),
        node: key.node.clone(),
        public_key: hex(&key.public),
        status: KeyStatus::Waiting,
        enrolled_by: Some(key.enrolled.0.clone()),
        position: Some(key.enrolled.1),
        retired_position: None,
    });
    KeysAnswer {
        authors: authors.collect(),
        nodes: nodes.chain(waiting).collect(),
        checkpoints: keys
            .all_checkpoint_keys()
            .map(|(node, keys)| CheckpointKeyRow {
                node: node.to_owned(),
                old: hex(&keys.old),
                new: hex(&keys.new),
                position: keys.position,
            })
            .collect(),
        required_signatures: view.governance.policy.required_signatures.clone(),
    }
}

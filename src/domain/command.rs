//! What people ask of the ledger: the commands, who may give them, and what surrounds one in its envelope.
//!
//! In scope: the vocabulary, and reading a command from its `CloudEvent`. Out of scope: deciding, which the governance fold
//! does at the command's position with the state found there.

mod govern;
mod keys;
mod waiver;

pub use govern::{MaintenanceEnd, MaintenanceWindow, PolicyDecision, PolicyProposal, maintenance_id, proposal_id};
pub use keys::{KeyConfirm, KeyEnroll, KeyRevoke, LedgerKeyRotate, NodeEnroll, NodeKeyRotate};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::authentication::{Authentication, Identity};
use super::envelope::hex;
use super::event::Json;
use super::incident::{self, IncidentWork};
use super::principal::Role;
use super::refusal::{Code, Refusal};
use super::rollback::{self, RollbackWork};
use super::time::Time;

pub use super::incident::{Acknowledgement, IncidentClose, IncidentNote, IncidentOpen};
pub use waiver::{PrincipalLimit, WaiverDecision, WaiverScope};

/// Seconds from intake until a command that has not been applied lapses.
pub const NOT_AFTER_SECONDS: i64 = 60;

/// A command with who gave it, as its envelope says. The envelope's node vouches for the principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Command {
    /// SHA-256 of principal and idempotency key, hex.
    pub command_id: String,
    /// Who asks.
    pub principal: String,
    /// The role they ask in.
    pub role: Role,
    /// Lapses when the last cut before its position is after this.
    pub not_after: Time,
    /// Leaf hash of governance entry 0, so that a command cannot be replayed into another ledger.
    #[serde(with = "super::cut::hash_text")]
    #[schemars(with = "String")]
    pub governance: ledger::Hash,
    /// How the node knew them.
    pub authenticated_by: Authentication,
    /// What they ask.
    pub request: Request,
}

/// What is asked. The event type on the wire says which; see [`Request::event_type`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Asks for a waiver.
    WaiverRequest(WaiverScope),
    /// Finance accepts.
    WaiverApprove(WaiverDecision),
    /// Finance declines.
    WaiverRefuse(WaiverDecision),
    /// Cover ends here.
    WaiverRevoke(WaiverDecision),
    /// Opens an incident by hand.
    IncidentOpen(IncidentOpen),
    /// Somebody has seen it.
    IncidentAcknowledge(Acknowledgement),
    /// Something worth remembering.
    IncidentNote(IncidentNote),
    /// The work is over.
    IncidentClose(IncidentClose),
    /// The rest of what is done about an incident.
    IncidentWork(IncidentWork),
    /// What is done about a rollback.
    RollbackWork(RollbackWork),
    /// This engine is never to be gone back to.
    EngineCondemn(EngineJudgement),
    /// Lifts a condemnation.
    EngineReinstate(EngineJudgement),
    /// Records what already runs.
    EngineAdopt(EngineAdopt),
    /// Gives a principal roles and a token.
    PrincipalEnroll(PrincipalEnroll),
    /// Takes all roles and tokens from a principal.
    PrincipalRevoke(PrincipalRevoke),
    /// An operator accepts that offsets of the source are lost.
    HoleConfirm(HoleConfirm),
    /// Gives a principal one more token.
    TokenIssue(TokenIssue),
    /// Takes one token from a principal.
    TokenRevoke(TokenRevoke),
    /// Trusts an identity provider.
    IssuerTrust(IssuerTrust),
    /// Trusts an identity provider no more.
    IssuerDistrust(IssuerDistrust),
    /// States up to which cap a principal may approve.
    PrincipalLimit(PrincipalLimit),
    /// Puts a policy forward.
    PolicyPropose(PolicyProposal),
    /// Another admin puts it in force.
    PolicyApprove(PolicyDecision),
    /// It is declined, or taken back.
    PolicyRefuse(PolicyDecision),
    /// Alerts of this time are recorded, and told only afterwards.
    MaintenanceSet(MaintenanceWindow),
    /// A maintenance window is over before its time.
    MaintenanceEnd(MaintenanceEnd),
    /// A key may sign reports of given types.
    KeyEnroll(KeyEnroll),
    /// Another admin's word for a key that waits for it.
    KeyConfirm(KeyConfirm),
    /// A key may sign nothing from here on.
    KeyRevoke(KeyRevoke),
    /// A node's envelope key gives way to a new one.
    NodeKeyRotate(NodeKeyRotate),
    /// The key that signs a node's checkpoints gives way to a new one.
    LedgerKeyRotate(LedgerKeyRotate),
    /// `ledger_node_enrolled`.
    NodeEnroll(NodeEnroll),
}

/// A judgement about an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineJudgement {
    /// The stack.
    pub stack: String,
    /// The engine.
    pub engine_hash: String,
    /// Why.
    pub reason: String,
}

/// Records an engine that runs already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineAdopt {
    /// The stack.
    pub stack: String,
    /// The engine.
    pub engine_hash: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its manifest, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Json>,
}

/// Gives a principal roles, and a token or an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalEnroll {
    /// Who.
    pub name: String,
    /// What they may do from here: replaces what they had.
    pub roles: BTreeSet<Role>,
    /// SHA-256 of the token, hex. May be absent where there is an identity.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token_sha256: String,
    /// The token counts for nothing from here on; it lasts until it is revoked where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires: Option<Time>,
    /// What the token is for, in a word or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_label: Option<String>,
    /// Who they are at an identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// Gives a principal one more token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenIssue {
    /// Who.
    pub name: String,
    /// SHA-256 of the token, hex.
    pub token_sha256: String,
    /// It counts for nothing from here on; it lasts until it is revoked where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// What it is for, in a word or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Takes one token from a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRevoke {
    /// Who.
    pub name: String,
    /// SHA-256 of the token, hex.
    pub token_sha256: String,
}

/// Trusts an identity provider to say who somebody is, and within limits what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerTrust {
    /// The provider, as its tokens call it (`iss`).
    pub issuer: String,
    /// Whom only the provider knows is called `ALIAS:NAME` here.
    pub alias: String,
    /// The roles that its claims may confer on those; never `admin`.
    pub roles: BTreeSet<Role>,
}

/// Trusts an identity provider no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerDistrust {
    /// The provider.
    pub issuer: String,
}

/// Takes everything from a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalRevoke {
    /// Who.
    pub name: String,
}

/// Accepts a hole in a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoleConfirm {
    /// `governance` or `metrics-<n>`.
    pub ledger: String,
    /// First lost offset.
    pub from: u64,
    /// Last lost offset.
    pub to: u64,
    /// Why it is accepted.
    pub reason: String,
}

/// The id of a command: the same principal's same idempotency key is the same command, for ever.
pub fn command_id(principal: &str, idempotency_key: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update((principal.len() as u64).to_be_bytes());
    hasher.update(principal.as_bytes());
    hasher.update(idempotency_key.as_bytes());
    hex(&hasher.finalize())
}

/// The id of the waiver requested at `position`.
pub fn waiver_id(position: u64) -> String {
    format!("waiver-{position}")
}

/// The id of the incident that the entry at `position` opened.
pub fn incident_id(position: u64) -> String {
    format!("inc-{position}")
}

/// Event type on the wire, and the roles that may ask for it.
const VOCABULARY: [(&str, &[Role]); 30] = [
    ("llm_waiver_requested", &[Role::Publisher, Role::Oncall, Role::Finance, Role::Admin]),
    ("llm_waiver_approved", &[Role::Finance]),
    ("llm_waiver_refused", &[Role::Finance]),
    ("llm_waiver_revoked", &[Role::Finance]),
    ("llm_incident_opened", &[Role::Oncall, Role::Admin]),
    ("llm_incident_acknowledged", &[Role::Oncall, Role::Admin]),
    ("llm_incident_noted", &[Role::Oncall, Role::Finance, Role::Admin]),
    ("llm_incident_closed", &[Role::Oncall, Role::Admin]),
    ("llm_engine_condemned", &[Role::Oncall, Role::Admin]),
    ("llm_engine_reinstated", &[Role::Oncall, Role::Admin]),
    ("llm_engine_adopted", &[Role::Admin]),
    ("ledger_principal_enrolled", &[Role::Admin]),
    ("ledger_principal_revoked", &[Role::Admin]),
    ("ledger_hole_confirmed", &[Role::Admin]),
    ("ledger_token_issued", &[Role::Admin]),
    ("ledger_token_revoked", &[Role::Admin]),
    ("ledger_issuer_trusted", &[Role::Admin]),
    ("ledger_issuer_distrusted", &[Role::Admin]),
    ("ledger_principal_limited", &[Role::Admin]),
    ("ledger_policy_proposed", &[Role::Admin]),
    ("ledger_policy_approved", &[Role::Admin]),
    ("ledger_policy_refused", &[Role::Admin]),
    ("ledger_maintenance_set", &[Role::Oncall, Role::Admin]),
    ("ledger_maintenance_ended", &[Role::Oncall, Role::Admin]),
    ("ledger_key_enrolled", &[Role::Admin]),
    ("ledger_key_confirmed", &[Role::Admin]),
    ("ledger_key_revoked", &[Role::Admin]),
    ("ledger_node_key_rotated", &[Role::Admin]),
    ("ledger_checkpoint_key_rotated", &[Role::Admin]),
    ("ledger_node_enrolled", &[Role::Admin]),
];

/// Whether `event_type` is a command's.
pub fn is_command(event_type: &str) -> bool {
    VOCABULARY.iter().any(|(name, _)| *name == event_type)
        || incident::is_work(event_type)
        || rollback::is_work(event_type)
}

impl Request {
    const fn index(&self) -> usize {
        match self {
            // Answers for itself; see below.
            Self::IncidentWork(_) | Self::RollbackWork(_) => usize::MAX,
            Self::WaiverRequest(_) => 0,
            Self::WaiverApprove(_) => 1,
            Self::WaiverRefuse(_) => 2,
            Self::WaiverRevoke(_) => 3,
            Self::IncidentOpen(_) => 4,
            Self::IncidentAcknowledge(_) => 5,
            Self::IncidentNote(_) => 6,
            Self::IncidentClose(_) => 7,
            Self::EngineCondemn(_) => 8,
            Self::EngineReinstate(_) => 9,
            Self::EngineAdopt(_) => 10,
            Self::PrincipalEnroll(_) => 11,
            Self::PrincipalRevoke(_) => 12,
            Self::HoleConfirm(_) => 13,
            Self::TokenIssue(_) => 14,
            Self::TokenRevoke(_) => 15,
            Self::IssuerTrust(_) => 16,
            Self::IssuerDistrust(_) => 17,
            Self::PrincipalLimit(_) => 18,
            Self::PolicyPropose(_) => 19,
            Self::PolicyApprove(_) => 20,
            Self::PolicyRefuse(_) => 21,
            Self::MaintenanceSet(_) => 22,
            Self::MaintenanceEnd(_) => 23,
            Self::KeyEnroll(_) => 24,
            Self::KeyConfirm(_) => 25,
            Self::KeyRevoke(_) => 26,
            Self::NodeKeyRotate(_) => 27,
            Self::LedgerKeyRotate(_) => 28,
            Self::NodeEnroll(_) => 29,
        }
    }

    /// The event type that an admitted command is.
    pub const fn event_type(&self) -> &'static str {
        if let Self::IncidentWork(work) = self {
            return work.event_type();
        }
        if let Self::RollbackWork(work) = self {
            return work.event_type();
        }
        VOCABULARY[self.index()].0
    }

    /// The roles that may ask this.
    pub const fn roles(&self) -> &'static [Role] {
        if let Self::IncidentWork(work) = self {
            return work.roles();
        }
        if let Self::RollbackWork(work) = self {
            return work.roles();
        }
        VOCABULARY[self.index()].1
    }

    /// The stack it names, where it names one itself.
    pub fn stack(&self) -> Option<&str> {
        match self {
            Self::WaiverRequest(scope) => Some(&scope.stack),
            Self::IncidentOpen(open) => Some(&open.stack),
            Self::MaintenanceSet(window) => Some(&window.stack),
            Self::EngineCondemn(judgement) | Self::EngineReinstate(judgement) => Some(&judgement.stack),
            Self::EngineAdopt(adopt) => Some(&adopt.stack),
            Self::RollbackWork(work) => Some(work.stack()),
            Self::WaiverApprove(_)
            | Self::WaiverRefuse(_)
            | Self::WaiverRevoke(_)
            | Self::IncidentAcknowledge(_)
            | Self::IncidentNote(_)
            | Self::IncidentClose(_)
            | Self::IncidentWork(_)
            | Self::PrincipalEnroll(_)
            | Self::PrincipalRevoke(_)
            | Self::HoleConfirm(_)
            | Self::TokenIssue(_)
            | Self::TokenRevoke(_)
            | Self::IssuerTrust(_)
            | Self::IssuerDistrust(_)
            | Self::PrincipalLimit(_)
            | Self::PolicyPropose(_)
            | Self::PolicyApprove(_)
            | Self::PolicyRefuse(_)
            | Self::MaintenanceEnd(_)
            | Self::KeyEnroll(_)
            | Self::KeyConfirm(_)
            | Self::KeyRevoke(_)
            | Self::NodeKeyRotate(_)
            | Self::LedgerKeyRotate(_)
            | Self::NodeEnroll(_) => None,
        }
    }

    /// The engine it names.
    pub fn engine_hash(&self) -> Option<&str> {
        match self {
            Self::WaiverRequest(scope) => scope.engine_hash.as_deref(),
            Self::EngineCondemn(judgement) | Self::EngineReinstate(judgement) => Some(&judgement.engine_hash),
            Self::EngineAdopt(adopt) => Some(&adopt.engine_hash),
            Self::RollbackWork(work) => work.engine_hash(),
            Self::WaiverApprove(_)
            | Self::WaiverRefuse(_)
            | Self::WaiverRevoke(_)
            | Self::IncidentOpen(_)
            | Self::IncidentAcknowledge(_)
            | Self::IncidentNote(_)
            | Self::IncidentClose(_)
            | Self::IncidentWork(_)
            | Self::PrincipalEnroll(_)
            | Self::PrincipalRevoke(_)
            | Self::HoleConfirm(_)
            | Self::TokenIssue(_)
            | Self::TokenRevoke(_)
            | Self::IssuerTrust(_)
            | Self::IssuerDistrust(_)
            | Self::PrincipalLimit(_)
            | Self::PolicyPropose(_)
            | Self::PolicyApprove(_)
            | Self::PolicyRefuse(_)
            | Self::MaintenanceSet(_)
            | Self::MaintenanceEnd(_)
            | Self::KeyEnroll(_)
            | Self::KeyConfirm(_)
            | Self::KeyRevoke(_)
            | Self::NodeKeyRotate(_)
            | Self::LedgerKeyRotate(_)
            | Self::NodeEnroll(_) => None,
        }
    }

    /// The waiver that it is about: the one it names, or the one that it makes where it stands at `position`.
    pub fn waiver(&self, position: u64) -> Option<String> {
        match self {
            Self::WaiverRequest(_) => Some(waiver_id(position)),
            Self::WaiverApprove(decision) | Self::WaiverRefuse(decision) | Self::WaiverRevoke(decision) => {
                Some(decision.waiver.clone())
            }
            Self::IncidentOpen(_)
            | Self::IncidentAcknowledge(_)
            | Self::IncidentNote(_)
            | Self::IncidentClose(_)
            | Self::IncidentWork(_)
            | Self::RollbackWork(_)
            | Self::EngineCondemn(_)
            | Self::EngineReinstate(_)
            | Self::EngineAdopt(_)
            | Self::PrincipalEnroll(_)
            | Self::PrincipalRevoke(_)
            | Self::HoleConfirm(_)
            | Self::TokenIssue(_)
            | Self::TokenRevoke(_)
            | Self::IssuerTrust(_)
            | Self::IssuerDistrust(_)
            | Self::PrincipalLimit(_)
            | Self::PolicyPropose(_)
            | Self::PolicyApprove(_)
            | Self::PolicyRefuse(_)
            | Self::MaintenanceSet(_)
            | Self::MaintenanceEnd(_)
            | Self::KeyEnroll(_)
            | Self::KeyConfirm(_)
            | Self::KeyRevoke(_)
            | Self::NodeKeyRotate(_)
            | Self::LedgerKeyRotate(_)
            | Self::NodeEnroll(_) => None,
        }
    }

    /// The incident that it is about: the one it names, or the one that it opens where it stands at `position`.
    pub fn incident(&self, position: u64) -> Option<String> {
        match self {
            Self::IncidentOpen(_) => Some(incident_id(position)),
            Self::IncidentAcknowledge(acknowledgement) => Some(acknowledgement.incident.clone()),
            Self::IncidentNote(note) => Some(note.incident.clone()),
            Self::IncidentClose(close) => Some(close.incident.clone()),
            Self::IncidentWork(work) => Some(work.incident().to_owned()),
            Self::WaiverRequest(_)
            | Self::WaiverApprove(_)
            | Self::WaiverRefuse(_)
            | Self::WaiverRevoke(_)
            | Self::EngineCondemn(_)
            | Self::RollbackWork(_)
            | Self::EngineReinstate(_)
            | Self::EngineAdopt(_)
            | Self::PrincipalEnroll(_)
            | Self::PrincipalRevoke(_)
            | Self::HoleConfirm(_)
            | Self::TokenIssue(_)
            | Self::TokenRevoke(_)
            | Self::IssuerTrust(_)
            | Self::IssuerDistrust(_)
            | Self::PrincipalLimit(_)
            | Self::PolicyPropose(_)
            | Self::PolicyApprove(_)
            | Self::PolicyRefuse(_)
            | Self::MaintenanceSet(_)
            | Self::MaintenanceEnd(_)
            | Self::KeyEnroll(_)
            | Self::KeyConfirm(_)
            | Self::KeyRevoke(_)
            | Self::NodeKeyRotate(_)
            | Self::LedgerKeyRotate(_)
            | Self::NodeEnroll(_) => None,
        }
    }

    /// The id of the proposal, window or key that it makes where it stands at `position`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "it asks about these alone")]
    pub fn made(&self, position: u64) -> Option<String> {
        match self {
            Self::PolicyPropose(_) => Some(proposal_id(position)),
            Self::MaintenanceSet(_) => Some(maintenance_id(position)),
            Self::KeyEnroll(enroll) => keys::key_id_of(&enroll.public_key),
            Self::NodeKeyRotate(rotate) => keys::key_id_of(&rotate.new),
            Self::LedgerKeyRotate(rotate) => keys::key_id_of(&rotate.new),
            Self::NodeEnroll(enroll) => keys::key_id_of(&enroll.public_key),
            _ => None,
        }
    }

    /// Reads what `event_type` asks from its JSON.
    pub fn read(event_type: &str, json: &str) -> Result<Self, Refusal> {
        fn typed<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Refusal> {
            serde_json::from_str(json).map_err(|error| Refusal::from_json(&error, json))
        }
        match event_type {
            "llm_waiver_requested" => typed(json).map(Self::WaiverRequest),
            "llm_waiver_approved" => typed(json).map(Self::WaiverApprove),
            "llm_waiver_refused" => typed(json).map(Self::WaiverRefuse),
            "llm_waiver_revoked" => typed(json).map(Self::WaiverRevoke),
            "llm_incident_opened" => typed(json).map(Self::IncidentOpen),
            "llm_incident_acknowledged" => typed(json).map(Self::IncidentAcknowledge),
            "llm_incident_noted" => typed(json).map(Self::IncidentNote),
            "llm_incident_closed" => typed(json).map(Self::IncidentClose),
            "llm_engine_condemned" => typed(json).map(Self::EngineCondemn),
            "llm_engine_reinstated" => typed(json).map(Self::EngineReinstate),
            "llm_engine_adopted" => typed(json).map(Self::EngineAdopt),
            "ledger_principal_enrolled" => typed(json).map(Self::PrincipalEnroll),
            "ledger_principal_revoked" => typed(json).map(Self::PrincipalRevoke),
            "ledger_hole_confirmed" => typed(json).map(Self::HoleConfirm),
            "ledger_token_issued" => typed(json).map(Self::TokenIssue),
            "ledger_token_revoked" => typed(json).map(Self::TokenRevoke),
            "ledger_issuer_trusted" => typed(json).map(Self::IssuerTrust),
            "ledger_issuer_distrusted" => typed(json).map(Self::IssuerDistrust),
            "ledger_principal_limited" => typed(json).map(Self::PrincipalLimit),
            "ledger_policy_proposed" => typed(json).map(Self::PolicyPropose),
            "ledger_policy_approved" => typed(json).map(Self::PolicyApprove),
            "ledger_policy_refused" => typed(json).map(Self::PolicyRefuse),
            "ledger_maintenance_set" => typed(json).map(Self::MaintenanceSet),
            "ledger_maintenance_ended" => typed(json).map(Self::MaintenanceEnd),
            "ledger_key_enrolled" => typed(json).map(Self::KeyEnroll),
            "ledger_key_confirmed" => typed(json).map(Self::KeyConfirm),
            "ledger_key_revoked" => typed(json).map(Self::KeyRevoke),
            "ledger_node_key_rotated" => typed(json).map(Self::NodeKeyRotate),
            "ledger_checkpoint_key_rotated" => typed(json).map(Self::LedgerKeyRotate),
            "ledger_node_enrolled" => typed(json).map(Self::NodeEnroll),
            _ => {
                let incident = IncidentWork::read(event_type, json).map(|read| read.map(Self::IncidentWork));
                let work =
                    incident.or_else(|| RollbackWork::read(event_type, json).map(|read| read.map(Self::RollbackWork)));
                work.unwrap_or_else(|| {
                    Err(Refusal::new(Code::WrongKind, "type".to_owned(), format!("{event_type:?} is no command")))
                })
            }
        }
    }

    /// The request's JSON, as [`Request::read`] takes it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "two kinds of work are read by their own types")]
    pub fn json(&self) -> serde_json::Value {
        let tagged = match self {
            Self::IncidentWork(work) => serde_json::to_value(work),
            Self::RollbackWork(work) => serde_json::to_value(work),
            _ => serde_json::to_value(self),
        };
        let mut tagged = tagged.unwrap_or_default();
        let content = tagged.as_object_mut().and_then(|map| map.values_mut().next()).map(serde_json::Value::take);
        content.unwrap_or_default()
    }
}

/// What surrounds a request in its `CloudEvent`'s `data`.
#[derive(Serialize, Deserialize)]
struct Data<'a> {
    command_id: String,
    principal: String,
    role: Role,
    not_after: Time,
    #[serde(with = "super::cut::hash_text")]
    governance: ledger::Hash,
    authenticated_by: Authentication,
    #[serde(borrow)]
    request: &'a RawValue,
}

impl Command {
    /// Reads a command of `event_type` from its `CloudEvent`'s `data`.
    pub fn read(event_type: &str, data: &str) -> Result<Self, Refusal> {
        let read: Data<'_> = serde_json::from_str(data).map_err(|error| Refusal::from_json(&error, data))?;
        let request = Request::read(event_type, read.request.get())?;
        Ok(Self {
            command_id: read.command_id,
            principal: read.principal,
            role: read.role,
            not_after: read.not_after,
            governance: read.governance,
            authenticated_by: read.authenticated_by,
            request,
        })
    }

    /// The `data` of its `CloudEvent`.
    pub fn data(&self) -> serde_json::Value {
        serde_json::json!({
            "command_id": self.command_id,
            "principal": self.principal,
            "role": self.role,
            "not_after": self.not_after,
            "governance": self.governance.to_string(),
            "authenticated_by": self.authenticated_by,
            "request": self.request.json(),
        })
    }

    /// What the id stands for: principal, role and request; not when it lapses or who vouched for it.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(format!(
            "{}\n{}\n{}\n{}",
            self.principal,
            self.role,
            self.request.event_type(),
            self.request.json()
        )))
    }
}

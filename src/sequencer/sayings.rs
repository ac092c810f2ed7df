//! What the service itself says, as `CloudEvents` in envelopes under the node key.
//!
//! The id of a saying is a digest of what it is about, so that saying it again, after a crash or from a second node, is a
//! duplicate and changes nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::domain::command::Command;
use crate::domain::cut::Cut;
use crate::domain::envelope::{self, hex};
use crate::domain::event::{Alert, EngineProven, FileRegistered};
use crate::domain::incident::{IncidentImpact, IncidentSnapshot};
use crate::domain::policy::Policy;
use crate::domain::report::{Identity, SERVICE_SOURCE, SayingKind, cloud_event_identity, saying_type};
use crate::domain::time::Time;
use crate::projection::waivers::Said;

/// A `CloudEvent` of ours, not yet sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saying {
    id: String,
    event_type: String,
    subject: Option<String>,
    data: Value,
}

impl Saying {
    fn new(kind: SayingKind, about: &[&str], subject: Option<&str>, data: Value) -> Self {
        let event_type = saying_type(kind);
        let mut hasher = Sha256::new();
        for part in std::iter::once(&event_type).chain(about) {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Self {
            id: hex(&hasher.finalize()),
            event_type: event_type.to_owned(),
            subject: subject.map(str::to_owned),
            data,
        }
    }

    /// A cut: about its instant.
    pub fn cut(cut: &Cut) -> Self {
        Self::new(SayingKind::Cut, &[&cut.instant.to_string()], None, json!(cut))
    }

    /// An alert: about its rule, stack, engine, instant of firing, and state.
    pub fn alert(alert: &Alert) -> Self {
        let state = format!("{:?}", alert.state);
        let about = [alert.rule.as_str(), &alert.stack, &alert.engine_hash, &alert.firing_since.to_string(), &state];
        Self::new(SayingKind::Alert, &about, Some(&alert.stack), json!(alert))
    }

    /// An engine proven: about the stint.
    pub fn engine_proven(proven: &EngineProven) -> Self {
        Self::new(
            SayingKind::EngineProven,
            &[&proven.stack, &proven.engine_hash, &proven.stint.to_string()],
            Some(&proven.stack),
            json!(proven),
        )
    }

    /// A policy: about its revision.
    pub fn policy_revised(policy: &Policy) -> Self {
        Self::new(SayingKind::PolicyRevised, &[&policy.revision.to_string()], None, json!(policy))
    }

    /// A file: about its ledger, number and first line.
    pub fn file_registered(file: &FileRegistered) -> Self {
        Self::new(
            SayingKind::FileRegistered,
            &[&file.ledger, &file.file.to_string(), &file.first_line_sha256],
            None,
            json!(file),
        )
    }

    /// A waiver at its end.
    fn waiver_expired(waiver: &str, expired: Time) -> Self {
        Self::new(SayingKind::WaiverExpired, &[waiver], None, json!({ "waiver": waiver, "expired": expired }))
    }

    /// What became of a waiver at a cut: spend is about the waiver and the cut, all else happens once to a waiver.
    pub fn waiver(said: &Said) -> Self {
        match said {
            Said::Spend(spend) => {
                let instant = spend.instant.to_string();
                // A cut may bring both under one waiver: its own, and once what the past is charged with.
                let about: &[&str] = match spend.retroactive_from {
                    None => &[&spend.waiver, &instant],
                    Some(_) => &[&spend.waiver, &instant, "retroactive"],
                };
                Self::new(SayingKind::WaiverSpend, about, None, json!(spend))
            }
            Said::Exhausted(exhausted) => {
                Self::new(SayingKind::WaiverExhausted, &[&exhausted.waiver], None, json!(exhausted))
            }
            Said::Expiring(expiring) => {
                let reason = format!("{:?}", expiring.reason);
                Self::new(SayingKind::WaiverExpiring, &[&expiring.waiver, &reason], None, json!(expiring))
            }
            Said::Expired { waiver, expired } => Self::waiver_expired(waiver, *expired),
        }
    }

    /// The figures that an incident found: about the incident.
    pub fn incident_snapshot(snapshot: &IncidentSnapshot) -> Self {
        Self::new(SayingKind::IncidentSnapshot, &[&snapshot.incident], Some(&snapshot.stack), json!(snapshot))
    }

    /// What an episode cost: about the stack, the engine and its beginning.
    pub fn incident_impact(impact: &IncidentImpact) -> Self {
        let about = [&impact.stack, &impact.totals.engine_hash, &impact.since.to_string()];
        Self::new(SayingKind::IncidentImpact, &about.map(String::as_str), Some(&impact.stack), json!(impact))
    }

    /// The identity under which the governance fold knows it.
    pub fn identity(&self) -> Identity {
        cloud_event_identity(SERVICE_SOURCE, &self.id)
    }

    /// The event type.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The envelope's JSON text.
    pub fn seal(&self, key: &ledger::key::LedgerKey) -> Result<String, serde_json::Error> {
        seal(&self.id, &self.event_type, self.subject.as_deref(), &self.data, key)
    }
}

/// A command in its envelope. Its id is the command's, so that a repeat is known by it.
pub fn command_event(command: &Command, key: &ledger::key::LedgerKey) -> Result<String, serde_json::Error> {
    seal(&command.command_id, command.request.event_type(), command.request.stack(), &command.data(), key)
}

fn seal(
    id: &str,
    event_type: &str,
    subject: Option<&str>,
    data: &Value,
    key: &ledger::key::LedgerKey,
) -> Result<String, serde_json::Error> {
    let mut event =
        json!({ "specversion": "1.0", "id": id, "source": SERVICE_SOURCE, "type": event_type, "data": data });
    if let (Some(subject), Some(object)) = (subject, event.as_object_mut()) {
        object.insert("subject".to_owned(), subject.into());
    }
    envelope::seal(&serde_json::to_vec(&event)?, key)
}

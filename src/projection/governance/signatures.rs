//! Who signed an entry, and whether that gives it effect: its envelope, by the keys in force at its position.

use super::super::keys::Known;
use super::Governance;
use crate::domain::command::Request;
use crate::domain::event::Event;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::report::Report;

impl Governance {
    /// Every signature by a key in force must hold. What only the service says needs a node's; a report in an envelope needs
    /// a node's or one by a key enrolled for its type; a type for which the policy demands it needs the latter.
    pub(super) fn check_signatures(&self, report: &Report) -> Result<(), Refusal> {
        let event_type = report.about.event_type.as_str();
        let is_demanded = self.policy.required_signatures.contains(event_type);
        let Some(envelope) = &report.envelope else {
            // Commands and sayings never come here without: reading one refuses it.
            return if is_demanded { Err(demanded(event_type)) } else { Ok(()) };
        };
        let needs_node = report.privileged || report.is_from_service;
        let (mut nodes, mut is_author, mut not_for_type) = (Vec::new(), false, None);
        for (keyid, signature) in &envelope.signatures {
            let public = match self.keys.known(keyid) {
                Known::Node(public) => {
                    nodes.push(keyid.as_str());
                    public
                }
                Known::Author(key) => {
                    if key.event_types.contains(event_type) && !needs_node {
                        is_author = true;
                    } else {
                        not_for_type = Some((keyid, key.enrolled.1));
                    }
                    &key.public
                }
                Known::Former(_) | Known::Waiting(_) | Known::Unknown => continue,
            };
            if !envelope.verifies(signature, public) {
                let detail = format!("the signature by key {keyid} does not verify");
                return Err(Refusal::new(Code::BadSignature, "signatures.sig".to_owned(), detail));
            }
        }
        if is_author || (!nodes.is_empty() && !is_demanded) {
            return self.check_own_key(report, &nodes);
        }
        match not_for_type {
            Some((keyid, position)) => {
                let detail = format!("key {keyid} is not enrolled for {event_type:?}");
                Err(Refusal::new(Code::KeyNotForType, "signatures.keyid".to_owned(), detail).by(position))
            }
            None if !nodes.is_empty() => Err(demanded(event_type)),
            None => Err(self.unknown(&envelope.signatures)),
        }
    }

    /// A node's keys are rotated by that node alone: its envelope key by itself, the key of its checkpoints in its envelope.
    fn check_own_key(&self, report: &Report, nodes: &[&str]) -> Result<(), Refusal> {
        let Event::Command(command) = &report.event else { return Ok(()) };
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other commands may come from any node")]
        let own = match &command.request {
            Request::NodeKeyRotate(rotate) => Some(rotate.old.as_str()),
            Request::LedgerKeyRotate(rotate) => Some(self.keys.of_node(&rotate.node).unwrap_or("none")),
            _ => None,
        };
        match own {
            Some(own) if !nodes.contains(&own) => {
                let detail = format!("the envelope is signed by {nodes:?}, not by the node's own key, {own}");
                Err(Refusal::new(Code::CommandRefused, "node".to_owned(), detail))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// No signature is by a key in force. A key that was or is to be is named with the entry that says so.
    fn unknown(&self, signatures: &[(String, [u8; 64])]) -> Refusal {
        let refuse = |detail: String| Refusal::new(Code::UnknownKey, "signatures.keyid".to_owned(), detail);
        let former = signatures.iter().find_map(|(keyid, _)| match self.keys.known(keyid) {
            Known::Former(position) => {
                Some(refuse(format!("key {keyid} is out of force since position {position}")).by(position))
            }
            Known::Waiting(position) => {
                Some(refuse(format!("key {keyid} waits for another admin's word")).by(position))
            }
            Known::Node(_) | Known::Author(_) | Known::Unknown => None,
        });
        former.unwrap_or_else(|| {
            let keyids: Vec<&str> = signatures.iter().map(|(keyid, _)| keyid.as_str()).collect();
            refuse(format!("no enrolled key among {keyids:?}"))
        })
    }
}

fn demanded(event_type: &str) -> Refusal {
    let detail = format!("{event_type:?} counts only in a DSSE envelope signed by a key that is enrolled for it");
    Refusal::new(Code::SignatureRequired, "signatures".to_owned(), detail)
}

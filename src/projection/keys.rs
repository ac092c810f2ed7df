//! Keys in force: those of this ledger's nodes, whose envelopes give effect to what the service says, and those of authors,
//! each for given event types.
//!
//! In scope: which key may sign what at a position, and who may change it. Out of scope: checking signatures, which the
//! governance fold does with the keys from here.
//!
//! Invariants: a key id is enrolled once for ever, so what a key signed is judged by one record; a key that one admin enrolled
//! is in force at once only where each of its types has a key in force already, else another admin confirms it.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the requests about keys mean anything here")]

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::domain::command::{self, KeyConfirm, KeyEnroll, LedgerKeyRotate, NodeEnroll, NodeKeyRotate, Request};
use crate::domain::refusal::{Code, Refusal};
use crate::domain::settings::{NODE_NAME, NodeKey, is_node_name};

/// Event types of one key at the most.
const TYPES_MAX: usize = 100;
/// Keys of nodes at the most: each node checks the roots of all others at each cut.
const NODES_MAX: usize = 100;
/// Keys in all at the most: every one stays for ever, for what it signed.
const KEYS_MAX: usize = 10_000;

/// A key of an author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorKey {
    /// Whose.
    pub author: String,
    /// Ed25519 public key.
    pub public: [u8; 32],
    /// What it may sign.
    pub event_types: BTreeSet<String>,
    /// Who enrolled it, at which entry.
    pub enrolled: (String, u64),
    /// The entry since which it is in force; none while it waits for another admin.
    pub in_force: Option<u64>,
    /// Who confirmed it, where that was needed.
    pub confirmed_by: Option<String>,
    /// The key whose place it takes.
    pub replaces: Option<String>,
    /// The entry that revoked it.
    pub revoked: Option<u64>,
}

/// A key of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeKey {
    /// The node.
    pub node: String,
    /// Ed25519 public key.
    pub public: [u8; 32],
    /// Who enrolled it, at which entry, where that was after the first entry.
    pub enrolled: Option<(String, u64)>,
    /// The entry that retired it.
    pub retired: Option<u64>,
}

/// A further node's key that waits for another admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingNode {
    /// The node.
    pub node: String,
    /// Ed25519 public key.
    pub public: [u8; 32],
    /// Who enrolled it, at which entry.
    pub enrolled: (String, u64),
}

/// A key that signed a node's checkpoints giving way to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointKeys {
    /// The old public key.
    pub old: [u8; 32],
    /// The new public key.
    pub new: [u8; 32],
    /// The entry in which the old key signs the new one.
    pub position: u64,
}

/// All keys, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    nodes: BTreeMap<String, EnvelopeKey>,
    waiting_nodes: BTreeMap<String, WaitingNode>,
    authors: BTreeMap<String, AuthorKey>,
    /// Rotations of checkpoint keys by node. The first key of a node is no entry: whoever checks its ledgers has it.
    checkpoints: BTreeMap<String, Vec<CheckpointKeys>>,
}

/// What a key id stands for at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// A node's key in force.
    Node(&'a [u8; 32]),
    /// An author's key in force.
    Author(&'a AuthorKey),
    /// A key that was in force up to this entry.
    Former(u64),
    /// A key that waits for another admin since this entry.
    Waiting(u64),
    /// None that was ever enrolled.
    Unknown,
}

impl Keys {
    /// The keys of the first entry.
    pub fn begin(&mut self, keys: &[NodeKey]) {
        for key in keys {
            if let (Some(id), Some(public)) = (key.key_id(), key.public_bytes()) {
                self.nodes.insert(id, EnvelopeKey { node: key.node.clone(), public, enrolled: None, retired: None });
            }
        }
    }

    /// What `key_id` stands for here.
    pub fn known(&self, key_id: &str) -> Known<'_> {
        if let Some(key) = self.nodes.get(key_id) {
            return key.retired.map_or(Known::Node(&key.public), Known::Former);
        }
        if let Some(key) = self.waiting_nodes.get(key_id) {
            return Known::Waiting(key.enrolled.1);
        }
        match self.authors.get(key_id) {
            None => Known::Unknown,
            Some(AuthorKey { revoked: Some(position), .. }) => Known::Former(*position),
            Some(AuthorKey { in_force: None, enrolled, .. }) => Known::Waiting(enrolled.1),
            Some(key) => Known::Author(key),
        }
    }

    /// The id of the key with which `node` signs envelopes here.
    pub fn of_node(&self, node: &str) -> Option<&str> {
        let current = |(_, key): &(&String, &EnvelopeKey)| key.node == node && key.retired.is_none();
        self.nodes.iter().find(current).map(|(id, _)| id.as_str())
    }

    /// Author keys in the order of their entries.
    pub fn authors(&self) -> Vec<(&str, &AuthorKey)> {
        let mut all: Vec<_> = self.authors.iter().map(|(id, key)| (id.as_str(), key)).collect();
        all.sort_by_key(|(_, key)| key.enrolled.1);
        all
    }

    /// Node keys by id.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &EnvelopeKey)> {
        self.nodes.iter().map(|(id, key)| (id.as_str(), key))
    }

    /// Node keys that wait for another admin, by id.
    pub fn waiting_nodes(&self) -> impl Iterator<Item = (&str, &WaitingNode)> {
        self.waiting_nodes.iter().map(|(id, key)| (id.as_str(), key))
    }

    /// The rotations of the key that signs `node`'s checkpoints, oldest first.
    pub fn checkpoint_keys(&self, node: &str) -> &[CheckpointKeys] {
        self.checkpoints.get(node).map_or(&[], Vec::as_slice)
    }

    /// All of them, by node.
    pub fn all_checkpoint_keys(&self) -> impl Iterator<Item = (&str, &CheckpointKeys)> {
        self.checkpoints.iter().flat_map(|(node, all)| all.iter().map(move |keys| (node.as_str(), keys)))
    }

    /// Decides about a key command by `principal`: nothing, or why not. `genesis` is the ledger's first leaf hash.
    pub fn decide(&self, principal: &str, genesis: &str, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::KeyEnroll(enroll) => self.may_enroll(enroll),
            Request::NodeEnroll(enroll) => self.may_enroll_node(enroll),
            Request::KeyConfirm(confirm) if self.waiting_nodes.contains_key(&confirm.key_id) => {
                self.may_confirm_node(principal, confirm)
            }
            Request::KeyConfirm(confirm) => {
                let key = self.author(&confirm.key_id)?;
                let by = |refusal: Refusal| refusal.by(key.enrolled.1);
                if let Some(position) = key.revoked.or(key.in_force) {
                    let how = if key.revoked.is_some() { "revoked" } else { "put in force" };
                    return Err(refuse("key_id", format!("it was {how} at position {position}")).by(position));
                }
                if key.enrolled.1 != confirm.enrolled {
                    let detail = format!("it was enrolled at position {}, not {}", key.enrolled.1, confirm.enrolled);
                    return Err(by(refuse("enrolled", detail)));
                }
                if key.enrolled.0 == principal {
                    return Err(by(refuse("principal", format!("{principal} enrolled it and cannot confirm it"))));
                }
                Ok(())
            }
            Request::KeyRevoke(revoke) if self.enrolled_node(&revoke.key_id).is_some() => Ok(()),
            Request::KeyRevoke(revoke) => match self.author(&revoke.key_id)?.revoked {
                Some(position) => Err(refuse("key_id", format!("it was revoked at position {position}")).by(position)),
                None => Ok(()),
            },
            Request::NodeKeyRotate(rotate) => self.may_rotate(genesis, rotate),
            Request::LedgerKeyRotate(rotate) => self.may_rotate_checkpoints(genesis, rotate),
            _ => Ok(()),
        }
    }

    fn author(&self, key_id: &str) -> Result<&AuthorKey, Refusal> {
        self.authors.get(key_id).ok_or_else(|| refuse("key_id", format!("there is no author's key {key_id:?}")))
    }

    fn may_enroll(&self, enroll: &KeyEnroll) -> Result<(), Refusal> {
        let id = new_key(&enroll.public_key, "public_key")?.0;
        self.is_new(&id, "public_key")?;
        if self.authors.len() >= KEYS_MAX {
            return Err(refuse("public_key", format!("there are {KEYS_MAX} keys")));
        }
        if enroll.author.trim().is_empty() {
            return Err(refuse("author", "it is empty"));
        }
        if enroll.event_types.is_empty() || enroll.event_types.len() > TYPES_MAX {
            return Err(refuse(
                "event_types",
                format!("{} types; 1 to {TYPES_MAX} are taken", enroll.event_types.len()),
            ));
        }
        let is_own = |name: &&String| name.is_empty() || name.starts_with("ledger_") || command::is_command(name);
        if let Some(name) = enroll.event_types.iter().find(is_own) {
            return Err(refuse("event_types", format!("{name:?} is nothing that an author reports")));
        }
        if let Some(old) = &enroll.replaces {
            let key = self.author(old)?;
            if let Some(position) = key.revoked {
                return Err(refuse("replaces", format!("{old} was revoked at position {position}")).by(position));
            }
        }
        Ok(())
    }

    /// A node's name is the first part of its origins, so it is one node's for ever: a name that was here is not given again.
    fn may_enroll_node(&self, enroll: &NodeEnroll) -> Result<(), Refusal> {
        let id = new_key(&enroll.public_key, "public_key")?.0;
        self.is_new(&id, "public_key")?;
        let node = &enroll.node;
        if !is_node_name(node) {
            return Err(refuse("node", format!("{node:?}: {NODE_NAME}")));
        }
        if let Some((id, key)) = self.waiting_nodes.iter().find(|(_, key)| key.node == *node) {
            return Err(refuse("node", format!("the key {id} of {node} waits to be confirmed")).by(key.enrolled.1));
        }
        if self.nodes.values().any(|key| key.node == *node) {
            return Err(refuse("node", format!("there is a node {node} already; rotate its key at the node itself")));
        }
        if self.nodes.len() + self.waiting_nodes.len() >= NODES_MAX {
            return Err(refuse("node", format!("there are {NODES_MAX} keys of nodes")));
        }
        Ok(())
    }

    fn may_confirm_node(&self, principal: &str, confirm: &KeyConfirm) -> Result<(), Refusal> {
        let Some(key) = self.waiting_nodes.get(&confirm.key_id) else { return Ok(()) };
        let (who, position) = &key.enrolled;
        if *position != confirm.enrolled {
            let detail = format!("it was enrolled at position {position}, not {}", confirm.enrolled);
            return Err(refuse("enrolled", detail).by(*position));
        }
        if who == principal {
            let detail = format!("{principal} enrolled it and cannot confirm it");
            return Err(refuse("principal", detail).by(*position));
        }
        Ok(())
    }

    /// The node whose key was enrolled after the first entry, waiting or in force, and may be revoked.
    fn enrolled_node(&self, key_id: &str) -> Option<&str> {
        let in_force = self.nodes.get(key_id).filter(|key| key.enrolled.is_some() && key.retired.is_none());
        let waiting = self.waiting_nodes.get(key_id).map(|key| key.node.as_str());
        in_force.map(|key| key.node.as_str()).or(waiting)
    }

    fn is_new(&self, id: &str, field: &str) -> Result<(), Refusal> {
        if let Some(key) = self.authors.get(id) {
            return Err(refuse(field, format!("{id} was enrolled at position {}", key.enrolled.1)).by(key.enrolled.1));
        }
        if self.nodes.contains_key(id) || self.waiting_nodes.contains_key(id) {
            return Err(refuse(field, format!("{id} is a node's key")));
        }
        Ok(())
    }

    fn may_rotate(&self, genesis: &str, rotate: &NodeKeyRotate) -> Result<(), Refusal> {
        match self.of_node(&rotate.node) {
            Some(current) if current == rotate.old => {}
            found => {
                let found = found.unwrap_or("none");
                return Err(refuse("old", format!("{} signs with {found}, not with {}", rotate.node, rotate.old)));
            }
        }
        let (id, public) = new_key(&rotate.new, "new")?;
        self.is_new(&id, "new")?;
        let statement = NodeKeyRotate::statement(&rotate.node, &rotate.old, &rotate.new, genesis);
        if signed(&statement, &public, &rotate.proof) {
            Ok(())
        } else {
            Err(refuse("proof", "the new key did not sign the statement of its rotation"))
        }
    }

    fn may_rotate_checkpoints(&self, genesis: &str, rotate: &LedgerKeyRotate) -> Result<(), Refusal> {
        if self.of_node(&rotate.node).is_none() {
            return Err(refuse("node", format!("there is no node {:?}", rotate.node)));
        }
        let ((_, old), (_, new)) = (new_key(&rotate.old, "old")?, new_key(&rotate.new, "new")?);
        let before = self.checkpoint_keys(&rotate.node);
        if let Some(last) = before.last().filter(|last| last.new != old) {
            return Err(refuse("old", "it is not the key of the rotation before").by(last.position));
        }
        if new == old || before.iter().any(|keys| keys.old == new || keys.new == new) {
            return Err(refuse("new", "it has signed before"));
        }
        let statement = LedgerKeyRotate::statement(&rotate.node, &rotate.old, &rotate.new, genesis);
        for (field, public, signature) in [("by_old", &old, &rotate.by_old), ("by_new", &new, &rotate.by_new)] {
            if !signed(&statement, public, signature) {
                return Err(refuse(field, "the key did not sign the statement of the rotation"));
            }
        }
        Ok(())
    }

    /// Folds an admitted key command.
    pub fn apply(&mut self, position: u64, principal: &str, request: &Request) {
        match request {
            Request::KeyEnroll(enroll) => self.enroll(position, principal, enroll),
            Request::NodeEnroll(enroll) => {
                if let Ok((id, public)) = new_key(&enroll.public_key, "public_key") {
                    let enrolled = (principal.to_owned(), position);
                    self.waiting_nodes.insert(id, WaitingNode { node: enroll.node.clone(), public, enrolled });
                }
            }
            Request::KeyConfirm(confirm) => {
                if let Some(WaitingNode { node, public, enrolled }) = self.waiting_nodes.remove(&confirm.key_id) {
                    let key = EnvelopeKey { node, public, enrolled: Some(enrolled), retired: None };
                    self.nodes.insert(confirm.key_id.clone(), key);
                }
                if let Some(key) = self.authors.get_mut(&confirm.key_id) {
                    key.in_force = Some(position);
                    key.confirmed_by = Some(principal.to_owned());
                    let replaced = key.replaces.clone();
                    self.revoke(position, replaced.as_deref());
                }
            }
            Request::KeyRevoke(revoke) => {
                // One that waited leaves its name free: nothing was ever signed with it that counted.
                self.waiting_nodes.remove(&revoke.key_id);
                if let Some(key) = self.nodes.get_mut(&revoke.key_id).filter(|key| key.retired.is_none()) {
                    key.retired = Some(position);
                }
                self.revoke(position, Some(&revoke.key_id));
            }
            Request::NodeKeyRotate(rotate) => {
                if let Some(old) = self.nodes.get_mut(&rotate.old) {
                    old.retired = Some(position);
                }
                if let Ok((id, public)) = new_key(&rotate.new, "new") {
                    let enrolled = self.nodes.get(&rotate.old).and_then(|old| old.enrolled.clone());
                    let node = rotate.node.clone();
                    self.nodes.insert(id, EnvelopeKey { node, public, enrolled, retired: None });
                }
            }
            Request::LedgerKeyRotate(rotate) => {
                if let (Ok((_, old)), Ok((_, new))) = (new_key(&rotate.old, "old"), new_key(&rotate.new, "new")) {
                    self.checkpoints.entry(rotate.node.clone()).or_default().push(CheckpointKeys {
                        old,
                        new,
                        position,
                    });
                }
            }
            _ => {}
        }
    }

    fn enroll(&mut self, position: u64, principal: &str, enroll: &KeyEnroll) {
        let Ok((id, public)) = new_key(&enroll.public_key, "public_key") else { return };
        let in_force = self.one_is_enough(enroll).then_some(position);
        let key = AuthorKey {
            author: enroll.author.clone(),
            public,
            event_types: enroll.event_types.clone(),
            enrolled: (principal.to_owned(), position),
            in_force,
            confirmed_by: None,
            replaces: enroll.replaces.clone(),
            revoked: None,
        };
        self.authors.insert(id, key);
        if in_force.is_some() {
            self.revoke(position, enroll.replaces.as_deref());
        }
    }

    /// Whether each of the types has a key in force already: the first of a type takes two people.
    fn one_is_enough(&self, enroll: &KeyEnroll) -> bool {
        let signs = |key: &AuthorKey, name: &String| {
            key.in_force.is_some() && key.revoked.is_none() && key.event_types.contains(name)
        };
        enroll.event_types.iter().all(|name| self.authors.values().any(|key| signs(key, name)))
    }

    fn revoke(&mut self, position: u64, key_id: Option<&str>) {
        if let Some(key) = key_id.and_then(|id| self.authors.get_mut(id)).filter(|key| key.revoked.is_none()) {
            key.revoked = Some(position);
        }
    }
}

/// Whether `public` signed `statement`; the signature in base64.
fn signed(statement: &str, public: &[u8; 32], signature: &str) -> bool {
    let signature: Option<[u8; 64]> = STANDARD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
    signature.is_some_and(|signature| ledger::verify_signature(public, statement.as_bytes(), &signature).is_ok())
}

/// Id and bytes of a public key given in hex.
fn new_key(hex: &str, field: &str) -> Result<(String, [u8; 32]), Refusal> {
    let key = NodeKey { node: String::new(), public_key: hex.to_owned() };
    let found = key.public_bytes().filter(ledger::key::is_public);
    let public = found.ok_or_else(|| refuse(field, format!("{hex:?} is no Ed25519 public key of 64 hex digits")))?;
    Ok((crate::domain::envelope::key_id(&public), public))
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

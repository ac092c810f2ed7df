//! What is asked about keys: those of authors, who sign what they report, and those of this ledger's own nodes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::settings::NodeKey;

/// The id of a public key given in hex.
pub(super) fn key_id_of(public_key: &str) -> Option<String> {
    NodeKey { node: String::new(), public_key: public_key.to_owned() }.key_id()
}

/// Enrols a key for given event types. Where an admin alone may not, it waits until another one confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyEnroll {
    /// Whose key it is: an author's name, for people to read.
    pub author: String,
    /// Ed25519 public key, 64 hex digits.
    pub public_key: String,
    /// What it may sign: event types.
    pub event_types: BTreeSet<String>,
    /// The key id that it takes the place of: that one is revoked by the same entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// Enrols the key with which a further node signs envelopes. It waits until another admin confirms it: a node vouches for who
/// asked, so whoever enrols one alone would be everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeEnroll {
    /// The node's name, the first part of its origins.
    pub node: String,
    /// The Ed25519 public key of its `keys/node.pem`, 64 hex digits.
    pub public_key: String,
}

/// The second admin's word for a key that waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyConfirm {
    /// The key id.
    pub key_id: String,
    /// The entry that enrolled it: what was seen is what is confirmed.
    pub enrolled: u64,
}

/// Takes a key out of force from here on. What it signed before still counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRevoke {
    /// The key id.
    pub key_id: String,
    /// Why.
    pub reason: String,
}

/// A node's envelope key gives way to a new one. The envelope of this command is signed by the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeKeyRotate {
    /// The node.
    pub node: String,
    /// Key id of the old key.
    pub old: String,
    /// The new public key, 64 hex digits.
    pub new: String,
    /// The new key's signature over [`NodeKeyRotate::statement`], base64: whoever asks holds it.
    pub proof: String,
}

impl NodeKeyRotate {
    /// What the new key signs.
    pub fn statement(node: &str, old: &str, new: &str, governance: &str) -> String {
        format!("govledger node key rotation v1\n{node}\n{old}\n{new}\n{governance}\n")
    }
}

/// The key that signs a node's checkpoints gives way to a new one: the old key signs the new one, in an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerKeyRotate {
    /// The node.
    pub node: String,
    /// The old public key, 64 hex digits.
    pub old: String,
    /// The new public key, 64 hex digits.
    pub new: String,
    /// The old key's signature over [`LedgerKeyRotate::statement`], base64.
    pub by_old: String,
    /// The new key's signature over the same, base64.
    pub by_new: String,
}

impl LedgerKeyRotate {
    /// What both keys sign.
    pub fn statement(node: &str, old: &str, new: &str, governance: &str) -> String {
        format!("govledger checkpoint key rotation v1\n{node}\n{old}\n{new}\n{governance}\n")
    }
}

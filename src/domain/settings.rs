//! The first entry of each ledger: what is fixed for its life, the same on every node.
//!
//! `init` makes the governance settings once and prints them as a file; a further node is given that file and so builds the
//! same trees. The settings of `metrics-<n>` follow from it, so that a partition added later needs no new agreement.

use serde::{Deserialize, Serialize};

use super::envelope::key_id;
use super::leaf::Header;
use super::time::Time;

/// Version of the entry format that this binary writes.
pub const FORMAT: u32 = 1;
/// Version of the rules that verdicts follow. A ledger keeps the one it was begun with.
pub const RULES_VERSION: u32 = 5;
/// The first rules version that meters spend under waivers: cuts say spend, exhaustion and warnings.
pub const RULES_METERED: u32 = 2;
/// The first rules version that measures incidents: the figures that one found, and what it cost.
pub const RULES_INCIDENTS: u32 = 3;
/// The first rules version that judges capacity: scrapes of the servers, and speculation without a calibration.
pub const RULES_CAPACITY: u32 = 4;
/// The first rules version in which an approver has a limit, cover may be retroactive, and a publish relies on its waivers.
pub const RULES_LIMITED: u32 = 3;
/// The first rules version in which a policy changes by two people alone: a node puts one in force only before the first cut.
pub const RULES_TWO_PEOPLE: u32 = 3;

/// The first rules version that knows rollbacks under way: claims, steps, and the gate that they close.
pub const RULES_ROLLBACKS: u32 = 4;
/// The first rules version in which an admin keeps a way in that lasts, whatever is asked, and neither a token
/// comes back by enrolment nor somebody under another alias; and who asked for a waiver is known by more than a name.
pub const RULES_PEOPLE: u32 = 5;

/// The first rules version in which a policy demands no author's signature of what the service says itself.
pub const RULES_SIGNABLE: u32 = 5;

/// The first rules version that flags a rollback's completion by an attempt which had ended otherwise.
pub const RULES_ENDINGS: u32 = 5;

/// The first entry of the governance ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Always `governance`.
    pub ledger: String,
    /// Entry format.
    pub format: u32,
    /// Rules version in force from the start.
    pub rules_version: u32,
    /// When `init` ran.
    pub created: Time,
    /// Where the order of entries comes from.
    pub source: SourceSettings,
    /// Largest entry, bytes.
    pub entry_bytes_max: usize,
    /// Keys whose envelopes have effect from the start.
    pub node_keys: Vec<NodeKey>,
    /// The first admin.
    pub admin: FirstAdmin,
}

/// Where the order of entries comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceSettings {
    /// A queue in the one node.
    Embedded,
    /// Kafka partitions.
    Kafka {
        /// The governance topic, of one partition, ours alone.
        governance_topic: String,
        /// The metrics topic; one ledger a partition.
        metrics_topic: String,
    },
    /// Kafka partitions that others own, read beside what is there. What the node itself says goes between the records in this
    /// directory alone, so its trees are nobody else's.
    Shadow {
        /// The governance topic, of one partition.
        governance_topic: String,
        /// The metrics topic; one ledger a partition.
        metrics_topic: String,
    },
}

impl SourceSettings {
    /// Whether this is a ledger beside what is there, of which nobody else has a replica.
    pub const fn is_shadow(&self) -> bool {
        matches!(self, Self::Shadow { .. })
    }
}

/// A node's public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeKey {
    /// The node's name.
    pub node: String,
    /// Ed25519 public key, lower-case hex.
    pub public_key: String,
}

/// What a node may be called.
pub const NODE_NAME: &str = "letters, digits, '-', '.' and '_' only, at most 128";

/// Whether a node may be called so.
pub fn is_node_name(name: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    !name.is_empty() && name.len() <= 128 && name.chars().all(fits)
}

impl NodeKey {
    /// The raw key, where the text is one.
    pub fn public_bytes(&self) -> Option<[u8; 32]> {
        if self.public_key.len() != 64 || !self.public_key.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.public_key[index * 2..index * 2 + 2], 16).ok()?;
        }
        Some(bytes)
    }

    /// The key id that envelopes carry.
    pub fn key_id(&self) -> Option<String> {
        self.public_bytes().map(|bytes| key_id(&bytes))
    }
}

/// The first admin, known from the start so that there is somebody to add the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstAdmin {
    /// Name.
    pub name: String,
    /// SHA-256 of the token, hex.
    pub token_sha256: String,
}

/// The first entry of a metrics ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// `metrics-<n>`.
    pub ledger: String,
    /// Entry format.
    pub format: u32,
    /// Leaf hash of governance entry 0.
    #[serde(with = "super::cut::hash_text")]
    #[schemars(with = "String")]
    pub governance: ledger::Hash,
    /// The partition it follows, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
}

/// A Kafka partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Topic.
    pub topic: String,
    /// Number.
    pub partition: u32,
}

impl Settings {
    /// The bytes of governance entry 0. Its time is the epoch, which stands for none: a backfill may begin anywhere.
    pub fn entry(&self) -> Result<Vec<u8>, serde_json::Error> {
        first_entry(self)
    }

    /// The settings of `metrics-<n>`.
    pub fn metrics(&self, n: u32) -> Result<MetricsSettings, serde_json::Error> {
        let partition = match &self.source {
            SourceSettings::Embedded => None,
            SourceSettings::Kafka { metrics_topic, .. } | SourceSettings::Shadow { metrics_topic, .. } => {
                Some(Partition { topic: metrics_topic.clone(), partition: n })
            }
        };
        Ok(MetricsSettings {
            ledger: format!("metrics-{n}"),
            format: self.format,
            governance: ledger::tree::leaf_hash(&self.entry()?),
            partition,
        })
    }
}

impl MetricsSettings {
    /// The bytes of the metrics ledger's entry 0.
    pub fn entry(&self) -> Result<Vec<u8>, serde_json::Error> {
        first_entry(self)
    }
}

fn first_entry<T: Serialize>(settings: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut entry = Header { serial: Some(0), ..Header::at(Time::default()) }.line();
    serde_json::to_writer(&mut entry, settings)?;
    Ok(entry)
}

//! What the API itself answers, beside the answers of the projections.

use serde::{Deserialize, Serialize};

use crate::domain::legacy_signature::LegacySignature;
use crate::domain::time::Time;
use crate::ingest::http::LineVerdict;
use crate::projection::answers::AsOf;
use crate::projection::governance::{Rejected, Verdict};
use crate::sequencer::Outcome;

/// Everything that was handed in is recorded and counts.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct EventsReply {
    /// One an element, in their order.
    pub outcomes: Vec<Outcome>,
}

/// Metric lines are durable.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct MetricsReply {
    /// The ledger that has them; none where a broker assigns it.
    pub ledger: Option<String>,
    /// Lines read; blank ones are none.
    pub read: u64,
    /// Lines that count.
    pub admitted: u64,
    /// Lines that are kept and count for nothing.
    pub rejected: u64,
    /// One a line, by the rules of the moment.
    pub verdicts: Vec<LineVerdict>,
}

/// A command was decided in favour.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CommandReply {
    /// Its id: ask `/v1/commands/{id}` again at any time.
    pub command_id: String,
    /// Always `applied`.
    pub status: String,
    /// Its entry.
    pub position: u64,
    /// The waiver it made or decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<String>,
    /// The incident it opened or worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The policy proposal, maintenance window or key that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
}

impl CommandReply {
    pub(super) fn applied(command_id: String, position: u64) -> Self {
        Self { command_id, status: "applied".to_owned(), position, waiver: None, incident: None, made: None }
    }
}

/// It is on its way and was not applied in time.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PendingReply {
    /// The command's id; none for events.
    pub command_id: Option<String>,
    /// Always `pending`.
    pub status: String,
    /// What to do.
    pub detail: String,
}

/// Entries of one ledger.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EntriesAnswer {
    /// The ledger.
    pub ledger: String,
    /// Entries under its checkpoint.
    pub size: u64,
    /// Root at that size, base64.
    pub root: String,
    /// Those that were asked for, by position.
    pub entries: Vec<EntryRow>,
    /// Ask again with `after` set to this for more; none at the end.
    pub next: Option<u64>,
    /// The governance ledger at the time of the answer.
    pub as_of: AsOf,
}

/// An entry in a list.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EntryRow {
    /// Its position.
    pub position: u64,
    /// Its time.
    pub time: Time,
    /// Event type, where it can be read.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The stack, where it names one.
    pub stack: Option<String>,
    /// The engine, where it names one.
    pub engine_hash: Option<String>,
    /// Who did it, as claimed or authenticated.
    pub actor: Option<String>,
    /// What it counts for.
    pub verdict: Verdict,
}

/// One entry, whole.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EntryAnswer {
    /// The ledger.
    pub ledger: String,
    /// The row of the list.
    #[serde(flatten)]
    pub row: EntryRow,
    /// The header line: source, submitter.
    pub header: serde_json::Value,
    /// The received bytes, where they are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The received bytes, base64, where they are no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The whole entry, base64: what the leaf hash is over.
    pub entry_base64: String,
    /// Of an event of the legacy log, where the shared secret is configured: whether its signature holds. It decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_signature: Option<LegacySignature>,
    /// Leaf hash, base64.
    pub leaf_hash: String,
    /// Entries under the ledger's checkpoint.
    pub size: u64,
    /// Root at that size, base64.
    pub root: String,
    /// The governance ledger at the time of the answer.
    pub as_of: AsOf,
}

/// Refused entries of a metrics ledger.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(super) struct MetricsRejected {
    /// Rows.
    pub rejected: Vec<Rejected>,
    /// Ask again after this position for more.
    pub next: Option<u64>,
    /// The path that asks this again.
    pub asked: String,
    /// The governance ledger at the time of the answer.
    pub as_of: AsOf,
}

/// One governance entry of `/v1/stream`.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StreamEvent {
    /// The row of the list.
    #[serde(flatten)]
    pub row: EntryRow,
    /// The received bytes as text; bytes that are no text are replaced (the entry itself has them).
    pub body: String,
}

/// The process answers.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HealthAnswer {
    /// `ok`, or `writer_stopped`.
    pub status: String,
    /// `embedded`, `kafka`, or `shadow`: a shadow's cuts and alerts are its own, and it replicates nobody's ledger.
    pub mode: String,
}

/// Whether it can serve.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReadyAnswer {
    /// All of the following hold.
    pub ready: bool,
    /// What was found at start is folded.
    pub caught_up: bool,
    /// The writer runs.
    pub writer: bool,
    /// Partitions whose intake stopped, with the reason. They make nothing unready: answers about governance wait for nothing.
    pub stopped_intakes: std::collections::BTreeMap<String, String>,
    /// Servers whose last scrape does not count, as `stack URL` with the reason. They make nothing unready either.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub failing_scrapes: std::collections::BTreeMap<String, String>,
    /// Witnesses that hold another history than this ledger, or a longer one, with what they answered. Nor do they.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub witness_alarms: std::collections::BTreeMap<String, String>,
    /// Governance entries folded.
    pub size: u64,
    /// The last cut that names no partition missing.
    pub evaluated_through: Option<Time>,
}

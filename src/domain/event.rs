//! What can happen: the facts that the stack reports, what the service itself says, and what people ask for.
//!
//! In scope: the types that projections fold. Out of scope: their dialects on the wire ([`super::report`]), whether an entry
//! counts ([`super::command`] and the governance fold).

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::command::Command;
use super::cut::Cut;
use super::incident::{IncidentImpact, IncidentSnapshot};
use super::policy::{Policy, Rule, Severity};
use super::time::Time;

/// A JSON text kept as it was received. Equality is equality of meaning: key order and white space do not count.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The parsed value.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).unwrap_or_default()
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() || self.value() == other.value()
    }
}

impl Eq for Json {}

impl schemars::JsonSchema for Json {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "JSON as it was received" })
    }
}

/// An engine as an event names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EngineRef {
    /// The engine's hash: its identity.
    pub engine_hash: String,
    /// Its version, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One thing that happened to a stack or to the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An engine was published: it is current from here.
    EnginePublished {
        /// The engine.
        engine: EngineRef,
        /// Its manifest, where the report carries one.
        manifest: Option<Json>,
        /// Waivers that the publish names.
        waivers: Vec<String>,
    },
    /// A warm-up ended well.
    WarmupCompleted {
        /// The engine.
        engine: EngineRef,
        /// A rehearsal moves nothing.
        rehearsal: bool,
    },
    /// A warm-up failed.
    WarmupFailed {
        /// The engine.
        engine: EngineRef,
        /// A rehearsal moves nothing.
        rehearsal: bool,
        /// What went wrong, as reported.
        error: Option<String>,
    },
    /// The stack went back to another engine.
    RollbackCompleted {
        /// The engine that serves from here.
        restored: EngineRef,
        /// The engine that was left, where the report names it.
        replaced: Option<String>,
        /// The manifest that was restored, where the report names it.
        manifest: Option<Json>,
        /// Why, as reported.
        reason: Option<String>,
        /// The attempt that did it, where one was claimed.
        #[serde(default)]
        attempt: Option<u64>,
    },
    /// A backup was made.
    BackupRecorded(Backup),
    /// A backup was read again and compared.
    BackupVerified {
        /// Which.
        backup_id: String,
        /// Whether every hash held.
        ok: bool,
    },
    /// A backup was restored, each hash compared.
    BackupRestored {
        /// Which.
        backup_id: String,
    },
    /// An alert that the provider itself sent: a fact, no alert of ours.
    ProviderAlert {
        /// `queue_delay`, `token_budget`, `cost_budget` or another.
        reason: String,
        /// The reported value and its threshold, as text.
        measured: Option<String>,
    },
    /// A waiver in the legacy log: shown as reported, covers nothing.
    WaiverReported {
        /// The waiver's own id.
        waiver_id: String,
        /// Who is said to own it.
        owner: Option<String>,
        /// Why.
        justification: Option<String>,
        /// When it is said to end.
        expires: Option<Time>,
    },
    /// How many draft tokens an engine has accepted of a workload's.
    SpeculationCalibrated {
        /// The engine.
        engine: EngineRef,
        /// What was asked of it, such as `long-form`.
        workload: String,
        /// Draft tokens proposed.
        attempts: u64,
        /// Draft tokens accepted.
        accepts: u64,
    },
    /// A type that this version does not know: kept and shown.
    Other,
    /// The sizes of the metrics ledgers at an instant.
    Cut(Cut),
    /// An SLO alert of ours, firing or resolved.
    Alert(Box<Alert>),
    /// An engine has had its ninetieth latency verdict in a stint.
    EngineProven(EngineProven),
    /// A policy with a higher revision.
    PolicyRevised(Box<Policy>),
    /// A file got its number.
    FileRegistered(FileRegistered),
    /// A waiver reached its end.
    WaiverExpired {
        /// Which.
        waiver: String,
        /// Since when there is no cover.
        expired: Time,
    },
    /// What one cut brought under a waiver of cost.
    WaiverSpend(WaiverSpend),
    /// A waiver's cap is reached.
    WaiverExhausted(WaiverExhausted),
    /// A waiver nears its end or its cap.
    WaiverExpiring(WaiverExpiring),
    /// The figures that an incident found.
    IncidentSnapshot(Box<IncidentSnapshot>),
    /// What an episode of alerts cost.
    IncidentImpact(Box<IncidentImpact>),
    /// Something that somebody asked for.
    Command(Box<Command>),
}

/// What the records of one cut cost under a waiver of `cost_per_request`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiverSpend {
    /// The waiver.
    pub waiver: String,
    /// The cut.
    pub instant: Time,
    /// Covered requests above the threshold in force at this cut.
    pub requests_over: u64,
    /// Covered requests that carry no price, so that nobody knows whether they are above it.
    pub unpriced: u64,
    /// Sum of cost less threshold over the requests above it: what counts against the cap.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
    /// Sum of the cost of the same requests.
    #[schemars(with = "String")]
    pub gross_usd: Decimal,
    /// Only under a retroactive waiver, once: the sums are over the requests since then that no waiver had covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retroactive_from: Option<Time>,
}

/// A waiver's cap is reached: it covers nothing from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiverExhausted {
    /// The waiver.
    pub waiver: String,
    /// The cut at which the excess reached the cap; or, under a retroactive waiver, the first ten minutes of the past that
    /// would have gone beyond it.
    pub instant: Time,
    /// The whole excess by then.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
}

/// What a waiver nears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nearing {
    /// Its end, seven days ahead.
    Time,
    /// Its cap, four fifths of it spent.
    Cap,
}

/// A waiver nears its end or its cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiverExpiring {
    /// The waiver.
    pub waiver: String,
    /// The cut at which it was seen.
    pub instant: Time,
    /// What it nears.
    pub reason: Nearing,
    /// When it ends in any case.
    pub expires: Time,
    /// The excess so far.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
}

/// A backup as it was reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Backup {
    /// Its id.
    pub backup_id: String,
    /// What it holds.
    #[serde(default)]
    pub artifacts: Vec<String>,
    /// Digest over the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_hash: Option<String>,
    /// Where copies lie.
    #[serde(default)]
    pub replication_targets: Vec<String>,
    /// When it was taken, where the report says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Time>,
    /// SHA-256 of the manifest that lies in the targets, hex: it binds the files' names, which the digest over the set does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<String>,
    /// Bytes of all files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
}

/// Whether an alert fires or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// In breach for long enough.
    Firing,
    /// Over.
    Resolved,
}

/// The metrics entries that an alert was judged by: `from..to` of a ledger whose size and root the cut named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Evidence {
    /// `metrics-<n>`.
    pub ledger: String,
    /// First position.
    pub from: u64,
    /// One past the last position.
    pub to: u64,
    /// Size of the ledger at the cut.
    pub size: u64,
    /// Root at that size.
    #[serde(with = "super::cut::hash_text")]
    #[schemars(with = "String")]
    pub root: ledger::Hash,
}

/// An SLO alert, as the service says it. Anyone can recompute it from its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alert {
    /// Digest of rule, stack, engine and instant of firing: the same for firing and resolved.
    pub id: String,
    /// The rule.
    pub rule: Rule,
    /// The stack.
    pub stack: String,
    /// The engine.
    pub engine_hash: String,
    /// Whom it concerns.
    pub severity: Severity,
    /// Firing or resolved.
    pub state: AlertState,
    /// In breach since this cut.
    pub pending_since: Time,
    /// Firing since this cut.
    pub firing_since: Time,
    /// Over at this cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Time>,
    /// The measured value at firing, in the unit of the threshold.
    pub value: String,
    /// The threshold in force at that cut.
    pub threshold: String,
    /// Records that the value was taken over, and those of them in breach.
    pub samples: u64,
    /// How many of the samples were in breach.
    pub breaching: u64,
    /// Where the records lie.
    pub evidence: Vec<Evidence>,
    /// The waiver that covered it when it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<String>,
    /// Why it ended, where not by recovery: `no_longer_serving`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of `cost_per_request`: what the requests of the window cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<AlertCost>,
}

/// What the requests above the limit cost in the window of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AlertCost {
    /// Requests of the window without a price: no sum holds them, and nobody knows whether they are above the limit.
    pub unpriced: u64,
    /// Sum of cost less limit over the requests above it.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
    /// Sum of the cost of the same requests.
    #[schemars(with = "String")]
    pub gross_usd: Decimal,
    /// The window, in seconds.
    pub window_s: u32,
}

impl AlertCost {
    /// What an hour at the rate of this window costs beyond the limit, to a ten-thousandth of a cent.
    pub fn excess_usd_per_hour(&self) -> Decimal {
        let hours = Decimal::from(3_600).checked_div(Decimal::from(self.window_s)).unwrap_or(Decimal::ZERO);
        self.excess_usd.saturating_mul(hours).round_dp(6).normalize()
    }
}

/// An engine served well-observed for a quarter of an hour in one stint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EngineProven {
    /// The stack.
    pub stack: String,
    /// The engine.
    pub engine_hash: String,
    /// Position of the entry that began the stint.
    pub stint: u64,
    /// The cut of the ninetieth latency verdict.
    pub instant: Time,
}

/// A log file got its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FileRegistered {
    /// The number that leaves carry.
    pub file: u64,
    /// The ledger its lines go to.
    pub ledger: String,
    /// Its name when first seen.
    pub name: String,
    /// SHA-256 of its first line, hex: what makes it itself when renamed or rotated.
    pub first_line_sha256: String,
}

/// Who and what an admitted entry is about; what the timeline shows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct About {
    /// The event's type name, as on the wire.
    pub event_type: String,
    /// The stack, where there is one.
    pub stack: Option<String>,
    /// The engine, where there is one.
    pub engine_hash: Option<String>,
    /// Who did it, as claimed or authenticated.
    pub actor: Option<String>,
    /// When it happened by the sender's clock.
    pub occurred_at: Option<Time>,
}

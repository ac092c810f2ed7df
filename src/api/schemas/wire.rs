//! What producers send, as types for its schemas. The reading itself is `domain::report` and `domain::metric`, which take
//! more dialects than these describe; a test holds that what fits these is taken, and what is broken by these is refused.

#![expect(dead_code, reason = "the fields are read by the schema generator alone")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::event::Json;
use crate::domain::time::Time;

/// An engine was published: it is current from here.
#[derive(Deserialize, JsonSchema)]
pub(super) struct EnginePublished {
    /// The engine's hash: its identity.
    #[schemars(length(min = 1))]
    engine_hash: String,
    /// Its version.
    #[serde(default)]
    version: Option<String>,
    /// Its manifest, kept as it is.
    #[serde(default)]
    manifest: Option<Json>,
    /// Waivers that the publish relies on.
    #[serde(default)]
    waivers: Option<Vec<String>>,
}

/// A warm-up ended well.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WarmupCompleted {
    /// The engine.
    #[schemars(length(min = 1))]
    engine_hash: String,
    /// Its version.
    #[serde(default)]
    version: Option<String>,
    /// A rehearsal moves nothing.
    #[serde(default)]
    rehearsal: Option<bool>,
}

/// A warm-up failed.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WarmupFailed {
    /// The engine.
    #[schemars(length(min = 1))]
    engine_hash: String,
    /// Its version.
    #[serde(default)]
    version: Option<String>,
    /// A rehearsal moves nothing.
    #[serde(default)]
    rehearsal: Option<bool>,
    /// What went wrong.
    #[serde(default)]
    error: Option<Json>,
}

/// The stack went back to another engine.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RollbackCompleted {
    /// The engine that serves from here.
    restored: Artifact,
    /// The engine that was left; the current one where absent.
    #[serde(default)]
    from: Option<String>,
    /// The manifest that was restored.
    #[serde(default)]
    restored_manifest: Option<Json>,
    /// Why.
    #[serde(default)]
    reason: Option<Json>,
    /// The claimed rollback that this completes: `{"attempt": N}`, the entry of its claim.
    #[serde(default)]
    rollback: Option<Json>,
    /// `proven`: it was seen that the server holds the plan; `unproven`: nobody looked.
    #[serde(default)]
    served: Option<String>,
}

/// An artifact as events name it.
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
#[derive(Deserialize, JsonSchema)]
pub(super) struct Artifact {
    /// The stack.
    #[serde(default)]
    artifact_id: Option<String>,
    /// Version.
    #[serde(default)]
    version: Option<String>,
    /// The engine's hash.
    #[schemars(length(min = 1))]
    hash: String,
}

/// How many draft tokens an engine has accepted of a workload's.
#[derive(Deserialize, JsonSchema)]
pub(super) struct SpeculationCalibrated {
    /// The engine.
    #[schemars(length(min = 1))]
    engine_hash: String,
    /// What was asked of it, such as `long-form`.
    #[schemars(length(min = 1, max = 64))]
    workload: String,
    /// Draft tokens proposed.
    attempts: u64,
    /// Draft tokens accepted: not more than `attempts`.
    accepts: u64,
}

/// A look at a Triton server's own metrics, as the scraper records it.
#[derive(Deserialize, JsonSchema)]
pub(super) struct TritonScrape {
    /// Always `triton.scrape`.
    #[schemars(regex(pattern = r"^triton\.scrape$"))]
    event: String,
    /// The stack that the server serves.
    #[schemars(length(min = 1, max = 512))]
    stack: String,
    /// The server: its URL without user, password and query.
    #[schemars(length(min = 1, max = 512))]
    instance: String,
    /// When it was asked.
    #[serde(default)]
    scraped_at: Option<Time>,
    /// Bytes of the whole page.
    #[serde(default)]
    page_bytes: Option<u64>,
    /// SHA-256 of the whole page, hex.
    #[serde(default)]
    page_sha256: Option<String>,
    /// The page's lines of the metrics that are read, in Prometheus' text format, as they came.
    #[schemars(length(min = 1))]
    text: String,
}

/// A backup was read again and every hash held.
#[derive(Deserialize, JsonSchema)]
pub(super) struct BackupVerified {
    /// Which.
    backup_id: String,
}

/// A backup was restored and every hash held.
#[derive(Deserialize, JsonSchema)]
pub(super) struct BackupRestored {
    /// Which.
    backup_id: String,
}

/// A waiver in the stack's own log: shown as reported, covers nothing.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WaiverGranted {
    /// Its own id.
    waiver_id: String,
    /// Who is said to own it.
    #[serde(default)]
    owner: Option<String>,
    /// Why.
    #[serde(default)]
    justification: Option<String>,
    /// When it is said to end.
    #[serde(default)]
    expires_at: Option<Time>,
}

/// The stack's own log: one event a line.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LegacyEvent {
    /// The event's name.
    event_type: String,
    /// The governed stack and its engine.
    #[serde(default)]
    artifact: Option<LegacyArtifact>,
    /// Who did it.
    #[serde(default)]
    actor: Option<String>,
    /// What is particular to the event.
    #[serde(default)]
    payload: Option<BTreeMap<String, Json>>,
    /// When, by the sender's clock.
    #[serde(default)]
    timestamp: Option<Time>,
    /// Shared-secret hash: shown, decides nothing.
    #[serde(default)]
    signature: Option<String>,
}

/// Stack and engine in a legacy event.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LegacyArtifact {
    /// The stack.
    artifact_id: String,
    /// Version.
    #[serde(default)]
    version: Option<String>,
    /// The engine's hash.
    #[serde(default)]
    hash: Option<String>,
}

/// A signed submission around an event (DSSE v1, Ed25519).
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DsseEnvelope {
    /// Always `application/cloudevents+json`.
    #[schemars(extend("const" = "application/cloudevents+json"))]
    payload_type: String,
    /// The event, base64.
    payload: String,
    /// One or more.
    #[schemars(length(min = 1, max = 16))]
    signatures: Vec<DsseSignature>,
}

/// One signature over the pre-authentication encoding.
#[derive(Deserialize, JsonSchema)]
pub(super) struct DsseSignature {
    /// Which key.
    #[serde(default)]
    keyid: Option<String>,
    /// Ed25519, base64.
    sig: String,
}

/// The provider's log of one request.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ProviderLog {
    /// `llm.request`.
    #[serde(default)]
    #[schemars(extend("const" = "llm.request"))]
    event: Option<String>,
    /// `generate_json`, `rank_candidates`, `judge`.
    #[serde(default)]
    operation: Option<String>,
    /// The model's name.
    #[schemars(length(min = 1))]
    model: String,
    /// Joins the log to a published engine.
    #[schemars(length(min = 1))]
    engine_hash: String,
    /// Quantisation.
    #[serde(default)]
    quantisation: Option<String>,
    /// Output schema used by guided decoding.
    #[serde(default)]
    schema_id: Option<String>,
    /// Wall time, milliseconds.
    #[schemars(range(min = 0))]
    duration_ms: f64,
    /// Time in the queue, microseconds.
    #[serde(default)]
    queue_delay_us: Option<f64>,
    /// Prompt tokens.
    #[serde(default)]
    tokens_in: Option<f64>,
    /// Completion tokens.
    #[serde(default)]
    tokens_out: Option<f64>,
    /// KV blocks.
    #[serde(default)]
    kv_cache_reuse: Option<KvCacheReuse>,
    /// Draft tokens; empty where speculation is off.
    #[serde(default)]
    speculative: Option<Speculative>,
    /// Cost, USD.
    #[serde(default)]
    cost_usd: Option<f64>,
    /// Where the request failed.
    #[serde(default)]
    error_code: Option<String>,
    /// Absent where the stack did not report the measure.
    #[serde(default)]
    queue_delay_budget_overrun: Option<bool>,
    /// Absent where the stack did not report the measure.
    #[serde(default)]
    token_budget_overrun: Option<bool>,
    /// When.
    #[serde(default)]
    recorded_at: Option<Time>,
}

/// KV blocks of a request; either may be missing.
#[derive(Deserialize, JsonSchema)]
pub(super) struct KvCacheReuse {
    /// Reused.
    #[serde(default)]
    hits: Option<f64>,
    /// Computed anew.
    #[serde(default)]
    misses: Option<f64>,
}

/// Draft tokens of a request.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Speculative {
    /// Proposed.
    #[serde(default)]
    attempts: Option<f64>,
    /// Accepted.
    #[serde(default)]
    accepts: Option<f64>,
}

/// Triton's own figures of one request, wrapped by the caller.
#[derive(Deserialize, JsonSchema)]
pub(super) struct TritonPerf {
    /// Always `triton.perf`.
    #[schemars(extend("const" = "triton.perf"))]
    event: String,
    /// The model's name.
    #[schemars(length(min = 1))]
    model: String,
    /// The engine.
    #[schemars(length(min = 1))]
    engine_hash: String,
    /// Wall time, milliseconds.
    #[schemars(range(min = 0))]
    duration_ms: f64,
    /// In either dialect: inflight batcher (numbers) or LLM API (texts).
    perf: BTreeMap<String, Json>,
}

//! From an event type and its payload to an [`Event`].
//!
//! The payloads of the stack are read leniently: what names the engine, the manifest or what was restored sits in several
//! places, and extra fields are the producer's own business. What the service says itself is read strictly.

#![expect(clippy::wildcard_enum_match_arm, reason = "what an event is about is read from the few that say so")]

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::command::{self, Command};
use crate::domain::event::{About, Backup, EngineRef, Event, Json};
use crate::domain::refusal::{Code, Refusal, quoted};

/// The `artifact` object of legacy events and of rollback payloads.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
pub(super) struct Artifact {
    #[serde(default)]
    pub(super) artifact_id: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    hash: Option<String>,
}

/// What the surroundings of a payload say.
pub(super) struct Sender {
    pub(super) stack: Option<String>,
    pub(super) artifact: Option<Artifact>,
    pub(super) actor: Option<String>,
    pub(super) enveloped: bool,
}

/// What the service itself says, beside the commands that it vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SayingKind {
    /// A cut.
    Cut,
    /// An alert, firing or resolved.
    Alert,
    /// An engine proven.
    EngineProven,
    /// A policy with a higher revision.
    PolicyRevised,
    /// A file numbered.
    FileRegistered,
    /// A waiver at its end.
    WaiverExpired,
    /// What a cut brought under a waiver.
    WaiverSpend,
    /// A waiver at its cap.
    WaiverExhausted,
    /// A waiver near its end or its cap.
    WaiverExpiring,
    /// The figures that an incident found.
    IncidentSnapshot,
    /// What an episode of alerts cost.
    IncidentImpact,
}

impl SayingKind {
    /// Every kind.
    const ALL: [Self; 11] = [
        Self::Cut,
        Self::Alert,
        Self::EngineProven,
        Self::PolicyRevised,
        Self::FileRegistered,
        Self::WaiverExpired,
        Self::WaiverSpend,
        Self::WaiverExhausted,
        Self::WaiverExpiring,
        Self::IncidentSnapshot,
        Self::IncidentImpact,
    ];
}

/// Whether the service says events of this type itself.
pub fn is_saying(event_type: &str) -> bool {
    SayingKind::ALL.into_iter().any(|kind| saying_type(kind) == event_type)
}

/// The event type of a saying.
pub const fn saying_type(kind: SayingKind) -> &'static str {
    match kind {
        SayingKind::Cut => "ledger_cut",
        SayingKind::Alert => "llm_observability_alert",
        SayingKind::EngineProven => "llm_engine_proven",
        SayingKind::PolicyRevised => "ledger_policy_revised",
        SayingKind::FileRegistered => "ledger_file_registered",
        SayingKind::WaiverExpired => "llm_waiver_expired",
        SayingKind::WaiverSpend => "llm_waiver_spend",
        SayingKind::WaiverExhausted => "llm_waiver_exhausted",
        SayingKind::WaiverExpiring => "llm_waiver_expiring",
        SayingKind::IncidentSnapshot => "llm_incident_snapshot",
        SayingKind::IncidentImpact => "llm_incident_impact",
    }
}

/// The fields that payloads of the stack hold, each optional.
#[derive(Deserialize, Default)]
struct Fields<'a> {
    #[serde(default)]
    engine_hash: Option<String>,
    #[serde(default)]
    engine_version: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    artifact: Option<Artifact>,
    #[serde(borrow, default)]
    manifest: Option<&'a RawValue>,
    #[serde(borrow, default)]
    snapshot: Option<&'a RawValue>,
    #[serde(default)]
    waivers: Option<Vec<String>>,
    #[serde(default)]
    rehearsal: Option<bool>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    restored: Option<&'a RawValue>,
    #[serde(borrow, default)]
    restored_manifest: Option<&'a RawValue>,
    #[serde(borrow, default)]
    from: Option<&'a RawValue>,
    #[serde(borrow, default)]
    replaced: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rollback: Option<&'a RawValue>,
}

/// Which claimed rollback a report completes.
#[derive(Deserialize)]
struct Attempt {
    attempt: u64,
}

#[derive(Deserialize, Default)]
struct ManifestFields {
    #[serde(default)]
    engine_hash: Option<String>,
    #[serde(default)]
    engine_version: Option<String>,
}

/// The longest name of a workload, as in the policy.
const WORKLOAD_BYTES_MAX: usize = 64;

type Read = (Event, About, bool);

/// Reads `data` as the payload of `event_type`. The flag says whether it has effect only under a node key.
pub(super) fn read(event_type: &str, data: &str, sender: Sender) -> Result<Read, Refusal> {
    let about = About {
        event_type: event_type.to_owned(),
        stack: sender.stack.clone(),
        actor: sender.actor.clone(),
        ..About::default()
    };
    if command::is_command(event_type) {
        return if sender.enveloped { command(event_type, data, about) } else { Err(envelope_required(event_type)) };
    }
    if let Some(saying) = saying(event_type, data, &sender, &about)? {
        return Ok(saying);
    }
    if !data.trim_start().starts_with('{') {
        return Err(Refusal::new(
            Code::WrongType,
            "data".to_owned(),
            format!("the payload is not an object: {:?}", quoted(data)),
        ));
    }
    match event_type {
        "llm_engine_published" | "llm_warmup_completed" | "llm_warmup_failed" | "llm_rollback_completed" => {
            lifecycle(event_type, data, sender, about)
        }
        "llm_backup_recorded" | "llm_backup_verified" | "llm_backup_failed" | "llm_backup_restored" => {
            backup(event_type, data, sender, about)
        }
        "llm_speculation_calibrated" => calibrated(data, sender, about),
        "llm_observability_alert" => provider_alert(data, sender, about),
        "waiver_granted" => reported_waiver(data, about),
        _ => {
            let fields: Fields<'_> = serde_json::from_str(data).unwrap_or_default();
            let engine_hash = sender.artifact.and_then(|artifact| artifact.hash).or(fields.engine_hash);
            let actor = about.actor.clone().or(fields.actor);
            Ok((Event::Other, About { engine_hash, actor, ..about }, false))
        }
    }
}

fn envelope_required(event_type: &str) -> Refusal {
    Refusal::new(
        Code::EnvelopeRequired,
        "type".to_owned(),
        format!(
            "{event_type:?} has effect only in an envelope signed by an enrolled node key; ask for it through the API"
        ),
    )
}

fn typed<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(data).map_err(|error| Refusal::from_json(&error, data))
}

fn command(event_type: &str, data: &str, about: About) -> Result<Read, Refusal> {
    let command = Command::read(event_type, data)?;
    let about = About {
        stack: command.request.stack().map(str::to_owned),
        engine_hash: command.request.engine_hash().map(str::to_owned),
        actor: Some(command.principal.clone()),
        ..about
    };
    Ok((Event::Command(Box::new(command)), about, true))
}

/// What the service says itself. A provider's alert shares its type name with ours; only the envelope tells them apart.
fn saying(event_type: &str, data: &str, sender: &Sender, about: &About) -> Result<Option<Read>, Refusal> {
    let of = |kind| saying_type(kind) == event_type;
    if of(SayingKind::Alert) && !sender.enveloped {
        return Ok(None);
    }
    let about = about.clone();
    let event = if of(SayingKind::Cut) {
        Event::Cut(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::Alert) {
        Event::Alert(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::EngineProven) {
        Event::EngineProven(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::PolicyRevised) {
        Event::PolicyRevised(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::FileRegistered) {
        Event::FileRegistered(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::WaiverExpired) {
        let expired: WaiverExpired = typed_if(sender, event_type, data)?;
        Event::WaiverExpired { waiver: expired.waiver, expired: expired.expired }
    } else if of(SayingKind::WaiverSpend) {
        Event::WaiverSpend(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::WaiverExhausted) {
        Event::WaiverExhausted(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::WaiverExpiring) {
        Event::WaiverExpiring(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::IncidentSnapshot) {
        Event::IncidentSnapshot(typed_if(sender, event_type, data)?)
    } else if of(SayingKind::IncidentImpact) {
        Event::IncidentImpact(typed_if(sender, event_type, data)?)
    } else {
        return Ok(None);
    };
    let about = match &event {
        Event::Alert(alert) => {
            About { stack: Some(alert.stack.clone()), engine_hash: Some(alert.engine_hash.clone()), ..about }
        }
        Event::EngineProven(proven) => {
            About { stack: Some(proven.stack.clone()), engine_hash: Some(proven.engine_hash.clone()), ..about }
        }
        Event::IncidentSnapshot(snapshot) => About { stack: Some(snapshot.stack.clone()), ..about },
        Event::IncidentImpact(impact) => {
            About { stack: Some(impact.stack.clone()), engine_hash: Some(impact.totals.engine_hash.clone()), ..about }
        }
        _ => about,
    };
    Ok(Some((event, about, true)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaiverExpired {
    waiver: String,
    expired: crate::domain::time::Time,
}

fn typed_if<'a, T: Deserialize<'a>>(sender: &Sender, event_type: &str, data: &'a str) -> Result<T, Refusal> {
    if sender.enveloped { typed(data) } else { Err(envelope_required(event_type)) }
}

/// Published, warmed up, rolled back.
fn lifecycle(event_type: &str, data: &str, sender: Sender, about: About) -> Result<Read, Refusal> {
    let fields: Fields<'_> = typed(data)?;
    let stack = sender
        .stack
        .filter(|stack| !stack.is_empty())
        .or_else(|| fields.artifact.as_ref().map(|artifact| artifact.artifact_id.clone()))
        .filter(|stack| !stack.is_empty())
        .ok_or_else(|| Refusal::missing(if sender.artifact.is_some() { "artifact.artifact_id" } else { "subject" }))?;
    let actor = about.actor.clone().or_else(|| fields.actor.clone());
    let artifact = sender.artifact.or_else(|| fields.artifact.clone());
    let reason = fields.reason.map(plain);
    let event = if event_type == "llm_rollback_completed" {
        rollback(&fields, artifact, reason)?
    } else {
        let manifest_fields: ManifestFields =
            fields.manifest.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let engine = engine(&fields, artifact, manifest_fields)?;
        let rehearsal = fields.rehearsal.unwrap_or(false);
        match event_type {
            "llm_warmup_completed" => Event::WarmupCompleted { engine, rehearsal },
            "llm_warmup_failed" => Event::WarmupFailed { engine, rehearsal, error: fields.error.map(plain).or(reason) },
            _ => Event::EnginePublished {
                engine,
                manifest: manifest(&fields, data),
                waivers: fields.waivers.clone().unwrap_or_default(),
            },
        }
    };
    let engine_hash = match &event {
        Event::RollbackCompleted { restored, .. } => Some(restored.engine_hash.clone()),
        Event::WarmupCompleted { engine, .. }
        | Event::WarmupFailed { engine, .. }
        | Event::EnginePublished { engine, .. } => Some(engine.engine_hash.clone()),
        _ => None,
    };
    Ok((event, About { stack: Some(stack), engine_hash, actor, ..about }, false))
}

/// A calibration of speculation. Read strictly where it counts: a gate may open by it.
fn calibrated(data: &str, sender: Sender, about: About) -> Result<Read, Refusal> {
    #[derive(Deserialize)]
    struct Calibration {
        workload: String,
        attempts: u64,
        accepts: u64,
    }
    let fields: Fields<'_> = typed(data)?;
    let seen: Calibration = typed(data)?;
    let stack = sender.stack.filter(|stack| !stack.is_empty());
    let stack = stack
        .ok_or_else(|| Refusal::missing(if sender.artifact.is_some() { "artifact.artifact_id" } else { "subject" }))?;
    let actor = about.actor.clone().or_else(|| fields.actor.clone());
    let engine = engine(&fields, sender.artifact.or_else(|| fields.artifact.clone()), ManifestFields::default())?;
    if seen.accepts > seen.attempts {
        let detail = format!("field `accepts` is {}, more than the {} of `attempts`", seen.accepts, seen.attempts);
        return Err(Refusal::new(Code::OutOfRange, "accepts".to_owned(), detail));
    }
    if seen.workload.is_empty() || seen.workload.len() > WORKLOAD_BYTES_MAX {
        let detail = format!("field `workload` is {:?}: a name has from 1 to 64 bytes", quoted(&seen.workload));
        return Err(Refusal::new(Code::OutOfRange, "workload".to_owned(), detail));
    }
    let engine_hash = Some(engine.engine_hash.clone());
    let event = Event::SpeculationCalibrated {
        engine,
        workload: seen.workload,
        attempts: seen.attempts,
        accepts: seen.accepts,
    };
    Ok((event, About { stack: Some(stack), engine_hash, actor, ..about }, false))
}

/// The engine: in the legacy artifact, in the payload, or in its manifest.
fn engine(fields: &Fields<'_>, artifact: Option<Artifact>, manifest: ManifestFields) -> Result<EngineRef, Refusal> {
    let (artifact_hash, artifact_version) = artifact.map_or((None, None), |artifact| (artifact.hash, artifact.version));
    let engine_hash = artifact_hash
        .or_else(|| fields.engine_hash.clone())
        .or(manifest.engine_hash)
        .filter(|hash| !hash.is_empty())
        .ok_or_else(|| Refusal::missing("engine_hash"))?;
    let version = artifact_version
        .or_else(|| fields.version.clone())
        .or_else(|| fields.engine_version.clone())
        .or(manifest.engine_version);
    Ok(EngineRef { engine_hash, version })
}

/// The manifest: under `manifest`, or the payload itself where it has a manifest's fields.
fn manifest(fields: &Fields<'_>, data: &str) -> Option<Json> {
    fields.manifest.map(Json::from).or_else(|| {
        let whole = fields.snapshot.is_some() || (fields.engine_hash.is_some() && fields.engine_version.is_some());
        whole.then(|| serde_json::from_str::<&RawValue>(data).ok().map(Json::from)).flatten()
    })
}

/// What was restored: `restored`, `restored_manifest`, or only the event's artifact.
fn rollback(fields: &Fields<'_>, artifact: Option<Artifact>, reason: Option<String>) -> Result<Event, Refusal> {
    let named = fields.restored.map(|raw| named_engine("restored", raw)).transpose()?.flatten();
    let manifest_fields: ManifestFields =
        fields.restored_manifest.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let restored = match (named, manifest_fields.engine_hash) {
        (Some(engine), _) => engine,
        (None, Some(engine_hash)) => EngineRef { engine_hash, version: manifest_fields.engine_version },
        (None, None) => engine(fields, artifact, ManifestFields::default())?,
    };
    let replaced = fields
        .from
        .or(fields.replaced)
        .map(|raw| named_engine("from", raw))
        .transpose()?
        .flatten()
        .map(|engine| engine.engine_hash);
    // Other producers may have a field of this name with a meaning of their own.
    let attempt = fields.rollback.and_then(|raw| serde_json::from_str::<Attempt>(raw.get()).ok());
    let attempt = attempt.map(|attempt| attempt.attempt);
    Ok(Event::RollbackCompleted {
        restored,
        replaced,
        manifest: fields.restored_manifest.map(Json::from),
        reason,
        attempt,
    })
}

/// An engine named by an artifact object or by its hash alone.
fn named_engine(field: &str, raw: &RawValue) -> Result<Option<EngineRef>, Refusal> {
    if let Ok(hash) = serde_json::from_str::<String>(raw.get()) {
        return Ok(Some(EngineRef { engine_hash: hash, version: None }));
    }
    let artifact: Option<Artifact> = serde_json::from_str(raw.get()).map_err(|_discarded| {
        Refusal::new(
            Code::WrongType,
            field.to_owned(),
            format!("field `{field}` is neither an artifact nor a hash: {}", quoted(raw.get())),
        )
    })?;
    Ok(artifact
        .and_then(|artifact| artifact.hash.map(|engine_hash| EngineRef { engine_hash, version: artifact.version })))
}

/// A JSON text as a person would read it: a string without its quotes, anything else as it is.
fn plain(raw: &RawValue) -> String {
    serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

fn backup(event_type: &str, data: &str, sender: Sender, about: About) -> Result<Read, Refusal> {
    let fields: Fields<'_> = typed(data)?;
    let engine_hash = sender.artifact.and_then(|artifact| artifact.hash).or(fields.engine_hash);
    let actor = about.actor.clone().or(fields.actor);
    let event = if event_type == "llm_backup_recorded" {
        Event::BackupRecorded(typed::<Backup>(data)?)
    } else {
        #[derive(Deserialize)]
        struct Named {
            backup_id: String,
        }
        let backup_id = typed::<Named>(data)?.backup_id;
        match event_type {
            "llm_backup_restored" => Event::BackupRestored { backup_id },
            _ => Event::BackupVerified { backup_id, ok: event_type == "llm_backup_verified" },
        }
    };
    Ok((event, About { engine_hash, actor, ..about }, false))
}

#[derive(Deserialize)]
struct ProviderAlert<'a> {
    reason: String,
    #[serde(borrow, default)]
    queue_delay_us: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tokens_total: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cost_usd: Option<&'a RawValue>,
    #[serde(borrow, default)]
    threshold: Option<&'a RawValue>,
    #[serde(borrow, default)]
    budget_usd: Option<&'a RawValue>,
}

fn provider_alert(data: &str, sender: Sender, about: About) -> Result<Read, Refusal> {
    let alert: ProviderAlert<'_> = typed(data)?;
    let value = alert.queue_delay_us.or(alert.tokens_total).or(alert.cost_usd);
    let limit = alert.threshold.or(alert.budget_usd);
    let measured = value.map(|value| {
        limit.map_or_else(|| plain(value), |limit| format!("{} (threshold {})", plain(value), plain(limit)))
    });
    let engine_hash = sender.artifact.and_then(|artifact| artifact.hash);
    Ok((Event::ProviderAlert { reason: alert.reason, measured }, About { engine_hash, ..about }, false))
}

#[derive(Deserialize)]
struct ReportedWaiver {
    waiver_id: String,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    justification: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
}

fn reported_waiver(data: &str, about: About) -> Result<Read, Refusal> {
    let waiver: ReportedWaiver = typed(data)?;
    let expires = waiver.expires_at.as_deref().map(|text| super::timestamp("expires_at", text)).transpose()?;
    let event = Event::WaiverReported {
        waiver_id: waiver.waiver_id,
        owner: waiver.owner,
        justification: waiver.justification,
        expires,
    };
    Ok((event, about, false))
}

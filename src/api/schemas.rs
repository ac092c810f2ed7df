//! JSON Schemas, generated from the types: each event that can arrive, each that the service says, each request and answer.
//!
//! An event's schema is the form in which new producers should send it, a `CloudEvent`; what the stack already emits is
//! `legacy-event.json` and `provider-log.json`. The parser takes more than the schemas ask for (fields in older places).

mod wire;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::access::AccessAnswer;
use super::commands::{AdoptBody, DecisionBody, JudgementBody, LimitBody};
use super::files::BackfillFile;
use super::govern::{ConfirmBody, PolicyBody, PolicyDecisionBody, ReasonBody};
use super::incidents::{ActionItemBody, AssignBody, NoteBody, ProgressBody, ReportBody, TextBody};
use super::people::{PrincipalsAnswer, TokenBody};
use super::problem::ProblemDetails;
use super::types::{
    CommandReply, EntriesAnswer, EntryAnswer, EventsReply, HealthAnswer, MetricsRejected, MetricsReply, PendingReply,
    ReadyAnswer, StreamEvent,
};
use crate::domain::command::{
    Command, HoleConfirm, IncidentOpen, IssuerDistrust, IssuerTrust, KeyEnroll, MaintenanceWindow, NodeEnroll,
    PrincipalEnroll, WaiverScope,
};
use crate::domain::cut::Cut;
use crate::domain::event::{Alert, Backup, EngineProven, FileRegistered, WaiverExhausted, WaiverExpiring, WaiverSpend};
use crate::domain::incident::{IncidentImpact, IncidentSnapshot};
use crate::domain::policy::Policy;
use crate::domain::rollback::RollbackWork;
use crate::domain::settings::{MetricsSettings, Settings};
use crate::identity::trail::{AccessEvent, AccessSettings};
use crate::ingest::file::Report;
use crate::notify::DeliveriesAnswer;
use crate::projection::answers as a;
use crate::projection::what_if::DryRunAnswer;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _reference = generator.subschema_for::<T>();
}

/// Definitions of everything that the API takes and gives, by type name.
pub(super) fn api_definitions() -> Map<String, Value> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    answers(&mut generator);
    requests(&mut generator);
    generator.take_definitions(true)
}

fn answers(generator: &mut SchemaGenerator) {
    add::<a::StacksAnswer>(generator);
    add::<a::StackAnswer>(generator);
    add::<a::ManifestAnswer>(generator);
    add::<a::LastGoodAnswer>(generator);
    add::<a::TrafficAnswer>(generator);
    add::<a::TimelineAnswer>(generator);
    add::<a::RollbackAnswer>(generator);
    add::<a::SloAnswer>(generator);
    add::<a::CapacityAnswer>(generator);
    add::<a::NowAnswer>(generator);
    add::<a::AlertsAnswer>(generator);
    add::<a::WaiversAnswer>(generator);
    add::<a::WaiverAnswer>(generator);
    add::<a::IncidentsAnswer>(generator);
    add::<a::IncidentAnswer>(generator);
    add::<a::IncidentReportAnswer>(generator);
    add::<a::BackupsAnswer>(generator);
    add::<a::PolicyAnswer>(generator);
    add::<a::ProposalAnswer>(generator);
    add::<a::MaintenanceAnswer>(generator);
    add::<a::KeysAnswer>(generator);
    add::<DryRunAnswer>(generator);
    add::<a::CommandAnswer>(generator);
    add::<a::RejectedAnswer>(generator);
    add::<EntriesAnswer>(generator);
    add::<EntryAnswer>(generator);
    add::<MetricsRejected>(generator);
    add::<StreamEvent>(generator);
    add::<DeliveriesAnswer>(generator);
    add::<PrincipalsAnswer>(generator);
    add::<AccessAnswer>(generator);
    add::<EventsReply>(generator);
    add::<MetricsReply>(generator);
    add::<Report>(generator);
    add::<CommandReply>(generator);
    add::<PendingReply>(generator);
    add::<HealthAnswer>(generator);
    add::<ReadyAnswer>(generator);
    add::<ProblemDetails>(generator);
}

fn requests(generator: &mut SchemaGenerator) {
    add::<WaiverScope>(generator);
    add::<DecisionBody>(generator);
    add::<IncidentOpen>(generator);
    add::<RollbackWork>(generator);
    add::<NoteBody>(generator);
    add::<TextBody>(generator);
    add::<AssignBody>(generator);
    add::<ProgressBody>(generator);
    add::<ActionItemBody>(generator);
    add::<ReportBody>(generator);
    add::<JudgementBody>(generator);
    add::<AdoptBody>(generator);
    add::<PrincipalEnroll>(generator);
    add::<TokenBody>(generator);
    add::<IssuerTrust>(generator);
    add::<IssuerDistrust>(generator);
    add::<LimitBody>(generator);
    add::<HoleConfirm>(generator);
    add::<PolicyBody>(generator);
    add::<PolicyDecisionBody>(generator);
    add::<MaintenanceWindow>(generator);
    add::<ReasonBody>(generator);
    add::<KeyEnroll>(generator);
    add::<NodeEnroll>(generator);
    add::<ConfirmBody>(generator);
    add::<BackfillFile>(generator);
}

/// A schema that stands alone.
fn whole<T: JsonSchema>() -> Value {
    let schema: Schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    schema.to_value()
}

/// An answer's schema: the type's, with what every answer carries besides.
fn answer<T: JsonSchema>() -> Value {
    let mut schema = whole::<T>();
    let as_of = whole::<a::AsOf>();
    let Some(object) = schema.as_object_mut() else { return schema };
    if let Some(properties) = object.entry("properties").or_insert_with(|| json!({})).as_object_mut() {
        properties
            .insert("asked".to_owned(), json!({ "type": "string", "description": "The path that asks this again" }));
        let mut as_of = as_of;
        if let Some(inner) = as_of.as_object_mut() {
            inner.remove("$schema");
            inner.remove("title");
        }
        properties.insert("as_of".to_owned(), as_of);
        properties
            .entry("evaluated_through")
            .or_insert_with(|| json!({ "type": ["string", "null"], "format": "date-time", "description": "Last cut that names no missing partition" }));
    }
    if let Some(required) = object.entry("required").or_insert_with(|| json!([])).as_array_mut() {
        required.extend(["asked", "as_of"].map(Value::from));
    }
    schema
}

/// A `CloudEvent` of `event_type` about a stack, with `T` as its data.
fn event<T: JsonSchema>(event_type: &str) -> Value {
    let mut data = whole::<T>();
    let mut definitions = Value::Null;
    let mut description = Value::Null;
    if let Some(object) = data.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        definitions = object.remove("$defs").unwrap_or_default();
        description = object.get("description").cloned().unwrap_or_default();
    }
    let mut schema = json!({
        "$schema": DIALECT,
        "title": event_type,
        "description": description,
        "type": "object",
        "properties": {
            "specversion": { "const": "1.0" },
            "id": { "type": "string", "minLength": 1, "description": "With the source, what makes the event itself" },
            "source": { "type": "string", "minLength": 1 },
            "type": { "const": event_type },
            "subject": { "type": "string", "minLength": 1, "description": "The stack" },
            "time": { "type": "string", "format": "date-time" },
            "datacontenttype": { "const": "application/json" },
            "data": data
        },
        "required": ["specversion", "id", "source", "type", "subject", "data"]
    });
    if !definitions.is_null() {
        schema["$defs"] = definitions;
    }
    schema
}

/// What is sent with a command.
fn request_files() -> Vec<(&'static str, Value)> {
    vec![
        ("request-waiver.json", whole::<WaiverScope>()),
        ("request-decision.json", whole::<DecisionBody>()),
        ("request-incident.json", whole::<IncidentOpen>()),
        ("request-rollback.json", whole::<RollbackWork>()),
        ("request-note.json", whole::<NoteBody>()),
        ("request-text.json", whole::<TextBody>()),
        ("request-assign.json", whole::<AssignBody>()),
        ("request-status.json", whole::<ProgressBody>()),
        ("request-action-item.json", whole::<ActionItemBody>()),
        ("request-report.json", whole::<ReportBody>()),
        ("request-judgement.json", whole::<JudgementBody>()),
        ("request-adopt.json", whole::<AdoptBody>()),
        ("request-principal.json", whole::<PrincipalEnroll>()),
        ("request-token.json", whole::<TokenBody>()),
        ("request-issuer.json", whole::<IssuerTrust>()),
        ("request-distrust.json", whole::<IssuerDistrust>()),
        ("request-limit.json", whole::<LimitBody>()),
        ("request-hole.json", whole::<HoleConfirm>()),
    ]
}

/// What is asked and answered about policies, maintenance windows and keys.
fn governing() -> [(&'static str, Value); 12] {
    [
        ("request-policy.json", whole::<PolicyBody>()),
        ("request-policy-decision.json", whole::<PolicyDecisionBody>()),
        ("request-maintenance.json", whole::<MaintenanceWindow>()),
        ("request-reason.json", whole::<ReasonBody>()),
        ("request-key.json", whole::<KeyEnroll>()),
        ("request-node.json", whole::<NodeEnroll>()),
        ("request-key-confirm.json", whole::<ConfirmBody>()),
        ("answer-policy.json", answer::<a::PolicyAnswer>()),
        ("answer-policy-proposal.json", answer::<a::ProposalAnswer>()),
        ("answer-policy-dry-run.json", whole::<DryRunAnswer>()),
        ("answer-maintenance.json", answer::<a::MaintenanceAnswer>()),
        ("answer-keys.json", answer::<a::KeysAnswer>()),
    ]
}

/// Every schema with its file name, in the order of the names.
pub fn schemas() -> Vec<(String, Value)> {
    let mut all = vec![
        ("event-llm_engine_published.json", event::<wire::EnginePublished>("llm_engine_published")),
        ("event-llm_warmup_completed.json", event::<wire::WarmupCompleted>("llm_warmup_completed")),
        ("event-llm_warmup_failed.json", event::<wire::WarmupFailed>("llm_warmup_failed")),
        ("event-llm_rollback_completed.json", event::<wire::RollbackCompleted>("llm_rollback_completed")),
        ("event-llm_backup_recorded.json", event::<Backup>("llm_backup_recorded")),
        ("event-llm_backup_restored.json", event::<wire::BackupRestored>("llm_backup_restored")),
        ("event-llm_backup_verified.json", event::<wire::BackupVerified>("llm_backup_verified")),
        ("event-llm_speculation_calibrated.json", event::<wire::SpeculationCalibrated>("llm_speculation_calibrated")),
        ("event-waiver_granted.json", event::<wire::WaiverGranted>("waiver_granted")),
        ("legacy-event.json", whole::<wire::LegacyEvent>()),
        ("dsse-envelope.json", whole::<wire::DsseEnvelope>()),
        ("provider-log.json", whole::<wire::ProviderLog>()),
        ("triton-perf.json", whole::<wire::TritonPerf>()),
        ("triton-scrape.json", whole::<wire::TritonScrape>()),
        ("saying-cut.json", whole::<Cut>()),
        ("saying-alert.json", whole::<Alert>()),
        ("saying-engine-proven.json", whole::<EngineProven>()),
        ("saying-policy-revised.json", whole::<Policy>()),
        ("saying-file-registered.json", whole::<FileRegistered>()),
        ("saying-waiver-spend.json", whole::<WaiverSpend>()),
        ("saying-waiver-exhausted.json", whole::<WaiverExhausted>()),
        ("saying-waiver-expiring.json", whole::<WaiverExpiring>()),
        ("saying-incident-snapshot.json", whole::<IncidentSnapshot>()),
        ("saying-incident-impact.json", whole::<IncidentImpact>()),
        ("command.json", whole::<Command>()),
        ("settings-governance.json", whole::<Settings>()),
        ("settings-metrics.json", whole::<MetricsSettings>()),
        ("answer-stacks.json", answer::<a::StacksAnswer>()),
        ("answer-stack.json", answer::<a::StackAnswer>()),
        ("answer-manifest.json", answer::<a::ManifestAnswer>()),
        ("answer-last-good.json", answer::<a::LastGoodAnswer>()),
        ("answer-traffic.json", answer::<a::TrafficAnswer>()),
        ("answer-timeline.json", answer::<a::TimelineAnswer>()),
        ("answer-rollback.json", answer::<a::RollbackAnswer>()),
        ("answer-slo.json", answer::<a::SloAnswer>()),
        ("answer-capacity.json", answer::<a::CapacityAnswer>()),
        ("answer-now.json", answer::<a::NowAnswer>()),
        ("answer-alerts.json", answer::<a::AlertsAnswer>()),
        ("answer-waivers.json", answer::<a::WaiversAnswer>()),
        ("answer-waiver.json", answer::<a::WaiverAnswer>()),
        ("answer-incidents.json", answer::<a::IncidentsAnswer>()),
        ("answer-incident.json", answer::<a::IncidentAnswer>()),
        ("answer-incident-report.json", answer::<a::IncidentReportAnswer>()),
        ("answer-backups.json", answer::<a::BackupsAnswer>()),
        ("answer-command.json", answer::<a::CommandAnswer>()),
        ("answer-rejected.json", answer::<a::RejectedAnswer>()),
        ("answer-deliveries.json", whole::<DeliveriesAnswer>()),
        ("answer-access.json", whole::<AccessAnswer>()),
        ("access-event.json", whole::<AccessEvent>()),
        ("settings-access.json", whole::<AccessSettings>()),
        ("answer-principals.json", whole::<PrincipalsAnswer>()),
        ("answer-entries.json", whole::<EntriesAnswer>()),
        ("answer-entry.json", whole::<EntryAnswer>()),
        ("answer-events.json", whole::<EventsReply>()),
        ("answer-metrics.json", whole::<MetricsReply>()),
        ("answer-ingest.json", whole::<Report>()),
        ("answer-applied.json", whole::<CommandReply>()),
        ("answer-pending.json", whole::<PendingReply>()),
        ("answer-problem.json", whole::<ProblemDetails>()),
        ("stream-event.json", whole::<StreamEvent>()),
    ];
    all.extend(request_files());
    all.extend(governing());
    all.sort_by_key(|(name, _)| *name);
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

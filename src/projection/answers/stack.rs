//! Answers about one stack: what serves, what is safe, whether traffic may flow, what happened.

use serde::{Deserialize, Serialize};

use super::{AnswerError, View};
use crate::domain::event::Json;
use crate::domain::time::Time;
use crate::projection::alerts::RecordedAlert;
use crate::projection::gates;
use crate::projection::last_good::{self, Confidence, PassedOver, Question};
use crate::projection::stacks::{Gate, Stack};
use crate::projection::timeline::Item;

/// Minutes before an incident that its timeline begins.
const INCIDENT_LEAD_MINUTES: i64 = 30;
/// Hours of changes that the one-screen answer shows.
const NOW_HOURS: i64 = 2;
/// Seconds that a strict answer may be behind.
const STRICT_SECONDS: i64 = 60;

/// All stacks.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StacksAnswer {
    /// By name.
    pub stacks: Vec<StackRow>,
}

/// One stack in a list.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StackRow {
    /// Its name.
    pub stack: String,
    /// Current engine.
    pub engine_hash: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Current since.
    pub since: Option<Time>,
    /// Whether the gate is open; none where the stack is unknown to the ledger.
    pub traffic_open: Option<bool>,
    /// Alerts firing.
    pub firing: usize,
    /// The open incident, if any.
    pub incident: Option<String>,
}

/// One stack in short.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StackAnswer {
    /// The row of the list.
    #[serde(flatten)]
    pub row: StackRow,
    /// Every engine ever named.
    pub engines: Vec<EngineRow>,
    /// Reports that contradict what came before.
    pub contradictions: Vec<Contradiction>,
}

/// One engine of a stack.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EngineRow {
    /// Its hash.
    pub engine_hash: String,
    /// Its version.
    pub version: Option<String>,
    /// Entry that first published or adopted it.
    pub first_published: Option<u64>,
    /// Entry that last made it current.
    pub last_current: Option<u64>,
    /// Whether its last warm-up completed.
    pub warm: Option<bool>,
    /// Entry that condemned it.
    pub condemned: Option<u64>,
    /// Whether its last finished stint was ended by a rollback.
    pub rolled_back_from: bool,
    /// Entry that said it proven.
    pub proven: Option<u64>,
    /// Why records on it are an offence, if they are.
    pub unapproved: Option<String>,
}

/// A report that contradicts what came before.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Contradiction {
    /// The entry.
    pub position: u64,
    /// What is odd.
    pub detail: String,
}

/// The current engine and its manifest.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ManifestAnswer {
    /// The stack.
    pub stack: String,
    /// Current engine.
    pub engine_hash: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Entry that put this manifest in force.
    pub position: Option<u64>,
    /// As it was published.
    pub manifest: Option<Json>,
    /// The gate.
    pub traffic: Gate,
}

/// The engine that is safe to go back to.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastGoodAnswer {
    /// The stack.
    pub stack: String,
    /// The engine; none where no engine qualifies.
    pub engine_hash: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Entry that began the stint which qualified it.
    pub position: Option<u64>,
    /// The manifest of that stint.
    pub manifest: Option<Json>,
    /// How sure.
    pub confidence: Option<Confidence>,
    /// Whether it serves now.
    pub is_current: bool,
    /// For `degraded`: rules that were firing, with their entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<(String, u64)>,
    /// Newer engines, and why they are not the answer.
    pub passed_over: Vec<PassedOver>,
    /// Last cut that names no missing partition.
    pub evaluated_through: Option<Time>,
}

/// The traffic gate.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TrafficAnswer {
    /// The stack.
    pub stack: String,
    /// None: the ledger has never heard of the stack.
    pub open: Option<bool>,
    /// For which engine.
    pub engine_hash: Option<String>,
    /// Why.
    pub reason: String,
    /// The entry that made it so.
    pub position: Option<u64>,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TimelineAnswer {
    /// The stack.
    pub stack: String,
    /// Oldest first; of an incident, warm-up failures and rollbacks first.
    pub timeline: Vec<TimelineRow>,
}

/// A line of the timeline.
pub type TimelineRow = Item;

/// One screen for somebody who was just woken.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NowAnswer {
    /// The stack.
    pub stack: String,
    /// What serves.
    pub current: StackRow,
    /// The gate.
    pub traffic: Gate,
    /// What to go back to.
    pub last_good: LastGoodAnswer,
    /// Alerts firing, oldest first.
    pub firing: Vec<RecordedAlert>,
    /// What changed in the last two hours of the ledger's time.
    pub changes: Vec<Item>,
    /// Time of the last governance entry.
    pub last_entry: Time,
    /// The next command to paste.
    pub next: String,
}

fn known<'a>(view: &View<'a>, name: &str) -> Result<&'a Stack, AnswerError> {
    view.governance.stacks.get(name).ok_or_else(|| AnswerError::Unknown { kind: "stack", name: name.to_owned() })
}

fn gate(view: &View<'_>, name: &str, stack: &Stack) -> Gate {
    let governance = view.governance;
    gates::gate(name, stack, &governance.policy.for_stack(name), &governance.waivers, governance.time)
}

fn row(view: &View<'_>, name: &str) -> StackRow {
    let stack = view.governance.stacks.get(name);
    let current = stack.and_then(Stack::current);
    let version =
        stack.zip(current).and_then(|(stack, hash)| stack.engines.get(hash)).and_then(|engine| engine.version.clone());
    let open = view.governance.incidents.open_on(name);
    StackRow {
        stack: name.to_owned(),
        engine_hash: current.map(str::to_owned),
        version,
        since: stack.and_then(Stack::current_since).map(|(time, _)| time),
        traffic_open: stack.map(|stack| gate(view, name, stack).open),
        firing: view.governance.alerts.firing(name).count(),
        incident: open.map(|incident| incident.id.clone()),
    }
}

/// A stack and its gate, as they are.
pub(super) fn now_row(view: &View<'_>, name: &str, stack: &Stack) -> (StackRow, Gate) {
    (row(view, name), gate(view, name, stack))
}

pub(super) fn stacks(view: &View<'_>) -> StacksAnswer {
    StacksAnswer { stacks: view.governance.stacks.iter().map(|(name, _)| row(view, name)).collect() }
}

pub(super) fn stack(view: &View<'_>, name: &str) -> Result<StackAnswer, AnswerError> {
    let stack = known(view, name)?;
    let engines = stack.engines.iter().map(|(hash, engine)| EngineRow {
        engine_hash: hash.clone(),
        version: engine.version.clone(),
        first_published: engine.first_published,
        last_current: engine.last_current,
        warm: engine.last_warm_up.map(|warm_up| warm_up.completed),
        condemned: engine.condemned.as_ref().map(|(position, _)| *position),
        rolled_back_from: engine.last_finished.as_ref().is_some_and(|finished| finished.rolled_back),
        proven: engine.proven.map(|(position, _)| position),
        unapproved: stack.unapproved(hash).map(str::to_owned),
    });
    let contradictions = stack
        .contradictions
        .iter()
        .map(|(position, detail)| Contradiction { position: *position, detail: detail.clone() });
    Ok(StackAnswer { row: row(view, name), engines: engines.collect(), contradictions: contradictions.collect() })
}

pub(super) fn manifest(view: &View<'_>, name: &str) -> Result<ManifestAnswer, AnswerError> {
    let stack = known(view, name)?;
    let stint = stack.stint.as_ref();
    let version =
        stint.and_then(|stint| stack.engines.get(&stint.engine_hash)).and_then(|engine| engine.version.clone());
    Ok(ManifestAnswer {
        stack: name.to_owned(),
        engine_hash: stint.map(|stint| stint.engine_hash.clone()),
        version,
        position: stint.map(|stint| stint.manifest_position),
        manifest: stint.and_then(|stint| stint.manifest.clone()),
        traffic: gate(view, name, stack),
    })
}

pub(super) fn last_good(view: &View<'_>, name: &str, not_current: bool) -> Result<LastGoodAnswer, AnswerError> {
    let stack = known(view, name)?;
    let required = view.governance.policy.for_stack(name).require_verified_backup;
    let backed_up = required.then(|| view.governance.backups.verified_engines(name));
    let (found, passed_over) = last_good::last_good(
        name,
        stack,
        &view.governance.alerts,
        Question { not_current, backed_up: backed_up.as_ref() },
    );
    let evaluated_through = view.governance.evaluated_through;
    let empty = LastGoodAnswer {
        stack: name.to_owned(),
        engine_hash: None,
        version: None,
        position: None,
        manifest: None,
        confidence: None,
        is_current: false,
        alerts: Vec::new(),
        passed_over,
        evaluated_through,
    };
    Ok(match found {
        None => empty,
        Some(found) => LastGoodAnswer {
            engine_hash: Some(found.engine_hash),
            version: found.version,
            position: Some(found.position),
            manifest: found.manifest,
            confidence: Some(found.confidence),
            is_current: found.is_current,
            alerts: found.alerts,
            ..empty
        },
    })
}

/// Proven, and evaluated no more than a minute ago; while all cuts come from a backfill, up to the last entry.
pub(super) fn is_strictly_good(view: &View<'_>, answer: &LastGoodAnswer) -> bool {
    let Some(through) = answer.evaluated_through else { return false };
    let live = view.governance.settings.as_ref().is_some_and(|settings| through >= settings.created);
    let present = view.now.filter(|_| live).unwrap_or(view.governance.time);
    answer.confidence == Some(Confidence::Proven)
        && present.micros_since(through) <= STRICT_SECONDS * crate::domain::time::MICROS_PER_SECOND
}

pub(super) fn traffic(view: &View<'_>, name: &str, engine: Option<&str>) -> TrafficAnswer {
    let Some(stack) = view.governance.stacks.get(name).filter(|stack| stack.stint.is_some()) else {
        return TrafficAnswer {
            stack: name.to_owned(),
            open: None,
            engine_hash: engine.map(str::to_owned),
            reason: "the ledger has never heard of this stack; `adopt` records what already runs".to_owned(),
            position: None,
        };
    };
    let gate = gate(view, name, stack);
    let (open, reason) = match engine.filter(|engine| gate.engine_hash.as_deref() != Some(engine)) {
        Some(engine) => (
            false,
            format!("the gate is {} for another engine than {engine}", if gate.open { "open" } else { "closed" }),
        ),
        None => (gate.open, gate.reason),
    };
    TrafficAnswer {
        stack: name.to_owned(),
        open: Some(open),
        engine_hash: gate.engine_hash,
        reason,
        position: Some(gate.position),
    }
}

pub(super) fn timeline(view: &View<'_>, name: &str, incident: Option<&str>) -> Result<TimelineAnswer, AnswerError> {
    let items = view.governance.timeline.of(name);
    if items.is_empty() {
        known(view, name)?;
    }
    let timeline = match incident {
        None => items.to_vec(),
        Some(id) => {
            let incident = view
                .governance
                .incidents
                .get(id)
                .ok_or_else(|| AnswerError::Unknown { kind: "incident", name: id.to_owned() })?;
            around(items, incident.declared, incident.ended_by().map(|step| step.time))
        }
    };
    Ok(TimelineAnswer { stack: name.to_owned(), timeline })
}

/// Everything from half an hour before an incident to its end, warm-up failures and rollbacks first.
pub(super) fn around(items: &[Item], declared: Time, closed: Option<Time>) -> Vec<Item> {
    let from = declared.plus_seconds(-INCIDENT_LEAD_MINUTES * 60);
    let mut around: Vec<Item> = items
        .iter()
        .filter(|item| item.time >= from && closed.is_none_or(|closed| item.time <= closed))
        .cloned()
        .collect();
    around.sort_by_key(|item| !matches!(item.event_type.as_str(), "llm_warmup_failed" | "llm_rollback_completed"));
    around
}

pub(super) fn now(view: &View<'_>, name: &str) -> Result<NowAnswer, AnswerError> {
    let stack = known(view, name)?;
    let last_good = last_good(view, name, false)?;
    let firing: Vec<RecordedAlert> = view
        .governance
        .alerts
        .oldest_first()
        .into_iter()
        .filter(|alert| alert.alert.stack == name && alert.alert.state == crate::domain::event::AlertState::Firing)
        .collect();
    let since = view.governance.time.plus_seconds(-NOW_HOURS * 3_600);
    let changes = view.governance.timeline.of(name).iter().filter(|item| item.time >= since).cloned().collect();
    let next = next_command(view, name, &last_good, !firing.is_empty());
    Ok(NowAnswer {
        stack: name.to_owned(),
        current: row(view, name),
        traffic: gate(view, name, stack),
        last_good,
        firing,
        changes,
        last_entry: view.governance.time,
        next,
    })
}

/// What a tired person would do next.
fn next_command(view: &View<'_>, name: &str, last_good: &LastGoodAnswer, firing: bool) -> String {
    let open = view
        .governance
        .incidents
        .oldest_first()
        .into_iter()
        .find(|incident| incident.stack == name && incident.status == crate::projection::incidents::Status::Open);
    if let Some(incident) = open {
        return format!("govledger incidents ack {} --token-file FILE", incident.id);
    }
    if firing && !last_good.is_current && last_good.engine_hash.is_some() {
        return format!("govledger last-good {name} --not-current --json");
    }
    format!("govledger timeline {name}")
}

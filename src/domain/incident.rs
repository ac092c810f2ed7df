//! Incidents in words: what people ask about one, and what the service says of one.
//!
//! In scope: the types and their names on the wire. Out of scope: deciding, folding and measuring, which projections do.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::event::Evidence;
use super::policy::Rule;
use super::principal::Role;
use super::refusal::Refusal;
use super::time::Time;

/// Hours from the end of an incident until its report is overdue.
pub const REPORT_DUE_HOURS: i64 = 72;

/// What somebody does in an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// Leads and decides.
    Commander,
    /// Changes the systems.
    Operations,
    /// Tells everybody else.
    Communications,
    /// Speaks for the money.
    Finance,
    /// Writes down what happens.
    Scribe,
}

/// How far the work is. Closing is an act of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The cause is looked for.
    Investigating,
    /// The cause is known.
    Identified,
    /// A remedy is in place and watched.
    Monitoring,
    /// Over.
    Resolved,
}

/// What a note is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Something worth remembering.
    #[default]
    Note,
    /// The snapshot and the history were looked at; names the snapshot's entry.
    Reviewed,
    /// What the cause was; the last one counts.
    RootCause,
    /// What was done against it, beside the rollbacks that the ledger knows anyway.
    Mitigation,
    /// Finance was told.
    FinanceTold,
}

impl NoteKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Note, Self::Reviewed, Self::RootCause, Self::Mitigation, Self::FinanceTold];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Reviewed => "reviewed",
            Self::RootCause => "root_cause",
            Self::Mitigation => "mitigation",
            Self::FinanceTold => "finance_told",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    const fn is_note(&self) -> bool {
        matches!(self, Self::Note)
    }
}

impl Duty {
    /// Every duty.
    pub const ALL: [Self; 5] = [Self::Commander, Self::Operations, Self::Communications, Self::Finance, Self::Scribe];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commander => "commander",
            Self::Operations => "operations",
            Self::Communications => "communications",
            Self::Finance => "finance",
            Self::Scribe => "scribe",
        }
    }
}

impl Progress {
    /// In the order that work takes.
    pub const ALL: [Self; 4] = [Self::Investigating, Self::Identified, Self::Monitoring, Self::Resolved];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Investigating => "investigating",
            Self::Identified => "identified",
            Self::Monitoring => "monitoring",
            Self::Resolved => "resolved",
        }
    }
}

/// Reads one of a closed set of names.
macro_rules! by_name {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL
                    .into_iter()
                    .find(|known| known.as_str() == text)
                    .ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::as_str).join(", ")))
            }
        }
    };
}

by_name!(Duty);
by_name!(Progress);
by_name!(NoteKind);

/// Opens an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentOpen {
    /// The stack.
    pub stack: String,
    /// One line.
    pub title: String,
}

/// Somebody has seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Which.
    pub incident: String,
    /// What to remember.
    #[serde(default)]
    pub text: String,
}

/// Something said about an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentNote {
    /// Which.
    pub incident: String,
    /// What.
    #[serde(default)]
    pub text: String,
    /// What the note is.
    #[serde(default, skip_serializing_if = "NoteKind::is_note")]
    pub kind: NoteKind,
    /// Of a `reviewed` note: the entry of the snapshot that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<u64>,
}

/// Ends the work on an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentClose {
    /// Which.
    pub incident: String,
    /// The report itself, or what to remember.
    #[serde(default)]
    pub text: String,
    /// Where the report lies, where it is kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// What the newer commands about incidents ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentWork {
    /// Gives somebody a duty.
    Assign(IncidentAssign),
    /// Says how far the work is.
    Progress(IncidentProgress),
    /// Something to be done afterwards.
    ActionItem(ActionItemAdd),
    /// It is done.
    ActionItemDone(ActionItemDone),
    /// Files the report.
    Report(IncidentReport),
}

/// Gives somebody a duty; whoever had it is relieved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentAssign {
    /// Which.
    pub incident: String,
    /// The duty.
    pub duty: Duty,
    /// Who, by the name that people know them by.
    pub assignee: String,
}

/// Says how far the work is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentProgress {
    /// Which.
    pub incident: String,
    /// How far.
    pub status: Progress,
    /// What to remember.
    #[serde(default)]
    pub text: String,
}

/// Something to be done afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionItemAdd {
    /// Which incident.
    pub incident: String,
    /// What.
    pub title: String,
    /// Who sees to it.
    pub owner: String,
    /// Overdue after this.
    pub due: Time,
}

/// An action item is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionItemDone {
    /// Which incident.
    pub incident: String,
    /// Which item.
    pub item: String,
    /// What to remember.
    #[serde(default)]
    pub text: String,
}

/// Files the report of an incident, open or closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentReport {
    /// Which.
    pub incident: String,
    /// The report itself, where it is kept here.
    #[serde(default)]
    pub text: String,
    /// Where the report lies, where it is kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// The id of the action item that the entry at `position` made.
pub fn action_item_id(position: u64) -> String {
    format!("act-{position}")
}

const ONCALL: &[Role] = &[Role::Oncall, Role::Admin];

/// Whether `event_type` is that of one of [`IncidentWork`].
pub fn is_work(event_type: &str) -> bool {
    matches!(
        event_type,
        "llm_incident_assigned"
            | "llm_incident_status"
            | "llm_incident_action_item"
            | "llm_incident_action_item_done"
            | "llm_incident_reported"
    )
}

impl IncidentWork {
    /// The event type that an admitted one is.
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::Assign(_) => "llm_incident_assigned",
            Self::Progress(_) => "llm_incident_status",
            Self::ActionItem(_) => "llm_incident_action_item",
            Self::ActionItemDone(_) => "llm_incident_action_item_done",
            Self::Report(_) => "llm_incident_reported",
        }
    }

    /// The roles that may ask this.
    pub const fn roles(&self) -> &'static [Role] {
        ONCALL
    }

    /// The incident that it is about.
    pub fn incident(&self) -> &str {
        match self {
            Self::Assign(assign) => &assign.incident,
            Self::Progress(progress) => &progress.incident,
            Self::ActionItem(add) => &add.incident,
            Self::ActionItemDone(done) => &done.incident,
            Self::Report(report) => &report.incident,
        }
    }

    /// Reads what `event_type` asks from its JSON; none where it is no such type.
    pub fn read(event_type: &str, json: &str) -> Option<Result<Self, Refusal>> {
        fn typed<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Refusal> {
            serde_json::from_str(json).map_err(|error| Refusal::from_json(&error, json))
        }
        Some(match event_type {
            "llm_incident_assigned" => typed(json).map(Self::Assign),
            "llm_incident_status" => typed(json).map(Self::Progress),
            "llm_incident_action_item" => typed(json).map(Self::ActionItem),
            "llm_incident_action_item_done" => typed(json).map(Self::ActionItemDone),
            "llm_incident_reported" => typed(json).map(Self::Report),
            _ => return None,
        })
    }
}

/// The figures of a stack as an incident found them: those of the last cut before the entry that opened it. Said by the
/// service, wholly derived, so that every node says the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentSnapshot {
    /// The incident.
    pub incident: String,
    /// The stack.
    pub stack: String,
    /// The cut; none where there was none yet.
    pub instant: Option<Time>,
    /// Each rule's last verdict, by engine.
    pub rules: Vec<SnapshotRule>,
    /// What each engine served in the quarter of an hour before the cut.
    pub totals: Vec<EngineTotals>,
}

/// One rule on one engine, as an incident found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRule {
    /// The engine, by the client's claim.
    pub engine_hash: String,
    /// The rule.
    pub rule: Rule,
    /// `met`, `pending`, `firing` or `no_verdict`.
    pub state: String,
    /// What the verdict's window measured, in the unit of the threshold; none where there is no verdict at this cut.
    pub value: Option<String>,
    /// The bound in force.
    pub threshold: String,
    /// Records judged.
    pub samples: u64,
    /// Of them in breach.
    pub breaching: u64,
    /// Where the records of the window lie; none where there is no verdict at this cut.
    pub evidence: Vec<Evidence>,
}

/// What one engine served, as sums over records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineTotals {
    /// The engine, by the client's claim.
    pub engine_hash: String,
    /// Requests.
    pub requests: u64,
    /// Those with an error code.
    pub failed: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// Cost of the requests that carry a price.
    #[schemars(with = "String")]
    pub cost_usd: Decimal,
    /// Requests without a price: the cost does not hold them.
    pub unpriced: u64,
    /// Requests above the cost limit of their cut.
    pub requests_over: u64,
    /// What those cost.
    #[schemars(with = "String")]
    pub gross_usd: Decimal,
    /// What those cost beyond the limit.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
    /// Where the records lie: those of this engine in these ranges count.
    pub evidence: Vec<Evidence>,
}

/// What an engine served while alerts that page or cost fired: from the first cut in breach of one of them to the cut at which
/// none fired any more. Said once an episode, at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentImpact {
    /// The stack.
    pub stack: String,
    /// First cut in breach.
    pub since: Time,
    /// The cut at which the last of them was over.
    pub until: Time,
    /// Alerts that fired in it, by id.
    pub alerts: Vec<String>,
    /// Whether nothing but `cost_per_request` fired: then only the requests above the limit are affected.
    pub cost_alone: bool,
    /// The sums.
    pub totals: EngineTotals,
}

impl IncidentImpact {
    /// Requests that the episode affected.
    pub const fn requests(&self) -> u64 {
        if self.cost_alone { self.totals.requests_over } else { self.totals.requests }
    }

    /// What those that carry a price cost.
    pub const fn cost_usd(&self) -> Decimal {
        if self.cost_alone { self.totals.gross_usd } else { self.totals.cost_usd }
    }
}

//! Answers that are lists: alerts, waivers, backups, what was refused; and single members of them.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{AnswerError, View};
use crate::domain::authentication::Authentication;
use crate::domain::command::WaiverScope;
use crate::domain::event::{Alert, AlertState, Evidence};
use crate::domain::policy::{Rule, Severity};
use crate::domain::refusal::Refusal;
use crate::domain::time::Time;
use crate::projection::alerts::RecordedAlert;
use crate::projection::backups::RecordedBackup;
use crate::projection::governance::Rejected;
use crate::projection::slo::RuleRow;
use crate::projection::timeline::Item;
use crate::projection::waivers::{Status, Waiver};

/// How long a proposed waiver lasts: a week.
const PROPOSED_SECONDS: i64 = 7 * 86_400;
/// How far back the totals of cuts are kept: the longest window.
const KEPT_SECONDS: i64 = 900;

/// Alerts, oldest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AlertsAnswer {
    /// Ours; with `all` the provider's as well.
    pub alerts: Vec<AlertRow>,
}

/// One alert: ours, from firing to resolved; or the provider's, collapsed by reason and minute.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum AlertRow {
    /// Ours.
    Ours(Box<OurAlert>),
    /// The provider's.
    Provider(ProviderAlert),
}

/// An alert of ours.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OurAlert {
    /// Digest of rule, stack, engine and instant of firing.
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
    /// In breach since.
    pub pending_since: Time,
    /// Firing since.
    pub firing_since: Time,
    /// Over since.
    pub resolved_at: Option<Time>,
    /// Value at firing.
    pub value: String,
    /// Threshold at firing.
    pub threshold: String,
    /// Records judged.
    pub samples: u64,
    /// Of them in breach.
    pub breaching: u64,
    /// Where the records lie.
    pub evidence: Vec<Evidence>,
    /// The entry that said it.
    pub position: u64,
    /// The entry that said it was over.
    pub resolved_position: Option<u64>,
    /// Why it ended, where not by recovery.
    pub reason: Option<String>,
    /// The waiver that covers it: while it fires now, afterwards when it was said.
    pub covered_by: Option<String>,
    /// What a request for a waiver may ask for, by what the ledger knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<WaiverProposal>,
}

/// What a request for a waiver may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaiverProposal {
    /// For `cost_per_request`: seven days at the excess of the last quarter of an hour, in whole USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cap_usd: Option<Decimal>,
    /// Seven days after the last entry.
    pub expires: Time,
}

/// What the provider itself alerted of.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProviderAlert {
    /// Always `provider`.
    pub source: String,
    /// The stack.
    pub stack: String,
    /// When the first of the minute was recorded.
    pub time: Time,
    /// Its entry.
    pub position: u64,
    /// How many in that minute.
    pub count: u64,
    /// In words.
    pub summary: String,
}

pub(super) fn alerts(view: &View<'_>, stack: Option<&str>, state: Option<AlertState>, all: bool) -> AlertsAnswer {
    let wanted = |alert: &RecordedAlert| {
        stack.is_none_or(|stack| alert.alert.stack == stack) && state.is_none_or(|state| alert.alert.state == state)
    };
    let mut alerts: Vec<AlertRow> = view
        .governance
        .alerts
        .oldest_first()
        .into_iter()
        .filter(wanted)
        .map(|recorded| AlertRow::Ours(Box::new(ours(view, recorded))))
        .collect();
    if all {
        for name in view.governance.timeline.stacks().filter(|name| stack.is_none_or(|stack| stack == *name)) {
            let facts =
                view.governance.timeline.of(name).iter().filter(|item| item.summary.starts_with("provider alert"));
            alerts.extend(facts.map(|item| AlertRow::Provider(provider(name, item))));
        }
    }
    AlertsAnswer { alerts }
}

fn ours(view: &View<'_>, recorded: RecordedAlert) -> OurAlert {
    let alert = recorded.alert;
    let proposal = (alert.state == AlertState::Firing).then(|| proposal(view, &alert));
    let covered_now = (alert.state == AlertState::Firing).then(|| {
        view.governance
            .waivers
            .covers(&alert.stack, &alert.engine_hash, alert.rule, view.governance.time)
            .map(str::to_owned)
    });
    OurAlert {
        id: alert.id,
        rule: alert.rule,
        stack: alert.stack,
        engine_hash: alert.engine_hash,
        severity: alert.severity,
        state: alert.state,
        pending_since: alert.pending_since,
        firing_since: alert.firing_since,
        resolved_at: alert.resolved_at,
        value: alert.value,
        threshold: alert.threshold,
        samples: alert.samples,
        breaching: alert.breaching,
        evidence: alert.evidence,
        position: recorded.position,
        resolved_position: recorded.resolved_position,
        reason: alert.reason,
        covered_by: covered_now.unwrap_or(alert.covered_by),
        proposal,
    }
}

/// A waiver of a week. Its cap is what the excess of the kept cuts comes to in that time.
fn proposal(view: &View<'_>, alert: &Alert) -> WaiverProposal {
    let expires = view.governance.time.plus_seconds(PROPOSED_SECONDS).ceil_to_seconds(3_600);
    let excess_usd = view.slo.filter(|_| alert.rule == Rule::CostPerRequest).map(|slo| {
        let threshold_usd = slo.policy_for(&alert.stack).max_cost_usd.0;
        let totals = slo.interval_totals(&alert.stack).into_iter();
        let of_engine = totals.filter(|totals| totals.engine_hash == alert.engine_hash);
        of_engine.map(|totals| totals.excess_usd(threshold_usd)).fold(Decimal::ZERO, Decimal::saturating_add)
    });
    let cap_usd = excess_usd
        .filter(|excess_usd| *excess_usd > Decimal::ZERO)
        .and_then(|excess_usd| excess_usd.checked_mul(Decimal::from(PROPOSED_SECONDS / KEPT_SECONDS)))
        .map(|cap_usd| cap_usd.ceil());
    WaiverProposal { cap_usd, expires }
}

fn provider(stack: &str, item: &Item) -> ProviderAlert {
    ProviderAlert {
        source: "provider".to_owned(),
        stack: stack.to_owned(),
        time: item.time,
        position: item.position,
        count: item.count,
        summary: item.summary.clone(),
    }
}

/// Waivers, oldest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaiversAnswer {
    /// All that were asked for or reported.
    pub waivers: Vec<WaiverRow>,
}

/// One waiver.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaiverRow {
    /// Its id.
    pub id: String,
    /// The stack.
    pub stack: String,
    /// One engine only.
    pub engine_hash: Option<String>,
    /// The rule; none for a reported one.
    pub rule: Option<Rule>,
    /// Where it stands.
    pub status: Status,
    /// Who asked.
    pub requested_by: String,
    /// Who decided.
    pub decided_by: Option<String>,
    /// The entry that decided.
    pub decided_position: Option<u64>,
    /// How whoever decided was known: `token`, or the provider's word for it with the time of authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_authentication: Option<Authentication>,
    /// The most that it may cost beyond the threshold.
    #[schemars(with = "Option<String>")]
    pub cap_usd: Option<Decimal>,
    /// Covered requests above the threshold of their cut.
    pub requests_over: u64,
    /// Covered requests without a price: the sums do not hold them.
    pub unpriced: u64,
    /// Sum of cost less threshold over the requests above it: what counts against the cap.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
    /// Sum of the cost of the same requests.
    #[schemars(with = "String")]
    pub gross_usd: Decimal,
    /// When the cap is reached if the excess goes on at its mean rate since cover began.
    pub cap_forecast: Option<Time>,
    /// The last cut that brought spend.
    pub spent_through: Option<Time>,
    /// Covers from.
    pub starts: Option<Time>,
    /// Covers until.
    pub expires: Option<Time>,
    /// The entry that asked.
    pub position: u64,
    /// Whether it covers at the time of the answer.
    pub covers_now: bool,
    /// Why it was asked for.
    pub justification: String,
}

/// One waiver, whole.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaiverAnswer {
    /// The row of the list.
    #[serde(flatten)]
    pub row: WaiverRow,
    /// What it covers.
    pub scope: Option<WaiverScope>,
    /// What an approval must name.
    pub scope_sha256: Option<String>,
    /// What was done with it.
    pub history: Vec<Item>,
}

fn waiver_row(view: &View<'_>, id: &str, waiver: &Waiver) -> WaiverRow {
    let scope = waiver.scope.as_ref();
    let covers = scope.and_then(|scope| {
        view.governance.waivers.covers(
            &scope.stack,
            scope.engine_hash.as_deref().unwrap_or_default(),
            scope.rule,
            view.governance.time,
        )
    });
    WaiverRow {
        id: id.to_owned(),
        stack: waiver.stack.clone(),
        engine_hash: scope.and_then(|scope| scope.engine_hash.clone()),
        rule: scope.map(|scope| scope.rule),
        status: waiver.status,
        requested_by: waiver.requested_by.clone(),
        decided_by: waiver.decided_by.clone(),
        decided_position: waiver.decided_position,
        decided_authentication: waiver
            .decided_position
            .and_then(|position| view.governance.authentications.get(&position).cloned()),
        cap_usd: scope.and_then(|scope| scope.cap_usd),
        requests_over: waiver.spend.requests_over,
        unpriced: waiver.spend.unpriced,
        excess_usd: waiver.spend.excess_usd,
        gross_usd: waiver.spend.gross_usd,
        cap_forecast: waiver.cap_forecast(),
        spent_through: waiver.spend.through,
        starts: scope.and_then(|scope| scope.starts).or(waiver.approved),
        expires: waiver.expires,
        position: waiver.position,
        covers_now: covers == Some(id),
        justification: waiver.justification.clone(),
    }
}

pub(super) fn waivers(view: &View<'_>, stack: Option<&str>) -> WaiversAnswer {
    let wanted = view
        .governance
        .waivers
        .oldest_first()
        .into_iter()
        .filter(|(_, waiver)| stack.is_none_or(|stack| waiver.stack == stack));
    WaiversAnswer { waivers: wanted.map(|(id, waiver)| waiver_row(view, id, waiver)).collect() }
}

pub(super) fn waiver(view: &View<'_>, id: &str) -> Result<WaiverAnswer, AnswerError> {
    let waiver =
        view.governance.waivers.get(id).ok_or_else(|| AnswerError::Unknown { kind: "waiver", name: id.to_owned() })?;
    let history = view
        .governance
        .timeline
        .of(&waiver.stack)
        .iter()
        .filter(|item| item.about.as_deref() == Some(id))
        .cloned()
        .collect();
    Ok(WaiverAnswer {
        row: waiver_row(view, id, waiver),
        scope: waiver.scope.clone(),
        scope_sha256: waiver.scope.as_ref().map(WaiverScope::sha256),
        history,
    })
}

/// Backups, oldest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupsAnswer {
    /// All.
    pub backups: Vec<BackupRow>,
}

/// One backup.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BackupRow {
    /// What the ledger tells of it.
    #[serde(flatten)]
    pub recorded: RecordedBackup,
    /// When it has to have been restored by, if only for practice.
    pub drill_due: Time,
    /// Whether that time has passed.
    pub drill_overdue: bool,
}

pub(super) fn backups(view: &View<'_>, stack: Option<&str>) -> BackupsAnswer {
    // By the ledger's own time, so that the answer can be folded again.
    let present = view.governance.time;
    let wanted = view
        .governance
        .backups
        .oldest_first()
        .into_iter()
        .filter(|backup| stack.is_none_or(|stack| backup.stack.as_deref() == Some(stack)));
    let row = |recorded: &RecordedBackup| BackupRow {
        drill_due: recorded.drill_due(),
        drill_overdue: present > recorded.drill_due(),
        recorded: recorded.clone(),
    };
    BackupsAnswer { backups: wanted.map(row).collect() }
}

/// How a command ended.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CommandAnswer {
    /// Its id.
    pub command_id: String,
    /// Applied or refused.
    pub status: CommandStatus,
    /// Its entry.
    pub position: u64,
    /// Why it was refused.
    pub refusal: Option<Refusal>,
}

/// Applied or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandStatus {
    /// It has its effect.
    Applied,
    /// Decided against.
    Refused,
}

pub(super) fn command(view: &View<'_>, id: &str) -> Result<CommandAnswer, AnswerError> {
    let record = view
        .governance
        .commands
        .get(id)
        .ok_or_else(|| AnswerError::Unknown { kind: "command", name: id.to_owned() })?;
    let status = if record.refusal.is_none() { CommandStatus::Applied } else { CommandStatus::Refused };
    Ok(CommandAnswer { command_id: id.to_owned(), status, position: record.position, refusal: record.refusal.clone() })
}

/// Refused governance entries, by position.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RejectedAnswer {
    /// Rows.
    pub rejected: Vec<Rejected>,
    /// Ask again after this position for more.
    pub next: Option<u64>,
}

pub(super) fn rejected(view: &View<'_>, after: Option<u64>, limit: usize) -> RejectedAnswer {
    let mut rows = view.governance.rejected.iter().filter(|row| after.is_none_or(|after| row.position > after));
    let rejected: Vec<Rejected> = rows.by_ref().take(limit).cloned().collect();
    let next = rows.next().and_then(|_| rejected.last().map(|row| row.position));
    RejectedAnswer { rejected, next }
}

/// The rules of a stack with their figures.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct SloAnswer {
    /// The stack.
    pub stack: String,
    /// The cut that the figures belong to.
    pub instant: Option<Time>,
    /// One row an engine and rule.
    pub slo: Vec<RuleRow>,
}

pub(super) fn slo(view: &View<'_>, stack: &str) -> Result<SloAnswer, AnswerError> {
    let slo = view.slo.ok_or(AnswerError::NoMetrics)?;
    let rows = slo.slo_rows(stack);
    if rows.is_empty() && view.governance.stacks.get(stack).is_none() {
        return Err(AnswerError::Unknown { kind: "stack", name: stack.to_owned() });
    }
    Ok(SloAnswer {
        stack: stack.to_owned(),
        instant: view.governance.last_cut.as_ref().map(|cut| cut.instant),
        slo: rows,
    })
}

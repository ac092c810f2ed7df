//! Answers that are lists: alerts, waivers, what was refused; and single members of them.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{AnswerError, View};
use crate::domain::event::{Alert, AlertCost, AlertState, Evidence};
use crate::domain::policy::{Rule, Severity};
use crate::domain::refusal::Refusal;
use crate::domain::time::Time;
use crate::projection::alerts::RecordedAlert;
use crate::projection::governance::Rejected;
use crate::projection::slo::RuleRow;
use crate::projection::timeline::Item;

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
    /// The retroactive waiver that covers the instant of its firing, which lies before that waiver's approval.
    pub covered_retroactively_by: Option<String>,
    /// Of `cost_per_request`: what the requests of the window cost at firing, and how many of them carry no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<AlertCost>,
    /// The maintenance window in which it fired, or that holds telling of it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<String>,
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
    /// Requests of that quarter of an hour without a price: the cap does not reckon with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpriced: Option<u64>,
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
    let maintenance = &view.governance.maintenance;
    let in_window = maintenance.holds(&alert.stack, alert.rule, alert.firing_since).or_else(|| {
        let is_firing = alert.state == AlertState::Firing;
        is_firing.then(|| maintenance.holds(&alert.stack, alert.rule, view.governance.time)).flatten()
    });
    let in_window = in_window.map(|(id, _)| id.to_owned());
    let covered_now = (alert.state == AlertState::Firing).then(|| {
        view.governance
            .waivers
            .covers(&alert.stack, &alert.engine_hash, alert.rule, view.governance.time)
            .map(str::to_owned)
    });
    let covered_retroactively_by = view
        .governance
        .waivers
        .covers_retroactively(&alert.stack, &alert.engine_hash, alert.rule, alert.firing_since)
        .map(str::to_owned);
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
        covered_retroactively_by,
        cost: alert.cost,
        maintenance: in_window,
        proposal,
    }
}

/// A waiver of a week. Its cap is what the excess of the kept cuts comes to in that time.
fn proposal(view: &View<'_>, alert: &Alert) -> WaiverProposal {
    let expires = view.governance.time.plus_seconds(PROPOSED_SECONDS).ceil_to_seconds(3_600);
    let spent = view.slo.filter(|_| alert.rule == Rule::CostPerRequest).map(|slo| {
        let threshold_usd = slo.policy_for(&alert.stack).max_cost_usd.0;
        let totals = slo.interval_totals(&alert.stack).into_iter();
        totals.filter(|totals| totals.engine_hash == alert.engine_hash).fold((Decimal::ZERO, 0), |sum, totals| {
            (sum.0.saturating_add(totals.excess_usd(threshold_usd)), sum.1 + totals.unpriced)
        })
    });
    let cap_usd = spent
        .map(|(excess_usd, _)| excess_usd)
        .filter(|excess_usd| *excess_usd > Decimal::ZERO)
        .and_then(|excess_usd| excess_usd.checked_mul(Decimal::from(PROPOSED_SECONDS / KEPT_SECONDS)))
        .map(|cap_usd| cap_usd.ceil());
    WaiverProposal { cap_usd, unpriced: spent.map(|(_, unpriced)| unpriced), expires }
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

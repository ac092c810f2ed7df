//! The report of an incident, put together from what the ledger shows: each statement names its entry, each figure the
//! records that it was counted from.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::incident::{self, CheckStep, IncidentRow};
use super::{AnswerError, View};
use crate::domain::incident::{IncidentImpact, NoteKind};
use crate::domain::policy::{Rule, Severity};
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::projection::alerts::RecordedAlert;
use crate::projection::incidents::{Incident, Lifecycle};
use crate::projection::timeline::Item;

/// The report of an incident.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IncidentReportAnswer {
    /// The incident: its status, snapshot, history, duties, steps, action items and the report as it was filed.
    pub incident: Incident,
    /// What is due of it.
    pub standing: IncidentRow,
    /// The alerts that belong to it.
    pub alerts: Vec<ReportAlert>,
    /// What it cost.
    pub impact: ReportImpact,
    /// How long each part took.
    pub durations: Vec<Duration>,
    /// What the cause was, as noted last.
    pub root_cause: Option<Statement>,
    /// What was done against it.
    pub mitigations: Vec<Statement>,
    /// The runbook's six steps.
    pub checklist: Vec<CheckStep>,
    /// From half an hour before to its end, in order.
    pub timeline: Vec<Item>,
}

/// An alert in a report.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReportAlert {
    /// Its id.
    pub id: String,
    /// The rule.
    pub rule: Rule,
    /// The engine.
    pub engine_hash: String,
    /// Whom it concerned.
    pub severity: Severity,
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
    /// The waiver that covered it when it was said.
    pub covered_by: Option<String>,
    /// The entry that said it.
    pub position: u64,
    /// The entry that said it was over.
    pub resolved_position: Option<u64>,
}

/// What an incident cost.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReportImpact {
    /// Requests affected.
    pub requests: u64,
    /// What those that carry a price cost.
    #[schemars(with = "String")]
    pub cost_usd: Decimal,
    /// Requests affected that carry no price, so that the cost does not hold them.
    pub unpriced: u64,
    /// Requests above the cost limit.
    pub requests_over: u64,
    /// What those cost beyond it.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
    /// Episode by episode.
    pub episodes: Vec<ImpactEpisode>,
    /// How this was counted.
    pub how: String,
}

/// What an episode of alerts cost.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ImpactEpisode {
    /// The entry that says so; none while the episode goes on.
    pub position: Option<u64>,
    /// The sums, and where the records lie.
    pub impact: IncidentImpact,
}

/// How long a part took, and between which entries.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Duration {
    /// `detect`, `acknowledge`, `mitigate` or `resolve`.
    pub name: String,
    /// Whole seconds; none where the end has not come.
    pub seconds: Option<i64>,
    /// From here.
    pub from: Moment,
    /// To here.
    pub to: Option<Moment>,
    /// What both are.
    pub how: String,
}

/// An instant with the entry that states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Moment {
    /// When.
    pub time: Time,
    /// The entry.
    pub position: u64,
}

/// A statement with its entry.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Statement {
    /// When.
    pub time: Option<Time>,
    /// The entry.
    pub position: u64,
    /// Who.
    pub actor: Option<String>,
    /// What.
    pub text: String,
}

pub(super) fn report(view: &View<'_>, id: &str) -> Result<IncidentReportAnswer, AnswerError> {
    let incident = incident::known(view, id)?;
    let alerts = incident::alerts_of(view.governance, incident);
    let mut timeline = super::stack::timeline(view, &incident.stack, Some(id))?.timeline;
    timeline.sort_by_key(|item| item.position);
    let mitigations = mitigations(view, incident);
    Ok(IncidentReportAnswer {
        incident: incident.clone(),
        standing: incident::row(view.governance, incident),
        impact: impact(view, incident),
        durations: durations(view, incident, &alerts, &mitigations),
        alerts: alerts.into_iter().map(row).collect(),
        root_cause: incident.notes(NoteKind::RootCause).next_back().map(|step| Statement {
            time: Some(step.time),
            position: step.position,
            actor: Some(step.actor.clone()),
            text: step.text.clone(),
        }),
        mitigations,
        checklist: incident::checklist(view.governance, incident),
        timeline,
    })
}

fn row(recorded: RecordedAlert) -> ReportAlert {
    let alert = recorded.alert;
    ReportAlert {
        id: alert.id,
        rule: alert.rule,
        engine_hash: alert.engine_hash,
        severity: alert.severity,
        pending_since: alert.pending_since,
        firing_since: alert.firing_since,
        resolved_at: alert.resolved_at,
        value: alert.value,
        threshold: alert.threshold,
        covered_by: alert.covered_by,
        position: recorded.position,
        resolved_position: recorded.resolved_position,
    }
}

/// The episodes that are over as entries say, and those that go on as the metrics folds have them.
fn impact(view: &View<'_>, incident: &Incident) -> ReportImpact {
    let over = incident.impact.iter();
    let mut episodes: Vec<ImpactEpisode> = over
        .map(|recorded| ImpactEpisode { position: Some(recorded.position), impact: recorded.said.clone() })
        .collect();
    let running = view.slo.map(|slo| slo.running_impact(&incident.stack)).unwrap_or_default();
    let own = |impact: &IncidentImpact| impact.alerts.first().is_some_and(|first| incident.alerts.contains(first));
    episodes.extend(running.into_iter().filter(own).map(|impact| ImpactEpisode { position: None, impact }));
    let sum = |figure: fn(&IncidentImpact) -> u64| episodes.iter().map(|episode| figure(&episode.impact)).sum();
    let usd = |figure: fn(&IncidentImpact) -> Decimal| {
        episodes.iter().fold(Decimal::ZERO, |sum, episode| sum.saturating_add(figure(&episode.impact))).normalize()
    };
    ReportImpact {
        requests: sum(IncidentImpact::requests),
        cost_usd: usd(IncidentImpact::cost_usd),
        unpriced: sum(|impact| impact.totals.unpriced),
        requests_over: sum(|impact| impact.totals.requests_over),
        excess_usd: usd(|impact| impact.totals.excess_usd),
        how: if incident.alerts.is_empty() {
            "No alert belongs to it, so no request is counted as affected.".to_owned()
        } else {
            "Requests of the engine from the first cut in breach of an alert that pages or costs to the cut at which none \
             fired any more; where nothing but cost_per_request fired, those above the limit. Each is counted once. Cost is the sum over the requests that carry a price."
                .to_owned()
        },
        episodes,
    }
}

/// Rollbacks that the stack reported, what people noted, and waivers that were approved, in order.
fn mitigations(view: &View<'_>, incident: &Incident) -> Vec<Statement> {
    let rollbacks = incident.lifecycle.iter().filter(|happened| happened.what == Lifecycle::RolledBack);
    let mut found: Vec<Statement> = rollbacks
        .map(|happened| Statement {
            time: Some(happened.time),
            position: happened.position,
            actor: None,
            text: format!(
                "rolled back to {}{}",
                incident::engine_name(happened),
                happened.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
            ),
        })
        .collect();
    found.extend(incident.notes(NoteKind::Mitigation).map(|step| Statement {
        time: Some(step.time),
        position: step.position,
        actor: Some(step.actor.clone()),
        text: step.text.clone(),
    }));
    for (id, waiver) in view.governance.waivers.oldest_first() {
        let since = waiver.decided_position.filter(|_| waiver.stack == incident.stack && waiver.approved.is_some());
        if let Some(position) = since.filter(|_| waiver.position > incident.position) {
            found.push(Statement {
                time: waiver.approved,
                position,
                actor: waiver.decided_by.clone(),
                text: format!("{id} accepted: {}", waiver.justification),
            });
        }
    }
    found.sort_by_key(|statement| statement.position);
    found
}

/// What was decided or done first that took the harm away: a mitigation, or the word of whoever watches it.
fn mitigated(incident: &Incident, mitigations: &[Statement]) -> Option<Moment> {
    let done = mitigations.iter().filter_map(|found| found.time.map(|time| Moment { time, position: found.position }));
    let said = ["monitoring", "resolved", "closed"].into_iter().flat_map(|step| incident.steps_called(step));
    let said = said.map(|step| Moment { time: step.time, position: step.position });
    done.chain(said).min_by_key(|moment| (moment.time, moment.position))
}

fn durations(
    view: &View<'_>,
    incident: &Incident,
    alerts: &[RecordedAlert],
    mitigations: &[Statement],
) -> Vec<Duration> {
    let first = alerts.iter().min_by_key(|alert| alert.alert.pending_since);
    let began = Moment { time: incident.began, position: first.map_or(incident.position, |alert| alert.position) };
    let declared = Moment { time: incident.declared, position: incident.position };
    let acknowledged = incident.steps_called("acknowledged").next();
    let acknowledged = acknowledged.map(|step| Moment { time: step.time, position: step.position });
    let ended = incident::ended(view.governance, incident).map(|(time, position)| Moment { time, position });
    let by_hand = if incident.opened_by.is_some() { " (opened by hand: the entry that opened it)" } else { "" };
    let ended_by = match incident.ended_by() {
        Some(step) => format!("the entry that says {}", step.step),
        None => "the cut at which the last of its alerts was over".to_owned(),
    };
    vec![
        duration(
            "detect",
            began,
            Some(declared),
            format!("from the first cut in breach to the cut at which the alert fired{by_hand}"),
        ),
        duration(
            "acknowledge",
            declared,
            acknowledged,
            "from the cut at which the alert fired to the first acknowledgement".to_owned(),
        ),
        duration(
            "mitigate",
            began,
            mitigated(incident, mitigations),
            "from the first cut in breach to the first rollback, noted mitigation, approved waiver, or word that it is \
             monitored or over"
                .to_owned(),
        ),
        duration("resolve", began, ended, format!("from the first cut in breach to {ended_by}")),
    ]
}

fn duration(name: &str, from: Moment, to: Option<Moment>, how: String) -> Duration {
    let seconds = to.map(|to| to.time.micros_since(from.time) / MICROS_PER_SECOND);
    Duration { name: name.to_owned(), seconds, from, to, how }
}

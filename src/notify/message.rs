//! From an entry of the governance ledger to a webhook's message.
//!
//! Body by the Standard Webhooks specification: `type`, `timestamp`, `data`. What an entry says is told as the
//! entry says it; `cover` and the status of a waiver are those of the moment of sending, so a repeat may show later ones.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::config::{WebhookConfig, WebhookKind};
use crate::domain::command::Command;
use crate::domain::envelope::hex;
use crate::domain::event::{Alert, AlertState, Event};
use crate::domain::leaf;
use crate::domain::policy::Severity;
use crate::domain::report::{self, Report};
use crate::domain::time::Time;
use crate::projection::governance::{Governance, Verdict};
use crate::projection::waivers::{Waiver, status_name};

/// The cuts are as many as everything else; who wants them reads the ledger.
const CUT: &str = "ledger_cut";

/// A message, ready to be signed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The same for the same entry of the same ledger, on every node and at every attempt.
    pub(super) id: String,
    pub(super) position: u64,
    pub(super) body: Vec<u8>,
}

/// Whether a maintenance window holds telling of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// It may be told.
    No,
    /// Not before this instant.
    Until(Time),
    /// It is told to nobody.
    ForGood,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    timestamp: Time,
    data: Value,
}

/// What one endpoint is told of, and how.
#[derive(Debug)]
pub(super) struct Selection {
    kind: WebhookKind,
    events: BTreeSet<String>,
    since: Option<Time>,
    link: String,
}

impl Selection {
    pub(super) fn new(config: &WebhookConfig, link: &str) -> Self {
        Self { kind: config.kind, events: config.events.clone(), since: config.since, link: link.to_owned() }
    }

    /// The message that tells of this entry, if it is one to tell of. Entries without effect are none.
    pub(super) fn message(&self, governance: &Governance, position: u64, entry: &[u8], now: Time) -> Option<Message> {
        if position == 0 || governance.verdict_at(position) != Verdict::Admitted {
            return None;
        }
        let leaf = leaf::split(entry).ok()?;
        let time = leaf.header.time;
        let report = report::read(&leaf).ok()?;
        if self.since.is_some_and(|since| time < since) {
            return None;
        }
        let mut data = match self.kind {
            WebhookKind::Readiness => self.readiness(governance, position, &report.event, now)?,
            WebhookKind::Events => self.event(&report, leaf.body)?,
        };
        data["position"] = json!(position);
        data["entry"] = json!(format!("{}/v1/entries/governance/{position}", self.link));
        let body = Body { event_type: &report.about.event_type, timestamp: time, data };
        Some(Message { id: id(governance, position), position, body: serde_json::to_vec(&body).ok()? })
    }

    fn event(&self, report: &Report, body: &[u8]) -> Option<Value> {
        let about = &report.about;
        let all = self.events.contains("*") && about.event_type != CUT;
        (all || self.events.contains(&about.event_type)).then(|| {
            json!({
                "stack": about.stack,
                "engine_hash": about.engine_hash,
                "actor": about.actor,
                "body": String::from_utf8_lossy(body),
            })
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "finance is told of money and waivers alone")]
    fn readiness(&self, governance: &Governance, position: u64, event: &Event, now: Time) -> Option<Value> {
        match event {
            Event::Alert(alert) if alert.severity == Severity::Finance => Some(self.alert(governance, alert, now)),
            Event::WaiverReported { waiver_id, .. } => self.waiver(governance, waiver_id, None),
            Event::WaiverExpired { waiver, .. } => self.waiver(governance, waiver, None),
            Event::WaiverExpiring(warning) => self.waiver(governance, &warning.waiver, None),
            Event::WaiverExhausted(ended) => self.waiver(governance, &ended.waiver, None),
            Event::Command(command) => {
                self.waiver(governance, &command.request.waiver(position)?, Some(command.as_ref()))
            }
            _ => None,
        }
    }

    fn alert(&self, governance: &Governance, alert: &Alert, now: Time) -> Value {
        json!({
            "alert_id": alert.id,
            "stack": alert.stack,
            "engine_hash": alert.engine_hash,
            "rule": alert.rule,
            "state": alert.state,
            "since": alert.firing_since,
            "pending_since": alert.pending_since,
            "resolved_at": alert.resolved_at,
            "requests": alert.samples,
            "requests_over": alert.breaching,
            "value": alert.value,
            "unit": alert.rule.unit(),
            "threshold": alert.threshold,
            "unpriced": alert.cost.as_ref().map(|cost| cost.unpriced),
            "excess_usd": alert.cost.as_ref().map(|cost| cost.excess_usd.to_string()),
            "gross_usd": alert.cost.as_ref().map(|cost| cost.gross_usd.to_string()),
            "excess_usd_per_hour": alert.cost.as_ref().map(|cost| cost.excess_usd_per_hour().to_string()),
            "window_s": alert.cost.as_ref().map(|cost| cost.window_s),
            "cover": governance.waivers.covers(&alert.stack, &alert.engine_hash, alert.rule, now),
            "decide": format!("{}/waivers", self.link),
        })
    }

    fn waiver(&self, governance: &Governance, id: &str, command: Option<&Command>) -> Option<Value> {
        let waiver: &Waiver = governance.waivers.get(id)?;
        let scope = waiver.scope.as_ref();
        Some(json!({
            "waiver": id,
            "stack": waiver.stack,
            "rule": scope.map(|scope| scope.rule),
            "engine_hash": scope.and_then(|scope| scope.engine_hash.as_ref()),
            "status": status_name(waiver.status),
            "by": command.map(|command| &command.principal),
            "requested_by": waiver.requested_by,
            "decided_by": waiver.decided_by,
            "cap_usd": scope.and_then(|scope| scope.cap_usd).map(|cap| cap.to_string()),
            "owner": scope.and_then(|scope| scope.owner.as_ref()).unwrap_or(&waiver.requested_by),
            "retroactive": waiver.is_retroactive(),
            "requests_over": waiver.spend.requests_over,
            "unpriced": waiver.spend.unpriced,
            "excess_usd": waiver.spend.excess_usd.to_string(),
            "gross_usd": waiver.spend.gross_usd.to_string(),
            "starts": scope.and_then(|scope| scope.starts),
            "expires": waiver.expires,
            "justification": waiver.justification,
            "ticket": scope.and_then(|scope| scope.ticket.as_ref()),
            "scope_sha256": scope.map(crate::domain::command::WaiverScope::sha256),
            "decide": format!("{}/waivers", self.link),
        }))
    }
}

/// Until when nothing is told of this entry: it is an alert in a maintenance window. An alert that is over by then, or one
/// that ended within a window, is never told.
pub(super) fn held(governance: &Governance, position: u64, entry: &[u8], now: Time) -> Held {
    if governance.verdict_at(position) != Verdict::Admitted {
        return Held::No;
    }
    let report = leaf::split(entry).ok().and_then(|leaf| report::read(&leaf).ok());
    let Some(Event::Alert(alert)) = report.map(|report| report.event) else { return Held::No };
    let (stack, rule) = (&alert.stack, alert.rule);
    let ended = governance.alerts.get(&alert.id).and_then(|known| known.alert.resolved_at);
    if let Some(ended) = ended
        && governance.maintenance.holds_through(stack, rule, alert.firing_since, ended)
    {
        return Held::ForGood;
    }
    match (alert.state, governance.maintenance.holds(stack, rule, now)) {
        (AlertState::Firing, Some((_, ends))) => Held::Until(ends),
        _ => Held::No,
    }
}

/// The id of the message of an entry: the ledger, by its first entry, and the position.
pub(super) fn id(governance: &Governance, position: u64) -> String {
    format!("gl_{}_{position}", hex(&Sha256::digest(&governance.genesis)[..8]))
}

/// A stack's name as part of a path.
pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

//! Alertmanager, API v2: what fires is sent again and again, what ended is sent as ended for five minutes.
//!
//! Alertmanager knows an alert by its labels and forgets one that it hears nothing of, so what is sent is the present state
//! of each set of labels, taken from the fold, and not one message an entry. The cursor says up to where every alert has
//! been taken in some state; alerts beyond it are due at once, those before it at each interval.
//!
//! An alert that a waiver covers is sent as ended, with the waiver among its annotations: a waiver silences telling. When its
//! cover ends while it fires, it is sent as firing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::NotifyError;
use super::client::{Client, Sent};
use super::config::AlertmanagerConfig;
use super::kept::{DeadEnd, Keeper, Kept};
use super::schedule::pause;
use super::secrets;
use super::stop::Stop;
use super::view::{Deliveries, Endpoint, EndpointKind, EndpointState};
use crate::clock::monotonic;
use crate::domain::event::AlertState;
use crate::domain::policy::{Rule, Severity};
use crate::domain::time::Time;
use crate::projection::alerts::RecordedAlert;
use crate::sequencer::Handle;

/// Alerts in one request.
const BATCH: usize = 64;
/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long an alert is sent as ended, in seconds.
const ENDED_SECONDS: i64 = 300;
/// How long Alertmanager holds an alert firing that it hears nothing more of: this many intervals, and five minutes.
const INTERVALS_HELD: u64 = 4;
const HELD_SECONDS_MIN: u64 = 300;

/// What Alertmanager is to be told of one alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    Firing,
    Covered,
    /// A maintenance window holds it: what was told as firing is told as ended, what was not is not told.
    Held,
    Resolved,
}

/// What was last told of an alert, and since when.
#[derive(Debug, Clone, Copy)]
struct Told {
    tell: Tell,
    since: Time,
}

/// An alert with what is to be told of it.
#[derive(Debug, Clone)]
struct Due {
    recorded: RecordedAlert,
    waiver: Option<String>,
    tell: Tell,
}

/// Tells one Alertmanager.
#[derive(Debug)]
pub(super) struct Worker {
    client: Client,
    token: Option<String>,
    resend: Duration,
    link: String,
    handle: Handle,
    stop: Stop,
    deliveries: Deliveries,
    endpoint: Endpoint,
    keeper: Keeper,
    kept: Kept,
    /// By alert id. What is not in it was told before the start, or never.
    told: BTreeMap<String, Told>,
}

impl Worker {
    pub(super) fn new(
        config: &AlertmanagerConfig,
        handle: Handle,
        link: &str,
        stop: Stop,
        deliveries: Deliveries,
    ) -> Result<Self, NotifyError> {
        let token = config.bearer_token_file.as_deref().map(secrets::read).transpose()?;
        let keeper = Keeper::new(&handle, &config.name);
        let endpoint = Endpoint::new(&config.name, EndpointKind::Alertmanager, &config.url);
        // Whose Alertmanager it is, the operator decides; most are in the same network.
        let client = Client::new(format!("{}/api/v2/alerts", config.url.trim_end_matches('/')), true);
        Ok(Self {
            client,
            token: token.map(|token| format!("Bearer {}", token.trim())),
            resend: Duration::from_secs(config.resend_seconds),
            link: link.to_owned(),
            kept: keeper.load(),
            handle,
            stop,
            deliveries,
            endpoint,
            keeper,
            told: BTreeMap::new(),
        })
    }

    /// Tells until it is time to stop.
    pub(super) fn run(mut self) {
        self.show();
        if !super::caught_up(&self.handle, &self.stop) {
            return;
        }
        let (mut seen, mut last_tick, mut failures) = (None, None, 0);
        loop {
            let now = monotonic();
            let size = self.handle.shared().governance().size;
            let is_tick = last_tick.is_none_or(|last| now.duration_since(last) >= self.resend);
            let mut rest = LOOK;
            if is_tick || seen != Some(size) {
                match self.pass(is_tick) {
                    Ok(told_through) => {
                        failures = 0;
                        seen = Some(told_through);
                        last_tick = if is_tick { Some(now) } else { last_tick };
                    }
                    Err(error) => {
                        failures += 1;
                        self.endpoint.failed_total += 1;
                        rest = pause(failures);
                        tracing::warn!(endpoint = self.endpoint.name, error, "notify.failed");
                        self.endpoint.state = EndpointState::Failing;
                        self.endpoint.last_error = Some(error);
                    }
                }
                self.show();
            }
            if self.stop.wait(rest) {
                return;
            }
        }
    }

    /// Sends what is due and moves the cursor; the size that was told.
    fn pass(&mut self, is_tick: bool) -> Result<u64, String> {
        let now = self.handle.now();
        let (due, size) = self.due(now, is_tick);
        for batch in due.chunks(BATCH) {
            self.send(batch, now)?;
        }
        if !due.is_empty() {
            self.endpoint.state = EndpointState::Active;
            self.endpoint.last_taken = Some(now);
            self.told.retain(|_, told| told.tell != Tell::Resolved || is_recent(told.since, now));
        }
        if self.kept.cursor != size && (!due.is_empty() || is_tick) {
            // Cuts alone move it only in memory, once an interval on disk: reading them again costs nothing.
            self.kept.cursor = size;
            self.keeper.store(&mut self.kept).map_err(|error| error.to_string())?;
        }
        self.kept.cursor = size;
        Ok(size)
    }

    /// The alerts that are to be sent now, of each set of labels the latest.
    fn due(&self, now: Time, is_tick: bool) -> (Vec<Due>, u64) {
        let governance = self.handle.shared().governance();
        let mut latest: BTreeMap<(String, String, Rule, Severity), RecordedAlert> = BTreeMap::new();
        for recorded in governance.alerts.oldest_first() {
            let alert = &recorded.alert;
            latest.insert((alert.stack.clone(), alert.engine_hash.clone(), alert.rule, alert.severity), recorded);
        }
        let due = latest.into_values().filter_map(|recorded| {
            let alert = &recorded.alert;
            let waiver = governance.waivers.covers(&alert.stack, &alert.engine_hash, alert.rule, now);
            let held = governance.maintenance.holds(&alert.stack, alert.rule, now).is_some();
            let tell = match (alert.state, waiver) {
                (AlertState::Resolved, _) => Tell::Resolved,
                (AlertState::Firing, Some(_)) => Tell::Covered,
                (AlertState::Firing, None) if held => Tell::Held,
                (AlertState::Firing, None) => Tell::Firing,
            };
            // What began and ended in a window is in the ledger and in no message.
            let wholly_held = alert.resolved_at.is_some_and(|end| {
                governance.maintenance.holds_through(&alert.stack, alert.rule, alert.firing_since, end)
            });
            if wholly_held && !self.told.contains_key(&alert.id) {
                return None;
            }
            let due = Due { waiver: waiver.map(str::to_owned), tell, recorded };
            self.is_due(&due, now, is_tick).then_some(due)
        });
        (due.collect(), governance.size)
    }

    fn is_due(&self, due: &Due, now: Time, is_tick: bool) -> bool {
        let RecordedAlert { alert, position, resolved_position } = &due.recorded;
        let is_new = *position >= self.kept.cursor || resolved_position.is_some_and(|at| at >= self.kept.cursor);
        if due.tell == Tell::Held {
            return match self.told.get(&alert.id) {
                Some(told) if told.tell == Tell::Held => is_tick && is_recent(told.since, now),
                told => told.is_some(),
            };
        }
        match self.told.get(&alert.id) {
            Some(told) if told.tell == due.tell => is_tick && (due.tell == Tell::Firing || is_recent(told.since, now)),
            Some(_) => true,
            None => is_new || due.tell != Tell::Resolved || alert.resolved_at.is_some_and(|at| is_recent(at, now)),
        }
    }

    /// Sends a batch. One that is refused as such is sent alert by alert, so that none is lost for another's sake.
    fn send(&mut self, batch: &[Due], now: Time) -> Result<(), String> {
        let bodies: Vec<Value> = batch.iter().map(|due| self.body(due, now)).collect();
        match self.post(&bodies) {
            Sent::Taken => {
                self.taken(batch, now);
                Ok(())
            }
            Sent::Refused { status: 400 | 413 | 422, .. } if batch.len() > 1 => {
                batch.chunks(1).try_for_each(|one| self.send(one, now))
            }
            Sent::Refused { status: status @ (400 | 413 | 422), reason, .. } => {
                self.bury(&batch[0], now, format!("{status}: {reason}"));
                Ok(())
            }
            Sent::Refused { status, reason, .. } => Err(format!("{status}: {reason}")),
            Sent::Failed(error) => Err(error),
        }
    }

    fn post(&self, bodies: &[Value]) -> Sent {
        let headers: Vec<(&str, &str)> = self.token.iter().map(|token| ("authorization", token.as_str())).collect();
        self.client.post(&headers, &serde_json::to_vec(bodies).unwrap_or_default())
    }

    fn taken(&mut self, batch: &[Due], now: Time) {
        for due in batch {
            self.remember(due, now);
            self.kept.delivered += 1;
        }
    }

    fn remember(&mut self, due: &Due, now: Time) {
        let told = self.told.entry(due.recorded.alert.id.clone()).or_insert(Told { tell: due.tell, since: now });
        if told.tell != due.tell {
            *told = Told { tell: due.tell, since: now };
        }
    }

    fn bury(&mut self, due: &Due, now: Time, error: String) {
        // Refused once, it is not listed anew at each interval.
        let known = self.told.get(&due.recorded.alert.id).is_some_and(|told| told.tell == due.tell);
        self.remember(due, now);
        if !known {
            tracing::error!(endpoint = self.endpoint.name, alert = due.recorded.alert.id, error, "notify.dead_end");
            let position = due.recorded.resolved_position.unwrap_or(due.recorded.position);
            self.kept.bury(DeadEnd { id: due.recorded.alert.id.clone(), position, attempts: 1, time: now, error });
        }
    }

    /// One alert as API v2 takes it.
    fn body(&self, due: &Due, now: Time) -> Value {
        let alert = &due.recorded.alert;
        let since = self.told.get(&alert.id).filter(|told| told.tell == due.tell).map_or(now, |told| told.since);
        let held = (self.resend.as_secs() * INTERVALS_HELD).max(HELD_SECONDS_MIN);
        let ends = match due.tell {
            Tell::Firing => now.plus_seconds(i64::try_from(held).unwrap_or(i64::MAX / 2_000_000)),
            Tell::Covered | Tell::Held => since,
            Tell::Resolved => alert.resolved_at.unwrap_or(since),
        };
        let position = due.recorded.position;
        let mut annotations = json!({
            "summary": format!("{} on {}: {} against {}", alert.rule.as_str(), alert.stack, alert.value, alert.threshold),
            "value": alert.value,
            "threshold": alert.threshold,
            "samples": alert.samples.to_string(),
            "breaching": alert.breaching.to_string(),
            "pending_since": alert.pending_since.to_string(),
            "evidence": format!("{}/v1/entries/governance/{position}", self.link),
            "alert_id": alert.id,
        });
        if let Some(waiver) = due.waiver.as_ref().or(alert.covered_by.as_ref()) {
            annotations["waiver"] = json!(waiver);
        }
        if let Some(reason) = &alert.reason {
            annotations["reason"] = json!(reason);
        }
        json!({
            "labels": {
                "alertname": format!("govledger_{}", alert.rule.as_str()),
                "stack": alert.stack,
                "engine": alert.engine_hash,
                "rule": alert.rule.as_str(),
                "severity": alert.severity,
            },
            "annotations": annotations,
            "startsAt": alert.firing_since,
            // Alertmanager refuses an alert that ends before it starts.
            "endsAt": ends.max(alert.firing_since),
            "generatorURL": format!("{}/stacks/{}", self.link, super::message::encode(&alert.stack)),
        })
    }

    fn show(&mut self) {
        self.endpoint.take(&self.kept);
        self.deliveries.put(&self.endpoint);
    }
}

fn is_recent(since: Time, now: Time) -> bool {
    now.micros_since(since) <= ENDED_SECONDS * crate::domain::time::MICROS_PER_SECOND
}

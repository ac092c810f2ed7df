//! A webhook: messages in the order of the ledger, each until it is taken or given up.
//!
//! A message that is not taken is set aside and tried again by its schedule, so that it holds up no other. Those set aside
//! are bounded; beyond the bound nothing new is begun until one of them ends, and the rest waits in the ledger.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::NotifyError;
use super::client::{Client, Sent};
use super::config::WebhookConfig;
use super::kept::{DeadEnd, Keeper, Kept, Pending};
use super::message::{Held, Message, Selection, held};
use super::schedule::{pause, retry_after};
use super::secrets::Signer;
use super::stop::Stop;
use super::view::{Deliveries, Endpoint, EndpointKind, EndpointState};
use crate::clock::monotonic;
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::sequencer::Handle;

/// Messages set aside at the most.
const PENDING_MAX: usize = 1_000;
/// Entries read at once.
const BLOCK: u64 = 256;
/// How often it is looked whether a maintenance window that holds a message is over: it may be ended early, or another set.
const HELD_SECONDS: i64 = 15;
/// How long an entry that cannot be read is left alone.
const UNREADABLE_SECONDS: i64 = 60;
/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Changes after which the state is kept, and the longest time that it is not: what a crash repeats at the most.
const UNKEPT_MAX: u32 = 64;
const UNKEPT_FOR: Duration = Duration::from_secs(1);

/// Tells one webhook.
#[derive(Debug)]
pub(super) struct Worker {
    client: Client,
    signer: Signer,
    selection: Selection,
    retry_seconds: Vec<u64>,
    handle: Handle,
    stop: Stop,
    deliveries: Deliveries,
    endpoint: Endpoint,
    keeper: Keeper,
    kept: Kept,
    /// Messages read from the ledger and not begun, and one past the last entry that was read for them.
    ready: VecDeque<Message>,
    read_to: u64,
    unkept: u32,
    kept_at: Instant,
    failures: u32,
    /// After failures in a row nothing is sent before.
    paused_until: Option<Instant>,
    /// Nothing is sent before: the receiver asked for it.
    quiet_until: Option<Time>,
}

impl Worker {
    pub(super) fn new(
        config: &WebhookConfig,
        handle: Handle,
        link: &str,
        stop: Stop,
        deliveries: Deliveries,
    ) -> Result<Self, NotifyError> {
        let signer = Signer::read(config)?;
        let keeper = Keeper::new(&handle, &config.name);
        let kept = keeper.load();
        let mut endpoint = Endpoint::new(&config.name, EndpointKind::Webhook, &config.url);
        endpoint.verify_key = signer.public();
        Ok(Self {
            client: Client::new(config.url.clone(), config.allow_private),
            signer,
            selection: Selection::new(config, link),
            retry_seconds: config.retry_seconds.clone(),
            handle,
            stop,
            deliveries,
            endpoint,
            keeper,
            read_to: kept.cursor,
            kept,
            ready: VecDeque::new(),
            unkept: 0,
            kept_at: monotonic(),
            failures: 0,
            paused_until: None,
            quiet_until: None,
        })
    }

    /// Tells until it is time to stop, or the receiver is gone.
    pub(super) fn run(mut self) {
        self.show();
        if !super::caught_up(&self.handle, &self.stop) {
            return;
        }
        let mut rest = Duration::ZERO;
        while !self.stop.wait(rest) && self.endpoint.state != EndpointState::Disabled {
            rest = if self.step() { Duration::ZERO } else { LOOK };
            self.keep(!rest.is_zero());
        }
        self.keep(true);
    }

    /// Sends one message, if one is due.
    fn step(&mut self) -> bool {
        let now = self.handle.now();
        let is_paused = self.paused_until.is_some_and(|until| monotonic() < until);
        if is_paused || self.quiet_until.is_some_and(|until| now < until) {
            return false;
        }
        if let Some(index) = self.kept.pending.iter().position(|pending| pending.due <= now) {
            let pending = self.kept.pending.remove(index);
            self.again(pending, now);
            return true;
        }
        if self.kept.pending.len() >= PENDING_MAX || !self.fill(now) {
            return false;
        }
        if let Some(message) = self.ready.pop_front() {
            let position = message.position;
            if let Some(held) = self.held(&message, now) {
                self.kept.pending.extend(held.then(|| waiting(&message, now)));
                self.kept.cursor = position + 1;
            } else if self.attempt(&message, 1, now) {
                self.kept.cursor = position + 1;
            } else {
                self.ready.push_front(message);
            }
        } else {
            self.kept.cursor = self.read_to;
        }
        self.unkept += 1;
        true
    }

    /// Reads the next block, where nothing is ready. Whether there was anything to read.
    fn fill(&mut self, now: Time) -> bool {
        if !self.ready.is_empty() {
            return true;
        }
        self.kept.cursor = self.read_to;
        let Some(reader) = self.handle.shared().reader("governance") else { return false };
        let size = self.handle.shared().governance().size;
        let to = size.min(self.read_to + BLOCK);
        if self.read_to >= to {
            return false;
        }
        let mut entries = Vec::new();
        let read = reader.for_each_entry(self.read_to..to, |position, entry| {
            entries.push((position, entry.to_vec()));
            ControlFlow::Continue(())
        });
        if let Err(error) = read {
            tracing::error!(endpoint = self.endpoint.name, %error, "notify.unreadable");
            return false;
        }
        let governance = self.handle.shared().governance();
        let messages =
            entries.iter().filter_map(|(position, entry)| self.selection.message(&governance, *position, entry, now));
        self.ready = messages.collect();
        self.read_to = to;
        true
    }

    /// Whether a maintenance window holds a message: for now (true), or for good.
    fn held(&self, message: &Message, now: Time) -> Option<bool> {
        let entry = self.handle.shared().reader("governance")?.entry(message.position).ok()?;
        let governance = self.handle.shared().governance();
        match held(&governance, message.position, &entry, now) {
            Held::No => None,
            Held::Until(_) => Some(true),
            Held::ForGood => Some(false),
        }
    }

    /// Tries a message again that was set aside.
    fn again(&mut self, pending: Pending, now: Time) {
        self.unkept += 1;
        let entry = self.handle.shared().reader("governance").and_then(|reader| reader.entry(pending.position).ok());
        let Some(entry) = entry else {
            // What cannot be read now is not lost: it stays, and is looked for again.
            tracing::error!(endpoint = self.endpoint.name, position = pending.position, "notify.unreadable");
            self.kept.pending.push(Pending { due: now.plus_seconds(UNREADABLE_SECONDS), ..pending });
            return;
        };
        let message = {
            let governance = self.handle.shared().governance();
            self.selection.message(&governance, pending.position, &entry, now)
        };
        let Some(message) = message else {
            // The configuration was changed, and this endpoint is no longer told of it.
            tracing::info!(endpoint = self.endpoint.name, position = pending.position, "notify.deselected");
            return;
        };
        match self.held(&message, now) {
            Some(true) => {
                self.kept.pending.push(Pending { due: now.plus_seconds(HELD_SECONDS), ..pending });
                return;
            }
            Some(false) => return,
            None => {}
        }
        if !self.attempt(&message, pending.attempts + 1, now) {
            self.kept.pending.push(pending);
        }
    }

    /// Sends a message. Whether the endpoint is done with it for now: taken, set aside or given up.
    fn attempt(&mut self, message: &Message, attempts: u32, now: Time) -> bool {
        let timestamp = now.micros().div_euclid(MICROS_PER_SECOND);
        let signature = self.signer.sign(&message.id, timestamp, &message.body);
        let timestamp = timestamp.to_string();
        let headers =
            [("webhook-id", message.id.as_str()), ("webhook-timestamp", &timestamp), ("webhook-signature", &signature)];
        match self.client.post(&headers, &message.body) {
            Sent::Taken => {
                self.kept.delivered += 1;
                self.endpoint.state = EndpointState::Active;
                self.endpoint.last_taken = Some(now);
                self.failures = 0;
                self.paused_until = None;
            }
            Sent::Refused { status: 410, .. } => {
                tracing::error!(
                    endpoint = self.endpoint.name,
                    "notify.disabled: it answered 410; it is told nothing until the next start"
                );
                self.endpoint.state = EndpointState::Disabled;
                self.endpoint.last_error = Some("410: it is gone; it is told nothing until the next start".to_owned());
                return false;
            }
            Sent::Refused { status, retry_after: after, reason } => {
                let after = after.as_deref().and_then(|text| retry_after(text, now));
                self.failed(message, attempts, now, format!("{status}: {reason}"), after);
            }
            Sent::Failed(error) => self.failed(message, attempts, now, error, None),
        }
        true
    }

    fn failed(&mut self, message: &Message, attempts: u32, now: Time, error: String, after: Option<Time>) {
        self.endpoint.state = EndpointState::Failing;
        self.endpoint.last_error = Some(error.clone());
        self.failures += 1;
        self.endpoint.failed_total += 1;
        self.paused_until = Some(monotonic() + pause(self.failures));
        self.quiet_until = after;
        let (id, position) = (message.id.clone(), message.position);
        let wait = self.retry_seconds.get(attempts as usize - 1);
        let Some(wait) = wait else {
            tracing::error!(endpoint = self.endpoint.name, id, attempts, error, "notify.dead_end");
            return self.kept.bury(DeadEnd { id, position, attempts, time: now, error });
        };
        tracing::warn!(endpoint = self.endpoint.name, id, attempts, error, "notify.failed");
        let scheduled = now.plus_seconds(i64::try_from(*wait).unwrap_or_default());
        let due = after.map_or(scheduled, |after| after.max(scheduled));
        self.kept.pending.push(Pending { id, position, attempts, due, error });
    }

    /// Keeps the state, where enough has changed or there is time for it.
    fn keep(&mut self, is_idle: bool) {
        let since = monotonic().duration_since(self.kept_at);
        if self.unkept == 0 || (!is_idle && self.unkept < UNKEPT_MAX && since < UNKEPT_FOR) {
            return;
        }
        match self.keeper.store(&mut self.kept) {
            Ok(()) => (self.unkept, self.kept_at) = (0, monotonic()),
            Err(error) => {
                tracing::error!(endpoint = self.endpoint.name, %error, "notify.unkept: a start repeats messages");
            }
        }
        self.show();
    }

    fn show(&mut self) {
        self.kept.pending.sort_by_key(|pending| pending.due);
        self.endpoint.take(&self.kept);
        self.deliveries.put(&self.endpoint);
    }
}

/// A message set aside for as long as a maintenance window holds it.
fn waiting(message: &Message, now: Time) -> Pending {
    Pending {
        id: message.id.clone(),
        position: message.position,
        attempts: 0,
        due: now.plus_seconds(HELD_SECONDS),
        error: "a maintenance window holds it".to_owned(),
    }
}

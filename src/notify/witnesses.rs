//! Asking witnesses to cosign: the governance checkpoint goes to each witness of the policy in force (C2SP tlog-witness).
//!
//! In scope: which checkpoint is submitted and when, keeping the latest one that has its quorum, and saying what went wrong. Out
//! of scope: who the witnesses are (the policy, by two admins), and judging anything: no entry depends on it.
//!
//! One thread does it all, so nothing else ever waits for a witness. A *target* is the ledger's checkpoint of some moment; each
//! witness is asked for that one until it has signed it, and another target is taken once [`CosignConfig::every_seconds`] have
//! passed and the ledger has grown: so the witnesses sign the same checkpoint, and one note carries all of them. Witnesses that are due
//! are asked at the same time, each with a limit; one that fails is asked again after a pause that doubles up to a minute.
//!
//! What a crash leaves: before a signature is kept it is lost with the process, and the witness signs the next target as well,
//! since it answers with the size that it holds. The kept checkpoint (`ledger::cosigned`) is replaced whole, and only by one that has the
//! quorum, so a witness that is away never takes back what was reached. The file of alarms is written before an alarm is shown.
//!
//! An *alarm* is what no honest ledger and witness come to: the witness holds another history (422, or 409 without a size), or
//! a longer one than this node has. That witness is not asked again before the next start, or until the policy has another key or
//! URL for it: somebody is to look first. See docs/OPERATIONS.md.

mod alarms;
mod ask;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ledger::note::VerifierKey;
use ledger::{Reader, SignedCheckpoint};
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::schedule::{pause, retry_after};
use super::stop::Stop;
use super::{LAST_WORDS, NotifyError};
use crate::clock::monotonic;
use crate::domain::policy::{TrustPolicy, WitnessPolicy};
use crate::domain::time::Time;
use crate::sequencer::Handle;

use alarms::Alarms;
pub use alarms::{WitnessAlarm, WitnessCode};
use ask::{Asked, ask};
pub use view::{CosignedRow, WitnessRow, WitnessState, Witnessed};

/// How often it is looked whether anybody is due.
const LOOK: Duration = Duration::from_millis(200);
/// The end of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;

/// How witnesses are asked. Who they are is in the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CosignConfig {
    /// Whether this node asks at all.
    pub enabled: bool,
    /// The shortest time from one checkpoint that is submitted to the next.
    pub every_seconds: u64,
    /// Whether a witness may have a private, loopback or link-local address.
    pub allow_private: bool,
}

impl Default for CosignConfig {
    fn default() -> Self {
        Self { enabled: true, every_seconds: 60, allow_private: false }
    }
}

impl CosignConfig {
    fn check(&self) -> Result<(), NotifyError> {
        if (1..=86_400).contains(&self.every_seconds) {
            return Ok(());
        }
        let reason = format!("every_seconds is {}; it is 1 to 86400", self.every_seconds);
        Err(NotifyError::Endpoint { name: "cosign".to_owned(), reason })
    }
}

/// The thread that asks.
#[derive(Debug)]
pub struct Witnesses {
    stop: Stop,
    ended: Receiver<()>,
    witnessed: Witnessed,
}

impl Witnesses {
    /// Starts asking, as soon as a policy names anybody.
    pub fn start(config: &CosignConfig, handle: &Handle) -> Result<Self, NotifyError> {
        config.check()?;
        let (stop, witnessed) = (Stop::default(), Witnessed::default());
        let (alive, ended) = channel::<()>();
        if config.enabled {
            let worker = Worker::new(config.clone(), handle.clone(), stop.clone(), witnessed.clone());
            std::thread::Builder::new().name("witnesses".to_owned()).spawn(move || {
                worker.run();
                drop(alive);
            })?;
        }
        Ok(Self { stop, ended, witnessed })
    }

    /// How the witnesses are.
    pub const fn witnessed(&self) -> &Witnessed {
        &self.witnessed
    }

    /// Stops; waits a little for requests under way.
    pub fn stop(self) {
        self.stop.ask();
        if matches!(self.ended.recv_timeout(LAST_WORDS), Err(RecvTimeoutError::Timeout)) {
            tracing::info!("witness.stopped_early: a request under way was left; the witness is asked again");
        }
    }
}

/// One witness, as the policy in force has it.
#[derive(Debug)]
struct Witness {
    policy: WitnessPolicy,
    key: VerifierKey,
    client: Client,
    row: WitnessRow,
    /// The size that it signed last, as far as is known here.
    held: u64,
    failures: u32,
    /// Not asked before.
    paused_until: Option<Instant>,
}

/// A checkpoint that is being submitted.
#[derive(Debug)]
struct Target {
    checkpoint: SignedCheckpoint,
    since: Instant,
}

#[derive(Debug)]
struct Worker {
    config: CosignConfig,
    handle: Handle,
    stop: Stop,
    witnessed: Witnessed,
    alarms: Alarms,
    trust: TrustPolicy,
    witnesses: BTreeMap<String, Witness>,
    target: Option<Target>,
    /// The latest checkpoint that had its quorum.
    kept: Option<SignedCheckpoint>,
}

impl Worker {
    fn new(config: CosignConfig, handle: Handle, stop: Stop, witnessed: Witnessed) -> Self {
        let alarms = Alarms::load(&handle);
        Self {
            config,
            handle,
            stop,
            witnessed,
            alarms,
            trust: TrustPolicy::default(),
            witnesses: BTreeMap::new(),
            target: None,
            kept: None,
        }
    }

    fn run(mut self) {
        if !super::caught_up(&self.handle, &self.stop) {
            return;
        }
        let Some(reader) = self.handle.shared().reader("governance") else { return };
        match ledger::cosigned::load_cosigned(reader.dir(), &reader.keys()) {
            Ok(kept) => self.kept = kept,
            // It can be asked for again, so it is in nobody's way.
            Err(error) => tracing::warn!(%error, "witness.cosigned_unreadable: the witnesses are asked anew"),
        }
        while !self.stop.wait(LOOK) {
            self.follow_policy(&reader);
            if !self.witnesses.is_empty() {
                self.round(&reader);
            }
        }
    }

    /// Takes over what the policy in force says.
    fn follow_policy(&mut self, reader: &Reader) {
        let trust = self.handle.shared().governance().policy.trust.clone();
        if trust == self.trust {
            return;
        }
        self.witnesses.retain(|name, known| trust.witnesses.get(name) == Some(&known.policy));
        for (name, policy) in &trust.witnesses {
            if !self.witnesses.contains_key(name)
                && let Some(witness) = self.begin(name, policy, reader)
            {
                self.witnesses.insert(name.clone(), witness);
            }
        }
        let of_witnesses: Vec<String> = self.witnesses.keys().cloned().collect();
        self.alarms.retain(&of_witnesses);
        self.trust = trust;
        self.target = None;
        self.show(reader);
    }

    fn begin(&mut self, name: &str, policy: &WitnessPolicy, reader: &Reader) -> Option<Witness> {
        // A policy in force was checked, so its keys are keys.
        let key = VerifierKey::parse(&policy.vkey).ok()?;
        let mut row = WitnessRow::new(name, policy);
        let mut held = 0;
        if let Some(kept) = &self.kept
            && let Ok(signatures) = kept.verify_with(reader.keys().key_at(kept.size()), std::slice::from_ref(&key))
            && let Some(time_s) = signatures.first().and_then(|signature| signature.time)
        {
            (held, row.size, row.time) = (kept.size(), Some(kept.size()), posix(time_s));
        }
        if let Some(alarm) = self.alarms.of(name, policy) {
            // A start asks once: where it was mended meanwhile, the witness signs, and the alarm is over.
            (row.state, row.alarm) = (WitnessState::Alarmed, Some(alarm));
        }
        let url = format!("{}/add-checkpoint", policy.url.trim_end_matches('/'));
        let client = Client::new(url, self.config.allow_private);
        Some(Witness { policy: policy.clone(), key, client, row, held, failures: 0, paused_until: None })
    }

    /// Asks whoever is due, all at once.
    fn round(&mut self, reader: &Reader) {
        self.choose_target(reader);
        let Some(target) = self.target.as_ref().map(|target| target.checkpoint.clone()) else { return };
        let now = monotonic();
        let due: Vec<(&String, &Witness)> =
            self.witnesses.iter().filter(|(_, witness)| witness.is_due(&target, now)).collect();
        if due.is_empty() {
            return;
        }
        let asked: Vec<(String, Asked)> = std::thread::scope(|scope| {
            let asking: Vec<_> = due
                .into_iter()
                .map(|(name, witness)| {
                    let (target, name) = (&target, name.clone());
                    let asking = std::thread::Builder::new()
                        .name(format!("witness-{name}"))
                        .spawn_scoped(scope, move || ask(&witness.client, &witness.key, witness.held, target, reader));
                    (name, asking)
                })
                .collect();
            let asked = |asking: std::io::Result<std::thread::ScopedJoinHandle<'_, Asked>>| match asking {
                Ok(asking) => asking.join().unwrap_or_else(|_panic| not_asked("the request ended unexpectedly")),
                Err(error) => not_asked(&format!("no thread: {error}")),
            };
            asking.into_iter().map(|(name, asking)| (name, asked(asking))).collect()
        });
        for (name, asked) in asked {
            self.take(&name, asked, reader);
        }
        self.show(reader);
    }

    /// Another checkpoint, where it is time for one and the ledger has grown.
    fn choose_target(&mut self, reader: &Reader) {
        let every = Duration::from_secs(self.config.every_seconds);
        let now = monotonic();
        let present = reader.checkpoint();
        let is_over = self.target.as_ref().is_none_or(|target| {
            now.duration_since(target.since) >= every && present.size() > target.checkpoint.size()
        });
        if is_over && present.size() > 0 {
            self.target = Some(Target { checkpoint: present, since: now });
        }
    }

    fn take(&mut self, name: &str, asked: Asked, reader: &Reader) {
        let now = self.handle.now();
        let Some(witness) = self.witnesses.get_mut(name) else { return };
        match asked {
            Asked::Signed { line, time_s } => {
                let Some(target) = &mut self.target else { return };
                let size = target.checkpoint.size();
                if let Err(error) = target.checkpoint.add_signature(&line) {
                    return witness.fail(name, &error.to_string(), None);
                }
                witness.signed(name, size, posix(time_s));
                self.alarms.clear(name);
                self.keep(reader);
            }
            Asked::Ahead { held } => {
                // It signed more of this ledger than the target has, before a crash say: a target of the present covers it.
                witness.held = held;
                self.target = None;
            }
            Asked::Alarm { code, detail } => {
                let alarm = WitnessAlarm { code, detail, time: now };
                tracing::error!(
                    witness = name,
                    code = code.as_str(),
                    detail = alarm.detail,
                    "witness.alarm: it is not asked again before a start or another policy; see docs/OPERATIONS.md"
                );
                self.handle.shared().status.integrity_alarms.fetch_add(1, Ordering::SeqCst);
                self.alarms.raise(name, &witness.policy, &alarm);
                witness.row.state = WitnessState::Alarmed;
                witness.row.failures_total += 1;
                witness.row.alarm = Some(alarm);
                // Asked and answered: only now is it left alone.
                witness.failures = u32::MAX;
            }
            Asked::Failed { reason, retry_after: after } => {
                let wait = after.and_then(|after| retry_after(&after, now)).map(|until| until.micros_since(now).max(0));
                witness.fail(
                    name,
                    &reason,
                    wait.and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros),
                );
            }
        }
    }

    /// Keeps the target, where it has its quorum now.
    fn keep(&mut self, reader: &Reader) {
        let (Some(target), Ok(trust)) = (&self.target, self.trust.resolve()) else { return };
        let checkpoint = &target.checkpoint;
        let is_met = trust.weigh(checkpoint, reader.keys().key_at(checkpoint.size())).is_ok_and(|found| found.is_met());
        let is_newer = self.kept.as_ref().is_none_or(|kept| kept.size() <= checkpoint.size());
        if !is_met || !is_newer {
            return;
        }
        match ledger::cosigned::keep_cosigned(reader.dir(), checkpoint) {
            Ok(()) => self.kept = Some(checkpoint.clone()),
            Err(error) => tracing::error!(%error, "witness.unkept: the cosigned checkpoint before stays"),
        }
    }

    fn show(&self, reader: &Reader) {
        let rows = self.witnesses.values().map(|witness| witness.row.clone()).collect();
        let cosigned = self.kept.as_ref().and_then(|kept| {
            let weighed = self.trust.resolve().ok()?.weigh(kept, reader.keys().key_at(kept.size())).ok()?;
            let time = weighed.cosigners.iter().filter_map(|cosigner| posix(cosigner.time_s)).max();
            let cosigners = weighed.cosigners.iter().map(|cosigner| cosigner.name.clone()).collect();
            Some(CosignedRow { size: kept.size(), time, has_quorum: weighed.is_met(), cosigners })
        });
        self.witnessed.put(rows, cosigned);
    }
}

fn not_asked(reason: &str) -> Asked {
    Asked::Failed { reason: reason.to_owned(), retry_after: None }
}

impl Witness {
    fn is_due(&self, target: &SignedCheckpoint, now: Instant) -> bool {
        let is_stopped = self.row.state == WitnessState::Alarmed && self.failures == u32::MAX;
        let has_signed = self.row.size == Some(target.size()) && self.row.state == WitnessState::Active;
        !is_stopped && !has_signed && self.paused_until.is_none_or(|until| now >= until)
    }

    fn signed(&mut self, name: &str, size: u64, time: Option<Time>) {
        if self.row.state == WitnessState::Alarmed {
            tracing::warn!(witness = name, size, "witness.alarm_over: it signs again what this ledger has");
        }
        self.held = size;
        self.failures = 0;
        self.paused_until = None;
        (self.row.state, self.row.size, self.row.time) = (WitnessState::Active, Some(size), time);
        (self.row.last_error, self.row.alarm) = (None, None);
    }

    fn fail(&mut self, name: &str, reason: &str, wait: Option<Duration>) {
        tracing::warn!(witness = name, reason, "witness.failed");
        self.failures = self.failures.saturating_add(1).min(u32::MAX - 1);
        let rest = pause(self.failures);
        self.paused_until = Some(monotonic() + wait.map_or(rest, |wait| wait.max(rest)));
        // What was an alarm stays one until the witness signs.
        if self.row.state != WitnessState::Alarmed {
            self.row.state = WitnessState::Failing;
        }
        self.row.failures_total += 1;
        self.row.last_error = Some(reason.to_owned());
    }
}

/// A cosignature's time, where it is one that can be shown: the witness may say anything.
fn posix(seconds: u64) -> Option<Time> {
    i64::try_from(seconds).ok().filter(|seconds| *seconds <= SECONDS_MAX).map(Time::from_seconds)
}

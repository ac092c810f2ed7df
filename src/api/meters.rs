//! The metrics page: names and labels are stable and listed in docs/METRICS.md.
//!
//! Gauges are read from the folds when asked for; what happens between two scrapes (batches, requests, new checkpoints) is
//! gathered here once a second.

mod backups;
mod rollbacks;
mod told;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::ApiState;
use crate::domain::event::AlertState;
use crate::domain::refusal::Code;
use crate::domain::time::{MICROS_PER_SECOND, Time};
use crate::projection::slo::{RowState, RuleRow};
use crate::sequencer::BatchFigures;

/// How often what happens between scrapes is gathered.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter>;

/// What is counted between scrapes.
#[derive(Debug)]
pub(crate) struct Meters {
    requests: Counters,
    batch_entries: Histogram,
    commit_seconds: Histogram,
    seen: Mutex<Seen>,
}

/// How far the writer's figures were taken.
#[derive(Debug, Default)]
struct Seen {
    batches: u64,
    /// Size of each ledger at start, and with its last change: the size and when it was noticed.
    ledgers: BTreeMap<String, (u64, u64, Time)>,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            requests: Counters::default(),
            batch_entries: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn count_request(&self, route: &str, status: u16) {
        self.requests.get_or_create(&vec![("route", route.to_owned()), ("status", status.to_string())]).inc();
    }

    /// Takes over the batches committed since the last call.
    fn take_batches(&self, figures: &BatchFigures) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = usize::try_from(figures.count.saturating_sub(seen.batches)).unwrap_or(usize::MAX);
        seen.batches = figures.count;
        let skip = figures.recent_entries.len().saturating_sub(fresh);
        for (entries, micros) in figures.recent_entries.iter().zip(&figures.recent_commit_us).skip(skip) {
            self.batch_entries.observe(as_f64(*entries));
            self.commit_seconds.observe(as_f64(*micros) / 1e6);
        }
    }

    /// Notes when each ledger's checkpoint last changed; before that, the time of its last entry.
    fn note_sizes(&self, state: &ApiState) {
        let shared = state.handle().shared();
        let now = state.handle().now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, reader) in shared.readers() {
            let size = reader.size();
            match seen.ledgers.get_mut(&name) {
                Some((_, last, at)) if *last != size => (*last, *at) = (size, now),
                Some(_) => {}
                None => {
                    let last_entry = last_time(state, &name);
                    seen.ledgers.insert(name, (size, size, last_entry));
                }
            }
        }
    }
}

fn last_time(state: &ApiState, ledger: &str) -> Time {
    match crate::sequencer::metrics_number(ledger) {
        None => state.handle().shared().governance().time,
        Some(number) => state.handle().shared().metrics().get(&number).map(|known| known.last_time).unwrap_or_default(),
    }
}

/// Gathers for ever.
pub(crate) async fn sample(state: ApiState) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    loop {
        ticks.tick().await;
        gather(&state);
    }
}

fn gather(state: &ApiState) {
    let figures = state.handle().shared().status.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
    state.meters().take_batches(&figures);
    state.meters().note_sizes(state);
}

/// The page.
pub(crate) fn text(state: &ApiState) -> String {
    gather(state);
    let mut registry = Registry::default();
    ledgers(state, &mut registry);
    sealing(state, &mut registry);
    writer(state, &mut registry);
    access(state, &mut registry);
    rules(state, &mut registry);
    scrapes(state, &mut registry);
    incidents(state, &mut registry);
    backups::backups(state, &mut registry);
    rollbacks::rollbacks(state, &mut registry);
    told::deliveries(state, &mut registry);
    told::witnesses(state, &mut registry);
    let meters = state.meters();
    registry.register("govledger_batch_entries", "Entries of each committed batch", meters.batch_entries.clone());
    registry.register(
        "govledger_commit_seconds",
        "From the first write of a batch to the end of its sync",
        meters.commit_seconds.clone(),
    );
    registry.register("govledger_http_requests", "Answers, by route pattern and status", meters.requests.clone());
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    as_prometheus_text(&text)
}

/// From `OpenMetrics` to the older text format, which every reader takes: counters are named in full, and there is no end mark.
fn as_prometheus_text(open_metrics: &str) -> String {
    let counters: Vec<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name), Some(rest)) if counters.contains(&name) => {
                text.extend(["# ", keyword, " ", name, "_total ", rest]);
            }
            _ => match line.split_once("{} ") {
                // A series without labels.
                Some((name, value)) if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                    text.extend([name, " ", value]);
                }
                _ => text.push_str(line),
            },
        }
        text.push('\n');
    }
    text
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

fn set(family: &Gauges, labels: &Labels, value: f64) {
    family.get_or_create(labels).set(value);
}

/// Metrics are binary floats by their format; nothing decides by them.
#[expect(clippy::cast_precision_loss, reason = "a metric is a binary float by its format")]
const fn as_f64(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a binary float by its format")]
const fn seconds(time: Time) -> f64 {
    time.micros() as f64 / MICROS_PER_SECOND as f64
}

fn ledgers(state: &ApiState, registry: &mut Registry) {
    let entries = counters(registry, "govledger_entries", "Entries appended since the start of the process");
    let sizes = gauges(registry, "govledger_ledger_size", "Entries under the last signed checkpoint");
    let signed = gauges(registry, "govledger_checkpoint_time_seconds", "When that checkpoint was signed");
    let seen = state.meters().seen.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, (first, size, at)) in &seen.ledgers {
        let labels = || vec![("ledger", name.clone())];
        entries.get_or_create(&labels()).inc_by(size - first);
        set(&sizes, &labels(), as_f64(*size));
        set(&signed, &labels(), seconds(*at));
    }
}

fn sealing(state: &ApiState, registry: &mut Registry) {
    let sealed = counters(registry, "govledger_segments_sealed", "Full segments that were compressed");
    let failures = counters(registry, "govledger_sealing_failures", "Attempts to compress a segment that failed");
    let waiting = gauges(registry, "govledger_segments_waiting", "Full segments that are not compressed yet");
    let status = &state.handle().shared().status;
    for (name, figures) in status.sealing.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let labels = || vec![("ledger", name.clone())];
        sealed.get_or_create(&labels()).inc_by(figures.segments);
        failures.get_or_create(&labels()).inc_by(figures.failures);
        set(&waiting, &labels(), as_f64(figures.waiting));
    }
}

fn scrapes(state: &ApiState, registry: &mut Registry) {
    let all = counters(registry, "govledger_scrapes", "Scrapes of Triton, by what became of them");
    let up = gauges(registry, "govledger_scrape_up", "1 while the last scrape of this server counts");
    let last = gauges(registry, "govledger_scrape_last_time_seconds", "When the last scrape that counts was recorded");
    let status = &state.handle().shared().status;
    for ((stack, instance), figures) in status.scrapes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let labels = || vec![("stack", stack.clone()), ("instance", instance.clone())];
        let outcomes = [("recorded", figures.recorded), ("refused", figures.refused), ("failed", figures.failed)];
        for (outcome, count) in outcomes {
            let mut labels = labels();
            labels.push(("outcome", outcome.to_owned()));
            all.get_or_create(&labels).inc_by(count);
        }
        set(&up, &labels(), f64::from(u8::from(figures.failing.is_none())));
        set(&last, &labels(), seconds(figures.last.unwrap_or_default()));
    }
}

fn access(state: &ApiState, registry: &mut Registry) {
    if let Some(trail) = state.trail() {
        set(
            &gauges(registry, "govledger_access_up", "1 while the access trail can be written"),
            &Vec::new(),
            f64::from(u8::from(trail.is_up())),
        );
        let not_kept =
            counters(registry, "govledger_access_not_kept", "Accesses that the trail counted and did not keep");
        not_kept.get_or_create(&Vec::new()).inc_by(trail.not_kept());
    }
}

fn writer(state: &ApiState, registry: &mut Registry) {
    let shared = state.handle().shared();
    let status = &shared.status;
    set(
        &gauges(registry, "govledger_build_info", "Always 1"),
        &vec![("version", env!("CARGO_PKG_VERSION").to_owned())],
        1.0,
    );
    set(
        &gauges(registry, "govledger_writer_poisoned", "1 after an I/O error: only a restart recovers"),
        &Vec::new(),
        f64::from(u8::from(shared.is_poisoned())),
    );
    set(
        &gauges(registry, "govledger_queue_entries", "Submissions waiting for the writer"),
        &Vec::new(),
        as_f64(status.queued.load(Ordering::Relaxed)),
    );
    let alarms = counters(
        registry,
        "govledger_integrity_alarms",
        "Roots, offsets or alerts that this node does not derive itself",
    );
    alarms.get_or_create(&Vec::new()).inc_by(status.integrity_alarms.load(Ordering::Relaxed));
    let stopped =
        gauges(registry, "govledger_intake_stopped", "1 where intake of this partition waits for an operator");
    for partition in status.stopped_intakes.lock().unwrap_or_else(PoisonError::into_inner).keys() {
        set(&stopped, &vec![("partition", partition.clone())], 1.0);
    }
    let lag = gauges(registry, "govledger_kafka_lag", "Records on the broker that are not in the ledger yet");
    for ((topic, partition), records) in status.kafka_lag.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let records = u64::try_from(*records).unwrap_or_default();
        set(&lag, &vec![("topic", topic.clone()), ("partition", partition.to_string())], as_f64(records));
    }
    let pauses = counters(registry, "govledger_kafka_pauses", "Times that a busy writer had a partition paused");
    for (ledger, count) in status.kafka_pauses.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        pauses.get_or_create(&vec![("ledger", ledger.clone())]).inc_by(*count);
    }
    verdicts(state, registry);
}

fn verdicts(state: &ApiState, registry: &mut Registry) {
    let shared = state.handle().shared();
    let mut rejected: BTreeMap<Code, u64> = BTreeMap::new();
    for state in shared.metrics().values() {
        state.refused_by_code.iter().for_each(|(code, count)| *rejected.entry(*code).or_default() += count);
    }
    let (last_cut, through) = {
        let governance = shared.governance();
        governance.rejected.iter().for_each(|row| *rejected.entry(row.refusal.code).or_default() += 1);
        (governance.last_cut.as_ref().map(|cut| cut.instant), governance.evaluated_through)
    };
    let by_code = counters(registry, "govledger_rejected", "Entries refused, by code");
    for code in Code::ALL {
        by_code
            .get_or_create(&vec![("code", code.as_str().to_owned())])
            .inc_by(rejected.get(&code).copied().unwrap_or_default());
    }
    set(
        &gauges(registry, "govledger_last_cut_time_seconds", "The instant of the last cut"),
        &Vec::new(),
        seconds(last_cut.unwrap_or_default()),
    );
    set(
        &gauges(registry, "govledger_evaluated_through_time_seconds", "The last cut that names no partition missing"),
        &Vec::new(),
        seconds(through.unwrap_or_default()),
    );
}

/// By the ledger's own time: what is due at its last entry.
fn incidents(state: &ApiState, registry: &mut Registry) {
    let counts = crate::projection::answers::due_counts(&state.handle().shared().governance());
    let open = gauges(registry, "govledger_incidents_open", "Incidents that are neither resolved nor closed");
    for (acknowledged, value) in
        [("yes", counts["open"].saturating_sub(counts["unacknowledged"])), ("no", counts["unacknowledged"])]
    {
        set(&open, &vec![("acknowledged", acknowledged.to_owned())], as_f64(value as u64));
    }
    let overdue = gauges(registry, "govledger_incidents_overdue", "Reports and action items past due");
    for (what, name) in [("report", "report_overdue"), ("action_item", "action_item_overdue")] {
        set(&overdue, &vec![("what", what.to_owned())], as_f64(counts[name] as u64));
    }
}

fn rules(state: &ApiState, registry: &mut Registry) {
    let values = gauges(registry, "govledger_slo_value", "The measure at the last cut with a verdict");
    let thresholds = gauges(registry, "govledger_slo_threshold", "What it is held against");
    let states = gauges(registry, "govledger_slo_state", "1 for the state that holds");
    let firing = gauges(registry, "govledger_alerts_firing", "Alerts that fire now");
    let unpriced = gauges(
        registry,
        "govledger_unpriced_requests",
        "Requests without a price in the window of cost_per_request at the last cut",
    );
    let rows: Vec<RuleRow> = {
        let slo = state.handle().shared().slo();
        let names: Vec<String> = slo.stack_names().map(str::to_owned).collect();
        names.iter().flat_map(|name| slo.slo_rows(name)).collect()
    };
    for row in rows.into_iter().filter(|row| row.state != RowState::Disabled) {
        let labels = || {
            vec![
                ("stack", row.stack.clone()),
                ("engine", row.engine_hash.clone()),
                ("rule", row.rule.as_str().to_owned()),
            ]
        };
        if let Some(cost) = &row.cost {
            let labels = vec![("stack", row.stack.clone()), ("engine", row.engine_hash.clone())];
            set(&unpriced, &labels, as_f64(cost.unpriced));
        }
        if let Some(value) = row.value.as_deref().and_then(|value| value.parse().ok()) {
            set(&values, &labels(), value);
        }
        if let Some(threshold) = row.threshold.and_then(|threshold| threshold.to_string().parse().ok()) {
            set(&thresholds, &labels(), threshold);
        }
        for (name, holds) in [
            ("met", RowState::Met),
            ("pending", RowState::Pending),
            ("firing", RowState::Firing),
            ("no_verdict", RowState::NoVerdict),
        ] {
            let mut labels = labels();
            labels.push(("state", name.to_owned()));
            set(&states, &labels, f64::from(u8::from(row.state == holds)));
        }
    }
    let governance = state.handle().shared().governance();
    let mut counts: BTreeMap<Labels, u64> = BTreeMap::new();
    for recorded in governance.alerts.oldest_first() {
        let alert = recorded.alert;
        let severity = serde_json::to_value(alert.severity)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default();
        let labels = vec![("stack", alert.stack), ("rule", alert.rule.as_str().to_owned()), ("severity", severity)];
        *counts.entry(labels).or_default() += u64::from(alert.state == AlertState::Firing);
    }
    for (labels, count) in counts {
        set(&firing, &labels, as_f64(count));
    }
}

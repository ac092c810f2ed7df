//! The service away while the broker goes on: the alert of that time is found afterwards, with the instants it would have had.
//!
//! Ten minutes under the built-in policy: `GOVLEDGER_OUTAGE_S=600 tests/run --test kafka outage`. Without the variable the
//! outage lasts a minute, under a policy of a sixth of the times. The expected instants are worked out here from the
//! broker's own stamps by the definition alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use govledger::domain::event::Event;
use govledger::domain::time::Time;
use govledger::domain::{leaf, report};
use govledger::sequencer::DataDir;
use serde_json::Value;

use crate::node::SOON;
use crate::support::http::Http;
use crate::support::kafka::{Consumed, Record};
use crate::support::parts::variable;
use crate::support::process::{Service, ServiceOptions, free_port};
use crate::support::wait::wait_for;
use crate::{STACK, Stage, published, request};

const CUT_S: i64 = 10;
const PARTITIONS: i32 = 2;
const SLOW_MS: u64 = 800;

/// How long the service is away, and the times of the latency rule meanwhile.
#[expect(clippy::struct_field_names, reason = "units last")]
struct Outage {
    away_s: u64,
    window_s: i64,
    for_s: i64,
    keep_s: i64,
}

impl Outage {
    fn asked_for() -> Self {
        let away_s = variable("GOVLEDGER_OUTAGE_S").map_or(60, |text| text.parse().unwrap());
        let short = away_s < 600;
        let [window_s, for_s, keep_s] = if short { [10, 20, 10] } else { [60, 300, 60] };
        Self { away_s, window_s, for_s, keep_s }
    }

    fn policy(&self) -> String {
        let Self { window_s, for_s, keep_s, .. } = self;
        format!(
            "revision = 1\n[rules.latency_p95]\nwindow_s = {window_s}\nfor_s = {for_s}\nkeep_firing_for_s = {keep_s}\n"
        )
    }
}

/// Slow or not, and since when nobody asks for more.
#[derive(Default)]
struct Traffic {
    slow: AtomicBool,
    stop: AtomicBool,
    rounds: AtomicUsize,
}

impl Traffic {
    /// Ten requests a second into each partition, until told to stop.
    fn run(&self, stage: &Stage) {
        while !self.stop.load(Ordering::SeqCst) {
            let mut line = request("sha256:41", self.rounds.fetch_add(1, Ordering::SeqCst), "0.02");
            if self.slow.load(Ordering::SeqCst) {
                line = line.replacen(r#""duration_ms":"#, r#""duration_ms":9"#, 1);
            }
            let records: Vec<Record> =
                (0..PARTITIONS).map(|partition| Record::new(line.as_bytes()).partition(partition)).collect();
            stage.kafka.produce(&stage.metrics, &records);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Pending, firing and resolved of the one episode, by the definition: from what the broker has, and the cuts' instants.
fn expected(records: &[Consumed], cuts: &[i64], outage: &Outage) -> [i64; 3] {
    let verdict = |cut: i64| {
        let in_window = |record: &&Consumed| {
            let at_ms = record.timestamp_ms.unwrap();
            at_ms > (cut - outage.window_s) * 1_000 && at_ms <= cut * 1_000
        };
        let mut durations: Vec<f64> = records.iter().filter(in_window).map(duration_ms).collect();
        durations.sort_by(f64::total_cmp);
        assert!(durations.len() >= 20, "the window of {cut} would have been widened");
        durations[(durations.len() * 95).div_ceil(100) - 1] >= 800.0
    };
    let first_ms = records.iter().map(|record| record.timestamp_ms.unwrap()).min().unwrap();
    let judged = cuts.iter().copied().filter(|cut| (cut - outage.window_s) * 1_000 >= first_ms);
    let (mut pending, mut firing, mut clear) = (None, None, None);
    for cut in judged {
        match (verdict(cut), firing) {
            (true, None) if cut - *pending.get_or_insert(cut) >= outage.for_s => firing = Some(cut),
            (true, Some(_)) => clear = None,
            (false, None) => pending = None,
            (false, Some(fired)) if cut - *clear.get_or_insert(cut) >= outage.keep_s => {
                return [pending.unwrap(), fired, cut];
            }
            (true, None) | (false, Some(_)) => {}
        }
    }
    panic!("no whole episode: pending {pending:?}, firing {firing:?}, clear {clear:?}");
}

fn duration_ms(record: &Consumed) -> f64 {
    let line: Value = serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap();
    line["duration_ms"].as_f64().unwrap()
}

/// The instants of all cuts in effect, in seconds, in the order of the ledger. The service has ended.
fn cuts(stage: &Stage) -> Vec<i64> {
    let data = DataDir::open(&stage.scratch.join("data")).unwrap();
    let mut instants = Vec::new();
    let (_, governance) = data.readers().unwrap().into_iter().find(|(name, _)| name == "governance").unwrap();
    for entry in governance.entries(1..governance.size()) {
        let (_, entry) = entry.unwrap();
        let read = report::read(&leaf::split(&entry).unwrap()).unwrap();
        if let Event::Cut(cut) = read.event {
            instants.push(cut.instant.micros() / 1_000_000);
        }
    }
    instants.dedup();
    instants
}

fn seconds(value: &Value) -> i64 {
    let time: Time = value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap();
    assert_eq!(time.micros() % (CUT_S * 1_000_000), 0, "{value} is the instant of no cut");
    time.micros() / 1_000_000
}

fn start(stage: &Stage, outage: &Outage) -> Service {
    let policy = stage.scratch.write("policy.toml", outage.policy());
    let config =
        format!("policy = {:?}\nopen_reads = true\n[kafka]\nbrokers = {:?}\n", policy, stage.kafka.bootstrap());
    let config = stage.scratch.write("govledger.toml", config);
    let port = free_port();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (data, config, listen) = (path(&stage.scratch.join("data")), path(&config), format!("127.0.0.1:{port}"));
    let arguments = ["--data", &data, "--config", &config, "serve", "--listen", &listen].map(str::to_owned);
    Service::start(ServiceOptions::new(arguments, port))
}

fn latency_alert(http: &Http) -> Option<Value> {
    let alerts = http.get("/v1/alerts").expect(200).json();
    let mut alerts = alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["rule"] == "latency_p95");
    let alert = alerts.next().cloned();
    assert!(alerts.next().is_none(), "two episodes");
    alert
}

#[test]
fn the_alert_of_an_outage_is_found_afterwards_with_its_instants() {
    let Some(stage) = Stage::new("outage", PARTITIONS) else { return };
    let outage = Outage::asked_for();
    let mut service = start(&stage, &outage);
    let http = service.http();
    stage.report(&published());
    let traffic = Traffic::default();
    let returned_s = std::thread::scope(|scope| {
        scope.spawn(|| traffic.run(&stage));
        let through = || {
            let answer = http.get(&format!("/v1/stacks/{STACK}/slo")).expect(200).json();
            answer["evaluated_through"].as_str().map(|_| seconds(&answer["evaluated_through"]))
        };
        let before = wait_for("a cut", SOON, through);
        wait_for("a cut of a whole window", SOON * 4, || through().filter(|cut| *cut > before + outage.window_s));
        service.kill9();
        let away = Duration::from_secs(outage.away_s);
        std::thread::sleep(away / 20);
        traffic.slow.store(true, Ordering::SeqCst);
        std::thread::sleep(away * 11 / 20);
        traffic.slow.store(false, Ordering::SeqCst);
        std::thread::sleep(away * 8 / 20);
        let returned_s = govledger::clock::Clock::System.now().micros() / 1_000_000;
        service.start_again();
        let resolved = || latency_alert(&http).filter(|alert| alert["state"] == "resolved");
        wait_for("the alert, resolved", SOON * 4, resolved);
        traffic.stop.store(true, Ordering::SeqCst);
        returned_s
    });

    let alert = latency_alert(&http).unwrap();
    assert_eq!(service.terminate(), 0);
    let instants = cuts(&stage);
    assert!(instants.windows(2).all(|pair| pair[1] == pair[0] + CUT_S), "a cut is missing: {instants:?}");
    let records: Vec<Consumed> = stage.kafka.consume_all(&stage.metrics);
    let ours = ["pending_since", "firing_since", "resolved_at"].map(|field| seconds(&alert[field]));
    assert_eq!(ours, expected(&records, &instants, &outage), "{alert:#}");
    assert!(ours[1] < returned_s, "it fired while nobody was there: {alert:#}");
    let value: f64 = alert["value"].as_str().unwrap().parse().unwrap();
    assert!(value >= f64::from(u32::try_from(SLOW_MS).unwrap()), "{alert:#}");
    eprintln!("away for {} s; pending, firing, resolved: {ours:?}; back at {returned_s}", outage.away_s);
}

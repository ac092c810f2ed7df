//! From the broker's append of a record that breaches a rule to a real Alertmanager, where the rule has no `for`.
//!
//! The figure: `GOVLEDGER_TOLD_STACKS=1000 cargo test --test kafka -- told --nocapture` (about two minutes). Without the
//! variable few stacks are taken, which proves that each is told and prints the figure all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use govledger::domain::leaf;
use govledger::domain::time::Time;
use govledger::notify::{AlertmanagerConfig, Notifier, NotifyConfig};

use crate::Stage;
use crate::support::alertmanager::Alertmanager;
use crate::support::kafka::Record;
use crate::support::parts;
use crate::support::wait::wait_for;

const STACKS: usize = 30;
/// One breaching record after another, so that they come at every moment between two cuts.
const APART: Duration = Duration::from_millis(700);
const APART_MANY: Duration = Duration::from_millis(90);
/// What is wrong beyond this is not the machine's load.
const LIMIT: Duration = Duration::from_mins(2);

fn publish(stage: &Stage, stacks: usize) {
    let lines: Vec<String> = (0..stacks)
        .flat_map(|n| {
            ["llm_engine_published", "llm_warmup_completed"].map(|kind| {
                format!(r#"{{"event_type":"{kind}","artifact":{{"artifact_id":"told-{n}","hash":"sha256:{n}"}},"actor":"ci","payload":{{"n":{n}}},"timestamp":"2026-10-01T08:30:00+00:00"}}"#)
            })
        })
        .collect();
    stage.report(&lines);
}

/// When the broker appended the record of each engine.
fn appended(node: &crate::node::Node) -> BTreeMap<String, Time> {
    let mut appended = BTreeMap::new();
    for reader in ["metrics-0", "metrics-1"].iter().filter_map(|name| node.handle.shared().reader(name)) {
        for entry in reader.entries(1..reader.size()) {
            let entry = entry.unwrap().1;
            let leaf = leaf::split(&entry).unwrap();
            let record: serde_json::Value = serde_json::from_slice(leaf.body).unwrap();
            appended.insert(record["engine_hash"].as_str().unwrap().to_owned(), leaf.header.time);
        }
    }
    appended
}

#[test]
fn what_breaches_reaches_alertmanager_soon_after_the_broker_has_it() {
    let Some(prometheus) = parts::prometheus() else { return };
    let Some(stage) = Stage::new("told", 2) else { return };
    let asked = parts::setting("GOVLEDGER_TOLD_STACKS").map(|text| text.parse::<usize>().unwrap());
    let (stacks, apart) = (asked.unwrap_or(STACKS), if asked.is_some() { APART_MANY } else { APART });
    let alertmanager = Alertmanager::start(&prometheus, "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let node = stage.node();
    let config = NotifyConfig {
        alertmanager: vec![AlertmanagerConfig {
            name: "am".to_owned(),
            url: alertmanager.url().to_owned(),
            bearer_token_file: None,
            // Told once: Alertmanager's `updatedAt` is then when it was told first.
            resend_seconds: 3_600,
        }],
        ..NotifyConfig::default()
    };
    let notifier = Notifier::start(&config, &node.handle, "http://ledger.example").unwrap();
    publish(&stage, stacks);
    node.wait_size("governance", 2 * stacks as u64);
    let records: Vec<Record> = (0..stacks)
        .map(|n| Record::new(crate::request(&format!("sha256:{n}"), n, "0.25")).partition(i32::from(n % 2 == 1)))
        .collect();
    let told = || -> BTreeMap<String, Time> {
        let cost = alertmanager.alerts().into_iter().filter(|alert| alert["labels"]["rule"] == "cost_per_request");
        cost.map(|alert| {
            let engine = alert["labels"]["engine"].as_str().unwrap().to_owned();
            (engine, alert["updatedAt"].as_str().unwrap().parse().unwrap())
        })
        .collect()
    };
    // An alert ends after two minutes without another dear request, so each is looked for as it comes.
    let mut first_told: BTreeMap<String, Time> = BTreeMap::new();
    std::thread::scope(|scope| {
        scope.spawn(|| stage.kafka.produce_apart(&stage.metrics, &records, apart));
        wait_for("every alert in Alertmanager", apart * u32::try_from(stacks).unwrap() + LIMIT, || {
            for (engine, time) in told() {
                first_told.entry(engine).or_insert(time);
            }
            (first_told.len() == stacks).then_some(())
        });
    });
    let appended = appended(&node);
    let mut seconds: Vec<f64> = first_told
        .iter()
        .map(|(engine, time)| {
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let seconds = time.micros_since(appended[engine]) as f64 / 1e6;
            assert!((0.0..LIMIT.as_secs_f64()).contains(&seconds), "{engine} was told {seconds} s after its record");
            seconds
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let rank = |percent: usize| seconds[(seconds.len() * percent).div_ceil(100) - 1];
    eprintln!(
        "from the broker's append to Alertmanager, {stacks} alerts: p50 {:.1} s, p95 {:.1} s, p99 {:.1} s, longest {:.1} s",
        rank(50),
        rank(95),
        rank(99),
        rank(100)
    );
    notifier.stop();
    node.stop();
}

//! Capacity: a server that serves Triton's metrics text is scraped, the headroom rule fires and resolves as Prometheus would
//! have it, the report says what the figures say, and speculation waits for its calibration.

#![cfg(test)]

#[path = "capacity/published.rs"]
mod published;
#[path = "capacity/server.rs"]
mod server;
#[path = "capacity/service.rs"]
mod service;
#[path = "capacity/speculation.rs"]
mod speculation;
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use govledger::domain::leaf::Header;
use govledger::domain::time::Time;
use govledger::ingest::triton::{ScrapeConfig, scrape};
use govledger::sequencer::Submission;
use serde_json::Value;

use server::{Page, Triton, page, with_used};
use support::node::{NOW, Node, block_on};
use support::scratch::Scratch;

const STACK: &str = "engine-qwen3";
const ENGINE: &str = "sha256:5bd3c6e1a0f2";
const GPU_BYTES: u64 = 85_899_345_920;

/// A node whose clock the test moves, with a published and warm engine.
struct Stage {
    node: Node,
    now: i64,
}

impl Stage {
    fn new(root: &Path, manifest: &str) -> Self {
        let stage = Self { node: Node::init_live(root), now: 0 };
        stage.report(&format!(r#"{{"event_type":"llm_engine_published","artifact":{{"artifact_id":"{STACK}","hash":"{ENGINE}"}},"payload":{{"manifest":{manifest}}}}}"#));
        stage.report(&format!(r#"{{"event_type":"llm_warmup_completed","artifact":{{"artifact_id":"{STACK}","hash":"{ENGINE}"}},"payload":{{}}}}"#));
        stage
    }

    fn report(&self, event: &str) {
        let submission = Submission { header: Header::default(), body: event.into() };
        block_on(self.node.handle.submit_events(vec![submission])).unwrap();
    }

    fn request(&self, fields: &str) {
        self.node.request(&format!(r#"{{"model":"qwen3-32b","engine_hash":"{ENGINE}",{fields}}}"#));
    }

    fn start() -> Time {
        NOW.parse().unwrap()
    }

    /// Ten seconds on, to just after the next cut.
    fn pass(&mut self) {
        self.now += 10;
        self.node.clock.set(Self::start().plus_seconds(self.now).plus_seconds(1));
        // Whatever reaches the writer lets it look at the clock.
        block_on(self.node.handle.file_progress(0)).unwrap();
        block_on(self.node.handle.file_progress(0)).unwrap();
    }

    fn scrape(&self, url: &str) {
        let config: ScrapeConfig = toml_of(&format!("stack = {STACK:?}\nurl = {url:?}\ntimeout_seconds = 2"));
        block_on(scrape(&config, &self.node.handle));
    }

    fn alerts(&self, rule: &str) -> Vec<Value> {
        let (answer, _) = self.node.ask(&format!("/v1/alerts?stack={STACK}"));
        answer["alerts"].as_array().unwrap().iter().filter(|alert| alert["rule"] == rule).cloned().collect()
    }
}

fn toml_of<T: serde::de::DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).unwrap()
}

/// Seconds after the start.
fn seconds(value: &Value) -> i64 {
    let time: Time = value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap();
    time.micros_since(Stage::start()) / 1_000_000
}

/// Serves `name` with changing memory, a scrape in every ten seconds; the alert has to fire and resolve where promtool says.
fn headroom(name: &str) {
    let scratch = Scratch::new(&format!("headroom-{name}"));
    let mut stage = Stage::new(&scratch.join("data"), "{}");
    let triton = Triton::start();
    let mut values = Vec::new();
    // Two minutes of room, sixteen of want, and room again. One scrape among them has exactly a quarter free, which is no breach and
    // too short to end one.
    for step in 0..150 {
        let free = match step {
            12..90 => GPU_BYTES / 5,
            90 => GPU_BYTES / 4,
            91..110 => GPU_BYTES / 4 - 1,
            _ => GPU_BYTES / 4 + step * 1_000,
        };
        triton.serve(Page::Text(with_used(&page(name), GPU_BYTES - free)));
        stage.scrape(&triton.url());
        stage.pass();
        values.push(free);
    }
    let alerts = stage.alerts("vram_headroom");
    let [alert] = alerts.as_slice() else { panic!("one alert: {alerts:#?}") };
    assert_eq!(
        (&alert["threshold"], &alert["severity"], &alert["engine_hash"]),
        (&"0.25".into(), &"warning".into(), &ENGINE.into())
    );
    assert_eq!((&alert["value"], &alert["state"]), (&"0.2".into(), &"resolved".into()));
    let (fired, resolved) = (seconds(&alert["firing_since"]), seconds(&alert["resolved_at"]));
    assert_eq!((seconds(&alert["pending_since"]), fired, resolved), (130, 730, 1_110 + 60), "{alert:#}");
    prometheus_agrees(&scratch, &values, fired, resolved);
    let slo = stage.node.ask(&format!("/v1/stacks/{STACK}/slo")).0;
    let row = slo["slo"].as_array().unwrap().iter().find(|row| row["rule"] == "vram_headroom").unwrap();
    assert_eq!((&row["state"], &row["unit"]), (&"met".into(), &"ratio".into()), "{row:#}");
    // A fold from nothing says the same; what was said is not said again.
    let before = stage.node.digests();
    stage.node.stop();
    std::fs::remove_dir_all(scratch.join("data/cache")).unwrap();
    let again = Node::open(&scratch.join("data"));
    assert_eq!(again.digests(), before);
    again.stop();
    figures_recompute(&scratch, alerts);
}

/// An auditor with the export alone comes to the figures that the alert states, and finds one that was changed.
fn figures_recompute(scratch: &Scratch, mut alerts: Vec<Value>) {
    let export = scratch.join("export");
    let (data, to) = (scratch.join("data"), export.to_str().unwrap());
    support::process::govledger(&["--data", data.to_str().unwrap(), "export", to]).expect(0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/alert_figures.py");
    let mut recompute = |value: &str| {
        alerts[0]["value"] = value.into();
        let file = scratch.write("alerts.json", serde_json::to_string(&alerts).unwrap());
        let ran = support::process::finish(Command::new("python3").arg(&script).arg(&export).arg(file));
        (ran.code, ran.stdout + &ran.stderr)
    };
    let (code, said) = recompute("0.2");
    assert_eq!(code, 0, "{said}");
    assert_eq!(recompute("0.21").0, 1);
}

/// Prometheus' own rules over the same values: a cut every ten seconds, and what it knows at each.
fn prometheus_agrees(scratch: &Scratch, free: &[u64], fired: i64, resolved: i64) {
    let Some(parts) = support::parts::prometheus() else { return };
    scratch.write(
        "rules.yml",
        "groups:\n- name: slo\n  interval: 10s\n  rules:\n  - {alert: vram_headroom, expr: 'free / total < 0.25', for: 10m, keep_firing_for: 1m}\n",
    );
    let values: Vec<String> = free.iter().map(u64::to_string).collect();
    let mut tests = format!(
        "rule_files: [rules.yml]\nevaluation_interval: 10s\ntests:\n- interval: 10s\n  input_series:\n  - {{series: 'free', values: '{}'}}\n  - {{series: 'total', values: '{GPU_BYTES}x{}'}}\n  alert_rule_test:\n",
        values.join(" "),
        free.len()
    );
    // The first value is that of the cut ten seconds after the start.
    for (step, cut) in (1..=i64::try_from(free.len()).unwrap()).map(|step| (step - 1, step * 10)) {
        let expected = if (fired..resolved).contains(&cut) { "[{}]" } else { "[]" };
        writeln!(tests, "  - {{eval_time: {}s, alertname: vram_headroom, exp_alerts: {expected}}}", step * 10).unwrap();
    }
    let path = scratch.write("tests.yml", tests);
    let output = Command::new(parts.promtool).args(["test", "rules"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool disagrees: {}", said.chars().take(3_000).collect::<String>());
}

#[test]
fn the_inflight_batchers_headroom_fires_and_resolves() {
    headroom("inflight-batcher");
}

#[test]
fn the_llm_apis_headroom_fires_and_resolves() {
    headroom("llm-api");
}

#[test]
fn without_a_scrape_for_a_minute_there_is_no_verdict() {
    let scratch = Scratch::new("headroom-silence");
    let mut stage = Stage::new(&scratch.join("data"), "{}");
    let triton = Triton::start();
    triton.serve(Page::Text(with_used(&page("llm-api"), GPU_BYTES)));
    let standing = |of: &Stage| {
        let slo = of.node.ask(&format!("/v1/stacks/{STACK}/slo")).0;
        let rows = slo["slo"].as_array().unwrap();
        let row = rows.iter().find(|row| row["rule"] == "vram_headroom").unwrap();
        (row["state"].as_str().unwrap().to_owned(), row["no_verdict"] == true)
    };
    stage.scrape(&triton.url());
    stage.pass();
    assert_eq!(standing(&stage), ("pending".to_owned(), false));
    (0..5).for_each(|_| stage.pass());
    assert_eq!(standing(&stage), ("pending".to_owned(), false), "the scrape of 59 seconds ago is in the window");
    stage.pass();
    assert_eq!(standing(&stage), ("pending".to_owned(), true));
    (0..120).for_each(|_| stage.pass());
    assert_eq!(stage.alerts("vram_headroom"), Vec::<Value>::new(), "ten minutes without a verdict fire nothing");
}

#[test]
fn the_report_says_what_the_figures_say() {
    let scratch = Scratch::new("capacity-report");
    let manifest = r#"{"build_flags":["--kv_cache_type","paged","--tokens_per_block","64","--max_batch_size","8"],"triton":{"max_queue_delay_microseconds":500}}"#;
    let mut stage = Stage::new(&scratch.join("data"), manifest);
    // The stint begins afresh at the cut before its engine became current; the first cut is that one.
    let triton = Triton::start();
    for step in 0..10_u64 {
        let counters = page("inflight-batcher")
            .replace(
                "nv_inference_queue_duration_us{model=\"tensorrt_llm\",version=\"1\"} 960000",
                &format!(
                    "nv_inference_queue_duration_us{{model=\"tensorrt_llm\",version=\"1\"}} {}",
                    960_000 + step * 9_000
                ),
            )
            .replace(
                "nv_inference_request_success{model=\"tensorrt_llm\",version=\"1\"} 1200",
                &format!("nv_inference_request_success{{model=\"tensorrt_llm\",version=\"1\"}} {}", 1_200 + step * 4),
            );
        triton.serve(Page::Text(counters));
        stage.scrape(&triton.url());
        for index in 0..4 {
            // Ten seconds of four requests of five seconds: two at once. One in four is over the limit of 6,000 tokens.
            let tokens_in = if index == 0 { 6_000 } else { 200 };
            stage.request(&format!(
                r#""duration_ms":5000,"queue_delay_us":400,"tokens_in":{tokens_in},"tokens_out":56,"cost_usd":0.01"#
            ));
        }
        stage.pass();
    }
    let answer = stage.node.ask(&format!("/v1/stacks/{STACK}/capacity")).0;
    let engine = &answer["engines"][0];
    assert_eq!(
        (&engine["engine_hash"], &engine["current"], &engine["requests"]),
        (&ENGINE.into(), &true.into(), &40.into())
    );
    assert_eq!(engine["seconds"], 100);
    assert_eq!((&engine["requests_per_s"], &engine["concurrency"]), (&"0.4".into(), &"2".into()));
    // (10 * 6,000 + 30 * 200) / 100 and 40 * 56 / 100.
    assert_eq!((&engine["tokens_in_per_s"], &engine["tokens_out_per_s"]), (&"660".into(), &"22.4".into()));
    assert_eq!(engine["token_limit"], serde_json::json!({ "max_tokens": 6000, "requests": 40, "over": 10 }));
    // The server states 32 tokens a block and a batch of 4; the manifest states others, and the server is what runs. Held at
    // once: 2 * (10 * 6,056 + 30 * 256) / 40 = 3,412 tokens in blocks of 32, and half an empty block for each of two.
    assert_eq!(engine["kv"]["tokens_per_block"], serde_json::json!({ "value": 32, "by": "triton" }));
    assert_eq!(engine["kv"]["max_batch_size"], serde_json::json!({ "value": 4, "by": "triton" }));
    assert_eq!(engine["kv"]["blocks_in_use"], "107.625");
    let queue = &engine["queue"];
    assert_eq!((&queue["requests"], &queue["limit_us"]), (&40.into(), &"1500".into()));
    assert!((400..=450).contains(&queue["p95_us_at_most"].as_u64().unwrap()), "{queue}");
    assert_eq!(queue["max_queue_delay_us"], serde_json::json!({ "value": 500, "by": "manifest" }));
    let servers = &answer["servers"];
    assert_eq!((&servers["scrapes"], &servers["counter_resets"]), (&10.into(), &0.into()));
    assert_eq!((&servers["vram"]["now"], &servers["vram"]["p95"]), (&"0.6125".into(), &"0.6125".into()));
    assert_eq!((&servers["kv"]["now"], &servers["kv"]["p95"]), (&"0.75".into(), &"0.75".into()));
    assert_eq!(servers["queue_us_mean"], "2250");
    assert_eq!(servers["last"][0]["instance"], triton.url());
    assert_eq!(
        (&answer["advice"]["action"], &answer["asked"]),
        (&"keep".into(), &format!("/v1/stacks/{STACK}/capacity").into())
    );
    // The same as of that entry, when more has happened since.
    let size = answer["as_of"]["size"].as_u64().unwrap();
    (0..100).for_each(|_| stage.pass());
    let asked = govledger::projection::answers::Asked::Capacity { stack: STACK.to_owned() };
    let again = stage.node.handle.shared().answer_at(&asked, size).unwrap().unwrap().body;
    assert_eq!(again, answer);
    let later = stage.node.ask(&format!("/v1/stacks/{STACK}/capacity")).0;
    assert_eq!((&later["engines"][0]["requests"], &later["servers"]["last"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(later["advice"]["action"], "unknown");
}

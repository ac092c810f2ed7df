//! The hour: what is published, warmed, rolled back; who asks how much; which lines are broken.

use serde_json::{Value, json};

use super::fleet::{Engine, Fleet, Request, at};
use super::random::Random;
use crate::domain::time::Time;

/// The two stacks.
pub(super) const QWEN: &str = "engine-qwen3";
pub(super) const RERANK: &str = "engine-rerank";

const STABLE: Engine = Engine {
    hash: "sha256:5bd3c6e1a0f24987b7a2f1d86c40e95533f0a8c41c7e2b96d07f5a3e8b1c4d20",
    version: "1.4.0",
    model: "qwen3-32b",
    decode: 900.0,
    prefill: 80_000.0,
    reuse: 0.62,
    accept: 0.72,
};
const REGRESSED: Engine = Engine {
    hash: "sha256:c07a91e4d65b38f2094ec1b7a85d3f66128e90cb74fa5d1e3b2968c7f0ad5e41",
    version: "1.5.0",
    model: "qwen3-32b",
    decode: 215.0,
    prefill: 60_000.0,
    reuse: 0.18,
    accept: 0.41,
};
const RERANKER: Engine = Engine {
    hash: "sha256:2e8f7b14c9d05a63e1f4b8270d96c35a7b0e1d28f493c6a5b7180d2e9f6c4a31",
    version: "2.1.0",
    model: "qwen3-8b-rerank",
    decode: 1_600.0,
    prefill: 200_000.0,
    reuse: 0.71,
    accept: 0.76,
};

/// Seconds into the hour.
const HOUR: f64 = 3_600.0;
const PUBLISHED: f64 = 1_200.0;
const SWITCHED: f64 = 1_350.0;
const ROLLED_BACK: f64 = 2_160.0;
const BATCH_FROM: f64 = 2_700.0;

/// What the stacks wrote.
#[derive(Debug)]
pub(in crate::cli) struct Hour {
    /// The event log.
    pub(in crate::cli) events: Vec<String>,
    /// The provider log.
    pub(in crate::cli) logs: Vec<String>,
}

impl Hour {
    pub(super) fn generate(start: Time) -> Self {
        Self::seeded(start, 20_261_001)
    }

    /// An hour with other numbers.
    pub(in crate::cli) fn seeded(start: Time, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut logs = conversations(start, &mut random);
        logs.extend(ranking(start, &mut random));
        logs.extend(broken(start));
        logs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Self { events: events(start), logs: logs.into_iter().map(|(_, line)| line).collect() }
    }
}

/// Requests a second: a slow swell through the hour, with waves in it.
fn rate(at: f64, base: f64) -> f64 {
    let swell = (std::f64::consts::PI * at / HOUR).sin();
    let wave = (std::f64::consts::TAU * at / 420.0).sin();
    base * (0.75 + 0.35 * swell + 0.1 * wave)
}

/// Chats and judgements on the 32B engine.
fn conversations(start: Time, random: &mut Random) -> Vec<(f64, String)> {
    let mut fleet = Fleet::new(6);
    let mut lines = Vec::new();
    let mut now = 0.0;
    loop {
        now += random.gap(rate(now, 4.0));
        if now >= HOUR - 10.0 {
            return lines;
        }
        let judged = random.chance(0.2);
        let request = Request {
            at: now,
            operation: if judged { "judge" } else { "generate_json" },
            schema: if judged { "verdict.v2" } else { "mapping.v3" },
            tokens_in: random.long_tailed(700.0, 0.8).clamp(40.0, 5_000.0).floor(),
            tokens_out: random.long_tailed(if judged { 60.0 } else { 130.0 }, 0.6).clamp(8.0, 480.0).floor(),
        };
        let engine = if (SWITCHED..ROLLED_BACK).contains(&now) { REGRESSED } else { STABLE };
        let (done, log) = fleet.serve(start, &engine, &request, random);
        lines.push((done, log.to_string()));
    }
}

/// Candidates ranked on the small engine; from three quarters of the hour on, a batch job with far too long a context.
fn ranking(start: Time, random: &mut Random) -> Vec<(f64, String)> {
    let mut fleet = Fleet::new(4);
    let mut lines = Vec::new();
    let mut now = 0.0;
    loop {
        now += random.gap(rate(now, 1.0));
        if now >= HOUR - 5.0 {
            return lines;
        }
        let batch = now >= BATCH_FROM && random.chance(0.12);
        let request = Request {
            at: now,
            operation: "rank_candidates",
            schema: if batch { "catalogue-batch.v1" } else { "candidates.v5" },
            tokens_in: if batch {
                random.between(9_000.0, 14_000.0).floor()
            } else {
                random.long_tailed(900.0, 0.5).clamp(100.0, 4_000.0).floor()
            },
            tokens_out: random.long_tailed(24.0, 0.4).clamp(4.0, 96.0).floor(),
        };
        let (done, log) = fleet.serve(start, &RERANKER, &request, random);
        lines.push((done, log.to_string()));
    }
}

/// Lines as they arrive when something upstream breaks.
fn broken(start: Time) -> Vec<(f64, String)> {
    let log = |seconds: f64, rest: &str| {
        let time = at(start, seconds);
        let line = format!(
            r#"{{"event":"llm.request","operation":"judge","model":"qwen3-32b","engine_hash":"{}","quantisation":"w4a8","schema_id":null,{rest},"recorded_at":"{time}"}}"#,
            STABLE.hash
        );
        (seconds, line)
    };
    let cut_off =
        (900.0, r#"{"event":"llm.request","operation":"generate_json","model":"qwen3-32b","engine_ha"#.to_owned());
    vec![
        cut_off,
        log(1_500.0, r#""duration_ms":131.4,"queue_delay_us":310.0,"cost_usd":NaN"#),
        log(2_400.0, r#""duration_ms":"fast","queue_delay_us":280.0,"cost_usd":0.004"#),
        (3_000.0, "Traceback (most recent call last):".to_owned()),
    ]
}

fn event(start: Time, seconds: f64, kind: &str, stack: &str, engine: &Engine, actor: &str, payload: &Value) -> String {
    json!({
        "event_type": kind,
        "artifact": { "artifact_id": stack, "version": engine.version, "hash": engine.hash },
        "actor": actor,
        "payload": payload,
        "timestamp": at(start, seconds).to_string(),
    })
    .to_string()
}

fn manifest(start: Time, engine: &Engine, repository: &str) -> Value {
    json!({
        "engine_hash": engine.hash,
        "quantisation": "w4a8",
        "engine_path": format!("engines/{}-w4a8.plan", engine.model),
        "snapshot": { "model_id": repository, "revision": "main", "tokenizer_files": ["tokenizer/tokenizer.json"], "license_acceptance": "LICENSE_ACCEPTED.txt" },
        "build_flags": ["--kv_cache_type", "paged", "--tokens_per_block", "64", "--max_batch_size", "6"],
        "calibration": { "name": "mapping-calib", "source_uri": "s3://calib/mapping", "hash": "sha256:9c1185a5c5e9fc54612808977ee8f548b2258d31" },
        "tool_versions": { "tensorrt_llm": "0.20.0" },
        "smoke_tests": ["golden-1"],
        "build_started_at": at(start, -7_200.0).to_string(),
        "build_completed_at": at(start, -5_400.0).to_string(),
    })
}

/// The event log, in its order.
fn events(start: Time) -> Vec<String> {
    let qwen =
        |seconds, kind, engine, actor, payload: Value| event(start, seconds, kind, QWEN, engine, actor, &payload);
    let rerank = |seconds, kind, actor, payload: Value| event(start, seconds, kind, RERANK, &RERANKER, actor, &payload);
    vec![
        qwen(
            -600.0,
            "llm_engine_published",
            &STABLE,
            "ci-publisher",
            json!({ "manifest": manifest(start, &STABLE, "Qwen/Qwen3-32B") }),
        ),
        rerank(
            -570.0,
            "llm_engine_published",
            "ci-publisher",
            json!({ "manifest": manifest(start, &RERANKER, "Qwen/Qwen3-Reranker-8B") }),
        ),
        qwen(-480.0, "llm_warmup_completed", &STABLE, "warmup-runner", json!({ "duration_s": 41.2 })),
        rerank(-450.0, "llm_warmup_completed", "warmup-runner", json!({ "duration_s": 12.8 })),
        qwen(
            -300.0,
            "llm_backup_recorded",
            &STABLE,
            "backup-coordinator",
            json!({ "backup_id": "backup-041", "artifacts": ["engines/qwen3-32b-w4a8.plan", "tokenizer/tokenizer.json"], "verification_hash": "sha256:5f1c", "replication_targets": ["s3://backups-eu", "s3://backups-us"] }),
        ),
        qwen(
            PUBLISHED,
            "llm_engine_published",
            &REGRESSED,
            "ci-publisher",
            json!({ "manifest": manifest(start, &REGRESSED, "Qwen/Qwen3-32B") }),
        ),
        qwen(
            PUBLISHED + 45.0,
            "llm_warmup_failed",
            &REGRESSED,
            "warmup-runner",
            json!({ "error": "golden sample mismatch" }),
        ),
        qwen(SWITCHED - 10.0, "llm_warmup_completed", &REGRESSED, "warmup-runner", json!({ "duration_s": 58.9 })),
        r#"{"event_type": "llm_engine_published", "artifact": {"artifact_id": "engine-qwen3", "versi"#.to_owned(),
        qwen(
            ROLLED_BACK,
            "llm_rollback_completed",
            &STABLE,
            "olu",
            json!({
                "restored": { "artifact_id": QWEN, "version": STABLE.version, "hash": STABLE.hash },
                "from": { "artifact_id": QWEN, "version": REGRESSED.version, "hash": REGRESSED.hash },
                "reason": "P95 latency and KV reuse regression",
            }),
        ),
        qwen(ROLLED_BACK + 40.0, "llm_warmup_completed", &STABLE, "warmup-runner", json!({ "duration_s": 40.7 })),
        rerank(
            BATCH_FROM + 240.0,
            "waiver_granted",
            "catalogue-team",
            json!({ "waiver_id": "W-77", "owner": "catalogue-team", "justification": "catalogue import", "expires_at": at(start, 700_000.0).to_string(), "advisories": [], "mitigation_plan": "shorter contexts" }),
        ),
    ]
}

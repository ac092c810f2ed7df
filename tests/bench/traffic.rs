//! Provider logs and reports that look like the real ones and are the same in every run.

use serde_json::json;

/// The engine of every line.
pub(crate) const ENGINE: &str = "sha256:934e4215157825f0c2127b83fceace96533aa140c73280d85de038456859bc53";

/// Pseudo-random numbers that are the same in every run.
fn mix(number: u64) -> u64 {
    let mut value = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Lines of a provider's log.
pub(crate) fn lines(count: u64) -> Vec<String> {
    (0..count).map(line).collect()
}

fn line(number: u64) -> String {
    let [a, b, c] = [mix(number), mix(number ^ 1 << 40), mix(number ^ 1 << 41)];
    format!(
        r#"{{"event":"llm.request","operation":"judge","model":"qwen3-32b","engine_hash":"{ENGINE}","quantisation":"w4a8","duration_ms":{}.{:03},"queue_delay_us":{}.{},"tokens_in":{}.0,"tokens_out":{}.0,"kv_cache_reuse":{{"hits":{},"misses":{}}},"speculative":{{"accepts":{},"attempts":{}}},"cost_usd":0.0{:07},"error_code":null,"recorded_at":"2026-10-01T09:{:02}:{:02}.{:06}+00:00"}}"#,
        100 + a % 600,
        a >> 32 & 511,
        b % 1_400,
        b >> 40 & 7,
        c % 4_096,
        c >> 20 & 1_023,
        32 + (c >> 32 & 63),
        c >> 40 & 31,
        32 + (a >> 48 & 31),
        64 + (b >> 50 & 15),
        b >> 20 & 0x7f_ffff,
        a >> 12 & 31,
        b >> 12 & 31,
        c >> 44,
    )
}

/// A report of a stack: it is published and warmed up in turn.
pub(crate) fn report(number: u64) -> String {
    let engine = format!("sha256:{:064x}", mix(number / 2));
    let artifact = json!({ "artifact_id": "engine-qwen3", "version": format!("1.{}.0", number / 2), "hash": engine });
    let (kind, payload) = if number.is_multiple_of(2) {
        let manifest = json!({
            "engine_hash": engine,
            "quantisation": "w4a8",
            "engine_path": "engines/qwen3-32b-w4a8.plan",
            "snapshot": { "model_id": "Qwen/Qwen3-32B", "revision": "main", "tokenizer_files": ["tokenizer/tokenizer.json"], "license_acceptance": "LICENSE_ACCEPTED.txt" },
            "build_flags": ["--kv_cache_type", "paged", "--tokens_per_block", "64", "--max_batch_size", "6"],
            "calibration": { "name": "mapping-calib", "source_uri": "s3://calib/mapping", "hash": "sha256:9c1185a5c5e9fc54612808977ee8f548b2258d31" },
            "tool_versions": { "tensorrt_llm": "0.20.0" },
            "smoke_tests": ["golden-1"],
            "build_started_at": "2026-10-01T07:00:00+00:00",
            "build_completed_at": "2026-10-01T07:30:00+00:00",
        });
        ("llm_engine_published", json!({ "manifest": manifest }))
    } else {
        ("llm_warmup_completed", json!({ "duration_s": 41.2 }))
    };
    let stamp = format!("2026-10-01T{:02}:{:02}:{:02}+00:00", 9 + number / 3_600, number / 60 % 60, number % 60);
    json!({ "event_type": kind, "artifact": artifact, "actor": "ci-publisher", "payload": payload, "timestamp": stamp })
        .to_string()
}

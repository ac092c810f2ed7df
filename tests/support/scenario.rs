//! An hour of one stack, small and deterministic: a good engine, a regressed one, a rollback, and at the end dear requests.

use std::fmt::Write as _;
use std::path::PathBuf;

use govledger::domain::time::Time;

use super::scratch::Scratch;

/// The stack.
pub(crate) const STACK: &str = "engine-qwen3";
/// The good engine, version 1.4.0.
pub(crate) const GOOD: &str = "sha256:41";
/// The regressed one, version 1.5.0, published at 09:25:00, warm at 09:25:20, rolled back from at 09:40:00.
pub(crate) const REGRESSED: &str = "sha256:42";

fn at(text: &str) -> Time {
    format!("2026-10-01T{text}Z").parse().unwrap()
}

fn event(kind: &str, hash: &str, time: &str, payload: &str) -> String {
    let version = if hash == GOOD { "1.4.0" } else { "1.5.0" };
    format!(
        r#"{{"event_type":"{kind}","artifact":{{"artifact_id":"{STACK}","version":"{version}","hash":"{hash}"}},"actor":"ci","payload":{payload},"timestamp":"{}"}}"#,
        at(time)
    )
}

/// Writes `governance-events.ndjson` and `provider-logs.ndjson`; returns their paths.
pub(crate) fn write(scratch: &Scratch) -> [PathBuf; 2] {
    let manifest = |hash: &str| format!(r#"{{"manifest":{{"engine_hash":"{hash}","build_flags":["--paged"]}}}}"#);
    let events = [
        event("llm_engine_published", GOOD, "08:55:00", &manifest(GOOD)),
        event("llm_warmup_completed", GOOD, "08:56:00", "{}"),
        event("llm_engine_published", REGRESSED, "09:25:00", &manifest(REGRESSED)),
        event("llm_warmup_completed", REGRESSED, "09:25:20", "{}"),
        event("llm_rollback_completed", GOOD, "09:40:00", r#"{"reason":"latency"}"#),
        event("llm_warmup_completed", GOOD, "09:40:30", "{}"),
    ];
    let mut logs = String::new();
    let (begin, end) = (at("09:00:00").micros(), at("09:50:00").micros());
    for (index, micros) in (begin..end).step_by(250_000).enumerate() {
        let time = Time::from_micros(micros);
        let regressed = time >= at("09:25:20") && time < at("09:40:00");
        let duration = if regressed { 1_200 } else { 300 } + index % 97;
        let cost = if time >= at("09:49:00") && index % 10 == 0 { "0.15" } else { "0.02" };
        writeln!(
            logs,
            r#"{{"event":"llm.request","operation":"judge","model":"qwen3-32b","engine_hash":"{}","quantisation":"w4a8","duration_ms":{duration}.125,"queue_delay_us":400.0,"tokens_in":512.0,"tokens_out":64.0,"kv_cache_reuse":{{"hits":6,"misses":4}},"speculative":{{}},"cost_usd":{cost},"error_code":null,"recorded_at":"{time}"}}"#,
            if regressed { REGRESSED } else { GOOD }
        )
        .unwrap();
    }
    [scratch.write("governance-events.ndjson", events.join("\n") + "\n"), scratch.write("provider-logs.ndjson", logs)]
}

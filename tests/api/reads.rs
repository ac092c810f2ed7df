//! Answers, past and present; raw entries, proofs, tiles and the stream.

use std::time::Duration;

use base64::Engine as _;
use govledger::api::ApiConfig;
use ledger::VerifierKey;
use ledger::proof::ProofFile;
use ledger::tile::TilePath;
use serde_json::{Value, json};

use crate::app::{App, event, published};

const WAIT: Duration = Duration::from_secs(10);

fn verifier(app: &App, name: &str) -> VerifierKey {
    app.handle.data_dir().verifier_key(name).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn the_past_is_asked_by_entry_and_by_time() {
    let app = App::start();
    let first = app.publish(&published("1", "sha256:a", "1.0.0")).json()["outcomes"][0]["position"].as_u64().unwrap();
    app.clock.set("2026-11-01T01:00:00Z".parse().unwrap());
    app.publish(&published("2", "sha256:b", "2.0.0")).expect(200);
    let version =
        |query: &str| app.read(&format!("/v1/stacks/s/manifest{query}")).expect(200).json()["version"].clone();
    assert_eq!(version(""), "2.0.0");
    assert_eq!(version(&format!("?as_of={first}")), "1.0.0");
    assert_eq!(version("?as_of=2026-11-01T00:30:00Z"), "1.0.0");
    assert_eq!(version("?as_of=2026-11-01T01:30:00%2B01:00"), "1.0.0");
    assert_eq!(version("?as_of=2026-11-01T02:00:00Z"), "2.0.0");
    let past = app.read(&format!("/v1/stacks/s/manifest?as_of={first}")).json();
    assert_eq!(
        (past["as_of"]["size"].as_u64(), past["asked"].as_str()),
        (Some(first + 1), Some("/v1/stacks/s/manifest"))
    );
    let root = app.handle.shared().reader("governance").unwrap().root_at(first + 1).unwrap();
    assert_eq!(past["as_of"]["root"], root.to_string());
    for bad in ["999999", "yesterday", "2026-11-01T00:30:00"] {
        let problem = app.read(&format!("/v1/stacks/s/manifest?as_of={bad}")).expect(400).json();
        assert_eq!(problem["field"], "as_of", "{problem}");
    }
    app.read(&format!("/v1/stacks/s/manifest?as_of={}", first - 1)).expect(404);
    app.read("/v1/stacks/s/manifest?as_off=1").expect(400);
}

#[test]
fn the_gate_speaks_by_status_and_header() {
    let app = App::start();
    let check = |status: u16, gate: &str, open: Value| {
        let reply = app.read("/v1/stacks/s/traffic").expect(status);
        assert_eq!((reply.header("govledger-gate"), &reply.json()["open"]), (Some(gate), &open), "{}", reply.text());
    };
    check(200, "unknown", Value::Null);
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    check(503, "closed", json!(false));
    app.publish(&event("2", "llm_warmup_completed", &json!({ "engine_hash": "sha256:a" }))).expect(200);
    check(200, "open", json!(true));
    assert_eq!(app.read("/v1/stacks/s/traffic?engine=sha256:zz").status, 503);
    let strict = app.read("/v1/stacks/s/last-good?strict=true").expect(404);
    assert_eq!(strict.json()["engine_hash"], "sha256:a", "not as sure as asked for: the same shape");
    let unknown = app.read("/v1/stacks/nothing/manifest").expect(404);
    assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
    for path in ["", "/slo", "/capacity", "/now", "/timeline", "/manifest", "/last-good"] {
        app.read(&format!("/v1/stacks/s{path}")).expect(200);
    }
}

#[test]
fn proofs_and_tiles_hold_for_strangers() {
    let app = App::start();
    for number in 0..300 {
        let lines: String = (0..1).map(|_| published(&format!("{number}"), "sha256:a", "1.0.0") + "\n").collect();
        app.publish(&lines).expect(200);
    }
    let key = verifier(&app, "governance");
    assert_eq!(app.read("/ledger/governance/vkey").expect(200).text().trim(), key.to_string());
    let reply = app.read("/ledger/governance/checkpoint").expect(200);
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    let checkpoint = ledger::verify::checkpoint(&reply.text(), &key).unwrap();
    assert!(checkpoint.size() > 300);
    for position in [0, 1, 255, 256, checkpoint.size() - 1] {
        let entry = bytes(&app.read(&format!("/v1/entries/governance/{position}")).expect(200).json()["entry_base64"]);
        for query in [String::new(), format!("?size={}", position + 1)] {
            let text = app.read(&format!("/v1/entries/governance/{position}/proof{query}")).expect(200).text();
            ProofFile::parse(&text).unwrap().verify(&entry, &key).unwrap();
            assert!(ProofFile::parse(&text).unwrap().verify(b"another entry", &key).is_err());
        }
    }
    let size = checkpoint.size();
    for path in TilePath::all_at(size) {
        let reply = app.read(&format!("/ledger/governance/{path}")).expect(200);
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        assert_eq!(reply.header("cache-control"), Some("private, max-age=31536000, immutable"));
    }
    app.read("/ledger/governance/tile/0/999").expect(404);
    app.read("/ledger/governance/tile/0/nonsense").expect(404);
    app.read("/ledger/nothing/checkpoint").expect(404);
    app.read(&format!("/v1/entries/governance/{size}")).expect(404);
    app.read(&format!("/v1/entries/governance/0/proof?size={}", size + 1)).expect(404);
}

#[test]
fn what_needs_a_token_is_kept_by_the_readers_own_cache_alone() {
    for (open_reads, kept) in [(true, "public"), (false, "private")] {
        let app = App::with(ApiConfig { open_reads, ..ApiConfig::default() });
        let path = "/ledger/governance/tile/entries/000.p/1";
        let reader = if open_reads { app.http.clone() } else { app.as_role("reader") };
        let reply = reader.get(path).expect(200);
        assert_eq!(reply.header("cache-control"), Some(format!("{kept}, max-age=31536000, immutable").as_str()));
        assert_eq!(app.http.get(path).status, if open_reads { 200 } else { 401 });
    }
}

#[test]
fn entries_are_filtered_and_paged() {
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    app.clock.set("2026-11-01T01:00:00Z".parse().unwrap());
    app.publish(&event("2", "llm_warmup_completed", &json!({ "engine_hash": "sha256:a" }))).expect(200);
    let rows = |query: &str| {
        app.read(&format!("/v1/entries{query}")).expect(200).json()["entries"].as_array().unwrap().clone()
    };
    let all = rows("");
    assert_eq!(all.len() as u64, app.size());
    assert_eq!(all[0]["type"], "ledger_settings");
    assert_eq!(rows("?type=llm_warmup_completed").len(), 1);
    assert_eq!(rows("?stack=s").len(), 2);
    assert_eq!(rows("?from=2026-11-01T01:00:00Z").len(), 1);
    assert_eq!(rows("?to=2026-11-01T00:59:59Z").len(), all.len() - 1);
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = app.read(&format!("/v1/entries?limit=2{after}")).expect(200).json();
        paged.extend(page["entries"].as_array().unwrap().clone());
        match page["next"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    app.read("/v1/entries?ledger=nothing").expect(404);
    app.read("/v1/entries?limit=x").expect(400);
    app.read("/v1/entries?colour=red").expect(400);
}

#[test]
fn a_stream_misses_nothing_over_a_reconnect() {
    let app = App::start();
    let reader = app.as_role("reader");
    let stream = reader.events("/v1/stream?from=1", None);
    let mut last = 0;
    for expected in 1..app.size() {
        let event = stream.next(WAIT).unwrap();
        assert_eq!(event.id, expected.to_string());
        last = expected;
    }
    drop(stream);
    // While nobody listens, more comes than one block of the stream holds.
    for round in 0..30 {
        let lines: String =
            (0..20).map(|number| published(&format!("{round}-{number}"), "sha256:a", "1.0.0") + "\n").collect();
        app.publish(&lines).expect(200);
    }
    let stream = reader.events("/v1/stream", Some(&last.to_string()));
    for expected in last + 1..app.size() {
        let event = stream.next(WAIT).unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str()), (expected.to_string().as_str(), "llm_engine_published"));
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["position"], expected);
    }
    // And what comes later arrives while the stream is open.
    app.publish(&published("live", "sha256:b", "2.0.0")).expect(200);
    assert_eq!(stream.next(WAIT).unwrap().id, (app.size() - 1).to_string());
    assert_eq!(app.http.with_token("glt_wrong").get("/v1/stream").status, 401);
    app.read("/v1/stream?from=x").expect(400);
}

#[test]
fn streams_are_bounded_and_end_with_the_token() {
    let app = App::with(ApiConfig { streams_max: 1, ..ApiConfig::default() });
    let stream = app.as_role("reader").events("/v1/stream?from=0", None);
    while stream.next(Duration::from_millis(300)).is_some() {}
    let busy = app.read("/v1/stream").expect(503);
    assert_eq!(busy.header("retry-after"), Some("1"));
    app.http
        .with_token(&app.admin)
        .send("DELETE", "/v1/principals/reader", &[("idempotency-key", "out")], b"")
        .expect(200);
    // The revocation itself may still be told; then the stream ends.
    while stream.next(WAIT).is_some() {}
}

#[test]
fn health_metrics_and_description() {
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    app.publish("{\"event_type\":5}").expect(422);
    assert_eq!(app.http.get("/healthz").expect(200).json(), json!({ "status": "ok", "mode": "embedded" }));
    assert_eq!(app.http.get("/readyz").expect(200).json()["ready"], true);
    let text = app.http.get("/metrics").expect(200).text();
    for line in [
        "govledger_build_info{version=\"0.1.0\"} 1.0",
        "govledger_writer_poisoned 0",
        "govledger_rejected_total{code=\"wrong_type\"} 1",
        "govledger_rejected_total{code=\"too_large\"} 0",
        "govledger_integrity_alarms_total 0",
        "# TYPE govledger_entries_total counter",
        "# TYPE govledger_commit_seconds histogram",
        "govledger_http_requests_total{route=\"/v1/events\",status=\"422\"} 1",
        "govledger_http_requests_total{route=\"/v1/events\",status=\"200\"} 1",
    ] {
        assert!(text.contains(line), "{line} in:\n{text}");
    }
    let size = format!("govledger_ledger_size{{ledger=\"governance\"}} {}", app.size());
    assert!(text.contains(&size), "{size} in:\n{text}");
    assert!(!text.contains("# EOF"));
    let document = app.http.get("/openapi.json").expect(200).json();
    assert_eq!(document, govledger::api::openapi());
}

#[test]
fn promtool_reads_the_metrics_page() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let Some(parts) = crate::support::parts::prometheus() else { return };
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    let text = app.http.get("/metrics").expect(200).text();
    let mut promtool = Command::new(parts.promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

/// Signed with the shared secret of the legacy log, as Python signs. It is shown beside the event and decides nothing.
#[test]
fn a_legacy_signature_is_checked_where_the_secret_is_configured() {
    let secret = govledger::domain::legacy_signature::Secret::new("trace-secret".to_owned());
    let app = App::with(ApiConfig { legacy_secret: Some(secret), open_reads: true, ..ApiConfig::default() });
    let line = r#"{"event_type":"x","artifact":{"artifact_id":"s"},"payload":{"d":41.2},"signature":"@"}"#;
    for (signature, expected) in
        [("4a18d7148b9965f1873cf9d6d298d360b6c1148a8e628b47953371aca2afe329", "valid"), ("00", "invalid")]
    {
        let body = line.replace('@', signature);
        let reply =
            app.as_role("publisher").post("/v1/events", &[("content-type", "application/json")], body.as_bytes());
        let position = reply.json()["outcomes"][0]["position"].clone();
        let entry = app.as_role("reader").get(&format!("/v1/entries/governance/{position}")).json();
        assert_eq!(entry["legacy_signature"], expected, "{entry}");
        assert_eq!(entry["verdict"], "admitted");
    }
}

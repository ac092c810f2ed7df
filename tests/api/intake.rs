//! Events and metrics handed in: every dialect, every bad body.

use std::io::Write as _;

use govledger::api::ApiConfig;
use serde_json::{Value, json};

use crate::app::{App, event, published, token};
use crate::support::http::Reply;

const LEGACY: &str = r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s","version":"1.0.0","hash":"sha256:a"},"actor":"ci","payload":{"engine_path":"/e"},"timestamp":"2026-10-01T08:30:00.123456+00:00"}"#;
const LOG: &str = r#"{"event":"llm.request","operation":"judge","model":"qwen3","engine_hash":"sha256:a","duration_ms":512.125,"queue_delay_us":811.0,"cost_usd":0.012}"#;

fn verdicts(reply: &Reply) -> Vec<Value> {
    reply.json()["outcomes"].as_array().unwrap().iter().map(|outcome| outcome["verdict"].clone()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_dialect_is_taken_byte_for_byte() {
    let app = App::start();
    let publisher = app.as_role("publisher");
    let cloud = published("1", "sha256:b", "1.1.0");
    let first =
        publisher.post("/v1/events", &[("content-type", "application/cloudevents+json")], cloud.as_bytes()).expect(200);
    assert_eq!(verdicts(&first), [json!("admitted")]);
    let position = first.json()["outcomes"][0]["position"].as_u64().unwrap();
    let entry = app.read(&format!("/v1/entries/governance/{position}")).expect(200).json();
    assert_eq!(entry["body"], cloud, "the bytes are kept as they came");
    assert_eq!((entry["header"]["by"].as_str(), entry["header"]["l"].as_u64()), (Some("publisher"), Some(1)));
    assert_eq!(
        (entry["type"].as_str(), entry["stack"].as_str(), &entry["verdict"]),
        (Some("llm_engine_published"), Some("s"), &json!("admitted"))
    );

    let batch = format!(
        "[{},\n {}]",
        published("2", "sha256:c", "1.2.0"),
        event("3", "llm_warmup_completed", &json!({ "engine_hash": "sha256:c" }))
    );
    let reply = publisher
        .post("/v1/events", &[("content-type", "application/cloudevents-batch+json")], batch.as_bytes())
        .expect(200);
    assert_eq!(verdicts(&reply), [json!("admitted"), json!("admitted")]);

    let lines = format!(
        "{LEGACY}\n{}\n\n{{\"event_type\":\"never_heard_of\",\"artifact\":{{\"artifact_id\":\"s\"}}}}\n",
        published("4", "sha256:d", "1.3.0")
    );
    let reply = publisher.post("/v1/events", &[("content-type", "application/x-ndjson")], lines.as_bytes()).expect(200);
    assert_eq!(verdicts(&reply), [json!("admitted"), json!("admitted"), json!("admitted")]);
    let timeline = app.read("/v1/stacks/s/timeline").expect(200).json();
    assert!(
        timeline["timeline"].as_array().unwrap().iter().any(|item| item["type"] == "never_heard_of"),
        "an unknown type is kept and shown"
    );
    assert_eq!(app.read("/v1/stacks/s/manifest").json()["version"], "1.3.0");
    app.restart_is_clean();
}

#[test]
fn a_second_one_is_a_duplicate_and_other_bytes_are_a_conflict() {
    let app = App::start();
    let body = published("1", "sha256:a", "1.0.0");
    let first = app.publish(&body).expect(200).json()["outcomes"][0]["position"].clone();
    let again = app.publish(&body).expect(200);
    assert_eq!(verdicts(&again), [json!({ "duplicate": { "of": first } })]);
    let conflict = app.publish(&published("1", "sha256:a", "9.9.9")).expect(422);
    assert_eq!(conflict.header("content-type"), Some("application/problem+json"));
    let problem = conflict.json();
    assert_eq!((problem["code"].as_str(), &problem["by_position"]), (Some("id_conflict"), &first));
    assert_eq!(problem["errors"][0]["refusal"]["code"], "id_conflict");
    let named = app.read("/v1/rejected?ledger=governance&limit=5").expect(200).json();
    assert_eq!(named["rejected"], app.read("/v1/rejected").json()["rejected"]);
    let before = app.read(&format!("/v1/rejected?ledger=governance&as_of={first}")).expect(200).json();
    assert_eq!(before["rejected"], json!([]));
    let rejected = app.read("/v1/rejected").json();
    assert_eq!(rejected["rejected"].as_array().unwrap().last().unwrap()["position"], problem["position"], "it is kept");
}

#[test]
fn bad_elements_are_recorded_with_their_reason() {
    let app = App::start();
    let check = |body: &[u8], code: &str, says: &str| {
        let before = app.size();
        let problem = app.as_role("publisher").post("/v1/events", &[], body).expect(422).json();
        assert_eq!(problem["code"], code, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
        assert_eq!(app.size(), before + 1);
        let kept = app.read(&format!("/v1/entries/governance/{}", problem["position"])).expect(200).json();
        assert_eq!(kept["verdict"]["refused"]["code"], code);
        kept
    };
    check(br#"{"specversion":"1.0","id":"#, "malformed_json", "not JSON");
    check(br#"{"event_type":"llm_engine_published","payload":{"x":NaN}}"#, "not_finite_number", "NaN");
    check(br#"{"specversion":"1.0","id":5,"source":"ci","type":"x"}"#, "wrong_type", "id");
    check(br#"{"specversion":"1.0","id":"1","type":"x"}"#, "missing_field", "source");
    check(event("9", "llm_engine_published", &json!({})).as_bytes(), "missing_field", "engine_hash");
    check(LOG.as_bytes(), "wrong_kind", "provider log");
    check(br#"{"payloadType":"application/cloudevents+json","payload":"!","signatures":[]}"#, "bad_envelope", "");
    check(
        event("10", "llm_waiver_approved", &json!({ "waiver": "w" })).as_bytes(),
        "envelope_required",
        "through the API",
    );
    let kept = check(b"{\"event_type\":\"\xff\"}", "invalid_utf8", "0xff");
    assert!(kept["body"].is_null() && kept["body_base64"].is_string(), "bytes that are no text come as base64");
    let large = format!("{{\"event_type\":\"x\",\"payload\":{{\"pad\":\"{}\"}}}}", "a".repeat(1 << 20));
    let kept = check(large.as_bytes(), "too_large", "65535");
    let sha256 = kept["header"]["big"]["sha256"].as_str().unwrap();
    assert_eq!(app.read(&format!("/v1/blobs/{sha256}")).expect(200).body, large.as_bytes());
    app.read(&format!("/v1/blobs/{}", "0".repeat(64))).expect(404);

    // One bad element does not take the others with it.
    let mixed = format!("{}\n{{\"event_type\":5}}\n", published("20", "sha256:z", "2.0.0"));
    let problem = app
        .as_role("publisher")
        .post("/v1/events", &[("content-type", "application/x-ndjson")], mixed.as_bytes())
        .expect(422)
        .json();
    assert_eq!(problem["outcomes"][0]["verdict"], "admitted");
    assert_eq!((problem["errors"][0]["element"].as_u64(), problem["errors"].as_array().unwrap().len()), (Some(2), 1));
}

#[test]
fn unreadable_bodies_are_answered_and_not_recorded() {
    let app = App::with(ApiConfig { body_bytes_max: 4_096, decompressed_bytes_max: 16_384, ..ApiConfig::default() });
    let (governance, metrics) = (app.size(), app.handle.shared().reader("metrics-0").unwrap().size());
    let publisher = app.as_role("publisher");
    for path in ["/v1/events", "/v1/metrics"] {
        let check = |headers: &[(&str, &str)], body: &[u8], status: u16, code: &str| {
            let reply = publisher.post(path, headers, body);
            assert_eq!((reply.status, reply.json()["code"].as_str()), (status, Some(code)), "{path}: {}", reply.text());
        };
        check(&[], b"", 400, "empty_body");
        check(&[], b"  \n \n", 400, "empty_body");
        check(&[], b"hello", 400, "invalid_body");
        check(&[], &vec![b' '; 5_000], 413, "body_too_large");
        check(&[("content-encoding", "br")], b"{}", 415, "unsupported_encoding");
        check(&[("content-encoding", "gzip")], b"{}", 400, "invalid_body");
        let bomb = gzip(&vec![b' '; 1 << 20]);
        assert!(bomb.len() < 4_096);
        check(&[("content-encoding", "gzip")], &bomb, 413, "body_too_large");
        let whole = gzip(LOG.as_bytes());
        check(&[("content-encoding", "gzip")], &whole[..whole.len() / 2], 400, "invalid_body");
    }
    let cut_off = format!(
        "POST /v1/events HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\nContent-Length: 1000\r\n\r\n{LEGACY}",
        token("publisher")
    );
    let answer = app.raw(cut_off.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("truncated_body"), "{answer:?}");
    let endless = format!(
        "POST /v1/metrics HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{{\"event\"",
        token("publisher")
    );
    let answer = app.raw(endless.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("truncated_body"), "{answer:?}");
    assert_eq!((app.size(), app.handle.shared().reader("metrics-0").unwrap().size()), (governance, metrics));
}

#[test]
fn metric_lines_are_durable_and_judged_line_by_line() {
    let app = App::start();
    let body = format!(
        "{LOG}\n\n{{\"event\":\"llm.request\",\"model\":\"m\",\"engine_hash\":\"e\",\"duration_ms\":NaN}}\n{LOG}"
    );
    let plain = app
        .as_role("publisher")
        .post("/v1/metrics", &[("content-type", "application/x-ndjson")], body.as_bytes())
        .expect(200)
        .json();
    assert_eq!(
        (plain["read"].as_u64(), plain["admitted"].as_u64(), plain["rejected"].as_u64()),
        (Some(3), Some(2), Some(1))
    );
    assert_eq!(plain["verdicts"][1]["line"], 3, "blank lines count in the numbering");
    assert_eq!(plain["verdicts"][1]["verdict"]["refused"]["code"], "not_finite_number");
    let reply = app
        .as_role("publisher")
        .post("/v1/metrics", &[("content-encoding", "gzip")], &gzip(body.as_bytes()))
        .expect(200)
        .json();
    assert_eq!(reply["verdicts"][0]["position"], 4, "two equal lines are two requests");

    let rejected = app.read("/v1/rejected?ledger=metrics-0").expect(200).json();
    assert_eq!(rejected["rejected"].as_array().unwrap().len(), 2);
    let page = app.read("/v1/rejected?ledger=metrics-0&limit=1").expect(200).json();
    assert_eq!((page["rejected"][0]["position"].as_u64(), page["next"].as_u64()), (Some(2), Some(2)));
    let rest = app.read("/v1/rejected?ledger=metrics-0&limit=1&after=2").expect(200).json();
    assert_eq!((rest["rejected"][0]["position"].as_u64(), &rest["next"]), (Some(5), &Value::Null));
    let entry = app.read("/v1/entries/metrics-0/1").expect(200).json();
    assert_eq!((entry["body"].as_str(), entry["type"].as_str()), (Some(LOG), Some("llm.request")));
    let header = entry["header"].to_string();
    assert!(header.len() < 48, "{header}");
}

#[test]
fn lines_of_a_file_are_taken_once() {
    let app = App::start();
    let body = format!("{LEGACY}\n{}\n", published("1", "sha256:b", "1.1.0"));
    let sha256 = govledger::ingest::file::first_line_sha256(LEGACY.as_bytes());
    let path = format!("/v1/files/{sha256}/lines?name=events.ndjson&kind=governance");
    let first = app.as_role("publisher").post(&path, &[], body.as_bytes()).expect(200).json();
    assert_eq!((first["read"].as_u64(), first["admitted"].as_u64()), (Some(2), Some(2)));
    let again = app.as_role("publisher").post(&path, &[], body.as_bytes()).expect(200).json();
    assert_eq!((again["duplicates"].as_u64(), again["admitted"].as_u64()), (Some(2), Some(0)));
    let other = format!("/v1/files/{}/lines?name=x&kind=governance", "0".repeat(64));
    app.as_role("publisher").post(&other, &[], body.as_bytes()).expect(400);
    app.as_role("publisher").post(&format!("/v1/files/{sha256}/lines?kind=both"), &[], body.as_bytes()).expect(400);
}

#[test]
fn a_backfill_is_spooled_and_leaves_nothing_behind() {
    let app = App::start();
    // After the entries that made the principals, which history cannot go behind.
    app.clock.set("2026-11-01T01:00:00Z".parse().unwrap());
    let log = LOG.replace('}', ",\"recorded_at\":\"2026-11-01T00:31:00+00:00\"}");
    let event = LEGACY.replace("2026-10-01T08:30", "2026-11-01T00:30");
    let (events, logs) = (format!("{event}\n"), format!("{log}\n{log}\n"));
    let manifest = json!([{ "name": "events", "bytes": events.len() }, { "name": "logs", "bytes": logs.len() }]);
    let body = format!("{manifest}\n{events}{logs}");
    let report = app.as_role("publisher").post("/v1/backfill", &[], body.as_bytes()).expect(200).json();
    assert_eq!(
        (report["read"].as_u64(), report["admitted"].as_u64(), report["rejected"].as_u64()),
        (Some(3), Some(3), Some(0)),
        "{report}"
    );
    assert_eq!(app.read("/v1/stacks/s/manifest").expect(200).json()["version"], "1.0.0");
    let again = app.as_role("publisher").post("/v1/backfill", &[], body.as_bytes()).expect(200).json();
    assert_eq!(again["duplicates"], 3);
    let short = format!("{manifest}\n{events}");
    let problem = app.as_role("publisher").post("/v1/backfill", &[], short.as_bytes()).expect(400).json();
    assert_eq!(problem["code"], "truncated_body");
    app.as_role("publisher").post("/v1/backfill", &[], b"not a list\n").expect(400);
    let until = app.as_role("publisher").post(
        "/v1/backfill?until=2026-09-01T00:00:00Z",
        &[],
        format!("[{{\"name\":\"n\",\"bytes\":{}}}]\n{}", log.len() + 1, log.clone() + "\n")
            .replace("512.125", "513.125")
            .as_bytes(),
    );
    assert_eq!(until.json()["code"], "intake_refused", "{}", until.text());
    let spool = app.data.path().join("data/spool");
    assert_eq!(std::fs::read_dir(spool).unwrap().count(), 0, "nothing is left in the spool");
}

#[test]
fn one_backfill_at_a_time_and_a_stop_does_not_wait_for_an_upload() {
    let app = App::start();
    let mut upload = std::net::TcpStream::connect(&app.address).unwrap();
    let head = format!(
        "POST /v1/backfill HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\nContent-Length: 100000\r\n\r\n[{{\"name\":\"a\",\"bytes\":90000}}]\nabc",
        token("publisher")
    );
    upload.write_all(head.as_bytes()).unwrap();
    let spool = app.data.path().join("data/spool");
    while std::fs::read_dir(&spool).map_or(0, Iterator::count) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let busy = app.as_role("publisher").post("/v1/backfill", &[], b"[]\n").expect(503);
    assert_eq!((busy.json()["code"].as_str(), busy.header("retry-after")), (Some("busy"), Some("1")));
    // The open upload must not hold up a stop.
    app.restart_is_clean();
    drop(upload);
}

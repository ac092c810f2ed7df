//! What entries, events, questions and settings mean.

use std::collections::BTreeMap;

use govledger::config::Config;
use govledger::domain::exposition;
use govledger::domain::leaf::{self, Header, Leaf};
use govledger::domain::legacy_signature::{self, LegacySignature, Secret};
use govledger::domain::metric::{Batch, MetricEvent, MetricRecord, TimeFields, parse, parse_with};
use govledger::domain::policy::Policy;
use govledger::domain::refusal::Refusal;
use govledger::domain::report::{self, Report};
use govledger::domain::{envelope, time::Time};
use govledger::ingest::{file, http};
use govledger::projection::answers::Asked;
use serde_json::Value;
use serde_json::value::RawValue;

use super::key;

/// An entry is split where it was joined, whatever the body holds.
pub fn leaf(data: &[u8]) {
    let Ok(split) = leaf::split(data) else { return };
    assert_eq!(leaf::body(data), split.body);
    let mut joined = split.header.line();
    let line: Value = serde_json::from_slice(&joined).expect("a header line is JSON");
    assert_eq!(line["t"].as_i64(), Some(split.header.time.micros()));
    assert_eq!(line["o"].as_u64(), split.header.offset);
    joined.extend_from_slice(split.body);
    assert_eq!(leaf::split(&joined).expect("what was written is read"), split);
    let _ = report::read(&split);
}

/// A line of a provider's log: the typed record agrees with `serde_json::Value`, number by number, and with itself behind
/// a logger's record and in a cloud event.
pub fn provider_log(data: &[u8]) {
    let _ = file::classify(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = parse(text);
    assert_eq!(code(&parsed), code(&parse(text)), "a verdict is stable");
    let mut batch = Batch::default();
    let kept = batch.push_line(text);
    assert_eq!(kept.is_ok(), parsed.is_ok());
    assert_eq!(batch.samples().count(), usize::from(matches!(parsed, Ok(MetricEvent::Request(_)))));
    let _ = parse_with(text, &TimeFields::new(["ts".to_owned(), "asctime".to_owned()]));
    if parsed.is_ok() {
        serde_json::from_str::<&RawValue>(text).expect("what is no JSON is refused");
    }
    // Numbers beyond a float make `Value` refuse a text that is JSON.
    let Ok(Value::Object(value)) = serde_json::from_str::<Value>(text) else { return };
    let there = |name: &str| value.get(name).filter(|value| !value.is_null());
    let (inner, is_plain) = match (there("llm"), there("specversion")) {
        (Some(inner), _) => (inner.clone(), false),
        (None, Some(_)) => (value.get("data").cloned().unwrap_or_default(), false),
        (None, None) => (Value::Object(value.clone()), true),
    };
    if let Ok(MetricEvent::Request(record)) = &parsed {
        agrees(record, &inner);
    }
    if is_plain {
        wrapped(text, &parsed);
    }
}

fn code<T>(result: &Result<T, Refusal>) -> Option<(String, Option<String>)> {
    result.as_ref().err().map(|refusal| (refusal.code.as_str().to_owned(), refusal.field.clone()))
}

/// The same line inside of what loggers and brokers put around it means the same.
fn wrapped(text: &str, plain: &Result<MetricEvent<'_>, Refusal>) {
    for around in [format!(r#"{{"llm":{text}}}"#), format!(r#"{{"specversion":"1.0","data":{text}}}"#)] {
        let inside = parse(&around);
        match (plain, &inside) {
            (Ok(plain), Ok(inside)) => assert_eq!(plain, inside, "{around}"),
            // The wrapper is one level deeper; the parser takes 128.
            (_, Err(refusal)) if refusal.detail.contains("recursion limit") => {}
            _ => assert_eq!(code(plain), code(&inside), "{around}"),
        }
    }
}

/// Every figure of the record against the float of an independent reader.
fn agrees(record: &MetricRecord<'_>, value: &Value) {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let close = |name: &str, taken: f64, unit: f64| {
        if let Some(written) = value.get(name).and_then(number) {
            let (taken, slack) = (taken / unit, 0.5 / unit);
            assert!((taken - written).abs() <= slack + written.abs() * 1e-12, "{name}: {taken} for {written}");
        }
    };
    assert_eq!(Some(&*record.engine_hash), value["engine_hash"].as_str());
    assert_eq!(Some(&*record.model), value["model"].as_str());
    close("duration_ms", to_float(u128::from(record.duration_us)), 1e3);
    if let Some(cost) = record.cost_atto_usd {
        close("cost_usd", to_float(cost), 1e18);
    }
    let perf = value.get("perf").filter(|perf| perf.is_object());
    if value["event"] == "llm.request" || (perf.is_none() && value["event"].is_null()) {
        if let Some(delay) = record.queue_delay_ns {
            close("queue_delay_us", to_float(u128::from(delay)), 1e3);
        }
        let count = |value: &Value| value.as_f64().map(|count| to_float(count as u128));
        let counts = [
            (record.tokens_in, &value["tokens_in"]),
            (record.tokens_out, &value["tokens_out"]),
            (record.kv_hits, &value["kv_cache_reuse"]["hits"]),
            (record.kv_misses, &value["kv_cache_reuse"]["misses"]),
            (record.spec_attempts, &value["speculative"]["attempts"]),
            (record.spec_accepts, &value["speculative"]["accepts"]),
        ];
        for (taken, written) in counts {
            assert_eq!(taken.map(f64::from), count(written), "{written}");
        }
    }
}

fn to_float(value: u128) -> f64 {
    value as f64
}

fn read(header: Header, body: &[u8]) -> Result<Report, Refusal> {
    report::read(&Leaf { header, body })
}

/// What must be equal for two readings to be the same event.
fn meaning(report: &Report) -> String {
    format!("{:?} {:?} {:?} {}", report.identity, report.about, report.event, report.privileged)
}

/// A line of the stack's own log.
pub fn legacy_event(data: &[u8]) {
    let first = read(Header::default(), data);
    assert_eq!(code(&first), code(&read(Header::default(), data)), "a verdict is stable");
    let Ok(text) = std::str::from_utf8(data) else { return };
    let secret = Secret::new("secret".to_owned());
    let signature = legacy_signature::check(text, &secret);
    let value = serde_json::from_str::<Value>(text).ok();
    assert_eq!(signature.is_some(), value.as_ref().is_some_and(Value::is_object));
    if let (Some(signature), Some(value)) = (signature, &value) {
        assert_eq!(signature == LegacySignature::Absent, !value["signature"].is_string());
    }
    let Ok(report) = first else { return };
    let Some(value) = value else { return };
    if value["payloadType"].is_null() && value["specversion"].is_null() {
        assert_eq!(Some(report.about.event_type.as_str()), value["event_type"].as_str());
        if let (Some(time), Some(written)) = (report.about.occurred_at, value["timestamp"].as_str()) {
            assert_eq!(written.parse::<Time>().ok(), Some(time));
        }
        let again = read(Header::default(), &[data, b"\r\n"].concat()).expect("a line feed changes nothing");
        assert_eq!(meaning(&report), meaning(&again));
        assert!(!report.privileged || report.envelope.is_none());
    }
}

/// A cloud event means the same in structured and in Kafka's binary mode, alone and in a batch.
pub fn cloud_event(data: &[u8]) {
    for media_type in [None, Some("application/x-ndjson"), Some("application/cloudevents-batch+json")] {
        if let Ok(events) = http::split_events(media_type, data) {
            assert!(!events.is_empty());
        }
    }
    let Ok(report) = read(Header::default(), data) else { return };
    let text = std::str::from_utf8(data).expect("what is no text is refused");
    if let Ok(events) = http::split_events(None, format!("[{text}]").as_bytes()) {
        let [alone] = &events[..] else { panic!("one event in a batch of one") };
        assert_eq!(
            meaning(&read(Header::default(), alone.trim_ascii()).expect("the same event")).len(),
            meaning(&report).len()
        );
    }
    let Ok(Value::Object(value)) = serde_json::from_str(text) else { return };
    if value.get("payloadType").is_some_and(|value| !value.is_null())
        || value.get("specversion").is_none_or(Value::is_null)
    {
        return;
    }
    let parts: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("an object");
    let attribute = |name: &str| Some((name.to_owned(), value.get(name)?.as_str()?.to_owned()));
    let names = ["specversion", "id", "source", "type", "subject", "time"];
    let cloud_event: BTreeMap<String, String> = names.into_iter().filter_map(attribute).collect();
    let body = parts.get("data").filter(|data| data.get() != "null").map_or("{}", |data| data.get());
    let binary = read(Header { cloud_event, ..Header::default() }, body.as_bytes());
    assert_eq!(meaning(&binary.expect("binary mode takes what structured mode took")), meaning(&report));
}

/// An envelope gives its payload back; a signature that verifies was made over that payload.
pub fn dsse(data: &[u8]) {
    let sealed = envelope::seal(data, &key()).expect("anything can be sealed");
    let opened = envelope::open(&sealed).expect("what was sealed opens");
    assert_eq!(opened.payload, data);
    assert!(opened.verifies(&opened.signatures[0].1, &key().public()));
    let mut forged = opened.signatures[0].1;
    forged[data.len() % 64] ^= 1;
    assert!(!opened.verifies(&forged, &key().public()));
    let _ = read(Header::default(), sealed.as_bytes());

    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(taken) = envelope::open(text) else { return };
    assert!(!taken.signatures.is_empty());
    for (_, signature) in &taken.signatures {
        if taken.verifies(signature, &key().public()) {
            assert_eq!(
                taken.payload,
                include_bytes!("../seeds/payload.json"),
                "a signature over another payload verified"
            );
        }
    }
    if let Ok(report) = read(Header::default(), data) {
        let payload = read(Header::default(), &taken.payload).map(|inner| inner.identity);
        assert!(payload.is_err() || payload == Ok(report.identity), "an envelope changes no identity");
    }
}

/// Settings and policies: what is read can be written and read again.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = toml::from_str::<Config>(text) {
        let _ = config.times();
        let _ = config.api(config.listen);
    }
    let policies = [Policy::from_toml(text), Policy::from_json(text)];
    for policy in policies.into_iter().flatten() {
        policy.validate().expect("what is read is valid");
        let written = serde_json::to_string(&policy).expect("a policy is JSON");
        assert_eq!(Policy::from_json(&written).expect("what was written is read"), policy);
    }
}

/// A question's text and its cursor: one form, read back the same.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(asked) = Asked::parse(text) else { return };
    let path = asked.path();
    assert_eq!(Asked::parse(&path).as_ref(), Ok(&asked), "{path}");
    assert_eq!(Asked::parse(&path).map(|asked| asked.path()).ok(), Some(path));
}

/// A page of Prometheus' text format: what is read is written and read back the same, and every line is a sample, a comment,
/// blank or a fault. As the text of a scrape it is read or refused, and never differently a second time.
pub fn exposition(data: &[u8]) {
    let Ok(page) = std::str::from_utf8(data) else { return };
    let lines = page.split('\n').map(|line| line.trim_matches(['\r', ' ', '\t']));
    let expected = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let read: Vec<_> = exposition::samples(page).collect();
    assert!(read.len() <= expected + page.matches('\r').count(), "no more samples than lines");
    for sample in read.iter().flatten() {
        let labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(name, value)| {
                format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
            })
            .collect();
        let written = format!("{}{{{}}} {}", sample.name, labels.join(","), sample.value);
        let mut again = exposition::samples(&written);
        let again = again.next().expect("one line").expect("what was written is read");
        assert_eq!((again.name, &again.labels, again.value), (sample.name, &sample.labels, sample.value), "{written}");
    }
    let event =
        serde_json::json!({ "event": "triton.scrape", "stack": "s", "instance": "i", "text": page }).to_string();
    let parsed = parse(&event);
    assert_eq!(parsed, parse(&event), "a verdict is stable");
    match parsed {
        Ok(MetricEvent::Scrape(scrape)) => {
            assert!(read.iter().all(Result::is_ok), "a page with a fault is refused");
            if let Some((free, total)) = scrape.tightest_gpu() {
                assert!(free <= total && total > 0);
            }
        }
        Ok(other) => panic!("read as {other:?}"),
        Err(refusal) => assert!(refusal.field.is_some(), "{refusal} names no field"),
    }
}

use super::*;
use rust_decimal::Decimal;

const PLAIN: &str = r#"{"event":"llm.request","operation":"generate_json","model":"qwen3-32b","engine_hash":"sha256:93","quantisation":"w4a8","schema_id":"mapping.v3","duration_ms":49.824,"queue_delay_us":569.9,"tokens_in":374.0,"tokens_out":44.0,"kv_cache_reuse":{"hits":4,"misses":1},"speculative":{"attempts":7,"accepts":5},"cost_usd":0.005016,"error_code":null,"queue_delay_budget_overrun":false,"token_budget_overrun":true,"recorded_at":"2026-10-01T09:00:00.049824+00:00"}"#;

fn request(body: &str) -> MetricRecord<'_> {
    match parse(body) {
        Ok(MetricEvent::Request(record)) => record,
        other => panic!("{body}: {other:?}"),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "compared with optional times")]
fn at(text: &str) -> Option<Time> {
    Some(text.parse().unwrap())
}

/// A request with `fields` in the place of, or beside, the required ones.
fn with(fields: &str) -> String {
    format!(r#"{{"model":"m","engine_hash":"e",{fields}}}"#)
}

#[test]
fn a_provider_log_is_read_exactly() {
    let record = request(PLAIN);
    assert_eq!((record.duration_us, record.queue_delay_ns), (49_824, Some(569_900)));
    assert_eq!((record.tokens_in, record.tokens_out), (Some(374), Some(44)));
    assert_eq!(
        (record.kv_hits, record.kv_misses, record.spec_attempts, record.spec_accepts),
        (Some(4), Some(1), Some(7), Some(5))
    );
    assert_eq!(record.cost_usd(), Some(Decimal::new(5016, 6)));
    assert_eq!((record.token_budget_overrun, record.queue_delay_budget_overrun), (Some(true), Some(false)));
    assert_eq!(record.recorded_at, at("2026-10-01T09:00:00.049824Z"));
    assert!(matches!(record.engine_hash, Cow::Borrowed(_)), "strings without escapes are borrowed");
}

#[test]
fn what_is_absent_is_not_reported() {
    let record = request(
        r#"{"model":"m","engine_hash":"e","duration_ms":1,"queue_delay_us":null,"kv_cache_reuse":{},"speculative":{},"cost_usd":null}"#,
    );
    assert_eq!((record.duration_us, record.queue_delay_ns, record.cost_atto_usd), (1_000, None, None));
    assert_eq!((record.kv_hits, record.spec_attempts, record.recorded_at), (None, None, None));
    let record =
        request(&with(r#""duration_ms":1,"kv_cache_reuse":{"misses":3},"error_code":"TIMEOUT","unknown":[{"a":1}]"#))
            .kv_misses;
    assert_eq!(record, Some(3));
}

#[test]
fn numbers_keep_their_decimal_text() {
    let cost =
        |text: &str| request(&with(&format!(r#""duration_ms":1,"cost_usd":{text}"#))).cost_usd().unwrap().to_string();
    assert_eq!(cost("1e-05"), "0.00001");
    assert_eq!(cost("0.10"), "0.1");
    assert_eq!(cost("0.1000000000000001"), "0.1000000000000001");
    assert_eq!(cost("12"), "12");
    let duration = |text: &str| request(&with(&format!(r#""duration_ms":{text}"#))).duration_us;
    assert_eq!(
        (duration("799.9994999"), duration("799.9995"), duration("799.9985"), duration("8E2")),
        (799_999, 800_000, 799_998, 800_000)
    );
}

#[test]
fn a_python_logger_may_stand_around_it() {
    let around = |fields: &str| {
        format!(
            r#"{{"levelname":"INFO","name":"provider","message":"llm.request",{fields},"llm":{{"model":"m","engine_hash":"e","duration_ms":1.5}}}}"#
        )
    };
    let check = |fields: &str, expected: Option<Time>| {
        let body = around(fields);
        let record = request(&body);
        assert_eq!((record.duration_us, record.recorded_at), (1_500, expected), "{fields}");
    };
    check(r#""asctime":"2026-10-01 09:00:00,123""#, at("2026-10-01T09:00:00.123Z"));
    check(r#""asctime":1790845200.25"#, at("2026-10-01T09:00:00.25Z"));
    check(r#""asctime":"1790845200""#, at("2026-10-01T09:00:00Z"));
    check(r#""timestamp":"2026-10-01T11:00:00+02:00","asctime":"2026-10-01 01:00:00,000""#, at("2026-10-01T09:00:00Z"));
    check(r#""@timestamp":"2026-10-01T09:00:00.5""#, at("2026-10-01T09:00:00.5Z"));
    check(r#""asctime":"09:00""#, None);
    check(r#""lineno":7"#, None);
    let body = around(r#""when":"2026-10-01T09:00:00Z","asctime":"2026-10-01 01:00:00,000""#);
    let times = TimeFields::new(["when".to_owned()]);
    let Ok(MetricEvent::Request(record)) = parse_with(&body, &times) else { panic!("a request") };
    assert_eq!(record.recorded_at, at("2026-10-01T09:00:00Z"));
    let own = r#"{"message":"llm.request","asctime":"2026-10-01 01:00:00,000","llm":{"model":"m","engine_hash":"e","duration_ms":1,"recorded_at":"2026-10-01T09:00:00Z"}}"#;
    assert_eq!(request(own).recorded_at, at("2026-10-01T09:00:00Z"), "the record's own time comes first");
}

#[test]
fn a_cloud_event_may_stand_around_it() {
    let body = r#"{"specversion":"1.0","id":"1","source":"s","type":"llm.request","time":"2026-10-01T09:00:00Z","data":{"model":"m","engine_hash":"e","duration_ms":2}}"#;
    assert_eq!((request(body).duration_us, request(body).recorded_at), (2_000, at("2026-10-01T09:00:00Z")));
}

#[test]
fn both_dialects_of_triton_perf() {
    let batcher = r#"{"event":"triton.perf","model":"m","engine_hash":"e","duration_ms":812.5,"perf":{"kv_cache_reused_blocks":6,"kv_cache_alloc_new_blocks":2,"kv_cache_alloc_total_blocks":8,"arrival_time_ns":1000,"first_scheduled_time_ns":812345,"first_token_time_ns":900000,"last_token_time_ns":990000,"acceptance_rate":0.5,"total_accepted_draft_tokens":10,"total_draft_tokens":20,"num_input_tokens":100,"num_output_tokens":30}}"#;
    let record = request(batcher);
    assert_eq!((record.duration_us, record.queue_delay_ns), (812_500, Some(811_345)));
    assert_eq!(
        (record.kv_hits, record.kv_misses, record.spec_attempts, record.spec_accepts),
        (Some(6), Some(2), Some(20), Some(10))
    );
    assert_eq!((record.tokens_in, record.tokens_out, record.recorded_at), (Some(100), Some(30), None));
    let api = r#"{"event":"triton.perf","model":"m","engine_hash":"e","duration_ms":1,"perf":{"kv_cache_reused_block":"3","kv_cache_missed_block":"9","kv_cache_hit_rate":"0.25"}}"#;
    assert_eq!((request(api).kv_hits, request(api).kv_misses), (Some(3), Some(9)));
    let backwards = batcher.replace("\"arrival_time_ns\":1000", "\"arrival_time_ns\":900000");
    assert_eq!(parse(&backwards).unwrap_err().code, Code::OutOfRange);
}

#[test]
fn notices_are_kept_and_are_no_samples() {
    let check = |body: &str, event: &str, value: &str, bound: &str| {
        let Ok(MetricEvent::Notice(notice)) = parse(body) else { panic!("{body}") };
        assert_eq!((notice.event, notice.value, notice.bound), (event, Some(value), Some(bound)));
        let mut batch = Batch::default();
        assert_eq!((batch.push_line(body), batch.len(), batch.samples().count()), (Ok(Kind::Notice), 1, 0));
    };
    check(
        r#"{"warning":"Queue delay threshold exceeded","operation":"judge","schema_id":"x","queue_delay_us":3000.0,"threshold":2500}"#,
        THRESHOLD,
        "3000.0",
        "2500",
    );
    check(
        r#"{"message":"llm.threshold_exceeded","llm":{"warning":"w","queue_delay_us":3000.0,"threshold":2500}}"#,
        THRESHOLD,
        "3000.0",
        "2500",
    );
    check(
        r#"{"event":"llm.cost.threshold_exceeded","operation":"judge","schema_id":null,"cost_usd":0.2,"budget_usd":0.1}"#,
        COST,
        "0.2",
        "0.1",
    );
    check(r#"{"message":"llm.cost.threshold_exceeded","llm":{"cost_usd":0.2,"budget_usd":0.1}}"#, COST, "0.2", "0.1");
}

#[test]
fn refusals_name_code_field_and_value() {
    let check = |body: &str, code: Code, field: Option<&str>| {
        let refusal = parse(body).unwrap_err();
        assert_eq!((refusal.code, refusal.field.as_deref()), (code, field), "{body}: {refusal:?}");
    };
    check(&PLAIN.replace("49.824", "NaN"), Code::NotFiniteNumber, Some("duration_ms"));
    check(&PLAIN.replace("569.9", "-Infinity"), Code::NotFiniteNumber, Some("queue_delay_us"));
    check(&PLAIN.replace("\"hits\":4", "\"hits\":NaN"), Code::NotFiniteNumber, Some("hits"));
    check(&PLAIN.replace("49.824", "\"49.824\""), Code::WrongType, Some("duration_ms"));
    check(&PLAIN.replace("49.824", "-0.001"), Code::OutOfRange, Some("duration_ms"));
    check(&PLAIN.replace("49.824", "1e300"), Code::OutOfRange, Some("duration_ms"));
    check(&PLAIN.replace("374.0", "374.5"), Code::OutOfRange, Some("tokens_in"));
    check(&PLAIN.replace("0.005016", "-1"), Code::OutOfRange, Some("cost_usd"));
    check(&PLAIN.replace("\"sha256:93\"", "7"), Code::WrongType, Some("engine_hash"));
    check(&PLAIN.replace("\"sha256:93\"", "null"), Code::MissingField, Some("engine_hash"));
    check(&PLAIN.replace("\"sha256:93\"", "\"\""), Code::OutOfRange, Some("engine_hash"));
    check(&PLAIN.replace("\"duration_ms\":49.824,", ""), Code::MissingField, Some("duration_ms"));
    check(&PLAIN.replace("{\"hits\":4,\"misses\":1}", "[4,1]"), Code::WrongType, Some("kv_cache_reuse"));
    check(&PLAIN.replace("true", "\"yes\""), Code::WrongType, Some("token_budget_overrun"));
    check(&PLAIN.replace("+00:00", ""), Code::WrongType, Some("recorded_at"));
    check(&PLAIN.replace("llm.request", "llm.other"), Code::WrongKind, Some("event"));
    check(r#"{"model":"m","engine_hash":"e","warned":1}"#, Code::MissingField, Some("duration_ms"));
    check("[1,2]", Code::MalformedJson, None);
    check("", Code::MalformedJson, None);
    check(&PLAIN[..PLAIN.len() - 1], Code::MalformedJson, None);
    let long = parse(&PLAIN.replace("49.824", &format!("\"{}\"", "9".repeat(5_000)))).unwrap_err();
    assert!(long.detail.len() < 200 && long.detail.contains("duration_ms"), "{}", long.detail);
}

#[test]
fn a_batch_keeps_every_place_and_every_value() {
    let mut batch = Batch::default();
    batch.first_position = 10;
    let other = PLAIN.replace("sha256:93", "sha256:94");
    let lines = [PLAIN, "nonsense", &other, PLAIN];
    let outcomes: Vec<_> = lines.iter().map(|line| batch.push_line(line).is_ok()).collect();
    assert_eq!((outcomes, batch.len()), (vec![true, false, true, true], 4));
    let samples: Vec<_> = batch.samples().collect();
    assert_eq!(samples.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [10, 12, 13]);
    for ((_, sample), line) in samples.iter().zip([PLAIN, &other, PLAIN]) {
        assert_eq!(*sample, Sample::from(&request(line)));
    }
    assert_eq!(batch.samples_between(11, 13).map(|(position, _)| position).collect::<Vec<_>>(), [12]);
    assert_eq!(batch.samples_between(0, 10).count() + batch.samples_between(14, 99).count(), 0);
}

#[test]
fn many_engines_keep_apart_and_batches_join() {
    let line = |number: usize| PLAIN.replace("sha256:93", &format!("sha256:{}", number % 20));
    let lines: Vec<String> = (0..60).map(line).chain(["nonsense".to_owned()]).chain((5..90).map(line)).collect();
    let mut whole = Batch::default();
    for line in &lines {
        let _ = whole.push_line(line);
    }
    let expected: Vec<_> = whole.samples().collect();
    assert_eq!(expected.len(), lines.len() - 1);
    for ((position, sample), line) in expected.iter().zip(lines.iter().filter(|line| *line != "nonsense")) {
        assert_eq!(*sample, Sample::from(&request(line)), "position {position}");
    }
    // The same from parts, of one line and of many.
    for width in [1, 7, 200] {
        let mut joined = Batch::default();
        for part in lines.chunks(width) {
            let mut next = Batch::default();
            for line in part {
                let _ = next.push_line(line);
            }
            joined.absorb(&next);
        }
        assert_eq!(joined.samples().collect::<Vec<_>>(), expected, "parts of {width}");
    }
}

fn scrape_line(text: &str) -> String {
    serde_json::json!({
        "event": "triton.scrape", "stack": "engine-qwen3", "instance": "http://gpu-1:8002/metrics",
        "scraped_at": "2026-10-01T09:00:00Z", "text": text,
    })
    .to_string()
}

fn scraped(line: &str) -> Result<Scrape, Refusal> {
    match parse(line)? {
        MetricEvent::Scrape(scrape) => Ok(*scrape),
        other @ (MetricEvent::Request(_) | MetricEvent::Notice(_)) => panic!("{other:?}"),
    }
}

#[test]
fn pages_of_both_backends_are_read() {
    const INFLIGHT: &str = include_str!("../../../tests/capacity/inflight-batcher.prom");
    const LLM_API: &str = include_str!("../../../tests/capacity/llm-api.prom");
    let inflight = scraped(&scrape_line(INFLIGHT)).unwrap();
    assert_eq!(inflight.tightest_gpu(), Some((52_613_349_376, 85_899_345_920)));
    assert_eq!(inflight.gpus.iter().map(|gpu| gpu.utilization_ppm).collect::<Vec<_>>(), [Some(610_000), Some(580_000)]);
    let model = inflight.models.iter().find(|model| &*model.name == "tensorrt_llm").unwrap();
    assert_eq!((model.kv_used, model.kv_free, model.kv_max), (Some(1_560), Some(4_680), Some(6_240)));
    assert_eq!((model.kv_tokens_per_block, model.max_requests, model.active), (Some(32), Some(4), Some(3)));
    assert_eq!((model.queue_us, model.requests), (Some(960_000), Some(1_200)));
    let llm_api = scraped(&scrape_line(LLM_API)).unwrap();
    assert_eq!(llm_api.tightest_gpu(), Some((64_424_509_440, 85_899_345_920)));
    assert_eq!(llm_api.models[0].kv_max, None);
    assert_eq!((llm_api.models[0].executions, llm_api.models[0].inferences), (Some(400), Some(800)));
    // In a cloud event, and in a batch, it is the same.
    let data = scrape_line(LLM_API);
    let cloud = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"triton.scrape","data":{data}}}"#);
    assert_eq!(scraped(&cloud).unwrap(), llm_api);
    assert_eq!(scraped(&format!(r#"{{"llm":{data},"message":"m"}}"#)).unwrap(), llm_api);
    let mut batch = Batch::default();
    batch.push_line("{}").unwrap_err();
    assert_eq!(batch.push_line(&data), Ok(Kind::Scrape));
    let mut both = Batch::default();
    both.first_position = 7;
    both.push_none();
    both.absorb(&batch);
    assert_eq!(both.observed_between(9, 10).collect::<Vec<_>>(), [Observed::Scrape(&llm_api)]);
    assert_eq!(both.observed_between(7, 9).count() + both.observed_between(10, 99).count(), 0);
}

#[test]
fn a_scrape_that_cannot_be_read_names_metric_and_value() {
    let check = |text: &str, code: Code, field: &str, value: &str| {
        let refusal = scraped(&scrape_line(text)).unwrap_err();
        assert_eq!((refusal.code, refusal.field.as_deref()), (code, Some(field)), "{refusal}");
        assert!(refusal.detail.contains(value), "{refusal} does not hold {value}");
    };
    let used = "nv_gpu_memory_used_bytes";
    check("nv_gpu_memory_used_bytes{gpu_uuid=\"a\"} NaN", Code::NotFiniteNumber, used, "NaN");
    check("nv_gpu_memory_used_bytes{gpu_uuid=\"a\"} +Inf", Code::NotFiniteNumber, used, "+Inf");
    check("nv_gpu_memory_used_bytes{gpu_uuid=\"a\"} 12x", Code::WrongType, used, "12x");
    check("nv_gpu_memory_used_bytes{gpu_uuid=\"a\"} -5", Code::OutOfRange, used, "-5");
    check("nv_gpu_memory_used_bytes 5", Code::MissingField, "nv_gpu_memory_used_bytes{gpu_uuid}", "gpu_uuid");
    check("nv_gpu_utilization{gpu_uuid=\"a\"} 1.5", Code::OutOfRange, "nv_gpu_utilization", "1.5");
    let twice = "nv_gpu_utilization{gpu_uuid=\"a\"} 0.5\nnv_gpu_utilization{gpu_uuid=\"a\"} 0.5";
    check(twice, Code::OutOfRange, "nv_gpu_utilization", "twice");
    let over = "nv_gpu_memory_used_bytes{gpu_uuid=\"a\"} 11\nnv_gpu_memory_total_bytes{gpu_uuid=\"a\"} 10";
    check(over, Code::OutOfRange, "nv_gpu_memory_used_bytes{gpu_uuid=\"a\"}", "11");
    check("nv_gpu_utilization{gpu_uuid=\"a\" 0.5", Code::WrongType, "text", "line 1");
    check("<html>502</html>", Code::WrongType, "text", "<html>502</html>");
    check("go_goroutines 7", Code::MissingField, "text", "go_goroutines 7");
    let without = r#"{"event":"triton.scrape","stack":"s","text":"nv_gpu_utilization{gpu_uuid=\"a\"} 0"}"#;
    assert_eq!(parse(without).unwrap_err().field.as_deref(), Some("instance"));
}

use proptest::prelude::*;

use super::super::{MetricEvent, TimeFields, parse_general};
use super::request;

const PLAIN: &str = r#"{"event":"llm.request","operation":"generate_json","model":"qwen3-32b","engine_hash":"sha256:93","quantisation":"w4a8","schema_id":null,"duration_ms":49.824,"queue_delay_us":569.9,"tokens_in":374.0,"tokens_out":44,"kv_cache_reuse":{"hits":4,"misses":1},"speculative":{"attempts":7,"accepts":5},"cost_usd":0.005016,"error_code":null,"queue_delay_budget_overrun":false,"token_budget_overrun":true,"recorded_at":"2026-10-01T09:00:00.049824+00:00"}"#;

/// Where the short way takes a line, the general reader takes it too and makes the same of it.
fn check(line: &str) -> bool {
    let short = request(line);
    if let Some(record) = &short {
        let general = parse_general(line, &TimeFields::default());
        assert_eq!(general, Ok(MetricEvent::Request(record.clone())), "{line}");
    }
    short.is_some()
}

#[test]
fn plain_lines_go_the_short_way() {
    assert!(check(PLAIN));
    // As Python's json.dumps writes it.
    assert!(check(&PLAIN.replace("\":", "\": ").replace(",\"", ", \"")));
    assert!(check(&format!(" {PLAIN}\r\n")));
    assert!(check(&PLAIN.replace("qwen3-32b", "größer-als-8-Bytes")));
    assert!(check(&PLAIN.replace(r#"{"attempts":7,"accepts":5}"#, "{}")));
    assert!(check(&PLAIN.replace("0.005016", "0.000000000000000015")));
}

#[test]
fn anything_else_goes_the_long_way() {
    for (from, to) in [
        ("llm.request", "llm.other"),
        ("llm.request", "triton.perf"),
        ("\"operation\"", "\"unknown\""),
        ("\"operation\"", "\"model\""),
        ("qwen3-32b", ""),
        ("qwen3-32b", "a\\nb"),
        ("qwen3-32b", "a\u{1}b"),
        ("49.824", "-1"),
        ("49.824", "1e2"),
        ("49.824", "049"),
        ("49.824", "49."),
        ("49.824", ".5"),
        ("49.824", "null"),
        ("49.824", "4 9"),
        ("49.824", "100000000000000000000"),
        ("374.0", "374.5"),
        ("374.0", "4294967296"),
        ("\"hits\"", "\"other\""),
        ("true", "truex"),
        ("0.005016", "\"0.005016\""),
        ("2026-10-01T09", "2026-10-01 09"),
        ("}}", "}} x"),
    ] {
        let line = PLAIN.replacen(from, to, 1);
        assert!(from == "}}" || line != PLAIN, "{from}");
        let line = if from == "}}" { format!("{PLAIN} x") } else { line };
        assert!(!check(&line), "{line}");
    }
    for line in ["", "{", "{}", "[]", "null", "{\"event\":\"llm.request\"}"] {
        assert!(!check(line), "{line}");
    }
}

/// Texts that matter in a line: put anywhere, they make most of what can be wrong with one.
const PIECES: [&str; 24] = [
    "\"",
    "\\",
    ",",
    ":",
    "{",
    "}",
    " ",
    "\n",
    "0",
    "9",
    ".",
    "-",
    "e5",
    "null",
    "true",
    "\u{7}",
    "ä",
    "\"model\":\"x\",",
    "\"hits\":3,",
    "1234567890",
    ".0",
    "00",
    "[]",
    "\u{c}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn both_ways_agree_on_mutated_lines(edits in prop::collection::vec((0.0_f64..1.0, 0_usize..3, 0..PIECES.len()), 0..3)) {
        let mut line = PLAIN.to_owned();
        for (place, removed, piece) in edits {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a line")]
            let mut from = (place * line.len() as f64) as usize;
            while !line.is_char_boundary(from) {
                from -= 1;
            }
            let mut to = (from + removed).min(line.len());
            while !line.is_char_boundary(to) {
                to += 1;
            }
            line.replace_range(from..to, PIECES[piece]);
        }
        check(&line);
    }

    #[test]
    fn both_ways_agree_on_numbers(whole in 0_u64..10_u64.pow(15), places in 0_usize..18, name in "(duration_ms|queue_delay_us|cost_usd|tokens_in)") {
        let digits = format!("{whole:0>19}");
        let (front, back) = digits.split_at(digits.len() - places);
        let front = front.trim_start_matches('0');
        let front = if front.is_empty() { "0" } else { front };
        let text = if places == 0 { front.to_owned() } else { format!("{front}.{back}") };
        let line = format!(r#"{{"event":"llm.request","model":"m","engine_hash":"e","{name}":{text}{}}}"#, if name == "duration_ms" { "" } else { ",\"duration_ms\":1" });
        check(&line);
    }
}

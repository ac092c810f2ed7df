//! What the machine does with the same lines and without us: `serde_json` into a plain struct of the record's fields.

use std::borrow::Cow;
use std::hint::black_box;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::report::Report;
use super::traffic::Traffic;
use super::{CliError, file_error, rate};
use crate::clock::monotonic;
use crate::domain::metric;

/// Lines that parsing is measured on: they stay in memory, within the bound of the whole.
const SAMPLE_BYTES: usize = 24 << 20;
/// The best of so many passes counts.
const PASSES: usize = 5;

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(
    #[serde(borrow)]
    #[expect(dead_code, reason = "parsed to be measured")]
    Cow<'a, str>,
);

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Plain<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    operation: Option<Text<'a>>,
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    engine_hash: Text<'a>,
    #[serde(borrow)]
    quantisation: Option<Text<'a>>,
    #[serde(borrow)]
    schema_id: Option<Text<'a>>,
    duration_ms: f64,
    queue_delay_us: Option<f64>,
    tokens_in: Option<f64>,
    tokens_out: Option<f64>,
    kv_cache_reuse: Option<Reuse>,
    speculative: Option<Speculative>,
    #[serde(borrow)]
    cost_usd: Option<&'a RawValue>,
    #[serde(borrow)]
    error_code: Option<Text<'a>>,
    queue_delay_budget_overrun: Option<bool>,
    token_budget_overrun: Option<bool>,
    #[serde(borrow)]
    recorded_at: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Reuse {
    hits: Option<u32>,
    misses: Option<u32>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
struct Speculative {
    attempts: Option<u32>,
    accepts: Option<u32>,
}

/// Rates of one core.
pub(super) struct Baseline {
    /// `serde_json::from_str` into the plain struct.
    pub(super) parse: f64,
}

/// Measures the plain parse, and ours beside it.
pub(super) fn measure(traffic: &Traffic, report: &mut Report) -> Result<Baseline, CliError> {
    let mut text = vec![0; SAMPLE_BYTES.min(usize::try_from(traffic.bytes).unwrap_or(usize::MAX))];
    let mut file = std::fs::File::open(&traffic.path).map_err(file_error(&traffic.path))?;
    std::io::Read::read_exact(&mut file, &mut text).map_err(file_error(&traffic.path))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.len() as u64;
    let best = |parse: &dyn Fn(&str) -> bool| {
        let pass = || {
            let began = monotonic();
            let taken = lines.iter().filter(|line| parse(line)).count();
            black_box(taken);
            rate(count, began.elapsed())
        };
        (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
    };
    let parse = best(&|line| black_box(serde_json::from_str::<Plain<'_>>(black_box(line))).is_ok());
    let ours = best(&|line| black_box(metric::parse(black_box(line))).is_ok());
    report.share("metric parse, one core", ours, parse, "serde_json::from_str, one core", None);
    Ok(Baseline { parse })
}

//! The record's fields as a plain struct, for `serde_json` to fill: what a service without a parser of its own would use.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(
    #[serde(borrow)]
    #[expect(dead_code, reason = "parsed to be measured")]
    Cow<'a, str>,
);

/// The record.
#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed to be measured")]
pub(crate) struct Plain<'a> {
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

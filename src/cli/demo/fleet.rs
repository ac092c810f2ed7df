//! A fleet of engine slots: requests arrive, wait where all are taken, and take as long as their tokens need.

use serde_json::{Value, json};

use super::random::Random;
use crate::domain::time::Time;

/// USD a token.
const PRICE: f64 = 0.000_012;
/// Bounds that the serving stack itself flags.
const QUEUE_BUDGET_US: f64 = 2_500.0;
const TOKEN_BUDGET: f64 = 6_000.0;
/// Tokens in a KV block.
const BLOCK_TOKENS: f64 = 64.0;

/// How an engine performs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine {
    pub(super) hash: &'static str,
    pub(super) version: &'static str,
    pub(super) model: &'static str,
    /// Tokens a second and slot.
    pub(super) decode: f64,
    pub(super) prefill: f64,
    /// Share of KV blocks reused, and of draft tokens accepted.
    pub(super) reuse: f64,
    pub(super) accept: f64,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Seconds into the hour.
    pub(super) at: f64,
    pub(super) operation: &'static str,
    pub(super) schema: &'static str,
    pub(super) tokens_in: f64,
    pub(super) tokens_out: f64,
}

/// Slots, by when each is free.
#[derive(Debug)]
pub(super) struct Fleet {
    free: Vec<f64>,
}

impl Fleet {
    pub(super) fn new(slots: usize) -> Self {
        Self { free: vec![0.0; slots] }
    }

    /// Serves a request: when it is done, and what the provider logs of it.
    pub(super) fn serve(
        &mut self,
        start: Time,
        engine: &Engine,
        request: &Request,
        random: &mut Random,
    ) -> (f64, Value) {
        let blocks = (request.tokens_in / BLOCK_TOKENS).max(1.0).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few thousand blocks and drafts at the most"
        )]
        let (blocks_n, drafts) =
            (blocks as u64, if request.tokens_out < 64.0 { 0 } else { (request.tokens_out / 4.0).min(200.0) as u64 });
        let hits = random.hits(blocks_n, engine.reuse);
        let accepts = random.hits(drafts, engine.accept);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand blocks at the most")]
        let fresh = 1.0 - hits as f64 / blocks;
        let service = request.tokens_in * fresh / engine.prefill + request.tokens_out / engine.decode;
        let slot = self.free.iter_mut().min_by(|a, b| a.total_cmp(b));
        let begin = slot.map_or(request.at, |free| {
            let begin = free.max(request.at);
            *free = begin + service;
            begin
        });
        let done = begin + service;
        let queue_us = rounded((begin - request.at) * 1e6 + random.between(60.0, 700.0), 1);
        let tokens = request.tokens_in + request.tokens_out;
        let log = json!({
            "event": "llm.request",
            "operation": request.operation,
            "model": engine.model,
            "engine_hash": engine.hash,
            "quantisation": "w4a8",
            "schema_id": request.schema,
            "duration_ms": rounded((done - request.at) * 1e3, 3),
            "queue_delay_us": queue_us,
            "tokens_in": request.tokens_in,
            "tokens_out": request.tokens_out,
            "kv_cache_reuse": { "hits": hits, "misses": blocks_n - hits },
            "speculative": if drafts == 0 { json!({}) } else { json!({ "attempts": drafts, "accepts": accepts }) },
            "cost_usd": rounded(PRICE * tokens, 6),
            "error_code": if random.chance(0.002) { json!("TIMEOUT") } else { Value::Null },
            "queue_delay_budget_overrun": queue_us > QUEUE_BUDGET_US,
            "token_budget_overrun": tokens > TOKEN_BUDGET,
            "recorded_at": at(start, done).to_string(),
        });
        (done, log)
    }
}

/// A second of the hour as a time.
#[expect(clippy::cast_possible_truncation, reason = "an hour in microseconds")]
pub(super) fn at(start: Time, seconds: f64) -> Time {
    Time::from_micros(start.micros() + (seconds * 1e6).round() as i64)
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

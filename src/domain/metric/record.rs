//! The typed record, and how each dialect becomes one.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::scrape::Scrape;
use super::wire::{self, Counts, Line, Perf, Raw, Text};
use super::{COST_ATTO_USD_MAX, DELAY_NS_MAX, DURATION_US_MAX, NAME_BYTES_MAX, Strings};
use crate::domain::refusal::{Code, Refusal, quoted};
use crate::domain::time::Time;

/// Decimal places of the unit in which money is compared and summed: 10^-18 USD, finer than any producer writes.
pub const USD_DECIMALS: u32 = 18;
pub(super) const USD_SCALE: i32 = USD_DECIMALS.cast_signed();

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricEvent<'a> {
    /// One request.
    Request(MetricRecord<'a>),
    /// A warning of the provider's own: kept and shown, no sample of any rule.
    Notice(Notice<'a>),
    /// A look at a server's own metrics.
    Scrape(Box<Scrape>),
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRecord<'a> {
    /// When it says that it happened.
    pub recorded_at: Option<Time>,
    /// What was asked for, such as `generate_json`.
    pub operation: Option<Cow<'a, str>>,
    /// The model's name.
    pub model: Cow<'a, str>,
    /// The engine, by the client's claim.
    pub engine_hash: Cow<'a, str>,
    /// The engine's quantisation.
    pub quantisation: Option<Cow<'a, str>>,
    /// The output schema of guided decoding.
    pub schema_id: Option<Cow<'a, str>>,
    /// Wall time, in microseconds.
    pub duration_us: u64,
    /// Time in the queue, in nanoseconds.
    pub queue_delay_ns: Option<u64>,
    /// Prompt tokens.
    pub tokens_in: Option<u32>,
    /// Completion tokens.
    pub tokens_out: Option<u32>,
    /// KV blocks reused.
    pub kv_hits: Option<u32>,
    /// KV blocks computed anew.
    pub kv_misses: Option<u32>,
    /// Draft tokens proposed.
    pub spec_attempts: Option<u32>,
    /// Draft tokens accepted.
    pub spec_accepts: Option<u32>,
    /// Cost, in units of 10^-18 USD.
    pub cost_atto_usd: Option<u128>,
    /// The provider's error code.
    pub error_code: Option<Cow<'a, str>>,
    /// Whether the provider saw its queue budget overrun.
    pub queue_delay_budget_overrun: Option<bool>,
    /// Whether the provider saw its token budget overrun.
    pub token_budget_overrun: Option<bool>,
}

impl MetricRecord<'_> {
    /// The cost as a decimal.
    pub fn cost_usd(&self) -> Option<Decimal> {
        self.cost_atto_usd.map(usd)
    }
}

/// A warning of the provider's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice<'a> {
    /// When it says that it happened.
    pub recorded_at: Option<Time>,
    /// `llm.threshold_exceeded` or `llm.cost.threshold_exceeded`.
    pub event: &'static str,
    /// What it says.
    pub warning: Option<Cow<'a, str>>,
    /// What was asked for.
    pub operation: Option<Cow<'a, str>>,
    /// The output schema of guided decoding.
    pub schema_id: Option<Cow<'a, str>>,
    /// The measured value, as written: `queue_delay_us` or `cost_usd`.
    pub value: Option<&'a str>,
    /// The provider's own bound, as written: `threshold` or `budget_usd`.
    pub bound: Option<&'a str>,
}

/// Units of 10^-18 USD as a decimal, without trailing zeros. A sum beyond what 28 digits hold loses its last places.
pub fn usd(atto_usd: u128) -> Decimal {
    let (mut digits, mut scale) = (atto_usd, USD_DECIMALS);
    while scale > 0 && digits.is_multiple_of(10) {
        (digits, scale) = (digits / 10, scale - 1);
    }
    loop {
        let fits = i128::try_from(digits).ok().and_then(|digits| Decimal::try_from_i128_with_scale(digits, scale).ok());
        match fits {
            Some(decimal) => return decimal,
            None if scale == 0 => return Decimal::MAX,
            None => (digits, scale) = (digits / 10, scale - 1),
        }
    }
}

fn plain(text: Option<Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|text| text.0)
}

/// A name that the fold will use as a key.
fn name<'a>(field: &str, text: Option<Text<'a>>) -> Result<Cow<'a, str>, Refusal> {
    let text = plain(text).ok_or_else(|| Refusal::missing(field))?;
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        let detail = format!("field `{field}` is {:?}: a name has from 1 to {NAME_BYTES_MAX} bytes", quoted(&text));
        return Err(Refusal::new(Code::OutOfRange, field.to_owned(), detail));
    }
    Ok(text)
}

fn narrow(value: Option<u128>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok())
}

fn duration(raw: Raw<'_>) -> Result<u64, Refusal> {
    let duration_us = wire::units("duration_ms", raw, 3, DURATION_US_MAX, Strings::Refused)?;
    narrow(duration_us).ok_or_else(|| Refusal::missing("duration_ms"))
}

/// What every dialect of a request has.
fn base(line: Line<'_>, recorded_at: Option<Time>) -> Result<MetricRecord<'_>, Refusal> {
    Ok(MetricRecord {
        recorded_at,
        duration_us: duration(line.duration_ms)?,
        engine_hash: name("engine_hash", line.engine_hash)?,
        model: name("model", line.model)?,
        operation: plain(line.operation),
        quantisation: plain(line.quantisation),
        schema_id: plain(line.schema_id),
        queue_delay_ns: narrow(wire::units("queue_delay_us", line.queue_delay_us, 3, DELAY_NS_MAX, Strings::Refused)?),
        tokens_in: wire::whole("tokens_in", line.tokens_in)?,
        tokens_out: wire::whole("tokens_out", line.tokens_out)?,
        kv_hits: None,
        kv_misses: None,
        spec_attempts: None,
        spec_accepts: None,
        cost_atto_usd: wire::units("cost_usd", line.cost_usd, USD_SCALE, COST_ATTO_USD_MAX, Strings::Refused)?,
        error_code: plain(line.error_code),
        queue_delay_budget_overrun: line.queue_delay_budget_overrun,
        token_budget_overrun: line.token_budget_overrun,
    })
}

pub(super) fn request(mut line: Line<'_>, recorded_at: Option<Time>) -> Result<MetricRecord<'_>, Refusal> {
    let kv: Counts = std::mem::take(&mut line.kv_cache_reuse);
    let speculative = std::mem::take(&mut line.speculative);
    let mut record = base(line, recorded_at)?;
    record.kv_hits = wire::whole("kv_cache_reuse.hits", kv.hits)?;
    record.kv_misses = wire::whole("kv_cache_reuse.misses", kv.misses)?;
    record.spec_attempts = wire::whole("speculative.attempts", speculative.attempts)?;
    record.spec_accepts = wire::whole("speculative.accepts", speculative.accepts)?;
    Ok(record)
}

/// A request as Triton measured it. Its `_ns` times are a steady clock, so only their difference is read.
pub(super) fn perf(line: Line<'_>, recorded_at: Option<Time>) -> Result<MetricRecord<'_>, Refusal> {
    let raw = line.perf.ok_or_else(|| Refusal::missing("perf"))?;
    if !raw.get().starts_with('{') {
        return Err(wire::wrong_type("perf", raw.get(), "an object"));
    }
    let perf: Perf<'_> = wire::read(raw.get())?;
    let mut record = base(line, recorded_at)?;
    let count = wire::count;
    record.kv_hits = count("perf.kv_cache_reused_blocks", perf.kv_cache_reused_blocks)?;
    record.kv_misses = count("perf.kv_cache_alloc_new_blocks", perf.kv_cache_alloc_new_blocks)?;
    if record.kv_hits.is_none() && record.kv_misses.is_none() {
        record.kv_hits = count("perf.kv_cache_reused_block", perf.kv_cache_reused_block)?;
        record.kv_misses = count("perf.kv_cache_missed_block", perf.kv_cache_missed_block)?;
    }
    record.spec_attempts = count("perf.total_draft_tokens", perf.total_draft_tokens)?;
    record.spec_accepts = count("perf.total_accepted_draft_tokens", perf.total_accepted_draft_tokens)?;
    record.tokens_in = count("perf.num_input_tokens", perf.num_input_tokens)?.or(record.tokens_in);
    record.tokens_out = count("perf.num_output_tokens", perf.num_output_tokens)?.or(record.tokens_out);
    record.queue_delay_ns = queue_delay(&perf)?.or(record.queue_delay_ns);
    Ok(record)
}

fn queue_delay(perf: &Perf<'_>) -> Result<Option<u64>, Refusal> {
    let clock = |field: &str, raw| wire::units(field, raw, 0, u128::from(u64::MAX), Strings::Accepted);
    let arrival = clock("perf.arrival_time_ns", perf.arrival_time_ns)?;
    let scheduled = clock("perf.first_scheduled_time_ns", perf.first_scheduled_time_ns)?;
    let (Some(arrival), Some(scheduled)) = (arrival, scheduled) else { return Ok(None) };
    match scheduled.checked_sub(arrival) {
        Some(delay) if delay <= DELAY_NS_MAX => Ok(narrow(Some(delay))),
        _ => Err(wire::out_of_range(
            "perf.first_scheduled_time_ns",
            &scheduled.to_string(),
            &format!("what can follow an arrival at {arrival}"),
        )),
    }
}

pub(super) fn notice(line: Line<'_>, cost: bool, recorded_at: Option<Time>) -> Notice<'_> {
    let (event, value, bound) = if cost {
        (super::COST, line.cost_usd, line.budget_usd)
    } else {
        (super::THRESHOLD, line.queue_delay_us, line.threshold)
    };
    Notice {
        recorded_at,
        event,
        warning: plain(line.warning),
        operation: plain(line.operation),
        schema_id: plain(line.schema_id),
        value: value.map(serde_json::value::RawValue::get),
        bound: bound.map(serde_json::value::RawValue::get),
    }
}

//! The metric record: what one line of a provider's log says about one request.
//!
//! In scope: every dialect in which the serving stack writes (plain provider log, the same behind a Python logger or in a
//! cloud event, `triton.perf` from the inflight batcher and from the LLM API), a scrape of Triton's own metrics, and the typed records that the fold takes.
//! Out of scope: whose record it is (`projection::stacks`) and what follows from it (`projection::slo`).
//!
//! Invariants: numbers are read from their decimal text and never pass through a binary float; parsing is a pure function
//! of the bytes; a line is one request, or a notice that counts for no rule, or refused with a permanent code.
//!
//! A request needs `duration_ms`, `engine_hash` and `model`: without the first nothing was measured, without the others
//! nobody knows whose it is. Everything else may be absent, which means "not reported" and is never read as zero, with one
//! exception: of `hits` and `misses` one alone counts with the other as none.

mod batch;
mod clock;
mod figures;
mod number;
mod plain;
mod record;
pub mod scrape;
mod wire;

pub use batch::{Batch, Kind, Observed, Sample};
pub use clock::TimeFields;
pub use figures::Figures;
pub use record::{MetricEvent, MetricRecord, Notice, USD_DECIMALS, usd};
pub use scrape::Scrape;

use std::borrow::Cow;

use wire::{Line, Strings};

use super::refusal::{Code, Refusal, quoted};
use super::time::Time;

const REQUEST: &str = "llm.request";
const PERF: &str = "triton.perf";
const THRESHOLD: &str = "llm.threshold_exceeded";
const COST: &str = "llm.cost.threshold_exceeded";
const SCRAPE: &str = "triton.scrape";

/// Longest name of an engine or a model, in bytes: they are keys of the fold's state.
const NAME_BYTES_MAX: usize = 512;
/// Longest duration or delay, in its own unit: over three years of µs, and sums of many stay within 64 bits.
const DURATION_US_MAX: u128 = 100_000_000_000_000;
const DELAY_NS_MAX: u128 = 100_000_000_000_000_000;
/// The dearest request, in units of 10^-18 USD: a billion dollars, so that a sum of any real ledger fits.
const COST_ATTO_USD_MAX: u128 = 1_000_000_000_000_000_000_000_000_000;

/// Reads one line with the default names of a logger's time field.
pub fn parse(body: &str) -> Result<MetricEvent<'_>, Refusal> {
    parse_with(body, &TimeFields::default())
}

/// Reads one line; `times` are the names under which a logger's record may hold its time.
pub fn parse_with<'a>(body: &'a str, times: &TimeFields) -> Result<MetricEvent<'a>, Refusal> {
    if let Some(record) = plain::request(body) {
        return Ok(MetricEvent::Request(record));
    }
    parse_general(body, times)
}

/// Reads a line in any dialect.
fn parse_general<'a>(body: &'a str, times: &TimeFields) -> Result<MetricEvent<'a>, Refusal> {
    let mut line: Line<'a> = wire::read(body)?;
    if let Some(inner) = line.llm.take() {
        let fallback = times.of_wrapper(&line, body);
        let named = wire::string(line.message).and_then(|name| known(&name).map(Cow::Borrowed));
        return event(*inner, named.as_deref(), fallback, || wire::wrapped(body));
    }
    if line.specversion.is_some() {
        let (named, fallback) = (wire::string(line.kind), clock::recorded_at(line.time)?);
        let data = line.data.ok_or_else(|| Refusal::missing("data"))?;
        return event(wire::read(data.get())?, named.as_deref(), fallback, || Some(data.get()));
    }
    event(line, None, None, || Some(body))
}

fn known(name: &str) -> Option<&'static str> {
    [REQUEST, PERF, THRESHOLD, COST, SCRAPE].into_iter().find(|&known| known == name)
}

/// Tells the kinds apart: by name where there is one, else by what only that kind has. `text` is the line's own, without what
/// stands around it.
fn event<'a, 't>(
    line: Line<'a>,
    named: Option<&str>,
    fallback: Option<Time>,
    text: impl FnOnce() -> Option<&'t str>,
) -> Result<MetricEvent<'a>, Refusal> {
    let recorded_at = clock::recorded_at(line.recorded_at)?.or(fallback);
    let name = line.event.as_ref().map(|event| event.0.as_ref()).or(named);
    let kind = match name {
        Some(name) => known(name).ok_or_else(|| {
            Refusal::new(
                Code::WrongKind,
                "event".to_owned(),
                format!("event {:?} is none of this ledger's", quoted(name)),
            )
        })?,
        None => guess(&line),
    };
    match kind {
        REQUEST => record::request(line, recorded_at).map(MetricEvent::Request),
        SCRAPE => {
            let mut scrape = scrape::scrape(text().unwrap_or_default())?;
            scrape.scraped_at = scrape.scraped_at.or(recorded_at);
            Ok(MetricEvent::Scrape(Box::new(scrape)))
        }
        PERF => record::perf(line, recorded_at).map(MetricEvent::Request),
        _ => Ok(MetricEvent::Notice(record::notice(line, kind == COST, recorded_at))),
    }
}

fn guess(line: &Line<'_>) -> &'static str {
    match line.duration_ms {
        Some(_) if line.perf.is_some() => PERF,
        None if line.warning.is_some() => THRESHOLD,
        None if line.budget_usd.is_some() => COST,
        _ => REQUEST,
    }
}

#[cfg(test)]
mod tests;

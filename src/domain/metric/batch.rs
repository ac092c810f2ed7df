//! Compact typed records for the fold: what workers hand on after they parsed a run of lines.
//!
//! Invariants: one element a line, refused and noticed ones included, so that the n-th element is the record at
//! `first_position + n`; an element takes 64 bytes whatever the line's length; engine and model are interned.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::{MetricEvent, MetricRecord, Scrape, TimeFields, parse_with};
use crate::domain::refusal::Refusal;

/// What a line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, a sample of the rules.
    Request,
    /// A notice, which counts for nothing.
    Notice,
    /// A look at a server's own metrics: no request.
    Scrape,
}

/// What the fold is given of a line that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed<'a> {
    /// A request.
    Request(Sample<'a>),
    /// A scrape.
    Scrape(&'a Scrape),
}

/// What the rules need of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// The engine, by the client's claim.
    pub engine_hash: &'a str,
    /// The model's name.
    pub model: &'a str,
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
    /// Whether the provider saw its token budget overrun.
    pub token_budget_overrun: Option<bool>,
    /// Whether the request failed.
    pub failed: bool,
}

impl<'a> From<&'a MetricRecord<'_>> for Sample<'a> {
    fn from(record: &'a MetricRecord<'_>) -> Self {
        Self {
            engine_hash: &record.engine_hash,
            model: &record.model,
            duration_us: record.duration_us,
            queue_delay_ns: record.queue_delay_ns,
            tokens_in: record.tokens_in,
            tokens_out: record.tokens_out,
            kv_hits: record.kv_hits,
            kv_misses: record.kv_misses,
            spec_attempts: record.spec_attempts,
            spec_accepts: record.spec_accepts,
            cost_atto_usd: record.cost_atto_usd,
            token_budget_overrun: record.token_budget_overrun,
            failed: record.error_code.is_some(),
        }
    }
}

/// So few pairs are looked through; an index of them would cost more than it saves, most of all to a run of one line.
const SCANNED_PAIRS_MAX: usize = 8;

/// A run of lines, parsed.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Position of the first line; set by the writer, who alone knows it.
    pub first_position: u64,
    pairs: Vec<(Box<str>, Box<str>)>,
    /// Numbers by engine, once there are more pairs than [`SCANNED_PAIRS_MAX`].
    index: BTreeMap<Box<str>, Vec<u32>>,
    last: u32,
    samples: Vec<Option<Packed>>,
    /// Scrapes by index, in order: few, and as large as they are.
    scrapes: Vec<(usize, Box<Scrape>)>,
}

/// 64 bytes, the absent ones told by flags; money in two halves, since a `u128` would ask for padding.
#[derive(Debug, Clone, Copy)]
struct Packed {
    duration_us: u64,
    queue_delay_ns: u64,
    cost_high: u64,
    cost_low: u64,
    tokens_in: u32,
    tokens_out: u32,
    kv_hits: u32,
    kv_misses: u32,
    spec_attempts: u32,
    spec_accepts: u32,
    /// Index of the pair, from 1.
    pair: NonZeroU32,
    flags: u16,
}

const _: () = assert!(size_of::<Option<Packed>>() <= 64, "a sample takes one cache line");

const QUEUE: u16 = 1;
const TOKENS_IN: u16 = 1 << 1;
const TOKENS_OUT: u16 = 1 << 2;
const KV_HITS: u16 = 1 << 3;
const KV_MISSES: u16 = 1 << 4;
const SPEC_ATTEMPTS: u16 = 1 << 5;
const SPEC_ACCEPTS: u16 = 1 << 6;
const COST: u16 = 1 << 7;
const OVERRUN_KNOWN: u16 = 1 << 8;
const OVERRUN: u16 = 1 << 9;
const FAILED: u16 = 1 << 10;

impl Batch {
    /// Parses one line and keeps what the rules need of it; a refused line keeps its place.
    pub fn push_line(&mut self, body: &str) -> Result<Kind, Refusal> {
        self.push_line_with(body, &TimeFields::default())
    }

    /// The same, with the names under which a logger's record may hold its time.
    pub fn push_line_with(&mut self, body: &str, times: &TimeFields) -> Result<Kind, Refusal> {
        match parse_with(body, times) {
            Ok(MetricEvent::Request(record)) => {
                self.push(&record);
                Ok(Kind::Request)
            }
            Ok(MetricEvent::Notice(_)) => {
                self.push_none();
                Ok(Kind::Notice)
            }
            Ok(MetricEvent::Scrape(scrape)) => {
                self.push_scrape(scrape);
                Ok(Kind::Scrape)
            }
            Err(refusal) => {
                self.push_none();
                Err(refusal)
            }
        }
    }

    /// Keeps the place of a line that counts for nothing (too large, no UTF-8, a notice).
    pub fn push_none(&mut self) {
        self.samples.push(None);
    }

    /// Keeps a record that was parsed already.
    pub fn push(&mut self, record: &MetricRecord<'_>) {
        let sample = Sample::from(record);
        let packed = self.pair(sample.engine_hash, sample.model).map(|pair| Packed::new(&sample, pair));
        self.samples.push(packed);
    }

    /// Keeps a scrape that was parsed already. Its place holds no sample.
    pub fn push_scrape(&mut self, scrape: Box<Scrape>) {
        self.scrapes.push((self.samples.len(), scrape));
        self.push_none();
    }

    /// Lines, those that count for nothing included.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The samples, with their positions.
    pub fn samples(&self) -> impl Iterator<Item = (u64, Sample<'_>)> {
        self.samples_between(self.first_position, u64::MAX)
    }

    /// The samples at positions `from..to`, as far as they are in this batch.
    pub fn samples_between(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Sample<'_>)> {
        let index = |position: u64| {
            usize::try_from(position.saturating_sub(self.first_position)).unwrap_or(usize::MAX).min(self.samples.len())
        };
        let (first, last) = (index(from), index(to));
        let run = self.samples.get(first..last.max(first)).unwrap_or_default();
        let positions = self.first_position + first as u64..;
        positions.zip(run).filter_map(|(position, packed)| {
            let packed = packed.as_ref()?;
            let (engine_hash, model) = self.pairs.get(packed.pair.get() as usize - 1)?;
            Some((position, packed.sample(engine_hash, model)))
        })
    }

    /// Everything that counts at positions `from..to`, as far as it is in this batch: samples, and then scrapes, each in order.
    pub fn observed_between(&self, from: u64, to: u64) -> impl Iterator<Item = Observed<'_>> {
        let position = |index: usize| self.first_position + index as u64;
        let scrapes = self.scrapes.iter().filter(move |(index, _)| (from..to).contains(&position(*index)));
        let samples = self.samples_between(from, to).map(|(_, sample)| Observed::Request(sample));
        samples.chain(scrapes.map(|(_, scrape)| Observed::Scrape(scrape)))
    }

    /// The interned pair's number, from 1. Nearly every line has the pair of the line before.
    fn pair(&mut self, engine_hash: &str, model: &str) -> Option<NonZeroU32> {
        let is = |pairs: &[(Box<str>, Box<str>)], number: u32| {
            let found = (number as usize).checked_sub(1).and_then(|index| pairs.get(index));
            found.is_some_and(|(engine, name)| &**engine == engine_hash && &**name == model)
        };
        if !is(&self.pairs, self.last) {
            let is_scanned = self.pairs.len() <= SCANNED_PAIRS_MAX;
            let known = if is_scanned {
                (1..).take(self.pairs.len()).find(|&number| is(&self.pairs, number))
            } else {
                let numbers = self.index.get(engine_hash);
                numbers.and_then(|numbers| numbers.iter().copied().find(|&number| is(&self.pairs, number)))
            };
            self.last = if let Some(number) = known { number } else { self.enter(engine_hash, model)? };
        }
        NonZeroU32::new(self.last)
    }

    /// A pair that is new; its number.
    fn enter(&mut self, engine_hash: &str, model: &str) -> Option<u32> {
        self.pairs.push((engine_hash.into(), model.into()));
        let number = u32::try_from(self.pairs.len()).ok()?;
        if self.pairs.len() == SCANNED_PAIRS_MAX + 1 {
            for ((engine, _), number) in self.pairs.iter().zip(1..) {
                self.index.entry(engine.clone()).or_default().push(number);
            }
        } else if self.pairs.len() > SCANNED_PAIRS_MAX {
            self.index.entry(engine_hash.into()).or_default().push(number);
        }
        Some(number)
    }

    /// Takes in the batch that follows this one directly: many small ones would cost far more memory than their samples.
    pub fn absorb(&mut self, next: &Self) {
        let mut known = Vec::with_capacity(next.pairs.len());
        for (engine_hash, model) in &next.pairs {
            known.push(self.pair(engine_hash, model));
        }
        let before = self.samples.len();
        self.scrapes.extend(next.scrapes.iter().map(|(index, scrape)| (before + index, scrape.clone())));
        self.samples.extend(next.samples.iter().map(|sample| {
            let sample = sample.as_ref()?;
            let pair = known.get(sample.pair.get() as usize - 1).copied().flatten()?;
            Some(Packed { pair, ..*sample })
        }));
    }
}

impl Packed {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a u128 are meant")]
    fn new(sample: &Sample<'_>, pair: NonZeroU32) -> Self {
        let flag = |present: bool, flag: u16| if present { flag } else { 0 };
        let cost = sample.cost_atto_usd.unwrap_or_default();
        Self {
            duration_us: sample.duration_us,
            queue_delay_ns: sample.queue_delay_ns.unwrap_or_default(),
            cost_high: (cost >> 64) as u64,
            cost_low: cost as u64,
            tokens_in: sample.tokens_in.unwrap_or_default(),
            tokens_out: sample.tokens_out.unwrap_or_default(),
            kv_hits: sample.kv_hits.unwrap_or_default(),
            kv_misses: sample.kv_misses.unwrap_or_default(),
            spec_attempts: sample.spec_attempts.unwrap_or_default(),
            spec_accepts: sample.spec_accepts.unwrap_or_default(),
            pair,
            flags: flag(sample.queue_delay_ns.is_some(), QUEUE)
                | flag(sample.tokens_in.is_some(), TOKENS_IN)
                | flag(sample.tokens_out.is_some(), TOKENS_OUT)
                | flag(sample.kv_hits.is_some(), KV_HITS)
                | flag(sample.kv_misses.is_some(), KV_MISSES)
                | flag(sample.spec_attempts.is_some(), SPEC_ATTEMPTS)
                | flag(sample.spec_accepts.is_some(), SPEC_ACCEPTS)
                | flag(sample.cost_atto_usd.is_some(), COST)
                | flag(sample.token_budget_overrun.is_some(), OVERRUN_KNOWN)
                | flag(sample.token_budget_overrun == Some(true), OVERRUN)
                | flag(sample.failed, FAILED),
        }
    }

    fn sample<'a>(&self, engine_hash: &'a str, model: &'a str) -> Sample<'a> {
        let has = |flag: u16| self.flags & flag != 0;
        Sample {
            engine_hash,
            model,
            duration_us: self.duration_us,
            queue_delay_ns: has(QUEUE).then_some(self.queue_delay_ns),
            tokens_in: has(TOKENS_IN).then_some(self.tokens_in),
            tokens_out: has(TOKENS_OUT).then_some(self.tokens_out),
            kv_hits: has(KV_HITS).then_some(self.kv_hits),
            kv_misses: has(KV_MISSES).then_some(self.kv_misses),
            spec_attempts: has(SPEC_ATTEMPTS).then_some(self.spec_attempts),
            spec_accepts: has(SPEC_ACCEPTS).then_some(self.spec_accepts),
            cost_atto_usd: has(COST).then_some((u128::from(self.cost_high) << 64) | u128::from(self.cost_low)),
            token_budget_overrun: has(OVERRUN_KNOWN).then_some(has(OVERRUN)),
            failed: has(FAILED),
        }
    }
}

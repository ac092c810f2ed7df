//! The lines as they come: one borrowed struct for every dialect, read in one pass.
//!
//! In scope: the shape of the JSON, and the reading of single fields out of it with a refusal that names field and value.
//! Out of scope: what a line means ([`super`]).
//!
//! One struct serves the record, the Python logger's record around it and a cloud event around it, so that a plain line,
//! which is nearly all of them, costs one pass. Fields that only a dialect has stay raw until that dialect is seen.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number::Number;
use crate::domain::refusal::{Code, Refusal, quoted};

/// A string that is borrowed where it has no escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A number as its text.
pub(super) type Raw<'a> = Option<&'a RawValue>;

#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) event: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) operation: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) model: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) engine_hash: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) quantisation: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) schema_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) duration_ms: Raw<'a>,
    #[serde(borrow)]
    pub(super) queue_delay_us: Raw<'a>,
    pub(super) tokens_in: Option<Count>,
    pub(super) tokens_out: Option<Count>,
    #[serde(default)]
    pub(super) kv_cache_reuse: Counts,
    #[serde(default)]
    pub(super) speculative: Counts,
    #[serde(borrow)]
    pub(super) cost_usd: Raw<'a>,
    #[serde(borrow)]
    pub(super) error_code: Option<Text<'a>>,
    pub(super) queue_delay_budget_overrun: Option<bool>,
    pub(super) token_budget_overrun: Option<bool>,
    #[serde(borrow)]
    pub(super) warning: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) threshold: Raw<'a>,
    #[serde(borrow)]
    pub(super) budget_usd: Raw<'a>,
    #[serde(borrow)]
    pub(super) recorded_at: Raw<'a>,
    #[serde(borrow)]
    pub(super) perf: Raw<'a>,
    #[serde(borrow)]
    pub(super) llm: Option<Box<Line<'a>>>,
    // Of the record around it.
    #[serde(borrow)]
    pub(super) message: Raw<'a>,
    #[serde(borrow)]
    pub(super) timestamp: Raw<'a>,
    #[serde(borrow, rename = "@timestamp")]
    pub(super) at_timestamp: Raw<'a>,
    #[serde(borrow)]
    pub(super) asctime: Raw<'a>,
    // Of a CloudEvent around it.
    #[serde(borrow)]
    pub(super) specversion: Raw<'a>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Raw<'a>,
    #[serde(borrow)]
    pub(super) time: Raw<'a>,
    #[serde(borrow)]
    pub(super) data: Raw<'a>,
}

/// `{}`, `{hits, misses}` or `{attempts, accepts}`; an array is none of these, though serde would take one for a struct.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: Option<Count>,
    pub(super) misses: Option<Count>,
    pub(super) attempts: Option<Count>,
    pub(super) accepts: Option<Count>,
}

/// A count as JSON has it. Whole numbers below 2^32 are exact in a float too, and nothing else is taken, so that counts can
/// be read in the same pass as everything else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Count {
    Whole(u32),
    Other(f64),
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            #[expect(clippy::cast_precision_loss, reason = "what is no u32 is refused, and only shown")]
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Count, E> {
                Ok(u32::try_from(value).map_or(Count::Other(value as f64), Count::Whole))
            }

            #[expect(clippy::cast_precision_loss, reason = "what is negative is refused, and only shown")]
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Count, E> {
                Ok(u32::try_from(value).map_or(Count::Other(value as f64), Count::Whole))
            }

            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the cast is undone and compared"
            )]
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Count, E> {
                let whole = value as u32;
                let same = f64::from(whole).to_bits() == (value + 0.0).to_bits();
                Ok(if same { Count::Whole(whole) } else { Count::Other(value) })
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum CountKey {
    Hits,
    Misses,
    Attempts,
    Accepts,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountsVisitor;
        impl<'de> Visitor<'de> for CountsVisitor {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of counts")
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
                Ok(Counts::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut counts = Counts::default();
                while let Some(key) = map.next_key::<CountKey>()? {
                    let slot = match key {
                        CountKey::Hits => &mut counts.hits,
                        CountKey::Misses => &mut counts.misses,
                        CountKey::Attempts => &mut counts.attempts,
                        CountKey::Accepts => &mut counts.accepts,
                        CountKey::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = map.next_value()?;
                }
                Ok(counts)
            }
        }
        deserializer.deserialize_any(CountsVisitor)
    }
}

/// Triton's `return_perf_metrics`, both dialects: numbers from the inflight batcher, strings from the LLM API.
#[derive(Debug, Deserialize)]
pub(super) struct Perf<'a> {
    #[serde(borrow)]
    pub(super) kv_cache_reused_blocks: Raw<'a>,
    #[serde(borrow)]
    pub(super) kv_cache_alloc_new_blocks: Raw<'a>,
    #[serde(borrow)]
    pub(super) kv_cache_reused_block: Raw<'a>,
    #[serde(borrow)]
    pub(super) kv_cache_missed_block: Raw<'a>,
    #[serde(borrow)]
    pub(super) arrival_time_ns: Raw<'a>,
    #[serde(borrow)]
    pub(super) first_scheduled_time_ns: Raw<'a>,
    #[serde(borrow)]
    pub(super) total_accepted_draft_tokens: Raw<'a>,
    #[serde(borrow)]
    pub(super) total_draft_tokens: Raw<'a>,
    #[serde(borrow)]
    pub(super) num_input_tokens: Raw<'a>,
    #[serde(borrow)]
    pub(super) num_output_tokens: Raw<'a>,
}

/// Reads one object; anything else at the top is refused.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, Refusal> {
    if !body.trim_ascii_start().starts_with('{') {
        // An array would pass for a struct; what is no JSON at all is reported by the parser.
        serde_json::from_str::<IgnoredAny>(body).map_err(|error| Refusal::from_json(&error, body))?;
        return Err(Refusal::new(Code::MalformedJson, None, format!("not a JSON object: {}", quoted(body))));
    }
    serde_json::from_str(body).map_err(|error| Refusal::from_json(&error, body))
}

/// The text of what a logger's record holds under `llm`.
pub(super) fn wrapped(body: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        llm: &'a RawValue,
    }
    serde_json::from_str::<Wrapped<'_>>(body).ok().map(|wrapped| wrapped.llm.get())
}

/// The string inside a raw value; `None` where it is no string.
pub(super) fn string(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let text = raw?.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<Text<'_>>(text).ok().map(|read| read.0)
}

/// The refusal of a value of another type.
pub(super) fn wrong_type(field: &str, raw: &str, wanted: &str) -> Refusal {
    Refusal::new(Code::WrongType, field.to_owned(), format!("field `{field}` is {}, not {wanted}", quoted(raw)))
}

/// The refusal of a number that the field does not allow.
pub(super) fn out_of_range(field: &str, raw: &str, allowed: &str) -> Refusal {
    Refusal::new(Code::OutOfRange, field.to_owned(), format!("field `{field}` is {}, outside {allowed}", quoted(raw)))
}

/// Whether numbers may stand in strings, as the LLM-API dialect of `triton.perf` writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strings {
    Refused,
    Accepted,
}

/// A number of units of 10^-`decimals`, not negative and at most `max`, rounded half to even; `None` where absent or null.
pub(super) fn units(
    field: &str,
    raw: Raw<'_>,
    decimals: i32,
    max: u128,
    strings: Strings,
) -> Result<Option<u128>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    let text = raw.get();
    let inner = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if strings == Strings::Accepted => inner.trim(),
        _ => text,
    };
    let Some(number) = Number::parse(inner) else {
        let not_finite = ["nan", "inf", "+inf", "-inf"].iter().any(|word| inner.to_ascii_lowercase().starts_with(word));
        if strings == Strings::Accepted && not_finite {
            return Err(Refusal::new(
                Code::NotFiniteNumber,
                field.to_owned(),
                format!("field `{field}` is {}", quoted(inner)),
            ));
        }
        return Err(wrong_type(field, text, "a number"));
    };
    if number.is_below_zero() {
        return Err(out_of_range(field, text, "the numbers from 0"));
    }
    match number.magnitude(decimals) {
        Some(magnitude) if magnitude <= max => Ok(Some(magnitude)),
        _ => Err(out_of_range(field, text, "what the field can hold")),
    }
}

/// A count of the record itself, which may be written `512.0`.
pub(super) fn whole(field: &str, count: Option<Count>) -> Result<Option<u32>, Refusal> {
    match count {
        None => Ok(None),
        Some(Count::Whole(count)) => Ok(Some(count)),
        Some(Count::Other(value)) => {
            Err(out_of_range(field, &value.to_string(), "the whole numbers from 0 to 4294967295"))
        }
    }
}

/// A whole count of `triton.perf`, which may stand in a string.
pub(super) fn count(field: &str, raw: Raw<'_>) -> Result<Option<u32>, Refusal> {
    // Tenths of a millionth, so that a fraction shows; counts finer than that are whole for every purpose here.
    const DECIMALS: i32 = 6;
    const UNIT: u128 = 1_000_000;
    let Some(scaled) = units(field, raw, DECIMALS, u128::from(u32::MAX) * UNIT, Strings::Accepted)? else {
        return Ok(None);
    };
    match u32::try_from(scaled / UNIT) {
        Ok(whole) if scaled.is_multiple_of(UNIT) => Ok(Some(whole)),
        _ => Err(out_of_range(field, raw.map_or("", RawValue::get), "the whole numbers")),
    }
}

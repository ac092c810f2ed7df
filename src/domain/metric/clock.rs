//! When a record says that it happened: its own `recorded_at`, or the time of the logger's record around it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number::Number;
use super::wire::{self, Line, Raw};
use crate::domain::refusal::Refusal;
use crate::domain::time::Time;

/// The names under which a logger's record may hold its time, in the order of trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFields(Vec<String>);

impl Default for TimeFields {
    fn default() -> Self {
        Self(["recorded_at", "timestamp", "@timestamp", "asctime"].map(str::to_owned).to_vec())
    }
}

impl TimeFields {
    /// These names instead of the default ones.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The time of the record around, by the first name that holds one. A text that is no time is passed over: the format
    /// of `asctime` is the operator's, and a record without a time is still a request.
    pub(super) fn of_wrapper(&self, wrapper: &Line<'_>, body: &str) -> Option<Time> {
        self.0.iter().find_map(|name| {
            let raw = match name.as_str() {
                "recorded_at" => wrapper.recorded_at,
                "timestamp" => wrapper.timestamp,
                "@timestamp" => wrapper.at_timestamp,
                "asctime" => wrapper.asctime,
                other => top_level(body, other),
            };
            lenient(raw)
        })
    }
}

/// `recorded_at` of the record itself: RFC 3339 with an offset, or nothing.
pub(super) fn recorded_at(raw: Raw<'_>) -> Result<Option<Time>, Refusal> {
    let Some(value) = raw else { return Ok(None) };
    let parsed = wire::string(raw).and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| wire::wrong_type("recorded_at", value.get(), "an RFC 3339 time with an offset"))
}

/// RFC 3339, epoch seconds, or a date and time without an offset (`2026-10-01 09:00:00,123`), which is taken as UTC.
pub(super) fn lenient(raw: Raw<'_>) -> Option<Time> {
    let Some(text) = wire::string(raw) else { return epoch(raw?.get()) };
    text.parse().ok().or_else(|| civil(&text)).or_else(|| epoch(&text))
}

fn epoch(text: &str) -> Option<Time> {
    let number = Number::parse(text).filter(|number| !number.is_below_zero())?;
    let micros = number.magnitude(6).and_then(|micros| i64::try_from(micros).ok())?;
    // Beyond the year 9999 it was no count of seconds.
    (micros < 253_402_300_800_000_000).then(|| Time::from_micros(micros))
}

fn civil(text: &str) -> Option<Time> {
    let text: Cow<'_, str> = if text.contains(',') { text.replacen(',', ".", 1).into() } else { text.into() };
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    // A bare date would parse as midnight, which nobody meant.
    if !text.contains(':') {
        return None;
    }
    let instant = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?;
    Some(Time::from_micros(instant.as_microsecond()))
}

/// The raw value under `name` at the top of `body`, which has parsed before.
fn top_level<'a>(body: &'a str, name: &str) -> Raw<'a> {
    struct Find<'n>(&'n str);
    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Raw<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<wire::Text<'de>>()? {
                if key.0 == self.0 {
                    found = Some(map.next_value::<&'de RawValue>()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(body).deserialize_map(Find(name)).ok().flatten()
}

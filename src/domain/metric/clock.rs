//! When a record says that it happened: its own `recorded_at`, or the time of the logger's record around it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number::Number;
use super::wire::{self, Line, Raw};
use crate::domain::refusal::Refusal;
use crate::domain::time::{MICROS_PER_SECOND, Time};

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

/// `recorded_at` of the record itself.
pub(super) fn recorded_at(raw: Raw<'_>) -> Result<Option<Time>, Refusal> {
    instant("recorded_at", raw)
}

/// RFC 3339 with an offset, or nothing.
pub(super) fn instant(field: &str, raw: Raw<'_>) -> Result<Option<Time>, Refusal> {
    let Some(value) = raw else { return Ok(None) };
    let parsed = wire::string(raw).and_then(|text| utc(&text).or_else(|| text.parse().ok()));
    parsed.map(Some).ok_or_else(|| wire::wrong_type(field, value.get(), "an RFC 3339 time with an offset"))
}

/// The form that nearly every line has, `2026-10-01T09:00:00.049824+00:00`, read by its columns; `None` sends any other form,
/// and anything doubtful, to the full parser.
pub(super) fn utc(text: &str) -> Option<Time> {
    let (date_time, fraction) = text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z'))?.split_at_checked(19)?;
    let bytes = date_time.as_bytes();
    let separators = [bytes[4], bytes[7], bytes[10], bytes[13], bytes[16]];
    if separators != *b"--T::" {
        return None;
    }
    let number = |from: usize, to: usize| digits(&bytes[from..to]);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days that only some months have, and leap seconds, are the full parser's.
    let plain = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=28).contains(&day);
    if !plain || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match fraction.as_bytes() {
        [] => 0,
        [b'.', places @ ..] if (1..=6).contains(&places.len()) => {
            let missing = u32::try_from(6 - places.len()).ok()?;
            digits(places)? * 10_i64.pow(missing)
        }
        _ => return None,
    };
    // Days since 1970-01-01, by years that begin in March, so that a leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Time::from_micros(seconds * MICROS_PER_SECOND + micros))
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_agrees_with_the_full_parser() {
        let mut taken = 0;
        for day in (0..2_932_896_i64).step_by(97) {
            let time = Time::from_micros(day * 86_400 * MICROS_PER_SECOND + day * 9_973 % 86_400_000_000);
            for text in [time.to_string(), time.to_string().replace('Z', "+00:00")] {
                assert_eq!(text.parse(), Ok(time), "{text}");
                let short = utc(&text);
                assert!(short.is_none_or(|short| short == time), "{text}: {short:?}");
                taken += u32::from(short.is_some());
            }
        }
        assert!(taken > 50_000, "days up to the 28th go the short way: {taken}");
        for text in [
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567Z",
            "2026-01-01T00:0x:00Z",
            "äöüäöüäöüäöüZ",
            "",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
    }
}

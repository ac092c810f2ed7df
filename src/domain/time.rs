//! Time as the ledger knows it: microseconds since the Unix epoch, UTC.
//!
//! In scope: the one instant type that entries, cuts, alerts and answers share, and its text form (RFC 3339, UTC).
//! Out of scope: reading a clock. Nothing in `domain` or `projection` does; times are always handed in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds in one second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant, in microseconds since 1970-01-01T00:00:00Z. Microseconds because that is the finest that producers send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// A text that is no RFC 3339 time with an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 time with an offset, such as 2026-10-01T09:30:00Z")]
pub struct TimeError {
    /// What was given.
    pub text: String,
}

impl Time {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the Unix epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds * MICROS_PER_SECOND)
    }

    /// From milliseconds since the Unix epoch, the unit of Kafka timestamps.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This instant moved by whole seconds.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(MICROS_PER_SECOND)))
    }

    /// Microseconds from `earlier` to this instant.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The last multiple of `seconds` not after this instant.
    #[must_use]
    pub const fn floor_to_seconds(self, seconds: i64) -> Self {
        let unit = seconds * MICROS_PER_SECOND;
        Self(self.0.div_euclid(unit) * unit)
    }

    /// The first multiple of `seconds` not before this instant.
    #[must_use]
    pub const fn ceil_to_seconds(self, seconds: i64) -> Self {
        let floor = self.floor_to_seconds(seconds);
        if floor.0 == self.0 { self } else { floor.plus_seconds(seconds) }
    }
}

impl fmt::Display for Time {
    /// RFC 3339 in UTC; fractions of a second only where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        text.parse::<jiff::Timestamp>()
            .map(|timestamp| Self(timestamp.as_microsecond()))
            .map_err(|_discarded| TimeError { text: text.to_owned() })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, UTC" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_utc_and_exact() {
        let check = |input: &str, expected: &str| assert_eq!(input.parse::<Time>().unwrap().to_string(), expected);
        check("2026-10-01T08:30:00.123456+00:00", "2026-10-01T08:30:00.123456Z");
        check("2026-10-01T10:30:00+02:00", "2026-10-01T08:30:00Z");
        assert!("2026-10-01T10:30:00".parse::<Time>().is_err());
    }

    #[test]
    fn rounding_to_cut_instants() {
        let t = Time::from_micros(25_000_001);
        assert_eq!(t.floor_to_seconds(10), Time::from_seconds(20));
        assert_eq!(t.ceil_to_seconds(10), Time::from_seconds(30));
        assert_eq!(Time::from_seconds(30).ceil_to_seconds(10), Time::from_seconds(30));
        assert_eq!(Time::from_micros(-1).floor_to_seconds(10), Time::from_seconds(-10));
    }
}

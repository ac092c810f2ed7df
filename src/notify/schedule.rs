//! When to try again.

use std::time::Duration;

use crate::domain::time::{MICROS_PER_SECOND, Time};

/// The longest pause that a receiver may ask for.
const RETRY_AFTER_SECONDS_MAX: i64 = 86_400;
/// The first and the longest pause after failures in a row.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// The pause after `failures` in a row: doubled each time, up to a minute.
pub(super) fn pause(failures: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

/// When a receiver wants to be asked again: seconds, or an HTTP date.
pub(super) fn retry_after(text: &str, now: Time) -> Option<Time> {
    let text = text.trim();
    let seconds = if let Ok(seconds) = text.parse::<i64>() {
        seconds
    } else {
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        (date.timestamp().as_microsecond() - now.micros()).div_euclid(MICROS_PER_SECOND) + 1
    };
    Some(now.plus_seconds(seconds.clamp(0, RETRY_AFTER_SECONDS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<f64> = (1..10).map(|failures| pause(failures).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Time = "2026-10-01T09:00:00Z".parse().unwrap();
        let check = |text: &str, seconds: Option<i64>| {
            assert_eq!(retry_after(text, now), seconds.map(|seconds| now.plus_seconds(seconds)), "{text}");
        };
        check("7", Some(7));
        check("-7", Some(0));
        check("999999999", Some(86_400));
        check("Thu, 01 Oct 2026 09:00:30 GMT", Some(31));
        check("Wed, 30 Sep 2026 09:00:30 GMT", Some(0));
        check("soon", None);
    }
}

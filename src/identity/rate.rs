//! How often a principal may ask: a bucket each, that fills at a steady rate up to a burst.
//!
//! Kept as the instant at which the bucket would be full again (the generic cell rate algorithm): one number a principal, exact,
//! and a principal who has been quiet for long enough need not be kept at all.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Buckets kept before those that are full again are dropped.
const BUCKETS_SWEPT_AT: usize = 4_096;

/// A rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, in the long run; 0 for no bound.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// A bucket for everybody who asks.
#[derive(Debug, Default)]
pub struct Buckets {
    full_at: Mutex<BTreeMap<String, Duration>>,
}

impl Buckets {
    /// Takes one request of `who` at `now`; how long to wait where the bucket is empty.
    pub fn take(&self, who: &str, rate: Rate, now: Duration) -> Result<(), Duration> {
        let Some(interval) = Duration::from_secs(1).checked_div(rate.per_second) else { return Ok(()) };
        let room = interval.saturating_mul(rate.burst.max(1));
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.get(who).copied().unwrap_or_default().max(now).saturating_add(interval);
        let latest = now.saturating_add(room);
        if full_at > latest {
            return Err(full_at.saturating_sub(latest));
        }
        if buckets.len() >= BUCKETS_SWEPT_AT {
            buckets.retain(|_, full_at| *full_at > now);
        }
        buckets.insert(who.to_owned(), full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate_for_each() {
        let (buckets, rate) = (Buckets::default(), Rate { per_second: 10, burst: 3 });
        let at = Duration::from_millis;
        for _ in 0..3 {
            buckets.take("ann", rate, at(1_000)).unwrap();
        }
        assert_eq!(buckets.take("ann", rate, at(1_000)), Err(at(100)));
        assert_eq!(buckets.take("ann", rate, at(1_060)), Err(at(40)));
        buckets.take("bob", rate, at(1_060)).unwrap();
        buckets.take("ann", rate, at(1_100)).unwrap();
        assert_eq!(buckets.take("ann", rate, at(1_100)), Err(at(100)));
        // A long silence fills it, and no further.
        for _ in 0..3 {
            buckets.take("ann", rate, at(60_000)).unwrap();
        }
        assert!(buckets.take("ann", rate, at(60_000)).is_err());
    }

    #[test]
    fn no_rate_is_no_bound_and_full_buckets_are_dropped() {
        let buckets = Buckets::default();
        let none = Rate { per_second: 0, burst: 1 };
        (0..100).for_each(|_| buckets.take("ann", none, Duration::ZERO).unwrap());
        let rate = Rate { per_second: 1, burst: 1 };
        for number in 0..BUCKETS_SWEPT_AT {
            buckets.take(&number.to_string(), rate, Duration::from_secs(1)).unwrap();
        }
        buckets.take("late", rate, Duration::from_secs(9)).unwrap();
        assert_eq!(buckets.full_at.lock().unwrap().len(), 1);
    }
}

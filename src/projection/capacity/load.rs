//! What the report needs of the records between two cuts, beside what the rules count. For the eye: no verdict rests on it.

use serde::{Deserialize, Serialize};

use crate::domain::metric::Sample;

/// Buckets up to here hold one value each; above, eight of them divide each power of two.
const EXACT: u64 = 16;
const DIVISIONS_BITS: u32 = 3;
/// The bucket of the largest value.
const BUCKETS: usize = 496;

/// Sums over records. They add up over cuts and ledgers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Wall time of all requests, in microseconds.
    pub duration_us: u64,
    /// Over all requests that report tokens: tokens, those of prompt and completion, times wall time in milliseconds.
    pub token_ms: u64,
    /// Requests with more tokens than the policy's `max_tokens`.
    pub over_token_limit: u64,
    /// Tokens of a request that reports them.
    pub tokens: Buckets,
    /// Time in the queue, in microseconds.
    pub queue_us: Buckets,
}

/// How many values lie in which bucket, for percentiles to within an eighth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets(Vec<u32>);

impl Load {
    /// Takes one record in.
    pub fn add(&mut self, sample: &Sample<'_>, tokens_max: u64) {
        self.duration_us = self.duration_us.saturating_add(sample.duration_us);
        if let Some(delay_ns) = sample.queue_delay_ns {
            self.queue_us.add(delay_ns / 1_000);
        }
        if sample.tokens_in.is_some() || sample.tokens_out.is_some() {
            let tokens = u64::from(sample.tokens_in.unwrap_or(0)) + u64::from(sample.tokens_out.unwrap_or(0));
            let token_ms = u128::from(tokens) * u128::from(sample.duration_us) / 1_000;
            self.token_ms = self.token_ms.saturating_add(u64::try_from(token_ms).unwrap_or(u64::MAX));
            self.over_token_limit += u64::from(tokens > tokens_max);
            self.tokens.add(tokens);
        }
    }

    /// Takes those of another cut in.
    pub fn merge(&mut self, other: &Self) {
        self.duration_us = self.duration_us.saturating_add(other.duration_us);
        self.token_ms = self.token_ms.saturating_add(other.token_ms);
        self.over_token_limit += other.over_token_limit;
        self.tokens.merge(&other.tokens);
        self.queue_us.merge(&other.queue_us);
    }
}

impl Buckets {
    fn add(&mut self, value: u64) {
        let index = index(value);
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = self.0[index].saturating_add(1);
    }

    fn merge(&mut self, other: &Self) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own = own.saturating_add(*other));
    }

    /// Values in them.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// What the nearest-rank P95 does not exceed: the upper end of its bucket, an eighth above it at the most.
    pub fn p95_at_most(&self) -> Option<u64> {
        let rank = (u128::from(self.count()) * 19).div_ceil(20);
        let mut seen = 0_u128;
        let found = self.0.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank && rank > 0
        });
        found.map(upper)
    }
}

fn index(value: u64) -> usize {
    if value < EXACT {
        return usize::try_from(value).unwrap_or(0);
    }
    let power = u64::BITS - 1 - value.leading_zeros();
    let part = (value >> (power - DIVISIONS_BITS)) & ((1 << DIVISIONS_BITS) - 1);
    let before = EXACT + (u64::from(power - DIVISIONS_BITS - 1) << DIVISIONS_BITS);
    usize::try_from(before + part).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < EXACT {
        return index;
    }
    let power = (index - EXACT) >> DIVISIONS_BITS;
    let part = (index - EXACT) & ((1 << DIVISIONS_BITS) - 1);
    let next = u128::from((1 << DIVISIONS_BITS) + part + 1) << (power + 1);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

/// As pairs of bucket and count: most buckets are empty.
impl Serialize for Buckets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().enumerate().filter(|(_, count)| **count > 0))
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs: Vec<(usize, u32)> = Vec::deserialize(deserializer)?;
        let mut buckets = Self::default();
        for (index, count) in pairs {
            if index >= BUCKETS {
                return Err(serde::de::Error::custom(format!("bucket {index} of {BUCKETS}")));
            }
            if index >= buckets.0.len() {
                buckets.0.resize(index + 1, 0);
            }
            buckets.0[index] = count;
        }
        Ok(buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_close_to_its_end() {
        let powers = (0..64).map(|power| 1 << power).chain([u64::MAX - 1, u64::MAX]);
        for value in (0..100_000_u64).chain(powers) {
            let (at, end) = (index(value), upper(index(value)));
            assert!(value <= end && end - value <= value / 8, "{value} lies in bucket {at}, which ends at {end}");
        }
        assert!((1..100_000).all(|value| index(value) - index(value - 1) <= 1), "no bucket is left out");
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_percentile_is_that_of_the_values() {
        let mut buckets = Buckets::default();
        assert_eq!(buckets.p95_at_most(), None);
        (1..=100).for_each(|value| buckets.add(value));
        let p95 = buckets.p95_at_most().unwrap();
        assert!((95..=95 + 95 / 8).contains(&p95), "{p95}");
        let mut twice = buckets.clone();
        twice.merge(&buckets);
        assert_eq!((twice.count(), twice.p95_at_most()), (200, Some(p95)));
        let text = serde_json::to_string(&twice).unwrap();
        assert_eq!(serde_json::from_str::<Buckets>(&text).unwrap(), twice);
        assert!(serde_json::from_str::<Buckets>("[[496,1]]").is_err());
    }
}

//! Measuring a run of records again: the figures of an alert from its evidence, and the exact P95 that it states.
//!
//! The engine and an auditor call the same function. It reads the records as often as it needs and keeps a bounded part of
//! them, so that an alert over fifteen minutes of any traffic can be stated exactly.

use rust_decimal::Decimal;

use super::counts::{Bounds, Counts};
use crate::domain::metric::{Figures, Sample};
use crate::domain::policy::{Rule, StackPolicy};

/// Values kept in memory for a selection; of more, a rank is found by reading the records again, 16 bits at a time.
const KEPT_VALUES_MAX: usize = 1 << 16;
const DIGIT_BITS: u32 = 16;
const DIGITS: usize = 1 << DIGIT_BITS;

/// What a rule measures in a run of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The exact counts or sums.
    pub figures: Figures,
    /// The value in the rule's unit; `None` where no record reports the measure.
    pub value: Option<String>,
}

/// Reads a run of records once more, and hands each to the visitor.
pub type Replay<'a, E> = &'a mut dyn FnMut(&mut dyn FnMut(&Sample<'_>)) -> Result<(), E>;

/// Measures `samples`: all those of an alert's evidence that count for its stack and carry its engine. For
/// `unapproved_engine` every one is an offence; for `silent` there should be none.
pub fn figures<'a>(rule: Rule, policy: &StackPolicy, samples: &(impl Iterator<Item = Sample<'a>> + Clone)) -> Measured {
    let replay = &mut |visit: &mut dyn FnMut(&Sample<'_>)| -> Result<(), std::convert::Infallible> {
        for sample in samples.clone() {
            visit(&sample);
        }
        Ok(())
    };
    match measure(rule, policy, replay) {
        Ok(measured) => measured,
        Err(never) => match never {},
    }
}

/// The same over records that are read again on every call of `replay`.
pub fn measure<E>(rule: Rule, policy: &StackPolicy, replay: Replay<'_, E>) -> Result<Measured, E> {
    let bounds = Bounds::of(policy);
    let mut counts = Counts::default();
    let mut kept = Vec::new();
    let mut max = 0;
    replay(&mut |sample| {
        counts.add(sample, &bounds);
        if let Some(value) = measured_value(rule, sample) {
            max = max.max(value);
            if kept.len() < KEPT_VALUES_MAX {
                kept.push(value);
            }
        }
    })?;
    let figures = counts.figures(rule);
    let Figures::Percentile { samples, .. } = figures else { return Ok(Measured { figures, value: value(&figures) }) };
    let p95 = match nearest_rank(samples) {
        None => None,
        Some(rank) if samples == kept.len() as u64 => select(&mut kept, rank),
        Some(rank) => {
            drop(kept);
            Some(select_again(rule, rank, max, replay)?)
        }
    };
    Ok(Measured { figures, value: p95.map(thousandths) })
}

/// The value of figures that hold it: a ratio rounded down to billionths, a number of offences, seconds of silence.
pub(super) fn value(figures: &Figures) -> Option<String> {
    match *figures {
        Figures::Percentile { .. } | Figures::Ratio { whole: 0, .. } => None,
        Figures::Ratio { part, whole, .. } => {
            // Down, so that a ratio below the threshold never shows as the threshold.
            let billionths = u128::from(part) * 1_000_000_000 / u128::from(whole);
            let billionths = i128::try_from(billionths).unwrap_or(i128::MAX);
            Decimal::try_from_i128_with_scale(billionths, 9).ok().map(|ratio| ratio.normalize().to_string())
        }
        Figures::Offences { offences, .. } => Some(offences.to_string()),
        Figures::Silence { seconds } => Some(seconds.to_string()),
    }
}

/// Thousandths (µs of a ms, ns of a µs) as a decimal.
fn thousandths(value: u64) -> String {
    Decimal::from_i128_with_scale(i128::from(value), 3).normalize().to_string()
}

const fn measured_value(rule: Rule, sample: &Sample<'_>) -> Option<u64> {
    match rule {
        Rule::LatencyP95 => Some(sample.duration_us),
        Rule::QueueDelay => sample.queue_delay_ns,
        Rule::KvReuse
        | Rule::SpeculativeAccept
        | Rule::TokenBudget
        | Rule::CostPerRequest
        | Rule::ReadinessQueueDelay
        | Rule::UnapprovedEngine
        | Rule::Silent
        | Rule::UncoveredPublish
        | Rule::VramHeadroom
        | Rule::UncalibratedSpeculation => None,
    }
}

/// ceil(0.95 n), from 1; `None` for no samples.
fn nearest_rank(samples: u64) -> Option<u64> {
    let rank = (u128::from(samples) * 19).div_ceil(20);
    u64::try_from(rank).ok().filter(|&rank| rank > 0)
}

fn select(values: &mut [u64], rank: u64) -> Option<u64> {
    let index = usize::try_from(rank - 1).ok().filter(|&index| index < values.len())?;
    Some(*values.select_nth_unstable(index).1)
}

/// The value of a rank, by its digits from the top: each reading counts the next digit of the values that share the digits
/// found so far.
fn select_again<E>(rule: Rule, rank: u64, max: u64, replay: Replay<'_, E>) -> Result<u64, E> {
    let (mut prefix, mut rank) = (0_u64, rank);
    let digits = (u64::BITS - max.leading_zeros()).div_ceil(DIGIT_BITS);
    for shift in (0..digits).rev().map(|digit| digit * DIGIT_BITS) {
        let mut counts = vec![0_u64; DIGITS];
        replay(&mut |sample| {
            let Some(value) = measured_value(rule, sample) else { return };
            if value.checked_shr(shift + DIGIT_BITS).unwrap_or(0) == prefix {
                let digit = (value >> shift) & (DIGITS as u64 - 1);
                if let Some(count) = usize::try_from(digit).ok().and_then(|digit| counts.get_mut(digit)) {
                    *count += 1;
                }
            }
        })?;
        let mut digit = 0;
        for (candidate, &count) in (0_u64..).zip(&counts) {
            digit = candidate;
            if rank <= count {
                break;
            }
            rank -= count;
        }
        prefix = (prefix << DIGIT_BITS) | digit;
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(duration_us: u64) -> Sample<'static> {
        Sample {
            engine_hash: "e",
            model: "m",
            duration_us,
            queue_delay_ns: None,
            tokens_in: None,
            tokens_out: None,
            kv_hits: Some(1),
            kv_misses: Some(2),
            spec_attempts: None,
            spec_accepts: None,
            cost_atto_usd: None,
            token_budget_overrun: None,
            failed: false,
        }
    }

    #[test]
    fn the_nearest_rank_is_a_value_that_was_measured() {
        let policy = crate::domain::policy::Policy::default().for_stack("s");
        let check = |values: std::ops::RangeInclusive<u64>, expected: Option<&str>| {
            let measured = figures(Rule::LatencyP95, &policy, &values.map(sample));
            assert_eq!(measured.value.as_deref(), expected);
        };
        check(1..=20, Some("0.019"));
        check(1..=21, Some("0.02"));
        check(7..=7, Some("0.007"));
        // More than are kept in memory.
        check(1..=100_000, Some("95"));
        check(4_000_000_001..=4_000_100_000, Some("4000095"));
        #[expect(clippy::reversed_empty_ranges, reason = "the empty run is the case")]
        check(1..=0, None);
        let ratio = figures(Rule::KvReuse, &policy, &(1..=3).map(sample));
        assert_eq!(
            (ratio.figures, ratio.value.as_deref()),
            (Figures::Ratio { samples: 3, part: 3, whole: 9 }, Some("0.333333333"))
        );
    }
}

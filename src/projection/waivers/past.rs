//! What requests above the limit cost while no waiver covered them: kept for a week, so that a retroactive waiver can be
//! charged with it.
//!
//! Kept by stack, engine and ten minutes. What one waiver was charged with is taken out, so that no other is charged with it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::Spent;
use crate::domain::time::Time;

/// How far back retroactive cover may begin.
pub(super) const PAST_SECONDS: i64 = 7 * 86_400;
/// What the past is kept by; retroactive cover begins at a multiple of it.
pub(super) const PAST_STEP_SECONDS: i64 = 600;

/// Sums over requests that no waiver covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) requests_over: u64,
    pub(super) unpriced: u64,
    pub(super) excess_usd: Decimal,
    pub(super) gross_usd: Decimal,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.requests_over += other.requests_over;
        self.unpriced += other.unpriced;
        self.excess_usd = self.excess_usd.saturating_add(other.excess_usd).normalize();
        self.gross_usd = self.gross_usd.saturating_add(other.gross_usd).normalize();
    }
}

/// One step of the past, of one engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    begins: Time,
    sums: Sums,
}

/// By stack and engine, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Past {
    by_stack: BTreeMap<String, BTreeMap<String, Vec<Step>>>,
}

/// What retroactive cover is charged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charged {
    pub(super) sums: Sums,
    /// The step that would have gone beyond the cap, and is not covered, nor is anything after it.
    pub(super) stopped: Option<Time>,
}

impl Past {
    /// Keeps what the cut of `instant` brought without cover.
    pub(super) fn keep(&mut self, instant: Time, spent: &Spent<'_>) {
        let begins = instant.floor_to_seconds(PAST_STEP_SECONDS);
        let sums = Sums {
            requests_over: spent.requests_over,
            unpriced: spent.unpriced,
            excess_usd: spent.excess_usd.normalize(),
            gross_usd: spent.gross_usd.normalize(),
        };
        let engines = self.by_stack.entry(spent.stack.to_owned()).or_default();
        let steps = engines.entry(spent.engine_hash.to_owned()).or_default();
        match steps.last_mut().filter(|step| step.begins == begins) {
            Some(step) => step.sums.add(&sums),
            None => steps.push(Step { begins, sums }),
        }
    }

    /// Forgets what is too old to be charged to anybody.
    pub(super) fn trim(&mut self, instant: Time) {
        let oldest = instant.plus_seconds(-PAST_SECONDS - PAST_STEP_SECONDS);
        self.by_stack.retain(|_, engines| {
            engines.retain(|_, steps| {
                steps.retain(|step| step.begins >= oldest);
                !steps.is_empty()
            });
            !engines.is_empty()
        });
    }

    /// Takes out what was spent on `stack` (on one engine, where given) from `starts` on, step by step as long as the excess
    /// stays within `cap_usd`.
    pub(super) fn charge(&mut self, stack: &str, engine_hash: Option<&str>, starts: Time, cap_usd: Decimal) -> Charged {
        let mut charged = Charged { sums: Sums::default(), stopped: None };
        let Some(engines) = self.by_stack.get_mut(stack) else { return charged };
        let mut by_step: BTreeMap<Time, Sums> = BTreeMap::new();
        let is_meant = |engine: &str| engine_hash.is_none_or(|meant| meant == engine);
        for (_, steps) in engines.iter().filter(|(engine, _)| is_meant(engine)) {
            for step in steps.iter().filter(|step| step.begins >= starts) {
                by_step.entry(step.begins).or_default().add(&step.sums);
            }
        }
        for (begins, sums) in by_step {
            if charged.sums.excess_usd.saturating_add(sums.excess_usd) > cap_usd {
                charged.stopped = Some(begins);
                break;
            }
            charged.sums.add(&sums);
        }
        let is_taken = |begins: Time| begins >= starts && charged.stopped.is_none_or(|stopped| begins < stopped);
        for (_, steps) in engines.iter_mut().filter(|(engine, _)| is_meant(engine)) {
            steps.retain(|step| !is_taken(step.begins));
        }
        charged
    }
}

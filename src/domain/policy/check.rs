//! What a document may hold. The first fault is named with its field and value.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::super::report::is_saying;
use super::super::settings::RULES_SIGNABLE;
use super::{
    Amount, Measure, PolicyError, Rule, RuleOverride, StackPolicy, WIDEN_STEP_SECONDS, WINDOW_SECONDS_MAX, field_error,
};

/// Windows and durations are whole cuts.
const STEP_SECONDS: u32 = 10;
/// No alert waits longer than a day to fire or to resolve.
const HOLD_SECONDS_MAX: u32 = 86_400;
/// More samples than this in a window would leave every rule without a verdict.
const MIN_SAMPLES_MAX: u64 = 1_000_000;
/// Decimal places that money is summed with.
const COST_DECIMALS_MAX: u32 = 18;

/// More event types than this is a generated file gone wrong.
const SIGNATURES_MAX: usize = 100;

/// Types whose signature may be demanded: those that somebody reports, and not those that the service says itself.
pub(super) fn check_signatures(types: &BTreeSet<String>, rules_version: u32) -> Result<(), PolicyError> {
    if types.len() > SIGNATURES_MAX {
        return Err(field_error("required_signatures", types.len(), "at most 100 event types"));
    }
    let is_own =
        |name: &&String| name.is_empty() || name.starts_with("ledger_") || crate::domain::command::is_command(name);
    match types.iter().find(is_own) {
        Some(name) => Err(field_error("required_signatures", format!("{name:?}"), "an event type that authors report")),
        None => check_sayings(types, rules_version),
    }
}

/// What the service says is under its node's key: were an author's demanded, none of it would ever count. Policies that older
/// ledgers admitted stay admitted.
fn check_sayings(types: &BTreeSet<String>, rules_version: u32) -> Result<(), PolicyError> {
    let said = types.iter().filter(|_| rules_version >= RULES_SIGNABLE).find(|name| is_saying(name));
    said.map_or(Ok(()), |name| {
        let allowed =
            "an event type that authors report, and not one that the service says itself under its node's key";
        Err(field_error("required_signatures", format!("{name:?}"), allowed))
    })
}

/// What can only be seen in the override itself: a threshold on a rule that has none.
pub(super) fn check_rules(path: &str, rules: &BTreeMap<Rule, RuleOverride>) -> Result<(), PolicyError> {
    for (rule, own) in rules {
        let Some(Amount(threshold)) = own.threshold else { continue };
        let field = format!("{path}.{rule}.threshold");
        match rule.measure() {
            Measure::Offences | Measure::Silence => {
                return Err(field_error(
                    field,
                    threshold,
                    "this rule has no threshold; see `max_cost_usd`, `max_queue_delay_us` and `window_s`",
                ));
            }
            Measure::Percentile if threshold <= Decimal::ZERO || threshold > Decimal::from(1_000_000_000_u32) => {
                return Err(field_error(field, threshold, "a threshold is more than 0 and at most 1000000000"));
            }
            Measure::Ratio | Measure::Gauge if threshold <= Decimal::ZERO || threshold > Decimal::ONE => {
                return Err(field_error(field, threshold, "a ratio is more than 0 and at most 1"));
            }
            Measure::Ratio | Measure::Gauge if threshold.normalize().scale() > 9 => {
                return Err(field_error(field, threshold, "a ratio has at most 9 decimals"));
            }
            Measure::Percentile | Measure::Ratio | Measure::Gauge => {}
        }
    }
    Ok(())
}

pub(super) fn check_resolved(path: &str, policy: &StackPolicy) -> Result<(), PolicyError> {
    let whole = |seconds: u32| seconds.is_multiple_of(STEP_SECONDS);
    if policy.min_samples == 0 || policy.min_samples > MIN_SAMPLES_MAX {
        return Err(field_error(format!("{path}min_samples"), policy.min_samples, "from 1 to 1000000"));
    }
    if !policy.widen_s.is_multiple_of(WIDEN_STEP_SECONDS) || policy.widen_s > WINDOW_SECONDS_MAX || policy.widen_s == 0
    {
        return Err(field_error(format!("{path}widen_s"), policy.widen_s, "whole minutes, from 60 to 900"));
    }
    let Amount(cost) = policy.max_cost_usd;
    if cost.is_sign_negative()
        || cost.normalize().scale() > COST_DECIMALS_MAX
        || cost > Decimal::from(1_000_000_000_u32)
    {
        return Err(field_error(format!("{path}max_cost_usd"), cost, "from 0 to 1000000000, with at most 18 decimals"));
    }
    let Amount(queue) = policy.max_queue_delay_us;
    if queue.is_sign_negative() || queue > Decimal::from(1_000_000_000_000_u64) {
        return Err(field_error(format!("{path}max_queue_delay_us"), queue, "from 0 to 1000000000000"));
    }
    policy.capacity.check(path)?;
    policy.speculation.check(path)?;
    for rule in Rule::ALL {
        let settings = policy.rule(rule);
        let field = |name: &str| format!("{path}rules.{rule}.{name}");
        if !whole(settings.window_s) || settings.window_s == 0 || settings.window_s > WINDOW_SECONDS_MAX {
            return Err(field_error(field("window_s"), settings.window_s, "a multiple of 10, from 10 to 900"));
        }
        if !whole(settings.for_s) || settings.for_s > HOLD_SECONDS_MAX {
            return Err(field_error(field("for_s"), settings.for_s, "a multiple of 10, at most 86400"));
        }
        if !whole(settings.keep_firing_for_s) || settings.keep_firing_for_s > HOLD_SECONDS_MAX {
            return Err(field_error(
                field("keep_firing_for_s"),
                settings.keep_firing_for_s,
                "a multiple of 10, at most 86400",
            ));
        }
    }
    Ok(())
}

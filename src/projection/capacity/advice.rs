//! What the figures suggest for the queue and the batch: one action, and the reason in figures.
//!
//! The steps, in this order. The limit is the threshold of `queue_delay`; a batch is full where nine tenths of it are in use.
//! 1. No figure of the queue: nothing can be said.
//! 2. The limit is reached and the batch is full: a larger batch, where memory and blocks have a quarter free; else a server more.
//! 3. The limit is reached, or could be by the configured delay alone, while the batch is not full: requests wait for company
//!    that does not come, so the delay is to be lowered.
//! 4. The limit is reached and neither explains it: somebody has to look.
//! 5. Otherwise things stay as they are.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A share is roomy from here on.
const ROOMY: (i64, u32) = (25, 2);
/// A batch is full from here on, in tenths.
const FULL_TENTHS: u64 = 9;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing is known of the queue.
    Unknown,
    /// Leave it.
    Keep,
    /// Build with a larger batch.
    RaiseMaxBatchSize,
    /// One server cannot do it.
    AddServer,
    /// Let the batcher wait less.
    LowerMaxQueueDelay,
    /// The figures do not explain the delay.
    Investigate,
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Advice {
    /// What to do.
    pub action: Action,
    /// What the setting should be, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<u64>,
    /// Why, with the figures.
    pub reason: String,
}

/// What the advice rests on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Situation {
    /// P95 of the time in the queue, in microseconds.
    pub queue_p95_us: Option<u64>,
    /// The limit of it, in whole microseconds.
    pub limit_us: u64,
    /// How long the batcher may hold a request back.
    pub max_queue_delay_us: Option<u64>,
    /// Requests under way at once, on the mean, in thousandths.
    pub concurrency_milli: Option<u64>,
    /// Requests that one server takes at once, times the servers.
    pub max_batch_size: Option<u64>,
    /// Share of GPU memory free, at the 95th percentile.
    pub vram_free: Option<Decimal>,
    /// Share of KV blocks free, at the 95th percentile.
    pub kv_free: Option<Decimal>,
}

/// What follows.
pub fn advise(at: &Situation) -> Advice {
    let advice = |action, suggested, reason| Advice { action, suggested, reason };
    let Some(queue) = at.queue_p95_us else {
        return advice(
            Action::Unknown,
            None,
            "no request of the time looked at says how long it was queued".to_owned(),
        );
    };
    let limit = at.limit_us;
    let reached = queue >= limit;
    let full = is_full(at);
    let batch = batch_words(at);
    if reached && full == Some(true) {
        let roomy = |share: Option<Decimal>| share.is_some_and(|share| share >= Decimal::new(ROOMY.0, ROOMY.1));
        let room = format!("{} and {}", share("GPU memory", at.vram_free), share("KV blocks", at.kv_free));
        return if roomy(at.vram_free) && roomy(at.kv_free) {
            let suggested = at.max_batch_size.map(|size| size.saturating_add(size.div_ceil(2)));
            let reason =
                format!("P95 in the queue is {queue} us against {limit} us, {batch}, and there is room: {room}");
            advice(Action::RaiseMaxBatchSize, suggested, reason)
        } else {
            let reason = format!(
                "P95 in the queue is {queue} us against {limit} us, {batch}, and a larger batch has no known room: {room}"
            );
            advice(Action::AddServer, None, reason)
        };
    }
    if let Some(delay) = at.max_queue_delay_us.filter(|delay| *delay >= limit && full != Some(true)) {
        let now = if reached { "reaches" } else { "is still within" };
        let reason = format!(
            "max_queue_delay_microseconds is {delay}, which alone allows for the limit of {limit} us; P95 in the queue is {queue} us and {now} it, {batch}"
        );
        return advice(Action::LowerMaxQueueDelay, Some(limit / 2), reason);
    }
    if reached {
        let delay = at.max_queue_delay_us.map_or("not known".to_owned(), |delay| format!("{delay} us"));
        let reason = format!(
            "P95 in the queue is {queue} us against {limit} us, {batch}, and the batcher's own delay is {delay}"
        );
        return advice(Action::Investigate, None, reason);
    }
    advice(Action::Keep, None, format!("P95 in the queue is {queue} us against {limit} us, {batch}"))
}

fn is_full(at: &Situation) -> Option<bool> {
    let (concurrency, size) = (at.concurrency_milli?, at.max_batch_size?);
    Some(u128::from(concurrency) * 10 >= u128::from(size) * u128::from(FULL_TENTHS) * 1_000)
}

fn batch_words(at: &Situation) -> String {
    let milli = |milli: u64| Decimal::from_i128_with_scale(i128::from(milli), 3).normalize();
    match (at.concurrency_milli, at.max_batch_size) {
        (Some(concurrency), Some(size)) => format!("{} of {size} places in the batch are taken", milli(concurrency)),
        (Some(concurrency), None) => {
            format!("{} requests are under way (the batch size is not known)", milli(concurrency))
        }
        (None, _) => "nothing is known of the batch".to_owned(),
    }
}

fn share(what: &str, share: Option<Decimal>) -> String {
    share.map_or_else(|| format!("{what} not known"), |share| format!("{what} {share} free at the 95th percentile"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_case() {
        let base = Situation {
            queue_p95_us: Some(2_000),
            limit_us: 1_500,
            max_queue_delay_us: Some(500),
            concurrency_milli: Some(3_700),
            max_batch_size: Some(4),
            vram_free: Some(Decimal::new(30, 2)),
            kv_free: Some(Decimal::new(25, 2)),
        };
        let check = |situation: Situation, action, suggested| {
            let advice = advise(&situation);
            assert_eq!((advice.action, advice.suggested), (action, suggested), "{situation:?}: {}", advice.reason);
            assert!(!advice.reason.is_empty());
        };
        check(Situation { queue_p95_us: None, ..base }, Action::Unknown, None);
        check(base, Action::RaiseMaxBatchSize, Some(6));
        check(Situation { vram_free: Some(Decimal::new(24, 2)), ..base }, Action::AddServer, None);
        check(Situation { kv_free: None, ..base }, Action::AddServer, None);
        let idle = Situation { concurrency_milli: Some(3_599), ..base };
        check(idle, Action::Investigate, None);
        check(Situation { max_queue_delay_us: Some(1_500), ..idle }, Action::LowerMaxQueueDelay, Some(750));
        check(
            Situation { queue_p95_us: Some(100), max_queue_delay_us: Some(1_500), ..idle },
            Action::LowerMaxQueueDelay,
            Some(750),
        );
        check(Situation { queue_p95_us: Some(1_499), ..base }, Action::Keep, None);
        check(Situation { queue_p95_us: Some(1_500), ..idle }, Action::Investigate, None);
        let full = advise(&base).reason;
        assert!(full.contains("3.7 of 4 places") && full.contains("0.30 free"), "{full}");
    }
}

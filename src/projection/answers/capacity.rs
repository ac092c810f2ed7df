//! How much of a stack is used: by engine what the records say, of the stack what its servers say, and what to do about it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{AnswerError, View};
use crate::domain::policy::{Rule, StackPolicy};
use crate::domain::time::Time;
use crate::projection::capacity::{Advice, Built, Counted, Origin, Reading, Situation, Stated, advise};
use crate::projection::slo::{EngineLoad, Slo};
use crate::projection::speculation;

/// Places behind the point of rates and shares.
const PLACES: u32 = 3;
const SHARE_PLACES: u32 = 4;

/// How much of a stack is used.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CapacityAnswer {
    /// The stack.
    pub stack: String,
    /// The cut that the figures go up to.
    pub instant: Option<Time>,
    /// Engines with records in the last quarter of an hour; the current one in any case.
    pub engines: Vec<EngineCapacity>,
    /// What the stack's servers say, in the last quarter of an hour, since the current engine became current.
    pub servers: ServersCapacity,
    /// What the current engine's figures suggest.
    pub advice: Advice,
    /// Calibrations that the current engine needs to speculate; empty where it does not, or may without.
    pub speculation: Vec<CalibrationRow>,
}

/// One engine by its records.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EngineCapacity {
    /// The engine, by the client's claim.
    pub engine_hash: String,
    /// Whether it is current.
    pub current: bool,
    /// The cut that the figures begin at; none where they begin with the ledger.
    pub since: Option<Time>,
    /// From there to the last cut, in seconds: what rates are over.
    pub seconds: u64,
    /// Requests.
    pub requests: u64,
    /// Requests a second.
    #[schemars(with = "Option<String>")]
    pub requests_per_s: Option<Decimal>,
    /// Prompt tokens a second.
    #[schemars(with = "Option<String>")]
    pub tokens_in_per_s: Option<Decimal>,
    /// Completion tokens a second.
    #[schemars(with = "Option<String>")]
    pub tokens_out_per_s: Option<Decimal>,
    /// Tokens of a request, at most, for 95 of 100 of them.
    pub tokens_p95_at_most: Option<u64>,
    /// Requests under way at once, on the mean: all their durations over the time.
    #[schemars(with = "Option<String>")]
    pub concurrency: Option<Decimal>,
    /// KV blocks by the tokens.
    pub kv: KvInferred,
    /// The queue by the records.
    pub queue: QueueCapacity,
    /// Requests over the governed limit of tokens.
    pub token_limit: TokenLimit,
}

/// KV blocks inferred from tokens: what requests hold at their end, for all the time they are under way. So it is an upper
/// bound where blocks are not shared, and too low where others than these requests use the server.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KvInferred {
    /// Tokens that a block holds, and who says so.
    pub tokens_per_block: Option<Stated>,
    /// Requests that the engine takes at once, and who says so.
    pub max_batch_size: Option<Stated>,
    /// Blocks in use on the mean.
    #[schemars(with = "Option<String>")]
    pub blocks_in_use: Option<Decimal>,
    /// Blocks that a full batch of requests of the P95's size takes.
    pub blocks_of_full_batch_p95: Option<u64>,
}

/// The queue by the records.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct QueueCapacity {
    /// Requests that say how long they were queued.
    pub requests: u64,
    /// P95 of that, at most, in microseconds: the upper end of a bucket an eighth wide.
    pub p95_us_at_most: Option<u64>,
    /// The threshold of the rule `queue_delay`.
    #[schemars(with = "Option<String>")]
    pub limit_us: Option<Decimal>,
    /// How long the batcher may hold a request back, and who says so.
    pub max_queue_delay_us: Option<Stated>,
}

/// Requests over the governed limit of tokens.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenLimit {
    /// The policy's `max_tokens`.
    pub max_tokens: u64,
    /// Requests that report their tokens.
    pub requests: u64,
    /// Of them, those over it.
    pub over: u64,
}

/// What the servers say of themselves.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServersCapacity {
    /// Each server's last scrape.
    pub last: Vec<ServerRow>,
    /// Scrapes that count.
    pub scrapes: u64,
    /// Counters that went back, by restarts.
    pub counter_resets: u64,
    /// Free share of GPU memory, of the tightest GPU.
    pub vram: Headroom,
    /// Free share of KV blocks, over the servers.
    pub kv: Headroom,
    /// Mean time in Triton's queue, in microseconds.
    #[schemars(with = "Option<String>")]
    pub queue_us_mean: Option<Decimal>,
    /// Inferences of an execution, on the mean: the batches that Triton itself makes. A batcher of its own (TensorRT-LLM's inflight
    /// one) hides behind it, and it is 1 then.
    #[schemars(with = "Option<String>")]
    pub batch_size_mean: Option<Decimal>,
}

/// A free share, now and at the 95th percentile.
#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Headroom {
    /// By the last scrape of each server.
    #[schemars(with = "Option<String>")]
    pub now: Option<Decimal>,
    /// What 95 of 100 scrapes had, or more.
    #[schemars(with = "Option<String>")]
    pub p95: Option<Decimal>,
}

/// One server's last scrape.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerRow {
    /// The server.
    pub instance: String,
    /// When it was asked.
    pub scraped_at: Option<Time>,
    /// Free bytes of its tightest GPU.
    pub gpu_free_bytes: Option<u64>,
    /// All bytes of that GPU.
    pub gpu_total_bytes: Option<u64>,
    /// The busiest GPU's share of time in use.
    #[schemars(with = "Option<String>")]
    pub gpu_utilization: Option<Decimal>,
    /// KV blocks in use.
    pub kv_blocks_used: Option<u64>,
    /// KV blocks in all.
    pub kv_blocks_max: Option<u64>,
}

/// A workload that needs a calibration.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CalibrationRow {
    /// Whether it has one.
    pub calibrated: bool,
    /// What is wanting, where it has none.
    pub reason: Option<String>,
    /// The entry that shows it, or since which it is wanting.
    pub position: u64,
}

pub(super) fn capacity(view: &View<'_>, name: &str) -> Result<CapacityAnswer, AnswerError> {
    let slo = view.slo.ok_or(AnswerError::NoMetrics)?;
    let stack = view.governance.stacks.get(name);
    let loads = slo.loads(name);
    if stack.is_none() && loads.is_empty() && !slo.scrapes().stacks().any(|known| known == name) {
        return Err(AnswerError::Unknown { kind: "stack", name: name.to_owned() });
    }
    let policy = slo.policy_for(name);
    let current = loads.iter().find(|load| load.current);
    let start = current.map_or_else(|| slo.oldest_kept(), |load| load.start);
    let servers = servers(slo, name, start);
    let stint = stack.and_then(|stack| stack.stint.as_ref());
    let built = |load: &EngineLoad| {
        let manifest = stint.filter(|_| load.current).and_then(|stint| stint.manifest.as_ref());
        let mut built = Built::of(manifest, &policy.capacity);
        if load.current {
            by_the_servers(&mut built, slo, name, start);
        }
        built
    };
    let advice = advise(&current.map_or_else(
        || Situation { limit_us: limit_us(&policy), ..Situation::default() },
        |load| situation(load, &built(load), &policy, &servers),
    ));
    Ok(CapacityAnswer {
        stack: name.to_owned(),
        instant: slo.last_cut(),
        engines: loads.iter().map(|load| engine(load, &built(load), &policy)).collect(),
        servers,
        advice,
        speculation: stack.map(|stack| calibrations(stack, &policy)).unwrap_or_default(),
    })
}

fn calibrations(stack: &crate::projection::stacks::Stack, policy: &StackPolicy) -> Vec<CalibrationRow> {
    let row = |shown: Result<u64, speculation::Wanting>| match shown {
        Ok(position) => CalibrationRow { calibrated: true, reason: None, position },
        Err(wanting) => CalibrationRow { calibrated: false, reason: Some(wanting.reason), position: wanting.position },
    };
    speculation::workloads(stack, &policy.speculation).into_iter().map(row).collect()
}

/// What runs says more than what was built: block size and batch by the servers, where they state them.
fn by_the_servers(built: &mut Built, slo: &Slo, name: &str, start: Option<Time>) {
    let last = slo.scrapes().last_of_each(name, start);
    let stated =
        |value: Option<u64>| value.filter(|value| *value > 0).map(|value| Stated { value, by: Origin::Triton });
    let tokens = stated(last.values().find_map(|reading| reading.tokens_per_block));
    built.tokens_per_block = tokens.or(built.tokens_per_block);
    let size = stated(last.values().filter_map(|reading| reading.max_requests).max());
    built.max_batch_size = size.or(built.max_batch_size);
}

fn engine(load: &EngineLoad, built: &Built, policy: &StackPolicy) -> EngineCapacity {
    let (totals, sums) = (&load.totals, &load.load);
    let per_s = |count: u64| ratio(u128::from(count), u128::from(load.seconds), PLACES);
    let blocks = built.tokens_per_block.and_then(|block| {
        // Token-milliseconds over milliseconds: tokens held at once, on the mean. Each request leaves half a block empty.
        let held = Decimal::from(sums.token_ms).checked_div(Decimal::from(load.seconds.checked_mul(1_000)?))?;
        let half = Decimal::new(5, 1).checked_mul(ratio(u128::from(sums.duration_us), load_us(load), 9)?)?;
        held.checked_div(Decimal::from(block.value))?.checked_add(half).map(|blocks| blocks.round_dp(PLACES))
    });
    let p95 = sums.tokens.p95_at_most();
    let full = || Some(p95?.div_ceil(built.tokens_per_block?.value).saturating_mul(built.max_batch_size?.value));
    EngineCapacity {
        engine_hash: totals.engine_hash.clone(),
        current: load.current,
        since: load.start,
        seconds: load.seconds,
        requests: totals.requests,
        requests_per_s: per_s(totals.requests),
        tokens_in_per_s: per_s(totals.tokens_in),
        tokens_out_per_s: per_s(totals.tokens_out),
        tokens_p95_at_most: p95,
        concurrency: ratio(u128::from(sums.duration_us), load_us(load), PLACES),
        kv: KvInferred {
            tokens_per_block: built.tokens_per_block,
            max_batch_size: built.max_batch_size,
            blocks_in_use: blocks,
            blocks_of_full_batch_p95: full(),
        },
        queue: QueueCapacity {
            requests: sums.queue_us.count(),
            p95_us_at_most: sums.queue_us.p95_at_most(),
            limit_us: policy.rule(Rule::QueueDelay).threshold.map(|amount| amount.0),
            max_queue_delay_us: built.max_queue_delay_us,
        },
        token_limit: TokenLimit {
            max_tokens: policy.max_tokens,
            requests: sums.tokens.count(),
            over: sums.over_token_limit,
        },
    }
}

fn load_us(load: &EngineLoad) -> u128 {
    u128::from(load.seconds) * 1_000_000
}

fn limit_us(policy: &StackPolicy) -> u64 {
    use rust_decimal::prelude::ToPrimitive as _;
    policy.rule(Rule::QueueDelay).threshold.and_then(|amount| amount.0.ceil().to_u64()).unwrap_or(u64::MAX)
}

fn situation(load: &EngineLoad, built: &Built, policy: &StackPolicy, servers: &ServersCapacity) -> Situation {
    let concurrency = (u128::from(load.load.duration_us) * 1_000).checked_div(load_us(load));
    // Each server has a batch of its own.
    let count = u64::try_from(servers.last.len()).unwrap_or(1).max(1);
    Situation {
        queue_p95_us: load.load.queue_us.p95_at_most(),
        limit_us: limit_us(policy),
        max_queue_delay_us: built.max_queue_delay_us.map(|stated| stated.value),
        concurrency_milli: concurrency.and_then(|milli| u64::try_from(milli).ok()),
        max_batch_size: built.max_batch_size.map(|stated| stated.value.saturating_mul(count)),
        vram_free: servers.vram.p95,
        kv_free: servers.kv.p95,
    }
}

fn servers(slo: &Slo, name: &str, start: Option<Time>) -> ServersCapacity {
    let scrapes = slo.scrapes();
    let last = scrapes.last_of_each(name, start);
    let (mut grown, mut resets, mut count) = (Counted::default(), 0, 0);
    let (mut vram, mut kv) = (Vec::new(), Vec::new());
    for (_, reading) in scrapes.after(name, start) {
        grown.add(reading.grown);
        resets += reading.resets;
        count += 1;
        vram.extend(reading.gpu);
        kv.extend(reading.kv_blocks.map(free_blocks));
    }
    let vram_now = scrapes.headroom(name, start).map(|(_, gpu)| gpu);
    ServersCapacity {
        scrapes: count,
        counter_resets: resets,
        vram: Headroom { now: vram_now.and_then(share), p95: fifth(vram) },
        kv: Headroom { now: sum_of_blocks(&last).and_then(share), p95: fifth(kv) },
        queue_us_mean: ratio(u128::from(grown.queue_us), u128::from(grown.requests), PLACES),
        batch_size_mean: ratio(u128::from(grown.inferences), u128::from(grown.executions), PLACES),
        last: last.into_values().map(row).collect(),
    }
}

const fn free_blocks((used, max): (u64, u64)) -> (u64, u64) {
    (max.saturating_sub(used), max)
}

fn sum_of_blocks(last: &BTreeMap<&str, &Reading>) -> Option<(u64, u64)> {
    let blocks = last.values().filter_map(|reading| reading.kv_blocks.map(free_blocks));
    blocks.reduce(|sum, next| (sum.0.saturating_add(next.0), sum.1.saturating_add(next.1)))
}

/// The share that 95 of 100 pairs have free, or more: by nearest rank, from the tightest.
fn fifth(mut pairs: Vec<(u64, u64)>) -> Option<Decimal> {
    pairs.retain(|(_, total)| *total > 0);
    pairs.sort_by(|one, other| {
        (u128::from(one.0) * u128::from(other.1)).cmp(&(u128::from(other.0) * u128::from(one.1)))
    });
    // As many as are above the 95th percentile of what is in use.
    let above = pairs.len() - (pairs.len() * 19).div_ceil(20);
    pairs.get(above).copied().and_then(share)
}

fn share((free, total): (u64, u64)) -> Option<Decimal> {
    ratio(u128::from(free), u128::from(total), SHARE_PLACES)
}

/// One number over another, rounded down; `None` over nothing.
fn ratio(part: u128, whole: u128, places: u32) -> Option<Decimal> {
    let scaled = part.checked_mul(10_u128.pow(places))?.checked_div(whole)?;
    Decimal::try_from_i128_with_scale(i128::try_from(scaled).ok()?, places).ok().map(|ratio| ratio.normalize())
}

fn row(reading: &Reading) -> ServerRow {
    ServerRow {
        instance: reading.instance.clone(),
        scraped_at: reading.scraped_at,
        gpu_free_bytes: reading.gpu.map(|(free, _)| free),
        gpu_total_bytes: reading.gpu.map(|(_, total)| total),
        gpu_utilization: reading.utilization_ppm.and_then(|ppm| ratio(u128::from(ppm), 1_000_000, SHARE_PLACES)),
        kv_blocks_used: reading.kv_blocks.map(|(used, _)| used),
        kv_blocks_max: reading.kv_blocks.map(|(_, max)| max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_of_headroom_is_by_nearest_rank() {
        let check = |count: u64, expected: &str| {
            // In use: 1, 2, … of `count`; so free: count - 1, … 0.
            let pairs = (1..=count).map(|used| (count - used, count)).collect();
            assert_eq!(fifth(pairs).unwrap(), expected.parse::<Decimal>().unwrap(), "{count}");
        };
        check(100, "0.05");
        check(20, "0.05");
        check(1, "0");
        check(10, "0");
        assert_eq!(fifth(Vec::new()), None);
    }
}

//! What is counted of the records between two cuts, for one stack and engine.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::event::AlertCost;
use crate::domain::metric::{Figures, Sample, USD_DECIMALS, usd};
use crate::domain::policy::{Amount, Rule, StackPolicy};

/// The bounds that counts depend on, as integers in the units of a [`Sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    latency_us: u64,
    queue_ns: u64,
    cost: Money,
    readiness_ns: u64,
    /// The policy's `max_tokens`, which the report alone counts by. A state of before this was counted is counted again.
    #[serde(default)]
    pub(super) tokens: u64,
}

/// Units of 10^-18 USD. As text, since not every reader of a snapshot takes 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Money(pub(super) u128);

/// Sums over records. Every field adds up over cuts and ledgers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) failed: u64,
    latency_below: u64,
    queue: u64,
    queue_below: u64,
    kv: u64,
    pub(super) kv_hits: u64,
    pub(super) kv_blocks: u64,
    speculative: u64,
    pub(super) spec_accepts: u64,
    pub(super) spec_attempts: u64,
    token_overruns: u64,
    pub(super) cost_over: u64,
    /// Records without a price.
    pub(super) unpriced: u64,
    readiness_over: u64,
    pub(super) tokens_in: u64,
    pub(super) tokens_out: u64,
    pub(super) cost: Money,
    /// What the records over the policy's limit cost: by the limit of their own cut, whatever came later.
    pub(super) cost_of_over: Money,
}

impl Bounds {
    pub(super) fn of(policy: &StackPolicy) -> Self {
        let threshold = |rule: Rule| policy.rule(rule).threshold.unwrap_or(Amount(Decimal::ZERO));
        Self {
            // Below a bound between two integers is below the upper one; above it is above the lower one.
            latency_us: scaled(threshold(Rule::LatencyP95), 3).ceil().to_u64().unwrap_or(u64::MAX),
            queue_ns: scaled(threshold(Rule::QueueDelay), 3).ceil().to_u64().unwrap_or(u64::MAX),
            cost: Money(scaled(policy.max_cost_usd, USD_DECIMALS).floor().to_u128().unwrap_or(u128::MAX)),
            tokens: policy.max_tokens,
            readiness_ns: scaled(policy.max_queue_delay_us, 3).floor().to_u64().unwrap_or(u64::MAX),
        }
    }
}

fn scaled(amount: Amount, decimals: u32) -> Decimal {
    let power = Decimal::from_i128_with_scale(10_i128.pow(decimals), 0);
    amount.0.checked_mul(power).unwrap_or(Decimal::MAX)
}

impl Counts {
    pub(super) fn add(&mut self, sample: &Sample<'_>, bounds: &Bounds) {
        self.requests += 1;
        self.failed += u64::from(sample.failed);
        self.latency_below += u64::from(sample.duration_us < bounds.latency_us);
        if let Some(delay) = sample.queue_delay_ns {
            self.queue += 1;
            self.queue_below += u64::from(delay < bounds.queue_ns);
            self.readiness_over += u64::from(delay > bounds.readiness_ns);
        }
        if sample.kv_hits.is_some() || sample.kv_misses.is_some() {
            let (hits, misses) = (u64::from(sample.kv_hits.unwrap_or(0)), u64::from(sample.kv_misses.unwrap_or(0)));
            self.kv += 1;
            self.kv_hits += hits;
            self.kv_blocks += hits + misses;
        }
        if let (Some(attempts @ 1..), Some(accepts)) = (sample.spec_attempts, sample.spec_accepts) {
            self.speculative += 1;
            self.spec_accepts += u64::from(accepts);
            self.spec_attempts += u64::from(attempts);
        }
        self.token_overruns += u64::from(sample.token_budget_overrun == Some(true));
        self.tokens_in += u64::from(sample.tokens_in.unwrap_or(0));
        self.tokens_out += u64::from(sample.tokens_out.unwrap_or(0));
        self.unpriced += u64::from(sample.cost_atto_usd.is_none());
        if let Some(cost) = sample.cost_atto_usd {
            self.cost.0 = self.cost.0.saturating_add(cost);
            if cost > bounds.cost.0 {
                self.cost_over += 1;
                self.cost_of_over.0 = self.cost_of_over.0.saturating_add(cost);
            }
        }
    }

    pub(super) const fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.latency_below += other.latency_below;
        self.queue += other.queue;
        self.queue_below += other.queue_below;
        self.kv += other.kv;
        self.kv_hits += other.kv_hits;
        self.kv_blocks += other.kv_blocks;
        self.speculative += other.speculative;
        self.spec_accepts += other.spec_accepts;
        self.spec_attempts += other.spec_attempts;
        self.token_overruns += other.token_overruns;
        self.cost_over += other.cost_over;
        self.unpriced += other.unpriced;
        self.readiness_over += other.readiness_over;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
        self.cost.0 = self.cost.0.saturating_add(other.cost.0);
        self.cost_of_over.0 = self.cost_of_over.0.saturating_add(other.cost_of_over.0);
    }

    /// What the requests above a limit of `threshold_usd` cost, by the limit counted with.
    pub(super) fn cost(&self, threshold_usd: Decimal, window_s: u32) -> AlertCost {
        let gross_usd = usd(self.cost_of_over.0);
        AlertCost {
            unpriced: self.unpriced,
            excess_usd: excess_usd(gross_usd, self.cost_over, threshold_usd),
            gross_usd,
            window_s,
        }
    }

    /// What `rule` measured. Whether an engine may serve is not in the records: there every record counts as an offence,
    /// and the judge decides whether it is one.
    pub(super) const fn figures(&self, rule: Rule) -> Figures {
        let samples = self.requests;
        match rule {
            Rule::LatencyP95 => Figures::Percentile { samples, below: self.latency_below },
            Rule::QueueDelay => Figures::Percentile { samples: self.queue, below: self.queue_below },
            Rule::KvReuse => Figures::Ratio { samples: self.kv, part: self.kv_hits, whole: self.kv_blocks },
            Rule::SpeculativeAccept => {
                Figures::Ratio { samples: self.speculative, part: self.spec_accepts, whole: self.spec_attempts }
            }
            Rule::TokenBudget => Figures::Offences { samples, offences: self.token_overruns },
            Rule::CostPerRequest => Figures::Offences { samples, offences: self.cost_over },
            Rule::ReadinessQueueDelay => Figures::Offences { samples, offences: self.readiness_over },
            Rule::UnapprovedEngine => Figures::Offences { samples, offences: samples },
            Rule::Silent => Figures::Silence { seconds: 0 },
            // Nothing of these is in the records: the judge knows what the publish relies on, and what the servers said.
            Rule::UncoveredPublish | Rule::UncalibratedSpeculation => Figures::Offences { samples: 0, offences: 0 },
            Rule::VramHeadroom => Figures::Ratio { samples: 0, part: 0, whole: 0 },
        }
    }
}

/// What `count` requests that cost `gross_usd` cost beyond `threshold_usd` each. A sum too large for a decimal counts as the
/// largest.
pub(super) fn excess_usd(gross_usd: Decimal, count: u64, threshold_usd: Decimal) -> Decimal {
    let allowed = Decimal::from(count).checked_mul(threshold_usd).unwrap_or(Decimal::ZERO);
    gross_usd.saturating_sub(allowed).normalize()
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

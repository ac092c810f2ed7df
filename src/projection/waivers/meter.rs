//! Spend under waivers of `cost_per_request`, and what cuts bring about: exhausted, nearing, expired.
//!
//! [`Waivers::cut`] decides at a cut and takes effect at once, so that no later cut is covered by a cap that is spent; the
//! entries that say so come after it and bring a fold that sees governance alone to the same sums. All of it is decimal.
//!
//! A cut is metered as a whole: a waiver in force at its instant covers the records that the cut brought, and is over from
//! that instant if they reach the cap. So the excess never goes beyond the cap by more than the records of one cut. A
//! retroactive waiver is charged at the first cut after its approval with what the past brought without cover; it covers of
//! the past only what stays within the cap.

use std::collections::{BTreeMap, VecDeque};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::past::{Charged, Sums};
use super::{Status, Waiver, Waivers};
use crate::domain::event::{Event, Nearing, WaiverExhausted, WaiverExpiring, WaiverSpend};
use crate::domain::policy::Rule;
use crate::domain::time::{MICROS_PER_SECOND, Time};

/// How long before its end a waiver is warned of.
const NEARING_SECONDS: i64 = 7 * 86_400;
/// The tenths of the cap at which it is warned of.
const NEARING_CAP_TENTHS: i64 = 8;
/// What a forecast takes for the present rate: that of the last hour.
const RATE_SECONDS: i64 = 3_600;
/// A rate is shown to a ten-thousandth of a cent.
const RATE_DECIMALS: u32 = 6;

/// What was spent under a waiver, summed over cuts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// Covered requests above the threshold of their cut.
    pub requests_over: u64,
    /// Covered requests without a price.
    pub unpriced: u64,
    /// Sum of cost less threshold over the requests above it.
    pub excess_usd: Decimal,
    /// Sum of the cost of the same requests.
    pub gross_usd: Decimal,
    /// The last cut that brought any.
    pub through: Option<Time>,
    /// Of the excess, what the past was charged with.
    pub retroactive_excess_usd: Decimal,
    /// The excess of each cut of the last hour of spending.
    recent: VecDeque<(Time, Decimal)>,
}

/// What lies ahead of a waiver if requests go on as in the last hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Forecast {
    /// Excess in USD an hour, by the last hour or since cover began; none without a cap or before any cut.
    #[schemars(with = "Option<String>")]
    pub rate_usd_per_hour: Option<Decimal>,
    /// The seconds that the rate was taken over.
    pub over_seconds: Option<i64>,
    /// When the cap is reached at this rate; none where it never is.
    pub cap_reached: Option<Time>,
    /// When it ends in any case.
    pub expires: Option<Time>,
    /// The earlier of the two.
    pub covers_until: Option<Time>,
}

/// What a cut brought for one stack and engine.
#[derive(Clone, Copy, Debug)]
pub struct Spent<'a> {
    /// The stack.
    pub stack: &'a str,
    /// The engine.
    pub engine_hash: &'a str,
    /// Requests above the threshold.
    pub requests_over: u64,
    /// Requests without a price.
    pub unpriced: u64,
    /// What those above cost.
    pub gross_usd: Decimal,
    /// The same less the threshold in force at the cut for each.
    pub excess_usd: Decimal,
}

/// What the service says of a waiver at a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// What the cut brought.
    Spend(WaiverSpend),
    /// Its cap is reached.
    Exhausted(WaiverExhausted),
    /// It nears its end or its cap.
    Expiring(WaiverExpiring),
    /// It reached its end.
    Expired {
        /// The waiver.
        waiver: String,
        /// Its end.
        expired: Time,
    },
}

impl Said {
    /// What an entry says of a waiver, if anything.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only four kinds of entries say something of a waiver")]
    pub fn of(event: &Event) -> Option<Self> {
        match event {
            Event::WaiverSpend(spend) => Some(Self::Spend(spend.clone())),
            Event::WaiverExhausted(exhausted) => Some(Self::Exhausted(exhausted.clone())),
            Event::WaiverExpiring(expiring) => Some(Self::Expiring(expiring.clone())),
            Event::WaiverExpired { waiver, expired } => {
                Some(Self::Expired { waiver: waiver.clone(), expired: *expired })
            }
            _ => None,
        }
    }
}

impl Waiver {
    /// The cap, where one is to be kept to.
    fn cap_usd(&self) -> Option<Decimal> {
        self.scope.as_ref().and_then(|scope| scope.cap_usd)
    }

    /// Over at `time`, unless it was before.
    pub(super) fn end(&mut self, time: Time) {
        self.ended = Some(self.ended.map_or(time, |ended| ended.min(time)));
    }

    /// What lies ahead at `now`, the last cut, at the present rate. Nothing for one that does not cover any more or yet.
    pub fn forecast(&self, now: Option<Time>) -> Option<Forecast> {
        if self.status != Status::Approved {
            return None;
        }
        let mut forecast = Forecast {
            rate_usd_per_hour: None,
            over_seconds: None,
            cap_reached: None,
            expires: self.expires,
            covers_until: self.expires,
        };
        let Some((now, begun, cap)) = now.zip(self.metered_from()).zip(self.cap_usd()).map(|((n, b), c)| (n, b, c))
        else {
            return Some(forecast);
        };
        let from = begun.max(now.plus_seconds(-RATE_SECONDS));
        let elapsed = now.micros_since(from);
        if elapsed <= 0 {
            return Some(forecast);
        }
        let recent = self.spend.recent.iter().filter(|(instant, _)| *instant > from);
        let excess = recent.fold(Decimal::ZERO, |sum, (_, excess)| sum.saturating_add(*excess));
        forecast.over_seconds = Some(elapsed / MICROS_PER_SECOND);
        let hour = Decimal::from(RATE_SECONDS * MICROS_PER_SECOND);
        forecast.rate_usd_per_hour = excess
            .checked_mul(hour)
            .and_then(|excess| excess.checked_div(Decimal::from(elapsed)))
            .map(|rate| rate.round_dp(RATE_DECIMALS).normalize());
        forecast.cap_reached = self.cap_reached(now, cap, excess, elapsed);
        forecast.covers_until = forecast.cap_reached.into_iter().chain(self.expires).min();
        Some(forecast)
    }

    /// Since when its spend is metered as it comes.
    fn metered_from(&self) -> Option<Time> {
        self.begins().into_iter().chain(self.approved).max()
    }

    fn cap_reached(&self, now: Time, cap: Decimal, excess: Decimal, elapsed: i64) -> Option<Time> {
        let left = cap - self.spend.excess_usd;
        if left <= Decimal::ZERO {
            return None;
        }
        let micros = left.checked_div(excess)?.checked_mul(Decimal::from(elapsed))?;
        let micros = i64::try_from(micros.ceil()).ok()?;
        now.micros().checked_add(micros).map(Time::from_micros)
    }
}

impl Waivers {
    /// What the cut of `instant`, which brought `spent`, says of waivers. It has its effect here at once. Where the rules do
    /// not meter, only ends are said.
    pub fn cut(&mut self, instant: Time, spent: &[Spent<'_>], metered: bool) -> Vec<Said> {
        let mut said = self.charge_past(instant);
        for spend in self.spent(instant, spent).into_values() {
            self.spend(&spend);
            let exhausted = self.by_id.get(&spend.waiver).filter(|waiver| waiver.is_spent()).map(|waiver| {
                let excess_usd = waiver.spend.excess_usd;
                WaiverExhausted { waiver: spend.waiver.clone(), instant, excess_usd }
            });
            said.push(Said::Spend(spend));
            if let Some(exhausted) = exhausted {
                self.exhaust(&exhausted.waiver, instant, None);
                said.push(Said::Exhausted(exhausted));
            }
        }
        for (waiver, expired) in self.due(instant) {
            self.expire(&waiver, expired, None);
            said.push(Said::Expired { waiver, expired });
        }
        if metered {
            for expiring in self.nearing(instant) {
                self.warn(&expiring.waiver, expiring.reason);
                said.push(Said::Expiring(expiring));
            }
        }
        said
    }

    /// What the past is charged with under retroactive waivers that were approved since the last cut.
    fn charge_past(&mut self, instant: Time) -> Vec<Said> {
        // One that was revoked meanwhile covers the past all the same.
        let is_new = |waiver: &Waiver| waiver.approved.is_some() && waiver.is_retroactive() && !waiver.past_charged;
        let new = self.by_id.iter_mut().filter(|(_, waiver)| is_new(waiver));
        let mut charged = Vec::new();
        for (id, waiver) in new {
            waiver.past_charged = true;
            let Some((scope, cap)) = waiver.scope.as_ref().and_then(|scope| scope.cap_usd.map(|cap| (scope, cap)))
            else {
                continue;
            };
            let starts = scope.starts.unwrap_or(instant);
            charged.push((
                id.clone(),
                starts,
                self.past.charge(&scope.stack, scope.engine_hash.as_deref(), starts, cap),
            ));
        }
        let mut said = Vec::new();
        for (waiver, starts, Charged { sums, stopped }) in charged {
            if sums.requests_over > 0 || sums.unpriced > 0 {
                let Sums { requests_over, unpriced, excess_usd, gross_usd } = sums;
                let retroactive_from = Some(starts);
                let waiver = waiver.clone();
                let spend =
                    WaiverSpend { waiver, instant, requests_over, unpriced, excess_usd, gross_usd, retroactive_from };
                self.spend(&spend);
                said.push(Said::Spend(spend));
            }
            let is_spent = self.by_id.get(&waiver).is_some_and(Waiver::is_spent);
            if let Some(since) = stopped.or_else(|| is_spent.then_some(instant)) {
                self.exhaust(&waiver, since, None);
                said.push(Said::Exhausted(WaiverExhausted { waiver, instant: since, excess_usd: sums.excess_usd }));
            }
        }
        said
    }

    /// What the cut brought under each waiver that covers at its instant. What none covers is kept for retroactive cover.
    fn spent(&mut self, instant: Time, spent: &[Spent<'_>]) -> BTreeMap<String, WaiverSpend> {
        let mut by_waiver: BTreeMap<String, WaiverSpend> = BTreeMap::new();
        for spent in spent.iter().filter(|spent| spent.requests_over > 0 || spent.unpriced > 0) {
            let covering = self.covers(spent.stack, spent.engine_hash, Rule::CostPerRequest, instant);
            let Some(waiver) = covering.map(str::to_owned) else {
                self.past.keep(instant, spent);
                continue;
            };
            let sum = by_waiver.entry(waiver.clone()).or_insert_with(|| WaiverSpend {
                waiver,
                instant,
                requests_over: 0,
                unpriced: 0,
                excess_usd: Decimal::ZERO,
                gross_usd: Decimal::ZERO,
                retroactive_from: None,
            });
            sum.requests_over += spent.requests_over;
            sum.unpriced += spent.unpriced;
            sum.excess_usd = sum.excess_usd.saturating_add(spent.excess_usd);
            sum.gross_usd = sum.gross_usd.saturating_add(spent.gross_usd);
        }
        self.past.trim(instant);
        for sum in by_waiver.values_mut() {
            (sum.excess_usd, sum.gross_usd) = (sum.excess_usd.normalize(), sum.gross_usd.normalize());
        }
        by_waiver
    }

    /// Approved waivers that come within reach of their end or cap, and were not warned of.
    fn nearing(&self, instant: Time) -> Vec<WaiverExpiring> {
        let mut found = Vec::new();
        for (id, waiver) in self.by_id.iter().filter(|(_, waiver)| waiver.status == Status::Approved) {
            let Some(expires) = waiver.expires else { continue };
            for reason in [Nearing::Time, Nearing::Cap] {
                let is_near = match reason {
                    Nearing::Time => expires <= instant.plus_seconds(NEARING_SECONDS),
                    Nearing::Cap => waiver.is_nearly_spent(),
                };
                if is_near && !waiver.warned.contains(&reason) {
                    let excess_usd = waiver.spend.excess_usd;
                    found.push(WaiverExpiring { waiver: id.clone(), instant, reason, expires, excess_usd });
                }
            }
        }
        found
    }

    /// Folds what a cut brought. Its entry counts once by its id, which is about waiver and cut.
    pub fn spend(&mut self, spend: &WaiverSpend) {
        let Some(waiver) = self.by_id.get_mut(&spend.waiver) else { return };
        let sum = &mut waiver.spend;
        sum.requests_over = sum.requests_over.saturating_add(spend.requests_over);
        sum.unpriced = sum.unpriced.saturating_add(spend.unpriced);
        sum.excess_usd = sum.excess_usd.saturating_add(spend.excess_usd).normalize();
        sum.gross_usd = sum.gross_usd.saturating_add(spend.gross_usd).normalize();
        if spend.retroactive_from.is_some() {
            sum.retroactive_excess_usd = sum.retroactive_excess_usd.saturating_add(spend.excess_usd).normalize();
            return;
        }
        sum.through = sum.through.max(Some(spend.instant));
        sum.recent.push_back((spend.instant, spend.excess_usd));
        let oldest = spend.instant.plus_seconds(-RATE_SECONDS);
        while sum.recent.pop_front_if(|(instant, _)| *instant <= oldest).is_some() {}
    }

    /// Folds that the cap was reached. One that was revoked in the meantime stays so, but covered nothing since the cut.
    pub fn exhaust(&mut self, waiver: &str, instant: Time, position: Option<u64>) {
        self.over(waiver, instant, Status::Exhausted, position);
    }

    /// Folds that a warning was given.
    pub fn warn(&mut self, waiver: &str, reason: Nearing) {
        if let Some(waiver) = self.by_id.get_mut(waiver) {
            waiver.warned.insert(reason);
        }
    }
}

impl Waiver {
    fn is_spent(&self) -> bool {
        self.cap_usd().is_some_and(|cap| self.spend.excess_usd >= cap)
    }

    /// Compared without dividing, so exactly.
    fn is_nearly_spent(&self) -> bool {
        let reached = |cap: Decimal| {
            let (spent, near) =
                (self.spend.excess_usd.checked_mul(Decimal::TEN), cap.checked_mul(Decimal::from(NEARING_CAP_TENTHS)));
            spent.is_none_or(|spent| near.is_some_and(|near| spent >= near))
        };
        self.cap_usd().is_some_and(reached)
    }
}

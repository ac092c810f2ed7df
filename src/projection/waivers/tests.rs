//! Waivers as a state machine: random commands at random times, cuts with random spend, entries that come late.
//!
//! Two folds run as in a service: `rules` decides at cuts, `ledger` sees commands and what is said, the latter with a delay.
//! The model beside them is written from the rules in words, in whole cents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;
use crate::domain::command::WaiverDecision;

const PEOPLE: [&str; 3] = ["ann", "bob", "cai"];
const ENGINES: [&str; 2] = ["a", "b"];
const WEEK: i64 = 7 * 86_400;

#[derive(Clone, Debug)]
enum Step {
    /// Who, for which engine (2: any), cap in cents, lasting seconds; starting so many full ten minutes back, or not said;
    /// and whether that is meant to cover the past.
    Ask {
        who: usize,
        engine: usize,
        cap: i64,
        seconds: i64,
        starts: Option<i64>,
        retroactive: bool,
    },
    /// An admin says who may approve up to how many cents.
    Limit {
        who: usize,
        cents: i64,
    },
    /// Who, which one, and whether over the right scope.
    Approve {
        who: usize,
        waiver: usize,
        right: bool,
    },
    Refuse {
        waiver: usize,
    },
    Revoke {
        waiver: usize,
    },
    /// Seconds to the next cut, and for each engine what its requests above the limit cost beyond it, in cents.
    Cut {
        seconds: i64,
        excess: [Vec<i64>; 2],
        unpriced: u64,
    },
    /// So many entries that were said reach the ledger.
    Arrive {
        entries: usize,
    },
    /// The process ends; a snapshot is read again, or thrown away.
    Restart {
        dropped: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let costs = || prop::collection::vec(1..60_i64, 0..3);
    prop_oneof![
        3 => (0..3_usize, 0..3_usize, 1..200_i64, prop_oneof![10..300_i64, WEEK - 60..WEEK + 200],
              prop::option::of(0..4_i64), any::<bool>())
            .prop_map(|(who, engine, cap, seconds, starts, retroactive)| {
                Step::Ask { who, engine, cap, seconds, starts, retroactive }
            }),
        1 => (0..3_usize, 0..250_i64).prop_map(|(who, cents)| Step::Limit { who, cents }),
        3 => (0..3_usize, 0..6_usize, prop::bool::weighted(0.85))
            .prop_map(|(who, waiver, right)| Step::Approve { who, waiver, right }),
        1 => (0..6_usize).prop_map(|waiver| Step::Refuse { waiver }),
        1 => (0..6_usize).prop_map(|waiver| Step::Revoke { waiver }),
        8 => (prop_oneof![6 => 1..4_i64, 1 => 20..90_i64], costs(), costs(), 0..2_u64)
            .prop_map(|(tens, a, b, unpriced)| Step::Cut { seconds: tens * 10, excess: [a, b], unpriced }),
        3 => (0..4_usize).prop_map(|entries| Step::Arrive { entries }),
        1 => any::<bool>().prop_map(|dropped| Step::Restart { dropped }),
    ]
}

/// What the rules say in words of one waiver.
#[derive(Debug)]
struct Expected {
    asked_by: &'static str,
    engine: Option<&'static str>,
    cap: i64,
    expires: i64,
    /// Since when it is meant to cover the past.
    retroactive: Option<i64>,
    charged: bool,
    /// By whom, when, and up to what they might.
    approved: Option<(&'static str, i64, i64)>,
    /// Refused, revoked.
    ended: Option<i64>,
    spent: i64,
    /// As the service said it.
    told: Decimal,
    /// The cut that brought it to the cap.
    exhausted: Option<i64>,
}

impl Expected {
    fn covers(&self, engine: &str, at: i64) -> bool {
        self.engine.is_none_or(|own| own == engine)
            && self.approved.is_some_and(|(by, since, limit)| {
                by != self.asked_by && self.cap <= limit && self.retroactive.unwrap_or(since) <= at
            })
            && at < self.expires
            && self.ended.is_none_or(|ended| at < ended)
            && self.exhausted.is_none_or(|exhausted| at < exhausted)
    }
}

/// What the rules followed, in order: to be followed again.
#[derive(Clone)]
enum Followed {
    Command(u64, i64, &'static str, Box<Request>),
    Cut(i64, [Vec<i64>; 2], u64),
}

#[derive(Default)]
struct World {
    now: i64,
    position: u64,
    rules: Waivers,
    ledger: Waivers,
    followed: Vec<Followed>,
    said: Vec<Said>,
    unsaid: VecDeque<Said>,
    expected: BTreeMap<String, Expected>,
    limits: [Option<i64>; 3],
    /// What was spent without cover: instant, engine, cents of excess of each request.
    uncovered: Vec<(i64, &'static str, Vec<i64>)>,
    order: Vec<String>,
}

fn at(seconds: i64) -> Time {
    Time::from_seconds(seconds)
}

fn follow(rules: &mut Waivers, followed: &Followed) -> Vec<Said> {
    match followed {
        Followed::Command(position, time, who, request) => {
            rules.apply(*position, at(*time), who, request);
            Vec::new()
        }
        Followed::Cut(instant, excess, unpriced) => {
            let spent = |(engine, excess): (&'static str, &Vec<i64>)| Spent {
                stack: "s",
                engine_hash: engine,
                requests_over: excess.len() as u64,
                unpriced: *unpriced,
                gross_usd: Decimal::new(excess.iter().map(|cents| cents + 10).sum(), 2),
                excess_usd: Decimal::new(excess.iter().sum(), 2),
            };
            let spent: Vec<_> = ENGINES.into_iter().zip(excess).map(spent).collect();
            rules.cut(at(*instant), &spent, true)
        }
    }
}

fn identity(said: &Said) -> (String, String) {
    match said {
        Said::Spend(spend) => (spend.waiver.clone(), format!("spend {} {:?}", spend.instant, spend.retroactive_from)),
        Said::Exhausted(exhausted) => (exhausted.waiver.clone(), "exhausted".into()),
        Said::Expiring(expiring) => (expiring.waiver.clone(), format!("{:?}", expiring.reason)),
        Said::Expired { waiver, .. } => (waiver.clone(), "expired".into()),
    }
}

impl World {
    fn waiver(&self, index: usize) -> String {
        self.order.get(index).cloned().unwrap_or_else(|| "waiver-none".into())
    }

    /// Whether the ledger admits it; if so, it has its effect.
    fn command(&mut self, who: &'static str, request: Request) -> bool {
        let limit = PEOPLE.iter().position(|name| *name == who).and_then(|index| self.limits[index]);
        let limit = limit.map_or(Limit::Unstated, |cents| Limit::Usd(Decimal::new(cents, 2), 0));
        if self.ledger.decide(Decider { principal: who, limit }, at(self.now), &request).is_err() {
            return false;
        }
        self.ledger.apply(self.position, at(self.now), who, &request);
        let followed = Followed::Command(self.position, self.now, who, Box::new(request));
        follow(&mut self.rules, &followed);
        self.followed.push(followed);
        true
    }

    fn arrive(&mut self, entries: usize) {
        for said in self.unsaid.drain(..entries.min(self.unsaid.len())) {
            match said {
                Said::Spend(spend) => self.ledger.spend(&spend),
                Said::Exhausted(exhausted) => self.ledger.exhaust(&exhausted.waiver, exhausted.instant, None),
                Said::Expiring(expiring) => self.ledger.warn(&expiring.waiver, expiring.reason),
                Said::Expired { waiver, expired } => self.ledger.expire(&waiver, expired, None),
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.position += 1;
        match step {
            Step::Ask { who, engine, cap, seconds, starts, retroactive } => {
                let starts = starts.map(|steps| self.now.div_euclid(600) * 600 - steps * 600);
                self.ask((PEOPLE[*who], *engine, *cap), (starts, self.now + seconds), *retroactive)?;
            }
            Step::Limit { who, cents } => self.limits[*who] = Some(*cents),
            Step::Approve { who, waiver, right } => self.approve(PEOPLE[*who], *waiver, *right)?,
            Step::Refuse { waiver } | Step::Revoke { waiver } => self.end(step, *waiver)?,
            Step::Cut { seconds, excess, unpriced } => self.cut(self.now + seconds, excess, *unpriced)?,
            Step::Arrive { entries } => self.arrive(*entries),
            Step::Restart { dropped } => self.restart(*dropped)?,
        }
        self.check()
    }

    fn ask(
        &mut self,
        (who, engine, cap): (&'static str, usize, i64),
        (starts, expires): (Option<i64>, i64),
        retroactive: bool,
    ) -> Result<(), TestCaseError> {
        let engine = ENGINES.get(engine).copied();
        let scope = WaiverScope {
            engine_hash: engine.map(str::to_owned),
            cap_usd: Some(Decimal::new(cap, 2)),
            starts: starts.map(at),
            retroactive,
            ..WaiverScope::new(Rule::CostPerRequest, "s", "j", "m", at(expires))
        };
        let is_fit = !retroactive || starts.is_some_and(|starts| starts < self.now);
        prop_assert_eq!(self.command(who, Request::WaiverRequest(scope)), is_fit);
        if !is_fit {
            return Ok(());
        }
        let expected = Expected {
            asked_by: who,
            engine,
            cap,
            expires,
            retroactive: starts.filter(|_| retroactive),
            charged: false,
            approved: None,
            ended: None,
            spent: 0,
            told: Decimal::ZERO,
            exhausted: None,
        };
        let id = waiver_id(self.position);
        self.expected.insert(id.clone(), expected);
        self.order.push(id);
        Ok(())
    }

    fn approve(&mut self, who: &'static str, waiver: usize, right: bool) -> Result<(), TestCaseError> {
        let waiver = self.waiver(waiver);
        let scope = self.ledger.get(&waiver).and_then(|waiver| waiver.scope.clone());
        let scope_sha256 = scope.filter(|_| right).map(|scope| scope.sha256());
        let request = Request::WaiverApprove(WaiverDecision { waiver: waiver.clone(), scope_sha256, reason: None });
        let admitted = self.command(who, request);
        let now = self.now;
        let limit = PEOPLE.iter().position(|name| *name == who).and_then(|index| self.limits[index]).unwrap_or(0);
        let may = self.expected.get(&waiver).is_some_and(|expected| {
            right
                && who != expected.asked_by
                && expected.cap <= limit
                && now < expected.expires
                && expected.approved.is_none()
                && expected.ended.is_none()
        });
        prop_assert_eq!(admitted, may, "approval of {} by {}", waiver, who);
        if let Some(expected) = self.expected.get_mut(&waiver).filter(|_| admitted) {
            expected.approved = Some((who, now, limit));
        }
        Ok(())
    }

    fn end(&mut self, step: &Step, waiver: usize) -> Result<(), TestCaseError> {
        let decision = WaiverDecision { waiver: self.waiver(waiver), scope_sha256: None, reason: None };
        let waiver = decision.waiver.clone();
        let is_refusal = matches!(step, Step::Refuse { .. });
        let request = if is_refusal { Request::WaiverRefuse(decision) } else { Request::WaiverRevoke(decision) };
        let now = self.now;
        if self.command("ann", request) {
            let expected = self.expected.get_mut(&waiver);
            prop_assert!(expected.as_ref().is_some_and(|expected| expected.approved.is_none() == is_refusal));
            if let Some(expected) = expected {
                expected.ended = Some(now);
            }
        }
        Ok(())
    }

    fn cut(&mut self, instant: i64, excess: &[Vec<i64>; 2], unpriced: u64) -> Result<(), TestCaseError> {
        self.now = instant;
        self.charge(instant);
        for (engine, excess) in ENGINES.into_iter().zip(excess) {
            let covering = self.expected.iter_mut().find(|(_, expected)| expected.covers(engine, instant));
            match covering {
                Some((_, expected)) => expected.spent += excess.iter().sum::<i64>(),
                None => self.uncovered.push((instant, engine, excess.clone())),
            }
        }
        for expected in self.expected.values_mut() {
            if expected.exhausted.is_none() && expected.spent >= expected.cap {
                expected.exhausted = Some(instant);
            }
        }
        let followed = Followed::Cut(instant, excess.clone(), unpriced);
        let said = follow(&mut self.rules, &followed);
        self.followed.push(followed);
        for said in &said {
            if let Said::Spend(spend) = said {
                let expected = self.expected.get_mut(&spend.waiver).unwrap();
                let (before, cap) = (expected.told, Decimal::new(expected.cap, 2));
                expected.told += spend.excess_usd;
                if spend.retroactive_from.is_some() {
                    prop_assert_eq!(spend.retroactive_from, expected.retroactive.map(at), "only if it was asked for");
                    prop_assert!(
                        expected.told <= cap,
                        "the past never goes beyond the cap: {:?} {:?}",
                        expected,
                        spend
                    );
                } else {
                    prop_assert!(before < cap, "{:?} was spent before {:?}", expected, spend);
                    prop_assert!(instant < expected.expires, "nothing is spent after the end");
                }
            }
        }
        self.unsaid.extend(said.iter().cloned());
        self.said.extend(said);
        Ok(())
    }

    /// Retroactive cover is charged with the past that nothing covered, ten minutes by ten minutes, as far as the cap goes.
    fn charge(&mut self, instant: i64) {
        for expected in self.expected.values_mut() {
            let (Some(starts), Some(_), false) = (expected.retroactive, expected.approved, expected.charged) else {
                continue;
            };
            expected.charged = true;
            let own = expected.engine;
            let meant =
                |(at, engine, _): &(i64, &'static str, Vec<i64>)| *at >= starts && own.is_none_or(|own| own == *engine);
            let mut steps: BTreeMap<i64, i64> = BTreeMap::new();
            for past in self.uncovered.iter().filter(|past| meant(past)) {
                *steps.entry(past.0.div_euclid(600) * 600).or_default() += past.2.iter().sum::<i64>();
            }
            let (mut spent, mut stopped) = (expected.spent, None);
            for (step, cents) in steps {
                if stopped.is_none() && spent + cents > expected.cap {
                    stopped = Some(step);
                }
                spent += if stopped.is_none() { cents } else { 0 };
            }
            let is_charged = |past: &(i64, &'static str, Vec<i64>)| meant(past) && stopped.is_none_or(|at| past.0 < at);
            self.uncovered.retain(|past| !is_charged(past));
            expected.spent = spent;
            expected.exhausted = stopped.or((spent >= expected.cap).then_some(instant));
        }
    }

    /// From a snapshot the state is the same; from nothing the same is derived, and in the same order.
    fn restart(&mut self, dropped: bool) -> Result<(), TestCaseError> {
        let mut again: Waivers = serde_json::from_str(&serde_json::to_string(&self.rules).unwrap()).unwrap();
        if dropped {
            again = Waivers::default();
            let said: Vec<Said> = self.followed.iter().flat_map(|followed| follow(&mut again, followed)).collect();
            prop_assert_eq!(&said, &self.said);
        }
        prop_assert_eq!(&again, &self.rules);
        self.rules = again;
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (engine, later) in
            ENGINES.into_iter().flat_map(|engine| [-2_000, -650, -60, 0, 1, 25, 400].map(|later| (engine, later)))
        {
            let instant = self.now + later;
            let covered = self.rules.covers("s", engine, Rule::CostPerRequest, at(instant));
            let expected = self.expected.iter().find(|(_, expected)| expected.covers(engine, instant));
            prop_assert_eq!(covered, expected.map(|(id, _)| id.as_str()), "{} at {}", engine, instant);
        }
        prop_assert_eq!(self.rules.covers("other", "a", Rule::CostPerRequest, at(self.now)), None);
        prop_assert_eq!(self.rules.covers("s", "a", Rule::LatencyP95, at(self.now)), None);
        let identities: BTreeSet<_> = self.said.iter().map(identity).collect();
        prop_assert_eq!(identities.len(), self.said.len(), "said twice: {:?}", self.said);
        Ok(())
    }

    /// Once all entries are there, the ledger alone tells the same spend and cover.
    fn finish(mut self) -> Result<(), TestCaseError> {
        self.arrive(usize::MAX);
        self.restart(true)?;
        for (id, expected) in &self.expected {
            let (ruled, told) = (self.rules.get(id).unwrap(), self.ledger.get(id).unwrap());
            prop_assert_eq!(&ruled.spend, &told.spend);
            prop_assert_eq!(&ruled.warned, &told.warned);
            prop_assert_eq!(ruled.ended, told.ended);
            prop_assert_eq!(told.spend.excess_usd, Decimal::new(expected.spent, 2));
            let gross = told.spend.excess_usd + Decimal::new(10, 2) * Decimal::from(told.spend.requests_over);
            prop_assert_eq!(told.spend.gross_usd, gross);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_covered_but_by_a_valid_approval_within_cap_and_time(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World { now: 10_000, limits: [Some(120), Some(60), None], ..World::default() };
        for step in &steps {
            world.step(step)?;
        }
        world.finish()?;
    }
}

#[test]
fn warnings_are_given_once_a_week_ahead_and_at_four_fifths() {
    let mut world = World { now: 0, limits: [None, Some(100), None], ..World::default() };
    world.position = 1;
    world.ask(("ann", 2, 100), (None, WEEK + 100), false).unwrap();
    world.approve("bob", 0, true).unwrap();
    let mut warned = Vec::new();
    for (instant, cents) in [(90, 79), (100, 0), (110, 1), (120, 1)] {
        let before = world.said.len();
        world.cut(instant, &[vec![cents; usize::from(cents > 0)], Vec::new()], 0).unwrap();
        warned.extend(world.said[before..].iter().filter_map(|said| match said {
            Said::Expiring(expiring) => Some((instant, expiring.reason, expiring.excess_usd.to_string())),
            Said::Spend(_) | Said::Exhausted(_) | Said::Expired { .. } => None,
        }));
    }
    assert_eq!(warned, [(100, Nearing::Time, "0.79".into()), (110, Nearing::Cap, "0.8".into())]);
    // 0.81 USD in the 120 s since the approval: the 0.19 left last 28.148148 s more.
    let forecast = world.rules.get("waiver-1").unwrap().forecast(Some(at(120))).unwrap();
    assert_eq!(forecast.rate_usd_per_hour, Some("24.3".parse().unwrap()));
    assert_eq!(forecast.covers_until, forecast.cap_reached);
    assert_eq!(forecast.cap_reached.unwrap(), at(120).plus_seconds(28).max(Time::from_micros(148_148_149)));
}

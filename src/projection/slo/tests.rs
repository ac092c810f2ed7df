//! What the oracle's traces do not reach: missing partitions, changed policies, refusals, and bounds of the state.

mod episodes;
mod rollback;

use super::*;
use crate::domain::command::{Command, WaiverDecision, WaiverScope, waiver_id};
use crate::domain::cut::{Cut, CutLedger};
use crate::domain::event::EngineRef;
use crate::domain::metric::Sample;
use crate::domain::policy::{Amount, Rule, RuleOverride};
use crate::domain::principal::Role;
use rust_decimal::Decimal;

/// Two ledgers in memory, and the clock of the test: seconds.
struct Bench {
    slo: Slo,
    ledgers: [Vec<Owned>; 2],
    now: i64,
    position: u64,
    missing: Vec<u32>,
    unreadable: bool,
}

#[derive(Clone)]
struct Owned {
    engine: &'static str,
    duration_us: u64,
    cost_atto_usd: Option<u128>,
}

impl Records for &Bench {
    fn for_each(
        &mut self,
        ledger: u32,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), RecordsError> {
        if self.unreadable {
            return Err("the disk is gone".into());
        }
        let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
        for record in &self.ledgers[ledger as usize][range] {
            visit(Observed::Request(record.sample()));
        }
        Ok(())
    }
}

impl Owned {
    fn sample(&self) -> Sample<'_> {
        Sample {
            engine_hash: self.engine,
            model: "model",
            duration_us: self.duration_us,
            queue_delay_ns: None,
            tokens_in: None,
            tokens_out: None,
            kv_hits: None,
            kv_misses: None,
            spec_attempts: None,
            spec_accepts: None,
            cost_atto_usd: self.cost_atto_usd,
            token_budget_overrun: None,
            failed: false,
        }
    }
}

const SLOW: u64 = 900_000;
const FAST: u64 = 100_000;

impl Bench {
    /// `a` is current and warm on stack `s` before the first cut.
    fn new() -> Self {
        let mut bench = Self {
            slo: Slo::default(),
            ledgers: [Vec::new(), Vec::new()],
            now: 0,
            position: 0,
            missing: Vec::new(),
            unreadable: false,
        };
        bench.publish("a");
        bench
    }

    fn observe(&mut self, event: &Event) {
        self.slo.observe(self.position, Time::from_seconds(self.now), Some("s"), event);
        self.position += 1;
    }

    fn publish(&mut self, engine: &str) {
        let engine = EngineRef { engine_hash: engine.to_owned(), version: None };
        self.observe(&Event::EnginePublished { engine: engine.clone(), manifest: None, waivers: Vec::new() });
        self.observe(&Event::WarmupCompleted { engine, rehearsal: false });
    }

    fn revise(&mut self, change: impl FnOnce(&mut Policy)) {
        let mut policy = self.slo.policy.clone();
        change(&mut policy);
        policy.validate().unwrap();
        self.observe(&Event::PolicyRevised(Box::new(policy)));
    }

    /// A waiver of `cost_per_request` on the stack, approved now.
    fn approved_waiver(&mut self, cap_usd: &str, expires: i64) -> String {
        let scope = WaiverScope {
            cap_usd: Some(cap_usd.parse().unwrap()),
            ..WaiverScope::new(Rule::CostPerRequest, "s", "j", "m", Time::from_seconds(expires))
        };
        let waiver = waiver_id(self.position);
        let decision = WaiverDecision { waiver: waiver.clone(), scope_sha256: Some(scope.sha256()), reason: None };
        for request in [Request::WaiverRequest(scope), Request::WaiverApprove(decision)] {
            self.observe(&Event::Command(Box::new(Command {
                command_id: String::new(),
                principal: "p".into(),
                role: Role::Finance,
                not_after: Time::default(),
                governance: ledger::Hash([0; 32]),
                authenticated_by: "token".into(),
                request,
            })));
        }
        waiver
    }

    fn record(&mut self, engine: &'static str, duration_us: u64, count: usize) {
        let record = Owned { engine, duration_us, cost_atto_usd: None };
        for index in 0..count {
            self.ledgers[index % 2].push(record.clone());
        }
    }

    /// The next cut, ten seconds on.
    fn cut(&mut self) -> Vec<Finding> {
        self.now += 10;
        self.try_cut().unwrap()
    }

    fn try_cut(&mut self) -> Result<Vec<Finding>, SloError> {
        let ledgers = (0..).zip(&self.ledgers).map(|(ledger, records)| CutLedger {
            ledger,
            size: records.len() as u64,
            root: ledger::Hash([7; 32]),
        });
        let cut =
            Cut { instant: Time::from_seconds(self.now), ledgers: ledgers.collect(), missing: self.missing.clone() };
        let mut slo = std::mem::take(&mut self.slo);
        let found = slo.cut(&cut, &mut &*self);
        self.slo = slo;
        found
    }

    /// `cuts` cuts, each with `count` records; what was found, with the second it was found at.
    fn run(&mut self, cuts: usize, engine: &'static str, duration_us: u64, count: usize) -> Vec<(i64, Finding)> {
        let mut found = Vec::new();
        for _ in 0..cuts {
            self.record(engine, duration_us, count);
            let findings = self.cut();
            found.extend(findings.into_iter().map(|finding| (self.now, finding)));
        }
        found
    }

    fn row(&self, engine: &str, rule: Rule) -> RuleRow {
        self.slo.slo_rows("s").into_iter().find(|row| row.engine_hash == engine && row.rule == rule).unwrap()
    }
}

/// Findings in short: second, rule, `fires` or how it ended.
fn said(found: &[(i64, Finding)]) -> Vec<(i64, &str, String)> {
    let short = |(at, finding): &(i64, Finding)| match finding {
        Finding::Firing(draft) => (*at, draft.alert.rule.as_str(), "fires".to_owned()),
        Finding::Resolved(draft) => {
            (*at, draft.alert.rule.as_str(), draft.alert.reason.clone().unwrap_or_else(|| "recovered".to_owned()))
        }
        Finding::Proven(proven) => (*at, "proven", proven.stint.to_string()),
        Finding::Waiver(said) => (*at, "waiver", format!("{said:?}")),
        Finding::Impact(impact) => (*at, "impact", impact.requests().to_string()),
    };
    found.iter().map(short).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "compared with optional times")]
fn at(seconds: i64) -> Option<Time> {
    Some(Time::from_seconds(seconds))
}

#[test]
fn a_breach_fires_after_five_minutes_and_resolves_after_one() {
    let mut bench = Bench::new();
    let found = bench.run(33, "a", SLOW, 20);
    assert_eq!(said(&found), [(310, "latency_p95", "fires".to_owned())]);
    let Finding::Firing(draft) = &found[0].1 else { panic!("fires") };
    let alert = &draft.alert;
    assert_eq!((Some(alert.pending_since), alert.value.as_str(), alert.threshold.as_str()), (at(10), "900", "800"));
    assert_eq!((alert.samples, alert.breaching), (120, 120));
    // The window began at the cut of 250 s: 25 cuts of ten records in each ledger.
    let evidence: Vec<_> =
        alert.evidence.iter().map(|part| (part.ledger.as_str(), part.from, part.to, part.size)).collect();
    assert_eq!(evidence, [("metrics-0", 250, 310, 310), ("metrics-1", 250, 310, 310)]);
    // The window is clear of slow records six cuts later, at 390, and has been for a minute at 450.
    let found = bench.run(20, "a", FAST, 20);
    assert_eq!(said(&found), [(450, "latency_p95", "recovered".to_owned())]);
}

#[test]
fn evidence_is_enough_to_repeat_the_figures() {
    let mut bench = Bench::new();
    let found = bench.run(31, "a", SLOW, 21);
    let [(_, Finding::Firing(draft))] = found.as_slice() else { panic!("{found:?}") };
    let samples = draft.alert.evidence.iter().zip(&bench.ledgers).flat_map(|(part, ledger)| {
        let range = usize::try_from(part.from).unwrap()..usize::try_from(part.to).unwrap();
        ledger[range].iter().map(Owned::sample)
    });
    let measured = figures(Rule::LatencyP95, &bench.slo.policy_for("s"), &samples);
    assert_eq!((Some(measured.figures), measured.value.as_deref()), (draft.figures, Some(draft.alert.value.as_str())));
}

#[test]
fn a_missing_partition_resolves_nothing() {
    let mut bench = Bench::new();
    bench.run(31, "a", SLOW, 20);
    bench.run(10, "a", FAST, 20);
    bench.missing = vec![1];
    assert_eq!(said(&bench.run(10, "a", FAST, 20)), []);
    assert_eq!(bench.slo.evaluated_through(), at(410));
    assert!(bench.row("a", Rule::Silent).no_verdict);
    bench.missing.clear();
    assert_eq!(said(&bench.run(1, "a", FAST, 20)), [(520, "latency_p95", "recovered".to_owned())]);
    assert_eq!(bench.slo.evaluated_through(), at(520));
}

#[test]
fn few_samples_widen_the_window_or_leave_no_verdict() {
    let mut bench = Bench::new();
    bench.run(22, "a", FAST, 1);
    assert_eq!(bench.row("a", Rule::LatencyP95).window_s, Some(240), "19 records in three minutes, 22 in four");
    assert_eq!(bench.row("a", Rule::LatencyP95).state, RowState::Met);
    bench.cut();
    let row = bench.row("a", Rule::LatencyP95);
    assert_eq!((row.state, row.no_verdict), (RowState::NoVerdict, true), "a cut without records judges nothing");
    let mut bench = Bench::new();
    for _ in 0..19 {
        bench.run(1, "a", SLOW, 1);
        bench.run(4, "a", SLOW, 0);
    }
    assert_eq!(bench.row("a", Rule::LatencyP95).last_verdict, None, "19 records in a quarter of an hour");
}

#[test]
fn pending_is_forgotten_after_five_minutes_without_a_verdict() {
    let mut bench = Bench::new();
    bench.run(20, "a", SLOW, 20);
    bench.run(29, "a", SLOW, 0);
    assert_eq!(bench.row("a", Rule::LatencyP95).state, RowState::Pending, "it stands as it was");
    bench.run(1, "a", SLOW, 20);
    assert_eq!(bench.row("a", Rule::LatencyP95).pending_since, at(500), "300 seconds after the verdict of 200");
    assert_eq!(said(&bench.run(30, "a", SLOW, 20)), [(800, "latency_p95", "fires".to_owned())]);
    // Four minutes and fifty seconds are not five minutes.
    let mut bench = Bench::new();
    bench.run(20, "a", SLOW, 20);
    bench.run(28, "a", SLOW, 0);
    assert_eq!(said(&bench.run(1, "a", SLOW, 20)), [(490, "latency_p95", "fires".to_owned())]);
}

#[test]
fn a_firing_alert_outlives_silence_while_its_engine_is_current() {
    let mut bench = Bench::new();
    bench.run(31, "a", SLOW, 20);
    assert_eq!(said(&bench.run(100, "a", SLOW, 0)), [(910, "silent", "fires".to_owned())]);
    bench.publish("b");
    let found = bench.run(8, "b", FAST, 20);
    let (after_rollout, silence_over) =
        ((1320, "latency_p95", "no_longer_serving".to_owned()), (1320, "silent", "recovered".to_owned()));
    assert!(said(&found).contains(&after_rollout), "{:?}", said(&found));
    assert!(!said(&found).contains(&silence_over), "cleared at 1320, it resolves a minute later");
    assert!(said(&found).contains(&(1380, "silent", "recovered".to_owned())));
}

#[test]
fn an_engine_that_becomes_current_again_begins_afresh() {
    let mut bench = Bench::new();
    bench.run(20, "a", SLOW, 20);
    bench.publish("b");
    bench.publish("a");
    bench.run(1, "a", SLOW, 19);
    let row = bench.row("a", Rule::LatencyP95);
    assert_eq!(
        (row.pending_since, row.state),
        (None, RowState::NoVerdict),
        "19 records since, and no earlier one counts"
    );
    bench.run(1, "a", SLOW, 1);
    assert_eq!(bench.row("a", Rule::LatencyP95).pending_since, at(220));
    assert_eq!(bench.row("a", Rule::LatencyP95).figures, Some(Figures::Percentile { samples: 20, below: 0 }));
}

#[test]
fn a_changed_policy_judges_the_whole_window() {
    let threshold = |policy: &mut Policy| {
        let own = RuleOverride { threshold: Some(Amount(Decimal::new(50, 0))), ..RuleOverride::default() };
        policy.rules.insert(Rule::LatencyP95, own);
    };
    let mut bench = Bench::new();
    bench.run(100, "a", FAST, 1);
    bench.revise(threshold);
    bench.run(1, "a", FAST, 1);
    let row = bench.row("a", Rule::LatencyP95);
    assert_eq!((row.pending_since, row.window_s), (at(1010), Some(240)));
    assert_eq!(
        row.figures,
        Some(Figures::Percentile { samples: 24, below: 0 }),
        "older cuts are counted by the new threshold"
    );
    // From there on the state is that of a fold which had the policy from the beginning, but for when it was pending.
    let mut from_start = Bench::new();
    from_start.revise(threshold);
    from_start.run(101, "a", FAST, 1);
    assert_eq!(bench.slo.interval_totals("s"), from_start.slo.interval_totals("s"));
    assert_eq!(row.figures, from_start.row("a", Rule::LatencyP95).figures);
}

#[test]
fn a_rule_switched_off_ends_its_alert() {
    let mut bench = Bench::new();
    bench.run(31, "a", SLOW, 20);
    bench.revise(|policy| {
        policy.rules.insert(Rule::LatencyP95, RuleOverride { enabled: Some(false), ..RuleOverride::default() });
    });
    assert_eq!(said(&bench.run(5, "a", SLOW, 20)), [(320, "latency_p95", "rule_disabled".to_owned())]);
    assert_eq!(bench.row("a", Rule::LatencyP95).state, RowState::Disabled);
}

#[test]
fn the_ninetieth_verdict_proves_an_engine_once_a_stint() {
    let mut bench = Bench::new();
    assert_eq!(said(&bench.run(200, "a", FAST, 20)), [(900, "proven", "0".to_owned())]);
    bench.publish("b");
    bench.publish("a");
    assert_eq!(said(&bench.run(95, "a", FAST, 20)), [(2900, "proven", "4".to_owned())]);
}

#[test]
fn an_unknown_engine_counts_for_a_stack_named_after_its_model() {
    let mut bench = Bench::new();
    let found = bench.run(14, "nobodys", FAST, 2);
    let [(130, Finding::Firing(draft))] = found.as_slice() else { panic!("{:?}", said(&found)) };
    assert_eq!((draft.alert.rule, draft.alert.stack.as_str()), (Rule::UnapprovedEngine, "model"));
    assert!(bench.slo.slo_rows("s").iter().all(|row| row.engine_hash == "a"));
}

#[test]
fn the_state_is_bounded() {
    let size = |slo: &Slo| serde_json::to_string(slo).unwrap().len();
    let mut bench = Bench::new();
    bench.run(100, "a", FAST, 2);
    let small = size(&bench.slo);
    bench.run(200, "a", FAST, 200);
    assert!(size(&bench.slo) < small * 5 / 4, "a hundred times the records: {} for {small}", size(&bench.slo));
    bench.run(20, "nobodys", FAST, 20);
    assert_eq!(bench.slo.stack_names().count(), 2);
    bench.run(120, "a", FAST, 1);
    assert_eq!(bench.slo.stack_names().collect::<Vec<_>>(), ["s"], "engines that are long gone are dropped");
}

#[test]
fn spend_is_told_cut_by_cut() {
    let mut bench = Bench::new();
    let cost = |usd_cents: u128| Some(usd_cents * 10_u128.pow(16));
    bench.ledgers[0].push(Owned { engine: "a", duration_us: FAST, cost_atto_usd: cost(10) });
    bench.ledgers[1].push(Owned { engine: "a", duration_us: FAST, cost_atto_usd: cost(25) });
    assert_eq!(bench.cut().len(), 1, "one of them costs too much");
    let [totals] = bench.slo.last_interval().try_into().unwrap();
    assert_eq!(
        (totals.requests, totals.cost_usd, totals.cost_over, totals.cost_of_over_usd),
        (2, Decimal::new(35, 2), 1, Decimal::new(25, 2))
    );
    assert_eq!(totals.unpriced, 0);
    bench.cut();
    assert_eq!(bench.slo.last_interval(), []);
    let latencies = bench.slo.latencies("s", "a", 60, &mut &bench).unwrap().unwrap();
    assert_eq!((latencies.requests, latencies.p95_us / 1_000), (2, 100));
}

#[test]
fn a_waiver_is_metered_by_the_threshold_of_each_cut_and_ends_with_its_cap() {
    let mut bench = Bench::new();
    bench.slo.begin(RULES_METERED);
    let waiver = bench.approved_waiver("0.30", 1_000_000_000);
    let price = |bench: &mut Bench, milli_usd: Option<u128>| {
        let cost_atto_usd = milli_usd.map(|milli_usd| milli_usd * 10_u128.pow(15));
        bench.ledgers[0].push(Owned { engine: "a", duration_us: FAST, cost_atto_usd });
    };
    let spent = |bench: &Bench| {
        let spend = bench.slo.waivers().get(&waiver).unwrap().spend.clone();
        (spend.requests_over, spend.unpriced, spend.excess_usd.to_string(), spend.gross_usd.to_string())
    };
    for milli_usd in [Some(100), Some(101), Some(225), None] {
        price(&mut bench, milli_usd);
    }
    bench.cut();
    assert_eq!(spent(&bench), (2, 1, "0.126".into(), "0.326".into()), "what costs just the limit is not above it");

    // From 0.10 to 0.20: what was spent stays as it was metered, although the window is counted anew.
    bench.revise(|policy| policy.max_cost_usd = Amount(Decimal::new(20, 2)));
    price(&mut bench, Some(250));
    let found = bench.cut();
    assert_eq!(spent(&bench), (3, 1, "0.176".into(), "0.576".into()));
    assert!(matches!(found.last(), Some(Finding::Waiver(Said::Spend(_)))), "{found:?}");
    assert!(bench.slo.waivers().covers("s", "a", Rule::CostPerRequest, Time::from_seconds(bench.now)).is_some());

    // Beyond the cap by what this cut brought, and not by what the next one brings.
    price(&mut bench, Some(400));
    price(&mut bench, Some(300));
    let found = bench.cut();
    let said: Vec<_> = found.iter().filter(|found| matches!(found, Finding::Waiver(Said::Exhausted(_)))).collect();
    assert_eq!((said.len(), spent(&bench)), (1, (5, 1, "0.476".into(), "1.276".into())));
    let at = Time::from_seconds(bench.now);
    assert_eq!(bench.slo.waivers().covers("s", "a", Rule::CostPerRequest, at), None);
    assert!(bench.slo.waivers().covers("s", "a", Rule::CostPerRequest, at.plus_seconds(-1)).is_some());
    price(&mut bench, Some(900));
    assert!(!bench.cut().iter().any(|found| matches!(found, Finding::Waiver(_))));
    assert_eq!(spent(&bench).0, 5);
}

#[test]
fn a_ledger_of_the_first_rules_meters_nothing() {
    let mut bench = Bench::new();
    bench.slo.begin(1);
    let waiver = bench.approved_waiver("0.01", 100);
    bench.ledgers[0].push(Owned { engine: "a", duration_us: FAST, cost_atto_usd: Some(10_u128.pow(18)) });
    assert!(!bench.cut().iter().any(|found| matches!(found, Finding::Waiver(_))));
    bench.now = 90;
    let expired = Finding::Waiver(Said::Expired { waiver, expired: Time::from_seconds(100) });
    assert_eq!(bench.cut().iter().filter(|found| **found == expired).count(), 1);
    assert!(!bench.cut().contains(&expired), "said once");
}

#[test]
fn what_cannot_be_folded_is_an_error_that_says_why() {
    let check = |break_it: fn(&mut Bench), expected: &str| {
        let mut bench = Bench::new();
        bench.run(5, "a", FAST, 20);
        bench.now += 10;
        break_it(&mut bench);
        let said = bench.try_cut().unwrap_err().to_string();
        assert!(said.contains(expected), "{said:?} lacks {expected:?}");
    };
    check(|bench| bench.now -= 10, "is not after the cut of 1970-01-01T00:00:50Z");
    check(|bench| bench.ledgers[1].truncate(49), "metrics-1 has 49 entries");
    check(
        |bench| {
            bench.record("a", FAST, 2);
            bench.unreadable = true;
        },
        "cannot read positions 50 to 51 of metrics-0",
    );
    check(
        |bench| {
            // Thirty more cuts, and then other records under the same positions.
            bench.run(30, "a", SLOW, 20);
            bench.ledgers[0].iter_mut().for_each(|record| record.duration_us = FAST);
            bench.ledgers[0].extend(vec![Owned { engine: "a", duration_us: SLOW, cost_atto_usd: None }; 10]);
            bench.now += 10;
        },
        "but reading the evidence again gives",
    );
}

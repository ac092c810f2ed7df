//! Episodes of alerts: from the breach that fired to its end, each cut once, and what an incident finds.

use super::*;
use crate::domain::incident::IncidentImpact;
use crate::domain::settings::RULES_INCIDENTS;

fn impacts(found: &[(i64, Finding)]) -> Vec<&IncidentImpact> {
    let mut impacts = Vec::new();
    for (_, finding) in found {
        if let Finding::Impact(impact) = finding {
            impacts.push(impact);
        }
    }
    impacts
}

#[test]
fn an_episode_begins_with_the_breach_that_fires_and_ends_with_the_alert() {
    let mut bench = Bench::new();
    bench.slo.begin(RULES_INCIDENTS);
    // Two minutes in breach that never fire are nobody's.
    let mut found = bench.run(12, "a", SLOW, 20);
    found.extend(bench.run(12, "a", FAST, 20));
    assert_eq!(impacts(&found), Vec::<&IncidentImpact>::new());
    let slow = bench.run(33, "a", SLOW, 20);
    let Some((_, Finding::Firing(draft))) = slow.first() else { panic!("{slow:?}") };
    let pending = draft.alert.pending_since;
    let running = bench.slo.running_impact("s");
    assert_eq!((running.len(), running[0].since, running[0].until), (1, pending, Time::from_seconds(bench.now)));
    let found = bench.run(20, "a", FAST, 20);
    let ended = found.iter().find(|(_, finding)| matches!(finding, Finding::Resolved(_))).unwrap().0;
    let said = impacts(&found);
    let [impact] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((impact.since, impact.until), (pending, Time::from_seconds(ended)));
    let cuts = u64::try_from(Time::from_seconds(ended).micros_since(pending) / 10_000_000 + 1).unwrap();
    assert_eq!((impact.totals.requests, impact.alerts.len(), impact.cost_alone), (cuts * 20, 1, false));
    let records: u64 = impact.totals.evidence.iter().map(|range| range.to - range.from).sum();
    assert_eq!(records, impact.totals.requests, "the run of positions is that of the sums");
    assert!(bench.slo.running_impact("s").is_empty());
}

#[test]
fn money_alone_counts_what_is_above_the_limit_by_the_limit_of_each_cut() {
    let mut bench = Bench::new();
    bench.slo.begin(RULES_INCIDENTS);
    let price = |bench: &mut Bench, milli_usd: Option<u128>| {
        let cost_atto_usd = milli_usd.map(|milli_usd| milli_usd * 10_u128.pow(15));
        bench.ledgers[0].push(Owned { engine: "a", duration_us: FAST, cost_atto_usd });
    };
    for milli_usd in [Some(100), Some(225), None] {
        price(&mut bench, milli_usd);
    }
    bench.cut();
    // From 0.10 to 0.20: what was above the limit of its cut stays so.
    bench.revise(|policy| policy.max_cost_usd = Amount(Decimal::new(20, 2)));
    price(&mut bench, Some(250));
    price(&mut bench, Some(150));
    bench.cut();
    let found = bench.run(20, "a", FAST, 1);
    let said = impacts(&found);
    let [impact] = said.as_slice() else { panic!("{said:?}") };
    let totals = &impact.totals;
    assert_eq!((impact.cost_alone, impact.requests(), totals.requests_over), (true, 2, 2));
    assert_eq!((impact.cost_usd().to_string(), totals.excess_usd.to_string()), ("0.475".into(), "0.175".into()));
}

#[test]
fn a_ledger_of_older_rules_says_nothing_of_it() {
    let mut bench = Bench::new();
    bench.slo.begin(RULES_METERED);
    let mut found = bench.run(33, "a", SLOW, 20);
    found.extend(bench.run(20, "a", FAST, 20));
    assert!(found.iter().any(|(_, finding)| matches!(finding, Finding::Resolved(_))));
    assert_eq!(impacts(&found), Vec::<&IncidentImpact>::new());
}

#[test]
fn an_incident_finds_the_figures_of_the_last_cut() {
    let mut bench = Bench::new();
    bench.run(6, "a", FAST, 20);
    bench.run(3, "a", SLOW, 20);
    let snapshot = bench.slo.snapshot("inc-1", "s", &mut &bench).unwrap();
    assert_eq!(snapshot.instant, at(bench.now));
    let latency = snapshot.rules.iter().find(|rule| rule.rule == Rule::LatencyP95).unwrap();
    assert_eq!((latency.state.as_str(), latency.value.as_deref()), ("pending", Some("900")));
    assert_eq!((latency.samples, latency.breaching), (120, 60), "the last minute");
    let queue = snapshot.rules.iter().find(|rule| rule.rule == Rule::QueueDelay).unwrap();
    assert_eq!((queue.state.as_str(), &queue.value, queue.evidence.len()), ("no_verdict", &None, 0));
    assert_eq!((snapshot.totals[0].requests, snapshot.totals[0].unpriced), (180, 180));
    assert_eq!(bench.slo.snapshot("inc-1", "unknown", &mut &bench).unwrap().rules, []);
}

//! The step from one cut to the next.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::super::gates::{gate, reliance};
use super::super::speculation;
use super::super::waivers::{Said, Spent};
use super::counts::Bounds;
use super::figures::{self, Measured};
use super::fold::{self, Rules};
use super::judge::{Bench, Judged, judge};
use super::state::{At, Ending, Series, Step, Tally};
use super::window::{self, Mark};
use super::{AlertDraft, Finding, PROVEN_VERDICTS, Records, Slo, SloError};
use crate::domain::cut::Cut;
use crate::domain::event::{Alert, AlertState, EngineProven, Event};
use crate::domain::policy::{Rule, StackPolicy};
use crate::domain::settings::RULES_CAPACITY;
use crate::domain::time::Time;

/// Something that a cut did to a rule, before it is put into words.
struct Transition {
    stack: String,
    engine: String,
    rule: Rule,
    step: Step,
    judged: Option<Judged>,
}

/// In the order of judging; a proven engine comes after its latency verdict.
enum Found {
    Transition(Transition),
    Proven(EngineProven),
}

impl Slo {
    /// Folds the records up to `cut`, judges every rule there and says what changed.
    pub fn cut(&mut self, cut: &Cut, records: &mut dyn Records) -> Result<Vec<Finding>, SloError> {
        let found = self.advance(cut, records)?;
        let mut findings = Vec::with_capacity(found.len());
        for found in found {
            findings.push(match found {
                Found::Transition(transition) => self.finding(cut, transition, records)?,
                Found::Proven(proven) => Finding::Proven(proven),
            });
        }
        self.cut = Some(cut.clone());
        let impacts = self.episodes(cut, &findings);
        findings.extend(self.meter(cut.instant).into_iter().map(Finding::Waiver));
        findings.extend(impacts.into_iter().map(Finding::Impact));
        self.forget_idle();
        Ok(findings)
    }

    /// The same for a cut whose findings were said long ago. Where nothing follows from them, nothing is read again to put them
    /// into words; the episodes of incidents do follow from them.
    pub fn pass(&mut self, cut: &Cut, records: &mut dyn Records) -> Result<(), SloError> {
        if self.measures_incidents {
            return self.cut(cut, records).map(|_said| ());
        }
        self.advance(cut, records)?;
        self.meter(cut.instant);
        self.forget_idle();
        Ok(())
    }

    fn advance(&mut self, cut: &Cut, records: &mut dyn Records) -> Result<Vec<Found>, SloError> {
        self.check(cut)?;
        self.apply_facts(cut.instant);
        self.count_again(records)?;
        self.take_in(cut, records)?;
        self.trim(cut.instant);
        let found = self.judge_all(cut);
        if cut.missing.is_empty() {
            self.evaluated_through = Some(cut.instant);
        }
        Ok(found)
    }

    /// What this cut brings about for waivers: by the records that it brought, its policy, and the waivers as of its instant.
    fn meter(&mut self, instant: Time) -> Vec<Said> {
        let spent = if self.metered { self.last_interval() } else { Vec::new() };
        let spent: Vec<Spent<'_>> = spent
            .iter()
            .map(|totals| Spent {
                stack: &totals.stack,
                engine_hash: &totals.engine_hash,
                requests_over: totals.cost_over,
                unpriced: totals.unpriced,
                gross_usd: totals.cost_of_over_usd,
                excess_usd: totals.excess_usd(self.policy.for_stack(&totals.stack).max_cost_usd.0),
            })
            .collect();
        self.waivers.cut(instant, &spent, self.metered)
    }

    fn check(&self, cut: &Cut) -> Result<(), SloError> {
        let Some(last) = self.marks.back() else { return Ok(()) };
        if cut.instant <= last.instant {
            return Err(SloError::OutOfOrder { instant: cut.instant, last: last.instant });
        }
        for listed in &cut.ledgers {
            let before = last.sizes.get(&listed.ledger).copied().unwrap_or(0);
            if listed.size < before {
                return Err(SloError::Shrunk {
                    ledger: listed.ledger,
                    instant: cut.instant,
                    size: listed.size,
                    before,
                });
            }
        }
        Ok(())
    }

    /// Brings the governance state to `instant`. An engine that becomes current begins afresh at the cut before.
    fn apply_facts(&mut self, instant: Time) {
        let before = self.last_cut();
        while let Some(fact) = self.facts.pop_front_if(|fact| fact.time <= instant) {
            if let Event::PolicyRevised(policy) = &fact.event {
                self.policy = (**policy).clone();
                continue;
            }
            if let Event::Command(command) = &fact.event {
                self.waivers.apply(fact.position, fact.time, &command.principal, &command.request);
                let (position, time) = (fact.position, fact.time);
                if let Some(policy) = self.policies.apply(position, time, &command.principal, &command.request) {
                    self.policy = policy;
                }
            }
            if matches!(fact.event, Event::WaiverReported { .. }) {
                self.waivers.say(fact.position, fact.stack.as_deref(), &fact.event);
            }
            self.stacks.apply(fact.position, fact.time, fact.stack.as_deref(), &fact.event);
            for (name, stack) in self.stacks.iter() {
                let began = stack.current_since().is_some_and(|(_, position)| position == fact.position);
                if let Some(engine) = stack.current().filter(|_| began) {
                    let bounds = Bounds::of(&self.policy.for_stack(name));
                    let engines = self.series.entry(name.clone()).or_default();
                    engines.entry(engine.to_owned()).or_insert_with(|| Series::new(bounds)).begin_afresh(before);
                }
            }
        }
    }

    /// Where the policy changed a bound, counts what is in the windows by the new one.
    fn count_again(&mut self, records: &mut dyn Records) -> Result<(), SloError> {
        let mut stale: BTreeMap<String, BTreeMap<String, (Bounds, Option<Time>)>> = BTreeMap::new();
        for (stack, engines) in &mut self.series {
            let bounds = Bounds::of(&self.policy.for_stack(stack));
            for (engine, series) in engines.iter_mut().filter(|(_, series)| series.bounds != bounds) {
                series.bounds = bounds;
                if !series.tallies.is_empty() {
                    series.tallies.clear();
                    stale.entry(stack.clone()).or_default().insert(engine.clone(), (bounds, series.fresh_from));
                }
            }
        }
        if stale.is_empty() {
            return Ok(());
        }
        let kept = self.marks.front().filter(|_| self.trimmed).map(|mark| mark.instant);
        for (before, mark) in window::intervals(&self.marks, kept) {
            let rules = Rules {
                attribute: &|engine, model| {
                    mark.attribution.get(engine).and_then(|models| models.get(model)).cloned().unwrap_or_default()
                },
                bounds: &|stack, engine| {
                    let (bounds, fresh_from) = stale.get(stack).and_then(|engines| engines.get(engine))?;
                    (*fresh_from < Some(mark.instant)).then_some(*bounds)
                },
            };
            // What the scrapes said is kept as it was.
            let (folded, _) = fold::fold(records, &window::ranges(before, mark), &rules, &mut |_| ())?;
            add_tallies(&mut self.series, folded, mark.instant, |_| None);
        }
        Ok(())
    }

    /// Counts what this cut brought.
    fn take_in(&mut self, cut: &Cut, records: &mut dyn Records) -> Result<(), SloError> {
        let before = self.marks.back();
        // A ledger that the cut does not list keeps its size; a later one must not count its records twice.
        let mut sizes = before.map(|mark| mark.sizes.clone()).unwrap_or_default();
        sizes.extend(cut.ledgers.iter().map(|listed| (listed.ledger, listed.size)));
        let mut mark = Mark { instant: cut.instant, sizes, attribution: BTreeMap::new() };
        let rules = Rules {
            attribute: &|engine, model| self.stacks.attribute(engine, model),
            bounds: &|stack, _| Some(Bounds::of(&self.policy.for_stack(stack))),
        };
        let ranges = window::ranges(before, &mark);
        let heeded = self.rules_version >= RULES_CAPACITY;
        let scrapes = &mut self.scrapes;
        let (folded, attribution) = fold::fold(records, &ranges, &rules, &mut |scrape| {
            if heeded {
                scrapes.take(cut.instant, scrape);
            }
        })?;
        mark.attribution = attribution;
        self.last_record.extend(folded.keys().map(|stack| (stack.clone(), cut.instant)));
        let policy = &self.policy;
        add_tallies(&mut self.series, folded, cut.instant, |stack| Some(Bounds::of(&policy.for_stack(stack))));
        self.marks.push_back(mark);
        Ok(())
    }

    /// Lets go of what no window of this or a later cut reaches.
    fn trim(&mut self, instant: Time) {
        let Some(oldest) = window::oldest_needed(&self.marks, instant) else { return };
        self.marks.drain(..oldest);
        self.trimmed = true;
        let Some(mark) = self.marks.front_mut() else { return };
        mark.attribution.clear();
        let oldest = mark.instant;
        self.scrapes.trim(oldest);
        for series in self.series.values_mut().flat_map(BTreeMap::values_mut) {
            while series.tallies.pop_front_if(|tally| tally.until <= oldest).is_some() {}
        }
    }

    /// Judges every rule on every engine that is known.
    fn judge_all(&mut self, cut: &Cut) -> Vec<Found> {
        let mut found = Vec::new();
        self.enter_awaited(cut.instant);
        let complete = cut.missing.is_empty();
        let rules: Vec<Rule> = self.rules().collect();
        for (name, engines) in &mut self.series {
            let policy = self.policy.for_stack(name);
            let stack = self.stacks.get(name);
            let open_for = stack
                .map(|stack| gate(name, stack, &policy, &self.waivers, cut.instant))
                .filter(|gate| gate.open)
                .and_then(|gate| gate.engine_hash);
            for (engine, series) in engines {
                let current = stack.and_then(super::super::stacks::Stack::current) == Some(engine);
                let bench = Bench {
                    t: cut.instant,
                    marks: &self.marks,
                    policy: &policy,
                    // A stack that governance has never heard of runs an engine that nobody published.
                    unapproved: stack.is_none_or(|stack| stack.unapproved(engine).is_some()),
                    relies_on: stack
                        .filter(|_| current)
                        .map_or((0, 0), |stack| reliance(name, stack, &self.waivers, cut.instant)),
                    speculates: stack.filter(|_| current).map_or((0, 0), |stack| {
                        let workloads = speculation::workloads(stack, &policy.speculation);
                        (workloads.len() as u64, workloads.iter().filter(|shown| shown.is_err()).count() as u64)
                    }),
                    scrapes: Some((name.as_str(), &self.scrapes)).filter(|_| current),
                    awaited_since: self.last_record.get(name).copied().filter(|_| open_for.as_ref() == Some(engine)),
                    complete,
                };
                let at = At { instant: cut.instant, may_resolve: complete, current };
                for &rule in &rules {
                    let settings = policy.rule(rule);
                    let judged = if settings.enabled { judge(&bench, rule, series) } else { None };
                    let state = series.rules.entry(rule).or_default();
                    let steps = state.step(at, settings, judged.as_ref().map(|judged| judged.breach));
                    found.extend(steps.into_iter().map(|step| {
                        Found::Transition(Transition {
                            stack: name.clone(),
                            engine: engine.clone(),
                            rule,
                            step,
                            judged: judged.clone(),
                        })
                    }));
                    if rule == Rule::LatencyP95 && judged.is_some() && current {
                        series.latency_verdicts = series.latency_verdicts.saturating_add(1);
                        let stint = stack
                            .and_then(super::super::stacks::Stack::current_since)
                            .filter(|_| series.latency_verdicts == PROVEN_VERDICTS);
                        found.extend(stint.map(|(_, stint)| {
                            Found::Proven(EngineProven {
                                stack: name.clone(),
                                engine_hash: engine.clone(),
                                stint,
                                instant: cut.instant,
                            })
                        }));
                    }
                    if judged.is_some() {
                        state.judged = judged;
                    }
                }
            }
        }
        found
    }

    /// An engine whose gate is open is judged for silence although none of its records is in a window.
    fn enter_awaited(&mut self, instant: Time) {
        for (name, stack) in self.stacks.iter().filter(|(name, _)| self.last_record.contains_key(*name)) {
            let policy = self.policy.for_stack(name);
            let gate = gate(name, stack, &policy, &self.waivers, instant);
            if let Some(engine) = gate.engine_hash.filter(|_| gate.open) {
                self.series
                    .entry(name.clone())
                    .or_default()
                    .entry(engine)
                    .or_insert_with(|| Series::new(Bounds::of(&policy)));
            }
        }
    }

    /// Drops engines of which nothing is left to be said: not current, no record in a window, nothing pending or firing.
    fn forget_idle(&mut self) {
        let oldest = self.marks.front().filter(|_| self.trimmed).map(|mark| mark.instant);
        let stacks = &self.stacks;
        self.series.retain(|name, engines| {
            let current = stacks.get(name).and_then(super::super::stacks::Stack::current);
            engines.retain(|engine, series| current == Some(engine.as_str()) || !series.is_over(oldest));
            !engines.is_empty()
        });
        let series = &self.series;
        self.last_record.retain(|name, _| series.contains_key(name) || stacks.get(name).is_some());
    }

    fn finding(&self, cut: &Cut, transition: Transition, records: &mut dyn Records) -> Result<Finding, SloError> {
        let Transition { stack, engine, rule, step, judged } = transition;
        let policy = self.policy.for_stack(&stack);
        let (firing, ending) = match step {
            Step::Fired(firing) => (firing, None),
            Step::Ended(firing, ending) => (firing, Some(ending)),
        };
        // What ends for want of a verdict has no figures, even if this very cut brought a verdict after it.
        let judged = judged.filter(|_| ending.is_none_or(|ending| ending == Ending::Recovered));
        let value = match &judged {
            Some(judged) => self.stated_value((&stack, &engine), rule, &policy, judged, records)?,
            None => None,
        };
        let start = judged
            .as_ref()
            .map_or_else(|| window::start(&self.marks, cut.instant, policy.rule(rule).window_s), |judged| judged.start);
        let cost = judged.as_ref().and_then(|judged| judged.cost.clone());
        let figures = judged.map(|judged| judged.figures);
        let alert = Alert {
            id: alert_id(rule, &stack, &engine, firing.since),
            rule,
            severity: firing.severity,
            state: if ending.is_some() { AlertState::Resolved } else { AlertState::Firing },
            pending_since: firing.pending_since,
            firing_since: firing.since,
            resolved_at: ending.map(|_| cut.instant),
            value: value.unwrap_or_else(|| "none".to_owned()),
            threshold: threshold(rule, &policy),
            samples: figures.map_or(0, |figures| figures.samples()),
            breaching: figures.map_or(0, |figures| figures.breaching()),
            evidence: window::evidence(&self.marks, start, cut),
            covered_by: None,
            cost,
            reason: ending.and_then(Ending::reason),
            stack,
            engine_hash: engine,
        };
        let draft = AlertDraft { alert, figures };
        Ok(if ending.is_some() { Finding::Resolved(draft) } else { Finding::Firing(draft) })
    }

    /// The value that an alert states. A percentile is read from the records again, and checks the counts by the way.
    pub(super) fn stated_value(
        &self,
        (stack, engine): (&str, &str),
        rule: Rule,
        policy: &StackPolicy,
        judged: &Judged,
        records: &mut dyn Records,
    ) -> Result<Option<String>, SloError> {
        if !matches!(judged.figures, crate::domain::metric::Figures::Percentile { .. }) {
            return Ok(figures::value(&judged.figures));
        }
        let replay = &mut |visit: &mut dyn FnMut(&crate::domain::metric::Sample<'_>)| {
            self.replay(stack, engine, judged.start, records, visit)
        };
        let Measured { figures, value } = figures::measure(rule, policy, replay)?;
        if figures != judged.figures {
            return Err(SloError::Differs { rule, stack: stack.to_owned(), counted: judged.figures, again: figures });
        }
        Ok(value)
    }
}

/// Appends what a cut brought to the series; `bounds` makes those that are new.
fn add_tallies(
    series: &mut BTreeMap<String, BTreeMap<String, Series>>,
    folded: fold::Folded,
    until: Time,
    bounds: impl Fn(&str) -> Option<Bounds>,
) {
    for (stack, engines) in folded {
        let known = series.entry(stack.clone()).or_default();
        for (engine, (counts, load)) in engines {
            if let Some(bounds) = bounds(&stack).filter(|_| !known.contains_key(&engine)) {
                known.insert(engine.clone(), Series::new(bounds));
            }
            if let Some(series) = known.get_mut(&engine) {
                series.tallies.push_back(Tally { until, counts, load });
            }
        }
    }
}

/// What an alert is compared with, in words that fit its value.
pub(super) fn threshold(rule: Rule, policy: &StackPolicy) -> String {
    match rule {
        Rule::LatencyP95 | Rule::QueueDelay | Rule::KvReuse | Rule::SpeculativeAccept | Rule::VramHeadroom => {
            policy.rule(rule).threshold.map(|amount| amount.to_string()).unwrap_or_default()
        }
        Rule::CostPerRequest => policy.max_cost_usd.to_string(),
        Rule::ReadinessQueueDelay => policy.max_queue_delay_us.to_string(),
        Rule::TokenBudget | Rule::UnapprovedEngine | Rule::UncoveredPublish | Rule::UncalibratedSpeculation => {
            "0".to_owned()
        }
        Rule::Silent => policy.rule(rule).window_s.to_string(),
    }
}

/// Digest of what the alert is about, so that saying it again says the same. Lengths keep the parts apart.
fn alert_id(rule: Rule, stack: &str, engine: &str, firing_since: Time) -> String {
    let mut digest = Sha256::new();
    digest.update(b"govledger alert\0");
    for part in [rule.as_str(), stack, engine] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.update(firing_since.micros().to_be_bytes());
    ledger::Hash(digest.finalize().into()).to_hex()
}

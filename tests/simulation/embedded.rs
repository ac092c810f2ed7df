//! Lives in embedded mode: the real queue, handle and writer, the writer turned by hand; time, disk and callers are the seed's.
//!
//! What a caller was told is there after any crash, where it was told; what nobody was told is there whole or not at all; and
//! nothing else is there.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use govledger::clock::Clock;
use govledger::domain::command::{
    EngineJudgement, PrincipalEnroll, PrincipalLimit, Request, WaiverDecision, WaiverScope, command_id,
};
use govledger::domain::envelope;
use govledger::domain::leaf::{self, Header};
use govledger::domain::metric::TimeFields;
use govledger::domain::policy::Rule;
use govledger::domain::principal::Role;
use govledger::domain::settings::SourceSettings;
use govledger::domain::time::Time;
use govledger::sequencer::{
    ByHand, CommandOutcome, Core, DataDir, Handle, InitOptions, MetricsChunk, Options, Submission, by_hand, fold_to,
};
use ledger::{EntrySource, Hash};

use crate::{Counts, quick_policy, scratch};

use super::disk::FailingDisk;
use super::facts::Facts;
use super::life::START;
use super::model::Random;

const SECOND: i64 = 1_000_000;

/// What a caller was told.
enum Told {
    /// The bodies are at these positions of `metrics-0`.
    Metrics(Range<u64>),
    /// The bodies are at these positions of governance.
    Governance(Vec<u64>),
    /// A command was decided there.
    Command,
    /// Nothing for sure.
    Nothing,
}

/// A call on its way.
struct Call {
    bodies: Vec<Vec<u8>>,
    future: Pin<Box<dyn Future<Output = Told>>>,
}

struct Service {
    handle: Handle,
    writer: ByHand,
}

struct Life {
    random: Random,
    root: PathBuf,
    clock: Clock,
    disk: FailingDisk,
    service: Option<Service>,
    serial: u64,
    /// How often each body was handed in, by ledger.
    sent: BTreeMap<(&'static str, Vec<u8>), u64>,
    /// What was told to be where.
    told: BTreeMap<(&'static str, u64), Vec<u8>>,
    /// The last size and root that anyone could see.
    heads: BTreeMap<String, (u64, Hash)>,
    commands: Vec<(String, Role, String, Request)>,
    facts: Facts,
    /// Since when the process runs without a break, as of its last turn: the time, the last record or report.
    looked: Option<(Time, Option<Time>)>,
}

/// Lives one life; what there was in it.
pub(crate) fn live(seed: u64) -> Counts {
    let scratch = scratch();
    let mut life = Life::begin(seed ^ 0x5eed, scratch.path());
    for _ in 0..24 + life.random.below(32) {
        life.step();
    }
    life.end()
}

impl Life {
    fn begin(seed: u64, root: &Path) -> Self {
        let root = root.join("data");
        let start = Time::from_seconds(START);
        let options = InitOptions {
            node: "a".into(),
            source: SourceSettings::Embedded,
            admin: "root".into(),
            settings: None,
            further_node_keys: Vec::new(),
            now: start,
        };
        DataDir::init(&root, options).unwrap();
        let mut life = Self {
            random: Random(seed),
            root,
            clock: Clock::manual(start),
            disk: FailingDisk::new(),
            service: None,
            serial: 0,
            sent: BTreeMap::new(),
            told: BTreeMap::new(),
            heads: BTreeMap::new(),
            commands: Vec::new(),
            facts: Facts::default(),
            looked: None,
        };
        life.start();
        for (name, role) in [("fin", Role::Finance), ("call", Role::Oncall)] {
            let token_sha256 = envelope::hex(&[name.as_bytes()[0]; 32]);
            let enroll =
                PrincipalEnroll { name: name.into(), roles: [role].into(), token_sha256, ..PrincipalEnroll::default() };
            life.ask("root", Role::Admin, Request::PrincipalEnroll(enroll));
        }
        let limit = PrincipalLimit { name: "fin".into(), finance_limit_usd: 2.into() };
        life.ask("root", Role::Admin, Request::PrincipalLimit(limit));
        life
    }

    fn ask(&mut self, principal: &str, role: Role, request: Request) {
        let key = format!("key-{}", self.commands.len());
        self.commands.push((principal.into(), role, key, request));
    }

    /// The process begins; it may end while it recovers, and begins again.
    fn start(&mut self) {
        (self.service, self.looked) = (None, None);
        if self.random.one_in(4) {
            let _ = std::fs::remove_dir_all(self.root.join("cache"));
        }
        loop {
            self.disk = FailingDisk::new();
            if self.random.one_in(4) {
                self.disk.fail_after(self.random.upto(30), self.random.one_in(2));
            }
            if let Some(service) = self.open() {
                self.service = Some(service);
                break;
            }
        }
        self.recovered();
    }

    fn open(&self) -> Option<Service> {
        let data_dir = || DataDir::open(&self.root).unwrap().on(Arc::new(self.disk.clone()));
        let core = Core::open(data_dir(), TimeFields::default()).ok()?;
        let options = Options { live_cuts: true, clock: self.clock.clone(), policy: Some(quick_policy()) };
        let (running, writer) = by_hand(core, options).ok()?;
        let handle = Handle::new(&running, data_dir(), self.clock.clone(), TimeFields::default(), None).unwrap();
        Some(Service { handle, writer })
    }

    fn handle(&self) -> &Handle {
        &self.service.as_ref().unwrap().handle
    }

    fn step(&mut self) {
        let now = self.clock.now();
        let on = match self.random.below(40) {
            0 => self.random.upto(300) * SECOND,
            1 => -self.random.upto(100) * SECOND,
            2 if self.random.one_in(3) => (1_200 + self.random.upto(300)) * SECOND,
            _ => (1 + self.random.upto(8)) * SECOND / 2,
        };
        self.clock.set(Time::from_micros(now.micros() + on));
        if self.random.one_in(5) {
            self.disk.fail_after(self.random.upto(16), self.random.one_in(2));
        }
        let calls = self.calls();
        self.turn(calls);
        match self.random.below(20) {
            0 => self.start(),
            1 => self.service.as_mut().unwrap().writer.snapshot().unwrap(),
            2 => self.check(),
            _ => {}
        }
    }

    /// What callers hand in at once.
    fn calls(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        for _ in 0..self.random.below(3) {
            calls.push(self.metrics());
        }
        self.governance_wishes();
        for _ in 0..self.random.below(2) {
            calls.extend(self.events());
        }
        for index in 0..self.commands.len() {
            let (principal, role, key, request) = self.commands[index].clone();
            let is_known = {
                let governance = self.handle().shared().governance();
                governance.commands.contains_key(&command_id(&principal, &key))
            };
            if !is_known && self.random.one_in(2) {
                let handle = self.handle().clone();
                let future = async move {
                    match handle.command(&principal, role, &key, request).await {
                        Ok((_, CommandOutcome::Decided(_))) => Told::Command,
                        Ok((_, CommandOutcome::Pending)) | Err(_) => Told::Nothing,
                    }
                };
                calls.push(Call { bodies: Vec::new(), future: Box::pin(future) });
            }
        }
        calls
    }

    fn metrics(&mut self) -> Call {
        let mut chunk = MetricsChunk::default();
        let mut bodies = Vec::new();
        for _ in 0..=self.random.below(3) {
            self.serial += 1;
            let engine = if self.random.one_in(4) { "e2" } else { "e1" };
            let duration = if self.random.one_in(2) { 1_000 } else { 100 };
            let cost = if self.random.one_in(10) { ["0.5", "2.5"][usize::from(self.random.one_in(3))] } else { "0.01" };
            let body = format!(
                r#"{{"model":"m","engine_hash":"{engine}","duration_ms":{duration},"cost_usd":{cost},"n":{}}}"#,
                self.serial
            );
            self.handle().prepare().push(&mut chunk, Header::at(self.clock.now()), body.as_bytes()).unwrap().unwrap();
            bodies.push(body.into_bytes());
        }
        let handle = self.handle().clone();
        let future = async move { handle.append_metrics_waiting(0, chunk).await.map_or(Told::Nothing, Told::Metrics) };
        self.call("metrics-0", bodies, Box::pin(future))
    }

    /// Reports of the stack; some are handed in twice.
    fn events(&mut self) -> Vec<Call> {
        self.serial += 1;
        let kind = ["llm_engine_published", "llm_warmup_completed", "llm_rollback_completed"]
            [usize::try_from(self.random.below(3)).unwrap()];
        let engine = if self.random.one_in(2) { "e1" } else { "e2" };
        let body = format!(
            r#"{{"event_type":"{kind}","artifact":{{"artifact_id":"s","hash":"{engine}"}},"payload":{{"n":{}}}}}"#,
            self.serial
        )
        .into_bytes();
        let mut calls = Vec::new();
        for _ in 0..if self.random.one_in(4) { 2 } else { 1 } {
            let submission = Submission { header: Header::default(), body: body.clone() };
            let handle = self.handle().clone();
            let future = async move {
                let told = handle.submit_events(vec![submission]).await;
                let positions = |outcomes: Vec<govledger::sequencer::Outcome>| {
                    Told::Governance(outcomes.iter().map(|outcome| outcome.position).collect())
                };
                told.map_or(Told::Nothing, positions)
            };
            calls.push(self.call("governance", vec![body.clone()], Box::pin(future)));
        }
        calls
    }

    fn call(
        &mut self,
        ledger: &'static str,
        bodies: Vec<Vec<u8>>,
        future: Pin<Box<dyn Future<Output = Told>>>,
    ) -> Call {
        for body in &bodies {
            *self.sent.entry((ledger, body.clone())).or_default() += 1;
        }
        Call { bodies, future }
    }

    fn governance_wishes(&mut self) {
        let expires = self.clock.now().plus_seconds(20 + self.random.upto(60));
        match self.random.below(10) {
            0 => {
                let (rule, cap_usd) = if self.random.one_in(2) {
                    (Rule::LatencyP95, None)
                } else {
                    (Rule::CostPerRequest, Some((1 + self.random.upto(3)).into()))
                };
                let scope = WaiverScope { cap_usd, ..WaiverScope::new(rule, "s", "j", "m", expires) };
                self.ask("call", Role::Oncall, Request::WaiverRequest(scope));
            }
            1 | 2 => {
                let waivers = self.handle().shared().governance().waivers.clone();
                let all = waivers.oldest_first();
                let Some((id, waiver)) = all.last() else { return };
                let scope_sha256 = waiver.scope.as_ref().map(WaiverScope::sha256);
                let decision = WaiverDecision { waiver: (*id).to_owned(), scope_sha256, reason: None };
                let request = match self.random.below(6) {
                    0 => Request::WaiverRefuse(decision),
                    1 => Request::WaiverRevoke(decision),
                    _ => Request::WaiverApprove(decision),
                };
                self.ask("fin", Role::Finance, request);
            }
            3 => {
                let judgement = EngineJudgement { stack: "s".into(), engine_hash: "e2".into(), reason: "r".into() };
                self.ask("call", Role::Oncall, Request::EngineCondemn(judgement));
            }
            _ => {}
        }
    }

    /// The writer takes what was handed in, and looks at the clock once more. An error ends the process.
    fn turn(&mut self, mut calls: Vec<Call>) {
        let mut context = Context::from_waker(Waker::noop());
        calls.retain_mut(|call| !self.polled(call, &mut context));
        let size = self.handle().shared().governance().size;
        let mut turns = 0;
        let failed = loop {
            if self.service.as_mut().unwrap().writer.turn().is_err() {
                break true;
            }
            calls.retain_mut(|call| !self.polled(call, &mut context));
            turns += 1;
            if calls.is_empty() && turns > 1 {
                break false;
            }
            assert!(turns < 100, "somebody is never answered");
        };
        if failed {
            assert!(self.handle().shared().status.poisoned.load(Ordering::SeqCst));
            let handle = self.service.take().map(|service| service.handle).unwrap();
            calls.retain_mut(|call| !self.polled(call, &mut context));
            assert!(calls.is_empty(), "somebody is never told that the writer has stopped");
            let folded = handle.shared().governance().size;
            let readable = handle.shared().reader("governance").unwrap().size();
            assert!(size <= folded && folded <= readable, "folded before it was durable");
            drop(handle);
            self.start();
            return;
        }
        self.look();
    }

    /// Whether the call was answered; what it was told is kept.
    fn polled(&mut self, call: &mut Call, context: &mut Context<'_>) -> bool {
        let Poll::Ready(told) = call.future.as_mut().poll(context) else { return false };
        let (ledger, positions) = match told {
            Told::Metrics(range) => ("metrics-0", range.collect()),
            Told::Governance(positions) => ("governance", positions),
            Told::Command | Told::Nothing => return true,
        };
        assert_eq!(positions.len(), call.bodies.len());
        for (position, body) in positions.into_iter().zip(&call.bodies) {
            assert_eq!(
                self.told.insert((ledger, position), body.clone()),
                None,
                "two were told of {ledger} {position}"
            );
        }
        true
    }

    /// After a turn: nothing is left to say, and the cuts are those that were due since the turn before.
    fn look(&mut self) {
        let shared = Arc::clone(self.handle().shared());
        let before = self.facts.cuts.len();
        let last = self.facts.cuts.last().map(|(_, cut)| cut.instant);
        self.facts.follow(&shared.reader("governance").unwrap(), &shared.governance());
        for (name, reader) in shared.readers() {
            self.heads.insert(name, (reader.size(), reader.root()));
        }
        let core = self.service.as_ref().unwrap().writer.core();
        assert_eq!(core.unsaid().unwrap(), Vec::<String>::new(), "what a cut brings to light follows it");
        let now = self.clock.now();
        let made: Vec<Time> = self.facts.cuts[before..].iter().map(|(_, cut)| cut.instant).collect();
        for instant in &made {
            assert!(*instant <= now && now.micros_since(*instant) <= 70 * SECOND, "a cut of {instant} at {now}");
        }
        if let Some((then, Some(active))) = self.looked
            && now.micros_since(then) <= 60 * SECOND
        {
            let quiet = active.plus_seconds(1_200);
            let due: Vec<Time> = (1..=6)
                .map(|step| then.floor_to_seconds(10).plus_seconds(10 * step))
                .filter(|instant| *instant < now && last.is_none_or(|last| last < *instant))
                .filter(|instant| *instant <= quiet || instant.floor_to_seconds(60) == *instant)
                .collect();
            let made: Vec<Time> = made.iter().copied().filter(|instant| *instant > then).collect();
            assert_eq!(made, due, "cuts between {then} and {now}, quiet from {quiet} on, last {last:?}");
        }
        self.looked = Some((now, core.last_activity()));
    }

    /// After a start: what was told is there, nothing else is, and what anyone saw is a prefix.
    fn recovered(&mut self) {
        let readers = self.handle().shared().readers();
        for ((ledger, position), body) in &self.told {
            let reader = &readers[*ledger];
            assert!(*position < reader.size(), "{ledger} {position} was told and is not there");
            let entry = reader.entry(*position).unwrap();
            assert_eq!(leaf::split(&entry).unwrap().body, body, "{ledger} {position} is not what was told");
        }
        for (name, (size, root)) in &self.heads {
            assert_eq!(readers[name].root_at(*size).unwrap(), *root, "{name}: the head seen before is a prefix");
        }
        let shared = Arc::clone(self.handle().shared());
        self.facts.follow(&readers["governance"], &shared.governance());
        let mut found: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for entry in readers["metrics-0"].entries(1..readers["metrics-0"].size()) {
            *found.entry(leaf::split(&entry.unwrap().1).unwrap().body.to_vec()).or_default() += 1;
        }
        for (body, count) in found {
            let sent = self.sent.get(&("metrics-0", body.clone())).copied().unwrap_or_default();
            assert!(count <= sent, "{} is there {count} times, sent {sent}", String::from_utf8_lossy(&body));
        }
    }

    /// The folds are those of a fold from nothing.
    fn check(&self) {
        let shared = self.handle().shared();
        let readers = shared.readers();
        let sources: BTreeMap<String, &dyn EntrySource> =
            readers.iter().map(|(name, reader)| (name.clone(), reader as &dyn EntrySource)).collect();
        let afresh = fold_to(&sources, None, readers["governance"].size(), true).unwrap();
        assert_eq!(shared.governance().digest(), afresh.governance.digest(), "governance");
        let slo = serde_json::to_string(&*shared.slo()).unwrap();
        assert_eq!(slo, serde_json::to_string(&afresh.slo).unwrap(), "metrics folds");
        assert_eq!(shared.status.integrity_alarms.load(Ordering::SeqCst), 0, "integrity alarms");
    }

    /// The disk is well; time goes on until every command is known and every waiver has ended.
    fn end(&mut self) -> Counts {
        self.start();
        self.disk.fail_after(i64::MAX, false);
        let latest = self.facts.cuts.last().map_or(self.clock.now(), |(_, cut)| cut.instant.max(self.clock.now()));
        self.clock.set(latest);
        for _ in 0..14 {
            self.clock.set(self.clock.now().plus_seconds(7));
            let calls = self.calls();
            self.turn(calls);
        }
        for _ in 0..20 {
            self.clock.set(self.clock.now().plus_seconds(1));
            let wishes = self.commands.len();
            let calls = self.calls();
            self.commands.truncate(wishes);
            self.turn(calls);
        }
        self.recovered();
        self.check();
        let mut facts = Facts::default();
        let shared = self.handle().shared();
        facts.follow(&shared.reader("governance").unwrap(), &shared.governance());
        facts.check_waivers();
        for (principal, _, key, _) in &self.commands {
            assert!(shared.governance().commands.contains_key(&command_id(principal, key)), "a command was lost");
        }
        Counts::of(&facts)
    }
}

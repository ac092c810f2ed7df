//! One life: steps chosen by the seed, a quiet end, and what must hold then.

use std::collections::BTreeMap;

use govledger::clock::Clock;
use govledger::domain::command::{
    Command, EngineJudgement, HoleConfirm, PrincipalEnroll, PrincipalLimit, Request, WaiverDecision, WaiverScope,
    command_id,
};
use govledger::domain::cut::Cut;
use govledger::domain::envelope;
use govledger::domain::leaf;
use govledger::domain::policy::Rule;
use govledger::domain::principal::Role;
use govledger::domain::settings::SourceSettings;
use govledger::domain::time::Time;
use govledger::ingest::kafka::decisions::Stamp;
use govledger::sequencer::{DataDir, InitOptions, Saying, command_event};

use crate::{Counts, quick_policy, scratch};

use super::facts::Facts;
use super::model::{Broker, Partition, Random};
use super::node::Node;

pub(crate) const START: i64 = 1_790_000_000;

struct Life {
    random: Random,
    broker: Broker,
    clock: Clock,
    stamp: Stamp,
    node: Node,
    follower: Node,
    commands: Vec<(String, Role, String, Request)>,
    /// Before its end there is one silence of more than twenty minutes, so that cuts thin out.
    silent_at: Option<u64>,
}

/// Lives one life; what there was in it.
pub(crate) fn live(seed: u64) -> Counts {
    let scratch = scratch();
    let mut life = Life::begin(seed, scratch.path());
    for step in 0..24 + life.random.below(32) {
        if life.silent_at == Some(step) {
            life.silence();
        }
        life.step();
    }
    life.end()
}

impl Life {
    fn begin(seed: u64, root: &std::path::Path) -> Self {
        let mut random = Random(seed);
        let start = Time::from_seconds(START);
        let source = SourceSettings::Kafka { governance_topic: "g".into(), metrics_topic: "m".into() };
        let options = |node: &str, settings| InitOptions {
            node: node.into(),
            source: source.clone(),
            admin: "root".into(),
            settings,
            further_node_keys: Vec::new(),
            now: start,
        };
        let first = DataDir::init(&root.join("a"), options("a", None)).unwrap().data_dir;
        DataDir::init(&root.join("b"), options("b", Some(first.settings().clone()))).unwrap();
        let clock = Clock::manual(start);
        let stamp = if random.one_in(3) { Stamp::Create } else { Stamp::LogAppend };
        let node = Node::new(&root.join("a"), clock.clone(), stamp);
        let follower = Node::new(&root.join("b"), clock.clone(), stamp);
        let mut broker = Broker::default();
        broker.metrics.resize_with(1 + usize::try_from(random.below(2)).unwrap(), Partition::default);
        let policy = quick_policy();
        let sealed = node.core().policy_sealed(&policy).unwrap().unwrap();
        broker.governance.append(start, sealed.into_bytes());
        let silent_at = random.one_in(8).then(|| random.below(24));
        let mut life = Self { random, broker, clock, stamp, node, follower, commands: Vec::new(), silent_at };
        for (name, role) in [("fin", Role::Finance), ("call", Role::Oncall)] {
            let token_sha256 = envelope::hex(&[name.as_bytes()[0]; 32]);
            life.ask(
                "root",
                Role::Admin,
                Request::PrincipalEnroll(PrincipalEnroll {
                    name: name.into(),
                    roles: [role].into(),
                    token_sha256,
                    ..PrincipalEnroll::default()
                }),
            );
        }
        let limit = PrincipalLimit { name: "fin".into(), finance_limit_usd: 2.into() };
        life.ask("root", Role::Admin, Request::PrincipalLimit(limit));
        life
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    /// Nothing comes, and the node goes on: its cuts thin out. Or it was down, and makes up for it.
    fn silence(&mut self) {
        let minutes = 21 + self.random.upto(6);
        let is_down = self.random.one_in(3);
        for quarter in 1..=minutes * 4 {
            self.clock.set(self.now().plus_seconds(15));
            self.broker.deliver_late(self.now());
            if !is_down || quarter == minutes * 4 {
                self.retry_commands();
                for _ in 0..3 {
                    self.settle();
                }
            }
        }
    }

    fn ask(&mut self, principal: &str, role: Role, request: Request) {
        let key = format!("key-{}", self.commands.len());
        self.commands.push((principal.into(), role, key, request));
    }

    /// Time goes on, something happens or fails, the nodes do their parts.
    fn step(&mut self) {
        let half_seconds = 1 + self.random.upto(8);
        self.clock.set(Time::from_micros(self.now().micros() + half_seconds * 500_000));
        self.broker.deliver_late(self.now());
        self.traffic();
        self.trouble();
        self.governance_traffic();
        self.retry_commands();
        self.work();
        if self.random.one_in(24) {
            self.node.check(&self.broker);
        }
    }

    fn traffic(&mut self) {
        let now = self.now();
        for partition in &mut self.broker.metrics {
            for _ in 0..self.random.below(4) {
                let engine = if self.random.one_in(4) { "e2" } else { "e1" };
                let duration = if self.random.one_in(2) { 1_000 } else { 100 };
                let cost =
                    if self.random.one_in(10) { ["0.5", "2.5"][usize::from(self.random.one_in(3))] } else { "0.01" };
                let body =
                    format!(r#"{{"model":"m","engine_hash":"{engine}","duration_ms":{duration},"cost_usd":{cost}}}"#);
                // Whoever was not told that it is there produces it again.
                if self.random.one_in(12) {
                    partition.append(now, body.clone().into_bytes());
                }
                partition.append(now, body.into_bytes());
            }
            if self.random.one_in(12) {
                partition.write(now, None);
            }
        }
    }

    fn trouble(&mut self) {
        let count = self.broker.metrics.len();
        let number = usize::try_from(self.random.below(count as u64)).unwrap();
        match self.random.below(24) {
            0 => self.broker.metrics[number].unreachable ^= true,
            1 => {
                // A new leader, whose clock is behind; seldom by far.
                let far = if self.random.one_in(4) { 60_000 } else { 0 };
                self.broker.metrics[number].skew_ms = 500 * self.random.upto(4) - 1_500 - far;
            }
            2 if count < 3 => self.broker.metrics.push(Partition::default()),
            3 => {
                self.broker.metrics[number].recreated ^= true;
                self.node.crash(true);
            }
            4 => self.hole(number),
            5 => self.clock.set(self.now().plus_seconds(self.random.upto(200))),
            6 => self.node.snapshot(),
            7 | 8 => self.node.crash(self.random.one_in(2)),
            9..=12 => {
                let left = self.random.upto(12);
                self.node.disk.fail_after(left, self.random.one_in(2));
            }
            13 => self.broker.governance.unreachable ^= true,
            14 => {
                let behind = [0, 1_000, 40_000, 90_000][usize::try_from(self.random.below(4)).unwrap()];
                self.broker.governance.skew_ms = -behind;
            }
            15 => self.wrong_cut(),
            _ => {}
        }
    }

    /// A cut that must not count: before the last, far ahead of its entry's time, or not on the grid.
    fn wrong_cut(&mut self) {
        let now = self.now();
        let last = self.node.core().shared().governance().last_cut.clone();
        let ahead = now.ceil_to_seconds(10).plus_seconds(70 + 10 * self.random.upto(100));
        let instant = match (self.random.below(3), last) {
            (0, Some(last)) => last.instant.plus_seconds(-10 * self.random.upto(3)),
            (1, _) => now.floor_to_seconds(10).plus_seconds(3),
            _ => ahead,
        };
        let cut = Cut { instant, ledgers: Vec::new(), missing: Vec::new() };
        let sealed = Saying::cut(&cut).seal(&self.node.core().data_dir().node_key().unwrap()).unwrap();
        self.broker.governance.append(now, sealed.into_bytes());
    }

    /// Records expire before anyone read them. Both nodes stand at the same offset, or their trees would rightly differ.
    fn hole(&mut self, number: usize) {
        let ledger = u32::try_from(number).unwrap();
        let source = &mut self.broker.metrics[number];
        if source.unreachable || source.recreated {
            return;
        }
        if let (Some(here), Some(there)) = (self.node.next(ledger), self.follower.next(ledger)) {
            if there < here {
                self.follower.read_metrics(ledger, source, usize::try_from(here - there).unwrap());
            }
            if self.follower.next(ledger) == Some(here) && source.end() > here {
                source.low = source.end();
            }
        }
    }

    fn governance_traffic(&mut self) {
        let now = self.now();
        let engine = if self.random.one_in(2) { "e1" } else { "e2" };
        let governance = self.node.core().shared().governance().waivers.clone();
        let (rule, cap_usd) = if self.random.one_in(2) {
            (Rule::LatencyP95, None)
        } else {
            (Rule::CostPerRequest, Some((1 + self.random.upto(3)).into()))
        };
        let expires = now.plus_seconds(20 + self.random.upto(60));
        match self.random.below(10) {
            0 => {
                let kind = ["llm_engine_published", "llm_warmup_completed", "llm_rollback_completed"]
                    [usize::try_from(self.random.below(3)).unwrap()];
                let body = format!(
                    r#"{{"event_type":"{kind}","artifact":{{"artifact_id":"s","hash":"{engine}"}},"payload":{{}},"timestamp":"{now}"}}"#
                );
                self.broker.produce(now, body.as_bytes(), &mut self.random);
            }
            1 => {
                let scope = WaiverScope { cap_usd, ..WaiverScope::new(rule, "s", "j", "m", expires) };
                self.ask("call", Role::Oncall, Request::WaiverRequest(scope));
            }
            2 | 3 => {
                let all = governance.oldest_first();
                let Some((id, waiver)) = all.last() else { return };
                let decision = WaiverDecision {
                    waiver: (*id).to_owned(),
                    scope_sha256: waiver.scope.as_ref().map(WaiverScope::sha256),
                    reason: None,
                };
                let request = match self.random.below(5) {
                    0 => Request::WaiverRefuse(decision),
                    1 => Request::WaiverRevoke(decision),
                    _ => Request::WaiverApprove(decision),
                };
                self.ask("fin", Role::Finance, request);
            }
            4 => self.ask(
                "call",
                Role::Oncall,
                Request::EngineCondemn(EngineJudgement {
                    stack: "s".into(),
                    engine_hash: engine.into(),
                    reason: "r".into(),
                }),
            ),
            _ => {}
        }
        for (number, (from, to)) in std::mem::take(&mut self.node.holes) {
            let ledger = format!("metrics-{number}");
            let reason = "expired".to_owned();
            self.ask("root", Role::Admin, Request::HoleConfirm(HoleConfirm { ledger, from, to, reason }));
        }
    }

    /// Whoever asked asks again, under the same key, until the outcome is known.
    fn retry_commands(&mut self) {
        let now = self.now();
        let genesis = self.node.core().shared().governance().genesis.parse().unwrap();
        let key = self.node.core().data_dir().node_key().unwrap();
        for (principal, role, idempotency, request) in self.commands.clone() {
            let id = command_id(&principal, &idempotency);
            let known = self.node.core().shared().governance().commands.contains_key(&id);
            if known || self.random.one_in(2) {
                continue;
            }
            let command = Command {
                command_id: id,
                principal,
                role,
                not_after: now.plus_seconds(60),
                governance: genesis,
                authenticated_by: "token".into(),
                request,
            };
            let sealed = command_event(&command, &key).unwrap();
            self.broker.produce(now, sealed.as_bytes(), &mut self.random);
        }
    }

    fn work(&mut self) {
        let max = 1 + usize::try_from(self.random.below(5)).unwrap();
        for number in 0..self.broker.metrics.len() {
            let ledger = u32::try_from(number).unwrap();
            if !self.random.one_in(4) {
                self.node.read_metrics(ledger, &self.broker.metrics[number], 3 * max);
            }
            if self.random.one_in(4) {
                self.follower.read_metrics(ledger, &self.broker.metrics[number], 7 * max);
            }
        }
        for _ in 0..=self.random.below(4) {
            self.node.read_governance(&self.broker.governance, max * 2);
            self.node.speak(&mut self.broker, &mut self.random);
        }
        if self.random.one_in(3) {
            self.follower.read_governance(&self.broker.governance, max);
        }
    }

    /// Everything is well again, and goes on until nothing is left to say.
    fn end(&mut self) -> Counts {
        for partition in self.broker.metrics.iter_mut().chain([&mut self.broker.governance]) {
            (partition.unreachable, partition.recreated, partition.skew_ms) = (false, false, 0);
        }
        self.node.crash(true);
        for _ in 0..30 {
            self.clock.set(self.now().plus_seconds(3));
            self.broker.deliver_late(self.now());
            self.governance_holes();
            self.retry_commands();
            self.settle();
        }
        // A turn can bring a cut, and the cut something to say: it is over when a turn leaves nothing.
        let mut turns = 0;
        loop {
            self.settle();
            if self.node.core().unsaid().unwrap().is_empty() && self.are_commands_known() {
                break;
            }
            assert!(turns < 1_000, "something is never said");
            turns += 1;
            self.clock.set(self.now().plus_seconds(6));
            self.retry_commands();
        }
        self.node.check(&self.broker);
        self.follower.check(&self.broker);
        self.compare()
    }

    fn are_commands_known(&self) -> bool {
        let shared = self.node.core().shared();
        let governance = shared.governance();
        self.commands.iter().all(|(principal, _, key, _)| governance.commands.contains_key(&command_id(principal, key)))
    }

    fn governance_holes(&mut self) {
        for (number, (from, to)) in std::mem::take(&mut self.node.holes) {
            let ledger = format!("metrics-{number}");
            let reason = "expired".to_owned();
            self.ask("root", Role::Admin, Request::HoleConfirm(HoleConfirm { ledger, from, to, reason }));
        }
    }

    fn settle(&mut self) {
        for node in [&mut self.node, &mut self.follower] {
            for (number, partition) in (0..).zip(&self.broker.metrics) {
                node.read_metrics(number, partition, usize::MAX);
            }
        }
        self.node.read_governance(&self.broker.governance, 64);
        self.node.speak(&mut self.broker, &mut self.random);
        self.node.read_governance(&self.broker.governance, 64);
        while !self.broker.governance.unreachable
            && self.follower.core().shared().governance().size < self.node.core().shared().governance().size
        {
            self.follower.read_governance(&self.broker.governance, 1);
        }
    }

    fn compare(&self) -> Counts {
        let (here, there) = (self.node.core().shared(), self.follower.core().shared());
        let (ours, theirs) = (here.readers(), there.readers());
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        for (name, reader) in &ours {
            assert_eq!((reader.size(), reader.root()), (theirs[name].size(), theirs[name].root()), "{name}");
        }
        assert_eq!(self.follower.core().unsaid().unwrap(), Vec::<String>::new(), "nothing is left to say");
        assert!(self.are_commands_known(), "a command was lost");
        let mut facts = Facts::default();
        facts.follow(&ours["governance"], &here.governance());
        let text = |all: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
            all.values().map(|payload| String::from_utf8(payload.clone()).unwrap()).collect()
        };
        assert_eq!(text(&self.node.derived), text(&facts.said), "what the node derived is what was said");
        // What a deferred cut brings to light may be settled in the same call, unseen; that it was derived is shown by the
        // absence of integrity alarms.
        for (id, payload) in &self.follower.derived {
            assert_eq!(Some(payload), facts.said.get(id), "another schedule derives the same");
        }
        facts.check_waivers();
        let cuts: Vec<Cut> = facts.cuts.iter().map(|(_, cut)| cut.clone()).collect();
        self.check_cuts(&cuts);
        Counts::of(&facts)
    }

    /// Each size is the one that the rule of its topic gives at the instant.
    fn check_cuts(&self, cuts: &[Cut]) {
        let shared = self.node.core().shared();
        let mut floors: BTreeMap<u32, u64> = BTreeMap::new();
        for cut in cuts {
            for listed in &cut.ledgers {
                let floor = floors.insert(listed.ledger, listed.size).unwrap_or(1);
                if cut.missing.contains(&listed.ledger) {
                    assert_eq!(listed.size, floor, "a missing partition keeps its size");
                    continue;
                }
                let reader = shared.reader(&format!("metrics-{}", listed.ledger)).unwrap();
                let log = &self.broker.metrics[listed.ledger as usize].log;
                let record = |position: u64| {
                    let entry = reader.entry(position).unwrap();
                    log[usize::try_from(leaf::split(&entry).unwrap().header.offset.unwrap()).unwrap()].clone()
                };
                let (stamped, grace) = (self.stamp == Stamp::LogAppend, 2);
                for position in floor..listed.size {
                    assert!(!stamped || record(position).stamp <= cut.instant, "counted before its time");
                }
                if listed.size < reader.size() {
                    let first = record(listed.size);
                    let by_stamp = stamped && first.stamp > cut.instant;
                    let after = if stamped { cut.instant.plus_seconds(grace) } else { cut.instant };
                    assert!(by_stamp || first.at >= after, "left out: {} at the cut of {}", first.stamp, cut.instant);
                }
            }
        }
    }
}

//! A node over the model: the real core, source check, cursor, progress, cut sizes and speech; only client and clock are the
//! model's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use govledger::clock::Clock;
use govledger::domain::cut::Cut;
use govledger::domain::envelope;
use govledger::domain::leaf::Header;
use govledger::domain::metric::TimeFields;
use govledger::domain::time::Time;
use govledger::ingest::kafka::decisions::{
    Cursor, End, Found, Partitions, Progress, Sizes, Speech, Stamp, is_same, judge,
};
use govledger::sequencer::{Core, DataDir, Incoming, MetricsChunk, Prepare, fold_to, metrics_number};
use ledger::EntrySource;

use super::disk::FailingDisk;
use super::facts::{Facts, id_of};
use super::model::{Broker, Partition, Random};
use super::spacing::Spacing;

pub(crate) struct Node {
    pub(crate) root: PathBuf,
    core: Option<Core>,
    pub(crate) disk: FailingDisk,
    clock: Clock,
    stamp: Stamp,
    partitions: Partitions,
    /// Where each opened partition is read on; governance is number -1.
    open: BTreeMap<i64, Cursor>,
    speech: Speech,
    /// The governance topic: what was read, and its end as it was found at start.
    governance: Progress,
    governance_end: Option<u64>,
    pub(crate) facts: Facts,
    spacing: Spacing,
    /// Everything this node ever derived, by id: the payload.
    pub(crate) derived: BTreeMap<String, Vec<u8>>,
    pub(crate) holes: BTreeMap<u32, (u64, u64)>,
}

impl Node {
    pub(crate) fn new(root: &Path, clock: Clock, stamp: Stamp) -> Self {
        let mut node = Self {
            root: root.to_owned(),
            core: None,
            disk: FailingDisk::new(),
            governance: Progress::new(clock.clone()),
            clock,
            stamp,
            partitions: Partitions::default(),
            open: BTreeMap::new(),
            speech: Speech::default(),
            governance_end: None,
            facts: Facts::default(),
            spacing: Spacing::default(),
            derived: BTreeMap::new(),
            holes: BTreeMap::new(),
        };
        node.start();
        node
    }

    /// The process ends and another begins; `cache` says whether its cache is still there.
    pub(crate) fn crash(&mut self, cache: bool) {
        self.core = None;
        if !cache {
            let _ = std::fs::remove_dir_all(self.root.join("cache"));
        }
        self.start();
    }

    fn start(&mut self) {
        self.disk = FailingDisk::new();
        let data_dir = DataDir::open(&self.root).unwrap().on(std::sync::Arc::new(self.disk.clone()));
        self.core = Some(Core::open(data_dir, TimeFields::default()).unwrap());
        self.partitions = Partitions::default();
        self.open.clear();
        self.speech = Speech::default();
        (self.governance, self.governance_end) = (Progress::new(self.clock.clone()), None);
        self.spacing.restart();
    }

    pub(crate) fn core(&self) -> &Core {
        self.core.as_ref().unwrap()
    }

    /// The next offset of a partition, where it is open.
    pub(crate) fn next(&self, number: u32) -> Option<u64> {
        self.open.get(&i64::from(number)).map(Cursor::next)
    }

    pub(crate) fn snapshot(&mut self) {
        self.core.as_mut().unwrap().snapshot().unwrap();
    }

    /// An append that failed ends the process; nothing of it may have been folded.
    fn failed(&mut self, size: u64) {
        let folded = self.core().shared().governance().size;
        assert_eq!(folded, size, "folded before it was durable");
        self.crash(folded.is_multiple_of(2));
    }

    fn ready(&mut self, number: i64, source: &Partition) -> bool {
        if self.open.contains_key(&number) {
            return true;
        }
        let shared = self.core().shared();
        let (name, last) = match u32::try_from(number) {
            Ok(number) => {
                (format!("metrics-{number}"), shared.metrics().get(&number).and_then(|state| state.offsets.last))
            }
            Err(_) => ("governance".to_owned(), shared.governance().offsets.last),
        };
        let reader = shared.reader(&name).unwrap();
        let last = last.map(|offset| (offset, reader.entry(reader.size() - 1).unwrap()));
        let confirmed = shared.governance().holes.get(&name).cloned().unwrap_or_default();
        let had_last = last.is_some();
        let found = judge((source.low, source.shown_end()), last, &confirmed, |offset, entry| {
            let record = &source.log[usize::try_from(offset).unwrap()];
            let header = Header { offset: Some(offset), ..Header::at(record.stamp) };
            let body = if source.recreated { b"{}".to_vec() } else { record.body.clone().unwrap() };
            Ok::<_, Infallible>((!is_same(entry, &header, &body)).then(|| "made anew".to_owned()))
        })
        .unwrap();
        match found {
            Found::Ready { next, hole } => {
                assert!(!(source.recreated && had_last && source.low < next), "another topic was taken for the source");
                self.open.insert(number, Cursor::at(next, hole));
            }
            Found::Hole { from, to } => {
                self.holes.insert(u32::try_from(number).unwrap(), (from, to));
            }
            Found::Other(_) => assert!(source.recreated, "the source was taken for another"),
        }
        self.open.contains_key(&number)
    }

    pub(crate) fn read_governance(&mut self, source: &Partition, max: usize) {
        if source.unreachable || !self.ready(-1, source) {
            return;
        }
        self.governance_end.get_or_insert(source.end());
        let mut cursor = self.open[&-1];
        let mut items = Vec::new();
        for (offset, record) in (cursor.next()..).zip(&source.log[usize::try_from(cursor.next()).unwrap()..]).take(max)
        {
            let mut header = Header { offset: Some(offset), ..Header::at(record.stamp) };
            cursor.pass(&mut header, offset);
            items.push(Incoming { header, body: record.body.clone().unwrap() });
        }
        let size = self.core().shared().governance().size;
        if self.core.as_mut().unwrap().append_governance(items).is_err() {
            self.failed(size);
        } else {
            self.open.insert(-1, cursor);
            self.governance.advance(cursor.next());
        }
        let shared = self.core().shared();
        self.facts.follow(&shared.reader("governance").unwrap(), &shared.governance());
        for sealed in self.core().unsaid().unwrap() {
            let payload = envelope::open(&sealed).unwrap().payload;
            self.derived.insert(id_of(&payload), payload);
        }
    }

    pub(crate) fn read_metrics(&mut self, number: u32, source: &Partition, max: usize) {
        let size = self.core().shared().governance().size;
        if self.core.as_mut().unwrap().ensure_metrics(number).is_err() {
            return self.failed(size);
        }
        if !self.partitions.has(number) {
            self.partitions.add(number, Progress::new(self.clock.clone()).into());
        }
        if source.unreachable || source.recreated && self.open.contains_key(&i64::from(number)) {
            return;
        }
        // Records that expired before they were read end the reading: the source is looked at again.
        if self.open.get(&i64::from(number)).is_some_and(|cursor| cursor.next() < source.low) {
            self.open.remove(&i64::from(number));
        }
        if !self.ready(i64::from(number), source) {
            return;
        }
        let progress = std::sync::Arc::clone(&self.partitions.all()[&number]);
        let mut cursor = self.open[&i64::from(number)];
        progress.advance(cursor.next());
        progress.see_end(End { asked_at: self.clock.now(), offset: source.end() });
        let prepare = Prepare::new(self.core().data_dir().blobs(), TimeFields::default());
        let mut chunk = MetricsChunk::default();
        let mut position = cursor.next();
        for (offset, record) in (position..).zip(&source.log[usize::try_from(position).unwrap()..]).take(max) {
            position = offset + 1;
            let Some(body) = &record.body else { continue };
            let mut header = Header { offset: Some(offset), ..Header::at(record.stamp) };
            cursor.pass(&mut header, offset);
            prepare.push(&mut chunk, header, body).unwrap().unwrap();
        }
        if !chunk.is_empty() {
            if self.core.as_mut().unwrap().append_metrics(number, vec![chunk]).is_err() {
                return self.failed(size);
            }
            self.open.insert(i64::from(number), cursor);
            progress.appended(cursor.next(), self.clock.now());
            self.spacing.arrive(self.clock.now());
        }
        // Nothing is in flight: control records after the last one are passed over.
        progress.advance(position);
        progress.see_end(End { asked_at: self.clock.now(), offset: source.end() });
    }

    /// Produces what the speech says is to be produced now. None before the topic was read to its end at start.
    pub(crate) fn speak(&mut self, broker: &mut Broker, random: &mut Random) {
        if self.governance_end.is_none_or(|end| self.governance.next() < end) {
            return;
        }
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let unsaid = self.core().unsaid().unwrap();
        for sealed in self.speech.sayings(unsaid, elapsed) {
            broker.produce(now, sealed.as_bytes(), random);
        }
        let shared = self.core().shared();
        let last = shared.governance().last_cut.clone();
        let is_next = |instant: &Time| last.as_ref().is_none_or(|last| last.instant < *instant);
        let due = self.speech.instant().filter(is_next).or_else(|| self.due(last.as_ref()));
        let sizes = Sizes { shared, partitions: self.partitions.clone(), stamp: self.stamp };
        let key = self.core().data_dir().node_key().unwrap();
        let cut = self.speech.cut(&sizes, &key, now, elapsed).unwrap();
        assert_eq!(self.speech.instant(), due, "the cut after that of {last:?}, at {now}");
        if let Some(sealed) = cut
            && !broker.produce(now, sealed.as_bytes(), random)
        {
            self.speech.cut_failed();
        }
    }

    /// The cut that is due by the ledgers as they are.
    fn due(&mut self, last: Option<&Cut>) -> Option<Time> {
        for (name, reader) in self.core().shared().readers() {
            if let Some(number) = metrics_number(&name) {
                self.spacing.follow(number, &reader);
            }
        }
        self.spacing.due(self.stamp, last, &self.facts.reports, self.clock.now())
    }

    /// Leaves are offsets, and the folds are those of a fold from nothing.
    pub(crate) fn check(&self, broker: &Broker) {
        let shared = self.core().shared();
        let readers = shared.readers();
        for (name, reader) in &readers {
            let source = metrics_number(name).map_or(&broker.governance, |number| &broker.metrics[number as usize]);
            let mut next = 0;
            for entry in reader.entries(1..reader.size()) {
                let entry = entry.unwrap().1;
                let leaf = govledger::domain::leaf::split(&entry).unwrap();
                next = leaf.header.hole.map_or(next, |(from, to)| {
                    assert_eq!(from, next, "{name}: a hole begins where the leaves ended");
                    to + 1
                });
                let skipped = next..next + leaf.header.skipped_offsets.unwrap_or(0);
                next = skipped.end;
                let is_control = |offset: u64| source.log[usize::try_from(offset).unwrap()].body.is_none();
                assert!(skipped.into_iter().all(is_control), "{name}: records are not skipped");
                assert_eq!(leaf.header.offset, Some(next), "{name}: leaves are offsets");
                let body = source.log[usize::try_from(next).unwrap()].body.as_deref();
                assert_eq!(Some(leaf.body), body, "{name}: leaf {next}");
                next += 1;
            }
        }
        let sources: BTreeMap<String, &dyn EntrySource> =
            readers.iter().map(|(name, reader)| (name.clone(), reader as &dyn EntrySource)).collect();
        let afresh = fold_to(&sources, None, readers["governance"].size(), true).unwrap();
        assert_eq!(shared.governance().digest(), afresh.governance.digest(), "governance");
        assert_eq!(
            serde_json::to_string(&*shared.slo()).unwrap(),
            serde_json::to_string(&afresh.slo).unwrap(),
            "metrics folds"
        );
        assert_eq!(shared.status.integrity_alarms.load(std::sync::atomic::Ordering::SeqCst), 0, "integrity alarms");
    }
}

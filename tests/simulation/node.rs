//! A node over the model: the real core, source check, progress and cut sizes; only the client is the model.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use govledger::clock::Clock;
use govledger::domain::envelope;
use govledger::domain::leaf::Header;
use govledger::domain::metric::TimeFields;
use govledger::domain::time::Time;
use govledger::ingest::kafka::decisions::{Draft, End, Found, Partitions, Progress, Sizes, Stamp, is_same, judge};
use govledger::sequencer::{Core, DataDir, Incoming, MetricsChunk, Prepare, Saying, fold_to};
use ledger::EntrySource;

use super::disk::FailingDisk;
use super::model::{Broker, Partition, Random};

pub(crate) struct Node {
    pub(crate) root: PathBuf,
    core: Option<Core>,
    pub(crate) disk: FailingDisk,
    clock: Clock,
    stamp: Stamp,
    partitions: Partitions,
    /// Where each opened partition is read on, and the hole before; governance is number -1.
    open: BTreeMap<i64, (u64, Option<(u64, u64)>)>,
    draft: Option<Draft>,
    under_way: Option<(Time, String, Time)>,
    said: BTreeMap<String, Time>,
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
            clock,
            stamp,
            partitions: Partitions::default(),
            open: BTreeMap::new(),
            draft: None,
            under_way: None,
            said: BTreeMap::new(),
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
        self.said.clear();
        (self.draft, self.under_way) = (None, None);
    }

    pub(crate) fn core(&self) -> &Core {
        self.core.as_ref().unwrap()
    }

    /// The next offset of a partition, where it is open.
    pub(crate) fn next(&self, number: u32) -> Option<u64> {
        self.open.get(&i64::from(number)).map(|(next, _)| *next)
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
        let found = judge((source.low, source.end()), last, &confirmed, |offset, entry| {
            let record = &source.log[usize::try_from(offset).unwrap()];
            let header = Header { offset: Some(offset), ..Header::at(record.stamp) };
            let body = if source.recreated { b"{}".to_vec() } else { record.body.clone() };
            Ok::<_, Infallible>((!is_same(entry, &header, &body)).then(|| "made anew".to_owned()))
        })
        .unwrap();
        match found {
            Found::Ready { next, hole } => {
                assert!(!(source.recreated && had_last && source.low < next), "another topic was taken for the source");
                self.open.insert(number, (next, hole));
            }
            Found::Hole { from, to } => {
                self.holes.insert(u32::try_from(number).unwrap(), (from, to));
            }
            Found::Other(_) => assert!(source.recreated, "the source was taken for another"),
        }
        self.open.contains_key(&number)
    }

    pub(crate) fn read_governance(&mut self, source: &Partition, max: usize) {
        if !self.ready(-1, source) {
            return;
        }
        let (next, _) = self.open[&-1];
        let records: Vec<_> = (next..).zip(&source.log[usize::try_from(next).unwrap()..]).take(max).collect();
        let items = records
            .iter()
            .map(|(offset, record)| Incoming {
                header: Header { offset: Some(*offset), ..Header::at(record.stamp) },
                body: record.body.clone(),
            })
            .collect();
        let size = self.core().shared().governance().size;
        match self.core.as_mut().unwrap().append_governance(items) {
            Ok(_) => {
                self.open.insert(-1, (next + records.len() as u64, None));
            }
            Err(_) => self.failed(size),
        }
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
        if self.open.get(&i64::from(number)).is_some_and(|(next, _)| *next < source.low) {
            self.open.remove(&i64::from(number));
        }
        if !self.ready(i64::from(number), source) {
            return;
        }
        let progress = std::sync::Arc::clone(&self.partitions.all()[&number]);
        let (mut next, mut hole) = self.open[&i64::from(number)];
        progress.advance(next);
        progress.see_end(End { asked_at: self.clock.now(), offset: source.end() });
        let prepare = Prepare::new(self.core().data_dir().blobs(), TimeFields::default());
        let mut chunk = MetricsChunk::default();
        for record in source.log[usize::try_from(next).unwrap()..].iter().take(max) {
            let header = Header { offset: Some(next), hole: hole.take(), ..Header::at(record.stamp) };
            prepare.push(&mut chunk, header, &record.body).unwrap().unwrap();
            next += 1;
        }
        if chunk.is_empty() {
            return;
        }
        if self.core.as_mut().unwrap().append_metrics(number, vec![chunk]).is_err() {
            return self.failed(size);
        }
        self.open.insert(i64::from(number), (next, hole));
        progress.appended(next, self.clock.now());
        progress.see_end(End { asked_at: self.clock.now(), offset: source.end() });
    }

    /// Says what is unsaid, and the next cut where its sizes are known; again what was not read back after five seconds.
    pub(crate) fn speak(&mut self, broker: &mut Broker, random: &mut Random) {
        let now = self.clock.now();
        if self.open.get(&-1).is_none_or(|(next, _)| *next < broker.governance.end()) {
            return;
        }
        for sealed in self.core().unsaid().unwrap() {
            if self.said.get(&sealed).is_none_or(|said| said.plus_seconds(5) <= now) {
                self.said.insert(sealed.clone(), now);
                broker.produce(now, sealed.as_bytes(), random);
            }
        }
        let shared = self.core().shared();
        let last = shared.governance().last_cut.as_ref().map(|cut| cut.instant);
        if let Some((instant, sealed, said)) =
            self.under_way.clone().filter(|under| last.is_none_or(|last| last < under.0))
        {
            if said.plus_seconds(5) <= now {
                self.under_way = Some((instant, sealed.clone(), now));
                broker.produce(now, sealed.as_bytes(), random);
            }
            return;
        }
        self.under_way = None;
        let sizes = Sizes { shared, partitions: self.partitions.clone(), stamp: self.stamp };
        let draft = self.draft.take().filter(|draft| last.is_none_or(|last| last < draft.instant));
        let due = || sizes.next_instant(now).unwrap().filter(|instant| *instant <= now).map(Draft::at);
        let Some(mut draft) = draft.or_else(due) else { return };
        match sizes.cut(&mut draft).unwrap() {
            Some(cut) => {
                let sealed = Saying::cut(&cut).seal(&self.core().data_dir().node_key().unwrap()).unwrap();
                broker.produce(now, sealed.as_bytes(), random);
                self.under_way = Some((cut.instant, sealed, now));
            }
            None => self.draft = Some(draft),
        }
    }

    /// Leaves are offsets, and the folds are those of a fold from nothing.
    pub(crate) fn check(&self, broker: &Broker) {
        let shared = self.core().shared();
        let readers = shared.readers();
        for (name, reader) in &readers {
            let source = govledger::sequencer::metrics_number(name)
                .map_or(&broker.governance, |number| &broker.metrics[number as usize]);
            let mut next = 0;
            for entry in reader.entries(1..reader.size()) {
                let entry = entry.unwrap().1;
                let leaf = govledger::domain::leaf::split(&entry).unwrap();
                next = leaf.header.hole.map_or(next, |(from, to)| {
                    assert_eq!(from, next, "{name}: a hole begins where the leaves ended");
                    to + 1
                });
                assert_eq!(leaf.header.offset, Some(next), "{name}: leaves are offsets");
                assert_eq!(leaf.body, source.log[usize::try_from(next).unwrap()].body, "{name}: leaf {next}");
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

pub(crate) fn id_of(payload: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
    value["id"].as_str().unwrap().to_owned()
}

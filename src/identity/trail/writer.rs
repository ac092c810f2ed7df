//! The one thread that writes the access ledger.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ledger::Ledger;

use super::{ACCESS, AccessEvent, AccessSettings, Message, NotKept, Note, NoteKind, Shared, TrailConfig};
use crate::clock::{Clock, monotonic};
use crate::domain::leaf::Header;
use crate::domain::settings::FORMAT;
use crate::domain::time::Time;
use crate::identity::rate::{Buckets, Rate};
use crate::sequencer::{DataDir, SequencerError};

/// Notes that come within this time are written, and synced, together.
const GATHERED_WITHIN: Duration = Duration::from_millis(250);
/// How often something is done where nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// How long after a failure the ledger is opened again.
const REOPENED_AFTER: Duration = Duration::from_secs(10);
/// How often a count of what was not kept is written at the most.
const COUNTED_EVERY_MICROS: i64 = 10_000_000;

pub(super) struct Writer {
    data_dir: DataDir,
    clock: Clock,
    rate: Rate,
    first_entry: Vec<u8>,
    shared: Arc<Shared>,
    ledger: Option<Ledger>,
    buckets: Buckets,
    not_kept: NotKept,
    counted: Time,
    /// Monotonic: of the last try to open.
    tried: Option<std::time::Instant>,
}

impl Writer {
    pub(super) fn new(
        data_dir: DataDir,
        clock: Clock,
        config: TrailConfig,
        shared: Arc<Shared>,
    ) -> Result<Self, SequencerError> {
        let governance = ledger::tree::leaf_hash(&data_dir.settings().entry()?);
        let settings = AccessSettings { ledger: ACCESS.to_owned(), format: FORMAT, governance };
        let mut first_entry = Header { serial: Some(0), ..Header::at(Time::default()) }.line();
        serde_json::to_writer(&mut first_entry, &settings)?;
        let rate = Rate { per_second: config.entries_per_second, burst: config.entries_burst };
        Ok(Self {
            data_dir,
            clock,
            rate,
            first_entry,
            shared,
            ledger: None,
            buckets: Buckets::default(),
            not_kept: NotKept::default(),
            counted: Time::default(),
            tried: None,
        })
    }

    /// Opens the ledger where it is not open, but not at every turn.
    pub(super) fn open(&mut self) {
        if self.ledger.is_some() || self.tried.is_some_and(|tried| tried.elapsed() < REOPENED_AFTER) {
            return;
        }
        self.tried = Some(monotonic());
        match self.data_dir.own_ledger(ACCESS, &self.first_entry) {
            Ok(ledger) => {
                self.show(Some(ledger.reader()));
                self.ledger = Some(ledger);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn show(&self, reader: Option<ledger::Reader>) {
        self.shared.up.store(reader.is_some(), Ordering::Relaxed);
        if reader.is_some() {
            *self.shared.reader.write().unwrap_or_else(PoisonError::into_inner) = reader;
        }
    }

    fn fail(&mut self, error: &dyn std::fmt::Display) {
        // What was durable can still be read.
        self.ledger = None;
        self.tried = Some(monotonic());
        self.show(None);
        tracing::error!(%error, "access.unavailable: accesses are counted and not kept until the ledger opens again");
    }

    pub(super) fn run(mut self, notes: &Receiver<Message>) {
        loop {
            let (gathered, stop) = gather(notes);
            self.open();
            let kept = self.within_rate(gathered);
            self.write(&kept, stop);
            if stop {
                return;
            }
        }
    }

    /// What the rate leaves of the notes; the rest is counted. Each kind has its own bucket, and so have those whom nobody knows.
    fn within_rate(&mut self, notes: Vec<(Time, Note)>) -> Vec<(Time, Note)> {
        let now = self.clock.elapsed();
        let mut kept = Vec::with_capacity(notes.len());
        for (time, note) in notes {
            let bucket = format!("{:?} {}", note.kind, note.principal.is_some());
            if self.buckets.take(&bucket, self.rate, now).is_ok() {
                kept.push((time, note));
            } else {
                self.count(time, note.kind, note.count);
                self.shared.not_kept.fetch_add(note.count, Ordering::Relaxed);
            }
        }
        kept
    }

    fn count(&mut self, time: Time, kind: NoteKind, count: u64) {
        if self.not_kept.counts.is_empty() {
            self.not_kept.since = time;
        }
        self.not_kept.until = self.not_kept.until.max(time);
        *self.not_kept.counts.entry(kind).or_default() += count;
    }

    fn write(&mut self, notes: &[(Time, Note)], last: bool) {
        let now = self.clock.now();
        let overflown = std::mem::take(&mut *self.shared.overflown.lock().unwrap_or_else(PoisonError::into_inner));
        for (kind, count) in overflown {
            self.count(now, kind, count);
        }
        let is_due = now.micros_since(self.counted) >= COUNTED_EVERY_MICROS || last;
        let counts = !self.not_kept.counts.is_empty() && is_due;
        if notes.is_empty() && !counts {
            return;
        }
        let not_kept = counts
            .then(|| (now, AccessEvent::NotKept(NotKept { kind: "not_kept".to_owned(), ..self.not_kept.clone() })));
        let events = notes.iter().map(|(time, note)| (*time, AccessEvent::Note(note.clone()))).chain(not_kept);
        let entries: Vec<Vec<u8>> = events.filter_map(|(time, event)| entry(time, &event)).collect();
        let Some(ledger) = &mut self.ledger else { return self.lose(notes) };
        match ledger.append_entries(&entries) {
            Ok(_) if counts => {
                (self.not_kept, self.counted) = (NotKept::default(), now);
            }
            Ok(_) => {}
            Err(error) => {
                self.fail(&error);
                self.lose(notes);
            }
        }
    }

    fn lose(&mut self, notes: &[(Time, Note)]) {
        for (time, note) in notes {
            self.count(*time, note.kind, note.count);
            self.shared.not_kept.fetch_add(note.count, Ordering::Relaxed);
        }
    }
}

fn entry(time: Time, event: &AccessEvent) -> Option<Vec<u8>> {
    let mut entry = Header::at(time).line();
    // Paths are cut where they are noted, so an entry is far below its limit.
    serde_json::to_writer(&mut entry, event).ok()?;
    Some(entry)
}

/// Waits for a note, then for those that come shortly after it; alike ones become one.
fn gather(notes: &Receiver<Message>) -> (Vec<(Time, Note)>, bool) {
    let mut gathered: Vec<(Time, Note)> = Vec::new();
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut wait = IDLE;
    let mut began = None;
    loop {
        match notes.recv_timeout(wait) {
            Ok(Message::Note(time, note)) => {
                let index = *alike.entry(what_it_is(&note)).or_insert(gathered.len());
                match gathered.get_mut(index) {
                    Some((_, first)) => first.count += 1,
                    None => gathered.push((time, *note)),
                }
            }
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return (gathered, true),
            Err(RecvTimeoutError::Timeout) => return (gathered, false),
        }
        let began = began.get_or_insert_with(monotonic);
        wait = GATHERED_WITHIN.saturating_sub(began.elapsed());
        // However fast they come, what there is gets written.
        if wait.is_zero() {
            return (gathered, false);
        }
    }
}

/// What makes two notes alike. Refused ones are alike whatever the path's parameters; the others name what they touched.
fn what_it_is(note: &Note) -> String {
    let path = if note.kind == NoteKind::Denied { "" } else { note.path.as_str() };
    format!(
        "{:?} {} {} {path} {} {:?} {:?} {:?}",
        note.kind, note.method, note.route, note.status, note.code, note.principal, note.token_digest
    )
}

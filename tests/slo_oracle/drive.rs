//! Drives the SLO engine over a pair of logs the way a backfill does, without the service around it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use govledger::domain::cut::{Cut, CutLedger};
use govledger::domain::event::{Alert, Event};
use govledger::domain::leaf::{Header, Leaf};
use govledger::domain::metric::{self, Batch, MetricEvent, Observed};
use govledger::domain::report;
use govledger::domain::time::Time;
use govledger::projection::slo::{Finding, Records, RecordsError, Slo};

/// Metric lines, dealt out to ledgers.
pub(crate) struct Memory(Vec<Batch>);

impl Records for Memory {
    fn for_each(
        &mut self,
        ledger: u32,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), RecordsError> {
        self.0[ledger as usize].observed_between(from, to).for_each(&mut *visit);
        Ok(())
    }
}

/// The logs, read: times never decrease within a file.
pub(crate) struct Logs {
    pub(crate) memory: Memory,
    /// Time and ledger of each metric line.
    lines: Vec<(Time, usize)>,
    events: Vec<(Time, Option<String>, Event)>,
}

impl Logs {
    pub(crate) fn read(folder: &Path, ledgers: usize) -> Self {
        let text = fs::read_to_string(folder.join("provider-logs.ndjson")).unwrap();
        let mut batches = vec![Batch::default(); ledgers];
        let (mut lines, mut last) = (Vec::new(), None);
        for (index, line) in text.lines().enumerate() {
            let own = match metric::parse(line) {
                Ok(MetricEvent::Request(record)) => record.recorded_at,
                Ok(MetricEvent::Notice(notice)) => notice.recorded_at,
                Ok(MetricEvent::Scrape(scrape)) => scrape.scraped_at,
                Err(_) => None,
            };
            last = last.max(own);
            let ledger = index.wrapping_mul(7) % ledgers;
            let _ = batches[ledger].push_line(line);
            lines.push((last.expect("the first line has a time"), ledger));
        }
        let text = fs::read_to_string(folder.join("governance-events.ndjson")).unwrap();
        let (mut events, mut last) = (Vec::new(), None);
        for line in text.lines() {
            let read = report::read(&Leaf { header: Header::default(), body: line.as_bytes() }).unwrap();
            last = last.max(read.about.occurred_at);
            events.push((last.unwrap(), read.about.stack, read.event));
        }
        Self { memory: Memory(batches), lines, events }
    }

    /// The instants of the cuts of a backfill.
    pub(crate) fn instants(&self) -> Vec<Time> {
        let mut times: Vec<Time> =
            self.lines.iter().map(|line| line.0).chain(self.events.iter().map(|event| event.0)).collect();
        times.sort_unstable();
        let (first, last) = (times[0].ceil_to_seconds(10), times[times.len() - 1].ceil_to_seconds(10));
        let mut instants = Vec::new();
        let mut instant = first;
        while instant <= last {
            let active = times[times.partition_point(|&time| time <= instant) - 1];
            if instant <= active.plus_seconds(1200) || instant.floor_to_seconds(60) == instant {
                instants.push(instant);
            }
            instant = instant.plus_seconds(10);
        }
        instants
    }

    /// Folds everything. `every_cut` sees the state after each cut and may replace it.
    pub(crate) fn drive(&mut self, mut every_cut: impl FnMut(usize, Slo) -> Slo) -> Vec<Finding> {
        let (mut slo, mut findings) = (Slo::default(), Vec::new());
        let mut sizes = vec![0_u64; self.memory.0.len()];
        let (mut events, mut lines) = (0, 0);
        for (index, instant) in self.instants().into_iter().enumerate() {
            while let Some((time, stack, event)) = self.events.get(events).filter(|event| event.0 <= instant) {
                slo.observe(events as u64, *time, stack.as_deref(), event);
                events += 1;
            }
            while let Some((_, ledger)) = self.lines.get(lines).filter(|line| line.0 <= instant) {
                sizes[*ledger] += 1;
                lines += 1;
            }
            let ledgers = (0..)
                .zip(&sizes)
                .map(|(ledger, &size)| CutLedger { ledger, size, root: ledger::Hash::default() })
                .collect();
            findings.extend(slo.cut(&Cut { instant, ledgers, missing: Vec::new() }, &mut self.memory).unwrap());
            slo = every_cut(index, slo);
        }
        assert_eq!((events, lines), (self.events.len(), self.lines.len()), "the last cut comes after everything");
        findings
    }
}

/// One alert from firing to the end, as far as the trace goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Episode {
    pub(crate) firing_since: Time,
    pub(crate) rule: String,
    pub(crate) stack: String,
    pub(crate) engine_hash: String,
    pub(crate) pending_since: Time,
    pub(crate) resolved_at: Option<Time>,
    pub(crate) reason: Option<String>,
    pub(crate) value: String,
    pub(crate) samples: u64,
}

impl Episode {
    fn of(alert: &Alert) -> Self {
        Self {
            firing_since: alert.firing_since,
            rule: alert.rule.to_string(),
            stack: alert.stack.clone(),
            engine_hash: alert.engine_hash.clone(),
            pending_since: alert.pending_since,
            resolved_at: None,
            reason: None,
            value: alert.value.clone(),
            samples: alert.samples,
        }
    }
}

/// Pairs what fired with what resolved.
pub(crate) fn episodes(findings: &[Finding]) -> Vec<Episode> {
    let mut by_id = BTreeMap::new();
    for finding in findings {
        match finding {
            Finding::Firing(draft) => {
                let before = by_id.insert(draft.alert.id.clone(), Episode::of(&draft.alert));
                assert_eq!(before, None, "an alert fires once");
            }
            Finding::Resolved(draft) => {
                let episode = by_id.get_mut(&draft.alert.id).expect("what resolves has fired");
                assert_eq!(episode.resolved_at, None, "an alert resolves once");
                episode.resolved_at = draft.alert.resolved_at;
                episode.reason.clone_from(&draft.alert.reason);
            }
            Finding::Proven(_) | Finding::Waiver(_) | Finding::Impact(_) => {}
        }
    }
    let mut episodes: Vec<_> = by_id.into_values().collect();
    episodes.sort();
    episodes
}

//! File intake, to the point where everything is durable, judged, and folded at a cut; and questions meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::baseline::Baseline;
use super::report::Report;
use super::traffic::Traffic;
use super::{CliError, failed, rate};
use crate::clock::{Clock, monotonic};
use crate::domain::leaf::Header;
use crate::domain::metric::TimeFields;
use crate::domain::settings::SourceSettings;
use crate::domain::time::Time;
use crate::ingest::file::{FileSource, ingest_arrival};
use crate::projection::answers::Asked;
use crate::sequencer::{Core, DataDir, Handle, InitOptions, Options, Running, Submission, start};

/// Bytes of traffic between two cuts: ten seconds of a busy service.
const CUT_BYTES: u64 = 48 << 20;
const CUT_SECONDS: i64 = 10;
const QUESTION_PAUSE: Duration = Duration::from_millis(5);
pub(super) const STACK: &str = "engine-qwen3";

/// A node on a clock that the measurement moves.
pub(super) struct Node {
    pub(super) handle: Handle,
    pub(super) clock: Clock,
    pub(super) runtime: tokio::runtime::Runtime,
    running: Running,
    data: PathBuf,
}

impl Node {
    pub(super) fn open(data: &Path) -> Result<Self, CliError> {
        let now = Time::from_seconds(1_790_000_000);
        DataDir::init(
            data,
            InitOptions {
                node: "bench".to_owned(),
                source: SourceSettings::Embedded,
                admin: "ada".to_owned(),
                settings: None,
                further_node_keys: Vec::new(),
                now,
            },
        )?;
        let (data_dir, clock) = (DataDir::open(data)?, Clock::manual(now.plus_seconds(1)));
        let core = Core::open(data_dir.clone(), TimeFields::default())?;
        let running = start(core, Options { live_cuts: true, clock: clock.clone(), policy: None })?;
        let handle = Handle::new(&running, data_dir, clock.clone(), TimeFields::default(), None)?;
        Ok(Self { handle, clock, runtime: super::super::node::runtime()?, running, data: data.to_owned() })
    }

    /// Moves the clock over the next cut and waits until it is folded.
    pub(super) fn cut(&self) -> Result<(), CliError> {
        let next = self.handle.now().plus_seconds(CUT_SECONDS);
        self.clock.set(next);
        while self.handle.shared().slo().last_cut().is_none_or(|cut| cut < next.plus_seconds(-CUT_SECONDS)) {
            // Any question wakes the writer, which makes the cuts that are due first.
            self.runtime.block_on(self.handle.file_progress(0)).map_err(failed)?;
        }
        Ok(())
    }

    /// Ends it; where the data lies.
    pub(super) fn stop(self) -> Result<PathBuf, CliError> {
        drop(self.handle);
        self.running.stop().map_err(failed)?;
        self.runtime.shutdown_background();
        Ok(self.data)
    }
}

/// Takes the whole file; records a second.
pub(super) fn measure(
    node: &Node,
    traffic: &Traffic,
    baseline: &Baseline,
    report: &mut Report,
) -> Result<f64, CliError> {
    let events =
        traffic.events.iter().map(|event| Submission { header: Header::default(), body: event.clone().into_bytes() });
    node.runtime.block_on(node.handle.submit_events(events.collect())).map_err(failed)?;
    let moved = AtomicU64::new(0);
    let progress = |done: u64, _total: u64| {
        if done >= moved.load(Ordering::Relaxed) + CUT_BYTES {
            moved.store(done, Ordering::Relaxed);
            node.clock.set(node.handle.now().plus_seconds(CUT_SECONDS));
        }
    };
    let over = Arc::new(AtomicBool::new(false));
    let asking = ask(&node.handle, &over);
    let files = vec![FileSource { name: "provider.ndjson".to_owned(), path: traffic.path.clone() }];
    let began = monotonic();
    let taken = node.runtime.block_on(ingest_arrival(&node.handle, files, &progress));
    let durable = began.elapsed();
    node.cut()?;
    let folded = began.elapsed();
    over.store(true, Ordering::Relaxed);
    let mut times = asking.join().map_err(|_panic| failed("the asking thread ended"))?;
    let taken = taken?;
    if taken.read != traffic.records {
        return Err(failed(format!("{} of {} lines were read", taken.read, traffic.records)));
    }
    let speed = rate(traffic.records, folded);
    let against = "serde_json::from_str, one core";
    report.share("file intake: durable, parsed, judged, folded", speed, baseline.parse, against, Some(0.65));
    report.share("file intake: durable and parsed", rate(traffic.records, durable), baseline.parse, against, None);
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default().as_secs_f64() * 1e3;
    report.at_most("last-good and traffic under full intake, p50", at(50), "ms", None);
    report.at_most("last-good and traffic under full intake, p99", at(99), "ms", Some(2.0));
    let held = bytes_below(&node.data.join("metrics-0"));
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    let share = held as f64 / traffic.bytes as f64;
    report.at_most("disk, tree included, open and sealed segments / bytes in", share, "x", Some(1.3));
    Ok(speed)
}

/// Asks both questions in turn until it is over; how long each answer took.
fn ask(handle: &Handle, over: &Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<Duration>> {
    let (shared, over, now) = (Arc::clone(handle.shared()), Arc::clone(over), handle.now());
    std::thread::spawn(move || {
        let questions = [
            Asked::LastGood { stack: STACK.to_owned(), not_current: false, strict: false },
            Asked::Traffic { stack: STACK.to_owned(), engine: None },
        ];
        let mut times = Vec::new();
        while !over.load(Ordering::Relaxed) {
            for question in &questions {
                let began = monotonic();
                if matches!(shared.answer(question, now), Ok(Ok(_))) {
                    times.push(began.elapsed());
                }
            }
            std::thread::sleep(QUESTION_PAUSE);
        }
        times
    })
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

//! Files as a source: the event log and the provider log that a serving stack writes by itself.
//!
//! A file is itself by its first line, whatever it is called, and a line of it by its number; so a repeated, interrupted or
//! rotated intake compares what the ledger has with what the file holds and goes on after it.
//!
//! In scope: arrival-time intake ([`ingest_arrival`], [`append_lines`], [`follow`]) and history with its recorded times
//! ([`ingest_recorded`]).

mod blocks;
mod compare;
mod fresh;
mod lines;
mod recorded;
mod tail;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::monotonic;
use crate::domain::envelope::hex;
use crate::domain::event::FileRegistered;
use crate::domain::leaf::Header;
use crate::domain::time::Time;
use crate::projection::governance::Verdict;
use crate::sequencer::{Handle, SequencerError, SubmitError, Topic};

use compare::Comparer;
use fresh::Fresh;
pub use lines::{FileKind, classify};
pub use recorded::ingest_recorded;
pub use tail::follow;

/// Bytes of lines handed over at once.
const CHUNK_BYTES: usize = 4 << 20;
/// Bytes that a header adds to a line, about.
const HEADER_BYTES: usize = 48;

/// What an intake did, in lines of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// Lines read; blank ones are none.
    pub read: u64,
    /// Lines that count.
    pub admitted: u64,
    /// Lines that are kept and count for nothing.
    pub rejected: u64,
    /// Lines that were here already, by file line or by id.
    pub duplicates: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// Adds what another part of the same intake did.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.admitted += other.admitted;
        self.rejected += other.rejected;
        self.duplicates += other.duplicates;
        self.seconds += other.seconds;
    }

    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Admitted => self.admitted += 1,
            Verdict::Duplicate { .. } => self.duplicates += 1,
            Verdict::Refused(_) => self.rejected += 1,
        }
    }
}

/// A file to read: where it lies, and the name to remember it by.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// The name that the ledger is told.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// What makes a file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// Its name, for people.
    pub name: String,
    /// SHA-256 of its first line without the LF, hex.
    pub first_line_sha256: String,
    /// What it holds.
    pub kind: FileKind,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It cannot be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing in it can be read as an event or a record.
    #[error(
        "{name} holds no line that is a governance event or a provider log, so nobody knows which ledger it belongs to"
    )]
    Unclassified {
        /// The file.
        name: String,
    },
    /// No line says when.
    #[error("{name} has no line with a time; without one it cannot be ingested with --time recorded")]
    NoTime {
        /// The file.
        name: String,
    },
    /// Its first line is known, and a later one is not what the ledger has.
    #[error("{name} begins like a file ingested before, but its line {line} differs from entry {position} of {ledger}")]
    Differs {
        /// The file.
        name: String,
        /// The line.
        line: u64,
        /// The ledger.
        ledger: String,
        /// The entry.
        position: u64,
    },
    /// It got no number.
    #[error("{name} was given no number, so its lines could not be told from others: {reason}")]
    NotRegistered {
        /// The file.
        name: String,
        /// What the entry that gives it one counted for.
        reason: String,
    },
    /// History is closed up to the last cut.
    #[error(
        "{name} line {line} is of {time}, which is not after the last cut, {last_cut}; nothing was ingested now. Ingest with --time arrival, or into a new data directory"
    )]
    BehindCut {
        /// The file.
        name: String,
        /// The line.
        line: u64,
        /// Its time.
        time: Time,
        /// The last cut.
        last_cut: Time,
    },
    /// Something of a later time is there already, so the line could not have its own.
    #[error(
        "{name} line {line} is of {time}, and the governance ledger has an entry of {last_entry} already; nothing was ingested now. Ingest with --time arrival, or into a new data directory"
    )]
    BehindEntry {
        /// The file.
        name: String,
        /// The line.
        line: u64,
        /// Its time.
        time: Time,
        /// The time of the last governance entry.
        last_entry: Time,
    },
    /// One file under two names, or one name twice.
    #[error(
        "{name} begins with the same line as {other}, so they are one file; give the longer one alone; nothing was ingested"
    )]
    GivenTwice {
        /// The file.
        name: String,
        /// The one before it.
        other: String,
    },
    /// A sender's clock far ahead.
    #[error("{name} line {line} is of {time}, which is after {until} (--until); nothing was ingested")]
    AfterUntil {
        /// The file.
        name: String,
        /// The line.
        line: u64,
        /// Its time.
        time: Time,
        /// The bound.
        until: Time,
    },
    /// Recorded times make no sense where a broker stamps.
    #[error("--time recorded needs embedded mode: in Kafka mode the broker orders and stamps")]
    RecordedNeedsEmbedded,
    /// The writer did not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The ledger.
    #[error(transparent)]
    Sequencer(#[from] SequencerError),
}

impl FileKind {
    /// The ledger that its lines go to in embedded mode.
    pub const fn ledger(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Metrics => "metrics-0",
        }
    }

    /// The topic that its lines go to in Kafka mode.
    const fn topic(self) -> Topic {
        match self {
            Self::Governance => Topic::Governance,
            Self::Metrics => Topic::Metrics,
        }
    }
}

/// SHA-256 of a first line, hex.
pub fn first_line_sha256(line: &[u8]) -> String {
    hex(&Sha256::digest(line))
}

/// The number of a file, given to it now where it has none.
async fn number_of(handle: &Handle, identity: &FileIdentity, time: Time) -> Result<u64, IngestError> {
    loop {
        let next = match known(handle, identity) {
            Ok(number) => return Ok(number),
            Err(next) => next,
        };
        let file = FileRegistered {
            file: next,
            ledger: identity.kind.ledger().to_owned(),
            name: identity.name.clone(),
            first_line_sha256: identity.first_line_sha256.clone(),
        };
        let verdict = handle.register_file(file, time).await?;
        if !handle.shared().governance().files.contains_key(&next) {
            let name = identity.name.clone();
            return Err(IngestError::NotRegistered { name, reason: format!("{verdict:?}") });
        }
        // The number is somebody's: this file's, or that of another which came at the same moment.
    }
}

/// The number of a file, or the next one that is free.
fn known(handle: &Handle, identity: &FileIdentity) -> Result<u64, u64> {
    let governance = handle.shared().governance();
    let is_governance = identity.kind == FileKind::Governance;
    let mut files = governance.files.values();
    let known = files.find(|file| {
        (file.ledger == "governance") == is_governance && file.first_line_sha256 == identity.first_line_sha256
    });
    known.map(|file| file.file).ok_or_else(|| governance.files.keys().next_back().map_or(1, |last| last + 1))
}

/// Takes the lines of a file from number `from_line` on; those that are here already are compared and passed over.
pub async fn append_lines(
    handle: &Handle,
    identity: &FileIdentity,
    from_line: u64,
    bytes: &[u8],
    submitter: Option<&str>,
) -> Result<Report, IngestError> {
    let began = monotonic();
    let number = when_free(|| number_of(handle, identity, handle.now())).await?;
    let lines = FileLines { identity, number, from_line, bytes, submitter };
    // What is here may change while the queue is full, so all of it is looked at again.
    let mut report = when_free(|| lines.take(handle)).await?;
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// Lines of a file, from number `from_line` on.
struct FileLines<'a> {
    identity: &'a FileIdentity,
    number: u64,
    from_line: u64,
    bytes: &'a [u8],
    submitter: Option<&'a str>,
}

impl FileLines<'_> {
    async fn take(&self, handle: &Handle) -> Result<Report, IngestError> {
        let mut turn = handle.file_turn(self.number).await;
        // What an earlier intake left at the broker is compared too.
        let is_known = turn.is_certain() || handle.read_to_ends(self.identity.kind.topic()).await?;
        turn.doubt();
        let mut comparer = Comparer::new(handle, self.identity, self.number).await?;
        let mut report = Report::default();
        let mut fresh = Fresh::new(handle, self.identity.kind, self.bytes);
        for (line, text) in (self.from_line..).zip(lines::split(self.bytes)) {
            if lines::is_blank(text) {
                continue;
            }
            report.read += 1;
            if comparer.has(line, text)? {
                report.duplicates += 1;
            } else {
                let header = Header {
                    file: Some(self.number),
                    line: Some(line),
                    submitter: self.submitter.map(str::to_owned),
                    ..Header::at(handle.now())
                };
                fresh.push(header, text, &mut report)?;
            }
        }
        let is_here = fresh.hand_in(handle, &mut report).await?;
        turn.settle(is_known && is_here);
        Ok(report)
    }
}

/// Tries again while the queue is full: a file can wait.
async fn when_free<T, F: Future<Output = Result<T, IngestError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, IngestError> {
    loop {
        match attempt().await {
            Err(IngestError::Submit(SubmitError::Busy { .. })) => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

/// Takes whole files as they are, stamped with the present.
pub async fn ingest_arrival(
    handle: &Handle,
    files: Vec<FileSource>,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, IngestError> {
    let mut report = Report::default();
    let total = files.iter().filter_map(|file| std::fs::metadata(&file.path).ok()).map(|metadata| metadata.len()).sum();
    let mut done = 0;
    for file in files {
        let identity = lines::identify(&file)?;
        let mut reader = lines::Lines::open(&file)?;
        let mut from_line = 1;
        if identity.kind == FileKind::Metrics && !handle.is_kafka() {
            report
                .add(&metrics_blocks(handle, &identity, &mut reader, &mut done, &|done| progress(done, total)).await?);
            continue;
        }
        while let Some(block) = reader.block(CHUNK_BYTES)? {
            report.add(&append_lines(handle, &identity, from_line, &block.bytes, None).await?);
            from_line += block.lines;
            done += block.bytes.len() as u64;
            progress(done, total);
        }
    }
    Ok(report)
}

/// A file of provider logs, embedded: what is here already is compared, what follows goes through all cores.
async fn metrics_blocks(
    handle: &Handle,
    identity: &FileIdentity,
    reader: &mut lines::Lines,
    done: &mut u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, IngestError> {
    let began = monotonic();
    let number = number_of(handle, identity, handle.now()).await?;
    let last_line = Comparer::new(handle, identity, number).await?.last_line();
    let mut report = Report::default();
    let mut from_line = 1;
    let mut blocks = blocks::Blocks::new(handle, number);
    while let Some(block) = reader.block(blocks::BLOCK_BYTES)? {
        let (lines, bytes) = (block.lines, block.bytes.len() as u64);
        if from_line <= last_line {
            // Nothing is under way yet: new lines follow those that are here.
            report.add(&append_lines(handle, identity, from_line, &block.bytes, None).await?);
        } else {
            blocks.push(from_line, block).await?;
        }
        from_line += lines;
        *done += bytes;
        progress(*done);
    }
    report.add(&blocks.finish().await?);
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

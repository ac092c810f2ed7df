//! Lines of files: reading them in blocks, telling what a file holds, when a line happened.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{FileIdentity, FileSource, IngestError, first_line_sha256};
use crate::domain::leaf::{Header, Leaf};
use crate::domain::metric::{self, MetricEvent, TimeFields};
use crate::domain::report;
use crate::domain::time::Time;

/// Lines looked at before a file is given up as unreadable.
const CLASSIFY_LINES_MAX: usize = 10_000;
/// The longest line read: beyond it the file is no log.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// Room for the rest of the line that a block ends in, so that it seldom moves.
const BLOCK_SLACK_BYTES: usize = 16 << 10;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Governance events.
    Governance,
    /// Provider logs.
    Metrics,
}

#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(rename = "payloadType", borrow, default)]
    payload_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    specversion: Option<&'a RawValue>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    llm: Option<&'a RawValue>,
    #[serde(borrow, default)]
    duration_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    warning: Option<&'a RawValue>,
}

/// What a line is, where it can be told.
pub fn classify(line: &[u8]) -> Option<FileKind> {
    let shape: Shape<'_> = serde_json::from_str(std::str::from_utf8(line).ok()?).ok()?;
    if shape.payload_type.is_some() || shape.event_type.is_some() {
        return Some(FileKind::Governance);
    }
    if shape.specversion.is_some() {
        let metric = shape.kind.is_some_and(|kind| kind.starts_with("llm.") || kind.starts_with("triton."));
        return Some(if metric { FileKind::Metrics } else { FileKind::Governance });
    }
    let metric = shape.event.or(shape.llm).or(shape.duration_ms).or(shape.warning).is_some();
    metric.then_some(FileKind::Metrics)
}

/// When a line happened, by its own account.
pub(super) fn recorded_time(kind: FileKind, line: &[u8], times: &TimeFields) -> Option<Time> {
    match kind {
        FileKind::Metrics => match metric::parse_with(std::str::from_utf8(line).ok()?, times).ok()? {
            MetricEvent::Request(record) => record.recorded_at,
            MetricEvent::Notice(notice) => notice.recorded_at,
            MetricEvent::Scrape(scrape) => scrape.scraped_at,
        },
        FileKind::Governance => report::read(&Leaf { header: Header::default(), body: line }).ok()?.about.occurred_at,
    }
}

pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Lines without their LF; the last one may lack it.
pub(super) fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

/// What makes a file itself, and what it holds.
pub(super) fn identify(file: &FileSource) -> Result<FileIdentity, IngestError> {
    let mut lines = Lines::open(file)?;
    let mut first = None;
    for _ in 0..CLASSIFY_LINES_MAX {
        let Some(line) = lines.line()? else { break };
        if is_blank(&line.bytes) {
            continue;
        }
        let sha256 = first.get_or_insert_with(|| first_line_sha256(&line.bytes)).clone();
        if let Some(kind) = classify(&line.bytes) {
            return Ok(FileIdentity { name: file.name.clone(), first_line_sha256: sha256, kind });
        }
    }
    Err(IngestError::Unclassified { name: file.name.clone() })
}

/// A file, line by line or in blocks of whole lines.
#[derive(Debug)]
pub(super) struct Lines {
    name: String,
    reader: BufReader<File>,
    number: u64,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Without its LF.
    pub(super) bytes: Vec<u8>,
    /// Whether its LF was there.
    pub(super) is_whole: bool,
}

/// Several whole lines.
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

impl Lines {
    pub(super) fn open(file: &FileSource) -> Result<Self, IngestError> {
        let opened = File::open(&file.path).map_err(|source| IngestError::Read { name: file.name.clone(), source })?;
        Ok(Self::over(file.name.clone(), opened))
    }

    pub(super) fn over(name: String, file: File) -> Self {
        Self { name, reader: BufReader::with_capacity(1 << 20, file), number: 0 }
    }

    /// The next line.
    pub(super) fn line(&mut self) -> Result<Option<Line>, IngestError> {
        let mut bytes = Vec::new();
        let read = self
            .reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(|source| IngestError::Read { name: self.name.clone(), source })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let is_whole = bytes.last() == Some(&b'\n');
        if is_whole {
            bytes.pop();
        }
        Ok(Some(Line { number: self.number, bytes, is_whole }))
    }

    /// Whole lines of about `size` bytes; the last line of a file gets the LF that it may lack.
    pub(super) fn block(&mut self, size: usize) -> Result<Option<Block>, IngestError> {
        let mut bytes = Vec::with_capacity(size + BLOCK_SLACK_BYTES);
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let mut fill = |bytes: &mut Vec<u8>| {
            self.reader.by_ref().take(size).read_to_end(bytes)?;
            if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
                self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', bytes)?;
            }
            Ok(())
        };
        fill(&mut bytes).map_err(|source| IngestError::Read { name: self.name.clone(), source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
        self.number += lines;
        Ok(Some(Block { bytes, lines }))
    }
}

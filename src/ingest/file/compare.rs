//! What the ledger has of a file already, line by line against the file itself.
//!
//! Invariant: a line is here where an entry states its file and number and holds its very bytes, and nowhere else. Embedded,
//! an entry of other bytes means another file. In Kafka mode whoever may produce can claim a file's lines, so such an entry
//! means nothing, and the line is handed in.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};

use super::{FileIdentity, FileKind, IngestError};
use crate::domain::envelope::hex;
use crate::domain::leaf;
use crate::sequencer::{Handle, LineRun, SequencerError};

/// Looks a file's lines up in the ledgers, in ascending order.
pub(super) struct Comparer {
    name: String,
    number: u64,
    is_kafka: bool,
    last_line: u64,
    sources: Vec<Source>,
    /// Entries read and not passed yet, by line: which source, position, SHA-256 of the body.
    found: BTreeMap<u64, Vec<(usize, u64, String)>>,
}

/// A ledger that may have lines of the file.
struct Source {
    ledger: String,
    reader: ledger::Reader,
    /// Not read yet, by first line.
    runs: VecDeque<LineRun>,
}

impl Comparer {
    pub(super) async fn new(handle: &Handle, identity: &FileIdentity, number: u64) -> Result<Self, IngestError> {
        let mut progress = handle.file_progress(number).await?;
        progress.retain(|ledger, _| (ledger == "governance") == (identity.kind == FileKind::Governance));
        let last_line = progress.values().map(crate::sequencer::FileProgress::last_line).max().unwrap_or(0);
        let source = |(ledger, progress): (String, crate::sequencer::FileProgress)| {
            let reader = handle.shared().reader(&ledger)?;
            Some(Source { ledger, reader, runs: progress.runs().iter().copied().collect() })
        };
        Ok(Self {
            name: identity.name.clone(),
            number,
            is_kafka: handle.is_kafka(),
            last_line,
            sources: progress.into_iter().filter_map(source).collect(),
            found: BTreeMap::new(),
        })
    }

    /// The last line that may be here.
    pub(super) const fn last_line(&self) -> u64 {
        self.last_line
    }

    /// Whether `line` is here; an error where the ledger has other bytes for it. Lines are asked for in order.
    pub(super) fn has(&mut self, line: u64, bytes: &[u8]) -> Result<bool, IngestError> {
        if line > self.last_line {
            return Ok(false);
        }
        self.found = self.found.split_off(&line);
        self.read_to(line)?;
        let Some(found) = self.found.get(&line) else { return Ok(false) };
        let sha256 = hex(&Sha256::digest(bytes));
        if found.iter().any(|(_, _, other)| *other == sha256) {
            return Ok(true);
        }
        match found.first() {
            Some((source, position, _)) if !self.is_kafka => Err(IngestError::Differs {
                name: self.name.clone(),
                line,
                ledger: self.sources[*source].ledger.clone(),
                position: *position,
            }),
            _ => Ok(false),
        }
    }

    /// Reads the runs that begin at `line` or before it, where they reach it.
    fn read_to(&mut self, line: u64) -> Result<(), IngestError> {
        for (index, source) in self.sources.iter_mut().enumerate() {
            while let Some(run) = source.runs.pop_front_if(|run| run.first_line <= line) {
                if run.last_line < line {
                    continue;
                }
                for entry in source.reader.entries(run.first_position..run.last_position + 1) {
                    let (position, entry) = entry
                        .map_err(|error| SequencerError::Ledger { ledger: source.ledger.clone(), source: error })?;
                    let Ok(leaf) = leaf::split(&entry) else { continue };
                    let Some(number) = leaf.header.line.filter(|number| *number >= line) else { continue };
                    if leaf.header.file != Some(self.number) {
                        continue;
                    }
                    let sha256 =
                        leaf.header.oversize.map_or_else(|| hex(&Sha256::digest(leaf.body)), |large| large.sha256);
                    self.found.entry(number).or_default().push((index, position, sha256));
                }
            }
        }
        Ok(())
    }
}

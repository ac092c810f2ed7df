//! What the ledger has of a file already, line by line against the file itself.

use sha2::{Digest, Sha256};

use super::{FileIdentity, IngestError};
use crate::domain::envelope::hex;
use crate::domain::leaf;
use crate::sequencer::Handle;

/// Walks the file's entries in the ledger beside the file's lines.
pub(super) struct Comparer {
    name: String,
    ledger: String,
    number: u64,
    last_line: u64,
    entries: Option<ledger::Entries>,
}

impl Comparer {
    pub(super) async fn new(handle: &Handle, identity: &FileIdentity, number: u64) -> Result<Self, IngestError> {
        let progress = handle.file_progress(number).await?;
        let ledger = identity.kind.ledger();
        // In Kafka mode a file's lines may lie in several ledgers; there the line number alone decides.
        let reader = handle.shared().reader(ledger).filter(|_| !handle.is_kafka());
        let entries = progress.zip(reader).map(|(progress, reader)| {
            let size = reader.size();
            reader.entries(progress.first_position..size)
        });
        Ok(Self {
            name: identity.name.clone(),
            ledger: ledger.to_owned(),
            number,
            last_line: progress.map_or(0, |progress| progress.last_line),
            entries,
        })
    }

    /// The last line that is here.
    pub(super) const fn last_line(&self) -> u64 {
        self.last_line
    }

    /// Whether `line` is here; an error where the ledger has other bytes for it. Lines are asked for in order.
    pub(super) fn has(&mut self, line: u64, bytes: &[u8]) -> Result<bool, IngestError> {
        if line > self.last_line {
            return Ok(false);
        }
        let Some(entries) = &mut self.entries else { return Ok(true) };
        for entry in entries {
            let (position, entry) = entry
                .map_err(|source| crate::sequencer::SequencerError::Ledger { ledger: self.ledger.clone(), source })?;
            let Ok(found) = leaf::split(&entry) else { continue };
            if found.header.file != Some(self.number) || found.header.line.is_none_or(|number| number < line) {
                continue;
            }
            let same = found.header.line == Some(line)
                && match &found.header.oversize {
                    Some(oversize) => oversize.sha256 == hex(&Sha256::digest(bytes)),
                    None => found.body == bytes,
                };
            if same {
                return Ok(true);
            }
            return Err(IngestError::Differs { name: self.name.clone(), line, ledger: self.ledger.clone(), position });
        }
        Ok(true)
    }
}

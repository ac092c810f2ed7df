//! Files as sources: how far each was read, so that a repeated or interrupted intake goes on where it was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::leaf::Header;

/// How far a file was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProgress {
    /// Position of its first line in its ledger.
    pub first_position: u64,
    /// Number of its last line here.
    pub last_line: u64,
}

/// All files, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    by_number: BTreeMap<u64, FileProgress>,
}

impl FileState {
    /// Takes note of an entry's header.
    pub fn see(&mut self, position: u64, header: &Header) {
        if let (Some(file), Some(line)) = (header.file, header.line) {
            self.see_line(position, file, line);
        }
    }

    /// Takes note of a file's line at a position.
    pub fn see_line(&mut self, position: u64, file: u64, line: u64) {
        let progress = self.by_number.entry(file).or_insert(FileProgress { first_position: position, last_line: 0 });
        progress.last_line = progress.last_line.max(line);
    }

    /// How far file `number` was read.
    pub fn get(&self, number: u64) -> Option<FileProgress> {
        self.by_number.get(&number).copied()
    }
}

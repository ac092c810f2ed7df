//! The traffic: the demo's hours, one after the other, each with another seed.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::super::demo::hour::Hour;
use super::super::error::{CliError, file_error};
use crate::domain::time::Time;

const HOUR_SECONDS: i64 = 3_600;

/// A provider log on disk, and the reports of its stacks.
pub(super) struct Traffic {
    pub(super) path: PathBuf,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// The stacks' own events.
    pub(super) events: Vec<String>,
}

/// Writes `records` lines. Few lines of each hour are broken, as in the demo.
pub(super) fn write(path: &Path, records: u64) -> Result<Traffic, CliError> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(file_error(path))?);
    let (mut written, mut bytes, mut seed) = (0, 0, 1_u64);
    let mut events = Vec::new();
    let mut start = Time::from_seconds(1_790_000_000);
    while written < records {
        let hour = Hour::seeded(start, seed);
        for line in &hour.logs {
            if written == records {
                break;
            }
            writeln!(file, "{line}").map_err(file_error(path))?;
            written += 1;
            bytes += line.len() as u64 + 1;
        }
        if events.is_empty() {
            events = hour.events;
        }
        start = start.plus_seconds(HOUR_SECONDS);
        seed += 1;
    }
    let file = file.into_inner().map_err(|error| CliError::failed(error.error()))?;
    // Written out now, so that the disk is not busy with it while something is measured.
    file.sync_all().map_err(file_error(path))?;
    Ok(Traffic { path: path.to_owned(), records, bytes, events })
}

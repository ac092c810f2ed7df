//! What the disk alone allows: the bytes of the records written and synced as the writer does, and nothing else done.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::traffic::Traffic;
use super::{CliError, file_error, rate};
use crate::clock::monotonic;

/// Bytes of one sync: a full batch of the writer.
const BATCH_BYTES: u64 = 8 << 20;
const BATCHES: u64 = 64;
/// What an entry has beside its line: header, frame and hash in the tree.
const ENTRY_OVERHEAD_BYTES: u64 = 84;

/// What it is called beside a figure.
pub(super) const AGAINST: &str = "write + fdatasync of the same bytes in batches of 8 MiB, nothing else";

/// Records a second.
pub(super) fn rate_of(traffic: &Traffic, scratch: &Path) -> Result<f64, CliError> {
    let path = scratch.join("disk");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(file_error(&path))?;
    let batch = vec![b'x'; usize::try_from(BATCH_BYTES).unwrap_or_default()];
    let began = monotonic();
    for _ in 0..BATCHES {
        file.write_all(&batch).map_err(file_error(&path))?;
        file.sync_data().map_err(file_error(&path))?;
    }
    let took = began.elapsed();
    std::fs::remove_file(&path).map_err(file_error(&path))?;
    let entry_bytes = traffic.bytes / traffic.records.max(1) + ENTRY_OVERHEAD_BYTES;
    Ok(rate(BATCHES * BATCH_BYTES / entry_bytes, took))
}

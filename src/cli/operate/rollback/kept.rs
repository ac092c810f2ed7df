//! Completions that were kept and never arrived, or whose arrival was never heard of.
//!
//! One that stays would be a second completion to whoever ingests it later. It is removed once the ledger has the one that
//! counts, and never before.

use std::path::Path;

use serde_json::Value;

use crate::cli::error::{CliError, file_error};

/// Removes the kept completions of `stack` whose payload says so.
pub(super) fn remove(spool: &Path, stack: &str, is_over: impl Fn(&Value) -> bool) -> Result<(), CliError> {
    let Ok(entries) = std::fs::read_dir(spool) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("llm_rollback_completed-") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(file_error(&path))?;
        // What cannot be read was cut off by a crash while it was written, and nobody could ingest it.
        let event: Value = serde_json::from_str(&text).unwrap_or_default();
        if event["subject"] == stack && is_over(&event["data"]) {
            std::fs::remove_file(&path).map_err(file_error(&path))?;
        }
    }
    // The directory goes with its last file; one that holds others stays.
    let _ = std::fs::remove_dir(spool);
    Ok(())
}

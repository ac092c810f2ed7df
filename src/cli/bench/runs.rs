//! What earlier runs left as JSON, read again for the drawing and the page.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{CliError, file_error};

/// One run.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Run {
    /// The file's name without its ending.
    #[serde(skip)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) date: String,
    #[serde(default)]
    pub(super) machine: String,
    pub(super) records: u64,
    pub(super) figures: Vec<Figure>,
}

/// One figure of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Figure {
    pub(super) work: String,
    pub(super) measured: f64,
    pub(super) unit: String,
    pub(super) baseline: Option<f64>,
    #[serde(default)]
    pub(super) against: String,
    pub(super) ratio: Option<f64>,
    #[serde(default)]
    pub(super) target: String,
    pub(super) met: Option<bool>,
}

impl Figure {
    /// What is the same in runs of any size: bracketed words may differ.
    pub(super) fn line(&self) -> &str {
        self.work.split(" (").next().unwrap_or_default()
    }
}

/// Reads runs, in the order given.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Run>, CliError> {
    files.iter().map(|path| one(path)).collect()
}

fn one(path: &Path) -> Result<Run, CliError> {
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    let mut run: Run =
        serde_json::from_str(&text).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?;
    run.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(run)
}

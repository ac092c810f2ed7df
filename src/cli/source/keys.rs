//! Verifier keys: the only thing that a check trusts.
//!
//! A node signs all of its ledgers with one key under one name each, so any of its `.vkey` lines gives those of the others.

use std::path::{Path, PathBuf};

use ledger::note::VerifierKey;

use crate::cli::error::{CliError, file_error};

/// The keys that were handed in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Vec<VerifierKey>);

impl Keys {
    /// Reads files that hold one key a line.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, CliError> {
        let mut keys = Vec::new();
        for path in files {
            let text = std::fs::read_to_string(path).map_err(file_error(path))?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                keys.push(VerifierKey::parse(line).map_err(|error| {
                    CliError::usage(format!("{}: {line:?} is no verifier key: {error}", path.display()))
                })?);
            }
        }
        if keys.is_empty() {
            return Err(CliError::usage(
                "name the key to trust with --vkey FILE: the .vkey that whoever runs the ledger published",
            ));
        }
        Ok(Self(keys))
    }

    /// The keys that a data directory keeps beside its ledgers.
    pub(crate) fn of_data(data: &Path) -> Result<Self, CliError> {
        let directory = data.join("keys");
        let entries = std::fs::read_dir(&directory).map_err(|error| {
            CliError::usage(format!(
                "{}: {error}; make a data directory with `govledger init --data {}`",
                directory.display(),
                data.display()
            ))
        })?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "vkey"))
            .collect();
        files.sort();
        Self::read(&files)
    }

    /// The key of a ledger: under its own name where it was handed in, else the same key under the ledger's name.
    pub(crate) fn of_ledger(&self, ledger: &str) -> Result<VerifierKey, CliError> {
        let named = |key: &&VerifierKey| key.name().rsplit_once('/').is_some_and(|(_, name)| name == ledger);
        if let Some(key) = self.0.iter().find(named) {
            return Ok(key.clone());
        }
        let Some(other) = self.0.first() else { return Err(CliError::usage("there is no verifier key")) };
        let node = other.name().rsplit_once('/').map_or_else(|| other.name(), |(node, _)| node);
        VerifierKey::new(&format!("{node}/{ledger}"), other.kind(), *other.public()).map_err(CliError::failed)
    }

    /// The key that signed for `origin`.
    pub(crate) fn of_origin(&self, origin: &str) -> Result<VerifierKey, CliError> {
        let ledger = origin.rsplit_once('/').map_or(origin, |(_, ledger)| ledger);
        self.of_ledger(ledger)
    }
}

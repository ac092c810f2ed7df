//! What stops the writer, and what refuses to start it.

use std::path::PathBuf;

/// Why the sequencer cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SequencerError {
    /// The ledger itself: damage, a lock, an I/O error. After an I/O error in an append the writer is poisoned.
    #[error("ledger {ledger}: {source}")]
    Ledger {
        /// Which.
        ledger: String,
        /// What.
        source: ledger::Error,
    },
    /// A file of the data directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What.
        source: std::io::Error,
    },
    /// There is no data directory.
    #[error("{} is no data directory; make one with `govledger init --data {}`", path.display(), path.display())]
    NotInitialised {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// There is one already.
    #[error("{} holds a ledger already; nothing was changed", path.display())]
    AlreadyInitialised {
        /// Where.
        path: PathBuf,
    },
    /// There are ledgers with entries, and nothing says whose.
    #[error(
        "{} is missing, but {ledger} holds more than the first entry of an `init` that was cut off; nothing was changed. Put the file back: it holds {{\"node\": NAME}}, and NAME is what stands before the slash in {}",
        path.display(), key.display()
    )]
    NodeFileMissing {
        /// The file.
        path: PathBuf,
        /// A ledger that is not empty, or cannot be read.
        ledger: String,
        /// Its public key, with the origin.
        key: PathBuf,
    },
    /// A ledger's first entry is not what this node is configured with.
    #[error("the first entry of {ledger} differs from {}: this directory was made for another configuration", path.display())]
    OtherSettings {
        /// Which ledger.
        ledger: String,
        /// The settings file.
        path: PathBuf,
    },
    /// A text that is not what it should be.
    #[error("{what} is {value:?}: {reason}")]
    Invalid {
        /// Which field or file.
        what: String,
        /// What it holds.
        value: String,
        /// Why that will not do.
        reason: String,
    },
    /// The rules could not be folded.
    #[error("the rules cannot be folded: {0}")]
    Slo(#[from] crate::projection::slo::SloError),
    /// A value that cannot be written as JSON.
    #[error("cannot encode: {0}")]
    Encode(#[from] serde_json::Error),
    /// The entry was written by a newer binary.
    #[error("the ledger follows rules version {found}; this binary knows {known}. Install a newer one")]
    UnknownRules {
        /// In the ledger.
        found: u32,
        /// Known here.
        known: u32,
    },
    /// The policy file is older or other than what is in force.
    #[error(
        "policy revision {revision} is in force with other content (entry {position}); raise `revision` to change the policy"
    )]
    PolicyConflict {
        /// The revision.
        revision: u64,
        /// The entry that put it in force.
        position: u64,
    },
    /// Nothing is taken with the present's time between two steps of a history.
    #[error("a history with its recorded times is being taken; nothing else is, until it is in")]
    Backfilling,
    /// The writer stopped earlier.
    #[error("the writer has stopped after an error: {0}")]
    Stopped(String),
    /// The cache.
    #[error("the cache: {0}")]
    Cache(String),
}

impl SequencerError {
    /// Whether the ledger is damaged: exit code 3.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Ledger { source, .. } if source.damage().is_some())
    }
}

/// An error of the ledger called `name`.
pub(super) fn of(name: &str) -> impl FnOnce(ledger::Error) -> SequencerError + use<'_> {
    move |source| SequencerError::Ledger { ledger: name.to_owned(), source }
}

/// An error of the file at `path`.
pub(super) fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> SequencerError + use<'_> {
    move |source| SequencerError::Io { path: path.to_owned(), source }
}

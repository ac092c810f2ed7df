//! How a command ends: what is said, and the exit code that scripts go by.

use std::process::ExitCode;

use crate::ingest::file::IngestError;
use crate::projection::answers::{AnswerError, AskedError};
use crate::sequencer::{ProduceError, SequencerError, SubmitError};

/// Exit codes. They are documented in `docs/CLI.md` and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Fine.
    Fine = 0,
    /// The answer is no: nothing good to go back to, a closed gate, an unknown name, a proof that does not hold.
    No = 1,
    /// The command line, a file or a setting is wrong.
    Usage = 2,
    /// The ledger is damaged.
    Damaged = 3,
    /// The figures are older than what was asked for.
    Stale = 4,
    /// The ledger, or who keeps it, refuses.
    Refused = 5,
    /// The service cannot be reached, or is busy.
    Unreachable = 6,
    /// Anything else: a disk, a bug.
    Failed = 7,
    /// A rollback: somebody else holds it.
    Held = 10,
    /// A rollback: no target gave the backup back whole.
    RestoreFailed = 11,
    /// A rollback: files on the host are not what the manifest says.
    FilesDiffer = 12,
    /// A rollback: the reload command failed.
    ReloadFailed = 13,
    /// A rollback: the server does not hold the plan after the reload.
    NotServed = 14,
    /// A rollback: the warm-up failed.
    WarmUpFailed = 15,
    /// A rollback: somebody took it over.
    TakenOver = 16,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct CliError {
    /// How it ends.
    pub(crate) exit: Exit,
    /// What is said, with what to do about it.
    pub(crate) text: String,
}

/// What commands return.
pub(crate) type Outcome = Result<Exit, CliError>;

impl CliError {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    pub(crate) fn failed(text: impl std::fmt::Display) -> Self {
        Self::new(Exit::Failed, text.to_string())
    }
}

/// An I/O error on a file that the caller named.
pub(crate) fn file_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> CliError + use<'_> {
    move |error| CliError::usage(format!("{}: {error}", path.display()))
}

impl From<ledger::Error> for CliError {
    fn from(error: ledger::Error) -> Self {
        let exit = match &error {
            ledger::Error::Damage(_) => Exit::Damaged,
            ledger::Error::Verify(_) | ledger::Error::ProofFile(_) => Exit::No,
            ledger::Error::Locked { .. } => {
                return Self::new(
                    Exit::Unreachable,
                    format!(
                        "{error}: another govledger process writes there; stop it, or let the command find it with --data or --server"
                    ),
                );
            }
            ledger::Error::NoLedger { .. }
            | ledger::Error::OtherLedger { .. }
            | ledger::Error::Note(_)
            | ledger::Error::Key(_)
            | ledger::Error::Position { .. }
            | ledger::Error::Size { .. } => Exit::Usage,
            ledger::Error::Io { .. }
            | ledger::Error::Poisoned { .. }
            | ledger::Error::Exists { .. }
            | ledger::Error::Origin(_)
            | ledger::Error::EntryTooLarge { .. }
            | ledger::Error::NoTile { .. }
            | ledger::Error::ExportDiffers { .. }
            | ledger::Error::NoBlob { .. }
            | ledger::Error::TilePath(_) => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<SequencerError> for CliError {
    fn from(error: SequencerError) -> Self {
        let text = error.to_string();
        match error {
            SequencerError::Ledger { ledger, source } => {
                let inner = Self::from(source);
                Self::new(inner.exit, format!("ledger {ledger}: {}", inner.text))
            }
            SequencerError::NotInitialised { .. }
            | SequencerError::AlreadyInitialised { .. }
            | SequencerError::NodeFileMissing { .. }
            | SequencerError::Invalid { .. }
            | SequencerError::OtherSettings { .. }
            | SequencerError::PolicyConflict { .. } => Self::usage(text),
            SequencerError::Cache(_) => {
                Self::new(Exit::Unreachable, format!("{text}; another govledger process may hold it"))
            }
            SequencerError::Backfilling => Self::new(Exit::Unreachable, text),
            SequencerError::Io { .. }
            | SequencerError::Slo(_)
            | SequencerError::Encode(_)
            | SequencerError::UnknownRules { .. }
            | SequencerError::Stopped(_) => Self::failed(text),
        }
    }
}

impl From<SubmitError> for CliError {
    fn from(error: SubmitError) -> Self {
        let exit = match &error {
            SubmitError::Produce(ProduceError::ReadsOnly(_)) => Exit::Refused,
            SubmitError::Busy { .. }
            | SubmitError::NotReadYet { .. }
            | SubmitError::NotYet
            | SubmitError::Produce(_) => Exit::Unreachable,
            SubmitError::Sequencer(inner) if inner.is_damage() => Exit::Damaged,
            SubmitError::Stopped(_) | SubmitError::Sequencer(_) => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<IngestError> for CliError {
    fn from(error: IngestError) -> Self {
        let text = error.to_string();
        match error {
            IngestError::Read { .. }
            | IngestError::Unclassified { .. }
            | IngestError::NoTime { .. }
            | IngestError::GivenTwice { .. }
            | IngestError::RecordedNeedsEmbedded => Self::usage(text),
            IngestError::Differs { .. }
            | IngestError::BehindCut { .. }
            | IngestError::BehindEntry { .. }
            | IngestError::NotRegistered { .. }
            | IngestError::AfterUntil { .. } => Self::new(Exit::Refused, text),
            IngestError::Submit(inner) => inner.into(),
            IngestError::Sequencer(inner) => inner.into(),
        }
    }
}

impl From<AnswerError> for CliError {
    fn from(error: AnswerError) -> Self {
        let exit = match &error {
            AnswerError::Unknown { .. } => Exit::No,
            AnswerError::NoMetrics => Exit::Usage,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<AskedError> for CliError {
    fn from(error: AskedError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<serde_json::Error> for CliError {
    fn from(error: serde_json::Error) -> Self {
        Self::failed(error)
    }
}

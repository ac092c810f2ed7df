//! Arguments of `rollback`.

use std::path::PathBuf;

use super::Past;
use super::operate::{Reporting, Span};

/// `rollback`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RollbackTask {
    /// Where to, why not a newer engine, from which backup, and the rollback under way
    Plan {
        /// The stack
        stack: String,
        #[command(flatten)]
        past: Past,
    },
    /// Restore, reload, prove, warm up, and only then record it; run again, it goes on
    Run(Box<RollbackRun>),
    /// Give up the one under way
    Abandon {
        /// The stack
        stack: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
}

/// `rollback run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackRun {
    /// The stack
    pub(crate) stack: String,
    /// The engine to go back to [default: that of the rollback under way, or the last good one that is not current]
    #[arg(long, value_name = "HASH")]
    pub(crate) to: Option<String>,
    /// The backup to restore [default: the engine's newest verified one]
    #[arg(long, value_name = "ID")]
    pub(crate) backup: Option<String>,
    /// Where the files go; made by this, or holding exactly them already
    #[arg(long, value_name = "DIR")]
    pub(crate) restore_into: PathBuf,
    /// Where the server has them from, where the reload puts them elsewhere; of the same layout [default: that of --restore-into]
    #[arg(long, value_name = "DIR")]
    pub(crate) deployed: Option<PathBuf>,
    /// What makes the server load them, run by `sh -c`; may be left out in a rehearsal
    #[arg(long, value_name = "COMMAND", required_unless_present = "rehearsal")]
    pub(crate) reload: Option<String>,
    /// Stop the reload after so long
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub(crate) reload_timeout: Span,
    /// Proof of what is served: a command by `sh -c` whose output holds the SHA-256 of each plan file that the server has loaded
    #[arg(long, value_name = "COMMAND", conflicts_with = "served_process")]
    pub(crate) served_check: Option<String>,
    /// Proof of what is served: a file with the id of the process that has each plan file mapped or open
    #[arg(long, value_name = "PID-FILE")]
    pub(crate) served_process: Option<PathBuf>,
    /// How long the proof is waited for
    #[arg(long, default_value = "2m", value_name = "TIME")]
    pub(crate) served_within: Span,
    /// Why
    #[arg(long, default_value = "the current engine is not fit to serve")]
    pub(crate) reason: String,
    /// The incident that it belongs to [default: the one open on the stack]
    #[arg(long, value_name = "ID")]
    pub(crate) incident: Option<String>,
    /// For practice: no gate moves, no engine is replaced
    #[arg(long)]
    pub(crate) rehearsal: bool,
    /// Take it over from whoever holds it, whose process is gone
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Stop the warm-up after so long
    #[arg(long, default_value = "30m", value_name = "TIME")]
    pub(crate) timeout: Span,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    /// The warm-up and its arguments
    #[arg(last = true, required = true, value_name = "WARMUP-COMMAND")]
    pub(crate) command: Vec<String>,
}

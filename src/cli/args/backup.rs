//! Arguments of `backup`.

use std::path::PathBuf;

use clap::Subcommand;

use super::operate::Reporting;

/// `backup`.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupTask {
    /// Copy a stack's artifacts to every target, read them again, and record it
    Create(BackupCreate),
    /// Read a backup again, compare every hash, and record the outcome
    Verify {
        /// Its id
        id: String,
        /// One target instead of all that hold it
        #[arg(long, value_name = "URL")]
        target: Option<String>,
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Bring a backup back: all of it with every hash compared, or nothing
    Restore {
        /// Its id
        id: String,
        /// The directory that it becomes; must not exist
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
        /// One target instead of the first that answers
        #[arg(long, value_name = "URL")]
        target: Option<String>,
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Record a backup manifest that another tool wrote
    Import {
        /// The manifest, a JSON file
        file: PathBuf,
        /// The stack
        #[arg(long)]
        stack: String,
        /// The engine
        #[arg(long, value_name = "HASH")]
        engine: String,
        #[command(flatten)]
        reporting: Reporting,
    },
    /// Copy the ledgers of a data directory, as of a checkpoint each, while the service runs or not; keys are left out
    Ledgers {
        /// Where copies go: a directory, `file:///DIR` or `s3://BUCKET/PREFIX`; may be given more than once
        #[arg(long = "to", value_name = "URL", required = true)]
        to: Vec<String>,
    },
    /// Bring ledgers back: all of them, audited with `--vkey`, or nothing
    RestoreLedgers(RestoreLedgers),
    /// Backups: what they hold, where copies lie, what was verified and restored
    List {
        /// Of this stack alone
        #[arg(long)]
        stack: Option<String>,
        #[command(flatten)]
        past: super::Past,
    },
}

/// `backup restore-ledgers`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreLedgers {
    /// Where the copy lies
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Its id [default: the newest of the node that the key names]
    #[arg(long, value_name = "ID")]
    pub(crate) at: Option<String>,
    /// The data directory that it becomes; must not exist
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// A checkpoint that was kept elsewhere, which the copy must extend; may be given more than once
    #[arg(long, value_name = "CHECKPOINT-FILE")]
    pub(crate) since: Vec<PathBuf>,
}

/// `backup create`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupCreate {
    /// The stack
    pub(crate) stack: String,
    /// The engine that is backed up [default: the current one]
    #[arg(long, value_name = "HASH")]
    pub(crate) engine: Option<String>,
    /// The engine: a plan file, or a directory with one a rank
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) plan: Vec<PathBuf>,
    /// The tokenizer's description
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer_info: Vec<PathBuf>,
    /// The tokenizer's files
    #[arg(long, value_name = "DIR")]
    pub(crate) tokenizer_dir: Vec<PathBuf>,
    /// Output schemas
    #[arg(long, value_name = "PATH")]
    pub(crate) schemas: Vec<PathBuf>,
    /// The server's configuration
    #[arg(long = "model-config", value_name = "PATH")]
    pub(crate) model_config: Vec<PathBuf>,
    /// Where copies go: a directory, `file:///DIR` or `s3://BUCKET/PREFIX`; may be given more than once
    #[arg(long = "to", value_name = "URL", required = true)]
    pub(crate) to: Vec<String>,
    /// Back up what symbolic links point to, instead of refusing them
    #[arg(long)]
    pub(crate) follow_symlinks: bool,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
}

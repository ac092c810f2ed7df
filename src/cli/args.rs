//! The arguments, as clap reads them. Secrets are never among them: tokens come from files or the environment.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::source::{AsOf, Place};
use crate::config::DATA_DEFAULT;
use crate::domain::time::Time;

const EXIT_CODES: &str = "Exit codes: 0 fine; 1 the answer is no; 2 usage; 3 the ledger is damaged; 4 too stale; 5 refused; 6 cannot reach the service, or it is busy; 7 anything else.";

/// A governance ledger for LLM serving stacks.
#[derive(Debug, Parser)]
#[command(name = "govledger", version, about, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// The data directory [default: ./govledger-data, or GOVLEDGER_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask the service at this URL instead (GOVLEDGER_URL)
    #[arg(long, global = true, value_name = "URL", conflicts_with = "export")]
    server: Option<String>,
    /// Read a verified export instead
    #[arg(long, global = true, value_name = "DIR", requires = "vkey")]
    export: Option<PathBuf>,
    /// A file with the verifier keys to trust, one a line; may be given more than once
    #[arg(long, global = true, value_name = "FILE")]
    vkey: Vec<PathBuf>,
    /// A file with the token to present (else GOVLEDGER_TOKEN)
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What holds for every command.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// The configuration file.
    pub(crate) config: Option<PathBuf>,
}

impl Args {
    /// Where the command reads from or writes to.
    pub(crate) fn place(&self) -> Place {
        let configured = || self.config.as_deref().and_then(|path| crate::config::Config::load(Some(path)).ok()).map(|config| config.data);
        let data = self.data.clone().or_else(crate::config::data).or_else(configured).unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
        // What is named outweighs what the environment happens to hold.
        let server = self.server.clone().or_else(|| if self.data.is_none() && self.export.is_none() { crate::config::server_url() } else { None });
        Place { data, server, export: self.export.clone(), vkey: self.vkey.clone(), token_file: self.token_file.clone() }
    }

    /// What holds for every command.
    pub(crate) fn options(&self) -> Options {
        Options { json: self.json, config: self.config.clone() }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Make a data directory: keys, ledgers, and the first admin's token
    Init(Init),
    /// Take event logs and provider logs
    Ingest(Ingest),
    #[command(flatten)]
    Read(Read),
    /// Check every entry, hash and signature, with nothing trusted but the .vkey
    Verify(Verify),
    /// Write every ledger as static files that anybody can check
    Export(Export),
}

/// A past state to ask about.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Past {
    /// Answer as of a governance position, or of a time
    #[arg(long, value_name = "POSITION|TIME")]
    pub(crate) as_of: Option<AsOf>,
}

/// `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The node's name, first part of every origin [default: the host's name]
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// The first admin's name
    #[arg(long, default_value = "admin", value_name = "NAME")]
    pub(crate) admin: String,
    /// Take the order of governance entries from this Kafka topic
    #[arg(long, value_name = "TOPIC", requires = "kafka_metrics_topic")]
    pub(crate) kafka_governance_topic: Option<String>,
    /// Take metric records from this Kafka topic
    #[arg(long, value_name = "TOPIC", requires = "kafka_governance_topic")]
    pub(crate) kafka_metrics_topic: Option<String>,
    /// For a further node: the settings.json that the first node's init made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kafka_governance_topic", "admin"])]
    pub(crate) settings: Option<PathBuf>,
    /// A further node whose envelopes are to have effect, as NODE=PUBLIC-KEY-HEX
    #[arg(long, value_name = "NODE=KEY")]
    pub(crate) node_key: Vec<String>,
    /// Write the admin's token to this file (0600) instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub(crate) token_out: Option<PathBuf>,
    /// Where there is a data directory already, leave it as it is and succeed
    #[arg(long)]
    pub(crate) if_missing: bool,
}

/// Which time an ingested line gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IngestTime {
    /// The time that it states itself: history.
    Recorded,
    /// The present.
    Arrival,
}

/// `ingest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ingest {
    /// The files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Which time the lines get
    #[arg(long, value_enum, default_value = "arrival")]
    pub(crate) time: IngestTime,
    /// With --time recorded: refuse lines of after this time [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Time>,
    /// Go on with what is written to the files, over rotations, until stopped
    #[arg(long, conflicts_with = "until")]
    pub(crate) follow: bool,
}

/// Commands that read.
#[derive(Debug, Subcommand)]
pub(crate) enum Read {
    /// All stacks
    Stacks {
        #[command(flatten)]
        past: Past,
    },
    /// One screen for 3 a.m.
    Now {
        /// The stack
        stack: String,
        #[command(flatten)]
        past: Past,
    },
    /// The current engine and its manifest
    Manifest {
        /// The stack
        stack: String,
        #[command(flatten)]
        past: Past,
    },
    /// The engine that is safe to go back to
    LastGood {
        /// The stack
        stack: String,
        /// Leave the current engine out
        #[arg(long)]
        not_current: bool,
        /// Only a proven engine will do, evaluated no more than 60 s ago
        #[arg(long)]
        strict: bool,
        #[command(flatten)]
        past: Past,
    },
    /// Whether traffic may flow
    Traffic {
        /// The stack
        stack: String,
        /// Ask about this engine alone
        #[arg(long, value_name = "HASH")]
        engine: Option<String>,
        #[command(flatten)]
        past: Past,
    },
    /// What happened
    Timeline {
        /// The stack
        stack: String,
        /// Only around this incident
        #[arg(long, value_name = "ID")]
        incident: Option<String>,
        #[command(flatten)]
        past: Past,
    },
    /// Alerts, oldest first
    Alerts {
        /// On this stack alone
        #[arg(long)]
        stack: Option<String>,
        /// In this state alone
        #[arg(long, value_parser = ["firing", "resolved"])]
        state: Option<String>,
        /// The provider's own as well
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        past: Past,
    },
    /// The rules with their figures
    Slo {
        /// The stack
        stack: String,
        #[command(flatten)]
        past: Past,
    },
    /// Backups
    Backups {
        /// Of this stack alone
        #[arg(long)]
        stack: Option<String>,
        #[command(flatten)]
        past: Past,
    },
    /// What was refused, and why
    Rejected {
        /// After this position
        #[arg(long)]
        after: Option<u64>,
        /// At most so many
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        #[command(flatten)]
        past: Past,
    },
}

/// `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A data directory, an export, or a service's URL [default: the data directory]
    #[arg(value_name = "DIR|URL")]
    pub(crate) target: Option<String>,
    /// A checkpoint that somebody kept: prove that history was only extended since
    #[arg(long, value_name = "CHECKPOINT-FILE")]
    pub(crate) since: Vec<PathBuf>,
}

/// `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Where to; what an earlier export left there is taken over
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// This ledger alone
    #[arg(long)]
    pub(crate) ledger: Option<String>,
}

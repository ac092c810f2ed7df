//! Arguments of the commands that read.

use clap::Subcommand;

use super::Past;

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
    /// How much of a stack is used, and what to do about it
    Capacity {
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
        /// The ledger
        #[arg(long, default_value = "governance")]
        ledger: String,
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

//! Arguments of `incidents`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Past;
use crate::domain::incident::{Duty, NoteKind, Progress};
use crate::domain::time::Time;

/// The report of an incident: as text, from a file, or where it lies.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportGiven {
    /// The report
    #[arg(long, value_name = "TEXT")]
    pub(crate) report: Option<String>,
    /// The report, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "report")]
    pub(crate) report_file: Option<PathBuf>,
    /// Where the report lies, where it is kept elsewhere
    #[arg(long, value_name = "URL")]
    pub(crate) report_at: Option<String>,
}

/// `incidents`.
#[derive(Debug, Subcommand)]
pub(crate) enum IncidentTask {
    /// All of them
    List {
        /// On this stack alone
        #[arg(long)]
        stack: Option<String>,
        #[command(flatten)]
        past: Past,
    },
    /// One, with its checklist and its timeline
    Show {
        /// Its id
        id: String,
        #[command(flatten)]
        past: Past,
    },
    /// Its report, put together from what the ledger shows
    Report {
        /// Its id
        id: String,
        /// As Markdown, as an HTML document that stands alone, or as JSON
        #[arg(long, value_parser = ["md", "html", "json"], default_value = "md")]
        format: String,
        #[command(flatten)]
        past: Past,
    },
    /// Open one by hand
    Open {
        /// The stack
        #[arg(long)]
        stack: String,
        /// One line
        #[arg(long)]
        title: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Say that somebody works on it
    Ack {
        /// Its id
        id: String,
        /// What to remember
        #[arg(long)]
        text: Option<String>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Give somebody a duty
    Assign {
        /// Its id
        id: String,
        /// Who
        assignee: String,
        /// commander, operations, communications, finance or scribe
        #[arg(long, default_value = "commander")]
        duty: Duty,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Add a note
    Note {
        /// Its id
        id: String,
        /// What to remember
        #[arg(long, default_value = "")]
        text: String,
        /// note, reviewed (the snapshot and the history were looked at), `root_cause`, mitigation or `finance_told`
        #[arg(long, default_value = "note")]
        kind: NoteKind,
        /// With --kind reviewed: the entry of the snapshot [default: as it is]
        #[arg(long, value_name = "POSITION")]
        snapshot: Option<u64>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Say how far the work is
    Status {
        /// Its id
        id: String,
        /// investigating, identified, monitoring or resolved
        status: Progress,
        /// What to remember
        #[arg(long, default_value = "")]
        text: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Something to be done afterwards
    ActionItem {
        /// The incident's id
        id: String,
        /// What
        #[arg(long)]
        title: String,
        /// Who sees to it
        #[arg(long)]
        owner: String,
        /// Overdue after this
        #[arg(long, value_name = "TIME")]
        due: Time,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// An action item is done
    ActionDone {
        /// The incident's id
        id: String,
        /// The item's id
        item: String,
        /// What to remember
        #[arg(long, default_value = "")]
        text: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// File its report, also after the end
    FileReport {
        /// Its id
        id: String,
        #[command(flatten)]
        report: ReportGiven,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Close it with its report
    Close {
        /// Its id
        id: String,
        #[command(flatten)]
        report: ReportGiven,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
}

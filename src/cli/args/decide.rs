//! Arguments of the commands that decide.

use std::path::PathBuf;

use clap::Subcommand;

use super::Past;
use crate::domain::time::Time;

/// The scope of a waiver that is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct WaiverAsk {
    /// A firing alert that fills in stack, rule, engine, cap and end, where they are not given
    #[arg(long, value_name = "ID")]
    pub(crate) from_alert: Option<String>,
    /// The stack
    #[arg(long, required_unless_present = "from_alert")]
    pub(crate) stack: Option<String>,
    /// The rule
    #[arg(long, required_unless_present = "from_alert")]
    pub(crate) rule: Option<crate::domain::policy::Rule>,
    /// One engine only
    #[arg(long, value_name = "HASH")]
    pub(crate) engine: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) justification: String,
    /// What is done about the cause
    #[arg(long, value_name = "TEXT")]
    pub(crate) mitigation: String,
    /// The most that it may cost beyond the threshold, USD
    #[arg(long, value_name = "USD")]
    pub(crate) cap_usd: Option<rust_decimal::Decimal>,
    /// Covers from here [default: its approval]
    #[arg(long, value_name = "TIME")]
    pub(crate) starts: Option<Time>,
    /// Covers until here
    #[arg(long, value_name = "TIME", required_unless_present = "from_alert")]
    pub(crate) expires: Option<Time>,
    /// Ticket in another system
    #[arg(long)]
    pub(crate) ticket: Option<String>,
    /// Who answers for the mitigation [default: whoever asks]
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// What else was considered, and why it was not done
    #[arg(long, value_name = "TEXT")]
    pub(crate) alternatives: Option<String>,
    /// An advisory that bears on it; may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub(crate) advisory: Vec<String>,
    /// Covers what is past as well, from --starts on: a full ten minutes, at most seven days back
    #[arg(long, requires = "starts")]
    pub(crate) retroactive: bool,
    /// The waiver of the legacy log that this one stands for once it is approved
    #[arg(long, value_name = "ID")]
    pub(crate) reported: Option<String>,
    /// Idempotency key: a repeat under it returns the first outcome
    #[arg(long)]
    pub(crate) key: Option<String>,
}

/// `waivers`.
#[derive(Debug, Subcommand)]
pub(crate) enum WaiverTask {
    /// All of them
    List {
        /// On this stack alone
        #[arg(long)]
        stack: Option<String>,
        #[command(flatten)]
        past: Past,
    },
    /// One, whole
    Show {
        /// Its id
        id: String,
        #[command(flatten)]
        past: Past,
    },
    /// Ask for one
    Request(Box<WaiverAsk>),
    /// Accept (finance)
    Approve {
        /// Its id
        id: String,
        /// The scope that was seen; must be that of the waiver [default: as it stands now]
        #[arg(long, value_name = "HEX")]
        scope_sha256: Option<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Decide only if this entry was the last to change it: the version that was seen
        #[arg(long, value_name = "VERSION")]
        if_match: Option<u64>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Decline (finance)
    Refuse {
        /// Its id
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Decide only if this entry was the last to change it: the version that was seen
        #[arg(long, value_name = "VERSION")]
        if_match: Option<u64>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Take back (finance)
    Revoke {
        /// Its id
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Decide only if this entry was the last to change it: the version that was seen
        #[arg(long, value_name = "VERSION")]
        if_match: Option<u64>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
}

/// `condemn`, `reinstate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Judgement {
    /// The stack
    pub(crate) stack: String,
    /// The engine's hash
    pub(crate) engine: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Idempotency key
    #[arg(long)]
    pub(crate) key: Option<String>,
}

/// `adopt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Adopt {
    /// The stack
    pub(crate) stack: String,
    /// The engine's hash
    pub(crate) engine: String,
    /// Its version
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Its manifest, a JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Idempotency key
    #[arg(long)]
    pub(crate) key: Option<String>,
}

/// `confirm-hole`.
#[derive(Debug, clap::Args)]
pub(crate) struct Hole {
    /// `governance` or `metrics-<n>`
    pub(crate) ledger: String,
    /// First lost offset
    #[arg(long)]
    pub(crate) from: u64,
    /// Last lost offset
    #[arg(long)]
    pub(crate) to: u64,
    /// Why it is accepted
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Idempotency key
    #[arg(long)]
    pub(crate) key: Option<String>,
}

/// `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenTask {
    /// Give a principal roles and a token (admin)
    Create {
        /// Who
        #[arg(long, value_name = "NAME")]
        principal: String,
        /// What they may do from here: replaces what they had; may be given more than once
        #[arg(long, required = true)]
        role: Vec<crate::domain::principal::Role>,
        /// How long the token counts: 90d, 12h, a time, or never
        #[arg(long, value_name = "LENGTH|TIME", default_value = "90d")]
        expires: super::Expiry,
        /// Write the token to this file (0600) instead of the terminal
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// State up to which cap a principal may approve waivers (admin)
    Limit {
        /// Who
        #[arg(long, value_name = "NAME")]
        principal: String,
        /// The largest cap, USD
        #[arg(long, value_name = "USD")]
        finance_limit_usd: rust_decimal::Decimal,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Take all roles and tokens from a principal (admin)
    Revoke {
        /// Who
        #[arg(long, value_name = "NAME")]
        principal: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Who may do what
    List,
}

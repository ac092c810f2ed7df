//! Arguments about what governs: policies, maintenance windows, keys.

use std::path::PathBuf;

use clap::Subcommand;

use super::Past;
use crate::domain::policy::Rule;
use crate::domain::time::Time;

/// `policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyTask {
    /// The policy in force, rule by rule, and what was put forward
    Show {
        /// As it applies to this stack
        #[arg(long)]
        stack: Option<String>,
        #[command(flatten)]
        past: Past,
    },
    /// The witnesses of the policy in force and this node's key, as a C2SP tlog-policy file for `verify --trust`
    Trust {
        #[command(flatten)]
        past: Past,
    },
    /// Check a policy file, without putting it in force
    Check {
        /// The TOML file
        file: PathBuf,
    },
    /// A policy that was put forward, with what it changes
    Proposal {
        /// Its id
        id: String,
        #[command(flatten)]
        past: Past,
    },
    /// Put a policy forward (admin); another admin approves it
    Propose {
        /// The TOML file; where its revision is 0 or absent, the next one is taken
        file: PathBuf,
        /// Why
        #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
        reason: Option<String>,
        /// Put nothing forward: show which alerts of the last 24 h would have been otherwise
        #[arg(long)]
        dry_run: bool,
        /// Idempotency key: a repeat under it returns the first outcome
        #[arg(long)]
        key: Option<String>,
    },
    /// Put a proposed policy in force (an admin who did not propose it)
    Approve {
        /// Its id
        id: String,
        /// The document that was seen; must be that of the proposal [default: as it stands now]
        #[arg(long, value_name = "HEX")]
        policy_sha256: Option<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Decline a proposed policy, or take one's own back (admin)
    Refuse {
        /// Its id
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
}

/// `maintenance`.
#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceTask {
    /// All windows
    List {
        /// On this stack alone
        #[arg(long)]
        stack: Option<String>,
        #[command(flatten)]
        past: Past,
    },
    /// Hold telling for a time (on call, admin); alerts are recorded all the same
    Set {
        /// The stack
        #[arg(long)]
        stack: String,
        /// A rule; may be given more than once [default: all]
        #[arg(long)]
        rule: Vec<Rule>,
        /// From this time on [default: now]
        #[arg(long, value_name = "TIME")]
        from: Option<Time>,
        /// Up to this time
        #[arg(long, value_name = "TIME")]
        to: Time,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// End a window before its time
    End {
        /// Its id
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
}

/// `keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyTask {
    /// Keys of authors and nodes, and what they may sign
    List {
        #[command(flatten)]
        past: Past,
    },
    /// Let a key sign events of given types (admin); the first of a type waits for another admin
    Enroll {
        /// Whose key it is
        #[arg(long, value_name = "NAME")]
        author: String,
        /// The Ed25519 public key: 64 hex digits
        #[arg(long, value_name = "HEX")]
        public_key: String,
        /// An event type that it may sign; may be given more than once
        #[arg(long = "type", value_name = "TYPE", required = true)]
        event_type: Vec<String>,
        /// The key id whose place it takes
        #[arg(long, value_name = "KEY-ID")]
        replaces: Option<String>,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Let a further node's envelopes have effect (admin); it waits for another admin
    EnrollNode {
        /// The node's name
        #[arg(long, value_name = "NAME")]
        node: String,
        /// The public key of its keys/node.pem, as its `init` and `keys list` say it: 64 hex digits
        #[arg(long, value_name = "HEX")]
        public_key: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Another admin's word for a key that waits for it
    Confirm {
        /// Its id
        id: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Let a key sign nothing from here on (admin); what it signed before still counts
    Revoke {
        /// Its id
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Replace the key with which the node signs checkpoints (admin)
    RotateLedger {
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
    /// Replace the key with which the node signs envelopes (admin)
    RotateNode {
        /// Idempotency key
        #[arg(long)]
        key: Option<String>,
    },
}

//! The arguments, as clap reads them. Secrets are never among them: tokens come from files or the environment.

mod backup;
mod decide;
mod govern;
mod incident;
mod operate;
mod people;
mod read;
mod rollback;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use backup::{BackupCreate, BackupTask, RestoreLedgers};
pub(crate) use decide::{Adopt, Hole, Judgement, TokenTask, WaiverAsk, WaiverTask};
pub(crate) use govern::{KeyTask, MaintenanceTask, PolicyTask};
pub(crate) use incident::{IncidentTask, ReportGiven};
pub(crate) use operate::{Reporting, WaitTraffic, Warmup};
pub(crate) use people::{Expiry, PrincipalTask};
pub(crate) use read::Read;
pub(crate) use rollback::{RollbackRun, RollbackTask};

use super::source::{AsOf, Place};
use crate::config::DATA_DEFAULT;
use crate::domain::time::Time;

const EXIT_CODES: &str = "Exit codes: 0 fine; 1 the answer is no; 2 usage; 3 the ledger is damaged; 4 too stale; 5 refused; 6 cannot reach the service, or it is busy; 7 anything else.";

/// A governance ledger for LLM serving stacks.
#[derive(Debug, Parser)]
#[command(name = "govledger", version, about, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// The data directory [default: ./govledger-data, or `GOVLEDGER_DATA`]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask the service at this URL instead (`GOVLEDGER_URL`)
    #[arg(long, global = true, value_name = "URL", conflicts_with = "export")]
    server: Option<String>,
    /// Read a verified export instead
    #[arg(long, global = true, value_name = "DIR", requires = "vkey")]
    export: Option<PathBuf>,
    /// A file with the verifier keys to trust, one a line; may be given more than once
    #[arg(long, global = true, value_name = "FILE")]
    vkey: Vec<PathBuf>,
    /// A file with the token to present (else `GOVLEDGER_TOKEN`)
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
        let configured = || {
            self.config
                .as_deref()
                .and_then(|path| crate::config::Config::load(Some(path)).ok())
                .map(|config| config.data)
        };
        let data = self
            .data
            .clone()
            .or_else(crate::config::data)
            .or_else(configured)
            .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
        // What is named outweighs what the environment happens to hold.
        let from_environment = self.data.is_none() && self.export.is_none() && !self.is_local_only();
        let server = self.server.clone().or_else(|| if from_environment { crate::config::server_url() } else { None });
        Place {
            data,
            server,
            export: self.export.clone(),
            vkey: self.vkey.clone(),
            token_file: self.token_file.clone(),
        }
    }

    /// The data directory, where one was named.
    pub(crate) fn named_data(&self) -> Option<PathBuf> {
        self.data.clone()
    }

    /// Whether the command works on a directory of this machine and nothing else.
    pub(crate) fn is_local_only(&self) -> bool {
        matches!(
            self.task,
            Task::Init(_)
                | Task::Doctor(_)
                | Task::Serve(_)
                | Task::Demo(_)
                | Task::Bench(_)
                | Task::Export(_)
                | Task::Rebuild
        )
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
    /// Look at topics, rights, clocks and the disk, and say what would be written where; changes nothing
    Doctor(Doctor),
    /// Run the service: intake, ledger, API, pages
    Serve(Serve),
    /// An hour of two serving stacks, made up, ingested, told and verified; needs nothing else
    Demo(Demo),
    /// Measure the whole pipeline on generated traffic, each figure beside what the machine does without it
    Bench(Bench),
    #[command(flatten)]
    Read(Read),
    /// Raw entries and what each counts for
    Entries(Entries),
    /// Waivers: list, show, request, approve, refuse, revoke
    Waivers {
        #[command(subcommand)]
        task: Option<WaiverTask>,
    },
    /// Incidents: list, show, open, ack, assign, note, status, action items, report, close
    Incidents {
        #[command(subcommand)]
        task: Option<IncidentTask>,
    },
    /// Backups of a stack's artifacts: create, verify, restore, import, list
    Backup {
        #[command(subcommand)]
        task: BackupTask,
    },
    /// Run a stack's warm-up under a time limit and record how it ended
    Warmup(Warmup),
    /// Return once a stack's traffic gate is open
    WaitTraffic(WaitTraffic),
    /// Go back to an engine that was good: plan, run, abandon
    Rollback {
        #[command(subcommand)]
        task: RollbackTask,
    },
    /// Never go back to this engine
    Condemn(Judgement),
    /// Lift a condemnation
    Reinstate(Judgement),
    /// Record an engine that runs already
    Adopt(Adopt),
    /// Accept that offsets of a source are lost
    ConfirmHole(Hole),
    /// Principals and their tokens: create, revoke, list
    Token {
        #[command(subcommand)]
        task: TokenTask,
    },
    /// Principals: list with tokens and last use, add, remove, tokens, trusted identity providers
    Principals {
        #[command(subcommand)]
        task: Option<PrincipalTask>,
    },
    /// Who was let in to what at this node, and who was not (auditor, admin)
    Access(Access),
    /// What was told to Alertmanager and webhooks, and what did not arrive; exit 1 where something never will
    Deliveries,
    /// Thresholds, windows and limits: show those in force, check a file, propose and approve others
    Policy {
        #[command(subcommand)]
        task: PolicyTask,
    },
    /// Times in which nobody is told of alerts: list, set, end
    Maintenance {
        #[command(subcommand)]
        task: MaintenanceTask,
    },
    /// Keys of authors and nodes: list, enroll, confirm, revoke, rotate
    Keys {
        #[command(subcommand)]
        task: KeyTask,
    },
    /// Write a proof that an entry is in the ledger
    Prove(Prove),
    /// Check such a proof, with nothing but the entry and the .vkey
    CheckProof(CheckProof),
    /// Fold a saved JSON answer again and compare
    CheckAnswer(CheckAnswer),
    /// Check every entry, hash and signature, with nothing trusted but the .vkey
    Verify(Verify),
    /// Write every ledger as static files that anybody can check
    Export(Export),
    /// Throw the cache away and fold everything again
    Rebuild,
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the JSON Schemas, or check that they are what the types say
    Schemas(Schemas),
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
    /// Only read these topics, beside what is there: the node's name gets `.shadow`, and `serve --shadow` alone starts it
    #[arg(long, conflicts_with_all = ["settings", "node_key"])]
    pub(crate) shadow: bool,
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

/// `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A data directory, an export, or a service's URL [default: the data directory]
    #[arg(value_name = "DIR|URL")]
    pub(crate) target: Option<String>,
    /// A checkpoint that somebody kept: prove that history was only extended since
    #[arg(long, value_name = "CHECKPOINT-FILE")]
    pub(crate) since: Vec<PathBuf>,
    /// A trust policy (C2SP tlog-policy, as `policy trust` prints it): its witnesses have to have cosigned the governance ledger
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// The cosigned checkpoint [default: the one that is kept with the ledger]
    #[arg(long, value_name = "CHECKPOINT-FILE", requires = "trust")]
    pub(crate) cosigned: Option<PathBuf>,
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

/// `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Look at what a shadow needs, which writes to no topic
    #[arg(long)]
    pub(crate) shadow: bool,
}

/// `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Only consume and check: say nothing, decide nothing (Kafka)
    #[arg(long)]
    pub(crate) follower: bool,
    /// Consume topics of others and write nothing there; cuts and alerts stay here (a directory made by `init --shadow`)
    #[arg(long, conflicts_with = "follower")]
    pub(crate) shadow: bool,
    /// Where to listen [default: 127.0.0.1:7710]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::SocketAddr>,
}

/// `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Leave a server running on what was made
    #[arg(long)]
    pub(crate) serve: bool,
    /// Begin the hour at this time instead of an hour ago
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<Time>,
}

/// `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Records of generated traffic
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..))]
    pub(crate) records: u64,
    /// Measure the intake from this broker instead, in topics that are made and removed
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) brokers: Option<String>,
    /// Partitions of the metrics topic
    #[arg(long, default_value_t = 1, value_name = "N", requires = "brokers", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) partitions: u32,
    /// Print what docs/BENCHMARKS.md holds
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Where the scratch directory goes [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Measure nothing: draw how figures grow (SVG) from the JSON of earlier runs
    #[arg(long, value_name = "RUN", num_args = 2..)]
    pub(crate) plot: Vec<PathBuf>,
    /// Measure nothing: make the tables of a page again from the JSON of earlier runs
    #[arg(long, value_names = ["PAGE", "RUN"], num_args = 2.., conflicts_with = "plot")]
    pub(crate) fill: Vec<PathBuf>,
    /// Measure one opening of this data directory, for `bench` itself
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) open: Option<PathBuf>,
}

/// `entries`.
#[derive(Debug, clap::Args)]
pub(crate) struct Entries {
    /// One entry, whole
    pub(crate) position: Option<u64>,
    /// The ledger
    #[arg(long, default_value = "governance")]
    pub(crate) ledger: String,
    /// Of this event type alone
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// On this stack alone
    #[arg(long)]
    pub(crate) stack: Option<String>,
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Time>,
    /// Not after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Time>,
    /// After this position
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
}

/// `access`.
#[derive(Debug, clap::Args)]
pub(crate) struct Access {
    /// After this position
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
}

/// `prove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prove {
    /// The entry's position
    pub(crate) position: u64,
    /// The ledger
    #[arg(long, default_value = "governance")]
    pub(crate) ledger: String,
    /// The proof file [default: LEDGER-POSITION.tlog-proof]; the entry goes beside it, as .entry
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `check-proof`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckProof {
    /// The proof file
    pub(crate) proof: PathBuf,
    /// The entry, as `prove` wrote it
    #[arg(long, value_name = "FILE")]
    pub(crate) entry: PathBuf,
}

/// `check-answer`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckAnswer {
    /// The saved JSON answer
    pub(crate) answer: PathBuf,
}

/// `schemas`.
#[derive(Debug, clap::Args)]
pub(crate) struct Schemas {
    /// Exit 1 where a file differs from what the types say
    #[arg(long, conflicts_with = "write")]
    pub(crate) check: bool,
    /// Write the files
    #[arg(long)]
    pub(crate) write: bool,
    /// The directory
    #[arg(long, default_value = "schemas", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where the table of routes and roles is [default: docs/ROLES.md, with the default directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) roles: Option<PathBuf>,
}

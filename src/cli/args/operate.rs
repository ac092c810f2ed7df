//! Arguments of the commands that a host runs beside the serving stack.

use std::path::PathBuf;
use std::time::Duration;

/// A span of time on the command line: `90`, `90s`, `15m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            unit => return Err(format!("{unit:?} is none of the units s, m, h")),
        };
        let number: u64 = digits.parse().map_err(|_error| format!("{text:?} is no span such as 90s, 15m or 2h"))?;
        number
            .checked_mul(factor)
            .filter(|seconds| (1..=86_400).contains(seconds))
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| format!("{text:?} is not between 1 s and 24 h"))
    }
}

/// How a report reaches the ledger, and where it stays meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct Reporting {
    /// How long a ledger that cannot be reached is tried
    #[arg(long, default_value = "30s", value_name = "TIME")]
    pub(crate) retry_for: Span,
    /// Where the report stays when the ledger cannot be reached
    #[arg(long, default_value = "govledger-unsent", value_name = "DIR")]
    pub(crate) spool: PathBuf,
}

/// `warmup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Warmup {
    /// The stack
    pub(crate) stack: String,
    /// The engine that is warmed up [default: the current one]
    #[arg(long, value_name = "HASH")]
    pub(crate) engine: Option<String>,
    /// Stop the command after so long, and record a failure
    #[arg(long, default_value = "30m", value_name = "TIME")]
    pub(crate) timeout: Span,
    /// A schema that the warm-up exercised, as NAME=VERSION; may be given more than once
    #[arg(long, value_name = "NAME=VERSION")]
    pub(crate) schema_version: Vec<String>,
    /// Record it as a rehearsal, which moves nothing
    #[arg(long)]
    pub(crate) rehearsal: bool,
    /// Record nothing of what the command prints
    #[arg(long)]
    pub(crate) no_output: bool,
    #[command(flatten)]
    pub(crate) reporting: Reporting,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `wait-traffic`.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitTraffic {
    /// The stack
    pub(crate) stack: String,
    /// Until it is open for this engine
    #[arg(long, value_name = "HASH")]
    pub(crate) engine: Option<String>,
    /// Wait no longer than this
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub(crate) timeout: Span,
    /// Where nobody has answered in all that time, succeed: governance must not keep a server down
    #[arg(long)]
    pub(crate) open_when_unreachable: bool,
}

//! The configuration file and the environment, read here and nowhere else.
//!
//! Every field has a default; an empty file is a working configuration of an embedded node. `docs/govledger.example.toml`
//! spells the defaults out, and a test holds it to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::api::{ApiConfig, PrincipalLimits};
use crate::domain::legacy_signature::Secret;
use crate::domain::metric::TimeFields;
use crate::domain::policy::{Policy, PolicyError};
use crate::identity::oidc::OidcConfig;
use crate::identity::trail::TrailConfig;
use crate::ingest::kafka::KafkaConfig;
use crate::ingest::triton::ScrapeConfig;
use crate::notify::{CosignConfig, NotifyConfig};

/// Where data lies unless said otherwise.
pub const DATA_DEFAULT: &str = "./govledger-data";

/// The file of `serve --config`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where the API and the pages listen.
    pub listen: SocketAddr,
    /// Whether whoever reaches the API may read without a token.
    pub open_reads: bool,
    /// A TOML file with the policy; the built-in policy where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// Names under which a logger's record may hold its time, in the order of trying.
    pub time_fields: Vec<String>,
    /// How ledgers lie on the disk.
    pub segments: SegmentsConfig,
    /// Bounds of the API.
    pub limits: LimitsConfig,
    /// The log.
    pub log: LogConfig,
    /// The access trail.
    pub access: TrailConfig,
    /// Identity providers whose bearer tokens are taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oidc: Vec<OidcConfig>,
    /// How Kafka is reached, for a data directory that follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConfig>,
    /// Triton servers whose metrics are scraped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triton: Vec<ScrapeConfig>,
    /// Whom to tell what the ledger decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<NotifyConfig>,
    /// How the witnesses of the policy are asked.
    pub cosign: CosignConfig,
}

/// Bounds of the API; what is beyond them is refused, or told to come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// The largest body once decompressed, in bytes.
    pub decompressed_bytes_max: usize,
    /// The largest backfill, in bytes; it is spooled to disk.
    pub backfill_bytes_max: u64,
    /// Requests under way at once.
    pub requests_max: usize,
    /// Event streams open at once.
    pub streams_max: usize,
    /// How long ago somebody may have signed in at a provider to approve something, in seconds.
    pub approval_auth_seconds_max: u64,
    /// How often principals may ask, and how much some of them may send.
    pub principals: PrincipalLimits,
}

/// How ledgers lie on the disk. Both may change from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentsConfig {
    /// A segment that would grow over this gives way to a new one.
    pub bytes_max: u64,
    /// Whether segments that are no longer written to are compressed while the service runs.
    pub seal: bool,
}

/// The log on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from(DATA_DEFAULT),
            listen: SocketAddr::from(([127, 0, 0, 1], 7710)),
            open_reads: false,
            policy: None,
            time_fields: ["recorded_at", "timestamp", "@timestamp", "asctime"].map(str::to_owned).to_vec(),
            segments: SegmentsConfig::default(),
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
            access: TrailConfig::default(),
            oidc: Vec::new(),
            kafka: None,
            triton: Vec::new(),
            notify: None,
            cosign: CosignConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let api = ApiConfig::default();
        Self {
            body_bytes_max: api.body_bytes_max,
            decompressed_bytes_max: api.decompressed_bytes_max,
            backfill_bytes_max: api.backfill_bytes_max,
            requests_max: api.requests_max,
            streams_max: api.streams_max,
            approval_auth_seconds_max: api.approval_auth_seconds_max,
            principals: api.limits,
        }
    }
}

impl Default for SegmentsConfig {
    fn default() -> Self {
        Self { bytes_max: ledger::Options::default().segment_bytes_max, seal: true }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), json: false }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no such configuration.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong, with its line.
        reason: String,
    },
    /// An environment variable holds something else.
    #[error("{name} is {value:?}: {reason}")]
    Environment {
        /// Its name.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        reason: String,
    },
    /// The policy file.
    #[error("{}: {source}", path.display())]
    Policy {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: PolicyError,
    },
}

impl Config {
    /// Reads the file, where one is named, and then the `GOVLEDGER_*` variables that override it.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config = match path {
            Some(path) => {
                let text = read(path)?;
                toml::from_str(&text)
                    .map_err(|error| ConfigError::Invalid { path: path.to_owned(), reason: error.to_string() })?
            }
            None => Self::default(),
        };
        if let Some(data) = variable("GOVLEDGER_DATA") {
            config.data = PathBuf::from(data);
        }
        if let Some(listen) = variable("GOVLEDGER_LISTEN") {
            config.listen = listen.parse().map_err(|_error| ConfigError::Environment {
                name: "GOVLEDGER_LISTEN",
                value: listen,
                reason: "an address and port, such as 127.0.0.1:7710".to_owned(),
            })?;
        }
        if let Some(policy) = variable("GOVLEDGER_POLICY") {
            config.policy = Some(PathBuf::from(policy));
        }
        if let Some(level) = variable("GOVLEDGER_LOG") {
            config.log.level = level;
        }
        Ok(config)
    }

    /// The policy document, where one is named.
    pub fn policy(&self) -> Result<Option<Policy>, ConfigError> {
        let Some(path) = &self.policy else { return Ok(None) };
        let text = read(path)?;
        Policy::from_toml(&text).map(Some).map_err(|source| ConfigError::Policy { path: path.clone(), source })
    }

    /// The API's part, listening on `listen`.
    pub fn api(&self, listen: SocketAddr) -> ApiConfig {
        let limits = &self.limits;
        ApiConfig {
            listen,
            open_reads: self.open_reads,
            body_bytes_max: limits.body_bytes_max,
            decompressed_bytes_max: limits.decompressed_bytes_max,
            backfill_bytes_max: limits.backfill_bytes_max,
            requests_max: limits.requests_max,
            streams_max: limits.streams_max,
            limits: limits.principals.clone(),
            approval_auth_seconds_max: limits.approval_auth_seconds_max,
            legacy_secret: variable("GOVERNANCE_EVENT_SECRET").map(Secret::new),
        }
    }

    /// How the ledgers are written.
    pub fn ledger_options(&self) -> ledger::Options {
        ledger::Options { segment_bytes_max: self.segments.bytes_max, ..ledger::Options::default() }
    }

    /// The names of time fields, for the intake.
    pub fn times(&self) -> TimeFields {
        TimeFields::new(self.time_fields.iter().cloned())
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// A variable of the environment that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "this is the place that owns it")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The server that commands ask: `GOVLEDGER_URL`.
pub fn server_url() -> Option<String> {
    variable("GOVLEDGER_URL")
}

/// The token that commands present: `GOVLEDGER_TOKEN`.
pub fn token() -> Option<String> {
    variable("GOVLEDGER_TOKEN")
}

/// Whether colour is unwanted: `NO_COLOR`.
pub fn no_colour() -> bool {
    variable("NO_COLOR").is_some()
}

/// The data directory: `GOVLEDGER_DATA`.
pub fn data() -> Option<PathBuf> {
    variable("GOVLEDGER_DATA").map(PathBuf::from)
}

/// The host's name: `HOSTNAME`, else what the kernel calls it.
pub fn host_name() -> Option<String> {
    let nodename = || rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
    variable("HOSTNAME").or_else(nodename).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_is_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/govledger.example.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let example: Config = toml::from_str(&text).unwrap();
        let toml = |config: &Config| toml::to_string(config).unwrap();
        assert_eq!(toml(&example), toml(&Config::default()));
        // Every field is spelled out, those without a default as a comment.
        for line in toml(&Config::default()).lines().filter_map(|line| line.split_once(" = ")) {
            assert!(text.contains(&format!("{} = ", line.0)), "{} is not in the example", line.0);
        }
        let commented: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        let full: Config = toml::from_str(&commented).unwrap();
        assert!(
            full.kafka.is_some()
                && full.policy.is_some()
                && full.notify.is_some()
                && full.oidc.len() == 1
                && full.triton.len() == 1
        );
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let error = toml::from_str::<Config>("lissten = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(error.contains("lissten"), "{error}");
    }
}

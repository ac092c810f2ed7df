//! How the broker is reached. Secrets come from files alone, so that no configuration, log or process list holds one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[kafka]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// `HOST:PORT`, comma-separated.
    #[serde(alias = "brokers")]
    pub bootstrap_servers: String,
    /// The governance topic; where given, it must be the one that the ledger was made for.
    pub governance_topic: Option<String>,
    /// The metrics topic; where given, it must be the one that the ledger was made for.
    pub metrics_topic: Option<String>,
    /// `plaintext` or `sasl_ssl`.
    pub security_protocol: SecurityProtocol,
    /// With `sasl_ssl`.
    pub sasl_mechanism: SaslMechanism,
    /// With `sasl_ssl`.
    pub sasl_username: Option<String>,
    /// File whose first line is the password.
    pub sasl_password_file: Option<PathBuf>,
    /// Certificates to trust, PEM; the system's where absent.
    pub ssl_ca_file: Option<PathBuf>,
    /// Which records of transactions are read.
    pub isolation_level: IsolationLevel,
    /// Limit of each request to the broker, milliseconds.
    pub request_timeout_ms: u64,
    /// How long a produced record is tried for, milliseconds.
    pub delivery_timeout_ms: u64,
    /// How often new partitions are looked for, seconds.
    pub partition_check_s: u64,
    /// Bytes fetched ahead of the writer at the most, for each partition.
    pub fetch_ahead_bytes_max: usize,
    /// Records appended as one batch at the most.
    pub batch_records_max: usize,
    /// Bytes appended as one batch at the most.
    pub batch_bytes_max: usize,
    /// Partitions of the metrics topic that are not read until the operator takes them off this list.
    pub paused_partitions: BTreeSet<u32>,
    /// The same, changed while running.
    #[serde(skip)]
    pub pauses: Pauses,
}

/// How the connection is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Not at all.
    #[default]
    Plaintext,
    /// TLS, with a user and a password.
    SaslSsl,
}

/// How the user is made known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// The password itself, inside TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A proof of the password.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A proof of the password.
    #[default]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Which records of transactions are read. Nodes of one ledger must agree: it decides what becomes an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// Those that were committed.
    #[default]
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: "127.0.0.1:9092".to_owned(),
            governance_topic: None,
            metrics_topic: None,
            security_protocol: SecurityProtocol::default(),
            sasl_mechanism: SaslMechanism::default(),
            sasl_username: None,
            sasl_password_file: None,
            ssl_ca_file: None,
            isolation_level: IsolationLevel::default(),
            request_timeout_ms: 5_000,
            delivery_timeout_ms: 30_000,
            partition_check_s: 10,
            fetch_ahead_bytes_max: 8 << 20,
            batch_records_max: 4_096,
            batch_bytes_max: 1 << 20,
            paused_partitions: BTreeSet::new(),
            pauses: Pauses::default(),
        }
    }
}

impl KafkaConfig {
    pub(super) const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(super) fn is_paused(&self, partition: u32) -> bool {
        self.paused_partitions.contains(&partition) || self.pauses.lock().contains(&partition)
    }
}

/// Partitions of the metrics topic whose intake an operator or a test holds up. Clones share the set.
#[derive(Debug, Clone, Default)]
pub struct Pauses(Arc<Mutex<BTreeSet<u32>>>);

impl Pauses {
    /// Stops reading a partition; what it was read to is kept.
    pub fn pause(&self, partition: u32) {
        self.lock().insert(partition);
    }

    /// Goes on reading it where it stopped.
    pub fn resume(&self, partition: u32) {
        self.lock().remove(&partition);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_with_defaults() {
        let config: KafkaConfig = toml::from_str("brokers = \"kafka:9092\"\nmetrics_topic = \"llm-requests\"").unwrap();
        assert_eq!(config.bootstrap_servers, "kafka:9092");
        assert_eq!(config.isolation_level, IsolationLevel::ReadCommitted);
        let config: KafkaConfig =
            toml::from_str("security_protocol = \"sasl_ssl\"\nsasl_mechanism = \"SCRAM-SHA-256\"").unwrap();
        assert_eq!(config.security_protocol, SecurityProtocol::SaslSsl);
        assert_eq!(config.sasl_mechanism, SaslMechanism::ScramSha256);
        assert!(toml::from_str::<KafkaConfig>("sasl_password = \"x\"").is_err());
    }
}

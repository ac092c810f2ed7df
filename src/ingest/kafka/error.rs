//! What refuses to start the intake, each with the command that fixes it, and what stops it.

use std::path::PathBuf;

use crate::sequencer::SubmitError;

/// Why the intake does not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum KafkaIntakeError {
    /// The data directory was made for another way of ordering.
    #[error(
        "this data directory takes its order from its own queue, not from Kafka; make one with `govledger init --kafka-governance-topic TOPIC --kafka-metrics-topic TOPIC`"
    )]
    NotKafka,
    /// The configuration names another topic than the ledger was made for.
    #[error(
        "the configuration names {configured:?} as the {role} topic; this ledger was made for {recorded:?}. Correct `{role}_topic` under [kafka]"
    )]
    OtherTopic {
        /// `governance` or `metrics`.
        role: &'static str,
        /// In the configuration.
        configured: String,
        /// In the ledger's first entry.
        recorded: String,
    },
    /// The client fetches no more of a partition that goes on.
    #[error("nothing came from offset {next} on for {seconds} s, and it is not known to be the end")]
    Stalled {
        /// The offset that was to come.
        next: u64,
        /// For how long.
        seconds: u64,
        /// Whether the broker says that there is more.
        is_more: bool,
    },
    /// A topic that is not there.
    #[error("topic {topic:?} does not exist; create it with: {command}")]
    TopicMissing {
        /// Which.
        topic: String,
        /// What creates it.
        command: String,
    },
    /// The governance topic must have one partition: its order is the ledger's.
    #[error(
        "topic {topic:?} has {partitions} partitions; the governance topic must have exactly 1. Create another with: {command}"
    )]
    Partitions {
        /// Which.
        topic: String,
        /// How many it has.
        partitions: usize,
        /// What creates a right one.
        command: String,
    },
    /// A compacted topic loses records from its middle.
    #[error("topic {topic:?} has cleanup.policy={policy}; a compacted topic loses records. Change it with: {command}")]
    Compacted {
        /// Which.
        topic: String,
        /// What it is set to.
        policy: String,
        /// What changes it.
        command: String,
    },
    /// Times of governance entries are the broker's.
    #[error(
        "topic {topic:?} has message.timestamp.type={found}; the governance topic must be stamped by the broker. Change it with: {command}"
    )]
    TimestampType {
        /// Which.
        topic: String,
        /// What it is set to.
        found: String,
        /// What changes it.
        command: String,
    },
    /// A secret that cannot be read.
    #[error("{}: {source}", path.display())]
    Secret {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting that is missing or wrong.
    #[error("`{setting}` under [kafka]: {reason}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// Why it will not do.
        reason: String,
    },
    /// The client library or the broker.
    #[error("Kafka, {doing}: {source}")]
    Client {
        /// What was asked for.
        doing: &'static str,
        /// What came of it.
        source: rdkafka::error::KafkaError,
    },
    /// The broker answered with an error.
    #[error("the broker, asked for {doing}: {code}")]
    Broker {
        /// What was asked for.
        doing: &'static str,
        /// Its answer.
        code: rdkafka::error::RDKafkaErrorCode,
    },
    /// The writer.
    #[error(transparent)]
    Writer(#[from] SubmitError),
    /// A ledger that cannot be read.
    #[error("reading {ledger}: {source}")]
    Ledger {
        /// Which.
        ledger: String,
        /// Why not.
        source: ledger::Error,
    },
    /// Something that cannot be written as JSON.
    #[error("cannot encode: {0}")]
    Encode(#[from] serde_json::Error),
    /// A thread that could not be started or ended by itself.
    #[error("thread {name}: {reason}")]
    Thread {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
}

impl KafkaIntakeError {
    /// Whether waiting may help: the broker did not answer.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Client { .. } | Self::Broker { .. })
    }
}

/// A failed call of the client library.
pub(super) fn doing(doing: &'static str) -> impl FnOnce(rdkafka::error::KafkaError) -> KafkaIntakeError {
    move |source| KafkaIntakeError::Client { doing, source }
}

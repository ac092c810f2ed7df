//! Clients of the broker: their settings, and their words into the log.

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;

use super::config::{IsolationLevel, KafkaConfig, SecurityProtocol};
use super::error::{KafkaIntakeError, doing};

/// Takes what the client library says into this service's log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, message, "kafka.client");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, message, "kafka.client");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka.client_error");
    }
}

impl ConsumerContext for Context {}

pub(super) type Consumer = BaseConsumer<Context>;

/// What every client has in common.
fn base(config: &KafkaConfig, node: &str) -> Result<ClientConfig, KafkaIntakeError> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", format!("govledger-{node}"))
        .set("socket.timeout.ms", config.request_timeout_ms.clamp(10, 300_000).to_string())
        .set("socket.keepalive.enable", "true")
        // A broker that comes back is noticed within a second.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000");
    match config.security_protocol {
        SecurityProtocol::Plaintext => {}
        SecurityProtocol::SaslSsl => {
            let absent = |setting| KafkaIntakeError::Setting { setting, reason: "needed with sasl_ssl".to_owned() };
            let user = config.sasl_username.as_ref().ok_or_else(|| absent("sasl_username"))?;
            let path = config.sasl_password_file.as_ref().ok_or_else(|| absent("sasl_password_file"))?;
            let text = std::fs::read_to_string(path)
                .map_err(|source| KafkaIntakeError::Secret { path: path.clone(), source })?;
            client
                .set("security.protocol", "SASL_SSL")
                .set("sasl.mechanism", config.sasl_mechanism.as_str())
                .set("sasl.username", user)
                .set("sasl.password", text.lines().next().unwrap_or_default());
            if let Some(ca) = &config.ssl_ca_file {
                client.set("ssl.ca.location", ca.display().to_string());
            }
        }
    }
    Ok(client)
}

/// A consumer. It is assigned, never subscribed; commits serve the lag display of others alone.
pub(super) fn consumer(config: &KafkaConfig, node: &str) -> Result<Consumer, KafkaIntakeError> {
    let isolation = match config.isolation_level {
        IsolationLevel::ReadCommitted => "read_committed",
        IsolationLevel::ReadUncommitted => "read_uncommitted",
    };
    base(config, node)?
        .set("group.id", format!("govledger-{node}"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", isolation)
        .set("check.crcs", "true")
        .set("allow.auto.create.topics", "false")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "100")
        // A full queue is looked at again soon: the default of a second would halve the rate.
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", (config.fetch_ahead_bytes_max / 1024).clamp(1, 2_097_151).to_string())
        .create_with_context(Context)
        .map_err(doing("creating a consumer"))
}

/// The settings of an idempotent producer with a bounded queue.
pub(super) fn producer(config: &KafkaConfig, node: &str) -> Result<ClientConfig, KafkaIntakeError> {
    let mut client = base(config, node)?;
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "1")
        // The ends that it is asked for are to cover open transactions; the library says that a producer has no use for this.
        .set("isolation.level", "read_uncommitted")
        .set("queue.buffering.max.messages", "10000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("message.timeout.ms", config.delivery_timeout_ms.to_string());
    Ok(client)
}

/// The settings of an administrative client.
pub(super) fn admin(config: &KafkaConfig, node: &str) -> Result<ClientConfig, KafkaIntakeError> {
    base(config, node)
}

//! What must hold of the topics before anything is read: looked at once, at start.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::client::{self, Consumer, Context};
use super::config::{KafkaConfig, SecurityProtocol};
use super::error::{KafkaIntakeError, doing};
use crate::domain::settings::{Settings, SourceSettings};
use crate::sequencer::Topic;

/// The topics of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topics {
    pub(super) governance: String,
    pub(super) metrics: String,
}

impl Topics {
    pub(super) fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Governance => &self.governance,
            Topic::Metrics => &self.metrics,
        }
    }
}

/// Who stamps the records of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// The broker, when it appends.
    LogAppend,
    /// The producer.
    Create,
}

/// What the checks found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub(super) metrics_stamp: Stamp,
    pub(super) metrics_partitions: u32,
    /// The governance topic's end when it was looked at.
    pub(super) governance_end: u64,
}

/// The topics in the ledger's first entry, which the configuration may repeat but not change.
pub(super) fn topics(settings: &Settings, config: &KafkaConfig) -> Result<Topics, KafkaIntakeError> {
    let (SourceSettings::Kafka { governance_topic, metrics_topic }
    | SourceSettings::Shadow { governance_topic, metrics_topic }) = &settings.source
    else {
        return Err(KafkaIntakeError::NotKafka);
    };
    let pairs =
        [("governance", &config.governance_topic, governance_topic), ("metrics", &config.metrics_topic, metrics_topic)];
    for (role, configured, recorded) in pairs {
        if let Some(configured) = configured.as_ref().filter(|configured| *configured != recorded) {
            return Err(KafkaIntakeError::OtherTopic {
                role,
                configured: configured.clone(),
                recorded: recorded.clone(),
            });
        }
    }
    Ok(Topics { governance: governance_topic.clone(), metrics: metrics_topic.clone() })
}

/// The number of a topic's partitions; 0 where there is no such topic.
pub(super) fn partitions(consumer: &Consumer, topic: &str, limit: Duration) -> Result<usize, KafkaIntakeError> {
    let metadata = consumer.fetch_metadata(Some(topic), limit).map_err(doing("the topic's partitions"))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(0) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(found.partitions().len()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(0),
        Some(code) => Err(KafkaIntakeError::Broker { doing: "the topic's partitions", code }),
    }
}

/// Looks at both topics.
pub(super) async fn check(config: &KafkaConfig, node: &str, topics: &Topics) -> Result<Checked, KafkaIntakeError> {
    let consumer = client::consumer(config, node)?;
    let limit = config.request_timeout();
    let names = topics.clone();
    let found = tokio::task::spawn_blocking(move || {
        let governance = partitions(&consumer, &names.governance, limit)?;
        let metrics = partitions(&consumer, &names.metrics, limit)?;
        let end = match governance {
            0 => 0,
            _ => {
                consumer
                    .fetch_watermarks(&names.governance, 0, limit)
                    .map_err(doing("the end of the governance topic"))?
                    .1
            }
        };
        Ok::<_, KafkaIntakeError>((governance, metrics, end))
    });
    let (governance_partitions, metrics_partitions, end) = found
        .await
        .map_err(|error| KafkaIntakeError::Thread { name: "checks".to_owned(), reason: error.to_string() })??;
    let create =
        |topic: &str, options: &str| tool(config, "kafka-topics.sh", &format!("--create --topic {topic} {options}"));
    let stamped = "--partitions 1 --config message.timestamp.type=LogAppendTime --config retention.ms=-1";
    match governance_partitions {
        0 => {
            let command = create(&topics.governance, stamped);
            return Err(KafkaIntakeError::TopicMissing { topic: topics.governance.clone(), command });
        }
        1 => {}
        partitions => {
            let command = create("NAME", stamped);
            return Err(KafkaIntakeError::Partitions { topic: topics.governance.clone(), partitions, command });
        }
    }
    if metrics_partitions == 0 {
        let command = create(&topics.metrics, "--partitions 4 --config message.timestamp.type=LogAppendTime");
        return Err(KafkaIntakeError::TopicMissing { topic: topics.metrics.clone(), command });
    }
    let metrics_stamp = settings_of(config, node, topics).await?;
    Ok(Checked {
        metrics_stamp,
        metrics_partitions: u32::try_from(metrics_partitions).unwrap_or(u32::MAX),
        governance_end: u64::try_from(end).unwrap_or_default(),
    })
}

/// Refuses compacted topics and a governance topic that the broker does not stamp; says who stamps the metrics topic.
async fn settings_of(config: &KafkaConfig, node: &str, topics: &Topics) -> Result<Stamp, KafkaIntakeError> {
    let admin: AdminClient<Context> =
        client::admin(config, node)?.create_with_context(Context).map_err(doing("creating an admin client"))?;
    let options = AdminOptions::new().request_timeout(Some(config.request_timeout()));
    let asked = [&topics.governance, &topics.metrics];
    let resources = asked.map(|topic| ResourceSpecifier::Topic(topic));
    let answers = admin.describe_configs(&resources, &options).await.map_err(doing("the topics' settings"))?;
    let mut stamps = [Stamp::Create; 2];
    for ((topic, answer), stamp) in asked.into_iter().zip(answers).zip(&mut stamps) {
        let answer =
            settings_told(answer).map_err(|code| KafkaIntakeError::Broker { doing: "the topics' settings", code })?;
        let setting = |name: &str| answer.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        let alter = |setting: &str| {
            tool(config, "kafka-configs.sh", &format!("--alter --topic {topic} --add-config {setting}"))
        };
        let policy = setting("cleanup.policy");
        if policy.contains("compact") {
            let command = alter("cleanup.policy=delete");
            return Err(KafkaIntakeError::Compacted { topic: topic.clone(), policy, command });
        }
        let found = setting("message.timestamp.type");
        if found == "LogAppendTime" {
            *stamp = Stamp::LogAppend;
        } else if *topic == topics.governance {
            let command = alter("message.timestamp.type=LogAppendTime");
            return Err(KafkaIntakeError::TimestampType { topic: topic.clone(), found, command });
        }
    }
    Ok(stamps[1])
}

/// The settings of a topic. Where they may not be read the client library hands out none, and no error.
pub(super) fn settings_told(
    answer: Result<ConfigResource, RDKafkaErrorCode>,
) -> Result<ConfigResource, RDKafkaErrorCode> {
    let told = answer?;
    if told.entries.is_empty() { Err(RDKafkaErrorCode::TopicAuthorizationFailed) } else { Ok(told) }
}

/// A command of Kafka's own tools, as it can be pasted.
pub(super) fn tool(config: &KafkaConfig, tool: &str, arguments: &str) -> String {
    // Kafka's own tools take user and password from a file of their own.
    let properties = match config.security_protocol {
        SecurityProtocol::Plaintext => "",
        SecurityProtocol::SaslSsl => " --command-config CLIENT.PROPERTIES",
    };
    format!("{tool} --bootstrap-server {}{properties} {arguments}", config.bootstrap_servers)
}

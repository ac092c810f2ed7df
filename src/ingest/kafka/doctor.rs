//! What a broker and its topics are like for a node that is to read them: looked at, and nothing changed.
//!
//! In scope: everything that the start-up checks refuse, and what they do not look at: rights, retention against how far the
//! ledgers here were read, the clocks. Invariant: no record is produced, no offset committed, no topic made or altered.

mod partition;
mod reach;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode;

use super::checks::tool;
use super::client::{self, Context};
use super::config::{KafkaConfig, SecurityProtocol};
use super::rights::{self, Operation, Rights};
use super::source::Place;
use super::{KafkaIntakeError, checks};
use crate::domain::time::Time;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Could not be looked at.
    Unknown,
    /// Works, with a risk.
    Warning,
    /// The node would not start, or lose something.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was looked at; permanent.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn fine(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, what: what.into(), fix: None }
    }

    /// Something to mend.
    pub fn bad(check: &'static str, level: Level, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level, what: what.into(), fix: Some(fix.into()) }
    }
}

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The governance topic.
    pub governance: String,
    /// The metrics topic.
    pub metrics: String,
    /// The node's name.
    pub node: String,
    /// Whether it is to write.
    pub writes: bool,
    /// The next offset to be read, by ledger, of what was read already.
    pub next: BTreeMap<String, u64>,
}

/// What was found, and the number of partitions of the metrics topic.
#[derive(Debug, Default)]
pub struct Findings {
    /// One by one.
    pub findings: Vec<Finding>,
    /// Partitions of the metrics topic.
    pub metrics_partitions: usize,
}

/// How long a fresh record is waited for, to compare the clocks by.
const FRESH_WAIT: Duration = Duration::from_millis(1_500);
/// A clock that is off by more than this makes cuts late, or refused.
const CLOCK_SECONDS_MAX: i64 = 2;
/// What is read once a day at least is safe with this.
const RETENTION_HOURS_MIN: i64 = 24;
/// Records of our own are no larger, envelope and headers included.
const MESSAGE_BYTES_MIN: i64 = 128 << 10;

/// Looks at a broker.
pub async fn look(config: &KafkaConfig, patient: &Patient, now: impl Fn() -> Time + Send) -> Findings {
    let mut found = Findings::default();
    if let Err(error) = look_at(config, patient, &now, &mut found).await {
        found.findings.push(Finding::bad(
            "broker",
            Level::Error,
            error.to_string(),
            "check bootstrap_servers and the security settings under [kafka], and that the broker can be reached from here",
        ));
    }
    found
}

async fn look_at(
    config: &KafkaConfig,
    patient: &Patient,
    now: &(impl Fn() -> Time + Send),
    found: &mut Findings,
) -> Result<(), KafkaIntakeError> {
    let limit = config.request_timeout();
    let (broker, answers) = reach::reach(config, &patient.node)?;
    found.findings.push(broker);
    if !answers {
        return Ok(());
    }
    let consumer = client::consumer(config, &patient.node)?;
    let mut there = Vec::new();
    for (role, topic) in [("governance", &patient.governance), ("metrics", &patient.metrics)] {
        let partitions = match checks::partitions(&consumer, topic, limit) {
            Err(KafkaIntakeError::Broker { code: RDKafkaErrorCode::TopicAuthorizationFailed, .. }) => {
                let what =
                    format!("this client may not Describe the {role} topic {topic}, nor know whether it is there");
                found.findings.push(Finding::bad("rights", Level::Error, what, acl(config, "Read", topic)));
                continue;
            }
            partitions => partitions?,
        };
        found.findings.push(partitions_of(config, role, topic, partitions));
        if partitions > 0 {
            there.push((role, topic.clone(), partitions));
        }
        if role == "metrics" {
            found.metrics_partitions = partitions;
        }
    }
    look_at_rights(config, patient, &there, found);
    let settings = settings_of(config, patient, &there).await;
    for (role, topic, partitions) in &there {
        let Some(settings) = settings.get(topic) else { continue };
        match settings {
            Ok(settings) => look_at_settings(config, role, topic, settings, found),
            // Over a plain connection the rights said so already.
            Err(Untold::Broker(RDKafkaErrorCode::TopicAuthorizationFailed))
                if found.findings.iter().any(|finding| finding.what.contains("may not DescribeConfigs")) => {}
            Err(untold) => found.findings.push(no_settings(config, role, topic, untold)),
        }
        let retention_ms = settings.as_ref().ok().and_then(|settings| number(settings, "retention.ms"));
        for partition in 0..u32::try_from(*partitions).unwrap_or_default() {
            let ledger = if *role == "governance" { "governance".to_owned() } else { format!("metrics-{partition}") };
            let next = patient.next.get(&ledger).copied();
            let place = Place { topic: topic.clone(), partition };
            partition::look_at(config, patient, &place, &ledger, next, retention_ms, now, found)?;
        }
    }
    Ok(())
}

fn partitions_of(config: &KafkaConfig, role: &str, topic: &str, partitions: usize) -> Finding {
    let stamped = "--partitions 1 --config message.timestamp.type=LogAppendTime --config retention.ms=-1";
    let create = |options: &str| tool(config, "kafka-topics.sh", &format!("--create --topic {topic} {options}"));
    match (role, partitions) {
        ("governance", 0) => {
            Finding::bad("topic", Level::Error, format!("the governance topic {topic} is not there"), create(stamped))
        }
        (_, 0) => Finding::bad(
            "topic",
            Level::Error,
            format!("the metrics topic {topic} is not there"),
            create("--partitions 4 --config message.timestamp.type=LogAppendTime"),
        ),
        ("governance", 2..) => Finding::bad(
            "topic",
            Level::Error,
            format!(
                "the governance topic {topic} has {partitions} partitions; its order is the ledger's, so it must have 1"
            ),
            tool(config, "kafka-topics.sh", &format!("--create --topic NAME {stamped}")),
        ),
        _ => Finding::fine("topic", format!("{role} topic {topic}: partitions {partitions}")),
    }
}

type Settings = BTreeMap<String, String>;

/// Why a topic's settings are not known.
enum Untold {
    Broker(RDKafkaErrorCode),
    Client(String),
}

fn no_settings(config: &KafkaConfig, role: &str, topic: &str, untold: &Untold) -> Finding {
    let fix = acl(config, "DescribeConfigs", topic);
    let reason = match untold {
        // A node does not start without them.
        Untold::Broker(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            let what = format!("this client may not DescribeConfigs the {role} topic {topic}");
            return Finding::bad("rights", Level::Error, what, fix);
        }
        Untold::Broker(code) => code.to_string(),
        Untold::Client(reason) => reason.clone(),
    };
    let what = format!("the settings of {topic} cannot be read: {reason}");
    Finding::bad("topic_settings", Level::Unknown, what, fix)
}

fn number(settings: &Settings, name: &str) -> Option<i64> {
    settings.get(name)?.parse().ok()
}

async fn settings_of(
    config: &KafkaConfig,
    patient: &Patient,
    there: &[(&'static str, String, usize)],
) -> BTreeMap<String, Result<Settings, Untold>> {
    let asked = async {
        let admin: AdminClient<Context> = client::admin(config, &patient.node)
            .map_err(|error| error.to_string())?
            .create_with_context(Context)
            .map_err(|error| error.to_string())?;
        let options = AdminOptions::new().request_timeout(Some(config.request_timeout()));
        let resources: Vec<_> = there.iter().map(|(_, topic, _)| ResourceSpecifier::Topic(topic)).collect();
        admin.describe_configs(&resources, &options).await.map_err(|error| error.to_string())
    };
    let values = |resource: ConfigResource| {
        let entries = resource.entries.into_iter();
        entries.filter_map(|entry| Some((entry.name, entry.value?))).collect::<Settings>()
    };
    match asked.await {
        Ok(answers) => {
            let read = |answer| checks::settings_told(answer).map(values).map_err(Untold::Broker);
            there.iter().zip(answers).map(|((_, topic, _), answer)| (topic.clone(), read(answer))).collect()
        }
        Err(reason) => there.iter().map(|(_, topic, _)| (topic.clone(), Err(Untold::Client(reason.clone())))).collect(),
    }
}

fn look_at_settings(config: &KafkaConfig, role: &str, topic: &str, settings: &Settings, found: &mut Findings) {
    let alter =
        |setting: &str| tool(config, "kafka-configs.sh", &format!("--alter --topic {topic} --add-config {setting}"));
    let setting = |name: &str| settings.get(name).map_or("", String::as_str);
    let is_governance = role == "governance";
    let mut findings = Vec::new();
    let policy = setting("cleanup.policy");
    if policy.contains("compact") {
        let what = format!("{topic} has cleanup.policy={policy}: compaction takes records out of its middle");
        findings.push(Finding::bad("cleanup_policy", Level::Error, what, alter("cleanup.policy=delete")));
    }
    let stamp = setting("message.timestamp.type");
    findings.push(if stamp == "LogAppendTime" {
        Finding::fine("timestamp_type", format!("{topic} is stamped by the broker"))
    } else {
        let what = if is_governance {
            format!("{topic} has message.timestamp.type={stamp}: times of governance entries must be the broker's")
        } else {
            format!(
                "{topic} has message.timestamp.type={stamp}: records count at the first cut after they came, and what an outage held back counts after it"
            )
        };
        let level = if is_governance { Level::Error } else { Level::Warning };
        Finding::bad("timestamp_type", level, what, alter("message.timestamp.type=LogAppendTime"))
    });
    let retention = number(settings, "retention.ms").unwrap_or(-1);
    let hours = retention / 3_600_000;
    if retention < 0 {
        findings.push(Finding::fine("retention", format!("{topic} keeps its records for ever")));
    } else if is_governance {
        let what = format!(
            "{topic} keeps records for {hours} h: a further node builds the ledger from the topic, and could not any more"
        );
        findings.push(Finding::bad("retention", Level::Warning, what, alter("retention.ms=-1")));
    } else if hours < RETENTION_HOURS_MIN {
        let what = format!("{topic} keeps records for {hours} h: what an outage of that length holds back is lost");
        findings.push(Finding::bad("retention", Level::Warning, what, alter("retention.ms=604800000")));
    } else {
        findings.push(Finding::fine("retention", format!("{topic} keeps records for {hours} h")));
    }
    let bytes = number(settings, "max.message.bytes").unwrap_or(i64::MAX);
    if is_governance && bytes < MESSAGE_BYTES_MIN {
        let what = format!("{topic} takes records of {bytes} bytes at the most; ours may have {MESSAGE_BYTES_MIN}");
        findings.push(Finding::bad("message_size", Level::Error, what, alter("max.message.bytes=1048588")));
    }
    if setting("unclean.leader.election.enable") == "true" {
        let what =
            format!("{topic} allows unclean leader elections: acknowledged records may vanish, and the intake stops");
        findings.push(Finding::bad(
            "leader_election",
            Level::Warning,
            what,
            alter("unclean.leader.election.enable=false"),
        ));
    }
    found.findings.extend(findings);
}

fn acl(config: &KafkaConfig, operation: &str, topic: &str) -> String {
    let user = config.sasl_username.as_deref().unwrap_or("ANONYMOUS");
    tool(
        config,
        "kafka-acls.sh",
        &format!("--add --allow-principal User:{user} --operation {operation} --topic {topic}"),
    )
}

fn look_at_rights(
    config: &KafkaConfig,
    patient: &Patient,
    there: &[(&'static str, String, usize)],
    found: &mut Findings,
) {
    if config.security_protocol != SecurityProtocol::Plaintext {
        let user = config.sasl_username.as_deref().unwrap_or_default();
        let what = "over SASL the rights to write are not asked for; whether reading is allowed shows below".to_owned();
        let fix = tool(config, "kafka-acls.sh", &format!("--list --principal User:{user}"));
        found.findings.push(Finding::bad("rights", Level::Unknown, what, fix));
        return;
    }
    let topics: Vec<&str> = there.iter().map(|(_, topic, _)| topic.as_str()).collect();
    match rights::ask(&config.bootstrap_servers, &topics, config.request_timeout()) {
        Ok(rights) => {
            for (role, topic, _) in there {
                found.findings.extend(rights_on(config, role, topic, rights.get(topic).copied(), patient.writes));
            }
        }
        Err(reason) => {
            let what = format!("the broker does not say what this client may do: {reason}");
            let fix = tool(config, "kafka-acls.sh", "--list");
            found.findings.push(Finding::bad("rights", Level::Unknown, what, fix));
        }
    }
}

fn rights_on(config: &KafkaConfig, role: &str, topic: &str, rights: Option<Rights>, writes: bool) -> Vec<Finding> {
    let Some(rights) = rights else {
        let what = format!("the broker does not say what this client may do with {topic}");
        return vec![Finding::bad("rights", Level::Unknown, what, tool(config, "kafka-acls.sh", "--list"))];
    };
    let needed = [
        (Operation::Read, "Read", true, Level::Error),
        (Operation::DescribeConfigs, "DescribeConfigs", true, Level::Error),
        // Only what is posted to this node over HTTP goes to the metrics topic.
        (Operation::Write, "Write", writes, if role == "governance" { Level::Error } else { Level::Warning }),
    ];
    let mut findings = Vec::new();
    for (operation, name, is_needed, level) in needed {
        let allowed = rights.allow(operation);
        if is_needed && !allowed {
            let what = format!("this client may not {name} the {role} topic {topic}");
            findings.push(Finding::bad("rights", level, what, acl(config, name, topic)));
        } else if allowed && !is_needed {
            let what = format!("this client may {name} {topic}, which a shadow has no use for");
            findings.push(Finding::fine("rights", what));
        }
    }
    if findings.iter().all(|finding| finding.level == Level::Ok) {
        findings.push(Finding::fine("rights", format!("this client may do with {topic} what it needs to")));
    }
    findings
}

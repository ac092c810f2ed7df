//! The two topics of a measurement: made, filled as over the time of a stop, and removed.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::Plan;
use crate::cli::bench::traffic::Traffic;
use crate::cli::bench::{CliError, failed, file_error};
use crate::clock::Clock;
use crate::domain::time::Time;

/// Records a second over the time of the stop: as many between two cuts as the file intake's measurement has.
const RECORDS_A_SECOND: u64 = 10_000;
/// The stop ended so long ago: its last cut is due.
const ENDED_SECONDS: i64 = 30;
const LIMIT: Duration = Duration::from_secs(30);
const FLUSH_LIMIT: Duration = Duration::from_mins(5);

/// Topics that go when this is dropped.
pub(super) struct Topics {
    pub(super) governance: String,
    pub(super) metrics: String,
    /// Length of the stop.
    pub(super) seconds: u64,
    /// The stamp of the last record.
    pub(super) last: Time,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Topics {
    /// Makes both and fills them.
    pub(super) fn make(plan: &Plan, traffic: &Traffic) -> Result<Self, CliError> {
        let seconds = plan.records / RECORDS_A_SECOND + 1;
        let now = Clock::System.now();
        let last = now.plus_seconds(-ENDED_SECONDS);
        let first = last.plus_seconds(-i64::try_from(seconds).unwrap_or(i64::MAX));
        let prefix = format!("govledger-bench-{}-{}", std::process::id(), now.micros());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &plan.brokers);
        let topics = Self {
            governance: format!("{prefix}-governance"),
            metrics: format!("{prefix}-metrics"),
            seconds,
            last,
            admin: config.create().map_err(failed)?,
            runtime: crate::cli::node::runtime()?,
        };
        topics.create(&topics.governance, 1)?;
        topics.create(&topics.metrics, plan.partitions)?;
        let producer: BaseProducer = config
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.kbytes", "65536")
            .create()
            .map_err(failed)?;
        for event in &traffic.events {
            send(&producer, &topics.governance, 0, event, millis(first) - 1_000)?;
        }
        topics.fill(plan, traffic, &producer, millis(first))?;
        producer.flush(FLUSH_LIMIT).map_err(failed)?;
        // From here on the broker stamps, as the service asks of the topics; what lies in them keeps its stamps.
        topics.stamped_by_broker(&topics.governance)?;
        topics.stamped_by_broker(&topics.metrics)?;
        // A broker on this machine has its disk to itself from here on, as after a long stop.
        std::process::Command::new("sync").status().map_err(failed)?;
        Ok(topics)
    }

    fn fill(&self, plan: &Plan, traffic: &Traffic, producer: &BaseProducer, first: i64) -> Result<(), CliError> {
        let mut written = 0;
        while written < plan.records {
            let file = std::fs::File::open(&traffic.path).map_err(file_error(&traffic.path))?;
            for line in BufReader::with_capacity(1 << 20, file).lines() {
                if written == plan.records {
                    break;
                }
                let line = line.map_err(file_error(&traffic.path))?;
                // Runs of records to each partition, as a producer's batches are.
                let partition = written / 1_000 % u64::from(plan.partitions);
                let at = i64::try_from(written * 1_000 / RECORDS_A_SECOND).unwrap_or(i64::MAX);
                send(producer, &self.metrics, i32::try_from(partition).unwrap_or_default(), &line, first + at)?;
                written += 1;
            }
        }
        Ok(())
    }

    fn create(&self, name: &str, partitions: u32) -> Result<(), CliError> {
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "CreateTime")
            .set("retention.ms", "-1");
        let made = self.runtime.block_on(self.admin.create_topics([&topic], &options())).map_err(failed)?;
        made.into_iter().try_for_each(|one| one.map(|_| ()).map_err(|(name, code)| failed(format!("{name}: {code}"))))
    }

    fn stamped_by_broker(&self, name: &str) -> Result<(), CliError> {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name))
            .set("message.timestamp.type", "LogAppendTime")
            .set("retention.ms", "-1");
        let made = self.runtime.block_on(self.admin.alter_configs([&change], &options())).map_err(failed)?;
        made.into_iter().try_for_each(|one| one.map(|_| ()).map_err(|(_, code)| failed(format!("{name}: {code}"))))
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let names = [self.governance.as_str(), self.metrics.as_str()];
        if let Err(error) = self.runtime.block_on(self.admin.delete_topics(&names, &options())) {
            crate::cli::out::note(format!("the topics {names:?} could not be removed: {error}"));
        }
    }
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, text: &str, stamp_ms: i64) -> Result<(), CliError> {
    let mut record =
        BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(text.as_bytes()).timestamp(stamp_ms);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(failed(error)),
        }
    }
}

fn millis(time: Time) -> i64 {
    time.micros() / 1_000
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

//! The service, watched from outside until it has caught up.

use std::path::Path;
use std::time::{Duration, Instant};

use ledger::Reader;

use super::Plan;
use super::topics::Topics;
use crate::cli::bench::{CliError, failed, file_error, process};
use crate::cli::source::{Client, ServiceFile};
use crate::clock::{Clock, monotonic};
use crate::config::Config;
use crate::domain::settings::SourceSettings;
use crate::domain::time::Time;
use crate::ingest::kafka::KafkaConfig;
use crate::sequencer::{DataDir, InitOptions};

/// How often the ledgers' heads are looked at: a read of one small file each.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Without progress for so long the measurement ends.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// What was seen of a service that caught up.
#[derive(Debug)]
pub(super) struct CaughtUp {
    /// Records that came after the first look that found some.
    pub(super) counted: u64,
    /// From that look to the last record durable.
    pub(super) durable: Duration,
    /// From that look to the cut that covers the last record folded.
    pub(super) folded: Duration,
    /// From the start of the process to the last record durable.
    pub(super) whole: Duration,
    /// Resident once a tenth was read.
    pub(super) early_mib: f64,
    /// Resident at the end.
    pub(super) late_mib: f64,
    /// The most that ever was.
    pub(super) peak_mib: f64,
}

/// Starts a service on the topics and waits until every record is durable and folded.
pub(super) fn catch_up(plan: &Plan, topics: &Topics, scratch: &Path) -> Result<CaughtUp, CliError> {
    let data = scratch.join("kafka-data");
    let data_dir = init(&data, topics)?;
    let config = scratch.join("govledger.toml");
    write_config(&config, plan)?;
    let started = monotonic();
    let service = process::start(&data, &config, &scratch.join("service.log"))?;
    let mut watch = Watch { data_dir, readers: Vec::new(), seen: 0, changed: started };
    let first = loop {
        if let size @ 1.. = watch.records()? {
            break size;
        }
    };
    let began = monotonic();
    let mut early = None;
    while watch.seen < plan.records {
        if watch.records()? >= plan.records / 10 && early.is_none() {
            early = Some(service.memory_mib("VmRSS:"));
        }
    }
    let (durable, whole) = (began.elapsed(), started.elapsed());
    folded(&data, topics.last)?;
    let late_mib = service.memory_mib("VmRSS:");
    Ok(CaughtUp {
        counted: plan.records - first,
        durable,
        folded: began.elapsed(),
        whole,
        early_mib: early.unwrap_or(late_mib),
        late_mib,
        peak_mib: service.memory_mib("VmHWM:"),
    })
}

fn init(data: &Path, topics: &Topics) -> Result<DataDir, CliError> {
    DataDir::init(
        data,
        InitOptions {
            node: "bench".to_owned(),
            source: SourceSettings::Kafka {
                governance_topic: topics.governance.clone(),
                metrics_topic: topics.metrics.clone(),
            },
            admin: "ada".to_owned(),
            settings: None,
            further_node_keys: Vec::new(),
            now: Clock::System.now(),
        },
    )?;
    Ok(DataDir::open(data)?)
}

/// The defaults, but for the broker.
fn write_config(path: &Path, plan: &Plan) -> Result<(), CliError> {
    let kafka = KafkaConfig { bootstrap_servers: plan.brokers.clone(), ..KafkaConfig::default() };
    let config = Config { kafka: Some(kafka), ..Config::default() };
    std::fs::write(path, toml::to_string(&config).map_err(failed)?).map_err(file_error(path))
}

/// Looks at the metrics ledgers from outside.
struct Watch {
    data_dir: DataDir,
    readers: Vec<Reader>,
    seen: u64,
    changed: Instant,
}

impl Watch {
    /// Records durable in all metrics ledgers, after a moment. An error where there was no progress for too long.
    fn records(&mut self) -> Result<u64, CliError> {
        std::thread::sleep(LOOK_EVERY);
        let next = format!("metrics-{}", self.readers.len());
        let directory = self.data_dir.ledger_dir(&next);
        if directory.join("head").exists() {
            // One that is being made is looked at again.
            let key = self.data_dir.verifier_key(&next)?;
            self.readers.extend(Reader::open(&directory, &key).ok());
        }
        let mut records = 0;
        for reader in &self.readers {
            reader.refresh()?;
            // The first entry holds the settings.
            records += reader.size().saturating_sub(1);
        }
        if records > self.seen {
            (self.seen, self.changed) = (records, monotonic());
        }
        if self.changed.elapsed() > GIVE_UP_AFTER {
            return Err(failed(format!("{} records were taken, and then none for {GIVE_UP_AFTER:?}", self.seen)));
        }
        Ok(self.seen)
    }
}

/// Waits until the cut that covers the last record was folded.
fn folded(data: &Path, last: Time) -> Result<(), CliError> {
    let began = monotonic();
    while began.elapsed() < GIVE_UP_AFTER {
        if let Some(client) = ServiceFile::running(data) {
            let ready = client.get("/readyz")?.json();
            let through = ready["evaluated_through"].as_str().and_then(|time| time.parse::<Time>().ok());
            if through.is_some_and(|through| through >= last) {
                return rules(&client);
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(failed(format!("the cut of {last} was not folded within {GIVE_UP_AFTER:?}")))
}

/// The rules follow a cut under a lock that this question needs too.
fn rules(client: &Client) -> Result<(), CliError> {
    let answer = client.get(&format!("/v1/stacks/{}/slo", crate::cli::bench::intake::STACK))?;
    if answer.is_success() { Ok(()) } else { Err(failed(format!("the service answers {}", answer.status))) }
}

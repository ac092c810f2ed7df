//! `doctor`: what a node would find at its start, and what it would write where; nothing is changed and nothing produced.

mod disk;
mod writes;

use std::collections::BTreeMap;

use serde_json::json;

use super::args::{Doctor, Options};
use super::error::{CliError, Exit, Outcome};
use super::node::{config_error, runtime};
use super::out::{self, Tone, tone};
use super::source::Place;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::leaf;
use crate::domain::settings::SourceSettings;
use crate::ingest::kafka::doctor::{Finding, Findings, Level, Patient, look};
use crate::sequencer::DataDir;

pub(crate) fn run(place: &Place, options: &Options, doctor: &Doctor) -> Outcome {
    let config = Config::load(options.config.as_deref()).map_err(|error| config_error(&error))?;
    config.policy().map_err(|error| config_error(&error))?;
    let mut findings = Vec::new();
    let data_dir = if place.data.join("node.json").exists() { Some(DataDir::open(&place.data)?) } else { None };
    findings.push(match &data_dir {
        Some(data_dir) => Finding::fine("data_directory", format!("{}: node {}", place.data.display(), data_dir.node())),
        None => Finding::bad(
            "data_directory",
            Level::Warning,
            format!("{} is not there yet", place.data.display()),
            "govledger init, with --kafka-governance-topic and --kafka-metrics-topic, and --shadow for a first week beside what is there",
        ),
    });
    findings.extend(disk::look(&place.data));
    let patient = patient(&config, data_dir.as_ref(), doctor)?;
    let kafka = config.kafka.clone().unwrap_or_default();
    let looked = match &patient {
        Some(patient) => runtime()?.block_on(look(&kafka, patient, || Clock::System.now())),
        None => Findings::default(),
    };
    findings.extend(looked.findings);
    let writes = writes::writes(&config, patient.as_ref(), looked.metrics_partitions)?;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if options.json {
        out::json(&json!({ "ok": worst < Level::Error, "findings": findings, "writes": writes }));
    } else {
        tell(&findings, &writes);
    }
    Ok(if worst == Level::Error { Exit::No } else { Exit::Fine })
}

/// What is to be looked at in Kafka; none in embedded mode.
fn patient(config: &Config, data_dir: Option<&DataDir>, doctor: &Doctor) -> Result<Option<Patient>, CliError> {
    let configured =
        config.kafka.as_ref().and_then(|kafka| kafka.governance_topic.clone().zip(kafka.metrics_topic.clone()));
    let (topics, is_shadow) = match data_dir.map(|data_dir| &data_dir.settings().source) {
        Some(SourceSettings::Embedded) => return Ok(None),
        Some(SourceSettings::Kafka { governance_topic, metrics_topic }) => {
            (Some((governance_topic.clone(), metrics_topic.clone())), false)
        }
        Some(SourceSettings::Shadow { governance_topic, metrics_topic }) => {
            (Some((governance_topic.clone(), metrics_topic.clone())), true)
        }
        None if config.kafka.is_some() && configured.is_none() => {
            return Err(CliError::usage(
                "name governance_topic and metrics_topic under [kafka], or a data directory made for them",
            ));
        }
        None => (configured, false),
    };
    let Some((governance, metrics)) = topics else { return Ok(None) };
    let node = data_dir.map_or_else(|| "doctor".to_owned(), |data_dir| data_dir.node().to_owned());
    let next = data_dir.map(read_to).transpose()?.unwrap_or_default();
    Ok(Some(Patient { governance, metrics, node, writes: !is_shadow && !doctor.shadow, next }))
}

/// The offset after the last one that each ledger holds. What a shadow said itself has none.
fn read_to(data_dir: &DataDir) -> Result<BTreeMap<String, u64>, CliError> {
    let mut next = BTreeMap::new();
    for (name, reader) in data_dir.readers()? {
        for position in (1..reader.size()).rev() {
            let entry = reader.entry(position)?;
            if let Some(offset) = leaf::split(&entry).ok().and_then(|leaf| leaf.header.offset) {
                next.insert(name, offset + 1);
                break;
            }
        }
    }
    Ok(next)
}

fn tell(findings: &[Finding], writes: &[writes::Write]) {
    for finding in findings {
        let word = match finding.level {
            Level::Ok => tone(Tone::Good, "ok     "),
            Level::Unknown => "unknown".to_owned(),
            Level::Warning => tone(Tone::Warn, "warning"),
            Level::Error => tone(Tone::Bad, "error  "),
        };
        out::line(format!("{word} {:<15} {}", finding.check, finding.what));
        if let Some(fix) = &finding.fix {
            out::line(format!("        {:<15} fix: {fix}", ""));
        }
    }
    out::line("");
    out::line("It would write:");
    for write in writes {
        out::line(format!("  {:<44} {}", write.place, write.what));
    }
}

//! The intake from a broker, beside a bare consumer of the same topic: how fast a service catches up after a long stop.
//!
//! The traffic lies in the topic before anything is measured, stamped as a broker would have stamped it over the time of the
//! stop, so that the service finds as many cuts to make as the stop had. The service is the real one, a process of its own
//! (`govledger serve`), so its memory is its own. The topics are removed at the end.

mod consume;
mod service;
mod topics;

use std::path::Path;

use super::report::Report;
use super::{CliError, disk, rate, traffic};
use crate::cli::out;

/// Lines that are made; a longer topic repeats them.
const LINES_MAX: u64 = 1_000_000;
/// The share of the bare consumer's rate that is to be reached.
const LEAST: f64 = 0.60;

/// What is measured where.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// `HOST:PORT`, comma-separated.
    pub(super) brokers: String,
    /// Records in the topic.
    pub(super) records: u64,
    /// Its partitions.
    pub(super) partitions: u32,
}

/// Fills a topic, reads it bare, and lets a service catch up with it.
pub(super) fn measure(plan: &Plan, scratch: &Path, report: &mut Report) -> Result<(), CliError> {
    let said = |what: &str| out::note(format!("bench: {what}"));
    said("writing traffic");
    let traffic = traffic::write(&scratch.join("provider.ndjson"), plan.records.min(LINES_MAX))?;
    said("filling the topic");
    let topics = topics::Topics::make(plan, &traffic)?;
    said("a bare consumer");
    let before = consume::rate_of(plan, &topics.metrics)?;
    said("the service");
    let caught_up = service::catch_up(plan, &topics, scratch)?;
    said("the disk alone");
    let disk_alone = disk::rate_of(&traffic, scratch)?;
    said("a bare consumer again");
    let bare = before.max(consume::rate_of(plan, &topics.metrics)?);
    let against = "bare rdkafka consumer of the same topic, the better of one run before and one after";
    let stop = topics.seconds / 60;
    let work = format!("Kafka intake after a stop of {stop} minutes: durable, parsed, judged, folded");
    report.share(&work, rate(caught_up.counted, caught_up.folded), bare, against, Some(LEAST));
    let durable = rate(caught_up.counted, caught_up.durable);
    report.share("Kafka intake: durable and parsed", durable, bare, against, None);
    report.share("Kafka intake: durable and parsed, beside the disk alone", durable, disk_alone, disk::AGAINST, None);
    report.at_most("from the service's start to the last record durable", caught_up.whole.as_secs_f64(), "s", None);
    report.at_most("the service's memory once a tenth was read", caught_up.early_mib, "MiB", None);
    report.at_most("the service's memory at the end", caught_up.late_mib, "MiB", None);
    report.at_most("the service's peak memory", caught_up.peak_mib, "MiB", Some(300.0));
    Ok(())
}

//! Where a topic's partitions end, asked by the client that produces: on a connection that holds, the answer comes after all
//! that the client sent there before.
//!
//! An end covers records of transactions that are still open, too: they may yet become entries.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::producer::Client;
use crate::clock::monotonic;
use crate::sequencer::{Ends, ProduceError, Topic};

/// Asks within `limit` altogether. A partition without a leader is named; any other that gives no end is an error, since
/// what it holds may be read at any moment.
pub(super) fn ask(client: &Client, topic: Topic, name: &str, limit: Duration) -> Result<Ends, ProduceError> {
    let began = monotonic();
    let left = || limit.saturating_sub(began.elapsed());
    let failed = |reason: &dyn std::fmt::Display| ProduceError::Unconfirmed(format!("where {name} ends: {reason}"));
    let metadata = client.client().fetch_metadata(Some(name), left()).map_err(|error| failed(&error))?;
    let found = metadata.topics().iter().find(|found| found.name() == name);
    let found = found.ok_or_else(|| failed(&"there is no such topic"))?;
    if let Some(error) = found.error().map(RDKafkaErrorCode::from) {
        return Err(failed(&error));
    }
    let mut ends = Ends::default();
    for partition in found.partitions() {
        let ledger = match topic {
            Topic::Governance => "governance".to_owned(),
            Topic::Metrics => format!("metrics-{}", partition.id()),
        };
        if partition.leader() < 0 {
            tracing::warn!(ledger, "kafka.leaderless: lines of files that are there may be taken once more");
            ends.leaderless.insert(ledger);
            continue;
        }
        let (low, end) =
            client.client().fetch_watermarks(name, partition.id(), left()).map_err(|error| failed(&error))?;
        // What has expired is not to be read any more.
        if low < end {
            ends.offsets.insert(ledger, u64::try_from(end).unwrap_or_default());
        }
    }
    Ok(ends)
}

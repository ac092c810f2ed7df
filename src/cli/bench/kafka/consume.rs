//! A bare consumer: every record of the topic is taken, and nothing is done with it.

use std::hint::black_box;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Plan;
use crate::cli::bench::{CliError, failed, rate};
use crate::clock::monotonic;

const POLL: Duration = Duration::from_secs(10);

/// Records a second, from the first to the last.
pub(super) fn rate_of(plan: &Plan, topic: &str) -> Result<f64, CliError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &plan.brokers)
        .set("group.id", "govledger-bench")
        .set("enable.auto.commit", "false")
        // The default of a second halves the rate of a consumer that is slower than its broker.
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .map_err(failed)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..plan.partitions {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        list.add_partition_offset(topic, number, Offset::Beginning).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let (mut count, mut bytes, mut began) = (0_u64, 0, monotonic());
    while count < plan.records {
        let Some(message) = consumer.poll(POLL) else {
            return Err(failed(format!("{count} of {} records came, and then none for {POLL:?}", plan.records)));
        };
        bytes += black_box(message.map_err(failed)?.payload()).map_or(0, <[u8]>::len);
        count += 1;
        if count == 1 {
            began = monotonic();
        }
    }
    black_box(bytes);
    Ok(rate(count - 1, began.elapsed()))
}

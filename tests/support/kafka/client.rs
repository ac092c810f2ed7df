//! Topics and records of a test's broker. All calls block, inside and outside of an async runtime, and panic where the
//! broker refuses: a test that wants to see a refusal asks for it by itself.

use std::future::Future;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Kafka;
use crate::support::wait::{Deadline, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

/// A record to produce.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl Record {
    /// A record for partition 0 without key or headers.
    pub(crate) fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    pub(crate) fn partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    pub(crate) fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// A record as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Kafka {
    /// Makes a topic; `settings` such as `("message.timestamp.type", "LogAppendTime")`.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let results = block_on(self.admin().create_topics([&topic], &admin_options())).unwrap();
        assert_eq!(results, [Ok(name.to_owned())]);
        self.wait_for_topic(name, Some(partitions));
    }

    /// Makes a topic whose n-th partition lies on the n-th of these brokers alone.
    pub(crate) fn create_topic_on(&self, name: &str, brokers: &[i32], settings: &[(&str, &str)]) {
        let places: Vec<[i32; 1]> = brokers.iter().map(|broker| [*broker]).collect();
        let places: Vec<&[i32]> = places.iter().map(<[i32; 1]>::as_slice).collect();
        let count = i32::try_from(brokers.len()).unwrap();
        let mut topic = NewTopic::new(name, count, TopicReplication::Variable(&places));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let results = block_on(self.admin().create_topics([&topic], &admin_options())).unwrap();
        assert_eq!(results, [Ok(name.to_owned())]);
        self.wait_for_topic(name, Some(count));
    }

    /// Raises the number of a topic's partitions to `partitions`.
    pub(crate) fn add_partitions(&self, name: &str, partitions: usize) {
        let results =
            block_on(self.admin().create_partitions([&NewPartitions::new(name, partitions)], &admin_options()))
                .unwrap();
        assert_eq!(results, [Ok(name.to_owned())]);
        self.wait_for_topic(name, i32::try_from(partitions).ok());
    }

    pub(crate) fn delete_topic(&self, name: &str) {
        let results = block_on(self.admin().delete_topics(&[name], &admin_options())).unwrap();
        assert_eq!(results, [Ok(name.to_owned())]);
        self.wait_for_topic(name, None);
    }

    /// Removes the records before `offset`: what a consumer that has not read them finds as a hole.
    pub(crate) fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        let result = block_on(self.admin().delete_records(&list, &admin_options())).unwrap();
        for element in result.elements() {
            element.error().unwrap();
        }
    }

    /// Sets a topic's settings; those not named return to their defaults.
    pub(crate) fn alter_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (setting, value) in settings {
            change = change.set(setting, value);
        }
        let results = block_on(self.admin().alter_configs([&change], &admin_options())).unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// Produces the records in order, `acks=all`, through the plain listener; partition and offset of each.
    pub(crate) fn produce(&self, topic: &str, records: &[Record]) -> Vec<(i32, i64)> {
        produce(&self.client(), topic, records)
    }

    /// As `produce`, through one producer with a pause after each record.
    pub(crate) fn produce_apart(&self, topic: &str, records: &[Record], apart: Duration) {
        let producer: FutureProducer =
            self.client().set("enable.idempotence", "true").set("linger.ms", "5").create().unwrap();
        let mut sent = Vec::with_capacity(records.len());
        for record in records {
            sent.push(producer.send_result(to_future_record(topic, record)).map_err(|(error, _)| error).unwrap());
            std::thread::sleep(apart);
        }
        producer.flush(LIMIT).unwrap();
        for delivery in sent {
            block_on(delivery).expect("the producer is still there").map_err(|(error, _)| error).unwrap();
        }
    }

    /// As `produce`, in one transaction, which ends with a marker in each partition touched; aborted where not to `commit`.
    pub(crate) fn produce_transaction(&self, topic: &str, records: &[Record], commit: bool) -> Vec<(i32, i64)> {
        let producer: FutureProducer =
            self.client().set("transactional.id", format!("tests-{topic}")).create().unwrap();
        producer.init_transactions(LIMIT).unwrap();
        producer.begin_transaction().unwrap();
        let offsets = send_all(&producer, topic, records);
        if commit { producer.commit_transaction(LIMIT) } else { producer.abort_transaction(LIMIT) }.unwrap();
        offsets
    }

    /// Every record of a topic (committed ones alone), by partition and offset.
    pub(crate) fn consume_all(&self, topic: &str) -> Vec<Consumed> {
        consume_all(&self.client(), topic)
    }

    /// Lowest offset held and next offset to be written, of each partition.
    pub(crate) fn watermarks(&self, topic: &str) -> Vec<(i64, i64)> {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let partitions = partitions_of(&consumer, topic);
        (0..partitions).map(|partition| consumer.fetch_watermarks(topic, partition, LIMIT).unwrap()).collect()
    }

    /// Whether a partition answers for its offsets, which it does where it has a leader.
    pub(crate) fn watermarks_if_led(&self, topic: &str, partition: i32) -> bool {
        let consumer: BaseConsumer = self.client().create().unwrap();
        consumer.fetch_watermarks(topic, partition, Duration::from_secs(2)).is_ok()
    }

    /// The next offset to be written, of each partition.
    pub(crate) fn end_offsets(&self, topic: &str) -> Vec<i64> {
        self.watermarks(topic).into_iter().map(|(_, end)| end).collect()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Topic changes are acknowledged by the controller before the broker has heard of them.
    fn wait_for_topic(&self, name: &str, partitions: Option<i32>) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        wait_for(&format!("topic {name} with partitions {partitions:?}"), LIMIT, || {
            let metadata = consumer.fetch_metadata(Some(name), LIMIT).ok()?;
            let topic = metadata.topics().first()?;
            let all_lead =
                topic.partitions().iter().all(|partition| partition.leader() >= 0 && partition.error().is_none());
            let found =
                i32::try_from(topic.partitions().len()).ok().filter(|count| *count > 0 && topic.error().is_none());
            (found == partitions && all_lead).then_some(())
        });
    }
}

/// Produces the records in order with any client's settings; partition and offset of each.
pub(crate) fn produce(client: &ClientConfig, topic: &str, records: &[Record]) -> Vec<(i32, i64)> {
    let producer: FutureProducer =
        client.clone().set("enable.idempotence", "true").set("linger.ms", "5").create().unwrap();
    send_all(&producer, topic, records)
}

fn send_all(producer: &FutureProducer, topic: &str, records: &[Record]) -> Vec<(i32, i64)> {
    let deadline = Deadline::after(Duration::from_mins(2));
    let mut futures = Vec::with_capacity(records.len());
    for record in records {
        let mut next = to_future_record(topic, record);
        futures.push(loop {
            match producer.send_result(next) {
                Ok(future) => break future,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) if !deadline.passed() => {
                    std::thread::sleep(Duration::from_millis(5));
                    next = refused;
                }
                Err((error, _)) => panic!("producing to {topic}: {error}"),
            }
        });
    }
    producer.flush(deadline.left()).unwrap();
    let delivered = |delivery: Delivery| (delivery.partition, delivery.offset);
    block_on(async {
        let mut offsets = Vec::with_capacity(futures.len());
        for future in futures {
            let result = future.await.expect("the producer is still there");
            offsets.push(delivered(result.unwrap_or_else(|(error, _)| panic!("producing to {topic}: {error}"))));
        }
        offsets
    })
}

fn to_future_record<'a>(topic: &'a str, record: &'a Record) -> FutureRecord<'a, [u8], [u8]> {
    let mut next = FutureRecord::to(topic).partition(record.partition);
    next.key = record.key.as_deref();
    next.payload = record.payload.as_deref();
    next.timestamp = record.timestamp_ms;
    if !record.headers.is_empty() {
        let add = |headers: OwnedHeaders, (name, value): &(String, Vec<u8>)| {
            headers.insert(Header { key: name, value: Some(value) })
        };
        next.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), add));
    }
    next
}

/// Every record of a topic with any client's settings, by partition and offset.
pub(crate) fn consume_all(client: &ClientConfig, topic: &str) -> Vec<Consumed> {
    let consumer: BaseConsumer = client
        .clone()
        .set("group.id", "tests")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50")
        .create()
        .unwrap();
    let mut waiting_for = partitions_of(&consumer, topic);
    let mut assignment = TopicPartitionList::new();
    for partition in 0..waiting_for {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let deadline = Deadline::after(Duration::from_mins(2));
    let mut all = Vec::new();
    while waiting_for > 0 {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => all.push(to_consumed(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => waiting_for -= 1,
            Some(Err(error)) => panic!("consuming {topic}: {error}"),
            None => assert!(!deadline.passed(), "{topic} is not read to its end in time"),
        }
    }
    all.sort_by_key(|record| (record.partition, record.offset));
    all
}

fn to_consumed(message: &rdkafka::message::BorrowedMessage<'_>) -> Consumed {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    });
    Consumed {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

fn partitions_of(consumer: &BaseConsumer, topic: &str) -> i32 {
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).unwrap();
    i32::try_from(metadata.topics()[0].partitions().len()).unwrap()
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

/// Waits for a future on a thread of its own, so that it may be called from within a runtime too.
fn block_on<F>(future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    std::thread::scope(|scope| {
        let work = || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

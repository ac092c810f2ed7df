//! What this node writes to the topics: idempotent, acknowledged by all replicas, from a bounded queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::checks::{self, Topics};
use super::client::{self, Context};
use super::config::KafkaConfig;
use super::ends;
use super::error::{KafkaIntakeError, doing};
use super::record;
use crate::clock::monotonic;
use crate::domain::settings::Settings;
use crate::sequencer::{AtBroker, Ends, ProduceError, Produced, Producer, Submission, Topic};

/// Pause before a full queue is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(5);

pub(super) type Client = FutureProducer<Context>;

/// Produces to the two topics.
struct TopicProducer {
    settings: ClientConfig,
    client: Mutex<Client>,
    topics: Topics,
    delivery_limit: Duration,
    request_limit: Duration,
}

impl std::fmt::Debug for TopicProducer {
    /// Without its settings: they hold the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicProducer").field("topics", &self.topics).finish_non_exhaustive()
    }
}

/// Refuses, with the reason: this node only reads.
#[derive(Debug)]
struct NoProducer(&'static str);

/// The producer of Kafka mode. Connects when it is first used.
pub fn producer(config: &KafkaConfig, settings: &Settings) -> Result<Arc<dyn Producer>, KafkaIntakeError> {
    let topics = checks::topics(settings, config)?;
    let settings = client::producer(config, "producer")?;
    let client = Mutex::new(create(&settings)?);
    let delivery_limit = Duration::from_millis(config.delivery_timeout_ms);
    let request_limit = config.request_timeout();
    Ok(Arc::new(TopicProducer { settings, client, topics, delivery_limit, request_limit }))
}

/// The producer of a follower: whoever wants to write is sent elsewhere.
pub fn follower_producer() -> Arc<dyn Producer> {
    Arc::new(NoProducer("this node is a follower and writes nothing; ask another"))
}

/// The producer of a shadow: nothing that is asked of it takes effect anywhere.
pub fn shadow_producer() -> Arc<dyn Producer> {
    Arc::new(NoProducer(
        "this node is a shadow: it reads the topics of others and writes nothing, so nothing can be handed in or decided here",
    ))
}

fn create(settings: &ClientConfig) -> Result<Client, KafkaIntakeError> {
    settings.create_with_context(Context).map_err(doing("creating a producer"))
}

impl TopicProducer {
    /// The client; a new one where the old one can do nothing more.
    fn client(&self) -> Result<Client, ProduceError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, reason)) = client.client().fatal_error() {
            tracing::warn!(%code, reason, "kafka.producer_replaced");
            *client = create(&self.settings).map_err(|error| ProduceError::Unconfirmed(error.to_string()))?;
        }
        Ok(client.clone())
    }

    async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        items: Vec<Submission>,
    ) -> Result<Vec<Produced>, ProduceError> {
        let client = self.client()?;
        let began = monotonic();
        let (mut deliveries, mut failed) = (Vec::with_capacity(items.len()), None);
        for item in &items {
            let mut next: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(topic).payload(item.body.as_slice()).headers(record::headers_for(&item.header));
            next.partition = partition;
            let sent = loop {
                match client.send_result(next) {
                    Ok(delivery) => break Ok(delivery),
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused))
                        if began.elapsed() < self.delivery_limit =>
                    {
                        next = refused;
                        tokio::time::sleep(QUEUE_FULL).await;
                    }
                    Err((error, _)) => break Err(unconfirmed(&error)),
                }
            };
            match sent {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // All of them, even after one that failed: whoever hands the same in again must not meet what is still on its way.
        let mut produced = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match delivery.await {
                Ok(Ok(delivery)) => produced.push(at(&delivery)),
                Ok(Err((error, _))) => failed = failed.or_else(|| Some(unconfirmed(&error))),
                Err(_canceled) => {
                    failed = failed.or_else(|| Some(ProduceError::Unconfirmed("the producer ended".to_owned())));
                }
            }
        }
        failed.map_or(Ok(produced), Err)
    }
}

fn unconfirmed(error: &KafkaError) -> ProduceError {
    ProduceError::Unconfirmed(error.to_string())
}

fn at(delivery: &Delivery) -> Produced {
    Produced {
        partition: u32::try_from(delivery.partition).unwrap_or_default(),
        offset: u64::try_from(delivery.offset).unwrap_or_default(),
    }
}

impl Producer for TopicProducer {
    fn governance(&self, items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>> {
        Box::pin(self.send(&self.topics.governance, Some(0), items))
    }

    fn metrics(&self, items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>> {
        Box::pin(self.send(&self.topics.metrics, None, items))
    }

    fn ends(&self, topic: Topic) -> AtBroker<'_, Ends> {
        Box::pin(async move {
            let client = self.client()?;
            let (name, limit) = (self.topics.name(topic).to_owned(), self.request_limit);
            let asked = tokio::task::spawn_blocking(move || ends::ask(&client, topic, &name, limit));
            asked.await.map_err(|error| ProduceError::Unconfirmed(error.to_string()))?
        })
    }
}

impl Producer for NoProducer {
    fn governance(&self, _items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>> {
        Box::pin(std::future::ready(Err(ProduceError::ReadsOnly(self.0))))
    }

    fn metrics(&self, items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>> {
        self.governance(items)
    }

    fn ends(&self, _topic: Topic) -> AtBroker<'_, Ends> {
        Box::pin(std::future::ready(Err(ProduceError::ReadsOnly(self.0))))
    }
}

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
use super::error::{KafkaIntakeError, doing};
use super::record;
use crate::clock::monotonic;
use crate::domain::settings::Settings;
use crate::sequencer::{ProduceError, Produced, Producer, Submission};

/// Pause before a full queue is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(5);

type Client = FutureProducer<Context>;

/// Produces to the two topics.
struct TopicProducer {
    settings: ClientConfig,
    client: Mutex<Client>,
    topics: Topics,
    delivery_limit: Duration,
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
    Ok(Arc::new(TopicProducer { settings, client, topics, delivery_limit }))
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
        let mut deliveries = Vec::with_capacity(items.len());
        for item in &items {
            let mut next: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(topic).payload(item.body.as_slice()).headers(record::headers_for(&item.header));
            next.partition = partition;
            deliveries.push(loop {
                match client.send_result(next) {
                    Ok(delivery) => break delivery,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused))
                        if began.elapsed() < self.delivery_limit =>
                    {
                        next = refused;
                        tokio::time::sleep(QUEUE_FULL).await;
                    }
                    Err((error, _)) => return Err(ProduceError::Unconfirmed(error.to_string())),
                }
            });
        }
        let mut produced = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let delivered =
                delivery.await.map_err(|_canceled| ProduceError::Unconfirmed("the producer ended".to_owned()))?;
            produced.push(at(&delivered.map_err(|(error, _)| ProduceError::Unconfirmed(error.to_string()))?));
        }
        Ok(produced)
    }
}

fn at(delivery: &Delivery) -> Produced {
    Produced {
        partition: u32::try_from(delivery.partition).unwrap_or_default(),
        offset: u64::try_from(delivery.offset).unwrap_or_default(),
    }
}

type Sending<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Vec<Produced>, ProduceError>> + Send + 'a>>;

impl Producer for TopicProducer {
    fn governance(&self, items: Vec<Submission>) -> Sending<'_> {
        Box::pin(self.send(&self.topics.governance, Some(0), items))
    }

    fn metrics(&self, items: Vec<Submission>) -> Sending<'_> {
        Box::pin(self.send(&self.topics.metrics, None, items))
    }
}

impl Producer for NoProducer {
    fn governance(&self, _items: Vec<Submission>) -> Sending<'_> {
        Box::pin(std::future::ready(Err(ProduceError::ReadsOnly(self.0))))
    }

    fn metrics(&self, items: Vec<Submission>) -> Sending<'_> {
        self.governance(items)
    }
}

//! What a shadow says: appended to its own governance ledger, between the records of the topic, and produced nowhere.
//!
//! The cuts and the rules are those of a node that produces, through the same speaker; only where the words go differs. So
//! what a shadow shows in its first week is what the node would have said, and no other ledger has the same trees.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::leaf::Header;
use crate::sequencer::{
    AtBroker, Ends, Handle, Incoming, ProduceError, Produced, Producer, Submission, SubmitError, Topic,
};

/// Pause before a full queue is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(20);

/// Takes what the speaker says into the node's own ledger.
#[derive(Debug)]
struct Aside(Handle);

/// The voice of a shadow.
pub(super) fn voice(handle: Handle) -> Arc<dyn Producer> {
    Arc::new(Aside(handle))
}

impl Producer for Aside {
    fn governance(&self, items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>> {
        Box::pin(async move {
            let time = self.0.now();
            let items: Vec<Incoming> =
                items.into_iter().map(|item| Incoming { header: Header::at(time), body: item.body }).collect();
            loop {
                match self.0.append_events(items.clone()).await {
                    Ok(_) => return Ok(Vec::new()),
                    Err(SubmitError::Busy { .. }) => tokio::time::sleep(QUEUE_FULL).await,
                    Err(error) => return Err(ProduceError::Unconfirmed(error.to_string())),
                }
            }
        })
    }

    fn metrics(&self, _items: Vec<Submission>) -> AtBroker<'_, Vec<Produced>> {
        Box::pin(std::future::ready(Err(ProduceError::ReadsOnly("a shadow hands in no metric records"))))
    }

    fn ends(&self, _topic: Topic) -> AtBroker<'_, Ends> {
        Box::pin(std::future::ready(Err(ProduceError::ReadsOnly("a shadow hands in no files"))))
    }
}

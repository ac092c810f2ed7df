//! Says what there is to say: asks [`Speech`] what that is, and produces it. It has effect when it is read back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::cuts::Sizes;
use super::error::KafkaIntakeError;
use super::speech::Speech;
use crate::domain::leaf::Header;
use crate::sequencer::{Handle, Producer, Submission, SubmitError};

/// How often it is looked whether a cut is due, where nothing else wakes the speaker.
const TICK: Duration = Duration::from_millis(100);

/// Says what there is to say.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) handle: Handle,
    pub(super) producer: Arc<dyn Producer>,
    pub(super) sizes: Sizes,
    speech: Speech,
}

impl Speaker {
    pub(super) fn new(handle: Handle, producer: Arc<dyn Producer>, sizes: Sizes) -> Self {
        Self { handle, producer, sizes, speech: Speech::default() }
    }

    /// Speaks until told to stop.
    pub(super) async fn speak(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut folded = self.handle.shared().watch();
        let mut was_enrolled = true;
        while !*shutdown.borrow() {
            if self.handle.shared().is_poisoned() {
                return;
            }
            // What a node that is not enrolled says is refused, and stays in the ledger all the same: it says nothing.
            let is_enrolled = self.handle.is_enrolled();
            if !is_enrolled && was_enrolled {
                let key = crate::domain::envelope::hex(&self.handle.node_key().public());
                tracing::warn!(
                    node = self.handle.data_dir().node(),
                    public_key = key,
                    "kafka.not_enrolled: this node follows until its key is enrolled (govledger keys enroll-node) and confirmed"
                );
            }
            was_enrolled = is_enrolled;
            if !is_enrolled {
                tokio::select! {
                    changed = shutdown.changed() => if changed.is_err() { return },
                    _ = folded.changed() => {}
                    () = tokio::time::sleep(TICK) => {}
                }
                continue;
            }
            // A broker that is away must not hold up a stop; whatever was on its way is said again at the next start.
            let turn = tokio::select! {
                turn = self.turn() => turn,
                _ = shutdown.changed() => return,
            };
            if let Err(error) = turn {
                tracing::warn!(%error, "kafka.speaker: trying again");
                tokio::time::sleep(TICK * 5).await;
            }
            tokio::select! {
                changed = shutdown.changed() => if changed.is_err() { return },
                _ = folded.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn turn(&mut self) -> Result<(), KafkaIntakeError> {
        match self.handle.unsaid().await {
            Ok(unsaid) => {
                let due = self.speech.sayings(unsaid, self.handle.clock().elapsed());
                if !due.is_empty() {
                    self.produce(due).await?;
                }
            }
            Err(SubmitError::Busy { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // Sizes are read from the ledgers, off the runtime.
        let (handle, sizes, mut speech) = (self.handle.clone(), self.sizes.clone(), std::mem::take(&mut self.speech));
        let ready = tokio::task::spawn_blocking(move || {
            let cut = speech.cut(&sizes, &handle.node_key(), handle.now(), handle.clock().elapsed());
            (speech, cut)
        });
        let (speech, cut) = ready
            .await
            .map_err(|error| KafkaIntakeError::Thread { name: "cuts".to_owned(), reason: error.to_string() })?;
        self.speech = speech;
        if let Some(sealed) = cut?
            && let Err(error) = self.produce(vec![sealed]).await
        {
            self.speech.cut_failed();
            return Err(error);
        }
        Ok(())
    }

    async fn produce(&self, sealed: Vec<String>) -> Result<(), KafkaIntakeError> {
        produce(self.producer.as_ref(), sealed).await
    }
}

/// Produces sealed sayings to the governance topic, in order.
pub(super) async fn produce(producer: &dyn Producer, sealed: Vec<String>) -> Result<(), KafkaIntakeError> {
    let items =
        sealed.into_iter().map(|sealed| Submission { header: Header::default(), body: sealed.into_bytes() }).collect();
    producer.governance(items).await.map_err(SubmitError::from)?;
    Ok(())
}

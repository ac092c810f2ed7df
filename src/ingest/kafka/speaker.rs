//! What the node says: what its rules brought to light, and the cuts. Everything is produced, and has effect when read back.
//!
//! Invariant: one cut is under way at a time; the next is made ready only after it, or another of its instant or later, was
//! read back. Saying anything twice is harmless, so whatever is not read back after a while is simply produced again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::cuts::{Draft, Sizes};
use super::error::KafkaIntakeError;
use crate::clock::monotonic;
use crate::domain::leaf::Header;
use crate::domain::time::Time;
use crate::sequencer::{Handle, Producer, Saying, Submission, SubmitError};

/// How often it is looked whether a cut is due, where nothing else wakes the speaker.
const TICK: Duration = Duration::from_millis(100);
/// What was not read back after this long is produced again: longer each time, so that what is refused does not fill the topic.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(1);
/// Sayings of one record batch at the most.
const SAYINGS_MAX: usize = 256;

/// Says what there is to say.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) handle: Handle,
    pub(super) producer: Arc<dyn Producer>,
    pub(super) sizes: Sizes,
    said: BTreeMap<String, Said>,
    draft: Option<Draft>,
    under_way: Option<UnderWay>,
}

/// When something was produced, and when it is to be produced again.
#[derive(Debug, Clone, Copy)]
struct Said {
    at: Instant,
    again_after: Duration,
}

/// The cut that was produced and not yet read back.
#[derive(Debug)]
struct UnderWay {
    instant: Time,
    /// Sealed anew each time: the node's key may have been rotated in between.
    saying: Saying,
    said: Said,
}

impl Said {
    fn now() -> Self {
        Self { at: monotonic(), again_after: AGAIN_AFTER }
    }

    fn is_due(self) -> bool {
        self.at.elapsed() >= self.again_after
    }

    fn again(self) -> Self {
        Self { at: monotonic(), again_after: (self.again_after * 2).min(AGAIN_AFTER_MAX) }
    }
}

impl Speaker {
    pub(super) const fn new(handle: Handle, producer: Arc<dyn Producer>, sizes: Sizes) -> Self {
        Self { handle, producer, sizes, said: BTreeMap::new(), draft: None, under_way: None }
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
        self.say_unsaid().await?;
        let last = self.handle.shared().governance().last_cut.as_ref().map(|cut| cut.instant);
        if let Some(under_way) = &mut self.under_way {
            if last.is_none_or(|last| last < under_way.instant) {
                if under_way.said.is_due() {
                    tracing::warn!(instant = %under_way.instant, "cut.again: it was not read back; is the broker's clock far behind?");
                    under_way.said = under_way.said.again();
                    let sealed = under_way.saying.seal(&self.handle.node_key())?;
                    self.produce(vec![sealed]).await?;
                }
                return Ok(());
            }
            self.under_way = None;
        }
        self.cut(last).await
    }

    /// Produces the next cut where its instant has come and its sizes are known.
    async fn cut(&mut self, last: Option<Time>) -> Result<(), KafkaIntakeError> {
        let now = self.handle.now();
        let sizes = self.sizes.clone();
        // Another node's cut may have gone past the one that was made ready.
        let draft = self.draft.take().filter(|draft| last.is_none_or(|last| last < draft.instant));
        let ready = tokio::task::spawn_blocking(move || {
            let mut draft = match draft {
                Some(draft) => draft,
                None => match sizes.next_instant(now)? {
                    Some(instant) if instant <= now => Draft::at(instant),
                    Some(_) | None => return Ok((None, None)),
                },
            };
            let cut = sizes.cut(&mut draft)?;
            Ok::<_, KafkaIntakeError>((Some(draft), cut))
        });
        let (draft, cut) = ready
            .await
            .map_err(|error| KafkaIntakeError::Thread { name: "cuts".to_owned(), reason: error.to_string() })??;
        self.draft = draft;
        let Some(cut) = cut else { return Ok(()) };
        if !cut.missing.is_empty() {
            tracing::warn!(instant = %cut.instant, missing = ?cut.missing, "cut.missing: partitions that cannot be read keep their last size");
        }
        let saying = Saying::cut(&cut);
        let sealed = saying.seal(&self.handle.node_key())?;
        self.produce(vec![sealed]).await?;
        self.draft = None;
        self.under_way = Some(UnderWay { instant: cut.instant, saying, said: Said::now() });
        Ok(())
    }

    /// Produces what this node derived and has not read back.
    async fn say_unsaid(&mut self) -> Result<(), KafkaIntakeError> {
        let unsaid = match self.handle.unsaid().await {
            Ok(unsaid) => unsaid,
            Err(SubmitError::Busy { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.said.retain(|sealed, _| unsaid.contains(sealed));
        let due: Vec<String> = unsaid
            .into_iter()
            .filter(|sealed| self.said.get(sealed).is_none_or(|said| said.is_due()))
            .take(SAYINGS_MAX)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        for sealed in &due {
            let said = self.said.get(sealed).map_or_else(Said::now, |said| said.again());
            self.said.insert(sealed.clone(), said);
        }
        self.produce(due).await
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

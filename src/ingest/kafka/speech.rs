//! What the node says and when: decided without a client, a clock or a thread, so that a simulation decides the same way.
//!
//! Invariant: one cut is under way at a time; the next is made ready only after it, or another of its instant or later, was
//! read back. Saying anything twice is harmless, so whatever is not read back after a while is simply produced again.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::key::LedgerKey;

use super::cuts::{Draft, Sizes};
use super::error::KafkaIntakeError;
use crate::domain::time::Time;
use crate::sequencer::Saying;

/// What was not read back after this long is produced again: longer each time, so that what is refused does not fill the topic.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(1);
/// Sayings of one record batch at the most.
const SAYINGS_MAX: usize = 256;

/// What was said, and the cut that is made ready or under way. Times are those of [`crate::clock::Clock::elapsed`].
#[derive(Debug, Default)]
pub struct Speech {
    said: BTreeMap<String, Said>,
    draft: Option<Draft>,
    under_way: Option<UnderWay>,
}

/// When something was produced, and when it is to be produced again.
#[derive(Debug, Clone, Copy)]
struct Said {
    at: Duration,
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
    const fn at(at: Duration) -> Self {
        Self { at, again_after: AGAIN_AFTER }
    }

    fn is_due(self, elapsed: Duration) -> bool {
        elapsed.saturating_sub(self.at) >= self.again_after
    }

    fn again(self, at: Duration) -> Self {
        Self { at, again_after: (self.again_after * 2).clamp(AGAIN_AFTER, AGAIN_AFTER_MAX) }
    }
}

impl Speech {
    /// Of what this node derived and has not read back, that which is to be produced now.
    pub fn sayings(&mut self, unsaid: Vec<String>, elapsed: Duration) -> Vec<String> {
        self.said.retain(|sealed, _| unsaid.contains(sealed));
        let said = &self.said;
        let is_due = |sealed: &String| said.get(sealed).is_none_or(|said| said.is_due(elapsed));
        let due: Vec<String> = unsaid.into_iter().filter(is_due).take(SAYINGS_MAX).collect();
        for sealed in &due {
            let said = self.said.get(sealed).map_or_else(|| Said::at(elapsed), |said| said.again(elapsed));
            self.said.insert(sealed.clone(), said);
        }
        due
    }

    /// The cut to produce now: the one under way once more, or the next where its instant has come and its sizes are known.
    pub fn cut(
        &mut self,
        sizes: &Sizes,
        key: &LedgerKey,
        now: Time,
        elapsed: Duration,
    ) -> Result<Option<String>, KafkaIntakeError> {
        let last = sizes.shared.governance().last_cut.as_ref().map(|cut| cut.instant);
        if let Some(under_way) = self.under_way.as_mut().filter(|under| last.is_none_or(|last| last < under.instant)) {
            if !under_way.said.is_due(elapsed) {
                return Ok(None);
            }
            tracing::warn!(instant = %under_way.instant, "cut.again: it was not read back; is the broker's clock far behind?");
            under_way.said = under_way.said.again(elapsed);
            return Ok(Some(under_way.saying.seal(key)?));
        }
        self.under_way = None;
        // Another node's cut may have gone past the one that was made ready.
        let draft = self.draft.take().filter(|draft| last.is_none_or(|last| last < draft.instant));
        let mut draft = match draft {
            Some(draft) => draft,
            None => match sizes.next_instant(now)? {
                Some(instant) if instant <= now => Draft::at(instant),
                Some(_) | None => return Ok(None),
            },
        };
        let Some(cut) = sizes.cut(&mut draft)? else {
            self.draft = Some(draft);
            return Ok(None);
        };
        if !cut.missing.is_empty() {
            tracing::warn!(instant = %cut.instant, missing = ?cut.missing, "cut.missing: partitions that cannot be read keep their last size");
        }
        let saying = Saying::cut(&cut);
        let sealed = saying.seal(key)?;
        self.under_way = Some(UnderWay { instant: cut.instant, saying, said: Said::at(elapsed) });
        Ok(Some(sealed))
    }

    /// The broker did not confirm the cut. It may still come; it is produced again at the next turn.
    pub fn cut_failed(&mut self) {
        if let Some(under_way) = &mut self.under_way {
            under_way.said.again_after = Duration::ZERO;
        }
    }

    /// The instant of the cut that is made ready or under way.
    pub fn instant(&self) -> Option<Time> {
        let under_way = self.under_way.as_ref().map(|under_way| under_way.instant);
        self.draft.as_ref().map(|draft| draft.instant).or(under_way)
    }
}

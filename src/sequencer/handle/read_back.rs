//! Handing lines of files in through the broker, so that handing them in again finds what is there.
//!
//! Invariant: lines are compared with the ledgers only once these hold whatever an earlier intake of the file by this node may
//! have left at the broker: either all that this process produced of it was read back, or the topic was read up to an end that was
//! asked for after the intake's turn began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::{APPLIED_WITHIN, Handle, Produced, READ_BACK_EVERY, RETRY_AFTER_SECONDS, Submission, SubmitError};
use crate::sequencer::core::Outcome;
use crate::sequencer::data_dir::metrics_number;

/// Which of the two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// That of the governance events.
    Governance,
    /// That of the metric records.
    Metrics,
}

/// Where the partitions of a topic end at the broker, by the ledgers that are made from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// The offset that the next record gets. A partition with nothing to read is left out.
    pub offsets: BTreeMap<String, u64>,
    /// Partitions without a leader: nobody knows what they hold.
    pub leaderless: BTreeSet<String>,
}

/// Records that the broker has, and whether this node has read them back.
#[derive(Debug)]
pub struct ReadBack {
    /// Where they landed.
    pub produced: Vec<Produced>,
    /// Whether all of them are in the ledgers.
    pub is_here: bool,
}

impl Handle {
    /// Waits until this node has read a topic up to the ends that the broker gives now. False: a partition has no leader, so
    /// that what it holds is not known. Embedded there is nothing to wait for.
    pub async fn read_to_ends(&self, topic: Topic) -> Result<bool, SubmitError> {
        let Some(producer) = &self.producer else { return Ok(true) };
        let ends = producer.ends(topic).await?;
        match self.read_up_to(&ends.offsets).await {
            None => Ok(ends.leaderless.is_empty()),
            Some((ledger, end)) => Err(SubmitError::NotReadYet { ledger, end, retry_after_s: RETRY_AFTER_SECONDS }),
        }
    }

    /// Waits, not too long, until each ledger has what lies before its end; one that has not.
    async fn read_up_to(&self, ends: &BTreeMap<String, u64>) -> Option<(String, u64)> {
        let behind = || ends.iter().find(|(ledger, end)| self.is_stopped(ledger) || self.read_to(ledger) < **end);
        let reached = async {
            while behind().is_some() {
                tokio::time::sleep(READ_BACK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(APPLIED_WITHIN, reached).await;
        behind().map(|(ledger, end)| (ledger.clone(), *end))
    }

    /// Whether nothing more is read of a ledger's partition. A topic made anew counts from nothing again, so that offsets alone
    /// would say that all of it was read.
    fn is_stopped(&self, ledger: &str) -> bool {
        let stopped = self.shared.status.stopped_intakes.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.contains_key(ledger)
    }

    /// The offset before which every record of a ledger's partition is in the ledger.
    fn read_to(&self, ledger: &str) -> u64 {
        let last = match metrics_number(ledger) {
            Some(number) => self.shared.metrics().get(&number).and_then(|state| state.offsets.last),
            None => self.shared.governance().offsets.last,
        };
        let passed = self.shared.status.kafka_passed.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(0, |last| last + 1).max(passed.get(ledger).copied().unwrap_or(0))
    }

    /// Hands in the lines of a governance file, in order; their verdicts. Unlike [`Self::submit_events`] it waits until the
    /// broker's word on every one has come: what is still on its way would be handed in again beside itself.
    pub async fn submit_lines(&self, items: Vec<Submission>) -> Result<Vec<Outcome>, SubmitError> {
        match &self.producer {
            Some(producer) => self.outcomes(producer.governance(items).await?).await,
            None => self.submit_events(items).await,
        }
    }

    /// As [`Self::produce_metrics`], and waits until this node has read them back, so that whoever looks next finds them. They
    /// are at the broker when that takes too long, so it is no error then.
    pub async fn produce_metrics_read_back(&self, items: Vec<Submission>) -> Result<ReadBack, SubmitError> {
        let produced = self.produce_metrics(items).await?;
        let mut ends = BTreeMap::new();
        for Produced { partition, offset } in &produced {
            let end = ends.entry(format!("metrics-{partition}")).or_insert(0);
            *end = (*offset + 1).max(*end);
        }
        let is_here = self.read_up_to(&ends).await.is_none();
        Ok(ReadBack { produced, is_here })
    }
}

//! The check of a partition before it is read: is it still the source that the ledger was made from, and is nothing missing?
//!
//! The ledger's last record is read from the broker again and compared byte for byte. A topic that was deleted and made anew,
//! or cut short, is found out here; offsets that expired before they were read are found as a hole.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sha2::{Digest as _, Sha256};

use super::client::Consumer;
use super::error::{KafkaIntakeError, doing};
use super::record;
use crate::clock::monotonic;
use crate::domain::envelope::hex;
use crate::domain::leaf::{self, Header};

/// A partition of a topic.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: u32,
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Reading may go on at `next`.
    Ready {
        /// The next offset.
        next: u64,
        /// Lost before it, and confirmed.
        hole: Option<(u64, u64)>,
    },
    /// These offsets are gone, and nobody has confirmed it.
    Hole {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// It is not the source that the ledger was made from.
    Other(String),
}

impl Place {
    pub(super) fn number(&self) -> i32 {
        i32::try_from(self.partition).unwrap_or(i32::MAX)
    }

    /// Assigns the consumer to this partition, from `offset` on.
    pub(super) fn assign(&self, consumer: &Consumer, offset: u64) -> Result<(), KafkaIntakeError> {
        let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.number(), offset).map_err(doing("an assignment"))?;
        consumer.assign(&list).map_err(doing("an assignment"))
    }

    /// Looks at the partition with a consumer of its own, which is assigned once at the most. `last` is the ledger's last offset and its entry; `confirmed` the holes that an operator accepted.
    pub(super) fn examine(
        &self,
        consumer: &Consumer,
        last: Option<(u64, Vec<u8>)>,
        confirmed: &[(u64, u64, u64)],
        limit: Duration,
    ) -> Result<Found, KafkaIntakeError> {
        let (low, end) = consumer
            .fetch_watermarks(&self.topic, self.number(), limit)
            .map_err(doing("the partition's first and last offset"))?;
        let (low, end) = (u64::try_from(low).unwrap_or_default(), u64::try_from(end).unwrap_or_default());
        judge((low, end), last, confirmed, |offset, entry| self.compare(consumer, offset, entry, limit))
    }

    /// Reads the record at `offset` again; says how it differs from its entry.
    fn compare(
        &self,
        consumer: &Consumer,
        offset: u64,
        entry: &[u8],
        limit: Duration,
    ) -> Result<Option<String>, KafkaIntakeError> {
        self.assign(consumer, offset)?;
        let began = monotonic();
        loop {
            let left = limit.saturating_sub(began.elapsed());
            match consumer.poll(left) {
                Some(Ok(message)) => {
                    let found = u64::try_from(message.offset()).unwrap_or_default();
                    let same = found == offset
                        && is_same(entry, &record::header_of(&message, offset), message.payload().unwrap_or_default());
                    return Ok((!same).then(|| {
                        format!("the broker's record at offset {offset} is not the one that the ledger holds: the topic was made anew")
                    }));
                }
                Some(Err(error)) if left.is_zero() => {
                    return Err(KafkaIntakeError::Client { doing: "the last record again", source: error });
                }
                None if left.is_zero() => {
                    let code = rdkafka::error::RDKafkaErrorCode::RequestTimedOut;
                    return Err(KafkaIntakeError::Broker { doing: "the last record again", code });
                }
                // The client reconnects by itself; only the limit ends the wait.
                Some(Err(_)) | None => {}
            }
        }
    }
}

/// What the partition's first and last offset mean for a ledger. `differs` reads the ledger's last record again and says how it
/// differs from its entry; it is asked only where the record is still there.
pub fn judge<E>(
    (low, end): (u64, u64),
    last: Option<(u64, Vec<u8>)>,
    confirmed: &[(u64, u64, u64)],
    differs: impl FnOnce(u64, &[u8]) -> Result<Option<String>, E>,
) -> Result<Found, E> {
    let next = last.as_ref().map_or(0, |(offset, _)| offset + 1);
    if let Some((offset, entry)) = last {
        if end < next {
            return Ok(Found::Other(format!(
                "the ledger's last record has offset {offset}, the broker's partition ends before {end}: the topic was made anew or cut short"
            )));
        }
        if low <= offset
            && let Some(reason) = differs(offset, &entry)?
        {
            return Ok(Found::Other(reason));
        }
    }
    if low <= next {
        return Ok(Found::Ready { next, hole: None });
    }
    let (from, to) = (next, low - 1);
    if confirmed.iter().any(|(first, last, _)| *first <= from && to <= *last) {
        return Ok(Found::Ready { next: low, hole: Some((from, to)) });
    }
    Ok(Found::Hole { from, to })
}

/// Whether an entry was made from this record. A governance entry's time may be later than its record's, never earlier; what
/// was lost before it is not the record's.
pub fn is_same(entry: &[u8], record: &Header, body: &[u8]) -> bool {
    let Ok(leaf) = leaf::split(entry) else { return false };
    let same_body = match &leaf.header.oversize {
        Some(oversize) => oversize.bytes == body.len() as u64 && oversize.sha256 == hex(&Sha256::digest(body)),
        None => leaf.body == body,
    };
    let expected = Header {
        time: leaf.header.time,
        skipped_offsets: leaf.header.skipped_offsets,
        hole: leaf.header.hole,
        oversize: leaf.header.oversize.clone(),
        ..record.clone()
    };
    same_body && leaf.header == expected && leaf.header.time >= record.time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Time;

    #[test]
    fn an_entry_is_its_record_whatever_was_lost_before() {
        let record = Header { offset: Some(7), submitter: Some("ci".into()), ..Header::at(Time::from_seconds(5)) };
        let entry = |header: Header, body: &[u8]| [&header.line(), body].concat();
        let later = Header { hole: Some((1, 6)), ..Header { time: Time::from_seconds(6), ..record.clone() } };
        assert!(is_same(&entry(record.clone(), b"{}"), &record, b"{}"));
        assert!(is_same(&entry(later, b"{}"), &record, b"{}"));
        assert!(!is_same(&entry(record.clone(), b"{}"), &record, b"{ }"));
        let earlier = Header { time: Time::from_seconds(4), ..record.clone() };
        assert!(!is_same(&entry(earlier, b"{}"), &record, b"{}"));
        let other = Header { submitter: None, ..record.clone() };
        assert!(!is_same(&entry(other, b"{}"), &record, b"{}"));
    }
}

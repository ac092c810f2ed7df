//! A Kafka record as a leaf, and a submission as a record: which headers go where.
//!
//! Invariant: the leaf follows from the record alone (and the offsets lost before it), so every node makes the same one. What
//! a header claims (`gl-by` and the others that this service sets) is copied as a claim; it decides nothing.

use rdkafka::message::{BorrowedMessage, Header as RecordHeader, Headers as _, Message as _, OwnedHeaders};

use crate::domain::leaf::Header;
use crate::domain::time::Time;

/// Bytes of header names and values that a leaf takes over; more is left out. Escaped as JSON they still leave the header
/// line below the size of an entry.
const HEADER_BYTES_MAX: usize = 8 << 10;

const SUBMITTER: &str = "gl-by";
const FILE: &str = "gl-file";
const LINE: &str = "gl-line";
const REQUEST: &str = "gl-request";
const CONTENT_TYPE: &str = "content-type";
const CLOUD_EVENT: &str = "ce_";

/// The leaf's header: offset, time, and what the record's own headers say.
pub(super) fn header_of(message: &BorrowedMessage<'_>, offset: u64) -> Header {
    // Milliseconds of any size are somebody's clock; they must not overflow.
    let micros = message.timestamp().to_millis().unwrap_or_default().saturating_mul(1_000);
    let mut header = Header { offset: Some(offset), ..Header::at(Time::from_micros(micros)) };
    let mut bytes = 0;
    if let Some(headers) = message.headers() {
        for entry in headers.iter() {
            take(&mut header, &mut bytes, entry.key, entry.value.unwrap_or_default());
        }
    }
    header
}

fn take(header: &mut Header, bytes: &mut usize, name: &str, value: &[u8]) {
    *bytes += name.len() + value.len();
    if *bytes > HEADER_BYTES_MAX {
        return;
    }
    let text = String::from_utf8_lossy(value);
    match name {
        SUBMITTER => header.submitter = Some(text.into_owned()),
        FILE => header.file = text.parse().ok(),
        LINE => header.line = text.parse().ok(),
        REQUEST => header.request = text.parse().ok(),
        _ if name.eq_ignore_ascii_case(CONTENT_TYPE) => header.content_type = Some(text.into_owned()),
        _ => {
            if let Some(attribute) = name.strip_prefix(CLOUD_EVENT) {
                header.cloud_event.insert(attribute.to_owned(), text.into_owned());
            }
        }
    }
}

/// The record's headers for something handed in here.
pub(super) fn headers_for(header: &Header) -> OwnedHeaders {
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let ours = [
        (SUBMITTER, header.submitter.clone()),
        (FILE, number(header.file)),
        (LINE, number(header.line)),
        (REQUEST, number(header.request)),
        (CONTENT_TYPE, header.content_type.clone()),
    ];
    let mut headers = OwnedHeaders::new();
    for (name, value) in &ours {
        if let Some(value) = value {
            headers = headers.insert(RecordHeader { key: name, value: Some(value) });
        }
    }
    for (attribute, value) in &header.cloud_event {
        headers = headers.insert(RecordHeader { key: &format!("{CLOUD_EVENT}{attribute}"), value: Some(value) });
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_taken_over_up_to_a_bound() {
        let mut header = Header::default();
        let mut bytes = 0;
        take(&mut header, &mut bytes, "ce_id", b"e1");
        take(&mut header, &mut bytes, "Content-Type", b"application/json");
        take(&mut header, &mut bytes, "gl-line", b"7");
        take(&mut header, &mut bytes, "traceparent", b"00-1");
        take(&mut header, &mut bytes, "ce_big", &[1; HEADER_BYTES_MAX]);
        assert_eq!(header.cloud_event.iter().collect::<Vec<_>>(), [(&"id".to_owned(), &"e1".to_owned())]);
        assert_eq!(header.content_type.as_deref(), Some("application/json"));
        assert_eq!(header.line, Some(7));
        assert!(header.line().len() < ledger::ENTRY_BYTES_MAX);
    }
}

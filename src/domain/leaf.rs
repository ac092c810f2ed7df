//! The leaf: one header line of JSON, LF, and the received bytes untouched.
//!
//! In scope: writing and reading the header line. Out of scope: what the body means ([`super::report`], [`super::metric`]).
//!
//! The header holds what only the intake knows: the entry's time, where the bytes came from, who handed them in. Constants
//! (node, topic, partition) live in the ledger's first entry, so a metrics header stays under 48 bytes.
//!
//! | key | meaning |
//! | --- | --- |
//! | `t` | entry time, microseconds since the Unix epoch |
//! | `o` | Kafka offset |
//! | `f`, `l` | file number and line (from 1) |
//! | `h`, `l` | HTTP request number and line or batch index (from 1) |
//! | `s` | serial number of something the service itself said, or of the first entry |
//! | `by` | principal who handed it in |
//! | `ct` | content type, where the transport gave one |
//! | `ce` | CloudEvents attributes that came as Kafka headers |
//! | `gap` | offsets that the broker skipped before this one (transaction markers) |
//! | `hole` | first and last offset lost before this one, confirmed by an operator |
//! | `big` | length and SHA-256 (hex) of a record too large for an entry |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::time::Time;

/// The bytes of a leaf's header and body, apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// What the intake knew.
    pub header: Header,
    /// The bytes as they were received.
    pub body: &'a [u8],
}

/// The header line. See the module's table for the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Entry time.
    #[serde(rename = "t", with = "micros")]
    pub time: Time,
    /// Kafka offset.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// File number.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub file: Option<u64>,
    /// HTTP request number.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// Line in the file, or index in the request, from 1.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Serial number of something the service said.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u64>,
    /// Principal who handed it in.
    #[serde(rename = "by", default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<String>,
    /// Content type from the transport.
    #[serde(rename = "ct", default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `CloudEvents` attributes from Kafka headers, without their `ce_` prefix.
    #[serde(rename = "ce", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cloud_event: BTreeMap<String, String>,
    /// Offsets that the broker skipped just before.
    #[serde(rename = "gap", default, skip_serializing_if = "Option::is_none")]
    pub skipped_offsets: Option<u64>,
    /// First and last offset of a confirmed hole just before.
    #[serde(rename = "hole", default, skip_serializing_if = "Option::is_none")]
    pub hole: Option<(u64, u64)>,
    /// The record that was too large.
    #[serde(rename = "big", default, skip_serializing_if = "Option::is_none")]
    pub oversize: Option<Oversize>,
}

/// A record whose bytes are kept beside the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oversize {
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of the record, lower-case hex.
    pub sha256: String,
}

/// An entry that does not begin with a header line: written by something else.
#[derive(Debug, thiserror::Error)]
#[error("the entry does not begin with a header line: {reason}")]
pub struct HeaderError {
    /// What is wrong with it.
    pub reason: String,
}

impl Header {
    /// A header that says only when.
    pub fn at(time: Time) -> Self {
        Self { time, ..Self::default() }
    }

    /// The header line, LF included.
    pub fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(64);
        // Serialization into memory of a struct of numbers, texts and string maps has no way to fail.
        if serde_json::to_writer(&mut line, self).is_err() {
            line.clear();
        }
        line.push(b'\n');
        line
    }
}

/// Splits an entry into its header and body.
pub fn split(entry: &[u8]) -> Result<Leaf<'_>, HeaderError> {
    let end = entry
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| HeaderError { reason: "no line feed".to_owned() })?;
    let header = serde_json::from_slice(&entry[..end]).map_err(|error| HeaderError { reason: error.to_string() })?;
    Ok(Leaf { header, body: &entry[end + 1..] })
}

/// Only the body of an entry, for readers that want no header.
pub fn body(entry: &[u8]) -> &[u8] {
    entry.iter().position(|byte| *byte == b'\n').map_or(&[], |end| &entry[end + 1..])
}

mod micros {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::domain::time::Time;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.micros())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        i64::deserialize(deserializer).map(Time::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_come_back() {
        let header =
            Header { offset: Some(12), line: None, submitter: Some("ci".into()), ..Header::at(Time::from_seconds(5)) };
        let mut entry = header.line();
        entry.extend_from_slice(b"{\"a\":\n1}");
        let leaf = split(&entry).unwrap();
        assert_eq!(leaf.header, header);
        assert_eq!(leaf.body, b"{\"a\":\n1}");
    }

    #[test]
    fn metrics_header_stays_short() {
        let header = Header { offset: Some(999_999_999_999), ..Header::at(Time::from_micros(4_102_444_800_000_000)) };
        assert!(header.line().len() <= 48, "{}", header.line().len());
        let header = Header {
            file: Some(9_999),
            line: Some(9_999_999_999),
            ..Header::at(Time::from_micros(4_102_444_800_000_000))
        };
        assert!(header.line().len() <= 48, "{}", header.line().len());
    }

    #[test]
    fn an_entry_without_header_is_refused() {
        assert!(split(b"{\"t\":1}").is_err());
        assert!(split(b"{\"t\":1,\"zz\":2}\nx").is_err());
    }
}

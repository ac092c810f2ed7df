//! HTTP bodies to submissions: reading within a bound, decompressing within a bound, splitting into elements.
//!
//! In scope: everything between the socket and the [`Submission`]s. Out of scope: who may send it and what is answered (the
//! API), what an element means (the ledger is read for that).
//!
//! Invariant: an element is recorded byte for byte as it stood in the body, however wrong it is. Only a body of which no
//! element could be told apart (empty, cut off, over a limit, no JSON at all) is answered without being recorded.

use std::io::Read as _;

use axum::body::Body;
use futures_util::StreamExt as _;
use serde_json::value::RawValue;

use crate::domain::leaf::Header;
use crate::domain::time::Time;
use crate::projection::governance::Verdict;
use crate::sequencer::{MetricsChunk, Prepare, SequencerError, Submission};

/// Governance events in one request at the most: their outcomes are one answer, held in memory.
pub const EVENTS_MAX: usize = 10_000;
/// Metric lines in one request at the most, for the same reason.
pub const LINES_MAX: usize = 200_000;

/// Why a body was not taken. Nothing of it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing in it.
    #[error("the body is empty")]
    Empty,
    /// More bytes than taken.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// More bytes than taken, once decompressed.
    #[error("the body is larger than {max} bytes once decompressed")]
    Bomb {
        /// The limit.
        max: usize,
    },
    /// More elements than taken.
    #[error("the body has more than {max} elements; send several requests")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// It ended before its announced length, or the connection broke.
    #[error("the upload was cut off after {got} bytes: {reason}")]
    Truncated {
        /// Bytes that came.
        got: usize,
        /// What the connection said.
        reason: String,
    },
    /// An encoding that is not taken.
    #[error("content-encoding {encoding:?} is not taken; send it plain or with gzip")]
    Encoding {
        /// What was given.
        encoding: String,
    },
    /// It says gzip and is not.
    #[error("the body is not whole gzip: {reason}")]
    Gzip {
        /// Why.
        reason: String,
    },
    /// No element can be told apart.
    #[error("the body holds no JSON object: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// `gzip`.
    Gzip,
}

impl Encoding {
    /// From a `Content-Encoding` header.
    pub fn of(header: Option<&str>) -> Result<Self, BodyError> {
        match header.map(str::trim) {
            None | Some("" | "identity") => Ok(Self::Plain),
            Some(encoding) if encoding.eq_ignore_ascii_case("gzip") => Ok(Self::Gzip),
            Some(encoding) => Err(BodyError::Encoding { encoding: encoding.to_owned() }),
        }
    }
}

/// Reads a body of at most `max` bytes.
pub async fn read(body: Body, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| BodyError::Truncated { got: bytes.len(), reason: innermost(&error) })?;
        if bytes.len() + part.len() > max {
            return Err(BodyError::TooLarge { max });
        }
        bytes.extend_from_slice(&part);
    }
    if bytes.is_empty() { Err(BodyError::Empty) } else { Ok(bytes) }
}

/// The last cause of an error: the others only say "error reading a body".
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Undoes the encoding, to at most `max` bytes: a small body must not become a large one in memory.
pub fn decode(encoding: Encoding, bytes: Vec<u8>, max: usize) -> Result<Vec<u8>, BodyError> {
    if encoding == Encoding::Plain {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(limit).read_to_end(&mut plain);
    read.map_err(|error| BodyError::Gzip { reason: error.to_string() })?;
    if plain.len() > max {
        return Err(BodyError::Bomb { max });
    }
    if plain.is_empty() { Err(BodyError::Empty) } else { Ok(plain) }
}

/// The events in a body: one, a batch array, or one a line. Told apart by what is there; the media type only decides
/// between one event and lines where both would do.
pub fn split_events(media_type: Option<&str>, body: &[u8]) -> Result<Vec<Vec<u8>>, BodyError> {
    let trimmed = body.trim_ascii();
    let elements = match trimmed.first() {
        None => return Err(BodyError::Empty),
        Some(b'[') => batch(trimmed)?,
        Some(_) if is_lines(media_type, trimmed) => lines(body).map(|(_, line)| line.to_vec()).collect(),
        Some(_) => vec![trimmed.to_vec()],
    };
    if elements.is_empty() {
        return Err(BodyError::Empty);
    }
    if elements.len() > EVENTS_MAX {
        return Err(BodyError::TooMany { max: EVENTS_MAX });
    }
    // A line of prose between events is kept and refused by name; a body of nothing but prose is somebody else's.
    let is_object = |element: &Vec<u8>| element.trim_ascii_start().first() == Some(&b'{');
    if elements.iter().any(is_object) {
        Ok(elements)
    } else {
        let start = String::from_utf8_lossy(trimmed).chars().take(40).collect::<String>();
        Err(BodyError::Unreadable { reason: format!("it begins {start:?}") })
    }
}

fn batch(text: &[u8]) -> Result<Vec<Vec<u8>>, BodyError> {
    let unreadable = |reason: String| BodyError::Unreadable { reason };
    let text = std::str::from_utf8(text)
        .map_err(|error| unreadable(format!("the batch is not UTF-8 at byte {}", error.valid_up_to())))?;
    let elements: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| unreadable(format!("the batch cannot be split: {error}")))?;
    Ok(elements.into_iter().map(|element| element.get().as_bytes().to_vec()).collect())
}

fn is_lines(media_type: Option<&str>, body: &[u8]) -> bool {
    let media_type = media_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if matches!(
        media_type.as_deref(),
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines")
    ) {
        return true;
    }
    let whole = serde_json::from_slice::<&RawValue>(body).is_ok();
    let mut many = lines(body);
    !whole && many.clone().count() > 1 && many.all(|(_, line)| line.first() == Some(&b'{'))
}

/// Lines with their numbers from 1, without LF, blank ones left out: the same bytes as the file intake would take.
pub fn lines(body: &[u8]) -> impl Iterator<Item = (u64, &[u8])> + Clone {
    (1..).zip(body.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace))
}

/// Governance submissions of one request.
pub fn submissions(elements: Vec<Vec<u8>>, request: u64, principal: &str) -> Vec<Submission> {
    let header = |line| Header {
        request: Some(request),
        line: Some(line),
        submitter: Some(principal.to_owned()),
        ..Header::default()
    };
    (1..).zip(elements).map(|(line, body)| Submission { header: header(line), body }).collect()
}

/// What a line of metrics counts for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct LineVerdict {
    /// The line in the request, from 1.
    pub line: u64,
    /// Its position; none where a broker assigns it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The broker's partition and offset, in Kafka mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub produced: Option<(u32, u64)>,
    /// By the rules of the moment.
    pub verdict: Verdict,
}

/// A request's metric lines: framed and judged, and as submissions where they go to a broker.
#[derive(Debug, Default)]
pub struct MetricLines {
    /// For the writer.
    pub chunk: MetricsChunk,
    /// For the broker.
    pub items: Vec<Submission>,
    /// One a line.
    pub verdicts: Vec<LineVerdict>,
}

/// Frames and judges metric lines. Their headers name no principal, so that they stay under 48 bytes.
pub fn metric_lines(
    prepare: &Prepare,
    body: &[u8],
    request: u64,
    now: Time,
    kafka: bool,
) -> Result<Result<MetricLines, BodyError>, SequencerError> {
    let mut taken = MetricLines::default();
    for (line, bytes) in lines(body) {
        if taken.verdicts.len() == LINES_MAX {
            return Ok(Err(BodyError::TooMany { max: LINES_MAX }));
        }
        let header = Header { request: Some(request), line: Some(line), ..Header::at(now) };
        if kafka {
            taken.items.push(Submission { header: header.clone(), body: bytes.to_vec() });
        }
        let verdict = match prepare.push(&mut taken.chunk, header, bytes)? {
            Ok(_) => Verdict::Admitted,
            Err(refusal) => Verdict::Refused(refusal),
        };
        taken.verdicts.push(LineVerdict { line, position: None, produced: None, verdict });
    }
    let objects = lines(body).any(|(_, line)| line.trim_ascii_start().first() == Some(&b'{'));
    Ok(match (taken.verdicts.is_empty(), objects) {
        (true, _) => Err(BodyError::Empty),
        (false, false) => Err(BodyError::Unreadable { reason: "no line begins with an object".to_owned() }),
        (false, true) => Ok(taken),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(media_type: Option<&str>, body: &str, expected: &[&str]) {
        let elements = split_events(media_type, body.as_bytes()).unwrap();
        let texts: Vec<&str> = elements.iter().map(|element| std::str::from_utf8(element).unwrap()).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn one_a_batch_and_lines() {
        check(None, " {\"a\":1}\n", &["{\"a\":1}"]);
        check(Some("application/json"), "{\"a\":\n1}", &["{\"a\":\n1}"]);
        check(Some("application/cloudevents-batch+json"), "[{\"a\": 1}, {\"b\":2} ]", &["{\"a\": 1}", "{\"b\":2}"]);
        check(None, "{\"a\":1}\n\n{\"b\":NaN}\n", &["{\"a\":1}", "{\"b\":NaN}"]);
        check(Some("application/x-ndjson; charset=utf-8"), "{\"a\":1}\nprose", &["{\"a\":1}", "prose"]);
        check(None, "{\"a\":\nNaN}", &["{\"a\":\nNaN}"]);
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_taken() {
        let refuse = |body: &str| split_events(None, body.as_bytes()).unwrap_err();
        assert_eq!(refuse(" \n"), BodyError::Empty);
        assert_eq!(refuse("[]"), BodyError::Empty);
        assert!(matches!(refuse("hello"), BodyError::Unreadable { .. }));
        assert!(matches!(refuse("[{\"a\":1},"), BodyError::Unreadable { .. }));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
        let small = encoder.finish().unwrap();
        assert_eq!(decode(Encoding::Gzip, small.clone(), 1 << 16), Err(BodyError::Bomb { max: 1 << 16 }));
        assert_eq!(decode(Encoding::Gzip, small.clone(), 1 << 20).unwrap().len(), 1 << 20);
        let cut = small[..small.len() / 2].to_vec();
        assert!(matches!(decode(Encoding::Gzip, cut, 1 << 20), Err(BodyError::Gzip { .. })));
    }
}

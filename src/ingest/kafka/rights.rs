//! What the broker lets this client do with a topic: asked for, never tried.
//!
//! The client library does not hand out this part of a topic's metadata, so one `Metadata` request (version 8, the last before
//! the compact encodings; brokers since 2.3 know it) is written here by hand. Over plain connections only: with SASL the caller
//! says that it was not asked.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// `Metadata`.
const API_KEY: i16 = 3;
const API_VERSION: i16 = 8;
/// The broker was not asked, or does not say.
const NOT_SAID: i32 = i32::MIN;
/// An answer about two topics is far smaller.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An operation, by its number in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read = 3,
    Write = 4,
    DescribeConfigs = 10,
}

/// The operations that are allowed on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rights(i32);

impl Rights {
    pub(super) const fn allow(self, operation: Operation) -> bool {
        self.0 & (1 << operation as i32) != 0
    }
}

/// The rights on each of `topics` that the broker tells of.
pub(super) fn ask(bootstrap: &str, topics: &[&str], limit: Duration) -> Result<BTreeMap<String, Rights>, String> {
    let mut last = "no broker is named".to_owned();
    for server in bootstrap.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        match ask_one(server, topics, limit) {
            Ok(rights) => return Ok(rights),
            Err(error) => last = format!("{server}: {error}"),
        }
    }
    Err(last)
}

fn ask_one(server: &str, topics: &[&str], limit: Duration) -> std::io::Result<BTreeMap<String, Rights>> {
    let address = server.to_socket_addrs()?.next().ok_or_else(|| malformed("it has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(&request(topics))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > ANSWER_BYTES_MAX {
        return Err(malformed("its answer is too long to be one"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    read(&answer).ok_or_else(|| malformed("its answer is cut short"))
}

fn malformed(reason: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, reason.to_owned())
}

fn request(topics: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(API_KEY.to_be_bytes());
    body.extend(API_VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    put_text(&mut body, "govledger-doctor");
    body.extend(i32::try_from(topics.len()).unwrap_or_default().to_be_bytes());
    for topic in topics {
        put_text(&mut body, topic);
    }
    // Make no topic; nothing of the cluster; what is allowed on the topics.
    body.extend([0, 0, 1]);
    let mut request = i32::try_from(body.len()).unwrap_or_default().to_be_bytes().to_vec();
    request.extend(body);
    request
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    into.extend(i16::try_from(text.len()).unwrap_or_default().to_be_bytes());
    into.extend(text.as_bytes());
}

/// An answer under way.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A text, or the null that stands for none.
    fn text(&mut self) -> Option<&'a str> {
        let length = self.short()?;
        std::str::from_utf8(self.take(usize::try_from(length).unwrap_or_default())?).ok()
    }

    fn count(&mut self) -> Option<usize> {
        Some(usize::try_from(self.int()?).unwrap_or_default())
    }

    fn skip_ints(&mut self) -> Option<()> {
        let count = self.count()?;
        self.take(count.checked_mul(4)?).map(|_| ())
    }
}

fn read(answer: &[u8]) -> Option<BTreeMap<String, Rights>> {
    let mut answer = Answer(answer);
    // Correlation, throttling.
    answer.take(8)?;
    for _ in 0..answer.count()? {
        answer.int()?;
        answer.text()?;
        answer.int()?;
        answer.text()?;
    }
    answer.text()?;
    answer.int()?;
    let mut rights = BTreeMap::new();
    for _ in 0..answer.count()? {
        answer.short()?;
        let name = answer.text()?.to_owned();
        answer.take(1)?;
        for _ in 0..answer.count()? {
            // Error, number, leader, its epoch; replicas, those in sync, those offline.
            answer.take(2 + 4 + 4 + 4)?;
            answer.skip_ints()?;
            answer.skip_ints()?;
            answer.skip_ints()?;
        }
        let allowed = answer.int()?;
        if allowed != NOT_SAID {
            rights.insert(name, Rights(allowed));
        }
    }
    Some(rights)
}

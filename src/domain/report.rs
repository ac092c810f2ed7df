//! Reading a governance entry: any dialect in, one [`Report`] or a refusal out.
//!
//! In scope: telling the dialects apart, `CloudEvents` (structured and Kafka binary mode), DSSE around them, the legacy log.
//! Out of scope: whether the entry counts (ids, keys, decisions), which needs the state at its position.
//!
//! Invariant: the same bytes mean the same whichever way they came; only a binary-mode `CloudEvent` needs its headers too.

mod payload;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::envelope::{self, Envelope};
use super::event::{About, Event};
use super::leaf::Leaf;
use super::refusal::{Code, Refusal, quoted};
use super::time::Time;

pub use payload::{SayingKind, is_saying, saying_type};

/// What makes an event itself: SHA-256 over (source, id), or over the line of a legacy event.
pub type Identity = [u8; 32];

/// The identity of a `CloudEvent`.
pub fn cloud_event_identity(source: &str, id: &str) -> Identity {
    let mut identity = Sha256::new();
    identity.update(b"cloudevent\0");
    identity.update((source.len() as u64).to_be_bytes());
    identity.update(source.as_bytes());
    identity.update(id.as_bytes());
    identity.finalize().into()
}

/// A governance entry, read.
#[derive(Debug, Clone)]
pub struct Report {
    /// What makes it itself.
    pub identity: Identity,
    /// SHA-256 of what must be equal for a second one to be a duplicate: the event's own bytes.
    pub content: [u8; 32],
    /// Who and what it is about.
    pub about: About,
    /// What happened.
    pub event: Event,
    /// The envelope that it came in.
    pub envelope: Option<Envelope>,
    /// Whether it has effect only in an envelope under a node key.
    pub privileged: bool,
    /// Whether it names the service as its source, which only a node may.
    pub is_from_service: bool,
}

/// Which form the bytes have. Told apart by one top-level key each.
#[derive(Deserialize)]
struct Shape<'a> {
    #[serde(rename = "payloadType", borrow, default)]
    payload_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    llm: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CloudEvent<'a> {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    time: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    data_base64: Option<String>,
}

#[derive(Deserialize)]
struct Legacy<'a> {
    event_type: String,
    #[serde(default)]
    artifact: Option<payload::Artifact>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    timestamp: Option<String>,
}

/// Reads the body of a governance leaf.
pub fn read(leaf: &Leaf<'_>) -> Result<Report, Refusal> {
    if let Some(oversize) = &leaf.header.oversize {
        return Err(Refusal::new(
            Code::TooLarge,
            None,
            format!(
                "the record has {} bytes, more than the {} of an entry; its bytes are kept as {}",
                oversize.bytes,
                ledger::ENTRY_BYTES_MAX,
                oversize.sha256
            ),
        ));
    }
    let text = text(leaf.body)?;
    if !leaf.header.cloud_event.is_empty() {
        return binary_mode(leaf, text);
    }
    let shape: Shape<'_> = serde_json::from_str(text).map_err(|error| Refusal::from_json(&error, text))?;
    if shape.payload_type.is_some() {
        return enveloped(text);
    }
    if shape.specversion.is_some() {
        return cloud_event(text, None);
    }
    if shape.event_type.is_some() {
        return legacy(text);
    }
    let metric = shape.event.or(shape.llm).is_some();
    let detail = if metric {
        "a provider log; it belongs in a metrics ledger"
    } else {
        "no `specversion` (CloudEvent), `event_type` (legacy event) or `payloadType` (DSSE envelope)"
    };
    Err(Refusal::new(Code::WrongKind, None, format!("{detail}: {:?}", quoted(text))))
}

/// The body as text.
pub fn text(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Refusal::new(Code::InvalidUtf8, None, format!("byte {at} (0x{:02x}) is not UTF-8", body[at]))
    })
}

fn enveloped(text: &str) -> Result<Report, Refusal> {
    let envelope = envelope::open(text)?;
    let inner =
        self::text(&envelope.payload).map_err(|refusal| Refusal { code: Code::BadEnvelope, ..refusal })?.to_owned();
    cloud_event(&inner, Some(envelope))
}

fn cloud_event(text: &str, envelope: Option<Envelope>) -> Result<Report, Refusal> {
    let event: CloudEvent<'_> = serde_json::from_str(text).map_err(|error| Refusal::from_json(&error, text))?;
    if event.specversion != "1.0" {
        return Err(Refusal::new(
            Code::OutOfRange,
            "specversion".to_owned(),
            format!("specversion is {:?}, not \"1.0\"", quoted(&event.specversion)),
        ));
    }
    if event.data_base64.is_some() {
        return Err(Refusal::new(
            Code::WrongType,
            "data_base64".to_owned(),
            "data_base64 is not taken; send `data` as JSON",
        ));
    }
    let data = event.data.map_or("{}", RawValue::get);
    assemble(Parts {
        id: &event.id,
        source: &event.source,
        event_type: event.event_type,
        subject: event.subject,
        time: event.time,
        data,
        content: text.as_bytes(),
        envelope,
    })
}

/// The `CloudEvents` source of everything that the service says. Nobody else may use it without an envelope: whoever did could
/// claim the id of a saying to come, which would then be a duplicate.
pub const SERVICE_SOURCE: &str = "govledger";

struct Parts<'a> {
    id: &'a str,
    source: &'a str,
    event_type: String,
    subject: Option<String>,
    time: Option<String>,
    data: &'a str,
    content: &'a [u8],
    envelope: Option<Envelope>,
}

fn assemble(parts: Parts<'_>) -> Result<Report, Refusal> {
    if parts.source == SERVICE_SOURCE && parts.envelope.is_none() {
        return Err(Refusal::new(
            Code::EnvelopeRequired,
            "source".to_owned(),
            format!("source is {SERVICE_SOURCE:?}, which is the service's own: it speaks in envelopes alone"),
        ));
    }
    if parts.id.is_empty() || parts.source.is_empty() {
        let field = if parts.id.is_empty() { "id" } else { "source" };
        return Err(Refusal::new(Code::OutOfRange, field.to_owned(), format!("field `{field}` is empty")));
    }
    let occurred_at = parts.time.as_deref().map(|time| timestamp("time", time)).transpose()?;
    let sender =
        payload::Sender { stack: parts.subject, artifact: None, actor: None, enveloped: parts.envelope.is_some() };
    let (event, mut about, privileged) = payload::read(&parts.event_type, parts.data, sender)?;
    about.occurred_at = occurred_at;
    about.actor = about.actor.or_else(|| Some(parts.source.to_owned()));
    Ok(Report {
        identity: cloud_event_identity(parts.source, parts.id),
        content: Sha256::digest(parts.content).into(),
        about,
        event,
        envelope: parts.envelope,
        privileged,
        is_from_service: parts.source == SERVICE_SOURCE,
    })
}

/// Kafka binary mode: the attributes came as `ce_*` headers, the body is the data.
fn binary_mode(leaf: &Leaf<'_>, text: &str) -> Result<Report, Refusal> {
    let attributes = &leaf.header.cloud_event;
    let required = |name: &str| attributes.get(name).ok_or_else(|| Refusal::missing(&format!("ce_{name}")));
    let version = required("specversion")?;
    if version != "1.0" {
        return Err(Refusal::new(
            Code::OutOfRange,
            "ce_specversion".to_owned(),
            format!("ce_specversion is {:?}, not \"1.0\"", quoted(version)),
        ));
    }
    let data = if text.is_empty() { "{}" } else { text };
    serde_json::from_str::<&RawValue>(data).map_err(|error| Refusal::from_json(&error, data))?;
    let mut content = serde_json::to_vec(attributes).unwrap_or_default();
    content.extend_from_slice(text.as_bytes());
    assemble(Parts {
        id: required("id")?,
        source: required("source")?,
        event_type: required("type")?.clone(),
        subject: attributes.get("subject").cloned(),
        time: attributes.get("time").cloned(),
        data,
        content: &content,
        envelope: None,
    })
}

fn legacy(text: &str) -> Result<Report, Refusal> {
    let event: Legacy<'_> = serde_json::from_str(text).map_err(|error| Refusal::from_json(&error, text))?;
    let occurred_at = event.timestamp.as_deref().map(|time| timestamp("timestamp", time)).transpose()?;
    let sender = payload::Sender {
        stack: event.artifact.as_ref().map(|artifact| artifact.artifact_id.clone()),
        artifact: event.artifact,
        actor: event.actor,
        enveloped: false,
    };
    let data = event.payload.map_or("{}", RawValue::get);
    let (event, mut about, privileged) = payload::read(&event.event_type, data, sender)?;
    about.occurred_at = occurred_at;
    let line = text.trim_end_matches(['\r', '\n', ' ', '\t']);
    let mut identity = Sha256::new();
    identity.update(b"legacy\0");
    identity.update(line.as_bytes());
    let identity: Identity = identity.finalize().into();
    Ok(Report { identity, content: identity, about, event, envelope: None, privileged, is_from_service: false })
}

fn timestamp(field: &str, text: &str) -> Result<Time, Refusal> {
    text.parse().map_err(|error: super::time::TimeError| {
        Refusal::new(Code::WrongType, field.to_owned(), format!("field `{field}`: {error}"))
    })
}

//! DSSE v1 envelopes: signed submissions, and everything the service itself says.
//!
//! The signature is Ed25519 over the pre-authentication encoding of payload type and payload bytes
//! (<https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::refusal::{Code, Refusal, quoted};

/// The only payload type taken.
pub const PAYLOAD_TYPE: &str = "application/cloudevents+json";
/// Signatures read from one envelope at the most; more are refused, so that a submission cannot buy unbounded work.
const SIGNATURES_MAX: usize = 16;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// An envelope, decoded but not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// Key id and signature, as claimed.
    pub signatures: Vec<(String, [u8; 64])>,
}

/// The id of a key: the first 16 bytes of SHA-256 of its 32 public bytes, in hex.
pub fn key_id(public: &[u8; 32]) -> String {
    hex(&Sha256::digest(public)[..16])
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Seals `payload` under `key`; the JSON text of the envelope.
pub fn seal(payload: &[u8], key: &ledger::key::LedgerKey) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Wire {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![WireSignature {
            keyid: key_id(&key.public()),
            sig: STANDARD.encode(key.sign(&pre_authentication(payload))),
        }],
    })
}

/// Decodes an envelope's JSON text.
pub fn open(text: &str) -> Result<Envelope, Refusal> {
    let wire: Wire = serde_json::from_str(text).map_err(|error| {
        let inner = Refusal::from_json(&error, text);
        Refusal { code: Code::BadEnvelope, ..inner }
    })?;
    if wire.payload_type != PAYLOAD_TYPE {
        return Err(bad(
            "payloadType",
            format!("payloadType is {:?}, not {PAYLOAD_TYPE:?}", quoted(&wire.payload_type)),
        ));
    }
    if wire.signatures.is_empty() || wire.signatures.len() > SIGNATURES_MAX {
        return Err(bad(
            "signatures",
            format!("{} signatures; 1 to {SIGNATURES_MAX} are taken", wire.signatures.len()),
        ));
    }
    let payload = decode(&wire.payload)
        .ok_or_else(|| bad("payload", format!("payload is not base64: {:?}", quoted(&wire.payload))))?;
    let mut signatures = Vec::with_capacity(wire.signatures.len());
    for signature in wire.signatures {
        let bytes = decode(&signature.sig)
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or_else(|| bad("signatures.sig", format!("not 64 bytes of base64: {:?}", quoted(&signature.sig))))?;
        signatures.push((signature.keyid, bytes));
    }
    Ok(Envelope { payload, signatures })
}

impl Envelope {
    /// Whether `signature` over this payload was made by `public`.
    pub fn verifies(&self, signature: &[u8; 64], public: &[u8; 32]) -> bool {
        ledger::key::verify_signature(public, &pre_authentication(&self.payload), signature).is_ok()
    }
}

fn bad(field: &str, detail: String) -> Refusal {
    Refusal::new(Code::BadEnvelope, field.to_owned(), detail)
}

/// Both alphabets are allowed by the specification.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_opens_and_verifies() {
        let key = ledger::key::LedgerKey::generate([7; 32]);
        let text = seal(b"{\"a\":1}", &key).unwrap();
        let envelope = open(&text).unwrap();
        let (keyid, signature) = &envelope.signatures[0];
        assert_eq!(*keyid, key_id(&key.public()));
        assert!(envelope.verifies(signature, &key.public()));
        let other = Envelope { payload: b"{\"a\":2}".to_vec(), ..envelope.clone() };
        assert!(!other.verifies(signature, &key.public()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, field: &str| {
            let refusal = open(text).unwrap_err();
            assert_eq!((refusal.code, refusal.field.as_deref()), (Code::BadEnvelope, Some(field)), "{refusal:?}");
        };
        check(r#"{"payloadType":"text/plain","payload":"","signatures":[]}"#, "payloadType");
        check(r#"{"payloadType":"application/cloudevents+json","payload":"","signatures":[]}"#, "signatures");
        check(r#"{"payloadType":"application/cloudevents+json","payload":"*","signatures":[{"sig":""}]}"#, "payload");
        check(
            r#"{"payloadType":"application/cloudevents+json","payload":"","signatures":[{"sig":"AA"}]}"#,
            "signatures.sig",
        );
    }
}

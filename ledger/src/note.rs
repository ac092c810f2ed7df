//! Signed notes and verifier keys (C2SP signed-note, with the cosignatures of tlog-cosignature).
//!
//! A note is text, an empty line and signature lines. Text under a signature is taken to the byte: it is
//! never parsed and written again before it is checked. A signature by a key that the verifier does not
//! know says nothing; one that names a known key and fails spoils the whole note.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};

use crate::{
    hash::{hex, unhex},
    key::{LedgerKey, verify_signature},
};

/// The signature lines read of one note. The format asks for at least 16; the bound keeps a hostile note
/// from costing much.
pub const SIGNATURES_MAX: usize = 64;
/// The bytes read as one note: a checkpoint with all its signatures is far below.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a key, so that a checkpoint always fits the head file.
pub const NAME_BYTES_MAX: usize = 200;

const SIGNATURE_START: &str = "\u{2014} ";

/// What is wrong about a note, checkpoint or verifier key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The verifier key's line is malformed.
    #[error("{0:?} is not a verifier key")]
    VerifierKey(String),
    /// The verifier key's id is not that of its name and key.
    #[error("the verifier key {text:?} states an id other than {expected}")]
    KeyId {
        /// The line.
        text: String,
        /// The id that name and key have.
        expected: String,
    },
    /// A name of no or too many bytes, or with a space, plus or control character in it.
    #[error("{0:?} cannot be the name of a key")]
    Name(String),
    /// Longer than [`NOTE_BYTES_MAX`].
    #[error("a note of {0} bytes is too long")]
    TooLong(usize),
    /// Not UTF-8, or with a control character.
    #[error("the note is not plain UTF-8 text")]
    Text,
    /// Text, empty line and signature lines cannot be told apart.
    #[error("the note has no signature block")]
    Structure,
    /// A signature line is malformed.
    #[error("{0:?} is not a signature line")]
    SignatureLine(String),
    /// More than [`SIGNATURES_MAX`].
    #[error("the note has more than {SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// A known key's signature does not verify.
    #[error("the signature of {name} does not verify")]
    Signature {
        /// The key's name.
        name: String,
    },
    /// No signature by any known key.
    #[error("the note is not signed by {expected}")]
    Unsigned {
        /// The keys that were looked for.
        expected: String,
    },
    /// The text is no checkpoint.
    #[error("the text is not a checkpoint: {0}")]
    Checkpoint(&'static str),
    /// What should be a rotation of keys is none that can be followed.
    #[error("the rotation of keys: {0}")]
    Rotation(&'static str),
    /// The checkpoint is of another ledger.
    #[error("the checkpoint is of {found:?}, not of {expected:?}")]
    Origin {
        /// The origin in the checkpoint.
        found: String,
        /// The origin expected.
        expected: String,
    },
}

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Type 0x01: the note's text.
    Ed25519,
    /// Type 0x04: a time and the note's text, as witnesses do.
    Cosignature,
}

impl KeyKind {
    /// The type byte.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// A public key with the name under which it signs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    public: [u8; 32],
}

impl VerifierKey {
    /// A key under a checked name.
    pub fn new(name: &str, kind: KeyKind, public: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        Ok(Self::unchecked(name, kind, public))
    }

    pub(crate) fn unchecked(name: &str, kind: KeyKind, public: [u8; 32]) -> Self {
        Self { name: name.to_owned(), kind, public }
    }

    /// Reads a verifier key's line.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        text.parse()
    }

    /// The name: for a ledger's key, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// SHA-256 of name, LF, type and public key: what the key is, in one value.
    pub fn identity(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', self.kind.byte()]);
        hasher.update(self.public);
        hasher.finalize().into()
    }

    /// The first four bytes of the identity, by which a signature line says whose it is.
    pub fn key_id(&self) -> [u8; 4] {
        let identity = self.identity();
        [identity[0], identity[1], identity[2], identity[3]]
    }

    /// Checks a signature line's blob over a note's text; a cosignature's time is returned.
    fn verify(&self, text: &str, blob: &[u8]) -> Result<Option<u64>, NoteError> {
        let refuse = || NoteError::Signature { name: self.name.clone() };
        match self.kind {
            KeyKind::Ed25519 => {
                let signature = blob.try_into().map_err(|_error| refuse())?;
                verify_signature(&self.public, text.as_bytes(), signature).map_err(|_error| refuse())?;
                Ok(None)
            }
            KeyKind::Cosignature => {
                let (time, signature) = blob.split_first_chunk::<8>().ok_or_else(refuse)?;
                let time = u64::from_be_bytes(*time);
                let signature = signature.try_into().map_err(|_error| refuse())?;
                let message = cosignature_message(text, time);
                verify_signature(&self.public, message.as_bytes(), signature).map_err(|_error| refuse())?;
                Ok(Some(time))
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind.byte()];
        key.extend_from_slice(&self.public);
        write!(formatter, "{}+{}+{}", self.name, hex(&self.key_id()), BASE64.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let refuse = || NoteError::VerifierKey(text.to_owned());
        // Base64 has a plus too, so the line is split from the left; a name has none.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse());
        };
        let id = unhex(id).filter(|id| id.len() == 4).ok_or_else(refuse)?;
        let key = BASE64.decode(key).map_err(|_error| refuse())?;
        let (kind, public) = key.split_first().ok_or_else(refuse)?;
        let kind = match kind {
            0x01 => KeyKind::Ed25519,
            0x04 => KeyKind::Cosignature,
            _ => return Err(refuse()),
        };
        let key = Self::new(name, kind, public.try_into().map_err(|_error| refuse())?)?;
        if key.key_id()[..] != id[..] {
            return Err(NoteError::KeyId { text: text.to_owned(), expected: hex(&key.key_id()) });
        }
        Ok(key)
    }
}

/// A signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// Whose it says it is.
    pub name: String,
    /// Which key.
    pub key_id: [u8; 4],
    /// The signature itself, for a cosignature with its time in front.
    pub blob: Vec<u8>,
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id[..], &self.blob].concat();
        write!(formatter, "{SIGNATURE_START}{} {}", self.name, BASE64.encode(bytes))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, NoteError> {
        let refuse = || NoteError::SignatureLine(line.to_owned());
        let (name, bytes) =
            line.strip_prefix(SIGNATURE_START).and_then(|rest| rest.split_once(' ')).ok_or_else(refuse)?;
        let bytes = BASE64.decode(bytes).map_err(|_error| refuse())?;
        let (key_id, blob) = bytes.split_first_chunk::<4>().ok_or_else(refuse)?;
        if check_name(name).is_err() || blob.is_empty() {
            return Err(refuse());
        }
        Ok(Self { name: name.to_owned(), key_id: *key_id, blob: blob.to_vec() })
    }
}

/// A note: text and signatures, none of them checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A signature that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// By which of the known keys, as an index.
    pub key: usize,
    /// Of a cosignature: when, in POSIX seconds, as the witness says.
    pub time: Option<u64>,
}

impl Note {
    /// Reads a note.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let note = str::from_utf8(bytes).map_err(|_error| NoteError::Text)?;
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Text);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Structure)?;
        let (text, block) = (&note[..=split], &note[split + 2..]);
        let lines = block.strip_suffix('\n').ok_or(NoteError::Structure)?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == SIGNATURES_MAX {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(line.parse()?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, with the line feed that ends it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The one signature that there is, where it is by `key` over the text alone: not checked.
    pub(crate) fn lone_signature(&self, key: &VerifierKey) -> Option<[u8; 64]> {
        let [signature] = &self.signatures[..] else { return None };
        let is_by_key = key.kind == KeyKind::Ed25519 && signature.name == key.name && signature.key_id == key.key_id();
        if is_by_key { signature.blob.as_slice().try_into().ok() } else { None }
    }

    /// Checks every signature by one of `keys`. At least one has to be there, and none may fail.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Vec<VerifiedSignature>, NoteError> {
        let mut verified: Vec<VerifiedSignature> = Vec::new();
        for signature in &self.signatures {
            let known = keys.iter().position(|key| key.name == signature.name && key.key_id() == signature.key_id);
            let Some(known) = known else { continue };
            let time = keys[known].verify(&self.text, &signature.blob)?;
            // A second signature by the same key adds nothing.
            if verified.iter().all(|other| other.key != known) {
                verified.push(VerifiedSignature { key: known, time });
            }
        }
        if verified.is_empty() {
            let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
            return Err(NoteError::Unsigned { expected: names.join(" or ") });
        }
        Ok(verified)
    }
}

/// The signature line (without line feed) of `key` under `name` over a note's text.
pub fn sign(text: &str, name: &str, key: &LedgerKey) -> NoteSignature {
    let verifier = key.verifier_key(name);
    NoteSignature { name: name.to_owned(), key_id: verifier.key_id(), blob: key.sign(text.as_bytes()).to_vec() }
}

/// The cosignature line (without line feed) of a witness over a checkpoint's text at a time.
pub fn cosign(text: &str, name: &str, key: &LedgerKey, time_s: u64) -> NoteSignature {
    let verifier = VerifierKey::unchecked(name, KeyKind::Cosignature, key.public());
    let mut blob = time_s.to_be_bytes().to_vec();
    blob.extend_from_slice(&key.sign(cosignature_message(text, time_s).as_bytes()));
    NoteSignature { name: name.to_owned(), key_id: verifier.key_id(), blob }
}

fn cosignature_message(text: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

/// Whether `name` can be the name of a key, and so an origin.
pub fn check_name(name: &str) -> Result<(), NoteError> {
    let is_bad = |character: char| character.is_whitespace() || character.is_control() || character == '+';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(is_bad) {
        return Err(NoteError::Name(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LedgerKey {
        LedgerKey::generate([3; 32])
    }

    fn signed(text: &str) -> String {
        format!("{text}\n{}\n", sign(text, "example.org/log", &key()))
    }

    #[test]
    fn a_signed_note_verifies_and_a_changed_one_does_not() {
        let note = signed("one\n\ntwo\n");
        let parsed = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(parsed.text(), "one\n\ntwo\n");
        let known = key().verifier_key("example.org/log");
        assert_eq!(parsed.verify(std::slice::from_ref(&known)), Ok(vec![VerifiedSignature { key: 0, time: None }]));
        let changed = Note::parse(note.replace("two", "too").as_bytes()).unwrap();
        assert!(matches!(changed.verify(std::slice::from_ref(&known)), Err(NoteError::Signature { .. })));
        let stranger = LedgerKey::generate([4; 32]).verifier_key("example.org/log");
        assert!(matches!(parsed.verify(&[stranger]), Err(NoteError::Unsigned { .. })));
    }

    #[test]
    fn a_failing_known_signature_spoils_a_note_that_another_signed_well() {
        let text = "text\n";
        let good = sign(text, "a", &key());
        let mut bad = sign(text, "b", &key());
        bad.blob[5] ^= 1;
        let note = Note::parse(format!("{text}\n{good}\n{bad}\n").as_bytes()).unwrap();
        let (a, b) = (key().verifier_key("a"), key().verifier_key("b"));
        assert!(note.verify(std::slice::from_ref(&a)).is_ok());
        assert_eq!(note.verify(&[a, b]), Err(NoteError::Signature { name: "b".into() }));
    }

    #[test]
    fn cosignatures_bind_their_time() {
        let text = "origin\n1\nroot\n";
        let line = cosign(text, "witness", &key(), 1_700_000_000);
        let known = VerifierKey::new("witness", KeyKind::Cosignature, key().public()).unwrap();
        let note = Note::parse(format!("{text}\n{line}\n").as_bytes()).unwrap();
        let verified = note.verify(std::slice::from_ref(&known)).unwrap();
        assert_eq!(verified, [VerifiedSignature { key: 0, time: Some(1_700_000_000) }]);
        let mut moved = line;
        moved.blob[7] ^= 1;
        let note = Note::parse(format!("{text}\n{moved}\n").as_bytes()).unwrap();
        assert!(note.verify(&[known]).is_err());
    }

    #[test]
    fn verifier_keys_are_read_back_and_checked() {
        for kind in [KeyKind::Ed25519, KeyKind::Cosignature] {
            let known = VerifierKey::new("example.org/log", kind, key().public()).unwrap();
            let text = known.to_string();
            assert_eq!(VerifierKey::parse(&text), Ok(known));
            assert!(matches!(VerifierKey::parse(&text.replacen("log", "lag", 1)), Err(NoteError::KeyId { .. })));
            assert!(VerifierKey::parse(&text[..text.len() - 1]).is_err());
        }
        for text in ["", "a", "a+b", "a b+00000000+AQ==", "a+0000000+AQ=="] {
            assert!(VerifierKey::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn malformed_notes_are_refused() {
        let good = signed("text\n");
        let many = format!("text\n\n{}", "\u{2014} a AAAAAAAA\n".repeat(SIGNATURES_MAX + 1));
        let cases: [(&str, NoteError); 6] = [
            ("text\n", NoteError::Structure),
            (good.strip_suffix('\n').unwrap(), NoteError::Structure),
            ("te\u{7}xt\n\n\u{2014} a AAAAAAAA\n", NoteError::Text),
            ("text\n\n- a AAAAAAAA\n", NoteError::SignatureLine("- a AAAAAAAA".into())),
            ("text\n\n\u{2014} a+b AAAAAAAA\n", NoteError::SignatureLine("\u{2014} a+b AAAAAAAA".into())),
            (&many, NoteError::TooManySignatures),
        ];
        for (note, expected) in cases {
            assert_eq!(Note::parse(note.as_bytes()), Err(expected));
        }
        assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::Text));
        assert_eq!(Note::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]), Err(NoteError::TooLong(NOTE_BYTES_MAX + 1)));
    }
}

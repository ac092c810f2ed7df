//! Why an entry counts for nothing: permanent codes, and the text that names the field and the value.
//!
//! A code, once released, keeps its meaning for ever: old entries are judged again by every later binary. A withdrawn
//! code is marked retired and its name is not used again.

use serde::{Deserialize, Serialize};

/// The longest part of an offending value that a refusal quotes, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// The permanent code of a refusal. The serialized name is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The bytes are not one JSON object.
    MalformedJson,
    /// A bare `NaN` or `Infinity`, which JSON does not have.
    NotFiniteNumber,
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// Well-formed, but not of the kind that this ledger takes.
    WrongKind,
    /// A field holds a value of another type.
    WrongType,
    /// A required field is absent.
    MissingField,
    /// A signature does not verify.
    BadSignature,
    /// The envelope is not a well-formed DSSE envelope around a `CloudEvent`.
    BadEnvelope,
    /// An event that has effect only in an envelope under an enrolled node key came without one.
    EnvelopeRequired,
    /// The id was claimed before by an event with other bytes.
    IdConflict,
    /// Larger than an entry may be; the bytes are kept beside the ledger.
    TooLarge,
    /// The command was decided against at its position.
    CommandRefused,
    /// Signed with a key that is not enrolled at this position.
    UnknownKey,
    /// A cut earlier than the last one, or dated too far after its own entry.
    LateCut,
    /// A number or time outside what the field allows.
    OutOfRange,
    /// The record broker and this ledger disagree about what lies at an offset.
    SourceMismatch,
    /// The cap of a waiver is above what its approver may approve.
    OverLimit,
    /// Signed with a key that is enrolled here, but not for this event type.
    KeyNotForType,
    /// The policy demands an author's signature for this event type.
    SignatureRequired,
}

impl Code {
    /// Every code, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::MalformedJson,
        Self::NotFiniteNumber,
        Self::InvalidUtf8,
        Self::WrongKind,
        Self::WrongType,
        Self::MissingField,
        Self::BadSignature,
        Self::BadEnvelope,
        Self::EnvelopeRequired,
        Self::IdConflict,
        Self::TooLarge,
        Self::CommandRefused,
        Self::UnknownKey,
        Self::LateCut,
        Self::OutOfRange,
        Self::SourceMismatch,
        Self::OverLimit,
        Self::KeyNotForType,
        Self::SignatureRequired,
    ];

    /// The code as it is written in entries, answers, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::NotFiniteNumber => "not_finite_number",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::WrongKind => "wrong_kind",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::BadSignature => "bad_signature",
            Self::BadEnvelope => "bad_envelope",
            Self::EnvelopeRequired => "envelope_required",
            Self::IdConflict => "id_conflict",
            Self::TooLarge => "too_large",
            Self::CommandRefused => "command_refused",
            Self::UnknownKey => "unknown_key",
            Self::LateCut => "late_cut",
            Self::OutOfRange => "out_of_range",
            Self::SourceMismatch => "source_mismatch",
            Self::OverLimit => "over_limit",
            Self::KeyNotForType => "key_not_for_type",
            Self::SignatureRequired => "signature_required",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: the code, the field where there is one, and a sentence that quotes the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The permanent code.
    pub code: Code,
    /// The field at fault, as a dotted path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong, with the offending value.
    pub detail: String,
    /// For a command or a conflict: the position of the entry that stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_position: Option<u64>,
}

impl Refusal {
    /// A refusal of `code` for `field`.
    pub fn new(code: Code, field: impl Into<Option<String>>, detail: impl Into<String>) -> Self {
        Self { code, field: field.into(), detail: detail.into(), by_position: None }
    }

    /// The same refusal, naming the entry that stands in the way.
    #[must_use]
    pub fn by(mut self, position: u64) -> Self {
        self.by_position = Some(position);
        self
    }

    /// A required field that is not there.
    pub fn missing(field: &str) -> Self {
        Self::new(Code::MissingField, field.to_owned(), format!("field `{field}` is missing"))
    }

    /// What `serde_json` said of `text`, as a code that lasts: a bare `NaN` or `Infinity` is told apart from other text that is no JSON.
    pub fn from_json(error: &serde_json::Error, text: &str) -> Self {
        let at = error_offset(error, text);
        let said = strip_location(&error.to_string());
        if error.is_data() {
            let code = if said.starts_with("missing field") { Code::MissingField } else { Code::WrongType };
            let field = said.split('`').nth(1).filter(|_| code == Code::MissingField).map(str::to_owned);
            let field = field.or_else(|| key_before(text, at).map(str::to_owned));
            return Self::new(
                code,
                field.clone(),
                match field {
                    Some(field) if code == Code::WrongType => format!("field `{field}`: {said}"),
                    Some(_) | None => said,
                },
            );
        }
        let rest = text.get(at.saturating_sub(1)..).unwrap_or_default().trim_start_matches([':', ' ', '-', ',', '[']);
        if ["NaN", "Infinity", "nan", "inf"].iter().any(|word| rest.starts_with(word)) {
            let field = key_before(text, at).map(str::to_owned);
            let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
            let named = field.as_deref().unwrap_or("?");
            return Self::new(
                Code::NotFiniteNumber,
                field.clone(),
                format!("field `{named}` is {word}, which is no JSON number"),
            );
        }
        Self::new(
            Code::MalformedJson,
            None,
            format!(
                "not JSON at byte {at}: {said}, near {:?}",
                quoted(text.get(at.saturating_sub(20)..).unwrap_or(text))
            ),
        )
    }
}

/// `value`, cut to the length that a refusal quotes.
pub fn quoted(value: &str) -> String {
    match value.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn strip_location(said: &str) -> String {
    said.split(" at line ").next().unwrap_or(said).to_owned()
}

/// Byte offset of a `serde_json` error in one-line or multi-line `text`; clamped to a character boundary.
fn error_offset(error: &serde_json::Error, text: &str) -> usize {
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let mut at = (line_start + error.column()).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The last `"key":` before byte `at`: the field whose value `serde_json` was reading.
fn key_before(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?;
    let colon = before
        .rmatch_indices("\":")
        .map(|(index, _)| index)
        .chain(before.rmatch_indices("\" :").map(|(index, _)| index))
        .max()?;
    let key = &before[..colon];
    key.rfind('"').map(|open| &key[open + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample {
        #[expect(dead_code, reason = "only its deserialization is of interest")]
        duration_ms: f64,
    }

    fn refuse(text: &str) -> Refusal {
        Refusal::from_json(&serde_json::from_str::<Sample>(text).unwrap_err(), text)
    }

    #[test]
    fn json_errors_become_lasting_codes() {
        let check = |text: &str, code: Code, field: Option<&str>| {
            let refusal = refuse(text);
            assert_eq!((refusal.code, refusal.field.as_deref()), (code, field), "{refusal:?}");
        };
        check("{\"a\":1,\"duration_ms\": NaN}", Code::NotFiniteNumber, Some("duration_ms"));
        check("{\"duration_ms\":-Infinity}", Code::NotFiniteNumber, Some("duration_ms"));
        check("{\"duration_ms\":\"fast\"}", Code::WrongType, Some("duration_ms"));
        check("{\"x\":1}", Code::MissingField, Some("duration_ms"));
        check("{\"x\":", Code::MalformedJson, None);
        check("hello", Code::MalformedJson, None);
    }

    #[test]
    fn names_are_the_serialized_ones() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
    }
}

//! The shared-secret signature of the legacy event log, checked where the secret is configured.
//!
//! It is SHA-256 over the secret and the event as Python's `json.dumps(event, sort_keys=True)` writes it. Whoever knows the
//! secret can make one, so it proves nothing to an outsider and decides nothing here; its outcome is shown beside the event.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::envelope::hex;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegacySignature {
    /// Made by somebody who knows the secret, over these contents.
    Valid,
    /// Not that.
    Invalid,
    /// The event carries none.
    Absent,
}

/// The shared secret. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret in.
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Checks the `signature` of a legacy event's line against `secret`. None: the line is no JSON object.
pub fn check(line: &str, secret: &Secret) -> Option<LegacySignature> {
    let Value::Object(mut event) = serde_json::from_str(line).ok()? else { return None };
    let Some(Value::String(signature)) = event.remove("signature") else { return Some(LegacySignature::Absent) };
    let mut canonical = secret.0.clone();
    python(&Value::Object(event), &mut canonical);
    let expected = hex(&Sha256::digest(canonical.as_bytes()));
    Some(if expected == signature { LegacySignature::Valid } else { LegacySignature::Invalid })
}

/// `json.dumps(value, sort_keys=True)` with default separators and ASCII escapes.
fn python(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => python_float(float, out),
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => python_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                python(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (key, field)) in fields.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                python_string(key, out);
                out.push_str(": ");
                python(field, out);
            }
            out.push('}');
        }
    }
}

/// `repr` of a float: the shortest digits that read back, positional from 1e-4 up to below 1e16.
fn python_float(float: f64, out: &mut String) {
    let shortest = format!("{float:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Writing to a string cannot fail.
    if float == 0.0 || (-4..16).contains(&exponent) {
        let positional = format!("{float}");
        let fraction = if positional.contains('.') { "" } else { ".0" };
        let _ = write!(out, "{positional}{fraction}");
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
    }
}

fn python_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_pythons() {
        let check = |json: &str, expected: &str| {
            let mut out = String::new();
            python(&serde_json::from_str(json).unwrap(), &mut out);
            assert_eq!(out, expected);
        };
        check(
            r#"{"b":1,"a":[1.0,2.5,1e-05,1e16,0.0001,123456789012345.6],"c":null}"#,
            r#"{"a": [1.0, 2.5, 1e-05, 1e+16, 0.0001, 123456789012345.6], "b": 1, "c": null}"#,
        );
        check(r#"{"ü":"é😀\u0001\n"}"#, r#"{"\u00fc": "\u00e9\ud83d\ude00\u0001\n"}"#);
    }

    /// Made by Python 3.11: `hashlib.sha256(b"trace-secret" + json.dumps(event, sort_keys=True).encode())`.
    #[test]
    fn a_signature_made_by_python() {
        let line = r#"{"event_type":"x","artifact":{"artifact_id":"s"},"payload":{"d":41.2},"signature":"SIGNATURE"}"#;
        let line = line.replace("SIGNATURE", PYTHON_SIGNATURE);
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(check(&line, &secret("trace-secret")), Some(LegacySignature::Valid));
        assert_eq!(check(&line, &secret("other")), Some(LegacySignature::Invalid));
        assert_eq!(check(r#"{"event_type":"x"}"#, &secret("s")), Some(LegacySignature::Absent));
        assert_eq!(check("[]", &secret("s")), None);
    }

    const PYTHON_SIGNATURE: &str = "4a18d7148b9965f1873cf9d6d298d360b6c1148a8e628b47953371aca2afe329";
}

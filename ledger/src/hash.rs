//! The 32-byte SHA-256 value that names everything here: leaves, nodes, roots, blobs.
//!
//! Two texts of it exist and each has its place: base64 in checkpoints and proofs, lower-case hex in
//! file names. Nothing else is decided here.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

/// A text that is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not the base64 of exactly 32 bytes.
    #[error("{0:?} is not the base64 of 32 bytes")]
    Base64(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("{0:?} is not 64 lower-case hexadecimal digits")]
    Hex(String),
}

impl Hash {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads what [`Hash::to_hex`] wrote. Upper case is refused: a hash has one name.
    pub fn from_hex(text: &str) -> Result<Self, HashError> {
        let refuse = || HashError::Hex(text.to_owned());
        let bytes = unhex(text).ok_or_else(refuse)?;
        Ok(Self(bytes.try_into().map_err(|_error| refuse())?))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Lower-case hexadecimal of any bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes of lower-case hexadecimal, or nothing where a digit is none.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let refuse = || HashError::Base64(text.to_owned());
        let bytes = BASE64.decode(text).map_err(|_error| refuse())?;
        Ok(Self(bytes.try_into().map_err(|_error| refuse())?))
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_are_read_back() {
        let hash = Hash::of(b"entry");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(Hash::from_hex(&hash.to_hex()), Ok(hash));
    }

    #[test]
    fn other_texts_are_refused() {
        let hex = Hash::of(b"entry").to_hex();
        for text in [&hex[1..], &hex.to_uppercase(), "", "zz"] {
            assert!(Hash::from_hex(text).is_err(), "{text}");
        }
        for text in ["", "AAAA", "not base64"] {
            assert!(text.parse::<Hash>().is_err(), "{text}");
        }
    }
}

//! The 32-byte SHA-256 value that names everything here: leaves, nodes, roots, blobs.
//!
//! Two texts of it exist and each has its place: base64 in checkpoints and proofs, lower-case hex in
//! file names. Nothing else is decided here.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::block_api::compress256;

/// The state from which SHA-256 starts (FIPS 180-4, 5.3.3).
const INITIAL_STATE: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

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
    ///
    /// Leaves and nodes are short, and lie in one piece. So their blocks are handed to the compression
    /// function where they lie; a hasher's buffer would cost a twentieth of the time.
    pub fn of(bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<64>();
        let mut state = INITIAL_STATE;
        compress256(&mut state, blocks);
        // The padding of FIPS 180-4: one bit, zeros, and the length in bits in the last eight bytes.
        let mut last = [[0; 64]; 2];
        last[0][..rest.len()].copy_from_slice(rest);
        last[0][rest.len()] = 0x80;
        let count = if rest.len() < 56 { 1 } else { 2 };
        last[count - 1][56..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
        compress256(&mut state, &last[..count]);
        let mut hash = [0; 32];
        for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        Self(hash)
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
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn hashes_are_those_of_the_whole_algorithm_at_every_length() {
        let bytes: Vec<u8> = (0..=255_u8).cycle().take(70_000).collect();
        for len in (0..300).chain([65_536, 70_000]) {
            let expected: [u8; 32] = Sha256::digest(&bytes[..len]).into();
            assert_eq!(Hash::of(&bytes[..len]), Hash(expected), "length {len}");
        }
    }

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

//! Proof files (C2SP tlog-proof): an index, the hashes to the root, and the checkpoint, in one text.
//!
//! Reading checks the form; whether the proof holds is [`ProofFile::verify`], with the entry at hand.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use crate::{
    chain::{KeyChain, read_rotations},
    checkpoint::{SignedCheckpoint, parse_decimal},
    error::Error,
    hash::Hash,
    note::{NoteError, VerifierKey},
    tree::leaf_hash,
    verify,
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A path in a tree of 2^64 leaves is no longer.
const HASHES_MAX: usize = 64;

/// What is wrong about a proof file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    /// The first line is not that of the format.
    #[error("the file does not start with {FIRST_LINE}")]
    Start,
    /// A line cannot be read.
    #[error("line {line} of the proof is malformed: {text:?}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// It breaks off before the checkpoint.
    #[error("the proof breaks off before its checkpoint")]
    Short,
    /// More hashes than any path has.
    #[error("the proof has more than {HASHES_MAX} hashes")]
    TooLong,
    /// The checkpoint cannot be read.
    #[error("the proof's checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
}

/// A proof file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    /// What the prover wants to say besides; no part of the proof.
    pub extra: Option<Vec<u8>>,
    /// The entry's position.
    pub index: u64,
    /// From the leaf to the root.
    pub hashes: Vec<Hash>,
    /// The checkpoint, verbatim.
    pub checkpoint: SignedCheckpoint,
}

impl ProofFile {
    /// Reads a proof file.
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        text.parse()
    }

    /// Checks that `entry` is at the proof's index in the ledger that `key` signs for, or signed for first: where the proof carries
    /// rotations of the key, they are followed.
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<(), Error> {
        self.chain(key)?.verify(&self.checkpoint)?;
        let (size, root) = (self.checkpoint.size(), self.checkpoint.root());
        verify::inclusion(self.index, size, &leaf_hash(entry), &self.hashes, &root)?;
        Ok(())
    }
}

impl ProofFile {
    /// What a proof says besides, where the ledger's key was rotated.
    pub fn extra_of(rotations: &str) -> Option<Vec<u8>> {
        (!rotations.is_empty()).then(|| rotations.as_bytes().to_vec())
    }

    /// The keys from `first` on. What the prover says besides that is no rotation says nothing here.
    fn chain(&self, first: &VerifierKey) -> Result<KeyChain, NoteError> {
        let text = self.extra.as_deref().and_then(|extra| str::from_utf8(extra).ok());
        match text.filter(|text| !text.is_empty() && read_rotations(text).is_ok()) {
            Some(text) => KeyChain::follow(first, text),
            None => Ok(KeyChain::of(first.clone())),
        }
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(formatter, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(formatter, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(formatter, "{hash}")?;
        }
        write!(formatter, "\n{}", self.checkpoint)
    }
}

impl FromStr for ProofFile {
    type Err = ProofFileError;

    fn from_str(text: &str) -> Result<Self, ProofFileError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofFileError::Short)?;
        let mut lines = head.split('\n').enumerate().map(|(index, line)| (index + 1, line)).peekable();
        let refuse = |(line, text): (usize, &str)| ProofFileError::Line { line, text: text.to_owned() };
        if lines.next().is_none_or(|(_, line)| line != FIRST_LINE) {
            return Err(ProofFileError::Start);
        }
        let mut extra = None;
        if let Some((number, line)) = lines.next_if(|(_, line)| line.starts_with("extra ")) {
            let bytes = BASE64.decode(&line["extra ".len()..]).map_err(|_error| refuse((number, line)))?;
            extra = Some(bytes);
        }
        let index_line = lines.next().ok_or(ProofFileError::Short)?;
        let index = index_line.1.strip_prefix("index ").and_then(parse_decimal).ok_or_else(|| refuse(index_line))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == HASHES_MAX {
                return Err(ProofFileError::TooLong);
            }
            hashes.push(line.1.parse().map_err(|_error| refuse(line))?);
        }
        Ok(Self { extra, index, hashes, checkpoint: SignedCheckpoint::parse(checkpoint)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::Checkpoint, key::LedgerKey, tree::node_hash};

    fn proof() -> ProofFile {
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
        let checkpoint = Checkpoint { origin: "origin".into(), size: 2, root: node_hash(&left, &right) };
        let checkpoint = checkpoint.sign(&LedgerKey::generate([5; 32]));
        ProofFile { extra: None, index: 1, hashes: vec![left], checkpoint }
    }

    #[test]
    fn a_proof_is_read_back_and_verified() {
        let key = LedgerKey::generate([5; 32]).verifier_key("origin");
        for extra in [None, Some(b"extra \n".to_vec()), Some(Vec::new())] {
            let proof = ProofFile { extra, ..proof() };
            let read = ProofFile::parse(&proof.to_string()).unwrap();
            assert_eq!(read, proof);
            read.verify(b"right", &key).unwrap();
            assert!(matches!(read.verify(b"left", &key), Err(Error::Verify(_))));
        }
        let text = proof().to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 1\n"), "{text}");
    }

    #[test]
    fn malformed_proofs_are_refused() {
        let good = proof().to_string();
        let hash = Hash::default();
        let many = good.replacen("\n\n", &format!("{}\n\n", format!("\n{hash}").repeat(64)), 1);
        for (text, expected) in [
            (String::new(), ProofFileError::Short),
            (good.replace("@v1", "@v2"), ProofFileError::Start),
            (good.replace("index 1", "index 01"), ProofFileError::Line { line: 2, text: "index 01".into() }),
            (good.replace("index 1", "extra !\nindex 1"), ProofFileError::Line { line: 2, text: "extra !".into() }),
            (good.replace("index 1\n", "index 1\nAAAA\n"), ProofFileError::Line { line: 3, text: "AAAA".into() }),
            (many, ProofFileError::TooLong),
        ] {
            assert_eq!(ProofFile::parse(&text), Err(expected));
        }
    }
}

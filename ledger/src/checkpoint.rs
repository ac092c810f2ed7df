//! Checkpoints: what a ledger signs (C2SP tlog-checkpoint).
//!
//! [`Checkpoint`] is the statement, [`SignedCheckpoint`] the note that carries it. The note's text is kept
//! verbatim; the statement is read from it and never takes its place.

use std::{fmt, str::FromStr};

use crate::{
    hash::Hash,
    key::LedgerKey,
    note::{Note, NoteError, VerifiedSignature, VerifierKey, sign},
};

/// An origin, a size and the root at that size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger's name.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads a note's text. Lines after the root are extensions, which a reader passes over.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        text.parse()
    }

    /// Signs the checkpoint under its origin.
    pub fn sign(self, key: &LedgerKey) -> SignedCheckpoint {
        let text = self.to_string();
        let note = format!("{text}\n{}\n", sign(&text, &self.origin, key));
        SignedCheckpoint { checkpoint: self, note }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}

impl FromStr for Checkpoint {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let refuse = NoteError::Checkpoint;
        let body = text.strip_suffix('\n').ok_or(refuse("it does not end with a line feed"))?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty()).ok_or(refuse("it has no origin"))?;
        let size = lines.next().and_then(parse_decimal).ok_or(refuse("the size is no decimal number"))?;
        let root = lines.next().and_then(|line| line.parse().ok()).ok_or(refuse("the root is no hash"))?;
        if lines.any(str::is_empty) {
            return Err(refuse("it has an empty line"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

/// A decimal number in its one form: digits, no sign, no leading zero.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// A checkpoint with its signatures, as text. Reading one checks no signature; [`SignedCheckpoint::verify`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: String,
}

impl SignedCheckpoint {
    /// Reads a signed note whose text is a checkpoint.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let checkpoint = Note::parse(note.as_bytes())?.text().parse()?;
        Ok(Self { checkpoint, note: note.to_owned() })
    }

    /// The statement.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The ledger's name.
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }

    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.checkpoint.root
    }

    /// The whole note, signatures included.
    pub fn text(&self) -> &str {
        &self.note
    }

    /// The part that is signed.
    pub fn body(&self) -> &str {
        self.note.rfind("\n\n").map_or(&self.note[..], |split| &self.note[..=split])
    }

    /// Checks that the ledger's key signed it and that it is of that ledger.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        self.verify_with(key, &[]).map(|_| ())
    }

    /// Like [`SignedCheckpoint::verify`], and checks cosignatures by `witnesses` too. Returned are those
    /// that were there, by index into `witnesses`. A missing one is no fault here: how many are needed is policy.
    pub fn verify_with(
        &self,
        key: &VerifierKey,
        witnesses: &[VerifierKey],
    ) -> Result<Vec<VerifiedSignature>, NoteError> {
        if self.origin() != key.name() {
            return Err(NoteError::Origin { found: self.origin().to_owned(), expected: key.name().to_owned() });
        }
        let note = Note::parse(self.note.as_bytes())?;
        note.verify(std::slice::from_ref(key))?;
        match note.verify(witnesses) {
            Err(NoteError::Unsigned { .. }) => Ok(Vec::new()),
            verified => verified,
        }
    }

    /// Adds a signature line (a witness's), with its line feed or without.
    pub fn add_signature(&mut self, line: &str) -> Result<(), NoteError> {
        let line: crate::note::NoteSignature = line.strip_suffix('\n').unwrap_or(line).parse()?;
        let note = format!("{}{line}\n", self.note);
        Note::parse(note.as_bytes())?;
        self.note = note;
        Ok(())
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.note)
    }
}

impl FromStr for SignedCheckpoint {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        Self::parse(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        note::{KeyKind, cosign},
        tree::EMPTY_ROOT,
    };

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "node-1/governance".into(), size: 42, root: EMPTY_ROOT }
    }

    #[test]
    fn the_text_is_the_one_of_the_specification() {
        let text = "node-1/governance\n42\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        assert_eq!(checkpoint().to_string(), text);
        assert_eq!(Checkpoint::parse(text), Ok(checkpoint()));
        assert_eq!(Checkpoint::parse(&format!("{text}extension\n")), Ok(checkpoint()));
    }

    #[test]
    fn malformed_checkpoints_are_refused() {
        let root = EMPTY_ROOT;
        for text in [
            String::new(),
            format!("origin\n42\n{root}"),
            format!("\n42\n{root}\n"),
            format!("origin\n042\n{root}\n"),
            format!("origin\n+42\n{root}\n"),
            format!("origin\n\n{root}\n"),
            format!("origin\n18446744073709551616\n{root}\n"),
            "origin\n42\nAAAA\n".into(),
            "origin\n42\n".into(),
            format!("origin\n42\n{root}\n\nextension\n"),
        ] {
            assert!(matches!(Checkpoint::parse(&text), Err(NoteError::Checkpoint(_))), "{text:?}");
        }
    }

    #[test]
    fn a_signed_one_is_verified_for_its_ledger_and_key() {
        let key = LedgerKey::generate([9; 32]);
        let signed = checkpoint().sign(&key);
        assert_eq!(SignedCheckpoint::parse(signed.text()).as_ref(), Ok(&signed));
        assert_eq!(signed.body(), checkpoint().to_string());
        assert_eq!(signed.verify(&key.verifier_key("node-1/governance")), Ok(()));
        assert!(matches!(signed.verify(&key.verifier_key("node-2/governance")), Err(NoteError::Origin { .. })));
        let other = LedgerKey::generate([8; 32]).verifier_key("node-1/governance");
        assert!(matches!(signed.verify(&other), Err(NoteError::Unsigned { .. })));
    }

    #[test]
    fn a_witness_line_is_added_and_checked() {
        let (key, witness) = (LedgerKey::generate([9; 32]), LedgerKey::generate([10; 32]));
        let mut signed = checkpoint().sign(&key);
        let known = VerifierKey::new("witness", KeyKind::Cosignature, witness.public()).unwrap();
        let ledger = key.verifier_key("node-1/governance");
        assert_eq!(signed.verify_with(&ledger, std::slice::from_ref(&known)), Ok(Vec::new()));
        let line = cosign(signed.body(), "witness", &witness, 7);
        signed.add_signature(&format!("{line}\n")).unwrap();
        let verified = signed.verify_with(&ledger, std::slice::from_ref(&known)).unwrap();
        assert_eq!(verified, [VerifiedSignature { key: 0, time: Some(7) }]);
        assert!(signed.add_signature("no line").is_err());
    }
}

//! Which key signs a ledger's checkpoints, as keys give way to others.
//!
//! A rotation is a note signed by the old key: it names the new one, and for each ledger that the key signs the number of
//! entries up to which the old key did. A checkpoint of more entries must be signed by the new key, one of as many or fewer
//! by the old: neither key speaks for the other's time. A ledger that the note does not name is begun by the new key.
//!
//! A grant is the same with another first line, and of the ledgers that it names alone: the old key goes on signing the others, and
//! the new one signs nothing but these. A chain of a ledger that a grant does not name is not led through it.
//!
//! The notes lie in the file `rotations` of a ledger's directory and of an export, in order. Nothing in it is believed: whoever
//! reads begins with the key that they trust, the first one, and follows the signatures.
//!
//! Out of scope: who may rotate, and the entry of a ledger that says so.

use std::path::{Path, PathBuf};

use crate::{
    checkpoint::{SignedCheckpoint, parse_decimal},
    disk::{Disk, read_file, write_file},
    error::{Error, IoContext as _},
    hash::{hex, unhex},
    key::LedgerKey,
    note::{KeyKind, NOTE_BYTES_MAX, Note, NoteError, VerifierKey, check_name, sign},
};

const ROTATION_LINE: &str = "govledger ledger key rotation v1";
const GRANT_LINE: &str = "govledger ledger key grant v1";
/// What the first line of either begins with.
const FIRST_LINE_START: &str = "govledger ledger key ";
/// Rotations read of one ledger: one a day for a year and more.
const ROTATIONS_MAX: usize = 512;
const FILE_BYTES_MAX: usize = ROTATIONS_MAX * NOTE_BYTES_MAX;
/// Ledgers that one key signs at the most.
const LEDGERS_MAX: usize = 512;

/// Where a ledger's rotations lie.
pub(crate) fn rotations_path(dir: &Path) -> PathBuf {
    dir.join("rotations")
}

/// One key giving way to another, as its note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The old public key.
    pub old: [u8; 32],
    /// The new public key.
    pub new: [u8; 32],
    /// For each ledger by its origin, the number of entries up to which the old key signs.
    pub ledgers: Vec<(String, u64)>,
    /// Whether it is of these ledgers alone: a grant.
    pub alone: bool,
}

impl Rotation {
    /// The note, signed by the old key under the first ledger's name.
    pub fn sign(old: &LedgerKey, new: [u8; 32], ledgers: &[(String, u64)]) -> Result<String, NoteError> {
        Self::note(ROTATION_LINE, old, new, ledgers)
    }

    /// The note by which the key `new` signs these ledgers and no other.
    pub fn grant(old: &LedgerKey, new: [u8; 32], ledgers: &[(String, u64)]) -> Result<String, NoteError> {
        Self::note(GRANT_LINE, old, new, ledgers)
    }

    fn note(line: &str, old: &LedgerKey, new: [u8; 32], ledgers: &[(String, u64)]) -> Result<String, NoteError> {
        let Some((first, _)) = ledgers.first() else { return Err(NoteError::Name(String::new())) };
        let mut text = format!("{line}\n{}\n{}\n", hex(&old.public()), hex(&new));
        for (origin, size) in ledgers {
            check_name(origin)?;
            for part in [origin.as_str(), " ", &size.to_string(), "\n"] {
                text.push_str(part);
            }
        }
        Ok(format!("{text}\n{}\n", sign(&text, first, old)))
    }

    /// Reads a note and checks that its old key signed it.
    fn read(text: &str) -> Result<Self, NoteError> {
        let note = Note::parse(text.as_bytes())?;
        let refuse = || NoteError::Rotation("it is not in the form of one");
        let key = |line: Option<&str>| {
            line.and_then(unhex).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(refuse)
        };
        let mut lines = note.text().strip_suffix('\n').unwrap_or_default().split('\n');
        let alone = match lines.next() {
            Some(ROTATION_LINE) => false,
            Some(GRANT_LINE) => true,
            Some(_) | None => return Err(refuse()),
        };
        let (old, new) = (key(lines.next())?, key(lines.next())?);
        let mut ledgers = Vec::new();
        for line in lines {
            let (origin, size) = line.rsplit_once(' ').ok_or_else(refuse)?;
            check_name(origin)?;
            if ledgers.len() == LEDGERS_MAX || ledgers.iter().any(|(known, _)| known == origin) {
                return Err(refuse());
            }
            ledgers.push((origin.to_owned(), parse_decimal(size).ok_or_else(refuse)?));
        }
        let (first, _) = ledgers.first().ok_or_else(refuse)?;
        note.verify(&[VerifierKey::unchecked(first, KeyKind::Ed25519, old)])?;
        Ok(Self { old, new, ledgers, alone })
    }
}

/// The rotations of a text, in order, each signed by its old key. Whether the first old key is to be trusted, and whether each
/// begins where the one before ended, is for [`KeyChain::follow`].
pub fn read_rotations(text: &str) -> Result<Vec<Rotation>, NoteError> {
    let starts: Vec<usize> = text
        .match_indices(FIRST_LINE_START)
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')
        .collect();
    if starts.first().is_some_and(|first| *first != 0) || (starts.is_empty() && !text.is_empty()) {
        return Err(NoteError::Rotation("it does not begin with one"));
    }
    if starts.len() > ROTATIONS_MAX {
        return Err(NoteError::Rotation("there are too many"));
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| Rotation::read(&text[*start..end])).collect()
}

/// The keys of one ledger, from the first to the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChain {
    first: VerifierKey,
    /// Each with the size beyond which it signs; without one, it signs from the beginning.
    later: Vec<(Option<u64>, VerifierKey)>,
    text: String,
}

impl KeyChain {
    /// Of a ledger whose key was never rotated.
    pub fn of(first: VerifierKey) -> Self {
        Self { first, later: Vec::new(), text: String::new() }
    }

    /// Follows rotations from the key that is trusted.
    pub fn follow(first: &VerifierKey, text: &str) -> Result<Self, NoteError> {
        let mut chain = Self::of(first.clone());
        for rotation in read_rotations(text)? {
            chain.add(&rotation)?;
        }
        text.clone_into(&mut chain.text);
        Ok(chain)
    }

    fn add(&mut self, rotation: &Rotation) -> Result<(), NoteError> {
        if rotation.old != *self.current().public() {
            return Err(NoteError::Rotation("its old key is not the one before"));
        }
        let origin = self.first.name();
        let at = rotation.ledgers.iter().find(|(known, _)| known == origin).map(|(_, size)| *size);
        if rotation.alone && at.is_none() {
            return Err(NoteError::Rotation("it is of other ledgers alone"));
        }
        if let Some((before, _)) = self.later.last()
            && at < *before
        {
            return Err(NoteError::Rotation("it goes back before the one before"));
        }
        self.later.push((at, VerifierKey::unchecked(origin, KeyKind::Ed25519, rotation.new)));
        Ok(())
    }

    /// Follows what lies in a directory, where anything does.
    pub fn load(disk: &dyn Disk, dir: &Path, first: &VerifierKey) -> Result<Self, Error> {
        Ok(Self::follow(first, &load_text(disk, dir)?)?)
    }

    /// The chain of a ledger that is written with `current`: its first key is the old one of the first rotation there.
    pub(crate) fn of_writer(disk: &dyn Disk, dir: &Path, current: &VerifierKey) -> Result<Self, Error> {
        let text = load_text(disk, dir)?;
        let first = read_rotations(&text)?.first().map_or(*current.public(), |rotation| rotation.old);
        let chain = Self::follow(&VerifierKey::unchecked(current.name(), KeyKind::Ed25519, first), &text)?;
        if chain.current() == current {
            Ok(chain)
        } else {
            Err(Error::OtherLedger { path: dir.to_owned(), expected: current.to_string() })
        }
    }

    /// Keeps the text in a directory, durably.
    pub(crate) fn store(&self, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
        let path = rotations_path(dir);
        write_file(disk, &path, self.text.as_bytes()).at("write", &path)
    }

    /// The key that everything is verified from.
    pub fn first(&self) -> &VerifierKey {
        &self.first
    }

    /// The key that signs now.
    pub fn current(&self) -> &VerifierKey {
        self.later.last().map_or(&self.first, |(_, key)| key)
    }

    /// The size beyond which the present key signs; none where it began the ledger.
    pub(crate) fn last_at(&self) -> Option<u64> {
        self.later.last().and_then(|(at, _)| *at)
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        std::iter::once(&self.first).chain(self.later.iter().map(|(_, key)| key))
    }

    /// The rotations, as their notes are.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key that signs a checkpoint of so many entries.
    pub fn key_at(&self, size: u64) -> &VerifierKey {
        let signs = |(at, _): &&(Option<u64>, VerifierKey)| at.is_none_or(|at| size > at);
        self.later.iter().rev().find(signs).map_or(&self.first, |(_, key)| key)
    }

    /// Checks that a checkpoint is of this ledger and signed by the key of its size.
    pub fn verify(&self, checkpoint: &SignedCheckpoint) -> Result<(), NoteError> {
        checkpoint.verify(self.key_at(checkpoint.size()))
    }

    /// Reads a signed checkpoint and checks it.
    pub fn checkpoint(&self, note: &str) -> Result<SignedCheckpoint, NoteError> {
        let signed = SignedCheckpoint::parse(note)?;
        self.verify(&signed)?;
        Ok(signed)
    }
}

fn load_text(disk: &dyn Disk, dir: &Path) -> Result<String, Error> {
    let path = rotations_path(dir);
    if disk.stat(&path).at("examine", &path)?.is_none() {
        return Ok(String::new());
    }
    let bytes = read_file(disk, &path, FILE_BYTES_MAX).at("read", &path)?;
    Ok(String::from_utf8(bytes).map_err(|_error| NoteError::Text)?)
}

/// The public key that a text of rotations ends with: which of its keys a writer needs, before anything is verified.
pub fn last_key(text: &str) -> Result<Option<[u8; 32]>, NoteError> {
    Ok(read_rotations(text)?.last().map(|rotation| rotation.new))
}

/// Puts a text of rotations in a ledger's directory, durably, where it is not there yet: what a writer that was stopped between two
/// ledgers finishes before it opens them.
pub fn put_rotations(disk: &dyn Disk, dir: &Path, text: &str) -> Result<(), Error> {
    let there = load_text(disk, dir)?;
    if there == text {
        return Ok(());
    }
    if !text.starts_with(&there) {
        return Err(NoteError::Rotation("the ledger has others").into());
    }
    read_rotations(text)?;
    let path = rotations_path(dir);
    write_file(disk, &path, text.as_bytes()).at("write", &path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::Checkpoint, tree::EMPTY_ROOT};

    const ORIGIN: &str = "node/governance";

    fn key(seed: u8) -> LedgerKey {
        LedgerKey::generate([seed; 32])
    }

    fn rotated(old: u8, new: u8, at: u64) -> String {
        Rotation::sign(&key(old), key(new).public(), &[(ORIGIN.into(), at), ("node/metrics-0".into(), 7)]).unwrap()
    }

    fn signed(origin: &str, size: u64, seed: u8) -> SignedCheckpoint {
        Checkpoint { origin: origin.into(), size, root: EMPTY_ROOT }.sign(&key(seed))
    }

    #[test]
    fn each_key_signs_its_own_sizes_and_no_other() {
        let text = rotated(1, 2, 10) + &rotated(2, 3, 10) + &rotated(3, 4, 25);
        let chain = KeyChain::follow(&key(1).verifier_key(ORIGIN), &text).unwrap();
        let signer =
            |size| (1..=4).filter(|seed| chain.verify(&signed(ORIGIN, size, *seed)).is_ok()).collect::<Vec<_>>();
        assert_eq!([0, 10, 11, 25, 26].map(signer), [vec![1], vec![1], vec![3], vec![3], vec![4]]);
        assert_eq!((chain.first().public(), chain.current().public()), (&key(1).public(), &key(4).public()));
        // One that is named by none of them was begun by the last key.
        let chain = KeyChain::follow(&key(1).verifier_key("node/metrics-1"), &text).unwrap();
        assert!(chain.verify(&signed("node/metrics-1", 0, 4)).is_ok());
        assert!(chain.verify(&signed("node/metrics-1", 0, 1)).is_err());
        // The same name keeps another key id.
        assert_ne!(chain.first().key_id(), chain.current().key_id());
    }

    #[test]
    fn a_granted_key_signs_the_ledgers_that_it_was_granted_and_no_other() {
        let grant = Rotation::grant(&key(2), key(9).public(), &[("node/access".into(), 1)]).unwrap();
        let text = rotated(1, 2, 10) + &grant;
        let access = KeyChain::follow(&key(1).verifier_key("node/access"), &text).unwrap();
        assert!(access.verify(&signed("node/access", 1, 2)).is_ok());
        assert!(access.verify(&signed("node/access", 2, 9)).is_ok());
        assert!(access.verify(&signed("node/access", 2, 2)).is_err());
        for other in [ORIGIN, "node/metrics-0", "node/metrics-7"] {
            let led = KeyChain::follow(&key(1).verifier_key(other), &text);
            assert!(matches!(led, Err(NoteError::Rotation(_))), "{other}: {led:?}");
        }
        // A grant is no rotation with another first line: the line is signed.
        let turned = grant.replace(GRANT_LINE, ROTATION_LINE);
        assert!(matches!(read_rotations(&turned), Err(NoteError::Signature { .. })));
    }

    #[test]
    fn a_chain_is_followed_from_the_trusted_key_alone() {
        let trusted = key(1).verifier_key(ORIGIN);
        let follow = |text: &str| KeyChain::follow(&trusted, text);
        assert!(matches!(follow(&rotated(9, 2, 10)), Err(NoteError::Rotation(_))), "another first key");
        assert!(matches!(follow(&(rotated(1, 2, 10) + &rotated(1, 3, 12))), Err(NoteError::Rotation(_))), "a fork");
        assert!(matches!(follow(&(rotated(1, 2, 10) + &rotated(2, 3, 9))), Err(NoteError::Rotation(_))), "back");
        let good = rotated(1, 2, 10);
        let forged = good.replace(&hex(&key(2).public()), &hex(&key(3).public()));
        assert!(matches!(follow(&forged), Err(NoteError::Signature { .. })));
        let moved = good.replace("governance 10", "governance 11");
        assert!(matches!(follow(&moved), Err(NoteError::Signature { .. })));
        assert!(matches!(follow(&format!("x\n{good}")), Err(NoteError::Rotation(_))));
        assert!(follow(&good[..good.len() - 1]).is_err());
        assert_eq!(follow("").unwrap(), KeyChain::of(trusted.clone()));
        // A rotation's note is no checkpoint, and a checkpoint no rotation's note.
        assert!(SignedCheckpoint::parse(&good).is_err());
        assert!(read_rotations(signed(ORIGIN, 3, 1).text()).is_err());
    }

    #[test]
    fn a_rotation_names_each_ledger_once_and_so_many_at_the_most() {
        let note = |count: usize, more: &[&str]| {
            let mut ledgers: Vec<_> = (0..count).map(|number| (format!("node/{number}"), 7)).collect();
            ledgers.extend(more.iter().map(|origin| ((*origin).to_owned(), 8)));
            read_rotations(&Rotation::sign(&key(1), key(2).public(), &ledgers).unwrap())
        };
        assert_eq!(note(2, &["node/x"]).unwrap()[0].ledgers.len(), 3);
        assert!(note(2, &["node/1"]).is_err());
        assert_eq!(note(LEDGERS_MAX, &[]).unwrap()[0].ledgers.len(), LEDGERS_MAX);
        assert!(note(LEDGERS_MAX, &["node/x"]).is_err());
    }

    #[test]
    fn so_many_rotations_are_followed_and_no_more() {
        let (keys, ledgers) = ([key(1), key(2)], [(ORIGIN.to_owned(), 7)]);
        let note =
            |number: usize| Rotation::sign(&keys[number % 2], keys[(number + 1) % 2].public(), &ledgers).unwrap();
        let most: String = (0..ROTATIONS_MAX).map(note).collect();
        let chain = KeyChain::follow(&key(1).verifier_key(ORIGIN), &most).unwrap();
        assert_eq!(chain.keys().count(), ROTATIONS_MAX + 1);
        let scratch = tempfile::tempdir().unwrap();
        put_rotations(&crate::disk::OsDisk, scratch.path(), &most).unwrap();
        assert_eq!(KeyChain::load(&crate::disk::OsDisk, scratch.path(), chain.first()).unwrap(), chain);
        let refused = read_rotations(&(most + &note(ROTATIONS_MAX))).unwrap_err();
        assert!(matches!(refused, NoteError::Rotation(_)), "{refused}");
    }

    #[test]
    fn rotations_are_put_where_they_go_on_from_what_is_there() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, path) = (scratch.path(), rotations_path(scratch.path()));
        let put = |text: &str| put_rotations(&crate::disk::OsDisk, dir, text);
        put("").unwrap();
        assert!(!path.exists(), "nothing to put");
        let (first, both) = (rotated(1, 2, 10), rotated(1, 2, 10) + &rotated(2, 3, 20));
        for text in [&first, &both, &both] {
            put(text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), *text);
        }
        // Fewer, others, and what is no rotation at all, leave it as it is.
        for text in [first.clone(), rotated(1, 3, 10), both.clone() + "more", both.clone() + &rotated(3, 4, 30)[1..]] {
            assert!(put(&text).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), both);
        }
    }
}

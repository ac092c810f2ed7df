//! Checking what a ledger claims: proofs and checkpoints on their own, and whole directories.
//!
//! The functions here are pure: they see what they are given and trust only the verifier key. They share no
//! code with the making of proofs but the two hash functions, so that a fault there does not excuse itself.
//! [`audit()`] and [`audit_extends`] read a directory and trust nothing in it.

mod audit;
mod export_audit;
mod extends;
mod ledger_audit;
mod unit;
mod walk;

pub use audit::{AuditProgress, AuditReport, OnProgress, PROBLEMS_MAX, Problem, audit, audit_on};
pub use extends::{ExtendsReport, audit_extends};

use crate::{
    checkpoint::SignedCheckpoint,
    hash::Hash,
    note::{Note, NoteError, VerifierKey},
    tree::{EMPTY_ROOT, node_hash},
};

/// Why a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The position is not in a tree of that size.
    #[error("position {position} is not in a tree of {size} entries")]
    Position {
        /// The position.
        position: u64,
        /// The size.
        size: u64,
    },
    /// The old size is over the new one.
    #[error("a tree of {new} entries cannot extend one of {old}")]
    Order {
        /// The old size.
        old: u64,
        /// The new size.
        new: u64,
    },
    /// The proof has more or fewer hashes than the sizes ask for.
    #[error("the proof has {found} hashes, which is not the number that the sizes ask for")]
    Length {
        /// The number of hashes.
        found: usize,
    },
    /// The proof leads to another root.
    #[error("the proof leads to root {computed}, not to {expected}")]
    Root {
        /// Where it leads.
        computed: Hash,
        /// Where it should.
        expected: Hash,
    },
}

/// Checks that the leaf at `position` is in the tree of `size` leaves with `root`.
pub fn inclusion(position: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), VerifyError> {
    if position >= size {
        return Err(VerifyError::Position { position, size });
    }
    let length = VerifyError::Length { found: proof.len() };
    let (mut index, mut last) = (position, size - 1);
    let mut computed = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if index & 1 == 1 || index == last {
            computed = node_hash(sibling, &computed);
            // A last node without a right neighbour goes up unchanged until it is a right one.
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            computed = node_hash(&computed, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    expect(computed, root)
}

/// Checks that the tree of `old` leaves with `old_root` is a prefix of the tree of `new` with `new_root`.
pub fn consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> Result<(), VerifyError> {
    if old > new {
        return Err(VerifyError::Order { old, new });
    }
    let length = VerifyError::Length { found: proof.len() };
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(length);
        }
        return expect(*old_root, if old == 0 { &EMPTY_ROOT } else { new_root });
    }
    // Where the old tree is one complete subtree, its root is known and the proof leaves it out.
    let (first, rest) =
        if old.is_power_of_two() { (old_root, proof) } else { proof.split_first().ok_or(length.clone())? };
    let (mut index, mut last) = (old - 1, new - 1);
    while index & 1 == 1 {
        index >>= 1;
        last >>= 1;
    }
    let (mut old_computed, mut new_computed) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(length);
        }
        if index & 1 == 1 || index == last {
            old_computed = node_hash(sibling, &old_computed);
            new_computed = node_hash(sibling, &new_computed);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            new_computed = node_hash(&new_computed, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    expect(old_computed, old_root)?;
    expect(new_computed, new_root)
}

fn expect(computed: Hash, expected: &Hash) -> Result<(), VerifyError> {
    if computed == *expected { Ok(()) } else { Err(VerifyError::Root { computed, expected: *expected }) }
}

/// Reads a signed checkpoint and checks that `key` signed it under its origin.
pub fn checkpoint(note: &str, key: &VerifierKey) -> Result<SignedCheckpoint, NoteError> {
    let signed = SignedCheckpoint::parse(note)?;
    signed.verify(key)?;
    Ok(signed)
}

/// Checks that a witness cosigned a checkpoint, and says when, in POSIX seconds.
pub fn cosignature(note: &str, witness: &VerifierKey) -> Result<u64, NoteError> {
    let verified = Note::parse(note.as_bytes())?.verify(std::slice::from_ref(witness))?;
    let time = verified.first().and_then(|signature| signature.time);
    time.ok_or_else(|| NoteError::Unsigned { expected: witness.to_string() })
}

//! Notes, checkpoints, proofs and tile paths.

use ledger::note::{Note, VerifierKey};
use ledger::proof::ProofFile;
use ledger::tile::{TileKind, TilePath};
use ledger::{Checkpoint, Hash, SignedCheckpoint, TrustPolicy};

use super::key;

/// The one checkpoint that the seeds hold signed by [`key`]: two entries, `left` and `right`.
#[must_use]
pub fn signed() -> SignedCheckpoint {
    let root = ledger::tree::node_hash(&ledger::tree::leaf_hash(b"left"), &ledger::tree::leaf_hash(b"right"));
    Checkpoint { origin: "origin".into(), size: 2, root }.sign(&key())
}

/// A note is written again as it was read; a valid signature covers the text that was signed.
pub fn note(data: &[u8]) {
    if let Ok(note) = Note::parse(data) {
        let mut written = format!("{}\n", note.text());
        for signature in note.signatures() {
            written.push_str(&signature.to_string());
            written.push('\n');
        }
        assert_eq!(written.as_bytes(), data, "a note has one form");
        if note.verify(&[key().verifier_key("origin")]).is_ok() {
            assert_eq!(note.text(), signed().body(), "a signature over another text verified");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(verifier) = VerifierKey::parse(text) {
        assert_eq!(VerifierKey::parse(&verifier.to_string()).as_ref(), Ok(&verifier));
    }
}

/// A checkpoint is read back from what it is written as; nothing but what was signed verifies.
pub fn checkpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        let written = checkpoint.to_string();
        assert!(text.starts_with(&written), "{written:?} begins {text:?}, extensions aside");
        assert_eq!(Checkpoint::parse(&written).as_ref(), Ok(&checkpoint));
    }
    let Ok(note) = SignedCheckpoint::parse(text) else { return };
    assert_eq!(note.text(), text);
    assert_eq!(Checkpoint::parse(note.body()).as_ref(), Ok(note.checkpoint()));
    if note.verify(&key().verifier_key("origin")).is_ok() {
        assert_eq!(note.body(), signed().body(), "a signature over another text verified");
    }
}

/// A proof file is read back from what it is written as; it proves nothing but what is in the tree. Its hashes serve as
/// arbitrary proofs too.
pub fn proof(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(proof) = ProofFile::parse(text) else { return };
    assert_eq!(proof.to_string(), text, "a proof file has one form");
    assert_eq!(ProofFile::parse(&proof.to_string()).as_ref(), Ok(&proof));
    let verifier = key().verifier_key("origin");
    for (entry, position) in [(&b"left"[..], 0), (b"right", 1)] {
        if proof.verify(entry, &verifier).is_ok() {
            assert_eq!((proof.index, proof.checkpoint.body()), (position, signed().body()));
        }
    }
    assert!(proof.verify(b"neither", &verifier).is_err());
    let (index, size, root) = (proof.index, proof.checkpoint.size(), proof.checkpoint.root());
    let leaf = proof.hashes.first().copied().unwrap_or_default();
    if ledger::verify::inclusion(index, size, &leaf, &proof.hashes, &root).is_ok() {
        assert!(index < size);
    }
    if ledger::verify::consistency(index, &leaf, size, &root, &proof.hashes).is_ok() {
        assert!(index <= size);
        assert!(index != size || leaf == root, "one size has one root");
    }
}

/// A tile has one path, and the path says what is there.
pub fn tile_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(hash) = Hash::from_hex(text) {
        assert_eq!(Hash::from_hex(&text.to_ascii_lowercase()).ok(), Some(hash));
    }
    let Ok(path) = TilePath::parse(text) else { return };
    assert_eq!(path.to_string(), text, "a tile has one path");
    assert!((1..=256).contains(&path.width));
    assert_eq!(path.is_full(), !text.contains(".p/"));
    // The smallest size at which it exists, where 64 bits can count it.
    let per_hash = match path.kind {
        TileKind::Hashes(level) => 256_u128.checked_pow(u32::from(level)),
        TileKind::Entries => Some(1),
    };
    let hashes = u128::from(path.index) * 256 + u128::from(path.width);
    let smallest = per_hash.and_then(|per_hash| per_hash.checked_mul(hashes));
    match smallest.and_then(|smallest| u64::try_from(smallest).ok()) {
        Some(smallest) => {
            assert!(path.exists_at(smallest), "{text} exists at {smallest}");
            assert!(!path.exists_at(smallest - 1), "{text} does not exist at {}", smallest - 1);
            assert_eq!(TilePath::at_size(path.kind, path.index, smallest), Some(path));
        }
        None => assert!(!path.exists_at(u64::MAX), "{text} is beyond any tree"),
    }
}

/// A trust policy says the same when it is written again; with all its witnesses nothing is missing, and with none of them something,
/// unless it needs nobody.
pub fn trust(data: &[u8]) {
    let Ok(policy) = TrustPolicy::parse(data) else { return };
    assert_eq!(policy.to_string().parse().as_ref(), Ok(&policy));
    let all = policy.witnesses().iter().map(|witness| witness.name.as_str()).collect();
    assert!(policy.shortfalls(&all).is_empty(), "all cosigned, and something is missing");
    assert_eq!(policy.shortfalls(&std::collections::BTreeSet::new()).is_empty(), policy.quorum().is_none());
}

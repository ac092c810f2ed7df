//! What this crate makes is accepted by implementations that we did not write, and the other way round.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use common::{entry, key, ledger_of, options, verifier};
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use ledger::{Hash, LedgerKey, Reader, checkpoint::Checkpoint, note, tree::leaf_hash, verify};
use proptest::prelude::*;
use sha2::Sha256;
use signed_note::{StandardSigner, StandardVerifier, VerifierList};

const SIZE_MAX: u64 = 1_200;

/// One ledger for all cases, and theirs at every size asked for.
fn ours() -> &'static Reader {
    static LEDGER: OnceLock<(tempfile::TempDir, ledger::Ledger, Reader)> = OnceLock::new();
    let (.., reader) = LEDGER.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger_of(&dir.path().join("ledger"), SIZE_MAX, options());
        let reader = ledger.reader();
        (dir, ledger, reader)
    });
    reader
}

fn theirs(size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    (0..size).for_each(|position| tree.push(entry(position)));
    tree
}

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn root(size: u64) -> RootHash<Sha256> {
    RootHash::new(ours().root_at(size).unwrap().0.into(), size)
}

fn hashes(proof: &[u8]) -> Vec<Hash> {
    proof.chunks(32).map(|hash| Hash(hash.try_into().unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn inclusion(size in 1..=SIZE_MAX, seed in any::<u64>()) {
        let position = seed % size;
        let index = usize::try_from(position).unwrap();
        let proof = ours().inclusion_proof(position, size).unwrap();
        let tree = theirs(size);
        let made = tree.root();
        prop_assert_eq!(made.as_bytes().as_slice(), &ours().root_at(size).unwrap().0[..]);
        // Theirs by ours, ours by theirs; and they are the same.
        let made = tree.prove_inclusion(index);
        prop_assert_eq!(hashes(made.as_bytes()), proof.clone());
        let (leaf, expected) = (leaf_hash(&entry(position)), ours().root_at(size).unwrap());
        prop_assert_eq!(verify::inclusion(position, size, &leaf, &hashes(made.as_bytes()), &expected), Ok(()));
        let read = InclusionProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
        root(size).verify_inclusion(&entry(position), position, &read).unwrap();
        // Any change spoils it.
        let other = leaf_hash(b"other");
        prop_assert!(verify::inclusion(position, size, &other, &proof, &expected).is_err());
        prop_assert!(verify::inclusion(position, size, &leaf, &proof, &other).is_err());
        let mut longer = proof.clone();
        longer.push(other);
        prop_assert!(verify::inclusion(position, size, &leaf, &longer, &expected).is_err());
        if let Some((_, shorter)) = proof.split_last() {
            prop_assert!(verify::inclusion(position, size, &leaf, shorter, &expected).is_err());
            prop_assert!(verify::inclusion((position + 1) % size, size, &leaf, &proof, &expected).is_err());
            let mut changed = proof.clone();
            changed[index % proof.len()] = other;
            prop_assert!(verify::inclusion(position, size, &leaf, &changed, &expected).is_err());
        }
        prop_assert!(verify::inclusion(size, size, &leaf, &proof, &expected).is_err());
    }

    #[test]
    fn consistency(new in 1..=SIZE_MAX, seed in any::<u64>()) {
        let old = 1 + seed % new;
        let proof = ours().consistency_proof(old, new).unwrap();
        let (old_root, new_root) = (ours().root_at(old).unwrap(), ours().root_at(new).unwrap());
        prop_assert_eq!(verify::consistency(old, &old_root, new, &new_root, &proof), Ok(()));
        if old < new {
            let made = theirs(new).prove_consistency(usize::try_from(new - old).unwrap());
            prop_assert_eq!(hashes(made.as_bytes()), proof.clone());
            let read = ConsistencyProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
            root(new).verify_consistency(&root(old), &read).unwrap();
        }
        let other = leaf_hash(b"other");
        prop_assert!(verify::consistency(old, &other, new, &new_root, &proof).is_err());
        prop_assert!(verify::consistency(old, &old_root, new, &other, &proof).is_err());
        let mut longer = proof.clone();
        longer.push(other);
        prop_assert!(verify::consistency(old, &old_root, new, &new_root, &longer).is_err());
        if let Some((_, shorter)) = proof.split_last() {
            prop_assert!(verify::consistency(old, &old_root, new, &new_root, shorter).is_err());
            prop_assert!(verify::consistency(new, &new_root, old, &old_root, &proof).is_err());
        }
    }

    #[test]
    fn notes(text in "[a-z0-9/ ]{0,40}(\n[a-zA-Z0-9]{0,20}){0,4}\n", seed in any::<[u8; 32]>()) {
        let (name, key) = ("example.org/log", LedgerKey::generate(seed));
        let vkey = key.verifier_key(name);
        let verifiers = || VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey.to_string()).unwrap())]);
        // Ours by theirs.
        let made = format!("{text}\n{}\n", note::sign(&text, name, &key));
        let read = signed_note::Note::from_bytes(made.as_bytes()).unwrap();
        prop_assert_eq!(read.verify(&verifiers()).unwrap().0.len(), 1);
        // Theirs by ours, byte for byte the same.
        let id = u32::from_be_bytes(vkey.key_id());
        let secret = BASE64.encode([&[1_u8][..], &seed].concat());
        let signer = StandardSigner::new(&format!("PRIVATE+KEY+{name}+{id:08x}+{secret}")).unwrap();
        let mut theirs = signed_note::Note::new(text.as_bytes(), &[]).unwrap();
        theirs.add_sigs(&[&signer]).unwrap();
        prop_assert_eq!(theirs.to_bytes(), made.as_bytes());
        let parsed = note::Note::parse(&theirs.to_bytes()).unwrap();
        prop_assert_eq!(parsed.text(), &text);
        prop_assert!(parsed.verify(&[vkey]).is_ok());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
        let _ = note::Note::parse(&bytes);
        let lossy = String::from_utf8_lossy(&bytes);
        for text in [lossy.as_ref(), &text] {
            let _ = Checkpoint::parse(text);
            let _ = ledger::SignedCheckpoint::parse(text);
            let _ = ledger::VerifierKey::parse(text);
            let _ = ledger::TilePath::parse(text);
            let _ = ledger::proof::ProofFile::parse(text);
            let _ = text.parse::<Hash>();
        }
    }
}

#[test]
fn checkpoints_are_read_by_another_implementation() {
    let checkpoint = ours().checkpoint();
    let known = StandardVerifier::new(&key().verifier_key(common::ORIGIN).to_string()).unwrap();
    let read = signed_note::Note::from_bytes(checkpoint.text().as_bytes()).unwrap();
    let (verified, unverified) = read.verify(&VerifierList::new(vec![Box::new(known)])).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
    assert_eq!(read.text(), checkpoint.body().as_bytes());
    checkpoint.verify(&verifier()).unwrap();
}

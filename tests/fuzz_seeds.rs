//! The seeds of the fuzz targets through the targets' own bodies, and around each seed what a fuzzer does first: bytes
//! flipped, cut off and doubled. What a fuzzer once broke is a seed from then on.

#![cfg(test)]
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    missing_docs,
    reason = "the targets' bodies are tests wherever they are compiled"
)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::{Path, PathBuf};

fn seeds(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    seeds
}

/// The seed, and changes of it that any fuzzer makes.
fn variants(seed: &[u8]) -> Vec<Vec<u8>> {
    let step = seed.len() / 40 + 1;
    let mut all = vec![seed.to_vec(), [seed, seed].concat(), [seed, b"\n"].concat()];
    for at in (0..seed.len()).step_by(step) {
        let mut flipped = seed.to_vec();
        flipped[at] ^= 1 << (at % 8);
        all.push(flipped);
        all.push(seed[..at].to_vec());
    }
    all
}

#[test]
fn every_seed_holds_in_every_target() {
    for (name, body) in targets::TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 3, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            for variant in variants(&bytes) {
                let run = std::panic::catch_unwind(|| body(&variant));
                assert!(
                    run.is_ok(),
                    "{name}: a variant of {}: {:?}",
                    seed.display(),
                    String::from_utf8_lossy(&variant)
                );
            }
        }
    }
}

/// A seed that no parser takes would test refusals alone.
#[test]
fn the_signed_seeds_verify() {
    use ledger::note::Note;
    use ledger::proof::ProofFile;

    let read = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(path)).unwrap()
    };
    let verifier = targets::key().verifier_key("origin");
    Note::parse(read("note/signed").as_bytes()).unwrap().verify(std::slice::from_ref(&verifier)).unwrap();
    ledger::SignedCheckpoint::parse(&read("checkpoint/signed")).unwrap().verify(&verifier).unwrap();
    ProofFile::parse(&read("proof/right")).unwrap().verify(b"right", &verifier).unwrap();
    let envelope = govledger::domain::envelope::open(&read("dsse/sealed")).unwrap();
    assert!(envelope.verifies(&envelope.signatures[0].1, &targets::key().public()));
}

#[test]
#[ignore = "writes the signed seeds"]
fn make_signed_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let write = |path: &str, bytes: &[u8]| std::fs::write(root.join(path), bytes).unwrap();
    let checkpoint = targets::signed();
    write("note/signed", checkpoint.text().as_bytes());
    write("note/verifier_key", targets::key().verifier_key("origin").to_string().as_bytes());
    let line = ledger::note::cosign(checkpoint.body(), "witness", &targets::key(), 1_790_000_000).to_string();
    write("note/cosigned", format!("{}{line}\n", checkpoint.text()).as_bytes());
    let witness = ledger::VerifierKey::new("w1", ledger::note::KeyKind::Cosignature, targets::key().public()).unwrap();
    let log = targets::key().verifier_key("origin");
    let lines = format!("log {log} https://log.example\nwitness w1 {witness}\n");
    write("trust/group", format!("# one\n{lines}group g any w1\ngroup h 1 g\nquorum h\n").as_bytes());
    write("trust/witness", format!("{lines}quorum w1\n").as_bytes());
    write("trust/none", b"\tquorum  none\n");
    write("checkpoint/signed", checkpoint.text().as_bytes());
    write("checkpoint/body", checkpoint.body().as_bytes());
    write("checkpoint/extended", format!("{}extension 1\n", checkpoint.body()).as_bytes());
    let hash = ledger::tree::leaf_hash(b"left");
    let proof = ledger::proof::ProofFile { extra: None, index: 1, hashes: vec![hash], checkpoint };
    write("proof/right", proof.to_string().as_bytes());
    write(
        "proof/extra",
        ledger::proof::ProofFile { extra: Some(b"x\n".to_vec()), ..proof.clone() }.to_string().as_bytes(),
    );
    write("proof/wrong", ledger::proof::ProofFile { index: 0, ..proof }.to_string().as_bytes());
    let payload = std::fs::read(root.join("payload.json")).unwrap();
    write("dsse/sealed", govledger::domain::envelope::seal(&payload, &targets::key()).unwrap().as_bytes());
    write("frame/whole", &[0xff, 0xff]);
    for cut in [0_u16, 3, 2 * 4100 + 1, 2 * 4200] {
        let mut chunk = ledger::Chunk::new();
        chunk.push(b"forged").unwrap();
        write(&format!("frame/cut_{cut}"), &[&cut.to_le_bytes()[..], chunk.bytes()].concat());
    }
}

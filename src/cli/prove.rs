//! `prove` and `check-proof`: that an entry is in the ledger, for whoever holds the key and nothing else.

use ledger::SignedCheckpoint;
use ledger::proof::ProofFile;
use serde_json::json;

use super::args::{CheckProof, Options, Prove};
use super::error::{CliError, Exit, Outcome, file_error};
use super::out::{self, Tone, tone};
use super::source::{Keys, Place, Source};

pub(crate) fn prove(place: &Place, options: &Options, prove: &Prove) -> Outcome {
    let (proof, entry) = match place.open()? {
        Source::Files(files) => {
            let ledger = files.ledger(&prove.ledger)?;
            let checkpoint = SignedCheckpoint::parse(&ledger.checkpoint_text()).map_err(ledger::Error::from)?;
            let hashes = ledger.inclusion_proof(prove.position, checkpoint.size())?;
            let proof = ProofFile {
                extra: ProofFile::extra_of(&ledger.rotations_text()),
                index: prove.position,
                hashes,
                checkpoint,
            };
            (proof.to_string(), ledger.entry(prove.position)?)
        }
        Source::Server(client) => {
            let path = format!("/v1/entries/{}/{}", out::encode(&prove.ledger), prove.position);
            let proof = String::from_utf8(client.fetch(&format!("{path}/proof"))?).map_err(CliError::failed)?;
            let entry: serde_json::Value = serde_json::from_slice(&client.fetch(&path)?)?;
            (proof, super::entries::decode(&entry["entry_base64"])?)
        }
    };
    let file = prove
        .out
        .clone()
        .unwrap_or_else(|| std::path::PathBuf::from(format!("{}-{}.tlog-proof", prove.ledger, prove.position)));
    let entry_file = file.with_extension("entry");
    std::fs::write(&file, &proof).map_err(file_error(&file))?;
    std::fs::write(&entry_file, &entry).map_err(file_error(&entry_file))?;
    if options.json {
        out::json(
            &json!({ "ledger": prove.ledger, "position": prove.position, "proof": file.display().to_string(), "entry": entry_file.display().to_string() }),
        );
    } else {
        out::line(format!("proof in {}, the entry itself in {}", file.display(), entry_file.display()));
        out::line(format!(
            "check it: govledger check-proof {} --entry {} --vkey FILE",
            file.display(),
            entry_file.display()
        ));
    }
    Ok(Exit::Fine)
}

pub(crate) fn check(place: &Place, options: &Options, check: &CheckProof) -> Outcome {
    let text = std::fs::read_to_string(&check.proof).map_err(file_error(&check.proof))?;
    let entry = std::fs::read(&check.entry).map_err(file_error(&check.entry))?;
    let proof =
        ProofFile::parse(&text).map_err(|error| CliError::usage(format!("{}: {error}", check.proof.display())))?;
    let keys = Keys::read(&place.vkey)?;
    let key = keys.of_origin(proof.checkpoint.origin())?;
    let (index, size, root) = (proof.index, proof.checkpoint.size(), proof.checkpoint.root());
    let verified = proof.verify(&entry, &key);
    let ok = verified.is_ok();
    if options.json {
        let problem = verified.as_ref().err().map(ToString::to_string);
        out::json(
            &json!({ "ok": ok, "ledger": proof.checkpoint.origin(), "position": index, "size": size, "root": root.to_string(), "problem": problem }),
        );
    }
    match verified {
        Ok(()) => {
            if !options.json {
                out::line(format!(
                    "{}: the entry is number {index} of the {size} that {} signed as root {root}",
                    tone(Tone::Good, "proven"),
                    key.name()
                ));
            }
            Ok(Exit::Fine)
        }
        Err(ledger::Error::Verify(_) | ledger::Error::Note(_)) if options.json => Ok(Exit::No),
        Err(error @ (ledger::Error::Verify(_) | ledger::Error::Note(_))) => {
            Err(CliError::new(Exit::No, format!("the proof does not hold: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

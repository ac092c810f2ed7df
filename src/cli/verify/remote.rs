//! A service's ledgers, fetched as the static files they are, to be checked here.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ledger::export::ExportReader;
use ledger::{KeyChain, SignedCheckpoint, TilePath};

use crate::cli::error::{CliError, file_error};
use crate::cli::source::{Client, Files, Keys};

/// Fetched ledgers, removed when dropped.
#[derive(Debug)]
pub(super) struct Fetched(PathBuf);

impl Fetched {
    /// Fetches every ledger that the last cut names, governance first.
    pub(super) fn from(client: &Client, keys: &Keys) -> Result<Self, CliError> {
        let directory = std::env::temp_dir().join(format!("govledger-verify-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&directory).map_err(file_error(&directory))?;
        let fetched = Self(directory);
        // Before the checkpoint, so that the ledger fetched covers it.
        let cosigned = client.get("/ledger/governance/checkpoint.cosigned")?;
        fetched.ledger(client, "governance", keys)?;
        if cosigned.is_success() {
            write(&super::trust::place(&fetched.0), &cosigned.bytes)?;
        }
        // What cannot be folded is for the audit to say; then governance alone is checked.
        let folded = Files::export(&fetched.0, keys).and_then(|files| files.fold(files.size(None)?, false));
        let cut = folded.ok().and_then(|folded| folded.governance.last_cut);
        for listed in cut.iter().flat_map(|cut| &cut.ledgers) {
            fetched.ledger(client, &format!("metrics-{}", listed.ledger), keys)?;
        }
        Ok(fetched)
    }

    /// Where they lie.
    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    fn ledger(&self, client: &Client, name: &str, keys: &Keys) -> Result<(), CliError> {
        let directory = self.0.join(name);
        let checkpoint = client.fetch(&format!("/ledger/{name}/checkpoint"))?;
        let text = String::from_utf8(checkpoint).map_err(CliError::failed)?;
        let signed = SignedCheckpoint::parse(&text).map_err(ledger::Error::from)?;
        let rotations =
            String::from_utf8(client.fetch(&format!("/ledger/{name}/rotations"))?).map_err(CliError::failed)?;
        let chain = KeyChain::follow(&keys.of_ledger(name)?, &rotations).map_err(ledger::Error::from)?;
        chain.verify(&signed).map_err(ledger::Error::from)?;
        if !rotations.is_empty() {
            write(&directory.join("rotations"), rotations.as_bytes())?;
        }
        for path in TilePath::all_at(signed.size()) {
            write(&directory.join(path.to_string()), &client.fetch(&format!("/ledger/{name}/{path}"))?)?;
        }
        write(&directory.join("checkpoint"), text.as_bytes())?;
        // Only whether it opens; everything in it is read by the audit.
        match ExportReader::open(&directory, &keys.of_ledger(name)?) {
            Ok(_) | Err(ledger::Error::Damage(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // What is left in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(file_error(parent))?;
    std::fs::write(path, bytes).map_err(file_error(path))
}

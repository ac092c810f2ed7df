//! `backup restore-ledgers`: a copy of the ledgers becomes a data directory, once all of it holds.
//!
//! Only the verifier key that was handed in is trusted, not the target: every hash is compared with the manifest, then every entry,
//! root and signature is checked from that key, then what was kept outside. The directory gets its name last. Whatever fails
//! before leaves nothing.

use std::path::Path;

use serde_json::{Value, json};

use super::backup::runtime;
use super::ledgers::place_of;
use crate::backup::{BackupError, Fetched, Manifest, Target, discard};
use crate::cli::args::{Options, RestoreLedgers};
use crate::cli::error::{CliError, Exit, Outcome};
use crate::cli::ingest::progress_bar;
use crate::cli::out;
use crate::cli::source::{Keys, Place, exported};
use crate::cli::verify;
use crate::identity::trail::ACCESS;
use crate::sequencer::DataDir;

pub(super) fn run(place: &Place, options: &Options, restore: &RestoreLedgers) -> Outcome {
    let keys = Keys::read(&place.vkey)?;
    let into = &restore.into;
    if std::fs::symlink_metadata(into).is_ok() {
        return Err(BackupError::Exists { path: into.clone() }.into());
    }
    // What an earlier run left may be of another copy.
    discard(into)?;
    let restored = bring_back(&keys, options, restore);
    if restored.is_err() {
        discard(into)?;
    }
    let (id, ledgers) = restored?;
    let needed = needed(into);
    if options.json {
        out::json(
            &json!({ "backup_id": id, "ledgers": ledgers, "data": into.display().to_string(), "keys_needed": needed }),
        );
    } else {
        out::line(format!("{id} restored into {}", into.display()));
        out::line(format!(
            "put {} into {} before `govledger serve`; no copy has them",
            needed.join(", "),
            into.join("keys").display()
        ));
    }
    Ok(Exit::Fine)
}

fn bring_back(keys: &Keys, options: &Options, restore: &RestoreLedgers) -> Result<(String, Vec<Value>), CliError> {
    let target = Target::open(&restore.from)?;
    let governance = keys.of_ledger("governance")?;
    let node = governance.name().rsplit_once('/').map_or_else(|| governance.name(), |(node, _)| node);
    let bar = progress_bar("fetching");
    let (id, fetched) = runtime()?.block_on(async {
        let manifest = manifest(&target, node, restore.at.as_deref()).await?;
        bar.set_length(manifest.total_bytes());
        let fetched = Fetched::of(&manifest, &target, &restore.into, &|bytes| bar.inc(bytes)).await?;
        Ok::<_, CliError>((manifest.backup_id, fetched))
    })?;
    bar.finish_and_clear();
    let ledgers = check(fetched.directory(), keys, options, restore)?;
    fetched.settle()?;
    Ok((id, ledgers))
}

async fn manifest(target: &Target, node: &str, at: Option<&str>) -> Result<Manifest, CliError> {
    let place = place_of(node);
    let ids = target.backups(&place).await?;
    let id = match at {
        Some(at) => ids.iter().find(|id| *id == at),
        None => ids.last(),
    };
    let Some(id) = id else {
        let which = at.map_or_else(|| "copy of ledgers".to_owned(), |at| format!("{at:?}"));
        let known = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        return Err(CliError::new(
            Exit::No,
            format!("target {} holds no {which} of node {node:?}; it holds {known}", target.url()),
        ));
    };
    let manifest = target.unreported(&place, id).await?;
    // A manifest may name anything; a private key has no business in it, nor what the service makes for itself.
    match manifest.files.iter().find(|file| !belongs(&file.name)) {
        Some(file) => Err(CliError::new(
            Exit::No,
            format!("the manifest of {id} lists {:?}, which is no part of a copy", file.name),
        )),
        None => Ok(manifest),
    }
}

fn belongs(name: &str) -> bool {
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    match first {
        "settings.json" | "node.json" | "last-use.json" => rest.is_empty(),
        "keys" => rest == "rotations" || Path::new(rest).extension().is_some_and(|extension| extension == "vkey"),
        "blobs" => true,
        _ => rest == "head" || rest == "rotations" || rest.starts_with("segments/"),
    }
}

/// Makes the ledgers complete and checks all of it; their sizes and roots.
fn check(directory: &Path, keys: &Keys, options: &Options, restore: &RestoreLedgers) -> Result<Vec<Value>, CliError> {
    let data = DataDir::open(directory)?;
    let names = exported(directory)?;
    for name in std::iter::once("governance").chain(names.iter().map(String::as_str)) {
        let key = keys.of_ledger(name)?;
        if data.origin(name) != key.name() || data.verifier_key(name)?.to_string() != key.to_string() {
            let text = format!("{name}: the copy names another key than the one handed in, {key}");
            return Err(CliError::new(Exit::No, text));
        }
        ledger::copy::complete(&data.ledger_dir(name), &key)?;
    }
    let first = data.reader("governance")?.entry(0)?;
    if first != data.settings().entry()? {
        return Err(CliError::new(Exit::Damaged, "settings.json is not what the governance ledger begins with"));
    }
    let (_, problems) = ledger::blob::check_all(&data.blobs())?;
    if let Some(problem) = problems.first() {
        return Err(CliError::new(Exit::Damaged, problem.to_string()));
    }
    verify::whole(directory, keys.clone(), &restore.since, options)
}

/// The private keys that a service needs.
fn needed(data: &Path) -> Vec<&'static str> {
    let access = data.join(ACCESS).is_dir().then_some("access.pem");
    ["ledger.pem", "node.pem"].into_iter().chain(access).collect()
}

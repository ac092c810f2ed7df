//! `backup ledgers`: the data directory's ledgers to their targets, as of a checkpoint each, while the service writes or not.
//!
//! Governance is taken first: what its cuts name of the metrics ledgers was durable there before, so it is in their copies too.
//! Segments that are no longer written to go to the targets from where they lie, and each of them once, since an object's name is
//! its hash; the open ends and the small files are copied aside first, so that they stay as they were hashed. Private keys never
//! leave the directory, and what is made again from the ledgers is left out.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ledger::SignedCheckpoint;
use ledger::copy::{Copy, sealed_form};
use serde_json::{Value, json};

use super::backup::{open_all, runtime, tell_mended};
use crate::backup::{BackupError, Found, Manifest, Sent, Target, describe, in_order, send};
use crate::cli::args::Options;
use crate::cli::error::{CliError, Exit, Outcome, file_error};
use crate::cli::ingest::progress_bar;
use crate::cli::out::{self, Tone, tone};
use crate::cli::source::{Place, exported};
use crate::clock::Clock;
use crate::sequencer::DataDir;

/// Small files beside the ledgers.
const BESIDE: [&str; 4] = ["settings.json", "node.json", "last-use.json", "keys/rotations"];

/// Under which name the copies of a node's ledgers lie in a target.
pub(super) fn place_of(node: &str) -> String {
    format!("ledgers/{node}")
}

/// Where open ends are copied to; removed when dropped.
struct Aside(PathBuf);

impl Aside {
    fn new() -> Result<Self, CliError> {
        let directory = std::env::temp_dir().join(format!("govledger-backup-{}", std::process::id()));
        // A process that was killed may have left one, and a container gives every process the same id.
        let _ = fs::remove_dir_all(&directory);
        DirBuilder::new().mode(0o700).create(&directory).map_err(file_error(&directory))?;
        Ok(Self(directory))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is to be copied.
struct Taken {
    found: Vec<Found>,
    checkpoints: Vec<(String, SignedCheckpoint)>,
    _aside: Aside,
}

impl Taken {
    /// Takes the sealed form of each segment whose raw one has gone; whether there was one.
    fn follow_sealed(&mut self) -> bool {
        let mut is_any = false;
        for found in &mut self.found {
            let Some(sealed) = sealed_form(&found.path) else { continue };
            if !found.path.exists() && sealed.exists() {
                found.name = Path::new(&found.name).with_file_name(file_name(&sealed)).display().to_string();
                found.path = sealed;
                is_any = true;
            }
        }
        is_any
    }
}

pub(super) fn make(place: &Place, options: &Options, to: &[String]) -> Outcome {
    let data = DataDir::open(&place.data)?;
    let mut taken = take(&data)?;
    let (targets, unusable) = open_all(to)?;
    let runtime = runtime()?;
    // A segment may be sealed while it is copied. What was sent is found there the next time, and each is sealed once, so
    // this ends however fast the service writes.
    let (manifest, mut sent) = loop {
        let copied = runtime.block_on(copy(&data, &taken, &targets));
        let is_gone = match &copied {
            Ok((_, sent)) => sent.iter().any(|sent| sent.manifest_sha256.as_ref().is_err_and(is_gone)),
            Err(error) => is_gone(error),
        };
        if !is_gone || !taken.follow_sealed() {
            break copied?;
        }
    };
    sent.extend(unusable);
    report(options, &manifest, &taken.checkpoints, sent)
}

fn is_gone(error: &BackupError) -> bool {
    matches!(error, BackupError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

async fn copy(data: &DataDir, taken: &Taken, targets: &[Target]) -> Result<(Manifest, Vec<Sent>), BackupError> {
    let bar = progress_bar("copying and reading again");
    let files = describe(&taken.found, &|bytes| bar.inc(bytes)).await?;
    let root = taken.checkpoints.first().map(|(_, governance)| governance.root().to_hex()).unwrap_or_default();
    let manifest = Manifest::new(&place_of(data.node()), &root, Clock::System.now(), files);
    let sent = send(&taken.found, &manifest, targets, &|bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    Ok((manifest, sent))
}

/// Takes down what belongs to the copy, and copies aside what changes.
fn take(data: &DataDir) -> Result<Taken, CliError> {
    let aside = Aside::new()?;
    let (mut found, mut checkpoints) = (Vec::new(), Vec::new());
    take_ledger(data, "governance", &aside.0, &mut found, &mut checkpoints)?;
    // Listed only now: a ledger that a cut names was made before the cut.
    for name in exported(data.root())?.iter().filter(|name| *name != "governance") {
        take_ledger(data, name, &aside.0, &mut found, &mut checkpoints)?;
    }
    take_beside(data.root(), &aside.0, &mut found)?;
    take_blobs(&data.blobs(), &mut found)?;
    Ok(Taken { found: in_order(found)?, checkpoints, _aside: aside })
}

fn take_ledger(
    data: &DataDir,
    name: &str,
    aside: &Path,
    found: &mut Vec<Found>,
    checkpoints: &mut Vec<(String, SignedCheckpoint)>,
) -> Result<(), CliError> {
    let copy = Copy::of(&data.ledger_dir(name), &data.verifier_key(name)?)?;
    for path in copy.finished() {
        found.push(Found { name: format!("{name}/segments/{}", file_name(path)), path: path.clone() });
    }
    let into = aside.join(name);
    for relative in copy.write_open(&into)? {
        found.push(Found { name: format!("{name}/{}", relative.display()), path: into.join(relative) });
    }
    checkpoints.push((name.to_owned(), copy.checkpoint().clone()));
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Settings, names and verifier keys; no private key.
fn take_beside(root: &Path, aside: &Path, found: &mut Vec<Found>) -> Result<(), CliError> {
    let keys = root.join("keys");
    let mut names: Vec<String> = BESIDE.map(str::to_owned).to_vec();
    for entry in fs::read_dir(&keys).map_err(file_error(&keys))? {
        let path = entry.map_err(file_error(&keys))?.path();
        let is_public = path.extension().is_some_and(|extension| extension == "vkey");
        let name = path.file_name().and_then(|name| name.to_str()).filter(|_| is_public);
        names.extend(name.map(|name| format!("keys/{name}")));
    }
    fs::create_dir_all(aside.join("keys")).map_err(file_error(aside))?;
    for name in names {
        let (from, path) = (root.join(&name), aside.join(&name));
        match fs::copy(&from, &path) {
            Ok(_) => found.push(Found { name, path }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(file_error(&from)(error)),
        }
    }
    Ok(())
}

/// Large records. Each was durable before the entry that names it, and none is ever changed.
fn take_blobs(blobs: &Path, found: &mut Vec<Found>) -> Result<(), CliError> {
    if !blobs.is_dir() {
        return Ok(());
    }
    for group in fs::read_dir(blobs).map_err(file_error(blobs))? {
        let group = group.map_err(file_error(blobs))?.path();
        for entry in fs::read_dir(&group).map_err(file_error(&group))? {
            let path = entry.map_err(file_error(&group))?.path();
            let file = file_name(&path);
            // What a crash left half-written is no record.
            if ledger::Hash::from_hex(&file).is_ok() {
                let name = format!("blobs/{}/{file}", file_name(&group));
                found.push(Found { name, path });
            }
        }
    }
    Ok(())
}

fn report(
    options: &Options,
    manifest: &Manifest,
    checkpoints: &[(String, SignedCheckpoint)],
    sent: Vec<Sent>,
) -> Outcome {
    let (mut targets, mut failed): (Vec<Value>, Vec<CliError>) = (Vec::new(), Vec::new());
    let all = sent.len();
    for sent in sent {
        tell_mended(&sent);
        let Sent { url, manifest_sha256, sent, reused, mended } = sent;
        let mut target = json!({
            "target": url, "objects_sent": sent, "objects_reused": reused, "objects_mended": mended.len(),
        });
        match manifest_sha256 {
            Ok(sha256) => target["manifest_sha256"] = sha256.into(),
            Err(error) => {
                let error = CliError::from(error);
                out::note(&error.text);
                target["error"] = error.text.clone().into();
                failed.push(error);
            }
        }
        targets.push(target);
    }
    let ledgers: Vec<Value> = checkpoints.iter().map(|(name, checkpoint)| json!({ "ledger": name, "size": checkpoint.size(), "root": checkpoint.root().to_string() })).collect();
    if options.json {
        out::json(
            &json!({ "backup_id": manifest.backup_id, "ledgers": ledgers, "files": manifest.files.len(), "bytes": manifest.total_bytes(), "targets": targets }),
        );
    } else {
        print(manifest, &ledgers, &targets);
    }
    match failed.first() {
        None => Ok(Exit::Fine),
        Some(error) if failed.len() == all => Err(CliError::new(error.exit, "no target holds the copy")),
        Some(_) => Ok(Exit::No),
    }
}

fn print(manifest: &Manifest, ledgers: &[Value], targets: &[Value]) {
    for ledger in ledgers {
        let [name, size, root] = ["ledger", "size", "root"].map(|field| out::text(&ledger[field]));
        out::line(format!("{name}: {size} entries, root {root}"));
    }
    out::line(format!("{}: {} files, {} bytes", manifest.backup_id, manifest.files.len(), manifest.total_bytes()));
    for target in targets {
        let [url, sent, reused] = ["target", "objects_sent", "objects_reused"].map(|field| out::text(&target[field]));
        let held = if target["error"].is_null() {
            tone(Tone::Good, "held and read again by")
        } else {
            tone(Tone::Bad, "not held by")
        };
        out::line(format!("  {held} {url}: {sent} objects sent, {reused} were there"));
    }
}

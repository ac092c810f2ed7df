//! `backup`: artifacts to their targets and back, each step told to the ledger.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::report::{Ledger, Report};
use crate::backup::{
    BackupError, Kind, Links, Manifest, Problem, Sent, Source, Target, check, describe, restore, send, walk,
};
use crate::cli::args::{BackupCreate, BackupTask, Options};
use crate::cli::error::{CliError, Exit, Outcome, file_error};
use crate::cli::ingest::progress_bar;
use crate::cli::out::{self, Tone, tone};
use crate::cli::source::Place;
use crate::clock::Clock;
use crate::projection::answers::Asked;

/// Names of files that a report lists; the manifest has all.
const LISTED_MAX: usize = 100;

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        let exit = match &error {
            BackupError::Symlink { .. }
            | BackupError::Special { .. }
            | BackupError::Name { .. }
            | BackupError::Empty { .. }
            | BackupError::Twice { .. }
            | BackupError::Exists { .. }
            | BackupError::Target { .. } => Exit::Usage,
            BackupError::Differs { .. }
            | BackupError::Changed { .. }
            | BackupError::Missing { .. }
            | BackupError::Manifest { .. } => Exit::No,
            BackupError::Store { .. } | BackupError::Away { .. } | BackupError::UnderWay { .. } => Exit::Unreachable,
            BackupError::Io { .. } => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// Threads that read, write and hash. The allocator keeps what each of them freed, so without a bound an idle pool would hold
/// hundreds of megabytes of parts.
const BLOCKING_THREADS: usize = 4;

pub(super) fn runtime() -> Result<Runtime, CliError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(BLOCKING_THREADS).enable_all().build().map_err(CliError::failed)
}

pub(in crate::cli) fn run(place: &Place, options: &Options, task: BackupTask) -> Outcome {
    match task {
        BackupTask::Create(create) => make(&Ledger { place, options, reporting: &create.reporting }, &create),
        BackupTask::Verify { id, target, reporting } => {
            verify(&Ledger { place, options, reporting: &reporting }, &id, target.as_deref())
        }
        BackupTask::Restore { id, into, target, reporting } => {
            bring_back(&Ledger { place, options, reporting: &reporting }, &id, target.as_deref(), &into)
        }
        BackupTask::Import { file, stack, engine, reporting } => {
            import(&Ledger { place, options, reporting: &reporting }, &file, &stack, &engine)
        }
        BackupTask::Ledgers { to } => super::ledgers::make(place, options, &to),
        BackupTask::RestoreLedgers(restore) => super::restore_ledgers::run(place, options, &restore),
        BackupTask::List { stack, past } => crate::cli::ask::answer(place, options, &Asked::Backups { stack }, past),
    }
}

fn sources(create: &BackupCreate) -> Vec<Source> {
    let kinds = [
        (Kind::Plan, &create.plan),
        (Kind::TokenizerInfo, &create.tokenizer_info),
        (Kind::Tokenizer, &create.tokenizer_dir),
        (Kind::Schemas, &create.schemas),
        (Kind::Config, &create.model_config),
    ];
    let of = |kind: Kind, paths: &[PathBuf]| {
        paths.iter().map(move |path| Source { kind, path: path.clone() }).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(|(kind, paths)| of(kind, paths)).collect()
}

/// Opens the targets to fill them. One that is written wrongly is the caller's to mend; a directory that cannot be reached, such as a mount that
/// went away, is one target less and holds up no other.
pub(super) fn open_all(urls: &[String]) -> Result<(Vec<Target>, Vec<Sent>), CliError> {
    let (mut targets, mut unusable) = (Vec::new(), Vec::new());
    for url in urls {
        match Target::open_to_fill(url) {
            Ok(target) => targets.push(target),
            Err(error @ (BackupError::Io { .. } | BackupError::Away { .. })) => {
                unusable.push(Sent::unusable(url.clone(), error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((targets, unusable))
}

fn make(ledger: &Ledger<'_>, create: &BackupCreate) -> Outcome {
    let engine = match &create.engine {
        Some(engine) => engine.clone(),
        None => super::warmup::current(ledger.place, &create.stack)?,
    };
    let found = walk(&sources(create), if create.follow_symlinks { Links::Follow } else { Links::Refuse })?;
    let (targets, unusable) = open_all(&create.to)?;
    let taken = Clock::System.now();
    let bar = progress_bar("hashing");
    let total = found
        .iter()
        .filter_map(|found| std::fs::metadata(&found.path).ok())
        .map(|metadata| metadata.len())
        .sum::<u64>();
    // Hashed once; then written to and read from each target.
    bar.set_length(total * (1 + 2 * targets.len() as u64));
    let (manifest, sent) = runtime()?.block_on(async {
        let files = describe(&found, &|bytes| bar.inc(bytes)).await?;
        let manifest = Manifest::new(&create.stack, &engine, taken, files);
        bar.set_message("copying and reading again");
        let sent = send(&found, &manifest, &targets, &|bytes| bar.inc(bytes)).await;
        Ok::<_, BackupError>((manifest, sent))
    })?;
    bar.finish_and_clear();
    report_made(ledger, create, &manifest, sent.into_iter().chain(unusable).collect())
}

/// A target that loses bytes is for somebody to look at, however well the backup went.
pub(super) fn tell_mended(sent: &Sent) {
    for name in &sent.mended {
        out::note(format!("target {}: the object of {name} was damaged, and was put again", sent.url));
    }
}

fn report_made(ledger: &Ledger<'_>, create: &BackupCreate, manifest: &Manifest, sent: Vec<Sent>) -> Outcome {
    let mut held = Vec::new();
    let mut failed = Vec::new();
    let mut manifest_sha256 = None;
    for sent in sent {
        tell_mended(&sent);
        let Sent { url, manifest_sha256: outcome, .. } = sent;
        match outcome {
            Ok(sha256) => {
                manifest_sha256 = Some(sha256);
                held.push(url);
            }
            Err(error) => failed.push((url, CliError::from(error))),
        }
    }
    for (_, error) in &failed {
        out::note(&error.text);
    }
    let Some(manifest_sha256) = manifest_sha256 else {
        let exit = failed.first().map_or(Exit::Failed, |(_, error)| error.exit);
        return Err(CliError::new(exit, "no target holds the backup; nothing was recorded"));
    };
    let mut data = json!({
        "backup_id": manifest.backup_id,
        "snapshot_time": manifest.snapshot_time,
        "engine_hash": manifest.engine_hash,
        "artifacts": listed(manifest),
        "verification_hash": manifest.verification_hash,
        "manifest_sha256": manifest_sha256,
        "total_bytes": manifest.total_bytes(),
        "replication_targets": held,
    });
    if !failed.is_empty() {
        data["failed_targets"] = failed.iter().map(|(url, _)| url.clone()).collect();
    }
    let position =
        ledger.record(&Report { event_type: "llm_backup_recorded", stack: &create.stack, data: data.clone() })?;
    // Each target was read again before it was counted.
    let verified = json!({ "backup_id": manifest.backup_id, "engine_hash": manifest.engine_hash, "targets": held });
    ledger.record(&Report { event_type: "llm_backup_verified", stack: &create.stack, data: verified })?;
    if ledger.options.json {
        data["position"] = position.into();
        out::json(&data);
    } else {
        out::line(format!(
            "backup {}: {} files, {} bytes, digest {}, recorded at entry {position}",
            manifest.backup_id,
            manifest.files.len(),
            manifest.total_bytes(),
            manifest.verification_hash
        ));
        for url in &held {
            out::line(format!("  {} {url}", tone(Tone::Good, "held and read again by")));
        }
        for (url, _) in &failed {
            out::line(format!("  {} {url}", tone(Tone::Bad, "not held by")));
        }
    }
    Ok(if failed.is_empty() { Exit::Fine } else { Exit::No })
}

fn listed(manifest: &Manifest) -> Vec<String> {
    let mut names: Vec<String> = manifest.files.iter().take(LISTED_MAX).map(|file| file.name.clone()).collect();
    if manifest.files.len() > LISTED_MAX {
        names.push(format!("and {} more, in the manifest", manifest.files.len() - LISTED_MAX));
    }
    names
}

/// A backup as the ledger tells of it.
pub(super) struct Told {
    stack: String,
    pub(super) engine_hash: String,
    pub(super) verification_hash: String,
    manifest_sha256: Option<String>,
    targets: Vec<String>,
}

pub(super) fn told(ledger: &Ledger<'_>, id: &str) -> Result<Told, CliError> {
    let body = crate::cli::decide::read_to_decide(ledger.place, &Asked::Backups { stack: None })?;
    let none = Vec::new();
    let rows = body["backups"].as_array().unwrap_or(&none);
    let row = rows.iter().find(|row| row["backup"]["backup_id"] == id).ok_or_else(|| {
        CliError::new(
            Exit::No,
            format!("the ledger knows no backup {id:?}; govledger backup list shows those it knows"),
        )
    })?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let lacks = |what: &str| {
        CliError::new(Exit::No, format!("the report of {id} names no {what}, so there is nothing to compare with"))
    };
    let targets = row["backup"]["replication_targets"].as_array().unwrap_or(&none).iter().filter_map(text).collect();
    Ok(Told {
        stack: text(&row["stack"]).ok_or_else(|| lacks("stack"))?,
        engine_hash: text(&row["engine_hash"]).ok_or_else(|| lacks("engine"))?,
        verification_hash: text(&row["backup"]["verification_hash"]).ok_or_else(|| lacks("digest"))?,
        manifest_sha256: text(&row["backup"]["manifest_sha256"]),
        targets,
    })
}

/// A target as it was recorded, and whether it can be used.
pub(super) type Opened = (String, Result<Target, BackupError>);

impl Told {
    /// The targets that are said to hold it. One that cannot be opened stands for itself: the others may be whole.
    pub(super) fn targets(&self, only: Option<&str>) -> Result<Vec<Opened>, CliError> {
        let urls = only.map_or_else(|| self.targets.clone(), |url| vec![url.to_owned()]);
        if urls.is_empty() {
            return Err(CliError::new(Exit::No, "the report names no target that holds it; name one with --target"));
        }
        Ok(urls
            .into_iter()
            .map(|url| {
                let opened = Target::open(&url);
                (url, opened)
            })
            .collect())
    }

    pub(super) async fn manifest(&self, id: &str, target: &Target) -> Result<Manifest, BackupError> {
        target.manifest(&self.stack, id, self.manifest_sha256.as_deref(), &self.verification_hash).await
    }
}

fn verify(ledger: &Ledger<'_>, id: &str, only: Option<&str>) -> Outcome {
    let runtime = runtime()?;
    let told = told(ledger, id)?;
    let bar = progress_bar("reading");
    let mut failed = false;
    let mut all = Vec::new();
    for (url, target) in told.targets(only)? {
        let problems = runtime.block_on(async {
            let manifest = match &target {
                Ok(target) => told.manifest(id, target).await.map(|manifest| (target, manifest)),
                Err(error) => {
                    return vec![Problem { name: "the target".to_owned(), problem: error.to_string() }];
                }
            };
            match manifest {
                Ok((target, manifest)) => {
                    bar.inc_length(manifest.total_bytes());
                    check(&manifest, target, &|bytes| bar.inc(bytes)).await
                }
                Err(error) => vec![Problem { name: "the manifest".to_owned(), problem: error.to_string() }],
            }
        });
        failed |= !problems.is_empty();
        all.push(json!({ "target": target.map_or(url, |target| target.url().to_owned()), "ok": problems.is_empty(), "problems": problems }));
    }
    bar.finish_and_clear();
    let event_type = if failed { "llm_backup_failed" } else { "llm_backup_verified" };
    let mut shown = all.clone();
    // A backup of thousands of files, all gone, still fits an entry.
    for target in &mut all {
        if let Some(problems) = target["problems"].as_array_mut() {
            problems.truncate(LISTED_MAX);
        }
    }
    let data = json!({ "backup_id": id, "engine_hash": told.engine_hash, "targets": all });
    let position = ledger.record(&Report { event_type, stack: &told.stack, data })?;
    tell_verified(ledger.options.json, id, &mut shown, position);
    Ok(if failed { Exit::No } else { Exit::Fine })
}

fn tell_verified(as_json: bool, id: &str, targets: &mut [Value], position: u64) {
    if as_json {
        out::json(&json!({ "backup_id": id, "targets": targets, "position": position }));
        return;
    }
    for target in targets {
        let ok = target["ok"] == true;
        let word = if ok { tone(Tone::Good, "every hash holds") } else { tone(Tone::Bad, "damaged") };
        out::line(format!("{id} at {}: {word}", out::text(&target["target"])));
        for problem in target["problems"].as_array().into_iter().flatten() {
            out::line(format!("  {} {}", out::text(&problem["name"]), out::text(&problem["problem"])));
        }
    }
    out::line(format!("recorded at entry {position}"));
}

/// From the first target that has all of it.
fn bring_back(ledger: &Ledger<'_>, id: &str, only: Option<&str>, into: &Path) -> Outcome {
    let runtime = runtime()?;
    let told = told(ledger, id)?;
    let mut last = None;
    for (_, target) in told.targets(only)? {
        match target.and_then(|target| Ok((fetch(&runtime, &told, id, &target, into)?, target))) {
            Ok((manifest, target)) => {
                let data = json!({ "backup_id": id, "engine_hash": told.engine_hash, "target": target.url() });
                let position =
                    ledger.record(&Report { event_type: "llm_backup_restored", stack: &told.stack, data })?;
                out::line(format!(
                    "{id} restored from {} into {}: {} files, every hash holds, recorded at entry {position}",
                    target.url(),
                    into.display(),
                    manifest.files.len()
                ));
                return Ok(Exit::Fine);
            }
            Err(error @ (BackupError::Exists { .. } | BackupError::UnderWay { .. })) => return Err(error.into()),
            Err(error) => {
                out::note(error.to_string());
                last = Some(error);
            }
        }
    }
    let exit = last.map_or(Exit::No, |error| CliError::from(error).exit);
    Err(CliError::new(exit, format!("no target could give {id} back whole; nothing was put at {}", into.display())))
}

pub(super) fn fetch(
    runtime: &Runtime,
    told: &Told,
    id: &str,
    target: &Target,
    into: &Path,
) -> Result<Manifest, BackupError> {
    let bar = progress_bar("restoring");
    let restored = runtime.block_on(async {
        let manifest = told.manifest(id, target).await?;
        bar.set_length(manifest.total_bytes());
        restore(&manifest, target, into, &|bytes| bar.inc(bytes)).await?;
        Ok(manifest)
    });
    bar.finish_and_clear();
    restored
}

/// The stack's own manifests say neither stack nor engine, and are indented.
fn import(ledger: &Ledger<'_>, file: &Path, stack: &str, engine: &str) -> Outcome {
    let manifest = std::fs::read(file).map_err(file_error(file))?;
    let data = crate::domain::backup_import::payload(&manifest, engine)
        .map_err(|error| CliError::usage(format!("{}: {error}", file.display())))?;
    let id = out::text(&data["backup_id"]);
    let position = ledger.record(&Report { event_type: "llm_backup_recorded", stack, data })?;
    out::line(format!("backup {id} of {stack} recorded at entry {position}"));
    Ok(Exit::Fine)
}

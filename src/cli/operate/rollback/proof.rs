//! What is on the host and what the server holds: files hashed again, and the proof that a reload was one.
//!
//! A reload command that returns 0 proves nothing: servers keep the engine they have when a new one does not load. So the proof
//! asks the server, or looks at its process. Without one configured the outcome is called unproven.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::supervise;
use crate::backup::{File, Found, Manifest, describe};
use crate::cli::args::RollbackRun;
use crate::cli::error::CliError;
use crate::cli::node::runtime;
use crate::clock::monotonic;

/// How often the proof is looked for.
const EVERY: Duration = Duration::from_millis(500);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(30);

/// The first file under `directory` that is not as the manifest says.
pub(super) fn differing(manifest: &Manifest, directory: &Path) -> Result<Option<String>, CliError> {
    let found: Vec<Found> =
        manifest.files.iter().map(|file| Found { name: file.name.clone(), path: directory.join(&file.name) }).collect();
    if let Some(missing) = found.iter().find(|found| !found.path.is_file()) {
        return Ok(Some(format!("{} is missing", missing.path.display())));
    }
    let hashed: Vec<File> = runtime()?.block_on(describe(&found, &|_bytes| {}))?;
    let pairs = manifest.files.iter().zip(&hashed);
    let differing = pairs.into_iter().find(|(expected, there)| expected.sha256 != there.sha256);
    Ok(differing.map(|(expected, there)| {
        format!("{} hashes to {}, not to {}", directory.join(&there.name).display(), there.sha256, expected.sha256)
    }))
}

/// The files of one folder of the backup with their hashes.
pub(super) fn hashes<'a>(manifest: &'a Manifest, folder: &str) -> BTreeMap<&'a str, &'a str> {
    let of = |file: &&File| file.name.split('/').next() == Some(folder);
    manifest.files.iter().filter(of).map(|file| (file.name.as_str(), file.sha256.as_str())).collect()
}

/// What a proof says.
pub(super) enum Seen {
    /// The server holds the plan; by what that is known.
    Proven(&'static str),
    /// No proof is configured.
    Unproven,
    /// It does not, or nobody knows.
    Not(String),
}

/// Looks once, or until the proof holds or its time is over.
pub(super) fn served(
    run: &RollbackRun,
    manifest: &Manifest,
    deployed: &Path,
    once: bool,
    stop: &AtomicBool,
) -> Result<Seen, CliError> {
    let began = monotonic();
    loop {
        let seen = match (&run.served_check, &run.served_process) {
            (Some(check), _) => by_command(check, manifest, stop)?,
            (None, Some(pid_file)) => by_process(pid_file, manifest, deployed),
            (None, None) => return Ok(Seen::Unproven),
        };
        let over = once || began.elapsed() + EVERY > run.served_within.0;
        if over || !matches!(seen, Seen::Not(_)) || stop.load(std::sync::atomic::Ordering::SeqCst) {
            return Ok(seen);
        }
        std::thread::sleep(EVERY);
    }
}

fn by_command(check: &str, manifest: &Manifest, stop: &AtomicBool) -> Result<Seen, CliError> {
    let ran = supervise::run(Command::new("sh").args(["-c", check]), LOOK, stop)?;
    if !ran.succeeded() {
        return Ok(Seen::Not(format!("the served check: {}", ran.ending)));
    }
    let lacking = hashes(manifest, "plan").into_iter().find(|(_, sha256)| !ran.output_tail.contains(sha256));
    Ok(match lacking {
        None => Seen::Proven("check"),
        Some((name, sha256)) => {
            let said: String = ran.output_tail.trim().chars().take(200).collect();
            Seen::Not(format!("the server does not hold {name} ({sha256}); the served check says {said:?}"))
        }
    })
}

/// A file that was replaced under its name is another file: compared are device and inode, of what the process holds.
fn by_process(pid_file: &Path, manifest: &Manifest, deployed: &Path) -> Seen {
    let Some(pid) = fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok()) else {
        return Seen::Not(format!("{} holds no process id", pid_file.display()));
    };
    for name in hashes(manifest, "plan").keys() {
        let path = deployed.join(name);
        if !holds(pid, &path) {
            return Seen::Not(format!("process {pid} has {} neither mapped nor open", path.display()));
        }
    }
    Seen::Proven("process")
}

fn holds(pid: u32, path: &Path) -> bool {
    let Ok(wanted) = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())) else { return false };
    let is_wanted = |path: &Path| fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == wanted);
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    if open.map(|entry| entry.path()).any(|path| is_wanted(&path)) {
        return true;
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    // ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH
    maps.lines().any(|line| {
        let mut fields = line.splitn(6, char::is_whitespace).skip(4);
        let inode = fields.next().and_then(|inode| inode.parse::<u64>().ok());
        let mapped = fields.next().map(str::trim).unwrap_or_default();
        inode == Some(wanted.1) && is_wanted(Path::new(mapped))
    })
}

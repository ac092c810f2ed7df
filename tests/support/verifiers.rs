//! The verifiers that others wrote, over a static export in the tlog-tiles layout.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::guarded::Guarded;
use super::parts::GoParts;
use super::process::{Finished, finish};
use super::scratch::Scratch;

/// A checker that has met a bad tile may wait for ever for its own workers; a good export of a test takes seconds.
const FSCK_LIMIT: Duration = Duration::from_mins(1);

/// Tessera's fsck: every tile and bundle against the signed root. `origin` is the checkpoint's first line. Its own exit
/// status is 0 whatever it finds, so the code is made from what it says: 0 where it says that all is well, else 1.
pub(crate) fn fsck(parts: &GoParts, export: &Path, vkey: &Path, origin: &str) -> Finished {
    let scratch = Scratch::new("fsck");
    let mut command = Command::new(&parts.fsck);
    command.arg(format!("--storage_url=file://{}/", export.display()));
    command.arg(format!("--public_key={}", vkey.display()));
    command.arg("--origin").arg(origin).args(["--ui=false", "-N", "4"]);
    let mut process = Guarded::start(&command, &scratch.join("log"));
    let ended = process.wait(FSCK_LIMIT);
    let stderr = process.log();
    let well = ended == Some(0) && stderr.contains("Successfully fsck'd log with size");
    Finished { code: i32::from(!well), stdout: String::new(), stderr }
}

/// The walk with Go's checksum-database packages: signature, every hash, every entry.
pub(crate) fn walker(parts: &GoParts, export: &Path, vkey: &Path) -> Finished {
    finish(Command::new(&parts.walker).arg("-vkey").arg(vkey).arg(export))
}

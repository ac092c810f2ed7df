//! The disk under a data directory: whether it keeps what it says it keeps, and how long that takes.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::clock::monotonic;
use crate::ingest::kafka::doctor::{Finding, Level};

/// Writes that are timed.
const SYNCS: usize = 40;
/// A batch of a ledger is larger, and takes about as long.
const BLOCK: [u8; 4_096] = [0x5a; 4_096];
/// Every batch waits for one: slower than this, and each caller notices.
const SLOW: Duration = Duration::from_millis(20);
const FREE_BYTES_MIN: u64 = 10 << 30;
/// File systems that keep nothing over a restart of the machine, by their magic number.
const IN_MEMORY: [(u32, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const NFS: u32 = 0x6969;

/// Looks at the disk under `data`, or under the nearest directory above it that is there.
pub(super) fn look(data: &Path) -> Vec<Finding> {
    let absolute = std::path::absolute(data).unwrap_or_else(|_error| data.to_owned());
    let Some(directory) = absolute.ancestors().find(|directory| directory.is_dir()) else { return Vec::new() };
    let mut findings = vec![file_system(directory)];
    findings.extend(space(directory));
    findings.push(match syncs(directory) {
        Ok(took) => speed(directory, &took),
        Err(error) => Finding::bad(
            "fdatasync",
            Level::Error,
            format!("{} cannot be written to: {error}", directory.display()),
            "let the service's user write there, or name another directory with --data",
        ),
    });
    findings
}

fn file_system(directory: &Path) -> Finding {
    let at = directory.display();
    // The field's width differs between systems; the magic numbers have 32 bits.
    let magic =
        rustix::fs::statfs(directory).map(|found| u32::try_from(found.f_type & 0xffff_ffff).unwrap_or_default());
    match magic {
        Ok(magic) => match IN_MEMORY.iter().find(|(number, _)| *number == magic) {
            Some((_, name)) => Finding::bad(
                "file_system",
                Level::Error,
                format!("{at} lies on {name}: the ledger would be gone with the machine's next start"),
                "put the data directory on a disk",
            ),
            None if magic == NFS => Finding::bad(
                "file_system",
                Level::Warning,
                format!("{at} lies on NFS: whether a sync reaches the server's disk is the server's to say"),
                "put the data directory on a local disk, and back up to the other",
            ),
            None => Finding::fine("file_system", format!("{at} lies on a disk")),
        },
        Err(error) => {
            Finding { check: "file_system", level: Level::Unknown, what: format!("{at}: {error}"), fix: None }
        }
    }
}

fn space(directory: &Path) -> Option<Finding> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let what = format!("{} GiB are free under {}", free >> 30, directory.display());
    Some(if free < FREE_BYTES_MIN {
        Finding::bad(
            "free_space",
            Level::Warning,
            what,
            "a million provider logs take about 0.2 GiB once sealed; make room",
        )
    } else {
        Finding::fine("free_space", what)
    })
}

fn syncs(directory: &Path) -> std::io::Result<Vec<Duration>> {
    let path = directory.join(format!(".govledger-doctor-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    // Nothing of it is left, whatever happens to this process.
    std::fs::remove_file(&path)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = monotonic();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    took.sort();
    Ok(took)
}

fn speed(directory: &Path, took: &[Duration]) -> Finding {
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    let (median, slowest) = (at(50), took.last().copied().unwrap_or_default());
    let what = format!(
        "{}: fdatasync of 4 KiB takes {:.2} ms (median of {SYNCS}), {:.2} ms at the most",
        directory.display(),
        median.as_secs_f64() * 1_000.0,
        slowest.as_secs_f64() * 1_000.0
    );
    if median > SLOW {
        Finding::bad(
            "fdatasync",
            Level::Warning,
            what,
            "use a disk with power-loss protection: every batch waits for one",
        )
    } else {
        Finding::fine("fdatasync", what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_slow_by_its_median() {
        let slow = |milliseconds: [u64; 5]| {
            speed(Path::new("d"), &milliseconds.map(Duration::from_millis)).level == Level::Warning
        };
        // One sync that hung behind somebody else's write is no slow disk.
        assert!(!slow([1, 1, 2, 3, 900]));
        assert!(!slow([1, 2, 20, 20, 20]));
        assert!(slow([1, 2, 21, 21, 21]));
    }
}

//! What `doctor` says of the disk under a data directory: one that forgets, and one that cannot be written to.

use std::path::Path;

use super::finding;
use crate::support::process::govledger;

/// What is left there by a directory's name.
fn left_behind(directory: &str) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains("govledger")).count()
}

#[test]
fn a_data_directory_in_memory_is_an_error() {
    let memory = Path::new("/dev/shm");
    assert!(memory.is_dir(), "a Linux system keeps a file system in memory there");
    let before = left_behind("/dev/shm");
    let data = format!("/dev/shm/not-there-yet-{}/data", std::process::id());
    let said = govledger(&["--data", &data, "--json", "doctor"]).expect(1).json();
    let found = finding(&said, "file_system", "/dev/shm lies on tmpfs");
    assert_eq!((&found["level"], &found["fix"]), (&"error".into(), &"put the data directory on a disk".into()));
    // Syncs to memory are fast, which says nothing for it.
    assert_eq!(finding(&said, "fdatasync", "fdatasync of 4 KiB")["level"], "ok");
    assert_eq!(said["ok"], false);
    assert_eq!(left_behind("/dev/shm"), before, "nothing is left there");
}

#[test]
fn a_data_directory_that_cannot_be_written_to_is_an_error() {
    // Not even the superuser makes a file there.
    let said = govledger(&["--data", "/proc/data", "--json", "doctor"]).expect(1).json();
    let found = finding(&said, "fdatasync", "/proc cannot be written to");
    assert_eq!(found["level"], "error");
    assert!(found["fix"].as_str().unwrap().contains("--data"), "{found}");
}

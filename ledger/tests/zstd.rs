//! What is sealed is plain zstd: any decompressor makes the raw segment of it.
//!
//! Alone in its process, for it starts another: between fork and exec that one holds every lock that this one held, and a ledger
//! that another test has just dropped would be found locked.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{ledger_of, options};

/// The files of a ledger's segments that are of this form.
fn segments(dir: &Path, form: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join("segments")).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<PathBuf> = found.filter(|path| path.extension().is_some_and(|kind| kind == form)).collect();
    found.sort();
    found
}

#[test]
fn any_zstd_decompressor_makes_the_raw_segment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = ledger_of(&path, 900, options());
    let raw: BTreeMap<PathBuf, Vec<u8>> =
        segments(&path, "segment").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let last = raw.keys().next_back().unwrap().clone();
    let sealer = ledger.sealer();
    let mut first = 0;
    while let Some(report) = sealer.seal_next().unwrap() {
        assert_eq!(report.first, first);
        first += report.entries;
        let file = path.join(format!("segments/{:020}.sealed", report.first));
        let wanted = &raw[&file.with_extension("segment")];
        assert_eq!(report.raw_bytes, wanted.len() as u64);
        assert_eq!(report.sealed_bytes, fs::metadata(&file).unwrap().len());
        assert_eq!(&zstd::stream::decode_all(&fs::read(&file).unwrap()[..]).unwrap(), wanted);
        match Command::new("zstd").args(["-d", "-q", "-c"]).arg(&file).stdin(Stdio::null()).output() {
            Ok(output) => assert!(output.status.success() && output.stdout == *wanted, "{output:?}"),
            Err(error) => eprintln!("the tool zstd is not there ({error}): the crate's own decoder did it alone"),
        }
    }
    assert_eq!(segments(&path, "segment"), [last]);
    assert_eq!(segments(&path, "sealed").len(), raw.len() - 1);
    assert_eq!(segments(&path, "sealing"), [] as [PathBuf; 0]);
}

//! Arrows run one way: a floor uses only the floors before it. And the `ledger` crate stays as small as it is.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each floor, what it may use beside itself.
const FLOORS: [(&str, &[&str]); 12] = [
    ("clock", &["domain"]),
    ("domain", &[]),
    ("projection", &["domain"]),
    ("sequencer", &["clock", "domain", "projection"]),
    ("ingest", &["clock", "domain", "projection", "sequencer"]),
    ("api", &["clock", "domain", "projection", "sequencer", "ingest", "identity", "notify", "web"]),
    ("identity", &["clock", "domain", "sequencer"]),
    ("web", &["api", "domain", "projection", "sequencer"]),
    ("config", &["clock", "domain", "projection", "sequencer", "ingest", "identity", "notify", "api"]),
    ("backup", &["domain"]),
    (
        "cli",
        &[
            "backup",
            "clock",
            "config",
            "domain",
            "projection",
            "sequencer",
            "ingest",
            "identity",
            "notify",
            "api",
            "web",
        ],
    ),
    ("notify", &["clock", "domain", "projection", "sequencer"]),
];

/// All that `ledger` may depend on.
const LEDGER_DEPENDENCIES: [&str; 6] = ["base64", "crc32c", "ed25519-dalek", "sha2", "thiserror", "zstd"];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

#[test]
fn floors_use_only_those_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let floor = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&floor.as_str()) {
            continue;
        }
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == floor) else {
            wrong.push(format!("{}: {floor} is on no floor", relative.display()));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
                    .collect();
                let is_floor = FLOORS.iter().any(|(name, _)| *name == used);
                if is_floor && used != floor && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}:{}: {floor} uses {used}", relative.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_ledger_crate_stays_small() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ledger/Cargo.toml")).unwrap();
    let table: toml::Table = manifest.parse().unwrap();
    let found: BTreeSet<&str> = table["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, LEDGER_DEPENDENCIES.into_iter().collect());
}

/// Only `domain` and `projection` decide: neither reads a clock, the environment, or a hash map's order.
#[test]
fn deciding_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for floor in ["domain", "domain.rs", "projection", "projection.rs"] {
        sources(&src.join(floor), &mut files);
    }
    assert!(files.len() > 20, "the floors moved: {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for forbidden in
            ["HashMap", "HashSet", "SystemTime", "Instant::now", "env::var", "std::fs", "std::net", "tokio::"]
        {
            assert!(!text.contains(forbidden), "{} names {forbidden}", file.display());
        }
    }
}

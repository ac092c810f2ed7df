//! Backups made, read again and restored: against a directory and against a real S3-compatible server; with objects changed
//! and missing, a target down, and the process killed half-way.

#![cfg(test)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::guarded::Guarded;
use support::parts;
use support::process::{Finished, binary, finish, govledger};
use support::s3::S3;
use support::scratch::Scratch;
use support::wait::wait_for;

const STACK: &str = "engine-qwen3";
const LIMIT: Duration = Duration::from_secs(20);

/// A ledger, and artifacts of a stack.
#[derive(Debug)]
struct Host {
    scratch: Scratch,
    environment: Vec<(String, String)>,
}

/// Bytes that no other file has, and that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend(state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

impl Host {
    fn new(name: &str, environment: Vec<(String, String)>) -> Self {
        let scratch = Scratch::new(name);
        // Two ranks, one larger than a chunk and no multiple of it.
        scratch.write("plan/rank0.engine", noise(1, 20_000_003));
        scratch.write("plan/rank1.engine", noise(2, 8 << 20));
        scratch.write("tokenizer/tokenizer.json", r#"{"version":"1.0"}"#);
        scratch.write("tokenizer/vocab/a.txt", "a");
        scratch.write("tokenizer/vocab-b.txt", "b");
        scratch.write("tokenizer/.gitattributes", "");
        scratch.write("info.json", "{}");
        scratch.write("schemas/mapping.json", r#"{"type":"object"}"#);
        scratch.write("config.pbtxt", "max_batch_size: 64\n");
        let host = Self { scratch, environment };
        govledger(&["--data", &host.at("data"), "init", "--node", "test", "--token-out", &host.at("token")]).expect(0);
        let event = format!(
            r#"{{"event_type":"llm_engine_published","artifact":{{"artifact_id":"{STACK}","version":"1.4.0","hash":"5bd3c6e1a0f2"}},"actor":"ci","payload":{{}},"timestamp":"2026-10-01T08:30:00.123456+00:00"}}"#
        );
        host.scratch.write("publish.ndjson", event + "\n");
        host.run(&["ingest", &host.at("publish.ndjson")]).expect(0);
        host
    }

    fn at(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--data").arg(self.scratch.join("data")).args(arguments);
        command.envs(self.environment.clone()).current_dir(self.scratch.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments))
    }

    fn create(&self, targets: &[&str]) -> Command {
        let artifacts = "backup create engine-qwen3 --plan plan --tokenizer-info info.json --tokenizer-dir tokenizer --schemas schemas --model-config config.pbtxt --json";
        let mut command = self.command(&artifacts.split(' ').collect::<Vec<_>>());
        for target in targets {
            command.args(["--to", target]);
        }
        command
    }

    /// Backs up to all targets; what was recorded.
    fn backed_up(&self, targets: &[&str]) -> Value {
        finish(&mut self.create(targets)).expect(0).json()
    }

    fn listed(&self) -> Value {
        self.run(&["backup", "list", "--json"]).expect(0).json()["backups"].clone()
    }

    /// Where the object of a file lies under a target's directory.
    fn object(&self, target: &Path, file: &str) -> PathBuf {
        let content = fs::read(self.scratch.join(file)).unwrap();
        let sha256 = ledger::Hash::of(&content).to_hex();
        target.join("objects/sha256").join(&sha256[..2]).join(sha256)
    }
}

/// Every file of one tree is in the other, byte for byte.
fn assert_same_tree(one: &Path, other: &Path) {
    let mut names: Vec<_> = fs::read_dir(one).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let mut others: Vec<_> = fs::read_dir(other).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    others.sort();
    assert_eq!(names, others, "{} and {}", one.display(), other.display());
    for name in names {
        let (one, other) = (one.join(&name), other.join(&name));
        if one.is_dir() {
            assert_same_tree(&one, &other);
        } else {
            assert!(fs::read(&one).unwrap() == fs::read(&other).unwrap(), "{}", one.display());
        }
    }
}

/// Made, listed, verified, restored, over this target, whose objects lie in `directory`.
fn comes_back_whole(host: &Host, url: &str, directory: &Path) {
    let made = host.backed_up(&[url]);
    let id = made["backup_id"].as_str().unwrap();
    let listed = host.listed();
    assert_eq!((&listed[0]["verified"], &listed[0]["restored"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(listed[0]["engine_hash"], "5bd3c6e1a0f2");

    host.run(&["backup", "restore", id, "--into", &host.at("restored")]).expect(0);
    assert_same_tree(&host.scratch.join("plan"), &host.scratch.join("restored/plan"));
    assert_same_tree(&host.scratch.join("tokenizer"), &host.scratch.join("restored/tokenizer"));
    assert!(host.listed()[0]["restored"].is_array());
    let again = host.run(&["backup", "restore", id, "--into", &host.at("restored")]).expect(2);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);

    // One byte of one object.
    let object = host.object(directory, "plan/rank0.engine");
    let mut content = fs::read(&object).unwrap();
    content[12_345_678] ^= 1;
    fs::write(&object, &content).unwrap();
    let damaged = host.run(&["backup", "verify", id]).expect(1);
    assert!(damaged.stdout.contains("plan/rank0.engine hashes to"), "{}", damaged.stdout);
    assert_eq!(host.listed()[0]["verified"], false);
    let refused = host.run(&["backup", "restore", id, "--into", &host.at("no")]).expect(1);
    assert!(refused.stderr.contains("plan/rank0.engine hashes to"), "{}", refused.stderr);
    assert!(!host.scratch.join("no").exists());
    // One that is missing.
    content[12_345_678] ^= 1;
    fs::write(&object, &content).unwrap();
    fs::remove_file(host.object(directory, "config.pbtxt")).unwrap();
    let missing = host.run(&["backup", "verify", id]).expect(1);
    assert!(missing.stdout.contains("config/config.pbtxt is missing"), "{}", missing.stdout);
    // The next backup finds what is there and sends what is not; then the old one is whole again too.
    host.backed_up(&[url]);
    host.run(&["backup", "verify", id]).expect(0);
    // A manifest that lists other files.
    let manifest = directory.join("manifests").join(STACK).join(format!("{id}.json"));
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("rank0", "rank9")).unwrap();
    let changed = host.run(&["backup", "verify", id]).expect(1);
    assert!(changed.stdout.contains("the ledger says"), "{}", changed.stdout);
}

#[test]
fn a_directory_gives_back_what_it_was_given() {
    let host = Host::new("backup-directory", Vec::new());
    let directory = host.scratch.join("target");
    comes_back_whole(&host, directory.to_str().unwrap(), &directory);
}

#[test]
fn an_s3_server_gives_back_what_it_was_given() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("backup-s3-server");
    let s3 = S3::start(versitygw, &scratch);
    let host = Host::new("backup-s3", s3.environment());
    comes_back_whole(&host, "s3://backups/qwen3", &s3.root.join("backups/qwen3"));
}

#[test]
fn a_target_that_is_down_is_named_and_holds_up_no_other() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("backup-down-server");
    let mut s3 = S3::start(versitygw, &scratch);
    let host = Host::new("backup-down", s3.environment());
    s3.process.kill9();
    let directory = host.at("target");
    let partly = finish(&mut host.create(&[&directory, "s3://backups/qwen3"])).expect(1);
    assert!(partly.stderr.contains("s3://backups/qwen3"), "{}", partly.stderr);
    let made = partly.json();
    assert_eq!(made["replication_targets"], serde_json::json!([format!("file://{directory}")]));
    assert_eq!(made["failed_targets"], serde_json::json!(["s3://backups/qwen3"]));
    assert_eq!(host.listed()[0]["backup"]["replication_targets"], made["replication_targets"]);
    // No target at all: nothing is recorded.
    finish(&mut host.create(&["s3://backups/qwen3"])).expect(6);
    assert_eq!(host.listed().as_array().unwrap().len(), 1);
    s3.start_again();
    host.backed_up(&[&directory, "s3://backups/qwen3"]);
}

/// Killed while it copies, then while it restores, over this target, whose objects lie in `directory`.
fn survives_kills(host: &Host, url: &str, directory: &Path) {
    for number in 0..12 {
        host.scratch.write(format!("plan/rank{number}.engine"), noise(100 + number, 16 << 20));
    }
    let mut killed = Guarded::start(&host.create(&[url]), &host.scratch.join("create.log"));
    let objects =
        || walk(&directory.join("objects")).into_iter().filter(|path| !path.to_string_lossy().contains('#')).count();
    wait_for("some objects", LIMIT, || (objects() >= 3).then_some(()));
    killed.kill9();
    assert!(objects() < 12, "the kill came too late to mean anything");
    assert!(!directory.join("manifests").exists());
    assert_eq!(host.listed(), serde_json::json!([]));

    let made = host.backed_up(&[url]);
    let id = made["backup_id"].as_str().unwrap();
    host.run(&["backup", "verify", id]).expect(0);

    // The same for a restore.
    let into = host.scratch.join("restored");
    let arguments = ["backup", "restore", id, "--into", into.to_str().unwrap()];
    let mut killed = Guarded::start(&host.command(&arguments), &host.scratch.join("restore.log"));
    let partial = host.scratch.join(".restored.partial");
    wait_for("a part of the restore", LIMIT, || (walk(&partial).len() >= 3).then_some(()));
    killed.kill9();
    assert!(!into.exists());
    host.run(&arguments).expect(0);
    assert_same_tree(&host.scratch.join("plan"), &into.join("plan"));
    assert!(!partial.exists());
}

#[test]
fn a_kill_half_way_leaves_nothing_that_counts_and_is_gone_on_from() {
    let host = Host::new("backup-kill", Vec::new());
    let directory = host.scratch.join("target");
    survives_kills(&host, directory.to_str().unwrap(), &directory);
}

#[test]
fn a_kill_half_way_to_an_s3_server_is_gone_on_from() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("backup-kill-server");
    let s3 = S3::start(versitygw, &scratch);
    let host = Host::new("backup-kill-s3", s3.environment());
    survives_kills(&host, "s3://backups/qwen3", &s3.root.join("backups/qwen3"));
}

#[test]
fn a_directory_that_cannot_be_is_named_and_holds_up_no_other() {
    let host = Host::new("backup-no-directory", Vec::new());
    // What a mount that went away may leave: something that is no directory.
    let (directory, gone) = (host.at("target"), format!("{}/target", host.at("config.pbtxt")));
    let partly = finish(&mut host.create(&[&gone, &directory])).expect(1);
    assert!(partly.stderr.contains("config.pbtxt"), "{}", partly.stderr);
    let made = partly.json();
    assert_eq!(made["replication_targets"], serde_json::json!([format!("file://{directory}")]));
    let id = made["backup_id"].as_str().unwrap();
    host.run(&["backup", "verify", id]).expect(0);
    // The one that was lost later: named, and the other still gives it back.
    host.backed_up(&[&host.at("second"), &directory]);
    let id = host.listed().as_array().unwrap().last().unwrap()["backup"]["backup_id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(host.scratch.join("second")).unwrap();
    host.scratch.write("second", "no directory");
    let verified = host.run(&["backup", "verify", &id]).expect(1);
    assert!(
        verified.stdout.contains("the target") && verified.stdout.contains("every hash holds"),
        "{}",
        verified.stdout
    );
    host.run(&["backup", "restore", &id, "--into", &host.at("restored")]).expect(0);
    assert_same_tree(&host.scratch.join("plan"), &host.scratch.join("restored/plan"));
}

/// Every file under a directory that may not be there yet.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn the_digest_is_that_of_model_signing() {
    let Some(python) = parts::modelsigning() else { return };
    let host = Host::new("backup-digest", Vec::new());
    let made = host.backed_up(&[&host.at("target")]);
    let id = made["backup_id"].as_str().unwrap();
    host.run(&["backup", "restore", id, "--into", &host.at("restored")]).expect(0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/set_digest.py");
    let theirs = finish(Command::new(python).arg(script).arg(host.scratch.join("restored"))).expect(0);
    assert_eq!(Some(theirs.stdout.trim()), made["verification_hash"].as_str());
}

#[test]
fn a_manifest_of_the_stack_is_imported_as_it_is() {
    let host = Host::new("backup-import", Vec::new());
    let manifest = serde_json::json!({
        "backup_id": "qwen3-2026-10-01", "snapshot_time": "2026-10-01T02:00:00.000001+00:00",
        "artifacts": ["rank0.engine"], "verification_hash": "aa", "replication_targets": ["s3://elsewhere"],
        "llm_artifacts": [{"kind": "plan"}],
    });
    let file = host.scratch.write("backup.json", format!("{manifest:#}"));
    host.run(&["backup", "import", file.to_str().unwrap(), "--stack", STACK, "--engine", "5bd3c6e1a0f2"]).expect(0);
    let listed = host.listed();
    assert_eq!(listed[0]["backup"]["backup_id"], "qwen3-2026-10-01");
    assert_eq!((&listed[0]["stack"], &listed[0]["verified"]), (&STACK.into(), &Value::Null));
    let bad = host.scratch.write("bad.json", "{}");
    let refused = host.run(&["backup", "import", bad.to_str().unwrap(), "--stack", STACK, "--engine", "e"]).expect(2);
    assert!(refused.stderr.contains("`backup_id` is missing"), "{}", refused.stderr);
    host.run(&["backup", "verify", "unheard-of"]).expect(1);
}

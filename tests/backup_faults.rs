//! What a backup must not do when something around it is wrong: another backup's files where it restores, a disk that is not
//! mounted, an object that decayed in its target.

#![cfg(test)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use govledger::backup::{Found, Manifest, Target, describe, send};
use support::guarded::Guarded;
use support::parts;
use support::process::{Finished, binary, finish};
use support::s3::S3;
use support::scratch::Scratch;
use support::wait::wait_for;

const STACK: &str = "engine-qwen3";
const LIMIT: Duration = Duration::from_secs(20);

/// A ledger, and a directory of artifacts.
#[derive(Debug)]
struct Host {
    scratch: Scratch,
    environment: Vec<(String, String)>,
}

impl Host {
    fn new(name: &str) -> Self {
        Self::with(name, Vec::new())
    }

    fn with(name: &str, environment: Vec<(String, String)>) -> Self {
        let host = Self { scratch: Scratch::new(name), environment };
        host.run(&["init", "--node", "test", "--token-out", "token"]).expect(0);
        host
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["--data", "data"]).args(arguments).current_dir(self.scratch.path());
        command.envs(self.environment.clone());
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments))
    }

    /// Backs up what lies in `plan` to these targets.
    fn create(&self, targets: &[&str]) -> Finished {
        let to = targets.iter().flat_map(|target| ["--to", target]);
        let fixed = ["backup", "create", STACK, "--engine", "5bd3c6e1a0f2", "--plan", "plan", "--json"];
        self.run(&fixed.into_iter().chain(to).collect::<Vec<_>>())
    }

    /// The id of a backup of what lies in `plan`.
    fn backed_up(&self, target: &str) -> String {
        self.create(&[target]).expect(0).json()["backup_id"].as_str().unwrap().to_owned()
    }

    fn restore(&self, id: &str) -> Command {
        self.command(&["backup", "restore", id, "--into", "restored"])
    }
}

/// Every file under a directory that may not be there yet, by its path in it.
fn files(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
    }
    let mut files: Vec<String> =
        walk(directory).iter().map(|path| path.strip_prefix(directory).unwrap().display().to_string()).collect();
    files.sort();
    files
}

#[test]
fn a_restore_holds_its_own_files_and_none_of_one_that_was_killed() {
    let host = Host::new("faults-restore");
    // `a` is a directory here and a file in the next one; the large one leaves time for the kill.
    host.scratch.write("plan/a/old.engine", "old");
    host.scratch.write("plan/both.engine", "changes");
    host.scratch.write("plan/large.engine", vec![7; 200 << 20]);
    let first = host.backed_up("target");
    fs::remove_dir_all(host.scratch.join("plan")).unwrap();
    host.scratch.write("plan/a", "new");
    host.scratch.write("plan/both.engine", "changed");
    // The names that an upload under way could take.
    host.scratch.write("plan/.both.engine.part", "kept");
    let second = host.backed_up("target");

    let partial = host.scratch.join(".restored.partial");
    let mut killed = Guarded::start(&host.restore(&first), &host.scratch.join("restore.log"));
    wait_for("the large file", LIMIT, || (files(&partial).len() >= 3).then_some(()));
    // Stopped where it is: two at once would mix their files.
    killed.signal("STOP");
    let second_at_once = finish(&mut host.restore(&second)).expect(6);
    assert!(second_at_once.stderr.contains("another restore into"), "{}", second_at_once.stderr);
    assert!(files(&partial).contains(&"plan/a/old.engine".to_owned()), "the first one's files are left alone");
    killed.kill9();
    assert!(!host.scratch.join("restored").exists(), "the kill came too late to mean anything");
    assert!(partial.join("plan/a/old.engine").exists());

    finish(&mut host.restore(&second)).expect(0);
    let restored = host.scratch.join("restored");
    assert_eq!(files(&restored), ["plan/.both.engine.part", "plan/a", "plan/both.engine"]);
    assert_eq!(fs::read_to_string(restored.join("plan/.both.engine.part")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(restored.join("plan/both.engine")).unwrap(), "changed");
    let left: Vec<_> = fs::read_dir(host.scratch.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".restored")), "{left:?}");
}

/// In a namespace of its own, where a disk can be mounted and goes away with the command; none where that is not permitted.
fn with_mounts(host: &Host, script: &str) -> Option<Finished> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--map-root-user"]).current_dir(host.scratch.path());
    let permitted = finish(Command::new(unshare.get_program()).args(["--mount", "--map-root-user", "true"]));
    let script = format!("set -e; govledger() {{ {} --data data \"$@\"; }}; {script}", binary().display());
    (permitted.code == 0).then(|| finish(unshare.args(["sh", "-c", &script])))
}

#[test]
fn a_disk_that_is_not_mounted_is_not_filled_in_its_place() {
    let host = Host::new("faults-unmounted");
    host.scratch.write("plan/rank0.engine", "engine");
    fs::create_dir(host.scratch.join("nas")).unwrap();
    let nas = host.scratch.join("nas");
    // The mount point without its disk; a path that was on the disk; the other target is filled all the same.
    let below = nas.join("qwen3");
    let refused = host.create(&["nas/qwen3"]).expect(6);
    let said = format!("target file://{}: {} is empty and no disk is mounted", below.display(), nas.display());
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);
    let partly = host.create(&["nas/llm/qwen3", "target"]).expect(1);
    assert!(
        partly.stderr.contains(&format!("there is no directory {}", nas.join("llm").display())),
        "{}",
        partly.stderr
    );
    assert_eq!(partly.json()["failed_targets"], serde_json::json!(["nas/llm/qwen3"]));
    let ledgers = host.run(&["backup", "ledgers", "--to", "nas/ledgers"]).expect(6);
    assert!(ledgers.stderr.contains("no disk is mounted"), "{}", ledgers.stderr);
    assert_eq!(fs::read_dir(&nas).unwrap().count(), 0, "nothing was made");
    // With the disk there, its first directory is made on it.
    let script = "mount -t tmpfs none nas; govledger backup create engine-qwen3 --engine 5bd3c6e1a0f2 --plan plan --to nas/qwen3";
    if let Some(mounted) = with_mounts(&host, script) {
        mounted.expect(0);
        assert_eq!(fs::read_dir(&nas).unwrap().count(), 0, "it went away with its disk");
    }
    // One that the operator made needs no disk.
    fs::create_dir(&below).unwrap();
    host.create(&["nas/qwen3"]).expect(0);
}

#[test]
fn reading_makes_no_directory() {
    let host = Host::new("faults-reading");
    host.scratch.write("plan/rank0.engine", "engine");
    let id = host.backed_up("target");
    fs::rename(host.scratch.join("target"), host.scratch.join("moved")).unwrap();
    let said = format!("there is no directory {}; mount the disk", host.scratch.join("target").display());
    let verified = host.run(&["backup", "verify", &id]).expect(1);
    assert!(verified.stdout.contains(&said), "{}", verified.stdout);
    let restored = finish(&mut host.restore(&id)).expect(6);
    assert!(restored.stderr.contains(&said), "{}", restored.stderr);
    let ledgers = ["backup", "restore-ledgers", "--from", "target", "--into", "restored"];
    let ledgers = host.run(&[&["--vkey", "data/keys/governance.vkey"][..], &ledgers].concat()).expect(6);
    assert!(ledgers.stderr.contains(&said), "{}", ledgers.stderr);
    for made in ["target", "restored", ".restored.partial"] {
        assert!(!host.scratch.join(made).exists(), "{made}");
    }
    host.run(&["backup", "verify", &id, "--target", "moved"]).expect(0);
}

/// Damaged, made whole and told, over this target, whose objects lie in `directory`.
fn is_put_again(host: &Host, url: &str, directory: &Path) {
    // One that is sent in parts, and one that is not.
    let large = vec![7_u8; 20_000_003];
    host.scratch.write("plan/large.engine", &large);
    host.scratch.write("plan/small.engine", "small");
    let id = host.backed_up(url);
    let object = |content: &[u8]| {
        let sha256 = ledger::Hash::of(content).to_hex();
        directory.join("objects/sha256").join(&sha256[..2]).join(sha256)
    };
    let mut damaged = large.clone();
    damaged[12_345_678] ^= 1;
    fs::write(object(&large), &damaged).unwrap();
    fs::write(object(b"small"), "smell").unwrap();
    host.run(&["backup", "verify", &id]).expect(1);

    let again = host.create(&[url]).expect(0);
    for name in ["plan/large.engine", "plan/small.engine"] {
        let said = format!("the object of {name} was damaged, and was put again");
        assert!(again.stderr.contains(&said), "{}", again.stderr);
    }
    assert!(fs::read(object(&large)).unwrap() == large);
    host.run(&["backup", "verify", &id]).expect(0);
    let quiet = host.create(&[url]).expect(0);
    assert!(!quiet.stderr.contains("damaged"), "{}", quiet.stderr);
}

#[test]
fn a_damaged_object_is_put_again_and_told() {
    let host = Host::new("faults-damaged");
    is_put_again(&host, "target", &host.scratch.join("target"));
}

#[test]
fn a_damaged_object_of_an_s3_server_is_put_again_and_told() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("faults-s3-server");
    let s3 = S3::start(versitygw, &scratch);
    let host = Host::with("faults-s3", s3.environment());
    is_put_again(&host, "s3://backups/qwen3", &s3.root.join("backups/qwen3"));
}

/// The files under way from a host whose disk changes them: what was hashed, and what became of sending it.
#[tokio::test]
async fn a_file_that_changes_while_it_is_copied_is_told_and_spoils_no_object() {
    let scratch = Scratch::new("faults-changed");
    let path = scratch.write("rank0.engine", "as it was hashed");
    let found = [Found { name: "plan/rank0.engine".to_owned(), path: path.clone() }];
    let files = describe(&found, &|_| ()).await.unwrap();
    let object = files[0].sha256.clone();
    let manifest = Manifest::new(STACK, "41", "2026-10-01T08:30:00Z".parse().unwrap(), files);
    let target = [Target::open_to_fill(scratch.join("target").to_str().unwrap()).unwrap()];
    let refused = async || {
        let sent = send(&found, &manifest, &target, &|_| ()).await.remove(0);
        assert!(!scratch.join("target/manifests").exists());
        sent.manifest_sha256.unwrap_err().to_string()
    };
    let stored = scratch.join("target/objects/sha256").join(&object[..2]).join(&object);

    fs::write(&path, "as it is now....").unwrap();
    let said = refused().await;
    assert!(
        said.contains(&format!("plan/rank0.engine hashes to {}", ledger::Hash::of(b"as it is now....").to_hex())),
        "{said}"
    );
    // What is there may have been misread: a file that is no longer what was hashed does not take its place.
    fs::write(&stored, "as it was mashed").unwrap();
    let said = refused().await;
    assert!(said.contains("as before; it changed while it was copied"), "{said}");
    assert_eq!(fs::read_to_string(&stored).unwrap(), "as it was mashed");
    fs::write(&path, "as it was hashed").unwrap();
    let sent = send(&found, &manifest, &target, &|_| ()).await.remove(0);
    assert_eq!((sent.manifest_sha256.is_ok(), sent.mended), (true, vec!["plan/rank0.engine".to_owned()]));
}

#[test]
fn a_damaged_object_in_a_copy_of_the_ledgers_is_put_again() {
    let host = Host::new("faults-ledgers");
    let copy = || host.run(&["--json", "backup", "ledgers", "--to", "target"]).expect(0).json()["targets"][0].clone();
    assert_eq!(copy()["objects_mended"], 0);
    let objects = host.scratch.join("target/objects");
    for object in files(&objects) {
        let mut content = fs::read(objects.join(&object)).unwrap();
        content[0] ^= 1;
        fs::write(objects.join(&object), content).unwrap();
    }
    let mended = copy();
    assert!(mended["objects_mended"].as_u64().unwrap() >= 3, "{mended:#}");
    assert_eq!(mended["objects_mended"], mended["objects_sent"], "{mended:#}");
    let restore = ["backup", "restore-ledgers", "--from", "target", "--into", "restored"];
    host.run(&[&["--vkey", "data/keys/governance.vkey"][..], &restore].concat()).expect(0);
}

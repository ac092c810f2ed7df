//! Copies of the ledgers themselves: taken under load, restored after a kill, gone on from, and refused where they are not what
//! the keys signed or older than what was kept outside.

#![cfg(test)]

#[path = "backup_ledgers/s3.rs"]
mod s3;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use govledger::domain::principal::token_sha256;
use serde_json::Value;

use support::guarded::Guarded;
use support::http::Http;
use support::process::{Finished, Service, ServiceOptions, binary, finish, free_port, govledger};
use support::scratch::Scratch;
use support::wait::wait_for;

const LIMIT: Duration = Duration::from_mins(1);
const SHIPPER: &str = "glt_shipper";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A request and an event that no other number gives.
fn lines(number: u64) -> String {
    let seconds = format!("{:02}:{:02}:{:02}", number / 3600 % 24, number / 60 % 60, number % 60);
    let event = format!(
        r#"{{"event_type":"llm_engine_published","artifact":{{"artifact_id":"engine-qwen3","version":"1.{number}.0","hash":"{number:012x}"}},"actor":"ci","payload":{{}},"timestamp":"2026-10-01T{seconds}.123456+00:00"}}"#
    );
    let request = format!(
        r#"{{"event":"llm.request","model":"qwen3-32b","engine_hash":"{number:012x}","duration_ms":49.8,"queue_delay_us":569.9,"tokens_in":374.0,"tokens_out":44.0,"cost_usd":0.005016}}"#
    );
    format!("{event}\n{}", (request + "\n").repeat(40))
}

fn post(http: &Http, number: u64) {
    let headers = [("content-type", "application/x-ndjson")];
    let (event, requests) =
        lines(number).split_once('\n').map(|(one, rest)| (one.to_owned(), rest.to_owned())).unwrap();
    http.post("/v1/events", &headers, event.as_bytes()).expect(200);
    http.post("/v1/metrics", &headers, requests.as_bytes()).expect(200);
}

/// A node with small segments, and a target.
struct Host {
    scratch: Scratch,
    service: Service,
    /// Where copies go: a directory or an address.
    target: String,
    /// Where what the target holds lies as files.
    store: PathBuf,
    /// What the commands need to reach it.
    environment: Vec<(String, String)>,
}

impl Host {
    /// With a directory as its target.
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let store = scratch.join("target");
        Self::with_target(scratch, "target", store, Vec::new())
    }

    fn with_target(scratch: Scratch, target: &str, store: PathBuf, environment: Vec<(String, String)>) -> Self {
        scratch.write("govledger.toml", "[segments]\nbytes_max = 32768\n");
        fs::create_dir(scratch.join("tmp")).unwrap();
        let data = scratch.join("data");
        let token = scratch.join("token");
        govledger(&["--data", text(&data), "init", "--node", "test", "--token-out", text(&token)]).expect(0);
        let service = serve(&scratch, "data");
        let host = Self { scratch, service, target: target.to_owned(), store, environment };
        let body =
            serde_json::json!({ "name": "shipper", "roles": ["publisher"], "token_sha256": token_sha256(SHIPPER) });
        let headers = [("content-type", "application/json"), ("idempotency-key", "shipper")];
        host.admin(&host.service).post("/v1/principals", &headers, body.to_string().as_bytes()).expect(200);
        host
    }

    fn admin(&self, service: &Service) -> Http {
        service.http().with_token(fs::read_to_string(self.scratch.join("token")).unwrap().trim())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.scratch.path()).env("TMPDIR", self.scratch.join("tmp"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments))
    }

    fn back_up(&self) -> Value {
        self.run(&["--data", "data", "--json", "backup", "ledgers", "--to", &self.target]).expect(0).json()
    }

    fn restore(&self, into: &str, more: &[&str]) -> Finished {
        let key = ["--vkey", "data/keys/governance.vkey", "--json"];
        let restore = ["backup", "restore-ledgers", "--from", &self.target, "--into", into];
        self.run(&[&key[..], &restore[..], more].concat())
    }

    /// Refused with this exit code and these words, and nothing is left.
    fn refuses(&self, code: i32, said: &str, more: &[&str]) {
        let refused = self.restore("no", more).expect(code);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        assert!(!self.scratch.join("no").exists() && !self.scratch.join(".no.partial").exists());
    }

    /// Keeps a checkpoint outside.
    fn keep(&self, service: &Service, ledger: &str, file: &str) -> u64 {
        let note = self.admin(service).get(&format!("/ledger/{ledger}/checkpoint")).expect(200).text();
        self.scratch.write(file, &note);
        note.lines().nth(1).unwrap().parse().unwrap()
    }

    fn put_keys(&self, into: &str) {
        for entry in fs::read_dir(self.scratch.join("data/keys")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "pem") {
                fs::copy(&path, self.scratch.join(into).join("keys").join(path.file_name().unwrap())).unwrap();
            }
        }
    }

    /// The manifest of a copy, and where it lies.
    fn manifest(&self, id: &str) -> (PathBuf, Value) {
        let path = files(&self.store.join("manifests")).into_iter().find(|path| text(path).contains(id)).unwrap();
        let manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (path, manifest)
    }

    fn object(&self, sha256: &str) -> PathBuf {
        self.store.join("objects/sha256").join(&sha256[..2]).join(sha256)
    }
}

fn serve(scratch: &Scratch, data: &str) -> Service {
    let port = free_port();
    let (config, data, listen) = (scratch.join("govledger.toml"), scratch.join(data), format!("127.0.0.1:{port}"));
    let arguments = ["--config", text(&config), "--data", text(&data), "serve", "--listen", &listen];
    Service::start(ServiceOptions::new(arguments, port))
}

/// Every file under a directory that may not be there yet.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Posts until it is stopped.
struct Load {
    thread: JoinHandle<()>,
    ends: Arc<AtomicBool>,
    posted: Arc<AtomicU64>,
}

impl Load {
    fn start(service: &Service) -> Self {
        let http = service.http().with_token(SHIPPER);
        let (ends, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&ends), Arc::clone(&posted));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                post(&http, count.fetch_add(1, Ordering::SeqCst));
            }
        });
        Self { thread, ends, posted }
    }

    /// Waits until so many more were posted.
    fn more(&self, number: u64) {
        let from = self.posted.load(Ordering::SeqCst);
        wait_for("load", LIMIT, || (self.posted.load(Ordering::SeqCst) >= from + number).then_some(()));
    }

    fn stop(self) {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

fn ledger<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["ledgers"].as_array().unwrap().iter().find(|row| row["ledger"] == name).unwrap()
}

#[test]
fn a_copy_taken_under_load_is_gone_on_from_after_the_machine_is_lost() {
    outlives_its_machine(Host::new("ledgers-load"));
}

fn outlives_its_machine(mut host: Host) {
    let load = Load::start(&host.service);
    load.more(60);
    host.keep(&host.service, "governance", "early");
    host.keep(&host.service, "metrics-0", "early-metrics");
    let first = host.back_up();
    assert!(
        first["targets"][0]["objects_sent"].as_u64().unwrap() + first["targets"][0]["objects_reused"].as_u64().unwrap()
            >= 10,
        "{first:#}"
    );
    load.more(60);
    let second = host.back_up();
    let reused = second["targets"][0]["objects_reused"].as_u64().unwrap();
    assert!(reused >= 5, "{second:#}");
    for name in ["governance", "metrics-0"] {
        let size = |report: &Value| ledger(report, name)["size"].as_u64().unwrap();
        assert!(size(&first) < size(&second), "the load went on: {first:#} {second:#}");
    }
    load.more(10);
    let late = host.keep(&host.service, "governance", "late");
    load.stop();
    host.service.kill9();
    assert!(files(&host.scratch.join("tmp")).is_empty(), "what was copied aside is removed");
    let (_, manifest) = host.manifest(second["backup_id"].as_str().unwrap());
    assert!(!manifest.to_string().contains(".pem"), "no private key is copied");

    // Older than what is known outside: refused, with which ledger.
    host.refuses(1, "governance: it does not extend the checkpoint kept in late", &["--since", "late"]);
    let kept = ["--since", "early", "--since", "early-metrics"];
    let restored = host.restore("restored", &kept).expect(0).json();
    for name in ["governance", "metrics-0"] {
        for field in ["size", "root"] {
            assert_eq!(ledger(&restored, name)[field], ledger(&second, name)[field], "{name}");
        }
    }
    let again = host.restore("restored", &kept).expect(2);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    let older =
        host.restore("older", &["--at", first["backup_id"].as_str().unwrap(), "--since", "early"]).expect(0).json();
    assert_eq!(ledger(&older, "metrics-0")["root"], ledger(&first, "metrics-0")["root"]);

    goes_on(&host, &restored, late);
}

/// The restored directory is served, takes more, and extends what was kept before the machine was lost.
fn goes_on(host: &Host, restored: &Value, late: u64) {
    host.put_keys("restored");
    let mut service = serve(&host.scratch, "restored");
    let copied = ledger(restored, "governance")["size"].as_u64().unwrap();
    for number in 10_000..10_000 + late - copied + 5 {
        post(&service.http().with_token(SHIPPER), number);
    }
    assert!(host.keep(&service, "governance", "after") > late, "longer than what was lost");
    assert_eq!(service.terminate(), 0);
    let key = ["--vkey", "data/keys/governance.vkey", "verify", "restored"];
    let kept = ["--since", "early", "--since", "early-metrics", "--since", "after"];
    let holds = host.run(&[&key[..], &kept[..]].concat()).expect(0);
    assert!(holds.stdout.contains("everything holds"), "{}", holds.stdout);
    // Longer than the lost one by now, and still told apart from it.
    let forked = host.run(&[&key[..], &["--since", "late"]].concat()).expect(3);
    assert!(forked.stdout.contains("rewritten"), "{}", forked.stdout);
}

#[test]
fn what_the_keys_did_not_sign_is_refused_whatever_the_target_says() {
    is_refused_unless_it_holds(Host::new("ledgers-damage"));
}

fn is_refused_unless_it_holds(mut host: Host) {
    for number in 0..60 {
        post(&host.service.http().with_token(SHIPPER), number);
    }
    assert_eq!(host.service.terminate(), 0);
    // A stopped directory is copied the same way.
    let made = host.back_up();
    let (path, manifest) = host.manifest(made["backup_id"].as_str().unwrap());
    let listed = manifest["files"].as_array().unwrap();
    let index =
        listed.iter().rposition(|file| file["name"].as_str().unwrap().starts_with("metrics-0/segments/")).unwrap();
    let (name, sha256) = (listed[index]["name"].as_str().unwrap(), listed[index]["sha256"].as_str().unwrap());
    let object = host.object(sha256);
    let whole = fs::read(&object).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;

    fs::write(&object, &changed).unwrap();
    host.refuses(1, &format!("{name} hashes to"), &[]);
    fs::remove_file(&object).unwrap();
    host.refuses(1, &format!("{name} is missing"), &[]);
    fs::write(&object, &whole).unwrap();

    // A target that lies consistently: object and manifest agree, the signatures do not.
    let forged = ledger::Hash::of(&changed).to_hex();
    fs::create_dir_all(host.object(&forged).parent().unwrap()).unwrap();
    fs::write(host.object(&forged), &changed).unwrap();
    let mut lying = manifest.clone();
    lying["files"][index]["sha256"] = forged.into();
    let digests = lying["files"].as_array().unwrap().iter();
    let digests: Vec<u8> = digests
        .flat_map(|file| ledger::Hash::from_hex(file["sha256"].as_str().unwrap()).unwrap().as_bytes().to_vec())
        .collect();
    lying["verification_hash"] = ledger::Hash::of(&digests).to_hex().into();
    fs::write(&path, lying.to_string()).unwrap();
    host.refuses(3, "metrics-0", &[]);
    fs::write(&path, manifest.to_string()).unwrap();

    // Another node's key under this node's name.
    govledger(&[
        "--data",
        text(&host.scratch.join("other")),
        "init",
        "--node",
        "test",
        "--token-out",
        text(&host.scratch.join("other-token")),
    ])
    .expect(0);
    let arguments = "--vkey other/keys/governance.vkey backup restore-ledgers --into no --from";
    let arguments: Vec<&str> = arguments.split(' ').chain([host.target.as_str()]).collect();
    let refused = host.run(&arguments).expect(1);
    assert!(refused.stderr.contains("another key"), "{}", refused.stderr);
    host.refuses(1, "holds no \"backup-1\"", &["--at", "backup-1"]);
    host.restore("restored", &[]).expect(0);
}

#[test]
fn a_copy_that_was_killed_half_way_does_not_count_and_is_gone_on_from() {
    survives_kills(&Host::new("ledgers-kill"));
}

fn survives_kills(host: &Host) {
    for number in 0..60 {
        post(&host.service.http().with_token(SHIPPER), number);
    }
    let command = host.command(&["--data", "data", "backup", "ledgers", "--to", &host.target]);
    let objects = || {
        let found = files(&host.store.join("objects"));
        found.iter().filter(|path| !text(path).contains('#')).count()
    };
    let mut killed = Guarded::start(&command, &host.scratch.join("log"));
    wait_for("some objects", LIMIT, || (objects() >= 2).then_some(()));
    killed.kill9();
    assert!(!host.store.join("manifests").exists(), "the kill came too late to mean anything");
    host.refuses(1, "no copy of ledgers", &[]);
    let there = objects() as u64;
    let made = host.back_up();
    let reused = made["targets"][0]["objects_reused"].as_u64().unwrap();
    // More than were there, where a segment was sealed meanwhile: what it had sent by then was there too.
    assert!(reused >= 1 && there >= 2, "{there} objects were there: {made:#}");

    // The same for what brings them back: nothing has its name before everything holds, and the next one goes on.
    let key = ["--vkey", "data/keys/governance.vkey"];
    let restore = ["backup", "restore-ledgers", "--from", &host.target, "--into", "restored"];
    let command = host.command(&[&key[..], &restore].concat());
    let mut killed = Guarded::start(&command, &host.scratch.join("restore-log"));
    let partial = host.scratch.join(".restored.partial");
    wait_for("a part of the restore", LIMIT, || (files(&partial).len() >= 2).then_some(()));
    killed.kill9();
    assert!(partial.exists() && !host.scratch.join("restored").exists(), "the kill came too late to mean anything");
    let restored = host.restore("restored", &[]).expect(0).json();
    assert!(!partial.exists());
    assert_eq!(ledger(&restored, "governance")["root"], ledger(&made, "governance")["root"]);
}

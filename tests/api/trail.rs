//! The access trail: what goes to it, what does not, and that it holds up nobody.

use std::path::Path;
use std::time::Duration;

use govledger::api::ApiConfig;
use govledger::clock::Clock;
use govledger::domain::leaf::Header;
use govledger::domain::principal::token_sha256;
use govledger::domain::time::Time;
use govledger::identity::trail::{AccessSettings, Trail, TrailConfig};
use govledger::sequencer::DataDir;
use ledger::LedgerKey;
use serde_json::{Value, json};

use crate::app::{App, NOW, token};
use crate::disk::FailingDisk;
use crate::support::process::govledger;
use crate::support::wait::wait_for;

/// The entries so far, once one fits.
fn until(app: &App, what: &str, fits: impl Fn(&Value) -> bool) -> (Vec<Value>, Value) {
    wait_for(what, Duration::from_secs(10), || {
        let answer = app.as_role("auditor").get("/v1/access").expect(200).json();
        let entries = answer["entries"].as_array().unwrap().clone();
        let found = entries.iter().find(|entry| fits(entry)).cloned();
        found.map(|found| (entries, found))
    })
}

#[test]
fn refusals_acts_and_raw_reads_are_kept_with_proofs_and_without_secrets() {
    let app = App::start();
    let secret = format!("glt_{}", "5".repeat(64));
    app.http.with_token(&secret).get("/v1/stacks/s?token=hunter2").expect(401);
    app.http.with_token("hunter2").get("/v1/stacks").expect(401);
    app.as_role("reader").post("/v1/events", &[], b"{}").expect(403);
    app.read("/v1/entries/governance/0").expect(200);
    app.read("/v1/stacks").expect(200);
    app.command(&token("oncall"), "/v1/incidents", "i", &json!({ "stack": "s", "title": "t" })).expect(200);
    app.command(&token("oncall"), "/v1/incidents/inc-99/close", "c", &json!({ "text": "x" })).expect(404);
    let (_, act) = until(&app, "the command", |entry| entry["path"] == "/v1/incidents/inc-99/close");
    assert_eq!(
        (act["kind"].as_str(), act["principal"].as_str(), act["status"].as_u64()),
        (Some("act"), Some("oncall"), Some(404))
    );
    let (entries, raw) = until(&app, "the read", |entry| entry["path"] == "/v1/entries/governance/0");
    assert_eq!(
        (raw["kind"].as_str(), raw["principal"].as_str(), raw["known_by"].as_str()),
        (Some("raw_read"), Some("reader"), Some("token"))
    );
    let of = |path: &str| entries.iter().filter(|entry| entry["path"] == path).collect::<Vec<_>>();
    let denied = of("/v1/stacks/s")[0];
    assert_eq!((denied["kind"].as_str(), denied["code"].as_str()), (Some("denied"), Some("unauthenticated")));
    assert_eq!(denied["token_digest"], token_sha256(&secret)[..32]);
    let forbidden = of("/v1/events")[0];
    assert_eq!((forbidden["principal"].as_str(), forbidden["code"].as_str()), (Some("reader"), Some("forbidden")));
    // An answer that is a fold is no raw read; a token that could be guessed leaves no digest.
    assert!(of("/v1/stacks").iter().all(|entry| entry["kind"] == "denied" && entry["token_digest"].is_null()));
    let text = json!(entries).to_string();
    assert!(!text.contains("hunter2") && !text.contains("glt_"), "{text}");

    // The same proofs as any ledger, for auditors and admins alone.
    let position = raw["position"].as_u64().unwrap();
    let auditor = app.as_role("auditor");
    let proof = auditor.get(&format!("/v1/access/{position}/proof")).expect(200).text();
    let vkey = auditor.get("/ledger/access/vkey").expect(200).text();
    assert!(proof.contains("test/access") && vkey.starts_with("test/access+"), "{proof}{vkey}");
    auditor.get("/ledger/access/checkpoint").expect(200);
    app.read("/v1/access").expect(403);
    assert_eq!(app.read("/ledger/access/checkpoint").status, 403);
    let data = app.stopped();
    let directory = data.path().join("data");
    let done = govledger(&["--data", directory.to_str().unwrap(), "verify"]).expect(0);
    assert!(done.stdout.contains("access: ok"), "{}", done.stdout);
    let shown = govledger(&["--data", directory.to_str().unwrap(), "access"]).expect(0);
    assert!(shown.stdout.contains("inc-99"), "{}", shown.stdout);
    // A byte of it changed is damage like any other.
    let segment = std::fs::read_dir(directory.join("access/segments")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|window| window == b"inc-99/").unwrap();
    bytes[at] = b'I';
    std::fs::write(&segment, bytes).unwrap();
    govledger(&["--data", directory.to_str().unwrap(), "verify"]).expect(3);
}

#[test]
fn a_flood_is_counted_and_crowds_out_nobody() {
    let trail = TrailConfig { entries_per_second: 1, entries_burst: 3 };
    let app = App::trailing(ApiConfig::default(), trail, None);
    for n in 0..40 {
        // Each another route and token, so that none is like another.
        let wrong = format!("glt_{n:064}");
        app.http.with_token(&wrong).get("/v1/stacks").expect(401);
    }
    app.read("/v1/entries/governance/0").expect(200);
    let (entries, _) = until(&app, "the read", |entry| entry["kind"] == "raw_read");
    let denied = entries.iter().filter(|entry| entry["kind"] == "denied").count();
    assert_eq!(denied, 3, "{entries:#?}");
    // The count comes by itself, a while later; what was kept and what was counted are all there was.
    let mut minutes = 0;
    wait_for("the counts", Duration::from_secs(20), || {
        minutes += 1;
        app.clock.set(NOW.parse::<Time>().unwrap().plus_seconds(60 * minutes));
        let answer = app.as_role("auditor").get("/v1/access").expect(200).json();
        let counts =
            answer["entries"].as_array().unwrap().iter().filter_map(|entry| entry["counts"]["denied"].as_u64());
        let counted: u64 = counts.sum();
        assert!(counted <= 37, "{answer}");
        (counted == 37).then_some(())
    });
}

#[test]
fn a_full_disk_of_the_trail_stops_nobody_and_is_said() {
    let disk = FailingDisk::new();
    let app = App::trailing(ApiConfig::default(), TrailConfig::default(), Some(disk.clone()));
    app.read("/v1/entries/governance/0").expect(200);
    until(&app, "the read", |entry| entry["kind"] == "raw_read");
    disk.fail_after(0, false);
    app.read("/v1/entries/governance/1").expect(200);
    let metric = |name: &str, value: &str| app.http.get("/metrics").text().contains(&format!("{name} {value}\n"));
    wait_for("the alarm", Duration::from_secs(10), || metric("govledger_access_up", "0.0").then_some(()));
    app.read("/v1/stacks").expect(200);
    app.read("/v1/entries/governance/1").expect(200);
    app.command(&token("oncall"), "/v1/incidents", "i", &json!({ "stack": "s", "title": "t" })).expect(200);
    // What was durable is still read, and what follows is counted.
    app.as_role("auditor").get("/v1/access").expect(200);
    wait_for("the count", Duration::from_secs(5), || (!metric("govledger_access_not_kept_total", "0")).then_some(()));
    // The disk has room again: the trail goes on by itself, and says what is missing.
    disk.fail_after(i64::MAX, false);
    wait_for("the trail", Duration::from_secs(20), || metric("govledger_access_up", "1.0").then_some(()));
    app.clock.set("2026-11-01T00:01:00Z".parse().unwrap());
    let (_, counted) = until(&app, "the count", |entry| entry["kind"] == "not_kept");
    assert_eq!(counted["counts"]["act"], 1, "{counted}");
}

/// Another start of the trail over the same directory, with one more access.
fn note_again(directory: &Path, path: &str) {
    let clock = Clock::manual(NOW.parse().unwrap());
    let trail = Trail::start(DataDir::open(directory).unwrap(), clock, TrailConfig::default()).unwrap();
    assert!(trail.is_up(), "the trail's ledger opens");
    let note = json!({ "kind": "raw_read", "method": "GET", "route": "r", "path": path, "status": 200, "count": 1 });
    trail.note(NOW.parse().unwrap(), serde_json::from_value(note).unwrap());
    trail.stop();
}

/// The trail of a directory holds with `vkey` alone, in place and exported, and shows what it should.
fn holds(directory: &Path, vkey: &Path, paths: &[&str]) {
    let (data, vkey) = (directory.to_str().unwrap(), vkey.to_str().unwrap());
    let export = tempfile::tempdir().unwrap();
    let to = export.path().join("export");
    let to = to.to_str().unwrap();
    govledger(&["--data", data, "export", to]).expect(0);
    govledger(&["--data", data, "export", to, "--ledger", "access"]).expect(0);
    for arguments in
        [&["--data", data, "verify"][..], &["--vkey", vkey, "verify", data], &["--vkey", vkey, "verify", to]]
    {
        let done = govledger(arguments).expect(0);
        assert!(done.stdout.contains("access: ok") && done.stdout.contains("everything holds"), "{}", done.stdout);
    }
    let trail = govledger(&["--data", data, "access"]).expect(0);
    assert!(paths.iter().all(|path| trail.stdout.contains(path)), "{}", trail.stdout);
    // The key of the trail signs the trail alone: it vouches for nothing else, also where its grant is laid beside another ledger.
    let grant = std::fs::read_to_string(directory.join("access/rotations")).unwrap();
    std::fs::write(Path::new(to).join("governance/rotations"), grant).unwrap();
    let done = govledger(&["--vkey", vkey, "verify", to]);
    assert_ne!(done.code, 0, "{}", done.stdout);
}

/// A ledger `access` as an earlier release made it: under the ledger key.
fn made_under_the_ledger_key(directory: &Path) {
    let data_dir = DataDir::open(directory).unwrap();
    let settings = AccessSettings {
        ledger: "access".to_owned(),
        format: govledger::domain::settings::FORMAT,
        governance: ledger::tree::leaf_hash(&data_dir.settings().entry().unwrap()),
    };
    let mut entry = Header { serial: Some(0), ..Header::at(Time::default()) }.line();
    serde_json::to_writer(&mut entry, &settings).unwrap();
    let key = LedgerKey::load(&directory.join("keys/ledger.pem")).unwrap();
    let vkey = format!("{}\n", key.verifier_key("test/access"));
    std::fs::write(directory.join("keys/access.vkey"), vkey).unwrap();
    ledger::Ledger::create(&directory.join("access"), "test/access", key, ledger::Options::default(), &entry).unwrap();
}

fn rotate(app: &App) {
    let rotated = app.http.with_token(&app.admin).post("/v1/ledger-key/rotate", &[("idempotency-key", "r")], b"");
    rotated.expect(200);
}

#[test]
fn the_trail_goes_on_when_the_ledger_key_is_rotated() {
    let app = App::start();
    app.read("/v1/entries/governance/0").expect(200);
    until(&app, "the read", |entry| entry["path"] == "/v1/entries/governance/0");
    let kept = app.data.path().join("the-key-that-was-published");
    std::fs::copy(app.data.path().join("data/keys/governance.vkey"), &kept).unwrap();
    rotate(&app);
    app.read("/v1/entries/governance/1").expect(200);
    until(&app, "the read after it", |entry| entry["path"] == "/v1/entries/governance/1");
    let data = app.stopped();
    let directory = data.path().join("data");
    note_again(&directory, "/after-the-restart");
    note_again(&directory, "/after-another");
    holds(&directory, &kept, &["/v1/entries/governance/1", "/after-the-restart", "/after-another"]);
    let keys = directory.join("keys");
    assert_ne!(std::fs::read(keys.join("access.pem")).unwrap(), std::fs::read(keys.join("ledger.pem")).unwrap());
    let mode = std::fs::metadata(keys.join("access.pem")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
}

#[test]
fn a_trail_of_an_earlier_release_gets_a_key_of_its_own() {
    let app = App::start();
    let data = app.stopped();
    let directory = data.path().join("data");
    let vkey = directory.join("keys/governance.vkey");
    // What a crash may have left: half a key, and a whole one that was not granted yet.
    for left in ["nothing", "half a key", "a key without its grant"] {
        std::fs::remove_dir_all(directory.join("access")).unwrap();
        std::fs::remove_file(directory.join("keys/access.pem")).unwrap();
        made_under_the_ledger_key(&directory);
        match left {
            "half a key" => std::fs::write(directory.join("keys/access.pem.tmp"), "-----BEGIN PRIV").unwrap(),
            "a key without its grant" => {
                LedgerKey::generate([9; 32]).store(&directory.join("keys/access.pem")).unwrap();
            }
            _ => {}
        }
        note_again(&directory, "/the-first");
        note_again(&directory, "/the-second");
        holds(&directory, &vkey, &["/the-first", "/the-second"]);
        let access = std::fs::read_to_string(directory.join("access/checkpoint")).unwrap_or_default();
        let keys = std::fs::read_to_string(directory.join("keys/access.vkey")).unwrap();
        assert_eq!(keys.lines().count(), 2, "{left}: {keys}{access}");
    }
}

#[test]
fn a_trail_that_is_off_gets_its_key_before_the_ledger_key_is_rotated() {
    let disk = FailingDisk::new();
    disk.fail_after(0, false);
    let app = App::trailing(ApiConfig::default(), TrailConfig::default(), Some(disk));
    let directory = app.data.path().join("data");
    let kept = app.data.path().join("the-key-that-was-published");
    std::fs::copy(directory.join("keys/governance.vkey"), &kept).unwrap();
    made_under_the_ledger_key(&directory);
    rotate(&app);
    let data = app.stopped();
    note_again(&directory, "/after-the-restart");
    holds(&directory, &kept, &["/after-the-restart"]);
    drop(data);
}

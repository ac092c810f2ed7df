//! Keys of authors over HTTP and in a file, and the node's own key: enrolled, confirmed, rotated, revoked.

use std::fs;
use std::path::Path;

use govledger::domain::envelope::{hex, key_id, seal};
use govledger::domain::metric::TimeFields;
use govledger::projection::governance::Verdict;
use govledger::sequencer::{Core, DataDir};
use ledger::chain::{KeyChain, Rotation};
use ledger::key::LedgerKey;
use ledger::proof::ProofFile;
use ledger::verify::{audit, audit_extends};
use ledger::{SignedCheckpoint, VerifierKey};
use serde_json::{Value, json};

use crate::app::{App, event, published, token};
use crate::support::process::govledger;
use crate::support::scratch::copy_dir;

fn author(seed: u8) -> LedgerKey {
    LedgerKey::generate([seed; 32])
}

/// A published event in an envelope under `seed`'s key.
fn signed(id: &str, seed: u8) -> String {
    let event = event(id, "llm_engine_published", &json!({ "engine_hash": "e" }));
    seal(event.as_bytes(), &author(seed)).unwrap()
}

fn enroll(app: &App, key: &str, seed: u8, replaces: Option<u8>) -> Value {
    let replaces = replaces.map(|seed| key_id(&author(seed).public()));
    let body = json!({ "author": "ci", "public_key": hex(&author(seed).public()), "event_types": ["llm_engine_published"], "replaces": replaces });
    app.command(&app.admin, "/v1/keys", key, &body).expect(200).json()
}

fn codes(app: &App, body: &str) -> Vec<Value> {
    let reply =
        app.as_role("publisher").post("/v1/events", &[("content-type", "application/x-ndjson")], body.as_bytes());
    let answer = reply.json();
    let outcomes = answer["outcomes"].as_array().unwrap();
    outcomes.iter().map(|outcome| outcome["verdict"]["refused"]["code"].clone()).collect()
}

#[test]
fn signed_events_count_by_the_keys_of_their_position_and_again_in_a_rebuild() {
    let app = App::start();
    assert_eq!(codes(&app, &signed("1", 7)), [json!("unknown_key")]);
    let enrolled = enroll(&app, "e7", 7, None);
    let id = key_id(&author(7).public());
    assert_eq!(enrolled["made"], id.as_str());
    assert_eq!(codes(&app, &signed("2", 7)), [json!("unknown_key")], "it waits for another admin");
    let confirm = format!("/v1/keys/{id}/confirm");
    let body = json!({ "enrolled": enrolled["position"] });
    app.command(&app.admin, &confirm, "own", &body).expect(409);
    app.command(&token("admin"), &confirm, "other", &json!({ "enrolled": 1 })).expect(409);
    app.command(&token("admin"), &confirm, "word", &body).expect(200);

    let other_type =
        seal(event("3", "llm_warmup_completed", &json!({ "engine_hash": "e" })).as_bytes(), &author(7)).unwrap();
    let mut tampered: Value = serde_json::from_str(&signed("4", 7)).unwrap();
    let other: Value = serde_json::from_str(&signed("5", 7)).unwrap();
    tampered["payload"] = other["payload"].clone();
    let lines = [signed("2", 7), other_type, tampered.to_string()].join("\n");
    assert_eq!(codes(&app, &lines), [Value::Null, json!("key_not_for_type"), json!("bad_signature")]);

    let rotated = enroll(&app, "e8", 8, Some(7));
    assert_eq!(codes(&app, &[signed("6", 8), signed("7", 7)].join("\n")), [Value::Null, json!("unknown_key")]);
    let shown = app.read("/v1/keys").expect(200).json();
    assert_eq!(
        (&shown["authors"][0]["status"], &shown["authors"][1]["status"]),
        (&json!("revoked"), &json!("in_force"))
    );
    assert_eq!(shown["authors"][0]["revoked_position"], rotated["position"]);
    let revoke = format!("/v1/keys/{}/revoke", key_id(&author(8).public()));
    app.command(&app.admin, &revoke, "v", &json!({ "reason": "laptop lost" })).expect(200);

    // What was refused is kept as it came.
    let position = app.read("/v1/rejected").expect(200).json()["rejected"][0]["position"].as_u64().unwrap();
    let kept = app.read(&format!("/v1/entries/governance/{position}")).expect(200).json();
    assert_eq!(kept["body"].as_str(), Some(signed("1", 7).as_str()));

    // The same by file, and the same verdicts in a rebuild.
    let log = app.data.path().join("events.ndjson");
    fs::write(&log, [signed("8", 8), signed("9", 9)].join("\n") + "\n").unwrap();
    let lines = fs::read(&log).unwrap();
    let sha256 = ledger_sha256(signed("8", 8).as_bytes());
    let path = format!("/v1/files/{sha256}/lines?name=events.ndjson&kind=governance&from_line=1");
    app.as_role("publisher").post(&path, &[("content-type", "application/x-ndjson")], &lines).expect(200);
    let verdicts = |governance: &govledger::projection::governance::Governance| -> Vec<Verdict> {
        (0..governance.size).map(|position| governance.verdict_at(position)).collect()
    };
    let before = verdicts(&app.handle.shared().governance());
    let last: Vec<&Verdict> = before.iter().rev().take(2).collect();
    assert!(
        last.iter()
            .all(|verdict| matches!(verdict, Verdict::Refused(refusal) if refusal.code.as_str() == "unknown_key")),
        "{last:?}"
    );
    let data = app.stopped();
    fs::remove_dir_all(data.path().join("data/cache")).unwrap();
    let core = Core::open(DataDir::open(&data.path().join("data")).unwrap(), TimeFields::default()).unwrap();
    assert_eq!(verdicts(&core.shared().governance()), before);
}

fn ledger_sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex(&sha2::Sha256::digest(bytes))
}

#[test]
fn the_nodes_key_is_rotated_and_a_crash_in_between_is_made_good() {
    let app = App::start();
    let keys = app.data.path().join("data/keys");
    let old = key_id(&LedgerKey::load(&keys.join("node.pem")).unwrap().public());
    app.as_role("oncall").post("/v1/node-key/rotate", &[("idempotency-key", "r")], b"").expect(403);
    let rotate =
        |key: &str| app.http.with_token(&app.admin).post("/v1/node-key/rotate", &[("idempotency-key", key)], b"");
    let first = rotate("r").expect(200).json();
    let new = key_id(&LedgerKey::load(&keys.join("node.pem")).unwrap().public());
    assert_eq!((first["made"].as_str(), new == old), (Some(new.as_str()), false));
    assert!(!keys.join("node.next.pem").exists());
    assert_eq!(rotate("r").expect(200).json()["position"], first["position"], "a repeat is the first one");
    // Commands go on under the new key.
    app.enroll("later", &["reader"]);
    let shown = app.read("/v1/keys").expect(200).json();
    let nodes = shown["nodes"].as_array().unwrap();
    let retired = |id: &str| nodes.iter().find(|row| row["key_id"] == id).unwrap()["retired_position"].clone();
    assert_eq!((retired(&old), retired(&new)), (first["position"].clone(), Value::Null), "{shown:#}");

    // A crash after the entry is durable and before the new key took its place: both files are there at the next start.
    let old_pem = fs::read(keys.join("node.pem")).unwrap();
    rotate("r2").expect(200);
    let third = key_id(&LedgerKey::load(&keys.join("node.pem")).unwrap().public());
    let data = app.stopped();
    let keys = data.path().join("data/keys");
    fs::rename(keys.join("node.pem"), keys.join("node.next.pem")).unwrap();
    fs::write(keys.join("node.pem"), old_pem).unwrap();
    fs::set_permissions(keys.join("node.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let core = Core::open(DataDir::open(&data.path().join("data")).unwrap(), TimeFields::default()).unwrap();
    assert_eq!(key_id(&core.shared().node_key().public()), third);
    assert_eq!(key_id(&LedgerKey::load(&keys.join("node.pem")).unwrap().public()), third);
    drop(core);
    // A key that was made and never asked for changes nothing.
    author(99).store(&keys.join("node.next.pem")).unwrap();
    let core = Core::open(DataDir::open(&data.path().join("data")).unwrap(), TimeFields::default()).unwrap();
    assert_eq!(key_id(&core.shared().node_key().public()), third);
}

/// Everything in a data directory, checked with the first keys alone; and that it goes on.
fn check_rotated(root: &Path, firsts: &[(&str, VerifierKey)], signer: &[u8; 32]) {
    for _ in 0..2 {
        let mut core = Core::open(DataDir::open(root).unwrap(), TimeFields::default()).unwrap();
        assert_eq!(core.data_dir().ledger_key().unwrap().public(), *signer);
        let instant =
            core.shared().governance().last_cut.as_ref().map_or(core.shared().governance().time, |cut| cut.instant);
        core.make_cut(instant.plus_seconds(10).floor_to_seconds(10)).unwrap();
        drop(core);
        for (name, first) in firsts {
            let report = audit(&root.join(name), first, &|_| {}).unwrap();
            assert!(report.is_ok(), "{name}: {report:#?}");
            let chain = ledger::Reader::open(&root.join(name), first).unwrap().keys();
            assert_eq!(chain.current().public(), signer, "{name}");
        }
    }
    assert!(!root.join("keys/ledger.next.pem").exists());
}

#[test]
fn the_ledger_key_is_rotated_and_the_first_one_checks_everything() {
    let app = App::start();
    app.publish(&published("1", "e", "1")).expect(200);
    let firsts = ["governance", "metrics-0"].map(|name| (name, app.handle.data_dir().verifier_key(name).unwrap()));
    let first = firsts[0].1.clone();
    let old_pem = fs::read(app.data.path().join("data/keys/ledger.pem")).unwrap();
    let kept = app.read("/ledger/governance/checkpoint").expect(200).text();
    app.as_role("oncall").post("/v1/ledger-key/rotate", &[("idempotency-key", "r")], b"").expect(403);
    let admin = app.http.with_token(&app.admin);
    let rotate = |key: &str| admin.post("/v1/ledger-key/rotate", &[("idempotency-key", key)], b"").expect(200).json();
    let rotated = rotate("r");
    assert_eq!(rotate("r")["position"], rotated["position"]);
    app.publish(&published("2", "f", "2")).expect(200);

    // The new checkpoint is the new key's, under the same origin; the first key leads there.
    let text = app.read("/ledger/governance/checkpoint").expect(200).text();
    let checkpoint = SignedCheckpoint::parse(&text).unwrap();
    assert_eq!(checkpoint.origin(), first.name());
    assert!(checkpoint.verify(&first).is_err());
    let rotations = app.read("/ledger/governance/rotations").expect(200).text();
    let chain = KeyChain::follow(&first, &rotations).unwrap();
    chain.verify(&checkpoint).unwrap();
    chain.checkpoint(&kept).unwrap();
    let listed = app.read("/ledger/governance/vkey").expect(200).text();
    assert_eq!(listed.lines().collect::<Vec<_>>(), [first.to_string(), chain.current().to_string()]);
    let shown = app.read("/v1/keys").expect(200).json();
    assert_eq!(shown["checkpoints"][0]["new"], hex(chain.current().public()));
    assert_eq!(shown["checkpoints"][0]["position"], rotated["position"]);

    let proof = ProofFile::parse(&app.read("/v1/entries/governance/3/proof").expect(200).text()).unwrap();
    let entry = app.handle.shared().reader("governance").unwrap().entry(3).unwrap();
    proof.verify(&entry, &first).unwrap();
    let before = rotated["position"].as_u64().unwrap();
    app.read(&format!("/v1/entries/governance/3/proof?size={before}")).expect(400);

    // The next rotation is the last thing that happens: then a crash can be set up anywhere in it.
    let mid_pem = fs::read(app.data.path().join("data/keys/ledger.pem")).unwrap();
    assert_ne!(mid_pem, old_pem);
    rotate("r2");
    let data = app.stopped();
    let root = data.path().join("data");
    let new_pem = fs::read(root.join("keys/ledger.pem")).unwrap();
    let signer = LedgerKey::load(&root.join("keys/ledger.pem")).unwrap();
    assert!(audit_extends(&root.join("governance"), &kept, &first).is_ok());

    crash_everywhere(data.path(), &firsts, &rotations, (&mid_pem, &new_pem), &signer.public());
    check_by_command(data.path(), &first, &signer);
}

/// Sets the last rotation back as a crash would have left it, at each place in it, and starts again.
fn crash_everywhere(
    data: &Path,
    firsts: &[(&str, VerifierKey)],
    rotations: &str,
    (old_pem, new_pem): (&[u8], &[u8]),
    signer: &[u8; 32],
) {
    let root = data.join("data");
    for undone in ["the note", "every ledger", "one ledger", "the key's place", "nothing"] {
        let crashed = data.join(undone.replace(' ', "-"));
        copy_dir(&root, &crashed);
        let ledgers: &[&str] = match undone {
            "the note" => &["keys", "governance", "metrics-0"],
            "every ledger" => &["governance", "metrics-0"],
            "one ledger" => &["governance"],
            _ => &[],
        };
        for place in ledgers {
            fs::write(crashed.join(place).join("rotations"), rotations).unwrap();
        }
        if undone != "nothing" {
            let write = |name: &str, pem: &[u8]| {
                let path = crashed.join("keys").join(name);
                let _ = fs::remove_file(&path);
                fs::write(&path, pem).unwrap();
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            };
            write("ledger.pem", old_pem);
            write("ledger.next.pem", new_pem);
        }
        check_rotated(&crashed, firsts, signer);
    }
}

/// The command line with the first key alone; a further rotation that is in no entry is found out.
fn check_by_command(data: &Path, first: &VerifierKey, signer: &LedgerKey) {
    let root = data.join("data");
    let (vkey, export) = (data.join("first.vkey"), data.join("export"));
    fs::write(&vkey, format!("{first}\n")).unwrap();
    let [root, vkey, export] = [&root, &vkey, &export].map(|path| path.to_str().unwrap());
    govledger(&["--data", root, "verify"]).expect(0);
    govledger(&["--data", root, "export", export]).expect(0);
    govledger(&["verify", export, "--vkey", vkey]).expect(0);
    let proof = data.join("3.tlog-proof");
    let proof = proof.to_str().unwrap();
    govledger(&["--export", export, "--vkey", vkey, "prove", "3", "-o", proof]).expect(0);
    let entry = proof.replace("tlog-proof", "entry");
    govledger(&["check-proof", proof, "--entry", &entry, "--vkey", vkey]).expect(0);
    let file = Path::new(export).join("governance/rotations");
    let size = audit(Path::new(export).join("governance").as_path(), first, &|_| {}).unwrap().size;
    let stolen = Rotation::sign(signer, author(9).public(), &[(first.name().to_owned(), size)]).unwrap();
    fs::write(&file, fs::read_to_string(&file).unwrap() + &stolen).unwrap();
    let found = govledger(&["verify", export, "--vkey", vkey]).expect(3);
    assert!(found.stdout.contains("rotation 3 of its key is in no entry"), "{}", found.stdout);
}

//! What an auditor makes of a cosigned checkpoint, with an export, a key and a trust policy and nothing else.

use std::path::Path;

use ledger::cosigned::COSIGNED;
use serde_json::Value;

use super::omni::Omni;
use super::{Node, both, cosigned, publish, size};
use crate::support::parts;
use crate::support::process::{Finished, Service, govledger};
use crate::support::scratch::copy_dir;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A ledger cosigned by two witnesses, and its export.
struct Audited {
    service: Service,
    witnesses: [Omni; 2],
    trust: std::path::PathBuf,
    out: std::path::PathBuf,
    node: Node,
}

impl Audited {
    fn new(name: &str) -> Option<Self> {
        let parts = parts::witness()?;
        let node = Node::new(name);
        let (mut w1, mut w2) = (Omni::new(&parts, &node.scratch, "w1"), Omni::new(&parts, &node.scratch, "w2"));
        w1.start(&node.vkey);
        w2.start(&node.vkey);
        let service = node.serve(&both(&w1, &w2));
        publish(&node.publisher(&service), "first", 10);
        cosigned(&service.http(), size(&service.http()));
        let printed = govledger(&["--data", text(&node.data), "policy", "trust"]).expect(0).stdout;
        assert!(printed.starts_with(&format!("log {}\n", node.vkey)), "{printed}");
        assert!(printed.ends_with("group both all w1 w2\nquorum both\n"), "{printed}");
        let (trust, out) = (node.scratch.write("trust", printed), node.scratch.join("out"));
        govledger(&["--data", text(&node.data), "export", text(&out)]).expect(0);
        Some(Self { service, witnesses: [w1, w2], trust, out, node })
    }

    fn verify(&self, more: &[&str]) -> Finished {
        let vkey = self.out.join("governance.vkey");
        let mut arguments = vec!["--vkey", text(&vkey), "verify", text(&self.out)];
        arguments.extend(more);
        govledger(&arguments)
    }

    fn verify_with(&self, trust: &str, more: &[&str]) -> Finished {
        let file = self.node.scratch.write("other-trust", trust);
        self.verify(&[&["--trust", text(&file)], more].concat())
    }
}

#[test]
fn the_quorum_holds_offline_and_over_http() {
    let Some(mut audited) = Audited::new("offline") else { return };
    let trust = text(&audited.trust).to_owned();
    let said = audited.verify(&["--trust", &trust]).expect(0).stdout;
    assert!(said.contains("governance: trusted, ") && said.contains("cosigned by w1 at 2"), "{said}");
    assert!(said.contains("; quorum both is met") && said.contains("everything holds"), "{said}");
    let json = audited.verify(&["--trust", &trust, "--json"]).expect(0).json();
    let by = &json["trust"]["cosigners"];
    assert_eq!((&by[0]["name"], &by[1]["name"], &by[2]), (&"w1".into(), &"w2".into(), &Value::Null));
    assert_eq!((&json["trust"]["met"], &json["ok"]), (&true.into(), &true.into()));
    // The directory itself, and the service.
    let own = ["--data", text(&audited.node.data), "verify", "--trust", &trust];
    govledger(&own).expect(0);
    let vkey = audited.out.join("governance.vkey");
    let url = audited.service.url().to_owned();
    let said = govledger(&["--vkey", text(&vkey), "verify", &url, "--trust", &trust]).expect(0).stdout;
    assert!(said.contains("quorum both is met"), "{said}");
    // What `policy trust` prints is the same from an export.
    let again = govledger(&["--export", text(&audited.out), "--vkey", text(&vkey), "policy", "trust"]).expect(0).stdout;
    assert_eq!(again, std::fs::read_to_string(&audited.trust).unwrap());
    assert_eq!(audited.service.terminate(), 0);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let Some(mut audited) = Audited::new("missing") else { return };
    assert_eq!(audited.service.terminate(), 0);
    let policy = std::fs::read_to_string(&audited.trust).unwrap();
    let kept = std::fs::read_to_string(audited.out.join("governance").join(COSIGNED)).unwrap();
    let without_w2: String =
        kept.split_inclusive('\n').filter(|line| !line.starts_with("\u{2014} w2.example")).collect();
    assert_ne!(without_w2, kept);
    let file = audited.node.scratch.write("one", without_w2);
    let one = ["--trust", text(&audited.trust), "--cosigned", text(&file)];
    let said = audited.verify(&one).expect(1).stdout;
    assert!(said.contains("governance: ok") && said.contains("both needs 2 and has 1: missing w2"), "{said}");
    let json = audited.verify(&[&one[..], &["--json"]].concat()).expect(1).json();
    assert_eq!((&json["ok"], &json["trust"]["met"]), (&false.into(), &false.into()));
    assert_eq!(json["problems"][0]["missing"][0], "both needs 2 and has 1: missing w2");
    // One of the two is enough for a policy that says so.
    audited.verify_with(&policy.replace("group both all", "group both any"), &one[2..]).expect(0);

    // A policy of another log, of a key that no witness has, and one that is none.
    let stranger = Node::new("stranger");
    let said = audited.verify_with(&policy.replace(&audited.node.vkey, &stranger.vkey), &[]).expect(1).stdout;
    assert!(said.contains("names other logs"), "{said}");
    let said = audited.verify_with("quorum all\n", &[]).expect(2).stderr;
    assert!(said.contains("line 1 of the trust policy"), "{said}");
    audited.verify_with("quorum none\n", &[]).expect(0);

    // A cosignature that was changed.
    let at = kept.rfind("w2.example ").unwrap() + "w2.example ".len() + 40;
    let mut changed = kept.clone().into_bytes();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let file = audited.node.scratch.write("changed", changed);
    let said = audited.verify(&["--trust", text(&audited.trust), "--cosigned", text(&file)]).expect(1).stdout;
    assert!(said.contains("the signature of w2.example does not verify"), "{said}");

    // Nothing was cosigned at all.
    std::fs::remove_file(audited.out.join("governance").join(COSIGNED)).unwrap();
    let said = audited.verify(&["--trust", text(&audited.trust)]).expect(1).stdout;
    assert!(said.contains("has no cosigned checkpoint") && said.contains("missing w1, w2"), "{said}");
    audited.verify(&[]).expect(0);
}

/// The split view: somebody who has the ledger's key shows an auditor another history. By itself it is whole.
#[test]
fn a_history_that_the_witnesses_did_not_see_is_found_out() {
    let Some(mut audited) = Audited::new("split") else { return };
    assert_eq!(audited.service.terminate(), 0);
    let (node, forked) = (&audited.node, audited.node.scratch.join("forked"));
    copy_dir(&node.data, &forked);
    let mut service = node.serve_on(&node.data, "");
    publish(&service.http().with_token("glt_ci"), "real", 5);
    let seen = node.scratch.write("seen", cosigned(&service.http(), size(&service.http())));
    assert_eq!(service.terminate(), 0);

    audited.witnesses.iter_mut().for_each(Omni::stop);
    let mut service = node.serve_on(&forked, "");
    publish(&service.http().with_token("glt_ci"), "forged", 30);
    let shown = node.scratch.join("shown");
    govledger(&["--data", text(&forked), "export", text(&shown)]).expect(0);
    assert_eq!(service.terminate(), 0);
    let vkey = shown.join("governance.vkey");
    let verify = |more: &[&str]| govledger(&[&["--vkey", text(&vkey), "verify", text(&shown)], more].concat());
    verify(&[]).expect(0);
    // Of it only what both histories have is cosigned, and that is said.
    let said = verify(&["--trust", text(&audited.trust)]).expect(0).stdout;
    assert!(said.contains("quorum both is met"), "{said}");
    let json = verify(&["--trust", text(&audited.trust), "--json"]).expect(0).json();
    assert!(json["trust"]["of"].as_u64().unwrap() >= json["trust"]["size"].as_u64().unwrap() + 30, "{json}");
    // What the witnesses cosigned since is no part of it.
    let said = verify(&["--trust", text(&audited.trust), "--cosigned", text(&seen)]).expect(3).stdout;
    assert!(said.contains("rewritten: it does not extend the cosigned checkpoint"), "{said}");
}

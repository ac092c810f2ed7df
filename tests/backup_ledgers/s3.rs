//! The same against a real S3-compatible server, and with that server down.

use super::*;
use crate::support::parts;
use crate::support::s3::S3;

const TARGET: &str = "s3://backups/ledgers";

fn host(name: &str, s3: &S3, target: &str) -> Host {
    let prefix = target.trim_start_matches("s3://");
    Host::with_target(Scratch::new(name), target, s3.root.join(prefix), s3.environment())
}

#[test]
fn a_copy_on_an_s3_server_is_gone_on_from_after_the_machine_is_lost() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("ledgers-load-server");
    let s3 = S3::start(versitygw, &scratch);
    outlives_its_machine(host("ledgers-load-s3", &s3, TARGET));
}

#[test]
fn an_object_of_an_s3_server_that_changed_or_is_missing_is_found() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("ledgers-damage-server");
    let s3 = S3::start(versitygw, &scratch);
    is_refused_unless_it_holds(host("ledgers-damage-s3", &s3, TARGET));
}

#[test]
fn kills_half_way_to_and_from_an_s3_server_are_gone_on_from() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("ledgers-kill-server");
    let s3 = S3::start(versitygw, &scratch);
    survives_kills(&host("ledgers-kill-s3", &s3, TARGET));
}

#[test]
fn an_s3_server_that_is_down_is_named_and_holds_up_no_other() {
    let Some(versitygw) = parts::s3() else { return };
    let scratch = Scratch::new("ledgers-down-server");
    let mut s3 = S3::start(versitygw, &scratch);
    let host = host("ledgers-down", &s3, TARGET);
    for number in 0..20 {
        post(&host.service.http().with_token(SHIPPER), number);
    }
    let kept = host.keep(&host.service, "governance", "kept");
    s3.process.kill9();
    let copy = |targets: &[&str]| {
        let to: Vec<&str> = targets.iter().flat_map(|target| ["--to", *target]).collect();
        host.run(&[&["--data", "data", "--json", "backup", "ledgers"], to.as_slice()].concat())
    };
    // The directory gets its copy; the one that is down is named with what its client said.
    let partly = copy(&["directory", TARGET]).expect(1);
    assert!(partly.stderr.contains(&format!("target {TARGET}: ")), "{}", partly.stderr);
    let targets = &partly.json()["targets"];
    let of = |url: &str| targets.as_array().unwrap().iter().find(|row| text_of(row, "target").ends_with(url)).unwrap();
    assert!(of("directory")["manifest_sha256"].is_string(), "{targets:#}");
    assert!(of(TARGET)["error"].is_string() && of(TARGET)["manifest_sha256"].is_null(), "{targets:#}");
    let none = copy(&[TARGET]).expect(6);
    assert!(none.stderr.contains("no target holds the copy"), "{}", none.stderr);
    host.refuses(6, TARGET, &[]);

    // Once it is back it takes the same, and gives it back as an extension of what was kept outside.
    s3.start_again();
    assert!(copy(&["directory", TARGET]).expect(0).json()["targets"][1]["objects_sent"].as_u64().unwrap() > 0);
    let restored = host.restore("restored", &["--since", "kept"]).expect(0).json();
    assert!(ledger(&restored, "governance")["size"].as_u64().unwrap() >= kept);
    host.put_keys("restored");
    let service = serve(&host.scratch, "restored");
    post(&service.http().with_token(SHIPPER), 5_000);
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

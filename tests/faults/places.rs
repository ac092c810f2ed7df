//! Where the service lives: a full disk, a clock that is set, a directory that is in use, a cache that is gone or broken.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use govledger::domain::time::Time;

use crate::stage::{END, STACK, Stage};
use crate::support::parts;
use crate::support::process::{Service, finish, govledger};
use crate::support::scratch::{Scratch, copy_dir};
use crate::support::wait::wait_for;

/// A small file system in memory, unmounted on drop.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "govledger-test"]).arg(&at);
        if finish(&mut mount).code == 0 {
            return Some(Self(at));
        }
        parts::not_allowed("mounting a tmpfs");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_writer_and_freed_space_is_enough_to_go_on() {
    let scratch = Scratch::new("full");
    let Some(small) = Small::mount(scratch.join("small")) else { return };
    let data = small.0.join("data");
    let ballast = small.0.join("ballast");
    std::fs::write(&ballast, vec![7; 1 << 20]).unwrap();
    let mut stage = Stage::at(scratch, data);
    let mut service = Service::start(stage.options());
    let http = stage.owner(&service);
    Stage::publish(&http);
    let (status, problem) = stage.send_until_refused(&http, 200, 400).expect("an answer");
    assert_eq!((status, problem["code"].as_str()), (503, Some("writer_stopped")), "{problem}");
    Stage::wait_stopped(&http);
    http.get(&format!("/v1/stacks/{STACK}")).expect(200);
    assert_eq!(service.terminate(), 7);
    assert!(service.log().contains("No space left on device"), "{}", service.log());
    stage.verify();
    std::fs::remove_file(ballast).unwrap();
    stage.recover();
}

#[test]
fn a_second_service_on_the_directory_is_refused() {
    let mut stage = Stage::new("second");
    let mut first = Service::start(stage.options());
    let http = stage.owner(&first);
    assert_eq!(stage.send(&http, 5).unwrap().0, 200);
    let mut arguments = stage.options().arguments;
    arguments.pop();
    arguments.push("127.0.0.1:0".into());
    let second = govledger(&arguments).expect(6);
    assert!(second.stderr.contains("another govledger process writes there"), "{}", second.stderr);
    // The first one notices nothing.
    assert_eq!(stage.send(&http, 5).unwrap().0, 200);
    assert_eq!(first.terminate(), 0);
    stage.recover();
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// What a start on this directory answers, and what it says.
fn answers(stage: &Stage, what: &str) -> (Vec<String>, String) {
    let mut service = Service::start(stage.options());
    let http = stage.owner(&service);
    let paths = [
        "/v1/stacks",
        "/v1/rejected",
        "/v1/alerts",
        "/v1/stacks/engine-qwen3/timeline",
        "/v1/stacks/engine-qwen3/last-good",
    ];
    let answers = paths.map(|path| {
        let mut answer = http.get(path).json();
        // A cut may be made between two starts; what is asked is the state, not where the ledger ends.
        for where_it_ends in ["as_of", "evaluated_through"] {
            answer.as_object_mut().unwrap().remove(where_it_ends);
        }
        answer.to_string()
    });
    assert_eq!(service.terminate(), 0, "{what}: {}", service.log());
    (answers.to_vec(), service.log())
}

#[test]
fn a_cache_that_is_gone_or_broken_is_made_anew() {
    let mut stage = Stage::new("cache");
    let mut service = Service::start(stage.options());
    let http = stage.owner(&service);
    Stage::publish(&http);
    assert_eq!(stage.send(&http, 50).unwrap().0, 200);
    assert_eq!(service.terminate(), 0);
    let (expected, _) = answers(&stage, "as it was left");
    let (cache, kept) = (stage.data.join("cache"), stage.scratch.join("cache.kept"));
    copy_dir(&cache, &kept);
    let names = files(&cache);
    assert!(names.len() >= 2, "{names:?}");
    std::fs::remove_dir_all(&cache).unwrap();
    assert_eq!(answers(&stage, "deleted").0, expected);
    for name in names {
        let whole = std::fs::read(kept.join(name.strip_prefix(&cache).unwrap())).unwrap();
        let flipped: Vec<u8> = whole.iter().map(|byte| byte ^ 0x55).collect();
        let half = whole[..whole.len() / 2].to_vec();
        for (how, bytes) in [("every byte changed", flipped), ("cut in half", half), ("emptied", Vec::new())] {
            std::fs::remove_dir_all(&cache).unwrap();
            copy_dir(&kept, &cache);
            std::fs::write(&name, bytes).unwrap();
            let what = format!("{} {how}", name.display());
            let (found, log) = answers(&stage, &what);
            assert_eq!(found, expected, "{what}");
            assert!(!log.contains("panicked"), "{what}: {log}");
        }
    }
    stage.recover();
}

/// Times of the governance entries, as the service tells them.
fn instants(stage: &Stage, service: &Service) -> Vec<Time> {
    let answer = stage.owner(service).get("/v1/entries?ledger=governance&limit=1000").expect(200).json();
    answer["entries"].as_array().unwrap().iter().map(|row| row["time"].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_clock_that_is_set_back_and_forward_reorders_nothing() {
    let Some(library) = parts::faketime() else { return };
    let mut stage = Stage::new("clock");
    let offset = stage.scratch.write("offset", "+0\n");
    let options = stage
        .options()
        .env("LD_PRELOAD", library.to_str().unwrap())
        .env("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut service = Service::start(options);
    let http = stage.owner(&service);
    Stage::publish(&http);
    for (set, count) in [("-3600", 2), ("+3600", 2), ("-86400", 2), ("+7200", 2)] {
        std::fs::write(&offset, format!("{set}\n")).unwrap();
        std::thread::sleep(Duration::from_millis(700));
        for _ in 0..count {
            assert_eq!(stage.send(&http, 3).unwrap().0, 200, "after {set}: {}", service.log());
        }
        let note = format!(
            r#"{{"specversion":"1.0","id":"{set}","source":"ci","type":"note","subject":"{STACK}","data":{{}}}}"#
        );
        http.post("/v1/events", &[("content-type", "application/cloudevents+json")], note.as_bytes()).expect(200);
    }
    // The clock ran ahead: cuts follow it, once for each instant.
    wait_for("a cut after the last step", END, || {
        let ready = http.get("/readyz").json();
        ready["evaluated_through"].is_string().then_some(())
    });
    let times = instants(&stage, &service);
    assert!(times.len() > 6 && times.is_sorted(), "{times:?}");
    assert_eq!(http.get("/healthz").status, 200);
    assert_eq!(service.terminate(), 0);
    // By the machine's own clock again, which is behind what is in the ledger.
    stage.recover();
}

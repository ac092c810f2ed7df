//! Each system call by which the service makes something durable, failing or killing the process while load goes on.
//!
//! `GOVLEDGER_CALLS=FROM..TO cargo test --test faults each_durable_call` crosses all calls and faults at other moments: from the
//! FROM-th call of a kind on, then from the next, and so on.

use std::time::Duration;

use crate::stage::{END, Stage};
use crate::support::parts;
use crate::support::process::Service;

/// What happens at a call.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Error(&'static str),
    Kill,
}

/// The service under strace (as its grandchild: signals and exit code are the service's own) from its start, the fault at the `when`-th of these calls of any thread on and after; load until
/// it bites. `file` narrows the calls to those on that path.
fn check(name: &str, call: &str, fault: Fault, when: u32, file: Option<&str>) {
    if parts::strace().is_none() {
        return;
    }
    let mut stage = Stage::new(name);
    let mut warm = Service::start(stage.options());
    let http = stage.owner(&warm);
    Stage::publish(&http);
    assert_eq!(stage.send(&http, 5).unwrap().0, 200);
    assert_eq!(warm.terminate(), 0);

    let what = match fault {
        Fault::Error(error) => format!("inject={call}:error={error}:when={when}+"),
        Fault::Kill => format!("inject={call}:signal=KILL:when={when}"),
    };
    let path = file.map(|file| stage.data.join(file).display().to_string());
    let mut arguments = vec!["-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e"];
    let trace = format!("trace={call}");
    arguments.extend([trace.as_str(), "-e", &what]);
    if let Some(path) = &path {
        arguments.extend(["-P", path]);
    }
    let mut service = Service::spawn(stage.options_under("strace", &arguments));
    let up = wait_up(&mut service);
    if up {
        let http = stage.owner(&service);
        match stage.send_until_refused(&http, 5, 400) {
            // The writer says that it stopped; health asks for a restart, and answers that need no writer still come.
            Some((503, problem)) => {
                assert!(matches!(fault, Fault::Error(_)), "{problem}");
                assert_eq!(problem["code"], "writer_stopped", "{problem}");
                Stage::wait_stopped(&http);
                http.get("/v1/stacks").expect(200);
                assert_eq!(stage.send(&http, 1).unwrap().0, 503, "a poisoned writer takes nothing more");
                assert_eq!(service.terminate(), 7, "exit code of a writer that stopped");
                assert!(service.log().contains("writer.stopped"), "{}", service.log());
            }
            Some((status, problem)) => panic!("{name}: {status} {problem}"),
            None => {
                assert!(matches!(fault, Fault::Kill), "no answer at all");
                assert!(service.wait_exit(END).is_some());
            }
        }
    } else {
        let status = service.wait_exit(END).expect("it ended while starting");
        match fault {
            Fault::Error(_) => assert_eq!(status, 7, "{}", service.log()),
            Fault::Kill => assert_ne!(status, 0),
        }
    }
    let said = service.log();
    assert!(!said.contains("panicked"), "{said}");
    drop(service);
    stage.recover();
}

/// Whether it came up before the fault ended it.
fn wait_up(service: &mut Service) -> bool {
    for _ in 0..3_000 {
        if service.http().try_get("/readyz").is_ok_and(|reply| reply.status == 200) {
            return true;
        }
        if service.wait_exit(Duration::from_millis(10)).is_some() {
            return false;
        }
    }
    panic!("neither up nor ended: {}", service.log())
}

const SEGMENT: &str = "metrics-0/segments/00000000000000000000.segment";

#[test]
fn a_sync_that_fails_under_load_stops_the_writer() {
    check("fdatasync", "fdatasync", Fault::Error("EIO"), 8, None);
}

#[test]
fn a_kill_in_a_sync_loses_nothing_acknowledged() {
    check("fdatasync-kill", "fdatasync", Fault::Kill, 9, None);
}

#[test]
fn a_write_without_space_stops_the_writer() {
    check("pwrite", "pwrite64", Fault::Error("ENOSPC"), 12, Some(SEGMENT));
}

#[test]
fn a_kill_in_a_write_loses_nothing_acknowledged() {
    check("pwrite-kill", "pwrite64", Fault::Kill, 20, None);
}

#[test]
fn a_sync_of_a_file_that_fails_while_starting_is_said() {
    check("fsync", "fsync", Fault::Error("EIO"), 1, None);
}

#[test]
fn a_rename_that_fails_while_starting_is_said() {
    check("rename", "rename", Fault::Error("EIO"), 1, None);
}

#[test]
fn a_kill_at_a_rename_leaves_the_old_or_the_new() {
    check("rename-kill", "rename", Fault::Kill, 1, None);
}

#[test]
fn a_segment_that_cannot_be_opened_is_said() {
    check("openat", "openat", Fault::Error("EIO"), 1, Some(SEGMENT));
}

/// The calls by which something becomes durable, crossed with what can happen at them. Writes are narrowed to the segment, since
/// the cache and the access ledger write as well. A start makes some ten whole syncs and one rename, and load makes none.
#[test]
#[expect(clippy::disallowed_methods, reason = "the moments of a long run are handed in by the environment")]
fn each_durable_call_goes_wrong_in_each_way() {
    let moments: Vec<u32> = match std::env::var("GOVLEDGER_CALLS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").unwrap();
            (from.parse().unwrap()..to.parse().unwrap()).collect()
        }
        Err(_) => vec![1, 5],
    };
    let faults = [Fault::Error("EIO"), Fault::Error("ENOSPC"), Fault::Kill];
    let calls = [("fdatasync", None, 40), ("pwrite64", Some(SEGMENT), 40), ("fsync", None, 6), ("rename", None, 1)];
    for (call, file, last) in calls {
        for when in moments.iter().copied().filter(|when| *when <= last) {
            for fault in faults {
                eprintln!("{call} {fault:?} at {when}");
                check(&format!("each-{call}-{when}"), call, fault, when, file);
            }
        }
    }
}

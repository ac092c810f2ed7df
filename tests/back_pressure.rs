//! More than the writer can take: callers are told when to come again, nothing that was answered is lost, memory stays flat.

#![cfg(test)]

mod support;

use std::fmt::Write as _;

use support::process::{Service, ServiceOptions, free_port, govledger};
use support::scratch::Scratch;

const CALLERS: usize = 24;
const LINES: usize = 100;
/// More than an entry holds, so that the writer keeps each line as a file of its own: slow, on purpose.
const LINE_BYTES: usize = 70_000;

fn events(caller: usize) -> String {
    (0..LINES).fold(String::new(), |mut text, line| {
        let filler = "x".repeat(LINE_BYTES);
        writeln!(text, r#"{{"event_type":"note","artifact":{{"artifact_id":"s"}},"payload":{{"n":"{caller}-{line}","x":"{filler}"}}}}"#).unwrap();
        text
    })
}

/// Peak resident memory of a process, MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let scratch = Scratch::new("back-pressure");
    let (data, token_file) = (scratch.join("data"), scratch.join("admin"));
    let data = data.to_str().unwrap();
    govledger(&["--data", data, "init", "--node", "test", "--token-out", token_file.to_str().unwrap()]).expect(0);
    let listen_port = free_port();
    let arguments = ["--data", data, "serve", "--listen", &format!("127.0.0.1:{listen_port}")].map(str::to_owned);
    let service = Service::start(ServiceOptions::new(arguments, listen_port));
    let admin = service.http().with_token(std::fs::read_to_string(&token_file).unwrap().trim());
    let enroll = serde_json::json!({ "name": "pub", "roles": ["publisher", "auditor"], "token_sha256": govledger::domain::principal::token_sha256("glt_pub") });
    admin.post("/v1/principals", &[("idempotency-key", "1")], enroll.to_string().as_bytes()).expect(200);
    let publisher = service.http().with_token("glt_pub");

    let replies: Vec<_> = std::thread::scope(|scope| {
        let post = |caller| {
            publisher.post("/v1/events", &[("content-type", "application/x-ndjson")], events(caller).as_bytes())
        };
        let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || post(caller))).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let told_to_wait: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
    // Every line is too large for an entry: kept, and refused as such.
    let kept_count = replies.iter().filter(|reply| reply.status == 422).count();
    assert_eq!(
        told_to_wait.len() + kept_count,
        CALLERS,
        "{:?}",
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
    assert!(!told_to_wait.is_empty() && kept_count > 0, "{} told to wait, {kept_count} taken", told_to_wait.len());
    assert!(told_to_wait.iter().all(|reply| reply.header("retry-after").is_some()), "503 without Retry-After");
    let exposition = publisher.get("/metrics").expect(200).text();
    let expected = format!("govledger_rejected_total{{code=\"too_large\"}} {}", kept_count * LINES);
    assert!(exposition.contains(&expected), "{expected} is not in\n{exposition}");
    let resident = peak_mib(service.pid());
    assert!(resident < 600, "{resident} MiB; {CALLERS} bodies of 7 MB, a queue of 64 MiB");
}

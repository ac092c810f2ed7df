//! The examples of docs/examples/gate, run: real proxies in front of a server follow the gate, and keep its last answer while
//! govledger is dead. The reports that move the gate come from `govledger warmup`.

#![cfg(test)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::guarded::Guarded;
use support::http::Http;
use support::parts;
use support::process::{Finished, Service, ServiceOptions, finish, free_port, govledger};
use support::scratch::Scratch;
use support::wait::{Deadline, wait_for};

const STACK: &str = "engine-qwen3";
const ENGINE: &str = "5bd3c6e1a0f2";
const LIMIT: Duration = Duration::from_secs(20);
/// How long an answer has to hold: the caches ask every second.
const HOLD: Duration = Duration::from_millis(2_500);

/// A service that anybody may ask, and its directory.
#[derive(Debug)]
struct Governed {
    scratch: Scratch,
    data: PathBuf,
    service: Service,
    port: u16,
}

impl Governed {
    fn start(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let port = free_port();
        let (data, token) = (scratch.join("data"), scratch.join("token"));
        let config = scratch.write("config.toml", "open_reads = true\n");
        govledger(&["--data", text(&data), "init", "--node", "test", "--token-out", text(&token)]).expect(0);
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["--data", text(&data), "--config", text(&config), "serve", "--listen", &listen];
        let service = Service::start(ServiceOptions::new(arguments.map(str::to_owned), port));
        Self { scratch, data, service, port }
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let mut all = vec!["--data", text(&self.data)];
        all.extend(arguments);
        govledger(&all)
    }

    fn publish(&self) {
        let event = format!(
            r#"{{"event_type":"llm_engine_published","artifact":{{"artifact_id":"{STACK}","version":"1.4.0","hash":"{ENGINE}"}},"actor":"ci","payload":{{}},"timestamp":"2026-10-01T08:30:00.123456+00:00"}}"#
        );
        let file = self.scratch.write("publish.ndjson", event + "\n");
        self.run(&["ingest", text(&file)]).expect(0);
    }

    /// Runs a warm-up that succeeds or fails.
    fn warm_up(&self, succeeds: bool) {
        let spool = self.scratch.join("unsent");
        let command = if succeeds { "true" } else { "false" };
        let ran = self.run(&["warmup", STACK, "--spool", text(&spool), "--", command]);
        ran.expect(i32::from(!succeeds));
        assert!(!spool.exists(), "a report that was recorded stays nowhere");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server that answers every request; its port.
fn serving() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = [0; 4_096];
                // One request a connection, without a body: its head fits one read.
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nserved");
            });
        }
    });
    port
}

/// An example with the addresses of this test in place of its own.
fn example(name: &str, replaced: &[(String, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/gate").join(name);
    replaced.iter().fold(std::fs::read_to_string(path).unwrap(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the example {name}");
        text.replace(from, to)
    })
}

/// Drives the gate through all its states, and asks whoever follows it whether requests are let through.
fn follows_the_gate(governed: &mut Governed, lets_through: impl Fn() -> bool) {
    let becomes = |open: bool, why: &str| {
        wait_for(&format!("open = {open}: {why}"), LIMIT, || (lets_through() == open).then_some(()));
    };
    let stays = |open: bool, why: &str| {
        let deadline = Deadline::after(HOLD);
        while !deadline.passed() {
            assert_eq!(lets_through(), open, "{why}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    becomes(true, "the stack was never heard of");
    governed.publish();
    becomes(false, "published and not warm");
    governed.warm_up(true);
    becomes(true, "warm");
    governed.service.kill9();
    stays(true, "govledger is dead and the gate was open");
    governed.service.start_again();
    governed.warm_up(false);
    becomes(false, "the last warm-up failed");
    governed.service.kill9();
    stays(false, "govledger is dead and the gate was closed");
    governed.service.start_again();
    governed.warm_up(true);
    becomes(true, "warm again");
}

/// Whether a proxy at this port lets a request through; anything but 200 and 503 is a failure of the test.
fn asks(port: u16) -> impl Fn() -> bool {
    let http = Http::new(&format!("http://127.0.0.1:{port}"));
    move || {
        let reply = http.get("/v2/models/qwen3/infer");
        match reply.status {
            200 => reply.text() == "served",
            503 => false,
            other => panic!("status {other}: {}", reply.text()),
        }
    }
}

fn started(command: &Command, scratch: &Scratch, port: u16) -> Guarded {
    let process = Guarded::start(command, &scratch.join("proxy.log"));
    wait_for("the proxy", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    process
}

#[test]
fn nginx_follows_the_gate_and_keeps_its_last_answer() {
    let Some(nginx) = parts::nginx() else { return };
    let mut governed = Governed::start("nginx");
    let scratch = Scratch::new("nginx-proxy");
    let port = free_port();
    let replaced = [(8_000, serving()), (7_710, governed.port), (8_080, port)]
        .map(|(theirs, ours)| (format!("127.0.0.1:{theirs}"), format!("127.0.0.1:{ours}")));
    let config = scratch.write("nginx.conf", example("nginx.conf", &replaced));
    std::fs::create_dir(scratch.join("tmp")).unwrap();
    let mut command = Command::new(&nginx);
    command.current_dir(scratch.path()).arg("-p").arg(scratch.path()).arg("-c").arg(config).args([
        "-e",
        "stderr",
        "-g",
        "daemon off;",
    ]);
    // Root's workers would become `nobody`, who may not enter the scratch directory.
    if is_root() {
        command.args(["-g", "user root;"]);
    }
    let _proxy = started(&command, &scratch, port);
    follows_the_gate(&mut governed, asks(port));
}

#[test]
fn envoy_follows_the_gate_and_keeps_its_last_answer() {
    let Some(envoy) = parts::envoy() else { return };
    let mut governed = Governed::start("envoy");
    let scratch = Scratch::new("envoy-proxy");
    let port = free_port();
    let replaced = [(8_000, serving()), (7_710, governed.port), (8_080, port)]
        .map(|(theirs, ours)| (format!("port_value: {theirs}"), format!("port_value: {ours}")));
    let config = scratch.write("envoy.yaml", example("envoy.yaml", &replaced));
    let mut command = Command::new(&envoy);
    command.arg("-c").arg(config).args(["--concurrency", "1", "--log-level", "warning", "--use-dynamic-base-id"]);
    let _proxy = started(&command, &scratch, port);
    follows_the_gate(&mut governed, asks(port));
}

/// The readiness probe of the Kubernetes example, as the kubelet would run it.
#[test]
fn the_kubernetes_probe_follows_the_gate_and_keeps_its_last_answer() {
    let mut governed = Governed::start("probe");
    let scratch = Scratch::new("probe-files");
    let probe = probe(&scratch);
    let url = format!("http://127.0.0.1:{}", governed.port);
    let token = std::fs::read_to_string(governed.scratch.join("token")).unwrap();
    let ready = move || {
        let ran =
            finish(Command::new("sh").arg(&probe).env("GOVLEDGER_URL", &url).env("GOVLEDGER_TOKEN", token.trim()));
        ran.code == 0
    };
    follows_the_gate(&mut governed, ready);
}

/// The probe's script, with its files in `scratch`.
fn probe(scratch: &Scratch) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/gate/kubernetes.yaml");
    let manifest: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let containers = manifest["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let gate = containers.iter().find(|container| container["name"] == "gate").unwrap();
    let script = gate["readinessProbe"]["exec"]["command"][2].as_str().unwrap();
    scratch.write("probe.sh", script.replace("/gate/closed", text(&scratch.join("closed"))))
}

fn is_root() -> bool {
    finish(Command::new("id").arg("-u")).stdout.trim() == "0"
}

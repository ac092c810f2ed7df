//! A shop in the middle of a regression, with a server, backups and people, and the commands that roll it back.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::guarded::Guarded;
use crate::support::http::Http;
use crate::support::process::{Finished, Service, ServiceOptions, binary, finish, free_port};
use crate::support::scenario::{self, GOOD, STACK};
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;

pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A shop in the middle of a regression: the good engine is backed up, the bad one serves.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) scratch: Scratch,
    pub(crate) service: Service,
    pub(crate) backup_id: String,
    pub(crate) port: u16,
    /// Where the commands find the service.
    pub(crate) server: String,
    _server: Guarded,
}

/// Only what happened before the rollback of the scenario.
fn before_the_rollback(paths: &[std::path::PathBuf; 2]) {
    let [events, logs] = paths;
    let kept: Vec<String> = fs::read_to_string(events).unwrap().lines().take(4).map(str::to_owned).collect();
    fs::write(events, kept.join("\n") + "\n").unwrap();
    let text = fs::read_to_string(logs).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains(r#""recorded_at":"2026-10-01T09:4"#)).collect();
    fs::write(logs, kept.join("\n") + "\n").unwrap();
}

impl Shop {
    pub(crate) fn new(name: &str, plan_bytes: usize) -> Self {
        let scratch = Scratch::new(name);
        let at = |name: &str| scratch.join(name).display().to_string();
        let local = |arguments: &[&str]| {
            let mut command = Command::new(binary());
            finish(command.current_dir(scratch.path()).args(["--data", "data"]).args(arguments))
        };
        local(&["init", "--node", "test", "--token-out", "admin.token"]).expect(0);
        let paths = scenario::write(&scratch);
        before_the_rollback(&paths);
        local(&["ingest", "--time", "recorded", paths[0].to_str().unwrap(), paths[1].to_str().unwrap()]).expect(0);
        scratch.write("made/plan/rank0.engine", vec![7; plan_bytes]);
        scratch.write("made/config.pbtxt", "max_batch_size: 64\n");
        let create = ["--plan", "made/plan", "--model-config", "made/config.pbtxt", "--to", "target", "--json"];
        let made = local(&[&["backup", "create", STACK, "--engine", GOOD][..], &create].concat()).expect(0).json();
        let config = scratch.write("config.toml", "open_reads = true\n");
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["--data", &at("data"), "--config", config.to_str().unwrap(), "serve", "--listen", &listen];
        let service = Service::start(ServiceOptions::new(arguments.map(str::to_owned), port));
        for who in ["ann", "bob"] {
            enroll(&service, &scratch, who);
        }
        let port = free_port();
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rollback/served.py"), scratch.join("served.py"))
            .unwrap();
        let mut server = Command::new("python3");
        server.args(["served.py", "serve", &port.to_string(), "rank0.engine"]).current_dir(scratch.path());
        let server = Guarded::start(&server, &scratch.join("served.log"));
        wait_for("the server", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let backup_id = made["backup_id"].as_str().unwrap().to_owned();
        let url = service.url().to_owned();
        Self { scratch, service, backup_id, port, server: url, _server: server }
    }

    pub(crate) fn rollback(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        let token = format!("{who}.token");
        command.args(["--server", &self.server, "--token-file", &token, "rollback"]).args(arguments);
        command.current_dir(self.scratch.path());
        command
    }

    /// `rollback run` with these scripts: what reloads, what proves, what warms up.
    pub(crate) fn run(&self, who: &str, more: &[&str], reload: &str, check: &str, warm_up: &str) -> Command {
        let fixed = ["run", STACK, "--restore-into", "models", "--served-within", "2s"];
        let scripts = ["--reload", reload, "--served-check", check, "--", "sh", "-c", warm_up];
        self.rollback(who, &[&fixed[..], more, &scripts].concat())
    }

    pub(crate) fn reload(&self) -> String {
        format!("{}python3 served.py reload {} \"$GOVLEDGER_RESTORED\"", self.note("reload"), self.port)
    }

    pub(crate) fn check(&self) -> String {
        format!("python3 served.py holds {}", self.port)
    }

    /// Writes down what the gate says while a step is under way.
    pub(crate) fn note(&self, step: &str) -> String {
        format!("python3 served.py status {}/v1/stacks/{STACK}/traffic > gate-{step}; ", self.service.url())
    }

    pub(crate) fn noted(&self, step: &str) -> String {
        fs::read_to_string(self.scratch.join(format!("gate-{step}"))).unwrap().trim().to_owned()
    }

    pub(crate) fn gate(&self) -> u16 {
        self.service.http().get(&format!("/v1/stacks/{STACK}/traffic")).status
    }

    pub(crate) fn plan(&self) -> Value {
        self.service.http().get(&format!("/v1/stacks/{STACK}/rollback")).json()
    }

    pub(crate) fn count(&self, event_type: &str) -> usize {
        let timeline = self.service.http().get(&format!("/v1/stacks/{STACK}/timeline")).json();
        timeline["timeline"].as_array().unwrap().iter().filter(|item| item["type"] == event_type).count()
    }

    /// The payload of an entry.
    pub(crate) fn entry(&self, position: &Value) -> Value {
        let admin = self.admin();
        let entry = admin.get(&format!("/v1/entries/governance/{position}")).expect(200).json();
        let body: Value = serde_json::from_str(entry["body"].as_str().unwrap()).unwrap();
        body["data"].clone()
    }

    pub(crate) fn admin(&self) -> Http {
        let token = fs::read_to_string(self.scratch.join("admin.token")).unwrap();
        self.service.http().with_token(token.trim())
    }
}

fn enroll(service: &Service, scratch: &Scratch, who: &str) {
    let token = format!("glt_{who}-token-of-the-test");
    scratch.write(format!("{who}.token"), &token);
    let sha256 = govledger::domain::principal::token_sha256(&token);
    let body = json!({ "name": who, "roles": ["publisher", "oncall"], "token_sha256": sha256 });
    let admin = fs::read_to_string(scratch.join("admin.token")).unwrap();
    let headers = [("content-type", "application/json"), ("idempotency-key", who)];
    service.http().with_token(admin.trim()).post("/v1/principals", &headers, body.to_string().as_bytes()).expect(200);
}

pub(crate) fn killed(mut child: Child) {
    assert!(!child.wait().unwrap().success());
}

pub(crate) fn fails(finished: &Finished, code: &str) {
    assert!(finished.stderr.contains(code), "{}", finished.stderr);
}

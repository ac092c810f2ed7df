//! The running API against its own `/openapi.json`, by schemathesis: no 5xx, and every answer is what the description says.

#![cfg(test)]

#[path = "faults/stage.rs"]
#[allow(dead_code, reason = "shared with the fault tests")]
mod stage;
mod support;

use std::path::Path;
use std::process::Command;

use govledger::domain::principal::token_sha256;
use serde_json::json;
use stage::Stage;
use support::parts;
use support::process::{Service, finish};

const TOKEN: &str = "glt_schemathesis";

/// Examples an operation in the quick form; `GOVLEDGER_EXAMPLES=50` for the long one.
const EXAMPLES: &str = "3";

#[test]
fn the_api_does_what_its_description_says() {
    let Some(schemathesis) = parts::schemathesis() else { return };
    let mut stage = Stage::new("schemathesis");
    let mut service = Service::start(stage.options());
    let http = stage.owner(&service);
    Stage::publish(&http);
    assert_eq!(stage.send(&http, 50).unwrap().0, 200);
    // One who may do everything, so that the requests get past the door.
    let roles = ["reader", "publisher", "oncall", "finance", "auditor", "admin"];
    let body = json!({ "name": "tester", "roles": roles, "token_sha256": token_sha256(TOKEN) }).to_string();
    let headers = [("content-type", "application/json"), ("idempotency-key", "tester")];
    stage.admin(&service).post("/v1/principals", &headers, body.as_bytes()).expect(200);
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts/schemathesis_hooks.py");
    let mut command = Command::new(schemathesis);
    command.env("SCHEMATHESIS_HOOKS", hooks);
    command.arg("run").arg(format!("{}/openapi.json", service.url()));
    command.arg("--header").arg(format!("Authorization: Bearer {TOKEN}"));
    command.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    command.args(["--phases", "examples,coverage,fuzzing", "--seed", "20261001", "--request-timeout", "10"]);
    // A stream of events ends when its reader does.
    command.args(["--exclude-path", "/v1/stream", "--no-color"]);
    command.arg("--max-examples").arg(parts::setting("GOVLEDGER_EXAMPLES").unwrap_or_else(|| EXAMPLES.to_owned()));
    let run = finish(command.current_dir(stage.scratch.path()));
    assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
    assert_eq!(http.get("/healthz").status, 200);
    eprintln!("{}", run.stdout.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
    assert_eq!(service.terminate(), 0);
    stage.verify();
}

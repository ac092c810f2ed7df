//! The cost story as docs/FOR-FINANCE.md tells it: its very commands, with curl, from the webhook's message to the approved waiver.

#![cfg(test)]

#[path = "notify/receiver.rs"]
mod receiver;
mod support;

use std::process::Command;
use std::time::Duration;

use govledger::domain::principal::token_sha256;
use serde_json::{Value, json};

use receiver::Receiver;
use support::http::Http;
use support::parts;
use support::process::{Service, ServiceOptions, finish, free_port, govledger};
use support::scratch::Scratch;
use support::wait::wait_for;

const DOCUMENT: &str = include_str!("../docs/FOR-FINANCE.md");
const HEADING: &str = "## From the webhook to the approved waiver, with curl alone";
const LIMIT: Duration = Duration::from_mins(1);

/// The commands of the section, in their order.
fn commands() -> Vec<&'static str> {
    let section = DOCUMENT.split(HEADING).nth(1).unwrap().split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

fn serve(scratch: &Scratch, notify: &str) -> (Service, String) {
    let (data, token_file, port) = (scratch.join("data"), scratch.join("admin"), free_port());
    let data = data.to_str().unwrap();
    govledger(&["--data", data, "init", "--node", "test", "--token-out", token_file.to_str().unwrap()]).expect(0);
    let config = format!("data = {data:?}\nlisten = \"127.0.0.1:{port}\"\n[notify]\n{notify}");
    let config = scratch.write("govledger.toml", config);
    let arguments = ["--config", config.to_str().unwrap(), "serve"].map(str::to_owned);
    let service = Service::start(ServiceOptions::new(arguments, port));
    (service, std::fs::read_to_string(token_file).unwrap().trim().to_owned())
}

fn principal(admin: &Http, service: &Service, name: &str, role: &str) -> Http {
    let token = format!("glt_{name}");
    let body = json!({ "name": name, "roles": [role], "token_sha256": token_sha256(&token) });
    admin.post("/v1/principals", &[("idempotency-key", name)], body.to_string().as_bytes()).expect(200);
    service.http().with_token(&token)
}

#[test]
fn the_commands_of_the_document_do_what_it_says() {
    let Some(webhooks) = parts::webhooks() else { return };
    let scratch = Scratch::new("finance-story");
    let receiver = Receiver::start(&webhooks, &scratch);
    let (service, admin) = serve(&scratch, &receiver.table("ok", "kind = \"readiness\"\nallow_private = true"));
    let admin = service.http().with_token(&admin);
    let publisher = principal(&admin, &service, "pat", "publisher");
    let oncall = principal(&admin, &service, "olu", "oncall");
    principal(&admin, &service, "fin", "finance");
    let limit = json!({ "finance_limit_usd": "500" }).to_string();
    admin.post("/v1/principals/fin/limit", &[("idempotency-key", "limit")], limit.as_bytes()).expect(200);
    let release =
        r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"engine-rerank","hash":"e1"},"payload":{}}"#;
    publisher.post("/v1/events", &[("content-type", "application/json")], release.as_bytes()).expect(200);
    let logs = concat!(
        r#"{"model":"m","engine_hash":"e1","duration_ms":10.0,"cost_usd":0.35}"#,
        "\n",
        r#"{"model":"m","engine_hash":"e1","duration_ms":10.0}"#,
    );
    publisher.post("/v1/metrics", &[("content-type", "application/x-ndjson")], logs.as_bytes()).expect(200);

    let message = wait_for("the webhook's message", LIMIT, || {
        let all = receiver.received("/ok").into_iter();
        all.map(|line| line["message"].clone()).find(|message| message["data"]["state"] == "firing")
    });
    let data = &message["data"];
    let money = ["requests_over", "unpriced", "excess_usd", "gross_usd", "excess_usd_per_hour", "cover"];
    assert_eq!(
        money.map(|field| data[field].clone()),
        [json!(1), json!(1), json!("0.25"), json!("0.35"), json!("15"), Value::Null],
        "{message:#}"
    );
    assert!(data["decide"].as_str().unwrap().starts_with(service.url()), "{message:#}");

    let commands = commands();
    assert!(commands.len() == 5 && commands.iter().all(|command| command.contains("curl ")), "{commands:#?}");
    let text = |field: &str| data[field].as_str().unwrap().to_owned();
    let mut shell = Command::new("sh");
    shell.arg("-eux").arg("-c").arg(commands.join("\n")).current_dir(scratch.path());
    shell.env("GOVLEDGER_URL", service.url()).env("ASKING", "glt_olu").env("FINANCE", "glt_fin");
    shell.env("ALERT_ID", text("alert_id")).env("STACK", text("stack")).env("RULE", text("rule"));
    let run = finish(&mut shell).expect(0);

    let waivers = oncall.get("/v1/waivers").expect(200).json();
    let waiver = &waivers["waivers"][0];
    let decided = ["status", "covers_now", "requested_by", "decided_by", "owner", "cap_usd"];
    assert_eq!(
        decided.map(|field| waiver[field].clone()),
        [json!("approved"), json!(true), json!("olu"), json!("fin"), json!("team-rerank"), json!("250")],
        "{waivers:#}"
    );
    assert!(
        run.stdout.contains(&format!("\"covered_by\":{}", waiver["id"])),
        "what the last command shows: {}",
        run.stdout
    );
    // Finance is told of both, and of the cover.
    wait_for("the approval at the webhook", LIMIT, || {
        let all = receiver.received("/ok").into_iter();
        all.map(|line| line["message"].clone()).find(|message| message["type"] == "llm_waiver_approved")
    });
    // As pasted a second time: the same commands are the same waiver, and the same decision.
    let again = finish(&mut shell);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(oncall.get("/v1/waivers").expect(200).json()["waivers"].as_array().unwrap().len(), 1);
}

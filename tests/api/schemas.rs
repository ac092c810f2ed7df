//! The schemas in the repository are those of the types; examples that pass, pass with the parser too, and the other way
//! round. `GOVLEDGER_WRITE_SCHEMAS=1 cargo test --test api schemas` writes them anew.

use std::path::{Path, PathBuf};

use govledger::api::schemas;
use govledger::domain::command::{Command, Request};
use govledger::domain::cut::Cut;
use govledger::domain::event::{Alert, EngineProven};
use govledger::domain::leaf::{Header, Leaf};
use govledger::domain::{metric, report};
use govledger::projection::answers::LastGoodAnswer;
use serde_json::Value;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn schema(name: &str) -> Value {
    schemas()
        .into_iter()
        .find(|(file, _)| file.strip_suffix(".json") == Some(name))
        .unwrap_or_else(|| panic!("no schema {name}"))
        .1
}

fn validator(name: &str) -> jsonschema::Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the typed parser says of a text that is to fit the schema called `name`.
fn parse(name: &str, text: &str) -> Result<(), String> {
    fn typed<T: serde::de::DeserializeOwned>(text: &str) -> Result<(), String> {
        serde_json::from_str::<T>(text).map(drop).map_err(|error| error.to_string())
    }
    let request = |event_type: &str| Request::read(event_type, text).map(drop).map_err(|refusal| refusal.to_string());
    match name {
        "provider-log" | "triton-perf" | "triton-scrape" => {
            metric::parse(text).map(drop).map_err(|refusal| refusal.to_string())
        }
        "legacy-event" | "dsse-envelope" => read(text),
        name if name.starts_with("event-") => read(text),
        "saying-cut" => typed::<Cut>(text),
        "saying-alert" => typed::<Alert>(text),
        "saying-engine-proven" => typed::<EngineProven>(text),
        "command" => typed::<Command>(text),
        "request-waiver" => request("llm_waiver_requested"),
        "request-incident" => request("llm_incident_opened"),
        "request-principal" => request("ledger_principal_enrolled"),
        "request-hole" => request("ledger_hole_confirmed"),
        "answer-last-good" => typed::<LastGoodAnswer>(text),
        other => panic!("no parser for examples of {other}"),
    }
}

fn read(text: &str) -> Result<(), String> {
    report::read(&Leaf { header: Header::default(), body: text.as_bytes() })
        .map(drop)
        .map_err(|refusal| refusal.to_string())
}

/// (schema, file, text): an example is called `<schema>--<what it shows>.json`.
fn examples(kind: &str) -> Vec<(String, String, String)> {
    let folder = directory().join("examples").join(kind);
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let name = file.split("--").next().unwrap().to_owned();
            (name, file, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort();
    assert!(found.len() >= 10, "{kind}: {}", found.len());
    found
}

#[test]
fn the_files_are_those_of_the_types() {
    let write = std::env::var_os("GOVLEDGER_WRITE_SCHEMAS").is_some();
    for (file, schema) in schemas() {
        let path = directory().join(&file);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if write {
            std::fs::write(&path, text).unwrap();
        } else {
            assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{file} is not that of the types");
        }
    }
    for entry in std::fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name == "examples" || schemas().iter().any(|(file, _)| *file == name);
        assert!(known, "{name} belongs to no type");
    }
}

#[test]
fn every_schema_is_a_schema() {
    for (file, schema) in schemas() {
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{file}: {error}"));
        validator(file.strip_suffix(".json").unwrap());
    }
}

#[test]
fn valid_examples_pass_both() {
    for (name, file, text) in examples("valid") {
        let value: Value = serde_json::from_str(&text).unwrap();
        let errors: Vec<String> = validator(&name).iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{file}: {errors:?}");
        parse(&name, &text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn broken_examples_fail_both() {
    for (name, file, text) in examples("broken") {
        let is_valid = serde_json::from_str::<Value>(&text).is_ok_and(|value| validator(&name).is_valid(&value));
        assert!(!is_valid, "{file} fits its schema");
        assert!(parse(&name, &text).is_err(), "{file} is taken by the parser");
    }
}

#[test]
fn answers_of_the_service_fit_their_schemas() {
    use crate::app::{App, event, published, token};
    use serde_json::json;
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    app.publish(&event("2", "llm_warmup_completed", &json!({ "engine_hash": "sha256:a" }))).expect(200);
    app.publish("{\"event_type\":5}").expect(422);
    let scope = json!({ "rule": "latency_p95", "stack": "s", "justification": "j", "mitigation_plan": "m", "expires": "2026-11-20T00:00:00Z" });
    let waiver = app.command(&token("oncall"), "/v1/waivers", "w", &scope).expect(200).json();
    let incident =
        app.command(&token("oncall"), "/v1/incidents", "i", &json!({ "stack": "s", "title": "t" })).expect(200).json();
    let (waiver, incident, command) = (
        waiver["waiver"].as_str().unwrap(),
        incident["incident"].as_str().unwrap(),
        incident["command_id"].as_str().unwrap(),
    );
    for (name, path) in [
        ("answer-stacks", "/v1/stacks".to_owned()),
        ("answer-stack", "/v1/stacks/s".to_owned()),
        ("answer-manifest", "/v1/stacks/s/manifest".to_owned()),
        ("answer-last-good", "/v1/stacks/s/last-good".to_owned()),
        ("answer-traffic", "/v1/stacks/s/traffic".to_owned()),
        ("answer-timeline", "/v1/stacks/s/timeline".to_owned()),
        ("answer-slo", "/v1/stacks/s/slo".to_owned()),
        ("answer-capacity", "/v1/stacks/s/capacity".to_owned()),
        ("answer-now", "/v1/stacks/s/now".to_owned()),
        ("answer-alerts", "/v1/alerts".to_owned()),
        ("answer-waivers", "/v1/waivers".to_owned()),
        ("answer-waiver", format!("/v1/waivers/{waiver}")),
        ("answer-incidents", "/v1/incidents".to_owned()),
        ("answer-incident", format!("/v1/incidents/{incident}")),
        ("answer-incident-report", format!("/v1/incidents/{incident}/report")),
        ("answer-backups", "/v1/backups".to_owned()),
        ("answer-command", format!("/v1/commands/{command}")),
        ("answer-rejected", "/v1/rejected".to_owned()),
        ("answer-entries", "/v1/entries".to_owned()),
        ("answer-entry", "/v1/entries/governance/1".to_owned()),
        ("answer-problem", "/v1/waivers/none".to_owned()),
    ] {
        let value = app.read(&path).json();
        let errors: Vec<String> =
            validator(name).iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{path} against {name}: {errors:#?}\n{value:#}");
    }
}

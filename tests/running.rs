//! The examples of docs/examples/running: the unit and the manifests by the tools that read them, what the manifest runs by
//! running it, and what the shippers send by sending it. Vector and Fluent Bit themselves are in no registry that the tests can
//! reach, so their files are checked for what they ask of govledger and not by their own tools.

#![cfg(test)]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use govledger::domain::principal::token_sha256;
use serde_json::Value;

use support::http::Http;
use support::parts;
use support::process::{Service, ServiceOptions, binary, finish, free_port, govledger};
use support::scratch::Scratch;
use support::wait::wait_for;

const EVENT: &str = r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"engine-qwen3","version":"1.4.0","hash":"sha256:5b"},"actor":"ci","payload":{},"timestamp":"2026-10-01T08:30:00.123456+00:00"}"#;
const REQUEST: &str = r#"{"event":"llm.request","model":"qwen3-32b","engine_hash":"sha256:5b","duration_ms":49.824,"queue_delay_us":569.9,"tokens_in":374.0,"tokens_out":44.0,"cost_usd":0.005016}"#;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All documents of a YAML file.
fn documents(name: &str) -> Vec<Value> {
    let file = std::fs::read_to_string(example(name)).unwrap();
    file.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

#[test]
fn systemd_takes_the_unit_and_finds_it_locked_down() {
    let Some(()) = parts::systemd() else { return };
    let scratch = Scratch::new("unit");
    let unit = std::fs::read_to_string(example("running/govledger.service")).unwrap();
    let here = unit.replace("/usr/local/bin/govledger", text(binary()));
    assert_ne!(unit, here);
    let analyze = |arguments: &[&str], unit: &str| {
        let file = scratch.write("govledger.service", unit);
        let ran = finish(Command::new("systemd-analyze").args(arguments).arg(&file));
        (ran.code, ran.stdout + &ran.stderr)
    };
    assert_eq!(analyze(&["verify"], &here), (0, String::new()));
    let (code, said) = analyze(&["verify"], &here.replace("Restart=on-failure", "Restrt=on-failure"));
    assert!(code != 0 || said.contains("Restrt"), "a misspelt key is found: {code} {said}");
    // 20 stands for 2.0 of 10, where 10 is a service that may do everything.
    let security = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    let (code, said) = analyze(&security, &here);
    assert_eq!(code, 0, "{said}");
    let (code, said) = analyze(&security, "[Service]\nExecStart=/bin/true\n");
    assert_ne!(code, 0, "{said}");
}

#[test]
fn the_manifests_fit_kubernetes_schemas() {
    let Some(validate) = parts::kubernetes() else { return };
    let scratch = Scratch::new("manifests");
    let check = |file: &Path| finish(Command::new(&validate).args(["--strict", "-k", "1.37.0"]).arg(file));
    for (name, resources) in [("running/kubernetes.yaml", 4), ("gate/kubernetes.yaml", 1)] {
        let ran = check(&example(name));
        let said = ran.stdout.clone() + &ran.stderr;
        assert_eq!((ran.code, said.matches("passed for resource").count()), (0, resources), "{said}");
        let file = std::fs::read_to_string(example(name)).unwrap();
        let broken = scratch.write("broken.yaml", file.replace("replicas:", "replicass:"));
        assert_ne!(check(&broken).code, 0, "a misspelt field is found");
    }
}

/// The pod, without Kubernetes: its init container's script twice, its configuration, its arguments, its probes.
#[test]
fn what_the_manifest_runs_runs() {
    let scratch = Scratch::new("pod");
    let all = documents("running/kubernetes.yaml");
    let of_kind = |kind: &str| all.iter().find(|document| document["kind"] == kind).unwrap();
    let pod = &of_kind("StatefulSet")["spec"]["template"]["spec"];
    let home = text(&scratch.join("")).trim_end_matches('/').to_owned();
    let here = |word: &str| word.replace("/var/lib/govledger", &home).replace("/etc/govledger", &home);
    let port = free_port();
    let config = here(of_kind("ConfigMap")["data"]["govledger.toml"].as_str().unwrap());
    scratch.write("govledger.toml", config.replace("0.0.0.0:7710", &format!("127.0.0.1:{port}")));
    let init = &pod["initContainers"][0];
    assert_eq!((&init["command"][0], &init["command"][1]), (&"sh".into(), &"-c".into()));
    let script =
        here(init["args"][0].as_str().unwrap()).replace("govledger --data", &format!("{} --data", text(binary())));
    for _ in 0..2 {
        let ran = finish(Command::new("sh").args(["-c", &script]));
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
    let container = &pod["containers"][0];
    let arguments: Vec<String> =
        container["args"].as_array().unwrap().iter().map(|word| here(word.as_str().unwrap())).collect();
    let options = ServiceOptions::new(arguments, port);
    let service = Service::start(options);
    for probe in ["livenessProbe", "startupProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        wait_for(path, Duration::from_secs(20), || (service.http().get(path).status == 200).then_some(()));
    }
}

/// A service with a publisher's token.
fn serve(scratch: &Scratch) -> (Service, Http) {
    let (data, token, port) = (scratch.join("data"), scratch.join("token"), free_port());
    govledger(&["--data", text(&data), "init", "--node", "test", "--token-out", text(&token)]).expect(0);
    let listen = format!("127.0.0.1:{port}");
    let service = Service::start(ServiceOptions::new(["--data", text(&data), "serve", "--listen", &listen], port));
    let admin = service.http().with_token(std::fs::read_to_string(&token).unwrap().trim());
    let shippers = "glt_shipper";
    let body = serde_json::json!({ "name": "shipper", "roles": ["publisher"], "token_sha256": token_sha256(shippers) });
    let headers = [("content-type", "application/json"), ("idempotency-key", "shipper")];
    admin.post("/v1/principals", &headers, body.to_string().as_bytes()).expect(200);
    let http = service.http().with_token(shippers);
    (service, http)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Events and requests that the ledgers hold, each admitted or a duplicate.
fn counts(http: &Http) -> (u64, u64) {
    let of = |ledger: &str, kind: &str| {
        let entries = http.get(&format!("/v1/entries?ledger={ledger}&type={kind}")).expect(200).json();
        let rows = entries["entries"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["verdict"] != "refused"), "{entries:#}");
        rows.len() as u64
    };
    (of("governance", "llm_engine_published"), of("metrics-0", "llm.request"))
}

#[test]
fn what_vector_is_told_to_send_is_taken() {
    let scratch = Scratch::new("vector");
    let (_service, http) = serve(&scratch);
    let config = &documents("running/vector.yaml")[0];
    for (name, line, repeat) in [("metrics", REQUEST, 3), ("governance", EVENT, 1)] {
        let sink = &config["sinks"][name];
        assert_eq!(
            (&sink["encoding"]["codec"], &sink["framing"]["method"]),
            (&"text".into(), &"newline_delimited".into())
        );
        assert_eq!((&sink["compression"], &sink["auth"]["strategy"]), (&"gzip".into(), &"bearer".into()));
        let path = sink["uri"].as_str().unwrap().strip_prefix("http://govledger:7710").unwrap();
        let media = sink["request"]["headers"]["Content-Type"].as_str().unwrap();
        let body = gzip(format!("{line}\n").repeat(repeat).as_bytes());
        let headers = [("content-type", media), ("content-encoding", "gzip")];
        // Sent twice, as after a timeout: an event counts once, requests count again.
        http.post(path, &headers, &body).expect(200);
        http.post(path, &headers, &body).expect(200);
    }
    let governance = http.get("/v1/stacks/engine-qwen3").expect(200).json();
    assert_eq!(governance["stack"], "engine-qwen3");
    assert_eq!(counts(&http).1, 6);
}

#[test]
fn what_fluent_bit_is_told_to_send_is_taken() {
    let scratch = Scratch::new("fluent-bit");
    let (_service, http) = serve(&scratch);
    let config = &documents("running/fluent-bit.yaml")[0];
    let media = config["pipeline"]["filters"][0]["record"].as_str().unwrap().strip_prefix("Content-Type ").unwrap();
    for output in config["pipeline"]["outputs"].as_array().unwrap() {
        assert_eq!((&output["body_key"], &output["headers_key"]), (&"$log".into(), &"$headers".into()));
        let line = if output["match"] == "provider" { REQUEST } else { EVENT };
        let path = output["uri"].as_str().unwrap();
        http.post(path, &[("content-type", media)], line.as_bytes()).expect(200);
    }
    assert_eq!(counts(&http), (1, 1));
}

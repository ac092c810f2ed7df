//! The three people this is for, end to end: the auditor, finance, and the rollback tooling. Over HTTP and the command line.

#![cfg(test)]

mod support;

use serde_json::{Value, json};

use support::http::{Http, Reply};
use support::process::{Finished, Service, ServiceOptions, free_port, govledger};
use support::scenario::{self, GOOD, REGRESSED, STACK};
use support::scratch::Scratch;

/// A data directory with the scenario's hour in it.
struct Stage {
    scratch: Scratch,
    admin_token: String,
}

impl Stage {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let stage = Self { admin_token: String::new(), scratch };
        stage.run(&["init", "--node", "test", "--token-out", &stage.path("admin.token")]).expect(0);
        let [events, logs] = scenario::write(&stage.scratch);
        let ingest = ["ingest", "--time", "recorded", "--json", events.to_str().unwrap(), logs.to_str().unwrap()];
        let report = stage.run(&ingest).expect(0).json();
        assert_eq!((report["rejected"].as_u64(), report["duplicates"].as_u64()), (Some(0), Some(0)), "{report}");
        let admin_token = std::fs::read_to_string(stage.path("admin.token")).unwrap().trim().to_owned();
        Self { admin_token, ..stage }
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let data = self.path("data");
        let mut all = vec!["--data", data.as_str()];
        all.extend(arguments);
        govledger(&all)
    }

    fn serve(&self) -> Service {
        let port = free_port();
        let arguments =
            ["--data", &self.path("data"), "serve", "--listen", &format!("127.0.0.1:{port}")].map(str::to_owned);
        Service::start(ServiceOptions::new(arguments, port))
    }

    /// A principal with a token of its own, made by the admin; a client that speaks as them.
    fn principal(&self, service: &Service, name: &str, role: &str) -> Http {
        let token = format!("glt_{name}-{role}-token");
        let body = json!({ "name": name, "roles": [role], "token_sha256": govledger::domain::principal::token_sha256(&token) });
        let admin = service.http().with_token(&self.admin_token);
        command(&admin, "/v1/principals", name, &body).expect(200);
        if role == "finance" {
            let limit = json!({ "finance_limit_usd": "100" });
            command(&admin, &format!("/v1/principals/{name}/limit"), &format!("limit {name}"), &limit).expect(200);
        }
        service.http().with_token(&token)
    }
}

fn command(http: &Http, path: &str, idempotency_key: &str, body: &Value) -> Reply {
    http.post(
        path,
        &[("content-type", "application/json"), ("idempotency-key", idempotency_key)],
        body.to_string().as_bytes(),
    )
}

#[test]
fn an_auditor_replays_to_a_past_instant_and_checks_a_saved_answer_offline() {
    let stage = Stage::new("auditor");
    let mut service = stage.serve();
    let auditor = stage.principal(&service, "ann", "auditor");
    let saved = auditor.get(&format!("/v1/stacks/{STACK}/last-good?as_of=2026-10-01T09:32:00Z")).expect(200);
    let answer = saved.json();
    assert_eq!(answer["engine_hash"], GOOD);
    assert_eq!(answer["passed_over"][0]["engine_hash"], REGRESSED);
    assert!(answer["passed_over"][0]["reason"].as_str().unwrap().contains("latency_p95"), "{answer:#}");
    let then = auditor.get(&format!("/v1/stacks/{STACK}/manifest?as_of=2026-10-01T09:32:00Z")).expect(200).json();
    assert_eq!(then["engine_hash"], REGRESSED);
    let file = stage.scratch.write("saved.json", &saved.body);
    assert_eq!(service.terminate(), 0);

    stage.run(&["export", &stage.path("export")]).expect(0);
    // From here on only the export and the verifier keys are at hand.
    std::fs::rename(stage.path("data"), stage.path("gone")).unwrap();
    let vkeys = [stage.path("export/governance.vkey"), stage.path("export/metrics-0.vkey")];
    let offline = |arguments: &[&str]| {
        let export = stage.path("export");
        let mut all = vec!["--export", export.as_str(), "--vkey", vkeys[0].as_str(), "--vkey", vkeys[1].as_str()];
        all.extend(arguments);
        govledger(&all)
    };
    offline(&["check-answer", file.to_str().unwrap()]).expect(0);
    let again = offline(&["last-good", STACK, "--as-of", "2026-10-01T09:32:00Z", "--json"]).expect(0).json();
    assert_eq!(again["engine_hash"], answer["engine_hash"]);
    assert_eq!(again["as_of"], answer["as_of"]);
    let mut forged = answer;
    forged["engine_hash"] = REGRESSED.into();
    let forged = stage.scratch.write("forged.json", forged.to_string());
    offline(&["check-answer", forged.to_str().unwrap()]).expect(1);
}

#[test]
fn finance_decides_once_and_only_finance() {
    let stage = Stage::new("finance");
    let service = stage.serve();
    let publisher = stage.principal(&service, "pat", "publisher");
    let reader = stage.principal(&service, "rea", "reader");
    let (fin, fred) = (stage.principal(&service, "fin", "finance"), stage.principal(&service, "fred", "finance"));
    let covered = |expected: Option<&str>| {
        let alerts = reader.get("/v1/alerts?state=firing").expect(200).json();
        let alerts = alerts["alerts"].as_array().unwrap().clone();
        let cost =
            alerts.iter().find(|alert| alert["rule"] == "cost_per_request").unwrap_or_else(|| panic!("{alerts:#?}"));
        assert_eq!(cost["covered_by"].as_str(), expected);
    };
    let scope = json!({ "rule": "cost_per_request", "stack": STACK, "justification": "launch week", "mitigation_plan": "shorter prompts", "cap_usd": "50", "expires": "2030-01-01T00:00:00Z" });
    let request = |http: &Http, key: &str| {
        command(http, "/v1/waivers", key, &scope).expect(200).json()["waiver"].as_str().unwrap().to_owned()
    };
    covered(None);

    // Their own request is not theirs to approve; nobody else's role will do.
    let own = request(&fin, "own");
    let seen =
        |waiver: &str| json!({ "scope_sha256": reader.get(&format!("/v1/waivers/{waiver}")).json()["scope_sha256"] });
    command(&fin, &format!("/v1/waivers/{own}/approve"), "own-approve", &seen(&own)).expect(409);
    let waiver = request(&publisher, "r1");
    command(&publisher, &format!("/v1/waivers/{waiver}/approve"), "p-approve", &seen(&waiver)).expect(403);

    // What only arrives as an event approves nothing.
    let produced = json!({ "specversion": "1.0", "id": "x1", "source": "someone", "type": "llm_waiver_approved", "data": { "waiver": waiver } });
    let refused = publisher.post(
        "/v1/events",
        &[("content-type", "application/cloudevents+json")],
        produced.to_string().as_bytes(),
    );
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("envelope_required"), "{}", refused.text());
    let granted = format!(
        r#"{{"event_type":"waiver_granted","artifact":{{"artifact_id":"{STACK}"}},"actor":"x","payload":{{"waiver_id":"legacy-1","owner":"x"}}}}"#
    );
    publisher.post("/v1/events", &[("content-type", "application/json")], granted.as_bytes());
    covered(None);

    // Two at once: one wins, the other is told by which entry.
    let (path, seen) = (format!("/v1/waivers/{waiver}/approve"), seen(&waiver));
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| command(&fin, &path, "a", &seen));
        let second = scope.spawn(|| command(&fred, &path, "b", &seen));
        (first.join().unwrap(), second.join().unwrap())
    });
    let (won, lost) = if first.status == 200 { (first, second) } else { (second, first) };
    assert_eq!((won.status, lost.status), (200, 409), "{} {}", won.text(), lost.text());
    assert_eq!(lost.json()["by_position"], won.json()["position"], "{} {}", won.text(), lost.text());
    covered(Some(&waiver));

    // The command line shows the same.
    let listed = stage.run(&["waivers", "list", "--json"]).expect(0).json();
    let row = listed.as_array().unwrap().iter().find(|row| row["id"] == waiver.as_str()).unwrap().clone();
    assert_eq!((row["status"].as_str(), row["requested_by"].as_str()), (Some("approved"), Some("pat")));
}

#[test]
fn rollback_tooling_gets_the_right_manifest_at_every_moment() {
    let stage = Stage::new("rollback");
    let last_good = |time: &str, more: &[&str], code: i32| {
        let as_of = format!("2026-10-01T{time}Z");
        let mut arguments = vec!["last-good", STACK, "--json", "--as-of", &as_of];
        arguments.extend(more);
        stage.run(&arguments).expect(code).json()
    };
    // A minute after the publish: the new engine is warm and clean, and not proven.
    let answer = last_good("09:26:00", &["--strict"], 0);
    assert_eq!((answer["engine_hash"].as_str(), answer["confidence"].as_str()), (Some(GOOD), Some("proven")));
    assert_eq!(answer["manifest"]["engine_hash"], GOOD);
    // During the regression.
    let answer = last_good("09:35:00", &["--not-current"], 0);
    assert_eq!((answer["engine_hash"].as_str(), answer["is_current"].as_bool()), (Some(GOOD), Some(false)));
    // Ten seconds after the rollback.
    let answer = last_good("09:40:10", &[], 0);
    assert_eq!((answer["engine_hash"].as_str(), answer["is_current"].as_bool()), (Some(GOOD), Some(true)));
    assert_eq!(answer["passed_over"][0]["reason"], "rolled back from");
    // Ten minutes into the first stint nothing is proven yet.
    let answer = last_good("09:05:00", &["--strict"], 1);
    assert_eq!(answer["confidence"], "unproven");

    let traffic = |time: &str, code: i32| {
        stage.run(&["traffic", STACK, "--json", "--as-of", &format!("2026-10-01T{time}Z")]).expect(code).json()
    };
    assert_eq!(traffic("08:55:30", 1)["open"], false);
    assert_eq!(traffic("09:10:00", 0)["open"], true);
    assert_eq!(traffic("09:25:10", 1)["open"], false);
    assert_eq!(traffic("09:40:10", 1)["open"], false);
    assert_eq!(traffic("09:41:00", 0)["engine_hash"], GOOD);
}

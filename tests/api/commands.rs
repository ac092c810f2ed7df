//! Commands: decided once, by the right people, and the loser of a race learns who won.

use serde_json::{Value, json};

use crate::app::{App, published, token};
use crate::support::http::Reply;

fn scope() -> Value {
    json!({ "rule": "cost_per_request", "stack": "s", "justification": "quarter end", "mitigation_plan": "smaller batches", "cap_usd": "25.00", "expires": "2026-11-20T00:00:00Z", "ticket": "FIN-7" })
}

fn request(app: &App, key: &str) -> String {
    let reply = app.command(&token("oncall"), "/v1/waivers", key, &scope()).expect(200).json();
    assert_eq!(reply["status"], "applied");
    reply["waiver"].as_str().unwrap().to_owned()
}

#[test]
fn a_waiver_is_requested_and_approved_by_somebody_else() {
    let app = App::start();
    app.enroll("both", &["oncall", "finance"]);
    let own = app.command(&token("both"), "/v1/waivers", "own", &scope()).expect(200).json();
    let path = format!("/v1/waivers/{}/approve", own["waiver"].as_str().unwrap());
    let seen = app.seen(own["waiver"].as_str().unwrap());
    let problem = app.command(&token("both"), &path, "own-approve", &seen).expect(409).json();
    assert_eq!(
        (problem["code"].as_str(), &problem["by_position"]),
        (Some("command_refused"), &own["position"]),
        "{problem}"
    );
    assert!(problem["command_id"].is_string() && problem["position"].is_u64());

    let body = |reason: &str| json!({ "reason": reason, "scope_sha256": seen["scope_sha256"] });
    let applied = app.command(&token("finance"), &path, "approve", &body("within budget")).expect(200).json();
    let waiver = app.read(&format!("/v1/waivers/{}", own["waiver"].as_str().unwrap())).expect(200).json();
    assert_eq!(
        (waiver["status"].as_str(), waiver["decided_by"].as_str(), &waiver["decided_position"]),
        (Some("approved"), Some("finance"), &applied["position"])
    );
    assert_eq!(waiver["covers_now"], true);

    // The same key: the first outcome. Another command under it: refused.
    let again = app.command(&token("finance"), &path, "approve", &body("within budget")).expect(200).json();
    assert_eq!(again, applied);
    let other = app.command(&token("finance"), &path, "approve", &body("another")).expect(409).json();
    assert_eq!((other["code"].as_str(), &other["by_position"]), (Some("id_conflict"), &applied["position"]));
    let command = app.read(&format!("/v1/commands/{}", applied["command_id"].as_str().unwrap())).expect(200).json();
    assert_eq!((command["status"].as_str(), &command["position"]), (Some("applied"), &applied["position"]));
    app.read("/v1/commands/nothing").expect(404);
}

#[test]
fn of_two_racing_approvals_one_wins_and_is_named_to_the_other() {
    let app = App::start();
    app.enroll("finance2", &["finance"]);
    for round in 0..5 {
        let waiver = request(&app, &format!("race-{round}"));
        let (path, seen) = (format!("/v1/waivers/{waiver}/approve"), app.seen(&waiver));
        let replies: Vec<Reply> = std::thread::scope(|threads| {
            let racers: Vec<_> = ["finance", "finance2"]
                .map(|name| {
                    threads.spawn({
                        let (app, path, seen) = (&app, &path, &seen);
                        move || app.command(&token(name), path, &format!("{name}-{round}"), seen)
                    })
                })
                .into();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
        let winner = replies.iter().find(|reply| reply.status == 200).unwrap().json();
        let loser = replies.iter().find(|reply| reply.status == 409).unwrap().json();
        assert_eq!(loser["by_position"], winner["position"], "{loser}");
    }
}

#[test]
fn an_approval_is_over_the_exact_scope() {
    let app = App::start();
    let waiver = request(&app, "w");
    let path = format!("/v1/waivers/{waiver}/approve");
    let problem =
        app.command(&token("finance"), &path, "k1", &json!({ "scope_sha256": "0".repeat(64) })).expect(409).json();
    assert_eq!(problem["field"], "scope_sha256");
    let seen = app.read(&format!("/v1/waivers/{waiver}")).json()["scope_sha256"].clone();
    app.command(&token("finance"), &path, "k2", &json!({ "scope_sha256": seen })).expect(200);
    app.command(&token("finance"), &format!("/v1/waivers/{waiver}/revoke"), "k3", &json!({ "reason": "over" }))
        .expect(200);
    assert_eq!(app.read("/v1/waivers").json()["waivers"][0]["status"], "revoked");
    app.command(&token("finance"), "/v1/waivers/waiver-9999/approve", "k4", &json!({})).expect(404);
}

/// As somebody does who keeps the `ETag` of what they saw.
#[test]
fn a_decision_is_about_the_waiver_that_was_seen() {
    let app = App::start();
    let waiver = request(&app, "w");
    let shown = || {
        let reply = app.read(&format!("/v1/waivers/{waiver}")).expect(200);
        (reply.header("etag").unwrap().to_owned(), reply.json())
    };
    let decide = |verb: &str, key: &str, tag: Option<&str>| {
        let mut headers = vec![("idempotency-key", key)];
        headers.extend(tag.map(|tag| ("if-match", tag)));
        app.as_role("finance").post(&format!("/v1/waivers/{waiver}/{verb}"), &headers, br#"{"reason":"r"}"#)
    };
    let (asked, body) = shown();
    assert_eq!(asked, format!("\"{}\"", body["position"]));
    let problem = decide("approve", "k0", None).expect(428);
    assert_eq!((problem.header("etag"), &problem.json()["current_etag"]), (Some(asked.as_str()), &json!(asked)));
    let problem = decide("approve", "k1", Some("\"1\"")).expect(412);
    assert_eq!(
        (problem.header("etag"), problem.json()["code"].as_str()),
        (Some(asked.as_str()), Some("precondition_failed"))
    );
    decide("refuse", "k2", Some("W/\"1\"")).expect(412);
    assert_eq!(shown().1["status"], "requested", "none of them was decided");

    let applied = decide("approve", "k3", Some(&asked)).expect(200).json();
    let (approved, body) = shown();
    assert_eq!((approved, &body["version"]), (format!("\"{}\"", applied["position"]), &applied["position"]));
    // A repeat is the first outcome, although the waiver is no longer what was seen.
    assert_eq!(decide("approve", "k3", Some(&asked)).expect(200).json(), applied);
    decide("revoke", "k4", Some(&asked)).expect(412);
    let (tag, _) = shown();
    decide("revoke", "k5", Some(&format!("\"0\", {tag}"))).expect(200);
    let (_, body) = shown();
    assert_eq!(body["status"], "revoked");
    let history = body["history"].as_array().unwrap();
    let proofs = body["proofs"].as_array().unwrap();
    assert_eq!((history.len(), proofs.len()), (3, 3), "{body:#}");
    for proof in proofs {
        app.read(proof["entry"].as_str().unwrap()).expect(200);
        let text = app.read(proof["proof"].as_str().unwrap()).expect(200).text();
        assert!(text.contains(&format!("index {}", proof["position"])), "{text}");
        assert!(
            text.contains(body["as_of"]["root"].as_str().unwrap()),
            "under the root that the answer states: {text}"
        );
    }
}

#[test]
fn a_limit_is_an_admins_and_refuses_with_both_amounts() {
    let app = App::start();
    let waiver = request(&app, "w");
    let limit = |role: &str, usd: &str| {
        let body = json!({ "finance_limit_usd": usd });
        app.command(&token(role), "/v1/principals/finance/limit", &format!("{role} {usd}"), &body)
    };
    limit("finance", "100000").expect(403);
    let limited = limit("admin", "24.99").expect(200).json();
    let path = format!("/v1/waivers/{waiver}/approve");
    let problem = app.command(&token("finance"), &path, "a", &app.seen(&waiver)).expect(409).json();
    assert_eq!((problem["code"].as_str(), &problem["by_position"]), (Some("over_limit"), &limited["position"]));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("25.00") && detail.contains("24.99"), "{detail}");
    limit("admin", "25").expect(200);
    app.command(&token("finance"), &path, "b", &app.seen(&waiver)).expect(200);
}

#[test]
fn incidents_and_engines() {
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    let opened = app
        .command(&token("oncall"), "/v1/incidents", "i", &json!({ "stack": "s", "title": "slow" }))
        .expect(200)
        .json();
    let id = opened["incident"].as_str().unwrap();
    let second = app
        .command(&token("oncall"), "/v1/incidents", "i2", &json!({ "stack": "s", "title": "slow too" }))
        .expect(409)
        .json();
    assert_eq!(second["by_position"], opened["position"]);
    app.command(&token("oncall"), &format!("/v1/incidents/{id}/acknowledge"), "a", &json!({})).expect(200);
    app.command(&token("finance"), &format!("/v1/incidents/{id}/notes"), "n", &json!({ "text": "costs 12 USD" }))
        .expect(200);
    let problem =
        app.command(&token("oncall"), &format!("/v1/incidents/{id}/close"), "c0", &json!({})).expect(409).json();
    assert_eq!(problem["field"], "text");
    app.command(&token("oncall"), &format!("/v1/incidents/{id}/close"), "c", &json!({ "text": "rolled back" }))
        .expect(200);
    assert_eq!(app.read(&format!("/v1/incidents/{id}")).json()["status"], "closed");
    app.command(&token("oncall"), "/v1/incidents/inc-999/notes", "n2", &json!({ "text": "x" })).expect(404);

    let judged = json!({ "engine_hash": "sha256:a", "reason": "wrong tokenizer" });
    app.command(&token("oncall"), "/v1/stacks/s/condemn", "e1", &judged).expect(200);
    let reply = app.read("/v1/stacks/s/last-good").expect(404);
    assert_eq!(
        (reply.header("content-type"), reply.header("govledger-answer")),
        (Some("application/json"), Some("no"))
    );
    assert_eq!(reply.json()["engine_hash"], Value::Null, "no engine: 404 in the same shape");
    app.command(&token("oncall"), "/v1/stacks/s/reinstate", "e2", &judged).expect(200);
    app.command(&token("admin"), "/v1/stacks/t/adopt", "e3", &json!({ "engine_hash": "sha256:t", "version": "3" }))
        .expect(200);
    assert_eq!(app.read("/v1/stacks/t/manifest").json()["version"], "3");
}

#[test]
fn a_command_needs_a_key_and_a_readable_body() {
    let app = App::start();
    let before = app.size();
    let oncall = app.as_role("oncall");
    let problem = oncall.post("/v1/incidents", &[], b"{}").expect(400).json();
    assert_eq!(problem["code"], "idempotency_key_missing");
    let problem = app.command(&token("oncall"), "/v1/incidents", "k", &json!({ "stack": "s" })).expect(400).json();
    assert_eq!((problem["code"].as_str(), problem["field"].as_str()), (Some("missing_field"), Some("title")));
    let problem = app
        .command(&token("oncall"), "/v1/incidents", "k", &json!({ "stack": "s", "title": "t", "more": 1 }))
        .expect(400)
        .json();
    assert_eq!(problem["code"], "wrong_type");
    assert_eq!(app.size(), before, "what cannot be read is no command");
    app.command(
        &app.admin,
        "/v1/principals",
        "p",
        &json!({ "name": "local", "roles": ["admin"], "token_sha256": "0".repeat(64) }),
    )
    .expect(400);
}

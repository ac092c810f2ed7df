//! API tokens: they expire, are revoked one by one, and are listed with their last use; and how often and how much a
//! principal may ask.

use std::collections::BTreeMap;

use govledger::api::{ApiConfig, OwnLimits, PrincipalLimits};
use govledger::domain::principal::token_sha256;
use serde_json::{Value, json};

use crate::app::{App, NOW, token};

#[expect(clippy::needless_pass_by_value, reason = "callers write the value in place")]
fn issue(app: &App, name: &str, secret: &str, rest: Value) -> crate::support::http::Reply {
    let mut body = json!({ "token_sha256": token_sha256(secret) });
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    app.command(&app.admin, &format!("/v1/principals/{name}/tokens"), secret, &body)
}

fn tokens_of(app: &App, name: &str) -> Vec<Value> {
    let answer = app.as_role("auditor").get("/v1/principals").expect(200).json();
    let found = answer["principals"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    found["tokens"].as_array().unwrap().clone()
}

#[test]
fn a_token_counts_until_it_expires_and_not_at_that_instant() {
    let app = App::start();
    let expires = "2026-11-01T00:10:00Z";
    issue(&app, "reader", "glt_brief", json!({ "expires": expires, "label": "ci" })).expect(200);
    let with = app.http.with_token("glt_brief");
    app.clock.set("2026-11-01T00:09:59.999999Z".parse().unwrap());
    with.get("/v1/stacks").expect(200);
    app.clock.set(expires.parse().unwrap());
    let reply = with.get("/v1/stacks").expect(401);
    assert!(reply.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    assert_eq!(reply.json()["code"], "token_expired");
    // The other token of the same principal is as it was.
    app.as_role("reader").get("/v1/stacks").expect(200);
    let row = tokens_of(&app, "reader").into_iter().find(|row| row["label"] == "ci").unwrap();
    assert_eq!(
        (row["expired"].as_bool(), row["expires"].as_str(), row["last_used"].as_str()),
        (Some(true), Some(expires), Some("2026-11-01T00:09:59.999999Z"))
    );
}

#[test]
fn one_token_is_revoked_and_never_comes_back() {
    let app = App::start();
    issue(&app, "reader", "glt_lost", json!({})).expect(200);
    let with = app.http.with_token("glt_lost");
    with.get("/v1/stacks").expect(200);
    let path = format!("/v1/principals/reader/tokens/{}", token_sha256("glt_lost"));
    let admin = app.http.with_token(&app.admin);
    let revoked = admin.send("DELETE", &path, &[("idempotency-key", "r")], b"").expect(200).json();
    let problem = with.get("/v1/stacks").expect(401).json();
    assert_eq!((problem["code"].as_str(), &problem["by_position"]), (Some("token_revoked"), &revoked["position"]));
    app.as_role("reader").get("/v1/stacks").expect(200);
    let problem = admin.send("DELETE", &path, &[("idempotency-key", "r2")], b"").expect(409).json();
    assert_eq!(problem["field"], "token_sha256");
    let again = json!({ "token_sha256": token_sha256("glt_lost") });
    let problem = app.command(&app.admin, "/v1/principals/reader/tokens", "again", &again).expect(409).json();
    assert_eq!(problem["by_position"], revoked["position"]);
    // Revoking the principal revokes what is left, under the same code.
    admin.send("DELETE", "/v1/principals/reader", &[("idempotency-key", "out")], b"").expect(200);
    assert_eq!(app.read("/v1/stacks").expect(401).json()["code"], "token_revoked");
    assert_eq!(app.http.with_token("glt_never").get("/v1/stacks").expect(401).json()["code"], "unauthenticated");
}

#[test]
fn what_cannot_be_issued_is_refused_with_the_reason() {
    let app = App::start();
    let refused = |name: &str, secret: &str, rest: Value, field: &str| {
        let problem = issue(&app, name, secret, rest).expect(409).json();
        assert_eq!(problem["field"], field, "{problem}");
    };
    refused("reader", "glt_past", json!({ "expires": NOW }), "expires");
    refused("nobody", "glt_a", json!({}), "name");
    refused("oncall", &token("reader"), json!({}), "token_sha256");
    let short = json!({ "token_sha256": "00" });
    let problem = app.command(&app.admin, "/v1/principals/reader/tokens", "short", &short).expect(409).json();
    assert_eq!(problem["field"], "token_sha256");
    issue(&app, "reader", "glt_x", json!({ "expires": "soon" })).expect(400);
}

#[test]
fn an_admin_keeps_a_way_in() {
    let app = App::start();
    let admin = app.http.with_token(&app.admin);
    let revoke = |name: &str, secret: &str, key: &str| {
        let path = format!("/v1/principals/{name}/tokens/{}", token_sha256(secret));
        admin.send("DELETE", &path, &[("idempotency-key", key)], b"")
    };
    revoke("admin", &token("admin"), "a").expect(200);
    issue(&app, "admin", "glt_brief", json!({ "expires": "2026-12-01T00:00:00Z" })).expect(200);
    // What is left of the other admin expires, so this one stays.
    let problem = revoke("root", &app.admin, "b").expect(409).json();
    assert!(problem["detail"].as_str().unwrap().contains("no admin"), "{problem}");
    issue(&app, "admin", "glt_lasting", json!({})).expect(200);
    revoke("root", &app.admin, "c").expect(200);
}

#[test]
fn the_last_use_is_this_nodes_own_and_outlives_it() {
    let app = App::start();
    let before = app.size();
    app.clock.set("2026-11-01T03:00:00Z".parse().unwrap());
    app.read("/v1/stacks").expect(200);
    assert_eq!(tokens_of(&app, "reader")[0]["last_used"], "2026-11-01T03:00:00Z");
    assert_eq!(tokens_of(&app, "finance")[0]["last_used"], Value::Null);
    assert_eq!(app.size(), before, "a use is no entry");
    let data = app.stopped();
    let kept = std::fs::read_to_string(data.path().join("data/last-use.json")).unwrap();
    assert!(kept.contains(&token_sha256(&token("reader"))) && !kept.contains("glt_"), "{kept}");
}

#[test]
fn whoever_asks_too_often_is_told_when_to_come_again() {
    let own = OwnLimits { requests_per_second: Some(2), requests_burst: Some(3), body_bytes_max: Some(200) };
    let of: BTreeMap<String, OwnLimits> = [("publisher".to_owned(), own)].into();
    let limits = PrincipalLimits { requests_per_second: 1, requests_burst: 20, of };
    let app = App::with(ApiConfig { limits, ..ApiConfig::default() });
    let publisher = app.as_role("publisher");
    (0..3).for_each(|_| drop(publisher.get("/v1/stacks").expect(200)));
    let reply = publisher.get("/v1/stacks").expect(429);
    assert_eq!((reply.header("retry-after"), reply.json()["code"].as_str()), (Some("1"), Some("rate_limited")));
    // Nobody else is held up by it, nor is what needs no token.
    app.read("/v1/stacks").expect(200);
    app.http.with_token(&token("publisher")).get("/healthz").expect(200);
    app.clock.set("2026-11-01T00:00:01Z".parse().unwrap());
    publisher.get("/v1/stacks").expect(200);
    // Wrong tokens come from one bucket, so they are not tried without end.
    let tried: Vec<u16> = (0..21).map(|n| app.http.with_token(&format!("glt_{n}")).get("/v1/stacks").status).collect();
    assert_eq!((tried[0], tried[19], tried[20]), (401, 401, 429), "{tried:?}");
}

#[test]
fn a_principals_own_bound_of_a_body_holds() {
    let own = OwnLimits { body_bytes_max: Some(200), ..OwnLimits::default() };
    let of: BTreeMap<String, OwnLimits> = [("publisher".to_owned(), own.clone()), ("oncall".to_owned(), own)].into();
    let limits = PrincipalLimits { of, ..PrincipalLimits::default() };
    let app = App::with(ApiConfig { limits, ..ApiConfig::default() });
    let before = app.size();
    let publisher = app.as_role("publisher");
    let body = vec![b' '; 201];
    for path in
        ["/v1/events", "/v1/metrics", &format!("/v1/files/{}/lines?name=f&kind=metrics&from_line=1", "0".repeat(64))]
    {
        let reply = publisher.post(path, &[], &body);
        assert_eq!((reply.status, reply.json()["code"].as_str()), (413, Some("body_too_large")), "{path}");
    }
    let long = json!({ "stack": "s", "title": "t".repeat(200) });
    app.command(&token("oncall"), "/v1/incidents", "k", &long).expect(413);
    assert_eq!(app.size(), before);
    app.command(&token("oncall"), "/v1/incidents", "k", &json!({ "stack": "s", "title": "t" })).expect(200);
}

//! What a waiver opens and closes: a publish that names one, what the legacy log reports, and cover of the past.

use serde_json::{Value, json};

use crate::app::{App, token};
use crate::spend::{cut, rebuilt_alike, said};

/// A publish of `engine` under these waivers, and its warm-up.
fn publish(app: &App, engine: &str, waivers: &[&str]) {
    let event = |kind: &str, data: Value| json!({ "specversion": "1.0", "id": format!("{kind} {engine} {waivers:?}"), "source": "ci", "type": kind, "subject": "s", "data": data });
    let data = json!({ "engine_hash": engine, "version": "1", "waivers": waivers });
    app.publish(&event("llm_engine_published", data).to_string()).expect(200);
    app.publish(&event("llm_warmup_completed", json!({ "engine_hash": engine })).to_string()).expect(200);
}

fn ask(app: &App, key: &str, more: &Value) -> String {
    let mut scope = json!({ "rule": "cost_per_request", "stack": "s", "justification": "j", "mitigation_plan": "m", "cap_usd": "1.00", "expires": "2026-11-20T00:00:00Z" });
    scope.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = app.command(&token("oncall"), "/v1/waivers", key, &scope).expect(200).json();
    reply["waiver"].as_str().unwrap().to_owned()
}

fn approve(app: &App, waiver: &str) -> u64 {
    let path = format!("/v1/waivers/{waiver}/approve");
    let reply = app.command(&token("finance"), &path, &format!("approve {waiver}"), &app.seen(waiver)).expect(200);
    reply.json()["position"].as_u64().unwrap()
}

/// Open or closed, and by which entry.
fn gate(app: &App) -> (bool, u64, String) {
    let reply = app.read("/v1/stacks/s/traffic");
    let body = reply.json();
    let open = body["open"].as_bool().unwrap();
    assert_eq!(reply.status, if open { 200 } else { 503 });
    (open, body["position"].as_u64().unwrap(), body["reason"].as_str().unwrap().to_owned())
}

fn uncovered(app: &App) -> Vec<Value> {
    let alerts = app.read("/v1/alerts?state=firing").expect(200).json()["alerts"].as_array().unwrap().clone();
    alerts.into_iter().filter(|alert| alert["rule"] == "uncovered_publish").collect()
}

#[test]
fn a_publish_relies_on_the_waivers_that_it_names() {
    let app = App::live();
    let mut seconds = 0;
    let waiver = ask(&app, "ask", &json!({}));
    publish(&app, "e", &[&waiver]);
    let published = app.size() - 2;
    let (open, position, reason) = gate(&app);
    assert_eq!((open, position), (false, published), "{reason}");
    assert!(reason.contains(&waiver) && reason.contains("requested"), "{reason}");
    let flags = app.read("/v1/stacks/s").expect(200).json()["contradictions"].clone();
    assert_eq!((flags.as_array().unwrap().len(), &flags[0]["position"]), (1, &json!(published)), "{flags:#}");
    cut(&app, &mut seconds, &[]);
    let alerts = uncovered(&app);
    assert_eq!(alerts.len(), 1, "at the next cut, without any traffic");
    assert_eq!((&alerts[0]["severity"], &alerts[0]["value"]), (&json!("finance"), &json!("1")), "{alerts:#?}");

    let approved = approve(&app, &waiver);
    assert_eq!(gate(&app), (true, approved, "the current engine is warm".to_owned()));
    for _ in 0..8 {
        cut(&app, &mut seconds, &[]);
    }
    assert_eq!(uncovered(&app).len(), 0, "over after a minute");

    // Cover that ends closes it again: what relies on a waiver is blocked with it.
    let path = format!("/v1/waivers/{waiver}/revoke");
    let revoked = app.command(&token("finance"), &path, "revoke", &json!({ "reason": "over" })).expect(200).json();
    let (open, position, reason) = gate(&app);
    assert_eq!((open, json!(position)), (false, revoked["position"].clone()), "{reason}");
    assert!(reason.contains("revoked"), "{reason}");
    cut(&app, &mut seconds, &[]);
    assert_eq!(uncovered(&app).len(), 1);

    // Another engine that names none is nobody's business; one that names another stack's is not covered by it.
    publish(&app, "f", &[]);
    assert!(gate(&app).0);
    let other = ask(&app, "other", &json!({ "stack": "t" }));
    approve(&app, &other);
    publish(&app, "g", &[&other, "never-heard-of"]);
    let (open, _, reason) = gate(&app);
    assert!(!open && reason.contains("which is for t"), "{reason}");
    let flags = app.read("/v1/stacks/s").expect(200).json()["contradictions"].clone();
    assert_eq!(flags.as_array().unwrap().len(), 3, "{flags:#}");
    rebuilt_alike(app);
}

#[test]
fn cover_that_expires_or_is_spent_closes_what_relies_on_it() {
    let app = App::live();
    let mut seconds = 0;
    let waiver = ask(&app, "ask", &json!({ "expires": "2026-11-01T00:00:30Z" }));
    approve(&app, &waiver);
    publish(&app, "e", &[&waiver]);
    assert!(gate(&app).0);
    cut(&app, &mut seconds, &[]);
    cut(&app, &mut seconds, &[]);
    assert!(gate(&app).0 && uncovered(&app).is_empty());
    cut(&app, &mut seconds, &[]);
    let (open, position, reason) = gate(&app);
    assert!(!open && reason.contains("expired"), "{reason}");
    let entry = app.as_role("auditor").get(&format!("/v1/entries/governance/{position}")).expect(200).json();
    assert_eq!(entry["type"], "llm_waiver_expired");
    assert_eq!(said(&app, "llm_waiver_expired"), 1);
    rebuilt_alike(app);
}

#[test]
fn a_reported_waiver_covers_once_one_that_stands_for_it_is_approved() {
    let app = App::live();
    let line = r#"{"event_type":"waiver_granted","artifact":{"artifact_id":"s"},"actor":"ci","payload":{"waiver_id":"legacy-1","owner":"olga","justification":"known","expires_at":"2026-12-01T00:00:00Z"}}"#;
    app.publish(line);
    publish(&app, "e", &["legacy-1"]);
    let shown = || app.read("/v1/waivers/legacy-1").expect(200).json();
    assert_eq!((&shown()["status"], &shown()["covers_now"]), (&json!("reported"), &json!(false)));
    assert!(!gate(&app).0);
    let path = "/v1/waivers/legacy-1/approve";
    app.command(&token("finance"), path, "no scope", &json!({ "scope_sha256": "0" })).expect(409);

    let wrong = json!({ "rule": "queue_delay", "stack": "t", "justification": "j", "mitigation_plan": "m", "expires": "2026-11-20T00:00:00Z", "reported": "legacy-1" });
    let problem = app.command(&token("oncall"), "/v1/waivers", "wrong", &wrong).expect(409).json();
    assert_eq!(problem["field"], "reported");
    let waiver = ask(&app, "ask", &json!({ "reported": "legacy-1" }));
    assert_eq!(shown()["status"], "reported", "asked for is not approved");
    assert!(!gate(&app).0);
    let approved = approve(&app, &waiver);
    let after = shown();
    assert_eq!((&after["status"], &after["approved_as"]), (&json!("approved"), &json!(waiver)), "{after:#}");
    assert_eq!((&after["covers_now"], &after["requested_by"]), (&json!(true), &json!("olga")), "{after:#}");
    assert_eq!((gate(&app).0, gate(&app).1), (true, approved));
    let again = ask(&app, "again", &json!({}));
    approve(&app, &again);
    let second = json!({ "rule": "queue_delay", "stack": "s", "justification": "j", "mitigation_plan": "m", "expires": "2026-11-20T00:00:00Z", "reported": "legacy-1" });
    let problem = app.command(&token("oncall"), "/v1/waivers", "second", &second).expect(409).json();
    assert_eq!(problem["by_position"], json!(approved), "{problem}");
    rebuilt_alike(app);
}

#[test]
fn retroactive_cover_is_flagged_and_charged_with_the_past() {
    let app = App::live();
    // Full ten minutes are what the past is kept by: 00:10:00 is one.
    let mut seconds = 600;
    publish(&app, "e", &[]);
    cut(&app, &mut seconds, &[Some("0.30"), None]);
    cut(&app, &mut seconds, &[Some("0.60")]);
    let early = json!({ "starts": "2026-11-01T00:10:00Z" });
    let plain = ask(&app, "plain", &early);
    approve(&app, &plain);
    cut(&app, &mut seconds, &[]);
    let figures = |waiver: &str| {
        let shown = app.read(&format!("/v1/waivers/{waiver}")).expect(200).json();
        ["retroactive", "excess_usd", "retroactive_excess_usd", "unpriced"].map(|field| shown[field].clone())
    };
    assert_eq!(figures(&plain), [json!(false), json!("0"), json!("0"), json!(0)], "an early start implies nothing");
    let path = format!("/v1/waivers/{plain}/revoke");
    app.command(&token("finance"), &path, "revoke", &json!({ "reason": "not what was meant" })).expect(200);

    let mut meant = early;
    meant["retroactive"] = json!(true);
    let waiver = ask(&app, "meant", &meant);
    let firing = || app.read("/v1/alerts").expect(200).json()["alerts"][0].clone();
    assert_eq!(firing()["covered_retroactively_by"], Value::Null);
    approve(&app, &waiver);
    assert_eq!(firing()["covered_retroactively_by"], json!(waiver), "the alert fired before the approval");
    cut(&app, &mut seconds, &[Some("0.20")]);
    assert_eq!(figures(&waiver), [json!(true), json!("0.8"), json!("0.7"), json!(1)]);
    assert_eq!(said(&app, "llm_waiver_spend"), 2, "of the past once, and of this cut");
    cut(&app, &mut seconds, &[]);
    assert_eq!(said(&app, "llm_waiver_spend"), 2);
    let history = app.read(&format!("/v1/waivers/{waiver}")).expect(200).json()["history"].clone();
    assert!(history[0]["summary"].as_str().unwrap().contains("RETROACTIVE"), "{history:#}");
    let page = app.read("/waivers").expect(200).text();
    assert!(page.contains("retroactive"), "{page}");

    // Another one finds nothing left of that past; one whose cap is below the past covers none of it.
    let second = ask(&app, "second", &meant);
    approve(&app, &second);
    cut(&app, &mut seconds, &[]);
    assert_eq!(figures(&second)[1], "0");
    rebuilt_alike(app);
}

#[test]
fn a_past_beyond_the_cap_is_not_covered() {
    let app = App::live();
    let mut seconds = 600;
    publish(&app, "e", &[]);
    cut(&app, &mut seconds, &[]);
    cut(&app, &mut seconds, &[Some("1.00")]);
    for _ in 0..60 {
        cut(&app, &mut seconds, &[]);
    }
    cut(&app, &mut seconds, &[Some("1.00")]);
    let scope = json!({ "starts": "2026-11-01T00:10:00Z", "retroactive": true, "cap_usd": "1.50" });
    let waiver = ask(&app, "ask", &scope);
    approve(&app, &waiver);
    cut(&app, &mut seconds, &[Some("0.50")]);
    let shown = app.read(&format!("/v1/waivers/{waiver}")).expect(200).json();
    assert_eq!((&shown["status"], &shown["excess_usd"]), (&json!("exhausted"), &json!("0.9")), "{shown:#}");
    let governance = app.handle.shared().governance();
    let ended = governance.waivers.get(&waiver).unwrap().ended.unwrap();
    drop(governance);
    assert_eq!(ended.to_string(), "2026-11-01T00:20:00Z", "the second ten minutes would have gone beyond the cap");
    rebuilt_alike(app);
}

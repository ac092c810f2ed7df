//! Every role against every route of the table.

use std::collections::BTreeMap;

use govledger::api::{ApiConfig, openapi};
use govledger::domain::command::Request;
use govledger::domain::principal::Role;
use serde_json::{Value, json};

use crate::app::{App, LOCAL_TOKEN, ROLES, token};

/// (method, path with its parameters filled in, who may).
fn routes() -> Vec<(String, String, String)> {
    let document = openapi();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let filled = [
                ("{stack}", "s"),
                ("{id}", "none"),
                ("{item}", "none"),
                ("{ledger}", "governance"),
                ("{position}", "0"),
                ("{name}", "nobody"),
                ("{token_sha256}", "00"),
                ("{tile}", "entries/000.p/1"),
                ("{sha256}", "00"),
                ("{first_line_sha256}", "00"),
            ]
            .iter()
            .fold(path.clone(), |path, (name, value)| path.replace(name, value));
            assert!(!filled.contains('{'), "{filled}");
            routes.push((method.to_uppercase(), filled, operation["x-roles"].as_str().unwrap().to_owned()));
        }
    }
    assert!(routes.len() >= 50, "{}", routes.len());
    routes
}

#[test]
fn every_role_against_every_route() {
    let app = App::start();
    for (method, path, allowed) in routes() {
        let status = |token: Option<&str>| app.status(&method, &path, token, "{}");
        let is_refused = |status: u16| status == 401 || status == 403;
        if allowed == "anybody" {
            assert!(!is_refused(status(None)), "{method} {path} is public");
            assert!(
                !is_refused(status(Some("glt_unknown"))),
                "{method} {path} is public, whatever token comes with it"
            );
            continue;
        }
        assert_eq!(status(None), 401, "{method} {path} without a token");
        assert_eq!(status(Some("glt_unknown")), 401, "{method} {path} with an unknown token");
        let is_read = allowed.starts_with("any role");
        for role in ROLES {
            let may = is_read || allowed.split(", ").any(|name| name == role);
            let found = status(Some(&token(role)));
            if may {
                assert!(!is_refused(found), "{method} {path} as {role}: {found}");
            } else {
                assert_eq!(found, 403, "{method} {path} as {role}");
            }
        }
        let is_owners = allowed == "publisher" || (method == "GET" && allowed.contains("auditor"));
        let found = status(Some(LOCAL_TOKEN));
        assert_eq!(found == 403, !(is_read || is_owners), "{method} {path} as the directory's owner: {found}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row a command")]
fn the_table_and_the_domain_agree_about_commands() {
    let scope = json!({ "rule": "latency_p95", "stack": "s", "justification": "j", "mitigation_plan": "m", "expires": "2027-01-01T00:00:00Z" });
    let decision = json!({ "waiver": "w" });
    let policy = json!({ "proposal": "p", "policy_sha256": "h", "replaces_sha256": "h" });
    let note = json!({ "incident": "i" });
    let judgement = json!({ "stack": "s", "engine_hash": "e", "reason": "r" });
    let commands: BTreeMap<&str, (&str, Value)> = [
        ("/v1/waivers", ("llm_waiver_requested", scope)),
        ("/v1/waivers/{id}/approve", ("llm_waiver_approved", decision.clone())),
        ("/v1/waivers/{id}/refuse", ("llm_waiver_refused", decision.clone())),
        ("/v1/waivers/{id}/revoke", ("llm_waiver_revoked", decision)),
        ("/v1/incidents", ("llm_incident_opened", json!({ "stack": "s", "title": "t" }))),
        ("/v1/incidents/{id}/acknowledge", ("llm_incident_acknowledged", note.clone())),
        ("/v1/incidents/{id}/notes", ("llm_incident_noted", note.clone())),
        ("/v1/incidents/{id}/close", ("llm_incident_closed", note.clone())),
        ("/v1/incidents/{id}/report", ("llm_incident_reported", note)),
        (
            "/v1/incidents/{id}/assign",
            ("llm_incident_assigned", json!({ "incident": "i", "duty": "commander", "assignee": "a" })),
        ),
        ("/v1/incidents/{id}/status", ("llm_incident_status", json!({ "incident": "i", "status": "monitoring" }))),
        (
            "/v1/incidents/{id}/action-items",
            (
                "llm_incident_action_item",
                json!({ "incident": "i", "title": "t", "owner": "o", "due": "2027-01-01T00:00:00Z" }),
            ),
        ),
        (
            "/v1/incidents/{id}/action-items/{item}/done",
            ("llm_incident_action_item_done", json!({ "incident": "i", "item": "act-1" })),
        ),
        ("/v1/stacks/{stack}/condemn", ("llm_engine_condemned", judgement.clone())),
        ("/v1/stacks/{stack}/reinstate", ("llm_engine_reinstated", judgement)),
        (
            "/v1/stacks/{stack}/rollback",
            (
                "llm_rollback_claimed",
                json!({ "stack": "s", "to": "e", "backup_id": "b", "reason": "r", "host": "h", "process": "p" }),
            ),
        ),
        ("/v1/stacks/{stack}/adopt", ("llm_engine_adopted", json!({ "stack": "s", "engine_hash": "e" }))),
        (
            "/v1/principals",
            ("ledger_principal_enrolled", json!({ "name": "n", "roles": ["reader"], "token_sha256": "00" })),
        ),
        ("/v1/principals/{name}/tokens", ("ledger_token_issued", json!({ "name": "n", "token_sha256": "00" }))),
        (
            "/v1/principals/{name}/tokens/{token_sha256}",
            ("ledger_token_revoked", json!({ "name": "n", "token_sha256": "00" })),
        ),
        (
            "/v1/issuers",
            ("ledger_issuer_trusted", json!({ "issuer": "https://id", "alias": "id", "roles": ["reader"] })),
        ),
        ("/v1/issuers/distrust", ("ledger_issuer_distrusted", json!({ "issuer": "https://id" }))),
        ("/v1/principals/{name}", ("ledger_principal_revoked", json!({ "name": "n" }))),
        ("/v1/principals/{name}/limit", ("ledger_principal_limited", json!({ "name": "n", "finance_limit_usd": "5" }))),
        (
            "/v1/policy/proposals",
            ("ledger_policy_proposed", json!({ "policy": {}, "replaces_sha256": "h", "changes": [], "reason": "r" })),
        ),
        ("/v1/policy/proposals/{id}/approve", ("ledger_policy_approved", policy.clone())),
        ("/v1/policy/proposals/{id}/refuse", ("ledger_policy_refused", policy)),
        (
            "/v1/maintenance",
            (
                "ledger_maintenance_set",
                json!({ "stack": "s", "from": "2027-01-01T00:00:00Z", "to": "2027-01-01T01:00:00Z", "reason": "r" }),
            ),
        ),
        ("/v1/maintenance/{id}/end", ("ledger_maintenance_ended", json!({ "window": "w", "reason": "r" }))),
        ("/v1/keys", ("ledger_key_enrolled", json!({ "author": "a", "public_key": "00", "event_types": ["t"] }))),
        ("/v1/nodes", ("ledger_node_enrolled", json!({ "node": "b", "public_key": "00" }))),
        ("/v1/keys/{id}/confirm", ("ledger_key_confirmed", json!({ "key_id": "k", "enrolled": 1 }))),
        ("/v1/keys/{id}/revoke", ("ledger_key_revoked", json!({ "key_id": "k", "reason": "r" }))),
        (
            "/v1/ledger-key/rotate",
            (
                "ledger_checkpoint_key_rotated",
                json!({ "node": "n", "old": "00", "new": "00", "by_old": "", "by_new": "" }),
            ),
        ),
        (
            "/v1/node-key/rotate",
            ("ledger_node_key_rotated", json!({ "node": "n", "old": "k", "new": "00", "proof": "" })),
        ),
        ("/v1/holes", ("ledger_hole_confirmed", json!({ "ledger": "metrics-0", "from": 1, "to": 2, "reason": "r" }))),
    ]
    .into();
    let document = openapi();
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            if operation["responses"].get("202").is_none() {
                continue;
            }
            seen += 1;
            let (event_type, body) = &commands[path.as_str()];
            let request = Request::read(event_type, &body.to_string()).unwrap();
            let roles: Vec<&str> = request.roles().iter().map(|role: &Role| role.as_str()).collect();
            assert_eq!(operation["x-roles"], roles.join(", "), "{path}");
        }
    }
    assert_eq!(seen, commands.len());
}

#[test]
fn open_reads_open_reads_alone() {
    let app = App::with(ApiConfig { open_reads: true, ..ApiConfig::default() });
    assert_eq!(app.http.get("/v1/stacks").status, 200);
    assert_eq!(app.http.post("/v1/events", &[], b"{}").status, 401);
    // A wrong token is told, even where none is needed.
    assert_eq!(app.http.with_token("glt_wrong").get("/v1/stacks").status, 401);
}

#[test]
fn a_refusal_says_what_to_do() {
    let app = App::start();
    let reply = app.http.get("/v1/stacks").expect(401);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"govledger\""));
    let problem = reply.json();
    assert_eq!(
        (problem["type"].as_str(), problem["status"].as_u64()),
        (Some("urn:govledger:problem:unauthenticated"), Some(401))
    );
    assert!(problem["detail"].as_str().unwrap().contains("govledger token"));
    let problem = app.as_role("reader").post("/v1/events", &[], b"{}").expect(403).json();
    assert_eq!(problem["detail"], "reader lacks the role publisher");
    let problem = app.http.get("/v1/nothing").expect(404).json();
    assert_eq!(problem["code"], "not_found");
    let problem = app.as_role("reader").send("DELETE", "/v1/stacks", &[], b"").expect(405).json();
    assert_eq!(problem["code"], "method_not_allowed");
}

#[test]
fn a_revoked_principal_is_unknown_from_then_on() {
    let app = App::start();
    assert_eq!(app.read("/v1/stacks").status, 200);
    let admin = app.http.with_token(&app.admin);
    admin.send("DELETE", "/v1/principals/reader", &[("idempotency-key", "out")], b"").expect(200);
    assert_eq!(app.read("/v1/stacks").status, 401);
}

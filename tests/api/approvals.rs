//! People of an identity provider, by tokens signed here: who they are to the ledger, and how fresh an approval must be.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use govledger::domain::time::Time;
use govledger::identity::oidc::Providers;
use ledger::key::LedgerKey;
use serde_json::{Value, json};

use crate::app::{App, NOW, token};

const ISSUER: &str = "https://id.example";

struct Idp {
    key: LedgerKey,
    directory: tempfile::TempDir,
}

impl Idp {
    fn new() -> Self {
        let (key, directory) = (LedgerKey::generate([5; 32]), tempfile::tempdir().unwrap());
        let x = URL_SAFE_NO_PAD.encode(key.public());
        let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] });
        std::fs::write(directory.path().join("jwks.json"), set.to_string()).unwrap();
        Self { key, directory }
    }

    fn providers(&self, rest: &str) -> Providers {
        let file = self.directory.path().join("jwks.json");
        let config = format!(
            "issuer = {ISSUER:?}\naudience = [\"govledger\"]\njwks_file = {file:?}\n{rest}\n[roles]\nmoney = [\"finance\"]\nops = [\"oncall\"]\nall = [\"reader\", \"publisher\"]"
        );
        Providers::new(vec![toml::from_str(&config).unwrap()]).unwrap()
    }

    /// A token of `subject`, who signed in `ago` seconds before `now`.
    fn token(&self, subject: &str, groups: &[&str], now: Time, ago: Option<i64>) -> String {
        let now = now.micros() / 1_000_000;
        let mut claims =
            json!({ "iss": ISSUER, "aud": "govledger", "sub": subject, "roles": groups, "iat": now, "exp": now + 600 });
        if let Some(ago) = ago {
            claims["auth_time"] = (now - ago).into();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({ "alg": "EdDSA", "kid": "k" })), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn now() -> Time {
    NOW.parse().unwrap()
}

fn trust(app: &App, key: &str, roles: &[&str]) {
    let body = json!({ "issuer": ISSUER, "alias": "corp", "roles": roles });
    app.command(&app.admin, "/v1/issuers", key, &body).expect(200);
}

fn asked(app: &App, key: &str) -> String {
    let scope = json!({ "rule": "latency_p95", "stack": "s", "justification": "j", "mitigation_plan": "m", "expires": "2027-01-01T00:00:00Z" });
    let reply = app.command(&token("oncall"), "/v1/waivers", key, &scope).expect(200).json();
    reply["waiver"].as_str().unwrap().to_owned()
}

/// What an approval says was seen.
fn seen(app: &App, waiver: &str) -> Value {
    json!({ "scope_sha256": app.read(&format!("/v1/waivers/{waiver}")).expect(200).json()["scope_sha256"] })
}

#[test]
fn an_approval_takes_a_sign_in_within_five_minutes() {
    let idp = Idp::new();
    let app = App::knowing(idp.providers(""));
    trust(&app, "t", &["finance", "reader"]);
    let waiver = asked(&app, "a");
    let path = format!("/v1/waivers/{waiver}/approve");
    let before = app.size();
    for ago in [Some(301), None] {
        let old = idp.token("u-1", &["money"], now(), ago);
        let reply = app.command(&old, &path, "k", &seen(&app, &waiver)).expect(401);
        let challenge = reply.header("www-authenticate").unwrap().to_owned();
        assert!(challenge.contains("error=\"insufficient_user_authentication\""), "{challenge}");
        assert!(challenge.contains("max_age=\"300\""), "{challenge}");
        assert_eq!(reply.json()["code"], "reauthentication_required");
        // Declining and reading are no approvals.
        app.http.with_token(&old).get("/v1/waivers").expect(200);
    }
    assert_eq!(app.size(), before, "nothing was recorded");
    let fresh = idp.token("u-1", &["money"], now(), Some(300));
    app.command(&fresh, &path, "k", &seen(&app, &waiver)).expect(200);
    let row = app.read(&format!("/v1/waivers/{waiver}")).expect(200).json();
    assert_eq!(row["decided_by"], "corp:u-1");
    let known = &row["decided_authentication"];
    assert_eq!(
        (known["method"].as_str(), known["issuer"].as_str(), known["subject"].as_str(), known["auth_time"].as_str()),
        (Some("oidc"), Some(ISSUER), Some("u-1"), Some("2026-10-31T23:55:00Z"))
    );
    // The entry itself says so, under the node's signature.
    let entry = app.read(&format!("/v1/entries/governance/{}", row["decided_position"])).expect(200).json();
    let envelope: Value = serde_json::from_str(entry["body"].as_str().unwrap()).unwrap();
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(payload["data"]["authenticated_by"], *known);
    app.restart_is_clean();
}

#[test]
fn an_api_token_is_recorded_as_one_and_a_provider_without_auth_time_can_be_allowed() {
    let idp = Idp::new();
    let app = App::knowing(idp.providers("auth_time_required = false"));
    trust(&app, "t", &["finance"]);
    let by_token = asked(&app, "a");
    app.command(&token("finance"), &format!("/v1/waivers/{by_token}/approve"), "k", &seen(&app, &by_token)).expect(200);
    let row = app.read(&format!("/v1/waivers/{by_token}")).expect(200).json();
    assert_eq!(row["decided_authentication"], "token");
    let by_idp = asked(&app, "b");
    let path = format!("/v1/waivers/{by_idp}/approve");
    // One that is stated counts nevertheless.
    app.command(&idp.token("u", &["money"], now(), Some(900)), &path, "k", &seen(&app, &by_idp)).expect(401);
    app.command(&idp.token("u", &["money"], now(), None), &path, "k", &seen(&app, &by_idp)).expect(200);
    let known = app.read(&format!("/v1/waivers/{by_idp}")).expect(200).json()["decided_authentication"].clone();
    assert_eq!((known["method"].as_str(), &known["auth_time"]), (Some("oidc"), &Value::Null));
}

#[test]
fn a_provider_confers_what_the_ledger_lets_it() {
    let idp = Idp::new();
    let app = App::knowing(idp.providers(""));
    let ann = |groups: &[&str]| idp.token("ann", groups, now(), Some(1));
    let code =
        |token: &str, path: &str| app.http.with_token(token).get(path).json()["code"].as_str().map(str::to_owned);
    // Nobody until an admin says so; then what is claimed and conferred, both.
    assert_eq!(code(&ann(&["all"]), "/v1/stacks").as_deref(), Some("token_without_role"));
    trust(&app, "t", &["reader", "oncall"]);
    assert_eq!(code(&ann(&["all"]), "/v1/stacks"), None);
    assert_eq!(code(&ann(&["money", "unknown"]), "/v1/stacks").as_deref(), Some("token_without_role"));
    let open = json!({ "stack": "s", "title": "t" });
    app.command(&ann(&["all"]), "/v1/incidents", "i", &open).expect(403);
    app.command(&ann(&["ops"]), "/v1/incidents", "i", &open).expect(200);
    // No provider confers admin, and nobody is enrolled under its alias.
    let admin = json!({ "issuer": "https://other", "alias": "other", "roles": ["admin"] });
    assert_eq!(app.command(&app.admin, "/v1/issuers", "x", &admin).expect(409).json()["field"], "roles");
    let squat = json!({ "name": "corp:ann", "roles": ["admin"], "token_sha256": "0".repeat(64) });
    assert_eq!(app.command(&app.admin, "/v1/principals", "y", &squat).expect(409).json()["field"], "name");
    // Barred by name, whatever the provider goes on claiming; and by the issuer's end.
    let out =
        app.http.with_token(&app.admin).send("DELETE", "/v1/principals/corp:ann", &[("idempotency-key", "o")], b"");
    out.expect(200);
    assert_eq!(code(&ann(&["all"]), "/v1/stacks").as_deref(), Some("token_revoked"));
    let bob = idp.token("bob", &["all"], now(), Some(1));
    assert_eq!(code(&bob, "/v1/stacks"), None);
    app.command(&app.admin, "/v1/issuers/distrust", "d", &json!({ "issuer": ISSUER })).expect(200);
    assert_eq!(code(&bob, "/v1/stacks").as_deref(), Some("token_without_role"));
}

#[test]
fn an_enrolled_person_has_the_ledgers_roles_and_is_barred_with_their_name() {
    let idp = Idp::new();
    let app = App::knowing(idp.providers(""));
    trust(&app, "t", &["reader"]);
    let cleo = idp.token("c-1", &["all"], now(), Some(1));
    let identity = json!({ "issuer": ISSUER, "subject": "c-1" });
    let enroll = json!({ "name": "cleo", "roles": ["admin"], "identity": identity });
    app.command(&app.admin, "/v1/principals", "e", &enroll).expect(200);
    let adopt = json!({ "engine_hash": "sha256:x" });
    app.command(&cleo, "/v1/stacks/s/adopt", "ad", &adopt).expect(200);
    // An identity is one principal's.
    let other = json!({ "name": "mallory", "roles": ["admin"], "identity": identity });
    assert_eq!(app.command(&app.admin, "/v1/principals", "m", &other).expect(409).json()["field"], "identity");
    let admin = app.http.with_token(&app.admin);
    admin.send("DELETE", "/v1/principals/cleo", &[("idempotency-key", "o")], b"").expect(200);
    // She does not come back as somebody whom only the provider knows.
    assert_eq!(app.http.with_token(&cleo).get("/v1/stacks").expect(401).json()["code"], "token_revoked");
    let again = json!({ "name": "cleo", "roles": ["reader"], "identity": identity });
    app.command(&app.admin, "/v1/principals", "again", &again).expect(200);
    app.http.with_token(&cleo).get("/v1/stacks").expect(200);
    app.command(&cleo, "/v1/stacks/s/adopt", "ad2", &adopt).expect(403);
}

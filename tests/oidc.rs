//! Bearer tokens of a real provider: the certified npm `oidc-provider`, with machines that show a secret and people who sign in.

#![cfg(test)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use govledger::domain::principal::token_sha256;
use serde_json::{Value, json};

use support::guarded::Guarded;
use support::http::{Http, Reply};
use support::parts;
use support::process::{Service, ServiceOptions, free_port, govledger};
use support::scratch::Scratch;
use support::wait::wait_for;

/// A running provider.
struct Provider {
    process: Guarded,
    http: Http,
    issuer: String,
}

impl Provider {
    fn start(parts: &Path, scratch: &Scratch) -> Self {
        let port = free_port();
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parts/oidc/provider.mjs")).arg(port.to_string());
        command.env("OIDC_PARTS", parts).env_remove("NODE_OPTIONS");
        let process = Guarded::start(&command, &scratch.join("provider.log"));
        let issuer = format!("http://127.0.0.1:{port}");
        let http = Http::new(&issuer);
        let mut provider = Self { process, http, issuer };
        wait_for("the provider", Duration::from_secs(40), || {
            assert!(provider.process.is_alive(), "the provider ended:\n{}", provider.process.log_tail(20));
            provider
                .http
                .try_get("/.well-known/openid-configuration")
                .is_ok_and(|reply| reply.status == 200)
                .then_some(())
        });
        provider
    }

    fn test(&self, what: &str, body: &Value) -> Value {
        self.http.post_json(&format!("/test/{what}"), body).expect(200).json()
    }

    /// An access token of a person who signed in, by authorization code over HTTP.
    fn person(&self, account: &str, algorithm: &str) -> String {
        self.signed_in(account, &json!({ "account": account, "resource": format!("urn:govledger/{algorithm}") }))
    }

    fn signed_in(&self, account: &str, body: &Value) -> String {
        let tokens = self.test("sign-in", body);
        tokens["access_token"].as_str().unwrap_or_else(|| panic!("{account}: {tokens}")).to_owned()
    }

    /// An access token of the machine client.
    fn machine(&self) -> String {
        let basic = base64::engine::general_purpose::STANDARD.encode("shipper:shipper-secret");
        let headers =
            [("content-type", "application/x-www-form-urlencoded"), ("authorization", &format!("Basic {basic}"))];
        let form = "grant_type=client_credentials&scope=ledger&resource=urn:govledger/ES256";
        let answer = self.http.post("/token", &headers, form.as_bytes()).expect(200).json();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A token that the provider would not give, signed with its own key.
    fn odd(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let kid = self.test("kids", &json!({}))["kids"][0].clone();
        let now = now();
        let mut body = json!({
            "header": { "alg": "RS256", "kid": kid, "typ": "at+jwt" },
            "claims": { "iss": self.issuer, "aud": "govledger", "sub": "rita", "iat": now, "exp": now + 300, "groups": { "llm": ["llm-readers"] } },
            "kid": kid
        });
        let mut claims = body["claims"].take();
        change(&mut body, &mut claims);
        body["claims"] = claims;
        self.test("sign", &body)["token"].as_str().unwrap().to_owned()
    }

    fn asked(&self) -> u64 {
        self.test("asked", &json!({}))["asked"].as_u64().unwrap()
    }
}

fn now() -> i64 {
    govledger::clock::Clock::System.now().micros() / 1_000_000
}

/// A service that takes the provider's tokens, whose admin trusts it.
struct Stage {
    service: Service,
    provider: Provider,
    data: String,
    admin: String,
    _scratch: Scratch,
}

impl Stage {
    fn new(parts: &Path, oidc: &str, limits: &str) -> Self {
        let scratch = Scratch::new("oidc");
        let provider = Provider::start(parts, &scratch);
        let (data, token_file, port) = (scratch.join("data"), scratch.join("admin.token"), free_port());
        let data = data.to_str().unwrap().to_owned();
        govledger(&["--data", &data, "init", "--node", "test", "--token-out", token_file.to_str().unwrap()]).expect(0);
        let config = format!(
            "data = {data:?}\nlisten = \"127.0.0.1:{port}\"\n[limits]\n{limits}\n[[oidc]]\nissuer = {:?}\naudience = [\"govledger\"]\njwks_url = \"{}/jwks\"\nroles_claim = \"groups.llm\"\n{oidc}\n[oidc.roles]\nllm-finance = [\"finance\", \"reader\"]\nllm-oncall = [\"oncall\", \"reader\"]\nllm-readers = [\"reader\"]\nllm-publishers = [\"publisher\"]",
            provider.issuer, provider.issuer
        );
        let config = scratch.write("govledger.toml", config);
        let service = Service::start(ServiceOptions::new(["--config", config.to_str().unwrap(), "serve"], port));
        let admin = token_file.to_str().unwrap().to_owned();
        let stage = Self { service, provider, data, admin, _scratch: scratch };
        let issuer = stage.provider.issuer.clone();
        let roles = ["--role", "reader", "--role", "publisher", "--role", "oncall", "--role", "finance"];
        stage.admin(&[&["principals", "trust", &issuer, "--alias", "corp"], roles.as_slice()].concat());
        stage
    }

    fn admin(&self, arguments: &[&str]) -> String {
        let common = ["--data", &self.data, "--token-file", &self.admin];
        govledger(&[common.as_slice(), arguments].concat()).expect(0).stdout
    }

    fn with(&self, token: &str) -> Http {
        self.service.http().with_token(token)
    }

    /// What an approval says was seen.
    fn seen(&self, waiver: &str) -> Value {
        let shown = govledger(&["--data", &self.data, "waivers", "show", waiver, "--json"]).expect(0).json();
        json!({ "scope_sha256": shown["scope_sha256"] })
    }

    fn command(&self, token: &str, path: &str, key: &str, body: &Value) -> Reply {
        self.with(token).post(path, &[("idempotency-key", key)], body.to_string().as_bytes())
    }

    fn waiver(&self, token: &str, key: &str) -> String {
        let scope = json!({ "rule": "latency_p95", "stack": "s", "justification": "j", "mitigation_plan": "m", "expires": "2099-01-01T00:00:00Z" });
        let reply = self.command(token, "/v1/waivers", key, &scope).expect(200).json();
        reply["waiver"].as_str().unwrap().to_owned()
    }
}

#[test]
fn machines_and_people_of_a_real_provider_act_under_their_roles() {
    let Some(parts) = parts::oidc() else { return };
    let stage = Stage::new(&parts, "", "");
    let provider = &stage.provider;
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = provider.person("rita", algorithm);
        stage.with(&token).get("/v1/stacks").expect(200);
        stage.command(&token, "/v1/incidents", "k", &json!({ "stack": "s", "title": "t" })).expect(403);
    }
    let nora = stage.with(&provider.person("nora", "RS256")).get("/v1/stacks").expect(403).json();
    assert_eq!(nora["code"], "token_without_role");

    let shipper = provider.machine();
    let event = r#"{"event_type":"llm_engine_published","artifact":{"artifact_id":"s","hash":"e1"},"payload":{}}"#;
    let reply = stage.with(&shipper).post("/v1/events", &[], event.as_bytes()).expect(200).json();
    let rita = provider.person("rita", "RS256");
    let path = format!("/v1/entries/governance/{}", reply["outcomes"][0]["position"]);
    let entry = stage.with(&rita).get(&path).expect(200).json();
    assert!(entry["header"].to_string().contains("corp:shipper"), "{entry}");

    // One person asks, another approves; whoever asked cannot, whatever their roles.
    let (olu, fiona) = (provider.person("olu", "ES256"), provider.person("fiona", "RS256"));
    let waiver = stage.waiver(&olu, "ask");
    stage.command(&olu, &format!("/v1/waivers/{waiver}/approve"), "no", &stage.seen(&waiver)).expect(403);
    let own = stage.waiver(&fiona, "own");
    let problem =
        stage.command(&fiona, &format!("/v1/waivers/{own}/approve"), "own-yes", &stage.seen(&own)).expect(409).json();
    assert_eq!(problem["field"], "principal");
    stage.command(&fiona, &format!("/v1/waivers/{waiver}/approve"), "yes", &stage.seen(&waiver)).expect(200);
    let row = stage.with(&rita).get(&format!("/v1/waivers/{waiver}")).expect(200).json();
    let known = &row["decided_authentication"];
    assert_eq!((row["decided_by"].as_str(), known["subject"].as_str()), (Some("corp:fiona"), Some("fiona")));
    assert!(known["auth_time"].is_string() && known["issuer"] == provider.issuer.as_str(), "{known}");
    let shown = govledger(&["--data", &stage.data, "waivers", "show", &waiver]).expect(0).stdout;
    assert!(shown.contains("decided  by corp:fiona, known by oidc fiona of"), "{shown}");

    // A token that is shown again is the same person; a command that is sent again is the same command.
    let again =
        stage.command(&fiona, &format!("/v1/waivers/{waiver}/approve"), "yes", &stage.seen(&waiver)).expect(200).json();
    assert_eq!(again["position"], row["decided_position"]);
    let other = stage
        .command(&fiona, &format!("/v1/waivers/{waiver}/approve"), "second", &stage.seen(&waiver))
        .expect(409)
        .json();
    assert_eq!(other["by_position"], row["decided_position"]);

    // Enrolled by name she keeps what the ledger says, and is out with her name.
    stage.admin(&[
        "principals",
        "add",
        "fiona",
        "--role",
        "finance",
        "--issuer",
        &provider.issuer,
        "--subject",
        "fiona",
    ]);
    let listed = stage.admin(&["principals", "list"]);
    assert!(listed.contains("fiona of http://127.0.0.1") && listed.contains("as corp:NAME"), "{listed}");
    stage.command(&fiona, &format!("/v1/waivers/{waiver}/revoke"), "r", &json!({ "reason": "over" })).expect(200);
    stage.admin(&["principals", "remove", "fiona"]);
    assert_eq!(stage.with(&fiona).get("/v1/stacks").expect(401).json()["code"], "token_revoked");
}

#[test]
fn a_token_that_is_no_good_is_refused_with_its_own_code() {
    let Some(parts) = parts::oidc() else { return };
    let stage = Stage::new(&parts, "skew_seconds = 5", "");
    let provider = &stage.provider;
    let good = provider.odd(|_, _| {});
    stage.with(&good).get("/v1/stacks").expect(200);
    let payload = good.split('.').nth(1).unwrap();
    let unsigned = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#));
    let mut tampered = good.clone().into_bytes();
    let last = tampered.len() - 20;
    tampered[last] = if tampered[last] == b'A' { b'B' } else { b'A' };
    let elsewhere = provider.signed_in("rita", &json!({ "account": "rita", "resource": "urn:govledger/RS256/other" }));
    let id_token =
        provider.test("sign-in", &json!({ "account": "rita", "resource": "urn:govledger/RS256" }))["id_token"].clone();
    let tokens = [
        ("token_expired", provider.odd(|_, claims| claims["exp"] = (now() - 6).into())),
        ("token_not_yet_valid", provider.odd(|_, claims| claims["nbf"] = (now() + 60).into())),
        ("token_wrong_audience", provider.odd(|_, claims| claims["aud"] = "somebody".into())),
        ("token_wrong_audience", elsewhere),
        ("token_wrong_audience", id_token.as_str().unwrap().to_owned()),
        ("token_wrong_issuer", provider.odd(|_, claims| claims["iss"] = "https://evil.example".into())),
        ("token_algorithm", unsigned),
        (
            "token_algorithm",
            // The public key, as anybody can fetch it, used as the secret of an HMAC.
            provider.odd(|body, _| {
                let kid = body["kid"].take();
                body["header"] = json!({ "alg": "HS256", "kid": kid });
                body["secretFrom"] = kid;
            }),
        ),
        ("token_unknown_key", provider.odd(|body, _| body["header"]["kid"] = "made-up".into())),
        ("token_bad_signature", String::from_utf8(tampered).unwrap()),
        // One key's signature under another key's id of the same kind of token.
        ("token_algorithm", provider.odd(|body, _| body["header"]["kid"] = "ES256-1".into())),
        ("token_malformed", provider.odd(|_, claims| claims["exp"] = "9999999999".into())),
        ("token_malformed", format!("!{good}")),
        ("token_too_large", format!("{good}{}", "A".repeat(9_000))),
    ];
    for (code, token) in &tokens {
        let reply = stage.with(token).get("/v1/stacks");
        let found = reply.json();
        assert_eq!((reply.status, found["code"].as_str()), (401, Some(*code)), "{found}");
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{code}: {challenge}");
        // Nothing can be done with it either.
        stage.command(token, "/v1/incidents", "k", &json!({ "stack": "s", "title": "t" })).expect(401);
    }
    stage.with(&good).get("/v1/stacks").expect(200);

    // Each stands in the access trail, with its code, the status and the digest of what was shown.
    let admin = std::fs::read_to_string(&stage.admin).unwrap().trim().to_owned();
    for (code, token) in &tokens {
        let shown = token_sha256(token)[..32].to_owned();
        wait_for(&format!("{code} in the trail"), Duration::from_secs(10), || {
            let trail = stage.with(&admin).get("/v1/access?limit=1000").expect(200).json();
            let fits = |entry: &&Value| {
                let is_jwt = !token.starts_with('!');
                entry["kind"] == "denied"
                    && entry["code"] == *code
                    && entry["status"] == 401
                    && (entry["token_digest"] == shown.as_str() || !is_jwt)
            };
            trail["entries"].as_array().unwrap().iter().find(fits).map(|_| ())
        });
    }
    // The same good token twice is no second act: the command under its key is answered as at first, and the ledger has it once.
    let olu = provider.person("olu", "RS256");
    let act = || stage.command(&olu, "/v1/incidents", "again", &json!({ "stack": "s", "title": "t" })).expect(200);
    assert_eq!(act().json()["position"], act().json()["position"]);
    let incidents = stage.with(&olu).get("/v1/incidents").expect(200).json();
    assert_eq!(incidents["incidents"].as_array().unwrap().len(), 1, "{incidents}");
}

#[test]
fn keys_rotate_and_outlive_a_provider_that_is_down_for_a_while() {
    let Some(parts) = parts::oidc() else { return };
    let oidc = "retry_seconds = 1\nrefresh_seconds = 2\nstale_seconds_max = 8\ntimeout_seconds = 2";
    let mut stage = Stage::new(&parts, oidc, "");
    let old = stage.provider.person("rita", "RS256");
    stage.with(&old).get("/v1/stacks").expect(200);
    stage.provider.test("rotate", &json!({}));
    let new = stage.provider.person("rita", "RS256");
    wait_for("the new key", Duration::from_secs(5), || {
        (stage.with(&new).get("/v1/stacks").status == 200).then_some(())
    });
    // What the provider no longer shows no longer counts.
    wait_for("the old key's end", Duration::from_secs(10), || {
        (stage.with(&old).get("/v1/stacks").json()["code"] == "token_unknown_key").then_some(())
    });
    // Made-up key ids make no load on the provider.
    let before = stage.provider.asked();
    let made_up = stage.provider.odd(|body, _| body["header"]["kid"] = "made-up".into());
    let mut tried = 0;
    let (began, limit) = (now(), 4);
    while now() < began + limit {
        stage.with(&made_up).get("/v1/stacks").expect(401);
        tried += 1;
    }
    let asked = stage.provider.asked() - before;
    assert!(tried > 20 && asked <= 6, "{tried} tokens, {asked} fetches");

    stage.provider.process.kill9();
    let other = token_sha256("glt_other");
    let body = json!({ "name": "other", "roles": ["reader"], "token_sha256": other });
    let admin = std::fs::read_to_string(&stage.admin).unwrap().trim().to_owned();
    stage.command(&admin, "/v1/principals", "other", &body).expect(200);
    std::thread::sleep(Duration::from_secs(3));
    stage.with(&new).get("/v1/stacks").expect(200);
    let reply = wait_for("the end of old keys", Duration::from_secs(15), || {
        let reply = stage.with(&new).get("/v1/stacks");
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("keys_unavailable")));
    assert_eq!(reply.header("retry-after"), Some("5"));
    // Whoever has an API token is not held up.
    stage.with("glt_other").get("/v1/stacks").expect(200);
    assert!(stage.service.log().contains("oidc.keys_not_fetched"));
}

#[test]
fn an_approval_sends_people_back_to_sign_in() {
    let Some(parts) = parts::oidc() else { return };
    let stage = Stage::new(&parts, "", "approval_auth_seconds_max = 3");
    let (provider, olu) = (&stage.provider, stage.provider.person("olu", "RS256"));
    let waiver = stage.waiver(&olu, "ask");
    let path = format!("/v1/waivers/{waiver}/approve");
    let resource = json!({ "account": "fiona", "resource": "urn:govledger/EdDSA" });
    let first = provider.signed_in("fiona", &resource);
    std::thread::sleep(Duration::from_secs(5));
    // The session at the provider still stands, so a new token alone proves nothing new.
    let same_session = provider.signed_in("fiona", &resource);
    for old in [&first, &same_session] {
        let reply = stage.command(old, &path, "k", &stage.seen(&waiver)).expect(401);
        assert_eq!(reply.json()["code"], "reauthentication_required");
        assert!(reply.header("www-authenticate").unwrap().contains("max_age=\"3\""));
    }
    // With the `max_age` that the answer names, the provider asks her to sign in again.
    let mut again = resource.clone();
    again["maxAge"] = 3.into();
    let fresh = provider.signed_in("fiona", &again);
    stage.command(&fresh, &path, "k", &stage.seen(&waiver)).expect(200);
    // A machine's token states no time of signing in.
    let machine = stage.with(&provider.machine()).post(&path, &[("idempotency-key", "m")], b"{}");
    assert_eq!(machine.status, 403, "and has not the role anyway");
}

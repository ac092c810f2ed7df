//! Tokens right and wrong, signed with real keys; the clock is the test's.

use ledger::key::LedgerKey;
use serde_json::json;

use super::super::Providers;
use super::*;

const NOW: i64 = 1_800_000_000;

struct Signer {
    key: LedgerKey,
    providers: Providers,
    _directory: tempfile::TempDir,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn with(rest: &str) -> Self {
        let key = LedgerKey::generate([9; 32]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": encode(key.public()) });
        std::fs::write(&path, json!({ "keys": [jwk] }).to_string()).unwrap();
        let text = format!(
            "issuer = \"https://id\"\naudience = [\"govledger\"]\njwks_file = {path:?}\n{rest}\n[roles]\nmoney = [\"finance\"]\nops = [\"oncall\", \"reader\"]"
        );
        let providers = Providers::new(vec![toml::from_str(&text).unwrap()]).unwrap();
        Self { key, providers, _directory: directory }
    }

    fn sign(&self, head: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(head.to_string()), encode(claims.to_string()));
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn check(&self, token: &str) -> Result<Bearer, Fault> {
        self.providers.check(token, Time::from_seconds(NOW), std::time::Duration::from_secs(1))
    }

    fn claims(&self, change: impl FnOnce(&mut Value)) -> Result<Bearer, Fault> {
        let mut claims = good();
        change(&mut claims);
        self.check(&self.sign(&json!({ "alg": "EdDSA", "kid": "k" }), &claims))
    }
}

fn good() -> Value {
    json!({ "iss": "https://id", "aud": "govledger", "sub": "u-1", "exp": NOW + 300, "iat": NOW - 10, "auth_time": NOW - 20,
        "roles": ["money", "unheard of"], "amr": ["pwd", "otp"], "email": "ann@example" })
}

#[test]
fn a_good_token_says_who_and_how() {
    let signer = Signer::with("");
    let bearer = signer.claims(|_| {}).unwrap();
    assert_eq!((bearer.name.as_str(), bearer.roles), ("u-1", [Role::Finance].into()));
    assert_eq!(bearer.authentication.auth_time, Some(Time::from_seconds(NOW - 20)));
    assert_eq!(bearer.authentication.amr, ["pwd", "otp"]);
    assert_eq!(bearer.expires, Time::from_seconds(NOW + 360));
    let named = Signer::with("principal_claim = \"email\"\nroles_claim = \"realm.roles\"");
    let bearer = named.claims(|claims| claims["realm"] = json!({ "roles": "ops money" })).unwrap();
    assert_eq!((bearer.name.as_str(), bearer.roles.len()), ("ann@example", 3));
    assert_eq!(bearer.authentication.subject, "u-1");
    assert!(named.claims(|claims| claims["email"] = json!("")).is_err());
}

#[test]
fn times_are_compared_with_the_skew_to_the_second() {
    let signer = Signer::with("skew_seconds = 60");
    let exp = |exp: i64| signer.claims(|claims| claims["exp"] = exp.into()).map(|_| ());
    exp(NOW - 59).unwrap();
    assert_eq!(exp(NOW - 60), Err(Fault::Expired { expired: Time::from_seconds(NOW - 60) }));
    let nbf = |nbf: i64| signer.claims(|claims| claims["nbf"] = nbf.into()).map(|_| ());
    nbf(NOW + 60).unwrap();
    assert_eq!(nbf(NOW + 61), Err(Fault::NotYetValid { from: Time::from_seconds(NOW + 61) }));
    assert!(matches!(signer.claims(|claims| claims["iat"] = (NOW + 61).into()), Err(Fault::NotYetValid { .. })));
    // A time that is no number is no absent time.
    for (claim, value) in [
        ("exp", json!("9999999999")),
        ("nbf", json!("0")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("auth_time", json!("now")),
    ] {
        let fault = signer.claims(|claims| claims[claim] = value.clone()).unwrap_err();
        assert!(matches!(fault, Fault::Malformed { .. }), "{claim} {value}: {fault}");
    }
    let absent = signer.claims(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))).unwrap_err();
    assert!(absent.to_string().contains("exp"), "{absent}");
    assert!(matches!(signer.claims(|claims| claims["auth_time"] = (NOW + 61).into()), Err(Fault::Malformed { .. })));
}

#[test]
fn issuer_and_audience_are_exact() {
    let signer = Signer::with("");
    for issuer in ["https://id/", "https://ID", "https://evil"] {
        let fault = signer.claims(|claims| claims["iss"] = issuer.into()).unwrap_err();
        assert_eq!(fault, Fault::WrongIssuer { found: issuer.to_owned() });
    }
    signer.claims(|claims| claims["aud"] = json!(["other", "govledger"])).unwrap();
    for audience in [
        json!("other"),
        json!("govledger other"),
        json!([]),
        json!(null),
        json!({ "govledger": 1 }),
        json!(["GOVLEDGER"]),
    ] {
        let fault = signer.claims(|claims| claims["aud"] = audience.clone()).unwrap_err();
        assert!(matches!(fault, Fault::WrongAudience { .. }), "{audience}: {fault}");
    }
}

#[test]
fn algorithms_are_neither_absent_nor_symmetric_nor_another_keys() {
    let signer = Signer::with("");
    let head = |head: Value| signer.check(&signer.sign(&head, &good())).map(|_| ()).unwrap_err();
    for algorithm in ["none", "None", "NONE", "HS256", "HS512", "PS256", "ES384", ""] {
        let fault = head(json!({ "alg": algorithm, "kid": "k" }));
        assert_eq!(fault, Fault::Algorithm { found: algorithm.to_owned() });
    }
    // A taken algorithm under a key of another kind.
    assert_eq!(head(json!({ "alg": "RS256", "kid": "k" })), Fault::Algorithm { found: "RS256".to_owned() });
    assert_eq!(head(json!({ "alg": "EdDSA", "kid": "other" })), Fault::UnknownKey { kid: "other".to_owned() });
    assert!(matches!(head(json!({ "kid": "k" })), Fault::Malformed { .. }));
    assert!(matches!(
        head(json!({ "alg": "EdDSA", "kid": "k", "crit": ["b64"], "b64": false })),
        Fault::Malformed { .. }
    ));
    // A key that the token brings itself is not looked at.
    let own = LedgerKey::generate([1; 32]);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(own.public()) });
    let message =
        format!("{}.{}", encode(json!({ "alg": "EdDSA", "jwk": jwk }).to_string()), encode(good().to_string()));
    let token = format!("{message}.{}", encode(own.sign(message.as_bytes())));
    assert_eq!(signer.check(&token), Err(Fault::BadSignature));
}

#[test]
fn any_changed_part_fails() {
    let signer = Signer::with("");
    let token = signer.sign(&json!({ "alg": "EdDSA", "kid": "k" }), &good());
    signer.check(&token).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let forged =
        encode(json!({ "iss": "https://id", "aud": "govledger", "sub": "root", "exp": NOW + 300 }).to_string());
    assert_eq!(signer.check(&format!("{}.{forged}.{}", parts[0], parts[2])), Err(Fault::BadSignature));
    assert_eq!(signer.check(&format!("{}.{}.", parts[0], parts[1])), Err(Fault::BadSignature));
    assert_eq!(signer.check(&format!("{}.{}.{}", parts[0], parts[1], encode([0; 64]))), Err(Fault::BadSignature));
    for broken in
        ["", ".", "..", "a.b.c", &format!("{token}.x"), &format!("{}.{}", parts[0], parts[1]), &format!("{token}=")]
    {
        assert!(matches!(signer.check(broken), Err(Fault::Malformed { .. })), "{broken:?}: {:?}", signer.check(broken));
    }
    let long = format!("{token}{}", "A".repeat(9_000));
    assert_eq!(signer.check(&long), Err(Fault::TooLarge { bytes: long.len(), max: 8_192 }));
}

//! Keys that rotate, a provider that is down, and key ids that nobody has.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A provider's key endpoint that counts how often it is asked.
struct Endpoint {
    url: String,
    body: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Endpoint {
    fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let (body, asked) = (Arc::new(Mutex::new(Some(body.to_owned()))), Arc::new(AtomicUsize::new(0)));
        let (answer, counted) = (Arc::clone(&body), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4_096]);
                counted.fetch_add(1, Ordering::SeqCst);
                let (status, text) = match answer.lock().unwrap().clone() {
                    Some(text) => ("200 OK", text),
                    None => ("503 Service Unavailable", String::new()),
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
                let _ = stream.write_all(format!("{head}{text}").as_bytes());
            }
        });
        Self { url, body, asked }
    }

    fn answers(&self, body: Option<String>) {
        *self.body.lock().unwrap() = body;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn keys(&self, rest: &str) -> Keys {
        let text = format!("issuer = \"i\"\naudience = [\"a\"]\njwks_url = {:?}\n{rest}", self.url);
        Keys::new(&toml::from_str(&text).unwrap())
    }
}

fn ed25519(kid: &str, byte: u8) -> String {
    use base64::Engine as _;
    let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([byte; 32]);
    format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","use":"sig","alg":"EdDSA","x":"{x}"}}"#)
}

fn set(keys: &[String]) -> String {
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_unknown_key_is_asked_for_once_an_interval() {
    let endpoint = Endpoint::start(&set(&[ed25519("old", 1)]));
    let keys = endpoint.keys("retry_seconds = 30\nrefresh_seconds = 300");
    let find = |kid: &str, seconds| keys.find(Some(kid), OidcAlgorithm::EdDsa, at(seconds)).map(|_| ());
    find("old", 1_000).unwrap();
    find("old", 1_001).unwrap();
    assert_eq!(endpoint.asked(), 1, "kept keys are not fetched again");
    for made_up in ["x", "y", "z"] {
        assert_eq!(find(made_up, 1_002), Err(Fault::UnknownKey { kid: made_up.to_owned() }));
    }
    assert_eq!(endpoint.asked(), 1, "made-up key ids make no load within the interval");
    // The provider rotates: the first token under the new key fetches it, once the interval has passed.
    endpoint.answers(Some(set(&[ed25519("new", 2), ed25519("old", 1)])));
    assert!(find("new", 1_029).is_err());
    find("new", 1_030).unwrap();
    assert_eq!(endpoint.asked(), 2);
    // A key that is withdrawn counts until the next refresh, and no longer.
    endpoint.answers(Some(set(&[ed25519("new", 2)])));
    find("old", 1_200).unwrap();
    assert!(matches!(find("old", 1_330), Err(Fault::UnknownKey { .. })));
}

#[test]
fn while_the_provider_is_down_kept_keys_count_for_a_bounded_time() {
    let endpoint = Endpoint::start(&set(&[ed25519("k", 1)]));
    let keys = endpoint.keys("retry_seconds = 10\nrefresh_seconds = 100\nstale_seconds_max = 1000");
    let find = |seconds| keys.find(Some("k"), OidcAlgorithm::EdDsa, at(seconds)).map(|_| ());
    find(5_000).unwrap();
    endpoint.answers(None);
    find(5_500).unwrap();
    assert_eq!(endpoint.asked(), 2);
    find(5_505).unwrap();
    assert_eq!(endpoint.asked(), 2, "a provider that is down is not asked by every request");
    find(6_000).unwrap();
    assert!(matches!(find(6_001), Err(Fault::KeysUnavailable { reason }) if reason.contains("503")));
    // It is back: so is everybody.
    endpoint.answers(Some(set(&[ed25519("k", 1)])));
    find(6_011).unwrap();
}

#[test]
fn a_set_is_read_for_what_is_taken_and_bounded() {
    let rsa = r#"{"kty":"RSA","kid":"r","alg":"PS256","n":"AQAB","e":"AQAB"}"#.to_owned();
    let secret = r#"{"kty":"oct","kid":"s","alg":"HS256","k":"AAAA"}"#.to_owned();
    let encryption = ed25519("e", 3).replace("\"sig\"", "\"enc\"");
    let strange = r#"{"kty":"AKP","kid":"pq","alg":"ML-DSA-44","pub":"AA"}"#.to_owned();
    let keys = parse(&set(&[rsa, secret, encryption, strange, ed25519("k", 1)])).unwrap();
    assert_eq!(keys.iter().map(|key| key.kid.as_deref()).collect::<Vec<_>>(), [Some("k")]);
    assert!(parse("{\"keys\":[]}").is_err() && parse("[]").is_err());
    assert!(parse(&set(&[r#"{"kty":"oct","k":"AAAA"}"#.to_owned()])).is_err());
    let endpoint = Endpoint::start(&set(&[ed25519("k", 1), "\"".to_owned() + &"x".repeat(300_000) + "\""]));
    let fault = endpoint.keys("").find(Some("k"), OidcAlgorithm::EdDsa, at(1)).unwrap_err();
    assert!(matches!(fault, Fault::KeysUnavailable { .. }), "{fault}");
}

#[test]
fn without_a_key_id_there_must_be_no_choice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let keys_of = |set: &str| {
        std::fs::write(&path, set).unwrap();
        let text = format!("issuer = \"i\"\naudience = [\"a\"]\njwks_file = {path:?}");
        Keys::new(&toml::from_str(&text).unwrap())
    };
    let find = |keys: &Keys, kid, algorithm| keys.find(kid, algorithm, at(1)).map(|_| ());
    find(&keys_of(&set(&[ed25519("a", 1)])), None, OidcAlgorithm::EdDsa).unwrap();
    let two = keys_of(&set(&[ed25519("a", 1), ed25519("b", 2)]));
    assert!(matches!(find(&two, None, OidcAlgorithm::EdDsa), Err(Fault::UnknownKey { .. })));
    // The key's algorithm is its own, whatever a token says.
    let other = find(&two, Some("a"), OidcAlgorithm::Rs256);
    assert_eq!(other, Err(Fault::Algorithm { found: "RS256".to_owned() }));
}

//! Every route, as everybody: the status of each cell, against a list that was read by hand.
//!
//! `roles.txt` is not made from the route table. Where a route or a role changes, this test fails with the new list in the build's
//! temporary directory; whoever changed it reads the difference and takes it over.

use std::fmt::Write as _;
use std::path::Path;

use govledger::api::openapi;
use govledger::domain::principal::token_sha256;
use serde_json::json;

use crate::app::{App, LOCAL_TOKEN, ROLES, token};

const FILLED: [(&str, &str); 9] = [
    ("{stack}", "s"),
    ("{id}", "none"),
    ("{ledger}", "governance"),
    ("{position}", "0"),
    ("{name}", "nobody"),
    ("{token_sha256}", "00"),
    ("{tile}", "0/000.p/1"),
    ("{sha256}", "0000000000000000000000000000000000000000000000000000000000000000"),
    ("{first_line_sha256}", "0000000000000000000000000000000000000000000000000000000000000000"),
];

/// A token that has expired and one that was revoked, of principals with every role.
fn lost_tokens(app: &App) -> (String, String) {
    let all = json!(ROLES);
    for name in ["expired", "revoked"] {
        let enroll = json!({ "name": name, "roles": all, "token_sha256": token_sha256(&token(name)), "token_expires": "2026-11-01T00:00:01Z" });
        app.command(&app.admin, "/v1/principals", name, &enroll).expect(200);
    }
    let path = format!("/v1/principals/revoked/tokens/{}", token_sha256(&token("revoked")));
    app.http.with_token(&app.admin).send("DELETE", &path, &[("idempotency-key", "lost")], b"").expect(200);
    app.clock.set("2026-11-01T00:00:01Z".parse().unwrap());
    (token("expired"), token("revoked"))
}

#[test]
fn every_cell_is_what_somebody_read() {
    let app = App::start();
    let (expired, revoked) = lost_tokens(&app);
    let fixed = [
        ("nobody", None),
        ("unknown", Some("glt_unknown".to_owned())),
        ("expired", Some(expired)),
        ("revoked", Some(revoked)),
    ];
    let roles = ROLES.map(|role| (role, Some(token(role))));
    let askers: Vec<(&str, Option<String>)> =
        fixed.into_iter().chain(roles).chain([("owner", Some(LOCAL_TOKEN.to_owned()))]).collect();
    let mut found = String::from("route");
    for (name, _) in &askers {
        write!(found, " {name}").unwrap();
    }
    found.push('\n');
    let document = openapi();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let filled = FILLED.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
            write!(found, "{} {path}", method.to_uppercase()).unwrap();
            for (_, token) in &askers {
                let status = app.status(&method.to_uppercase(), &filled, token.as_deref(), "{}");
                write!(found, " {status}").unwrap();
            }
            found.push('\n');
        }
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/roles.txt");
    let read = std::fs::read_to_string(&list).unwrap_or_default();
    let actual = Path::new(env!("CARGO_TARGET_TMPDIR")).join("roles.txt");
    std::fs::write(&actual, &found).unwrap();
    let different: Vec<(&str, &str)> = found.lines().zip(read.lines()).filter(|(found, read)| found != read).collect();
    assert!(
        different.is_empty() && found.lines().count() == read.lines().count(),
        "{} is not {}: (found, read) {different:#?}",
        actual.display(),
        list.display()
    );
}

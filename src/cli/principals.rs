//! `principals` and the tokens of `token`: who may do what, and how they are known.
//!
//! A token is made here, shown once, and only its hash is sent.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::args::{Expiry, Options, PrincipalTask};
use super::decide::{Given, give, given};
use super::error::{CliError, Exit, Outcome};
use super::out::{self, text, when};
use super::source::Place;
use crate::clock::Clock;
use crate::domain::authentication::Identity;
use crate::domain::command::{
    IssuerDistrust, IssuerTrust, PrincipalEnroll, PrincipalRevoke, Request, TokenIssue, TokenRevoke,
};
use crate::domain::principal::{Role, token_sha256};
use crate::domain::time::Time;
use crate::sequencer::{new_token, write_durably};

/// Characters of a token's hash that a table shows.
const SHOWN_CHARS: usize = 12;

/// A token to be made.
pub(super) struct NewToken {
    pub(super) expires: Expiry,
    pub(super) label: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) key: Option<String>,
}

pub(crate) fn run(place: &Place, options: &Options, task: Option<PrincipalTask>) -> Outcome {
    match task.unwrap_or(PrincipalTask::List) {
        PrincipalTask::List => list(place, options),
        PrincipalTask::Add { name, role, issuer, subject, expires, label, out: file, key } => {
            match issuer.zip(subject) {
                None => enroll(place, options, &name, &role, NewToken { expires, label, file, key }),
                Some((issuer, subject)) => {
                    let enroll = PrincipalEnroll {
                        name,
                        roles: role.into_iter().collect(),
                        identity: Some(Identity { issuer, subject }),
                        ..PrincipalEnroll::default()
                    };
                    give(place, options, key, &Request::PrincipalEnroll(enroll))
                }
            }
        }
        PrincipalTask::Remove { name, key } => {
            give(place, options, key, &Request::PrincipalRevoke(PrincipalRevoke { name }))
        }
        PrincipalTask::AddToken { name, expires, label, out: file, key } => {
            add_token(place, options, &name, NewToken { expires, label, file, key })
        }
        PrincipalTask::RevokeToken { name, token, key } => {
            let token_sha256 = whole_hash(place, &name, &token)?;
            give(place, options, key, &Request::TokenRevoke(TokenRevoke { name, token_sha256 }))
        }
        PrincipalTask::Trust { issuer, alias, role, key } => {
            let trust = IssuerTrust { issuer, alias, roles: role.into_iter().collect() };
            give(place, options, key, &Request::IssuerTrust(trust))
        }
        PrincipalTask::Distrust { issuer, key } => {
            give(place, options, key, &Request::IssuerDistrust(IssuerDistrust { issuer }))
        }
    }
}

/// Gives `name` roles and a new token.
pub(super) fn enroll(place: &Place, options: &Options, name: &str, roles: &[Role], new: NewToken) -> Outcome {
    let (token, expires) = made(&new)?;
    let enroll = PrincipalEnroll {
        name: name.to_owned(),
        roles: roles.iter().copied().collect(),
        token_sha256: token_sha256(&token),
        token_expires: expires,
        token_label: new.label,
        identity: None,
    };
    let given = given(place, options, new.key, &Request::PrincipalEnroll(enroll), None)?;
    told(options, &format!("{name} enrolled"), name, &token, (new.file, expires), given);
    Ok(Exit::Fine)
}

fn add_token(place: &Place, options: &Options, name: &str, new: NewToken) -> Outcome {
    let (token, expires) = made(&new)?;
    let issue = TokenIssue { name: name.to_owned(), token_sha256: token_sha256(&token), expires, label: new.label };
    let given = given(place, options, new.key, &Request::TokenIssue(issue), None)?;
    told(options, &format!("token of {name} issued"), name, &token, (new.file, expires), given);
    Ok(Exit::Fine)
}

/// The token is in its file before the ledger knows it: one that nobody has kept would be of no use.
fn made(new: &NewToken) -> Result<(String, Option<Time>), CliError> {
    let token = new_token()?;
    if let Some(path) = &new.file {
        let path = std::path::absolute(path).map_err(CliError::failed)?;
        write_durably(&path, format!("{token}\n").as_bytes(), 0o600)?;
    }
    Ok((token, new.expires.from(Clock::System.now())))
}

fn told(
    options: &Options,
    what: &str,
    name: &str,
    token: &str,
    (file, expires): (Option<PathBuf>, Option<Time>),
    given: Given,
) {
    if options.json {
        let mut body = given.body;
        body["principal"] = name.into();
        body["expires"] = json!(expires);
        if file.is_none() {
            body["token"] = token.into();
        }
        out::json(&body);
        return;
    }
    let shown = file.as_ref().map_or_else(|| token.to_owned(), |path| path.display().to_string());
    out::line(format!("{what} at entry {}; token {shown}", given.position));
    out::line(match expires {
        Some(expires) => format!("it counts until {expires}; `govledger principals add-token` makes the next"),
        None => "it counts until it is revoked".to_owned(),
    });
    if file.is_none() {
        out::line("shown this once and kept nowhere; put it into a file that only its owner can read");
    }
}

/// The service's answer, or without one the same from the ledger's files, where no last use is known.
fn known(place: &Place) -> Result<Value, CliError> {
    if let Some(client) = place.service()? {
        return Ok(serde_json::from_slice(&client.fetch("/v1/principals")?)?);
    }
    let files = place.open_files()?;
    let governance = files.fold(files.size(None)?, false)?.governance;
    let now = Clock::System.now();
    let token = |(sha256, token): (&String, &crate::domain::principal::Token)| json!({ "token_sha256": sha256, "label": token.label, "expires": token.expires, "expired": token.is_expired(now), "last_used": null, "position": token.position });
    let principals: Vec<Value> = governance
        .principals
        .iter()
        .map(|(name, found)| {
            json!({ "name": name, "roles": found.roles, "tokens": found.tokens.iter().map(token).collect::<Vec<_>>(), "identities": found.identities, "finance_limit_usd": governance.principals.finance_limit_usd(name).map(|(limit_usd, _)| limit_usd), "position": found.position })
        })
        .collect();
    let issuers: Vec<Value> = governance
        .principals
        .issuers()
        .map(|(name, issuer)| json!({ "issuer": name, "alias": issuer.alias, "roles": issuer.roles, "position": issuer.position }))
        .collect();
    Ok(json!({ "principals": principals, "issuers": issuers }))
}

fn whole_hash(place: &Place, name: &str, start: &str) -> Result<String, CliError> {
    if start.len() == 64 {
        return Ok(start.to_owned());
    }
    let answer = known(&Place { token_file: place.token_file.clone(), ..place.clone() })?;
    let found: Vec<String> = rows(&answer["principals"])
        .iter()
        .filter(|row| row["name"] == name)
        .flat_map(|row| rows(&row["tokens"]))
        .filter_map(|token| token["token_sha256"].as_str())
        .filter(|sha256| sha256.starts_with(start))
        .map(str::to_owned)
        .collect();
    match <[String; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(found) => Err(CliError::new(
            Exit::No,
            format!("{} tokens of {name} begin with {start:?}; `govledger principals list` shows them", found.len()),
        )),
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn words(value: &Value) -> String {
    rows(value).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn list(place: &Place, options: &Options) -> Outcome {
    let answer = known(place)?;
    if options.json {
        out::json(&answer);
        return Ok(Exit::Fine);
    }
    let mut lines = Vec::new();
    for principal in rows(&answer["principals"]) {
        let limit =
            principal["finance_limit_usd"].as_str().map(|usd| format!(" (up to {usd} USD)")).unwrap_or_default();
        let head = [text(&principal["name"]), words(&principal["roles"]) + &limit];
        for token in rows(&principal["tokens"]) {
            let hash: String = text(&token["token_sha256"]).chars().take(SHOWN_CHARS).collect();
            let expires = match (token["expired"].as_bool(), token["expires"].is_null()) {
                (Some(true), _) => format!("expired {}", when(&token["expires"])),
                (_, true) => "never".to_owned(),
                _ => when(&token["expires"]),
            };
            let known_by = format!("token {hash}");
            lines.push(
                [
                    head.to_vec(),
                    vec![known_by, text(&token["label"]), expires, when(&token["last_used"]), text(&token["position"])],
                ]
                .concat(),
            );
        }
        for identity in rows(&principal["identities"]) {
            let known_by = format!("{} of {}", text(&identity["subject"]), text(&identity["issuer"]));
            lines.push(
                [head.to_vec(), vec![known_by, "-".into(), "-".into(), "-".into(), text(&principal["position"])]]
                    .concat(),
            );
        }
    }
    let header = ["principal", "roles", "known by", "label", "expires", "last used here", "entry"];
    out::table(&header, lines, "nobody");
    for issuer in rows(&answer["issuers"]) {
        out::line(format!(
            "trusted: {} as {}:NAME, may confer {} (entry {})",
            text(&issuer["issuer"]),
            text(&issuer["alias"]),
            words(&issuer["roles"]),
            text(&issuer["position"])
        ));
    }
    Ok(Exit::Fine)
}

/// `token list`: who may do what, in short.
pub(super) fn names(place: &Place, options: &Options) -> Outcome {
    let files = super::source::Files::data(&place.data)?;
    let folded = files.fold(files.size(None)?, false)?;
    let principals = folded.governance.principals;
    if options.json {
        let row = |(name, found): (&str, &crate::domain::principal::Principal)| json!({ "principal": name, "roles": found.roles, "tokens": found.tokens.len(), "position": found.position });
        out::json(&principals.iter().map(row).collect());
    } else {
        let row = |(name, found): (&str, &crate::domain::principal::Principal)| {
            let roles: Vec<&str> = found.roles.iter().map(|role| role.as_str()).collect();
            vec![name.to_owned(), roles.join(", "), found.tokens.len().to_string(), found.position.to_string()]
        };
        out::table(&["principal", "roles", "tokens", "entry"], principals.iter().map(row), "nobody");
    }
    Ok(Exit::Fine)
}

/// Where the API takes a request about people, and with which body.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other requests have their routes elsewhere")]
pub(super) fn route(request: &Request) -> Result<(String, Value), CliError> {
    let encode = out::encode;
    Ok(match request {
        Request::PrincipalEnroll(enroll) => ("/v1/principals".to_owned(), serde_json::to_value(enroll)?),
        Request::PrincipalRevoke(revoke) => (format!("/v1/principals/{}", encode(&revoke.name)), Value::Null),
        Request::TokenIssue(issue) => (
            format!("/v1/principals/{}/tokens", encode(&issue.name)),
            json!({ "token_sha256": issue.token_sha256, "expires": issue.expires, "label": issue.label }),
        ),
        Request::TokenRevoke(revoke) => {
            (format!("/v1/principals/{}/tokens/{}", encode(&revoke.name), encode(&revoke.token_sha256)), Value::Null)
        }
        Request::IssuerTrust(trust) => ("/v1/issuers".to_owned(), serde_json::to_value(trust)?),
        Request::IssuerDistrust(distrust) => ("/v1/issuers/distrust".to_owned(), serde_json::to_value(distrust)?),
        Request::PrincipalLimit(limit) => (
            format!("/v1/principals/{}/limit", encode(&limit.name)),
            json!({ "finance_limit_usd": limit.finance_limit_usd }),
        ),
        other => return Err(CliError::failed(format!("{} is not about people", other.event_type()))),
    })
}

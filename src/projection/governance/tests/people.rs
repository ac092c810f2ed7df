//! An admin keeps a way in that lasts, and no token comes back, whatever admins ask of each other.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::authentication::Identity;
use crate::domain::authentication::{Authentication, OidcAuthentication, OidcMethod};
use crate::domain::command::{IssuerTrust, PrincipalRevoke, TokenIssue, TokenRevoke};

const NAMES: [&str; 3] = ["root", "ada", "bob"];
const SECRETS: [&str; 5] = ["t", "one", "two", "three", "four"];

/// What an admin asks; names and secrets by number, expiries in seconds from the first entry.
#[derive(Clone, Debug)]
enum Ask {
    Enroll { who: usize, admin: bool, secret: usize, expires: Option<i64>, identity: bool },
    Issue { who: usize, secret: usize, expires: Option<i64> },
    RevokeToken { who: usize, secret: usize },
    Remove { who: usize },
}

fn ask() -> impl Strategy<Value = Ask> {
    let (who, secret, expires) = (0..3_usize, 0..5_usize, prop::option::of(2_000..3_000_i64));
    prop_oneof![
        4 => (who.clone(), any::<bool>(), secret.clone(), expires.clone(), prop::bool::weighted(0.1))
            .prop_map(|(who, admin, secret, expires, identity)| Ask::Enroll { who, admin, secret, expires, identity }),
        2 => (who.clone(), secret.clone(), expires).prop_map(|(who, secret, expires)| Ask::Issue { who, secret, expires }),
        2 => (who.clone(), secret).prop_map(|(who, secret)| Ask::RevokeToken { who, secret }),
        1 => who.prop_map(|who| Ask::Remove { who }),
    ]
}

fn request(ask: &Ask) -> Request {
    let time = |expires: Option<i64>| expires.map(Time::from_seconds);
    match *ask {
        Ask::Enroll { who, admin, secret, expires, identity } => {
            Request::PrincipalEnroll(enroll(NAMES[who], admin, SECRETS[secret], time(expires), identity))
        }
        Ask::Issue { who, secret, expires } => Request::TokenIssue(TokenIssue {
            name: NAMES[who].into(),
            token_sha256: token_sha256(SECRETS[secret]),
            expires: time(expires),
            label: None,
        }),
        Ask::RevokeToken { who, secret } => {
            Request::TokenRevoke(TokenRevoke { name: NAMES[who].into(), token_sha256: token_sha256(SECRETS[secret]) })
        }
        Ask::Remove { who } => Request::PrincipalRevoke(PrincipalRevoke { name: NAMES[who].into() }),
    }
}

fn enroll(name: &str, admin: bool, secret: &str, expires: Option<Time>, identity: bool) -> PrincipalEnroll {
    let identity = identity.then(|| Identity { issuer: "https://id".into(), subject: name.into() });
    PrincipalEnroll {
        name: name.into(),
        roles: [if admin { Role::Admin } else { Role::Reader }].into(),
        token_sha256: token_sha256(secret),
        token_expires: expires,
        identity,
        ..PrincipalEnroll::default()
    }
}

/// Whoever is an admin now, by whom the next command is given.
fn some_admin(bench: &Bench) -> Option<String> {
    let mut people = bench.state.principals.iter();
    people.find(|(_, found)| found.roles.contains(&Role::Admin)).map(|(name, _)| name.to_owned())
}

fn people_bench(rules_version: u32) -> Bench {
    let mut bench = Bench::by(rules_version);
    bench.time = Time::from_seconds(1_500);
    bench
}

fn ask_all(rules_version: u32, asks: &[Ask]) -> Result<(), TestCaseError> {
    let mut bench = people_bench(rules_version);
    let (mut held, mut gone): (BTreeMap<String, u64>, BTreeSet<String>) = (BTreeMap::new(), BTreeSet::new());
    for (number, ask) in asks.iter().enumerate() {
        let Some(by) = some_admin(&bench) else {
            return Err(TestCaseError::fail(format!("nobody is admin at {ask:?}")));
        };
        bench.ask(&by, Role::Admin, &number.to_string(), request(ask));
        let people = &bench.state.principals;
        let now: BTreeMap<String, u64> = people
            .iter()
            .flat_map(|(_, found)| found.tokens.iter().map(|(sha256, token)| (sha256.clone(), token.position)))
            .collect();
        gone.extend(held.keys().filter(|sha256| !now.contains_key(*sha256)).cloned());
        prop_assert!(now.keys().all(|sha256| !gone.contains(sha256)), "a token came back at {:?}", ask);
        // Far beyond every expiry.
        let later = Time::from_seconds(1_000_000);
        let gets_in = people.iter().any(|(_, found)| {
            found.roles.contains(&Role::Admin)
                && (!found.identities.is_empty() || found.tokens.values().any(|token| !token.is_expired(later)))
        });
        prop_assert!(gets_in, "no admin gets in for good after {:?}", ask);
        held = now;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_admin_keeps_a_way_in_and_no_token_comes_back(asks in prop::collection::vec(ask(), 1..25)) {
        ask_all(RULES_VERSION, &asks)?;
    }
}

fn field(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Refused(refusal) => refusal.field.as_deref(),
        Verdict::Admitted | Verdict::Duplicate { .. } => None,
    }
}

#[test]
fn the_only_admin_enrols_neither_the_role_nor_the_token_away() {
    let brief = Some(Time::from_seconds(2_000));
    // By the rules of older ledgers, what was admitted stays admitted.
    for (rules_version, refused) in [(RULES_VERSION, true), (4, false)] {
        let enrolled = |admin, secret, expires| {
            let mut bench = people_bench(rules_version);
            let request = Request::PrincipalEnroll(enroll("root", admin, secret, expires, false));
            field(&bench.ask("root", Role::Admin, "k", request)).map(str::to_owned)
        };
        assert_eq!(enrolled(false, "t", None).as_deref(), refused.then_some("roles"), "version {rules_version}");
        assert_eq!(enrolled(true, "t", brief).as_deref(), refused.then_some("token_expires"), "{rules_version}");
        assert_eq!(enrolled(true, "more", brief), None, "one more token takes nothing away");
    }
}

#[test]
fn an_admin_whose_tokens_expire_is_no_reason_to_let_the_last_one_go() {
    for (rules_version, refused) in [(RULES_VERSION, true), (4, false)] {
        let mut bench = people_bench(rules_version);
        let ada = enroll("ada", true, "ada", Some(Time::from_seconds(2_000)), false);
        assert_eq!(bench.ask("root", Role::Admin, "e", Request::PrincipalEnroll(ada)), Verdict::Admitted);
        bench.time = Time::from_seconds(2_001);
        let remove = Request::PrincipalRevoke(PrincipalRevoke { name: "root".into() });
        let verdict = bench.ask("root", Role::Admin, "r", remove);
        assert_eq!(field(&verdict), refused.then_some("name"), "version {rules_version}: {verdict:?}");
    }
}

#[test]
fn a_revoked_token_is_not_enrolled_again_and_one_in_capitals_never() {
    for (rules_version, refused) in [(RULES_VERSION, true), (4, false)] {
        let mut bench = people_bench(rules_version);
        let revoke = TokenRevoke { name: "fin".into(), token_sha256: token_sha256("fin") };
        assert_eq!(bench.ask("root", Role::Admin, "r", Request::TokenRevoke(revoke)), Verdict::Admitted);
        let revoked = bench.state.size - 1;
        let again = Request::PrincipalEnroll(enroll("fin", false, "fin", None, false));
        let verdict = bench.ask("root", Role::Admin, "e", again);
        let by = matches!(&verdict, Verdict::Refused(refusal) if refusal.by_position == Some(revoked));
        assert_eq!((field(&verdict), by), (refused.then_some("token_sha256"), refused), "version {rules_version}");
        let capitals = TokenIssue {
            name: "root".into(),
            token_sha256: token_sha256("new").to_uppercase(),
            expires: None,
            label: None,
        };
        let verdict = bench.ask("root", Role::Admin, "c", Request::TokenIssue(capitals));
        assert_eq!(field(&verdict), refused.then_some("token_sha256"), "version {rules_version}");
    }
}

const ISSUER: &str = "https://id";

fn shown(subject: &str) -> Authentication {
    Authentication::Oidc(Box::new(OidcAuthentication {
        method: OidcMethod::Oidc,
        issuer: ISSUER.into(),
        subject: subject.into(),
        auth_time: None,
        acr: None,
        amr: Vec::new(),
    }))
}

/// A command by somebody who was known like this.
fn ask_as(bench: &mut Bench, name: &str, role: Role, by: &Authentication, key: &str, request: Request) -> Verdict {
    let command = Command { authenticated_by: by.clone(), ..bench.command(name, role, key, request) };
    let body = bench.sealed(&Bench::event_of(&command));
    bench.put(&body)
}

fn linked(name: &str, subject: &str) -> Request {
    let identity = Some(Identity { issuer: ISSUER.into(), subject: subject.into() });
    let roles = [Role::Finance].into();
    Request::PrincipalEnroll(PrincipalEnroll { roles, identity, ..enroll(name, false, name, None, false) })
}

fn trusted(alias: &str) -> Request {
    let roles = [Role::Reader, Role::Oncall, Role::Finance].into();
    Request::IssuerTrust(IssuerTrust { issuer: ISSUER.into(), alias: alias.into(), roles })
}

/// A ledger in which `c-1` of a provider asked for a waiver as `corp:c-1`; the waiver's position.
fn asked_by_somebody_of_a_provider(rules_version: u32) -> (Bench, u64) {
    let mut bench = people_bench(rules_version);
    assert_eq!(bench.ask("root", Role::Admin, "trust", trusted("corp")), Verdict::Admitted);
    let request = Request::WaiverRequest(scope(9_000));
    assert_eq!(ask_as(&mut bench, "corp:c-1", Role::Oncall, &shown("c-1"), "w", request), Verdict::Admitted);
    let position = bench.state.size - 1;
    (bench, position)
}

#[test]
fn who_asked_for_a_waiver_does_not_approve_it_under_a_name_that_was_linked_since() {
    for (rules_version, refused) in [(RULES_VERSION, true), (4, false)] {
        for by in [shown("c-1"), Authentication::token()] {
            let (mut bench, asked) = asked_by_somebody_of_a_provider(rules_version);
            assert_eq!(bench.ask("root", Role::Admin, "link", linked("cleo", "c-1")), Verdict::Admitted);
            assert_eq!(bench.limit("cleo", 1_000), Verdict::Admitted);
            let approve = approve(&format!("waiver-{asked}"), &scope(9_000));
            let verdict = ask_as(&mut bench, "cleo", Role::Finance, &by, "a", approve.clone());
            assert_eq!(field(&verdict), refused.then_some("principal"), "version {rules_version}, {by}: {verdict:?}");
            if refused {
                assert_eq!(self::refused(&verdict), (Code::CommandRefused, Some(asked)));
                assert_eq!(bench.ask("fin", Role::Finance, "other", approve), Verdict::Admitted);
            }
        }
    }
}

#[test]
fn nor_under_another_alias_or_after_being_removed_and_enrolled_under_another_name() {
    for (rules_version, refused) in [(RULES_VERSION, true), (4, false)] {
        let (mut bench, asked) = asked_by_somebody_of_a_provider(rules_version);
        assert_eq!(bench.ask("root", Role::Admin, "alias", trusted("acme")), Verdict::Admitted);
        assert_eq!(bench.limit("acme:c-1", 1_000), Verdict::Admitted);
        let approval = approve(&format!("waiver-{asked}"), &scope(9_000));
        let verdict = ask_as(&mut bench, "acme:c-1", Role::Finance, &shown("c-1"), "a", approval);
        assert_eq!(field(&verdict), refused.then_some("principal"), "version {rules_version}: {verdict:?}");

        // By a token, as a principal whose identity is known.
        let mut bench = people_bench(rules_version);
        for (key, request) in [
            ("one", linked("cleo", "c-1")),
            ("ask", Request::WaiverRequest(scope(9_000))),
            ("out", Request::PrincipalRevoke(PrincipalRevoke { name: "cleo".into() })),
            ("two", linked("cleopatra", "c-1")),
        ] {
            let (who, role) = if key == "ask" { ("cleo", Role::Finance) } else { ("root", Role::Admin) };
            assert_eq!(bench.ask(who, role, key, request), Verdict::Admitted, "{key}");
        }
        assert_eq!(bench.limit("cleopatra", 1_000), Verdict::Admitted);
        let asked = bench.state.waivers.oldest_first()[0].0.to_owned();
        let verdict = bench.ask("cleopatra", Role::Finance, "a", approve(&asked, &scope(9_000)));
        assert_eq!(field(&verdict), refused.then_some("principal"), "version {rules_version}: {verdict:?}");
    }
}

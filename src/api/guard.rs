//! What stands before every route: who asks, whether a role allows it, how long it may take, how many at once.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::problem::{Kind, Problem, ProblemCode};
use super::routes::{Access, Pace, Route};
use crate::domain::authentication::Authentication;
use crate::domain::principal::{Role, token_sha256};
use crate::domain::time::Time;
use crate::identity::oidc::{Bearer, is_jwt};
use crate::identity::trail::{Note, NoteKind, token_digest};

/// The longest that a route which is no stream and no upload may take.
const REQUEST_SECONDS_MAX: u64 = 30;
/// The name under which the data directory's owner acts.
pub(crate) const LOCAL: &str = "local";
/// What the owner of the data directory may do over the API: read and hand in, never decide.
pub(crate) const LOCAL_ROLES: [Role; 3] = [Role::Reader, Role::Publisher, Role::Auditor];
/// The longest API token read; ours have 68 characters.
const TOKEN_BYTES_MAX: usize = 512;
/// As much of a path as the access trail keeps.
const PATH_CHARS_MAX: usize = 256;

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The principal; empty where nobody is known.
    pub(crate) name: String,
    /// Their roles at this moment.
    pub(crate) roles: BTreeSet<Role>,
    /// Hash of the token that they showed.
    pub(crate) token_sha256: Option<String>,
    /// The owner of the data directory, known by its own token and not by the ledger.
    pub(crate) is_owner: bool,
    /// How they were known.
    pub(crate) authenticated_by: Authentication,
    /// What they showed counts for nothing from here on.
    pub(crate) until: Option<Time>,
    /// The largest body that they may send.
    pub(crate) body_bytes_max: usize,
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    match text {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim()))
        }
        _ => Err(Problem::new(Kind::Unauthenticated, "Authorization is not `Bearer TOKEN`")),
    }
}

/// Who shows the API token with this hash, by the governance ledger as it is now.
fn by_token(state: &ApiState, sha256: &str) -> Result<Caller, Problem> {
    let now = state.handle().now();
    let known = |name: &str, roles: BTreeSet<Role>, until| Caller {
        name: name.to_owned(),
        roles,
        token_sha256: Some(sha256.to_owned()),
        until,
        ..Caller::default()
    };
    if state.local_token_sha256() == Some(sha256) {
        return Ok(Caller { is_owner: true, ..known(LOCAL, LOCAL_ROLES.into(), None) });
    }
    let governance = state.handle().shared().governance();
    let Some((name, principal)) = governance.principals.by_token_sha256(sha256) else {
        return Err(match governance.principals.token_revoked_at(sha256) {
            Some(position) => {
                let problem = Problem::new(Kind::TokenRevoked, format!("the token was revoked at entry {position}"));
                problem.by(position)
            }
            None => Problem::new(Kind::Unauthenticated, "the token is none that the ledger knows"),
        });
    };
    let expires = principal.tokens.get(sha256).and_then(|token| token.expires);
    if let Some(expires) = expires.filter(|expires| *expires <= now) {
        return Err(Problem::new(Kind::TokenExpired, format!("the token of {name} expired at {expires}")));
    }
    state.last_uses().note(sha256, now);
    Ok(known(name, principal.roles.clone(), expires))
}

/// Whether somebody who was let in would be let in still: streams outlast what opened them.
pub(crate) fn is_still_known(state: &ApiState, caller: &Caller) -> bool {
    let now = state.handle().now();
    if caller.until.is_some_and(|until| until <= now) {
        return false;
    }
    if let Some(sha256) = &caller.token_sha256 {
        return by_token(state, sha256).is_ok();
    }
    let governance = state.handle().shared().governance();
    let by = &caller.authenticated_by;
    // Where there is no identity nobody was known, and nobody needed to be.
    by.identity().is_none() || caller.roles.iter().any(|role| governance.principals.holds(&caller.name, *role, by))
}

/// Who shows this token of an identity provider, by the ledger as it is now.
async fn by_provider(state: &ApiState, token: &str) -> Result<Caller, Problem> {
    let (asked, token) = (state.clone(), token.to_owned());
    // It may fetch the provider's keys.
    let checked = tokio::task::spawn_blocking(move || {
        let (now, elapsed) = (asked.handle().now(), asked.handle().clock().elapsed());
        asked.providers().map(|providers| providers.check(&token, now, elapsed))
    });
    match checked.await? {
        None => Err(Problem::new(Kind::Unauthenticated, "no identity provider is configured here")),
        Some(checked) => named(state, checked.map_err(Problem::from)?),
    }
}

/// The principal that a checked token's bearer is.
fn named(state: &ApiState, bearer: Bearer) -> Result<Caller, Problem> {
    let by = Authentication::Oidc(Box::new(bearer.authentication));
    let known = |name: String, roles, by| Caller {
        name,
        roles,
        until: Some(bearer.expires),
        authenticated_by: by,
        ..Caller::default()
    };
    let Some(identity) = by.identity() else { return Err(Problem::new(Kind::TokenMalformed, "it names nobody")) };
    let governance = state.handle().shared().governance();
    let principals = &governance.principals;
    if let Some((name, principal)) = principals.by_identity(&identity) {
        return Ok(known(name.to_owned(), principal.roles.clone(), by));
    }
    let without = |detail: String| Err(Problem::new(Kind::TokenWithoutRole, detail));
    let Some(issuer) = principals.issuer(&identity.issuer) else {
        return without(format!(
            "{} is no principal's identity, and the ledger does not trust {} to confer roles",
            identity.subject, identity.issuer
        ));
    };
    let name = format!("{}:{}", issuer.alias, bearer.name);
    if principals.is_barred(&identity, &name) {
        return Err(Problem::new(Kind::TokenRevoked, format!("{name} was revoked")));
    }
    let roles: BTreeSet<Role> = bearer.roles.intersection(&issuer.roles).copied().collect();
    if roles.is_empty() {
        return without(format!("no claim of {name} stands for a role that the ledger lets the provider confer"));
    }
    Ok(known(name, roles, by))
}

async fn authenticate(state: &ApiState, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    let Some(token) = bearer(headers)? else { return Ok(None) };
    if is_jwt(token) && state.providers().is_some() {
        return by_provider(state, token).await.map(Some);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Problem::new(Kind::TokenTooLarge, format!("the token has over {TOKEN_BYTES_MAX} bytes")));
    }
    by_token(state, &token_sha256(token)).map(Some)
}

/// Takes one request of the caller's, and says how large a body may be.
fn bound(state: &ApiState, caller: &mut Caller) -> Result<(), Problem> {
    let limits = &state.config().limits;
    caller.body_bytes_max = limits.body_bytes_max(&caller.name).unwrap_or(state.config().body_bytes_max);
    let now = state.handle().clock().elapsed();
    state.buckets().take(&caller.name, limits.rate(&caller.name), now).map_err(|wait| {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let who = if caller.name.is_empty() { "callers without a token" } else { caller.name.as_str() };
        Problem::new(Kind::RateLimited, format!("{who} asked too often; come again in {seconds} s"))
            .retry_after(seconds)
    })
}

/// Whether `caller` may use `route`.
fn allow(state: &ApiState, route: &Route, caller: Option<&Caller>) -> Result<(), Problem> {
    let needs_token =
        || Problem::new(Kind::Unauthenticated, "send `Authorization: Bearer TOKEN`; `govledger token` makes one");
    match (route.access, caller) {
        (Access::Read, None) if state.config().open_reads => Ok(()),
        (Access::Read | Access::Roles(_), None) => Err(needs_token()),
        (Access::Roles(_), Some(caller)) if caller.is_owner && route.is_command => {
            Err(Problem::new(Kind::Forbidden, "the data directory's own token decides nothing; use a principal's"))
        }
        (Access::Roles(allowed), Some(caller)) if !allowed.iter().any(|role| caller.roles.contains(role)) => {
            let names: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
            Err(Problem::new(Kind::Forbidden, format!("{} lacks the role {}", caller.name, names.join(" or "))))
        }
        (Access::Public, _) | (Access::Read | Access::Roles(_), Some(_)) => Ok(()),
    }
}

/// Whether the caller proved a short time ago who they are. An API token cannot tell, and the command's envelope says that
/// it was one.
fn fresh(state: &ApiState, caller: &Caller) -> Result<(), Problem> {
    let Some(identity) = caller.authenticated_by.identity() else { return Ok(()) };
    let max_age_s = state.config().approval_auth_seconds_max;
    let max_age = i64::try_from(max_age_s).unwrap_or(i64::MAX / 2_000_000);
    let detail = match caller.authenticated_by.auth_time() {
        Some(time) if state.handle().now() <= time.plus_seconds(max_age) => return Ok(()),
        Some(time) => format!("{} signed in at {time}; this takes a sign-in within {max_age_s} s", caller.name),
        None if state.providers().is_some_and(|known| !known.is_auth_time_required(&identity.issuer)) => return Ok(()),
        None => format!("the token does not state auth_time; this takes a sign-in within {max_age_s} s"),
    };
    Err(Problem::step_up(detail, max_age_s))
}

/// The middleware of one route.
pub(crate) async fn guard(
    State((state, route)): State<(ApiState, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let digest = bearer(request.headers()).ok().flatten().and_then(token_digest);
    let (caller, mut response) = guarded(&state, route, request, next).await;
    note(&state, route, (method.as_str(), &path), &caller, (&response, digest));
    state.meters().count_request(route.path, response.status().as_u16());
    secure(route, response.headers_mut());
    response
}

/// The answer, and whom it is to.
async fn guarded(state: &ApiState, route: &'static Route, mut request: Request, next: Next) -> (Caller, Response) {
    let caller = match admit(state, route, request.headers()).await {
        Err((caller, problem)) => return (*caller, denied(route, problem)),
        Ok(caller) => caller,
    };
    request.extensions_mut().insert(caller.clone());
    (caller, answered(state, route, request, next).await)
}

async fn answered(state: &ApiState, route: &'static Route, request: Request, next: Next) -> Response {
    if route.pace == Pace::Long {
        return next.run(request).await;
    }
    // Beyond this bound callers are told to come again: a queue here would only make all of them slow.
    let permit = state.in_flight().try_acquire();
    if permit.is_err() && route.pace == Pace::Quick {
        return Problem::new(Kind::Busy, "too many requests are under way; come again in 1 s").into_response();
    }
    if let Ok(response) = tokio::time::timeout(Duration::from_secs(REQUEST_SECONDS_MAX), next.run(request)).await {
        return response;
    }
    let detail = format!(
        "no answer within {REQUEST_SECONDS_MAX} s. What was sent may still be recorded: repeat it with the same bytes or Idempotency-Key"
    );
    Problem::new(Kind::Timeout, detail).into_response()
}

/// Who asks, where they may, and not too often. Whoever fails counts as nobody, so that trying tokens is bounded too.
async fn admit(state: &ApiState, route: &Route, headers: &HeaderMap) -> Result<Caller, (Box<Caller>, Problem)> {
    let known = authenticate(state, headers).await;
    if matches!(route.access, Access::Public) {
        // A public page stays public for those with an old token, and is never refused for asking often.
        return Ok(known.ok().flatten().unwrap_or_default());
    }
    let mut caller = known.as_ref().ok().cloned().flatten().unwrap_or_default();
    let admitted = bound(state, &mut caller)
        .and(known)
        .and_then(|known| allow(state, route, known.is_some().then_some(&caller)))
        .and_then(|()| if route.asks_fresh { fresh(state, &caller) } else { Ok(()) });
    match admitted {
        Ok(()) => Ok(caller),
        Err(problem) => Err((Box::new(caller), problem)),
    }
}

/// What goes to the access trail: who was refused, commands, and reads of what is raw.
fn note(
    state: &ApiState,
    route: &Route,
    (method, path): (&str, &str),
    caller: &Caller,
    (response, token_digest): (&Response, Option<String>),
) {
    let status = response.status().as_u16();
    let kind = match status {
        401 | 403 | 429 => NoteKind::Denied,
        _ if route.is_command => NoteKind::Act,
        _ if route.is_raw => NoteKind::RawRead,
        _ => return,
    };
    let Some(trail) = state.trail() else { return };
    let known = !caller.name.is_empty();
    let known_by = if caller.is_owner { "owner".to_owned() } else { caller.authenticated_by.to_string() };
    let note = Note {
        kind,
        method: method.to_owned(),
        route: route.path.to_owned(),
        path: path.chars().take(PATH_CHARS_MAX).collect(),
        status,
        code: response.extensions().get::<ProblemCode>().map(|code| code.0.clone()),
        principal: known.then(|| caller.name.clone()),
        known_by: known.then_some(known_by),
        token_digest,
        count: 1,
    };
    trail.note(state.handle().now(), note);
}

fn denied(route: &Route, problem: Problem) -> Response {
    if !route.is_page {
        return problem.into_response();
    }
    let mut response = crate::web::sign_in(&problem);
    response.extensions_mut().insert(ProblemCode(problem.code.clone()));
    response
}

fn secure(route: &Route, headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CACHE_CONTROL, "no-store");
    if route.is_page {
        set(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        );
        set(header::X_FRAME_OPTIONS, "DENY");
        set(header::REFERRER_POLICY, "no-referrer");
    }
}

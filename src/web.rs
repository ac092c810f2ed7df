//! The pages for people: plain HTML made here from the same answers that programs get.
//!
//! In scope: overview, one stack, incidents and waivers with forms, the report of an incident, and the API's description as a page. Out of scope: deciding; the forms
//! call the API with the reader's own token, which lives in the browser's session storage and is sent as a header.
//!
//! Invariants: every text that came from outside is escaped; nothing is loaded from anywhere else; a page reads without
//! script, and only signing in and the forms need it.

mod docs;
mod governing;
mod html;
mod incidents;
mod pages;
mod report_markdown;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use crate::api::{ApiState, Problem};
use html::Page;
pub(crate) use html::path_segment;
pub(crate) use incidents::report_html;
pub(crate) use report_markdown::report_markdown;

/// What the report as a document may do in a browser.
pub(crate) const REPORT_POLICY: &str = html::ALONE_POLICY;

const STYLE: &str = include_str!("web/assets/govledger.css");
const SCRIPT: &str = include_str!("web/assets/govledger.js");

/// `/assets/{name}`.
pub(crate) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let (media_type, text) = match name.as_str() {
        "govledger.css" => ("text/css; charset=utf-8", STYLE),
        "govledger.js" => ("text/javascript; charset=utf-8", SCRIPT),
        _ => return Err(Problem::not_found(format!("there is no asset {name:?}"))),
    };
    Ok(([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "public, max-age=300")], text).into_response())
}

/// Answers several questions off the runtime, then renders.
async fn render(state: ApiState, paths: Vec<String>, make: impl FnOnce(&[Value]) -> Page + Send + 'static) -> Response {
    let rendered = tokio::task::spawn_blocking(move || {
        let answers: Result<Vec<Value>, Problem> = paths.iter().map(|path| state.ask_for_page(path)).collect();
        answers.map(|answers| make(&answers))
    });
    match rendered.await.map_err(Problem::from) {
        Ok(Ok(page)) => Html(page.finish()).into_response(),
        Ok(Err(problem)) | Err(problem) => failed(&problem),
    }
}

/// `/`.
pub(crate) async fn overview(State(state): State<ApiState>) -> Response {
    render(
        state,
        vec!["/v1/stacks".to_owned(), "/v1/alerts?state=firing".to_owned(), "/v1/waivers".to_owned()],
        pages::overview,
    )
    .await
}

/// `/stacks/{stack}`.
pub(crate) async fn stack(State(state): State<ApiState>, Path(name): Path<String>) -> Response {
    let encoded = path_segment(&name);
    let path = |rest: &str| format!("/v1/stacks/{encoded}{rest}");
    render(
        state,
        vec![path("/now"), path("/slo"), path("/timeline"), path("/manifest"), path("/capacity")],
        move |answers| pages::stack(&name, answers),
    )
    .await
}

/// `/governing`.
pub(crate) async fn governing(State(state): State<ApiState>) -> Response {
    render(state, vec!["/v1/policy".to_owned(), "/v1/maintenance".to_owned(), "/v1/keys".to_owned()], governing::page)
        .await
}

/// `/waivers`.
pub(crate) async fn waivers(State(state): State<ApiState>) -> Response {
    render(state, vec!["/v1/waivers".to_owned()], pages::waivers).await
}

/// `/incidents`.
pub(crate) async fn incidents(State(state): State<ApiState>) -> Response {
    render(state, vec!["/v1/incidents".to_owned()], incidents::list).await
}

/// `/incidents/{id}`.
pub(crate) async fn incident(State(state): State<ApiState>, Path(id): Path<String>) -> Response {
    let path = format!("/v1/incidents/{}/report", path_segment(&id));
    render(state, vec![path], move |answers| incidents::one(&id, answers)).await
}

/// `/docs`.
pub(crate) async fn docs() -> Html<String> {
    Html(docs::page(&crate::api::openapi()).finish())
}

fn status_of(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn failed(problem: &Problem) -> Response {
    let mut page = Page::new(problem.title);
    page.paragraph(&problem.detail);
    (status_of(problem), Html(page.finish())).into_response()
}

/// The page of a reader without a token: it asks for one, and the script loads the page again with it.
pub(crate) fn sign_in(problem: &Problem) -> Response {
    let page = pages::sign_in(&problem.detail);
    (status_of(problem), Html(page.finish())).into_response()
}

//! A shadow says that it is one: in every answer's headers, on every page, and in `/healthz`.
//!
//! Its entries, cuts and alerts are its own. Whoever took it for a replica would compare its roots with another node's and find a
//! difference that is none.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::ApiState;
use crate::domain::settings::SourceSettings;

/// The mode of a shadow.
pub(super) const SHADOW: &str = "shadow";
/// Tells on every answer what kind of node gave it; only a shadow does.
const MODE: HeaderName = HeaderName::from_static("govledger-mode");
/// Pages are smaller.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Where the content of a page begins.
const MAIN: &str = "<main id=\"main\">";
const BANNER: &str = "<main id=\"main\">\n<p role=\"note\"><strong>Shadow.</strong> This node reads the topics of others and writes nothing: its cuts and alerts are its own, nobody is told of them, and nothing can be decided here.</p>";

/// What kind of node this is.
pub(super) fn mode(state: &ApiState) -> &'static str {
    match state.handle().data_dir().settings().source {
        SourceSettings::Embedded => "embedded",
        SourceSettings::Kafka { .. } => "kafka",
        SourceSettings::Shadow { .. } => SHADOW,
    }
}

/// Marks an answer.
pub(super) async fn say(request: Request, next: Next) -> Response {
    let (mut parts, body) = next.run(request).await.into_parts();
    parts.headers.insert(MODE, HeaderValue::from_static(SHADOW));
    let is_page = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/html"));
    if !is_page {
        return Response::from_parts(parts, body);
    }
    let Ok(page) = axum::body::to_bytes(body, PAGE_BYTES_MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let page = String::from_utf8_lossy(&page).replacen(MAIN, BANNER, 1);
    Response::from_parts(parts, Body::from(page))
}

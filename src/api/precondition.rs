//! `If-Match` on decisions about waivers: a decision holds for the waiver that the decider saw.
//!
//! The entity tag of a waiver is the position of the entry that last changed where it stands, in quotes: requested, decided,
//! expired or exhausted. Spend and warnings do not change it, so a decision is not refused because time passes.
//!
//! An approval must say what was seen, by `If-Match` or by the hash of the scope: 428 otherwise. Refusing and revoking may.
//! A repeat of a command that was decided is answered by its first outcome, whatever has changed since.

use axum::http::HeaderMap;

use super::problem::{Kind, Problem};

/// The entity tag of a waiver that the entry at `version` last changed.
pub(super) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Whether the caller said what they saw, and whether it still is so.
pub(super) fn check(headers: &HeaderMap, version: u64) -> Result<bool, Problem> {
    let sent: Vec<&str> =
        headers.get_all("if-match").iter().map(|value| value.to_str().unwrap_or_default().trim()).collect();
    if sent.is_empty() {
        return Ok(false);
    }
    let current = etag(version);
    // A weak tag never matches here (RFC 9110, 13.1.1), and `*` says nothing of what was seen.
    if sent.iter().flat_map(|list| list.split(',')).any(|tag| tag.trim() == current) {
        return Ok(true);
    }
    let mut problem = Problem::new(
        Kind::PreconditionFailed,
        format!(
            "If-Match is {}; the waiver was last changed by entry {version}, so its tag is {current}",
            sent.join(", ")
        ),
    )
    .field("If-Match");
    problem.by_position = Some(version);
    problem.current_etag = Some(current);
    Err(problem)
}

/// What an approval that does not say what was seen is answered.
pub(super) fn required(version: u64) -> Problem {
    let current = etag(version);
    let mut problem = Problem::new(
        Kind::PreconditionRequired,
        format!("an approval says what was seen: send `If-Match: {current}`, or `scope_sha256` in the body"),
    )
    .field("If-Match");
    problem.current_etag = Some(current);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_strong_tag_of_the_present_matches() {
        let of = |sent: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append("if-match", value.parse().unwrap());
            }
            check(&headers, 12).map_err(|problem| (problem.status, problem.current_etag.clone().unwrap()))
        };
        let failed = || Err((412, "\"12\"".to_owned()));
        assert_eq!(of(&[]), Ok(false));
        assert_eq!(of(&["\"12\""]), Ok(true));
        assert_eq!(of(&["\"11\", \"12\""]), Ok(true));
        assert_eq!(of(&["\"11\"", "\"12\""]), Ok(true));
        assert_eq!(of(&["\"1\""]), failed());
        assert_eq!(of(&["12"]), failed());
        assert_eq!(of(&["W/\"12\""]), failed());
        assert_eq!(of(&["*"]), failed());
        assert_eq!(of(&[""]), failed());
    }
}

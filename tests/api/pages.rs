//! The pages: escaped, self-contained, and closed without a token.

use serde_json::json;

use crate::app::{App, published, token};

#[test]
fn pages_need_a_token_and_say_so_as_pages() {
    let app = App::start();
    for path in ["/", "/waivers", "/stacks/s"] {
        let reply = app.http.get(path).expect(401);
        assert!(reply.header("content-type").unwrap().starts_with("text/html"));
        assert!(reply.text().contains("data-needs-token") && reply.text().contains("<label for=\"token\">"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    }
    for (path, media_type) in
        [("/assets/govledger.css", "text/css"), ("/assets/govledger.js", "text/javascript"), ("/docs", "text/html")]
    {
        assert!(app.http.get(path).expect(200).header("content-type").unwrap().starts_with(media_type));
    }
    app.http.get("/assets/other").expect(404);
}

#[test]
fn pages_show_what_the_answers_say_and_escape_it() {
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0<script>alert(1)</script>")).expect(200);
    let scope = json!({ "rule": "latency_p95", "stack": "s", "justification": "<img src=x>", "mitigation_plan": "m", "expires": "2026-11-20T00:00:00Z" });
    let waiver = app.command(&token("oncall"), "/v1/waivers", "w", &scope).expect(200).json()["waiver"]
        .as_str()
        .unwrap()
        .to_owned();
    let overview = app.read("/").expect(200).text();
    assert!(
        overview.contains("<a href=\"/stacks/s\">s</a>") && overview.contains("1 waiting for a decision"),
        "{overview}"
    );
    let stack = app.read("/stacks/s").expect(200).text();
    assert!(stack.contains("closed") && stack.contains("1.0.0&lt;script&gt;"), "{stack}");
    let waivers = app.read("/waivers").expect(200).text();
    assert!(
        waivers.contains(&format!("data-action=\"/v1/waivers/{waiver}/approve\"")) && waivers.contains("&lt;img"),
        "{waivers}"
    );
    for page in [overview, stack, waivers, app.http.get("/docs").text()] {
        assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
        assert!(page.contains("<html lang=\"en\">") && page.matches("<h1>").count() == 1);
        assert!(!page.contains("http://") && !page.contains("https://cdn"), "nothing is loaded from elsewhere");
    }
    assert_eq!(app.read("/stacks/nothing").status, 404);
}

#[test]
fn finance_decides_in_a_real_browser() {
    use crate::support::{browser, parts};
    let Some(parts) = parts::browser() else { return };
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    let scope = json!({ "rule": "latency_p95", "stack": "s", "justification": "known slow", "mitigation_plan": "m", "expires": "2026-11-20T00:00:00Z" });
    let reply = app.command(&token("oncall"), "/v1/waivers", "w", &scope).expect(200).json();
    let waiver = reply["waiver"].as_str().unwrap();
    let url = |path: &str| format!("http://{}{path}", app.address);
    let approve = format!("form[data-action='/v1/waivers/{waiver}/approve']");
    let steps = [
        json!({ "goto": url("/waivers") }),
        json!({ "axe": true }),
        json!({ "fill": ["#token", token("finance")] }),
        json!({ "click": "form.token button" }),
        json!({ "wait_for": &approve }),
        json!({ "axe": true }),
        json!({ "fill": [format!("{approve} input"), "within budget"] }),
        json!({ "click": format!("{approve} button") }),
        json!({ "wait_for": format!("{approve} output:not(:empty)") }),
        json!({ "text": format!("{approve} output") }),
        json!({ "goto": url("/") }),
        json!({ "wait_for": "table" }),
        json!({ "axe": true }),
        json!({ "goto": url("/stacks/s") }),
        json!({ "wait_for": "dl" }),
        json!({ "axe": true }),
        json!({ "goto": url("/docs") }),
        json!({ "axe": true }),
    ];
    let driven = browser::drive(&parts, &steps);
    for (step, result) in steps.iter().zip(&driven.results) {
        if step.get("axe").is_some() {
            assert_eq!(result, &json!([]), "accessibility");
        }
    }
    assert!(driven.results[9].as_str().unwrap().starts_with("Applied as entry"), "{:?}", driven.results[9]);
    let status = app.read(&format!("/v1/waivers/{waiver}")).json();
    assert_eq!((status["status"].as_str(), status["decided_by"].as_str()), (Some("approved"), Some("finance")));
    // A page that asks for a token is a 401, which the browser notes; nothing else may go wrong.
    let others: Vec<&String> = driven.errors.iter().filter(|error| !error.contains("401")).collect();
    assert!(others.is_empty(), "{others:?}");
}

//! The pages, each made from the answers that the API gives for the same question.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::{Markup, Page, escape, path_segment, text_of};

/// Lines of a timeline on a page, the newest of them; the API has all.
const TIMELINE_ROWS: usize = 200;

pub(super) fn rows<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> Markup {
    Markup::text(&text_of(value))
}

pub(super) fn engine(value: &Value) -> Markup {
    value.as_str().map_or_else(|| Markup::text("—"), Markup::hash)
}

fn gate(open: &Value) -> Markup {
    match open.as_bool() {
        Some(true) => Markup::state("good", "open"),
        Some(false) => Markup::state("bad", "closed"),
        None => Markup::state("unknown", "unknown"),
    }
}

pub(super) fn stack_link(value: &Value) -> Markup {
    let name = value.as_str().unwrap_or_default();
    Markup::link(&format!("/stacks/{}", path_segment(name)), name)
}

fn incident_link(value: &Value) -> Markup {
    value.as_str().map_or_else(|| text(value), |id| Markup::link(&format!("/incidents/{}", path_segment(id)), id))
}

/// All stacks, what fires, what waits for finance.
pub(super) fn overview(answers: &[Value]) -> Page {
    let [stacks, alerts, waivers] = answers else { return Page::new("Stacks") };
    let mut page = Page::new("Stacks");
    let stack_rows: Vec<Vec<Markup>> = rows(stacks, "stacks")
        .iter()
        .map(|row| {
            vec![
                stack_link(&row["stack"]),
                gate(&row["traffic_open"]),
                text(&row["version"]),
                engine(&row["engine_hash"]),
                Markup::time(&row["since"]),
                text(&row["firing"]),
                incident_link(&row["incident"]),
            ]
        })
        .collect();
    page.table(
        "Stacks",
        &["Stack", "Gate", "Version", "Engine", "Current since", "Alerts firing", "Open incident"],
        &stack_rows,
        "No stack has reported yet.",
    );
    page.heading("Firing alerts");
    page.table("Firing alerts", ALERT_COLUMNS, &alert_rows(rows(alerts, "alerts")), "Nothing fires.");
    page.heading("Waivers");
    let waiting = rows(waivers, "waivers").iter().filter(|row| row["status"] == "requested").count();
    page.raw(&format!("<p>{}</p>\n", Markup::link("/waivers", &format!("{waiting} waiting for a decision")).0));
    page.heading("Policy");
    page.raw(&format!("<p>{}</p>\n", Markup::link("/governing", "Policy, maintenance and keys").0));
    page.source(stacks);
    page
}

const ALERT_COLUMNS: &[&str] =
    &["Rule", "Stack", "Engine", "Severity", "Value", "Threshold", "Firing since", "Covered by", "Entry"];

fn alert_rows(alerts: &[Value]) -> Vec<Vec<Markup>> {
    let row = |alert: &Value| {
        vec![
            Markup::state("bad", &text_of(&alert["rule"])),
            stack_link(&alert["stack"]),
            engine(&alert["engine_hash"]),
            text(&alert["severity"]),
            value(alert),
            text(&alert["threshold"]),
            Markup::time(&alert["firing_since"]),
            text(&alert["covered_by"]),
            text(&alert["position"]),
        ]
    };
    alerts.iter().map(row).collect()
}

/// One stack: what serves, what is safe, what the rules say, what happened.
pub(super) fn stack(name: &str, answers: &[Value]) -> Page {
    let mut page = Page::new(name);
    let [now, slo, timeline, manifest, used] = answers else { return page };
    let current = &now["current"];
    page.heading("Traffic gate");
    page.facts(&[
        ("Gate", gate(&now["traffic"]["open"])),
        ("For engine", engine(&now["traffic"]["engine_hash"])),
        ("Because", text(&now["traffic"]["reason"])),
        ("Entry", text(&now["traffic"]["position"])),
    ]);
    page.heading("Current engine");
    page.facts(&[
        ("Version", text(&current["version"])),
        ("Engine", engine(&current["engine_hash"])),
        ("Since", Markup::time(&current["since"])),
        ("Open incident", incident_link(&current["incident"])),
    ]);
    details(&mut page, "Manifest", &manifest["manifest"]);
    let good = &now["last_good"];
    page.heading("Last good");
    let confidence = match good["confidence"].as_str() {
        Some("proven") => Markup::state("good", "proven"),
        Some(other) => Markup::state("unknown", other),
        None => Markup::state("bad", "none"),
    };
    page.facts(&[
        ("Version", text(&good["version"])),
        ("Engine", engine(&good["engine_hash"])),
        ("Confidence", confidence),
        ("Serves now", text(&good["is_current"])),
        ("Entry", text(&good["position"])),
        ("Evaluated through", Markup::time(&good["evaluated_through"])),
    ]);
    let passed: Vec<Vec<Markup>> = rows(good, "passed_over")
        .iter()
        .map(|row| {
            vec![text(&row["version"]), engine(&row["engine_hash"]), text(&row["reason"]), text(&row["position"])]
        })
        .collect();
    page.table("Passed over", &["Version", "Engine", "Reason", "Entry"], &passed, "No newer engine was passed over.");
    page.heading("Firing alerts");
    page.table("Firing alerts", ALERT_COLUMNS, &alert_rows(rows(now, "firing")), "Nothing fires.");
    page.heading("Service levels");
    page.table(
        "Service levels",
        &["Rule", "Engine", "State", "Value", "Threshold", "Unit", "Last verdict"],
        &slo_rows(rows(slo, "slo")),
        "No figures yet.",
    );
    capacity(&mut page, used);
    page.heading("Timeline");
    let lines = rows(timeline, "timeline");
    let items: Vec<Vec<Markup>> = lines
        .iter()
        .rev()
        .take(TIMELINE_ROWS)
        .map(|row| vec![Markup::time(&row["time"]), text(&row["summary"]), text(&row["actor"]), text(&row["position"])])
        .collect();
    page.table("Timeline, newest first", &["Time", "What", "Who", "Entry"], &items, "Nothing has happened.");
    if lines.len() > TIMELINE_ROWS {
        page.paragraph(&format!(
            "{} older lines: /v1/stacks/{}/timeline",
            lines.len() - TIMELINE_ROWS,
            path_segment(name)
        ));
    }
    page.source(now);
    page
}

/// How much is used, by the current engine's records and the servers' own word.
fn capacity(page: &mut Page, used: &Value) {
    page.heading("Capacity");
    let current = rows(used, "engines").iter().find(|row| row["current"] == true).unwrap_or(&Value::Null);
    let pair = |one: &Value, other: &Value| Markup::text(&format!("{} / {}", text_of(one), text_of(other)));
    let (servers, advice) = (&used["servers"], &used["advice"]);
    page.facts(&[
        ("Tokens in / out a second", pair(&current["tokens_in_per_s"], &current["tokens_out_per_s"])),
        ("Requests at once / batch size", pair(&current["concurrency"], &current["kv"]["max_batch_size"]["value"])),
        ("KV blocks in use, by tokens", text(&current["kv"]["blocks_in_use"])),
        ("GPU memory free, now / P95", pair(&servers["vram"]["now"], &servers["vram"]["p95"])),
        ("KV blocks free, now / P95", pair(&servers["kv"]["now"], &servers["kv"]["p95"])),
        ("Over the token limit / requests", pair(&current["token_limit"]["over"], &current["token_limit"]["requests"])),
        ("Advice", Markup::text(&text_of(&advice["action"]).replace('_', " "))),
        ("Because", text(&advice["reason"])),
    ]);
}

fn slo_rows(figures: &[Value]) -> Vec<Vec<Markup>> {
    let state = |row: &Value| {
        let word = text_of(&row["state"]);
        let class = match word.as_str() {
            "met" => "good",
            "firing" => "bad",
            _ => "unknown",
        };
        Markup::state(class, &word.replace('_', " "))
    };
    let shown = figures.iter().filter(|row| {
        row["state"] != "disabled" && (row["current"] == true || row["state"] == "firing" || row["state"] == "pending")
    });
    shown
        .map(|row| {
            vec![
                text(&row["rule"]),
                engine(&row["engine_hash"]),
                state(row),
                value(row),
                text(&row["threshold"]),
                text(&row["unit"]),
                Markup::time(&row["last_verdict"]),
            ]
        })
        .collect()
}

fn details(page: &mut Page, summary: &str, value: &Value) {
    if !value.is_null() {
        let json = serde_json::to_string_pretty(value).unwrap_or_default();
        page.raw(&format!(
            "<details><summary>{}</summary><pre tabindex=\"0\">{}</pre></details>\n",
            escape(summary),
            escape(&json)
        ));
    }
}

/// All waivers; those that wait carry a form.
pub(super) fn waivers(answers: &[Value]) -> Page {
    let mut page = Page::new("Waivers");
    let [answer] = answers else { return page };
    let all = rows(answer, "waivers");
    page.heading("Waiting for a decision");
    let waiting: Vec<&Value> = all.iter().filter(|row| row["status"] == "requested").collect();
    if waiting.is_empty() {
        page.paragraph("None.");
    } else {
        page.paragraph("A decision needs a token with the role finance, and is never the requester's own.");
        page.raw(&token_field());
    }
    for waiver in waiting {
        waiting_waiver(&mut page, waiver);
    }
    page.heading("All waivers");
    let table: Vec<Vec<Markup>> = all
        .iter()
        .map(|row| {
            let status = text_of(&row["status"]);
            let class = if row["covers_now"] == true { "good" } else { "unknown" };
            vec![
                text(&row["id"]),
                stack_link(&row["stack"]),
                text(&row["rule"]),
                kind(row),
                Markup::state(class, &status),
                text(&row["requested_by"]),
                text(&row["decided_by"]),
                text(&row["cap_usd"]),
                text(&row["excess_usd"]),
                text(&row["gross_usd"]),
                text(&row["requests_over"]),
                text(&row["unpriced"]),
                Markup::time(&row["cap_forecast"]),
                Markup::time(&row["starts"]),
                Markup::time(&row["expires"]),
                text(&row["covers_now"]),
            ]
        })
        .collect();
    page.table(
        "All waivers",
        &[
            "Waiver",
            "Stack",
            "Rule",
            "Kind",
            "Status",
            "Requested by",
            "Decided by",
            "Cap (USD)",
            "Excess (USD)",
            "Gross (USD)",
            "Requests over",
            "Unpriced",
            "Cap reached (forecast)",
            "Starts",
            "Expires",
            "Covers now",
        ],
        &table,
        "None was ever asked for.",
    );
    page.source(answer);
    page
}

/// A retroactive waiver is flagged wherever it is shown.
fn kind(waiver: &Value) -> Markup {
    if waiver["retroactive"] == true { Markup::state("bad", "retroactive") } else { Markup::text("—") }
}

/// A number of records; with it those without a price, since nobody knows whether they are among them.
fn value(row: &Value) -> Markup {
    match row["cost"]["unpriced"].as_u64() {
        None | Some(0) => text(&row["value"]),
        Some(unpriced) => Markup::text(&format!("{} ({unpriced} unpriced)", text_of(&row["value"]))),
    }
}

fn waiting_waiver(page: &mut Page, waiver: &Value) {
    let id = text_of(&waiver["id"]);
    page.raw(&format!(
        "<section aria-labelledby=\"h-{0}\"><h3 id=\"h-{0}\">{0}: {1} on {2}</h3>\n",
        escape(&id),
        escape(&text_of(&waiver["rule"])),
        escape(&text_of(&waiver["stack"]))
    ));
    page.facts(&[
        ("Requested by", text(&waiver["requested_by"])),
        ("Owner", text(&waiver["owner"])),
        ("Why", text(&waiver["justification"])),
        ("Kind", kind(waiver)),
        ("Engine", engine(&waiver["engine_hash"])),
        ("Cap (USD)", text(&waiver["cap_usd"])),
        ("Starts", Markup::time(&waiver["starts"])),
        ("Expires", Markup::time(&waiver["expires"])),
        ("Entry", text(&waiver["position"])),
    ]);
    for (verb, label) in [("approve", "Approve"), ("refuse", "Refuse")] {
        let action = format!("/v1/waivers/{}/{verb}", path_segment(&id));
        let field = format!("{verb}-{id}");
        page.raw(&format!(
            "<form class=\"command\" data-action=\"{action}\" data-if-match=\"&quot;{version}&quot;\"><label for=\"{field}\">Reason to {verb} {id}</label> <input id=\"{field}\" name=\"reason\" autocomplete=\"off\"> <button type=\"submit\">{label} {id}</button> <output role=\"status\"></output></form>\n",
            action = escape(&action),
            version = escape(&text_of(&waiver["version"])),
            field = escape(&field),
            id = escape(&id),
        ));
    }
    page.raw("</section>\n");
}

pub(super) fn token_field() -> String {
    let mut form = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        form,
        "<form class=\"token\"><label for=\"token\">Token (kept in this tab only)</label> <input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"off\" required> <button type=\"submit\">Use this token</button> <output role=\"status\"></output></form>"
    );
    form
}

/// For a reader without a token.
pub(super) fn sign_in(detail: &str) -> Page {
    let mut page = Page::new("Sign in").needs_token();
    page.paragraph(detail);
    page.raw(&token_field());
    page
}

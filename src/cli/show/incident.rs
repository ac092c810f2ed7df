//! Incidents for the eye: the list, and one with its checklist.

use serde_json::Value;

use super::{items, lists};
use crate::cli::out::{self, Tone, engine, text, tone, when};

pub(super) fn incidents(rows: &Value) {
    let rows = items(rows).map(|row| {
        let status = text(&row["status"]);
        let status = if status == "open" { tone(Tone::Bad, &status) } else { status };
        vec![
            text(&row["id"]),
            text(&row["stack"]),
            status,
            text(&row["commander"]),
            when(&row["began"]),
            format!("{} of 6", text(&row["steps_done"])),
            overdue(row),
            text(&row["title"]),
        ]
    });
    out::table(
        &["incident", "stack", "status", "commander", "began (UTC)", "checklist", "overdue", "title"],
        rows,
        "no incident",
    );
}

/// What is past due by the ledger's own time.
fn overdue(standing: &Value) -> String {
    let mut late: Vec<String> = items(&standing["action_items_overdue"]).map(text).collect();
    if standing["report_overdue"] == true {
        late.insert(0, "report".to_owned());
    }
    if late.is_empty() { "-".to_owned() } else { tone(Tone::Bad, &late.join(", ")) }
}

pub(super) fn incident(body: &Value) {
    incidents(&Value::from(vec![body["standing"].clone()]));
    checklist(&body["checklist"]);
    found(&body["snapshot"]);
    for episode in items(&body["impact"]) {
        let totals = &episode["totals"];
        out::line(format!(
            "impact   {} requests of {} until {} UTC, {} USD, {} without a price (entry {})",
            text(&totals["requests"]),
            engine(totals),
            when(&episode["until"]),
            text(&totals["cost_usd"]),
            text(&totals["unpriced"]),
            text(&episode["position"])
        ));
    }
    for item in items(&body["action_items"]) {
        let state = match item["done_position"].as_u64() {
            Some(position) => format!("done (entry {position})"),
            None => "open".to_owned(),
        };
        out::line(format!(
            "to do    {} {} for {} until {} UTC, {state}",
            text(&item["id"]),
            text(&item["title"]),
            text(&item["owner"]),
            when(&item["due"])
        ));
    }
    for step in items(&body["steps"]) {
        out::line(format!(
            "  {} {} by {}: {}",
            when(&step["time"]),
            text(&step["step"]),
            text(&step["actor"]),
            text(&step["text"])
        ));
    }
    lists::timeline(&body["timeline"]);
}

/// The runbook's steps, each with the entry that ticks it.
pub(crate) fn checklist(steps: &Value) {
    for step in items(steps) {
        let mark = match step["state"].as_str() {
            Some("done") => tone(Tone::Good, "[x]"),
            Some("not_needed") => "[-]".to_owned(),
            _ => tone(Tone::Bad, "[ ]"),
        };
        let entry = step["position"].as_u64().map(|position| format!(" (entry {position})")).unwrap_or_default();
        out::line(format!(
            "  {mark} {} {}: {}{entry}",
            text(&step["number"]),
            text(&step["title"]),
            text(&step["how"])
        ));
    }
}

/// The rules that were not met when it was opened, and what was served.
fn found(snapshot: &Value) {
    if snapshot.is_null() {
        return;
    }
    out::line(format!(
        "found    at the cut of {} UTC (entry {}):",
        when(&snapshot["instant"]),
        text(&snapshot["position"])
    ));
    for rule in items(&snapshot["rules"]).filter(|rule| rule["state"] == "firing" || rule["state"] == "pending") {
        out::line(format!(
            "  {} {} on {}: {} against {}, {} records",
            text(&rule["rule"]),
            text(&rule["state"]),
            engine(rule),
            text(&rule["value"]),
            text(&rule["threshold"]),
            text(&rule["samples"])
        ));
    }
    for totals in items(&snapshot["totals"]) {
        out::line(format!(
            "  {}: {} requests, {} tokens in, {} out, {} USD, {} without a price, in a quarter of an hour",
            engine(totals),
            text(&totals["requests"]),
            text(&totals["tokens_in"]),
            text(&totals["tokens_out"]),
            text(&totals["cost_usd"]),
            text(&totals["unpriced"])
        ));
    }
}

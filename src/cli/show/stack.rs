//! Answers about one stack.

use serde_json::Value;

use super::{gate, items, lists};
use crate::cli::out::{self, Tone, engine, short, text, tone, when};

pub(super) fn stacks(body: &Value) {
    let rows = items(&body["stacks"]).map(|row| {
        let gate = match row["traffic_open"].as_bool() {
            Some(true) => tone(Tone::Good, "open"),
            Some(false) => tone(Tone::Bad, "closed"),
            None => "unknown".to_owned(),
        };
        vec![text(&row["stack"]), engine(row), when(&row["since"]), gate, firing(row), text(&row["incident"])]
    });
    out::table(&["stack", "engine", "since (UTC)", "traffic", "firing", "incident"], rows, "no stack has reported yet");
}

fn firing(row: &Value) -> String {
    match row["firing"].as_u64() {
        Some(0) | None => "0".to_owned(),
        Some(count) => tone(Tone::Bad, &count.to_string()),
    }
}

pub(super) fn stack(body: &Value) {
    out::line(format!(
        "{}  engine {} since {} UTC",
        tone(Tone::Strong, &text(&body["stack"])),
        engine(body),
        when(&body["since"])
    ));
    let rows = items(&body["engines"]).map(|row| {
        vec![
            engine(row),
            text(&row["first_published"]),
            text(&row["last_current"]),
            text(&row["warm"]),
            text(&row["proven"]),
            text(&row["unapproved"]),
        ]
    });
    out::table(&["engine", "published at", "current at", "warm", "proven at", "objection"], rows, "no engine");
    for contradiction in items(&body["contradictions"]) {
        out::line(format!(
            "{} entry {}: {}",
            tone(Tone::Warn, "contradiction"),
            text(&contradiction["position"]),
            text(&contradiction["detail"])
        ));
    }
}

pub(super) fn manifest(body: &Value) {
    out::line(format!(
        "{}  current engine {}, manifest of entry {}",
        tone(Tone::Strong, &text(&body["stack"])),
        engine(body),
        text(&body["position"])
    ));
    out::line(format!("traffic {}", gate(&body["traffic"])));
    out::line(if body["manifest"].is_null() {
        "no manifest was reported".to_owned()
    } else {
        format!("{:#}", body["manifest"])
    });
}

pub(super) fn last_good(body: &Value, strict: bool, negative: bool) {
    out::line(last_good_line(body));
    if strict && negative && body["confidence"] == "proven" {
        out::line(format!(
            "{}: the figures end at {} UTC, more than 60 s ago",
            tone(Tone::Warn, "too stale"),
            when(&body["evaluated_through"])
        ));
    } else if strict && negative {
        out::line(tone(Tone::Bad, "not proven, and --strict takes nothing less"));
    }
    passed_over(body);
}

fn last_good_line(body: &Value) -> String {
    if body["engine_hash"].is_null() {
        return format!("last good of {}: {}", text(&body["stack"]), tone(Tone::Bad, "none"));
    }
    let confidence = text(&body["confidence"]);
    let shade = match confidence.as_str() {
        "proven" => Tone::Good,
        "unproven" => Tone::Warn,
        _ => Tone::Bad,
    };
    let current = if body["is_current"] == true { ", and it serves now" } else { "" };
    let alerts: Vec<String> =
        items(&body["alerts"]).map(|alert| format!("{} at entry {}", text(&alert[0]), text(&alert[1]))).collect();
    let alerts = if alerts.is_empty() { String::new() } else { format!(" ({})", alerts.join(", ")) };
    format!(
        "last good of {}: {}, {}{alerts}{current}; its stint began at entry {}",
        text(&body["stack"]),
        tone(Tone::Strong, &engine(body)),
        tone(shade, &confidence),
        text(&body["position"])
    )
}

fn passed_over(body: &Value) {
    for passed in items(&body["passed_over"]) {
        out::line(format!(
            "  passed over {}: {} (entry {})",
            engine(passed),
            text(&passed["reason"]),
            text(&passed["position"])
        ));
    }
}

pub(super) fn traffic(body: &Value) {
    let engine =
        if body["engine_hash"].is_null() { String::new() } else { format!(" for {}", short(&body["engine_hash"])) };
    out::line(format!("{}{engine}: traffic {}", text(&body["stack"]), gate(body)));
}

/// Everything on one screen: what hurts, what serves, what changed, what to do.
pub(super) fn now(body: &Value) {
    let name = text(&body["stack"]);
    out::line(format!(
        "{}  serves {} since {} UTC; last entry {} UTC",
        tone(Tone::Strong, &name),
        engine(&body["current"]),
        when(&body["current"]["since"]),
        when(&body["last_entry"])
    ));
    let firing: Vec<&Value> = items(&body["firing"]).collect();
    if firing.is_empty() {
        out::line(format!("firing   {}", tone(Tone::Good, "nothing")));
    }
    for alert in firing {
        let covered = if alert["covered_by"].is_null() {
            String::new()
        } else {
            format!(", covered by {}", text(&alert["covered_by"]))
        };
        out::line(format!(
            "firing   {} {} against {} on {} since {} UTC{covered} (entry {})",
            tone(Tone::Bad, &text(&alert["rule"])),
            text(&alert["value"]),
            text(&alert["threshold"]),
            short(&alert["engine_hash"]),
            when(&alert["firing_since"]),
            text(&alert["position"])
        ));
    }
    if !body["current"]["incident"].is_null() {
        out::line(format!("incident {}", tone(Tone::Bad, &text(&body["current"]["incident"]))));
    }
    out::line(format!("traffic  {}", gate(&body["traffic"])));
    out::line(last_good_line(&body["last_good"]));
    passed_over(&body["last_good"]);
    out::line("changes of the last two hours of the ledger:");
    lists::timeline(&body["changes"]);
    out::line(format!("next     {}", tone(Tone::Strong, &text(&body["next"]))));
}

//! Policy, proposals, maintenance windows and keys for the eye.

use serde_json::Value;

use super::items;
use crate::cli::out::{self, short, text, when};
use crate::domain::policy::Rule;

/// What a policy changes.
pub(crate) fn changes(changes: &Value) {
    let rows = items(changes).map(|change| vec![text(&change["field"]), text(&change["from"]), text(&change["to"])]);
    out::table(&["changes", "from", "to"], rows, "nothing that holds changes");
}

/// How alerts would have been otherwise.
pub(crate) fn differences(alerts: &Value) {
    let span = |episode: &Value| {
        if episode.is_null() {
            "-".to_owned()
        } else if episode["resolved_at"].is_null() {
            format!("{} on", when(&episode["firing_since"]))
        } else {
            format!("{} to {}", when(&episode["firing_since"]), when(&episode["resolved_at"]))
        }
    };
    let rows = items(alerts).map(|alert| {
        vec![
            text(&alert["difference"]).replace('_', " "),
            text(&alert["rule"]),
            text(&alert["stack"]),
            short(&alert["engine_hash"]),
            span(&alert["recorded"]),
            span(&alert["proposed"]),
        ]
    });
    out::table(
        &["alert", "rule", "stack", "engine", "was", "would have been"],
        rows,
        "no alert would have been otherwise",
    );
}

/// The policy in force.
pub(super) fn policy(body: &Value) {
    let revision = text(&body["policy"]["revision"]);
    let from = match body["position"].as_u64() {
        None => "as built in".to_owned(),
        Some(position) => format!("in force since entry {position}"),
    };
    out::line(format!("revision {revision}, {from}"));
    let rules = body["rules"].as_object().into_iter().flatten();
    let rows = rules.map(|(rule, own)| {
        let unit = rule.parse().map(Rule::unit).unwrap_or_default();
        let threshold = if own["threshold"].is_null() { "-".to_owned() } else { text(&own["threshold"]) };
        vec![
            rule.clone(),
            if own["enabled"] == true { "on" } else { "off" }.to_owned(),
            format!("{threshold} {unit}"),
            format!("{} s", text(&own["window_s"])),
            format!("{} s", text(&own["for_s"])),
            format!("{} s", text(&own["keep_firing_for_s"])),
            text(&own["severity"]),
        ]
    });
    let header = ["rule", "judged", "threshold", "window", "for", "keep firing for", "severity"];
    out::table(&header, rows, "no rule");
    let resolved = &body["resolved"];
    out::line(format!(
        "at least {} samples, windows widen to {} s; a request may cost {} USD and wait {} µs",
        text(&resolved["min_samples"]),
        text(&resolved["widen_s"]),
        text(&resolved["max_cost_usd"]),
        text(&resolved["max_queue_delay_us"])
    ));
    let rows = items(&body["proposals"]).map(|row| {
        let status = if row["is_stale"] == true { "stale".to_owned() } else { text(&row["status"]) };
        let decided = row["decided_by"]
            .as_str()
            .map_or_else(|| "-".to_owned(), |who| format!("{who} (entry {})", text(&row["decided_position"])));
        vec![text(&row["id"]), text(&row["revision"]), status, text(&row["proposed_by"]), decided, text(&row["reason"])]
    });
    out::table(
        &["proposal", "revision", "status", "proposed by", "decided by", "why"],
        rows,
        "nothing was put forward",
    );
}

/// A policy put forward.
pub(super) fn proposal(body: &Value) {
    let stale = if body["is_stale"] == true { ", stale: propose it again" } else { "" };
    out::line(format!(
        "{}: revision {}, {}{stale}, proposed by {}: {}",
        text(&body["id"]),
        text(&body["revision"]),
        text(&body["status"]),
        text(&body["proposed_by"]),
        text(&body["reason"])
    ));
    changes(&body["changes"]);
    out::line(format!("document {}", text(&body["policy_sha256"])));
    out::line(format!("replaces {}", text(&body["replaces_sha256"])));
}

/// Maintenance windows.
pub(super) fn maintenance(body: &Value) {
    let rows = items(&body["windows"]).map(|row| {
        let rules: Vec<String> = items(&row["rules"]).map(text).collect();
        vec![
            text(&row["id"]),
            text(&row["stack"]),
            if rules.is_empty() { "all".to_owned() } else { rules.join(", ") },
            when(&row["from"]),
            when(&row["ends"]),
            if row["holds_now"] == true { "holds" } else { "-" }.to_owned(),
            text(&row["set_by"]),
            text(&row["reason"]),
        ]
    });
    out::table(&["window", "stack", "rules", "from", "ends", "now", "set by", "why"], rows, "none was ever set");
}

/// Keys of authors and nodes.
pub(super) fn keys(body: &Value) {
    let rows = items(&body["authors"]).map(|row| {
        let types: Vec<String> = items(&row["event_types"]).map(text).collect();
        vec![
            text(&row["key_id"]),
            text(&row["author"]),
            text(&row["status"]).replace('_', " "),
            types.join(", "),
            text(&row["enrolled_by"]),
            row["confirmed_by"].as_str().unwrap_or("-").to_owned(),
            text(&row["position"]),
        ]
    });
    out::table(
        &["key", "author", "status", "may sign", "enrolled by", "confirmed by", "entry"],
        rows,
        "no author's key",
    );
    let rows = items(&body["nodes"]).map(|row| {
        let retired = row["retired_position"]
            .as_u64()
            .map_or_else(|| "in force".to_owned(), |position| format!("retired at entry {position}"));
        vec![text(&row["key_id"]), text(&row["node"]), retired]
    });
    out::table(&["key", "node", "status"], rows, "no node's key");
    let rows = items(&body["checkpoints"])
        .map(|row| vec![text(&row["node"]), text(&row["old"]), text(&row["new"]), text(&row["position"])]);
    out::table(&["checkpoints of", "old key", "new key", "entry"], rows, "no key of checkpoints was rotated");
    let required: Vec<String> = items(&body["required_signatures"]).map(text).collect();
    if !required.is_empty() {
        out::line(format!("must be signed by an author: {}", required.join(", ")));
    }
}

//! Answers that are lists.

use serde_json::Value;

use super::items;
use crate::cli::out::{self, Tone, short, text, tone, when};
use crate::domain::authentication::Authentication;

pub(super) fn timeline(rows: &Value) {
    let rows = items(rows).map(|row| {
        vec![
            when(&row["time"]),
            text(&row["position"]),
            short(&row["engine_hash"]),
            text(&row["actor"]),
            text(&row["summary"]),
        ]
    });
    out::table(&["time (UTC)", "entry", "engine", "actor", "what"], rows, "nothing happened");
}

pub(super) fn alerts(rows: &Value) {
    let rows = items(rows).map(|row| {
        if row["source"] == "provider" {
            let count = text(&row["count"]);
            return vec![
                when(&row["time"]),
                text(&row["stack"]),
                "provider".to_owned(),
                "-".to_owned(),
                format!("{count} in the minute"),
                "-".to_owned(),
                text(&row["summary"]),
                text(&row["position"]),
            ];
        }
        let state = match row["state"].as_str() {
            Some("firing") => tone(Tone::Bad, "firing"),
            _ => format!("resolved {}", when(&row["resolved_at"])),
        };
        let figures = format!("{} against {}{}", text(&row["value"]), text(&row["threshold"]), unpriced(row));
        vec![
            when(&row["firing_since"]),
            text(&row["stack"]),
            text(&row["rule"]),
            short(&row["engine_hash"]),
            state,
            covered(row),
            figures,
            text(&row["position"]),
        ]
    });
    out::table(
        &["firing since (UTC)", "stack", "rule", "engine", "state", "covered by", "figures", "entry"],
        rows,
        "no alert",
    );
}

/// The waiver that covers; one that did so only afterwards is flagged.
fn covered(row: &Value) -> String {
    match row["covered_retroactively_by"].as_str() {
        Some(waiver) => tone(Tone::Warn, &format!("{waiver} (retroactive)")),
        None => text(&row["covered_by"]),
    }
}

/// Requests without a price: nobody knows whether they are among those counted.
fn unpriced(row: &Value) -> String {
    match row["cost"]["unpriced"].as_u64() {
        None | Some(0) => String::new(),
        Some(unpriced) => format!(" ({unpriced} unpriced)"),
    }
}

pub(super) fn waivers(rows: &Value) {
    let rows = items(rows).map(|row| {
        let mut status = text(&row["status"]);
        if row["retroactive"] == true {
            status = format!("{status}, {}", tone(Tone::Warn, "retroactive"));
        }
        let status =
            if row["covers_now"] == true { tone(Tone::Good, &format!("{status}, covers now")) } else { status };
        vec![
            text(&row["id"]),
            text(&row["stack"]),
            text(&row["rule"]),
            status,
            text(&row["requested_by"]),
            text(&row["decided_by"]),
            text(&row["cap_usd"]),
            spent(row),
            when(&row["expires"]),
            text(&row["position"]),
        ]
    });
    out::table(
        &[
            "waiver",
            "stack",
            "rule",
            "status",
            "asked by",
            "decided by",
            "cap USD",
            "excess USD",
            "expires (UTC)",
            "entry",
        ],
        rows,
        "no waiver",
    );
}

/// The excess; with it the requests without a price, which no sum holds.
fn spent(row: &Value) -> String {
    match row["unpriced"].as_u64() {
        None | Some(0) => text(&row["excess_usd"]),
        Some(unpriced) => format!("{} ({unpriced} unpriced)", text(&row["excess_usd"])),
    }
}

pub(super) fn waiver(body: &Value) {
    waivers(&Value::from(vec![body.clone()]));
    let scope = &body["scope"];
    out::line(format!("why      {}", text(&body["justification"])));
    if let Ok(by) = serde_json::from_value::<Authentication>(body["decided_authentication"].clone()) {
        out::line(format!("decided  by {}, known by {by}", text(&body["decided_by"])));
    }
    out::line(format!("plan     {}", text(&scope["mitigation_plan"])));
    out::line(format!("owner    {}", text(&body["owner"])));
    for (name, value) in [("instead ", &scope["alternatives"]), ("ticket  ", &scope["ticket"])] {
        if let Some(value) = value.as_str() {
            out::line(format!("{name} {value}"));
        }
    }
    for advisory in items(&scope["advisories"]) {
        out::line(format!("advisory {}", text(advisory)));
    }
    if let Some(waiver) = body["approved_as"].as_str() {
        out::line(format!("approved {waiver} stands for it"));
    }
    if body["retroactive"] == true {
        let flag = tone(Tone::Warn, "retroactive");
        let charged = text(&body["retroactive_excess_usd"]);
        out::line(format!(
            "kind     {flag} from {} UTC; charged with {charged} USD of the past",
            when(&scope["starts"])
        ));
    }
    if !body["cap_usd"].is_null() {
        out::line(format!(
            "spent    {} USD beyond the threshold, {} USD in all, by {} requests above it",
            spent(body),
            text(&body["gross_usd"]),
            text(&body["requests_over"])
        ));
    }
    forecast(&body["forecast"]);
    out::line(format!("scope    {} (what an approval names)", text(&body["scope_sha256"])));
    out::line(format!("version  {} (what --if-match names)", text(&body["version"])));
    timeline(&body["history"]);
    for proof in items(&body["proofs"]) {
        out::line(format!("proof    govledger prove {}", text(&proof["position"])));
    }
}

fn forecast(forecast: &Value) {
    if forecast.is_null() {
        return;
    }
    if let Some(rate) = forecast["rate_usd_per_hour"].as_str() {
        let reached = match forecast["cap_reached"].as_str() {
            Some(_) => format!("the cap is reached at {} UTC", when(&forecast["cap_reached"])),
            None => "the cap is not reached".to_owned(),
        };
        out::line(format!("forecast {rate} USD an hour at present; at this rate {reached}"));
    }
    out::line(format!("ends     {} UTC at the latest", when(&forecast["expires"])));
}

pub(super) fn backups(body: &Value) {
    let rows = items(&body["backups"]).map(|row| {
        let verified = match row["verified"].as_bool() {
            Some(true) => tone(Tone::Good, "verified"),
            Some(false) => tone(Tone::Bad, "failed"),
            None => "never read again".to_owned(),
        };
        let restored = match (&row["restored"], row["drill_overdue"].as_bool()) {
            (Value::Null, Some(true)) => tone(Tone::Warn, "never, overdue"),
            (Value::Null, _) => "never".to_owned(),
            (restored, Some(true)) => tone(Tone::Warn, &format!("{}, overdue", when(&restored[0]))),
            (restored, _) => when(&restored[0]),
        };
        let contradicted = row["contradicted_by"].as_u64();
        let contradicted =
            contradicted.map_or_else(String::new, |entry| tone(Tone::Bad, &format!(" (entry {entry} says otherwise)")));
        vec![
            text(&row["backup"]["backup_id"]) + &contradicted,
            text(&row["stack"]),
            short(&row["engine_hash"]),
            when(&row["time"]),
            verified,
            restored,
            items(&row["backup"]["replication_targets"]).map(text).collect::<Vec<_>>().join(", "),
            text(&row["position"]),
        ]
    });
    let header = ["backup", "stack", "engine", "recorded (UTC)", "verified", "restored (UTC)", "copies", "entry"];
    out::table(&header, rows, "no backup");
    items(&body["stacks"]).for_each(backups_owed);
}

/// What a stack that serves owes, if anything.
fn backups_owed(duty: &Value) {
    let stack = text(&duty["stack"]);
    if duty["backup_overdue"] == true {
        let due = when(&duty["backup_due"]);
        let told = format!("{stack}: no verified backup of {}, due {due} UTC", short(&duty["engine_hash"]));
        out::line(tone(Tone::Bad, &told));
    }
    if duty["drill_overdue"] == true {
        out::line(tone(Tone::Warn, &format!("{stack}: a restore was due {} UTC", when(&duty["drill_due"]))));
    }
}

pub(crate) fn rejected(body: &Value) {
    let rows = items(&body["rejected"]).map(|row| {
        vec![
            text(&row["ledger"]),
            text(&row["position"]),
            when(&row["time"]),
            text(&row["refusal"]["code"]),
            text(&row["refusal"]["field"]),
            text(&row["refusal"]["detail"]),
        ]
    });
    out::table(&["ledger", "entry", "time (UTC)", "code", "field", "why"], rows, "nothing was rejected");
    if let Some(next) = body["next"].as_u64() {
        out::line(format!("more: govledger rejected --after {next}"));
    }
}

pub(super) fn slo(body: &Value) {
    out::line(format!("{} at the cut of {} UTC", tone(Tone::Strong, &text(&body["stack"])), when(&body["instant"])));
    let rows = items(&body["slo"]).filter(|row| row["current"] == true || row["state"] == "firing").map(|row| {
        let state = text(&row["state"]);
        let state = match state.as_str() {
            "met" => tone(Tone::Good, &state),
            "firing" => tone(Tone::Bad, &state),
            "pending" => tone(Tone::Warn, &state),
            _ => state,
        };
        vec![
            text(&row["rule"]),
            short(&row["engine_hash"]),
            state,
            figures(row),
            text(&row["threshold"]),
            when(&row["pending_since"]),
            when(&row["firing_since"]),
        ]
    });
    out::table(
        &["rule", "engine", "state", "measured", "threshold", "pending since (UTC)", "firing since (UTC)"],
        rows,
        "no record yet",
    );
}

/// What was measured, with its unit; the counts where they alone decide.
fn figures(row: &Value) -> String {
    let figures = &row["figures"];
    if let (Some(below), Some(samples)) = (figures["below"].as_u64(), figures["samples"].as_u64()) {
        return format!("{below} of {samples} below it");
    }
    match (&row["value"], figures.as_object()) {
        (Value::Null, None) => "-".to_owned(),
        (Value::Null, Some(figures)) => {
            figures.iter().map(|(name, value)| format!("{name} {}", text(value))).collect::<Vec<_>>().join(", ")
        }
        (value, _) => format!("{} {}{}", text(value), text(&row["unit"]), unpriced(row)),
    }
}

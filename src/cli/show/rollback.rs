//! The plan of a rollback for the eye.

use serde_json::Value;

use super::{gate, items};
use crate::cli::out::{self, Tone, short, text, tone, when};

/// Prints the plan.
pub(crate) fn plan(body: &Value) {
    let stack = text(&body["stack"]);
    out::line(format!("{stack} serves {}; traffic {}", out::engine(&body["current"]), gate(&body["traffic"])));
    let good = &body["last_good"];
    let to = &good["engine_hash"];
    if to.is_null() {
        out::line(format!("back to: {}", tone(Tone::Bad, "no engine qualifies")));
    } else {
        let shade = if good["confidence"] == "proven" { Tone::Good } else { Tone::Warn };
        let confidence = tone(shade, &text(&good["confidence"]));
        out::line(format!("back to: {}, {confidence}", tone(Tone::Strong, &out::engine(good))));
    }
    for passed in items(&good["passed_over"]) {
        out::line(format!(
            "  not {}: {} (entry {})",
            out::engine(passed),
            text(&passed["reason"]),
            text(&passed["position"])
        ));
    }
    let mut held = false;
    for backup in items(&body["backups"]).filter(|backup| &backup["engine_hash"] == to) {
        held = true;
        let verified = match backup["verified"].as_bool() {
            Some(true) => tone(Tone::Good, &format!("verified at entry {}", text(&backup["verified_position"]))),
            Some(false) => tone(Tone::Bad, "damaged when last read"),
            None => tone(Tone::Warn, "never read again"),
        };
        let targets: Vec<String> = items(&backup["targets"]).map(text).collect();
        out::line(format!("  from {}, {verified}: {}", text(&backup["backup_id"]), targets.join(", ")));
    }
    if !held && !to.is_null() {
        out::line(format!("  {}", tone(Tone::Bad, "no backup names this engine")));
    }
    run(&body["run"]);
    let overdue = body["rehearsal_overdue"] == true;
    let due = when(&body["rehearsal_due"]);
    let last = ["completed", "rehearsed"].iter().map(|name| &body[*name]["time"]).filter(|time| !time.is_null());
    let last = last.map(when).max().unwrap_or_else(|| "never".to_owned());
    let due = if overdue { tone(Tone::Bad, &format!("overdue since {due}")) } else { format!("due by {due}") };
    out::line(format!("last gone this way: {last}; the next rehearsal is {due} UTC"));
    out::line(
        "will run: restore, check every hash, close the gate, reload, check again, prove what is served, warm up, record",
    );
}

fn run(run: &Value) {
    if run.is_null() {
        return;
    }
    let claim = &run["claim"];
    let what = if claim["rehearsal"] == true { "rehearsal" } else { "rollback" };
    out::line(format!(
        "{}: {what} {} to {} by {}, {} on {}, since {} UTC (entry {})",
        tone(Tone::Warn, "under way"),
        text(&run["id"]),
        short(&claim["to"]),
        text(&run["holder"]),
        text(&claim["process"]),
        text(&claim["host"]),
        when(&run["since"]),
        text(&run["attempt"])
    ));
    if !run["stopped"].is_null() {
        let stopped = &run["stopped"];
        out::line(format!(
            "  {} at {}: {} (entry {}); the same command goes on",
            tone(Tone::Bad, "stopped"),
            text(&stopped["stage"]),
            text(&stopped["detail"]),
            text(&stopped["position"])
        ));
    }
}

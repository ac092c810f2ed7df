//! The hour in plain words. Every number is read back from the ledger's own answers.

use std::ops::ControlFlow;

use serde_json::Value;

use super::decisions::Decided;
use super::hour::{QWEN, RERANK};
use super::intake;
use crate::cli::error::CliError;
use crate::cli::node::Node;
use crate::cli::out::{self, Tone, engine, text, tone, when};
use crate::ingest::file::Report;
use crate::projection::answers::Asked;
use crate::sequencer::judge;

pub(super) fn all(node: &Node, report: &Report, decided: &Decided) -> Result<(), CliError> {
    out::line(format!("  {}", intake(report)));
    out::line(tone(Tone::Strong, "\nWhat happened"));
    happened(node)?;
    out::line(tone(Tone::Strong, "\nWhat fired"));
    fired(node)?;
    if let Some((incident, _)) = &decided.incident {
        out::line(tone(Tone::Strong, "\nWhat the incident was"));
        worked(node, incident)?;
    }
    out::line(tone(Tone::Strong, "\nWhat is safe"));
    safe(node)?;
    out::line(tone(Tone::Strong, "\nWho accepted what"));
    accepted(node, decided)?;
    out::line(tone(Tone::Strong, "\nWhat was not understood"));
    rejected(node)
}

fn ask(node: &Node, asked: &Asked) -> Result<Value, CliError> {
    let shared = node.handle.shared();
    Ok(shared.answer(asked, node.handle.now())??.body)
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The clock part of a time.
fn clock(value: &Value) -> String {
    when(value).chars().skip(11).collect()
}

fn happened(node: &Node) -> Result<(), CliError> {
    let timeline = ask(node, &Asked::Timeline { stack: QWEN.to_owned(), incident: None })?;
    let lifecycle = [
        "llm_engine_published",
        "llm_warmup_completed",
        "llm_warmup_failed",
        "llm_rollback_completed",
        "llm_engine_proven",
        "llm_backup_recorded",
    ];
    for row in rows(&timeline["timeline"])
        .iter()
        .filter(|row| row["type"].as_str().is_some_and(|kind| lifecycle.contains(&kind)))
    {
        out::line(format!("  {}  {} (entry {})", clock(&row["time"]), text(&row["summary"]), text(&row["position"])));
    }
    Ok(())
}

fn fired(node: &Node) -> Result<(), CliError> {
    let alerts = ask(node, &Asked::Alerts { stack: None, state: None, all: false })?;
    for alert in rows(&alerts["alerts"]) {
        let until = if alert["resolved_at"].is_null() {
            tone(Tone::Bad, "still firing")
        } else {
            format!("until {}", clock(&alert["resolved_at"]))
        };
        let covered = if alert["covered_by"].is_null() {
            String::new()
        } else {
            format!(", covered by {}", text(&alert["covered_by"]))
        };
        out::line(format!(
            "  {}  {} on {}: {}; {until}{covered}",
            clock(&alert["firing_since"]),
            text(&alert["rule"]),
            text(&alert["stack"]),
            measured(alert)
        ));
    }
    Ok(())
}

/// The incident of the regression: what it cost, how long it took, and the runbook's steps as the ledger ticks them.
fn worked(node: &Node, id: &str) -> Result<(), CliError> {
    let report = ask(node, &Asked::IncidentReport { id: id.to_owned() })?;
    let impact = &report["impact"];
    out::line(format!(
        "  {id} on {QWEN}, commander {}: {} requests affected, {} USD, {} without a price",
        text(&report["standing"]["commander"]),
        text(&impact["requests"]),
        text(&impact["cost_usd"]),
        text(&impact["unpriced"])
    ));
    let took = |row: &Value| format!("to {} {} s", text(&row["name"]), text(&row["seconds"]));
    let took: Vec<String> = rows(&report["durations"]).iter().map(took).collect();
    out::line(format!("  {}", took.join(", ")));
    crate::cli::show::checklist(&report["checklist"]);
    Ok(())
}

/// The figure that fired, in the words of its rule.
fn measured(alert: &Value) -> String {
    let (value, threshold) = (text(&alert["value"]), text(&alert["threshold"]));
    let number = value.parse::<f64>().unwrap_or_default();
    match alert["rule"].as_str().unwrap_or_default() {
        "latency_p95" => format!("P95 was {number:.0} ms and should stay below {threshold}"),
        "queue_delay" => format!("P95 wait was {number:.0} µs and should stay below {threshold}"),
        "kv_reuse" => format!("{:.0} % of KV blocks were reused, under {threshold}", number * 100.0),
        "speculative_accept" => format!("{:.0} % of draft tokens were accepted, under {threshold}", number * 100.0),
        "token_budget" => format!("{value} requests over their token budget in a minute"),
        "cost_per_request" => format!("{value} request over {threshold} USD in a minute"),
        "readiness_queue_delay" => format!("{value} waited longer than {threshold} µs"),
        _ => format!("{value} against {threshold}"),
    }
}

fn safe(node: &Node) -> Result<(), CliError> {
    let manifest = ask(node, &Asked::Manifest { stack: QWEN.to_owned() })?;
    let gate = &manifest["traffic"];
    let state = if gate["open"] == true { tone(Tone::Good, "open") } else { tone(Tone::Bad, "closed") };
    out::line(format!(
        "  {QWEN} serves {}; traffic is {state}: {} (entry {})",
        engine(&manifest),
        text(&gate["reason"]),
        text(&gate["position"])
    ));
    let good = ask(node, &Asked::LastGood { stack: QWEN.to_owned(), not_current: false, strict: false })?;
    out::line(format!("  last good is {}, {}", engine(&good), tone(Tone::Good, &text(&good["confidence"]))));
    for passed in rows(&good["passed_over"]) {
        out::line(format!(
            "  {} was passed over: {} (entry {})",
            engine(passed),
            text(&passed["reason"]),
            text(&passed["position"])
        ));
    }
    Ok(())
}

fn accepted(node: &Node, decided: &Decided) -> Result<(), CliError> {
    let waivers = ask(node, &Asked::Waivers { stack: Some(RERANK.to_owned()) })?;
    for waiver in rows(&waivers["waivers"]).iter().filter(|waiver| waiver["status"] == "reported") {
        out::line(format!(
            "  {} was claimed by the event log; it is shown as reported and covers nothing",
            text(&waiver["id"])
        ));
    }
    out::line(format!(
        "  {}: pavel asked finance to accept the cost of the catalogue import on {RERANK} (entry {})",
        decided.waiver, decided.requested
    ));
    out::line(format!(
        "  he holds the finance role as well; his own approval was refused at entry {}: {}",
        decided.own_refused.0, decided.own_refused.1
    ));
    let waiver = ask(node, &Asked::Waiver { id: decided.waiver.clone() })?;
    out::line(format!(
        "  fiona of finance approved it (entry {}) up to {} USD until {} UTC",
        decided.approved,
        text(&waiver["cap_usd"]),
        when(&waiver["expires"])
    ));
    Ok(())
}

fn rejected(node: &Node) -> Result<(), CliError> {
    let governance = ask(node, &Asked::Rejected { after: None, limit: 100 })?;
    for row in rows(&governance["rejected"]).iter().filter(|row| row["refusal"]["code"] != "command_refused") {
        out::line(format!(
            "  governance entry {}: {}: {}",
            text(&row["position"]),
            text(&row["refusal"]["code"]),
            text(&row["refusal"]["detail"])
        ));
    }
    if let Some(reader) = node.handle.shared().reader("metrics-0") {
        reader.for_each_entry(1..reader.size(), |position, entry| {
            if let Some(refusal) = judge(entry, node.handle.times()) {
                out::line(format!("  metrics-0 entry {position}: {}: {}", refusal.code.as_str(), refusal.detail));
            }
            ControlFlow::Continue(())
        })?;
    }
    out::line("  Each is kept with its bytes, counts for nothing, and can be asked for.");
    Ok(())
}

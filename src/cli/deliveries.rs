//! `deliveries`: what the service told the outside, and what did not arrive.

use serde_json::Value;

use super::args::Options;
use super::error::{CliError, Exit, Outcome};
use super::out::{self, Tone, text, tone, when};
use super::source::Place;

pub(crate) fn run(place: &Place, options: &Options) -> Outcome {
    let client = place.service()?.ok_or_else(|| {
        CliError::new(
            Exit::Unreachable,
            "nobody is told while no service runs; start `govledger serve`, or name one with --server",
        )
    })?;
    let answer: Value = serde_json::from_slice(&client.fetch("/v1/deliveries")?)?;
    if options.json {
        out::json(&answer);
    } else {
        show(&answer);
    }
    let is_lost = |endpoint: &Value| endpoint["state"] == "disabled" || endpoint["dead_total"].as_u64() > Some(0);
    let lost = answer["endpoints"].as_array().is_some_and(|endpoints| endpoints.iter().any(is_lost));
    let is_alarmed = |witness: &Value| witness["alarm"].is_object();
    let lost = lost || answer["witnesses"].as_array().is_some_and(|witnesses| witnesses.iter().any(is_alarmed));
    Ok(if lost { Exit::No } else { Exit::Fine })
}

fn show(answer: &Value) {
    let none = Vec::new();
    let endpoints = answer["endpoints"].as_array().unwrap_or(&none);
    let state = |endpoint: &Value| match endpoint["state"].as_str() {
        Some("active") => tone(Tone::Good, "active"),
        Some(other) => tone(Tone::Bad, other),
        None => "-".to_owned(),
    };
    let rows = endpoints.iter().map(|endpoint| {
        vec![
            text(&endpoint["name"]),
            text(&endpoint["kind"]),
            state(endpoint),
            format!("{} of {}", text(&endpoint["cursor"]), text(&answer["size"])),
            text(&endpoint["delivered"]),
            text(&endpoint["pending_total"]),
            text(&endpoint["dead_total"]),
            when(&endpoint["last_taken"]),
            text(&endpoint["last_error"]),
        ]
    });
    let header = ["endpoint", "kind", "state", "told", "taken", "pending", "dead", "last taken", "last error"];
    out::table(&header, rows, "no endpoint is configured; see docs/NOTIFICATIONS.md");
    witnesses(answer);
    for endpoint in endpoints {
        for dead in endpoint["dead"].as_array().unwrap_or(&none) {
            out::line(format!(
                "dead end: {} entry {} after {} attempts at {}: {}",
                text(&endpoint["name"]),
                text(&dead["position"]),
                text(&dead["attempts"]),
                when(&dead["time"]),
                text(&dead["error"])
            ));
        }
    }
}

/// The witnesses of the policy in force, where there are any.
fn witnesses(answer: &Value) {
    let Some(witnesses) = answer["witnesses"].as_array().filter(|witnesses| !witnesses.is_empty()) else { return };
    let rows = witnesses.iter().map(|witness| {
        let state = match witness["state"].as_str() {
            Some(state @ ("active" | "new")) => tone(Tone::Good, state),
            Some(other) => tone(Tone::Bad, other),
            None => "-".to_owned(),
        };
        let wrong = if witness["alarm"].is_object() { &witness["alarm"]["detail"] } else { &witness["last_error"] };
        vec![
            text(&witness["name"]),
            state,
            format!("{} of {}", text(&witness["size"]), text(&answer["size"])),
            when(&witness["time"]),
            text(&witness["failures_total"]),
            text(wrong),
        ]
    });
    out::table(&["witness", "state", "cosigned", "at", "failures", "last error"], rows, "");
    let cosigned = &answer["cosigned"];
    out::line(match cosigned["has_quorum"].as_bool() {
        Some(true) => format!("quorum: met at {} of {} entries", text(&cosigned["size"]), text(&answer["size"])),
        Some(false) | None => "quorum: no checkpoint has it".to_owned(),
    });
}

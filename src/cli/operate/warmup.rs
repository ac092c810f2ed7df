//! `warmup`: runs the warm-up script of a stack and records how it ended.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::report::{Ledger, Report};
use super::supervise::{Ran, run as supervise};
use crate::cli::args::{Options, Warmup};
use crate::cli::error::{CliError, Exit, Outcome};
use crate::cli::node::stop_flag;
use crate::cli::out::{self, Tone, tone};
use crate::cli::source::Place;
use crate::projection::answers::Asked;

pub(in crate::cli) fn run(place: &Place, options: &Options, warmup: &Warmup) -> Outcome {
    let schema_versions = schema_versions(&warmup.schema_version)?;
    // Asked before the command runs: what becomes current meanwhile was not warmed up by it.
    let engine = match &warmup.engine {
        Some(engine) => engine.clone(),
        None => current(place, &warmup.stack)?,
    };
    let (program, arguments) = warmup.command.split_first().ok_or_else(|| CliError::usage("no command was given"))?;
    let mut command = Command::new(program);
    command.args(arguments).env("GOVLEDGER_STACK", &warmup.stack).env("GOVLEDGER_ENGINE", &engine);
    let ran = supervise(&mut command, warmup.timeout.0, &*stop_flag()?)?;
    let report = Report {
        event_type: if ran.succeeded() { "llm_warmup_completed" } else { "llm_warmup_failed" },
        stack: &warmup.stack,
        data: payload(warmup, &engine, &schema_versions, &ran),
    };
    let position = Ledger { place, options, reporting: &warmup.reporting }.record(&report)?;
    tell(options, warmup, &engine, &ran, position);
    Ok(if ran.succeeded() { Exit::Fine } else { Exit::No })
}

/// The arguments are not recorded: they are where scripts get their passwords from.
pub(super) fn payload(warmup: &Warmup, engine: &str, schema_versions: &BTreeMap<&str, &str>, ran: &Ran) -> Value {
    let mut data = json!({
        "engine_hash": engine,
        "command": warmup.command.first(),
        "duration_s": (ran.took.as_secs_f64() * 1_000.0).round() / 1_000.0,
        "schema_versions": schema_versions,
    });
    if let super::supervise::Ending::Exited(code) = ran.ending {
        data["exit_code"] = code.into();
    }
    if !ran.succeeded() {
        data["error"] = ran.ending.to_string().into();
    }
    if !warmup.no_output {
        data["output_tail"] = ran.output_tail.clone().into();
    }
    if warmup.rehearsal {
        data["rehearsal"] = true.into();
    }
    data
}

fn tell(options: &Options, warmup: &Warmup, engine: &str, ran: &Ran, position: u64) {
    let seconds = ran.took.as_secs_f64();
    if options.json {
        out::json(&json!({
            "stack": warmup.stack,
            "engine_hash": engine,
            "completed": ran.succeeded(),
            "ending": ran.ending.to_string(),
            "duration_s": seconds,
            "position": position,
        }));
        return;
    }
    let word = if ran.succeeded() { tone(Tone::Good, "completed") } else { tone(Tone::Bad, "failed") };
    out::line(format!(
        "warm-up of {} on {} {word} after {seconds:.1} s ({}), recorded at entry {position}",
        out::short(&engine.into()),
        warmup.stack,
        ran.ending
    ));
}

pub(super) fn current(place: &Place, stack: &str) -> Result<String, CliError> {
    let asked = Asked::Manifest { stack: stack.to_owned() };
    let body = crate::cli::decide::read_to_decide(place, &asked)?;
    body["engine_hash"].as_str().map(str::to_owned).ok_or_else(|| {
        CliError::new(
            Exit::No,
            format!("{stack} has no current engine in the ledger; name the one that is warmed up with --engine HASH"),
        )
    })
}

fn schema_versions(given: &[String]) -> Result<BTreeMap<&str, &str>, CliError> {
    given
        .iter()
        .map(|text| {
            text.split_once('=')
                .filter(|(name, version)| !name.is_empty() && !version.is_empty())
                .ok_or_else(|| CliError::usage(format!("--schema-version {text:?}: it is NAME=VERSION")))
        })
        .collect()
}

//! Who goes back, where to, and whether they may: what is decided before a rollback's first step, and how the ledger is asked.

use serde_json::Value;

use super::super::report::RETRY_EVERY;
use super::process;
use crate::cli::args::{Options, Reporting, RollbackRun};
use crate::cli::decide::{Given, given, read_to_decide};
use crate::cli::error::{CliError, Exit};
use crate::cli::out;
use crate::cli::source::Place;
use crate::clock::monotonic;
use crate::domain::command::Request;
use crate::projection::answers::Asked;
use crate::sequencer::new_token;

/// Whether nothing can be recorded, or nothing by this attempt: the ledger said no, or says nothing.
pub(super) const fn is_of_the_ledger(exit: Exit) -> bool {
    matches!(exit, Exit::Refused | Exit::TakenOver | Exit::Unreachable | Exit::Damaged | Exit::Stale)
}

/// Asks under one key until there is an answer, or for as long as the ledger is to be tried: however often it is sent, it counts
/// once.
pub(super) fn asked(
    place: &Place,
    options: &Options,
    reporting: &Reporting,
    request: &Request,
) -> Result<Given, CliError> {
    let key = new_token()?.trim_start_matches("glt_").to_owned();
    patiently(reporting, || given(place, options, Some(key.clone()), request, None))
}

/// Tries a ledger that cannot be reached for as long as it is to be tried.
pub(super) fn patiently<T>(reporting: &Reporting, ask: impl Fn() -> Result<T, CliError>) -> Result<T, CliError> {
    let began = monotonic();
    loop {
        match ask() {
            Err(error) if error.exit == Exit::Unreachable && began.elapsed() < reporting.retry_for.0 => {
                out::note(format!("{}; trying again", error.text));
                std::thread::sleep(RETRY_EVERY);
            }
            answer => return answer,
        }
    }
}

/// The engine that serves, where this run would do nothing: it is the one that was named, or, where none was named, the one
/// that the last rollback brought back, so that the same command twice does not go back twice.
pub(super) fn serves_already(place: &Place, run: &RollbackRun, plan: &Value) -> Result<Option<String>, CliError> {
    if !plan["run"].is_null() || run.rehearsal || plan["traffic"]["open"] != true {
        return Ok(None);
    }
    let Some(current) = plan["current"]["engine_hash"].as_str() else { return Ok(None) };
    let stack = &run.stack;
    if let Some(to) = &run.to {
        let serves = to == current;
        if serves {
            out::line(format!("{stack} serves {to} already; nothing was done"));
        }
        return Ok(serves.then(|| to.clone()));
    }
    let Some(completed) = plan["completed"]["position"].as_u64() else { return Ok(None) };
    let known = read_to_decide(place, &Asked::Stack { stack: stack.clone() })?;
    let engines = known["engines"].as_array().map(Vec::as_slice).unwrap_or_default();
    let since = engines.iter().find(|engine| engine["engine_hash"] == current);
    // Whatever was published later made another engine current, or this one again.
    if since.and_then(|engine| engine["last_current"].as_u64()).is_none_or(|since| since > completed) {
        return Ok(None);
    }
    out::line(format!(
        "{stack} serves {current} already, since the rollback of entry {completed}; nothing was done. To go further back name the engine with --to"
    ));
    Ok(Some(current.to_owned()))
}

/// The claim that this run goes on with, if there is one of its kind.
pub(super) fn going_on<'a>(run: &RollbackRun, plan: &'a Value) -> &'a Value {
    let claim = &plan["run"]["claim"];
    if claim["rehearsal"].as_bool().unwrap_or_default() == run.rehearsal { claim } else { &Value::Null }
}

/// Where to: as it was said, as the rollback under way says, or to the last good engine.
pub(super) fn target(run: &RollbackRun, plan: &Value) -> Result<String, CliError> {
    let named = run.to.as_deref().or_else(|| going_on(run, plan)["to"].as_str());
    named.or_else(|| plan["last_good"]["engine_hash"].as_str()).map(str::to_owned).ok_or_else(|| {
        let detail =
            "rollback_no_engine: no engine other than the current one qualifies; `govledger rollback plan` says why";
        CliError::new(Exit::No, detail)
    })
}

pub(super) fn backup(run: &RollbackRun, plan: &Value, to: &str) -> Result<String, CliError> {
    if let Some(id) = &run.backup {
        return Ok(id.clone());
    }
    let claim = going_on(run, plan);
    if let Some(id) = claim["backup_id"].as_str().filter(|_| claim["to"] == to) {
        return Ok(id.to_owned());
    }
    let rows = plan["backups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = rows.iter().find(|row| row["engine_hash"] == to && row["verified"] == true);
    found.and_then(|row| row["backup_id"].as_str()).map(str::to_owned).ok_or_else(|| {
        CliError::new(Exit::No, format!("rollback_no_backup: no verified backup of {to}; name one with --backup ID"))
    })
}

pub(super) fn manifest_of(plan: &Value, to: &str) -> Value {
    let rows = plan["backups"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().find(|row| row["engine_hash"] == to).map_or(Value::Null, |row| row["manifest"].clone())
}

/// The attempt that is taken over: by the operator's word, or because its process is gone from this host.
pub(super) fn taken_over(run: &RollbackRun, under_way: &Value, host: &str) -> Option<u64> {
    let attempt = under_way["attempt"].as_u64().filter(|_| under_way["stopped"].is_null())?;
    let claimed = under_way["claim"]["process"].as_str().unwrap_or_default();
    let gone = under_way["claim"]["host"] == host && process::is_gone(claimed);
    (run.take_over || gone).then_some(attempt)
}

/// A claim that was refused because somebody else holds the rollback has an exit code of its own.
pub(super) fn held(place: &Place, asked: &Asked, error: CliError) -> CliError {
    if error.exit != Exit::Refused {
        return error;
    }
    match read_to_decide(place, asked) {
        Ok(plan) if plan["run"].is_object() && plan["run"]["stopped"].is_null() => CliError::new(
            Exit::Held,
            format!("rollback_held: {}\nif that process is gone: the same command with --take-over", error.text),
        ),
        _ => error,
    }
}

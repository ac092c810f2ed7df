//! `verify`: every entry, hash and signature read again. Only the verifier key is trusted.

use std::path::{Path, PathBuf};

use ledger::verify::{AuditProgress, audit, audit_extends};
use serde_json::{Value, json};

use super::args::{Options, Verify};
use super::error::{CliError, Exit, Outcome, file_error};
use super::ingest::progress_bar;
use super::out::{self, Tone, tone};
use super::source::{Keys, Place, exported};
use crate::clock::monotonic;

/// What is to be checked.
struct Target {
    directory: PathBuf,
    keys: Keys,
}

/// What came of it.
#[derive(Default)]
struct Findings {
    ledgers: Vec<Value>,
    problems: Vec<Value>,
    /// Histories that were rewritten: (ledger, why).
    rewritten: Vec<Value>,
}

pub(crate) fn run(place: &Place, options: &Options, verify: &Verify) -> Outcome {
    let target = target(place, verify)?;
    let mut findings = Findings::default();
    let names = exported(&target.directory)?;
    if names.is_empty() {
        return Err(CliError::usage(format!("{} holds no ledger", target.directory.display())));
    }
    for name in names {
        check(&target, &name, options, &mut findings)?;
    }
    for kept in &verify.since {
        since(&target, kept, options, &mut findings)?;
    }
    let ok = findings.problems.is_empty() && findings.rewritten.is_empty();
    if options.json {
        let problems: Vec<Value> = findings.problems.iter().chain(&findings.rewritten).cloned().collect();
        out::json(&json!({ "ok": ok, "ledgers": findings.ledgers, "problems": problems }));
    } else if ok {
        out::line(tone(Tone::Good, "everything holds"));
    }
    Ok(if ok { Exit::Fine } else { Exit::Damaged })
}

fn target(place: &Place, verify: &Verify) -> Result<Target, CliError> {
    let named = verify.target.as_deref();
    let directory = match named {
        Some(path) => PathBuf::from(path),
        None => place.export.clone().unwrap_or_else(|| place.data.clone()),
    };
    if !directory.is_dir() {
        return Err(CliError::usage(format!(
            "{} is no directory; `govledger init` makes a data directory, `govledger export` an export",
            directory.display()
        )));
    }
    let keys = if place.vkey.is_empty() && directory.join("keys").is_dir() {
        Keys::of_data(&directory)?
    } else {
        Keys::read(&place.vkey)?
    };
    Ok(Target { directory, keys })
}

fn check(target: &Target, name: &str, options: &Options, findings: &mut Findings) -> Result<(), CliError> {
    let began = monotonic();
    let bar = progress_bar("verifying");
    let progress = |progress: AuditProgress| {
        bar.set_length(progress.size);
        bar.set_position(progress.entries_checked);
    };
    let report = audit(&target.directory.join(name), &target.keys.of_ledger(name)?, &progress)?;
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    findings.ledgers.push(json!({ "ledger": name, "size": report.size, "root": report.root.to_string(), "entries_checked": report.entries_checked, "seconds": seconds }));
    for problem in &report.problems {
        findings.problems.push(json!({ "ledger": name, "file": problem.file.display().to_string(), "offset": problem.offset, "problem": problem.kind.to_string() }));
    }
    if !options.json {
        let verdict = if report.is_ok() {
            tone(Tone::Good, "ok")
        } else {
            tone(Tone::Bad, &format!("{} problems", report.problems_found))
        };
        out::line(format!(
            "{name}: {verdict}, {} of {} entries checked in {seconds:.2} s, root {}",
            report.entries_checked, report.size, report.root
        ));
        for problem in &report.problems {
            out::line(format!("  {problem}"));
        }
    }
    Ok(())
}

/// Proves that a ledger extends the checkpoint that somebody kept.
fn since(target: &Target, kept: &Path, options: &Options, findings: &mut Findings) -> Result<(), CliError> {
    let text = std::fs::read_to_string(kept).map_err(file_error(kept))?;
    let origin = text.lines().next().unwrap_or_default();
    let key = target.keys.of_origin(origin)?;
    let name = key.name().rsplit_once('/').map_or_else(|| key.name().to_owned(), |(_, name)| name.to_owned());
    match audit_extends(&target.directory.join(&name), &text, &key) {
        Ok(report) => {
            if !options.json {
                out::line(format!(
                    "{name}: {} the {} entries of {}: nothing of them was changed",
                    tone(Tone::Good, "extends"),
                    report.old_size,
                    kept.display()
                ));
            }
        }
        Err(error @ (ledger::Error::Verify(_) | ledger::Error::Damage(_))) => {
            let problem = format!("it does not extend the checkpoint kept in {}: {error}", kept.display());
            if !options.json {
                out::line(format!("{name}: {}: {problem}", tone(Tone::Bad, "rewritten")));
            }
            findings.rewritten.push(json!({ "ledger": name, "file": kept.display().to_string(), "problem": problem }));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

//! `verify`: every entry, hash and signature read again. Only the verifier key is trusted.

mod cuts;
mod remote;
mod trust;

use std::path::{Path, PathBuf};

use ledger::verify::{AuditProgress, audit, audit_extends};
use serde_json::{Value, json};

use super::args::{Options, Verify};
use super::error::{CliError, Exit, Outcome, file_error};
use super::ingest::progress_bar;
use super::out::{self, Tone, tone};
use super::source::{Client, Keys, Place, exported};
use crate::clock::monotonic;

/// What is to be checked.
struct Target {
    directory: PathBuf,
    keys: Keys,
    /// Removed at the end.
    _fetched: Option<remote::Fetched>,
}

/// What came of it.
#[derive(Default)]
struct Findings {
    ledgers: Vec<Value>,
    problems: Vec<Value>,
    /// Histories that were rewritten: (ledger, why).
    rewritten: Vec<Value>,
    /// Cosignatures that are missing or do not hold.
    untrusted: Vec<Value>,
    /// What the cosignatures come to, where a trust policy was given.
    trust: Option<Value>,
}

pub(crate) fn run(place: &Place, options: &Options, verify: &Verify) -> Outcome {
    let target = target(place, verify)?;
    let mut findings = Findings::default();
    let names = exported(&target.directory)?;
    if names.is_empty() {
        return Err(CliError::usage(format!("{} holds no ledger", target.directory.display())));
    }
    all(&target, &names, &verify.since, options, &mut findings)?;
    trust::check(&target, verify, options, &mut findings)?;
    let is_whole = findings.problems.is_empty() && findings.rewritten.is_empty();
    let ok = is_whole && findings.untrusted.is_empty();
    if options.json {
        let problems = findings.problems.iter().chain(&findings.rewritten).chain(&findings.untrusted);
        let problems: Vec<Value> = problems.cloned().collect();
        let mut answer = json!({ "ok": ok, "ledgers": findings.ledgers, "problems": problems });
        if let Some(trust) = findings.trust {
            answer["trust"] = trust;
        }
        out::json(&answer);
    } else if ok {
        out::line(tone(Tone::Good, "everything holds"));
    }
    Ok(match (is_whole, ok) {
        (false, _) => Exit::Damaged,
        (true, false) => Exit::No,
        (true, true) => Exit::Fine,
    })
}

/// Every ledger, then whether they belong together, then whether they extend what was kept.
fn all(
    target: &Target,
    names: &[String],
    kept: &[PathBuf],
    options: &Options,
    findings: &mut Findings,
) -> Result<(), CliError> {
    for name in names {
        check(target, name, options, findings)?;
    }
    // Where a ledger is damaged, what its cuts say is not worth comparing.
    if findings.problems.is_empty() {
        together(target, names, options, findings)?;
    }
    kept.iter().try_for_each(|kept| since(target, kept, options, findings))
}

/// The same for a directory that a command made: the ledgers where all holds; an error that names the first problem otherwise, with
/// exit code 3 where the ledgers are damaged and 1 where they do not extend what was kept.
pub(super) fn whole(directory: &Path, keys: Keys, kept: &[PathBuf], options: &Options) -> Result<Vec<Value>, CliError> {
    let target = Target { directory: directory.to_owned(), keys, _fetched: None };
    let mut findings = Findings::default();
    all(&target, &exported(directory)?, kept, options, &mut findings)?;
    let problems = findings.problems.iter().map(|problem| (Exit::Damaged, problem));
    match problems.chain(findings.rewritten.iter().map(|problem| (Exit::No, problem))).next() {
        Some((exit, problem)) => {
            Err(CliError::new(exit, format!("{}: {}", out::text(&problem["ledger"]), out::text(&problem["problem"]))))
        }
        None => Ok(findings.ledgers),
    }
}

fn target(place: &Place, verify: &Verify) -> Result<Target, CliError> {
    let named = verify.target.as_deref();
    let url = named.filter(|named| named.starts_with("http://") || named.starts_with("https://"));
    if let Some(url) = url.or(place.server.as_deref().filter(|_| named.is_none())) {
        let keys = Keys::read(&place.vkey)?;
        let fetched = remote::Fetched::from(&Client::new(url, place.token()?), &keys)?;
        return Ok(Target { directory: fetched.directory().to_owned(), keys, _fetched: Some(fetched) });
    }
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
    let own_keys = place.vkey.is_empty() && directory.join("keys").is_dir();
    let keys = if own_keys { Keys::of_data(&directory)? } else { Keys::read(&place.vkey)? };
    Ok(Target { directory, keys, _fetched: None })
}

/// Whether the cuts of governance fit the metrics ledgers.
fn together(target: &Target, names: &[String], options: &Options, findings: &mut Findings) -> Result<(), CliError> {
    let (cuts, wrong) = cuts::compare(&target.directory, names, &target.keys)?;
    if !options.json && wrong.is_empty() && cuts > 0 {
        out::line(format!("cuts: {}, all {cuts} name roots that the metrics ledgers have", tone(Tone::Good, "ok")));
    }
    for (ledger, problem) in wrong {
        if !options.json {
            out::line(format!("{ledger}: {}: {problem}", tone(Tone::Bad, "does not fit")));
        }
        findings.problems.push(json!({ "ledger": ledger, "problem": problem }));
    }
    Ok(())
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

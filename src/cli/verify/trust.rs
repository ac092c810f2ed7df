//! Whether a checkpoint that the verified ledger contains was cosigned by those whom a trust policy demands.

use std::path::{Path, PathBuf};

use ledger::cosigned::cosigned_path;
use ledger::disk::OsDisk;
use ledger::note::{NoteError, VerifierKey};
use ledger::trust::{Cosigner, Weighed};
use ledger::verify::{ExtendsReport, audit_extends};
use ledger::{KeyChain, SignedCheckpoint, TrustPolicy};
use serde_json::{Value, json};

use super::{Findings, Target};
use crate::cli::args::{Options, Verify};
use crate::cli::error::{CliError, file_error};
use crate::cli::out::{self, Tone, tone};
use crate::domain::time::Time;

/// The ledger whose checkpoints are cosigned; its cuts name the roots of the others.
const LEDGER: &str = "governance";
/// The end of the year 9999: a witness may state any time.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Reads policy and cosigned checkpoint, and adds what does not hold to the findings.
pub(super) fn check(
    target: &Target,
    verify: &Verify,
    options: &Options,
    findings: &mut Findings,
) -> Result<(), CliError> {
    let Some(file) = &verify.trust else { return Ok(()) };
    let policy = TrustPolicy::parse(&std::fs::read(file).map_err(file_error(file))?)
        .map_err(|error| CliError::usage(format!("{}: {error}", file.display())))?;
    let path = verify.cosigned.clone().unwrap_or_else(|| cosigned_path(&target.directory.join(LEDGER)));
    if verify.cosigned.is_none() && !path.exists() {
        let missing = policy.shortfalls(&std::collections::BTreeSet::new());
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        if !missing.is_empty() {
            let problem = format!("it has no cosigned checkpoint ({}): {}", path.display(), missing.join("; "));
            untrusted(&problem, &missing, options, findings);
        }
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).map_err(file_error(&path))?;
    match weigh(target, &policy, &text)? {
        Ok((report, weighed)) => {
            say(&policy, report, &weighed, &path, options, findings);
            Ok(())
        }
        Err(Wrong::Other(problem)) => {
            let problem = format!("the cosigned checkpoint in {} does not hold: {problem}", path.display());
            untrusted(&problem, &[], options, findings);
            Ok(())
        }
        Err(Wrong::Rewritten(error)) => {
            let problem = format!("it does not extend the cosigned checkpoint in {}: {error}", path.display());
            if !options.json {
                out::line(format!("{LEDGER}: {}: {problem}", tone(Tone::Bad, "rewritten")));
            }
            findings.rewritten.push(json!({ "ledger": LEDGER, "problem": problem }));
            Ok(())
        }
    }
}

/// Why a cosigned checkpoint counts for nothing.
enum Wrong {
    /// It is signed by the ledger's key, and of another history.
    Rewritten(ledger::Error),
    /// It is not this ledger's, or a signature on it does not hold.
    Other(String),
}

/// What the cosignatures come to, on a checkpoint that the ledger extends; or why it counts for nothing.
fn weigh(
    target: &Target,
    policy: &TrustPolicy,
    text: &str,
) -> Result<Result<(ExtendsReport, Weighed), Wrong>, CliError> {
    let directory = target.directory.join(LEDGER);
    let key = target.keys.of_ledger(LEDGER)?;
    let report = match audit_extends(&directory, text, &key) {
        Ok(report) => report,
        Err(error @ (ledger::Error::Verify(_) | ledger::Error::Damage(_))) => return Ok(Err(Wrong::Rewritten(error))),
        Err(ledger::Error::Note(error)) => return Ok(Err(Wrong::Other(error.to_string()))),
        Err(error) => return Err(error.into()),
    };
    let keys = KeyChain::load(&OsDisk, &directory, &key)?;
    let is_listed = |key: &VerifierKey| policy.logs().iter().any(|log| log.key == *key);
    if !policy.logs().is_empty() && !keys.keys().any(is_listed) {
        return Ok(Err(Wrong::Other(format!("the trust policy names other logs, and not {key}"))));
    }
    let weighed: Result<Weighed, NoteError> =
        SignedCheckpoint::parse(text).and_then(|signed| policy.weigh(&signed, keys.key_at(signed.size())));
    Ok(weighed.map(|weighed| (report, weighed)).map_err(|error| Wrong::Other(error.to_string())))
}

fn say(
    policy: &TrustPolicy,
    report: ExtendsReport,
    weighed: &Weighed,
    path: &Path,
    options: &Options,
    findings: &mut Findings,
) {
    let quorum = policy.quorum().unwrap_or(ledger::trust::NO_QUORUM);
    let cosigners: Vec<Value> =
        weighed.cosigners.iter().map(|by| json!({ "name": by.name, "time": when(by) })).collect();
    findings.trust = Some(json!({
        "ledger": LEDGER, "size": report.old_size, "of": report.size, "quorum": quorum, "cosigners": cosigners, "met": weighed.is_met()
    }));
    let by: Vec<String> = weighed.cosigners.iter().map(|by| format!("{} at {}", by.name, when(by))).collect();
    let by = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
    let cosigned = format!("{} of {} entries are cosigned by {by}", report.old_size, report.size);
    if weighed.is_met() {
        if !options.json {
            out::line(format!("{LEDGER}: {}, {cosigned}; quorum {quorum} is met", tone(Tone::Good, "trusted")));
        }
        return;
    }
    let missing: Vec<String> = weighed.shortfalls.iter().map(ToString::to_string).collect();
    let problem = format!("{}: {cosigned}; {}", path.display(), missing.join("; "));
    untrusted(&problem, &missing, options, findings);
}

/// Notes what does not hold. The ledger itself may be whole: so it is no damage.
fn untrusted(problem: &str, missing: &[String], options: &Options, findings: &mut Findings) {
    if !options.json {
        out::line(format!("{LEDGER}: {}: {problem}", tone(Tone::Bad, "not trusted")));
    }
    findings.untrusted.push(json!({ "ledger": LEDGER, "problem": problem, "missing": missing }));
}

/// When a witness says that it cosigned.
fn when(cosigner: &Cosigner) -> String {
    let seconds = i64::try_from(cosigner.time_s).ok().filter(|seconds| *seconds <= SECONDS_MAX);
    seconds.map_or_else(|| cosigner.time_s.to_string(), |seconds| Time::from_seconds(seconds).to_string())
}

/// Where a fetched ledger's cosigned checkpoint goes.
pub(super) fn place(directory: &Path) -> PathBuf {
    cosigned_path(&directory.join(LEDGER))
}

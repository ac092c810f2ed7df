//! One submission: `POST <prefix>/add-checkpoint`, and what the answer means.

use ledger::note::{Note, VerifierKey};
use ledger::{Reader, SignedCheckpoint};

use super::alarms::WitnessCode;
use crate::notify::client::{Answered, Client};

/// Answers that the witness holds another size, in a row: it may be asked by others too, and none of them for long.
const ATTEMPTS_MAX: u32 = 4;
/// What a 409 has to say that its body is.
const SIZE_TYPE: &str = "text/x.tlog.size";

/// What came of asking a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// It cosigned: its line, verified.
    Signed {
        /// The signature line.
        line: String,
        /// When, as it says.
        time_s: u64,
    },
    /// It holds a checkpoint between the target and the present.
    Ahead {
        /// Its size.
        held: u64,
    },
    /// What is not to be tried again before somebody looked.
    Alarm {
        /// What it is.
        code: WitnessCode,
        /// What was asked and answered.
        detail: String,
    },
    /// Nothing for now.
    Failed {
        /// Why.
        reason: String,
        /// When it wants to be asked again.
        retry_after: Option<String>,
    },
}

/// Submits `target`, from the size that the witness is thought to hold.
pub(super) fn ask(client: &Client, key: &VerifierKey, held: u64, target: &SignedCheckpoint, reader: &Reader) -> Asked {
    // It may be thought to hold more than this target: what it signed last is then asked about first.
    let mut old = held.min(target.size());
    for _ in 0..ATTEMPTS_MAX {
        let body = match body(old, target, reader) {
            Ok(body) => body,
            Err(error) => return failed(format!("no consistency proof from {old}: {error}")),
        };
        let answer = match client.exchange("text/plain; charset=utf-8", &[], body.as_bytes()) {
            Ok(answer) => answer,
            Err(reason) => return failed(reason),
        };
        match answer.status {
            200 => return signed(&answer, key, target, reader),
            409 => match size_held(&answer) {
                None => return alarm(WitnessCode::Conflict, old, target, &answer),
                Some(size) if size > reader.size() => {
                    return alarm(WitnessCode::Ahead, old, target, &answer);
                }
                Some(size) if size > target.size() => return Asked::Ahead { held: size },
                Some(size) if size == old => {
                    return failed(format!("409: it holds {size}, and refuses a proof from there"));
                }
                Some(size) => old = size,
            },
            422 => return alarm(WitnessCode::Fork, old, target, &answer),
            403 => return refused(&answer, "it does not trust the key of this ledger's checkpoints"),
            404 => return refused(&answer, &format!("it does not know the origin {}", target.origin())),
            _ => return refused(&answer, "it did not sign"),
        }
    }
    failed("409: the size that it holds changes as fast as it is asked".to_owned())
}

/// What is posted. From nothing there is nothing to prove.
fn body(old: u64, target: &SignedCheckpoint, reader: &Reader) -> Result<String, ledger::Error> {
    let mut body = format!("old {old}\n");
    if old > 0 {
        for hash in reader.consistency_proof(old, target.size())? {
            body.push_str(&hash.to_string());
            body.push('\n');
        }
    }
    // Signatures of other witnesses are theirs to know; the ledger's own is the first.
    let own = ledger_alone(target);
    Ok(body + "\n" + &own)
}

/// The checkpoint with the ledger's own signature alone.
fn ledger_alone(target: &SignedCheckpoint) -> String {
    let signature = Note::parse(target.text().as_bytes()).ok().and_then(|note| note.signatures().first().cloned());
    let line = signature.map_or_else(String::new, |signature| format!("{signature}\n"));
    format!("{}\n{line}", target.body())
}

/// The size that a 409 names.
fn size_held(answer: &Answered) -> Option<u64> {
    let kind = answer.content_type.as_deref()?.split(';').next()?.trim();
    let digits = answer.body.strip_suffix('\n').unwrap_or(&answer.body);
    let is_size = kind == SIZE_TYPE && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_size { digits.parse().ok() } else { None }
}

/// Looks for a line by the witness's key among those that it answered, and verifies it. Others are passed over.
fn signed(answer: &Answered, key: &VerifierKey, target: &SignedCheckpoint, reader: &Reader) -> Asked {
    let keys = reader.keys();
    for line in answer.body.lines() {
        let mut candidate = target.clone();
        if candidate.add_signature(line).is_err() {
            continue;
        }
        match candidate.verify_with(keys.key_at(target.size()), std::slice::from_ref(key)) {
            Ok(found) => {
                if let Some(time_s) = found.first().and_then(|signature| signature.time) {
                    return Asked::Signed { line: line.to_owned(), time_s };
                }
            }
            Err(error) => return failed(format!("200 with a signature line that does not hold: {error}")),
        }
    }
    failed(format!("200 without a signature line by the policy's key {key}: {}", answer.reason()))
}

fn alarm(code: WitnessCode, old: u64, target: &SignedCheckpoint, answer: &Answered) -> Asked {
    let detail = format!(
        "{}: of {} with root {}, from {old}, it answered {} {:?}",
        code.says(),
        target.size(),
        target.root(),
        answer.status,
        answer.reason()
    );
    Asked::Alarm { code, detail }
}

fn refused(answer: &Answered, what: &str) -> Asked {
    let reason = format!("{}: {what}: {}", answer.status, answer.reason());
    Asked::Failed { reason: reason.trim_end_matches([':', ' ']).to_owned(), retry_after: answer.retry_after.clone() }
}

fn failed(reason: String) -> Asked {
    Asked::Failed { reason, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_409_of_the_right_kind_names_a_size() {
        let check = |content_type: Option<&str>, body: &str, size: Option<u64>| {
            let content_type = content_type.map(str::to_owned);
            let answer = Answered { status: 409, content_type, retry_after: None, body: body.to_owned() };
            assert_eq!(size_held(&answer), size, "{answer:?}");
        };
        check(Some(SIZE_TYPE), "42\n", Some(42));
        check(Some("text/x.tlog.size; charset=utf-8"), "0\n", Some(0));
        check(Some(SIZE_TYPE), "", None);
        check(Some(SIZE_TYPE), "+42\n", None);
        check(Some(SIZE_TYPE), "4\n2\n", None);
        check(Some("text/html"), "42\n", None);
        check(None, "42\n", None);
    }
}

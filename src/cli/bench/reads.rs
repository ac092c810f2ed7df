//! Past states, the rebuild of all projections from nothing, and the full audit.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::intake::{Node, STACK};
use super::report::Report;
use super::{CliError, failed, rate};
use crate::clock::monotonic;
use crate::domain::metric::TimeFields;
use crate::projection::answers::Asked;
use crate::sequencer::{Cache, Core, DataDir};

/// Past positions asked for, evenly over the ledger.
const POSITIONS: u64 = 16;
/// Rounds of audit and hashing.
const AUDIT_ROUNDS: usize = 3;
/// Hashing alone is measured on so many entries of this many bytes.
const HASHED: usize = 1 << 18;
const ENTRY_BYTES: usize = 520;

/// As-of answers.
pub(super) fn measure(node: &Node, report: &mut Report) -> Result<(), CliError> {
    let shared = node.handle.shared();
    let size = shared.governance().size;
    let questions = [
        ("last-good", Asked::LastGood { stack: STACK.to_owned(), not_current: false, strict: false }),
        ("the rules' figures", Asked::Slo { stack: STACK.to_owned() }),
    ];
    for (name, question) in &questions {
        let mut worst = 0.0_f64;
        for step in 1..=POSITIONS {
            let began = monotonic();
            // Some of these positions come before the stack was heard of; that is an answer too.
            let _ = shared.answer_at(question, (size * step / POSITIONS).max(1))?;
            worst = worst.max(began.elapsed().as_secs_f64() * 1e3);
        }
        let work = format!("{name} as of a past position, slowest of {POSITIONS}");
        report.at_most(&work, worst, "ms", Some(50.0));
    }
    Ok(())
}

/// Folds everything from nothing.
pub(super) fn rebuild(data: &Path, intake: f64, report: &mut Report) -> Result<(), CliError> {
    let data_dir = DataDir::open(data)?;
    Cache::delete(&data_dir.root().join("cache"))?;
    let began = monotonic();
    let core = Core::open(data_dir, TimeFields::default())?;
    let took = began.elapsed();
    let entries = core.shared().metrics().values().map(|state| state.size).sum();
    report.share("rebuild of all projections from nothing", rate(entries, took), intake, "file intake", Some(1.0));
    Ok(())
}

/// Reads and hashes everything again.
pub(super) fn verify(data: &Path, report: &mut Report) -> Result<(), CliError> {
    let data_dir = DataDir::open(data)?;
    let key = data_dir.verifier_key("metrics-0")?;
    let (mut ours, mut alone) = (0.0_f64, 0.0_f64);
    // By turns, and the best of each, since a processor that others use too gives now more and now less.
    for _ in 0..AUDIT_ROUNDS {
        let began = monotonic();
        let audit = ledger::verify::audit(&data_dir.ledger_dir("metrics-0"), &key, &|_| {}).map_err(failed)?;
        ours = ours.max(rate(audit.entries_checked, began.elapsed()));
        if !audit.is_ok() {
            return Err(failed(format!("the audit found {} problems", audit.problems_found)));
        }
        alone = alone.max(hashing());
    }
    report.share("full audit", ours, alone, "leaf and node hashing alone, all cores", Some(0.8));
    Ok(())
}

/// Leaf and node hashes a second, all cores.
fn hashing() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (leaf, node) = ([7_u8; ENTRY_BYTES], [1_u8; 65]);
    let began = monotonic();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                for _ in 0..HASHED {
                    std::hint::black_box(Sha256::digest(std::hint::black_box(leaf)));
                    std::hint::black_box(Sha256::digest(std::hint::black_box(node)));
                }
            });
        }
    });
    rate((HASHED * cores) as u64, began.elapsed())
}

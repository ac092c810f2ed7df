//! The full check of a directory: what it reports, and which kind of directory it is.

use std::{path::Path, sync::Arc};

use super::{export_audit::audit_export, ledger_audit::audit_ledger};
use crate::{
    disk::{Disk, OsDisk},
    error::{Damage, Error, IoContext as _},
    hash::Hash,
    layout::check_is_ledger,
    note::VerifierKey,
};

/// Something that is not what was once durable and signed: where, and what.
pub type Problem = Damage;

/// Problems kept in a report. One fault rarely makes more than a few; a directory that is wrong all over
/// need not be listed byte by byte.
pub const PROBLEMS_MAX: usize = 1_000;

/// How far an audit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditProgress {
    /// Entries checked so far.
    pub entries_checked: u64,
    /// Entries that the ledger says it has.
    pub size: u64,
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// The size that the signed head states; without one, the size that was found.
    pub size: u64,
    /// The root that goes with it.
    pub root: Hash,
    /// Entries whose bytes were read and hashed into the tree.
    pub entries_checked: u64,
    /// What is wrong, by position; at most [`PROBLEMS_MAX`] are listed.
    pub problems: Vec<Problem>,
    /// How many were found in all.
    pub problems_found: u64,
}

impl AuditReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems_found == 0
    }

    pub(super) fn new(size: u64, root: Hash) -> Self {
        Self { size, root, entries_checked: 0, problems: Vec::new(), problems_found: 0 }
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problems_found += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// What is called when a part of the audit is done, from one thread at a time.
pub type OnProgress<'a> = &'a (dyn Fn(AuditProgress) + Sync);

/// Checks everything in a ledger's directory, or in an export: every entry, hash, checkpoint and signature,
/// on all cores. Only the key is trusted. What is wrong is in the report; an error is returned only where
/// nothing can be read at all, or where the ledger is not the key's.
pub fn audit(dir: &Path, key: &VerifierKey, progress: OnProgress<'_>) -> Result<AuditReport, Error> {
    audit_on(&(Arc::new(OsDisk) as Arc<dyn Disk>), dir, key, progress)
}

/// [`audit`] on a disk of the caller's.
pub fn audit_on(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    key: &VerifierKey,
    progress: OnProgress<'_>,
) -> Result<AuditReport, Error> {
    if is_export(disk.as_ref(), dir)? {
        audit_export(disk, dir, key, progress)
    } else {
        check_is_ledger(disk.as_ref(), dir)?;
        audit_ledger(disk, dir, key, progress)
    }
}

/// Whether a directory is an export: it has a checkpoint of its own, or tiles.
pub(super) fn is_export(disk: &dyn Disk, dir: &Path) -> Result<bool, Error> {
    let has = |name: &str| Ok::<_, Error>(disk.stat(&dir.join(name)).at("examine", dir)?.is_some());
    Ok(!has("segments")? && (has("checkpoint")? || has("tile")?))
}

/// An error met while checking becomes a problem where it is damage; others end the audit.
pub(super) fn as_problem(error: Error) -> Result<Problem, Error> {
    if let Error::Damage(damage) = error { Ok(*damage) } else { Err(error) }
}

/// How many threads an audit uses.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

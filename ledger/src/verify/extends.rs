//! Checking that a ledger has only grown since somebody kept a checkpoint of it.

use std::{path::Path, sync::Arc};

use super::{audit::is_export, consistency};
use crate::{
    chain::KeyChain,
    disk::{Disk, OsDisk},
    error::Error,
    export::ExportReader,
    hash::Hash,
    note::VerifierKey,
    reader::Reader,
    source::EntrySource,
};

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendsReport {
    /// The size that was kept.
    pub old_size: u64,
    /// The root that was kept.
    pub old_root: Hash,
    /// The size now.
    pub size: u64,
    /// The root now.
    pub root: Hash,
}

/// Checks that the ledger or export in `dir` extends the tree of a checkpoint that was kept: the old
/// checkpoint is signed by the key, so is the one now, and a consistency proof leads from one to the other.
/// A ledger that was written anew, by the same key even, fails with [`super::VerifyError`].
///
/// What the proof is made of is stored hashes; that the entries are those of the present root is for
/// [`super::audit()`] to say.
pub fn audit_extends(dir: &Path, old_checkpoint: &str, key: &VerifierKey) -> Result<ExtendsReport, Error> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    // Whichever key of the chain signed for that many entries.
    let old = KeyChain::load(disk.as_ref(), dir, key)?.checkpoint(old_checkpoint)?;
    let source: Box<dyn EntrySource> = if is_export(disk.as_ref(), dir)? {
        Box::new(ExportReader::open_on(disk, dir, key)?)
    } else {
        Box::new(Reader::open_on(disk, dir, key)?)
    };
    let (size, root) = (source.size(), source.root());
    let report = ExtendsReport { old_size: old.size(), old_root: old.root(), size, root };
    if old.size() > size {
        return Err(super::VerifyError::Order { old: old.size(), new: size }.into());
    }
    let proof = source.consistency_proof(old.size(), size)?;
    consistency(old.size(), &old.root(), size, &root, &proof)?;
    Ok(report)
}

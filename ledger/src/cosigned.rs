//! The cosigned checkpoint that is kept beside a ledger.
//!
//! It is the ledger's own checkpoint of some size, with signature lines of witnesses added, in the file `checkpoint.cosigned` of
//! the ledger's directory and of an export. Nothing depends on it: opening, appending and recovering never look at it, and where
//! it is lost the witnesses sign again what the ledger has. It is put in place whole: a crash before the rename leaves the one
//! before (and a file `checkpoint.cosigned.tmp`, written over next time); a crash after it, either of the two.
//!
//! Out of scope: whether the witnesses are the right ones. See [`crate::trust`].

use std::path::{Path, PathBuf};

use crate::{
    chain::KeyChain,
    checkpoint::SignedCheckpoint,
    disk::{Disk, OsDisk, read_file, write_file},
    error::{Error, IoContext as _},
    note::{NOTE_BYTES_MAX, NoteError},
};

/// The file's name.
pub const COSIGNED: &str = "checkpoint.cosigned";

/// Where it lies.
pub fn cosigned_path(dir: &Path) -> PathBuf {
    dir.join(COSIGNED)
}

/// Keeps a cosigned checkpoint in the place of the one before, durably.
pub fn keep_cosigned(dir: &Path, checkpoint: &SignedCheckpoint) -> Result<(), Error> {
    keep_on(&OsDisk, dir, checkpoint)
}

pub(crate) fn keep_on(disk: &dyn Disk, dir: &Path, checkpoint: &SignedCheckpoint) -> Result<(), Error> {
    let path = cosigned_path(dir);
    write_file(disk, &path, checkpoint.text().as_bytes()).at("write", &path)
}

/// The one that is kept, where there is one: signed by the ledger's key of its size. Cosignatures are not checked here.
pub fn load_cosigned(dir: &Path, keys: &KeyChain) -> Result<Option<SignedCheckpoint>, Error> {
    load_on(&OsDisk, dir, keys)
}

pub(crate) fn load_on(disk: &dyn Disk, dir: &Path, keys: &KeyChain) -> Result<Option<SignedCheckpoint>, Error> {
    let path = cosigned_path(dir);
    if disk.stat(&path).at("examine", &path)?.is_none() {
        return Ok(None);
    }
    let bytes = read_file(disk, &path, NOTE_BYTES_MAX).at("read", &path)?;
    let text = str::from_utf8(&bytes).map_err(|_error| NoteError::Text)?;
    Ok(Some(keys.checkpoint(text)?))
}

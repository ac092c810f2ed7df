//! Restoring a backup: all of it, or nothing.
//!
//! Files go to `.NAME.partial` beside the directory, each compared before it is kept and synced; then that directory gets its
//! name. A crash leaves the partial one, whose whole files the next run keeps after hashing them again. That run may be of
//! another backup: what its manifest does not name is removed before anything is fetched. The directory is locked for as long
//! as it is worked on, so that no two restores fill it at once; the lock ends with the process.

use std::collections::BTreeSet;
use std::fs::{self, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::{BackupError, at};
use super::manifest::{File, Manifest, hex};
use super::target::Target;
use super::{CHUNK_BYTES, Progress};

/// Puts every file of a backup under `into`, which must not exist.
pub async fn restore(
    manifest: &Manifest,
    target: &Target,
    into: &Path,
    progress: &Progress<'_>,
) -> Result<(), BackupError> {
    Fetched::of(manifest, target, into, progress).await?.settle()
}

/// Every file of a backup, compared and synced, in the partial directory: to be looked at before it counts.
#[derive(Debug)]
pub struct Fetched {
    partial: PathBuf,
    into: PathBuf,
    /// The partial directory, open: the lock on it goes with this.
    _locked: fs::File,
}

impl Fetched {
    /// Fetches what an earlier run has not left there.
    pub async fn of(
        manifest: &Manifest,
        target: &Target,
        into: &Path,
        progress: &Progress<'_>,
    ) -> Result<Self, BackupError> {
        let into = std::path::absolute(into).map_err(at(into))?;
        if fs::symlink_metadata(&into).is_ok() {
            return Err(BackupError::Exists { path: into });
        }
        let partial = partial(&into);
        fs::create_dir_all(&partial).map_err(at(&partial))?;
        let locked = lock(&partial, &into)?;
        keep_only(manifest, &partial)?;
        for file in &manifest.files {
            fetch(file, target, &partial, progress).await?;
        }
        sync_directories(&partial, manifest)?;
        Ok(Self { partial, into, _locked: locked })
    }

    /// Where the files are until then.
    pub fn directory(&self) -> &Path {
        &self.partial
    }

    /// Gives the directory its name.
    pub fn settle(self) -> Result<(), BackupError> {
        fs::rename(&self.partial, &self.into).map_err(at(&self.into))?;
        sync(self.into.parent().unwrap_or(Path::new("/")))
    }
}

/// Removes what a restore into `into` that did not come to its end left.
pub fn discard(into: &Path) -> Result<(), BackupError> {
    let partial = partial(&std::path::absolute(into).map_err(at(into))?);
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&partial)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn partial(into: &Path) -> PathBuf {
    let name = into.file_name().unwrap_or_default().to_string_lossy();
    into.with_file_name(format!(".{name}.partial"))
}

fn lock(partial: &Path, into: &Path) -> Result<fs::File, BackupError> {
    let opened = fs::File::open(partial).map_err(at(partial))?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => Err(BackupError::UnderWay { path: into.to_owned() }),
        Err(TryLockError::Error(error)) => Err(at(partial)(error)),
    }
}

/// Removes what an earlier run left that is no file of this backup: those of another one, and what it had begun to write.
fn keep_only(manifest: &Manifest, partial: &Path) -> Result<(), BackupError> {
    let files: BTreeSet<PathBuf> = manifest.files.iter().map(|file| partial.join(&file.name)).collect();
    let directories: BTreeSet<&Path> = files.iter().flat_map(|file| file.ancestors().skip(1)).collect();
    remove_others(partial, &files, &directories)
}

fn remove_others(within: &Path, files: &BTreeSet<PathBuf>, directories: &BTreeSet<&Path>) -> Result<(), BackupError> {
    for entry in fs::read_dir(within).map_err(at(within))? {
        let entry = entry.map_err(at(within))?;
        let path = entry.path();
        // Of the entry itself: a link is neither, wherever it points.
        let kind = entry.file_type().map_err(at(&path))?;
        if kind.is_dir() && directories.contains(path.as_path()) {
            remove_others(&path, files, directories)?;
        } else if kind.is_dir() {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        } else if !(kind.is_file() && files.contains(&path)) {
            fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

async fn fetch(file: &File, target: &Target, partial: &Path, progress: &Progress<'_>) -> Result<(), BackupError> {
    let path = partial.join(&file.name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at(parent))?;
    }
    if is_whole(&path, file)? {
        progress(file.bytes);
        return Ok(());
    }
    // No file of a backup can have this name, since a manifest with a backslash in a name is refused.
    let temporary = partial.join(r"fetched\part");
    let mut written = fs::File::create(&temporary).map_err(at(&temporary))?;
    let read = target.read(file, progress, |chunk| written.write_all(chunk).map_err(at(&temporary))).await;
    let found = read.map_err(|error| {
        if let BackupError::Store { url, source: object_store::Error::NotFound { .. } } = error {
            return BackupError::Missing { url, name: file.name.clone(), sha256: file.sha256.clone() };
        }
        error
    })?;
    if found != file.sha256 {
        fs::remove_file(&temporary).map_err(at(&temporary))?;
        return Err(BackupError::Differs {
            url: target.url().to_owned(),
            name: file.name.clone(),
            expected: file.sha256.clone(),
            found,
        });
    }
    written.sync_all().map_err(at(&temporary))?;
    fs::rename(&temporary, &path).map_err(at(&path))
}

/// Whether an earlier run left this file whole.
fn is_whole(path: &Path, file: &File) -> Result<bool, BackupError> {
    let Ok(mut there) = fs::File::open(path) else { return Ok(false) };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; usize::try_from(CHUNK_BYTES).unwrap_or(1 << 20)];
    loop {
        match std::io::Read::read(&mut there, &mut buffer).map_err(at(path))? {
            0 => return Ok(hex(hasher) == file.sha256),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn sync_directories(partial: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let mut directories: Vec<PathBuf> = manifest
        .files
        .iter()
        .flat_map(|file| {
            Path::new(&file.name).ancestors().skip(1).map(|parent| partial.join(parent)).collect::<Vec<_>>()
        })
        .collect();
    directories.sort();
    directories.dedup();
    directories.iter().try_for_each(|directory| sync(directory))
}

fn sync(directory: &Path) -> Result<(), BackupError> {
    fs::File::open(directory).and_then(|opened| opened.sync_all()).map_err(at(directory))
}

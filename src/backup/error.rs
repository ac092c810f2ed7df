//! Why a backup could not be made, read or restored.

use std::path::PathBuf;

/// Each names the file, target or object.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A local file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A symbolic link, where they are refused.
    #[error("{} is a symbolic link; --follow-symlinks backs up what it points to", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Neither file nor directory.
    #[error("{} is neither a file nor a directory", path.display())]
    Special {
        /// What it is called.
        path: PathBuf,
    },
    /// A name that cannot be written down.
    #[error("{} has a name that is not UTF-8, or that no other system could hold", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Nothing to back up.
    #[error("{} holds no file", path.display())]
    Empty {
        /// What was named.
        path: PathBuf,
    },
    /// Two artifacts would have one name.
    #[error("two files would be called {name:?} in the backup; name directories, or files with different names")]
    Twice {
        /// The name.
        name: String,
    },
    /// A target that cannot be used as it was written.
    #[error("target {url:?}: {reason}")]
    Target {
        /// As it was written.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A directory that a target should be, and that is not there.
    #[error("target {url}: {reason}")]
    Away {
        /// The target.
        url: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// What a target answered.
    #[error("target {url}: {source}")]
    Store {
        /// The target.
        url: String,
        /// What it said.
        source: object_store::Error,
    },
    /// A local file that is not what it was when it was hashed.
    #[error("{} hashes to {found}, not to {expected} as before; it changed while it was copied", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// SHA-256 by the manifest.
        expected: String,
        /// SHA-256 of it now.
        found: String,
    },
    /// What was read is not what was written.
    #[error(
        "target {url}: {name} hashes to {found}, not to {expected}; it changed while it was copied, or its object is damaged"
    )]
    Differs {
        /// The target.
        url: String,
        /// The file's name in the backup.
        name: String,
        /// SHA-256 by the manifest.
        expected: String,
        /// SHA-256 of what is there.
        found: String,
    },
    /// An object that is not there.
    #[error("target {url}: {name} is missing: there is no object {sha256}")]
    Missing {
        /// The target.
        url: String,
        /// The file's name in the backup.
        name: String,
        /// SHA-256 by the manifest: the object's name.
        sha256: String,
    },
    /// A manifest that is none, or not the one that was reported.
    #[error("target {url}: the manifest of {backup_id} {reason}")]
    Manifest {
        /// The target.
        url: String,
        /// The backup.
        backup_id: String,
        /// What is wrong.
        reason: String,
    },
    /// The directory to restore into is in use.
    #[error("{} exists already; a restore makes its directory or leaves it alone", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// Another process restores into the same directory.
    #[error("another restore into {} is under way; wait for it, or end it and run this again", path.display())]
    UnderWay {
        /// The directory.
        path: PathBuf,
    },
}

/// An I/O error on `path`.
pub(super) fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> BackupError + use<'_> {
    move |source| BackupError::Io { path: path.to_owned(), source }
}

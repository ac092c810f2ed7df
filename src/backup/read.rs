//! Reading a backup again: every object, compared with the manifest.

use futures_util::{StreamExt as _, stream};

use super::error::BackupError;
use super::manifest::{File, Manifest};
use super::target::Target;
use super::{FILES_AT_ONCE, Progress};

/// A file of a backup that is not as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads every file of a backup; those that are not as the manifest says, by name.
pub async fn check(manifest: &Manifest, target: &Target, progress: &Progress<'_>) -> Vec<Problem> {
    let checked = stream::iter(&manifest.files).map(|file| one(file, target, progress)).buffered(FILES_AT_ONCE);
    checked.filter_map(std::future::ready).collect().await
}

async fn one(file: &File, target: &Target, progress: &Progress<'_>) -> Option<Problem> {
    let problem = match target.read(file, progress, |_| Ok(())).await {
        Ok(found) if found == file.sha256 => return None,
        Ok(found) => format!("hashes to {found}, not to {}", file.sha256),
        Err(BackupError::Store { source: object_store::Error::NotFound { .. }, .. }) => "is missing".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(Problem { name: file.name.clone(), problem })
}

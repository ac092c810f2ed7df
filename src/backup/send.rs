//! Making a backup: every file hashed, then each target filled on its own, so that one that is down holds up no other.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::artifacts::Found;
use super::error::{BackupError, at};
use super::manifest::{File, Manifest, hex};
use super::target::Target;
use super::{FILES_AT_ONCE, Progress, READ_BYTES};

/// What became of a target.
#[derive(Debug)]
pub struct Sent {
    /// The target.
    pub url: String,
    /// SHA-256 of the manifest that lies there now, hex; or why it does not.
    pub manifest_sha256: Result<String, BackupError>,
    /// Files that were not there and were sent.
    pub sent: u64,
    /// Files whose objects were there.
    pub reused: u64,
    /// Names of files whose objects were there damaged, and were put again; they are among those sent.
    pub mended: Vec<String>,
}

impl Sent {
    /// A target that nothing could be sent to.
    pub const fn unusable(url: String, error: BackupError) -> Self {
        Self { url, manifest_sha256: Err(error), sent: 0, reused: 0, mended: Vec::new() }
    }
}

/// Reads and hashes every file, in order.
pub async fn describe(found: &[Found], progress: &Progress<'_>) -> Result<Vec<File>, BackupError> {
    let hashed = stream::iter(found).map(|found| hash(found, progress)).buffered(FILES_AT_ONCE);
    hashed.try_collect().await
}

async fn hash(found: &Found, progress: &Progress<'_>) -> Result<File, BackupError> {
    let mut source = tokio::fs::File::open(&found.path).await.map_err(at(&found.path))?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    loop {
        let chunk = chunk(&mut source, &found.path, READ_BYTES).await?;
        if chunk.is_empty() {
            return Ok(File { name: found.name.clone(), bytes, sha256: hex(hasher) });
        }
        bytes += chunk.len() as u64;
        progress(chunk.len() as u64);
        hasher = blocking(&found.path, move || {
            hasher.update(&chunk);
            hasher
        })
        .await?;
    }
}

/// The next bytes of a local file, `bytes_max` at the most; none at its end.
pub(super) async fn chunk(source: &mut tokio::fs::File, path: &Path, bytes_max: u64) -> Result<Vec<u8>, BackupError> {
    // Allocated once: growing by doubling would hold three times as much at its end, for each part under way.
    let mut chunk = Vec::with_capacity(usize::try_from(bytes_max).unwrap_or_default());
    let mut limited = tokio::io::AsyncReadExt::take(source, bytes_max);
    tokio::io::AsyncReadExt::read_to_end(&mut limited, &mut chunk).await.map_err(at(path))?;
    Ok(chunk)
}

async fn blocking<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| at(path)(std::io::Error::other(error)))
}

/// Fills the targets side by side.
pub async fn send(found: &[Found], manifest: &Manifest, targets: &[Target], progress: &Progress<'_>) -> Vec<Sent> {
    let each = targets.iter().map(|target| async {
        let (sent, reused, mended) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
        let count = |file: &File, copied: Copied| {
            if copied == Copied::Mended {
                mended.lock().unwrap_or_else(PoisonError::into_inner).push(file.name.clone());
            }
            if copied == Copied::Reused { &reused } else { &sent }.fetch_add(1, Ordering::Relaxed);
        };
        let manifest_sha256 = fill(found, manifest, target, progress, &count).await;
        let mut mended = mended.into_inner().unwrap_or_else(PoisonError::into_inner);
        // They ended in whatever order.
        mended.sort();
        let url = target.url().to_owned();
        Sent { url, manifest_sha256, sent: sent.into_inner(), reused: reused.into_inner(), mended }
    });
    futures_util::future::join_all(each).await
}

async fn fill(
    found: &[Found],
    manifest: &Manifest,
    target: &Target,
    progress: &Progress<'_>,
    count: &(dyn Fn(&File, Copied) + Sync),
) -> Result<String, BackupError> {
    let files = stream::iter(found.iter().zip(&manifest.files));
    let copied = files.map(Ok).try_for_each_concurrent(FILES_AT_ONCE, |(found, file)| async move {
        count(file, copy(found, file, target, progress).await?);
        Ok(())
    });
    copied.await?;
    target.put_manifest(manifest).await
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    Sent,
    Reused,
    Mended,
}

/// One file: sent where it is not there, and read again in either case. An object that was there and reads as something else is
/// put once more, or it would be in the way of every later backup with this file.
async fn copy(found: &Found, file: &File, target: &Target, progress: &Progress<'_>) -> Result<Copied, BackupError> {
    let is_there = target.has(file).await?;
    if is_there {
        progress(file.bytes);
        if target.read(file, progress, |_| Ok(())).await? == file.sha256 {
            return Ok(Copied::Reused);
        }
        // What may have been misread is not replaced by a file that is no longer what was hashed.
        let now = hash(found, progress).await?;
        if now.sha256 != file.sha256 {
            let (path, expected) = (found.path.clone(), file.sha256.clone());
            return Err(BackupError::Changed { path, expected, found: now.sha256 });
        }
    }
    target.put(&found.path, file, progress).await?;
    let read = target.read(file, progress, |_| Ok(())).await?;
    if read == file.sha256 {
        return Ok(if is_there { Copied::Mended } else { Copied::Sent });
    }
    Err(BackupError::Differs {
        url: target.url().to_owned(),
        name: file.name.clone(),
        expected: file.sha256.clone(),
        found: read,
    })
}

//! A replication target: objects under their hashes, and manifests.
//!
//! ```text
//! objects/sha256/5b/5bd3c6e1…      a file's content
//! manifests/STACK/BACKUP-ID.json   what a backup holds; written last
//! ```

use std::os::unix::fs::MetadataExt as _;
use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreExt as _, RetryConfig, WriteMultipart};
use sha2::{Digest as _, Sha256};

use super::error::{BackupError, at};
use super::manifest::{File, Manifest, hex};
use super::send::chunk;
use super::{CHUNK_BYTES, Progress, READ_BYTES};

/// How long a request that fails is tried again.
const RETRY_FOR: Duration = Duration::from_secs(30);
const RETRIES_MAX: usize = 6;
/// How long one request may take: a chunk on a slow line.
const REQUEST_TIMEOUT: &str = "120 seconds";
const CONNECT_TIMEOUT: &str = "5 seconds";
/// Parts of one upload under way at once.
const PARTS_AT_ONCE: usize = 2;
/// Parts of an upload at the most, by S3's rules; beyond 80 GB they grow.
const PARTS_MAX: u64 = 9_000;
/// The largest manifest read: a million files.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// Where copies lie.
#[derive(Debug)]
pub struct Target {
    url: String,
    store: Box<dyn ObjectStore>,
    prefix: Path,
}

impl Target {
    /// Opens `file:///DIR`, a plain directory, or `s3://BUCKET/PREFIX`, whose credentials, region and endpoint come from the
    /// `AWS_*` variables. Nothing is made: a directory that is not there holds nothing.
    pub fn open(url: &str) -> Result<Self, BackupError> {
        Self::of(url, |directory, url| {
            if directory.is_dir() {
                return Ok(());
            }
            let reason = format!(
                "there is no directory {}; mount the disk that holds it, or name another target",
                directory.display()
            );
            Err(BackupError::Away { url: url.to_owned(), reason })
        })
    }

    /// Opens a target to fill it: of a directory that is not there the last part is made.
    pub fn open_to_fill(url: &str) -> Result<Self, BackupError> {
        Self::of(url, make_last_part)
    }

    /// Opens a target; `ready` looks at its directory, if it is one.
    fn of(url: &str, ready: impl FnOnce(&FilePath, &str) -> Result<(), BackupError>) -> Result<Self, BackupError> {
        let wrong = |reason: String| BackupError::Target { url: url.to_owned(), reason };
        if let Some(rest) = url.strip_prefix("s3://") {
            let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
            let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| wrong(error.to_string()))?;
            return Ok(Self { url: url.to_owned(), store: Box::new(s3(url)?), prefix });
        }
        let directory = url.strip_prefix("file://").unwrap_or(url);
        if directory.contains("://") {
            return Err(wrong("it is neither a directory, nor file:///DIR, nor s3://BUCKET/PREFIX".to_owned()));
        }
        let directory = std::path::absolute(FilePath::new(directory)).map_err(|error| wrong(error.to_string()))?;
        let url = format!("file://{}", directory.display());
        ready(&directory, &url)?;
        let store = LocalFileSystem::new_with_prefix(&directory).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { url, store: Box::new(store.with_fsync(true)), prefix: Path::default() })
    }

    /// What it is called in reports.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn place(&self, relative: &str) -> Path {
        let parts = self.prefix.parts().map(|part| part.as_ref().to_owned());
        parts.chain(relative.split('/').map(str::to_owned)).collect()
    }

    fn object(&self, sha256: &str) -> Path {
        self.place(&format!("objects/sha256/{}/{sha256}", sha256.get(..2).unwrap_or_default()))
    }

    fn manifest_place(&self, stack: &str, backup_id: &str) -> Path {
        // A stack's name may hold a slash; `Path` encodes what is given as one part.
        let parts = self.prefix.parts().map(|part| part.as_ref().to_owned());
        parts.chain(["manifests".to_owned(), stack.to_owned(), format!("{backup_id}.json")]).collect()
    }

    fn failed(&self) -> impl FnOnce(object_store::Error) -> BackupError + use<'_> {
        move |source| BackupError::Store { url: self.url.clone(), source }
    }

    /// Whether an object of this content and size is there.
    pub(super) async fn has(&self, file: &File) -> Result<bool, BackupError> {
        match self.store.head(&self.object(&file.sha256)).await {
            Ok(meta) => Ok(meta.size == file.bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed()(error)),
        }
    }

    /// Copies a local file to its object's place, a chunk at a time.
    pub(super) async fn put(&self, path: &FilePath, file: &File, progress: &Progress<'_>) -> Result<(), BackupError> {
        let object = self.object(&file.sha256);
        let mut source = tokio::fs::File::open(path).await.map_err(at(path))?;
        if file.bytes <= CHUNK_BYTES {
            let mut content = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut source, &mut content).await.map_err(at(path))?;
            progress(content.len() as u64);
            return self.store.put(&object, content.into()).await.map(|_| ()).map_err(self.failed());
        }
        let part_bytes = CHUNK_BYTES.max(file.bytes.div_ceil(PARTS_MAX));
        let upload = self.store.put_multipart(&object).await.map_err(self.failed())?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, usize::try_from(part_bytes).unwrap_or(usize::MAX));
        let copied = self.copy(path, &mut source, part_bytes, &mut writer, progress).await;
        match copied {
            Ok(()) => writer.finish().await.map(|_| ()).map_err(self.failed()),
            Err(error) => {
                // What cannot be aborted either is left to the store's own clean-up of unfinished uploads.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    async fn copy(
        &self,
        path: &FilePath,
        source: &mut tokio::fs::File,
        part_bytes: u64,
        writer: &mut WriteMultipart,
        progress: &Progress<'_>,
    ) -> Result<(), BackupError> {
        loop {
            let part = chunk(source, path, part_bytes).await?;
            if part.is_empty() {
                return Ok(());
            }
            progress(part.len() as u64);
            writer.wait_for_capacity(PARTS_AT_ONCE).await.map_err(self.failed())?;
            writer.put(Bytes::from(part));
        }
    }

    /// Reads an object from end to end, a chunk ahead of what is done with it; its SHA-256.
    pub(super) async fn read(
        &self,
        file: &File,
        progress: &Progress<'_>,
        mut each: impl FnMut(&[u8]) -> Result<(), BackupError>,
    ) -> Result<String, BackupError> {
        let object = self.object(&file.sha256);
        let size = self.store.head(&object).await.map_err(self.failed())?.size;
        let range = |from: u64| from..(from + READ_BYTES).min(size);
        let mut hasher = Sha256::new();
        let mut at = 0;
        let mut next =
            if size > 0 { Some(self.store.get_range(&object, range(0)).await.map_err(self.failed())?) } else { None };
        while let Some(chunk) = next.take() {
            at += READ_BYTES;
            let hashing = tokio::task::spawn_blocking({
                let chunk = chunk.clone();
                move || {
                    hasher.update(&chunk);
                    hasher
                }
            });
            if at < size {
                next = Some(self.store.get_range(&object, range(at)).await.map_err(self.failed())?);
            }
            each(&chunk)?;
            progress(chunk.len() as u64);
            hasher = hashing
                .await
                .map_err(|error| BackupError::Target { url: self.url.clone(), reason: error.to_string() })?;
        }
        Ok(hex(hasher))
    }

    /// Writes a manifest and reads it again; its SHA-256.
    pub(super) async fn put_manifest(&self, manifest: &Manifest) -> Result<String, BackupError> {
        let wrong = |reason: String| self.wrong_manifest(&manifest.backup_id, reason);
        let bytes = manifest.bytes().map_err(|error| wrong(error.to_string()))?;
        let place = self.manifest_place(&manifest.stack, &manifest.backup_id);
        self.store.put(&place, bytes.clone().into()).await.map_err(self.failed())?;
        let read = self.store.get(&place).await.map_err(self.failed())?.bytes().await.map_err(self.failed())?;
        if read != bytes {
            return Err(wrong("is not what was written".to_owned()));
        }
        Ok(hex(Sha256::new_with_prefix(&bytes)))
    }

    /// The ids of a stack's backups, oldest first.
    pub async fn backups(&self, stack: &str) -> Result<Vec<String>, BackupError> {
        let parts = self.prefix.parts().map(|part| part.as_ref().to_owned());
        let place: Path = parts.chain(["manifests".to_owned(), stack.to_owned()]).collect();
        let listed = self.store.list_with_delimiter(Some(&place)).await.map_err(self.failed())?;
        let names = listed.objects.iter().filter_map(|object| object.location.filename());
        let mut ids: Vec<String> = names.filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect();
        // An id begins with its time.
        ids.sort();
        Ok(ids)
    }

    /// A manifest that no ledger vouches for: it agrees with itself, and what it lists is for the caller to check.
    pub async fn unreported(&self, stack: &str, backup_id: &str) -> Result<Manifest, BackupError> {
        let bytes = self.manifest_bytes(stack, backup_id).await?;
        Manifest::read(&bytes).map_err(|reason| self.wrong_manifest(backup_id, reason))
    }

    /// The manifest of a backup, as it was reported: its SHA-256 where the report has one, its set's digest otherwise.
    pub async fn manifest(
        &self,
        stack: &str,
        backup_id: &str,
        sha256: Option<&str>,
        verification_hash: &str,
    ) -> Result<Manifest, BackupError> {
        let wrong = |reason: String| self.wrong_manifest(backup_id, reason);
        let bytes = self.manifest_bytes(stack, backup_id).await?;
        let found = hex(Sha256::new_with_prefix(&bytes));
        if let Some(expected) = sha256.filter(|expected| *expected != found) {
            return Err(wrong(format!("hashes to {found}; the ledger says {expected}")));
        }
        let manifest = Manifest::read(&bytes).map_err(wrong)?;
        if manifest.verification_hash != verification_hash {
            return Err(wrong(format!(
                "lists files that hash to {}; the ledger says {verification_hash}",
                manifest.verification_hash
            )));
        }
        Ok(manifest)
    }

    async fn manifest_bytes(&self, stack: &str, backup_id: &str) -> Result<Bytes, BackupError> {
        let got = self.store.get(&self.manifest_place(stack, backup_id)).await.map_err(self.failed())?;
        if got.meta.size > MANIFEST_BYTES_MAX {
            return Err(self.wrong_manifest(backup_id, format!("has {} bytes", got.meta.size)));
        }
        got.bytes().await.map_err(self.failed())
    }

    fn wrong_manifest(&self, backup_id: &str, reason: String) -> BackupError {
        BackupError::Manifest { url: self.url.clone(), backup_id: backup_id.to_owned(), reason }
    }
}

/// Makes the last part of a directory's path, and no more: a disk that is not mounted would otherwise be filled in the place
/// where it is missing, and counted as holding the backup.
fn make_last_part(directory: &FilePath, url: &str) -> Result<(), BackupError> {
    if directory.is_dir() {
        return Ok(());
    }
    let away = |reason: String| BackupError::Away { url: url.to_owned(), reason };
    let parent = directory.parent().unwrap_or(FilePath::new("/"));
    if !parent.is_dir() {
        return Err(away(format!(
            "there is no directory {} to make it in; mount the disk that holds it, or make that directory",
            parent.display()
        )));
    }
    if looks_unmounted(parent).map_err(at(parent))? {
        return Err(away(format!(
            "{} is empty and no disk is mounted there; mount it, or make {} where no disk is missing",
            parent.display(),
            directory.display()
        )));
    }
    std::fs::create_dir(directory).map_err(at(directory))?;
    // The directory itself is as durable as what it is going to hold.
    std::fs::File::open(parent).and_then(|opened| opened.sync_all()).map_err(at(parent))
}

/// Whether a directory is what is left where a disk belongs: empty, and on the same device as the one that holds it.
fn looks_unmounted(directory: &FilePath) -> std::io::Result<bool> {
    let device = std::fs::metadata(directory)?.dev();
    let around = std::fs::metadata(directory.join(".."))?.dev();
    Ok(device == around && std::fs::read_dir(directory)?.next().is_none())
}

fn s3(url: &str) -> Result<impl ObjectStore, BackupError> {
    // reqwest is built without a cryptography library of its own; a second call finds the first one's choice in place.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    AmazonS3Builder::from_env()
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT_TIMEOUT)
        .with_url(url)
        .with_retry(retry)
        .build()
        .map_err(|error| BackupError::Target { url: url.to_owned(), reason: error.to_string() })
}

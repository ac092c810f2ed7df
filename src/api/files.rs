//! Files handed in over HTTP: lines of a growing file, and whole files with their recorded times.
//!
//! A backfill is spooled to the data directory first (its two passes need the files whole), readable by the owner alone and
//! removed when it is done, whatever happened.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::{Extension, Json};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::ApiState;
use super::guard::Caller;
use super::problem::{Kind, Problem};
use super::read::Query;
use super::write::body_of;
use crate::ingest::file::{
    FileIdentity, FileKind, FileSource, Report, append_lines, first_line_sha256, ingest_recorded,
};
use crate::ingest::http::{BodyError, innermost};
use crate::sequencer::SubmitError;

/// The line that lists a backfill's files.
const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Files in one backfill.
const FILES_MAX: usize = 256;
/// A sender that says nothing for so long is gone.
const SILENT_FOR: Duration = Duration::from_secs(30);

/// `POST /v1/files/{first_line_sha256}/lines`.
pub(crate) async fn lines(
    State(state): State<ApiState>,
    Path(sha256): Path<String>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Json<Report>, Problem> {
    let query = Query::of(&uri, &["name", "kind", "from_line"])?;
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(Problem::invalid("first_line_sha256", format!("{sha256:?} is no SHA-256 in lower-case hex")));
    }
    let kind = match query.get("kind") {
        Some("governance") => FileKind::Governance,
        Some("metrics") => FileKind::Metrics,
        other => return Err(Problem::invalid("kind", format!("kind is {other:?}, not governance or metrics"))),
    };
    let name = query.get("name").unwrap_or("-").to_owned();
    let from_line: u64 = query.parsed("from_line", "a line number from 1")?.unwrap_or(1).max(1);
    let bytes = body_of(&state, &caller, &headers, body).await?;
    if from_line == 1 {
        let first = bytes
            .split(|byte| *byte == b'\n')
            .find(|line| !line.iter().all(u8::is_ascii_whitespace))
            .unwrap_or_default();
        let found = first_line_sha256(first);
        if found != sha256 {
            return Err(Problem::invalid(
                "first_line_sha256",
                format!("the first line's SHA-256 is {found}, not {sha256}"),
            ));
        }
    }
    let identity = FileIdentity { name, first_line_sha256: sha256, kind };
    let Ok(permit) = Arc::clone(state.file_lines()).try_acquire_owned() else {
        return Err(SubmitError::Busy { retry_after_s: 1 }.into());
    };
    // Reading what is there for comparison blocks; the runtime's own threads are for waiting.
    let report = run_blocking(move || async move {
        let _permit = permit;
        append_lines(state.handle(), &identity, from_line, &bytes, Some(&caller.name)).await
    })
    .await??;
    Ok(Json(report))
}

async fn run_blocking<T: Send + 'static, F: Future<Output = T>>(
    make: impl FnOnce() -> F + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(make())).await
}

/// One file of a backfill, as its first line lists it.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackfillFile {
    /// The name that the ledger is told.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// Removed with everything in it when dropped.
struct Spool(PathBuf);

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "spool.left_behind: remove it by hand");
        }
    }
}

/// `POST /v1/backfill`: one JSON line `[{"name", "bytes"}…]`, LF, then the files one after the other.
pub(crate) async fn backfill(State(state): State<ApiState>, uri: Uri, body: Body) -> Result<Json<Report>, Problem> {
    let until = Query::of(&uri, &["until"])?.time("until")?;
    let Ok(permit) = Arc::clone(state.backfills()).try_acquire_owned() else {
        return Err(Problem::new(Kind::Busy, "another backfill is under way; come again when it is done"));
    };
    let directory = state.handle().data_dir().root().join("spool").join(state.next_request().to_string());
    let spool = Spool(make_private(&directory)?);
    let mut source =
        Source { stream: Box::pin(body.into_data_stream()), rest: Bytes::new(), got: 0, stopping: state.stopping() };
    let manifest = source.line().await?;
    let files: Vec<BackfillFile> = serde_json::from_slice(&manifest).map_err(|error| {
        Problem::new(
            Kind::InvalidBody,
            format!("the first line is not [{{\"name\", \"bytes\"}}…]: {error}; nothing was recorded"),
        )
    })?;
    check_manifest(&files, state.config().backfill_bytes_max)?;
    let mut sources = Vec::new();
    for (index, file) in files.into_iter().enumerate() {
        let path = spool.0.join(index.to_string());
        source.copy(&path, file.bytes).await?;
        sources.push(FileSource { name: file.name, path });
    }
    let intake = state.clone();
    let report = run_blocking(move || async move {
        // Both live as long as the intake, also where the caller has gone.
        let (_spool, _permit) = (spool, permit);
        ingest_recorded(intake.handle(), sources, until, &|_, _| {}).await
    });
    Ok(Json(report.await??))
}

fn check_manifest(files: &[BackfillFile], max: u64) -> Result<(), Problem> {
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(Problem::new(
            Kind::InvalidBody,
            format!("the first line lists {} files; 1 to {FILES_MAX} are taken", files.len()),
        ));
    }
    let total = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes)).unwrap_or(u64::MAX);
    if total > max {
        return Err(Problem::new(Kind::BodyTooLarge, format!("the files have {total} bytes; {max} are taken")));
    }
    Ok(())
}

/// Removes what a process that was killed left in the spool.
pub(super) fn clear_spool(data: &FsPath) {
    let spool = data.join("spool");
    if let Err(error) = std::fs::remove_dir_all(&spool)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %spool.display(), "spool.not_cleared: remove it by hand");
    }
}

fn make_private(directory: &FsPath) -> Result<PathBuf, Problem> {
    // A spool of this number can only be left over from a process that was killed.
    let _ = std::fs::remove_dir_all(directory);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| Problem::internal(&error))?;
    Ok(directory.to_owned())
}

/// A body that is read by lines and by lengths.
struct Source {
    stream: std::pin::Pin<Box<axum::body::BodyDataStream>>,
    rest: Bytes,
    got: usize,
    stopping: watch::Receiver<bool>,
}

impl Source {
    /// The next bytes; an end is an error, since whoever asks expects more.
    async fn more(&mut self) -> Result<(), Problem> {
        let cut_off = |got, reason: String| Problem::from(BodyError::Truncated { got, reason });
        let next = tokio::time::timeout(SILENT_FOR, self.stream.next());
        let came = tokio::select! {
            came = next => came,
            _ = self.stopping.wait_for(|stopping| *stopping) => {
                return Err(Problem::new(Kind::WriterStopped, "the service stops; nothing of this upload was recorded"));
            }
        };
        match came {
            Err(_) => Err(cut_off(self.got, format!("nothing came for {} s", SILENT_FOR.as_secs()))),
            Ok(None) if self.got == 0 => Err(BodyError::Empty.into()),
            Ok(None) => Err(cut_off(self.got, "it ended before the length that its first line states".to_owned())),
            Ok(Some(Err(error))) => Err(cut_off(self.got, innermost(&error))),
            Ok(Some(Ok(bytes))) => {
                self.got += bytes.len();
                self.rest = bytes;
                Ok(())
            }
        }
    }

    async fn line(&mut self) -> Result<Vec<u8>, Problem> {
        let mut line = Vec::new();
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&self.rest.split_to(end));
                let _line_feed = self.rest.split_to(1);
                return Ok(line);
            }
            line.extend_from_slice(&self.rest);
            if line.len() > MANIFEST_BYTES_MAX {
                return Err(Problem::new(
                    Kind::InvalidBody,
                    format!("the first line is longer than {MANIFEST_BYTES_MAX} bytes; nothing was recorded"),
                ));
            }
            self.more().await?;
        }
    }

    async fn copy(&mut self, path: &FsPath, length: u64) -> Result<(), Problem> {
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file: File = open().map_err(|error| Problem::internal(&error))?;
        let mut left = length;
        while left > 0 {
            if self.rest.is_empty() {
                self.more().await?;
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.rest.len());
            // Page-cache writes of a network buffer: short enough for a runtime thread.
            file.write_all(&self.rest.split_to(take)).map_err(|error| Problem::internal(&error))?;
            left -= take as u64;
        }
        Ok(())
    }
}

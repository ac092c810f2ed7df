//! Following a log file as it is written, over rotations and restarts.
//!
//! A rotation is seen by the path naming another file (or a shorter one); the old one is read to its end first. What was
//! rotated away while nobody followed is found again beside the path by its first line.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use super::lines::{self, Lines};
use super::{CHUNK_BYTES, FileIdentity, FileSource, IngestError, Report, append_lines, ingest_arrival};
use crate::sequencer::Handle;

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Takes the lines of a file as they are written until `shutdown` says true.
pub async fn follow(
    handle: &Handle,
    file: FileSource,
    mut shutdown: watch::Receiver<bool>,
) -> Result<Report, IngestError> {
    let mut report = rotated_before(handle, &file).await?;
    let mut open: Option<Following> = None;
    loop {
        let stopping = *shutdown.borrow();
        if open.is_none() {
            open = Following::open(&file)?;
        }
        if let Some(following) = &mut open {
            let rotated = following.is_rotated(&file.path);
            report.add(&following.read(handle, rotated || stopping).await?);
            if rotated {
                open = None;
                continue;
            }
        }
        if stopping {
            return Ok(report);
        }
        // A closed channel means that nobody will ever stop us: go on polling.
        let _ = tokio::time::timeout(POLL, shutdown.changed()).await;
    }
}

/// Files beside `file` that are known by their first line and may have more than the ledger has.
async fn rotated_before(handle: &Handle, file: &FileSource) -> Result<Report, IngestError> {
    let mut report = Report::default();
    let directory = file.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(stem) = file.path.file_name().and_then(|name| name.to_str()) else { return Ok(report) };
    let read = |source| IngestError::Read { name: file.name.clone(), source };
    let mut beside: Vec<_> =
        std::fs::read_dir(directory).map_err(read)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    beside.retain(|path| {
        *path != file.path
            && path.is_file()
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(stem))
    });
    beside.sort();
    for path in beside {
        let source = FileSource { name: path.display().to_string(), path };
        let Ok(identity) = lines::identify(&source) else { continue };
        let known = handle
            .shared()
            .governance()
            .files
            .values()
            .any(|known| known.first_line_sha256 == identity.first_line_sha256);
        if known {
            report.add(&ingest_arrival(handle, vec![source], &|_, _| {}).await?);
        }
    }
    Ok(report)
}

/// The file being read.
struct Following {
    source: FileSource,
    lines: Lines,
    inode: (u64, u64),
    read_bytes: u64,
    identity: Option<FileIdentity>,
    /// A last line whose LF has not come yet, with the number of the line.
    partial: Vec<u8>,
    /// Whole lines not yet handed over.
    waiting: Vec<u8>,
    next_line: u64,
}

impl Following {
    /// None while there is no file.
    fn open(source: &FileSource) -> Result<Option<Self>, IngestError> {
        let read = |error| IngestError::Read { name: source.name.clone(), source: error };
        let file = match File::open(&source.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(read)?,
        };
        let inode = inode(&file.metadata().map_err(read)?);
        let lines = Lines::over(source.name.clone(), file);
        Ok(Some(Self {
            source: source.clone(),
            lines,
            inode,
            read_bytes: 0,
            identity: None,
            partial: Vec::new(),
            waiting: Vec::new(),
            next_line: 1,
        }))
    }

    /// Whether the path names another file by now, or this one was cut short.
    fn is_rotated(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| inode(&metadata) != self.inode || metadata.len() < self.read_bytes)
    }

    /// Takes what was written since; at the `end` also a last line without its LF.
    async fn read(&mut self, handle: &Handle, end: bool) -> Result<Report, IngestError> {
        let mut report = Report::default();
        loop {
            let count = self.whole_lines(end)?;
            if count == 0 {
                return Ok(report);
            }
            if self.identity.is_none() {
                self.identity = self.identify(&self.waiting);
            }
            // Lines before the first that tells what the file holds wait for it.
            if let Some(identity) = &self.identity {
                report.add(&append_lines(handle, identity, self.next_line, &self.waiting, None).await?);
                self.next_line += lines::split(&self.waiting).count() as u64;
                self.waiting.clear();
            }
        }
    }

    fn whole_lines(&mut self, end: bool) -> Result<u64, IngestError> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        while bytes.len() < CHUNK_BYTES {
            let Some(line) = self.lines.line()? else { break };
            self.read_bytes += line.bytes.len() as u64 + u64::from(line.is_whole);
            self.partial.extend_from_slice(&line.bytes);
            if line.is_whole {
                bytes.append(&mut self.partial);
                bytes.push(b'\n');
                count += 1;
            }
        }
        if end && !self.partial.is_empty() && bytes.len() < CHUNK_BYTES {
            bytes.append(&mut self.partial);
            count += 1;
        }
        self.waiting.append(&mut bytes);
        Ok(count)
    }

    fn identify(&self, bytes: &[u8]) -> Option<FileIdentity> {
        let first = lines::split(bytes).find(|line| !lines::is_blank(line))?;
        let kind = lines::split(bytes).find_map(super::classify)?;
        Some(FileIdentity { name: self.source.name.clone(), first_line_sha256: super::first_line_sha256(first), kind })
    }
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

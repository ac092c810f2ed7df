//! A file read as it grows, in blocks of whole lines, over rotations.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;

use crate::cli::error::{CliError, file_error};
use crate::ingest::file::{FileKind, FileSource, classify, first_line_sha256};

/// Bytes of lines handed over at once.
const BLOCK_BYTES: usize = 4 << 20;

/// The file being read.
#[derive(Debug)]
pub(super) struct Tail {
    source: FileSource,
    file: File,
    inode: (u64, u64),
    read: u64,
    /// Read, and not yet handed over; whole lines up to `whole`.
    held: Vec<u8>,
    whole: usize,
    next_line: u64,
    identity: Option<(String, FileKind)>,
}

impl Tail {
    /// None while there is no file.
    pub(super) fn open(source: &FileSource) -> Result<Option<Self>, CliError> {
        let file = match File::open(&source.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(file_error(&source.path))?,
        };
        let inode = inode(&file.metadata().map_err(file_error(&source.path))?);
        Ok(Some(Self {
            source: source.clone(),
            file,
            inode,
            read: 0,
            held: Vec::new(),
            whole: 0,
            next_line: 1,
            identity: None,
        }))
    }

    /// Whether the path names another file by now, or this one was cut short.
    pub(super) fn is_rotated(&self) -> bool {
        std::fs::metadata(&self.source.path)
            .is_ok_and(|metadata| inode(&metadata) != self.inode || metadata.len() < self.read)
    }

    /// Reads on. True where there are whole lines to hand over; at the `end` a last line without its LF is one.
    pub(super) fn read(&mut self, end: bool) -> Result<bool, CliError> {
        loop {
            let before = self.held.len();
            let limit = (BLOCK_BYTES.saturating_sub(before)).max(64 << 10) as u64;
            (&mut self.file).take(limit).read_to_end(&mut self.held).map_err(file_error(&self.source.path))?;
            let fresh = self.held.len() - before;
            self.read += fresh as u64;
            self.whole = self.held.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            if fresh == 0 && end {
                self.whole = self.held.len();
            }
            if self.whole > 0 && self.identity.is_none() {
                self.identity = identify(&self.held[..self.whole]);
            }
            // Lines before the first that tells what the file holds wait for it.
            let ready = self.whole > 0 && self.identity.is_some();
            if fresh == 0 || (ready && self.held.len() >= BLOCK_BYTES) {
                return Ok(ready);
            }
        }
    }

    /// SHA-256 of the first line, and what the file holds, once that can be told.
    pub(super) fn identity(&self) -> Option<(&str, FileKind)> {
        self.identity.as_ref().map(|(sha256, kind)| (sha256.as_str(), *kind))
    }

    /// The whole lines at hand.
    pub(super) fn lines(&self) -> &[u8] {
        &self.held[..self.whole]
    }

    /// The number of the first of them.
    pub(super) const fn next_line(&self) -> u64 {
        self.next_line
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.source.name
    }

    /// They were taken.
    pub(super) fn taken(&mut self) {
        let lines = &self.held[..self.whole];
        self.next_line += lines.split_inclusive(|byte| *byte == b'\n').count() as u64;
        self.held.drain(..self.whole);
        self.whole = 0;
    }
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn identify(lines: &[u8]) -> Option<(String, FileKind)> {
    let mut first = None;
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let sha256 = first.get_or_insert_with(|| first_line_sha256(line)).clone();
        if let Some(kind) = classify(line) {
            return Some((sha256, kind));
        }
    }
    None
}

/// Files beside `file` that a rotation may have made of it.
pub(super) fn rotated(file: &FileSource) -> Vec<FileSource> {
    let directory =
        file.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let Some(stem) = file.path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let numbered = |name: &str| {
        name.strip_prefix(stem).is_some_and(|rest| {
            rest.strip_prefix(['.', '-'])
                .is_some_and(|rest| rest.starts_with(|character: char| character.is_ascii_digit()))
        })
    };
    let mut beside: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.file_name().and_then(|name| name.to_str()).is_some_and(numbered))
        .collect();
    beside.sort();
    beside.into_iter().map(|path| FileSource { name: path.display().to_string(), path }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_whole_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let source = FileSource { name: "log".into(), path: path.clone() };
        assert!(Tail::open(&source).unwrap().is_none());
        let mut file = File::create(&path).unwrap();
        write!(file, "\n{{\"event\":\"llm.request\"}}\n{{\"event\":").unwrap();
        let mut tail = Tail::open(&source).unwrap().unwrap();
        assert!(tail.read(false).unwrap());
        assert_eq!(tail.lines(), b"\n{\"event\":\"llm.request\"}\n");
        assert_eq!(tail.identity().unwrap().0, first_line_sha256(b"{\"event\":\"llm.request\"}"));
        tail.taken();
        assert_eq!(tail.next_line(), 3);
        assert!(!tail.read(false).unwrap());
        writeln!(file, "1}}").unwrap();
        assert!(tail.read(false).unwrap());
        assert_eq!(tail.lines(), b"{\"event\":1}\n");
        tail.taken();
        assert!(!tail.is_rotated());
        std::fs::rename(&path, directory.path().join("log.1")).unwrap();
        File::create(&path).unwrap();
        assert!(tail.is_rotated());
        assert_eq!(rotated(&source).len(), 1);
    }
}

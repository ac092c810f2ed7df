//! The one door to the file system.
//!
//! Every file that this crate reads, writes, syncs, renames or locks goes through [`Disk`] and
//! [`DiskFile`], so that a test can put a disk of its own in place of the machine's: one that fails at a
//! chosen operation, does it and reports failure, tears a write, or forgets what was never synced.
//! The seam adds nothing to the operating system's operations and hides nothing of them.
//!
//! Reads are positioned (`pread`): no file has a cursor, so one handle serves many threads. Nothing is
//! memory-mapped, for an I/O error under a mapping is a signal and not a value.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made where it does not exist.
    Create,
    /// For reading and writing; it must not exist.
    CreateNew,
    /// Like `CreateNew`, readable and writable by its owner alone.
    CreateSecret,
}

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a directory and those above it; existing ones are no fault.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// What is at a path, if anything.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;
    /// Renames a file or directory, replacing a file or an empty directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Length in bytes.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Permission bits.
    pub mode: u32,
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "the operating system has no such question")]
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads at most `buffer.len()` bytes from `offset`; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts off, or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Makes the content durable, and the length (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the exclusive lock, or says that another has it (`false`). Released when the file is closed,
    /// so also when its process dies.
    fn try_lock(&self) -> io::Result<bool>;

    /// Fills `buffer` from `offset`, as far as the file goes: fewer bytes only at its end.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills `buffer` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_full_at(buffer, offset)? < buffer.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

#[derive(Debug)]
struct OsFile(fs::File);

impl Disk for OsDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::Write => {
                options.write(true);
            }
            Access::Create => {
                options.write(true).create(true).truncate(false);
            }
            Access::CreateNew => {
                options.write(true).create_new(true);
            }
            Access::CreateSecret => {
                options.write(true).create_new(true).mode(0o600);
            }
        }
        Ok(Arc::new(OsFile(options.open(path)?)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match fs::metadata(path) {
            Ok(metadata) => {
                Ok(Some(Stat { len: metadata.len(), is_dir: metadata.is_dir(), mode: metadata.permissions().mode() }))
            }
            // Below a path that is a file there is nothing either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The directory that holds `path`, as something that can be synced.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reads a whole file of at most `len_max` bytes; a longer one is read to one byte beyond that, so that
/// the caller can tell.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, len_max: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX).min(len_max.saturating_add(1));
    let mut bytes = vec![0; len];
    let filled = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Puts a file at `path` as a whole or not at all, durably: written under another name, synced, renamed,
/// and the directory synced.
pub(crate) fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("tmp");
    let file = disk.open(&temporary, Access::Create)?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent(path))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Bytes of which a read gives at most seven, and every other read is interrupted or fails.
    #[derive(Debug)]
    pub(crate) struct Halting {
        bytes: Vec<u8>,
        kind: io::ErrorKind,
        reads: AtomicU64,
    }

    impl Halting {
        pub(crate) fn new(bytes: Vec<u8>, kind: io::ErrorKind) -> Self {
            Self { bytes, kind, reads: AtomicU64::new(0) }
        }
    }

    impl DiskFile for Halting {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            if self.reads.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Err(self.kind.into());
            }
            let rest = self.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let len = buffer.len().min(7).min(rest.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn set_len(&self, _len: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn sync_data(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn try_lock(&self) -> io::Result<bool> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn a_read_that_is_interrupted_or_short_goes_on_and_one_that_fails_does_not() {
        let [interrupted, failing] =
            [io::ErrorKind::Interrupted, io::ErrorKind::TimedOut].map(|kind| Halting::new((0..100).collect(), kind));
        let mut buffer = [0; 40];
        assert_eq!(interrupted.read_full_at(&mut buffer, 30).unwrap(), 40);
        assert!(buffer.iter().copied().eq(30..70), "{buffer:?}");
        assert_eq!(interrupted.read_full_at(&mut buffer, 80).unwrap(), 20);
        assert!(buffer[..20].iter().copied().eq(80..100), "{buffer:?}");
        assert_eq!(interrupted.read_exact_at(&mut buffer, 61).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        interrupted.read_exact_at(&mut buffer, 60).unwrap();
        assert_eq!(failing.read_full_at(&mut buffer, 30).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_machines_disk_says_what_is_there_and_what_could_not_be_done() {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, file) = (scratch.path().join("a/b"), scratch.path().join("a/b/file"));
        OsDisk.create_dir(&dir).unwrap();
        OsDisk.open(&file, Access::Create).unwrap().write_all_at(b"four", 0).unwrap();
        let stat = |path: &Path| OsDisk.stat(path).map(|stat| stat.map(|stat| (stat.is_dir, stat.len)));
        assert_eq!(stat(&file).unwrap(), Some((false, 4)));
        assert!(matches!(stat(&dir).unwrap(), Some((true, _))));
        assert_eq!(stat(&file.with_extension("none")).unwrap(), None);
        assert_eq!(stat(&file.join("below")).unwrap(), None);
        // Not knowing is not the same as nothing being there.
        assert!(stat(&dir.join("x".repeat(300))).is_err());
        OsDisk.sync_dir(&dir).unwrap();
        assert!(OsDisk.sync_dir(&dir.join("none")).is_err());
        OsDisk.open(&file, Access::Write).unwrap().sync_data().unwrap();
        // The machine is asked: of what holds no data it refuses.
        assert!(OsDisk.open(Path::new("/dev/null"), Access::Write).unwrap().sync_data().is_err());
        OsDisk.remove_dir(&scratch.path().join("a")).unwrap();
        assert_eq!(stat(&dir).unwrap(), None);
    }

    #[test]
    fn whatever_has_no_parent_lies_in_the_present_directory() {
        assert_eq!(["/a/b", "a/b", "a", ""].map(|path| parent(Path::new(path))), ["/a", "a", ".", "."].map(Path::new));
    }
}

//! The machine's disk, that fails from a chosen operation on, as if the process had ended there.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ledger::disk::{Access, Disk, DiskFile, OsDisk, Stat};

/// Operations left until it stops; the last one is done and reported failed where the count was made odd.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailingDisk(Arc<AtomicI64>, Arc<AtomicI64>);

#[derive(Debug)]
struct File(FailingDisk, Arc<dyn DiskFile>);

impl FailingDisk {
    pub(crate) fn new() -> Self {
        let disk = Self::default();
        disk.0.store(i64::MAX, Ordering::SeqCst);
        disk
    }

    pub(crate) fn fail_after(&self, operations: i64, done_but_failed: bool) {
        self.0.store(operations, Ordering::SeqCst);
        self.1.store(i64::from(done_but_failed), Ordering::SeqCst);
    }

    fn change<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let left = self.0.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return act();
        }
        if left == 0 && self.1.load(Ordering::SeqCst) == 1 {
            act()?;
        }
        Err(io::Error::other("the disk has stopped"))
    }
}

impl Disk for FailingDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File(self.clone(), OsDisk.open(path, access)?)))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|| OsDisk.create_dir(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        OsDisk.stat(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|| OsDisk.rename(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|| OsDisk.remove_file(path))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|| OsDisk.remove_dir(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|| OsDisk.sync_dir(path))
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.change(|| self.1.write_all_at(bytes, offset))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change(|| self.1.set_len(len))
    }
    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.change(|| self.1.sync_data())
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.1.try_lock()
    }
}

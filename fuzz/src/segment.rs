//! Frames, through the door that reads them: a ledger opened over a segment whose tail is the fuzzer's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use ledger::disk::{Access, Disk, DiskFile, Stat};
use ledger::{Error, Hash, Ledger, Options};

use super::key;

const DIR: &str = "/ledger";
const ORIGIN: &str = "origin";
const BATCHES: [&[&[u8]]; 3] = [&[b"one", b"two"], &[b""], &[b"three", &[0xff; 300], b"four"]];

/// A file system in memory that forgets nothing.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Tree>>);

#[derive(Debug, Clone, Default)]
struct Tree {
    files: BTreeMap<PathBuf, MemoryFile>,
    directories: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone, Default)]
struct MemoryFile(Arc<Mutex<Vec<u8>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// The same files with content of their own.
    fn copy(&self) -> Self {
        let tree = lock(&self.0);
        let copied = |(path, file): (&PathBuf, &MemoryFile)| {
            (path.clone(), MemoryFile(Arc::new(Mutex::new(lock(&file.0).clone()))))
        };
        let files = tree.files.iter().map(copied).collect();
        Self(Arc::new(Mutex::new(Tree { files, directories: tree.directories.clone() })))
    }

    fn open(&self) -> Result<Ledger, Error> {
        Ledger::open_on(Arc::new(self.clone()), Path::new(DIR), ORIGIN, key(), Options::default())
            .map(|opened| opened.0)
    }

    fn segment(&self) -> (PathBuf, MemoryFile) {
        let tree = lock(&self.0);
        let found = tree.files.iter().rfind(|(path, _)| path.to_string_lossy().contains("segments"));
        found.map(|(path, file)| (path.clone(), file.clone())).expect("a ledger has a segment")
    }
}

impl Disk for Memory {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = lock(&self.0);
        let new = matches!(access, Access::CreateNew | Access::CreateSecret);
        match tree.files.get(path) {
            Some(_) if new => Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => Ok(Arc::new(file.clone())),
            None if new || access == Access::Create => {
                let file = MemoryFile::default();
                tree.files.insert(path.to_owned(), file.clone());
                Ok(Arc::new(file))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).directories.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let tree = lock(&self.0);
        let all = tree.files.keys().chain(&tree.directories).filter(|found| found.parent() == Some(path));
        let names = all.filter_map(|found| Some(found.file_name()?.to_string_lossy().into_owned()));
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let tree = lock(&self.0);
        let file =
            tree.files.get(path).map(|file| Stat { len: lock(&file.0).len() as u64, is_dir: false, mode: 0o600 });
        Ok(file.or_else(|| tree.directories.contains(path).then_some(Stat { len: 0, is_dir: true, mode: 0o700 })))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = lock(&self.0);
        let moved = |path: &PathBuf| {
            path.strip_prefix(from)
                .ok()
                .map(|rest| if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) })
        };
        let files = std::mem::take(&mut tree.files);
        tree.files = files.into_iter().map(|(path, file)| (moved(&path).unwrap_or(path), file)).collect();
        let directories = std::mem::take(&mut tree.directories);
        tree.directories = directories.into_iter().map(|path| moved(&path).unwrap_or(path)).collect();
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = lock(&self.0);
        tree.files.retain(|file, _| !file.starts_with(path));
        tree.directories.retain(|directory| !directory.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = lock(&self.0);
        let from = place(offset)?.min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_all_at(&self, written: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = lock(&self.0);
        let from = place(offset)?;
        let end = from + written.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[from..end].copy_from_slice(written);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.0).resize(place(len)?, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// A ledger that was stopped, the root at each of its sizes, and its segment's bytes.
struct Made {
    disk: Memory,
    roots: Vec<Hash>,
    segment: Vec<u8>,
    ends: Vec<u64>,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let disk = Memory::default();
    lock(&disk.0).directories.insert("/".into());
    let arc: Arc<dyn Disk> = Arc::new(disk.clone());
    let made = Ledger::create_on(arc, Path::new(DIR), ORIGIN, key(), Options::default(), b"first");
    let mut ledger = made.expect("a ledger is made");
    // The segment's header holds the signed checkpoint of the empty tree.
    let mut ends = vec![0, ledger.size()];
    for batch in BATCHES {
        ledger.append_entries(batch).expect("an append");
        ends.push(ledger.size());
    }
    let roots = (0..=ledger.size()).map(|size| ledger.root_at(size).expect("a root")).collect();
    drop(ledger);
    let segment = lock(&disk.segment().1.0).clone();
    Made { disk, roots, segment, ends }
});

/// The first two bytes say where the segment is cut off and whether the head file is there; the rest follows the cut.
/// What opens holds a prefix that was signed, whole batches of it; with the head file, all of it or damage.
pub fn frame(data: &[u8]) {
    let [low, high, tail @ ..] = data else { return };
    let choice = usize::from(u16::from_le_bytes([*low, *high]));
    let (cut, with_head) = (choice / 2 % (MADE.segment.len() + 1), choice % 2 == 1);
    let disk = MADE.disk.copy();
    let (path, file) = disk.segment();
    *lock(&file.0) = [&MADE.segment[..cut], tail].concat();
    if !with_head {
        let _ = disk.remove_file(&path.with_file_name("").join("../head"));
        lock(&disk.0).files.retain(|path, _| path.file_name().is_none_or(|name| name != "head"));
    }
    match disk.open() {
        Ok(mut ledger) => {
            let size = ledger.size();
            assert!(MADE.ends.contains(&size), "{size} is the end of no batch");
            assert_eq!(ledger.root(), MADE.roots[size as usize], "another tree was opened");
            assert!(!with_head || Some(&size) == MADE.ends.last(), "the head file's entries are missing");
            ledger.append_entries(&[b"after"]).expect("what opened takes entries");
            let root = ledger.root();
            drop(ledger);
            assert_eq!(disk.open().expect("it opens again").root(), root);
        }
        Err(error) => {
            assert!(error.damage().is_some(), "a disk without faults: {error}");
            let again = disk.open().map(|ledger| ledger.size());
            assert!(again.is_err(), "damage went away by itself: {again:?}");
        }
    }
}

//! Copies of a ledger: which bytes are it as of a checkpoint, and how such a copy becomes a ledger that opens.
//!
//! A copy has the head file, the rotations, every segment that is no longer written to, whole, and the last one up to where the
//! head's checkpoint covers it. Tree and index are made again from these. No lock is taken: the writer may append, roll and
//! seal meanwhile. Nothing is written to the ledger.
//!
//! A segment that is no longer written to changes its form once, when it is sealed. Whoever copies it from its path and finds it
//! gone takes the sealed one, [`sealed_form`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    block::{Block, HEAD_MAGIC},
    blocks::Blocks,
    chain::KeyChain,
    checkpoint::SignedCheckpoint,
    derived::DerivedFiles,
    disk::{Access, Disk, DiskFile, OsDisk, write_file},
    error::{Damage, DamageKind, Error, IoContext as _},
    layout::{
        RAW, SEALED, check_identity, check_is_ledger, find_segment, head_path, list_segments, sealed_path,
        segment_path, segments_dir, tree_dir,
    },
    note::VerifierKey,
    recovery::{Head, Recovery, read_head, recover},
};

/// A writer may be writing the head file this moment.
const HEAD_READS_MAX: usize = 100;
/// Copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A ledger as of the checkpoint that its head file had when this was taken.
#[derive(Debug)]
pub struct Copy {
    dir: PathBuf,
    keys: KeyChain,
    head: Block,
    finished: Vec<PathBuf>,
}

impl Copy {
    /// Takes down what belongs to a copy of the ledger in `dir` as it is durable now.
    pub fn of(dir: &Path, key: &VerifierKey) -> Result<Self, Error> {
        let disk = OsDisk;
        check_is_ledger(&disk, dir)?;
        // Which ledger it is comes first: under another ledger's key the head file would seem to be damaged.
        let segment = find_segment(&disk, dir, 0, &Arc::<Blocks>::default())?;
        check_identity(dir, &segment.valid_header(0)?, &KeyChain::load(&disk, dir, key)?)?;
        let (keys, head) = durable(&disk, dir, key)?;
        let mut finished = Vec::new();
        for first in list_segments(&disk, dir)?.into_iter().filter(|first| *first < head.segment) {
            // The raw one counts where it is there; it goes only after the sealed one has come.
            let raw = segment_path(dir, first);
            let is_raw = disk.stat(&raw).at("examine", &raw)?.is_some();
            finished.push(if is_raw { raw } else { sealed_path(dir, first) });
        }
        Ok(Self { dir: dir.to_owned(), keys, head, finished })
    }

    /// The checkpoint that the copy ends with.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.head.checkpoint
    }

    /// The segments before the last one, to be copied whole under the same names.
    pub fn finished(&self) -> &[PathBuf] {
        &self.finished
    }

    /// Writes the rest into `into`: head, rotations, and the last segment as far as the checkpoint covers it. Returns the paths
    /// within the ledger's directory.
    pub fn write_open(&self, into: &Path) -> Result<Vec<PathBuf>, Error> {
        let disk = OsDisk;
        let segments = segments_dir(into);
        disk.create_dir(&segments).at("create", &segments)?;
        let head = head_path(into);
        write_file(&disk, &head, &self.head.encode(HEAD_MAGIC)).at("write", &head)?;
        let last = segment_path(into, self.head.segment);
        // It may be rolled and sealed by now; then the sealed one gives the raw one's bytes.
        let from = find_segment(&disk, &self.dir, self.head.segment, &Arc::<Blocks>::default())?;
        let to = disk.open(&last, Access::Create).at("create", &last)?;
        copy(from.file.as_ref(), to.as_ref(), self.head.end).at("copy", &from.path)?;
        let mut written = vec![head, last];
        if !self.keys.text().is_empty() {
            self.keys.store(&disk, into)?;
            written.push(crate::chain::rotations_path(into));
        }
        Ok(written.iter().filter_map(|path| path.strip_prefix(into).ok().map(Path::to_owned)).collect())
    }
}

/// Where the sealed form of a raw segment lies, once it has been sealed; of no other file.
pub fn sealed_form(path: &Path) -> Option<PathBuf> {
    (path.extension()? == RAW).then(|| path.with_extension(SEALED))
}

/// The head file, with the keys that verify it.
fn durable(disk: &dyn Disk, dir: &Path, key: &VerifierKey) -> Result<(KeyChain, Block), Error> {
    for _ in 0..HEAD_READS_MAX {
        // Loaded each time: the head may be signed by a key that came since.
        let keys = KeyChain::load(disk, dir, key)?;
        match read_head(disk, dir, &keys)? {
            Head::Block(block) => return Ok((keys, *block)),
            Head::Missing => break,
            Head::Unreadable => std::thread::yield_now(),
        }
    }
    Err(Damage::error(head_path(dir), 0, DamageKind::Head))
}

fn copy(from: &dyn DiskFile, to: &dyn DiskFile, bytes: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(buffer.len());
        from.read_exact_at(&mut buffer[..len], at)?;
        to.write_all_at(&buffer[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

/// Makes tree and index of a copy, from its entries, so that it opens. No private key is needed: nothing is signed. What the
/// entries hash to is compared with the checkpoints of the segments and with the head.
pub fn complete(dir: &Path, key: &VerifierKey) -> Result<Recovery, Error> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    check_is_ledger(disk.as_ref(), dir)?;
    let keys = KeyChain::load(disk.as_ref(), dir, key)?;
    let tree = tree_dir(dir);
    disk.create_dir(&tree).at("create", &tree)?;
    let files = Arc::new(DerivedFiles::new(Arc::clone(&disk), dir, Access::Create));
    Ok(recover(&disk, dir, &keys, &files)?.report)
}

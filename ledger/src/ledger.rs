//! The writer: the one place that appends.
//!
//! A [`Ledger`] holds the lock on its directory for as long as it lives, and is not `Clone`. Readers are
//! cheap and many; they see a batch when it is durable and not before.
//!
//! The commit order is written out in [`Ledger::commit`]; recovery (in `recovery`) relies on every step.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use crate::{
    block::{Block, HEAD_MAGIC, SEGMENT_MAGIC},
    chain::{KeyChain, last_key},
    checkpoint::{Checkpoint, SignedCheckpoint},
    derived::{DerivedFiles, DerivedWriter},
    disk::{Access, Disk, DiskFile, OsDisk},
    error::{Error, IoContext as _},
    frame::{Chunk, FRAME_HEAD_BYTES, FrameKind, encode},
    hash::Hash,
    key::LedgerKey,
    layout::{SEGMENT_DATA_AT, check_is_ledger, head_path, lock_path, segment_path, segments_dir, tree_dir},
    note::{NoteError, VerifierKey, check_name},
    reader::{Reader, Shared},
    recovery::{HeadState, Recovery, recover},
    seal::{Progress, Sealer},
};

/// Batches up to this size are put together in memory and written with one call; of larger ones each chunk
/// is written from where it lies.
const JOIN_BYTES_MAX: usize = 1 << 18;

/// How a ledger is written. It may differ from one start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment that would grow over this gives way to a new one (a batch is never split, so one that is
    /// larger by itself makes a larger segment). A start reads the last segment whole: 64 MiB take a
    /// fraction of a second.
    pub segment_bytes_max: u64,
    /// A sealed segment is compressed in blocks of so many bytes, each at most 1 MiB: a larger one compresses
    /// better, and a single read decompresses one whole.
    pub sealed_block_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, sealed_block_bytes: 64 << 10 }
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) first: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    pub(crate) end: u64,
}

/// The writer of a ledger.
#[derive(Debug)]
pub struct Ledger {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    key: LedgerKey,
    keys: Arc<KeyChain>,
    options: Options,
    segment: OpenSegment,
    segments: Arc<[u64]>,
    derived: DerivedWriter,
    head_file: Arc<dyn DiskFile>,
    checkpoint: SignedCheckpoint,
    shared: Arc<Shared>,
    /// The error that stopped this writer.
    poison: Option<String>,
    /// Room in which small batches and checkpoint frames are put together.
    scratch: Vec<u8>,
    sealing: Arc<Mutex<Progress>>,
    /// The lock is held as long as the file is open.
    lock: Arc<dyn DiskFile>,
}

impl Ledger {
    /// Opens a ledger for writing: finds out what is durable, cuts off what never was, and makes the last
    /// batch durable once more before it is trusted.
    pub fn open(dir: &Path, origin: &str, key: LedgerKey, options: Options) -> Result<(Self, Recovery), Error> {
        Self::open_on(Arc::new(OsDisk), dir, origin, key, options)
    }

    /// [`Ledger::open`] on a disk of the caller's.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        origin: &str,
        key: LedgerKey,
        options: Options,
    ) -> Result<(Self, Recovery), Error> {
        check_name(origin).map_err(|_error| Error::Origin(origin.to_owned()))?;
        check_is_ledger(disk.as_ref(), dir)?;
        let lock = take_lock(disk.as_ref(), dir)?;
        Self::open_locked(disk, dir, origin, key, options, lock)
    }

    /// Opens what the lock is held on.
    pub(crate) fn open_locked(
        disk: Arc<dyn Disk>,
        dir: &Path,
        origin: &str,
        key: LedgerKey,
        options: Options,
        lock: Arc<dyn DiskFile>,
    ) -> Result<(Self, Recovery), Error> {
        let keys = Arc::new(KeyChain::of_writer(disk.as_ref(), dir, &key.verifier_key(origin))?);
        let tree = tree_dir(dir);
        disk.create_dir(&tree).at("create", &tree)?;
        let files = Arc::new(DerivedFiles::new(Arc::clone(&disk), dir, Access::Create));
        let found = recover(&disk, dir, &keys, &files)?;
        let head_file = disk.open(&head_path(dir), Access::Create).at("open", head_path(dir))?;
        if found.report.head == HeadState::Missing {
            // A head file whose name is lost in a crash says nothing of what was durable.
            disk.sync_dir(dir).at("sync", dir)?;
        }
        let segments: Arc<[u64]> = found.segments.into();
        let shared = Arc::new(Shared::attached(
            Arc::clone(&disk),
            dir,
            Arc::clone(&keys),
            files,
            found.checkpoint.clone(),
            Arc::clone(&segments),
        ));
        let ledger = Self {
            disk,
            dir: dir.to_owned(),
            key,
            keys,
            options,
            segment: found.segment,
            segments,
            derived: found.derived,
            head_file,
            checkpoint: found.checkpoint,
            shared,
            poison: None,
            scratch: Vec::new(),
            sealing: Arc::default(),
            lock,
        };
        ledger.write_head()?;
        Ok((ledger, found.report))
    }

    /// Appends chunks as one batch and returns the positions of their entries, durable and signed. Without
    /// entries nothing is written. Any error but those of the arguments stops the writer.
    pub fn append(&mut self, chunks: &[Chunk]) -> Result<Range<u64>, Error> {
        self.append_each(&chunks.iter().collect::<Vec<_>>())
    }

    /// [`Ledger::append`] of chunks that lie apart.
    pub fn append_each(&mut self, chunks: &[&Chunk]) -> Result<Range<u64>, Error> {
        if let Some(cause) = &self.poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let first = self.size();
        if chunks.iter().all(|chunk| chunk.is_empty()) {
            return Ok(first..first);
        }
        match self.commit(chunks) {
            Ok(()) => Ok(first..self.size()),
            Err(error) => {
                // What reached the disk is unknown now, and after a failed sync even reading it back does
                // not tell. Nothing more is written through these handles.
                self.poison = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Appends entries as one batch.
    pub fn append_entries<B: AsRef<[u8]>>(&mut self, entries: &[B]) -> Result<Range<u64>, Error> {
        let bytes = entries.iter().map(|entry| entry.as_ref().len()).sum();
        let mut chunk = Chunk::with_capacity(entries.len(), bytes);
        for entry in entries {
            chunk.push(entry.as_ref())?;
        }
        self.append(&[chunk])
    }

    fn commit(&mut self, chunks: &[&Chunk]) -> Result<(), Error> {
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes().len()).sum();
        self.make_room(bytes as u64)?;
        let start = self.segment.end;
        let path = segment_path(&self.dir, self.segment.first);

        // The batch's leaves go into the tree in memory, and its new head is signed. The signature stays
        // in here: a crash now, and it never was.
        let mut offset = start;
        for chunk in chunks {
            for (at, leaf) in chunk.frames() {
                self.derived.push(leaf, offset + at as u64);
            }
            offset += chunk.bytes().len() as u64;
        }
        let frontier = self.derived.frontier();
        let checkpoint =
            Checkpoint { origin: self.keys.first().name().to_owned(), size: frontier.size(), root: frontier.root() }
                .sign(&self.key);

        // Entries, then the checkpoint that closes them. A crash from here to the end of the sync leaves
        // any part of it; without its checkpoint frame a batch never was, and opening cuts it off.
        self.scratch.clear();
        let mut at = start;
        let is_joined = bytes <= JOIN_BYTES_MAX;
        for chunk in chunks {
            if is_joined {
                self.scratch.extend_from_slice(chunk.bytes());
            } else {
                self.segment.file.write_all_at(chunk.bytes(), at).at("write", &path)?;
                at += chunk.bytes().len() as u64;
            }
        }
        encode(FrameKind::Checkpoint, &[checkpoint.text().as_bytes()], &mut self.scratch);
        self.segment.file.write_all_at(&self.scratch, at).at("write", &path)?;
        self.segment.file.sync_data().at("sync", &path)?;
        self.segment.end = at + self.scratch.len() as u64;

        // Entries and head are durable together. A crash from here on loses nothing: what follows from
        // them is made again when the ledger is opened.
        self.checkpoint = checkpoint;
        self.derived.flush()?;

        // The head file says that this much was durable, so that a shorter ledger found later is known to
        // be damaged. It is not synced: it may be old after a crash, and is never ahead.
        self.write_head()?;

        // Only now anyone is told.
        self.shared.publish(self.checkpoint.clone(), Arc::clone(&self.segments));
        Ok(())
    }

    /// Begins a new segment where the batch would make this one too large.
    fn make_room(&mut self, batch_bytes: u64) -> Result<(), Error> {
        let checkpoint_bytes = (FRAME_HEAD_BYTES + self.checkpoint.text().len()) as u64;
        let grown = self.segment.end + batch_bytes + checkpoint_bytes;
        let first = self.derived.frontier().size();
        if grown <= self.options.segment_bytes_max || first == self.segment.first {
            return Ok(());
        }
        // Tree and index are made durable first, for the header to come says that they are. A crash here
        // leaves them ahead of the last header, which is no harm.
        self.derived.sync()?;
        let path = segment_path(&self.dir, first);
        let file = self.disk.open(&path, Access::CreateNew).at("create", &path)?;
        let block = Block { segment: first, end: 0, checkpoint: self.checkpoint.clone() };
        file.write_all_at(&block.encode(SEGMENT_MAGIC), 0).at("write", &path)?;
        file.sync_data().at("sync", &path)?;
        // The header is durable, its name is not yet. A crash up to here leaves a segment with nothing in
        // it, whole or torn, or none: opening takes, removes or misses it.
        let dir = segments_dir(&self.dir);
        self.disk.sync_dir(&dir).at("sync", &dir)?;
        // The segment is there for good, so a batch in it can be durable.
        self.segments = self.segments.iter().copied().chain([first]).collect();
        self.segment = OpenSegment { first, file, end: SEGMENT_DATA_AT };
        Ok(())
    }

    fn write_head(&self) -> Result<(), Error> {
        let block = Block { segment: self.segment.first, end: self.segment.end, checkpoint: self.checkpoint.clone() };
        self.head_file.write_all_at(&block.encode(HEAD_MAGIC), 0).at("write", head_path(&self.dir))
    }

    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.checkpoint.size()
    }

    /// The root of the tree over them.
    pub fn root(&self) -> Hash {
        self.checkpoint.root()
    }

    /// The root at an earlier size.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        self.reader().root_at(size)
    }

    /// The signed checkpoint of what is durable.
    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.checkpoint.clone()
    }

    /// The ledger's name.
    pub fn origin(&self) -> &str {
        self.keys.first().name()
    }

    /// The key from which the ledger's checkpoints are verified: the first one.
    pub fn verifier_key(&self) -> &VerifierKey {
        self.keys.first()
    }

    /// The keys that signed and sign.
    pub fn keys(&self) -> &KeyChain {
        &self.keys
    }

    /// Signs with `key` from the next batch on. `rotations` are the notes of this ledger's keys with one more, which names `key` and the
    /// present size. A crash before they are durable leaves the old key in force, one after it the new; either way the checkpoints
    /// that are there stay as they are. An error stops the writer.
    pub fn rotate(&mut self, key: LedgerKey, rotations: &str) -> Result<(), Error> {
        if let Some(cause) = &self.poison {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let keys = KeyChain::follow(self.keys.first(), rotations)?;
        let is_next = keys.current() == &key.verifier_key(self.origin())
            && rotations.starts_with(self.keys.text())
            && last_key(rotations)? == Some(key.public())
            && keys.last_at() == Some(self.size());
        if !is_next {
            return Err(NoteError::Rotation("it is not the next one of this ledger at its size").into());
        }
        if let Err(error) = keys.store(self.disk.as_ref(), &self.dir) {
            self.poison = Some(error.to_string());
            return Err(error);
        }
        // Durable. Nothing was signed with the new key yet, and nothing is signed with the old one any more.
        self.keys = Arc::new(keys);
        self.key = key;
        self.shared.rotate(Arc::clone(&self.keys));
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The error that stopped the writer, if one did.
    pub fn poison(&self) -> Option<&str> {
        self.poison.as_deref()
    }

    /// A handle that seals the segments before the last, on whatever thread it is given to.
    pub fn sealer(&self) -> Sealer {
        let (shared, progress) = (Arc::clone(&self.shared), Arc::clone(&self.sealing));
        Sealer::new(shared, progress, self.options.sealed_block_bytes, Arc::clone(&self.lock))
    }

    /// A reader that follows this writer.
    pub fn reader(&self) -> Reader {
        Reader::of(Arc::clone(&self.shared))
    }
}

/// Takes the writer's lock.
pub(crate) fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskFile>, Error> {
    let path = lock_path(dir);
    let file = disk.open(&path, Access::Create).at("open", &path)?;
    if file.try_lock().at("lock", &path)? { Ok(file) } else { Err(Error::Locked { path: dir.to_owned() }) }
}

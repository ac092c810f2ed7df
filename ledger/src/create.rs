//! Making a ledger: built whole in a directory beside its place, made durable, and renamed into it.

use std::{path::Path, sync::Arc};

use crate::{
    block::{Block, HEAD_MAGIC, SEGMENT_MAGIC},
    checkpoint::Checkpoint,
    disk::{Access, Disk, OsDisk, parent},
    error::{Error, IoContext as _},
    frame::{Chunk, FrameKind, encode},
    key::LedgerKey,
    layout::{head_path, index_path, segment_path, segments_dir, tree_dir},
    ledger::{Ledger, Options, take_lock},
    note::check_name,
    tree::{EMPTY_ROOT, Frontier},
};

impl Ledger {
    /// Makes a ledger whose first entry is durable and signed on return. A crash on the way leaves nothing
    /// at `dir`, so the call can be repeated; an empty directory there is no obstacle.
    pub fn create(
        dir: &Path,
        origin: &str,
        key: LedgerKey,
        options: Options,
        first_entry: &[u8],
    ) -> Result<Self, Error> {
        Self::create_on(Arc::new(OsDisk), dir, origin, key, options, first_entry)
    }

    /// [`Ledger::create`] on a disk of the caller's.
    pub fn create_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        origin: &str,
        key: LedgerKey,
        options: Options,
        first_entry: &[u8],
    ) -> Result<Self, Error> {
        check_name(origin).map_err(|_error| Error::Origin(origin.to_owned()))?;
        let mut chunk = Chunk::new();
        chunk.push(first_entry)?;
        check_vacant(disk.as_ref(), dir)?;
        let staging = dir.with_added_extension("creating");
        disk.create_dir(&staging).at("create", &staging)?;
        let lock = take_lock(disk.as_ref(), &staging)?;
        write_new(disk.as_ref(), &staging, origin, &key, &chunk)?;
        // Everything below the staging directory is durable under its name. A crash before the rename
        // leaves it behind, and the next attempt writes over it.
        disk.rename(&staging, dir).at("put in place", dir)?;
        disk.sync_dir(parent(dir)).at("sync the directory of", dir)?;
        // The name is durable too. From here on this is a ledger like any other, opened as any other is.
        let (ledger, _) = Self::open_locked(disk, dir, origin, key, options, lock)?;
        Ok(ledger)
    }
}

fn check_vacant(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let vacant = match disk.stat(dir).at("examine", dir)? {
        None => true,
        Some(stat) => stat.is_dir && disk.list(dir).at("list", dir)?.is_empty(),
    };
    if vacant { Ok(()) } else { Err(Error::Exists { path: dir.to_owned() }) }
}

/// Writes a ledger of one batch into a staging directory, over whatever an earlier attempt left there.
fn write_new(disk: &dyn Disk, dir: &Path, origin: &str, key: &LedgerKey, chunk: &Chunk) -> Result<(), Error> {
    let (segments, tree) = (segments_dir(dir), tree_dir(dir));
    disk.create_dir(&segments).at("create", &segments)?;
    disk.create_dir(&tree).at("create", &tree)?;
    let empty = Checkpoint { origin: origin.to_owned(), size: 0, root: EMPTY_ROOT }.sign(key);
    let block = Block { segment: 0, end: 0, checkpoint: empty };
    let mut bytes = block.encode(SEGMENT_MAGIC).to_vec();
    bytes.extend_from_slice(chunk.bytes());
    let mut frontier = Frontier::new();
    chunk.leaf_hashes().iter().for_each(|leaf| frontier.push(*leaf));
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: frontier.size(), root: frontier.root() }.sign(key);
    encode(FrameKind::Checkpoint, &[checkpoint.text().as_bytes()], &mut bytes);
    let head = Block { segment: 0, end: bytes.len() as u64, checkpoint }.encode(HEAD_MAGIC);
    for (path, content) in [(segment_path(dir, 0), &bytes[..]), (head_path(dir), &head), (index_path(dir), &[])] {
        let file = disk.open(&path, Access::Create).at("create", &path)?;
        file.set_len(0).at("cut", &path)?;
        file.write_all_at(content, 0).at("write", &path)?;
        file.sync_data().at("sync", &path)?;
    }
    for path in [&segments, &tree, dir] {
        disk.sync_dir(path).at("sync", path)?;
    }
    Ok(())
}

//! Bytes too long for an entry, kept under their SHA-256 beside a ledger.
//!
//! The entry states length and hash, so the ledger's root binds the blob; this module only keeps it, whole
//! or not at all. A blob is at `<dir>/<first two hex digits>/<hash in hex>` and never changes.

use std::path::{Path, PathBuf};

use crate::{
    disk::{Disk, OsDisk, parent, read_file, write_file},
    error::{Damage, DamageKind, Error, IoContext as _},
    hash::Hash,
};

/// The longest blob: far over what any source of records sends, and short enough to be held in memory.
pub const BLOB_BYTES_MAX: usize = 64 << 20;

/// Keeps bytes and returns their hash, durable on return. Bytes that are there already are compared, and
/// made again where they are not what they should be.
pub fn put(dir: &Path, bytes: &[u8]) -> Result<Hash, Error> {
    put_on(&OsDisk, dir, bytes)
}

/// [`put`] on a disk of the caller's.
pub fn put_on(disk: &dyn Disk, dir: &Path, bytes: &[u8]) -> Result<Hash, Error> {
    let hash = Hash::of(bytes);
    let path = path_of(dir, &hash);
    let group = parent(&path);
    if disk.stat(group).at("examine", group)?.is_none() {
        disk.create_dir(group).at("create", group)?;
    }
    // The names above the file are synced each time: an earlier attempt may have ended before it was.
    disk.sync_dir(dir).at("sync", dir)?;
    disk.sync_dir(parent(dir)).at("sync the directory of", dir)?;
    // A file with the right bytes is written again all the same: whether the attempt that left it there
    // came to its sync is not known.
    write_file(disk, &path, bytes).at("write", &path)?;
    Ok(hash)
}

/// The bytes of a hash, checked against it.
pub fn get(dir: &Path, hash: &Hash) -> Result<Vec<u8>, Error> {
    get_on(&OsDisk, dir, hash)
}

/// [`get`] on a disk of the caller's.
pub fn get_on(disk: &dyn Disk, dir: &Path, hash: &Hash) -> Result<Vec<u8>, Error> {
    let path = path_of(dir, hash);
    if disk.stat(&path).at("examine", &path)?.is_none() {
        return Err(Error::NoBlob { hash: *hash });
    }
    let bytes = read_file(disk, &path, BLOB_BYTES_MAX).at("read", &path)?;
    if Hash::of(&bytes) == *hash { Ok(bytes) } else { Err(Damage::error(path, 0, DamageKind::Blob)) }
}

/// Checks every blob of a directory against its name, and returns the number checked and what is wrong.
pub fn check_all(dir: &Path) -> Result<(u64, Vec<Damage>), Error> {
    let disk = OsDisk;
    let mut problems = Vec::new();
    let mut checked = 0;
    if disk.stat(dir).at("examine", dir)?.is_none() {
        return Ok((0, problems));
    }
    for group in disk.list(dir).at("list", dir)? {
        let group = dir.join(group);
        for name in disk.list(&group).at("list", &group)? {
            let path = group.join(&name);
            let kind = match Hash::from_hex(&name) {
                Ok(hash) if path_of(dir, &hash) == path => {
                    checked += 1;
                    get(dir, &hash).err().map(|_| DamageKind::Blob)
                }
                // What a crash left behind before its rename is no blob, and no damage.
                _ if path.extension().is_some_and(|extension| extension == "tmp") => None,
                _ => Some(DamageKind::Unknown),
            };
            problems.extend(kind.map(|kind| Damage { file: path, offset: 0, kind }));
        }
    }
    Ok((checked, problems))
}

fn path_of(dir: &Path, hash: &Hash) -> PathBuf {
    let name = hash.to_hex();
    dir.join(&name[..2]).join(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_blob_is_read_back_and_its_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("blobs");
        let bytes = vec![7; 100_000];
        let hash = put(&dir, &bytes).unwrap();
        assert_eq!(put(&dir, &bytes).unwrap(), hash);
        assert_eq!(get(&dir, &hash).unwrap(), bytes);
        assert_eq!(check_all(&dir).unwrap(), (1, Vec::new()));
        let path = path_of(&dir, &hash);
        fs::write(&path, &bytes[1..]).unwrap();
        assert!(matches!(get(&dir, &hash), Err(Error::Damage(damage)) if damage.kind == DamageKind::Blob));
        let (checked, problems) = check_all(&dir).unwrap();
        assert_eq!((checked, problems), (1, vec![Damage { file: path, offset: 0, kind: DamageKind::Blob }]));
        // Putting it again repairs it.
        put(&dir, &bytes).unwrap();
        assert_eq!(get(&dir, &hash).unwrap(), bytes);
        assert!(matches!(get(&dir, &Hash::default()), Err(Error::NoBlob { .. })));
    }

    #[test]
    fn what_is_no_blob_is_told_apart_from_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let [first, second] = [b"first", b"later"].map(|bytes| put(dir, bytes).unwrap());
        let (first, second) = (path_of(dir, &first), path_of(dir, &second));
        // What a crash left before its rename is not counted.
        fs::write(first.with_added_extension("tmp"), b"fir").unwrap();
        assert_eq!(check_all(dir).unwrap(), (2, Vec::new()));
        // No hash; and a blob's own bytes under its own name, in the directory of others.
        let strays = [first.with_file_name("notes.txt"), first.with_file_name(second.file_name().unwrap())];
        for stray in strays {
            fs::write(&stray, b"later").unwrap();
            let problem = Damage { file: stray.clone(), offset: 0, kind: DamageKind::Unknown };
            assert_eq!(check_all(dir).unwrap(), (2, vec![problem]));
            fs::remove_file(stray).unwrap();
        }
    }
}

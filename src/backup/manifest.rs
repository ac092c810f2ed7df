//! The manifest: what a backup holds, and the digest over the set.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::artifacts::by_name;
use crate::domain::time::Time;

/// The only format so far.
const FORMAT: &str = "govledger-backup/1";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name in the backup, with `/` between its parts.
    pub name: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// SHA-256 of its content, hex: also the name of its object.
    pub sha256: String,
}

/// What lies in a target beside the objects, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    /// The backup's id.
    pub backup_id: String,
    /// The stack; `ledgers/NODE` for the ledgers themselves.
    pub stack: String,
    /// The engine; for the ledgers the root of governance.
    pub engine_hash: String,
    /// When its files were read.
    pub snapshot_time: Time,
    /// Digest over the set: see [`root_digest`].
    pub verification_hash: String,
    /// Its files, in the order of their names.
    pub files: Vec<File>,
}

impl Manifest {
    /// Of these files, which are in order.
    pub fn new(stack: &str, engine_hash: &str, snapshot_time: Time, files: Vec<File>) -> Self {
        let verification_hash = root_digest(&files);
        // To the microsecond: two backups of the same files within a second are two, and neither overwrites the other's manifest.
        let time: String = snapshot_time.to_string().chars().filter(char::is_ascii_digit).collect();
        let short: String = verification_hash.chars().take(12).collect();
        Self {
            format: FORMAT.to_owned(),
            backup_id: format!("backup-{time}-{short}"),
            stack: stack.to_owned(),
            engine_hash: engine_hash.to_owned(),
            snapshot_time,
            verification_hash,
            files,
        }
    }

    /// Reads one and checks that it agrees with itself; otherwise what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| format!("does not parse: {error}"))?;
        if manifest.format != FORMAT {
            return Err(format!("is of the format {:?}; this version reads {FORMAT:?}", manifest.format));
        }
        if let Some(file) = manifest.files.iter().find(|file| !is_plain(&file.name)) {
            return Err(format!("lists a file {:?}, which would lie outside of it", file.name));
        }
        if let Some(file) = manifest.files.iter().find(|file| ledger::Hash::from_hex(&file.sha256).is_err()) {
            return Err(format!("gives {:?} as the SHA-256 of {}", file.sha256, file.name));
        }
        if manifest.files.windows(2).any(|pair| by_name(&pair[0].name, &pair[1].name).is_ge()) {
            return Err("lists its files out of order".to_owned());
        }
        let root = root_digest(&manifest.files);
        if root != manifest.verification_hash {
            return Err(format!("says {} and lists files that hash to {root}", manifest.verification_hash));
        }
        Ok(manifest)
    }

    /// Its bytes, the same ones for the same backup.
    pub fn bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// SHA-256 over the files' digests in their order, hex: the subject digest of `OpenSSF` model signing 1.0 over the same files.
fn root_digest(files: &[File]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        // A digest that is none was refused before.
        hasher.update(ledger::Hash::from_hex(&file.sha256).unwrap_or_default().as_bytes());
    }
    hex(hasher)
}

/// A finished digest as hex.
pub(super) fn hex(hasher: Sha256) -> String {
    crate::domain::envelope::hex(&hasher.finalize())
}

/// Whether a name stays inside the directory it is put into.
fn is_plain(name: &str) -> bool {
    !name.contains(['\\', '\0']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

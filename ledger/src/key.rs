//! Ed25519 keys: the one that signs a ledger's checkpoints, and its file.
//!
//! The file is PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it, readable by its owner
//! alone: a file that others can read is refused, for its key may already be theirs. Randomness is the
//! caller's: [`LedgerKey::generate`] takes the seed.

use std::{fmt, io, path::Path, path::PathBuf};

use ed25519_dalek::{
    Signature, Signer as _, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes, spki::der::pem::LineEnding},
    verify_batch,
};

use crate::{
    disk::{Access, Disk, OsDisk, parent, read_file},
    error::{Error, IoContext as _},
    note::{KeyKind, VerifierKey},
};

/// A key file is a few hundred bytes; nothing longer is read as one.
const KEY_FILE_BYTES_MAX: usize = 4_096;

/// What is wrong about a key or its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Others than the owner have access.
    #[error("{path} has mode {mode:04o}; a key file must be closed to group and others (chmod 600)")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not an Ed25519 key in PKCS#8 PEM.
    #[error("{path} is not an Ed25519 private key in PKCS#8 PEM: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The bytes are no public key.
    #[error("the bytes are not an Ed25519 public key")]
    Public,
    /// A signature does not verify.
    #[error("the signature does not verify")]
    Signature,
}

/// A signing key. Its `Debug` shows the public half alone.
#[derive(Clone)]
pub struct LedgerKey(SigningKey);

impl LedgerKey {
    /// The key of a seed, which the caller draws from a source of secure randomness.
    pub fn generate(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads a key file, and refuses one that others than its owner have access to.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let disk = OsDisk;
        let stat = disk.stat(path).at("examine", path)?;
        if let Some(stat) = stat.filter(|stat| stat.mode & 0o077 != 0) {
            return Err(KeyError::Open { path: path.to_owned(), mode: stat.mode & 0o7777 }.into());
        }
        let refuse = |why: String| KeyError::File { path: path.to_owned(), why };
        let bytes = read_file(&disk, path, KEY_FILE_BYTES_MAX).at("read", path)?;
        let pem = String::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
        let key = SigningKey::from_pkcs8_pem(&pem).map_err(|error| refuse(error.to_string()))?;
        Ok(Self(key))
    }

    /// Writes a key file that was not there before, for its owner alone, durable on return. A crash leaves it whole or not at all:
    /// half a key under its name would be in the way of every start.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let disk = OsDisk;
        // The first version of PKCS#8, without the public key: older OpenSSL reads no other.
        let pem = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None }
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| KeyError::File { path: path.to_owned(), why: error.to_string() })?;
        if disk.stat(path).at("examine", path)?.is_some() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("create", path);
        }
        let mut begun = path.as_os_str().to_owned();
        begun.push(".tmp");
        let begun = PathBuf::from(begun);
        if disk.stat(&begun).at("examine", &begun)?.is_some() {
            disk.remove_file(&begun).at("remove", &begun)?;
        }
        let file = disk.open(&begun, Access::CreateSecret).at("create", &begun)?;
        file.write_all_at(pem.as_bytes(), 0).at("write", &begun)?;
        file.sync_data().at("sync", &begun)?;
        disk.rename(&begun, path).at("rename", path)?;
        disk.sync_dir(parent(path)).at("sync the directory of", path)
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The key with which others verify what this one signs under `name`. The name is taken as it is;
    /// [`VerifierKey::new`] checks one.
    pub fn verifier_key(&self, name: &str) -> VerifierKey {
        VerifierKey::unchecked(name, KeyKind::Ed25519, self.public())
    }
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LedgerKey(public {})", crate::hash::hex(&self.public()))
    }
}

/// Whether the bytes are a public key whose signatures can be verified in the strict form: a point, and no weak one.
pub fn is_public(public: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| !key.is_weak())
}

/// Verifies a signature, in the strict form that leaves no second signature or weak key valid.
pub fn verify_signature(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), KeyError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_error| KeyError::Public)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_error| KeyError::Signature)
}

/// Verifies many signatures of one key at a third of the price of one by one, and says only whether all are good.
///
/// What nobody without the private key can bring about with [`verify_signature`], nobody can here. The owner of the key
/// could make a signature that passes here and not there (its first half off by a point of small order), and gains nothing
/// by it, being able to make a plain one.
pub(crate) fn verify_signatures(public: &[u8; 32], signed: &[(String, [u8; 64])]) -> Result<(), KeyError> {
    if let [(message, signature)] = signed {
        return verify_signature(public, message.as_bytes(), signature);
    }
    let key = VerifyingKey::from_bytes(public).map_err(|_error| KeyError::Public)?;
    if key.is_weak() {
        return Err(KeyError::Public);
    }
    let messages: Vec<&[u8]> = signed.iter().map(|(message, _)| message.as_bytes()).collect();
    let signatures: Vec<Signature> = signed.iter().map(|(_, signature)| Signature::from_bytes(signature)).collect();
    verify_batch(&messages, &signatures, &vec![key; signed.len()]).map_err(|_error| KeyError::Signature)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_key_file_is_read_back_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.key");
        let key = LedgerKey::generate([7; 32]);
        key.store(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(LedgerKey::load(&path).unwrap().public(), key.public());
        // Half a key that a crash left under the other name is in nobody's way.
        let begun = dir.path().join("other.key.tmp");
        fs::write(&begun, "-----BEGIN PRIV").unwrap();
        key.store(&dir.path().join("other.key")).unwrap();
        assert_eq!(LedgerKey::load(&dir.path().join("other.key")).unwrap().public(), key.public());
        assert!(!begun.exists());
        // It is never overwritten.
        assert!(matches!(key.store(&path), Err(Error::Io { action: "create", .. })));
        for mode in [0o640, 0o604, 0o610, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = LedgerKey::load(&path).unwrap_err();
            assert!(matches!(error, Error::Key(KeyError::Open { mode: found, .. }) if found == mode), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        LedgerKey::load(&path).unwrap();
    }

    #[test]
    fn what_openssl_writes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.key");
        let pem = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            -----END PRIVATE KEY-----\n";
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let key = LedgerKey::load(&path).unwrap();
        // RFC 8410, section 10.1, gives the public key.
        let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        assert_eq!(crate::hash::hex(&key.public()), public);
        let copy = dir.path().join("copy.key");
        key.store(&copy).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), pem);
    }

    #[test]
    fn files_that_are_no_key_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.key");
        fs::write(&path, "no key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(LedgerKey::load(&path), Err(Error::Key(KeyError::File { .. }))));
        assert!(matches!(LedgerKey::load(&dir.path().join("none")), Err(Error::Io { action: "read", .. })));
    }

    #[test]
    fn many_signatures_are_good_only_where_each_is() {
        let key = LedgerKey::generate([1; 32]);
        for count in [1, 2, 3, 100, 250] {
            let message = |number: u32| format!("message {number}");
            let mut signed: Vec<_> =
                (0..count).map(|number| (message(number), key.sign(message(number).as_bytes()))).collect();
            assert!(verify_signatures(&key.public(), &signed).is_ok());
            assert!(verify_signatures(&LedgerKey::generate([2; 32]).public(), &signed).is_err());
            for byte in [0, 31, 32, 63] {
                signed.last_mut().unwrap().1[byte] ^= 1;
                assert!(verify_signatures(&key.public(), &signed).is_err(), "byte {byte} of the last of {count}");
                signed.last_mut().unwrap().1[byte] ^= 1;
            }
            signed.last_mut().unwrap().0.push('.');
            assert!(verify_signatures(&key.public(), &signed).is_err(), "the text of the last of {count}");
        }
        // A key of small order: anything can be made to verify under one.
        let weak = [1_u8].into_iter().chain([0; 31]).collect::<Vec<_>>().try_into().unwrap();
        let signed = vec![(String::new(), [0; 64]), (String::new(), [0; 64])];
        assert!(matches!(verify_signatures(&weak, &signed), Err(KeyError::Public)));
    }

    #[test]
    fn signatures_verify_for_their_message_and_key_alone() {
        let key = LedgerKey::generate([1; 32]);
        let signature = key.sign(b"message");
        assert!(verify_signature(&key.public(), b"message", &signature).is_ok());
        assert!(verify_signature(&key.public(), b"massage", &signature).is_err());
        let other = LedgerKey::generate([2; 32]);
        assert!(verify_signature(&other.public(), b"message", &signature).is_err());
        assert!(!format!("{key:?}").contains(&crate::hash::hex(&[1; 32])));
    }
}

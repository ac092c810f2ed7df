//! Secrets, from files that nobody else may read, and the signatures made with them (Standard Webhooks).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ledger::key::LedgerKey;
use sha2::Sha256;

use super::NotifyError;
use super::config::WebhookConfig;

/// Secrets shorter than this are refused, as the specification asks.
const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;

/// What signs the messages of one endpoint. It shows itself to nobody.
pub(super) struct Signer {
    secrets: Vec<Vec<u8>>,
    key: Option<LedgerKey>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// Reads the files that the endpoint names.
    pub(super) fn read(endpoint: &WebhookConfig) -> Result<Self, NotifyError> {
        let secrets = match &endpoint.secret_file {
            Some(path) => read(path)?
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| secret(line).map_err(|reason| wrong(path, reason)))
                .collect::<Result<Vec<_>, _>>()?,
            None => Vec::new(),
        };
        if let Some(path) = endpoint.secret_file.as_deref().filter(|_| secrets.is_empty()) {
            return Err(wrong(path, "it is empty".to_owned()));
        }
        let key = match &endpoint.signing_key_file {
            Some(path) => Some(signing_key(&read(path)?).map_err(|reason| wrong(path, reason))?),
            None => None,
        };
        Ok(Self { secrets, key })
    }

    /// The key by which a receiver checks `v1a`.
    pub(super) fn public(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("whpk_{}", STANDARD.encode(key.public())))
    }

    /// The header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signed = format!("{id}.{timestamp}.").into_bytes();
        signed.extend_from_slice(body);
        let shared = self.secrets.iter().map(|secret| format!("v1,{}", STANDARD.encode(authenticate(secret, &signed))));
        let own = self.key.iter().map(|key| format!("v1a,{}", STANDARD.encode(key.sign(&signed))));
        shared.chain(own).collect::<Vec<_>>().join(" ")
    }
}

/// HMAC-SHA-256.
fn authenticate(secret: &[u8], bytes: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length.
    Hmac::<Sha256>::new_from_slice(secret)
        .map(|mut mac| {
            mac.update(bytes);
            mac.finalize().into_bytes().to_vec()
        })
        .unwrap_or_default()
}

fn secret(line: &str) -> Result<Vec<u8>, String> {
    let text = line.trim().strip_prefix("whsec_").ok_or("a secret begins with whsec_")?;
    let bytes = decode(text).ok_or("what follows whsec_ is not base64")?;
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
        return Err(format!("a secret of {} bytes; it has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}", bytes.len()));
    }
    Ok(bytes)
}

/// A seed of 32 bytes, or the seed with the public key after it.
fn signing_key(text: &str) -> Result<LedgerKey, String> {
    let text = text.trim().strip_prefix("whsk_").ok_or("a signing key begins with whsk_")?;
    let bytes = decode(text).ok_or("what follows whsk_ is not base64")?;
    let whole = bytes.len() == 32 || bytes.len() == 64;
    let seed = bytes.first_chunk::<32>().filter(|_| whole).ok_or("a signing key has 32 or 64 bytes")?;
    let key = LedgerKey::generate(*seed);
    if bytes.len() == 64 && bytes[32..] != key.public() {
        return Err("its second half is not the public key of its first".to_owned());
    }
    Ok(key)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
}

/// Reads a secret; a file that others may read keeps none.
pub(super) fn read(path: &Path) -> Result<String, NotifyError> {
    let unreadable = |error: std::io::Error| wrong(path, error.to_string());
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(path, format!("its mode is {mode:04o}; a secret's is 0600")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn wrong(path: &Path, reason: impl Into<String>) -> NotifyError {
    NotifyError::Secret { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        // From the test suite of the reference libraries (standard-webhooks).
        let signer = Signer { secrets: vec![secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()], key: None };
        assert_eq!(
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_file_that_others_may_read_keeps_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert!(read(&path).unwrap_err().to_string().contains("0640"));
        mode(0o600);
        read(&path).unwrap();
    }

    #[test]
    fn wrong_keys_are_named() {
        assert!(secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap_err().contains("whsec_"));
        assert!(secret("whsec_AAAA").unwrap_err().contains("3 bytes"));
        assert!(signing_key("whsk_AAAA").unwrap_err().contains("32 or 64"));
        let wrong_half = format!("whsk_{}", STANDARD.encode([7_u8; 64]));
        assert!(signing_key(&wrong_half).unwrap_err().contains("second half"));
    }
}

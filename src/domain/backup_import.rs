//! A backup manifest that another tool wrote, as the report that it stands for.
//!
//! The stack's own manifests name neither stack nor engine; whoever imports one says both. Everything else stays as it is.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::envelope::hex;

/// Where an imported manifest's event comes from.
const SOURCE: &str = "urn:govledger:backup-import";

/// Why a file is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupImportError {
    /// It does not parse.
    #[error("the manifest does not parse: {0}")]
    Json(String),
    /// It is something else.
    #[error("the manifest is no JSON object")]
    NoObject,
    /// Nothing to know it by.
    #[error("`backup_id` is missing, or no text")]
    NoId,
}

/// The payload of `llm_backup_recorded` that a manifest stands for.
pub fn payload(manifest: &[u8], engine: &str) -> Result<Value, BackupImportError> {
    let mut data: Value =
        serde_json::from_slice(manifest).map_err(|error| BackupImportError::Json(error.to_string()))?;
    let fields = data.as_object_mut().ok_or(BackupImportError::NoObject)?;
    if fields.get("backup_id").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(BackupImportError::NoId);
    }
    fields.insert("engine_hash".to_owned(), engine.into());
    Ok(data)
}

/// The whole event. Its id is a digest of what is imported for what, so that importing it again changes nothing.
pub fn event(manifest: &[u8], stack: &str, engine: &str) -> Result<Value, BackupImportError> {
    let data = payload(manifest, engine)?;
    let mut hasher = Sha256::new();
    for part in [stack.as_bytes(), engine.as_bytes(), manifest] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Ok(json!({
        "specversion": "1.0",
        "id": hex(&hasher.finalize()),
        "source": SOURCE,
        "type": "llm_backup_recorded",
        "subject": stack,
        "datacontenttype": "application/json",
        "data": data,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_what_is_imported_for_what() {
        let manifest = br#"{ "backup_id": "b" }"#;
        let id = |manifest: &[u8], stack, engine| event(manifest, stack, engine).unwrap()["id"].clone();
        assert_eq!(id(manifest, "s", "e"), id(manifest, "s", "e"));
        assert_ne!(id(manifest, "s", "e"), id(manifest, "se", ""));
        assert_ne!(id(manifest, "s", "e"), id(br#"{"backup_id":"b"}"#, "s", "e"));
    }

    #[test]
    fn what_is_no_manifest_is_said() {
        assert_eq!(payload(b"{}", "e"), Err(BackupImportError::NoId));
        assert_eq!(payload(b"[]", "e"), Err(BackupImportError::NoObject));
        assert!(matches!(payload(b"{", "e"), Err(BackupImportError::Json(_))));
    }
}

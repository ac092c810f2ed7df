//! What the fuzz targets do with their bytes. Each body is an ordinary function, so that `tests/fuzz_seeds.rs` runs the
//! seeds through the same code on every check, without a fuzzer.
//!
//! Every body asserts more than that nothing panics: what was read is written and read back the same; what carries a valid
//! signature is what was signed; another reader of the same bytes (`serde_json::Value`) finds the same values.

mod meaning;
mod segment;
mod signed;

pub use meaning::{cloud_event, config, cursor, dsse, exposition, leaf, legacy_event, provider_log};
pub use segment::frame;
pub use signed::{checkpoint, note, proof, signed, tile_path, trust};

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 14] = [
    ("note", note),
    ("checkpoint", checkpoint),
    ("proof", proof),
    ("frame", frame),
    ("tile_path", tile_path),
    ("trust", trust),
    ("leaf", leaf),
    ("provider_log", provider_log),
    ("legacy_event", legacy_event),
    ("cloud_event", cloud_event),
    ("dsse", dsse),
    ("config", config),
    ("cursor", cursor),
    ("exposition", exposition),
];

/// The key that signs what the seeds hold.
#[must_use]
pub fn key() -> ledger::LedgerKey {
    ledger::LedgerKey::generate([5; 32])
}

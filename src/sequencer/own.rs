//! A ledger of this node's own, of which other nodes know nothing: its key.
//!
//! Its writer is not the sequencer and does not hear of a rotation of the ledger key, so it has a key of its own. The ledger key
//! grants it in a note beside the ledger (`rotations`), so that the one public key that checks everything else checks this one too.
//!
//! Invariants: the ledger is begun by the ledger key, and granted to its own at its size, whoever made it and whenever: a new
//! one, one of an earlier release and one that a crash left half way are brought there by the same steps. The grant is of this
//! ledger alone.

use ledger::chain::{KeyChain, Rotation};
use ledger::{Ledger, LedgerKey};

use super::core::open_ledger_with;
use super::data_dir::DataDir;
use super::error::{SequencerError, of};

/// The ledger of who was let in to what.
pub const ACCESS: &str = "access";

impl DataDir {
    /// Opens such a ledger, made where there is none.
    pub fn own_ledger(&self, name: &str, first_entry: &[u8]) -> Result<Ledger, SequencerError> {
        if let Some(key) = self.granted_key(name)? {
            let ledger = open_ledger_with(self, name, key, first_entry)?;
            self.list_keys(name, ledger.keys())?;
            return Ok(ledger);
        }
        let ledger = match open_ledger_with(self, name, self.ledger_key()?, first_entry) {
            Err(SequencerError::Ledger { source: ledger::Error::NoLedger { .. }, .. }) => {
                self.create_ledger(name, first_entry)?
            }
            opened => opened?,
        };
        self.grant(name, ledger)
    }

    /// Before the ledger key is rotated: a ledger here that it still signs gets its own key. Where it has one, or where that
    /// fails, the rotation goes on: a key that leaked is not kept for the sake of the trail.
    pub(super) fn settle_own_key(&self, name: &str) {
        if !self.ledger_dir(name).exists() || !matches!(self.granted_key(name), Ok(None)) {
            return;
        }
        let (disk, dir) = (self.disk(), self.ledger_dir(name));
        let granted = self.ledger_key().and_then(|key| {
            let opened = Ledger::open_on(disk, &dir, &self.origin(name), key, self.ledger_options());
            self.grant(name, opened.map_err(of(name))?.0)
        });
        if let Err(error) = granted {
            tracing::error!(ledger = name, %error, "keys.not_granted: the ledger does not open under the next ledger key");
        }
    }

    /// The ledger's own key, where it was granted. A key file without a grant is of a crash in between.
    fn granted_key(&self, name: &str) -> Result<Option<LedgerKey>, SequencerError> {
        let Some(own) = self.load_next(&key_file(name))? else { return Ok(None) };
        let path = self.root().join("keys").join(format!("{name}.vkey"));
        if !path.exists() {
            return Ok(None);
        }
        let first = self.verifier_key(name)?;
        let chain = KeyChain::load(self.disk().as_ref(), &self.ledger_dir(name), &first).map_err(of(name))?;
        Ok((*chain.current().public() == own.public()).then_some(own))
    }

    fn grant(&self, name: &str, mut ledger: Ledger) -> Result<Ledger, SequencerError> {
        let own = self.make_next(&key_file(name))?;
        let sizes = [(self.origin(name), ledger.size())];
        let note = Rotation::grant(&self.ledger_key()?, own.public(), &sizes);
        let mut notes = ledger.keys().text().to_owned();
        notes.push_str(&note.map_err(|error| of(name)(error.into()))?);
        ledger.rotate(own, &notes).map_err(of(name))?;
        self.list_keys(name, ledger.keys())?;
        Ok(ledger)
    }

    fn list_keys(&self, name: &str, keys: &KeyChain) -> Result<(), SequencerError> {
        self.write_keys_of(name, *keys.first().public(), keys.text())
    }
}

/// Where the key of a ledger of this node's own lies.
fn key_file(name: &str) -> String {
    format!("keys/{name}.pem")
}

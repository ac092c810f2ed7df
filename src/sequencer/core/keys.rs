//! The keys of this node, as the entries say which of them sign from here on.

use ledger::chain::{self, Rotation};

use super::Core;
use crate::domain::command::Request;
use crate::domain::envelope::key_id;
use crate::domain::event::Event;
use crate::projection::governance::{Applied, Verdict};
use crate::sequencer::error::{SequencerError, of};
use crate::sequencer::own::ACCESS;

impl Core {
    /// Signs with the key that the ledger says this node signs with. Where the entry that rotates it is durable, the new key
    /// takes the old one's place here; a crash in between is made good at the next start, by the same step.
    pub(super) fn settle_node_key(&mut self) -> Result<(), SequencerError> {
        let wanted = self.shared.governance().keys.of_node(self.data_dir.node()).map(str::to_owned);
        let is_wanted = |key: &ledger::LedgerKey| wanted.as_deref() == Some(key_id(&key.public()).as_str());
        if is_wanted(&self.shared.node_key()) {
            return Ok(());
        }
        let Some(next) = self.data_dir.next_node_key()?.filter(|next| is_wanted(next)) else { return Ok(()) };
        self.data_dir.promote_node_key()?;
        tracing::info!(key_id = wanted, "keys.node_rotated: envelopes are signed with the new key from here on");
        self.shared.set_node_key(next);
        Ok(())
    }

    pub(super) fn settle_keys(&mut self) -> Result<(), SequencerError> {
        self.settle_node_key()?;
        self.settle_ledger_key()
    }

    /// Signs checkpoints with the key that the ledger's last entry about it names. The note of the rotation is kept first: with it the
    /// rotation is done, and whatever of the rest a crash leaves undone is done before the ledgers are opened again.
    pub(super) fn settle_ledger_key(&mut self) -> Result<(), SequencerError> {
        let mut rotations = self.data_dir.rotations()?;
        let done = chain::read_rotations(&rotations).map_err(|error| of("ledger key")(error.into()))?.len();
        let wanted = self.shared.governance().keys.checkpoint_keys(self.data_dir.node()).get(done).cloned();
        let Some(wanted) = wanted else { return Ok(()) };
        let (old, next) = (self.data_dir.ledger_key()?, self.data_dir.next_ledger_key()?);
        let Some(next) = next.filter(|next| next.public() == wanted.new && old.public() == wanted.old) else {
            tracing::error!(position = wanted.position, "keys.missing: an entry names a ledger key that is not here");
            return Ok(());
        };
        let mut sizes = vec![(self.data_dir.origin("governance"), self.governance.size())];
        sizes.extend(
            self.metrics.iter().map(|(n, ledger)| (self.data_dir.origin(&format!("metrics-{n}")), ledger.size())),
        );
        let note = Rotation::sign(&old, wanted.new, &sizes).map_err(|error| of("ledger key")(error.into()))?;
        rotations.push_str(&note);
        self.data_dir.settle_own_key(ACCESS);
        self.data_dir.store_rotations(&rotations)?;
        for (number, ledger) in &mut self.metrics {
            ledger.rotate(next.clone(), &rotations).map_err(of(&format!("metrics-{number}")))?;
        }
        self.governance.rotate(next, &rotations).map_err(of("governance"))?;
        self.data_dir.promote_ledger_key(&rotations)?;
        tracing::info!(
            position = wanted.position,
            "keys.ledger_rotated: checkpoints are signed with the new key from here on"
        );
        Ok(())
    }
}

pub(super) fn is_key_rotation(applied: &Applied) -> bool {
    match &applied.event {
        Some(Event::Command(command)) if applied.verdict == Verdict::Admitted => {
            matches!(command.request, Request::NodeKeyRotate(_) | Request::LedgerKeyRotate(_))
        }
        _ => false,
    }
}

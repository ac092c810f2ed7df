//! Two people for a waiver: who asked for one does not approve it, under whatever name a provider's user goes meanwhile.
//!
//! Names alone are compared in [`crate::projection::waivers`]. Here are the identities that stand behind them: somebody whom only
//! the provider knew when they asked may be linked to a principal since, or their provider be called otherwise.

use std::collections::BTreeSet;

use super::Governance;
use super::decide::refuse;
use crate::domain::authentication::Identity;
use crate::domain::command::{Command, Request};
use crate::domain::refusal::Refusal;
use crate::domain::settings::RULES_PEOPLE;

impl Governance {
    /// Whoever gives a command, as providers know them: by what was shown, and by what is known of their principal.
    fn identities_behind(&self, command: &Command) -> BTreeSet<Identity> {
        let linked =
            self.principals.get(&command.principal).into_iter().flat_map(|found| found.identities.iter().cloned());
        linked.chain(command.authenticated_by.identity()).collect()
    }

    /// Keeps who asked for a waiver, where a provider knows them.
    pub(super) fn keep_requester(&mut self, position: u64, command: &Command) {
        if self.rules_version() < RULES_PEOPLE || !matches!(command.request, Request::WaiverRequest(_)) {
            return;
        }
        let identities = self.identities_behind(command);
        if !identities.is_empty() {
            self.requesters.insert(position, identities);
        }
    }

    /// Refuses an approval by whoever asked.
    pub(super) fn check_not_requester(&self, command: &Command) -> Result<(), Refusal> {
        let Request::WaiverApprove(decision) = &command.request else { return Ok(()) };
        let Some(waiver) = self.waivers.get(&decision.waiver) else { return Ok(()) };
        let Some(asked) = self.requesters.get(&waiver.position) else { return Ok(()) };
        match self.identities_behind(command).intersection(asked).next() {
            None => Ok(()),
            Some(same) => Err(refuse(
                "principal",
                format!(
                    "{} is {} of {}, who requested {} as {} and cannot approve it",
                    command.principal, same.subject, same.issuer, decision.waiver, waiver.requested_by
                ),
            )
            .by(waiver.position)),
        }
    }
}

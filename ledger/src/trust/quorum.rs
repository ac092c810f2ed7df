//! Whether the cosignatures on a checkpoint are enough.

use std::{collections::BTreeSet, fmt};

use super::{Threshold, TrustPolicy};
use crate::{
    checkpoint::SignedCheckpoint,
    note::{NoteError, VerifierKey},
};

/// A witness whose cosignature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigner {
    /// What the policy calls it.
    pub name: String,
    /// When it cosigned, in POSIX seconds, as it says.
    pub time_s: u64,
}

/// What a quorum, or a group in it, lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The witness or group.
    pub name: String,
    /// How many of its members it takes; 1 of a witness.
    pub needed: usize,
    /// How many there are.
    pub found: usize,
    /// The members that there are not; the witness itself.
    pub missing: Vec<String>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.join(", ");
        write!(formatter, "{} needs {} and has {}: missing {missing}", self.name, self.needed, self.found)
    }
}

/// What the cosignatures on a checkpoint come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// Who cosigned, in the order of the policy.
    pub cosigners: Vec<Cosigner>,
    /// What is missing: nothing where the quorum is met.
    pub shortfalls: Vec<Shortfall>,
}

impl Weighed {
    /// Whether the quorum is met.
    pub fn is_met(&self) -> bool {
        self.shortfalls.is_empty()
    }
}

impl TrustPolicy {
    /// Checks a checkpoint's signatures: the ledger's own, and of the witnesses whatever is there. One by a known key that fails
    /// spoils the checkpoint; a missing one is counted.
    pub fn weigh(&self, checkpoint: &SignedCheckpoint, ledger: &VerifierKey) -> Result<Weighed, NoteError> {
        let keys: Vec<VerifierKey> = self.witnesses.iter().map(|witness| witness.key.clone()).collect();
        let verified = checkpoint.verify_with(ledger, &keys)?;
        let mut cosigners: Vec<(usize, u64)> =
            verified.iter().filter_map(|signature| Some((signature.key, signature.time?))).collect();
        cosigners.sort_unstable();
        let cosigners: Vec<Cosigner> = cosigners
            .into_iter()
            .map(|(index, time_s)| Cosigner { name: self.witnesses[index].name.clone(), time_s })
            .collect();
        let names = cosigners.iter().map(|cosigner| cosigner.name.as_str()).collect();
        let shortfalls = self.shortfalls(&names);
        Ok(Weighed { cosigners, shortfalls })
    }

    /// What is missing where these witnesses have cosigned.
    pub fn shortfalls(&self, cosigned: &BTreeSet<&str>) -> Vec<Shortfall> {
        // Groups stand after their members, so one pass counts them all.
        let mut counted = cosigned.clone();
        for group in &self.groups {
            if group.found(&counted) >= group.needed() {
                counted.insert(&group.name);
            }
        }
        let mut shortfalls = Vec::new();
        let mut open: Vec<&str> = self.quorum.as_deref().into_iter().collect();
        // Each name is a member once, so this ends.
        while let Some(name) = open.pop() {
            if counted.contains(name) {
                continue;
            }
            let Some(group) = self.groups.iter().find(|group| group.name == name) else {
                let is_alone = self.quorum.as_deref() == Some(name);
                let missing = Shortfall { name: name.to_owned(), needed: 1, found: 0, missing: vec![name.to_owned()] };
                // A witness in a group is named by the group's shortfall.
                shortfalls.extend(is_alone.then_some(missing));
                continue;
            };
            let missing: Vec<&str> =
                group.members.iter().map(String::as_str).filter(|member| !counted.contains(member)).collect();
            shortfalls.push(Shortfall {
                name: name.to_owned(),
                needed: group.needed(),
                found: group.found(&counted),
                missing: missing.iter().map(|name| (*name).to_owned()).collect(),
            });
            open.extend(missing.into_iter().rev());
        }
        shortfalls
    }
}

impl super::TrustedGroup {
    fn needed(&self) -> usize {
        match self.threshold {
            Threshold::Any => 1,
            Threshold::All => self.members.len(),
            Threshold::Count(count) => count,
        }
    }

    fn found(&self, counted: &BTreeSet<&str>) -> usize {
        self.members.iter().filter(|member| counted.contains(member.as_str())).count()
    }
}

//! Which entry claimed an id first.
//!
//! The index may run ahead of the fold that asks: a claim at or after the asking position does not exist for it. So one index
//! serves the live fold, a replay, and a question about the past alike.

use std::collections::BTreeMap;

use crate::domain::report::Identity;

/// The first admitted entry with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it stands.
    pub position: u64,
    /// SHA-256 of its content.
    pub content: [u8; 32],
}

/// An index of claims, in memory or in the cache.
pub trait IdIndex {
    /// The claim on `identity` by an entry before `position`.
    fn claimed(&self, identity: &Identity, position: u64) -> Option<Claim>;
    /// Records a claim; an earlier one stays.
    fn claim(&mut self, identity: &Identity, claim: Claim);
}

/// Claims in memory: for audits and for folds without a cache.
#[derive(Debug, Default)]
pub struct MemoryIds {
    claims: BTreeMap<Identity, Claim>,
}

impl IdIndex for MemoryIds {
    fn claimed(&self, identity: &Identity, position: u64) -> Option<Claim> {
        self.claims.get(identity).copied().filter(|claim| claim.position < position)
    }

    fn claim(&mut self, identity: &Identity, claim: Claim) {
        let kept = self.claims.entry(*identity).or_insert(claim);
        if kept.position > claim.position {
            *kept = claim;
        }
    }
}

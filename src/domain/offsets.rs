//! Which offset of a source lies at which position of its ledger.
//!
//! Offsets nearly always follow each other, so only the places where one does not are kept.

use serde::{Deserialize, Serialize};

/// The offsets seen so far, as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// The last one.
    pub last: Option<u64>,
    /// (position, offset) wherever an offset does not follow the one before.
    anchors: Vec<(u64, u64)>,
}

impl Offsets {
    /// Takes note of `offset` at `position`.
    pub fn see(&mut self, position: u64, offset: u64) {
        let follows = self.anchors.last().is_some_and(|(at, first)| position - at == offset.wrapping_sub(*first));
        if !follows {
            self.anchors.push((position, offset));
        }
        self.last = Some(offset);
    }

    /// The position of `offset`, of a ledger of `size` entries, where it is here.
    pub fn position_of(&self, offset: u64, size: u64) -> Option<u64> {
        self.last.filter(|last| offset <= *last)?;
        let after = self.anchors.partition_point(|(_, anchored)| *anchored <= offset);
        let (position, anchored) = self.anchors.get(after.checked_sub(1)?)?;
        Some(position + (offset - anchored)).filter(|position| *position < size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_gaps() {
        let mut offsets = Offsets::default();
        for (position, offset) in [(1, 0), (2, 1), (3, 5), (4, 6)] {
            offsets.see(position, offset);
        }
        assert_eq!(offsets.position_of(1, 5), Some(2));
        assert_eq!(offsets.position_of(6, 5), Some(4));
        assert_eq!(offsets.position_of(7, 5), None);
        assert_eq!(offsets.anchors, [(1, 0), (3, 5)]);
    }
}

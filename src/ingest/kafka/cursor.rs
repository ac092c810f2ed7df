//! Where the reading of a partition stands, and what that adds to the header of the next record.

use crate::domain::leaf::Header;

/// What is expected next. A batch reads on with a copy, which counts once the batch is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
    hole: Option<(u64, u64)>,
}

impl Cursor {
    /// Before offset `next`; `hole` was lost before it.
    pub const fn at(next: u64, hole: Option<(u64, u64)>) -> Self {
        Self { next, hole }
    }

    /// The next offset expected.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The record at `offset` has come: its header says what the broker skipped and what was lost before it.
    pub fn pass(&mut self, header: &mut Header, offset: u64) {
        header.skipped_offsets = offset.checked_sub(self.next).filter(|skipped| *skipped > 0);
        header.hole = self.hole.take();
        self.next = offset + 1;
    }
}

//! How much a stack uses of what it has: load by the records, memory and blocks by the scrapes, and what follows from both.
//!
//! In scope: sums that only the report needs ([`Load`]), what the scrapes of the last quarter of an hour said ([`Scrapes`]),
//! what an engine was built and is configured with ([`Built`]), and the advice. Out of scope: whose record it is and which
//! rule fires (`slo`), and the report itself (`answers`).
//!
//! Invariants: a pure fold, of integers alone; the state is bounded by the stacks, engines and servers of the last quarter of
//! an hour; nothing here decides, except the headroom that [`Scrapes::headroom`] gives to the rule `vram_headroom`.

mod advice;
mod built;
mod load;
mod scrapes;

pub use advice::{Action, Advice, Situation, advise};
pub(crate) use built::flag;
pub use built::{Built, Origin, Stated};
pub use load::{Buckets, Load};
pub use scrapes::{Counted, Reading, Scrapes};

//! Folds that answer questions.
//!
//! Each is a pure fold of ledger entries in position order, ordered maps only, so that two nodes, or one node twice, come to
//! the same state to the byte. [`governance::Governance`] folds the governance ledger alone; [`slo::Slo`] folds the metrics
//! ledgers from cut to cut.

pub mod alerts;
pub mod answers;
pub mod backups;
pub mod capacity;
pub mod gates;
pub mod governance;
pub mod ids;
pub mod incidents;
pub mod keys;
pub mod last_good;
pub mod maintenance;
pub mod policies;
pub mod rollbacks;
pub mod slo;
pub mod speculation;
pub mod stacks;
pub mod timeline;
pub mod waivers;
pub mod what_if;

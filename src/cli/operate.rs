//! Commands that a host runs beside the serving stack: they act there, and report to the ledger what they did.

mod backup;
mod ledgers;
mod report;
mod restore_ledgers;
mod rollback;
mod supervise;
mod wait;
mod warmup;

pub(super) use backup::run as backup;
pub(super) use rollback::run as rollback;
pub(super) use wait::run as wait_traffic;
pub(super) use warmup::run as warmup;

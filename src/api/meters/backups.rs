//! Backups and restores that a stack owes, by the ledger's own time.

use prometheus_client::registry::Registry;

use super::{as_f64, gauges, set};
use crate::api::ApiState;
use crate::projection::answers::backup_duties;

/// By stack.
pub(super) fn backups(state: &ApiState, registry: &mut Registry) {
    let duties = backup_duties(&state.handle().shared().governance());
    let backup = gauges(
        registry,
        "govledger_backup_overdue",
        "1 where the engine that serves has no verified backup 48 hours after it came",
    );
    let drill = gauges(
        registry,
        "govledger_backup_drill_overdue",
        "1 where no backup of the stack was restored for 90 days, if only for practice",
    );
    for duty in duties {
        let labels = vec![("stack", duty.stack)];
        set(&backup, &labels, as_f64(u64::from(duty.backup_overdue)));
        set(&drill, &labels, as_f64(u64::from(duty.drill_overdue)));
    }
}

//! Rollbacks under way, and rehearsals past due, by the ledger's own time.

use prometheus_client::registry::Registry;

use super::{as_f64, gauges, set};
use crate::api::ApiState;
use crate::projection::answers::ways_back;

/// By stack.
pub(super) fn rollbacks(state: &ApiState, registry: &mut Registry) {
    let ways = ways_back(&state.handle().shared().governance());
    let overdue = gauges(
        registry,
        "govledger_rollback_rehearsal_overdue",
        "1 where the way back was not gone for 30 days, if only for practice",
    );
    let stopped = gauges(registry, "govledger_rollback_stopped", "1 where a rollback stopped and nobody has gone on");
    for way in ways {
        let labels = vec![("stack", way.stack)];
        set(&overdue, &labels, as_f64(u64::from(way.rehearsal_overdue)));
        set(&stopped, &labels, as_f64(u64::from(way.stopped)));
    }
}

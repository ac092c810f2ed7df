//! What this node told the outside, in figures.

use prometheus_client::registry::Registry;

use super::{Gauges, Labels, as_f64, counters, gauges, seconds, set};
use crate::api::ApiState;
use crate::domain::leaf;
use crate::domain::time::MICROS_PER_SECOND;
use crate::notify::{Endpoint, EndpointState};

/// Deliveries by endpoint.
pub(super) fn deliveries(state: &ApiState, registry: &mut Registry) {
    let delivered = counters(registry, "govledger_notify_delivered", "Messages that an endpoint took");
    let failed = counters(registry, "govledger_notify_failed", "Attempts that failed; most are made again");
    let dead = counters(registry, "govledger_notify_dead", "Messages that were given up");
    let pending = gauges(registry, "govledger_notify_pending", "Messages that are tried again");
    let lag = gauges(registry, "govledger_notify_lag_seconds", "Age of the oldest entry that is still to be told");
    let states = gauges(registry, "govledger_notify_state", "1 for the state that holds");
    for endpoint in state.deliveries().endpoints {
        let labels = || vec![("endpoint", endpoint.name.clone())];
        delivered.get_or_create(&labels()).inc_by(endpoint.delivered);
        failed.get_or_create(&labels()).inc_by(endpoint.failed_total);
        dead.get_or_create(&labels()).inc_by(endpoint.dead_total);
        set(&pending, &labels(), as_f64(endpoint.pending_total));
        set(&lag, &labels(), lag_seconds(state, &endpoint));
        set_states(&states, &labels(), endpoint.state);
    }
}

/// The witnesses of the policy in force; no series where it names none.
pub(super) fn witnesses(state: &ApiState, registry: &mut Registry) {
    let sizes = gauges(registry, "govledger_witness_size", "Entries under the checkpoint that it last cosigned");
    let times = gauges(registry, "govledger_witness_time_seconds", "When it last cosigned, as it says");
    let failures = counters(registry, "govledger_witness_failures", "Attempts that failed; they are made again");
    let alarms = gauges(registry, "govledger_witness_alarm", "1 where it holds another history, or a longer one");
    let size = gauges(registry, "govledger_cosigned_size", "Entries under the latest checkpoint that had its quorum");
    let time = gauges(registry, "govledger_cosigned_time_seconds", "The latest time that a cosignature on it states");
    let told = state.deliveries();
    for row in &told.witnesses {
        let labels = || vec![("witness", row.name.clone())];
        set(&sizes, &labels(), as_f64(row.size.unwrap_or_default()));
        set(&times, &labels(), seconds(row.time.unwrap_or_default()));
        failures.get_or_create(&labels()).inc_by(row.failures_total);
        set(&alarms, &labels(), f64::from(u8::from(row.alarm.is_some())));
    }
    if !told.witnesses.is_empty() {
        let cosigned = told.cosigned.filter(|cosigned| cosigned.has_quorum);
        set(&size, &Vec::new(), as_f64(cosigned.as_ref().map_or(0, |cosigned| cosigned.size)));
        set(&time, &Vec::new(), seconds(cosigned.and_then(|cosigned| cosigned.time).unwrap_or_default()));
    }
}

fn set_states(states: &Gauges, labels: &Labels, holds: EndpointState) {
    for (name, state) in
        [("active", EndpointState::Active), ("failing", EndpointState::Failing), ("disabled", EndpointState::Disabled)]
    {
        let mut labels = labels.clone();
        labels.push(("state", name.to_owned()));
        set(states, &labels, f64::from(u8::from(state == holds)));
    }
}

/// How long the oldest entry has waited that this endpoint was not told of, nor given up for it; 0 where none waits.
#[expect(clippy::cast_precision_loss, reason = "a metric is a binary float by its format")]
fn lag_seconds(state: &ApiState, endpoint: &Endpoint) -> f64 {
    let shared = state.handle().shared();
    let pending = endpoint.pending.iter().map(|pending| pending.position);
    let oldest = pending.chain([endpoint.cursor]).min().filter(|oldest| *oldest < shared.governance().size);
    let entry = oldest.and_then(|oldest| shared.reader("governance")?.entry(oldest).ok());
    let time = entry.as_deref().and_then(|entry| leaf::split(entry).ok()).map(|leaf| leaf.header.time);
    let micros = time.map_or(0, |time| state.handle().now().micros_since(time).max(0));
    micros as f64 / MICROS_PER_SECOND as f64
}

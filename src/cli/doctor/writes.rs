//! What a node would write to where, with sizes of real records.

use serde::Serialize;

use crate::cli::error::CliError;
use crate::config::Config;
use crate::domain::cut::{Cut, CutLedger};
use crate::domain::time::Time;
use crate::ingest::kafka::doctor::Patient;
use crate::sequencer::Saying;

/// Cuts a day while requests come.
const CUTS_A_DAY: usize = 8_640;

/// One kind of thing in one place.
#[derive(Debug, Serialize)]
pub(super) struct Write {
    pub(super) place: String,
    pub(super) what: String,
}

pub(super) fn writes(
    config: &Config,
    patient: Option<&Patient>,
    metrics_partitions: usize,
) -> Result<Vec<Write>, CliError> {
    let mut writes = Vec::new();
    let mut add = |place: &str, what: String| writes.push(Write { place: place.to_owned(), what });
    match patient {
        None => add("no topic", "this node takes its order from its own queue".to_owned()),
        Some(patient) if !patient.writes => {
            add("no topic", "a shadow writes to none and commits no offset".to_owned());
        }
        Some(patient) => {
            let governance = format!("topic {}, partition 0", patient.governance);
            let bytes = cut_bytes(metrics_partitions)?;
            add(
                &governance,
                format!(
                    "a cut every 10 s while records come (about {bytes} bytes, {:.1} MB a day), else one a minute",
                    f64::from(u32::try_from(bytes * CUTS_A_DAY / 100_000).unwrap_or(u32::MAX)) / 10.0
                ),
            );
            add(
                &governance,
                "at cuts: alerts, engines proven, spend and end of waivers, incidents' figures".to_owned(),
            );
            add(&governance, "what is asked for or reported over this node's API, and its decisions".to_owned());
            if config.policy.is_some() {
                add(
                    &governance,
                    "the configured policy, once, while the ledger has neither a cut nor a policy".to_owned(),
                );
            }
            add(&format!("topic {}", patient.metrics), "only what is posted to this node's /v1/metrics".to_owned());
            add(
                "topic __consumer_offsets",
                format!(
                    "the offsets of group govledger-{}, at most every 5 s a partition, for lag displays",
                    patient.node
                ),
            );
        }
    }
    match &config.notify {
        Some(_) if patient.is_none_or(|patient| patient.writes) => {
            add("those under [notify]", "firing and resolved alerts, and what the webhooks subscribe to".to_owned());
        }
        Some(_) | None => add("nobody else", "nobody is notified".to_owned()),
    }
    add(&format!("{}", config.data.display()), "the ledgers, the cache, the access trail".to_owned());
    Ok(writes)
}

/// The size of a cut over so many partitions, sealed as it would be.
fn cut_bytes(partitions: usize) -> Result<usize, CliError> {
    let ledger = |number| CutLedger { ledger: number, size: 100_000_000, root: ledger::tree::EMPTY_ROOT };
    let ledgers = (0..u32::try_from(partitions).unwrap_or_default()).map(ledger).collect();
    let cut = Cut { instant: Time::from_seconds(1_800_000_000), ledgers, missing: Vec::new() };
    // Any key makes an envelope of the same length.
    Ok(Saying::cut(&cut).seal(&ledger::key::LedgerKey::generate([7; 32]))?.len())
}

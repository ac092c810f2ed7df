//! One partition: what is still to be read of it and for how long, whether it may be read, and its broker's clock.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;

use super::super::checks::tool;
use super::super::client::{self, Consumer};
use super::super::config::KafkaConfig;
use super::super::error::doing;
use super::super::source::Place;
use super::{CLOCK_SECONDS_MAX, FRESH_WAIT, Finding, Findings, KafkaIntakeError, Level, Patient, acl};
use crate::clock::monotonic;
use crate::domain::time::{MICROS_PER_SECOND, Time};

#[expect(clippy::too_many_arguments, reason = "what is known of the one partition")]
pub(super) fn look_at(
    config: &KafkaConfig,
    patient: &Patient,
    place: &Place,
    ledger: &str,
    next: Option<u64>,
    retention_ms: Option<i64>,
    now: &(impl Fn() -> Time + Send),
    found: &mut Findings,
) -> Result<(), KafkaIntakeError> {
    let consumer = client::consumer(config, &patient.node)?;
    let (low, end) = consumer
        .fetch_watermarks(&place.topic, place.number(), config.request_timeout())
        .map_err(doing("a partition's first and last offset"))?;
    let (low, end) = (u64::try_from(low).unwrap_or_default(), u64::try_from(end).unwrap_or_default());
    let from = next.unwrap_or(low);
    let at = format!("{}, partition {}", place.topic, place.partition);
    if end < from {
        let what = format!("{at} ends at {end}, and {ledger} was read to {from}: the topic was made anew or cut short");
        let fix = "this ledger goes on with the topic it was made from alone; for another, make a new data directory with `govledger init`";
        found.findings.push(Finding::bad("lag", Level::Error, what, fix));
    } else if from < low {
        let what = format!("{at}: offsets {from} to {} expired before {ledger} read them", low - 1);
        let last = low - 1;
        let fix =
            format!("govledger confirm-hole {ledger} --from {from} --to {last} --reason TEXT, and a longer retention");
        found.findings.push(Finding::bad("lag", Level::Error, what, fix));
    } else if next.is_none() && low > 0 {
        let what = format!("{at} begins at offset {low}: what is older has expired, and the ledger will say so");
        found.findings.push(Finding::fine("lag", what));
    }
    if end <= from {
        if end == from {
            found.findings.push(Finding::fine("lag", format!("{at}: nothing to read beyond offset {end}")));
        }
        return look_at_clock(config, &consumer, place, end.max(low), end, now, found);
    }
    // The oldest record that is still to be read says how much time is left for it.
    let oldest = match first_record(&consumer, place, from.max(low), config.request_timeout())? {
        Oldest::Stamped(time) => Some(time),
        Oldest::Unknown => None,
        Oldest::Forbidden => {
            found.findings.push(may_not_read(config, place));
            return Ok(());
        }
    };
    if let (Some(oldest), Some(retention)) = (oldest, retention_ms.filter(|retention| *retention >= 0)) {
        let age_ms = now().micros_since(oldest) / 1_000;
        let left_h = (retention - age_ms) / 3_600_000;
        let behind = end - from.max(low);
        let what = format!(
            "{at}: {behind} records to read, the oldest {} h old, kept for another {} h",
            age_ms / 3_600_000,
            left_h.max(0)
        );
        let tight = next.is_some() && retention - age_ms < retention / 4;
        found.findings.push(if tight {
            let fix = tool(
                config,
                "kafka-configs.sh",
                &format!("--alter --topic {} --add-config retention.ms=-1", place.topic),
            );
            Finding::bad("lag", Level::Warning, what, format!("start the service soon, or first: {fix}"))
        } else {
            Finding::fine("lag", what)
        });
    } else {
        found.findings.push(Finding::fine("lag", format!("{at}: {} records to read", end - from.max(low))));
    }
    look_at_clock(config, &client::consumer(config, &patient.node)?, place, end - 1, end, now, found)
}

/// What a broker over which rights cannot be asked says once it is read from.
fn may_not_read(config: &KafkaConfig, place: &Place) -> Finding {
    let what = format!("this client may not Read {}", place.topic);
    Finding::bad("rights", Level::Error, what, acl(config, "Read", &place.topic))
}

fn is_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

/// What is known of the first record that is to be read.
enum Oldest {
    Stamped(Time),
    Unknown,
    Forbidden,
}

/// The stamp of the first record from `offset` on.
fn first_record(consumer: &Consumer, place: &Place, offset: u64, limit: Duration) -> Result<Oldest, KafkaIntakeError> {
    place.assign(consumer, offset)?;
    let began = monotonic();
    while let Some(left) = limit.checked_sub(began.elapsed()) {
        match consumer.poll(left.min(Duration::from_millis(200))) {
            Some(Ok(message)) => {
                let stamp = message.timestamp().to_millis().map(Time::from_millis);
                return Ok(stamp.map_or(Oldest::Unknown, Oldest::Stamped));
            }
            Some(Err(error)) if is_forbidden(&error) => return Ok(Oldest::Forbidden),
            Some(Err(error)) if !matches!(error, KafkaError::MessageConsumption(_)) => {
                return Err(doing("a record")(error));
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(Oldest::Unknown)
}

/// A record that comes while we wait shows both clocks; an older one only whether its stamp is ahead of ours.
fn look_at_clock(
    config: &KafkaConfig,
    consumer: &Consumer,
    place: &Place,
    from: u64,
    end: u64,
    now: &(impl Fn() -> Time + Send),
    found: &mut Findings,
) -> Result<(), KafkaIntakeError> {
    place.assign(consumer, from)?;
    let (began, mut ahead, mut fresh) = (monotonic(), None, None);
    while fresh.is_none()
        && let Some(left) = FRESH_WAIT.checked_sub(began.elapsed())
    {
        let polled = consumer.poll(left.min(Duration::from_millis(100)));
        if matches!(&polled, Some(Err(error)) if is_forbidden(error)) {
            found.findings.push(may_not_read(config, place));
            return Ok(());
        }
        if let Some(Ok(message)) = polled {
            let Some(stamp) = message.timestamp().to_millis().map(Time::from_millis) else { continue };
            let off = stamp.micros_since(now());
            if u64::try_from(message.offset()).unwrap_or_default() >= end {
                fresh = Some(off);
            } else if off > 0 {
                ahead = Some(off);
            }
        }
    }
    let at = format!("{}, partition {}", place.topic, place.partition);
    let seconds =
        |micros: i64| format!("{:.1} s", f64::from(i32::try_from(micros / 100_000).unwrap_or(i32::MAX)) / 10.0);
    let max = CLOCK_SECONDS_MAX * MICROS_PER_SECOND;
    let fix = "keep both clocks by NTP (chronyc tracking shows how far off this one is); cuts follow this node's clock, times of entries the broker's";
    found.findings.push(match (fresh, ahead) {
        (Some(off), _) if off.abs() > max => {
            let what = format!("{at}: a record came stamped {} off this machine's clock", seconds(off));
            Finding::bad("clock", Level::Error, what, fix)
        }
        (Some(off), _) => {
            Finding::fine("clock", format!("{at}: a record came stamped within {} of this clock", seconds(off.abs())))
        }
        (None, Some(off)) if off > max => {
            let what = format!("{at}: its last record is stamped {} ahead of this machine's clock", seconds(off));
            Finding::bad("clock", Level::Error, what, fix)
        }
        (None, _) => Finding {
            check: "clock",
            level: Level::Unknown,
            what: format!("{at}: no record came to compare the clocks by; no stamp is ahead of this one"),
            fix: None,
        },
    });
    Ok(())
}

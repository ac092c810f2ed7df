//! The cut: a governance entry that says how large the metrics ledgers were at an instant.
//!
//! Everything that spans ledgers is folded from cut to cut, so that a replay takes the steps of the day itself.

use serde::{Deserialize, Serialize};

use super::time::Time;

/// Seconds between cuts while anything happens; every cut's instant is a multiple of it.
pub const CUT_SECONDS: i64 = 10;
/// Seconds between cuts once the stack has been quiet for [`QUIET_AFTER_SECONDS`].
pub const QUIET_CUT_SECONDS: i64 = 60;
/// Seconds after the last record or report until cuts thin out.
pub const QUIET_AFTER_SECONDS: i64 = 20 * 60;
/// A cut dated more than this after its own entry's time is refused.
pub const CUT_AHEAD_SECONDS_MAX: i64 = 60;

/// The sizes and roots of the metrics ledgers at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// A multiple of ten seconds, UTC.
    pub instant: Time,
    /// Every metrics ledger that exists, by number.
    pub ledgers: Vec<CutLedger>,
    /// Numbers of those that could not be read for ten seconds and keep their last size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<u32>,
}

/// One metrics ledger in a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CutLedger {
    /// The n of `metrics-<n>`.
    pub ledger: u32,
    /// Entries, the first (settings) entry included.
    pub size: u64,
    /// Root at that size, base64.
    #[serde(with = "hash_text")]
    #[schemars(with = "String")]
    pub root: ledger::Hash,
}

impl Cut {
    /// The size of `metrics-<ledger>` at this cut; 0 where the cut does not list it.
    pub fn size_of(&self, ledger: u32) -> u64 {
        self.ledgers.iter().find(|listed| listed.ledger == ledger).map_or(0, |listed| listed.size)
    }
}

/// The instant of the cut that follows `last`, when the last record or report was stamped `active_until`.
pub fn next_instant(last: Time, active_until: Time) -> Time {
    let next = last.floor_to_seconds(CUT_SECONDS).plus_seconds(CUT_SECONDS);
    if next <= active_until.plus_seconds(QUIET_AFTER_SECONDS) { next } else { next.ceil_to_seconds(QUIET_CUT_SECONDS) }
}

/// The latest instant not after `now` at which a cut is due, whatever was left out before it.
pub fn latest_instant(now: Time, active_until: Time) -> Time {
    let latest = now.floor_to_seconds(CUT_SECONDS);
    if latest <= active_until.plus_seconds(QUIET_AFTER_SECONDS) {
        latest
    } else {
        now.floor_to_seconds(QUIET_CUT_SECONDS)
    }
}

/// Serde of a [`ledger::Hash`] as base64 text.
pub mod hash_text {
    use ledger::Hash;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As base64.
    pub fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hash)
    }

    /// From base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_discarded| serde::de::Error::custom(format!("{text:?} is not a base64 SHA-256 hash")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_thin_out_after_twenty_quiet_minutes() {
        let at = Time::from_seconds;
        assert_eq!(next_instant(at(0), at(0)), at(10));
        assert_eq!(next_instant(at(1190), at(0)), at(1200));
        assert_eq!(next_instant(at(1200), at(0)), at(1260));
        assert_eq!(next_instant(at(1260), at(1255)), at(1270));
        // The last record on the grid, and the end of the twenty minutes between full ones.
        assert_eq!(next_instant(at(1200), at(10)), at(1210));
        assert_eq!(latest_instant(at(1209), at(0)), at(1200));
        assert_eq!(latest_instant(at(1219), at(0)), at(1200));
        assert_eq!(latest_instant(at(1259), at(100)), at(1250));
    }
}

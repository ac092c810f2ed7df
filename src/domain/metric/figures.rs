//! What a rule measured in a window, as exact integers: enough to repeat the verdict, and to add windows of several ledgers.

use serde::{Deserialize, Serialize};

/// The figures behind a verdict. Two windows' figures add up to those of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Figures {
    /// Met when `below` is at least 95 % of `samples`: then, and only then, is the nearest-rank P95 below the threshold.
    Percentile {
        /// Records that report the measure.
        samples: u64,
        /// Those of them below the threshold.
        below: u64,
    },
    /// Met when `part` / `whole` is not below the threshold.
    Ratio {
        /// Records that report the measure.
        samples: u64,
        /// Hits, or accepted draft tokens.
        part: u64,
        /// Hits and misses, or attempted draft tokens.
        whole: u64,
    },
    /// Met when there is no offence.
    Offences {
        /// Records in the window.
        samples: u64,
        /// Those of them that offend.
        offences: u64,
    },
    /// Met when it is shorter than the rule's window.
    Silence {
        /// Seconds since the last record, or since the engine became current.
        seconds: u64,
    },
}

impl Figures {
    /// Records that the verdict rests on.
    pub const fn samples(&self) -> u64 {
        match *self {
            Self::Percentile { samples, .. } | Self::Ratio { samples, .. } | Self::Offences { samples, .. } => samples,
            Self::Silence { .. } => 0,
        }
    }

    /// Records among them that are in breach by themselves. A ratio is in breach as a whole, and has none.
    pub const fn breaching(&self) -> u64 {
        match *self {
            Self::Percentile { samples, below } => samples.saturating_sub(below),
            Self::Offences { offences, .. } => offences,
            Self::Ratio { .. } | Self::Silence { .. } => 0,
        }
    }
}

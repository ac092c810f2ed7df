//! When the stack's reports came, as far as the spacing of cuts asks: the last one up to the last cut, and those after it.
//!
//! Of the reports after the cut the last of each ten seconds is kept, so that a stream of reports neither fills memory while
//! no cut is made nor puts off the cut that its first one asks for.

use serde::{Deserialize, Serialize};

use crate::domain::cut::CUT_SECONDS;
use crate::domain::time::Time;

/// Times of reports before and after the last cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportTimes {
    before: Option<Time>,
    after: Vec<Time>,
}

impl ReportTimes {
    /// The last report up to the instant of the last cut.
    pub const fn before_cut(&self) -> Option<Time> {
        self.before
    }

    /// The first ten seconds with a report after that instant: a report in them.
    pub fn after_cut(&self) -> Option<Time> {
        self.after.first().copied()
    }

    /// The last of all.
    pub fn latest(&self) -> Option<Time> {
        self.after.last().copied().max(self.before)
    }

    /// A report. Entry times never go back.
    pub(super) fn see(&mut self, time: Time, last_cut: Option<Time>) {
        if last_cut.is_some_and(|instant| time <= instant) {
            self.before = self.before.max(Some(time));
            return;
        }
        let slot = |time: Time| time.ceil_to_seconds(CUT_SECONDS);
        match self.after.last_mut() {
            Some(last) if slot(*last) == slot(time) => *last = time,
            _ => self.after.push(time),
        }
    }

    /// A cut.
    pub(super) fn cut(&mut self, instant: Time) {
        let covered = self.after.partition_point(|time| *time <= instant);
        self.before = self.after.drain(..covered).next_back().max(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_report_after_a_cut_is_not_put_off_by_later_ones() {
        let at = Time::from_seconds;
        let mut reports = ReportTimes::default();
        for seconds in [12, 15, 21, 38] {
            reports.see(at(seconds), None);
        }
        assert_eq!((reports.before_cut(), reports.after_cut()), (None, Some(at(15))));
        reports.cut(at(20));
        assert_eq!((reports.before_cut(), reports.after_cut()), (Some(at(15)), Some(at(21))));
        reports.see(at(40), Some(at(20)));
        reports.cut(at(40));
        assert_eq!((reports.before_cut(), reports.after_cut()), (Some(at(40)), None));
        reports.see(at(39), Some(at(40)));
        assert_eq!((reports.before_cut(), reports.after_cut()), (Some(at(40)), None));
    }
}

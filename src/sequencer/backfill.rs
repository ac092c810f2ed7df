//! Backfill: history with its recorded times, in steps from cut to cut.
//!
//! The intake merges the files of one command by time and hands over one step for each cut; the writer appends a step's
//! records, then its reports, then makes the cut. So a history takes the same steps as the day itself.

use super::core::{Core, Incoming};
use super::error::SequencerError;
use super::metrics::MetricsChunk;
use crate::domain::leaf::Header;
use crate::domain::time::Time;
use crate::projection::governance::Verdict;

/// A governance line with its recorded time in the header.
#[derive(Debug)]
pub struct RecordedLine {
    /// Time, file and line.
    pub header: Header,
    /// The line.
    pub body: Vec<u8>,
}

/// What happened up to one cut.
#[derive(Debug, Default)]
pub struct BackfillStep {
    /// Reports, by time.
    pub governance: Vec<RecordedLine>,
    /// Metric records, by time.
    pub metrics: Vec<MetricsChunk>,
    /// The cut that ends the step.
    pub cut: Option<Time>,
}

impl Core {
    /// Takes one step; the verdicts of its reports.
    pub fn backfill(&mut self, step: BackfillStep) -> Result<Vec<Verdict>, SequencerError> {
        if !step.metrics.is_empty() {
            self.append_metrics(0, step.metrics)?;
        }
        let items = step.governance.into_iter().map(|line| Incoming { header: line.header, body: line.body }).collect();
        let verdicts = self.append_governance(items)?.into_iter().map(|outcome| outcome.verdict).collect();
        if let Some(instant) = step.cut {
            self.make_cut(instant)?;
        }
        Ok(verdicts)
    }
}

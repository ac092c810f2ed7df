//! Lines of a file that are not here yet, on their way to the ledger they belong to.

use super::{FileKind, HEADER_BYTES, IngestError, Report};
use crate::domain::leaf::Header;
use crate::sequencer::{Handle, MetricsChunk, Prepare, Submission};

/// Lines gathered for one hand-over, in their order.
pub(super) enum Fresh {
    /// Events, whose verdicts are waited for.
    Events(Vec<Submission>),
    /// Records for a broker.
    Records(Vec<Submission>),
    /// Records for the writer of this process, parsed and framed as they come.
    Chunk(Box<MetricsChunk>, Prepare),
}

impl Fresh {
    /// Room for the lines of `bytes`.
    pub(super) fn new(handle: &Handle, kind: FileKind, bytes: &[u8]) -> Self {
        match kind {
            FileKind::Governance => Self::Events(Vec::new()),
            FileKind::Metrics if handle.is_kafka() => Self::Records(Vec::new()),
            FileKind::Metrics => {
                let lines = memchr::memchr_iter(b'\n', bytes).count() + 1;
                let chunk = MetricsChunk::with_capacity(lines, bytes.len() + lines * HEADER_BYTES);
                Self::Chunk(Box::new(chunk), handle.prepare())
            }
        }
    }

    /// Adds a line; what a record counts for is known at once and goes into `report`.
    pub(super) fn push(&mut self, header: Header, body: &[u8], report: &mut Report) -> Result<(), IngestError> {
        match self {
            Self::Events(items) | Self::Records(items) => items.push(Submission { header, body: body.to_vec() }),
            Self::Chunk(chunk, prepare) => match prepare.push(chunk, header, body)? {
                Ok(_) => report.admitted += 1,
                Err(_) => report.rejected += 1,
            },
        }
        Ok(())
    }

    /// Hands all of them in and waits until they are durable; whether they are known to be in the ledgers now.
    pub(super) async fn hand_in(self, handle: &Handle, report: &mut Report) -> Result<bool, IngestError> {
        match self {
            Self::Events(items) if !items.is_empty() => {
                for outcome in handle.submit_lines(items).await? {
                    report.count(&outcome.verdict);
                }
            }
            Self::Records(items) if !items.is_empty() => {
                let read_back = handle.produce_metrics_read_back(items).await?;
                report.admitted += read_back.produced.len() as u64;
                return Ok(read_back.is_here);
            }
            Self::Chunk(chunk, _) if !chunk.is_empty() => {
                handle.append_metrics_waiting(0, *chunk).await?;
            }
            Self::Events(_) | Self::Records(_) | Self::Chunk(..) => {}
        }
        Ok(true)
    }
}

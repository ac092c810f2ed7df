//! Reading one segment from end to end, batch by batch, into tree and index.
//!
//! A batch counts when its checkpoint frame is there, whole. What follows the last one is counted and
//! judged by the caller.

use std::{path::Path, sync::Arc};

use crate::{
    derived::DerivedWriter,
    disk::DiskFile,
    error::{Damage, Error, IoContext as _},
    frame::FrameKind,
    hash::Hash,
    layout::SEGMENT_DATA_AT,
    scanner::{Fault, Scan, Scanner},
};

/// How much one read asks for where a segment is read from end to end.
pub(crate) const SCAN_READ_BYTES: usize = 1 << 18;

/// What a segment holds up to its last checkpoint frame.
pub(crate) struct Scanned {
    /// The last batch: where it begins and where it ends.
    pub(crate) batch: std::ops::Range<u64>,
    /// The last checkpoint frame's text.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// Whole entries after it.
    pub(crate) tail_entries: u64,
    /// Where reading stopped, and at what, unless at the end of the file between two frames.
    pub(crate) fault: Option<(u64, Fault)>,
}

/// Reads a segment and takes each closed batch into tree and index.
pub(crate) fn scan(path: &Path, file: &Arc<dyn DiskFile>, derived: &mut DerivedWriter) -> Result<Scanned, Error> {
    let mut scanner = Scanner::new(Arc::clone(file), SEGMENT_DATA_AT, SCAN_READ_BYTES);
    let mut batch: Vec<(Hash, u64)> = Vec::new();
    let mut found = Scanned { batch: SEGMENT_DATA_AT..SEGMENT_DATA_AT, checkpoint: None, tail_entries: 0, fault: None };
    loop {
        let offset = scanner.offset();
        match scanner.next().at("read", path)? {
            Scan::Frame(frame) if frame.kind == FrameKind::Entry => {
                batch.push((frame.leaf(), frame.offset));
            }
            Scan::Frame(frame) => {
                for (leaf, offset) in batch.drain(..) {
                    derived.push(leaf, offset);
                }
                if derived.is_full() {
                    derived.flush()?;
                }
                found.batch = found.batch.end..frame.end();
                found.checkpoint = Some(frame.payload().to_vec());
            }
            Scan::End => break,
            Scan::Bad(fault) => {
                found.fault = Some((offset, fault));
                break;
            }
        }
    }
    found.tail_entries = batch.len() as u64;
    Ok(found)
}

/// The damage that a fault is where no torn write can be the reason.
pub(crate) fn fault_damage(path: &Path, scanned: &Scanned, size: u64) -> Error {
    let position = size + scanned.tail_entries;
    let (offset, fault) = scanned.fault.unwrap_or((scanned.batch.end, Fault::Short));
    Damage::error(path, offset, fault.kind(position))
}

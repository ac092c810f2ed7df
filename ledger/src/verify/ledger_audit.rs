//! The audit of a ledger's directory: every frame, hash, checkpoint and file.
//!
//! Threads take units (see `unit`) and check them; what needs the tree to the left (the roots of
//! checkpoints, hashes that span units, how segments join) is merged in order here. A fault that only
//! spoils one entry is reported once, and the audit goes on past it; where the frames of a segment can no
//! longer be followed, it goes on with the next segment, on the stored edge, if that gives the signed root.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    audit::{AuditProgress, AuditReport, OnProgress, as_problem, threads},
    unit::{Against, Checked, Piece, check, check_stored},
    walk::Walker,
};
use crate::{
    block::Block,
    chain::KeyChain,
    derived::{DerivedFiles, TreeView},
    disk::{Access, Disk},
    error::{Damage, DamageKind, Error, IoContext as _},
    layout::{belongs, check_identity, find_segment, head_path, list_segments, segment_path, segments_dir},
    note::VerifierKey,
    recovery::{Head, read_head, sealed_is_last},
    tile::TILE_HEIGHT,
    tiles::TileCache,
    tree::{EMPTY_ROOT, Frontier},
};

/// A writer may be writing the head file this moment.
const HEAD_READS_MAX: usize = 100;

pub(super) fn audit_ledger(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    key: &VerifierKey,
    progress: OnProgress<'_>,
) -> Result<AuditReport, Error> {
    let keys = &KeyChain::load(disk.as_ref(), dir, key)?;
    let head = durable_head(disk.as_ref(), dir, keys)?;
    let segments = list_segments(disk.as_ref(), dir)?;
    // Another ledger than the key's is no damage, and is told apart before anything is checked.
    if let Some(&first) = segments.first() {
        let segment = find_segment(disk.as_ref(), dir, first, &Arc::default());
        match segment.and_then(|segment| segment.header(first)) {
            Ok(Some(block)) => check_identity(dir, &block, keys)?,
            // What is wrong is found again below, with its place.
            Ok(None) | Err(Error::Damage(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let report = match &head {
        Some(head) => AuditReport::new(head.checkpoint.size(), head.checkpoint.root()),
        None => AuditReport::new(0, EMPTY_ROOT),
    };
    let files = DerivedFiles::new(Arc::clone(disk), dir, Access::Read);
    let against = Against { dir, keys, files: &files };
    let mut merge = Merge { against: &against, head, report, frontier: Frontier::new(), is_broken: false, progress };
    merge.check_names(disk.as_ref(), &segments)?;
    // What lies beyond the head was never acknowledged, or is being written now. Without a head the last
    // segment counts to its end.
    let last = segments.last().copied().unwrap_or(0);
    let limit = merge.head.as_ref().map_or((last, u64::MAX), |head| (head.segment, head.end));
    let segments: Vec<u64> = segments.into_iter().filter(|first| *first <= limit.0).collect();
    let walker = Walker::new(disk.as_ref(), dir, segments, limit);
    let mut merge = run(walker, merge)?;
    merge.finish();
    Ok(merge.report)
}

fn durable_head(disk: &dyn Disk, dir: &Path, keys: &KeyChain) -> Result<Option<Block>, Error> {
    for _ in 0..HEAD_READS_MAX {
        match read_head(disk, dir, keys)? {
            Head::Block(block) => return Ok(Some(*block)),
            Head::Missing => break,
            Head::Unreadable => std::thread::yield_now(),
        }
    }
    Ok(None)
}

/// What the threads share: where units come from, and where they go.
struct Order<'a, 'b> {
    merge: Merge<'a, 'b>,
    /// The number of the next unit to merge.
    next: u64,
    /// Units checked before those to their left; no more than there are threads.
    early: BTreeMap<u64, Checked>,
    error: Option<Error>,
}

fn run<'a, 'b>(walker: Walker<'_>, merge: Merge<'a, 'b>) -> Result<Merge<'a, 'b>, Error> {
    let against = merge.against;
    let walker = Mutex::new(walker);
    let order = Mutex::new(Order { merge, next: 0, early: BTreeMap::new(), error: None });
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                let mut buffer = Vec::new();
                loop {
                    let unit = walker.lock().unwrap_or_else(PoisonError::into_inner).next(std::mem::take(&mut buffer));
                    let mut checked = match unit {
                        Ok(None) => break,
                        Ok(Some(unit)) => check(unit, against),
                        Err(error) => Err(error),
                    };
                    if let Ok(checked) = &mut checked {
                        buffer = checked.unit.take_buffer();
                    }
                    let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Err(error) = checked.and_then(|checked| order.take(checked)) {
                        order.error.get_or_insert(error);
                    }
                    if order.error.is_some() {
                        break;
                    }
                }
            });
        }
    });
    let order = order.into_inner().unwrap_or_else(PoisonError::into_inner);
    order.error.map_or(Ok(order.merge), Err)
}

impl Order<'_, '_> {
    fn take(&mut self, checked: Checked) -> Result<(), Error> {
        self.early.insert(checked.unit.number, checked);
        while let Some(checked) = self.early.remove(&self.next) {
            self.next += 1;
            self.merge.unit(checked)?;
        }
        Ok(())
    }
}

/// The tree from the left, and what was found wrong.
struct Merge<'a, 'b> {
    against: &'a Against<'a>,
    head: Option<Block>,
    report: AuditReport,
    frontier: Frontier,
    /// Whether the tree to the left is unknown until a segment begins whose signed root can be met again.
    is_broken: bool,
    progress: OnProgress<'b>,
}

impl Merge<'_, '_> {
    fn check_names(&mut self, disk: &dyn Disk, segments: &[u64]) -> Result<(), Error> {
        let dir = segments_dir(self.against.dir);
        for name in disk.list(&dir).at("list", &dir)? {
            if !belongs(&name) {
                self.report.add(Damage { file: dir.join(name), offset: 0, kind: DamageKind::Unknown });
            }
        }
        let wanted = [Some(0), self.head.as_ref().map(|head| head.segment)];
        for position in wanted.into_iter().flatten().filter(|first| !segments.contains(first)) {
            let kind = DamageKind::SegmentMissing { position };
            self.report.add(Damage { file: dir.clone(), offset: 0, kind });
        }
        if let Some(&last) = segments.last() {
            let raw = segment_path(self.against.dir, last);
            if disk.stat(&raw).at("examine", &raw)?.is_none() {
                self.report.add(as_problem(sealed_is_last(disk, self.against.dir, last))?);
            }
        }
        if self.head.is_none() {
            self.report.add(Damage { file: head_path(self.against.dir), offset: 0, kind: DamageKind::Head });
        }
        Ok(())
    }

    fn segment_problem(&mut self, path: &Path, offset: u64, kind: DamageKind) {
        self.report.add(Damage { file: path.to_owned(), offset, kind });
    }

    fn unit(&mut self, checked: Checked) -> Result<(), Error> {
        let Checked { unit, pieces, problems, entries, is_broken, ends_with_checkpoint } = checked;
        if let Some(damage) = unit.unreadable {
            self.report.add(damage);
            self.is_broken = true;
            return Ok(());
        }
        if unit.opens {
            self.open(unit.segment, &unit.path, unit.header.as_ref());
        }
        // Where positions are not known, what follows from them says nothing.
        if self.is_broken {
            return Ok(());
        }
        for problem in problems {
            self.report.add(problem);
        }
        // Checkpoints first: they compare with the tree as it was before the unit.
        for piece in &pieces {
            if let Piece::Checkpoint { offset, root: signed, before } = piece {
                let mut edge = self.frontier.clone();
                for (height, hash) in before {
                    edge.push_with(*height, *hash, |_, _| ());
                }
                let computed = edge.root();
                if computed != *signed {
                    let (size, signed) = (edge.size(), *signed);
                    self.segment_problem(&unit.path, *offset, DamageKind::Root { size, computed, signed });
                }
            }
        }
        for piece in pieces {
            if let Piece::Subtree { height, hash } = piece {
                self.push(height, hash)?;
            }
        }
        self.report.entries_checked += entries;
        if unit.closes && !is_broken && !ends_with_checkpoint && entries > 0 {
            let position = self.frontier.size();
            self.segment_problem(&unit.path, unit.offset, DamageKind::Short { position });
        }
        self.is_broken = is_broken;
        let size = self.report.size.max(self.report.entries_checked);
        (self.progress)(AuditProgress { entries_checked: self.report.entries_checked, size });
        Ok(())
    }

    /// A segment's header must be signed for the tree before it.
    fn open(&mut self, first: u64, path: &Path, block: Option<&Block>) {
        let signed = block.map(|block| &block.checkpoint).filter(|signed| self.against.keys.verify(signed).is_ok());
        let Some(signed) = signed else {
            self.segment_problem(path, 0, DamageKind::SegmentHeader);
            self.is_broken |= first != self.frontier.size();
            return;
        };
        let is_joined = !self.is_broken && first == self.frontier.size();
        if is_joined && signed.root() == self.frontier.root() {
            return;
        }
        if !self.is_broken {
            let size = self.frontier.size();
            let kind = if is_joined {
                DamageKind::Root { size, computed: self.frontier.root(), signed: signed.root() }
            } else {
                DamageKind::SegmentMissing { position: size }
            };
            self.segment_problem(path, 0, kind);
        }
        // The stored edge is as good as the entries where it gives the root that was signed.
        let view = TreeView { files: self.against.files, cache: &TileCache::default(), size: first };
        let edge = Frontier::load(first, &view).ok().filter(|edge| edge.root() == signed.root());
        self.is_broken = edge.is_none();
        if let Some(edge) = edge {
            self.frontier = edge;
        }
    }

    /// Adds a subtree, and compares the tile roots that it completes beyond itself with the stored ones.
    fn push(&mut self, height: u8, hash: crate::hash::Hash) -> Result<(), Error> {
        let start = self.frontier.size();
        let mut completed = Vec::new();
        self.frontier.push_with(height, hash, |at, hash| {
            if at > height && at.is_multiple_of(TILE_HEIGHT) {
                completed.push((at, hash));
            }
        });
        for (at, hash) in completed {
            let problem = check_stored(self.against, at / TILE_HEIGHT, start >> at, &hash)?;
            if let Some(problem) = problem {
                self.report.add(problem);
            }
        }
        Ok(())
    }

    /// The entries must come to the head's size and root.
    fn finish(&mut self) {
        let (size, computed) = (self.frontier.size(), self.frontier.root());
        let Some(head) = &self.head else {
            self.report.size = size;
            self.report.root = computed;
            return;
        };
        let (head_size, signed) = (head.checkpoint.size(), head.checkpoint.root());
        let kind = if self.is_broken || (size != head_size && self.report.problems_found > 0) {
            return;
        } else if size != head_size {
            DamageKind::BelowHead { size, head_size }
        } else if computed != signed {
            DamageKind::Root { size, computed, signed }
        } else {
            return;
        };
        self.report.add(Damage { file: head_path(self.against.dir), offset: 0, kind });
    }
}

//! A ledger on a [`SimDisk`], what its callers were told of it, and what must hold when it is opened again.

use std::path::{Path, PathBuf};

use ledger::{
    Error, Hash, Ledger, Options, Reader, Recovery, SignedCheckpoint,
    disk::Disk,
    verify::{self, audit_on},
};

use super::{ORIGIN, audit_sound, check_entries, entries, entry, key, seal_all, sim::SimDisk, verifier};

/// Where the ledger is.
pub fn dir() -> &'static Path {
    Path::new("/data/ledger")
}

/// A disk with an empty directory for data on it.
pub fn disk(page_bytes: usize) -> SimDisk {
    let disk = SimDisk::new(page_bytes);
    disk.create_dir(Path::new("/data")).and_then(|()| disk.sync_dir(Path::new("/"))).unwrap();
    disk
}

/// What callers know: what was acknowledged to them, and what they asked for without an answer.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The last size and root that were acknowledged; nothing yet where creating has not returned.
    pub acknowledged: Option<(u64, Hash)>,
    /// The size that a batch without an answer would have led to.
    pub asked: u64,
    /// Does not read what was opened, for reads fail.
    pub is_blind: bool,
}

impl Told {
    pub fn size(&self) -> u64 {
        self.acknowledged.map_or(0, |(size, _)| size)
    }

    fn hear(&mut self, ledger: &Ledger) {
        self.acknowledged = Some((ledger.size(), ledger.root()));
        self.asked = ledger.size();
    }

    pub fn create(&mut self, disk: &SimDisk, options: Options) -> Result<Ledger, Error> {
        self.asked = 1;
        let ledger = Ledger::create_on(disk.arc(), dir(), ORIGIN, key(), options, &entry(0))?;
        self.hear(&ledger);
        Ok(ledger)
    }

    /// Opens, and once that succeeds takes what it found for acknowledged, as everybody does.
    pub fn open(&mut self, disk: &SimDisk, options: Options) -> Result<(Ledger, Recovery), Error> {
        let (ledger, report) = open(disk, options)?;
        if !self.is_blind {
            self.check(&ledger);
        }
        self.hear(&ledger);
        Ok((ledger, report))
    }

    /// Appends one batch of so many entries.
    pub fn append(&mut self, ledger: &mut Ledger, count: u64) -> Result<(), Error> {
        let from = self.size();
        self.asked = from + count;
        let appended = ledger.append_entries(&entries(from..from + count));
        if let Err(error) = appended {
            assert!(ledger.poison().is_some());
            let again = ledger.append_entries(&[b"more"]);
            assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
            return Err(error);
        }
        assert_eq!(appended.unwrap(), from..from + count);
        self.hear(ledger);
        Ok(())
    }

    /// Everything acknowledged is there, nothing else is but the whole of a batch that had no answer, and the
    /// head signed before is a prefix.
    pub fn check(&self, ledger: &Ledger) {
        let found = ledger.size();
        assert!(found == self.size() || found == self.asked, "{found} found, {self:?}");
        let reader = ledger.reader();
        check_entries(&reader, found);
        if let Some((size, root)) = self.acknowledged {
            let proof = reader.consistency_proof(size, found).unwrap();
            verify::consistency(size, &root, found, &ledger.root(), &proof).unwrap();
        }
    }
}

pub fn open(disk: &SimDisk, options: Options) -> Result<(Ledger, Recovery), Error> {
    Ledger::open_on(disk.arc(), dir(), ORIGIN, key(), options)
}

/// The whole check of what was found: opened, compared with what was told, audited, read by another
/// process, appended to, clean when opened once more, and sealed to its last segment. Returned is the ledger's size as it was found.
pub fn check_found(found: &SimDisk, told: &Told, options: Options, what: &str) -> u64 {
    let mut told = told.clone();
    let (mut ledger, report) = told.open(found, options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let size = ledger.size();
    let audited = audit_sound(&found.arc(), dir());
    assert_eq!(audited.size, size, "{what}: {report:?}");
    assert_eq!(Reader::open_on(found.arc(), dir(), &verifier()).unwrap().checkpoint(), ledger.checkpoint());
    told.append(&mut ledger, 20).unwrap();
    told.append(&mut ledger, 3).unwrap();
    drop(ledger);
    let (ledger, report) = told.open(found, options).unwrap();
    assert!(report.was_clean() && report.sealings_removed == 0, "{what}: {report:?}");
    seal_all(&ledger.sealer()).unwrap_or_else(|error| panic!("{what}: {error}"));
    check_sealed(found);
    told.check(&ledger);
    drop(ledger);
    audit_sound(&found.arc(), dir());
    size
}

/// All segments are sealed but the last, and nothing else is left there.
fn check_sealed(disk: &SimDisk) {
    let names = disk.list(&dir().join("segments")).unwrap();
    let (last, sealed) = names.split_last().unwrap();
    assert!(last.ends_with(".segment") && sealed.iter().all(|name| name.ends_with(".sealed")), "{names:?}");
}

/// What the disk shows of a ledger longer than `size`, to whoever reads the raw bytes: a head file that says
/// so, a used segment that begins later, or a signed checkpoint with a further batch begun behind it.
pub fn evidence_beyond(disk: &SimDisk, size: u64) -> Option<String> {
    let head = disk.bytes(&dir().join("head")).unwrap_or_default();
    let signed = checkpoints(&head).into_iter().map(|(_, checkpoint)| checkpoint.size()).max();
    if signed.is_some_and(|signed| signed > size) && is_whole_head(&head) {
        return Some(format!("the head file says {signed:?}"));
    }
    let segments = dir().join("segments");
    for name in disk.list(&segments).unwrap_or_default() {
        let path: PathBuf = segments.join(&name);
        let bytes = disk.bytes(&path).unwrap();
        if name.ends_with(".sealed") {
            // There is another after a sealed segment, so what it ends with was followed by something.
            let raw = zstd::stream::decode_all(&bytes[..]).unwrap_or_default();
            match checkpoints(&raw).into_iter().find(|(_, signed)| signed.size() > size) {
                Some((_, signed)) => return Some(format!("{name} has a checkpoint of {}", signed.size())),
                None => continue,
            }
        }
        let first: u64 = name.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        if first > size && bytes.len() > 1_024 {
            return Some(format!("{name} has {} bytes", bytes.len()));
        }
        for (end, checkpoint) in checkpoints(&bytes) {
            if checkpoint.size() > size && bytes[end..].iter().any(|byte| *byte != 0) {
                return Some(format!("{name} has a checkpoint of {} and goes on", checkpoint.size()));
            }
        }
    }
    None
}

/// A head file that is torn between two writes is no evidence: its checksum says so.
fn is_whole_head(head: &[u8]) -> bool {
    let (content, sum) = head.split_at(head.len() - 4);
    crc32c::crc32c(content).to_le_bytes() == sum
}

/// The signed checkpoints in raw bytes, each with its end.
fn checkpoints(bytes: &[u8]) -> Vec<(usize, SignedCheckpoint)> {
    let start = format!("{ORIGIN}\n");
    let starts = (0..bytes.len().saturating_sub(start.len())).filter(|at| bytes[*at..].starts_with(start.as_bytes()));
    let text_at = |at: usize| {
        // Three lines, an empty one, one signature.
        let ends = bytes[at..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(4)?;
        let end = at + ends.0 + 1;
        let text = str::from_utf8(&bytes[at..end]).ok()?;
        Some((end, verify::checkpoint(text, &verifier()).ok()?))
    };
    starts.filter_map(text_at).collect()
}

/// Whether an audit finds anything, and that readers give right answers or none: no entry, root or proof
/// that is not the one it should be.
pub fn is_damaged(disk: &SimDisk, roots: &[Hash]) -> bool {
    let report = audit_on(&disk.arc(), dir(), &verifier(), &|_| ());
    check_answers(disk, roots);
    !report.is_ok_and(|report| report.is_ok())
}

/// Readers give right answers or errors. `roots[n]` is the root at size n.
pub fn check_answers(disk: &SimDisk, roots: &[Hash]) {
    let Ok(reader) = Reader::open_on(disk.arc(), dir(), &verifier()) else { return };
    let size = reader.size();
    let root_of = |size: u64| roots[usize::try_from(size).unwrap()];
    assert_eq!(reader.root(), root_of(size));
    for position in 0..size {
        if let Ok(found) = reader.entry(position) {
            assert_eq!(found, entry(position), "position {position}");
        }
        if let Ok(found) = reader.leaf_hash_at(position) {
            assert_eq!(found, ledger::tree::leaf_hash(&entry(position)), "leaf {position}");
        }
        if let Ok(found) = reader.root_at(position) {
            assert_eq!(found, root_of(position), "root at {position}");
        }
        if let Ok(proof) = reader.inclusion_proof(position, size) {
            let leaf = ledger::tree::leaf_hash(&entry(position));
            verify::inclusion(position, size, &leaf, &proof, &root_of(size)).unwrap();
        }
        if let Ok(proof) = reader.consistency_proof(position, size) {
            verify::consistency(position, &root_of(position), size, &root_of(size), &proof).unwrap();
        }
    }
    let mut next = 0;
    // The entries up to a fault are right; it ends with an error there.
    let _ = reader.for_each_entry(0..size, |position, found| {
        assert_eq!((position, found), (next, &entry(position)[..]));
        next += 1;
        std::ops::ControlFlow::Continue(())
    });
}

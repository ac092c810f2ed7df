//! The audit of an export: every bundle, every tile, and every file that is there besides.
//!
//! [`ExportReader`] checks each tile against the root on the way to it, so reading every bundle checks every
//! entry and every tile that the checkpoint covers. What it does not read, the partial tiles of earlier
//! sizes, is compared with the tile that they grew into.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::audit::{AuditProgress, AuditReport, OnProgress, as_problem, threads};
use crate::{
    chain::KeyChain,
    cosigned::COSIGNED,
    disk::{Disk, read_file},
    error::{Damage, DamageKind, Error, IoContext as _},
    export::{BUNDLE_BYTES_MAX, ExportReader, read_checkpoint, split_bundle},
    note::VerifierKey,
    source::EntrySource as _,
    tile::{TILE_WIDTH, TileKind, TilePath},
    tree::leaf_hash,
};

/// Bundles that a thread takes at a time: 4,096 entries.
const UNIT_BUNDLES: u64 = 16;

pub(super) fn audit_export(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    key: &VerifierKey,
    progress: OnProgress<'_>,
) -> Result<AuditReport, Error> {
    let keys = KeyChain::load(disk.as_ref(), dir, key)?;
    let checkpoint = match read_checkpoint(disk.as_ref(), dir, &keys) {
        Ok(checkpoint) => checkpoint,
        // A checkpoint that cannot be read or was not signed by the key leaves nothing to check against.
        Err(Error::Note(error)) => {
            let mut report = AuditReport::new(0, crate::tree::EMPTY_ROOT);
            let kind = DamageKind::Checkpoint { position: 0, why: error.to_string() };
            report.add(Damage { file: dir.join("checkpoint"), offset: 0, kind });
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let mut report = AuditReport::new(checkpoint.size(), checkpoint.root());
    let export = match ExportReader::open_on(Arc::clone(disk), dir, key) {
        Ok(export) => export,
        Err(error) => {
            report.add(as_problem(error)?);
            return Ok(report);
        }
    };
    check_bundles(&export, &mut report, progress)?;
    let mut paths = Vec::new();
    list_files(disk.as_ref(), dir, &mut paths)?;
    for path in paths {
        if let Some(problem) = check_file(disk.as_ref(), &export, &path)? {
            report.add(problem);
        }
    }
    report.problems.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    // A file found wrong as a bundle is met again as a file.
    report.problems.dedup();
    report.problems_found = report.problems.len() as u64;
    Ok(report)
}

/// Reads every bundle, and with it every hash tile.
fn check_bundles(export: &ExportReader, report: &mut AuditReport, progress: OnProgress<'_>) -> Result<(), Error> {
    let size = export.size();
    let bundles = size.div_ceil(TILE_WIDTH);
    let next = AtomicU64::new(0);
    let found = Mutex::new((0_u64, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(UNIT_BUNDLES, Ordering::Relaxed);
                    if first >= bundles {
                        break;
                    }
                    let (mut checked, mut errors) = (0, Vec::new());
                    for bundle in first..bundles.min(first + UNIT_BUNDLES) {
                        let range = bundle * TILE_WIDTH..size.min((bundle + 1) * TILE_WIDTH);
                        let outcome = export.for_each_entry(range, &mut |_, _| {
                            checked += 1;
                            ControlFlow::Continue(())
                        });
                        errors.extend(outcome.err());
                    }
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.0 += checked;
                    found.1.append(&mut errors);
                    progress(AuditProgress { entries_checked: found.0, size });
                }
            });
        }
    });
    let (checked, errors) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.entries_checked = checked;
    for error in errors {
        report.add(as_problem(error)?);
    }
    Ok(())
}

/// Every file below a directory.
fn list_files(disk: &dyn Disk, dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for name in disk.list(dir).at("list", dir)? {
        let path = dir.join(name);
        if disk.stat(&path).at("examine", &path)?.is_some_and(|stat| stat.is_dir) {
            list_files(disk, &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Checks a file by its name: whether it is a tile of some size up to this one, with the hashes or entries
/// that it should have.
fn check_file(disk: &dyn Disk, export: &ExportReader, file: &Path) -> Result<Option<Damage>, Error> {
    let size = export.size();
    let problem = |offset: usize, kind| Ok(Some(Damage { file: file.to_owned(), offset: offset as u64, kind }));
    let name = file.strip_prefix(export.dir()).ok().and_then(Path::to_str).unwrap_or_default();
    if ["checkpoint", "rotations", COSIGNED].contains(&name)
        || file.extension().is_some_and(|extension| extension == "tmp")
    {
        return Ok(None);
    }
    let Ok(path) = TilePath::parse(name) else {
        return problem(0, DamageKind::Unknown);
    };
    // A larger one is of an export that is being made this moment, or was broken off.
    if !path.exists_at(size) {
        return Ok(None);
    }
    let level = if let TileKind::Hashes(level) = path.kind { level } else { 0 };
    let tile = match export.hashes(level, path.index) {
        Ok(tile) => tile,
        Err(error) => return as_problem(error).map(Some),
    };
    let expected = &tile.hashes()[..usize::from(path.width)];
    let bytes = read_file(disk, file, BUNDLE_BYTES_MAX).at("read", file)?;
    match path.kind {
        TileKind::Hashes(_) => {
            let expected: Vec<u8> = expected.iter().flat_map(|hash| hash.0).collect();
            if bytes == expected { Ok(None) } else { problem(0, DamageKind::Tile) }
        }
        // The whole bundles were read already.
        TileKind::Entries if Some(path) == TilePath::at_size(path.kind, path.index, size) => Ok(None),
        TileKind::Entries => {
            let entries = match split_bundle(&bytes, path.width) {
                Ok(entries) => entries,
                Err(offset) => return problem(offset, DamageKind::Tile),
            };
            let wrong = (path.index * TILE_WIDTH..).zip(entries.iter().zip(expected));
            let wrong = wrong.into_iter().find(|(_, ((_, entry), leaf))| leaf_hash(entry) != **leaf);
            wrong.map_or(Ok(None), |(position, ((offset, _), _))| problem(*offset, DamageKind::Entry { position }))
        }
    }
}

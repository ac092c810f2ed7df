//! Whether the ledgers belong together: every cut in governance names sizes and roots that the metrics ledgers have.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use ledger::export::ExportReader;
use ledger::{EntrySource, Hash, Reader};

use crate::cli::error::CliError;
use crate::cli::source::Keys;
use crate::domain::event::Event;
use crate::projection::governance::{Governance, Verdict};
use crate::projection::ids::MemoryIds;

/// What is wrong with one cut: the ledger, and what.
pub(super) type Mismatch = (String, String);

/// Compares every admitted cut with the metrics ledgers among `names`; also says how many cuts there were.
pub(super) fn compare(directory: &Path, names: &[String], keys: &Keys) -> Result<(u64, Vec<Mismatch>), CliError> {
    let mut ledgers: BTreeMap<&str, Box<dyn EntrySource>> = BTreeMap::new();
    for name in names {
        ledgers.insert(name, open(&directory.join(name), &keys.of_ledger(name)?)?);
    }
    let Some(governance) = ledgers.remove("governance") else { return Ok((0, Vec::new())) };
    let (mut fold, mut ids) = (Governance::default(), MemoryIds::default());
    let (mut cuts, mut wrong) = (0, Vec::new());
    let mut seen: BTreeMap<u32, (u64, Hash)> = BTreeMap::new();
    let mut failed = None;
    governance.for_each_entry(0..governance.size(), &mut |position, entry| {
        let applied = fold.apply(position, entry, &mut ids);
        let (Verdict::Admitted, Some(Event::Cut(cut))) = (&applied.verdict, &applied.event) else {
            return ControlFlow::Continue(());
        };
        cuts += 1;
        for listed in &cut.ledgers {
            let stated = (listed.size, listed.root);
            // Most cuts of a quiet time name what the one before named.
            if seen.insert(listed.ledger, stated) == Some(stated) {
                continue;
            }
            let name = format!("metrics-{}", listed.ledger);
            let Some(source) = ledgers.get(name.as_str()) else { continue };
            match fits(source.as_ref(), stated) {
                Ok(None) => {}
                Ok(Some(problem)) => {
                    wrong.push((name, format!("the cut of {} at entry {position} {problem}", cut.instant)));
                }
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok((cuts, wrong)), |error| Err(error.into()))
}

fn fits(source: &dyn EntrySource, (size, root): (u64, Hash)) -> Result<Option<String>, ledger::Error> {
    if size > source.size() {
        return Ok(Some(format!("names {size} entries, and there are {}", source.size())));
    }
    let found = source.root_at(size)?;
    Ok((found != root).then(|| format!("names root {root} at {size} entries, and it is {found}")))
}

fn open(directory: &Path, key: &ledger::VerifierKey) -> Result<Box<dyn EntrySource>, ledger::Error> {
    if directory.join("segments").exists() {
        Ok(Box::new(Reader::open(directory, key)?))
    } else {
        Ok(Box::new(ExportReader::open(directory, key)?))
    }
}

//! Whether the ledgers belong together: every cut in governance names sizes and roots that the metrics ledgers have.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use ledger::export::ExportReader;
use ledger::{EntrySource, Hash, Reader};

use crate::cli::error::CliError;
use crate::cli::source::Keys;
use crate::domain::event::Event;
use crate::identity::trail::ACCESS;
use crate::projection::governance::{Governance, Verdict};
use crate::projection::ids::MemoryIds;
use crate::projection::keys::CheckpointKeys;

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
    if let Some(error) = failed {
        return Err(error.into());
    }
    let node = keys.of_ledger("governance")?.name().rsplit_once('/').map_or(String::new(), |(node, _)| node.to_owned());
    let said = fold.keys.checkpoint_keys(&node);
    wrong.extend(rotations_said("governance", governance.as_ref(), said)?);
    for (name, source) in &ledgers {
        wrong.extend(rotations_said(name, source.as_ref(), said)?);
    }
    Ok((cuts, wrong))
}

/// Whether each rotation of a ledger's key is said by an entry: what the old key's holder signed elsewhere is not. A grant is of
/// `access`, which decides nothing, and of no ledger that governance speaks of.
fn rotations_said(name: &str, source: &dyn EntrySource, said: &[CheckpointKeys]) -> Result<Vec<Mismatch>, CliError> {
    let done = ledger::chain::read_rotations(&source.rotations_text()).map_err(ledger::Error::from)?;
    let unsaid = done.iter().enumerate().filter(|(index, rotation)| {
        if rotation.alone {
            return name != ACCESS;
        }
        said.get(*index).is_none_or(|entry| entry.old != rotation.old || entry.new != rotation.new)
    });
    let problem = |index: usize| format!("rotation {} of its key is in no entry of the governance ledger", index + 1);
    Ok(unsaid.map(|(index, _)| (name.to_owned(), problem(index))).collect())
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

//! `export`: every ledger as static files, with the key that checks them.

use serde_json::json;

use super::args::{Export, Options};
use super::error::{CliError, Exit, Outcome, file_error};
use super::out;
use super::source::Place;
use crate::identity::trail::ACCESS;
use crate::sequencer::DataDir;

pub(crate) fn run(place: &Place, options: &Options, export: &Export) -> Outcome {
    let data_dir = DataDir::open(&place.data)?;
    std::fs::create_dir_all(&export.directory).map_err(file_error(&export.directory))?;
    let mut done = Vec::new();
    let mut readers = data_dir.readers()?;
    // Who did what here is nobody's business outside, unless it is asked for by name.
    if export.ledger.as_deref() == Some(ACCESS) {
        readers.push((ACCESS.to_owned(), data_dir.reader(ACCESS)?));
    }
    for (name, reader) in readers {
        if export.ledger.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let directory = export.directory.join(&name);
        let report = reader.export(&directory).map_err(|error| other_export(error, &directory))?;
        let vkey = export.directory.join(format!("{name}.vkey"));
        let keys = reader.keys().keys().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n";
        std::fs::write(&vkey, keys).map_err(file_error(&vkey))?;
        if !options.json {
            out::line(format!(
                "{name}: {} entries, {} bundles and {} tiles written",
                report.size, report.bundles_written, report.tiles_written
            ));
        }
        done.push(json!({ "ledger": name, "size": report.size, "bundles_written": report.bundles_written, "tiles_written": report.tiles_written }));
    }
    if done.is_empty() {
        return Err(CliError::usage(format!(
            "{} has no ledger {:?}",
            place.data.display(),
            export.ledger.as_deref().unwrap_or_default()
        )));
    }
    if options.json {
        out::json(&json!({ "exported": done }));
    } else {
        let directory = export.directory.display();
        out::line(format!("check it anywhere: govledger verify {directory} --vkey {directory}/governance.vkey"));
    }
    Ok(Exit::Fine)
}

/// An earlier export that this ledger does not extend is the caller's to move away.
fn other_export(error: ledger::Error, directory: &std::path::Path) -> CliError {
    if !matches!(error, ledger::Error::Note(_) | ledger::Error::ExportDiffers { .. }) {
        return error.into();
    }
    let directory = directory.display();
    CliError::usage(format!("{directory} holds an export of another ledger ({error}); export to a new directory"))
}

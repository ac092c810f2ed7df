//! `schemas`: the JSON Schemas of events and answers, from the types; the files are what other programs are written against.

use super::args::Schemas;
use super::error::{CliError, Exit, Outcome, file_error};
use super::out;

pub(crate) fn run(schemas: &Schemas) -> Outcome {
    let mut different = Vec::new();
    let generated = crate::api::schemas();
    for (name, schema) in &generated {
        let path = schemas.dir.join(name);
        let text = format!("{schema:#}\n");
        if schemas.write {
            std::fs::create_dir_all(&schemas.dir).map_err(file_error(&schemas.dir))?;
            std::fs::write(&path, text).map_err(file_error(&path))?;
        } else if schemas.check {
            if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
                different.push(name.clone());
            }
        } else {
            out::line(name);
        }
    }
    if !different.is_empty() {
        return Err(CliError::new(
            Exit::No,
            format!(
                "not what the types say: {}; run `govledger schemas --write` and look at the difference",
                different.join(", ")
            ),
        ));
    }
    if schemas.write || schemas.check {
        out::line(format!("{} schemas in {}", generated.len(), schemas.dir.display()));
    }
    Ok(Exit::Fine)
}

//! `schemas`: the JSON Schemas of events and answers, from the types, and the table of routes and roles; the files are what
//! other programs are written against, and what people read.

use std::path::Path;

use super::args::Schemas;
use super::error::{CliError, Exit, Outcome, file_error};
use super::out;

pub(crate) fn run(schemas: &Schemas) -> Outcome {
    let mut different = Vec::new();
    let generated = crate::api::schemas();
    let roles = schemas.roles.clone().or_else(|| (schemas.dir == Path::new("schemas")).then(|| "docs/ROLES.md".into()));
    let texts = generated.iter().map(|(name, schema)| (schemas.dir.join(name), format!("{schema:#}\n")));
    for (path, text) in texts.chain(roles.map(|path| (path, crate::api::roles_table()))) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if schemas.write {
            let parent = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(parent).map_err(file_error(parent))?;
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

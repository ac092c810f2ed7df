//! `check-answer`: a saved answer, folded again from ledgers that are believed only as far as their signatures reach.

use serde_json::{Value, json};

use super::args::{CheckAnswer, Options};
use super::error::{CliError, Exit, Outcome, file_error};
use super::out::{self, Tone, tone};
use super::source::Place;
use crate::projection::answers::Asked;

/// Differences shown.
const DIFFERENCES_MAX: usize = 50;

pub(crate) fn run(place: &Place, options: &Options, check: &CheckAnswer) -> Outcome {
    let saved: Value = serde_json::from_slice(&std::fs::read(&check.answer).map_err(file_error(&check.answer))?)
        .map_err(|error| CliError::usage(format!("{}: {error}", check.answer.display())))?;
    let (Some(path), Some(size), Some(root)) =
        (saved["asked"].as_str(), saved["as_of"]["size"].as_u64(), saved["as_of"]["root"].as_str())
    else {
        return Err(CliError::usage(format!(
            "{} does not say what was asked (`asked`) and of when it is (`as_of`); save an answer of the API, or of a command with --json that prints an object",
            check.answer.display()
        )));
    };
    let asked = Asked::parse(path)?;
    // The ledgers are read here, not asked for: whoever gave the answer is not to be its witness.
    let files = place.open_files()?;
    let governance = files.ledger("governance")?;
    if size > governance.size() {
        return Err(CliError::usage(format!(
            "the answer is as of {size} entries and {} has {}; export again",
            files.place().display(),
            governance.size()
        )));
    }
    let mut differences = Vec::new();
    let computed_root = governance.root_at(size)?.to_string();
    if computed_root == root {
        let again = files.ask_at(&asked, size, false)?;
        compare("", &saved, &again.body, &mut differences);
    } else {
        differences.push((String::from("as_of.root"), json!(root), json!(computed_root)));
    }
    tell(options, &asked, size, &differences);
    Ok(if differences.is_empty() { Exit::Fine } else { Exit::No })
}

fn tell(options: &Options, asked: &Asked, size: u64, differences: &[(String, Value, Value)]) {
    if options.json {
        let rows: Vec<Value> = differences
            .iter()
            .map(|(field, saved, folded)| json!({ "field": field, "saved": saved, "folded": folded }))
            .collect();
        out::json(&json!({ "ok": differences.is_empty(), "asked": asked.path(), "size": size, "differences": rows }));
        return;
    }
    if differences.is_empty() {
        out::line(format!(
            "{}: {} as of {size} entries is what the ledger says",
            tone(Tone::Good, "confirmed"),
            asked.path()
        ));
        return;
    }
    out::line(format!(
        "{}: {} as of {size} entries is not what the ledger says",
        tone(Tone::Bad, "different"),
        asked.path()
    ));
    for (field, saved, folded) in differences.iter().take(DIFFERENCES_MAX) {
        out::line(format!("  {field}: saved {saved}, the ledger says {folded}"));
    }
}

/// Collects where two values differ, by field.
fn compare(field: &str, saved: &Value, folded: &Value, differences: &mut Vec<(String, Value, Value)>) {
    let inner = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    match (saved, folded) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                compare(
                    &inner(name),
                    left.get(name).unwrap_or(&Value::Null),
                    right.get(name).unwrap_or(&Value::Null),
                    differences,
                );
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&inner(&index.to_string()), left, right, differences);
            }
        }
        _ if saved != folded => differences.push((field.to_owned(), saved.clone(), folded.clone())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() {
        let mut differences = Vec::new();
        compare(
            "",
            &json!({ "a": 1, "b": [1, { "c": 2 }], "d": 4 }),
            &json!({ "a": 1, "b": [1, { "c": 3 }] }),
            &mut differences,
        );
        let fields: Vec<&str> = differences.iter().map(|(field, _, _)| field.as_str()).collect();
        assert_eq!(fields, ["b.1.c", "d"]);
    }
}

//! The tables of docs/BENCHMARKS.md, made again from the JSON of runs. The words between them stay.
//!
//! A table stands between `<!-- figures NAME -->` and `<!-- end -->`, NAME being that of the run's file; the table of all sizes
//! between `<!-- growth -->` and `<!-- end -->`. A table whose run is not given stays as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::runs::{Figure, Run};
use super::{CliError, file_error};

const END: &str = "<!-- end -->";
/// What the names of runs with all files in memory begin with.
const IN_MEMORY: &str = "memory-";

/// Writes the page again.
pub(super) fn fill(path: &Path, runs: &[Run]) -> Result<(), CliError> {
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    let filled = filled(&text, runs).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?;
    std::fs::write(path, filled).map_err(file_error(path))
}

fn filled(text: &str, runs: &[Run]) -> Result<String, String> {
    let mut page = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(page, "{line}");
        let Some(table) = table_for(line, runs) else { continue };
        if !lines.by_ref().any(|line| line == END) {
            return Err(format!("{line} has no {END}"));
        }
        let _ = writeln!(page, "\n{table}\n{END}");
    }
    Ok(page)
}

fn table_for(line: &str, runs: &[Run]) -> Option<String> {
    let mark = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    if mark == "growth" {
        return Some(growth(runs));
    }
    let name = mark.strip_prefix("figures ")?;
    runs.iter().find(|run| run.name == name).map(table)
}

fn table(run: &Run) -> String {
    let records = format!("{} records", grouped(run.records));
    let known = [records.as_str(), run.date.as_str(), run.machine.as_str()];
    let mut text = known.into_iter().filter(|known| !known.is_empty()).collect::<Vec<_>>().join(", ");
    text.push_str(".\n\n");
    text.push_str("| work | measured | baseline | ratio | target | met |\n| --- | --- | --- | --- | --- | --- |\n");
    for figure in &run.figures {
        let baseline = figure
            .baseline
            .map_or_else(String::new, |value| format!("{} ({})", shown(value, &figure.unit), figure.against));
        let ratio = figure.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let met = figure.met.map_or("", |met| if met { "yes" } else { "**no**" });
        let (work, measured) = (&figure.work, shown(figure.measured, &figure.unit));
        let _ = writeln!(text, "| {work} | {measured} | {baseline} | {ratio} | {} | {met} |", figure.target);
    }
    text
}

/// Each figure that at least two sizes have, by size, with its ratio in brackets. Runs in memory stay out: growth is
/// that on the disk.
fn growth(runs: &[Run]) -> String {
    let runs: Vec<&Run> = runs.iter().filter(|run| !run.name.starts_with(IN_MEMORY)).collect();
    let mut sizes: Vec<u64> = runs.iter().map(|run| run.records).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut names: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, u64), &Figure> = BTreeMap::new();
    for run in &runs {
        for figure in &run.figures {
            if !names.contains(&figure.line()) {
                names.push(figure.line());
            }
            cells.entry((figure.line(), run.records)).or_insert(figure);
        }
    }
    let heads = sizes.iter().map(|size| grouped(*size)).collect::<Vec<_>>().join(" | ");
    let mut text = format!("| work | {heads} |\n| --- |{}\n", " --- |".repeat(sizes.len()));
    for name in names {
        let row: Vec<Option<&&Figure>> = sizes.iter().map(|size| cells.get(&(name, *size))).collect();
        if row.iter().flatten().count() > 1 {
            let _ = write!(text, "| {name} |");
            for figure in row {
                let _ = write!(text, " {} |", figure.map_or_else(String::new, |figure| cell(figure)));
            }
            text.push('\n');
        }
    }
    text
}

fn cell(figure: &Figure) -> String {
    let ratio = figure.ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2})"));
    shown(figure.measured, &figure.unit) + &ratio
}

fn shown(value: f64, unit: &str) -> String {
    match unit {
        "x" => format!("{value:.3} x"),
        "/s" if value >= 10_000.0 => format!("{:.0} k/s", value / 1e3),
        _ if value >= 100.0 => format!("{value:.0} {unit}"),
        _ if value >= 1.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.3} {unit}"),
    }
}

/// Digits in threes.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let threes: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|three| std::str::from_utf8(three).ok()).collect();
    threes.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, records: u64, measured: f64) -> Run {
        let figure = serde_json::json!({
            "work": format!("appends (groups of {records})"), "measured": measured, "unit": "/s", "baseline": 2e6,
            "against": "bare", "ratio": 0.5, "target": ">= 60 %", "met": false,
        });
        let mut run: Run =
            serde_json::from_value(serde_json::json!({ "records": records, "figures": [figure] })).unwrap();
        name.clone_into(&mut run.name);
        run
    }

    #[test]
    fn tables_are_made_again_and_words_stay() {
        let page =
            "# Title\n<!-- figures a -->\nold\n<!-- end -->\nwords\n<!-- figures other -->\nkept\n<!-- end -->\n";
        let filled = filled(page, &[run("a", 1_000_000, 1e6)]).unwrap();
        assert!(filled.contains("1,000,000 records"), "{filled}");
        assert!(
            filled.contains("| appends (groups of 1000000) | 1000 k/s | 2000 k/s (bare) | 0.50 | >= 60 % | **no** |"),
            "{filled}"
        );
        assert!(!filled.contains("old") && filled.contains("\nwords\n") && filled.contains("kept"), "{filled}");
        assert_eq!(
            super::filled(&filled, &[run("a", 1_000_000, 1e6)]).unwrap(),
            filled,
            "a second time changes nothing"
        );
    }

    #[test]
    fn growth_has_a_column_for_each_size() {
        let runs = [run("memory-b", 100_000, 7.0), run("b", 100_000, 900.0), run("a", 1_000_000, 1e6)];
        assert_eq!(
            growth(&runs),
            "| work | 100,000 | 1,000,000 |\n| --- | --- | --- |\n| appends | 900 /s (0.50) | 1000 k/s (0.50) |\n"
        );
    }

    #[test]
    fn a_mark_without_an_end_is_an_error() {
        assert!(filled("<!-- growth -->\n", &[]).is_err());
    }
}

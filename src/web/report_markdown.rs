//! The report of an incident as Markdown: the same statements as the document, in a form that goes into a wiki or a ticket.
//!
//! Invariant: text that came from outside is shown as it is written. It ends no table cell, begins no heading, link or code,
//! and no HTML of it stands in the document.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::text_of;

/// Text that means itself in Markdown, on one line.
fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' | '\r' => out.push(' '),
            other if other.is_control() => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '|' | '!' | '~' => {
                out.push('\\');
                out.push(character);
            }
            other => out.push(other),
        }
        out
    })
}

fn cell(value: &Value) -> String {
    plain(&text_of(value))
}

fn rows<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// A document under way. Writing to a string cannot fail.
#[derive(Default)]
struct Document(String);

impl Document {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}");
    }

    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "\n## {text}\n");
    }

    /// A table; a sentence where it has no rows.
    fn table(&mut self, columns: &[&str], rows: &[Vec<String>], empty: &str) {
        if rows.is_empty() {
            return self.line(empty);
        }
        self.line(&format!("| {} |", columns.join(" | ")));
        self.line(&format!("|{}", " --- |".repeat(columns.len())));
        for row in rows {
            self.line(&format!("| {} |", row.join(" | ")));
        }
    }
}

/// The report.
pub(crate) fn report_markdown(report: &Value) -> String {
    let (incident, standing) = (&report["incident"], &report["standing"]);
    let mut document = Document::default();
    document.line(&format!("# Incident {}: {}\n", cell(&incident["id"]), cell(&incident["title"])));
    for (name, value) in [
        ("Stack", &incident["stack"]),
        ("Status", &incident["status"]),
        ("Commander", &standing["commander"]),
        ("Began", &incident["began"]),
        ("Declared", &incident["declared"]),
        ("Ended", &standing["ended"]),
        ("Opened by entry", &incident["position"]),
        ("Report due", &standing["report_due"]),
    ] {
        document.line(&format!("- {name}: {}", cell(value)));
    }
    let filed = &incident["report"];
    if !filed.is_null() {
        let kept =
            if filed["report"].is_null() { String::new() } else { format!(", kept at {}", cell(&filed["report"])) };
        document.line(&format!(
            "- Report filed by {} (entry {}){kept}: {}",
            cell(&filed["actor"]),
            cell(&filed["position"]),
            cell(&filed["text"])
        ));
    }
    impact(&mut document, &report["impact"]);
    durations(&mut document, report);
    checklist(&mut document, report);
    causes(&mut document, report);
    found(&mut document, report);
    timeline(&mut document, "Warm-up failures and rollbacks of the day before", rows(incident, "history"));
    timeline(&mut document, "Timeline", rows(report, "timeline"));
    document.line(&format!(
        "\nGovernance ledger at {} entries, root {}; figures evaluated through {}.",
        cell(&report["as_of"]["size"]),
        cell(&report["as_of"]["root"]),
        cell(&report["evaluated_through"])
    ));
    document.0
}

fn impact(document: &mut Document, impact: &Value) {
    document.heading("Impact");
    document.line(&format!(
        "{} requests affected, {} USD, {} of them without a price; {} above the cost limit, {} USD beyond it.\n",
        cell(&impact["requests"]),
        cell(&impact["cost_usd"]),
        cell(&impact["unpriced"]),
        cell(&impact["requests_over"]),
        cell(&impact["excess_usd"])
    ));
    document.line(&format!("{}\n", cell(&impact["how"])));
    let row = |episode: &Value| {
        let (said, totals) = (&episode["impact"], &episode["impact"]["totals"]);
        let entry = if episode["position"].is_null() { "goes on".to_owned() } else { cell(&episode["position"]) };
        vec![
            cell(&totals["engine_hash"]),
            cell(&said["since"]),
            cell(&said["until"]),
            cell(&totals["requests"]),
            cell(&totals["cost_usd"]),
            cell(&totals["unpriced"]),
            evidence(&totals["evidence"]),
            entry,
        ]
    };
    let episodes: Vec<Vec<String>> = rows(impact, "episodes").iter().map(row).collect();
    let columns = ["Engine", "Since", "Until", "Requests", "USD", "Unpriced", "Records", "Entry"];
    document.table(&columns, &episodes, "No episode is recorded.");
}

fn evidence(value: &Value) -> String {
    let ranges = value.as_array().into_iter().flatten().map(|range| {
        format!(
            "{} {} to {} of {}, root {}",
            cell(&range["ledger"]),
            cell(&range["from"]),
            cell(&range["to"]),
            cell(&range["size"]),
            cell(&range["root"])
        )
    });
    ranges.collect::<Vec<_>>().join("; ")
}

fn durations(document: &mut Document, report: &Value) {
    document.heading("How long it took");
    let moment = |moment: &Value| {
        if moment.is_null() {
            return "—".to_owned();
        }
        format!("{} (entry {})", cell(&moment["time"]), cell(&moment["position"]))
    };
    let row = |row: &Value| {
        vec![
            format!("to {}", cell(&row["name"])),
            cell(&row["seconds"]),
            moment(&row["from"]),
            moment(&row["to"]),
            cell(&row["how"]),
        ]
    };
    let all: Vec<Vec<String>> = rows(report, "durations").iter().map(row).collect();
    document.table(&["Time", "Seconds", "From", "To", "Computed"], &all, "Nothing is known.");
}

fn checklist(document: &mut Document, report: &Value) {
    document.heading("Checklist");
    for step in rows(report, "checklist") {
        let (mark, word) = match step["state"].as_str() {
            Some("done") => ("x", String::new()),
            Some("not_needed") => ("x", "not needed: ".to_owned()),
            _ => (" ", String::new()),
        };
        let entry =
            if step["position"].is_null() { String::new() } else { format!(" (entry {})", cell(&step["position"])) };
        document.line(&format!("- [{mark}] {}: {word}{}{entry}", cell(&step["title"]), cell(&step["how"])));
    }
}

fn causes(document: &mut Document, report: &Value) {
    document.heading("Root cause");
    let cause = &report["root_cause"];
    if cause.is_null() {
        document.line("Not noted yet.");
    } else {
        let (text, actor, entry) = (cell(&cause["text"]), cell(&cause["actor"]), cell(&cause["position"]));
        document.line(&format!("By {actor}, entry {entry}: {text}"));
    }
    document.heading("Mitigations");
    let mitigations: Vec<Vec<String>> = rows(report, "mitigations")
        .iter()
        .map(|row| vec![cell(&row["time"]), cell(&row["text"]), cell(&row["actor"]), cell(&row["position"])])
        .collect();
    document.table(&["Time", "What", "Who", "Entry"], &mitigations, "None is recorded.");
    document.heading("Follow-ups");
    let late = rows(&report["standing"], "action_items_overdue");
    let row = |item: &Value| {
        let state = if !item["done"].is_null() {
            format!("done (entry {})", cell(&item["done_position"]))
        } else if late.contains(&item["id"]) {
            "overdue".to_owned()
        } else {
            "open".to_owned()
        };
        vec![cell(&item["id"]), cell(&item["title"]), cell(&item["owner"]), cell(&item["due"]), state]
    };
    let items: Vec<Vec<String>> = rows(&report["incident"], "action_items").iter().map(row).collect();
    document.table(&["Item", "What", "Owner", "Due", "State"], &items, "None.");
}

fn found(document: &mut Document, report: &Value) {
    document.heading("Alerts");
    let row = |alert: &Value| {
        [
            "rule",
            "engine_hash",
            "severity",
            "value",
            "threshold",
            "pending_since",
            "firing_since",
            "resolved_at",
            "position",
        ]
        .map(|name| cell(&alert[name]))
        .to_vec()
    };
    let alerts: Vec<Vec<String>> = rows(report, "alerts").iter().map(row).collect();
    let columns = ["Rule", "Engine", "Severity", "Value", "Threshold", "Pending", "Firing", "Over", "Entry"];
    document.table(&columns, &alerts, "It was opened by hand.");
    document.heading("What it found");
    let snapshot = &report["incident"]["snapshot"];
    if snapshot.is_null() {
        return document.line("No snapshot is attached yet.");
    }
    document.line(&format!("At the cut of {}, entry {}.\n", cell(&snapshot["instant"]), cell(&snapshot["position"])));
    let rule = |rule: &Value| {
        let mut cells =
            ["rule", "engine_hash", "state", "value", "threshold", "samples"].map(|name| cell(&rule[name])).to_vec();
        cells.push(evidence(&rule["evidence"]));
        cells
    };
    let rules: Vec<Vec<String>> = rows(snapshot, "rules").iter().map(rule).collect();
    document.table(&["Rule", "Engine", "State", "Value", "Threshold", "Records", "Where"], &rules, "No figures.");
    document.line("");
    let totals = |totals: &Value| {
        let names = ["engine_hash", "requests", "tokens_in", "tokens_out", "cost_usd", "unpriced"];
        let mut cells = names.map(|name| cell(&totals[name])).to_vec();
        cells.push(evidence(&totals["evidence"]));
        cells
    };
    let all: Vec<Vec<String>> = rows(snapshot, "totals").iter().map(totals).collect();
    let columns = ["Engine", "Requests", "Tokens in", "Tokens out", "USD", "Unpriced", "Where"];
    document.table(&columns, &all, "Nothing was served.");
}

fn timeline(document: &mut Document, heading: &str, items: &[Value]) {
    document.heading(heading);
    let row =
        |row: &Value| vec![cell(&row["time"]), cell(&row["summary"]), cell(&row["actor"]), cell(&row["position"])];
    let all: Vec<Vec<String>> = items.iter().map(row).collect();
    document.table(&["Time", "What", "Who", "Entry"], &all, "Nothing.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_shown_and_means_nothing() {
        let check = |text: &str, expected: &str| assert_eq!(plain(text), expected);
        check("a | b", "a \\| b");
        check("x\n# heading", "x \\# heading");
        check("<script>alert(1)</script>", "&lt;script&gt;alert\\(1\\)&lt;/script&gt;");
        check("[a](javascript:x)", "\\[a\\]\\(javascript:x\\)");
        check("`code` **bold**", "\\`code\\` \\*\\*bold\\*\\*");
        check("\u{202e}evil\u{0}", "\u{fffd}evil\u{fffd}");
    }
}

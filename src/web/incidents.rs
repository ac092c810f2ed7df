//! The pages of incidents, and the report as a document that stands alone: made from the answers that programs get.

use serde_json::Value;

use super::html::{Markup, Page, escape, path_segment, text_of};
use super::pages::{engine, rows, stack_link, text, token_field};

/// All incidents.
pub(super) fn list(answers: &[Value]) -> Page {
    let mut page = Page::new("Incidents");
    let [answer] = answers else { return page };
    let row = |row: &Value| {
        let id = text_of(&row["id"]);
        vec![
            Markup::link(&format!("/incidents/{}", path_segment(&id)), &id),
            stack_link(&row["stack"]),
            status(&row["status"]),
            text(&row["title"]),
            text(&row["commander"]),
            Markup::time(&row["began"]),
            Markup::time(&row["ended"]),
            Markup::text(&format!("{} of 6", text_of(&row["steps_done"]))),
            overdue(row),
        ]
    };
    let all: Vec<Vec<Markup>> = rows(answer, "incidents").iter().rev().map(row).collect();
    let columns = ["Incident", "Stack", "Status", "Title", "Commander", "Began", "Ended", "Checklist", "Overdue"];
    page.table("Incidents, newest first", &columns, &all, "There was none.");
    page.source(answer);
    page
}

fn status(value: &Value) -> Markup {
    let class = match value.as_str() {
        Some("open") => "bad",
        Some("resolved" | "closed") => "good",
        _ => "unknown",
    };
    Markup::state(class, &text_of(value))
}

/// What is past due by the ledger's own time.
fn overdue(standing: &Value) -> Markup {
    let mut late = Vec::new();
    if standing["report_overdue"] == true {
        late.push(format!("report, due {}", text_of(&standing["report_due"])));
    }
    late.extend(rows(standing, "action_items_overdue").iter().map(text_of));
    if late.is_empty() { Markup::text("—") } else { Markup::state("bad", &late.join(", ")) }
}

/// One incident with its checklist and the forms to work it.
pub(super) fn one(id: &str, answers: &[Value]) -> Page {
    let mut page = Page::new(&format!("Incident {id}"));
    let [report] = answers else { return page };
    head(&mut page, report);
    checklist(&mut page, report);
    if report["incident"]["status"] != "closed" {
        page.heading("Work on it");
        page.paragraph("Each act needs a token with the role oncall, and is an entry.");
        page.raw(&token_field());
        forms(&mut page, id, report);
    }
    body(&mut page, report);
    page.source(report);
    page
}

/// The report as a document of its own: no script, nothing loaded.
pub(crate) fn report_html(report: &Value) -> String {
    let mut page = Page::new(&format!("Report of incident {}", text_of(&report["incident"]["id"])));
    head(&mut page, report);
    let filed = &report["incident"]["report"];
    if !filed.is_null() {
        page.heading("As filed");
        page.paragraph(&text_of(&filed["text"]));
        page.facts(&[
            ("Kept at", text(&filed["report"])),
            ("By", text(&filed["actor"])),
            ("Entry", text(&filed["position"])),
        ]);
    }
    checklist(&mut page, report);
    body(&mut page, report);
    page.source(report);
    page.finish_alone()
}

fn head(page: &mut Page, report: &Value) {
    let (incident, standing) = (&report["incident"], &report["standing"]);
    page.paragraph(&text_of(&incident["title"]));
    let duties: Vec<String> = incident["duties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(duty, assigned)| {
            format!("{duty}: {} (entry {})", text_of(&assigned["assignee"]), text_of(&assigned["position"]))
        })
        .collect();
    page.facts(&[
        ("Stack", text(&incident["stack"])),
        ("Status", status(&incident["status"])),
        ("Commander", text(&standing["commander"])),
        ("Duties", Markup::text(&if duties.is_empty() { "—".to_owned() } else { duties.join("; ") })),
        ("Began", Markup::time(&incident["began"])),
        ("Declared", Markup::time(&incident["declared"])),
        ("Ended", Markup::time(&standing["ended"])),
        ("Opened by entry", text(&incident["position"])),
        ("Report due", Markup::time(&standing["report_due"])),
        ("Overdue", overdue(standing)),
    ]);
}

fn checklist(page: &mut Page, report: &Value) {
    page.heading("Checklist");
    let row = |step: &Value| {
        let (class, word) = match step["state"].as_str() {
            Some("done") => ("good", "done"),
            Some("not_needed") => ("unknown", "not needed"),
            _ => ("bad", "open"),
        };
        vec![
            text(&step["number"]),
            text(&step["title"]),
            Markup::state(class, word),
            text(&step["how"]),
            text(&step["position"]),
        ]
    };
    let steps: Vec<Vec<Markup>> = rows(report, "checklist").iter().map(row).collect();
    page.table("Checklist", &["Step", "What", "State", "Shown by", "Entry"], &steps, "No steps.");
}

fn body(page: &mut Page, report: &Value) {
    durations(page, report);
    impact(page, report);
    page.heading("Root cause");
    let cause = &report["root_cause"];
    if cause.is_null() {
        page.paragraph("Not noted yet.");
    } else {
        page.paragraph(&format!(
            "{} ({}, entry {})",
            text_of(&cause["text"]),
            text_of(&cause["actor"]),
            text_of(&cause["position"])
        ));
    }
    page.heading("Mitigations");
    let mitigations: Vec<Vec<Markup>> = rows(report, "mitigations")
        .iter()
        .map(|row| vec![Markup::time(&row["time"]), text(&row["text"]), text(&row["actor"]), text(&row["position"])])
        .collect();
    page.table("Mitigations", &["Time", "What", "Who", "Entry"], &mitigations, "None is recorded.");
    follow_ups(page, report);
    alerts(page, report);
    snapshot(page, &report["incident"]);
    history(page, "Warm-up failures and rollbacks of the day before", rows(&report["incident"], "history"));
    history(page, "Timeline", rows(report, "timeline"));
}

fn durations(page: &mut Page, report: &Value) {
    page.heading("How long it took");
    let moment = |moment: &Value| {
        if moment.is_null() {
            return Markup::text("—");
        }
        Markup::text(&format!("{} (entry {})", text_of(&moment["time"]), text_of(&moment["position"])))
    };
    let row = |row: &Value| {
        vec![
            Markup::text(&format!("to {}", text_of(&row["name"]))),
            text(&row["seconds"]),
            moment(&row["from"]),
            moment(&row["to"]),
            text(&row["how"]),
        ]
    };
    let all: Vec<Vec<Markup>> = rows(report, "durations").iter().map(row).collect();
    page.table("How long it took", &["Time", "Seconds", "From", "To", "Computed"], &all, "Nothing is known.");
}

fn impact(page: &mut Page, report: &Value) {
    let impact = &report["impact"];
    page.heading("Impact");
    page.facts(&[
        ("Requests affected", text(&impact["requests"])),
        ("Cost (USD)", text(&impact["cost_usd"])),
        ("Requests without a price", text(&impact["unpriced"])),
        ("Requests above the cost limit", text(&impact["requests_over"])),
        ("Beyond the limit (USD)", text(&impact["excess_usd"])),
    ]);
    page.paragraph(&text_of(&impact["how"]));
    let row = |episode: &Value| {
        let (said, totals) = (&episode["impact"], &episode["impact"]["totals"]);
        vec![
            engine(&totals["engine_hash"]),
            Markup::time(&said["since"]),
            Markup::time(&said["until"]),
            text(&totals["requests"]),
            text(&totals["failed"]),
            text(&totals["cost_usd"]),
            text(&totals["unpriced"]),
            evidence(&totals["evidence"]),
            if episode["position"].is_null() { Markup::text("goes on") } else { text(&episode["position"]) },
        ]
    };
    let all: Vec<Vec<Markup>> = rows(impact, "episodes").iter().map(row).collect();
    let columns = ["Engine", "Since", "Until", "Requests", "Failed", "USD", "Unpriced", "Records", "Entry"];
    page.table("Episodes", &columns, &all, "No episode is recorded.");
}

/// Where records lie: `metrics-0 120..180, root …`.
fn evidence(value: &Value) -> Markup {
    let ranges: Vec<String> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|range| {
            let root: String = text_of(&range["root"]).chars().take(12).collect();
            format!(
                "{} {} to {} of {}, root {root}…",
                text_of(&range["ledger"]),
                text_of(&range["from"]),
                text_of(&range["to"]),
                text_of(&range["size"])
            )
        })
        .collect();
    Markup::text(&if ranges.is_empty() { "—".to_owned() } else { ranges.join("; ") })
}

fn follow_ups(page: &mut Page, report: &Value) {
    page.heading("Follow-ups");
    let late = rows(&report["standing"], "action_items_overdue");
    let row = |item: &Value| {
        let state = if !item["done"].is_null() {
            Markup::state("good", &format!("done (entry {})", text_of(&item["done_position"])))
        } else if late.contains(&item["id"]) {
            Markup::state("bad", "overdue")
        } else {
            Markup::state("unknown", "open")
        };
        vec![
            text(&item["id"]),
            text(&item["title"]),
            text(&item["owner"]),
            Markup::time(&item["due"]),
            state,
            text(&item["position"]),
        ]
    };
    let all: Vec<Vec<Markup>> = rows(&report["incident"], "action_items").iter().map(row).collect();
    page.table("Action items", &["Item", "What", "Owner", "Due", "State", "Entry"], &all, "None.");
}

fn alerts(page: &mut Page, report: &Value) {
    page.heading("Alerts");
    let row = |alert: &Value| {
        vec![
            text(&alert["rule"]),
            engine(&alert["engine_hash"]),
            text(&alert["severity"]),
            text(&alert["value"]),
            text(&alert["threshold"]),
            Markup::time(&alert["pending_since"]),
            Markup::time(&alert["firing_since"]),
            Markup::time(&alert["resolved_at"]),
            text(&alert["position"]),
        ]
    };
    let all: Vec<Vec<Markup>> = rows(report, "alerts").iter().map(row).collect();
    let columns = ["Rule", "Engine", "Severity", "Value", "Threshold", "Pending", "Firing", "Over", "Entry"];
    page.table("Alerts", &columns, &all, "It was opened by hand.");
}

fn snapshot(page: &mut Page, incident: &Value) {
    page.heading("What it found");
    let snapshot = &incident["snapshot"];
    if snapshot.is_null() {
        page.paragraph("No snapshot is attached yet.");
        return;
    }
    page.paragraph(&format!(
        "At the cut of {}, entry {}.",
        text_of(&snapshot["instant"]),
        text_of(&snapshot["position"])
    ));
    let rule = |rule: &Value| {
        vec![
            text(&rule["rule"]),
            engine(&rule["engine_hash"]),
            Markup::text(&text_of(&rule["state"]).replace('_', " ")),
            text(&rule["value"]),
            text(&rule["threshold"]),
            text(&rule["samples"]),
            evidence(&rule["evidence"]),
        ]
    };
    let rules: Vec<Vec<Markup>> = rows(snapshot, "rules").iter().map(rule).collect();
    let columns = ["Rule", "Engine", "State", "Value", "Threshold", "Records", "Where"];
    page.table("Service levels at that cut", &columns, &rules, "No figures.");
    let totals = |totals: &Value| {
        vec![
            engine(&totals["engine_hash"]),
            text(&totals["requests"]),
            text(&totals["tokens_in"]),
            text(&totals["tokens_out"]),
            text(&totals["cost_usd"]),
            text(&totals["unpriced"]),
            evidence(&totals["evidence"]),
        ]
    };
    let all: Vec<Vec<Markup>> = rows(snapshot, "totals").iter().map(totals).collect();
    let columns = ["Engine", "Requests", "Tokens in", "Tokens out", "USD", "Unpriced", "Where"];
    page.table("The quarter of an hour before", &columns, &all, "Nothing was served.");
}

fn history(page: &mut Page, heading: &str, items: &[Value]) {
    page.heading(heading);
    let row = |row: &Value| {
        vec![Markup::time(&row["time"]), text(&row["summary"]), text(&row["actor"]), text(&row["position"])]
    };
    let all: Vec<Vec<Markup>> = items.iter().map(row).collect();
    page.table(heading, &["Time", "What", "Who", "Entry"], &all, "Nothing.");
}

/// One form an act. What a form sends is its named fields.
fn forms(page: &mut Page, id: &str, report: &Value) {
    let mut form = |verb: &str, label: &str, fields: &str| {
        let action = format!("/v1/incidents/{}/{verb}", path_segment(id));
        page.raw(&format!(
            "<form class=\"command\" data-action=\"{}\">{fields} <button type=\"submit\">{}</button> <output role=\"status\"></output></form>\n",
            escape(&action),
            escape(label)
        ));
    };
    form("acknowledge", "Acknowledge", &input("ack-text", "text", "What to remember"));
    form("assign", "Assign", &format!("{} {}", choice("duty", "Duty", &DUTIES), input("assignee", "assignee", "Who")));
    form(
        "notes",
        "Note",
        &format!("{} {}", choice("kind", "Kind of note", &KINDS), input("note-text", "text", "Text")),
    );
    form(
        "status",
        "Set the status",
        &format!("{} {}", choice("status", "Status", &STATUS), input("status-text", "text", "Text")),
    );
    form(
        "action-items",
        "Add the action item",
        &format!(
            "{} {} {}",
            input("item-title", "title", "Action item"),
            input("item-owner", "owner", "Owner"),
            input("item-due", "due", "Due (2026-10-01T09:00:00Z)")
        ),
    );
    for item in rows(&report["incident"], "action_items").iter().filter(|item| item["done"].is_null()) {
        let item = text_of(&item["id"]);
        form(&format!("action-items/{}/done", path_segment(&item)), &format!("{item} is done"), "");
    }
    form("close", "Close with this report", &input("report-text", "text", "Report"));
}

const DUTIES: [&str; 5] = ["commander", "operations", "communications", "finance", "scribe"];
const KINDS: [&str; 5] = ["note", "reviewed", "root_cause", "mitigation", "finance_told"];
const STATUS: [&str; 4] = ["investigating", "identified", "monitoring", "resolved"];

fn input(id: &str, name: &str, label: &str) -> String {
    format!(
        "<label for=\"{id}\">{label}</label> <input id=\"{id}\" name=\"{name}\" autocomplete=\"off\">",
        id = escape(id),
        name = escape(name),
        label = escape(label)
    )
}

fn choice(name: &str, label: &str, values: &[&str]) -> String {
    let options: Vec<String> = values.iter().map(|value| format!("<option>{}</option>", escape(value))).collect();
    let options = options.concat();
    format!(
        "<label for=\"{name}\">{label}</label> <select id=\"{name}\" name=\"{name}\">{options}</select>",
        name = escape(name),
        label = escape(label)
    )
}

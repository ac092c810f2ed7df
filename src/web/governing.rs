//! The page about what governs: the policy with what was put forward, maintenance windows, keys.

use serde_json::Value;

use super::html::{Markup, Page, escape, path_segment, text_of};
use super::pages::{rows, stack_link, text, token_field};

/// Policy, maintenance, keys.
pub(super) fn page(answers: &[Value]) -> Page {
    let mut page = Page::new("Policy, maintenance, keys");
    let [policy, maintenance, keys] = answers else { return page };
    in_force(&mut page, policy);
    proposals(&mut page, policy);
    windows(&mut page, maintenance);
    author_keys(&mut page, keys);
    page.source(policy);
    page
}

fn in_force(page: &mut Page, policy: &Value) {
    page.heading("Policy in force");
    page.facts(&[
        ("Revision", text(&policy["policy"]["revision"])),
        ("Entry", text(&policy["position"])),
        ("Hash", text(&policy["policy_sha256"])),
        ("A request may cost (USD)", text(&policy["resolved"]["max_cost_usd"])),
        ("A request may wait (µs)", text(&policy["resolved"]["max_queue_delay_us"])),
        ("Samples needed", text(&policy["resolved"]["min_samples"])),
    ]);
    let rules = policy["rules"].as_object();
    let table: Vec<Vec<Markup>> = rules
        .into_iter()
        .flatten()
        .map(|(rule, own)| {
            let mut row = vec![Markup::text(rule)];
            let fields = ["enabled", "threshold", "window_s", "for_s", "keep_firing_for_s", "severity"];
            row.extend(fields.iter().map(|field| text(&own[*field])));
            row
        })
        .collect();
    let columns = ["Rule", "Judged", "Threshold", "Window (s)", "For (s)", "Keep firing for (s)", "Severity"];
    page.table("Rules", &columns, &table, "No rule.");
}

fn proposals(page: &mut Page, policy: &Value) {
    let all = rows(policy, "proposals");
    page.heading("Put forward");
    if all.is_empty() {
        page.paragraph("Nothing was put forward.");
        return;
    }
    if all.iter().any(|row| row["status"] == "proposed") {
        page.paragraph("A decision needs a token with the role admin. Nobody approves what they proposed.");
        page.raw(&token_field());
    }
    for row in all.iter().rev() {
        proposal(page, row);
    }
}

fn proposal(page: &mut Page, row: &Value) {
    let id = text_of(&row["id"]);
    page.raw(&format!("<section aria-labelledby=\"h-{0}\"><h3 id=\"h-{0}\">{0}</h3>\n", escape(&id)));
    let status = if row["is_stale"] == true { "stale: propose it again".to_owned() } else { text_of(&row["status"]) };
    page.facts(&[
        ("Status", Markup::text(&status)),
        ("Revision", text(&row["revision"])),
        ("Why", text(&row["reason"])),
        ("Proposed by", text(&row["proposed_by"])),
        ("Decided by", text(&row["decided_by"])),
        ("In force or refused since entry", text(&row["decided_position"])),
        ("Hash", text(&row["policy_sha256"])),
        ("Replaces", text(&row["replaces_sha256"])),
    ]);
    let changes: Vec<Vec<Markup>> = rows(row, "changes")
        .iter()
        .map(|change| vec![text(&change["field"]), text(&change["from"]), text(&change["to"])])
        .collect();
    page.table(&format!("What {id} changes"), &["Field", "From", "To"], &changes, "Nothing that holds.");
    if row["status"] == "proposed" {
        for (verb, label) in [("approve", "Approve"), ("refuse", "Refuse")] {
            decision(page, row, &id, verb, label);
        }
    }
    page.raw("</section>\n");
}

fn decision(page: &mut Page, row: &Value, id: &str, verb: &str, label: &str) {
    let action = format!("/v1/policy/proposals/{}/{verb}", path_segment(id));
    page.raw(&format!(
        "<form class=\"command\" data-action=\"{action}\"><input type=\"hidden\" name=\"policy_sha256\" value=\"{policy}\"><input type=\"hidden\" name=\"replaces_sha256\" value=\"{replaces}\"><label for=\"{verb}-{id}\">Reason to {verb} {id}</label> <input id=\"{verb}-{id}\" name=\"reason\" autocomplete=\"off\"> <button type=\"submit\">{label} {id}</button> <output role=\"status\"></output></form>\n",
        action = escape(&action),
        policy = escape(&text_of(&row["policy_sha256"])),
        replaces = escape(&text_of(&row["replaces_sha256"])),
        id = escape(id),
    ));
}

fn windows(page: &mut Page, maintenance: &Value) {
    page.heading("Maintenance");
    let table: Vec<Vec<Markup>> = rows(maintenance, "windows")
        .iter()
        .rev()
        .map(|row| {
            let rules: Vec<String> = rows(row, "rules").iter().map(text_of).collect();
            vec![
                text(&row["id"]),
                stack_link(&row["stack"]),
                Markup::text(&if rules.is_empty() { "all".to_owned() } else { rules.join(", ") }),
                Markup::time(&row["from"]),
                Markup::time(&row["ends"]),
                text(&row["reason"]),
                text(&row["set_by"]),
                text(&row["holds_now"]),
            ]
        })
        .collect();
    let columns = ["Window", "Stack", "Rules", "From", "Ends", "Why", "Set by", "Holds now"];
    page.table("Maintenance windows", &columns, &table, "None was ever set.");
}

fn author_keys(page: &mut Page, keys: &Value) {
    page.heading("Keys");
    let table: Vec<Vec<Markup>> = rows(keys, "authors")
        .iter()
        .map(|row| {
            let types: Vec<String> = rows(row, "event_types").iter().map(text_of).collect();
            vec![
                text(&row["key_id"]),
                text(&row["author"]),
                Markup::text(&types.join(", ")),
                text(&row["status"]),
                text(&row["enrolled_by"]),
                text(&row["confirmed_by"]),
                text(&row["in_force_position"]),
                text(&row["revoked_position"]),
            ]
        })
        .collect();
    let columns = [
        "Key",
        "Author",
        "May sign",
        "Status",
        "Enrolled by",
        "Confirmed by",
        "In force since entry",
        "Revoked at entry",
    ];
    page.table("Authors' keys", &columns, &table, "No author's key was ever enrolled.");
    let nodes: Vec<Vec<Markup>> = rows(keys, "nodes")
        .iter()
        .map(|row| vec![text(&row["key_id"]), text(&row["node"]), text(&row["retired_position"])])
        .collect();
    page.table("Nodes' keys", &["Key", "Node", "Retired at entry"], &nodes, "None.");
}

//! An incident over HTTP: worked, refused where it says too little or comes too late, overdue by the ledger's time, reported.

use govledger::domain::time::Time;
use serde_json::{Value, json};

use crate::app::{App, NOW, published, token};
use crate::spend::cut;
use crate::support::http::Reply;
use crate::support::node::block_on;

/// An act of on-call on an incident.
fn act(app: &App, id: &str, verb: &str, body: &Value) -> Reply {
    let key = govledger::domain::principal::token_sha256(&format!("{verb} {body}"));
    app.command(&token("oncall"), &format!("/v1/incidents/{id}/{verb}"), &key, body)
}

fn opened(app: &App, title: &str) -> (String, u64) {
    let body = json!({ "stack": "s", "title": title });
    let key = format!("open {}", title.len());
    let reply = app.command(&token("oncall"), "/v1/incidents", &key, &body).expect(200).json();
    (reply["incident"].as_str().unwrap().to_owned(), reply["position"].as_u64().unwrap())
}

fn shown(app: &App, id: &str) -> Value {
    app.read(&format!("/v1/incidents/{id}")).expect(200).json()
}

/// The steps of the checklist by their state, and the entries that tick them.
fn steps(incident: &Value) -> Vec<(String, Option<u64>)> {
    let steps = incident["checklist"].as_array().unwrap().iter();
    steps.map(|step| (step["state"].as_str().unwrap().to_owned(), step["position"].as_u64())).collect()
}

/// Moves the clock and lets the cuts of that time be made.
pub(crate) fn wait(app: &App, seconds: &mut i64, more: i64) {
    *seconds += more;
    app.clock.set(NOW.parse::<Time>().unwrap().plus_seconds(*seconds + 1));
    for _ in 0..2 {
        block_on(app.handle.file_progress(0)).unwrap();
    }
}

#[test]
fn every_act_is_an_entry_and_ticks_what_it_shows() {
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    let (id, position) = opened(&app, "slow");
    let incident = shown(&app, &id);
    assert_eq!(incident["snapshot"]["position"], position + 1, "the figures it found are the next entry");
    assert_eq!(steps(&incident).iter().filter(|(state, _)| state == "done").count(), 0);
    assert_eq!(steps(&incident)[5].0, "not_needed", "no alert of cost belongs to it");

    let at = |reply: Reply| reply.expect(200).json()["position"].as_u64();
    let acknowledged = at(act(&app, &id, "acknowledge", &json!({ "text": "mine" })));
    at(act(&app, &id, "assign", &json!({ "duty": "commander", "assignee": "olu" })));
    let reviewed = at(act(&app, &id, "notes", &json!({ "kind": "reviewed" })));
    at(act(&app, &id, "status", &json!({ "status": "identified" })));
    at(act(&app, &id, "notes", &json!({ "kind": "root_cause", "text": "a cold cache" })));
    let item = json!({ "title": "warm it earlier", "owner": "pat", "due": "2026-11-02T00:00:00Z" });
    let item = format!("act-{}", at(act(&app, &id, "action-items", &item)).unwrap());
    let rolled_back = json!({ "specversion": "1.0", "id": "2", "source": "ci", "type": "llm_rollback_completed", "subject": "s", "data": { "restored": { "hash": "sha256:a", "version": "1.0.0" } } });
    let rolled_back = app.publish(&rolled_back.to_string()).expect(200).json()["outcomes"][0]["position"].as_u64();
    let warmed = json!({ "specversion": "1.0", "id": "3", "source": "ci", "type": "llm_warmup_completed", "subject": "s", "data": { "engine_hash": "sha256:a" } });
    let warmed = app.publish(&warmed.to_string()).expect(200).json()["outcomes"][0]["position"].as_u64();
    let incident = shown(&app, &id);
    assert_eq!(incident["status"], "identified");
    assert_eq!(incident["standing"]["commander"], "olu");
    let expected = [
        ("done", acknowledged),
        ("done", reviewed),
        ("done", warmed),
        ("done", rolled_back),
        ("open", None),
        ("not_needed", None),
    ];
    assert_eq!(steps(&incident), expected.map(|(state, position)| (state.to_owned(), position)));

    let closed = at(act(&app, &id, "close", &json!({ "report": "https://wiki/pm-1" })));
    assert_eq!(steps(&shown(&app, &id))[4], ("done".to_owned(), closed));
    at(act(&app, &id, &format!("action-items/{item}/done"), &json!({})));
    let report = app.read(&format!("/v1/incidents/{id}/report")).expect(200).json();
    assert_eq!(report["root_cause"]["text"], "a cold cache");
    assert_eq!(report["mitigations"][0]["position"].as_u64(), rolled_back);
    assert!(report["incident"]["action_items"][0]["done_position"].is_u64());
    assert_eq!(report["impact"]["requests"], 0, "no alert, no request counted");
    app.restart_is_clean();
}

#[test]
fn what_says_too_little_or_comes_too_late_is_refused() {
    let app = App::start();
    let (id, position) = opened(&app, "slow");
    let refused = |verb: &str, body: &Value, field: &str| {
        let problem = act(&app, &id, verb, body).expect(409).json();
        assert_eq!((problem["code"].as_str(), problem["field"].as_str()), (Some("command_refused"), Some(field)));
        problem["by_position"].as_u64()
    };
    refused("close", &json!({}), "text");
    refused("close", &json!({ "report": " " }), "text");
    refused("assign", &json!({ "duty": "scribe", "assignee": "" }), "assignee");
    refused("notes", &json!({ "kind": "root_cause" }), "text");
    assert_eq!(refused("notes", &json!({ "kind": "reviewed", "snapshot": 1 }), "snapshot"), Some(position + 1));
    refused("action-items", &json!({ "title": "t", "owner": "o", "due": "2020-01-01T00:00:00Z" }), "due");
    refused("action-items", &json!({ "title": "t", "owner": "", "due": "2027-01-01T00:00:00Z" }), "owner");
    refused("action-items/act-1/done", &json!({}), "item");
    refused("report", &json!({}), "text");
    act(&app, &id, "status", &json!({ "status": "paused" })).expect(400);
    act(&app, &id, "assign", &json!({ "duty": "hero", "assignee": "olu" })).expect(400);
    app.command(&token("finance"), &format!("/v1/incidents/{id}/assign"), "f", &json!({})).expect(403);
    let size = app.size();
    act(&app, "inc-999", "close", &json!({ "text": "over" })).expect(404);
    assert_eq!(app.size(), size, "what is asked of an unknown incident is no entry");

    // Resolved: another may be opened, and then this one stays resolved.
    act(&app, &id, "status", &json!({ "status": "resolved" })).expect(200);
    let (other, other_position) = opened(&app, "slow again");
    assert_eq!(refused("status", &json!({ "status": "monitoring" }), "incident"), Some(other_position));
    let closed = act(&app, &id, "close", &json!({ "text": "rolled back" })).expect(200).json()["position"].as_u64();
    for (verb, body) in [
        ("status", json!({ "status": "investigating" })),
        ("acknowledge", json!({ "text": "late" })),
        ("assign", json!({ "duty": "commander", "assignee": "olu" })),
        ("notes", json!({ "text": "late" })),
        ("close", json!({ "text": "twice" })),
    ] {
        assert_eq!(refused(verb, &body, "incident"), closed, "{verb}");
    }
    assert_eq!(shown(&app, &other)["status"], "open");
}

#[test]
fn an_alert_of_cost_opens_one_with_its_figures_and_what_is_due_shows() {
    let app = App::live();
    let mut seconds = 0;
    app.publish(&published("p", "e", "1")).expect(200);
    let warmed = json!({ "specversion": "1.0", "id": "w", "source": "ci", "type": "llm_warmup_completed", "subject": "s", "data": { "engine_hash": "e" } });
    app.publish(&warmed.to_string()).expect(200);
    cut(&app, &mut seconds, &[Some("0.05"), Some("0.60"), None]);
    let row = || app.read("/v1/incidents").expect(200).json()["incidents"][0].clone();
    let id = row()["id"].as_str().unwrap().to_owned();
    let incident = shown(&app, &id);
    let alert = app.read("/v1/alerts").expect(200).json()["alerts"][0].clone();
    assert_eq!(incident["alerts"], json!([alert["id"]]));
    assert_eq!(incident["snapshot"]["instant"], alert["firing_since"]);
    let totals = &incident["snapshot"]["totals"][0];
    let figures = ["requests", "unpriced", "cost_usd", "requests_over", "gross_usd", "excess_usd"];
    let expected = [json!(3), json!(1), json!("0.65"), json!(1), json!("0.6"), json!("0.5")];
    assert_eq!(figures.map(|name| totals[name].clone()), expected, "{totals:#}");
    assert_eq!(totals["evidence"][0]["to"], 4);
    assert_eq!(steps(&incident)[2].0, "not_needed", "money alone leaves the engine where it is");
    let running = app.read(&format!("/v1/incidents/{id}/report")).expect(200).json();
    assert_eq!(running["impact"]["requests"], 1, "only the one above the limit: {:#}", running["impact"]);
    assert_eq!(running["impact"]["episodes"][0]["position"], Value::Null, "it goes on");

    // Finance is told by being asked for a waiver, and decides.
    let scope = json!({ "rule": "cost_per_request", "stack": "s", "justification": "j", "mitigation_plan": "m", "cap_usd": "9", "expires": "2026-11-20T00:00:00Z" });
    let asked = app.command(&token("oncall"), "/v1/waivers", "ask", &scope).expect(200).json();
    assert_eq!(steps(&shown(&app, &id))[5].0, "open", "asked, not decided");
    let path = format!("/v1/waivers/{}/approve", asked["waiver"].as_str().unwrap());
    let waiver = app.read(&format!("/v1/waivers/{}", asked["waiver"].as_str().unwrap())).expect(200).json();
    let seen = json!({ "scope_sha256": waiver["scope_sha256"] });
    let approved = app.command(&token("finance"), &path, "approve", &seen).expect(200).json();
    assert_eq!(steps(&shown(&app, &id))[5], ("done".to_owned(), approved["position"].as_u64()));
    let item = json!({ "title": "cheaper prompts", "owner": "pat", "due": "2026-11-01T12:00:00Z" });
    let item = act(&app, &id, "action-items", &item).expect(200).json()["position"].as_u64().unwrap();

    // The offence leaves the window, the alert resolves, and what the episode cost is an entry.
    for _ in 0..14 {
        cut(&app, &mut seconds, &[Some("0.01")]);
    }
    let over = shown(&app, &id);
    assert_eq!((over["impact"][0]["cost_alone"].as_bool(), over["impact"].as_array().unwrap().len()), (Some(true), 1));
    assert_eq!(over["impact"][0]["totals"]["requests_over"], 1, "{:#}", over["impact"]);
    let ended: Time = row()["ended"].as_str().unwrap().parse().unwrap();
    assert_eq!(row()["report_due"].as_str().unwrap().parse::<Time>().unwrap(), ended.plus_seconds(72 * 3_600));
    let overdue = || {
        let metrics = app.http.get("/metrics").text();
        let line = |what: &str| {
            let name = format!("govledger_incidents_overdue{{what=\"{what}\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<f64>().unwrap()
        };
        (row()["report_overdue"].clone(), row()["action_items_overdue"].clone(), line("report"), line("action_item"))
    };
    assert_eq!(overdue(), (json!(false), json!([]), 0.0, 0.0));
    wait(&app, &mut seconds, 72 * 3_600 + 60);
    let late = json!([format!("act-{item}")]);
    assert_eq!(overdue(), (json!(true), late, 1.0, 1.0));
    assert!(app.read("/incidents").expect(200).text().contains("report, due "));
    let then = app.read("/v1/incidents?as_of=2026-11-01T13:00:00Z").expect(200).json();
    assert_eq!(then["incidents"][0]["report_overdue"], false, "by the ledger's time, not by the clock");
    act(&app, &id, "report", &json!({ "text": "prompts were too long" })).expect(200);
    act(&app, &id, &format!("action-items/act-{item}/done"), &json!({})).expect(200);
    assert_eq!(overdue(), (json!(false), json!([]), 0.0, 0.0));
}

const HOSTILE: &str = "</td><script>alert(1)</script>|`x`\n# [y](javascript:z) <img src=x onerror=alert(2)>";

#[test]
fn the_report_comes_as_asked_for_and_nothing_in_it_is_markup() {
    let app = App::start();
    app.publish(&published("1", "sha256:a", HOSTILE)).expect(200);
    let (id, _) = opened(&app, HOSTILE);
    for kind in ["root_cause", "mitigation"] {
        act(&app, &id, "notes", &json!({ "kind": kind, "text": HOSTILE })).expect(200);
    }
    act(&app, &id, "assign", &json!({ "duty": "commander", "assignee": HOSTILE })).expect(200);
    let item = json!({ "title": HOSTILE, "owner": HOSTILE, "due": "2027-01-01T00:00:00Z" });
    act(&app, &id, "action-items", &item).expect(200);
    act(&app, &id, "close", &json!({ "text": HOSTILE, "report": HOSTILE })).expect(200);
    let path = format!("/v1/incidents/{id}/report");
    let get = |accept: &str, query: &str| {
        app.as_role("reader").send("GET", &format!("{path}{query}"), &[("accept", accept)], &[]).expect(200)
    };
    let kind = |reply: &Reply| reply.header("content-type").unwrap().to_owned();
    assert_eq!(kind(&get("*/*", "")), "application/json");
    assert_eq!(kind(&get("text/html,*/*;q=0.8", "")), "text/html; charset=utf-8");
    assert_eq!(kind(&get("text/markdown", "")), "text/markdown; charset=utf-8");
    assert_eq!(kind(&get("text/html", "?format=json")), "application/json", "what is named outweighs the header");
    app.read(&format!("{path}?format=pdf")).expect(400);
    app.read("/v1/incidents/inc-999/report?format=html").expect(404);

    let html = get("*/*", "?format=html");
    assert!(html.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let text = html.text();
    assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("<link"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(1)") && text.contains("<style>"), "{text}");
    let markdown = get("*/*", "?format=md").text();
    assert!(!markdown.contains('<') && !markdown.contains("\n# [") && !markdown.contains("](javascript"), "{markdown}");
    let cells = |line: &str| line.replace("\\|", "").matches('|').count();
    let tables: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    for pair in tables.windows(2).filter(|pair| pair[1].starts_with("| ---")) {
        assert_eq!(cells(pair[0]), cells(pair[1]));
    }
    assert!(tables.iter().filter(|line| line.contains("alert\\(1\\)")).all(|line| [5, 6].contains(&cells(line))));
}

#[test]
fn on_call_works_it_in_a_real_browser() {
    use crate::support::{browser, parts};
    let Some(parts) = parts::browser() else { return };
    let app = App::start();
    app.publish(&published("1", "sha256:a", "1.0.0")).expect(200);
    let (id, _) = opened(&app, HOSTILE);
    let url = |path: &str| format!("http://{}{path}", app.address);
    let form = |verb: &str| format!("form[data-action='/v1/incidents/{id}/{verb}']");
    let report = app.data.path().join("report.html");
    std::fs::write(&report, app.read(&format!("/v1/incidents/{id}/report?format=html")).expect(200).text()).unwrap();
    let picture = app.data.path().join("report.png");
    let done = |verb: &str| json!({ "wait_for": format!("{} output:not(:empty)", form(verb)) });
    let press = |verb: &str| json!({ "click": format!("{} button", form(verb)) });
    let steps = [
        json!({ "goto": url(&format!("/incidents/{id}")) }),
        json!({ "fill": ["#token", token("oncall")] }),
        json!({ "click": "form.token button" }),
        json!({ "wait_for": form("acknowledge") }),
        json!({ "axe": true }),
        json!({ "fill": ["#ack-text", "on it"] }),
        press("acknowledge"),
        done("acknowledge"),
        json!({ "fill": ["#assignee", "olu"] }),
        press("assign"),
        done("assign"),
        json!({ "text": format!("{} output", form("assign")) }),
        json!({ "eval": "document.querySelector('#kind').value = 'reviewed'" }),
        press("notes"),
        done("notes"),
        json!({ "text": format!("{} output", form("notes")) }),
        json!({ "goto": url("/incidents") }),
        json!({ "wait_for": "table" }),
        json!({ "axe": true }),
        json!({ "goto": format!("file://{}", report.display()) }),
        json!({ "wait_for": "table" }),
        json!({ "count": "script, img, link" }),
        json!({ "axe": true }),
        json!({ "screenshot": picture.display().to_string() }),
    ];
    let driven = browser::drive(&parts, &steps);
    for (step, result) in steps.iter().zip(&driven.results) {
        if step.get("axe").is_some() {
            assert_eq!(result, &json!([]), "accessibility");
        }
    }
    for index in [11, 15] {
        assert!(driven.results[index].as_str().unwrap().starts_with("Applied as entry"), "{:?}", driven.results[index]);
    }
    assert_eq!(driven.results[21], 0, "the document runs and loads nothing");
    assert!(std::fs::metadata(&picture).unwrap().len() > 10_000, "a picture of the report");
    let incident = shown(&app, &id);
    assert_eq!(
        (incident["status"].as_str(), incident["duties"]["commander"]["assignee"].as_str()),
        (Some("acknowledged"), Some("olu"))
    );
    assert_eq!(steps_done(&incident), [1, 2]);
    let others: Vec<&String> = driven.errors.iter().filter(|error| !error.contains("401")).collect();
    assert!(others.is_empty(), "{others:?}");
}

fn steps_done(incident: &Value) -> Vec<u64> {
    let steps = incident["checklist"].as_array().unwrap().iter();
    steps.filter(|step| step["state"] == "done").map(|step| step["number"].as_u64().unwrap()).collect()
}

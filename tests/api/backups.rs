//! Manifests of other tools, imported as backups; what a stack owes, by the ledger's time, and what ends it.

use serde_json::{Value, json};

use crate::app::{App, event, published};
use crate::incidents::wait;

/// As the stack writes it: indented, and without stack or engine.
const MANIFEST: &str = "{\n  \"backup_id\": \"qwen3-2026-10-01\",\n  \"snapshot_time\": \"2026-10-01T02:00:00.000001+00:00\",\n  \"artifacts\": [\"rank0.engine\"],\n  \"verification_hash\": \"aa\",\n  \"replication_targets\": [\"s3://elsewhere\"],\n  \"llm_artifacts\": [{\"kind\": \"plan\"}]\n}\n";

#[test]
fn a_manifest_is_recorded_once_for_what_it_is_said_to_be_of() {
    let app = App::start();
    let publisher = app.as_role("publisher");
    let import = |query: &str, body: &str| publisher.post(&format!("/v1/backups{query}"), &[], body.as_bytes());
    let first = import("?stack=s&engine=sha256:a", MANIFEST).expect(200).json();
    assert_eq!(first["outcomes"][0]["verdict"], "admitted", "{first}");
    let again = import("?stack=s&engine=sha256:a", MANIFEST).expect(200).json();
    assert_eq!(again["outcomes"][0]["verdict"], json!({ "duplicate": { "of": first["outcomes"][0]["position"] } }));
    let listed = app.read("/v1/backups?stack=s").expect(200).json();
    let backups = listed["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 1, "{listed}");
    assert_eq!(backups[0]["backup"]["backup_id"], "qwen3-2026-10-01");
    assert_eq!((&backups[0]["engine_hash"], &backups[0]["verified"]), (&json!("sha256:a"), &json!(null)));

    for (query, body, part) in [
        ("?stack=s", MANIFEST, "engine is missing"),
        ("?engine=e", MANIFEST, "stack is missing"),
        ("?stack=s&engine=e", "{}", "`backup_id` is missing"),
        ("?stack=s&engine=e", "[1]", "no JSON object"),
        ("?stack=s&engine=e&x=1", MANIFEST, "unknown parameter"),
    ] {
        let refused = import(query, body).expect(400).text();
        assert!(refused.contains(part), "{query} {body}: {refused}");
    }
    assert_eq!(app.read("/v1/backups").expect(200).json()["backups"].as_array().unwrap().len(), 1);
}

/// `backup_overdue` and `drill_overdue` of the stack, which its answer and the metrics page have to agree on.
fn overdue(app: &App) -> (bool, bool) {
    let metrics = app.http.get("/metrics").text();
    let gauge = |name: &str| {
        let name = format!("govledger_{name}{{stack=\"s\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
    };
    let duty = app.read("/v1/backups?stack=s").expect(200).json()["stacks"][0].clone();
    let shown = |name: &str| duty[name].as_bool().unwrap();
    let flags = (shown("backup_overdue"), shown("drill_overdue"));
    let as_gauge = |flag: bool| if flag { "1.0" } else { "0.0" };
    assert_eq!(gauge("backup_overdue"), as_gauge(flags.0), "{duty}");
    assert_eq!(gauge("backup_drill_overdue"), as_gauge(flags.1), "{duty}");
    flags
}

fn told(app: &App, id: &str, event_type: &str, data: &Value) {
    let outcome = app.publish(&event(id, event_type, data)).expect(200).json()["outcomes"][0].clone();
    assert_eq!(outcome["verdict"], "admitted", "{outcome}");
}

/// A backup of `engine`, read again with success.
fn backed_up(app: &App, id: &str, engine: &str) {
    let backup = json!({ "backup_id": id, "engine_hash": engine, "verification_hash": "aa", "replication_targets": ["s3://elsewhere"] });
    told(app, &format!("{id}-recorded"), "llm_backup_recorded", &backup);
    told(app, &format!("{id}-verified"), "llm_backup_verified", &json!({ "backup_id": id }));
}

#[test]
fn an_engine_without_a_backup_and_a_stack_without_a_restore_are_overdue_until_there_is_one() {
    let app = App::live();
    let mut seconds = 0;
    assert!(!app.http.get("/metrics").text().contains("govledger_backup_overdue{"), "no stack, no duty");
    app.publish(&published("1", "a", "1.0.0")).expect(200);
    wait(&app, &mut seconds, 47 * 3_600);
    assert_eq!(overdue(&app), (false, false));
    wait(&app, &mut seconds, 2 * 3_600);
    assert_eq!(overdue(&app), (true, false));
    // Recorded is not enough, nor is a backup of another engine; one that was read again is.
    told(
        &app,
        "r",
        "llm_backup_recorded",
        &json!({ "backup_id": "unread", "engine_hash": "a", "verification_hash": "aa" }),
    );
    backed_up(&app, "other", "b");
    assert_eq!(overdue(&app), (true, false));
    told(&app, "v", "llm_backup_verified", &json!({ "backup_id": "unread" }));
    assert_eq!(overdue(&app), (false, false));
    // It is damaged later: the duty is back, and another backup ends it.
    told(&app, "f", "llm_backup_failed", &json!({ "backup_id": "unread" }));
    assert_eq!(overdue(&app), (true, false));
    backed_up(&app, "second", "a");
    assert_eq!(overdue(&app), (false, false));

    // The oldest backup is the one that counts until the first restore: newer ones put nothing off.
    wait(&app, &mut seconds, 89 * 86_400);
    backed_up(&app, "third", "a");
    assert_eq!(overdue(&app), (false, false));
    wait(&app, &mut seconds, 2 * 86_400);
    assert_eq!(overdue(&app), (false, true));
    told(&app, "restored", "llm_backup_restored", &json!({ "backup_id": "third" }));
    assert_eq!(overdue(&app), (false, false));
    wait(&app, &mut seconds, 91 * 86_400);
    assert_eq!(overdue(&app), (false, true));
    // Another engine has its own 48 hours.
    app.publish(&published("2", "c", "1.1.0")).expect(200);
    assert_eq!(overdue(&app), (false, true));
    wait(&app, &mut seconds, 49 * 3_600);
    assert_eq!(overdue(&app), (true, true));
    app.restart_is_clean();
}

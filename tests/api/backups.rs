//! Manifests of other tools, imported as backups.

use serde_json::json;

use crate::app::App;

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

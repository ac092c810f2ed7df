//! The built binary, as people and scripts run it: commands, exit codes, JSON.

#![cfg(test)]

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/documented.rs"]
mod documented;
#[path = "cli/operate.rs"]
mod operate;

use std::fs;

use bench::{Bench, QWEN, RERANK};

#[test]
fn the_demo_tells_the_story_with_its_numbers() {
    let bench = Bench::demo();
    let told = &bench.told;
    for words in [
        "rolled back to 1.4.0",
        "latency_p95 on engine-qwen3",
        "cost_per_request on engine-rerank",
        "covered by waiver-",
        "last good is 1.4.0",
        "1.5.0 (c07a91e4d65b) was passed over: rolled back from",
        "cannot approve it",
        "fiona of finance approved it",
        "not_finite_number",
        "hashes to the signed root",
        "Look further",
    ] {
        assert!(told.contains(words), "{words:?} is not in:\n{told}");
    }
}

#[test]
fn answers_have_the_names_that_other_programs_read() {
    let bench = Bench::demo();
    let good = bench.json(&["last-good", QWEN]);
    assert_eq!(
        (good["version"].as_str(), good["confidence"].as_str(), good["is_current"].as_bool()),
        (Some("1.4.0"), Some("proven"), Some(true))
    );
    assert_eq!(good["passed_over"][0]["reason"], "rolled back from");
    assert_eq!(good["as_of"]["ledger"], "governance");
    let manifest = bench.json(&["manifest", QWEN]);
    assert_eq!(manifest["traffic"]["open"], true);
    assert_eq!(manifest["manifest"]["snapshot"]["model_id"], "Qwen/Qwen3-32B");
    let alerts = bench.json(&["alerts"]);
    let alerts = alerts.as_array().unwrap();
    let cost = alerts.iter().find(|alert| alert["rule"] == "cost_per_request").unwrap();
    assert_eq!(
        (cost["stack"].as_str(), cost["severity"].as_str(), cost["state"].as_str()),
        (Some(RERANK), Some("finance"), Some("firing"))
    );
    assert!(cost["covered_by"].as_str().unwrap().starts_with("waiver-"));
    assert!(cost["evidence"][0]["root"].is_string());
    let timeline = bench.json(&["timeline", QWEN]);
    let kinds: Vec<&str> = timeline.as_array().unwrap().iter().filter_map(|row| row["type"].as_str()).collect();
    assert!(kinds.contains(&"llm_rollback_completed") && kinds.contains(&"llm_warmup_failed"));
    let waivers = bench.json(&["waivers"]);
    let statuses: Vec<&str> = waivers.as_array().unwrap().iter().filter_map(|row| row["status"].as_str()).collect();
    assert_eq!(statuses, ["reported", "approved"]);
    let slo = bench.json(&["slo", RERANK]);
    assert!(slo["slo"].as_array().unwrap().len() >= 9);
}

#[test]
fn past_states_and_exit_codes() {
    let bench = Bench::demo();
    let timeline = bench.json(&["timeline", QWEN]);
    let published =
        timeline.as_array().unwrap().iter().filter(|row| row["type"] == "llm_engine_published").nth(1).unwrap().clone();
    let position = published["position"].to_string();
    let then = bench.json(&["manifest", QWEN, "--as-of", &position]);
    assert_eq!((then["version"].as_str(), then["traffic"]["open"].as_bool()), (Some("1.5.0"), Some(false)));
    assert_eq!(then["as_of"]["size"].as_u64(), published["position"].as_u64().map(|position| position + 1));
    let then = bench.json(&["manifest", QWEN, "--as-of", published["time"].as_str().unwrap()]);
    assert_eq!(then["version"], "1.5.0");
    // Closed then: the answer is no.
    bench.run(&["traffic", QWEN, "--as-of", &position]).exits(1);
    bench.run(&["traffic", QWEN]).exits(0);
    bench.run(&["last-good", "nobody"]).exits(1).says("never heard of");
    bench.run(&["last-good", QWEN, "--not-current"]).exits(1);
    bench.run(&["last-good"]).exits(2);
    bench.run(&["stacks", "--as-of", "999999"]).exits(2).says("ends at position");
    bench.run(&["stacks", "--as-of", "1999-01-01T00:00:00Z"]).exits(0);
    bench.run(&["stacks", "--server", "http://127.0.0.1:9"]).exits(6).says("does not answer");
    bench.run_in("/nonexistent", &["stacks"]).exits(2).says("govledger init");
    bench.run(&["completions", "bash"]).exits(0).says("_govledger");
}

#[test]
fn ingesting_again_adds_nothing() {
    let bench = Bench::demo();
    let before = bench.json(&["verify"]);
    let (events, logs) = (bench.data("demo/governance-events.ndjson"), bench.data("demo/provider-logs.ndjson"));
    let again = bench.json(&["ingest", "--time", "recorded", &events, &logs]);
    assert_eq!((again["admitted"].as_u64(), again["rejected"].as_u64()), (Some(0), Some(0)));
    assert_eq!(again["read"], again["duplicates"]);
    let after = bench.json(&["verify"]);
    let roots = |report: &serde_json::Value| {
        report["ledgers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ledger| (ledger["size"].clone(), ledger["root"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(roots(&before), roots(&after));
    // New lines behind the last cut are refused whole.
    let stray = bench.file("stray.ndjson", "{\"event\":\"llm.request\",\"operation\":\"judge\",\"model\":\"m\",\"engine_hash\":\"sha256:1\",\"quantisation\":\"w4a8\",\"schema_id\":null,\"duration_ms\":1.0,\"recorded_at\":\"2020-01-01T00:00:00Z\"}\n");
    bench.run(&["ingest", "--time", "recorded", &stray]).exits(5).says("not after the last cut");
    bench.run(&["ingest", "/nonexistent.ndjson"]).exits(2);
}

#[test]
fn a_fresh_directory_takes_lines_from_standard_input() {
    let bench = Bench::empty();
    bench.run(&["stacks"]).exits(2).says("govledger init");
    let made = bench.run(&["init", "--node", "test", "--token-out", &bench.data("../admin.token")]).exits(0);
    assert!(!made.out.contains("glt_"), "the token is in the file alone");
    bench.run(&["init", "--node", "test"]).exits(2).says("holds a ledger already");
    bench.run(&["init", "--node", "test", "--if-missing"]).exits(0);
    let report = bench.run_with(&["ingest", "-", "--time", "recorded", "--json"], "{\"event\":\"llm.request\",\"operation\":\"judge\",\"model\":\"m\",\"engine_hash\":\"sha256:1\",\"quantisation\":\"w4a8\",\"schema_id\":null,\"duration_ms\":1.0,\"recorded_at\":\"2026-01-01T00:00:00Z\"}\nnot json\n").exits(0);
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(
        (report["read"].as_u64(), report["admitted"].as_u64(), report["rejected"].as_u64()),
        (Some(2), Some(1), Some(1))
    );
    let rejected = bench.json(&["rejected", "--ledger", "metrics-0"]);
    assert_eq!(rejected["rejected"][0]["refusal"]["code"], "malformed_json");
    let entry = bench.json(&["entries", "2", "--ledger", "metrics-0"]);
    assert_eq!(entry["body"], "not json");
    let rebuilt = bench.json(&["rebuild"]);
    assert_eq!(bench.json(&["rebuild"])["governance_digest"], rebuilt["governance_digest"]);
}

#[test]
fn a_waiver_is_asked_for_from_what_the_alert_knows() {
    let bench = Bench::empty();
    let token = bench.data("../admin.token");
    bench.run(&["init", "--node", "test", "--token-out", &token]).exits(0);
    let line = |engine: &str| {
        format!(
            "{{\"event\":\"llm.request\",\"operation\":\"judge\",\"model\":\"m9\",\"engine_hash\":\"{engine}\",\"quantisation\":\"w4a8\",\"schema_id\":null,\"duration_ms\":1.0,\"cost_usd\":0.35,\"recorded_at\":\"2026-01-01T00:00:00Z\"}}\n"
        )
    };
    bench.run_with(&["ingest", "-", "--time", "recorded"], &(line("e") + &line("e"))).exits(0);
    let alerts = bench.json(&["alerts", "--state", "firing"]);
    let alerts = alerts.as_array().unwrap();
    let alert = alerts.iter().find(|alert| alert["rule"] == "cost_per_request" && alert["stack"] == "m9").unwrap();
    let id = alert["id"].as_str().unwrap();
    let ask = |id: &str| {
        let words = ["waivers", "request", "--justification", "j", "--mitigation", "m", "--from-alert"];
        let args: Vec<&str> = words
            .into_iter()
            .chain([id, "--expires", "2999-01-01T00:00:00Z", "--token-file", &token, "--json"])
            .collect();
        bench.run(&args)
    };
    ask("none").exits(2).says("no alert \"none\" fires now");
    let asked: serde_json::Value = serde_json::from_str(&ask(id).exits(0).out).unwrap();
    let scope = bench.json(&["waivers", "show", asked["waiver"].as_str().unwrap()])["scope"].clone();
    assert_eq!(
        (scope["rule"].as_str(), scope["stack"].as_str(), scope["engine_hash"].as_str()),
        (Some("cost_per_request"), Some("m9"), Some("e"))
    );
    assert_eq!(
        alert["proposal"],
        serde_json::json!({ "cap_usd": "336", "unpriced": 0, "expires": "2026-01-08T00:00:00Z" })
    );
    assert_eq!(scope["expires"], "2999-01-01T00:00:00Z", "what is given goes before what is proposed");
    assert_eq!(scope["cap_usd"], "336", "twice 0.25 USD in a quarter of an hour, for a week");
}

#[test]
fn waivers_are_decided_without_a_service() {
    let bench = Bench::demo();
    let ask = [
        "waivers",
        "request",
        "--stack",
        QWEN,
        "--rule",
        "latency_p95",
        "--justification",
        "migration",
        "--mitigation",
        "more slots",
        "--expires",
        "2999-01-01T00:00:00Z",
        "--key",
        "one",
    ];
    bench.run(&ask).exits(2).says("--token-file");
    let asked = bench.json_as("pavel", &ask);
    let waiver = asked["waiver"].as_str().unwrap().to_owned();
    // The same key is the same command.
    assert_eq!(bench.json_as("pavel", &ask)["position"], asked["position"]);
    bench.run_as("pavel", &["waivers", "approve", &waiver]).exits(5).says("cannot approve it");
    bench.run_as("olu", &["waivers", "approve", &waiver]).exits(5).says("lacks the role finance");
    bench.run_as("fiona", &["waivers", "approve", &waiver, "--scope-sha256", &"0".repeat(64)]).exits(5);
    let approved = bench.json_as("fiona", &["waivers", "approve", &waiver]);
    let late = bench.run_as("fiona", &["waivers", "approve", &waiver]).exits(5);
    assert!(late.err.contains(&format!("entry {}", approved["position"])), "{}", late.err);
    let shown = bench.json(&["waivers", "show", &waiver]);
    assert_eq!((shown["status"].as_str(), shown["covers_now"].as_bool()), (Some("approved"), Some(true)));
    bench.run_as("fiona", &["waivers", "revoke", &waiver, "--reason", "over"]).exits(0);
    assert_eq!(bench.json(&["waivers", "show", &waiver])["status"], "revoked");
    bench
        .run_as(
            "pavel",
            &[
                "condemn",
                QWEN,
                "sha256:c07a91e4d65b38f2094ec1b7a85d3f66128e90cb74fa5d1e3b2968c7f0ad5e41",
                "--reason",
                "slow",
            ],
        )
        .exits(5);
    bench
        .run_as(
            "olu",
            &[
                "condemn",
                QWEN,
                "sha256:c07a91e4d65b38f2094ec1b7a85d3f66128e90cb74fa5d1e3b2968c7f0ad5e41",
                "--reason",
                "slow",
            ],
        )
        .exits(0);
    let enrolled =
        bench.json_as("admin", &["token", "create", "--principal", "rita", "--role", "reader", "--role", "auditor"]);
    assert!(enrolled["token"].as_str().unwrap().starts_with("glt_"));
    assert!(bench.json(&["token", "list"]).as_array().unwrap().iter().any(|row| row["principal"] == "rita"));
    bench.run_as("admin", &["token", "revoke", "--principal", "rita"]).exits(0);
    bench.run(&["verify"]).exits(0);
}

#[test]
fn an_auditor_needs_the_export_and_the_key_alone() {
    let bench = Bench::demo();
    let answer = bench.run(&["last-good", QWEN, "--json"]).exits(0).out;
    let saved = bench.file("answer.json", &answer);
    let past = bench.run(&["manifest", QWEN, "--as-of", "200", "--json"]).exits(0).out;
    let past = bench.file("past.json", &past);
    let kept = bench.file("kept", &fs::read_to_string(bench.exported().join("governance/checkpoint")).unwrap());
    let export = bench.exported().display().to_string();
    let vkey = format!("{export}/governance.vkey");
    let offline = |args: &[&str]| bench.run_in("/nonexistent", &[args, &["--vkey", &vkey]].concat());
    offline(&["check-answer", &saved, "--export", &export]).exits(0).says("confirmed");
    offline(&["check-answer", &past, "--export", &export]).exits(0).says("confirmed");
    offline(&["last-good", QWEN, "--export", &export]).exits(0).says("1.4.0");
    offline(&["slo", QWEN, "--export", &export]).exits(0).says("latency_p95");
    offline(&["verify", &export, "--since", &kept]).exits(0).says("extends");
    bench.run_in("/nonexistent", &["stacks", "--export", &export]).exits(2).says("--vkey");
    let forged = bench.file("forged.json", &answer.replace("\"proven\"", "\"degraded\""));
    offline(&["check-answer", &forged, "--export", &export]).exits(1).says("confidence");
    let proof = bench.data("../3.tlog-proof");
    bench.run(&["prove", "3", "-o", &proof]).exits(0);
    let entry = bench.data("../3.entry");
    offline(&["check-proof", &proof, "--entry", &entry]).exits(0).says("proven");
    fs::write(&entry, fs::read_to_string(&entry).unwrap().replace("1.4.0", "1.4.1")).unwrap();
    offline(&["check-proof", &proof, "--entry", &entry]).exits(1).says("does not hold");
}

/// By a script that knows the definitions and the export's layout alone; `tests/traces.rs` asks it about real traces.
#[test]
fn each_alerts_figures_recompute_from_its_evidence() {
    let bench = Bench::demo();
    let alerts = bench.run(&["alerts", "--json"]).exits(0).out;
    let check = |alerts: &str| bench.alert_figures(&bench.file("alerts.json", alerts));
    check(&alerts).exits(0).says("6 alerts, 0 wrong");
    let mut forged: serde_json::Value = serde_json::from_str(&alerts).unwrap();
    forged[1]["value"] = "1623.688".into();
    check(&forged.to_string()).exits(1).says("6 alerts, 1 wrong");
}

#[test]
fn a_flipped_bit_is_damage() {
    let bench = Bench::demo();
    let export = bench.exported();
    let vkey = export.join("governance.vkey").display().to_string();
    bench::flip(&bench::largest(&bench.root().join("metrics-0/segments")));
    let report = bench.run(&["verify", "--json"]).exits(3);
    let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["problems"][0]["ledger"], "metrics-0");
    bench::flip(&bench::largest(&export.join("governance/tile/entries")));
    bench.run(&["verify", &export.display().to_string(), "--vkey", &vkey]).exits(3).says("problems");
}

#[test]
fn a_running_service_is_found_asked_and_stopped() {
    let bench = Bench::demo();
    let service = bench.serve();
    let url = service.url().to_owned();
    let found: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bench.data("service.json")).unwrap()).unwrap();
    assert_eq!(found["url"].as_str(), Some(url.as_str()));
    assert_eq!(bench::mode(&bench.root().join("service.json")), 0o600);
    // The directory's commands go to the service; nobody else may open the ledger for writing.
    assert_eq!(bench.json(&["last-good", QWEN])["version"], "1.4.0");
    bench.run(&["last-good", "nobody"]).exits(1).says("never heard of");
    bench.run(&["traffic", QWEN, "--as-of", "190"]).exits(1);
    bench.run(&["rebuild"]).exits(6).says("stop it first");
    let line = |n: u32| {
        format!(
            "{{\"event\":\"llm.request\",\"operation\":\"judge\",\"model\":\"m\",\"engine_hash\":\"sha256:1\",\"quantisation\":\"w4a8\",\"schema_id\":null,\"duration_ms\":{n}.0}}\n"
        )
    };
    let fresh = bench.file("fresh.ndjson", &(line(1) + &line(2) + "broken\n"));
    let report = bench.json(&["ingest", &fresh]);
    assert_eq!((report["admitted"].as_u64(), report["rejected"].as_u64()), (Some(2), Some(1)));
    assert_eq!(bench.json(&["ingest", &fresh])["duplicates"], 3);
    let asked = bench.json_as(
        "pavel",
        &[
            "waivers",
            "request",
            "--stack",
            QWEN,
            "--rule",
            "latency_p95",
            "--justification",
            "x",
            "--mitigation",
            "y",
            "--expires",
            "2999-01-01T00:00:00Z",
        ],
    );
    let waiver = asked["waiver"].as_str().unwrap();
    bench.run_as("pavel", &["waivers", "approve", waiver]).exits(5).says("cannot approve it");
    bench.run_as("fiona", &["waivers", "approve", waiver]).exits(0);
    bench.run(&["entries", "--type", "llm_waiver_approved", "--limit", "5"]).exits(0).says("llm_waiver_approved");
    // From elsewhere: the URL, a token and the key.
    let vkey = bench.data("keys/governance.vkey");
    let token = bench.data("demo/admin.token");
    let remote = ["verify", &url, "--vkey", &vkey, "--token-file", &token];
    bench.run_in("/nonexistent", &remote).exits(0).says("name roots that the metrics ledgers have");
    bench.run_in("/nonexistent", &["stacks", "--server", &url]).exits(5).says("--token-file");
    bench.run_in("/nonexistent", &["stacks", "--server", &url, "--token-file", &token]).exits(0).says(QWEN);
    service.stop().exits(0);
    assert!(!bench.root().join("service.json").exists());
    bench.run(&["verify"]).exits(0);
}

#[test]
fn files_are_followed_into_a_service_over_a_rotation() {
    let bench = Bench::demo();
    let service = bench.serve();
    let line = |n: u32| {
        format!(
            "{{\"event\":\"llm.request\",\"operation\":\"judge\",\"model\":\"m\",\"engine_hash\":\"sha256:1\",\"quantisation\":\"w4a8\",\"schema_id\":null,\"duration_ms\":{n}.0}}\n"
        )
    };
    let log = bench.file("follow.ndjson", &(line(1) + &line(2)));
    let size = || bench.json(&["entries", "--ledger", "metrics-0", "--limit", "1"])["size"].as_u64().unwrap();
    let before = size();
    let following = bench.spawn(&["ingest", "--follow", "--json", &log]);
    bench::until(|| size() == before + 2);
    fs::rename(&log, format!("{log}.1")).unwrap();
    bench.file("follow.ndjson", &line(3));
    bench::until(|| size() == before + 3);
    let ended = following.stop().exits(0);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["admitted"], 3);
    // Rotated again while nobody looked: the next one goes on where this one stopped.
    fs::rename(format!("{log}.1"), format!("{log}.2")).unwrap();
    fs::rename(&log, format!("{log}.1")).unwrap();
    fs::write(format!("{log}.1"), line(3) + &line(4)).unwrap();
    bench.file("follow.ndjson", &line(5));
    let following = bench.spawn(&["ingest", "--follow", &log]);
    bench::until(|| size() == before + 5);
    following.stop().exits(0);
    service.stop().exits(0);
}

#[test]
fn policies_are_shown_and_checked() {
    let bench = Bench::demo();
    assert_eq!(bench.json(&["policy", "show"])["rules"]["latency_p95"]["threshold"], "800");
    let good = bench.file("good.toml", "revision = 1\n[rules.latency_p95]\nthreshold = \"900\"\n");
    bench.run(&["policy", "check", &good]).exits(0).says("revision 1");
    let bad = bench.file("bad.toml", "revision = 1\n[rules.latency_p95]\nwindow_s = 61\n");
    bench.run(&["policy", "check", &bad]).exits(1).says("window_s");
    // What was judged by the built-in policy is changed by two admins and not by a file.
    let config = bench.file("config.toml", &format!("policy = {good:?}\n"));
    let service = bench.serve_with(&["--config", &config]);
    service.stop().exits(0);
    assert_eq!(bench.json(&["policy", "show"])["policy"]["revision"], 0);
    let ask = |who: &str, arguments: &[&str]| {
        let token = bench.data(&format!("demo/{who}.token"));
        let mut all = arguments.to_vec();
        all.extend(["--token-file", token.as_str()]);
        bench.run(&all)
    };
    let second = bench.data("demo/bo.token");
    ask("admin", &["token", "create", "--principal", "bo", "--role", "admin", "--out", &second]).exits(0);
    ask("admin", &["policy", "propose", &good, "--dry-run"]).exits(0).says("latency_p95");
    let proposed = ask("admin", &["--json", "policy", "propose", &good, "--reason", "slower engines"]).exits(0);
    let id = serde_json::from_str::<serde_json::Value>(&proposed.out).unwrap()["made"].as_str().unwrap().to_owned();
    bench.run(&["policy", "proposal", &id]).exits(0).says("rules.latency_p95.threshold");
    ask("admin", &["policy", "approve", &id]).exits(5).says("cannot approve");
    ask("bo", &["policy", "approve", &id]).exits(0).says("applied");
    let shown = bench.json(&["policy", "show"]);
    assert_eq!(
        (shown["policy"]["revision"].as_u64(), shown["rules"]["latency_p95"]["threshold"].as_str()),
        (Some(1), Some("900"))
    );
}

#[test]
fn what_the_environment_names_is_asked_and_what_is_named_outweighs_it() {
    let bench = Bench::demo();
    let url = [("GOVLEDGER_URL", "http://127.0.0.1:9")];
    bench.run_env(&["stacks"], &url).exits(6).says("http://127.0.0.1:9");
    bench
        .run_env(&["rebuild", "--config", &bench.file("c.toml", &format!("data = {:?}\n", bench.root()))], &url)
        .exits(0);
    bench.run(&["stacks"]).exits(0);
    bench.run(&["export", "x", "--server", "http://127.0.0.1:9"]).exits(2).says("--data");
    let token = fs::read_to_string(bench.data("demo/olu.token")).unwrap();
    let data = bench.root().display().to_string();
    let environment = [("GOVLEDGER_TOKEN", token.trim()), ("GOVLEDGER_DATA", data.as_str())];
    bench.run_env(&["incidents", "open", "--stack", QWEN, "--title", "slow"], &environment).exits(5);
    bench.run_env(&["incidents", "note", "inc-242", "--text", "seen"], &environment).exits(0).says("applied");
    // A service.json that was left behind misleads nobody.
    fs::write(bench.data("service.json"), "{\"url\":\"http://127.0.0.1:9\",\"token\":\"glt_x\"}").unwrap();
    bench.run(&["stacks"]).exits(0).says("does not answer");
    bench.run(&["serve", "--listen", "256.0.0.1:1"]).exits(2);
    bench.run(&["serve", "--follower"]).exits(2).says("not from Kafka");
    bench.run(&["serve", "--config", &bench.file("bad.toml", "lissten = 1\n")]).exits(2).says("lissten");
}

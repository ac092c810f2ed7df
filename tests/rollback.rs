//! The way back, gone by the built binary against a service, a directory of backups and a server that holds its engine in
//! memory: over the regression of the scenario, with a reload that keeps the old engine, a warm-up that fails, the process
//! killed at each step, and two operators at once. The gate is asked over HTTP at every step.

#![cfg(test)]

#[path = "rollback/containers.rs"]
mod containers;
#[path = "rollback/crashes.rs"]
mod crashes;
#[path = "rollback/gate.rs"]
mod gate;
#[path = "rollback/proxy.rs"]
mod proxy;
#[path = "rollback/shop.rs"]
mod shop;
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use shop::{LIMIT, Shop, fails, killed};
use support::process::{finish, govledger};
use support::scenario::{GOOD, REGRESSED, STACK};
use support::wait::wait_for;

#[test]
fn a_rollback_over_a_reload_that_keeps_the_engine_and_a_warm_up_that_fails() {
    let shop = Shop::new("rollback-story", 100_003);
    assert_eq!((shop.gate(), shop.plan()["current"]["engine_hash"].as_str()), (200, Some(REGRESSED)));
    let plan = finish(&mut shop.rollback("ann", &["plan", STACK])).expect(0);
    for part in ["1.4.0", "it is the current engine", &shop.backup_id, "verified at entry", "target"] {
        assert!(plan.stdout.contains(part), "{part} in {}", plan.stdout);
    }
    let (reload, check) = (shop.reload(), shop.check());

    // The server says that it reloaded, and kept what it had.
    shop.scratch.write("keep", "");
    let run = |more: &[&str], warm_up: &str| finish(&mut shop.run("ann", more, &reload, &check, warm_up));
    fails(&run(&[], "exit 0").expect(14), "rollback_not_served");
    assert_eq!((shop.noted("reload").as_str(), shop.gate()), ("503", 503));
    let stopped = &shop.plan()["run"]["stopped"];
    assert_eq!((&stopped["stage"], &stopped["code"]), (&json!("reload"), &json!("rollback_not_served")));
    fs::remove_file(shop.scratch.join("keep")).unwrap();

    // It loads the plan, and the warm-up fails. What was restored stays.
    let warm_up = format!("{}exit 3", shop.note("warm-up"));
    fails(&run(&[], &warm_up).expect(15), "exit code 3");
    assert_eq!((shop.noted("warm-up").as_str(), shop.gate()), ("503", 503));
    assert_eq!(shop.plan()["current"]["engine_hash"], REGRESSED);
    assert_eq!(shop.plan()["run"]["stopped"]["code"], "rollback_warmup_failed");
    assert_eq!(shop.count("llm_rollback_completed"), 0);

    // The same command goes on: the server holds the plan, so nothing is reloaded again.
    let done = run(&["--json"], "exit 0").expect(0);
    assert!(done.stderr.contains("reload passed over"), "{}", done.stderr);
    assert_eq!((shop.gate(), shop.plan()["current"]["engine_hash"].as_str()), (200, Some(GOOD)));
    assert!(shop.plan()["run"].is_null());
    assert_eq!((shop.count("llm_backup_restored"), shop.count("llm_rollback_claimed")), (1, 3));
    let entry = shop.entry(&done.json()["position"]);
    let sha256 = ledger::Hash::of(&vec![7; 100_003]).to_hex();
    assert_eq!(entry["deployed"]["plan"]["plan/rank0.engine"], sha256.as_str());
    assert!(entry["deployed"]["config"]["config/config.pbtxt"].is_string(), "{entry:#}");
    assert_eq!(
        (&entry["served"], &entry["served_by"], &entry["actor"]),
        (&json!("proven"), &json!("check"), &json!("ann"))
    );
    assert_eq!((&entry["restored_manifest"]["engine_hash"], &entry["from"]["hash"]), (&json!(GOOD), &json!(REGRESSED)));
    assert_eq!(entry["replaced_manifest"]["engine_hash"], REGRESSED);
    assert!(entry["incident"].as_str().is_some_and(|id| id.starts_with("inc-")), "{entry:#}");

    // Once more does nothing, and says so.
    let again = run(&["--to", GOOD], "exit 9").expect(0);
    assert!(again.stdout.contains("already"), "{}", again.stdout);
    let again = run(&[], "exit 9").expect(0);
    assert!(again.stdout.contains("since the rollback of entry"), "{}", again.stdout);
    assert_eq!(shop.count("llm_rollback_completed"), 1);
}

#[test]
fn killed_at_each_step_it_goes_on() {
    let shop = Shop::new("rollback-killed", 48 << 20);
    let (reload, check) = (shop.reload(), shop.check());
    let spawn = |reload: &str, check: &str, warm_up: &str| {
        let mut command = shop.run("ann", &[], reload, check, warm_up);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // While it restores: the old engine goes on serving, and nothing has its name yet.
    let mut child = spawn(&reload, &check, "exit 0");
    wait_for("the partial directory", LIMIT, || shop.scratch.join(".models.partial").exists().then_some(()));
    child.kill().unwrap();
    killed(child);
    assert!(!shop.scratch.join("models").exists());
    assert_eq!(shop.gate(), 200);
    // While it reloads, while it looks, while it warms up.
    let suicide = "kill -9 $PPID";
    killed(spawn(suicide, &check, "exit 0"));
    assert_eq!((shop.gate(), shop.plan()["run"]["touched"].as_bool()), (503, Some(true)));
    killed(spawn(&reload, suicide, "exit 0"));
    assert_eq!(shop.gate(), 503);
    killed(spawn(&reload, &check, suicide));
    assert_eq!((shop.gate(), shop.plan()["run"]["done"]["reload"].is_u64()), (503, true));
    let done = finish(&mut shop.run("ann", &[], &reload, &check, "exit 0")).expect(0);
    assert!(done.stderr.contains("reload passed over"), "{}", done.stderr);
    assert_eq!((shop.gate(), shop.count("llm_rollback_completed"), shop.count("llm_rollback_claimed")), (200, 1, 5));
    let timeline = shop.service.http().get(&format!("/v1/stacks/{STACK}/timeline")).text();
    assert_eq!(timeline.matches("taking over entry").count(), 4, "{timeline}");
}

#[test]
fn of_two_operators_one_proceeds_and_a_takeover_fences_the_other() {
    let shop = Shop::new("rollback-two", 1_003);
    let (reload, check) = (shop.reload(), shop.check());
    let waits = "touch waiting; while [ ! -e go ]; do sleep 0.1; done";
    let first = shop.run("ann", &[], &reload, &check, waits).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first one's warm-up", LIMIT, || shop.scratch.join("waiting").exists().then_some(()));
    let second = finish(&mut shop.run("bob", &[], &reload, &check, "exit 0")).expect(10);
    fails(&second, "rollback_held");
    fails(&second, "ann holds the rollback");
    assert_eq!(shop.gate(), 503);
    finish(&mut shop.run("bob", &["--take-over"], &reload, &check, "exit 0")).expect(0);
    assert_eq!((shop.gate(), shop.count("llm_rollback_completed")), (200, 1));
    shop.scratch.write("go", "");
    let first = first.wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(16), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(shop.count("llm_rollback_completed"), 1);
}

#[test]
fn a_file_that_changed_stops_it_and_abandoning_asks_for_a_warm_up() {
    let shop = Shop::new("rollback-abandoned", 1_003);
    let check = shop.check();
    // The reload itself spoils what it loads.
    let spoils = format!("{}; printf x >> models/config/config.pbtxt", shop.reload());
    fails(&finish(&mut shop.run("ann", &[], &spoils, &check, "exit 0")).expect(12), "rollback_files_differ");
    fails(&finish(&mut shop.run("ann", &[], "true", &check, "exit 0")).expect(12), "config.pbtxt hashes to");
    fails(
        &finish(&mut shop.run("ann", &["--to", REGRESSED], "true", &check, "exit 0")).expect(1),
        "rollback_no_backup",
    );
    finish(&mut shop.rollback("bob", &["abandon", STACK, "--reason", "by hand"])).expect(0);
    assert_eq!((shop.gate(), shop.plan()["run"].is_null()), (503, true));
    assert_eq!(shop.plan()["traffic"]["reason"], "the current engine is not warmed up");
}

#[test]
fn a_rehearsal_moves_nothing_and_puts_the_next_one_off() {
    let shop = Shop::new("rollback-rehearsed", 1_003);
    // The scenario's hour is long ago by the service's clock; the rehearsal itself is a fresh entry.
    let rehearse = |warm_up: &str| {
        let arguments = ["run", STACK, "--rehearsal", "--restore-into", "practice", "--", "sh", "-c", warm_up];
        finish(&mut shop.rollback("ann", &arguments))
    };
    rehearse("exit 4").expect(15);
    assert_eq!((shop.gate(), shop.plan()["rehearsed"].is_null()), (200, true));
    assert_eq!(shop.plan()["rehearsal_overdue"], true);
    rehearse("exit 0").expect(0);
    let plan = shop.plan();
    assert_eq!((shop.gate(), plan["current"]["engine_hash"].as_str()), (200, Some(REGRESSED)));
    assert_eq!((&plan["rehearsal_overdue"], plan["rehearsed"]["position"].is_u64()), (&json!(false), true));
    // A rehearsal that somebody left stopped is in nobody's way.
    rehearse("exit 4").expect(15);
    let (reload, check) = (shop.reload(), shop.check());
    finish(&mut shop.run("bob", &[], &reload, &check, "exit 0")).expect(0);
    assert_eq!(shop.plan()["current"]["engine_hash"], GOOD);
}

#[test]
fn the_proof_by_process_tells_a_file_from_its_successor() {
    let shop = Shop::new("rollback-process", 1_003);
    let run = |reload: &str| {
        let fixed = ["run", STACK, "--restore-into", "models", "--served-within", "1s", "--served-process", "pid"];
        finish(&mut shop.rollback("ann", &[&fixed[..], &["--reload", reload, "--", "true"]].concat()))
    };
    let holds = |what: &str| format!("sh -c 'exec sleep 20 < {what}' > /dev/null 2>&1 & echo $! > pid");
    // A process that has the same bytes open under another name holds another file.
    fails(&run(&holds("made/plan/rank0.engine")).expect(14), "neither mapped nor open");
    run(&holds("models/plan/rank0.engine")).expect(0);
    assert_eq!(shop.plan()["current"]["engine_hash"], GOOD);
}

#[test]
fn the_python_example_goes_the_same_way() {
    let shop = Shop::new("rollback-python", 1_003);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/rollback.py");
    let run = |warm_up: &str| {
        let mut python = Command::new("python3");
        python.arg(&example).args([shop.service.url(), "ann.token", STACK, "models"]);
        python.args(["--reload", &shop.reload(), "--served-check", &shop.check(), "--warm-up", warm_up]);
        finish(python.current_dir(shop.scratch.path()))
    };
    fails(&run("exit 3").expect(1), "stopped at warm_up");
    assert_eq!(shop.gate(), 503);
    run("exit 0").expect(0);
    assert_eq!((shop.gate(), shop.plan()["current"]["engine_hash"].as_str()), (200, Some(GOOD)));
    let refused = govledger(&["--server", shop.service.url(), "rollback", "plan", STACK]);
    assert!(refused.stdout.contains("1.4.0"), "{}", refused.stdout);
}

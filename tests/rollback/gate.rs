//! Each step that can fail, failing: the gate is closed, says by which entry and why, and opens as the documents say.

use std::fs;

use serde_json::{Value, json};

use crate::shop::{Shop, fails};
use crate::support::process::finish;
use crate::support::scenario::{GOOD, REGRESSED, STACK};

impl Shop {
    fn traffic(&self) -> Value {
        self.service.http().get(&format!("/v1/stacks/{STACK}/traffic")).json()
    }

    /// The gate is closed, by a run that stopped at `stage`; the position of the entry that closed it and of the one that
    /// says where it stopped.
    fn stopped(&self, stage: &str, code: &str, reason: &str) -> (u64, u64) {
        let (traffic, plan) = (self.traffic(), self.plan());
        let stopped = &plan["run"]["stopped"];
        assert_eq!((self.gate(), &stopped["stage"], &stopped["code"]), (503, &json!(stage), &json!(code)), "{plan:#}");
        let why = traffic["reason"].as_str().unwrap();
        assert!(why.contains(&format!("stopped at {stage}: ")) && why.contains(reason), "{why}");
        assert_eq!(plan["current"]["engine_hash"], REGRESSED, "nothing else is current before the completion");
        (traffic["position"].as_u64().unwrap(), stopped["position"].as_u64().unwrap())
    }

    /// Given up; whether traffic is open then.
    fn given_up(&self) -> bool {
        finish(&mut self.rollback("bob", &["abandon", STACK, "--reason", "by hand"])).expect(0);
        self.gate() == 200
    }
}

#[test]
fn what_fails_before_the_server_is_touched_closes_the_gate_until_somebody_goes_on_or_gives_up() {
    let shop = Shop::new("rollback-gate-before", 1_003);
    let (reload, check) = (shop.reload(), shop.check());
    let run = |more: &[&str]| finish(&mut shop.run("ann", more, &reload, &check, "exit 0"));
    let at = |name: &str| shop.scratch.join(name);

    // No target gives the files back.
    fs::rename(at("target"), at("gone")).unwrap();
    fails(&run(&[]).expect(11), "traffic stays closed");
    let (closed, stopped) = shop.stopped("restore", "rollback_restore_failed", "could not be restored");
    assert_eq!(closed, stopped, "the failure itself closed it");
    assert!(shop.given_up(), "the engine that served was not touched");
    fs::rename(at("gone"), at("target")).unwrap();

    // The host fails: a report cannot be written down.
    shop.scratch.write("no-directory", "");
    fails(&run(&["--spool", "no-directory/spool"]).expect(2), "rollback_host_failed");
    let (closed, stopped) = shop.stopped("restore", "rollback_host_failed", "no-directory");
    assert_eq!(closed, stopped);
    assert!(shop.given_up());

    // What lies there is not what was backed up.
    shop.scratch.write("models/config/config.pbtxt", "max_batch_size: 1\n");
    fails(&run(&[]).expect(12), "rollback_files_differ");
    let (closed, stopped) = shop.stopped("restore", "rollback_files_differ", "config.pbtxt hashes to");
    assert_eq!(closed, stopped);
    fs::remove_dir_all(at("models")).unwrap();
    run(&[]).expect(0);
    assert_eq!((shop.gate(), shop.plan()["current"]["engine_hash"].as_str()), (200, Some(GOOD)));
}

#[test]
fn what_fails_afterwards_leaves_it_closed_by_the_entry_before_the_reload() {
    let shop = Shop::new("rollback-gate-after", 1_003);
    let (reload, check) = (shop.reload(), shop.check());
    let run = |reload: &str, warm_up: &str| finish(&mut shop.run("ann", &[], reload, &check, warm_up));

    fails(&run("exit 4", "exit 0").expect(13), "traffic stays closed");
    let (first, stopped) = shop.stopped("reload", "rollback_reload_failed", "the reload command: exit code 4");
    assert!(first < stopped, "closed before the server was touched");
    // What the server holds nobody knows, so giving up opens nothing.
    assert!(!shop.given_up());
    assert_eq!(shop.traffic()["reason"], "the current engine is not warmed up");

    // The reload spoils what it deploys.
    let spoils = format!("{reload}; printf x >> models/config/config.pbtxt");
    fails(&run(&spoils, "exit 0").expect(12), "rollback_files_differ");
    let (closed, stopped) = shop.stopped("reload", "rollback_files_differ", "config.pbtxt hashes to");
    assert!(first < closed && closed < stopped);
    fs::remove_dir_all(shop.scratch.join("models")).unwrap();

    // The server keeps another engine. However often it is tried, the gate stays closed by the entry that closed it first.
    let kept = finish(&mut shop.run("ann", &[], &reload, "echo another engine", "exit 0")).expect(14);
    fails(&kept, "rollback_not_served");
    assert_eq!(shop.stopped("reload", "rollback_not_served", "served check").0, closed);

    fails(&run(&reload, "exit 3").expect(15), "rollback_warmup_failed");
    assert_eq!(shop.stopped("warm_up", "rollback_warmup_failed", "exit code 3").0, closed);
    run(&reload, "exit 0").expect(0);
    assert_eq!((shop.gate(), shop.plan()["current"]["engine_hash"].as_str()), (200, Some(GOOD)));
}

//! The process of a rollback, or the service, killed before and after each entry: the next run goes on, what is done is done
//! once, or said to be done again, and one completion is recorded.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::proxy::{Proxy, When};
use crate::shop::{LIMIT, Shop, fails, killed};
use crate::support::process::{Finished, finish};
use crate::support::scenario::{GOOD, REGRESSED, STACK};

/// The entries of a rollback in their order.
const ENTRIES: [&str; 8] = [
    "claimed",
    "backup restored",
    "restore done",
    "reload begun",
    "reload done",
    "warm-up completed",
    "warm-up done",
    "rollback completed",
];

/// A shop with a proxy in front of its service.
struct Site {
    shop: Shop,
    proxy: Proxy,
    /// Rollbacks so far.
    completed: usize,
}

impl Site {
    fn new(name: &str) -> Self {
        let mut shop = Shop::new(name, 1_003);
        let proxy = Proxy::start(shop.service.url());
        proxy.url().clone_into(&mut shop.server);
        Self { shop, proxy, completed: 0 }
    }

    /// The regressed engine serves, and nothing is restored.
    fn regressed(&self, case: &str) {
        let token = fs::read_to_string(self.shop.scratch.join("ann.token")).unwrap();
        let ann = self.shop.service.http().with_token(&token);
        for event_type in ["llm_engine_published", "llm_warmup_completed"] {
            let event = json!({
                "specversion": "1.0", "id": format!("{event_type} {case}"), "source": "urn:test", "type": event_type,
                "subject": STACK, "data": { "engine_hash": REGRESSED },
            });
            let headers = [("content-type", "application/cloudevents+json")];
            ann.post("/v1/events", &headers, event.to_string().as_bytes()).expect(200);
        }
        assert_eq!((self.shop.gate(), self.current()), (200, REGRESSED.to_owned()), "{case}");
        for name in ["models", ".models.partial"] {
            let _ = fs::remove_dir_all(self.shop.scratch.join(name));
        }
        for name in ["reloads", "warm-ups"] {
            let _ = fs::remove_file(self.shop.scratch.join(name));
        }
    }

    fn current(&self) -> String {
        self.shop.plan()["current"]["engine_hash"].as_str().unwrap().to_owned()
    }

    /// `rollback run` through the proxy; the scripts leave a line for each time that they run.
    fn run(&self, retry_for: &str) -> Command {
        let reload = format!("echo >> reloads; {}", self.shop.reload());
        self.shop.run("ann", &["--retry-for", retry_for], &reload, &self.shop.check(), "echo >> warm-ups")
    }

    fn ran(&self, name: &str) -> usize {
        fs::read_to_string(self.shop.scratch.join(name)).map_or(0, |text| text.lines().count())
    }

    /// One rollback more is completed, the gate is open, and no second completion waits to be ingested.
    fn is_completed(&mut self, case: &str) {
        self.completed += 1;
        assert_eq!((self.shop.gate(), self.current()), (200, GOOD.to_owned()), "{case}");
        assert!(self.shop.plan()["run"].is_null(), "{case}");
        assert_eq!(self.shop.count("llm_rollback_completed"), self.completed, "{case}");
        assert_eq!(self.kept("llm_rollback_completed"), 0, "{case}");
    }

    fn kept(&self, prefix: &str) -> usize {
        let Ok(entries) = fs::read_dir(self.shop.scratch.join("govledger-unsent")) else { return 0 };
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)))
            .count()
    }
}

/// The process is killed at the `nth` entry, and the same command is given again.
fn rollback_killed(site: &mut Site, nth: usize, when: When) {
    let case = format!("{when:?} {}", ENTRIES[nth - 1]);
    site.regressed(&case);
    let strike = site.proxy.arm(nth, when);
    let mut child = site.run("30s").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    strike.wait(LIMIT);
    child.kill().unwrap();
    killed(child);
    strike.release();

    // What the ledger has decides where the gate is, and nothing else does.
    let entries = if when == When::Before { nth - 1 } else { nth };
    let closed = (4..8).contains(&entries);
    assert_eq!(site.shop.gate(), if closed { 503 } else { 200 }, "{case}");
    assert_eq!(site.current(), if entries == 8 { GOOD } else { REGRESSED }, "{case}");

    let done = finish(&mut site.run("30s")).expect(0);
    site.is_completed(&case);
    // The reload or the warm-up that no entry tells of is done again; one that an entry tells of is not.
    let reloads = if nth == 5 && entries == 4 { 2 } else { 1 };
    let warm_ups = if (nth == 6) || (nth == 7 && entries == 6) { 2 } else { 1 };
    assert_eq!((site.ran("reloads"), site.ran("warm-ups")), (reloads, warm_ups), "{case}: {}", done.stderr);
    assert_eq!(done.stderr.contains("reload passed over"), (5..8).contains(&entries), "{case}: {}", done.stderr);
    assert_eq!(done.stderr.contains("warm-up passed over"), entries == 7, "{case}: {}", done.stderr);
    assert_eq!(done.stdout.contains("nothing was done"), entries == 8, "{case}: {}", done.stdout);
}

#[test]
fn the_process_killed_before_each_entry() {
    let mut site = Site::new("rollback-before");
    for nth in 1..=ENTRIES.len() {
        rollback_killed(&mut site, nth, When::Before);
    }
}

#[test]
fn the_process_killed_after_each_entry() {
    let mut site = Site::new("rollback-after");
    for nth in 1..=ENTRIES.len() {
        rollback_killed(&mut site, nth, When::After);
    }
}

#[test]
fn the_service_killed_in_the_middle_and_back_in_time() {
    let mut site = Site::new("rollback-service");
    for (nth, when) in
        [(1, When::After), (4, When::Before), (4, When::After), (5, When::After), (6, When::Before), (8, When::After)]
    {
        let case = format!("the service {when:?} {}", ENTRIES[nth - 1]);
        site.regressed(&case);
        let strike = site.proxy.arm(nth, when);
        let child = site.run("60s").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        strike.wait(LIMIT);
        site.shop.service.kill9();
        strike.release();
        site.shop.service.start_again();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("trying again"), "{case}: {said}");
        site.is_completed(&case);
        // It was one run, so nothing is done twice.
        assert_eq!((site.ran("reloads"), site.ran("warm-ups")), (1, 1), "{case}: {said}");
        assert_eq!(site.shop.count("llm_rollback_claimed"), site.completed, "{case}");
    }
}

#[test]
fn the_service_that_stays_away_leaves_the_gate_where_the_last_entry_put_it() {
    let mut site = Site::new("rollback-away");
    for (nth, gate) in [(3, 200), (5, 503), (8, 503)] {
        let case = format!("away since {}", ENTRIES[nth - 1]);
        site.regressed(&case);
        let strike = site.proxy.arm(nth, When::Before);
        let child = site.run("1s").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        strike.wait(LIMIT);
        site.shop.service.kill9();
        strike.release();
        let finished = Finished::from(&child.wait_with_output().unwrap()).expect(6);
        fails(&finished, "does not answer");
        assert_eq!(site.kept("llm_rollback_completed"), usize::from(nth == 8), "{case}: {}", finished.stderr);
        site.shop.service.start_again();
        assert_eq!((site.shop.gate(), site.shop.plan()["run"]["stopped"].is_null()), (gate, true), "{case}");
        finish(&mut site.run("30s")).expect(0);
        site.is_completed(&case);
    }
}

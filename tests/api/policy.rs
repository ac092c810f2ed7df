//! A policy changed by two people over HTTP, with cuts as time passes; the dry run of one; maintenance windows.

use govledger::domain::leaf::Header;
use govledger::domain::metric::TimeFields;
use govledger::domain::time::Time;
use govledger::sequencer::{Core, DataDir, MetricsChunk};
use serde_json::{Value, json};

use crate::app::{App, NOW, published, token};
use crate::support::node::block_on;

/// A service with time that goes on by cuts, and two admins: root and the principal `admin`.
struct Day {
    app: App,
    seconds: i64,
    commands: usize,
}

impl Day {
    fn new() -> Self {
        let app = App::live();
        app.publish(&published("p", "e", "1")).expect(200);
        Self { app, seconds: 0, commands: 0 }
    }

    fn cut(&mut self, prices: &[&str]) {
        for price in prices {
            let body = format!(r#"{{"model":"s","engine_hash":"e","duration_ms":100,"cost_usd":{price}}}"#);
            let mut chunk = MetricsChunk::default();
            let at = Header::at(self.app.clock.now());
            self.app.handle.prepare().push(&mut chunk, at, body.as_bytes()).unwrap().unwrap();
            block_on(self.app.handle.append_metrics(0, chunk)).unwrap();
        }
        self.seconds += 10;
        self.app.clock.set(NOW.parse::<Time>().unwrap().plus_seconds(self.seconds + 1));
        for _ in 0..2 {
            block_on(self.app.handle.file_progress(0)).unwrap();
        }
    }

    fn cuts(&mut self, count: usize) {
        (0..count).for_each(|_| self.cut(&[]));
    }

    fn as_root(&mut self, path: &str, body: &Value) -> crate::support::http::Reply {
        let admin = self.app.admin.clone();
        self.ask(&admin, path, body)
    }

    fn as_admin(&mut self, path: &str, body: &Value) -> crate::support::http::Reply {
        self.ask(&token("admin"), path, body)
    }

    fn ask(&mut self, token: &str, path: &str, body: &Value) -> crate::support::http::Reply {
        self.commands += 1;
        self.app.command(token, path, &format!("key-{}", self.commands), body)
    }

    /// Proposed by root and approved by the other admin; the position of the approval.
    fn change(&mut self, policy: &Value) -> u64 {
        let proposed =
            self.as_root("/v1/policy/proposals", &json!({ "policy": policy, "reason": "r" })).expect(200).json();
        let (path, hashes) = self.seen(proposed["made"].as_str().unwrap());
        self.as_admin(&format!("{path}/approve"), &hashes).expect(200).json()["position"].as_u64().unwrap()
    }

    /// Where a proposal is, and what a decision about it is over.
    fn seen(&self, id: &str) -> (String, Value) {
        let path = format!("/v1/policy/proposals/{id}");
        let row = self.app.read(&path).expect(200).json();
        let hashes = json!({ "policy_sha256": row["policy_sha256"], "replaces_sha256": row["replaces_sha256"] });
        (path, hashes)
    }

    fn alerts(&self, rule: &str) -> Vec<Value> {
        let all = self.app.read("/v1/alerts").expect(200).json()["alerts"].clone();
        all.as_array().unwrap().iter().filter(|alert| alert["rule"] == rule).cloned().collect()
    }
}

#[test]
fn alerts_before_a_threshold_change_keep_the_old_one_in_a_full_rebuild() {
    let mut day = Day::new();
    day.cut(&["0.25"]);
    day.cuts(13);
    assert_eq!(day.alerts("cost_per_request")[0]["state"], "resolved");

    let dear = json!({ "max_cost_usd": "0.30" });
    let proposed = day.as_root("/v1/policy/proposals", &json!({ "policy": dear, "reason": "prices rose" })).expect(200);
    let id = proposed.json()["made"].as_str().unwrap().to_owned();
    let (path, hashes) = day.seen(&id);
    // Nobody approves what they proposed; an approval names both documents; on call is no admin.
    let problem = day.as_root(&format!("{path}/approve"), &hashes).expect(409).json();
    assert_eq!((&problem["code"], &problem["field"]), (&json!("command_refused"), &json!("principal")), "{problem:#}");
    day.as_admin(&format!("{path}/approve"), &json!({})).expect(400);
    let oncall = token("oncall");
    day.ask(&oncall, &format!("{path}/approve"), &hashes).expect(403);
    day.cut(&["0.25"]);
    assert_eq!(day.alerts("cost_per_request")[1]["threshold"], "0.10", "proposed is not in force");
    day.cuts(13);
    let approved = day.as_admin(&format!("{path}/approve"), &hashes).expect(200).json()["position"].as_u64().unwrap();
    let late = day.as_root(&format!("{path}/refuse"), &hashes).expect(409).json();
    assert_eq!(late["by_position"], approved);

    let shown = day.app.read("/v1/policy").expect(200).json();
    assert_eq!((&shown["position"], &shown["policy"]["max_cost_usd"]), (&json!(approved), &json!("0.30")));
    let row = &shown["proposals"][0];
    assert_eq!(row["changes"], json!([{ "field": "max_cost_usd", "from": "0.1", "to": "0.3" }]), "{row:#}");
    assert_eq!((&row["proposed_by"], &row["decided_by"]), (&json!("root"), &json!("admin")));
    let page = day.app.read("/governing").expect(200).text();
    assert!(page.contains(&id) && page.contains("max_cost_usd") && page.contains("0.3"), "{page}");
    let before = day.app.read(&format!("/v1/policy?as_of={}", approved - 1)).expect(200).json();
    assert_eq!((&before["position"], &before["policy"]["max_cost_usd"]), (&Value::Null, &json!("0.10")));

    day.cut(&["0.25"]);
    assert_eq!(day.alerts("cost_per_request").len(), 2, "0.25 is no offence any more");
    day.cut(&["0.35"]);
    let thresholds = |day: &Day| -> Vec<Value> {
        day.alerts("cost_per_request").iter().map(|alert| alert["threshold"].clone()).collect()
    };
    assert_eq!(thresholds(&day), ["0.10", "0.10", "0.30"]);

    // The diff is in the ledger itself.
    let proposal = day.app.read(&format!("/v1/entries/governance/{}", row["position"])).expect(200).json();
    let envelope: Value = serde_json::from_str(proposal["body"].as_str().unwrap()).unwrap();
    let payload = govledger::domain::envelope::open(&envelope.to_string()).unwrap().payload;
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(event["data"]["request"]["changes"][0]["to"], "0.3");

    let shared = day.app.handle.shared();
    let state = |shared: &govledger::sequencer::Shared| {
        (shared.governance().digest(), serde_json::to_string(&*shared.slo()).unwrap())
    };
    let alarms = |shared: &govledger::sequencer::Shared| {
        shared.status.integrity_alarms.load(std::sync::atomic::Ordering::SeqCst)
    };
    let before = state(shared);
    assert_eq!(alarms(shared), 0);
    let data = day.app.stopped();
    std::fs::remove_dir_all(data.path().join("data/cache")).unwrap();
    let core = Core::open(DataDir::open(&data.path().join("data")).unwrap(), TimeFields::default()).unwrap();
    let shared = core.shared();
    assert_eq!(state(&shared), before);
    let rebuilt: Vec<String> =
        shared.governance().alerts.oldest_first().into_iter().map(|known| known.alert.threshold).collect();
    assert_eq!(rebuilt.iter().filter(|threshold| *threshold == "0.10").count(), 2, "{rebuilt:?}");
    // Every alert of the ledger was derived again, each by the policy of its own cut.
    assert_eq!((alarms(&shared), core.unsaid().unwrap().len()), (0, 0));
}

#[test]
fn a_stale_proposal_is_told_what_changed() {
    let mut day = Day::new();
    let propose = |day: &mut Day, cost: &str| {
        let body = json!({ "policy": { "max_cost_usd": cost }, "reason": "r" });
        day.as_root("/v1/policy/proposals", &body).expect(200).json()["made"].as_str().unwrap().to_owned()
    };
    let (first, second) = (propose(&mut day, "0.2"), propose(&mut day, "0.3"));
    let (path, hashes) = day.seen(&first);
    let changed = day.as_admin(&format!("{path}/approve"), &hashes).expect(200).json()["position"].clone();
    let (path, hashes) = day.seen(&second);
    let problem = day.as_admin(&format!("{path}/approve"), &hashes).expect(409).json();
    assert_eq!((&problem["by_position"], &problem["field"]), (&changed, &json!("replaces_sha256")), "{problem:#}");
    assert_eq!(day.app.read("/v1/policy").expect(200).json()["proposals"][1]["is_stale"], true);
    day.as_root(&format!("{path}/refuse"), &hashes).expect(200);
    day.app.read("/v1/policy/proposals/policy-9999").expect(404);
}

#[test]
fn a_dry_run_says_which_alerts_would_have_been_otherwise() {
    let mut day = Day::new();
    day.cut(&["0.25"]);
    day.cuts(13);
    day.cut(&["0.50"]);
    day.cuts(13);
    let size = day.app.size();
    let admin = day.app.as_role("admin");
    let run = |policy: Value| {
        let body = json!({ "policy": policy }).to_string();
        admin.post("/v1/policy/dry-run", &[("content-type", "application/json")], body.as_bytes())
    };
    let counts = |answer: &Value| ["recorded", "proposed", "unchanged"].map(|name| answer[name].as_u64().unwrap());
    let same = run(json!({})).expect(200).json();
    assert_eq!(counts(&same), [2, 2, 2], "{same:#}");
    assert_eq!(
        (&same["alerts"], &same["records_read"], &same["cuts"]),
        (&json!([]), &json!(2), &json!(28)),
        "{same:#}"
    );

    let dear = run(json!({ "max_cost_usd": "0.30" })).expect(200).json();
    assert_eq!(counts(&dear), [2, 1, 1], "{dear:#}");
    let only = &dear["alerts"][0];
    assert_eq!((&only["difference"], &only["proposed"]), (&json!("would_not_fire"), &Value::Null), "{only:#}");
    assert_eq!(only["recorded"]["id"], day.alerts("cost_per_request")[0]["id"]);
    assert_eq!(dear["changes"][0]["field"], "max_cost_usd");

    let strict = json!({ "min_samples": 1, "rules": { "latency_p95": { "threshold": 50, "for_s": 10 }, "cost_per_request": { "keep_firing_for_s": 120 } } });
    let strict = run(strict).expect(200).json();
    let named = |difference: &str| {
        let all = strict["alerts"].as_array().unwrap().iter();
        all.filter(|alert| alert["difference"] == difference)
            .map(|alert| alert["rule"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(named("would_differ"), ["cost_per_request"], "the first is not over when the second fires: {strict:#}");
    assert_eq!(named("would_not_fire"), ["cost_per_request"]);
    let would =
        strict["alerts"].as_array().unwrap().iter().find(|alert| alert["difference"] == "would_differ").unwrap();
    let ends = |episode: &str| would[episode]["resolved_at"].is_string();
    assert!(ends("recorded") && !ends("proposed"), "{would:#}");
    assert_eq!(would["recorded"]["firing_since"], would["proposed"]["firing_since"], "{would:#}");

    assert_eq!(day.app.size(), size, "nothing was recorded");
    assert_eq!(run(json!({ "min_samples": 0 })).status, 400);
    day.app.as_role("oncall").post("/v1/policy/dry-run", &[], b"{\"policy\":{}}").expect(403);
    // Put in force for good, it is what the dry run said from there on: it was folded by the same rules.
    day.change(&json!({ "max_cost_usd": "0.30" }));
    day.cut(&["0.25"]);
    assert_eq!(day.alerts("cost_per_request").len(), 2);
}

#[test]
fn an_alert_in_a_maintenance_window_is_recorded_and_marked() {
    let mut day = Day::new();
    let oncall = token("oncall");
    let window = json!({ "stack": "s", "rules": ["cost_per_request"], "from": "2026-11-01T00:00:00Z", "to": "2026-11-01T01:00:00Z", "reason": "load test" });
    let set = day.ask(&oncall, "/v1/maintenance", &window).expect(200).json();
    let id = set["made"].as_str().unwrap().to_owned();
    let publisher = token("publisher");
    day.ask(&publisher, "/v1/maintenance", &window).expect(403);
    day.cut(&["0.25"]);
    let alert = &day.alerts("cost_per_request")[0];
    assert_eq!((&alert["state"], &alert["maintenance"]), (&json!("firing"), &json!(id)), "{alert:#}");
    let listed = day.app.read("/v1/maintenance").expect(200).json();
    assert_eq!((&listed["windows"][0]["id"], &listed["windows"][0]["holds_now"]), (&json!(id), &json!(true)));
    day.ask(&oncall, &format!("/v1/maintenance/{id}/end"), &json!({ "reason": "done" })).expect(200);
    let listed = day.app.read("/v1/maintenance?stack=s").expect(200).json();
    assert_eq!(
        (&listed["windows"][0]["ended_by"], &listed["windows"][0]["holds_now"]),
        (&json!("oncall"), &json!(false))
    );
    day.ask(&oncall, &format!("/v1/maintenance/{id}/end"), &json!({ "reason": "again" })).expect(409);
    let timeline = day.app.read("/v1/stacks/s/timeline").expect(200).text();
    assert!(timeline.contains("load test") && timeline.contains("ended early"), "{timeline}");
}

#[test]
fn a_proposal_repeated_under_its_key_is_the_first_one_whatever_is_in_force_since() {
    let mut day = Day::new();
    let admin = day.app.admin.clone();
    let propose = |day: &Day, key: &str, cost: &str, reason: &str| {
        let body = json!({ "policy": { "max_cost_usd": cost }, "reason": reason });
        day.app.command(&admin, "/v1/policy/proposals", key, &body)
    };
    let first = propose(&day, "mine", "0.30", "r").expect(200).json();
    let refused = propose(&day, "vain", "0.10", "r").expect(409).json();
    day.change(&json!({ "max_cost_usd": "0.20" }));
    assert_eq!(propose(&day, "mine", "0.30", "r").expect(200).json(), first);
    let again = propose(&day, "vain", "0.10", "r").expect(409).json();
    assert_eq!((&again["code"], &again["detail"]), (&refused["code"], &refused["detail"]), "{again:#}");
    // Another document or reason under the key is another command.
    for (cost, reason) in [("0.31", "r"), ("0.30", "other")] {
        let problem = propose(&day, "mine", cost, reason).expect(409).json();
        assert_eq!(
            (&problem["refusal"]["code"], &problem["by_position"]),
            (&Value::Null, &first["position"]),
            "{problem:#}"
        );
    }
}

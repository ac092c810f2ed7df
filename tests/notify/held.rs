//! A maintenance window holds telling: a real Alertmanager and a webhook hear of an alert after it, or never.

use govledger::clock::Clock;
use govledger::domain::command::{MaintenanceEnd, MaintenanceWindow, Request};
use govledger::domain::principal::Role;
use govledger::domain::time::Time;
use govledger::notify::{AlertmanagerConfig, Notifier, NotifyConfig};
use govledger::projection::governance::Verdict;
use govledger::sequencer::CommandOutcome;
use serde_json::Value;

use crate::receiver::Receiver;
use crate::support::alertmanager::Alertmanager;
use crate::support::node::{Node, block_on};
use crate::support::parts;
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;
use crate::{LIMIT, QUIET};

#[derive(serde::Deserialize)]
struct Table {
    notify: NotifyConfig,
}

struct Stage {
    node: Node,
    start: Time,
}

impl Stage {
    fn request(&self, model: &str) {
        let body = format!(r#"{{"model":"{model}","engine_hash":"{model}","duration_ms":100,"cost_usd":0.5}}"#);
        self.node.request(&body);
    }

    /// Cuts up to `to`; each brings a request of `stays`.
    fn pass(&self, from: i64, to: i64) {
        for seconds in (from..=to).step_by(10) {
            self.request("stays");
            self.node.clock.set(self.start.plus_seconds(seconds + 1));
            block_on(self.node.handle.file_progress(0)).unwrap();
            block_on(self.node.handle.file_progress(0)).unwrap();
        }
    }

    fn ask(&self, key: &str, request: Request) -> u64 {
        match block_on(self.node.handle.command("root", Role::Admin, key, request)).unwrap().1 {
            CommandOutcome::Decided(outcome) if outcome.verdict == Verdict::Admitted => outcome.position,
            other @ (CommandOutcome::Decided(_) | CommandOutcome::Pending) => panic!("{other:?}"),
        }
    }

    fn hold(&self, stack: &str, to: i64) -> u64 {
        let window = MaintenanceWindow {
            stack: stack.into(),
            rules: [govledger::domain::policy::Rule::CostPerRequest].into(),
            from: self.start,
            to: self.start.plus_seconds(to),
            reason: "load test".into(),
        };
        self.ask(&format!("{stack}-{to}"), Request::MaintenanceSet(window))
    }

    fn is_firing(&self, stack: &str) -> bool {
        let firing = self.node.ask(&format!("/v1/alerts?state=firing&stack={stack}")).0;
        firing["alerts"].as_array().unwrap().iter().any(|alert| alert["rule"] == "cost_per_request")
    }
}

#[test]
fn an_alert_in_a_maintenance_window_is_told_after_it_or_never() {
    let (Some(prometheus), Some(webhooks)) = (parts::prometheus(), parts::webhooks()) else { return };
    let scratch = Scratch::new("notify-held");
    let alertmanager = Alertmanager::start(&prometheus, QUIET);
    let receiver = Receiver::start(&webhooks, &scratch);
    let node = Node::init_live(&scratch.join("data"));
    // Behind the machine's clock, so that what ends has ended for Alertmanager too.
    let start = Clock::System.now().floor_to_seconds(10).plus_seconds(-280);
    node.clock.set(start);
    let stage = Stage { node, start };
    let table = receiver.table("ok", "kind = \"events\"\nevents = [\"llm_observability_alert\"]\nallow_private = true");
    let mut config = toml::from_str::<Table>(&table).unwrap().notify;
    config.alertmanager.push(AlertmanagerConfig {
        name: "am".to_owned(),
        url: alertmanager.url().to_owned(),
        bearer_token_file: None,
        resend_seconds: 1,
    });
    let notifier = Notifier::start(&config, &stage.node.handle, "http://ledger.example").unwrap();
    let in_alertmanager = |stack: &str| {
        let all = alertmanager.alerts();
        all.iter().any(|alert| alert["labels"]["stack"] == stack && alert["labels"]["rule"] == "cost_per_request")
    };
    let told = |stack: &str| -> Vec<Value> {
        let all = receiver.received("/ok").into_iter().map(|line| line["message"]["data"]["body"].clone());
        let events = all.map(|body| {
            let payload = govledger::domain::envelope::open(body.as_str().unwrap()).unwrap().payload;
            serde_json::from_slice::<Value>(&payload).unwrap()["data"].clone()
        });
        events
            .filter(|alert| alert["stack"] == stack && alert["rule"] == "cost_per_request")
            .map(|alert| alert["state"].clone())
            .collect()
    };

    stage.hold("stays", 60);
    stage.hold("passes", 190);
    stage.request("passes");
    stage.request("free");
    stage.pass(10, 50);
    assert!(stage.is_firing("stays") && stage.is_firing("passes"), "recorded all the same");
    // What is told of the stack without a window shows that both endpoints have come this far.
    wait_for("the free one", LIMIT, || (in_alertmanager("free") && told("free") == ["firing"]).then_some(()));
    assert!(!in_alertmanager("stays") && !in_alertmanager("passes"));
    assert!(told("stays").is_empty() && told("passes").is_empty());

    stage.pass(60, 90);
    wait_for("the one that still fires", LIMIT, || {
        (in_alertmanager("stays") && told("stays") == ["firing"]).then_some(())
    });
    // Told once, it is told as ended while another window holds it, and again when that is ended early.
    let again = stage.hold("stays", 1_000);
    stage.pass(100, 110);
    wait_for("the held one to end", LIMIT, || (!in_alertmanager("stays")).then_some(()));
    stage.ask(
        "end",
        Request::MaintenanceEnd(MaintenanceEnd { window: format!("maintenance-{again}"), reason: "over".into() }),
    );
    stage.pass(120, 130);
    wait_for("it to fire again", LIMIT, || in_alertmanager("stays").then_some(()));

    stage.pass(140, 230);
    assert!(!stage.is_firing("passes") && stage.is_firing("stays"));
    wait_for("the end of the free one", LIMIT, || (told("free") == ["firing", "resolved"]).then_some(()));
    assert!(told("passes").is_empty() && !in_alertmanager("passes"), "{:?}", told("passes"));
    assert_eq!(told("stays"), ["firing"]);
    notifier.stop();
    stage.node.stop();
}

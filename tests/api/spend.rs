//! The cost story over HTTP with cuts as time passes: an alert, a waiver of it, spend against its cap, and its end.

use govledger::domain::leaf::Header;
use govledger::domain::time::Time;
use govledger::sequencer::{Core, DataDir, MetricsChunk};
use serde_json::{Value, json};

use crate::app::{App, NOW, published, token};
use crate::support::node::block_on;

/// Requests of these prices (none: without one), and the cut after them.
pub(crate) fn cut(app: &App, seconds: &mut i64, prices: &[Option<&str>]) {
    for price in prices {
        let price = price.map(|price| format!(r#","cost_usd":{price}"#)).unwrap_or_default();
        let body = format!(r#"{{"model":"s","engine_hash":"e","duration_ms":100{price}}}"#);
        let mut chunk = MetricsChunk::default();
        app.handle.prepare().push(&mut chunk, Header::at(app.clock.now()), body.as_bytes()).unwrap().unwrap();
        block_on(app.handle.append_metrics(0, chunk)).unwrap();
    }
    *seconds += 10;
    app.clock.set(NOW.parse::<Time>().unwrap().plus_seconds(*seconds + 1));
    for _ in 0..2 {
        block_on(app.handle.file_progress(0)).unwrap();
    }
}

pub(crate) fn said(app: &App, event_type: &str) -> usize {
    let reader = app.handle.shared().reader("governance").unwrap();
    let about = |entry: &[u8]| {
        let leaf = govledger::domain::leaf::split(entry).ok()?;
        Some(govledger::domain::report::read(&leaf).ok()?.about.event_type)
    };
    reader
        .entries(1..reader.size())
        .filter(|entry| about(&entry.as_ref().unwrap().1).as_deref() == Some(event_type))
        .count()
}

#[test]
fn spend_is_metered_against_the_cap_and_cover_ends_with_it() {
    let app = App::live();
    let mut seconds = 0;
    app.publish(&published("p", "e", "1")).expect(200);
    cut(&app, &mut seconds, &[Some("0.60")]);
    let alert = app.read("/v1/alerts?state=firing").expect(200).json()["alerts"][0].clone();
    assert_eq!((alert["rule"].as_str(), &alert["covered_by"]), (Some("cost_per_request"), &Value::Null), "{alert:#}");
    // 0.50 USD of excess in the quarter of an hour that is kept, for a week.
    assert_eq!(alert["proposal"]["cap_usd"], "336", "{alert:#}");

    let scope = json!({ "rule": "cost_per_request", "stack": "s", "justification": "j", "mitigation_plan": "m", "cap_usd": "1.00", "expires": "2026-11-20T00:00:00Z" });
    let asked = app.command(&token("oncall"), "/v1/waivers", "ask", &scope).expect(200).json();
    let path = format!("/v1/waivers/{}", asked["waiver"].as_str().unwrap());
    let seen = app.seen(asked["waiver"].as_str().unwrap());
    app.command(&token("finance"), &format!("{path}/approve"), "approve", &seen).expect(200);
    let waiver = || app.read(&path).expect(200).json();
    let covered = || app.read("/v1/alerts?state=firing").expect(200).json()["alerts"][0]["covered_by"].clone();
    assert_eq!(covered(), asked["waiver"], "{:#}", waiver());

    cut(&app, &mut seconds, &[Some("0.10"), Some("0.35"), None]);
    cut(&app, &mut seconds, &[Some("0.65")]);
    let shown = waiver();
    let figures = ["requests_over", "unpriced", "excess_usd", "gross_usd", "status", "covers_now"]
        .map(|field| shown[field].clone());
    assert_eq!(figures, [json!(2), json!(1), json!("0.8"), json!("1"), json!("approved"), json!(true)], "{shown:#}");
    assert!(shown["cap_forecast"].is_string(), "{shown:#}");
    assert_eq!((said(&app, "llm_waiver_spend"), said(&app, "llm_waiver_expiring")), (2, 1));

    cut(&app, &mut seconds, &[Some("0.45")]);
    cut(&app, &mut seconds, &[Some("5.00")]);
    let shown = waiver();
    assert_eq!(
        (&shown["excess_usd"], &shown["status"], &shown["covers_now"]),
        (&json!("1.15"), &json!("exhausted"), &json!(false))
    );
    assert_eq!(covered(), Value::Null, "the alert fires without cover again");
    let history = shown["history"].as_array().unwrap();
    assert!(history.iter().any(|item| item["summary"].as_str().unwrap().contains("exhausted")), "{history:#?}");
    assert_eq!((said(&app, "llm_waiver_spend"), said(&app, "llm_waiver_exhausted")), (3, 1));
    let table = app.read("/waivers").expect(200).text();
    assert!(table.contains("1.15") && table.contains("exhausted"), "{table}");

    rebuilt_alike(app);
}

/// After a stop the ledger alone, with the snapshots and without, tells the same, and has nothing left to say.
pub(crate) fn rebuilt_alike(app: App) {
    let view =
        |governance: String, slo: &govledger::projection::slo::Slo| (governance, serde_json::to_string(slo).unwrap());
    let shared = app.handle.shared();
    let before = view(shared.governance().digest(), &shared.slo());
    assert_eq!(shared.status.integrity_alarms.load(std::sync::atomic::Ordering::SeqCst), 0);
    let data = app.stopped();
    for dropped in [false, true] {
        if dropped {
            std::fs::remove_dir_all(data.path().join("data/cache")).unwrap();
        }
        let core = Core::open(
            DataDir::open(&data.path().join("data")).unwrap(),
            govledger::domain::metric::TimeFields::default(),
        )
        .unwrap();
        assert_eq!(core.unsaid().unwrap(), Vec::<String>::new(), "everything was said, and is known to have been");
        let shared = core.shared();
        assert_eq!(view(shared.governance().digest(), &shared.slo()), before);
        assert_eq!(shared.status.integrity_alarms.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}

//! An engine that speculates stays closed, and alerted of, until a calibration shows that it pays.

use super::*;

const SPECULATES: &str =
    r#"{"build_flags":["--speculative_decoding_mode","draft_tokens_external","--max_draft_len","5"]}"#;

fn calibrated(stage: &Stage, workload: &str, attempts: u64, accepts: u64) {
    stage.report(&format!(
        r#"{{"event_type":"llm_speculation_calibrated","artifact":{{"artifact_id":"{STACK}","hash":"{ENGINE}"}},"payload":{{"workload":"{workload}","attempts":{attempts},"accepts":{accepts}}}}}"#
    ));
}

fn gate(stage: &Stage) -> (bool, String) {
    let answer = stage.node.ask(&format!("/v1/stacks/{STACK}/traffic")).0;
    (answer["open"] == true, answer["reason"].as_str().unwrap().to_owned())
}

#[test]
fn a_publish_that_speculates_waits_for_its_calibration() {
    let scratch = Scratch::new("speculation");
    let mut stage = Stage::new(&scratch.join("data"), SPECULATES);
    let (open, reason) = gate(&stage);
    assert!(!open && reason.contains("no calibration is known for long-form"), "{reason}");
    stage.pass();
    let alerts = stage.alerts("uncalibrated_speculation");
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert_eq!(
        (&alerts[0]["severity"], &alerts[0]["value"], &alerts[0]["state"]),
        (&"page".into(), &"1".into(), &"firing".into())
    );
    assert!(!stage.node.ask(&format!("/v1/incidents?stack={STACK}")).0["incidents"].as_array().unwrap().is_empty());

    // Another workload, too few drafts, and too few accepted: each leaves it closed, and says why.
    calibrated(&stage, "chat", 100_000, 90_000);
    assert!(!gate(&stage).0);
    calibrated(&stage, "long-form", 9_999, 9_999);
    assert!(gate(&stage).1.contains("9999 of 9999 draft tokens"), "{}", gate(&stage).1);
    calibrated(&stage, "long-form", 10_000, 5_999);
    assert!(gate(&stage).1.contains("5999 of 10000 draft tokens"), "{}", gate(&stage).1);
    stage.pass();
    assert_eq!(stage.alerts("uncalibrated_speculation")[0]["state"], "firing");
    calibrated(&stage, "long-form", 10_000, 6_000);
    assert!(gate(&stage).0, "{}", gate(&stage).1);
    (0..7).for_each(|_| stage.pass());
    let alerts = stage.alerts("uncalibrated_speculation");
    assert_eq!((alerts.len(), &alerts[0]["state"]), (1, &"resolved".into()), "{alerts:#?}");
    let report = stage.node.ask(&format!("/v1/stacks/{STACK}/capacity")).0;
    assert_eq!(report["speculation"][0]["calibrated"], true);

    // One that turns out worse closes it again.
    calibrated(&stage, "long-form", 50_000, 29_999);
    assert!(!gate(&stage).0);
    stage.pass();
    assert_eq!(stage.alerts("uncalibrated_speculation").len(), 2);
    assert_eq!(stage.node.handle.shared().governance().rejected.len(), 0);

    // What no calibration can say is refused with its field.
    calibrated(&stage, "long-form", 1, 2);
    let rejected = stage.node.ask("/v1/rejected").0;
    assert_eq!(
        (&rejected["rejected"][0]["refusal"]["code"], &rejected["rejected"][0]["refusal"]["field"]),
        (&"out_of_range".into(), &"accepts".into())
    );
}

#[test]
fn a_publish_that_does_not_speculate_needs_none() {
    let scratch = Scratch::new("no-speculation");
    let mut stage = Stage::new(&scratch.join("data"), r#"{"build_flags":["--speculative_decoding_mode","none"]}"#);
    assert!(gate(&stage).0);
    stage.pass();
    assert_eq!(stage.alerts("uncalibrated_speculation"), Vec::<Value>::new());
}

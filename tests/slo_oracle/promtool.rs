//! The same measures under Prometheus' own `for` and `keep_firing_for`.
//!
//! promtool is given the value of every measure at every cut, and is asked at every cut whether the alert fires; it has to
//! say what the engine said. Cuts without a verdict have no counterpart in Prometheus, so a series begins at its first
//! verdict and has one at every cut from there.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::drive::Episode;

/// Rule, comparison, `for` and the seconds it stands for.
const RULES: [(&str, &str, &str); 8] = [
    ("latency_p95", ">= 800", "5m"),
    ("queue_delay", ">= 1500", "5m"),
    ("kv_reuse", "< 0.4", "10m"),
    ("speculative_accept", "< 0.6", "15m"),
    ("token_budget", "> 0", "5m"),
    ("cost_per_request", "> 0", "0s"),
    ("readiness_queue_delay", "> 0", "0s"),
    ("unapproved_engine", "> 0", "2m"),
];

pub(crate) fn check(folder: &Path, measures: &serde_json::Value, alerts: &[Episode]) {
    let mut rules = String::from("groups:\n- name: slo\n  interval: 10s\n  rules:\n");
    for (rule, comparison, hold) in RULES {
        writeln!(rules, "  - {{alert: {rule}, expr: '{rule} {comparison}', for: {hold}, keep_firing_for: 1m}}")
            .unwrap();
    }
    fs::write(folder.join("rules.yml"), rules).unwrap();
    let cuts: Vec<i64> = measures["cuts"].as_array().unwrap().iter().map(|cut| cut.as_i64().unwrap()).collect();
    assert!(cuts.windows(2).all(|pair| pair[1] - pair[0] == 10_000_000), "one cut every ten seconds");
    let mut tests = String::from("rule_files: [rules.yml]\nevaluation_interval: 10s\ntests:\n");
    let mut asked = 0;
    for series in measures["series"].as_array().unwrap() {
        let Some((rule, ..)) = RULES.iter().find(|(rule, ..)| series["rule"] == **rule) else { continue };
        let values = series["values"].as_array().unwrap();
        let first = values.iter().position(|value| !value.is_null()).expect("a series has a verdict");
        let values: Vec<&str> =
            values[first..].iter().map(|value| value.as_str().expect("a verdict at every cut")).collect();
        let engine = series["engine_hash"].as_str().unwrap();
        writeln!(tests, "- interval: 10s\n  input_series:\n  - series: '{rule}{{engine=\"{engine}\"}}'\n    values: '{}'\n  alert_rule_test:", values.join(" ")).unwrap();
        for (step, cut) in cuts[first..].iter().enumerate() {
            let fires = alerts.iter().any(|alert| {
                let ended = alert.resolved_at.is_some_and(|resolved| resolved.micros() <= *cut);
                alert.rule == *rule && alert.engine_hash == engine && alert.firing_since.micros() <= *cut && !ended
            });
            let expected = if fires { format!("[{{exp_labels: {{engine: '{engine}'}}}}]") } else { "[]".to_owned() };
            writeln!(tests, "  - {{eval_time: {}s, alertname: {rule}, exp_alerts: {expected}}}", step * 10).unwrap();
            asked += 1;
        }
    }
    fs::write(folder.join("tests.yml"), tests).unwrap();
    let output =
        Command::new(crate::promtool()).args(["test", "rules", "tests.yml"]).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool disagrees: {}", said.chars().take(4000).collect::<String>());
    println!("promtool agrees at {asked} evaluations");
}

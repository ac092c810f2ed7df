use super::*;
use rust_decimal::Decimal;

#[test]
fn an_empty_document_is_the_runbook() {
    let policy = Policy::from_toml("").unwrap();
    assert_eq!(policy, Policy::default());
    let stack = policy.for_stack("engine-qwen3");
    assert_eq!(stack.rule(Rule::LatencyP95).threshold, Some(Amount(Decimal::from(800))));
    assert_eq!(stack.rule(Rule::SpeculativeAccept).for_s, 900);
    assert_eq!(stack.rule(Rule::Silent).window_s, 600);
    assert_eq!(policy, Policy::from_json(&serde_json::to_string(&policy).unwrap()).unwrap());
}

#[test]
fn overrides_stack_up() {
    let policy = Policy::from_toml(
        "revision = 3\n[rules.latency_p95]\nthreshold = 0.3\nfor_s = 60\n[stacks.a]\nmax_cost_usd = \"0.25\"\n[stacks.a.rules.latency_p95]\nthreshold = \"900.5\"\n",
    )
    .unwrap();
    let (a, b) = (policy.for_stack("a"), policy.for_stack("b"));
    assert_eq!(a.rule(Rule::LatencyP95).threshold.unwrap().to_string(), "900.5");
    assert_eq!(b.rule(Rule::LatencyP95).threshold.unwrap().to_string(), "0.3");
    assert_eq!((a.rule(Rule::LatencyP95).for_s, a.max_cost_usd.to_string()), (60, "0.25".to_owned()));
    assert_eq!(policy, Policy::from_toml(&toml::to_string(&policy).unwrap()).unwrap());
}

#[test]
fn faults_name_the_field() {
    let check = |text: &str, expected: &str| {
        let said = Policy::from_toml(text).unwrap_err().to_string();
        assert!(said.contains(expected), "{said:?} lacks {expected:?}");
    };
    check("[rules.latency_p95]\nwindow_s = 65\n", "`rules.latency_p95.window_s` is 65");
    check("[rules.kv_reuse]\nthreshold = 1.5\n", "`rules.kv_reuse.threshold` is 1.5");
    check("[rules.token_budget]\nthreshold = 1\n", "`rules.token_budget.threshold` is 1");
    check("[stacks.a]\nwiden_s = 930\n", "`stacks.a.widen_s` is 930");
    check("[rules.latency_p95]\nthresold = 1\n", "thresold");
    check("min_samples = 0\n", "`min_samples` is 0");
    check("max_cost_usd = \"cheap\"\n", "no exact decimal");
}

#[test]
fn names_are_the_serialized_ones() {
    for rule in Rule::ALL {
        assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{rule}\""));
        assert_eq!(rule.as_str().parse::<Rule>().unwrap(), rule);
    }
}

#[test]
fn no_signature_is_demanded_of_what_the_service_says_itself() {
    let demanding = |name: &str| Policy { required_signatures: [name.to_owned()].into(), ..Policy::default() };
    for said in ["llm_observability_alert", "llm_engine_proven", "llm_waiver_spend", "llm_incident_impact"] {
        let fault = demanding(said).validate().unwrap_err().to_string();
        assert!(fault.contains("required_signatures") && fault.contains(said), "{fault}");
        // A policy that an older ledger admitted stays admitted.
        demanding(said).validate_by(4).unwrap();
    }
    for own in ["ledger_cut", "llm_waiver_approved"] {
        demanding(own).validate_by(4).unwrap_err();
    }
    for reported in ["llm_engine_published", "llm_backup_recorded", "waiver_granted", "house_event"] {
        demanding(reported).validate().unwrap();
    }
}

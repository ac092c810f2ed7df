//! Pages that others published: what their servers printed is taken as it stands, with what they leave out and what does not add
//! up in them.

use super::*;

/// Scrapes `before`, then `after`, each at a cut of its own; what they come to, neither refused.
fn servers(name: &str, before: String, after: String) -> Value {
    let scratch = Scratch::new(&format!("published-{name}"));
    let mut stage = Stage::new(&scratch.join("data"), "{}");
    let triton = Triton::start();
    for page in [before, after] {
        triton.serve(Page::Text(page));
        stage.scrape(&triton.url());
        stage.pass();
    }
    let answer = stage.node.ask(&format!("/v1/stacks/{STACK}/capacity")).0;
    stage.node.stop();
    assert_eq!(answer["servers"]["scrapes"], 2, "a scrape that was refused counts for nothing: {answer:#}");
    answer
}

fn published(name: &str) -> String {
    page(&format!("published/{name}"))
}

/// The page with one line's value replaced.
fn with(page: &str, series: &str, value: &str) -> String {
    let line = page.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series} in {page}"));
    page.replace(line, &format!("{} {value}", line.rsplit_once(' ').unwrap().0))
}

#[test]
fn the_inflight_batchers_blocks_do_not_add_up_and_are_taken_at_their_word() {
    let page = published("trtllm-inflight");
    let answer = servers("inflight", page.clone(), page);
    let last = &answer["servers"]["last"][0];
    // One used, 6,239 free, and 6,239 in all: what is used is what it says is used.
    assert_eq!((&last["kv_blocks_used"], &last["kv_blocks_max"]), (&1.into(), &6_239.into()));
    let kv = &answer["engines"][0]["kv"];
    assert_eq!(kv["tokens_per_block"], serde_json::json!({ "value": 64, "by": "triton" }));
    assert_eq!(kv["max_batch_size"], serde_json::json!({ "value": 512, "by": "triton" }));
    // Before Triton 23.12 this backend's base counters stay at 0, and such a page has no GPU: neither is a figure.
    assert_eq!((&last["gpu_total_bytes"], &answer["servers"]["vram"]["now"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&answer["servers"]["queue_us_mean"], &answer["servers"]["batch_size_mean"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_model_on_several_gpus_has_a_line_for_each() {
    let page = published("four-gpus");
    // One of its lines grows: the model's counter is the sum over all of them.
    let requests =
        r#"nv_inference_request_success{gpu_uuid="GPU-4bb61721-0ae2-9004-636f-e73bab9ef8e0",model="distilgpt2_cola""#;
    let queue = requests.replace("nv_inference_request_success", "nv_inference_queue_duration_us");
    let after = with(&with(&page, requests, "161.000000"), &queue, "60356.000000");
    let answer = servers("gpus", page, after);
    let last = &answer["servers"]["last"][0];
    assert_eq!(
        (&last["gpu_free_bytes"], &last["gpu_total_bytes"]),
        (&9_493_807_104_u64.into(), &16_944_988_160_u64.into())
    );
    // 2,000 µs over ten requests.
    assert_eq!((&answer["servers"]["queue_us_mean"], &answer["servers"]["counter_resets"]), (&"200".into(), &0.into()));
    assert_eq!(last["kv_blocks_max"], Value::Null);
}

#[test]
fn an_ensemble_that_lacks_a_line_is_taken_without_it() {
    let page = published("trtllm-ensemble");
    let answer = servers("ensemble", page.clone(), with(&page, r#"nv_inference_exec_count{model="ensemble""#, "240"));
    assert_eq!(answer["servers"]["counter_resets"], 0);
    // Nobody said how many requests there were.
    assert_eq!(answer["servers"]["queue_us_mean"], Value::Null);
}

#[test]
fn vllms_own_metrics_are_passed_over_and_its_base_counters_are_read() {
    let page = published("vllm");
    let after = with(&page, "nv_inference_count", "2659");
    let after = with(&after, "nv_inference_exec_count", "2649");
    let answer = servers("vllm", page, after);
    // Twenty inferences in ten executions.
    assert_eq!(answer["servers"]["batch_size_mean"], "2", "{answer:#}");
    assert_eq!(answer["servers"]["last"][0]["kv_blocks_max"], Value::Null);
}

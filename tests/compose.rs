//! The deployment of `docker-compose.yml` without containers: its files are what they claim to be, and its commands,
//! environment and configuration start as plain processes beside a real Kafka, Prometheus and Alertmanager.
#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::alertmanager::Alertmanager;
use support::http::Http;
use support::kafka::{Kafka, Options, Record};
use support::parts::{self, KafkaParts};
use support::process::{Service, ServiceOptions, finish, free_port, govledger};
use support::prometheus::{Prometheus, amtool, promtool};
use support::scratch::Scratch;
use support::wait::wait_for;

const GOVERNANCE_TOPIC: &str = "llm-governance";
const METRICS_TOPIC: &str = "llm-requests";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A list of strings at this place of the compose file.
fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().expect("a string").to_owned()).collect()
}

/// The environment of a service of the compose file.
fn environment(service: &Value) -> Vec<(String, String)> {
    let items = service["environment"].as_object().into_iter().flatten();
    items.map(|(name, value)| (name.clone(), value.as_str().expect("a quoted value").to_owned())).collect()
}

/// The names of all metrics that `docs/METRICS.md` lists.
fn documented_metrics() -> BTreeSet<String> {
    let page = read("docs/METRICS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `govledger_"));
    let names: BTreeSet<String> = rows.map(|row| format!("govledger_{}", row.split('`').next().unwrap())).collect();
    assert!(names.len() > 15, "{names:?}");
    names
}

/// The metric names of ours in a text, without the suffixes that a histogram's series have.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("govledger_"));
    let suffixes = ["_bucket", "_sum", "_count"];
    ours.map(|word| suffixes.iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word).to_owned()).collect()
}

fn assert_documented(used: &BTreeSet<String>, by: &str) {
    assert!(!used.is_empty(), "{by} uses no metric");
    let documented = documented_metrics();
    let unknown: Vec<&String> = used.difference(&documented).collect();
    assert!(unknown.is_empty(), "{by} uses metrics that docs/METRICS.md does not list: {unknown:?}");
}

/// The queries of the dashboard.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("docs/compose/grafana/dashboards/slo.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_the_compose_file_mounts_is_there_and_its_images_are_pinned() {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    for wanted in ["kafka", "topics", "init", "govledger", "prometheus", "alertmanager", "grafana"] {
        assert!(names.contains(&wanted), "no service {wanted} among {names:?}");
    }
    for (name, service) in services {
        for mount in strings(&service["volumes"]) {
            let source = mount.split(':').next().unwrap();
            let known = if source.starts_with('.') {
                root().join(source).exists()
            } else {
                compose["volumes"].get(source).is_some()
            };
            assert!(known, "service {name} mounts {source}, which is not there");
        }
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(needed.0), "service {name} waits for {}, which is not there", needed.0);
        }
        let image = service["image"].as_str().unwrap();
        assert!(
            service.get("build").is_some() || image.contains(':') && !image.ends_with(":latest"),
            "{image} of {name} is not pinned"
        );
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "service {name} publishes {port} beyond this machine");
        }
    }
}

#[test]
fn rules_and_dashboard_use_documented_metrics_alone() {
    assert_documented(&metrics_in(&read("docs/compose/prometheus/govledger.rules.yml")), "govledger.rules.yml");
    assert_documented(&metrics_in(&dashboard_queries().join("\n")), "the dashboard");
}

#[test]
fn promtool_accepts_rules_their_unit_tests_scrape_config_and_dashboard_queries() {
    let Some(parts) = parts::prometheus() else {
        return;
    };
    let directory = root().join("docs/compose/prometheus");
    promtool(&parts, &["check", "rules", "govledger.rules.yml"], &directory).expect(0);
    promtool(&parts, &["test", "rules", "govledger.rules.test.yml"], &directory).expect(0);

    let scratch = Scratch::new("promtool");
    scratch.write("prometheus.yml", prometheus_config("govledger:8080", "alertmanager:9093"));
    promtool(&parts, &["check", "config", "prometheus.yml"], scratch.path()).expect(0);

    // Each query of the dashboard as a recording rule, with Grafana's variables filled in.
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, query) in dashboard_queries().iter().enumerate() {
        let query = query.replace("$stack", ".*").replace("$__rate_interval", "1m");
        assert!(!query.contains('$'), "{query} uses a variable that the dashboard does not have");
        let _ = write!(rules, "  - record: dashboard:query:{number}\n    expr: {}\n", Value::from(query));
    }
    scratch.write("dashboard.yml", rules);
    promtool(&parts, &["check", "rules", "dashboard.yml"], scratch.path()).expect(0);
}

#[test]
fn amtool_routes_each_severity_to_who_is_told() {
    let Some(parts) = parts::prometheus() else {
        return;
    };
    let directory = root().join("docs/compose");
    amtool(&parts, &["check-config", "alertmanager.yml"], &directory).expect(0);
    for (severity, receiver) in [("page", "oncall"), ("finance", "finance"), ("warning", "team")] {
        let label = format!("severity={severity}");
        let routed =
            amtool(&parts, &["config", "routes", "test", "--config.file", "alertmanager.yml", &label], &directory)
                .expect(0);
        assert_eq!(routed.stdout.trim(), receiver);
    }
}

#[test]
fn the_topics_script_makes_the_topics_once_and_the_broker_stamps_them() {
    let Some(parts) = parts::kafka() else { return };
    let kafka = start_kafka(&parts);
    let scratch = Scratch::new("topics");
    create_topics(&kafka, &scratch);
    create_topics(&kafka, &scratch);
    assert_eq!(kafka.end_offsets(GOVERNANCE_TOPIC).len(), 1);
    assert_eq!(kafka.end_offsets(METRICS_TOPIC).len(), 4);
    for topic in [GOVERNANCE_TOPIC, METRICS_TOPIC] {
        kafka.produce(topic, &[Record::new("x").timestamp_ms(1)]);
        let stamped = kafka.consume_all(topic)[0].timestamp_ms.unwrap();
        assert!(stamped > 1_000_000_000_000, "{topic} keeps the producer's time {stamped}");
    }
}

#[test]
fn the_composed_service_records_from_kafka_and_is_watched() {
    let (Some(kafka_parts), Some(prometheus_parts)) = (parts::kafka(), parts::prometheus()) else {
        return;
    };
    let scratch = Scratch::new("composed");
    let kafka = start_kafka(&kafka_parts);
    create_topics(&kafka, &scratch);
    let alertmanager = Alertmanager::start(&prometheus_parts, &read("docs/compose/alertmanager.yml"));
    let port = free_port();
    let config = scratch.write("govledger.toml", service_config(&kafka, port, &scratch.join("data")));

    govledger(&service_arguments("init", &config)).expect(0);
    govledger(&service_arguments("init", &config)).expect(0);
    let mut options = ServiceOptions::new(service_arguments("govledger", &config), port);
    for (name, value) in environment(&yaml("docker-compose.yml")["services"]["govledger"]) {
        // `${NAME:-}` is empty where nobody sets it.
        options = options.env(&name, if value.starts_with("${") { "" } else { &value });
    }
    let mut service = Service::start(options);
    healthcheck(port);

    let log = r#"{"event":"llm.request","operation":"judge","model":"qwen3-32b","engine_hash":"e1","quantisation":"w4a8","schema_id":null,"duration_ms":312.5,"queue_delay_us":811.0,"tokens_in":512.0,"tokens_out":64.0,"kv_cache_reuse":{},"speculative":{},"cost_usd":0.001,"error_code":null}"#;
    let records: Vec<Record> = (0..8).map(|n| Record::new(log).partition(n % 4)).collect();
    kafka.produce(METRICS_TOPIC, &records);

    let address = format!("127.0.0.1:{port}");
    let prometheus = Prometheus::start(
        &prometheus_parts,
        &quick(&prometheus_config(&address, alertmanager.url().trim_start_matches("http://"))),
    );
    wait_for("all records in the scraped sizes of the metrics ledgers", Duration::from_mins(1), || {
        let sum = prometheus.query(r#"sum(govledger_ledger_size{ledger=~"metrics-.*"})"#);
        let value = sum.first()?["value"][1].as_str()?.parse::<f64>().ok()?;
        // Each ledger's first entry holds its settings.
        (value >= 12.0).then_some(())
    });
    assert_eq!(prometheus.targets()[0]["health"], "up");
    // The first evaluation may come before the first scrape: what it saw missing is withdrawn at the next.
    wait_for("a healthy service raises nothing", Duration::from_secs(30), || {
        prometheus.alerts().is_empty().then_some(())
    });
    check_exposition(&service.http());
    assert_eq!(service.terminate(), 0, "{}", service.log());
}

/// What `/metrics` exposes is what the page lists; the metrics without labels are there from the start.
fn check_exposition(http: &Http) {
    let text = http.get("/metrics").expect(200).text();
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let exposed = metrics_in(&series.join("\n"));
    assert_documented(&exposed, "/metrics");
    for name in documented_metrics() {
        let needs_an_event = [
            "rejected",
            "slo",
            "alerts_firing",
            "intake_stopped",
            "kafka_pauses",
            "http_requests",
            "notify",
            "unpriced",
            "scrape",
            "backup",
            "rollback",
            "witness",
            "cosigned",
        ];
        let there = exposed.contains(&name) || needs_an_event.iter().any(|part| name.contains(part));
        assert!(there, "{name} is not exposed:\n{text}");
    }
}

/// A broker with the settings of the compose file, but for the listeners and places that are this machine's.
fn start_kafka(parts: &KafkaParts) -> Kafka {
    let compose = yaml("docker-compose.yml");
    let own = ["listener", "quorum", "process.roles", "node.id", "log.dirs"];
    let all = environment(&compose["services"]["kafka"]).into_iter();
    let named = all.map(|(name, value)| (name.trim_start_matches("KAFKA_").to_lowercase().replace('_', "."), value));
    let settings: Vec<(String, String)> =
        named.filter(|(name, _)| !own.iter().any(|part| name.contains(part))).collect();
    assert!(settings.len() >= 4, "{settings:?}");
    Kafka::start(parts, &Options { settings, ..Options::default() })
}

/// Runs the script of the compose file's `topics` service with Kafka's real tool.
fn create_topics(kafka: &Kafka, scratch: &Scratch) {
    let compose = yaml("docker-compose.yml");
    let service = &compose["services"]["topics"];
    let tool = kafka.tool("org.apache.kafka.tools.TopicCommand");
    let words =
        std::iter::once(tool.get_program()).chain(tool.get_args()).map(|word| format!("'{}' ", word.to_string_lossy()));
    scratch.write("bin/kafka-topics.sh", format!("#!/bin/sh\nexec {}\"$@\"\n", words.collect::<String>()));
    finish(Command::new("chmod").arg("+x").arg(scratch.join("bin/kafka-topics.sh"))).expect(0);

    let entrypoint = strings(&service["entrypoint"]);
    let script = mounted(service, &entrypoint[1]);
    let mut command = Command::new(&entrypoint[0]);
    command.arg(script);
    for (name, value) in environment(service) {
        let value = value
            .replace("kafka:9092", &kafka.bootstrap())
            .replace("/opt/kafka/bin", &scratch.join("bin").display().to_string());
        command.env(name, value);
    }
    finish(&mut command).expect(0);
}

/// The file of this tree that a service sees under `inside`.
fn mounted(service: &Value, inside: &str) -> PathBuf {
    let mounts = strings(&service["volumes"]);
    let source =
        mounts.iter().find_map(|mount| mount.split_once(&format!(":{inside}")).map(|(source, _)| source.to_owned()));
    root().join(source.unwrap_or_else(|| panic!("nothing is mounted at {inside}")))
}

/// The command of a service of the compose file with its configuration file replaced.
fn service_arguments(service: &str, config: &Path) -> Vec<String> {
    let compose = yaml("docker-compose.yml");
    let inside = "/etc/govledger/govledger.toml";
    assert_eq!(mounted(&compose["services"][service], inside), root().join("./docs/compose/govledger.toml"));
    let command = strings(&compose["services"][service]["command"]);
    assert!(command.iter().any(|word| word == inside), "{command:?} does not name {inside}");
    command.iter().map(|word| word.replace(inside, &config.display().to_string())).collect()
}

/// The service's configuration with the containers' names and places replaced by this machine's; each must occur.
fn service_config(kafka: &Kafka, port: u16, data: &Path) -> String {
    let replacements = [
        ("kafka:9092", kafka.bootstrap()),
        ("0.0.0.0:8080", format!("127.0.0.1:{port}")),
        ("/var/lib/govledger", data.display().to_string()),
    ];
    replace_each(read("docs/compose/govledger.toml"), &replacements)
}

fn prometheus_config(govledger: &str, alertmanager: &str) -> String {
    let rules = root().join("docs/compose/prometheus/govledger.rules.yml");
    let replacements = [
        ("govledger:8080", govledger.to_owned()),
        ("alertmanager:9093", alertmanager.to_owned()),
        ("/etc/prometheus/govledger.rules.yml", rules.display().to_string()),
    ];
    replace_each(read("docs/compose/prometheus/prometheus.yml"), &replacements)
}

/// The same with a scrape a second: a test does not wait for the tenth.
fn quick(config: &str) -> String {
    replace_each(config.to_owned(), &[("interval: 10s", "interval: 1s".to_owned())])
}

fn replace_each(text: String, replacements: &[(&str, String)]) -> String {
    replacements.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from} does not occur in\n{text}");
        text.replace(from, to)
    })
}

/// The health check of the compose file, at this machine's port.
fn healthcheck(port: u16) {
    let compose = yaml("docker-compose.yml");
    let words = strings(&compose["services"]["govledger"]["healthcheck"]["test"]);
    assert_eq!(words[0], "CMD");
    let script = words[3].replace("$$", "$").replace("127.0.0.1/8080", &format!("127.0.0.1/{port}"));
    finish(Command::new(&words[1]).arg(&words[2]).arg(script)).expect(0);
}

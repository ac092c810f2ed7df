//! `doctor` over TLS and SASL: a password, a certificate and a protocol that are wrong, and rights that are missing, each found
//! with what mends it.

use serde_json::Value;

use super::{STAMPED, allow, broker, dear, ends, finding, published};
use crate::support::kafka::{Kafka, SASL_PASSWORD, SASL_USER};
use crate::support::process::govledger;
use crate::support::scratch::Scratch;

/// A client of the broker's.
struct Client<'a> {
    kafka: &'a Kafka,
    scratch: Scratch,
}

impl Client<'_> {
    /// What `doctor` says of these topics with this table; it ends with `code`.
    fn doctor(&self, code: i32, topics: (&str, &str), table: &str) -> Value {
        let config = format!(
            "[kafka]\ngovernance_topic = \"{}\"\nmetrics_topic = \"{}\"\nrequest_timeout_ms = 4000\n{table}\n",
            topics.0, topics.1
        );
        let config = self.scratch.write("config.toml", config).display().to_string();
        let data = self.scratch.join("data").display().to_string();
        govledger(&["--data", &data, "--config", &config, "--json", "doctor"]).expect(code).json()
    }

    fn table(&self, mechanism: &str, password: &str) -> String {
        let file = self.scratch.write(format!("password-{password}"), format!("{password}\n"));
        format!(
            "bootstrap_servers = \"{}\"\nsecurity_protocol = \"sasl_ssl\"\nsasl_mechanism = \"{mechanism}\"\nsasl_username = \"{SASL_USER}\"\nsasl_password_file = {file:?}\nssl_ca_file = {:?}",
            self.kafka.sasl_bootstrap(),
            self.kafka.ca_file()
        )
    }
}

/// The finding of this check that has `part`, which is an error, and its fix, which has `mends`.
fn error(answer: &Value, check: &str, part: &str, mends: &str) {
    let found = finding(answer, check, part);
    assert_eq!(found["level"], "error", "{found:#}");
    assert!(found["fix"].as_str().unwrap().contains(mends), "{mends} in {found:#}");
}

#[test]
fn what_keeps_a_client_out_is_named() {
    let Some(kafka) = broker(true) else { return };
    kafka.create_topic("events", 1, STAMPED);
    kafka.create_topic("requests", 1, STAMPED);
    let client = Client { kafka: &kafka, scratch: Scratch::new("doctor-sasl") };
    let topics = ("events", "requests");
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let fine = client.doctor(0, topics, &client.table(mechanism, SASL_PASSWORD));
        assert_eq!(finding(&fine, "broker", "answers")["level"], "ok", "{fine:#}");
        let wrong = client.doctor(1, topics, &client.table(mechanism, "wrong"));
        let refused = format!("refuses user {SASL_USER} with {mechanism}: ");
        error(&wrong, "broker", &refused, "the first line of");
        assert!(!wrong.to_string().contains(SASL_PASSWORD));
    }
    let wrong = client.doctor(1, topics, &client.table("SCRAM-SHA-256", "wrong"));
    error(&wrong, "broker", "refuses user", "--entity-name govledger --add-config 'SCRAM-SHA-256=[password=NEW]'");
    let unknown = client.doctor(1, topics, &client.table("SCRAM-SHA-512", SASL_PASSWORD));
    error(&unknown, "broker", "does not take SCRAM-SHA-512", "sasl_mechanism");
    // Who signed the certificate nobody told.
    let table = client.table("PLAIN", SASL_PASSWORD);
    let distrusted = client.doctor(1, topics, table.split("ssl_ca_file").next().unwrap());
    error(&distrusted, "broker", "no TLS with the broker", "ssl_ca_file");
    let plain = client.doctor(1, topics, &format!("bootstrap_servers = \"{}\"", kafka.sasl_bootstrap()));
    error(&plain, "broker", "does not speak Kafka in plain text", "security_protocol = \"sasl_ssl\"");
    let nobody = client.doctor(1, topics, "bootstrap_servers = \"127.0.0.1:1\"");
    error(&nobody, "broker", "127.0.0.1:1 cannot be reached", "bootstrap_servers");
}

#[test]
fn a_right_that_is_missing_is_found_with_the_command_that_gives_it() {
    let Some(kafka) = broker(true) else { return };
    let user = format!("User:{SASL_USER}");
    for topic in ["open", "hidden", "unreadable", "unreadable-and-empty", "unconfigured"] {
        kafka.create_topic(topic, 1, STAMPED);
    }
    kafka.produce("unreadable", &published());
    kafka.produce("open", &dear(2));
    allow(&kafka, "User:somebody-else", "hidden", &["Read"]);
    allow(&kafka, &user, "unreadable", &["Describe", "DescribeConfigs"]);
    allow(&kafka, &user, "unreadable-and-empty", &["Describe", "DescribeConfigs"]);
    allow(&kafka, &user, "unconfigured", &["Read"]);
    let client = Client { kafka: &kafka, scratch: Scratch::new("doctor-rights") };
    let topics = ["open", "hidden", "unreadable", "unreadable-and-empty", "unconfigured"];
    let before = ends(&kafka, &topics);
    let table = client.table("SCRAM-SHA-256", SASL_PASSWORD);
    let give = |operation: &str, topic: &str| {
        format!(
            "--command-config CLIENT.PROPERTIES --add --allow-principal {user} --operation {operation} --topic {topic}"
        )
    };

    // Whether it may write cannot be asked over SASL, and is not tried: said so, with how to see it.
    let fine = client.doctor(0, ("open", "open"), &table);
    let unknown = finding(&fine, "rights", "the rights to write are not asked for");
    assert_eq!(unknown["level"], "unknown");
    assert!(unknown["fix"].as_str().unwrap().contains(&format!("--list --principal {user}")), "{unknown}");

    let hidden = client.doctor(1, ("hidden", "open"), &table);
    error(&hidden, "rights", "may not Describe the governance topic hidden", &give("Read", "hidden"));
    for topic in ["unreadable", "unreadable-and-empty"] {
        let unreadable = client.doctor(1, (topic, "open"), &table);
        error(&unreadable, "rights", &format!("may not Read {topic}"), &give("Read", topic));
    }
    let unconfigured = client.doctor(1, ("unconfigured", "open"), &table);
    let right = "may not DescribeConfigs the governance topic unconfigured";
    error(&unconfigured, "rights", right, &give("DescribeConfigs", "unconfigured"));
    assert!(!unconfigured.to_string().contains("message.timestamp.type"), "what was not told is not judged");
    assert_eq!(ends(&kafka, &topics), before, "something was produced");
}

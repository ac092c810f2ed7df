//! Whether the broker can be reached at all, and where it cannot, what stands in the way: the client library only says that
//! time passed, and tells the reason as an event or to its log.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use super::super::checks::tool;
use super::super::client;
use super::super::config::{KafkaConfig, SaslMechanism, SecurityProtocol};
use super::super::error::doing;
use super::{Finding, KafkaIntakeError, Level};

/// Lines of the client library that are kept: a broker that refuses is tried again and again.
const LINES_MAX: usize = 100;

/// How often the client library is asked for what it has to say.
const LOOKS: u32 = 20;

/// Keeps what the client library says of its connections.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn keep(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES_MAX {
            lines.push(line.to_owned());
        }
    }
}

impl ClientContext for Heard {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.keep(message);
    }

    fn error(&self, _error: KafkaError, reason: &str) {
        self.keep(reason);
    }
}

impl ConsumerContext for Heard {}

/// Asks the broker who it is; what was found, and whether there is any use in going on.
pub(super) fn reach(config: &KafkaConfig, node: &str) -> Result<(Finding, bool), KafkaIntakeError> {
    let heard = Heard::default();
    let asks: BaseConsumer<Heard> =
        client::admin(config, node)?.create_with_context(heard.clone()).map_err(doing("creating a client"))?;
    match asks.fetch_metadata(None, config.request_timeout()) {
        Ok(metadata) => {
            let brokers = metadata.brokers().len();
            Ok((Finding::fine("broker", format!("{} answers, {brokers} brokers", config.bootstrap_servers)), true))
        }
        Err(error) => {
            // It tells some of it only to whoever polls.
            for _ in 0..LOOKS {
                let _ = asks.poll(Duration::from_millis(20));
            }
            let lines = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (what, fix) = explain(config, &lines).unwrap_or_else(|| by_connecting(config, &error));
            Ok((Finding::bad("broker", Level::Error, what, fix), false))
        }
    }
}

/// What was refused, and what mends it, by what the client library said.
fn explain(config: &KafkaConfig, lines: &[String]) -> Option<(String, String)> {
    let said = |parts: &[&str]| lines.iter().find(|line| parts.iter().any(|part| line.contains(part)));
    if let Some(line) =
        said(&["SASL authentication error", "SASL authentication failed", "SaslAuthenticateRequest failed"])
    {
        let user = config.sasl_username.as_deref().unwrap_or_default();
        let what = format!("the broker refuses user {user} with {}: {}", config.sasl_mechanism.as_str(), reason(line));
        return Some((what, password_fix(config, user)));
    }
    if let Some(line) = said(&["SASL mechanism", "not supported by broker", "unsupported by broker"]) {
        let what = format!("the broker does not take {}: {}", config.sasl_mechanism.as_str(), reason(line));
        return Some((what, "set sasl_mechanism under [kafka] to one that the listener has enabled".to_owned()));
    }
    if let Some(line) = said(&["SSL handshake failed", "certificate verify failed"]) {
        let what = format!("no TLS with the broker: {}", reason(line));
        let fix = "name the certificate authority that signed the broker's certificate with ssl_ca_file under [kafka], and a host that the certificate is for in bootstrap_servers";
        return Some((what, fix.to_owned()));
    }
    None
}

/// What can be told without the library: whether anybody takes connections there.
fn by_connecting(config: &KafkaConfig, error: &KafkaError) -> (String, String) {
    let servers = &config.bootstrap_servers;
    let reachable = "check bootstrap_servers under [kafka], and that the broker can be reached from here";
    let mut last = None;
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        match connect(server, config.request_timeout()) {
            Ok(()) if config.security_protocol == SecurityProtocol::Plaintext => {
                let what = format!("{server} takes the connection and does not speak Kafka in plain text");
                let fix = "set security_protocol = \"sasl_ssl\" under [kafka], or name a plain listener";
                return (what, fix.to_owned());
            }
            Ok(()) => {
                return (format!("{server} takes the connection and gives no answer: {error}"), reachable.to_owned());
            }
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or_else(|| "no broker is named".to_owned(), |error| error.to_string());
    (format!("{servers} cannot be reached: {why}"), reachable.to_owned())
}

fn connect(server: &str, limit: Duration) -> std::io::Result<()> {
    let address = server.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    TcpStream::connect_timeout(&address, limit).map(drop)
}

fn password_fix(config: &KafkaConfig, user: &str) -> String {
    let file = config.sasl_password_file.as_deref().unwrap_or(std::path::Path::new("sasl_password_file")).display();
    let check = format!("check sasl_username and the first line of {file}");
    match config.sasl_mechanism {
        SaslMechanism::Plain => format!("{check}; users of PLAIN are in the listener's JAAS configuration"),
        SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => {
            let mechanism = config.sasl_mechanism.as_str();
            let set =
                format!("--alter --entity-type users --entity-name {user} --add-config '{mechanism}=[password=NEW]'");
            format!("{check}, or set the password anew: {}", tool(config, "kafka-configs.sh", &set))
        }
    }
}

/// A line of the client library without its thread, its address and how long it took.
fn reason(line: &str) -> String {
    let from = line.rfind("]: ").map_or(0, |at| at + 3);
    let text = &line[from..];
    let text = text.split_once(": ").map_or(text, |(address, rest)| if address.contains(':') { rest } else { text });
    text.rsplit_once(" (after ").map_or(text, |(text, _)| text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_library_is_cut_to_its_reason() {
        for (line, expected) in [
            (
                "[thrd:sasl_ssl://127.0.0.1:9/bootstrap]: sasl_ssl://127.0.0.1:9/bootstrap: SASL authentication error: Authentication failed (after 312ms in state AUTH_REQ)",
                "SASL authentication error: Authentication failed",
            ),
            ("Connect to ipv4#127.0.0.1:9 failed: refused (after 0ms in state CONNECT)", "refused"),
            ("something else", "something else"),
        ] {
            assert_eq!(reason(line), expected);
        }
    }
}

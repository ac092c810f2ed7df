//! A real Apache Kafka broker (one node, its own controller) that belongs to a test, and what tests do to it.
//!
//! In scope: its life (`start`, `kill9`, `restart`, `pause`), its TLS and SASL listener; `client` holds topics and records.
//! Invariants: every port is on 127.0.0.1; the data survives `kill9` + `restart` at the same ports; the broker dies with
//! the test process. Topics are never created by use. A start takes a few seconds, so tests of one binary that only need
//! *a* broker share one (`shared`) and keep to topics of their own.

mod client;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::guarded::Guarded;
use super::parts::{self, KafkaParts};
use super::process::{finish, free_port};
use super::scratch::Scratch;
use super::wait::Deadline;

pub(crate) use client::{Consumed, Record, consume_all, produce};

const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Any fixed id will do: each test's cluster is its own.
const CLUSTER_ID: &str = "Z292bGVkZ2VyLXRlc3RzMA";

/// The one user of the `SASL_SSL` listener, known to PLAIN and to SCRAM-SHA-256.
pub(crate) const SASL_USER: &str = "govledger";
pub(crate) const SASL_PASSWORD: &str = "correct-horse";

/// What a test wants beside a plain listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// A second listener with TLS and SASL (PLAIN, SCRAM-SHA-256) for `SASL_USER`.
    pub(crate) sasl_ssl: bool,
    /// A further listener, known to clients by this port, which something that stands between is to listen on.
    pub(crate) advertised_port: Option<u16>,
    /// Further lines of `server.properties`, name and value.
    pub(crate) settings: Vec<(String, String)>,
}

/// A running broker.
#[derive(Debug)]
pub(crate) struct Kafka {
    process: Guarded,
    libs: PathBuf,
    port: u16,
    controller_port: u16,
    sasl_port: Option<u16>,
    behind_port: Option<u16>,
    scratch: Scratch,
}

impl Kafka {
    /// Starts a broker and waits until it answers.
    pub(crate) fn start(parts: &KafkaParts, options: &Options) -> Self {
        // A port may be taken between its choice and the broker's bind: two further tries with other ports.
        for _ in 0..2 {
            if let Some(kafka) = Self::try_start(parts, options) {
                return kafka;
            }
        }
        Self::try_start(parts, options).expect("the broker ended three times while starting")
    }

    fn try_start(parts: &KafkaParts, options: &Options) -> Option<Self> {
        let scratch = Scratch::new("kafka");
        let (port, controller_port) = (free_port(), free_port());
        let sasl_port = options.sasl_ssl.then(free_port);
        let mut properties = server_properties(&scratch, port, controller_port, sasl_port);
        if options.sasl_ssl {
            make_certificate(&scratch);
            properties.push_str(&sasl_properties(&scratch));
        }
        let behind_port = options.advertised_port.map(|advertised| {
            let port = free_port();
            properties = with_listener(&properties, port, advertised);
            port
        });
        for (name, value) in &options.settings {
            let _ = writeln!(properties, "{name}={value}");
        }
        scratch.write("server.properties", properties);
        format_storage(parts, &scratch, options.sasl_ssl);
        let process = launch(&parts.libs, &scratch);
        let libs = parts.libs.clone();
        let mut kafka = Self { process, libs, port, controller_port, sasl_port, behind_port, scratch };
        kafka.wait_ready().then_some(kafka)
    }

    /// A second broker of the same cluster, number 2, without a controller: a partition that lies on it alone can be made
    /// leaderless while the cluster goes on.
    pub(crate) fn second(&self) -> Self {
        let scratch = Scratch::new("kafka-2");
        let port = free_port();
        let properties = server_properties(&scratch, port, self.controller_port, None)
            .replace("process.roles=broker,controller", "process.roles=broker")
            .replace("node.id=1", "node.id=2")
            .replace(&format!(",CONTROLLER://127.0.0.1:{}", self.controller_port), "");
        scratch.write("server.properties", properties);
        format_storage(&KafkaParts { libs: self.libs.clone() }, &scratch, false);
        let process = launch(&self.libs, &scratch);
        let (libs, controller_port) = (self.libs.clone(), self.controller_port);
        let mut second = Self { process, libs, port, controller_port, sasl_port: None, behind_port: None, scratch };
        assert!(second.wait_ready(), "the second broker ended while starting");
        second
    }

    /// `HOST:PORT` of the plain listener.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `HOST:PORT` of the `SASL_SSL` listener.
    pub(crate) fn sasl_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_port.expect("started with `sasl_ssl`"))
    }

    /// `HOST:PORT` that what listens on `advertised_port` hands on to.
    pub(crate) fn behind(&self) -> String {
        format!("127.0.0.1:{}", self.behind_port.expect("started with `advertised_port`"))
    }

    /// The certificate that clients of the `SASL_SSL` listener must trust, PEM.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.scratch.join("certificate.pem")
    }

    /// Client settings for the plain listener.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config
    }

    /// Client settings for the `SASL_SSL` listener; `mechanism` is `PLAIN` or `SCRAM-SHA-256`.
    pub(crate) fn sasl_client(&self, mechanism: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.sasl_bootstrap())
            .set("security.protocol", "SASL_SSL")
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", SASL_USER)
            .set("sasl.password", SASL_PASSWORD)
            .set("ssl.ca.location", self.ca_file().display().to_string());
        config
    }

    /// SIGKILL: the broker has no chance to say goodbye or to flush.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts the broker again on the data and ports that it had, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        assert!(!self.process.is_alive(), "stop the broker before starting it again");
        self.process = launch(&self.libs, &self.scratch);
        assert!(self.wait_ready(), "the broker ended while starting again");
    }

    /// An orderly stop and start.
    pub(crate) fn restart(&mut self) {
        self.process.terminate(STOP_LIMIT);
        self.start_again();
    }

    /// SIGSTOP: connections stay open, nothing is answered.
    pub(crate) fn pause(&mut self) {
        self.process.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        self.process.signal("CONT");
    }

    /// One of Kafka's own command-line tools, by its main class.
    pub(crate) fn tool(&self, class: &str) -> Command {
        let mut command = java(&self.libs);
        command.arg(class);
        command
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Whether the broker came to answer for itself; not so where its process ended.
    fn wait_ready(&mut self) -> bool {
        let deadline = Deadline::after(START_LIMIT);
        let probe: BaseConsumer = self
            .client()
            .set("reconnect.backoff.max.ms", "100")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
            .create()
            .unwrap();
        loop {
            // The metadata request reconnects by itself; it names a broker only once the broker has registered.
            let metadata = probe.fetch_metadata(None, Duration::from_millis(500));
            if metadata.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return true;
            }
            if !self.process.is_alive() {
                return false;
            }
            assert!(
                !deadline.passed(),
                "the broker does not answer after {START_LIMIT:?}; its log:\n{}",
                self.process.log_tail(40)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The broker that the tests of one binary share, each with topics of its own. It ends with the process.
pub(crate) fn shared() -> Option<&'static Kafka> {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    let parts = parts::kafka()?;
    Some(SHARED.get_or_init(|| Kafka::start(&parts, &Options::default())))
}

/// The short session lets a killed broker register again at once, instead of after the nine seconds of the default.
fn server_properties(scratch: &Scratch, port: u16, controller_port: u16, sasl_port: Option<u16>) -> String {
    let sasl = sasl_port.map(|port| format!(",SASL_SSL://127.0.0.1:{port}")).unwrap_or_default();
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{sasl}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{sasl}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.session.timeout.ms=1000\n\
         broker.heartbeat.interval.ms=250\n\
         log.message.timestamp.after.max.ms=9223372036854775807\n\
         num.network.threads=2\n\
         num.io.threads=2\n",
        scratch.join("data").display()
    )
}

/// The same with a listener at `port` that clients are sent to by another one.
fn with_listener(properties: &str, port: u16, advertised: u16) -> String {
    let further = |line: &str| match line.split_once('=') {
        Some(("listeners", _)) => format!("{line},BEHIND://127.0.0.1:{port}\n"),
        Some(("advertised.listeners", _)) => format!("{line},BEHIND://127.0.0.1:{advertised}\n"),
        Some(("listener.security.protocol.map", _)) => format!("{line},BEHIND:PLAINTEXT\n"),
        _ => format!("{line}\n"),
    };
    properties.lines().map(further).collect()
}

/// What the `SASL_SSL` listener needs: how users are known, and the server's certificate.
fn sasl_properties(scratch: &Scratch) -> String {
    format!(
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={}\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"{SASL_USER}\" password=\"{SASL_PASSWORD}\" user_{SASL_USER}=\"{SASL_PASSWORD}\";\n\
         listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n",
        scratch.join("keystore.pem").display()
    )
}

/// A self-signed certificate for 127.0.0.1, and the PEM keystore (key, then certificate) that the broker reads.
fn make_certificate(scratch: &Scratch) {
    let (key, certificate) = (scratch.join("key.pem"), scratch.join("certificate.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=govledger test broker"]);
    openssl
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    finish(&mut openssl).expect(0);
    let keystore = [std::fs::read(key).unwrap(), std::fs::read(certificate).unwrap()].concat();
    scratch.write("keystore.pem", keystore);
}

fn format_storage(parts: &KafkaParts, scratch: &Scratch, scram: bool) {
    let mut tool = java(&parts.libs);
    tool.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(scratch.join("server.properties"));
    if scram {
        tool.arg("--add-scram").arg(format!("SCRAM-SHA-256=[name={SASL_USER},password={SASL_PASSWORD}]"));
    }
    finish(&mut tool).expect(0);
}

fn launch(libs: &std::path::Path, scratch: &Scratch) -> Guarded {
    let mut broker = java(libs);
    broker.arg("kafka.Kafka").arg(scratch.join("server.properties"));
    Guarded::start(&broker, &scratch.join("log"))
}

/// A JVM that starts fast and stays small; throughput is not what it is for.
fn java(libs: &std::path::Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    // Made by `tests/parts/install`; the JVM goes on without where it does not fit.
    let archive = libs.with_file_name("classes.jsa");
    if archive.exists() {
        command.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
    }
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn").arg("-cp").arg(libs.join("*"));
    command
}

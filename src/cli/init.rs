//! `init`: keys, ledgers, and the first admin's token, which is shown once.

use super::args::Init;
use super::error::{CliError, Exit, Outcome, file_error};
use super::out::{self, Tone};
use super::source::Place;
use crate::clock::Clock;
use crate::domain::settings::{NodeKey, Settings, SourceSettings};
use crate::sequencer::{DataDir, InitOptions, Initialised, write_durably};

/// Ends the name of a shadow.
const SHADOW_SUFFIX: &str = ".shadow";

pub(crate) fn run(place: &Place, options: &super::args::Options, init: Init) -> Outcome {
    if init.if_missing && place.data.join("node.json").exists() {
        DataDir::open(&place.data)?;
        out::line(format!("{} is there already; nothing was changed", place.data.display()));
        return Ok(Exit::Fine);
    }
    let token_out = init.token_out.clone();
    let made = DataDir::init(&place.data, plan(options, init)?)?;
    if let (Some(path), Some(token)) = (&token_out, &made.admin_token) {
        write_durably(&std::path::absolute(path).map_err(CliError::failed)?, format!("{token}\n").as_bytes(), 0o600)?;
    }
    tell(&made, token_out.as_deref())?;
    Ok(Exit::Fine)
}

fn plan(options: &super::args::Options, init: Init) -> Result<InitOptions, CliError> {
    let config =
        crate::config::Config::load(options.config.as_deref()).map_err(|error| super::node::config_error(&error))?;
    let settings = match &init.settings {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(file_error(path))?;
            Some(
                serde_json::from_str::<Settings>(&text)
                    .map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?,
            )
        }
    };
    let topics = init.kafka_governance_topic.zip(init.kafka_metrics_topic);
    let kafka = config.kafka.as_ref();
    let configured = || kafka.and_then(|kafka| Some((kafka.governance_topic.clone()?, kafka.metrics_topic.clone()?)));
    let source = match topics.or_else(configured) {
        Some((governance_topic, metrics_topic)) if init.shadow => {
            SourceSettings::Shadow { governance_topic, metrics_topic }
        }
        None if init.shadow => {
            return Err(CliError::usage(
                "--shadow reads topics: name them with --kafka-governance-topic and --kafka-metrics-topic",
            ));
        }
        Some((governance_topic, metrics_topic)) => SourceSettings::Kafka { governance_topic, metrics_topic },
        None => SourceSettings::Embedded,
    };
    let node_key = |text: &String| match text.split_once('=') {
        Some((node, key)) => Ok(NodeKey { node: node.to_owned(), public_key: key.to_ascii_lowercase() }),
        None => Err(CliError::usage(format!("--node-key {text:?}: it is NODE=PUBLIC-KEY-HEX"))),
    };
    let further_node_keys = init.node_key.iter().map(node_key).collect::<Result<Vec<_>, _>>()?;
    if let Some(bad) = further_node_keys.iter().find(|key| key.public_bytes().is_none()) {
        return Err(CliError::usage(format!(
            "--node-key {}: {:?} is no Ed25519 public key of 64 hex digits",
            bad.node, bad.public_key
        )));
    }
    if settings.as_ref().is_some_and(|settings| settings.source.is_shadow()) {
        return Err(CliError::usage(
            "these are the settings of a shadow, whose ledger is nobody else's; make another with `govledger init --shadow`",
        ));
    }
    let mut node = init.node.or_else(crate::config::host_name).unwrap_or_else(|| "govledger".to_owned());
    if init.shadow && !node.ends_with(SHADOW_SUFFIX) {
        // Part of every origin, so that no checkpoint of a shadow passes for another node's.
        node.push_str(SHADOW_SUFFIX);
    }
    Ok(InitOptions { node, source, admin: init.admin, settings, further_node_keys, now: Clock::System.now() })
}

fn tell(made: &Initialised, token_out: Option<&std::path::Path>) -> Result<(), CliError> {
    let directory = &made.data_dir;
    let root = directory.root().display();
    out::line(format!(
        "{} {root}: node {}, ledgers {}",
        out::tone(Tone::Good, "made"),
        directory.node(),
        directory.ledgers()?.join(", ")
    ));
    out::line(format!("verifier key  {}", directory.verifier_key("governance")?));
    out::line(format!("              {root}/keys/*.vkey: hand these to whoever is to check the ledger"));
    match (&made.admin_token, token_out) {
        (Some(_), Some(path)) => out::line(format!("admin token   written to {}", path.display())),
        (Some(token), None) => out::line(format!(
            "admin token   {token}\n              shown this once and kept nowhere; put it into a file that only you can read"
        )),
        (None, _) => {
            out::line("admin token   the first node's holds here as well");
            let key = crate::domain::envelope::hex(&directory.node_key()?.public());
            out::line(format!(
                "to take part  govledger keys enroll-node --node {} --public-key {key}",
                directory.node()
            ));
            out::line("              at a node that runs; another admin confirms it. A follower needs none of it");
        }
    }
    if matches!(directory.settings().source, SourceSettings::Kafka { .. }) {
        out::line(format!("further nodes  govledger init --node NAME --settings {root}/settings.json"));
    }
    if directory.settings().source.is_shadow() {
        out::line(format!("next          govledger serve --shadow --data {root}"));
        return Ok(());
    }
    out::line(format!(
        "next          govledger serve --data {root}    or    govledger ingest --data {root} --time recorded FILE..."
    ));
    Ok(())
}

//! `serve`: the writer, the intake and the API in one process, until it is asked to stop.
//!
//! Order of the start: the directory, the fold, the writer, the listener, and only then `service.json`, so that whoever finds
//! the file finds a service that answers. Order of the stop: the file goes first, then requests under way are finished, then
//! the writer keeps a snapshot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::args::{Options, Serve};
use super::error::{CliError, Exit, Outcome};
use super::node::{asked_to_stop, config_error, runtime};
use super::out;
use super::source::{Place, ServiceFile};
use crate::api::{ApiState, serve};
use crate::clock::Clock;
use crate::config::{Config, LogConfig};
use crate::domain::policy::Policy;
use crate::domain::settings::{RULES_CAPACITY, SourceSettings};
use crate::identity::oidc::Providers;
use crate::identity::trail::Trail;
use crate::ingest::kafka::{KafkaIntakeError, Part, follower_producer, producer, shadow_producer};
use crate::ingest::triton::{self, Scrapers};
use crate::notify::{Notifier, Witnesses};
use crate::sequencer::{
    Core, DataDir, Handle, Options as WriterOptions, Running, Sealing, new_token, start, write_durably,
};

/// How long tasks that are still under way may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

pub(crate) fn run(place: &Place, options: &Options, serve: &Serve) -> Outcome {
    let mut config = Config::load(options.config.as_deref()).map_err(|error| config_error(&error))?;
    config.data.clone_from(&place.data);
    if let Some(listen) = serve.listen {
        config.listen = listen;
    }
    start_log(&config.log)?;
    let part = match (serve.follower, serve.shadow) {
        (_, true) => Part::Shadow,
        (true, false) => Part::Follower,
        (false, false) => Part::Full,
    };
    service(&config, part)
}

/// Serves what the demo made, to whoever reaches this machine's own address.
pub(crate) fn run_demo(options: &Options, data: &Path) -> Outcome {
    let mut config = Config::load(options.config.as_deref()).map_err(|error| config_error(&error))?;
    data.clone_into(&mut config.data);
    // The demo's data is nobody's secret, and a page that asks for a token shows little.
    config.open_reads = true;
    service(&config, Part::Full)
}

fn start_log(config: &LogConfig) -> Result<(), CliError> {
    let level: tracing::Level = config.level.parse().map_err(|_error| {
        CliError::usage(format!("log.level is {:?}: it is error, warn, info, debug or trace", config.level))
    })?;
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let started = if config.json {
        builder.json().try_init()
    } else {
        builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()) && !crate::config::no_colour())
            .try_init()
    };
    started.map_err(CliError::failed)
}

/// The intake from Kafka, where the directory follows one.
#[derive(Debug)]
struct Intake {
    stop: watch::Sender<bool>,
    /// Says true where the intake ended by itself.
    ended: watch::Receiver<bool>,
    task: Option<JoinHandle<Result<(), KafkaIntakeError>>>,
}

fn service(config: &Config, part: Part) -> Outcome {
    let data_dir = DataDir::open(&config.data)?.with_ledger_options(config.ledger_options());
    let embedded = data_dir.settings().source == SourceSettings::Embedded;
    let is_shadow = data_dir.settings().source.is_shadow();
    if is_shadow != (part == Part::Shadow) {
        return Err(CliError::usage(if is_shadow {
            "this directory was made by `init --shadow`; its ledger holds cuts and alerts that no other has, so only `serve --shadow` starts it. For a node that writes make a directory with `init`"
        } else {
            "--shadow needs a directory of its own: make one with `govledger init --shadow --kafka-governance-topic TOPIC --kafka-metrics-topic TOPIC`"
        }));
    }
    if embedded && (part != Part::Full || config.kafka.is_some()) {
        return Err(CliError::usage(KafkaIntakeError::NotKafka.to_string()));
    }
    check_scrapes(config, data_dir.settings().rules_version)?;
    let policy = config.policy().map_err(|error| config_error(&error))?;
    let runtime = runtime()?;
    let core = Core::open(data_dir.clone(), config.times())?;
    let sealers = config.segments.seal.then(|| core.sealers());
    let writer = WriterOptions { live_cuts: embedded, clock: Clock::System, policy: policy.clone() };
    let running = start(core, writer)?;
    let sealing = sealers.map(|sealers| Sealing::start(sealers, running.shared())).transpose()?;
    let served = runtime.block_on(async {
        let (handle, intake) = intake(config, &data_dir, &running, part, policy)?;
        let served = listen(config, handle, &data_dir, intake.ended.clone(), part == Part::Full).await;
        intake.end().await?;
        served
    });
    runtime.shutdown_timeout(LAST_WORDS);
    // A segment under way is finished; what waits is sealed after the next start.
    drop(sealing);
    running.stop().map_err(|error| {
        CliError::new(if error.is_damage() { Exit::Damaged } else { Exit::Failed }, error.to_string())
    })?;
    served?;
    out::note("stopped");
    Ok(Exit::Fine)
}

/// Whether the servers to scrape can be scraped into this ledger.
fn check_scrapes(config: &Config, rules_version: u32) -> Result<(), CliError> {
    triton::check(&config.triton).map_err(|error| CliError::usage(error.to_string()))?;
    if !config.triton.is_empty() && rules_version < RULES_CAPACITY {
        return Err(CliError::usage(format!(
            "triton: this ledger was begun with rules version {rules_version}, which judges no scrapes; version {RULES_CAPACITY} does"
        )));
    }
    Ok(())
}

/// A handle on the writer, and in Kafka mode what feeds it.
fn intake(
    config: &Config,
    data_dir: &DataDir,
    running: &Running,
    part: Part,
    policy: Option<Policy>,
) -> Result<(Handle, Intake), CliError> {
    let (stop, stopping) = watch::channel(false);
    let (ending, ended) = watch::channel(false);
    let new_handle = |producer| Handle::new(running, data_dir.clone(), Clock::System, config.times(), producer);
    if data_dir.settings().source == SourceSettings::Embedded {
        return Ok((new_handle(None)?, Intake { stop, ended, task: None }));
    }
    let kafka = config.kafka.clone().unwrap_or_default();
    let producer = match part {
        Part::Follower => follower_producer(),
        Part::Shadow => shadow_producer(),
        Part::Full => producer(&kafka, data_dir.settings()).map_err(|error| refused(&error))?,
    };
    let handle = new_handle(Some(producer))?;
    let reading = crate::ingest::kafka::run(handle.clone(), kafka, part, policy, stopping);
    let task = tokio::spawn(async move {
        let result = reading.await;
        ending.send_replace(true);
        result.unwrap_or(Ok(()))
    });
    Ok((handle, Intake { stop, ended, task: Some(task) }))
}

/// What the broker's topics or the configuration are refused for is the operator's to mend.
fn refused(error: &KafkaIntakeError) -> CliError {
    CliError::usage(error.to_string())
}

impl Intake {
    async fn end(self) -> Result<(), CliError> {
        self.stop.send_replace(true);
        // It ends with its last batch; what is on its way comes again from the broker.
        match self.task {
            Some(task) => task.await.map_err(CliError::failed)?.map_err(|error| refused(&error)),
            None => Ok(()),
        }
    }
}

/// Listens, says where, and serves until asked to stop.
async fn listen(
    config: &Config,
    handle: Handle,
    data_dir: &DataDir,
    ended: watch::Receiver<bool>,
    tells: bool,
) -> Result<(), CliError> {
    let listener = tokio::net::TcpListener::bind(config.listen).await.map_err(|error| {
        CliError::new(
            Exit::Unreachable,
            format!("cannot listen on {}: {error}; choose another address with --listen", config.listen),
        )
    })?;
    let address = listener.local_addr().map_err(CliError::failed)?;
    let url = format!("http://{}", reachable(address));
    let token = new_token()?;
    // A follower only consumes and checks, and what a shadow says stays with it: they tell nobody.
    let notify = config.notify.as_ref().filter(|_| tells);
    let notifier = notify.map(|notify| Notifier::start(notify, &handle, &url)).transpose();
    let notifier = notifier.map_err(|error| CliError::usage(error.to_string()))?;
    let witnesses = tells.then(|| Witnesses::start(&config.cosign, &handle)).transpose();
    let witnesses = witnesses.map_err(|error| CliError::usage(error.to_string()))?;
    // Nor does it produce, so it scrapes nothing.
    let scrapers = if tells { Scrapers::start(&config.triton, &handle) } else { Scrapers::default() };
    let state = ApiState::new(handle, config.api(address), Some(token.clone()));
    state.keep(Trail::start(data_dir.clone(), Clock::System, config.access)?);
    state.know(Providers::new(config.oidc.clone()).map_err(|error| CliError::usage(error.to_string()))?);
    if let Some(notifier) = &notifier {
        state.show_deliveries(notifier.deliveries().clone());
    }
    if let Some(witnesses) = &witnesses {
        state.show_witnesses(witnesses.witnessed().clone());
    }
    let file = ServiceFile::path(data_dir.root());
    let found = ServiceFile { url: url.clone(), token };
    write_durably(&file, &serde_json::to_vec_pretty(&found)?, 0o600)?;
    let beside = if data_dir.settings().source.is_shadow() { ", as a shadow that writes to no topic" } else { "" };
    out::line(format!("govledger serves {} on {url}{beside}", data_dir.root().display()));
    let served = serve(listener, state, until_stopped(file.clone(), ended)).await;
    // Where the server ended by itself the file is still there.
    let _ = std::fs::remove_file(&file);
    scrapers.stop();
    if let Some(notifier) = notifier {
        notifier.stop();
    }
    if let Some(witnesses) = witnesses {
        witnesses.stop();
    }
    served.map_err(CliError::failed)
}

/// Resolves when the process is asked to stop, or the intake has ended by itself; nobody new finds the service from then on.
async fn until_stopped(file: PathBuf, mut ended: watch::Receiver<bool>) {
    let by_itself = async move {
        if ended.wait_for(|ended| *ended).await.is_err() {
            // Embedded: there is no intake that could end.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = asked_to_stop() => {}
        () = by_itself => {}
    }
    let _ = std::fs::remove_file(file);
    out::note("stopping: finishing what is under way");
}

/// The address that this machine reaches itself under.
fn reachable(address: std::net::SocketAddr) -> std::net::SocketAddr {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip @ (std::net::IpAddr::V4(_) | std::net::IpAddr::V6(_)) => ip,
    };
    std::net::SocketAddr::new(ip, address.port())
}

//! `serve`: the writer, the intake and the API in one process, until it is asked to stop.
//!
//! Order of the start: the directory, the fold, the writer, the listener, and only then `service.json`, so that whoever finds
//! the file finds a service that answers. Order of the stop: the file goes first, then requests under way are finished, then
//! the writer keeps a snapshot.

use std::future::Future;
use std::path::Path;

use tokio::sync::watch;

use super::args::{Options, Serve};
use super::error::{CliError, Exit, Outcome};
use super::node::{asked_to_stop, config_error, runtime};
use super::out;
use super::source::{Place, ServiceFile};
use crate::api::{ApiConfig, ApiState, serve};
use crate::clock::Clock;
use crate::config::{Config, LogConfig};
use crate::domain::settings::SourceSettings;
use crate::sequencer::{Core, DataDir, Handle, Options as WriterOptions, Running, new_token, start, write_durably};

pub(crate) fn run(place: &Place, options: &Options, serve: &Serve) -> Outcome {
    let mut config = Config::load(options.config.as_deref()).map_err(config_error)?;
    config.data.clone_from(&place.data);
    if let Some(listen) = serve.listen {
        config.listen = listen;
    }
    start_log(&config.log)?;
    service(&config, serve.follower)
}

/// Serves what the demo made, to whoever reaches this machine's own address.
pub(crate) fn run_demo(options: &Options, data: &Path) -> Outcome {
    let mut config = Config::load(options.config.as_deref()).map_err(config_error)?;
    data.clone_into(&mut config.data);
    // The demo's data is nobody's secret, and a page that asks for a token shows little.
    config.open_reads = true;
    service(&config, false)
}

fn start_log(config: &LogConfig) -> Result<(), CliError> {
    let level: tracing::Level = config.level.parse().map_err(|_| CliError::usage(format!("log.level is {:?}: it is error, warn, info, debug or trace", config.level)))?;
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let started = if config.json { builder.json().try_init() } else { builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()) && !crate::config::no_colour()).try_init() };
    started.map_err(CliError::failed)
}

/// The intake from Kafka, where the directory follows one.
#[derive(Debug)]
struct Intake {
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

fn service(config: &Config, follower: bool) -> Outcome {
    let data_dir = DataDir::open(&config.data)?;
    let embedded = data_dir.settings().source == SourceSettings::Embedded;
    if embedded && follower {
        return Err(CliError::usage("--follower consumes what other nodes produced to Kafka; this directory is embedded"));
    }
    if embedded && config.kafka.is_some() {
        return Err(CliError::usage(format!("the configuration names Kafka, but {} was made for embedded mode; make another with `govledger init --kafka-governance-topic T --kafka-metrics-topic T`", config.data.display())));
    }
    let policy = config.policy().map_err(config_error)?;
    let runtime = runtime()?;
    let core = Core::open(data_dir.clone(), config.times())?;
    let running = start(core, WriterOptions { live_cuts: embedded, clock: Clock::System, policy: policy.clone() })?;
    let (handle, intake) = runtime.block_on(intake(config, &data_dir, &running, follower, policy))?;
    let result = runtime.block_on(listen(config, handle, &data_dir));
    runtime.block_on(intake.end());
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    running.stop().map_err(|error| CliError::new(if error.is_damage() { Exit::Damaged } else { Exit::Failed }, error.to_string()))?;
    result?;
    out::note("stopped");
    Ok(Exit::Fine)
}

async fn intake(config: &Config, data_dir: &DataDir, running: &Running, _follower: bool, _policy: Option<crate::domain::policy::Policy>) -> Result<(Handle, Intake), CliError> {
    let (stop, _stopping) = watch::channel(false);
    if data_dir.settings().source != SourceSettings::Embedded {
        return Err(CliError::usage("this build has no Kafka intake"));
    }
    let handle = Handle::new(running, data_dir.clone(), Clock::System, config.times(), None)?;
    Ok((handle, Intake { stop, task: None }))
}

impl Intake {
    async fn end(self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task {
            // It ends with its last batch; what is on its way comes again from the broker.
            let _ = task.await;
        }
    }
}

/// Listens, says where, and serves until asked to stop.
async fn listen(config: &Config, handle: Handle, data_dir: &DataDir) -> Result<(), CliError> {
    let listener = tokio::net::TcpListener::bind(config.listen).await.map_err(|error| CliError::new(Exit::Unreachable, format!("cannot listen on {}: {error}; choose another address with --listen", config.listen)))?;
    let address = listener.local_addr().map_err(CliError::failed)?;
    let url = format!("http://{}", reachable(address));
    let token = new_token()?;
    let api = ApiConfig { listen: address, open_reads: config.open_reads, ..ApiConfig::default() };
    let state = ApiState::new(handle, api, Some(token.clone()));
    let file = ServiceFile::path(data_dir.root());
    let found = ServiceFile { url: url.clone(), token };
    write_durably(&file, &serde_json::to_vec_pretty(&found)?, 0o600)?;
    out::line(format!("govledger serves {} on {url}", data_dir.root().display()));
    let served = serve(listener, state, until_stopped(file.clone())).await;
    // Where the server ended by itself the file is still there.
    let _ = std::fs::remove_file(&file);
    served.map_err(CliError::failed)
}

/// Resolves when the process is asked to stop; nobody new finds the service from then on.
fn until_stopped(file: std::path::PathBuf) -> impl Future<Output = ()> + Send + 'static {
    async move {
        asked_to_stop().await;
        let _ = std::fs::remove_file(file);
        out::note("stopping: finishing what is under way");
    }
}

/// The address that this machine reaches itself under.
fn reachable(address: std::net::SocketAddr) -> std::net::SocketAddr {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    std::net::SocketAddr::new(ip, address.port())
}

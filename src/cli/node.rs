//! A node in this process, for commands that write where no service runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::CliError;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::settings::SourceSettings;
use crate::sequencer::{Core, DataDir, Handle, Options, Running, start};

/// A writer with its own runtime.
#[derive(Debug)]
pub(crate) struct Node {
    /// Reaches the writer.
    pub(crate) handle: Handle,
    running: Running,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    /// Opens a data directory to write to it. Only an embedded one: in Kafka mode the order is the broker's.
    pub(crate) fn open(data: &Path, config: &Config, live_cuts: bool) -> Result<Self, CliError> {
        let data_dir = DataDir::open(data)?.with_ledger_options(config.ledger_options());
        if data_dir.settings().source != SourceSettings::Embedded {
            return Err(CliError::usage(format!(
                "{} follows Kafka, so only the service writes to it: start `govledger serve --data {}`",
                data.display(),
                data.display()
            )));
        }
        let runtime = runtime()?;
        let core = Core::open(data_dir.clone(), config.times())?;
        let running = start(
            core,
            Options { live_cuts, clock: Clock::System, policy: config.policy().map_err(|error| config_error(&error))? },
        )?;
        let handle = Handle::new(&running, data_dir, Clock::System, config.times(), None)?;
        Ok(Self { handle, running, runtime })
    }

    /// Runs a future to its end.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Lets the writer finish what is queued and keep a snapshot.
    pub(crate) fn stop(self) -> Result<(), CliError> {
        let Self { handle, running, runtime } = self;
        drop(handle);
        let stopped = running.stop();
        runtime.shutdown_background();
        stopped.map_err(|error| {
            CliError::new(
                if error.is_damage() { super::error::Exit::Damaged } else { super::error::Exit::Failed },
                error.to_string(),
            )
        })
    }
}

/// A runtime for the network and for timers.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::failed)
}

/// A configuration that cannot be used is the caller's to mend.
pub(crate) fn config_error(error: &crate::config::ConfigError) -> CliError {
    CliError::usage(error.to_string())
}

/// Returns when the process is asked to stop: SIGTERM or SIGINT.
pub(crate) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A flag that a thread of its own sets on SIGTERM or SIGINT.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    let runtime = runtime()?;
    std::thread::spawn(move || {
        runtime.block_on(asked_to_stop());
        set.store(true, Ordering::SeqCst);
    });
    Ok(stop)
}

//! The opening of a whole data directory: after an orderly stop, and after a service that was killed amid its appends.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process;
use super::report::Report;
use super::traffic::Traffic;
use super::{CliError, failed, file_error};
use crate::cli::source::ServiceFile;
use crate::clock::monotonic;
use crate::config::Config;
use crate::domain::metric::TimeFields;
use crate::sequencer::{Core, DataDir};

/// Lines of one request to the service that is killed.
const LINES: usize = 2_000;
/// Requests before it is killed: nearly as many lines as a snapshot waits for, all of which the next start reads again.
const REQUESTS: usize = 130;
const STARTS_WITHIN: Duration = Duration::from_mins(1);
const BOUND_MS: f64 = 1_000.0;

/// Opens it twice. The service in between takes some lines of the same traffic.
pub(super) fn measure(data: &Path, traffic: &Traffic, scratch: &Path, report: &mut Report) -> Result<(), CliError> {
    report.at_most("open the data directory, clean", opened_ms(data)?, "ms", Some(BOUND_MS));
    let config = scratch.join("killed.toml");
    std::fs::write(&config, toml::to_string(&Config::default()).map_err(failed)?).map_err(file_error(&config))?;
    let service = process::start(data, &config, &scratch.join("killed.log"))?;
    feed(data, traffic)?;
    // SIGKILL: it has no chance to keep a snapshot or to flush.
    drop(service);
    report.at_most("open the data directory, after kill -9", opened_ms(data)?, "ms", Some(BOUND_MS));
    Ok(())
}

/// What the opening took a process of its own. In this one sled's handles of an earlier opening outlive their last use at
/// times, and with them the lock of the cache.
fn opened_ms(data: &Path) -> Result<f64, CliError> {
    let program = std::env::current_exe().map_err(failed)?;
    let child = Command::new(program).arg("bench").arg("--open").arg(data).output().map_err(failed)?;
    let said = String::from_utf8_lossy(&child.stdout);
    let unsaid = |error| failed(format!("bench --open: {error}: {}", String::from_utf8_lossy(&child.stderr)));
    said.trim().parse::<f64>().map_err(unsaid)
}

/// Opens a data directory; milliseconds.
pub(super) fn once(data: &Path) -> Result<f64, CliError> {
    let data_dir = DataDir::open(data)?;
    let began = monotonic();
    let core = Core::open(data_dir, TimeFields::default())?;
    let took = began.elapsed();
    drop(core);
    Ok(took.as_secs_f64() * 1e3)
}

fn feed(data: &Path, traffic: &Traffic) -> Result<(), CliError> {
    use std::io::BufRead as _;
    let file = std::fs::File::open(&traffic.path).map_err(file_error(&traffic.path))?;
    let lines = std::io::BufReader::new(file).lines().take(LINES).collect::<Result<Vec<_>, _>>();
    let body = lines.map_err(file_error(&traffic.path))?.join("\n");
    let began = monotonic();
    let client = loop {
        if let Some(client) = ServiceFile::running(data) {
            break client;
        }
        if began.elapsed() > STARTS_WITHIN {
            return Err(failed(format!("the service did not start within {STARTS_WITHIN:?}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    for _ in 0..REQUESTS {
        let reply = client.post("/v1/metrics", &[("content-type", "application/x-ndjson")], body.as_str())?;
        if !reply.is_success() {
            return Err(failed(format!("the service answers {}: {}", reply.status, reply.json())));
        }
    }
    Ok(())
}

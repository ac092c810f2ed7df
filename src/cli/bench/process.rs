//! The service in a process of its own, so that its memory is its own and it can be killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{CliError, failed, file_error};

/// The process; killed (SIGKILL) when this is dropped.
#[derive(Debug)]
pub(super) struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// A line of the process's status, in MiB; 0 where the system does not say.
    pub(super) fn memory_mib(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap_or_default();
        value.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or_default() / 1024.0
    }
}

/// Starts this binary's `serve` on a data directory, at a free port.
pub(super) fn start(data: &Path, config: &Path, log: &Path) -> Result<Service, CliError> {
    let program = std::env::current_exe().map_err(failed)?;
    let log = std::fs::File::create(log).map_err(file_error(log))?;
    let child = Command::new(program)
        .arg("serve")
        .arg("--data")
        .arg(data)
        .arg("--config")
        .arg(config)
        .args(["--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    Ok(Service(child))
}

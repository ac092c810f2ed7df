//! Peak memory of the product's own processes: the service under the intake of the whole file, `ingest` without a service,
//! `rebuild` and `verify`. Each runs as a child, so that neither the generator nor what was measured before is counted.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::report::Report;
use super::traffic::Traffic;
use super::{CliError, failed, file_error};
use crate::cli::source::ServiceFile;
use crate::clock::{Clock, monotonic};
use crate::domain::settings::SourceSettings;
use crate::sequencer::{DataDir, InitOptions};

/// How often a child's peak is read: it never falls, so only what comes in the last moments can be missed.
const POLL: Duration = Duration::from_millis(2);
const STARTED_WITHIN: Duration = Duration::from_secs(10);
const MOST_MIB: f64 = 300.0;

pub(super) fn measure(traffic: &Traffic, scratch: &Path, report: &mut Report) -> Result<(), CliError> {
    let (served, alone) = (scratch.join("served"), scratch.join("alone"));
    let file = traffic.path.display().to_string();
    let ingest = ["ingest", "--time", "arrival", &file];
    for data in [&served, &alone] {
        init(data)?;
    }
    let mut service = Running(govledger(&served, &["serve", "--listen", "127.0.0.1:0"])?);
    let began = monotonic();
    while !ServiceFile::path(&served).exists() {
        if began.elapsed() > STARTED_WITHIN {
            return Err(failed("the service did not start"));
        }
        std::thread::sleep(POLL);
    }
    let mut client = Running(govledger(&served, &ingest)?);
    let mut say = |what: &str, mib: f64| {
        report.at_most(&format!("peak memory of `{what}`"), mib, "MiB", Some(MOST_MIB));
    };
    say("serve, taking the whole file", until_ended(&mut client, Some(&service))?);
    // Whatever it had acknowledged is durable: the service may end at any moment.
    service.0.kill().map_err(failed)?;
    drop(service);
    std::fs::remove_dir_all(&served).map_err(file_error(&served))?;
    for (what, arguments) in [
        ("ingest, taking the whole file without a service", &ingest[..]),
        ("rebuild", &["rebuild"]),
        ("verify", &["verify"]),
    ] {
        let mut child = Running(govledger(&alone, arguments)?);
        say(what, until_ended(&mut child, None)?);
    }
    std::fs::remove_dir_all(&alone).map_err(file_error(&alone))
}

/// A process that does not outlive the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be ended again, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn init(data: &Path) -> Result<(), CliError> {
    let options = InitOptions {
        node: "bench".to_owned(),
        source: SourceSettings::Embedded,
        admin: "ada".to_owned(),
        settings: None,
        further_node_keys: Vec::new(),
        now: Clock::System.now(),
    };
    DataDir::init(data, options)?;
    Ok(())
}

fn govledger(data: &Path, arguments: &[&str]) -> Result<Child, CliError> {
    Command::new(std::env::current_exe().map_err(failed)?)
        .arg("--data")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)
}

/// Waits until `child` has ended well; the peak of it, or of `instead`, in MiB.
fn until_ended(child: &mut Running, instead: Option<&Running>) -> Result<f64, CliError> {
    let watched = instead.map_or(child.0.id(), |process| process.0.id());
    let mut peak = 0.0;
    loop {
        if let Some(mib) = peak_mib(watched) {
            peak = mib;
        }
        match child.0.try_wait().map_err(failed)? {
            None => std::thread::sleep(POLL),
            Some(status) if status.success() => return Ok(peak),
            Some(status) => return Err(failed(format!("a measured process ended with {status}"))),
        }
    }
}

fn peak_mib(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}

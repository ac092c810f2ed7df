//! A real Prometheus that belongs to a test, and promtool and amtool to check the files that ours reads.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::guarded::Guarded;
use super::http::Http;
use super::parts::PrometheusParts;
use super::process::{Finished, finish, free_port};
use super::scratch::Scratch;
use super::wait::wait_for;

/// Runs promtool to its end.
pub(crate) fn promtool(parts: &PrometheusParts, arguments: &[&str], directory: &Path) -> Finished {
    finish(Command::new(&parts.promtool).args(arguments).current_dir(directory))
}

/// Runs amtool to its end.
pub(crate) fn amtool(parts: &PrometheusParts, arguments: &[&str], directory: &Path) -> Finished {
    finish(Command::new(&parts.amtool).args(arguments).current_dir(directory))
}

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Guarded,
    http: Http,
    scratch: Scratch,
}

impl Prometheus {
    /// Starts one with this configuration file's text (paths in it absolute) and waits until it is ready.
    pub(crate) fn start(parts: &PrometheusParts, config: &str) -> Self {
        let scratch = Scratch::new("prometheus");
        let config_file = scratch.write("prometheus.yml", config);
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(&parts.prometheus);
        command.arg(format!("--config.file={}", config_file.display()));
        command.arg(format!("--storage.tsdb.path={}", scratch.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let http = Http::new(&format!("http://{address}"));
        let mut started = Self { process: Guarded::start(&command, &scratch.join("log")), http: http.clone(), scratch };
        wait_for("Prometheus", Duration::from_secs(20), || {
            assert!(started.process.is_alive(), "Prometheus ended:\n{}", started.process.log_tail(20));
            http.try_get("/-/ready").is_ok_and(|reply| reply.status == 200).then_some(())
        });
        started
    }

    /// An instant query; the vector of its result.
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            let _ = write!(encoded, "%{byte:02X}");
        }
        let answer = self.http.get(&format!("/api/v1/query?query={encoded}")).expect(200).json();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The alerts that its rules have pending or firing.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let answer = self.http.get("/api/v1/alerts").expect(200).json();
        answer["data"]["alerts"].as_array().cloned().unwrap_or_default()
    }

    /// The scrape targets, each with `labels`, `health` and `lastError`.
    pub(crate) fn targets(&self) -> Vec<Value> {
        let answer = self.http.get("/api/v1/targets?state=active").expect(200).json();
        answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default()
    }
}

//! A real Alertmanager that belongs to a test.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::guarded::Guarded;
use super::http::Http;
use super::parts::PrometheusParts;
use super::process::free_port;
use super::scratch::Scratch;
use super::wait::wait_for;

/// A running Alertmanager.
#[derive(Debug)]
pub(crate) struct Alertmanager {
    process: Guarded,
    http: Http,
    url: String,
    command: Command,
    scratch: Scratch,
}

impl Alertmanager {
    /// Starts one with this configuration file's text and waits until it is ready.
    pub(crate) fn start(parts: &PrometheusParts, config: &str) -> Self {
        let scratch = Scratch::new("alertmanager");
        let config_file = scratch.write("alertmanager.yml", config);
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(&parts.alertmanager);
        command.arg(format!("--config.file={}", config_file.display()));
        command.arg(format!("--storage.path={}", scratch.join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
        let url = format!("http://{address}");
        let mut started = Self {
            process: Guarded::start(&command, &scratch.join("log")),
            http: Http::new(&url),
            url,
            command,
            scratch,
        };
        started.wait_ready();
        started
    }

    fn wait_ready(&mut self) {
        let http = self.http.clone();
        wait_for("Alertmanager", Duration::from_secs(20), || {
            assert!(self.process.is_alive(), "Alertmanager ended:\n{}", self.process.log_tail(20));
            http.try_get("/-/ready").is_ok_and(|reply| reply.status == 200).then_some(())
        });
    }

    /// Starts it again after a kill, at the same address.
    pub(crate) fn start_again(&mut self) {
        self.process = Guarded::start(&self.command, &self.scratch.join("log"));
        self.wait_ready();
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The alerts that it holds now, as its API gives them.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let answer = self.http.get("/api/v2/alerts").expect(200).json();
        answer.as_array().cloned().unwrap_or_else(|| panic!("alerts are no array: {answer}"))
    }

    /// Stops it; its port stays known, so that a client sees refused connections.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }
}

//! A report of this host to the ledger: a `CloudEvent` that is kept in a file until the ledger has it.
//!
//! Order: the event is written to the spool, then sent, then the file is removed. A crash or an unreachable service in
//! between leaves the file, and sending it again is a duplicate by its id: nothing is lost and nothing counts twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::args::{Options, Reporting};
use crate::cli::error::{CliError, Exit, file_error};
use crate::cli::node::{Node, config_error};
use crate::cli::out;
use crate::cli::source::{Client, Place};
use crate::clock::{Clock, monotonic};
use crate::config::Config;
use crate::ingest::file::{FileSource, ingest_arrival};
use crate::sequencer::{new_token, write_durably};

/// How often a service that does not take the report is tried again.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Something that happened on this host.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// `llm_warmup_completed` and the like.
    pub(super) event_type: &'a str,
    /// The stack.
    pub(super) stack: &'a str,
    /// The payload.
    pub(super) data: Value,
}

/// Where reports go, and where they stay meanwhile.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    pub(super) place: &'a Place,
    pub(super) options: &'a Options,
    pub(super) reporting: &'a Reporting,
}

impl Ledger<'_> {
    /// Records a report; the position of its entry.
    pub(super) fn record(&self, report: &Report<'_>) -> Result<u64, CliError> {
        let id = new_token()?.trim_start_matches("glt_").chars().take(32).collect::<String>();
        let host = crate::config::host_name().unwrap_or_else(|| "unnamed".to_owned());
        let event = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("urn:govledger:host:{host}"),
            "type": report.event_type,
            "subject": report.stack,
            "time": Clock::System.now().to_string(),
            "datacontenttype": "application/json",
            "data": report.data,
        });
        let file = self.keep(report.event_type, &id, &event)?;
        match self.send(&file, &event) {
            Ok(position) => {
                std::fs::remove_file(&file).map_err(file_error(&file))?;
                // The directory goes with its last file; one that holds others stays.
                let _ = std::fs::remove_dir(&self.reporting.spool);
                Ok(position)
            }
            Err(error) => Err(CliError::new(
                error.exit,
                format!(
                    "{}\nthe report is kept in {}; once the ledger can be reached: govledger ingest {}",
                    error.text,
                    file.display(),
                    file.display()
                ),
            )),
        }
    }

    fn keep(&self, event_type: &str, id: &str, event: &Value) -> Result<PathBuf, CliError> {
        std::fs::create_dir_all(&self.reporting.spool).map_err(file_error(&self.reporting.spool))?;
        let spool = std::path::absolute(&self.reporting.spool).map_err(CliError::failed)?;
        let file = spool.join(format!("{event_type}-{id}.json"));
        write_durably(&file, format!("{event}\n").as_bytes(), 0o600)?;
        Ok(file)
    }

    fn send(&self, file: &Path, event: &Value) -> Result<u64, CliError> {
        match self.place.service()? {
            Some(client) => {
                let client = match self.place.token()? {
                    Some(token) => client.with_token(token),
                    None => client,
                };
                post(&client, event, self.reporting.retry_for.0)
            }
            None => self.append(file),
        }
    }

    /// Through a writer of this process, as a file: the same way as the stack's own logs.
    fn append(&self, file: &Path) -> Result<u64, CliError> {
        let config = Config::load(self.options.config.as_deref()).map_err(|error| config_error(&error))?;
        let node = Node::open(&self.place.data, &config, false)?;
        let source = FileSource { name: file.display().to_string(), path: file.to_owned() };
        let taken = node.block_on(ingest_arrival(&node.handle, vec![source], &|_, _| {}));
        let size = node.handle.shared().governance().size;
        node.stop()?;
        let taken = taken?;
        if taken.admitted == 1 {
            return Ok(size - 1);
        }
        Err(CliError::new(Exit::Refused, "the ledger did not admit the report; govledger rejected says why"))
    }
}

fn post(client: &Client, event: &Value, retry_for: Duration) -> Result<u64, CliError> {
    let body = event.to_string();
    let began = monotonic();
    loop {
        let sent = client.post("/v1/events", &[("content-type", "application/cloudevents+json")], body.as_bytes());
        let error = match sent {
            // On its way to the broker: the same id again finds it there.
            Ok(response) if response.status == 202 => {
                CliError::new(Exit::Unreachable, "the report is on its way and was not applied in time")
            }
            Ok(response) if response.is_success() => return admitted(&response.json()),
            Ok(response) => client.refusal(&response),
            Err(error) => error,
        };
        if error.exit != Exit::Unreachable || began.elapsed() >= retry_for {
            return Err(error);
        }
        out::note(format!("{}; trying again", error.text));
        std::thread::sleep(RETRY_EVERY);
    }
}

/// The position of the entry that counts.
fn admitted(reply: &Value) -> Result<u64, CliError> {
    let outcome = &reply["outcomes"][0];
    let position =
        if outcome["verdict"] == "admitted" { &outcome["position"] } else { &outcome["verdict"]["duplicate"]["of"] };
    position.as_u64().ok_or_else(|| CliError::new(Exit::Refused, format!("the ledger refused the report: {outcome}")))
}

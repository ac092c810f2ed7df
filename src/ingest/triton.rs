//! Scrapes of Triton's `/metrics`, each recorded as a metric event.
//!
//! In scope: asking each configured server on its interval, and handing what it answers to the metrics ledger (embedded: to the
//! writer; in Kafka mode: to the metrics topic, like any metric event). Out of scope: reading the page, which the fold does.
//!
//! Invariants: what is recorded is the lines as they came, with when they were asked for; so nothing after this depends on a
//! clock or on this process. A page that nobody can read is recorded too, and refused by its entry. A server that does not
//! answer leaves nothing to record: it is counted, shown by `/readyz` and `/metrics`, and the rules then have no verdict.

mod config;
mod fetch;

pub use config::{ScrapeConfig, ScrapeConfigError, check};

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;

use fetch::Page;

use crate::domain::leaf::Header;
use crate::domain::metric::Kind;
use crate::domain::metric::scrape::is_kept;
use crate::domain::time::Time;
use crate::sequencer::{Handle, MetricsChunk, ScrapeFigures, Submission, SubmitError};

/// Of a page without a line that is kept, this much is recorded, for whoever asks what it was.
const FOREIGN_BYTES_MAX: usize = 2 << 10;
/// The number under which the scraper's requests stand in the ledger: those of people begin at 1.
const REQUEST: u64 = 0;

/// The running scrapers.
#[derive(Debug, Default)]
pub struct Scrapers(Vec<JoinHandle<()>>);

/// Why a scrape was not recorded.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    /// The server.
    #[error("{0}")]
    Fetch(#[from] fetch::FetchError),
    /// The ledger, or the broker.
    #[error("{0}")]
    Submit(#[from] SubmitError),
    /// Blobs beside the ledger, or the serializer.
    #[error("{0}")]
    Keep(String),
}

/// The event as it is recorded.
#[derive(Serialize)]
struct Recorded<'a> {
    event: &'static str,
    stack: &'a str,
    instance: &'a str,
    scraped_at: Time,
    page_bytes: usize,
    page_sha256: &'a str,
    text: &'a str,
}

impl Scrapers {
    /// Starts one task a server. To be called on the runtime.
    pub fn start(configs: &[ScrapeConfig], handle: &Handle) -> Self {
        Self(configs.iter().map(|config| tokio::spawn(run(config.clone(), handle.clone()))).collect())
    }

    /// Stops them: what is being asked is not waited for.
    pub fn stop(self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn run(config: ScrapeConfig, handle: Handle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(config.interval_seconds));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        scrape(&config, &handle).await;
    }
}

/// Scrapes one server once, and takes note of what became of it.
pub async fn scrape(config: &ScrapeConfig, handle: &Handle) {
    let instance = config.instance();
    let outcome = once(config, handle).await.map_err(|error| error.to_string());
    match &outcome {
        Ok(None) => {}
        Ok(Some(reason)) | Err(reason) => {
            tracing::warn!(
                stack = config.stack,
                instance,
                reason,
                "scrape.failed: this server's scrape does not count"
            );
        }
    }
    note(handle, (&config.stack, &instance), outcome);
}

/// One scrape: asked for, recorded; why it does not count, where it does not.
async fn once(config: &ScrapeConfig, handle: &Handle) -> Result<Option<String>, ScrapeError> {
    let scraped_at = handle.now();
    let asked = config.clone();
    let page = tokio::task::spawn_blocking(move || fetch::page(&asked))
        .await
        .map_err(|error| ScrapeError::Keep(error.to_string()))??;
    let body = event(config, scraped_at, &page)?;
    record(handle, body).await
}

/// The event of a page.
fn event(config: &ScrapeConfig, scraped_at: Time, page: &Page) -> Result<Vec<u8>, ScrapeError> {
    let event = Recorded {
        event: "triton.scrape",
        stack: &config.stack,
        instance: &config.instance(),
        scraped_at,
        page_bytes: page.bytes,
        page_sha256: &page.sha256,
        text: &kept(&page.text),
    };
    serde_json::to_vec(&event).map_err(|error| ScrapeError::Keep(error.to_string()))
}

/// The lines of the metrics that are read, as they came. Of a page that has none, its beginning.
fn kept(page: &str) -> String {
    let mut text = String::new();
    for line in page.split('\n').filter(|line| is_kept(line)) {
        text.push_str(line);
        text.push('\n');
    }
    if text.is_empty() {
        let end = (0..=FOREIGN_BYTES_MAX.min(page.len())).rev().find(|end| page.is_char_boundary(*end));
        text.push_str(&page[..end.unwrap_or(0)]);
    }
    text
}

/// Hands the event to the ledger; why it was refused, where it was.
async fn record(handle: &Handle, body: Vec<u8>) -> Result<Option<String>, ScrapeError> {
    let header = Header { request: Some(REQUEST), ..Header::at(handle.now()) };
    let mut chunk = MetricsChunk::default();
    let judged = handle
        .prepare()
        .push(&mut chunk, header.clone(), &body)
        .map_err(|error| ScrapeError::Keep(error.to_string()))?;
    if handle.is_kafka() {
        handle.produce_metrics(vec![Submission { header, body }]).await?;
    } else {
        handle.append_metrics(0, chunk).await?;
    }
    Ok(match judged {
        Ok(Kind::Scrape) => None,
        Ok(Kind::Request | Kind::Notice) => Some("it was read as another event".to_owned()),
        Err(refusal) => Some(format!("recorded and refused: {refusal}")),
    })
}

fn note(handle: &Handle, (stack, instance): (&str, &str), outcome: Result<Option<String>, String>) {
    let mut scrapes = handle.shared().status.scrapes.lock().unwrap_or_else(PoisonError::into_inner);
    let figures: &mut ScrapeFigures = scrapes.entry((stack.to_owned(), instance.to_owned())).or_default();
    match outcome {
        Ok(None) => {
            figures.recorded += 1;
            figures.last = Some(handle.now());
            figures.failing = None;
        }
        Ok(Some(refusal)) => {
            figures.refused += 1;
            figures.failing = Some(refusal);
        }
        Err(error) => {
            figures.failed += 1;
            figures.failing = Some(error);
        }
    }
}

/// What fails now, as `stack instance` and the reason.
pub fn failing(handle: &Handle) -> BTreeMap<String, String> {
    let scrapes = handle.shared().status.scrapes.lock().unwrap_or_else(PoisonError::into_inner);
    let failing = scrapes.iter().filter_map(|((stack, instance), figures)| {
        figures.failing.clone().map(|reason| (format!("{stack} {instance}"), reason))
    });
    failing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_read_are_kept_as_they_came() {
        let page = "# TYPE nv_gpu_utilization gauge\nnv_gpu_utilization{gpu_uuid=\"a\"} 0.5\r\nother 1\nnv_gpu_memory_used_bytes{gpu_uuid=\"a\"} x\n";
        assert_eq!(
            kept(page),
            "nv_gpu_utilization{gpu_uuid=\"a\"} 0.5\r\nnv_gpu_memory_used_bytes{gpu_uuid=\"a\"} x\n"
        );
        assert_eq!(kept("<html>"), "<html>");
        let foreign = "ä".repeat(FOREIGN_BYTES_MAX);
        assert_eq!(kept(&foreign).len(), FOREIGN_BYTES_MAX);
        assert_eq!(kept(&format!("x{foreign}")).len(), FOREIGN_BYTES_MAX - 1);
    }
}

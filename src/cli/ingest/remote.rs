//! Files into a running service: it compares what it has and takes what is new.

use serde_json::{Value, json};

use crate::cli::args::{Ingest, IngestTime};
use crate::cli::error::{CliError, file_error};
use crate::cli::source::Client;
use crate::clock::monotonic;
use crate::ingest::file::{FileSource, Report};

/// Bytes of lines posted at once.
const POST_BYTES: usize = 4 << 20;
/// How often a busy service is asked again, a second apart.
const TRIES: u32 = 60;

pub(super) fn run(client: &Client, files: &[FileSource], ingest: &Ingest) -> Result<Report, CliError> {
    if ingest.follow {
        return Err(CliError::usage("--follow writes to the data directory itself or runs beside a service that has none; with a running service, follow with a log shipper to POST /v1/events and /v1/metrics"));
    }
    let began = monotonic();
    let mut report = match ingest.time {
        IngestTime::Recorded => backfill(client, files, ingest)?,
        IngestTime::Arrival => arrival(client, files)?,
    };
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// All files in one request: one JSON line that lists them, then their bytes.
fn backfill(client: &Client, files: &[FileSource], ingest: &Ingest) -> Result<Report, CliError> {
    let mut listed = Vec::new();
    let mut bytes = Vec::new();
    for file in files {
        let content = std::fs::read(&file.path).map_err(file_error(&file.path))?;
        listed.push(json!({ "name": file.name, "bytes": content.len() }));
        bytes.extend_from_slice(&content);
    }
    let mut body = serde_json::to_vec(&Value::from(listed))?;
    body.push(b'\n');
    body.append(&mut bytes);
    let path = ingest.until.map_or_else(|| "/v1/backfill".to_owned(), |until| format!("/v1/backfill?until={until}"));
    post(client, &path, &body)
}

fn arrival(client: &Client, files: &[FileSource]) -> Result<Report, CliError> {
    let mut report = Report::default();
    for file in files {
        let content = std::fs::read(&file.path).map_err(file_error(&file.path))?;
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        let sha256 = crate::ingest::file::first_line_sha256(first);
        let (mut at, mut line) = (0, 1_u64);
        while at < content.len() {
            let end = chunk_end(&content, at);
            let chunk = &content[at..end];
            let path = format!("/v1/files/{sha256}/lines?from={line}&name={}", crate::cli::out::encode(&file.name));
            report.add(&post(client, &path, chunk)?);
            line += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
            at = end;
        }
    }
    Ok(report)
}

/// The end of the last whole line within the limit, or of the file.
fn chunk_end(content: &[u8], at: usize) -> usize {
    let limit = content.len().min(at + POST_BYTES);
    if limit == content.len() {
        return limit;
    }
    let within = content[at..limit].iter().rposition(|byte| *byte == b'\n').map(|index| at + index + 1);
    // A line longer than the limit goes as it is: the service says what it thinks of it.
    within.unwrap_or_else(|| content[limit..].iter().position(|byte| *byte == b'\n').map_or(content.len(), |index| limit + index + 1))
}

fn post(client: &Client, path: &str, body: &[u8]) -> Result<Report, CliError> {
    for _ in 1..TRIES {
        let response = client.post(path, &[("content-type", "application/x-ndjson")], body)?;
        if response.is_success() {
            return Ok(serde_json::from_slice(&response.bytes)?);
        }
        if response.status != 503 {
            return Err(client.refusal(&response));
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    Err(CliError::new(crate::cli::error::Exit::Unreachable, format!("{} stayed busy for a minute; try again later: what was taken is not taken twice", client.url())))
}

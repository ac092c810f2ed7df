//! Files into a running service: it compares what it has and takes what is new.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::tail::Tail;
use crate::cli::args::{Ingest, IngestTime};
use crate::cli::error::{CliError, Exit, file_error};
use crate::cli::node::stop_flag;
use crate::cli::out;
use crate::cli::source::{Client, Response};
use crate::clock::monotonic;
use crate::ingest::file::{FileKind, FileSource, Report};

/// How often a busy service is asked again, a second apart.
const TRIES: u32 = 60;
/// How often followed files are looked at.
const POLL: Duration = Duration::from_millis(200);

pub(super) fn run(client: &Client, files: &[FileSource], ingest: &Ingest) -> Result<Report, CliError> {
    let began = monotonic();
    let mut report = match (ingest.time, ingest.follow) {
        (IngestTime::Recorded, _) => backfill(client, files, ingest)?,
        (IngestTime::Arrival, false) => arrival(client, files)?,
        (IngestTime::Arrival, true) => follow(client, files)?,
    };
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// All files in one request: one JSON line that lists them, then their bytes.
fn backfill(client: &Client, files: &[FileSource], ingest: &Ingest) -> Result<Report, CliError> {
    let path = ingest.until.map_or_else(|| "/v1/backfill".to_owned(), |until| format!("/v1/backfill?until={until}"));
    again(client, || {
        let mut listed = Vec::new();
        let mut body: Box<dyn Read> = Box::new(std::io::empty());
        for file in files {
            let opened = std::fs::File::open(&file.path).map_err(file_error(&file.path))?;
            let length = opened.metadata().map_err(file_error(&file.path))?.len();
            listed.push(json!({ "name": file.name, "bytes": length }));
            // A file that grows meanwhile is taken as far as the first line says.
            body = Box::new(body.chain(opened.take(length)));
        }
        let mut first = serde_json::to_vec(&Value::from(listed))?;
        first.push(b'\n');
        client.upload(&path, &mut std::io::Cursor::new(first).chain(body))
    })
}

fn arrival(client: &Client, files: &[FileSource]) -> Result<Report, CliError> {
    let mut report = Report::default();
    for file in files {
        let mut tail =
            Tail::open(file)?.ok_or_else(|| CliError::usage(format!("{} is no file that can be read", file.name)))?;
        while tail.read(true)? {
            report.add(&hand_over(client, &mut tail)?);
        }
        if tail.identity().is_none() {
            return Err(crate::ingest::file::IngestError::Unclassified { name: file.name.clone() }.into());
        }
    }
    Ok(report)
}

/// Goes on until asked to stop. A service that is away for a while is waited for: the lines are in the file.
fn follow(client: &Client, files: &[FileSource]) -> Result<Report, CliError> {
    let stop = stop_flag()?;
    let mut report = Report::default();
    let mut tails: Vec<Option<Tail>> = files.iter().map(|_| None).collect();
    // What was rotated away while nobody followed is compared first.
    for file in files.iter().flat_map(super::tail::rotated) {
        if let Ok(part) = arrival(client, &[file]) {
            report.add(&part);
        }
    }
    loop {
        let stopping = stop.load(Ordering::SeqCst);
        for (file, slot) in files.iter().zip(&mut tails) {
            if slot.is_none() {
                *slot = Tail::open(file)?;
            }
            let Some(tail) = slot else { continue };
            let rotated = tail.is_rotated();
            while tail.read(rotated || stopping)? {
                loop {
                    match hand_over(client, tail) {
                        Ok(part) => break report.add(&part),
                        Err(error) if error.exit == Exit::Unreachable && !stop.load(Ordering::SeqCst) => {
                            out::note(format!("{}; trying again", error.text));
                            std::thread::sleep(Duration::from_secs(1));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            if rotated {
                *slot = None;
            }
        }
        if stopping {
            return Ok(report);
        }
        std::thread::sleep(POLL);
    }
}

/// Posts the whole lines at hand. They are kept until the service has answered.
fn hand_over(client: &Client, tail: &mut Tail) -> Result<Report, CliError> {
    let Some((sha256, kind)) = tail.identity() else { return Ok(Report::default()) };
    let kind = match kind {
        FileKind::Governance => "governance",
        FileKind::Metrics => "metrics",
    };
    let path = format!(
        "/v1/files/{sha256}/lines?from_line={}&kind={kind}&name={}",
        tail.next_line(),
        out::encode(tail.name())
    );
    let report = again(client, || client.post(&path, &[("content-type", "application/x-ndjson")], tail.lines()))?;
    tail.taken();
    Ok(report)
}

/// Asks again while the service is busy.
fn again(client: &Client, mut attempt: impl FnMut() -> Result<Response, CliError>) -> Result<Report, CliError> {
    for _ in 1..TRIES {
        let response = attempt()?;
        if response.is_success() {
            return Ok(serde_json::from_slice(&response.bytes)?);
        }
        if response.status != 503 {
            return Err(client.refusal(&response));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Err(CliError::new(
        Exit::Unreachable,
        format!("{} stayed busy; try again later: what was taken is not taken twice", client.url()),
    ))
}

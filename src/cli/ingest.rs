//! `ingest`: files into the ledger, through the service that runs there or through a writer of this process.

mod remote;
mod tail;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::{Ingest, IngestTime, Options};
use super::error::{CliError, Exit, Outcome, file_error};
use super::node::{Node, config_error};
use super::out::{self, Tone};
use super::source::Place;
use crate::config::Config;
use crate::ingest::file::{FileSource, Report, follow, ingest_arrival, ingest_recorded};

pub(crate) fn run(place: &Place, options: &Options, ingest: &Ingest) -> Outcome {
    if ingest.until.is_some() && ingest.time == IngestTime::Arrival {
        return Err(CliError::usage("--until bounds the times that lines state; it needs --time recorded"));
    }
    if ingest.follow && ingest.time == IngestTime::Recorded {
        return Err(CliError::usage("--follow takes lines as they arrive; it cannot be combined with --time recorded"));
    }
    let mut files = Files::open(&ingest.files, ingest.follow)?;
    let report = match place.service()? {
        Some(client) => {
            let client = match place.token()? {
                Some(token) => client.with_token(token),
                None => client,
            };
            remote::run(&client, &files.sources, ingest)?
        }
        None => local(place, options, &files.sources, ingest)?,
    };
    files.remove_spool();
    tell(&report, options.json)?;
    Ok(Exit::Fine)
}

/// The files to read; standard input is kept in a file first, because history is read twice.
struct Files {
    sources: Vec<FileSource>,
    spool: Option<PathBuf>,
}

impl Files {
    fn open(paths: &[PathBuf], follow: bool) -> Result<Self, CliError> {
        let mut files = Self { sources: Vec::new(), spool: None };
        for path in paths {
            if path == Path::new("-") && follow {
                return Err(CliError::usage("standard input cannot be followed over rotations; leave out --follow"));
            }
            if path == Path::new("-") {
                let spool = std::env::temp_dir().join(format!("govledger-stdin-{}", std::process::id()));
                let mut file = std::fs::File::create(&spool).map_err(file_error(&spool))?;
                std::io::copy(&mut std::io::stdin().lock(), &mut file).map_err(file_error(&spool))?;
                files.sources.push(FileSource { name: "stdin".to_owned(), path: spool.clone() });
                files.spool = Some(spool);
            } else {
                // A file that is followed may come later.
                if !follow && !path.is_file() {
                    return Err(CliError::usage(format!("{} is no file that can be read", path.display())));
                }
                files.sources.push(FileSource { name: path.display().to_string(), path: path.clone() });
            }
        }
        Ok(files)
    }

    fn remove_spool(&mut self) {
        if let Some(spool) = self.spool.take() {
            // A file left in the temporary directory harms nobody.
            let _ = std::fs::remove_file(spool);
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.remove_spool();
    }
}

fn local(place: &Place, options: &Options, files: &[FileSource], ingest: &Ingest) -> Result<Report, CliError> {
    let config = Config::load(options.config.as_deref()).map_err(|error| config_error(&error))?;
    // History makes its own cuts, at the times of its lines; live ones would close it.
    let node = Node::open(&place.data, &config, ingest.time == IngestTime::Arrival)?;
    let report = take(&node, files, ingest);
    let stopped = node.stop();
    let report = report?;
    stopped?;
    Ok(report)
}

fn take(node: &Node, files: &[FileSource], ingest: &Ingest) -> Result<Report, CliError> {
    if ingest.follow {
        return node.block_on(follow_all(&node.handle, files));
    }
    let bar = progress_bar("ingesting");
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let files = files.to_vec();
    let report = match ingest.time {
        IngestTime::Recorded => node.block_on(ingest_recorded(&node.handle, files, ingest.until, &progress))?,
        IngestTime::Arrival => node.block_on(ingest_arrival(&node.handle, files, &progress))?,
    };
    bar.finish_and_clear();
    Ok(report)
}

/// Follows every file until the process is asked to stop.
async fn follow_all(handle: &crate::sequencer::Handle, files: &[FileSource]) -> Result<Report, CliError> {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    for file in files {
        let (handle, file, stopping) = (handle.clone(), file.clone(), stopping.clone());
        tasks.spawn(async move { follow(&handle, file, stopping).await });
    }
    let mut report = Report::default();
    loop {
        tokio::select! {
            () = super::node::asked_to_stop(), if !*stop.borrow() => {
                stop.send_replace(true);
            }
            ended = tasks.join_next() => match ended {
                None => return Ok(report),
                Some(Ok(part)) => report.add(&part?),
                Some(Err(error)) => return Err(CliError::failed(error)),
            }
        }
    }
}

/// A bar on a terminal; nothing elsewhere.
pub(crate) fn progress_bar(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {eta}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn tell(report: &Report, json: bool) -> Result<(), CliError> {
    if json {
        out::json(&serde_json::to_value(report)?);
        return Ok(());
    }
    let rejected = format!("{} rejected", report.rejected);
    let rejected = if report.rejected == 0 { rejected } else { out::tone(Tone::Warn, &rejected) };
    out::line(format!(
        "{} lines read: {} admitted, {rejected}, {} here already, in {:.1} s",
        report.read, report.admitted, report.duplicates, report.seconds
    ));
    if report.rejected > 0 {
        out::line(
            "what was rejected is kept, with its reason: govledger rejected; govledger rejected --ledger metrics-0",
        );
    }
    Ok(())
}

//! `bench`: the whole pipeline measured on generated traffic, each figure beside what the machine does without it.
//!
//! Everything runs in a scratch directory, which is removed at the end. A figure is a ratio against a baseline of the same
//! run, since machines and days differ; the tables of docs/BENCHMARKS.md are made
//! from the JSON of runs (`--fill`), their growth is drawn (`--plot`); `tests/bench/run` does all of it.

mod append;
mod baseline;
mod disk;
mod intake;
mod kafka;
mod memory;
mod open;
mod page;
mod plain;
mod plot;
mod process;
mod reads;
mod report;
mod runs;
mod traffic;

use std::path::PathBuf;

use super::args::{Bench, Options};
use super::error::{CliError, Exit, Outcome, file_error};
use super::out;
use report::Report;

/// A directory that goes when it is dropped.
pub(super) struct Scratch(pub(super) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            out::note(format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

pub(crate) fn run(options: &Options, bench: &Bench) -> Outcome {
    if !bench.plot.is_empty() {
        out::line(plot::draw(&runs::read(&bench.plot)?)?.trim_end());
        return Ok(Exit::Fine);
    }
    if let [page, files @ ..] = bench.fill.as_slice() {
        page::fill(page, &runs::read(files)?)?;
        return Ok(Exit::Fine);
    }
    if let Some(data) = &bench.open {
        out::line(open::once(data)?.to_string());
        return Ok(Exit::Fine);
    }
    let parent = bench.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch(parent.join(format!("govledger-bench-{}", std::process::id())));
    std::fs::create_dir_all(&scratch.0).map_err(file_error(&scratch.0))?;
    let mut report = Report::new(bench.records);
    if let Some(brokers) = bench.brokers.clone() {
        let plan = kafka::Plan { brokers, records: bench.records, partitions: bench.partitions };
        kafka::measure(&plan, &scratch.0, &mut report)?;
        drop(scratch);
        report.print(options.json, bench.markdown);
        return Ok(Exit::Fine);
    }
    let said = |what: &str| out::note(format!("bench: {what}"));
    said("writing traffic");
    let traffic = traffic::write(&scratch.0.join("provider.ndjson"), bench.records)?;
    said("baselines");
    let baseline = baseline::measure(&traffic, &mut report)?;
    said("file intake");
    let node = intake::Node::open(&scratch.0.join("data"))?;
    let intake_rate = intake::measure(&node, &traffic, &baseline, &mut report)?;
    let alone = disk::rate_of(&traffic, &scratch.0)?;
    report.share("file intake, beside the disk alone", intake_rate, alone, disk::AGAINST, None);
    said("reads");
    reads::measure(&node, &mut report)?;
    said("single appends");
    append::measure(&node, &traffic, &scratch.0, &mut report)?;
    let data = node.stop()?;
    said("open");
    open::measure(&data, &traffic, &scratch.0, &mut report)?;
    said("rebuild");
    reads::rebuild(&data, intake_rate, &mut report)?;
    said("verify");
    reads::verify(&data, &mut report)?;
    std::fs::remove_dir_all(&data).map_err(file_error(&data))?;
    said("memory");
    memory::measure(&traffic, &scratch.0, &mut report)?;
    drop(scratch);
    report.print(options.json, bench.markdown);
    Ok(Exit::Fine)
}

/// Things a second.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn rate(count: u64, took: std::time::Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

/// An error of a part that has its own type.
pub(super) fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::failed(error)
}

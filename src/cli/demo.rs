//! `demo`: an hour of a serving stack without Kafka or Docker, through the ordinary intake, told in plain words.
//!
//! The hour ends just now. The generator is seeded: two runs that begin in the same minute write the same bytes.

mod decisions;
mod fleet;
pub(super) mod hour;
mod random;
mod tell;

use std::path::{Path, PathBuf};

use super::args::{Demo, Options};
use super::error::{CliError, Exit, Outcome, file_error};
use super::node::Node;
use super::out::{self, Tone, tone};
use crate::clock::{Clock, monotonic};
use crate::config::Config;
use crate::domain::settings::SourceSettings;
use crate::domain::time::Time;
use crate::ingest::file::{FileSource, Report, ingest_recorded};
use crate::sequencer::{DataDir, InitOptions, write_durably};

/// Seconds of the hour, and of what lies between its end and now.
const HOUR_SECONDS: i64 = 3_600;
const MARGIN_SECONDS: i64 = 60;

pub(crate) fn run(options: &Options, data: Option<PathBuf>, demo: &Demo) -> Outcome {
    let began = monotonic();
    let root = data.unwrap_or_else(|| std::env::temp_dir().join(format!("govledger-demo-{}", std::process::id())));
    let now = Clock::System.now();
    let start = demo.start.unwrap_or_else(|| now.plus_seconds(-HOUR_SECONDS - MARGIN_SECONDS).floor_to_seconds(60));
    out::line(tone(Tone::Strong, "An hour of two serving stacks, made up by a seeded generator"));
    let made = DataDir::init(
        &root,
        InitOptions {
            node: "demo".to_owned(),
            source: SourceSettings::Embedded,
            admin: "ada".to_owned(),
            settings: None,
            further_node_keys: Vec::new(),
            now,
        },
    )?;
    let admin_token = made.admin_token.unwrap_or_default();
    let token_file = root.join("demo/admin.token");
    write_durably(&token_file, format!("{admin_token}\n").as_bytes(), 0o600)?;
    let files = write_files(&root, start)?;
    let config = Config { data: root.clone(), ..Config::default() };
    let node = Node::open(&root, &config, false)?;
    let report = node.block_on(ingest_recorded(&node.handle, files, None, &|_, _| {}))?;
    let decided = node.block_on(decisions::make(&node.handle, &root, now))?;
    tell::all(&node, &report, &decided)?;
    node.stop()?;
    verify(&root)?;
    out::line(format!("\nAll of this took {:.1} s.", began.elapsed().as_secs_f64()));
    look_further(&root);
    if demo.serve {
        return super::serve::run_demo(options, &root);
    }
    Ok(Exit::Fine)
}

/// Writes the files that a real stack would have written, and says how much they hold.
fn write_files(root: &Path, start: Time) -> Result<Vec<FileSource>, CliError> {
    let directory = root.join("demo");
    let hour = hour::Hour::generate(start);
    let mut sources = Vec::new();
    for (name, lines) in [("governance-events.ndjson", &hour.events), ("provider-logs.ndjson", &hour.logs)] {
        let path = directory.join(name);
        let mut text = lines.join("\n");
        text.push('\n');
        std::fs::write(&path, text).map_err(file_error(&path))?;
        sources.push(FileSource { name: name.to_owned(), path });
    }
    out::line(format!(
        "  {} provider logs and {} lifecycle events from {start} on, in {}",
        hour.logs.len(),
        hour.events.len(),
        directory.display()
    ));
    Ok(sources)
}

fn verify(root: &Path) -> Result<(), CliError> {
    out::line(tone(Tone::Strong, "\nCan it be trusted?"));
    let data_dir = DataDir::open(root)?;
    for name in data_dir.ledgers()? {
        let report = ledger::verify::audit(&data_dir.ledger_dir(&name), &data_dir.verifier_key(&name)?, &|_| {})?;
        if !report.is_ok() {
            return Err(CliError::new(Exit::Damaged, format!("{name} has {} problems", report.problems_found)));
        }
        out::line(format!(
            "  {name}: every one of {} entries was read again and hashes to the signed root {}",
            report.entries_checked, report.root
        ));
    }
    Ok(())
}

fn look_further(root: &Path) {
    let data = root.display();
    // As it was called, so that the lines work as pasted.
    let program = std::env::args().next().unwrap_or_else(|| "govledger".to_owned());
    out::line(tone(Tone::Strong, "\nLook further"));
    for (command, what) in [
        ("now engine-qwen3", "one screen for 3 a.m."),
        ("timeline engine-qwen3", "what happened, in order"),
        ("alerts", "what fired, and what covers it"),
        ("incidents", "what was worked, and what is overdue"),
        ("last-good engine-qwen3 --json", "what rollback tooling reads"),
        ("waivers", "who accepted what"),
        ("verify", "read every byte again"),
        ("serve", "the API and the pages, on http://127.0.0.1:7710"),
    ] {
        out::line(format!("  {program} --data {data} {command:<30}  {what}"));
    }
    out::line(format!(
        "  tokens of ada (admin), pavel (publisher and finance), fiona (finance) and olu (on call) lie in {data}/demo"
    ));
}

/// One line of what the intake did.
fn intake(report: &Report) -> String {
    format!(
        "{} lines read in {:.1} s: {} admitted, {} rejected and kept",
        report.read, report.seconds, report.admitted, report.rejected
    )
}

//! Single durable appends by many waiting tasks, beside write and fdatasync of the same groups alone.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use super::intake::Node;
use super::report::Report;
use super::traffic::Traffic;
use super::{CliError, failed, file_error, rate};
use crate::clock::monotonic;
use crate::domain::leaf::Header;
use crate::sequencer::MetricsChunk;

/// Ours and the bare writes take turns, so that a disk whose speed changes from second to second is the same for both.
const TURNS: u32 = 8;
const TURN: Duration = Duration::from_millis(500);

pub(super) fn measure(node: &Node, traffic: &Traffic, scratch: &Path, report: &mut Report) -> Result<(), CliError> {
    let line = {
        use std::io::BufRead as _;
        let file = File::open(&traffic.path).map_err(file_error(&traffic.path))?;
        std::io::BufReader::new(file).lines().next().transpose().map_err(file_error(&traffic.path))?.unwrap_or_default()
    };
    for (tasks, least) in [(100, 0.60), (200, 0.75)] {
        let figures = || node.handle.shared().status.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut bare = Bare::new(scratch, line.len() + 60)?;
        let (mut appended, mut groups, mut took) = (0, 0, Duration::ZERO);
        for _ in 0..TURNS {
            let (before, began) = (figures().count, monotonic());
            let count = node.runtime.block_on(many(node, &line, tasks))?;
            took += began.elapsed();
            let batches = (figures().count - before).max(1);
            (appended, groups) = (appended + count, groups + batches);
            bare.turn(usize::try_from(count / batches).unwrap_or(1).max(1))?;
        }
        let work = format!("durable append of single entries, {tasks} waiting tasks (groups of {})", appended / groups);
        report.share(
            &work,
            rate(appended, took),
            rate(bare.written, bare.took),
            "write + fdatasync of the same groups, by turns",
            Some(least),
        );
    }
    Ok(())
}

async fn many(node: &Node, line: &str, tasks: usize) -> Result<u64, CliError> {
    let mut set = tokio::task::JoinSet::new();
    let until = monotonic() + TURN;
    for _ in 0..tasks {
        let (handle, line, prepare) = (node.handle.clone(), line.to_owned(), node.handle.prepare());
        set.spawn(async move {
            let mut count = 0_u64;
            while monotonic() < until {
                let mut chunk = MetricsChunk::default();
                let pushed = prepare.push(&mut chunk, Header::at(handle.now()), line.as_bytes());
                pushed.map_err(failed)?.map_err(|refusal| failed(refusal.detail))?;
                handle.append_metrics(0, chunk).await.map_err(failed)?;
                count += 1;
            }
            Ok::<_, CliError>(count)
        });
    }
    let mut sum = 0;
    while let Some(count) = set.join_next().await {
        sum += count.map_err(failed)??;
    }
    Ok(sum)
}

/// Groups as large are written to an appending file and synced, and nothing else is done.
struct Bare {
    path: PathBuf,
    file: File,
    entry_bytes: usize,
    /// Entries.
    written: u64,
    took: Duration,
}

impl Bare {
    fn new(scratch: &Path, entry_bytes: usize) -> Result<Self, CliError> {
        let path = scratch.join("bare");
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(file_error(&path))?;
        Ok(Self { path, file, entry_bytes, written: 0, took: Duration::ZERO })
    }

    fn turn(&mut self, in_group: usize) -> Result<(), CliError> {
        let group = vec![b'x'; self.entry_bytes * in_group];
        let began = monotonic();
        while began.elapsed() < TURN {
            self.file.write_all(&group).map_err(file_error(&self.path))?;
            self.file.sync_data().map_err(file_error(&self.path))?;
            self.written += in_group as u64;
        }
        self.took += began.elapsed();
        Ok(())
    }
}

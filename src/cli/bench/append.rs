//! Single durable appends by many waiting tasks, beside write and fdatasync of the same groups alone.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use super::intake::Node;
use super::report::Report;
use super::traffic::Traffic;
use super::{CliError, failed, file_error, rate};
use crate::clock::monotonic;
use crate::domain::leaf::Header;
use crate::sequencer::MetricsChunk;

const FOR: Duration = Duration::from_secs(3);

pub(super) fn measure(node: &Node, traffic: &Traffic, scratch: &Path, report: &mut Report) -> Result<(), CliError> {
    let line = {
        use std::io::BufRead as _;
        let file = std::fs::File::open(&traffic.path).map_err(file_error(&traffic.path))?;
        std::io::BufReader::new(file).lines().next().transpose().map_err(file_error(&traffic.path))?.unwrap_or_default()
    };
    for (tasks, least) in [(100, 0.60), (200, 0.75)] {
        let figures = || node.handle.shared().status.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = figures();
        let began = monotonic();
        let appended = node.runtime.block_on(many(node, &line, tasks))?;
        let ours = rate(appended, began.elapsed());
        let after = figures();
        let groups = (after.count - before.count).max(1);
        let bare = bare(scratch, line.len() + 60, appended, groups)?;
        let mean = appended / groups;
        let work = format!("durable append of single entries, {tasks} waiting tasks (groups of {mean})");
        report.share(&work, ours, bare, "write + fdatasync of the same groups", Some(least));
    }
    Ok(())
}

async fn many(node: &Node, line: &str, tasks: usize) -> Result<u64, CliError> {
    let mut set = tokio::task::JoinSet::new();
    let until = monotonic() + FOR;
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

/// Entries a second where groups as large are written to an appending file and synced, and nothing else is done.
fn bare(scratch: &Path, entry_bytes: usize, entries: u64, groups: u64) -> Result<f64, CliError> {
    let path = scratch.join("bare");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(file_error(&path))?;
    let in_group = usize::try_from(entries / groups).unwrap_or(1).max(1);
    let group = vec![b'x'; entry_bytes * in_group];
    let began = monotonic();
    let mut written = 0;
    while began.elapsed() < FOR {
        file.write_all(&group).map_err(file_error(&path))?;
        file.sync_data().map_err(file_error(&path))?;
        written += in_group as u64;
    }
    Ok(rate(written, began.elapsed()))
}

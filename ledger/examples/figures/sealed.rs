//! What sealing a ledger's segments takes, and what it makes of the bytes on disk.

use std::{error::Error, fs, path::Path, time::Duration};

use ledger::{Ledger, Options};

use crate::{
    ORIGIN, key,
    rows::{Row, timed},
    source::Source,
};

/// Bytes that the service's sealer compresses at a time, and its level.
const BLOCK_BYTES: usize = 64 << 10;
const LEVEL: i32 = 1;

/// Seals everything, against reading the same bytes and compressing the same blocks alone.
pub(crate) fn seal(source: &Source, dir: &Path, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    // One more entry in a segment of its own, so that all the others are in one that is not the last.
    let (mut ledger, _) = Ledger::open(dir, ORIGIN, key(), Options { segment_bytes_max: 1, ..Options::default() })?;
    ledger.append_entries(&[source.entry(ledger.size())])?;
    let raw = compress_alone(&dir.join("segments"))?;
    let (mut entries, mut before, mut after) = (0, 0, 0);
    let sealer = ledger.sealer();
    let (done, time) = timed(|| {
        while let Some(segment) = sealer.seal_next()? {
            entries += segment.entries;
            before += segment.raw_bytes;
            after += segment.sealed_bytes;
        }
        Ok::<_, ledger::Error>(())
    });
    done?;
    assert_eq!(entries + 1, ledger.size(), "all but the last entry are in sealed segments");
    rows.push(Row::megabytes("sealing, synced and read back, of raw bytes", before, time, raw));
    rows.push(Row::ratio("sealed segments / raw segments", after, before, None));
    Ok(())
}

/// The time that reading and compressing all segments but the last takes.
fn compress_alone(segments: &Path) -> Result<Duration, Box<dyn Error>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut paths: Vec<_> = fs::read_dir(segments)?.map(|file| Ok(file?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    paths.pop();
    let (done, time) = timed(|| {
        paths.iter().try_for_each(|path| {
            let bytes = fs::read(path)?;
            bytes.chunks(BLOCK_BYTES).try_for_each(|block| compressor.compress(block).map(drop))
        })
    });
    done.map(|()| time).map_err(Into::into)
}

/// What the directory takes, of the bytes that came in: the lines with their line ends.
pub(crate) fn disk(
    source: &Source,
    dir: &Path,
    segments: &str,
    most: (f64, &'static str),
) -> Result<Row, Box<dyn Error>> {
    let (ledger, _) = Ledger::open(dir, ORIGIN, key(), Options::default())?;
    let lines: u64 = (1..ledger.size()).map(|position| source.line(position).len() as u64 + 1).sum();
    let work = format!("disk, tree included, {segments} segments / bytes in");
    Ok(Row::ratio(&work, bytes_below(dir)?, lines, Some(most)))
}

fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    fs::read_dir(dir)?.try_fold(0, |sum, file| {
        let file = file?;
        Ok(sum + if file.file_type()?.is_dir() { bytes_below(&file.path())? } else { file.metadata()?.len() })
    })
}

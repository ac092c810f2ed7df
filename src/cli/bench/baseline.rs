//! What the machine does with the same lines and without us: `serde_json` into a plain struct of the record's fields.

use std::hint::black_box;

use super::plain::Plain;
use super::report::Report;
use super::traffic::Traffic;
use super::{CliError, file_error, rate};
use crate::clock::monotonic;
use crate::domain::metric;

/// Lines that parsing is measured on: they stay in memory, within the bound of the whole.
const SAMPLE_BYTES: usize = 24 << 20;
/// The best of so many passes counts.
const PASSES: usize = 5;

/// Rates of one core.
pub(super) struct Baseline {
    /// `serde_json::from_str` into the plain struct.
    pub(super) parse: f64,
}

/// Measures the plain parse, and ours beside it.
pub(super) fn measure(traffic: &Traffic, report: &mut Report) -> Result<Baseline, CliError> {
    let mut text = vec![0; SAMPLE_BYTES.min(usize::try_from(traffic.bytes).unwrap_or(usize::MAX))];
    let mut file = std::fs::File::open(&traffic.path).map_err(file_error(&traffic.path))?;
    std::io::Read::read_exact(&mut file, &mut text).map_err(file_error(&traffic.path))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.len() as u64;
    let best = |parse: &dyn Fn(&str) -> bool| {
        let pass = || {
            let began = monotonic();
            let taken = lines.iter().filter(|line| parse(line)).count();
            black_box(taken);
            rate(count, began.elapsed())
        };
        (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
    };
    let parse = best(&|line| black_box(serde_json::from_str::<Plain<'_>>(black_box(line))).is_ok());
    let ours = best(&|line| black_box(metric::parse(black_box(line))).is_ok());
    report.share("metric parse, one core", ours, parse, "serde_json::from_str, one core", None);
    Ok(Baseline { parse })
}

//! A figure beside the raw work that it is measured against, and how the figures are printed.

use std::time::{Duration, Instant};

/// One figure beside the raw work, and what it is to reach.
pub(crate) struct Row {
    work: String,
    measured: f64,
    unit: &'static str,
    raw: Option<f64>,
    target: &'static str,
    met: Option<bool>,
}

impl Row {
    /// A rate beside that of the raw work, and the share of it that is to be reached.
    pub(crate) fn share(work: &str, count: u64, time: Duration, raw: Duration, least: (f64, &'static str)) -> Self {
        let (measured, raw) = (per_second(count, time), per_second(count, raw));
        let (least, target) = least;
        let met = Some(measured >= raw * least);
        Self { work: work.to_owned(), measured, unit: "/s", raw: Some(raw), target, met }
    }

    /// Bytes of a second, in megabytes, beside those of the raw work; nothing is demanded of it.
    pub(crate) fn megabytes(work: &str, bytes: u64, time: Duration, raw: Duration) -> Self {
        let megabytes = |time| per_second(bytes, time) / 1e6;
        let (measured, raw) = (megabytes(time), Some(megabytes(raw)));
        Self { work: work.to_owned(), measured, unit: "MB/s", raw, target: "", met: None }
    }

    /// A figure, and the bound that it is to stay within.
    pub(crate) fn within(work: &str, measured: f64, unit: &'static str, most: Option<(f64, &'static str)>) -> Self {
        let (target, met) = (most.map_or("", |(_, words)| words), most.map(|(most, _)| measured <= most));
        Self { work: work.to_owned(), measured, unit, raw: None, target, met }
    }

    /// Bytes as a multiple of others, and the most that it may be.
    pub(crate) fn ratio(work: &str, part: u64, whole: u64, most: Option<(f64, &'static str)>) -> Self {
        Self::within(work, quotient(part, whole), "x", most)
    }

    fn shown(&self, value: f64) -> String {
        match self.unit {
            "/s" => format!("{:.0} k/s", value / 1e3),
            "x" => format!("{value:.3} x"),
            unit => format!("{value:.1} {unit}"),
        }
    }

    /// As JSON: no word here needs an escape.
    fn json(&self) -> String {
        let Self { work, measured, unit, raw, target, met } = self;
        let optional = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
        let baseline = optional(raw.map(|raw| raw.to_string()));
        let ratio = optional(raw.map(|raw| (measured / raw).to_string()));
        let met = optional(met.map(|met| met.to_string()));
        let against = if raw.is_some() { "the raw work alone" } else { "" };
        format!(
            r#"{{"work":"{work}","measured":{measured},"unit":"{unit}","baseline":{baseline},"against":"{against}","ratio":{ratio},"target":"{target}","met":{met}}}"#
        )
    }
}

pub(crate) fn print_table(rows: &[Row]) {
    println!("| work | figure | raw work alone | ratio | target | met |\n| --- | --- | --- | --- | --- | --- |");
    for row in rows {
        let Row { work, measured, raw, target, met, .. } = row;
        let ratio = raw.map_or_else(String::new, |raw| format!("{:.2}", measured / raw));
        let met = met.map_or("", |met| if met { "yes" } else { "no" });
        let raw = raw.map_or_else(String::new, |raw| row.shown(raw));
        println!("| {work} | {} | {raw} | {ratio} | {target} | {met} |", row.shown(*measured));
    }
}

pub(crate) fn print_json(size: u64, rows: &[Row]) {
    let rows: Vec<String> = rows.iter().map(Row::json).collect();
    let machine = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!(r#"{{"records":{size},"machine":"{machine} cores","figures":[{}]}}"#, rows.join(",\n"));
}

pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "a figure to print")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a figure to print")]
fn quotient(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

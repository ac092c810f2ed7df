//! The figures of a run, and how they are shown.

use serde::Serialize;
use serde_json::json;

use super::super::out;
use crate::clock::Clock;

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    work: String,
    measured: f64,
    unit: &'static str,
    /// What the machine does without us, in the same unit, and what that was.
    baseline: Option<f64>,
    against: &'static str,
    ratio: Option<f64>,
    target: String,
    met: Option<bool>,
}

/// All of a run.
#[derive(Debug)]
pub(super) struct Report {
    records: u64,
    figures: Vec<Figure>,
}

impl Report {
    pub(super) const fn new(records: u64) -> Self {
        Self { records, figures: Vec::new() }
    }

    /// A rate, and the share of the baseline that it is to reach.
    pub(super) fn share(
        &mut self,
        work: &str,
        measured: f64,
        baseline: f64,
        against: &'static str,
        least: Option<f64>,
    ) {
        let ratio = measured / baseline;
        self.figures.push(Figure {
            work: work.to_owned(),
            measured,
            unit: "/s",
            baseline: Some(baseline),
            against,
            ratio: Some(ratio),
            target: least.map_or_else(String::new, |least| format!(">= {:.0} %", least * 100.0)),
            met: least.map(|least| ratio >= least),
        });
    }

    /// A figure that is to stay below a bound.
    pub(super) fn at_most(&mut self, work: &str, measured: f64, unit: &'static str, most: Option<f64>) {
        self.figures.push(Figure {
            work: work.to_owned(),
            measured,
            unit,
            baseline: None,
            against: "",
            ratio: None,
            target: most.map_or_else(String::new, |most| format!("< {most} {unit}")),
            met: most.map(|most| measured < most),
        });
    }

    /// Prints a table, JSON, or what docs/BENCHMARKS.md holds.
    pub(super) fn print(&self, as_json: bool, as_markdown: bool) {
        let machine = machine();
        let date = Clock::System.now().to_string();
        if as_json {
            out::json(&json!({ "date": date, "machine": machine, "records": self.records, "figures": self.figures }));
            return;
        }
        out::line(format!("{} records, {date}, {machine}\n", self.records));
        if as_markdown {
            out::line("| work | measured | baseline | ratio | target | met |\n| --- | --- | --- | --- | --- | --- |");
        }
        for figure in &self.figures {
            let baseline = figure.baseline.map_or_else(String::new, |baseline| {
                format!("{} {} ({})", number(baseline), figure.unit, figure.against)
            });
            let ratio = figure.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let met = figure.met.map_or("", |met| if met { "yes" } else { "no" });
            let measured = format!("{} {}", number(figure.measured), figure.unit);
            let (work, target) = (&figure.work, &figure.target);
            out::line(if as_markdown {
                format!("| {work} | {measured} | {baseline} | {ratio} | {target} | {met} |")
            } else {
                format!("{work}: {measured}; baseline {baseline}; ratio {ratio}; target {target}; met {met}")
            });
        }
    }
}

fn number(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0} k", value / 1_000.0) } else { format!("{value:.2}") }
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    format!("{cpus} cores of {model}")
}

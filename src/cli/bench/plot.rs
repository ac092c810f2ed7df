//! How the figures grow with the records: one drawing (SVG) from the JSON of several runs.
//!
//! One panel for rates, one for times, one for memory, both axes logarithmic; a line is a figure that at least two runs of
//! different sizes have. A figure in words with brackets is the same whatever stands in them. The drawing brings its own
//! background, so that it can be read on any page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::CliError;
use super::runs::Run;

const WIDTH: f64 = 960.0;
const PANEL_HEIGHT: f64 = 330.0;
const LEFT: f64 = 84.0;
const PLOT_WIDTH: f64 = 420.0;
const TOP: f64 = 44.0;
const PLOT_HEIGHT: f64 = 240.0;
/// Least distance between two labels, one under the other.
const LABEL_STEP: f64 = 15.0;

/// Colours that can be told apart, with and without all cones, on white and on black.
const COLOURS: [&str; 10] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a6a00", "#56b4e9", "#8c564b", "#7f7f7f", "#9467bd", "#e6863b"];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}.t{font-size:14px;font-weight:600}.s{fill:#59636e}\
.b{fill:#fff}.g{stroke:#d1d9e0;stroke-width:1}.l{fill:none;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.b{fill:#0d1117}.g{stroke:#30363d}}";

/// Points by line: records and value.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// A panel's title, and the units that it shows with what each is worth there.
const PANELS: [(&str, &[(&str, f64)]); 3] = [
    ("Records a second", &[("/s", 1.0)]),
    ("Microseconds", &[("s", 1e6), ("ms", 1e3), ("µs", 1.0)]),
    ("MiB of memory", &[("MiB", 1.0)]),
];

/// The drawing.
pub(super) fn draw(runs: &[Run]) -> Result<String, CliError> {
    let panels: Vec<(&str, Lines)> = PANELS.iter().map(|(title, units)| (*title, lines(runs, units))).collect();
    let panels: Vec<(&str, Lines)> = panels.into_iter().filter(|(_, lines)| !lines.is_empty()).collect();
    if panels.is_empty() {
        return Err(CliError::usage("no figure is in two runs of different sizes: give the JSON of several"));
    }
    #[expect(clippy::cast_precision_loss, reason = "three panels")]
    let height = PANEL_HEIGHT * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\
         <title>Figures by records in the ledger</title><style>{STYLE}</style><rect class=\"b\" width=\"100%\" height=\"100%\"/>\n"
    );
    let mut top = 0.0;
    for (title, lines) in &panels {
        panel(&mut svg, top, title, lines);
        top += PANEL_HEIGHT;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// The lines of a panel: figures of its units that are there for two sizes.
fn lines(runs: &[Run], units: &[(&str, f64)]) -> Lines {
    let mut lines = Lines::new();
    for run in runs {
        for figure in &run.figures {
            if let Some((_, worth)) = units.iter().find(|(unit, _)| *unit == figure.unit) {
                let points = lines.entry(figure.line().to_owned()).or_default();
                #[expect(clippy::cast_precision_loss, reason = "records far below 2^52")]
                points.push((run.records as f64, figure.measured * worth));
            }
        }
    }
    lines.retain(|_, points| {
        points.retain(|(_, value)| *value > 0.0);
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        points.dedup_by(|(a, _), (b, _)| a.total_cmp(b).is_eq());
        points.len() > 1
    });
    lines
}

/// A logarithmic axis over whole decades.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let most = values.fold(0.0, f64::max).log10().ceil();
        Self { from: least, to: most.max(least + 1.0) }
    }

    /// Where a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value.log10() - self.from) / (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        #[expect(clippy::cast_possible_truncation, reason = "whole decades of figures that fit a double")]
        let (from, to) = (self.from as i32, self.to as i32);
        (from..=to).map(|decade| 10_f64.powi(decade))
    }
}

fn panel(svg: &mut String, top: f64, title: &str, lines: &Lines) {
    let x_axis = Axis::over(lines.values().flatten().map(|(records, _)| *records));
    let y_axis = Axis::over(lines.values().flatten().map(|(_, value)| *value));
    let x = |value: f64| LEFT + PLOT_WIDTH * x_axis.share(value);
    let y = |value: f64| top + TOP + PLOT_HEIGHT * (1.0 - y_axis.share(value));
    let (bottom, right) = (top + TOP + PLOT_HEIGHT, LEFT + PLOT_WIDTH);
    put(svg, format_args!("<text class=\"t\" x=\"{LEFT}\" y=\"{:.0}\">{title}</text>", top + 26.0));
    for decade in y_axis.decades() {
        let at = y(decade);
        put(svg, format_args!("<path class=\"g\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
        put(
            svg,
            format_args!(
                "<text class=\"s\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                number(decade)
            ),
        );
    }
    for decade in x_axis.decades() {
        let at = x(decade);
        put(svg, format_args!("<path class=\"g\" d=\"M{at:.1} {:.1}V{bottom:.1}\"/>", top + TOP));
        put(
            svg,
            format_args!(
                "<text class=\"s\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} records</text>",
                bottom + 18.0,
                number(decade)
            ),
        );
    }
    let mut ends: Vec<(f64, &str, &str)> = Vec::new();
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (index, (records, value)) in points.iter().enumerate() {
            let (at_x, at_y) = (x(*records), y(*value));
            let _ = write!(path, "{}{at_x:.1} {at_y:.1}", if index == 0 { 'M' } else { 'L' });
            put(svg, format_args!("<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
        }
        put(svg, format_args!("<path class=\"l\" stroke=\"{colour}\" d=\"{path}\"/>"));
        ends.push((points.last().map_or(bottom, |(_, value)| y(*value)), name, colour));
    }
    labels(svg, ends, right, bottom);
}

/// Names beside the lines' ends, moved apart where they would lie on each other.
fn labels(svg: &mut String, mut ends: Vec<(f64, &str, &str)>, right: f64, bottom: f64) {
    ends.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let mut places: Vec<f64> = Vec::with_capacity(ends.len());
    for (end, ..) in &ends {
        places.push(places.last().map_or(*end, |above| end.max(above + LABEL_STEP)));
    }
    // Those pushed below the panel come up again, and push the others.
    let mut limit = bottom + LABEL_STEP;
    for place in places.iter_mut().rev() {
        *place = place.min(limit - LABEL_STEP);
        limit = *place;
    }
    for ((end, name, colour), place) in ends.iter().zip(places) {
        let (from, to) = (right + 4.0, right + 26.0);
        put(svg, format_args!("<path d=\"M{from} {end:.1}L{to} {place:.1}\" stroke=\"{colour}\" fill=\"none\"/>"));
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        put(svg, format_args!("<text x=\"{:.0}\" y=\"{:.1}\">{name}</text>", to + 5.0, place + 4.0));
    }
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{element}");
}

fn number(value: f64) -> String {
    match value {
        1e9.. => format!("{} G", value / 1e9),
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        1.0.. => format!("{value}"),
        _ => format!("{value:.3}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(records: u64, figures: &[(&str, f64, &str)]) -> Run {
        let figures: Vec<_> = figures
            .iter()
            .map(|(work, measured, unit)| serde_json::json!({ "work": work, "measured": measured, "unit": unit }))
            .collect();
        serde_json::from_value(serde_json::json!({ "records": records, "figures": figures })).unwrap()
    }

    #[test]
    fn a_line_is_a_figure_of_two_sizes_in_the_panels_unit() {
        let runs = [
            run(1_000_000, &[("open", 12.0, "ms"), ("appends (groups of 54)", 150.0, "/s"), ("alone", 1.0, "s")]),
            run(100_000, &[("open", 0.01, "s"), ("appends (groups of 7)", 140.0, "/s"), ("disk", 1.2, "x")]),
        ];
        let times = lines(&runs, PANELS[1].1);
        assert_eq!(
            times.into_iter().collect::<Vec<_>>(),
            [("open".to_owned(), vec![(100_000.0, 10_000.0), (1_000_000.0, 12_000.0)])]
        );
        let rates = lines(&runs, PANELS[0].1);
        assert_eq!(rates.keys().collect::<Vec<_>>(), ["appends"]);
        assert!(lines(&runs, PANELS[2].1).is_empty());
    }

    #[test]
    fn an_axis_covers_whole_decades() {
        let axis = Axis::over([20.0, 3_000.0].into_iter());
        assert_eq!(axis.decades().collect::<Vec<_>>(), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((axis.share(10.0)).abs() < 1e-9);
        assert!((axis.share(100.0) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn labels_of_equal_ends_lie_apart_and_inside() {
        let mut svg = String::new();
        labels(&mut svg, vec![(100.0, "a", "#000"), (100.0, "b", "#000"), (100.0, "c<", "#000")], 10.0, 100.0);
        let places: Vec<f64> = svg
            .lines()
            .filter_map(|line| line.strip_prefix("<text ")?.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(places, [74.0, 89.0, 104.0]);
        assert!(svg.contains("c&lt;"));
    }
}

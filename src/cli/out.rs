//! Where commands write: text and tables for people, JSON for programs. A reader that goes away early is no error.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, LineStyle, Table};
use serde_json::Value;

/// Columns where the terminal does not say: wide enough for a table in a log.
const WIDTH_DEFAULT: u16 = 160;

/// Writes a line to standard output.
pub(crate) fn line(text: impl AsRef<str>) {
    // `govledger ... | head` closes the pipe; what is not read need not be written.
    let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
}

/// Writes a line to standard error: what is no part of the answer.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// Writes JSON, indented.
pub(crate) fn json(value: &Value) {
    line(format!("{value:#}"));
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// How a word stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Good.
    Good,
    /// Bad.
    Bad,
    /// Neither, but worth seeing.
    Warn,
    /// A heading.
    Strong,
}

/// A word in colour where a terminal reads it and `NO_COLOR` does not forbid.
pub(crate) fn tone(tone: Tone, text: &str) -> String {
    if !is_terminal() || crate::config::no_colour() {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => 32,
        Tone::Bad => 31,
        Tone::Warn => 33,
        Tone::Strong => 1,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// A table; says `empty` where there is no row.
pub(crate) fn table<R: IntoIterator<Item = Vec<String>>>(header: &[&str], rows: R, empty: &str) {
    let mut table = Table::new();
    table.load_style(
        UTF8_HORIZONTAL_ONLY
            .row_separator(LineStyle::none())
            .top_border(LineStyle::none())
            .bottom_border(LineStyle::none()),
    );
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !is_terminal() {
        table.set_width(WIDTH_DEFAULT);
    }
    table.set_header(header.to_vec());
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(row);
    }
    line(if any { table.to_string() } else { empty.to_owned() });
}

/// The text of a JSON value: nothing for null, strings without quotes.
pub(crate) fn text(value: &Value) -> String {
    if value.is_null() {
        return "-".to_owned();
    }
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A hash short enough to read and long enough to find.
pub(crate) fn short(value: &Value) -> String {
    let text = text(value);
    let digits = text.strip_prefix("sha256:").unwrap_or(&text);
    digits.chars().take(12).collect()
}

/// A time to the second, in UTC.
pub(crate) fn when(value: &Value) -> String {
    let Some(time) = value.as_str() else { return "-".to_owned() };
    let seconds = time.split_once('.').map_or_else(|| time.trim_end_matches('Z'), |(seconds, _)| seconds);
    seconds.replace('T', " ")
}

/// An engine: its version where it has one, and its short hash.
pub(crate) fn engine(object: &Value) -> String {
    match (object["version"].as_str(), object["engine_hash"].is_null()) {
        (_, true) => "none".to_owned(),
        (Some(version), false) => format!("{version} ({})", short(&object["engine_hash"])),
        (None, false) => short(&object["engine_hash"]),
    }
}

/// Percent-encodes all but RFC 3986 unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

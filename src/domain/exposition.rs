//! Prometheus' text exposition format, version 0.0.4, read strictly and without a binary float in between.
//!
//! In scope: one line at a time to its name, labels and the text of its value. Out of scope: what a metric means, and the
//! value as a number, which whoever knows the metric's unit reads.
//!
//! Invariants: every line is a sample, a comment, blank, or a fault that names the line and what stands there; nothing is
//! skipped over. (The crates that read this format turn values into `f64`, and pass over lines that they do not understand.)

use std::borrow::Cow;

/// Labels of one sample at the most: Triton writes four.
const LABELS_MAX: usize = 64;

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample<'a> {
    /// The line, from 1.
    pub line: usize,
    /// The metric's name.
    pub name: &'a str,
    /// Labels, in the order of the line.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value's text: a decimal number, or one of `NaN`, `+Inf`, `-Inf`.
    pub value: &'a str,
}

/// A line that is none of the format's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Sample<'_> {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_ref())
    }
}

/// The samples of a page, in its order.
pub fn samples(page: &str) -> impl Iterator<Item = Result<Sample<'_>, Fault>> {
    (1..).zip(page.split('\n')).filter_map(|(line, text)| {
        // Some servers end lines with CR LF.
        let text = text.strip_suffix('\r').unwrap_or(text).trim_matches([' ', '\t']);
        let is_sample = !text.is_empty() && !text.starts_with('#');
        is_sample.then(|| sample(line, text))
    })
}

fn sample(line: usize, text: &str) -> Result<Sample<'_>, Fault> {
    let fault = |problem| Fault { line, problem };
    let is_name = |byte: u8, first: bool| {
        byte.is_ascii_alphabetic() || byte == b'_' || byte == b':' || (!first && byte.is_ascii_digit())
    };
    let end = text.bytes().enumerate().position(|(index, byte)| !is_name(byte, index == 0)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err(fault("no metric's name at its beginning"));
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => labels(inner).map_err(fault)?,
        None if rest.len() == text.len() - name.len() => return Err(fault("nothing separates name and value")),
        None => (Vec::new(), rest),
    };
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = words.next().ok_or_else(|| fault("no value"))?;
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fault("a value that no number is written as"));
    }
    if let Some(stamp) = words.next() {
        let digits = stamp.strip_prefix('-').unwrap_or(stamp);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fault("what follows the value is no timestamp"));
        }
    }
    match words.next() {
        Some(_) => Err(fault("more than a value and a timestamp")),
        None => Ok(Sample { line, name, labels, value }),
    }
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = Labels::new();
    let mut rest = text.trim_start_matches([' ', '\t']);
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let is_label =
            |byte: u8, first: bool| byte.is_ascii_alphabetic() || byte == b'_' || (!first && byte.is_ascii_digit());
        let end = rest.bytes().enumerate().position(|(index, byte)| !is_label(byte, index == 0));
        let (name, after) = rest.split_at(end.ok_or("the labels are not closed")?);
        if name.is_empty() {
            return Err("a label without a name");
        }
        let after = after.trim_start_matches([' ', '\t']).strip_prefix('=').ok_or("a label without `=`")?;
        let quoted = after.trim_start_matches([' ', '\t']).strip_prefix('"').ok_or("a label's value is not quoted")?;
        let (value, after) = label_value(quoted)?;
        if labels.iter().any(|(known, _)| *known == name) {
            return Err("a label occurs twice");
        }
        if labels.len() == LABELS_MAX {
            return Err("more than 64 labels");
        }
        labels.push((name, value));
        rest = after.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches([' ', '\t']),
            None if rest.starts_with('}') => {}
            None => return Err("labels are not separated by a comma"),
        }
    }
}

/// A quoted value after its opening quote, and what follows the closing one.
fn label_value(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut value = Cow::Borrowed("");
    let mut from = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let rest = &text[from..at];
                if value.is_empty() {
                    value = Cow::Borrowed(rest);
                } else {
                    value.to_mut().push_str(rest);
                }
                return Ok((value, &text[at + 1..]));
            }
            b'\\' => {
                let escaped = match bytes.next().map(|(_, byte)| byte) {
                    Some(b'\\') => '\\',
                    Some(b'"') => '"',
                    Some(b'n') => '\n',
                    _ => return Err("an escape in a label's value that the format does not have"),
                };
                let owned = value.to_mut();
                owned.push_str(&text[from..at]);
                owned.push(escaped);
                from = at + 2;
            }
            _ => {}
        }
    }
    Err("a label's value is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

    fn check(page: &str, expected: &[Expected<'_>]) {
        let read: Vec<Sample<'_>> = samples(page).map(Result::unwrap).collect();
        let read: Vec<_> = read
            .iter()
            .map(|sample| {
                let labels: Vec<(&str, &str)> =
                    sample.labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
                (sample.name, labels, sample.value)
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(name, labels, value)| (*name, labels.to_vec(), *value)).collect();
        assert_eq!(read, expected, "{page:?}");
    }

    #[test]
    fn lines_as_the_format_has_them() {
        check("# HELP a b\n#TYPE a gauge\n\n \t\r\na 1\r\n", &[("a", &[], "1")]);
        check("a:b_2\t-1.5e+3  1700000000000", &[("a:b_2", &[], "-1.5e+3")]);
        check("a{} NaN\nb{ x = \"1\" , y=\"\", } +Inf", &[("a", &[], "NaN"), ("b", &[("x", "1"), ("y", "")], "+Inf")]);
        check(r#"a{x="q\"\\\n}," } 1"#, &[("a", &[("x", "q\"\\\n},")], "1")]);
        check(r#"a{x="\n"} 1"#, &[("a", &[("x", "\n")], "1")]);
    }

    #[test]
    fn what_is_no_such_line_is_named() {
        let fault = |text: &str| samples(&format!("ok 1\n{text}")).last().unwrap().unwrap_err();
        for (text, problem) in [
            ("<html>", "no metric's name at its beginning"),
            ("1a 2", "no metric's name at its beginning"),
            ("a", "nothing separates name and value"),
            ("a{}", "no value"),
            ("a 1\r\r", "a value that no number is written as"),
            ("a \u{661}", "a value that no number is written as"),
            ("a\u{e4} 1", "nothing separates name and value"),
            ("a 1 x", "what follows the value is no timestamp"),
            ("a 1 2 3", "more than a value and a timestamp"),
            ("a{x", "the labels are not closed"),
            ("a{=\"1\"} 1", "a label without a name"),
            ("a{x 1} 1", "a label without `=`"),
            ("a{x=1} 1", "a label's value is not quoted"),
            ("a{x=\"1} 1", "a label's value is not closed"),
            ("a{x=\"\\t\"} 1", "an escape in a label's value that the format does not have"),
            ("a{x=\"1\",x=\"2\"} 1", "a label occurs twice"),
            ("a{x=\"1\" y=\"2\"} 1", "labels are not separated by a comma"),
        ] {
            assert_eq!(fault(text), Fault { line: 2, problem }, "{text}");
        }
    }
}

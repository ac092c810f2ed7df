//! The policy's file: one definition a line.

use std::{fmt, str::FromStr};

use super::{NO_QUORUM, Threshold, TrustPolicy, TrustProblem};
use crate::{checkpoint::parse_decimal, note::VerifierKey};

/// The longest file that is read: all there can be, with comments.
const FILE_BYTES_MAX: usize = 256 << 10;

/// A file that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Longer than any that says what is allowed.
    #[error("a trust policy of {0} bytes is too long")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the trust policy is not UTF-8")]
    Text,
    /// A line with a control character in it.
    #[error("line {line} of the trust policy has a control character in it")]
    Control {
        /// Which, from 1.
        line: usize,
    },
    /// A line that defines nothing that is known.
    #[error("line {line} of the trust policy is {text:?}: {expected}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What it is.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A line that defines what cannot be.
    #[error("line {line} of the trust policy is {text:?}: {problem}")]
    Item {
        /// Which, from 1.
        line: usize,
        /// What it is.
        text: String,
        /// Why not.
        problem: TrustProblem,
    },
    /// No quorum.
    #[error("the trust policy has no quorum line; one that needs nobody says `quorum none`")]
    NoQuorum,
}

/// Why one line does not count.
enum Fault {
    Form(&'static str),
    Item(TrustProblem),
}

impl From<TrustProblem> for Fault {
    fn from(problem: TrustProblem) -> Self {
        Self::Item(problem)
    }
}

impl TrustPolicy {
    /// Reads a policy's file.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(TrustError::TooLong(bytes.len()));
        }
        str::from_utf8(bytes).map_err(|_error| TrustError::Text)?.parse()
    }

    /// Takes one line in. Whether it is the quorum.
    fn define(&mut self, words: &[&str], has_quorum: bool) -> Result<bool, Fault> {
        let key = |text: &str| VerifierKey::parse(text).map_err(|error| Fault::Item(error.into()));
        match *words {
            ["log", vkey] => self.add_log(key(vkey)?, None)?,
            ["log", vkey, url] => self.add_log(key(vkey)?, Some(url))?,
            ["witness", name, vkey] => self.add_witness(name, key(vkey)?, None)?,
            ["witness", name, vkey, url] => self.add_witness(name, key(vkey)?, Some(url))?,
            ["group", name, threshold, ref members @ ..] => {
                self.add_group(name, parse_threshold(threshold, members.len())?, members)?;
            }
            ["quorum", _] if has_quorum => return Err(Fault::Form("there is one quorum line, and this is another")),
            ["quorum", name] => {
                self.set_quorum(name)?;
                return Ok(true);
            }
            ["log", ..] => return Err(Fault::Form("it is `log VKEY [URL]`")),
            ["witness", ..] => return Err(Fault::Form("it is `witness NAME VKEY [URL]`")),
            ["group", ..] => return Err(Fault::Form("it is `group NAME all|any|NUMBER MEMBER…`")),
            ["quorum", ..] => return Err(Fault::Form("it is `quorum NAME` or `quorum none`")),
            _ => return Err(Fault::Form("a line begins with `log`, `witness`, `group` or `quorum`")),
        }
        Ok(false)
    }
}

fn parse_threshold(text: &str, members: usize) -> Result<Threshold, TrustProblem> {
    let count = || parse_decimal(text).and_then(|count| usize::try_from(count).ok()).map(Threshold::Count);
    match text {
        "any" => Ok(Threshold::Any),
        "all" => Ok(Threshold::All),
        _ => count().ok_or_else(|| TrustProblem::Threshold { found: text.to_owned(), members }),
    }
}

impl FromStr for TrustPolicy {
    type Err = TrustError;

    fn from_str(text: &str) -> Result<Self, TrustError> {
        let mut policy = Self::default();
        let mut has_quorum = false;
        for (line, text) in (1..).zip(text.split('\n')) {
            if text.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                return Err(TrustError::Control { line });
            }
            let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if words.first().is_none_or(|word| word.starts_with('#')) {
                continue;
            }
            has_quorum |= policy.define(&words, has_quorum).map_err(|fault| match fault {
                Fault::Form(expected) => TrustError::Line { line, text: text.to_owned(), expected },
                Fault::Item(problem) => TrustError::Item { line, text: text.to_owned(), problem },
            })?;
        }
        if has_quorum { Ok(policy) } else { Err(TrustError::NoQuorum) }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("any"),
            Self::All => formatter.write_str("all"),
            Self::Count(count) => write!(formatter, "{count}"),
        }
    }
}

/// The file that says the same.
impl fmt::Display for TrustPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |url: &Option<String>| url.as_ref().map_or_else(String::new, |url| format!(" {url}"));
        for log in &self.logs {
            writeln!(formatter, "log {}{}", log.key, with(&log.url))?;
        }
        for witness in &self.witnesses {
            writeln!(formatter, "witness {} {}{}", witness.name, witness.key, with(&witness.url))?;
        }
        for group in &self.groups {
            writeln!(formatter, "group {} {} {}", group.name, group.threshold, group.members.join(" "))?;
        }
        writeln!(formatter, "quorum {}", self.quorum.as_deref().unwrap_or(NO_QUORUM))
    }
}

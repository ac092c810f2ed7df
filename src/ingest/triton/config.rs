//! The `[[triton]]` tables.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// At least one scrape has to lie in the rule's window of a minute.
const INTERVAL_SECONDS_MAX: u64 = 60;
const TIMEOUT_SECONDS_MAX: u64 = 30;
/// The largest page: Triton's, with histograms of many models, has some hundred KiB.
const BODY_BYTES_MAX: usize = 64 << 20;
/// More servers than this are another program's.
const SERVERS_MAX: usize = 64;

/// One server to scrape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    /// The stack that it serves.
    pub stack: String,
    /// Its metrics page.
    pub url: String,
    /// Seconds from one scrape to the next.
    #[serde(default = "interval_seconds")]
    pub interval_seconds: u64,
    /// Seconds that it may take to answer.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Bytes of its page at the most.
    #[serde(default = "body_bytes_max")]
    pub body_bytes_max: usize,
}

const fn interval_seconds() -> u64 {
    15
}

const fn timeout_seconds() -> u64 {
    5
}

const fn body_bytes_max() -> usize {
    4 << 20
}

/// A table that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("triton.{field} is {value}: {problem}")]
pub struct ScrapeConfigError {
    /// The field.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What it should hold.
    pub problem: &'static str,
}

impl ScrapeConfig {
    /// What the server is called in entries: its URL without who asks and what for.
    pub fn instance(&self) -> String {
        let bare = self.url.split(['?', '#']).next().unwrap_or_default();
        match bare.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
                let host = authority.rsplit('@').next().unwrap_or_default();
                format!("{scheme}://{host}/{path}")
            }
            None => bare.to_owned(),
        }
    }
}

/// Whether the tables can be used together.
pub fn check(configs: &[ScrapeConfig]) -> Result<(), ScrapeConfigError> {
    let wrong = |field, value: String, problem| Err(ScrapeConfigError { field, value, problem });
    if configs.len() > SERVERS_MAX {
        return wrong("url", configs.len().to_string(), "at most 64 servers");
    }
    let mut seen = BTreeSet::new();
    for config in configs {
        if config.stack.is_empty() || config.stack.len() > 512 {
            return wrong("stack", format!("{:?}", config.stack), "a stack has a name of at most 512 bytes");
        }
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") {
            return wrong(
                "url",
                format!("{:?}", config.url),
                "an http or https URL of the page itself, such as http://gpu-1:8002/metrics",
            );
        }
        if !(1..=INTERVAL_SECONDS_MAX).contains(&config.interval_seconds) {
            return wrong(
                "interval_seconds",
                config.interval_seconds.to_string(),
                "from 1 to 60: the rule looks back a minute",
            );
        }
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&config.timeout_seconds) {
            return wrong("timeout_seconds", config.timeout_seconds.to_string(), "from 1 to 30");
        }
        if !(1_024..=BODY_BYTES_MAX).contains(&config.body_bytes_max) {
            return wrong("body_bytes_max", config.body_bytes_max.to_string(), "from 1024 to 67108864");
        }
        if !seen.insert((config.stack.clone(), config.instance())) {
            return wrong("url", format!("{:?}", config.url), "the stack has this server already");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identifies_a_server_names_nobody() {
        let named = |url: &str| {
            let config: ScrapeConfig = toml::from_str(&format!("stack = \"s\"\nurl = \"{url}\"")).unwrap();
            assert_eq!((config.interval_seconds, config.timeout_seconds), (15, 5));
            config.instance()
        };
        assert_eq!(named("http://gpu-1:8002/metrics"), "http://gpu-1:8002/metrics");
        assert_eq!(named("https://who:secret@gpu-1:8002/metrics?key=secret#x"), "https://gpu-1:8002/metrics");
        assert_eq!(named("http://gpu-1:8002"), "http://gpu-1:8002/");
    }

    #[test]
    fn tables_that_cannot_be_used_are_named() {
        let holds = |change: &str, field: &str| {
            let text = format!("stack = \"s\"\nurl = \"http://a/metrics\"\n{change}");
            let config: ScrapeConfig = toml::from_str(&text).unwrap();
            let found = check(std::slice::from_ref(&config)).map_err(|error| error.field);
            assert_eq!(found, if field.is_empty() { Ok(()) } else { Err(field_of(field)) }, "{change}");
        };
        holds("", "");
        holds("interval_seconds = 61", "interval_seconds");
        holds("interval_seconds = 0", "interval_seconds");
        holds("timeout_seconds = 0", "timeout_seconds");
        holds("body_bytes_max = 10", "body_bytes_max");
        let twice: ScrapeConfig = toml::from_str("stack = \"s\"\nurl = \"http://a/metrics\"").unwrap();
        assert_eq!(check(&[twice.clone(), twice]).unwrap_err().field, "url");
    }

    fn field_of(name: &str) -> &'static str {
        ["stack", "url", "interval_seconds", "timeout_seconds", "body_bytes_max"]
            .into_iter()
            .find(|known| *known == name)
            .unwrap()
    }
}

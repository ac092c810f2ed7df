//! One page, asked for within a time and read within a bound. No redirect is followed, and no proxy of the environment used.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::config::ScrapeConfig;
use crate::domain::envelope::hex;

/// A page as it came.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) text: String,
    pub(super) bytes: usize,
    pub(super) sha256: String,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No answer, or not in time.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// Another status than 200.
    #[error("the server answers {0} instead of 200")]
    Status(u16),
    /// More than is read.
    #[error("the page is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

pub(super) fn page(config: &ScrapeConfig) -> Result<Page, FetchError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("govledger/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(Duration::from_secs(config.timeout_seconds)))
        .build()
        .into();
    let mut response = agent
        .get(&config.url)
        .header("accept", "text/plain; version=0.0.4")
        .call()
        .map_err(|error| FetchError::Unreachable(error.to_string()))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status(status));
    }
    let max = config.body_bytes_max;
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    let bytes = response.body_mut().with_config().limit(limit).read_to_vec().map_err(|error| {
        if matches!(error, ureq::Error::BodyExceedsLimit(_)) {
            FetchError::TooLarge { max }
        } else {
            FetchError::Unreachable(error.to_string())
        }
    })?;
    // The format is UTF-8; what is not shows as a replacement character, which no metric's line holds.
    Ok(Page {
        bytes: bytes.len(),
        sha256: hex(&Sha256::digest(&bytes)),
        text: String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    })
}

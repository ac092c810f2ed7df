//! The `[notify]` table.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::NotifyError;
use crate::domain::time::Time;

/// Attempts after the first, in seconds from the one before: the schedule that the Standard Webhooks specification suggests.
const RETRY_SECONDS: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest wait between two attempts.
const WAIT_SECONDS_MAX: u64 = 7 * 86_400;
/// The most attempts of one message.
const ATTEMPTS_MAX: usize = 32;

/// Whom to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// Base URL of the links in messages: where people reach this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Alertmanagers.
    pub alertmanager: Vec<AlertmanagerConfig>,
    /// Webhooks.
    pub webhook: Vec<WebhookConfig>,
}

/// One Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// What this endpoint is called here; its cursor is kept under it.
    pub name: String,
    /// Its base URL, without `/api/v2/alerts`.
    pub url: String,
    /// A file (0600) with a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// How often what fires is sent again.
    #[serde(default = "resend_seconds")]
    pub resend_seconds: u64,
}

/// What a webhook is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookKind {
    /// Cost rules and waivers, for finance.
    Readiness,
    /// Every event of the types in `events`.
    Events,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// What this endpoint is called here; its cursor is kept under it.
    pub name: String,
    /// Where to post.
    pub url: String,
    /// What it is told of.
    pub kind: WebhookKind,
    /// Event types; `*` is all but cuts.
    #[serde(default)]
    pub events: BTreeSet<String>,
    /// A file (0600) with `whsec_…` lines: each signs (`v1`), so that a secret can be changed without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// A file (0600) with `whsk_…`, an Ed25519 seed: signs as `v1a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key_file: Option<PathBuf>,
    /// Whether the receiver may have a private, loopback or link-local address.
    #[serde(default)]
    pub allow_private: bool,
    /// Entries before this time are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Waits before each attempt after the first; then the message is a dead end.
    #[serde(default = "retry_seconds")]
    pub retry_seconds: Vec<u64>,
}

const fn resend_seconds() -> u64 {
    60
}

fn retry_seconds() -> Vec<u64> {
    RETRY_SECONDS.to_vec()
}

impl NotifyConfig {
    /// Finds what cannot work before anything is told.
    pub(super) fn check(&self) -> Result<(), NotifyError> {
        let mut names = BTreeSet::new();
        let alertmanagers = self.alertmanager.iter().map(|endpoint| (&endpoint.name, &endpoint.url));
        for (name, url) in alertmanagers.chain(self.webhook.iter().map(|endpoint| (&endpoint.name, &endpoint.url))) {
            check_name(name)?;
            if !names.insert(name) {
                return Err(wrong(name, "there are two of this name"));
            }
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(wrong(name, &format!("url is {url:?}, neither http:// nor https://")));
            }
        }
        self.alertmanager.iter().try_for_each(AlertmanagerConfig::check)?;
        self.webhook.iter().try_for_each(WebhookConfig::check)
    }
}

impl AlertmanagerConfig {
    fn check(&self) -> Result<(), NotifyError> {
        if (1..=3_600).contains(&self.resend_seconds) {
            return Ok(());
        }
        Err(wrong(&self.name, &format!("resend_seconds is {}; it is 1 to 3600", self.resend_seconds)))
    }
}

impl WebhookConfig {
    fn check(&self) -> Result<(), NotifyError> {
        if self.secret_file.is_none() && self.signing_key_file.is_none() {
            return Err(wrong(
                &self.name,
                "neither secret_file nor signing_key_file: nobody could tell it from a forgery",
            ));
        }
        if (self.kind == WebhookKind::Events) == self.events.is_empty() {
            return Err(wrong(&self.name, "`events` belongs to kind = \"events\", and to it alone"));
        }
        if self.retry_seconds.len() >= ATTEMPTS_MAX {
            return Err(wrong(&self.name, &format!("retry_seconds has more than {} waits", ATTEMPTS_MAX - 1)));
        }
        match self.retry_seconds.iter().find(|seconds| **seconds > WAIT_SECONDS_MAX) {
            Some(seconds) => Err(wrong(&self.name, &format!("a wait of {seconds} s is longer than a week"))),
            None => Ok(()),
        }
    }
}

/// A name becomes a file's.
fn check_name(name: &str) -> Result<(), NotifyError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
        return Err(wrong(name, "a name is 1 to 64 of a-z, 0-9, - and _"));
    }
    Ok(())
}

fn wrong(name: &str, reason: &str) -> NotifyError {
    NotifyError::Endpoint { name: name.to_owned(), reason: reason.to_owned() }
}

//! Where answers come from: a service, a data directory at rest, or a verified export. All answer the same questions.

mod client;
mod files;
mod keys;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub(crate) use client::{Client, Response};
pub(crate) use files::{Files, exported};
pub(crate) use keys::Keys;

use super::error::{CliError, Exit};
use super::out;
use crate::domain::time::Time;
use crate::projection::answers::Asked;

/// A past state to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// After this entry of the governance ledger.
    Position(u64),
    /// After the last entry not later than this.
    Time(Time),
}

impl std::str::FromStr for AsOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        text.parse().map(Self::Time).map_err(|error| format!("{error}, and no position"))
    }
}

impl std::fmt::Display for AsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// An answer, wherever it came from.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The JSON object.
    pub(crate) body: Value,
    /// The answer is no.
    pub(crate) negative: bool,
}

/// The file by which a running service is found.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ServiceFile {
    /// Where it listens.
    pub(crate) url: String,
    /// For whoever may read this file.
    pub(crate) token: String,
}

impl ServiceFile {
    /// Where it lies.
    pub(crate) fn path(data: &Path) -> PathBuf {
        data.join("service.json")
    }

    /// The service that runs on `data`, if one answers.
    pub(crate) fn running(data: &Path) -> Option<Client> {
        let path = Self::path(data);
        let text = std::fs::read_to_string(&path).ok()?;
        let file: Self = serde_json::from_str(&text).ok()?;
        let client = Client::new(&file.url, Some(file.token));
        if client.is_alive() {
            return Some(client);
        }
        out::note(format!(
            "note: {} names a service that does not answer; reading the directory itself",
            path.display()
        ));
        None
    }
}

/// What a reading command reads from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A service.
    Server(Client),
    /// Ledgers on this machine.
    Files(Files),
}

/// How the command line names it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// A service's URL.
    pub(crate) server: Option<String>,
    /// An export.
    pub(crate) export: Option<PathBuf>,
    /// Verifier keys to trust.
    pub(crate) vkey: Vec<PathBuf>,
    /// A file with the token to present.
    pub(crate) token_file: Option<PathBuf>,
}

impl Place {
    /// The token: from the file, else from the environment.
    pub(crate) fn token(&self) -> Result<Option<String>, CliError> {
        let Some(path) = &self.token_file else { return Ok(crate::config::token()) };
        let text = std::fs::read_to_string(path).map_err(super::error::file_error(path))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// The service that is named, or that runs on the data directory.
    pub(crate) fn service(&self) -> Result<Option<Client>, CliError> {
        match &self.server {
            Some(url) => Ok(Some(Client::new(url, self.token()?))),
            None => Ok(ServiceFile::running(&self.data)),
        }
    }

    /// Opens it to read from.
    pub(crate) fn open(&self) -> Result<Source, CliError> {
        if self.export.is_some() {
            return self.open_files().map(Source::Files);
        }
        match self.service()? {
            Some(client) => Ok(Source::Server(client)),
            None => self.open_files().map(Source::Files),
        }
    }

    /// Opens the export, or the data directory itself, whoever else may have it open.
    pub(crate) fn open_files(&self) -> Result<Files, CliError> {
        match &self.export {
            Some(export) => Files::export(export, &Keys::read(&self.vkey)?),
            None => Files::data(&self.data),
        }
    }
}

impl Source {
    /// Answers a question, about the present or about a past state.
    pub(crate) fn ask(&self, asked: &Asked, as_of: Option<AsOf>) -> Result<Reply, CliError> {
        match self {
            Self::Server(client) => client.ask(asked, as_of),
            Self::Files(files) => files.ask(asked, as_of),
        }
    }
}

/// The exit code of an answer.
pub(crate) fn exit(asked: &Asked, reply: &Reply) -> Exit {
    if !reply.negative {
        return Exit::Fine;
    }
    // Proven, and only the figures are old: waiting may help, going elsewhere will not.
    let stale = matches!(asked, Asked::LastGood { strict: true, .. }) && reply.body["confidence"] == "proven";
    if stale { Exit::Stale } else { Exit::No }
}

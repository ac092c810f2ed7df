//! A service, over HTTP.

use std::time::Duration;

use serde_json::Value;

use super::{AsOf, Reply};
use crate::cli::error::{CliError, Exit};
use crate::projection::answers::Asked;

/// How long a question may take: an answer about the past folds a ledger.
const ASK_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the service may take to say that it is there.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Asks a service.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    url: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) bytes: Vec<u8>,
}

impl Response {
    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// Whether the status says that it worked.
    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

impl Client {
    /// A client of the service at `url`.
    pub(crate) fn new(url: &str, token: Option<String>) -> Self {
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ASK_TIMEOUT)).build().into();
        Self { url: url.trim_end_matches('/').to_owned(), token, agent }
    }

    /// Where the service is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same service with another token.
    pub(crate) fn with_token(&self, token: String) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// Whether anybody answers.
    pub(crate) fn is_alive(&self) -> bool {
        let request =
            self.agent.get(format!("{}/healthz", self.url)).config().timeout_global(Some(ALIVE_TIMEOUT)).build();
        request.call().is_ok()
    }

    /// Gets a path.
    pub(crate) fn get(&self, path: &str) -> Result<Response, CliError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.call())
    }

    /// Posts a body.
    pub(crate) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl ureq::AsSendBody,
    ) -> Result<Response, CliError> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.send(body))
    }

    /// Posts what a reader yields; it may take as long as it takes.
    pub(crate) fn upload(&self, path: &str, body: &mut dyn std::io::Read) -> Result<Response, CliError> {
        let mut request =
            self.agent.post(format!("{}{path}", self.url)).header("content-type", "application/octet-stream");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.config().timeout_global(None).build();
        self.read(request.send(ureq::SendBody::from_reader(&mut ReadBox(body))))
    }

    /// Deletes a path.
    pub(crate) fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response, CliError> {
        let mut request = self.agent.delete(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.call())
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Response, CliError> {
        let unreachable = |error: ureq::Error| {
            CliError::new(
                Exit::Unreachable,
                format!("{} does not answer: {error}. Is `govledger serve` running there?", self.url),
            )
        };
        let mut answer = answer.map_err(unreachable)?;
        let bytes = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unreachable)?;
        Ok(Response { status: answer.status().as_u16(), bytes })
    }

    /// Gets a path, and fails where the service says no.
    pub(crate) fn fetch(&self, path: &str) -> Result<Vec<u8>, CliError> {
        let response = self.get(path)?;
        if response.is_success() { Ok(response.bytes) } else { Err(self.refusal(&response)) }
    }

    /// Asks a question.
    pub(crate) fn ask(&self, asked: &Asked, as_of: Option<AsOf>) -> Result<Reply, CliError> {
        let mut path = asked.path();
        if let Some(as_of) = as_of {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str("as_of=");
            path.push_str(&crate::cli::out::encode(&as_of.to_string()));
        }
        let response = self.get(&path)?;
        let body = response.json();
        // An answer of no may come under a status of its own; what makes it an answer is that it says of when it is.
        if body["as_of"].is_null() {
            return Err(self.refusal(&response));
        }
        let negative = !response.is_success() || says_no(asked, &body);
        Ok(Reply { body, negative })
    }

    /// What a response that is no answer means.
    pub(crate) fn refusal(&self, response: &Response) -> CliError {
        let body = response.json();
        let said = [&body["detail"], &body["title"]]
            .into_iter()
            .find_map(Value::as_str)
            .map_or_else(|| format!("status {}", response.status), str::to_owned);
        let text = format!("{}: {said}", self.url);
        match response.status {
            401 | 403 => CliError::new(
                Exit::Refused,
                format!("{text}. Present a token with --token-file FILE or GOVLEDGER_TOKEN"),
            ),
            404 => CliError::new(Exit::No, text),
            400 | 405 | 406 | 410..=412 | 414..=416 | 422 => CliError::usage(text),
            409 => CliError::new(Exit::Refused, text),
            408 | 413 | 429 | 502..=504 => CliError::new(Exit::Unreachable, text),
            _ => CliError::failed(text),
        }
    }
}

/// A reader that is sized, as the client wants it.
struct ReadBox<'a>(&'a mut dyn std::io::Read);

impl std::io::Read for ReadBox<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Whether an answer says no by what is in it.
fn says_no(asked: &Asked, body: &Value) -> bool {
    if let Asked::LastGood { strict, .. } = asked {
        return body["engine_hash"].is_null() || (*strict && body["confidence"] != "proven");
    }
    matches!(asked, Asked::Traffic { .. }) && body["open"] == false
}

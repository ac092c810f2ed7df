//! A small blocking HTTP client: every status is an answer, never an error.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response};

/// Above the 30 s after which the service itself answers that it took too long: with the same limit here, a request that a
/// loaded machine held up ended without any answer, and nobody could tell why.
const LIMIT: Duration = Duration::from_secs(45);

/// Bound of an answer's body, far above any that a test asks for.
const BODY_LIMIT: u64 = 256 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let wanted = name.to_ascii_lowercase();
        self.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.text()))
    }

    /// Panics with the body where the status is another one.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "status; body: {}", self.text());
        self
    }
}

/// Requests to one server, with one token.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Http {
    pub(crate) fn new(base: &str) -> Self {
        Self { agent: agent(Some(LIMIT)), base: base.trim_end_matches('/').to_owned(), token: None }
    }

    /// The same server, with a bearer token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {}{path}: {error}", self.base))
    }

    /// As `get`; an error where no answer comes at all.
    pub(crate) fn try_get(&self, path: &str) -> Result<Reply, String> {
        self.try_send("GET", path, &[], &[])
    }

    pub(crate) fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.post(path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send("POST", path, headers, body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {}{path}: {error}", self.base))
    }

    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        let response = self.agent.run(self.request(method, path, headers, body)).map_err(|error| error.to_string())?;
        read_reply(response)
    }

    /// Opens a stream of server-sent events; they are read on a thread of their own.
    pub(crate) fn events(&self, path: &str, last_event_id: Option<&str>) -> Events {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        let request = self.request("GET", path, &headers, &[]);
        let response = agent(None).run(request).unwrap_or_else(|error| panic!("GET {}{path}: {error}", self.base));
        assert_eq!(response.status().as_u16(), 200, "status of the event stream {path}");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut event = Event::default();
            for line in BufReader::new(response.into_body().into_reader()).lines() {
                let Ok(line) = line else { return };
                if line.is_empty() {
                    let whole = std::mem::take(&mut event);
                    if whole != Event::default() && sender.send(whole).is_err() {
                        return;
                    }
                } else {
                    event.take_line(&line);
                }
            }
        });
        Events { receiver }
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<Vec<u8>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.to_vec()).unwrap()
    }
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: String,
}

impl Event {
    fn take_line(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
    }
}

/// An open stream of events; dropping it closes the connection at the next event.
#[derive(Debug)]
pub(crate) struct Events {
    receiver: Receiver<Event>,
}

impl Events {
    /// The next event, or none where the stream ends or `limit` passes.
    pub(crate) fn next(&self, limit: Duration) -> Option<Event> {
        self.receiver.recv_timeout(limit).ok()
    }
}

fn agent(limit: Option<Duration>) -> Agent {
    Agent::config_builder().http_status_as_error(false).timeout_global(limit).proxy(None).build().into()
}

fn read_reply(mut response: Response<ureq::Body>) -> Result<Reply, String> {
    let headers = response.headers().iter();
    let headers = headers
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(BODY_LIMIT).read_to_vec().map_err(|error| error.to_string())?;
    Ok(Reply { status, headers, body })
}

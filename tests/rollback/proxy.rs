//! A proxy in front of the service that holds one request, before the service gets it or after it answered, until the test
//! has killed somebody; then the connection ends without an answer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::http::Http;

/// Where a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The service never gets it.
    Before,
    /// The service has answered, and nobody hears of it.
    After,
}

#[derive(Debug, Default)]
struct Armed {
    /// Requests that write, since it was armed.
    seen: usize,
    strike: Option<(usize, When, Sender<()>, Receiver<()>)>,
}

/// A proxy that serves as long as the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    url: String,
    armed: Arc<Mutex<Armed>>,
}

/// A request that is to be held.
#[derive(Debug)]
pub(crate) struct Strike {
    held: Receiver<()>,
    release: Sender<()>,
}

impl Strike {
    /// Waits until the request is held.
    pub(crate) fn wait(&self, limit: Duration) {
        self.held.recv_timeout(limit).unwrap();
    }

    /// Ends the connection.
    pub(crate) fn release(&self) {
        self.release.send(()).unwrap();
    }
}

impl Proxy {
    /// In front of what answers at `upstream`.
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let armed = Arc::new(Mutex::new(Armed::default()));
        let (shared, upstream) = (Arc::clone(&armed), Http::new(upstream));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, upstream) = (Arc::clone(&shared), upstream.clone());
                std::thread::spawn(move || pass(stream, &shared, &upstream));
            }
        });
        Self { url, armed }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Holds the `nth` request that writes, counted from one and from now.
    pub(crate) fn arm(&self, nth: usize, when: When) -> Strike {
        let ((struck, held), (release, released)) = (channel(), channel());
        *self.armed.lock().unwrap() = Armed { seen: 0, strike: Some((nth, when, struck, released)) };
        Strike { held, release }
    }
}

/// One request a connection.
fn pass(mut stream: TcpStream, armed: &Mutex<Armed>, upstream: &Http) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, path) = line.trim_end().rsplit_once(' ')?.0.split_once(' ')?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let held = (method == "POST").then(|| due(armed)).flatten();
    if let Some((When::Before, struck, released)) = &held {
        struck.send(()).ok()?;
        let _ = released.recv();
        return None;
    }
    let own = ["host", "content-length", "connection", "accept-encoding"];
    let kept: Vec<(&str, &str)> = headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let reply = upstream.try_send(method, path, &kept, &body).ok()?;
    if let Some((_, struck, released)) = &held {
        struck.send(()).ok()?;
        let _ = released.recv();
        return None;
    }
    let content_type = reply.header("content-type").unwrap_or("application/json").to_owned();
    write!(
        stream,
        "HTTP/1.1 {} -\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        reply.status,
        reply.body.len()
    )
    .ok()?;
    stream.write_all(&reply.body).ok()
}

/// Counts a request; what holds it, if this is the one.
fn due(armed: &Mutex<Armed>) -> Option<(When, Sender<()>, Receiver<()>)> {
    let mut armed = armed.lock().unwrap();
    armed.seen += 1;
    let seen = armed.seen;
    armed.strike.take_if(|(nth, ..)| *nth == seen).map(|(_, when, struck, released)| (when, struck, released))
}

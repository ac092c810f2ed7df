//! `/v1/stream`: governance entries as server-sent events, each with its position as id.
//!
//! Gap-free by construction: what is sent is read from the ledger up to the number of entries folded, and the signal of
//! progress only says when to look again. A client that reconnects with `Last-Event-ID` goes on after it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::ApiState;
use super::entries::row;
use super::guard::{Caller, is_still_known};
use super::problem::{Kind, Problem};
use super::read::{Query, reader};
use super::types::StreamEvent;
use crate::domain::leaf;

/// Entries read at once: bounds what a slow client holds.
const BLOCK: u64 = 256;
/// Proxies close connections that say nothing for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Feed {
    state: ApiState,
    next: u64,
    ready: VecDeque<Event>,
    progress: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
}

/// Opens a stream from `?from=` or after `Last-Event-ID`; without either, of what comes from now on.
pub(crate) async fn open(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::of(&uri, &["from"])?;
    let last =
        headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default()).filter(|text| !text.is_empty());
    let next = match last {
        Some(text) => text
            .parse::<u64>()
            .map_err(|_error| Problem::invalid("Last-Event-ID", format!("Last-Event-ID is {text:?}, not a position")))?
            .saturating_add(1),
        None => query.parsed("from", "a position")?.unwrap_or_else(|| state.handle().shared().governance().size),
    };
    let permit = state
        .streams()
        .clone()
        .try_acquire_owned()
        .map_err(|_error| Problem::new(Kind::Busy, "too many event streams are open; come again in 1 s"))?;
    let feed = Feed {
        progress: state.handle().shared().watch(),
        stopping: state.stopping(),
        caller,
        next,
        ready: VecDeque::new(),
        _permit: permit,
        state,
    };
    Ok(Sse::new(events(feed)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn events(feed: Feed) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(feed, |mut feed| async move {
        loop {
            if let Some(event) = feed.ready.pop_front() {
                return Some((Ok(event), feed));
            }
            if *feed.stopping.borrow() || !feed.still_allowed() {
                return None;
            }
            // Marked as seen before the read: progress made meanwhile wakes the wait below at once.
            let folded = *feed.progress.borrow_and_update();
            if feed.next < folded {
                feed.fill(folded).await?;
                continue;
            }
            let ended = tokio::select! {
                changed = feed.progress.changed() => changed.is_err(),
                _ = feed.stopping.changed() => true,
            };
            if ended {
                return None;
            }
        }
    })
}

impl Feed {
    /// A token that was taken away ends the stream.
    fn still_allowed(&self) -> bool {
        is_still_known(&self.state, &self.caller)
    }

    /// Reads the next block. `None` ends the stream: the client reconnects and finds out what is wrong.
    async fn fill(&mut self, folded: u64) -> Option<()> {
        let (state, from) = (self.state.clone(), self.next);
        let to = folded.min(from + BLOCK);
        let read = tokio::task::spawn_blocking(move || read(&state, from, to)).await.ok()?;
        match read {
            Ok(events) => {
                self.next += events.len() as u64;
                self.ready.extend(events);
                Some(())
            }
            Err(problem) => {
                tracing::error!(detail = problem.detail, from, "stream.failed");
                None
            }
        }
    }
}

fn read(state: &ApiState, from: u64, to: u64) -> Result<Vec<Event>, Problem> {
    let reader = reader(state, "governance")?;
    let mut events = Vec::new();
    reader.for_each_entry(from..to, |position, entry| {
        let row = row(state, "governance", position, entry);
        let name = row.event_type.clone().unwrap_or_else(|| "unreadable".to_owned());
        let data = StreamEvent { row, body: String::from_utf8_lossy(leaf::body(entry)).into_owned() };
        let json = serde_json::to_string(&data).unwrap_or_default();
        // An event name may hold no line break; a sender's type can hold anything.
        let name: String = name.chars().filter(|character| !character.is_control()).collect();
        events.push(Event::default().id(position.to_string()).event(name).data(json));
        ControlFlow::Continue(())
    })?;
    Ok(events)
}

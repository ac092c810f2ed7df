//! The HTTP API: JSON for programs, the ledgers' tiles, and the pages of `web`.
//!
//! In scope: who may ask what (`routes::ROUTES` is the one table of it), turning requests into questions, submissions and
//! commands, and answers into JSON. Out of scope: deciding anything; every verdict comes from the fold.
//!
//! Invariants: nothing is answered as done before it is durable; a write that may yet succeed is never answered as failed
//! (202, or a timeout that says so); every body, queue and stream has a bound.

mod access;
mod backups;
mod commands;
mod entries;
mod files;
mod govern;
mod guard;
mod health;
mod incidents;
mod meters;
mod openapi;
mod people;
mod precondition;
mod problem;
mod read;
mod roles;
mod routes;
mod schemas;
mod shadow;
mod stream;
mod tiles;
mod traffic;
mod types;
mod write;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use crate::domain::legacy_signature::Secret;
use crate::domain::principal::token_sha256;
use crate::identity::last_use::LastUses;
use crate::identity::oidc::Providers;
use crate::identity::rate::{Buckets, Rate};
use crate::identity::trail::Trail;
use crate::notify::{Deliveries, DeliveriesAnswer, Witnessed};
use crate::sequencer::Handle;
pub(crate) use access::rows as access_rows;
pub use access::{AccessAnswer, AccessRow};
use meters::Meters;
pub use openapi::openapi;
pub use people::{IssuerRow, PrincipalRow, PrincipalsAnswer, TokenRow};
use problem::Kind;
pub use problem::{ElementError, Problem, ProblemDetails};
pub use roles::roles_table;
pub use schemas::schemas;
pub use types::{
    CommandReply, EntriesAnswer, EntryAnswer, EntryRow, EventsReply, HealthAnswer, MetricsReply, PendingReply,
    ReadyAnswer, StreamEvent,
};

/// How the API is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Reads need no token. Writes always do.
    pub open_reads: bool,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// The largest body once decompressed, in bytes.
    pub decompressed_bytes_max: usize,
    /// The largest backfill, in bytes; it is spooled to disk.
    pub backfill_bytes_max: u64,
    /// Requests under way at once; more are told to come again.
    pub requests_max: usize,
    /// Event streams open at once.
    pub streams_max: usize,
    /// How often principals may ask, and how much they may send.
    pub limits: PrincipalLimits,
    /// How long ago somebody may have signed in at a provider to approve something, in seconds.
    pub approval_auth_seconds_max: u64,
    /// The legacy log's shared secret, to show whether its signatures hold. From the environment alone.
    #[serde(skip)]
    pub legacy_secret: Option<Secret>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7_710)),
            open_reads: false,
            // Four thousand provider logs of ordinary size, or one legacy log of a year.
            body_bytes_max: 16 << 20,
            decompressed_bytes_max: 64 << 20,
            backfill_bytes_max: 16 << 30,
            requests_max: 512,
            streams_max: 128,
            limits: PrincipalLimits::default(),
            approval_auth_seconds_max: 300,
            legacy_secret: None,
        }
    }
}

/// Bounds on what one principal may ask. Whoever is unknown shares one bucket with all others who are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrincipalLimits {
    /// Requests a second, in the long run; 0 for no bound.
    pub requests_per_second: u32,
    /// Requests at once.
    pub requests_burst: u32,
    /// Other bounds for some, by name.
    pub of: BTreeMap<String, OwnLimits>,
}

/// Bounds of one principal; what is absent is as for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnLimits {
    /// Requests a second, in the long run; 0 for no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u32>,
    /// The largest body, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<usize>,
}

impl Default for PrincipalLimits {
    fn default() -> Self {
        // Far above what a dashboard, a shipper of batches or a person asks; a loop that went wrong is above it.
        Self { requests_per_second: 2_000, requests_burst: 4_000, of: BTreeMap::new() }
    }
}

impl PrincipalLimits {
    fn rate(&self, name: &str) -> Rate {
        let own = self.of.get(name);
        Rate {
            per_second: own.and_then(|own| own.requests_per_second).unwrap_or(self.requests_per_second),
            burst: own.and_then(|own| own.requests_burst).unwrap_or(self.requests_burst),
        }
    }

    fn body_bytes_max(&self, name: &str) -> Option<usize> {
        self.of.get(name).and_then(|own| own.body_bytes_max)
    }
}

/// Hand-ins of files' lines at once.
const FILE_LINES_MAX: usize = 64;
/// How often last uses of tokens are written down.
const LAST_USES_EVERY: Duration = Duration::from_mins(1);

/// What the handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handle: Handle,
    config: ApiConfig,
    local_token_sha256: Option<String>,
    /// Number of the next request that hands something in. Within a run it never repeats. It starts at the number of all entries,
    /// so it goes on above what was numbered before, unless more requests were turned away (503) than entries came of the
    /// others: it is a caption for people, and nothing is found or told apart by it.
    requests: AtomicU64,
    in_flight: Semaphore,
    streams: Arc<Semaphore>,
    /// One backfill at a time: each checks against the last cut before it appends.
    backfills: Arc<Semaphore>,
    /// Each hand-in of a file's lines holds a thread of the pool that others wait for, and in Kafka mode waits for one itself.
    file_lines: Arc<Semaphore>,
    /// One dry run at a time: each reads millions of records.
    dry_runs: Arc<Semaphore>,
    meters: Meters,
    stopping: watch::Sender<bool>,
    buckets: Buckets,
    last_uses: LastUses,
    /// Set once, at start.
    trail: OnceLock<Trail>,
    /// Set once, where any is configured.
    providers: OnceLock<Providers>,
    /// Set once, where this node tells anybody.
    deliveries: OnceLock<Deliveries>,
    /// Set once, where this node asks witnesses.
    witnessed: OnceLock<Witnessed>,
}

impl ApiState {
    /// State over a running writer; `local_token` is that of the data directory's owner.
    pub fn new(handle: Handle, config: ApiConfig, local_token: Option<String>) -> Self {
        let entries = handle.shared().readers().values().map(ledger::Reader::size).sum();
        let (stopping, _) = watch::channel(false);
        Self(Arc::new(Inner {
            local_token_sha256: local_token.map(|token| token_sha256(&token)),
            requests: AtomicU64::new(entries),
            in_flight: Semaphore::new(config.requests_max),
            streams: Arc::new(Semaphore::new(config.streams_max)),
            backfills: Arc::new(Semaphore::new(1)),
            file_lines: Arc::new(Semaphore::new(FILE_LINES_MAX)),
            dry_runs: Arc::new(Semaphore::new(1)),
            meters: Meters::new(),
            stopping,
            buckets: Buckets::default(),
            last_uses: LastUses::open(handle.data_dir().root().join("last-use.json")),
            trail: OnceLock::new(),
            providers: OnceLock::new(),
            deliveries: OnceLock::new(),
            witnessed: OnceLock::new(),
            handle,
            config,
        }))
    }

    /// Shows what a notifier did at `/v1/deliveries`.
    pub fn show_deliveries(&self, deliveries: Deliveries) {
        // Set at start alone; a second notifier would be a defect of the caller, and the first one stays.
        let _ = self.0.deliveries.set(deliveries);
    }

    /// Shows how the witnesses are at `/v1/deliveries`.
    pub fn show_witnesses(&self, witnessed: Witnessed) {
        // Set at start alone, as above.
        let _ = self.0.witnessed.set(witnessed);
    }

    /// Takes bearer tokens of these identity providers.
    pub fn know(&self, providers: Providers) {
        if !providers.is_empty() {
            // Set at start alone, as above.
            let _ = self.0.providers.set(providers);
        }
    }

    /// Keeps a trail of who was let in to what.
    pub fn keep(&self, trail: Trail) {
        // Set at start alone, as above.
        let _ = self.0.trail.set(trail);
    }

    fn trail(&self) -> Option<&Trail> {
        self.0.trail.get()
    }

    fn providers(&self) -> Option<&Providers> {
        self.0.providers.get()
    }

    pub(crate) fn deliveries(&self) -> DeliveriesAnswer {
        let endpoints = self.0.deliveries.get().map(Deliveries::endpoints).unwrap_or_default();
        let witnesses = self.0.witnessed.get().map(Witnessed::rows).unwrap_or_default();
        let cosigned = self.0.witnessed.get().and_then(Witnessed::cosigned);
        DeliveriesAnswer { endpoints, witnesses, cosigned, size: self.handle().shared().governance().size }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    pub(crate) fn config(&self) -> &ApiConfig {
        &self.0.config
    }

    fn local_token_sha256(&self) -> Option<&str> {
        self.0.local_token_sha256.as_deref()
    }

    fn next_request(&self) -> u64 {
        self.0.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn in_flight(&self) -> &Semaphore {
        &self.0.in_flight
    }

    fn streams(&self) -> &Arc<Semaphore> {
        &self.0.streams
    }

    fn buckets(&self) -> &Buckets {
        &self.0.buckets
    }

    fn last_uses(&self) -> &LastUses {
        &self.0.last_uses
    }

    fn store_last_uses(&self) {
        let governance = self.handle().shared().governance();
        let is_held = |sha256: &str| governance.principals.by_token_sha256(sha256).is_some();
        if let Err(error) = self.0.last_uses.store(is_held) {
            // It is a help and no record: serving goes on without.
            tracing::warn!(%error, "last_use.not_written");
        }
    }

    fn meters(&self) -> &Meters {
        &self.0.meters
    }

    fn backfills(&self) -> &Arc<Semaphore> {
        &self.0.backfills
    }

    fn file_lines(&self) -> &Arc<Semaphore> {
        &self.0.file_lines
    }

    fn dry_runs(&self) -> &Arc<Semaphore> {
        &self.0.dry_runs
    }

    /// The answer to a question, for a page.
    pub(crate) fn ask_for_page(&self, path: &str) -> Result<serde_json::Value, Problem> {
        let uri: Uri = path.parse().map_err(|_error| Problem::not_found(format!("{path:?} is no path")))?;
        Ok(read::ask(self, &uri)?.1.body)
    }

    fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }
}

/// The router over all routes.
fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in routes::ROUTES {
        let guarded =
            (route.handler)().route_layer(axum::middleware::from_fn_with_state((state.clone(), route), guard::guard));
        router = router.route(route.path, guarded);
    }
    let router = router.fallback(no_route).method_not_allowed_fallback(no_method);
    if shadow::mode(&state) == shadow::SHADOW {
        return router.layer(axum::middleware::from_fn(shadow::say)).with_state(state);
    }
    router.with_state(state)
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no path {:?}; /openapi.json lists them", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{:?} does not take {method}", uri.path()))
}

async fn note_last_uses(state: ApiState) {
    let mut ticks = tokio::time::interval(LAST_USES_EVERY);
    loop {
        ticks.tick().await;
        let state = state.clone();
        let _stored = tokio::task::spawn_blocking(move || state.store_last_uses()).await;
    }
}

/// Serves until `shutdown`; requests under way are finished, streams are ended.
pub async fn serve(
    listener: tokio::net::TcpListener,
    state: ApiState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    files::clear_spool(state.handle().data_dir().root());
    let sampler = tokio::spawn(meters::sample(state.clone()));
    let (noting, last) = (tokio::spawn(note_last_uses(state.clone())), state.clone());
    let stopping = state.clone();
    let stop = async move {
        shutdown.await;
        stopping.0.stopping.send_replace(true);
    };
    let served = axum::serve(listener, router(state)).with_graceful_shutdown(stop).await;
    sampler.abort();
    noting.abort();
    let ended = tokio::task::spawn_blocking(move || {
        last.store_last_uses();
        last.trail().inspect(|trail| trail.stop());
    });
    let _ended = ended.await;
    served
}

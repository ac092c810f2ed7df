//! What `/v1/deliveries` shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::kept::{DeadEnd, Kept, Pending};
use super::witnesses::{CosignedRow, WitnessRow};
use crate::domain::time::Time;

/// What kind of receiver it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// Alertmanager, API v2.
    Alertmanager,
    /// A webhook.
    Webhook,
}

/// How an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It takes what it is sent.
    Active,
    /// The last attempt failed; it is tried again.
    Failing,
    /// It answered 410: nothing is sent until the service is started again.
    Disabled,
}

/// One receiver, and what became of what it was to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Endpoint {
    /// As the configuration calls it.
    pub name: String,
    /// What kind.
    pub kind: EndpointKind,
    /// Scheme and host.
    pub url: String,
    /// How it is.
    pub state: EndpointState,
    /// Governance entries before this position are told, pending or dead ends.
    pub cursor: u64,
    /// Messages taken since the endpoint was set up.
    pub delivered: u64,
    /// Attempts that failed since the start; most are made again.
    pub failed_total: u64,
    /// When one was last taken, since the start.
    pub last_taken: Option<Time>,
    /// What was last wrong, since the start.
    pub last_error: Option<String>,
    /// The public key by which its `v1a` signatures are checked.
    pub verify_key: Option<String>,
    /// Messages that are tried again, soonest first; at most a hundred of them are listed.
    pub pending: Vec<Pending>,
    /// How many there are.
    pub pending_total: u64,
    /// Messages that were given up, latest last; the last hundred.
    pub dead: Vec<DeadEnd>,
    /// How many there are.
    pub dead_total: u64,
}

/// Pending messages listed.
const PENDING_SHOWN: usize = 100;

impl Endpoint {
    /// One that has not been told anything yet. Of its URL only what is no secret is shown: paths and queries may be.
    pub(super) fn new(name: &str, kind: EndpointKind, url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        Self {
            name: name.to_owned(),
            kind,
            url: format!("{scheme}://{host}"),
            state: EndpointState::Active,
            cursor: 0,
            delivered: 0,
            failed_total: 0,
            last_taken: None,
            last_error: None,
            verify_key: None,
            pending: Vec::new(),
            pending_total: 0,
            dead: Vec::new(),
            dead_total: 0,
        }
    }

    /// Shows what is kept.
    pub(super) fn take(&mut self, kept: &Kept) {
        self.cursor = kept.cursor;
        self.delivered = kept.delivered;
        self.pending = kept.pending.iter().take(PENDING_SHOWN).cloned().collect();
        self.pending_total = kept.pending.len() as u64;
        self.dead.clone_from(&kept.dead);
        self.dead_total = kept.dead_total;
    }
}

/// All receivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeliveriesAnswer {
    /// By name; none where this node tells nobody.
    pub endpoints: Vec<Endpoint>,
    /// The witnesses of the policy in force, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<WitnessRow>,
    /// The latest checkpoint that had its quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosigned: Option<CosignedRow>,
    /// Governance entries folded: a cursor that is there has nothing left to tell.
    pub size: u64,
}

/// The endpoints as their threads last left them.
#[derive(Debug, Clone, Default)]
pub struct Deliveries(Arc<Mutex<BTreeMap<String, Endpoint>>>);

impl Deliveries {
    /// All endpoints, by name.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn put(&self, endpoint: &Endpoint) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.name.clone(), endpoint.clone());
    }
}

//! Rollbacks under way, in words: who claims one, how far it is, who gives it up.
//!
//! In scope: the types and their names on the wire. Out of scope: deciding and folding, which `projection::rollbacks` does, and
//! doing, which the command line or another program does on the serving host.

use serde::{Deserialize, Serialize};

use super::principal::Role;
use super::refusal::Refusal;

/// What is asked about a rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RollbackWork {
    /// Begins one, continues one that stopped, or takes over one whose process is gone.
    Claim(RollbackClaim),
    /// Says how far it is.
    Step(RollbackStep),
    /// Gives it up.
    Abandon(RollbackAbandon),
}

/// Begins a rollback, continues one that stopped, or takes over one whose process is gone. One holds it at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackClaim {
    /// The stack.
    pub stack: String,
    /// The engine that is to serve.
    pub to: String,
    /// The backup that it is restored from.
    pub backup_id: String,
    /// Why.
    pub reason: String,
    /// The incident that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// For practice: it closes no gate and replaces no engine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
    /// Where it is done.
    pub host: String,
    /// Which process does it, as the host knows it.
    pub process: String,
    /// The attempt that it takes over: its process is gone, says whoever claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<u64>,
}

/// What a rollback consists of, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The backup's files are on the host, and every hash holds.
    Restore,
    /// The server loads them; the files hash the same afterwards, and where it can be proved, they are what is served.
    Reload,
    /// The warm-up ran.
    WarmUp,
    /// A rehearsal is over. A rollback is completed by `llm_rollback_completed`.
    Complete,
}

/// How a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// It begins: of `reload`, the gate closes here, before the server is touched.
    Begun,
    /// It succeeded.
    Done,
    /// It failed: the rollback stops here, and the gate is closed.
    Failed,
}

/// Says how far a rollback is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackStep {
    /// The stack.
    pub stack: String,
    /// The entry of the claim that this belongs to. A claim that was taken over says nothing any more.
    pub attempt: u64,
    /// The stage.
    pub stage: Stage,
    /// How it is.
    pub state: StageState,
    /// Why it failed, by a code that never changes its meaning: `rollback_reload_failed` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// In words.
    #[serde(default)]
    pub detail: String,
}

/// Gives a rollback up. Once the server was touched, the current engine has to be warmed up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackAbandon {
    /// The stack.
    pub stack: String,
    /// The attempt that is given up.
    pub attempt: u64,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
impl RollbackClaim {
    /// One as tests need it.
    pub(crate) fn of(stack: &str, to: &str, rehearsal: bool) -> Self {
        Self {
            stack: stack.into(),
            to: to.into(),
            backup_id: "b".into(),
            reason: "slow".into(),
            incident: None,
            rehearsal,
            host: "h".into(),
            process: "p".into(),
            takes_over: None,
        }
    }
}

impl Stage {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Reload => "reload",
            Self::WarmUp => "warm_up",
            Self::Complete => "complete",
        }
    }
}

/// The id of the rollback that the claim at `position` began.
pub fn rollback_id(position: u64) -> String {
    format!("rb-{position}")
}

/// Whether `event_type` is that of one of [`RollbackWork`].
pub fn is_work(event_type: &str) -> bool {
    matches!(event_type, "llm_rollback_claimed" | "llm_rollback_step" | "llm_rollback_abandoned")
}

impl RollbackWork {
    /// The event type that an admitted one is.
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::Claim(_) => "llm_rollback_claimed",
            Self::Step(_) => "llm_rollback_step",
            Self::Abandon(_) => "llm_rollback_abandoned",
        }
    }

    /// The roles that may ask this: whoever publishes engines may go back to one.
    pub const fn roles(&self) -> &'static [Role] {
        &[Role::Publisher, Role::Oncall, Role::Admin]
    }

    /// The stack that it is about.
    pub fn stack(&self) -> &str {
        match self {
            Self::Claim(claim) => &claim.stack,
            Self::Step(step) => &step.stack,
            Self::Abandon(abandon) => &abandon.stack,
        }
    }

    /// The engine that it names.
    pub fn engine_hash(&self) -> Option<&str> {
        match self {
            Self::Claim(claim) => Some(&claim.to),
            Self::Step(_) | Self::Abandon(_) => None,
        }
    }

    /// In one line of plain words.
    pub fn summary(&self) -> String {
        match self {
            Self::Claim(claim) => {
                let engine: String = claim.to.trim_start_matches("sha256:").chars().take(12).collect();
                let what = if claim.rehearsal { "rehearsal of a rollback" } else { "rollback" };
                let over = claim.takes_over.map(|entry| format!(", taking over entry {entry}")).unwrap_or_default();
                format!("{what} to {engine} on {}{over}: {}", claim.host, claim.reason)
            }
            Self::Step(step) => {
                let state = match step.state {
                    StageState::Begun => "begun",
                    StageState::Done => "done",
                    StageState::Failed => "FAILED",
                };
                let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
                format!("rollback: {} {state}{detail}", step.stage.as_str().replace('_', "-"))
            }
            Self::Abandon(abandon) => format!("rollback abandoned: {}", abandon.reason),
        }
    }

    /// Reads what `event_type` asks from its JSON; none where it is no such type.
    pub fn read(event_type: &str, json: &str) -> Option<Result<Self, Refusal>> {
        fn typed<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Refusal> {
            serde_json::from_str(json).map_err(|error| Refusal::from_json(&error, json))
        }
        Some(match event_type {
            "llm_rollback_claimed" => typed(json).map(Self::Claim),
            "llm_rollback_step" => typed(json).map(Self::Step),
            "llm_rollback_abandoned" => typed(json).map(Self::Abandon),
            _ => return None,
        })
    }
}

//! Questions as values, and their one text form: the path that the API serves.

use crate::domain::event::AlertState;

/// Rows of the `rejected` view in one answer, at the most and by default.
pub(super) const REJECTED_LIMIT: usize = 1_000;

/// A question about the governed stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All stacks.
    Stacks,
    /// One stack, in short.
    Stack {
        /// The stack.
        stack: String,
    },
    /// The current engine and its manifest.
    Manifest {
        /// The stack.
        stack: String,
    },
    /// The engine that is safe to go back to.
    LastGood {
        /// The stack.
        stack: String,
        /// Leave the current engine out.
        not_current: bool,
        /// Only a proven engine will do, evaluated just now.
        strict: bool,
    },
    /// The traffic gate.
    Traffic {
        /// The stack.
        stack: String,
        /// Asks about this engine alone.
        engine: Option<String>,
    },
    /// What happened.
    Timeline {
        /// The stack.
        stack: String,
        /// Only around this incident.
        incident: Option<String>,
    },
    /// One screen for somebody who was just woken.
    Now {
        /// The stack.
        stack: String,
    },
    /// The plan of a rollback, and the one under way.
    Rollback {
        /// The stack.
        stack: String,
    },
    /// The rules with their figures.
    Slo {
        /// The stack.
        stack: String,
    },
    /// How much of it is used.
    Capacity {
        /// The stack.
        stack: String,
    },
    /// Alerts.
    Alerts {
        /// On this stack alone.
        stack: Option<String>,
        /// In this state alone.
        state: Option<AlertState>,
        /// The provider's own as well.
        all: bool,
    },
    /// Waivers.
    Waivers {
        /// On this stack alone.
        stack: Option<String>,
    },
    /// One waiver.
    Waiver {
        /// Its id.
        id: String,
    },
    /// Incidents.
    Incidents {
        /// On this stack alone.
        stack: Option<String>,
    },
    /// One incident with its timeline.
    Incident {
        /// Its id.
        id: String,
    },
    /// The report of one incident.
    IncidentReport {
        /// Its id.
        id: String,
    },
    /// Backups.
    Backups {
        /// Of this stack alone.
        stack: Option<String>,
    },
    /// The policy in force, and what was put forward.
    Policy {
        /// As it applies to this stack.
        stack: Option<String>,
    },
    /// One policy that was put forward.
    Proposal {
        /// Its id.
        id: String,
    },
    /// Maintenance windows.
    Maintenance {
        /// On this stack alone.
        stack: Option<String>,
    },
    /// Keys of authors and nodes.
    Keys,
    /// How a command ended.
    Command {
        /// Its id.
        id: String,
    },
    /// Refused governance entries.
    Rejected {
        /// After this position.
        after: Option<u64>,
        /// At most so many.
        limit: usize,
    },
}

/// A path that asks nothing known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} asks nothing known: {reason}")]
pub struct AskedError {
    /// The path.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Asked {
    /// Whether the answer needs the metrics folds: the rules' figures, what a waiver of a firing alert may cost, and what an
    /// incident that goes on has cost so far.
    pub const fn needs_metrics(&self) -> bool {
        matches!(
            self,
            Self::Slo { .. }
                | Self::Capacity { .. }
                | Self::IncidentReport { .. }
                | Self::Alerts { state: Some(AlertState::Firing), .. }
        )
    }

    /// The path and query that ask this.
    pub fn path(&self) -> String {
        let stack = |name: &str, what: &str, pairs: &[(&str, Option<&str>)]| {
            format!("/v1/stacks/{}{what}{}", encode(name), query(pairs))
        };
        match self {
            Self::Stacks => "/v1/stacks".to_owned(),
            Self::Stack { stack: name } => stack(name, "", &[]),
            Self::Manifest { stack: name } => stack(name, "/manifest", &[]),
            Self::LastGood { stack: name, not_current, strict } => {
                stack(name, "/last-good", &[("not_current", flag(*not_current)), ("strict", flag(*strict))])
            }
            Self::Traffic { stack: name, engine } => stack(name, "/traffic", &[("engine", engine.as_deref())]),
            Self::Timeline { stack: name, incident } => stack(name, "/timeline", &[("incident", incident.as_deref())]),
            Self::Now { stack: name } => stack(name, "/now", &[]),
            Self::Rollback { stack: name } => stack(name, "/rollback", &[]),
            Self::Slo { stack: name } => stack(name, "/slo", &[]),
            Self::Capacity { stack: name } => stack(name, "/capacity", &[]),
            Self::Alerts { stack, state, all } => {
                let state = state.map(|state| if state == AlertState::Firing { "firing" } else { "resolved" });
                format!("/v1/alerts{}", query(&[("stack", stack.as_deref()), ("state", state), ("all", flag(*all))]))
            }
            Self::Waivers { stack } => format!("/v1/waivers{}", query(&[("stack", stack.as_deref())])),
            Self::Waiver { id } => format!("/v1/waivers/{}", encode(id)),
            Self::Incidents { stack } => format!("/v1/incidents{}", query(&[("stack", stack.as_deref())])),
            Self::Incident { id } => format!("/v1/incidents/{}", encode(id)),
            Self::IncidentReport { id } => format!("/v1/incidents/{}/report", encode(id)),
            Self::Backups { stack } => format!("/v1/backups{}", query(&[("stack", stack.as_deref())])),
            Self::Policy { stack } => format!("/v1/policy{}", query(&[("stack", stack.as_deref())])),
            Self::Proposal { id } => format!("/v1/policy/proposals/{}", encode(id)),
            Self::Maintenance { stack } => format!("/v1/maintenance{}", query(&[("stack", stack.as_deref())])),
            Self::Keys => "/v1/keys".to_owned(),
            Self::Command { id } => format!("/v1/commands/{}", encode(id)),
            Self::Rejected { after, limit } => {
                let after = after.map(|after| after.to_string());
                let limit = (*limit != REJECTED_LIMIT).then(|| limit.to_string());
                format!("/v1/rejected{}", query(&[("after", after.as_deref()), ("limit", limit.as_deref())]))
            }
        }
    }

    /// The question that `path` (with its query; `as_of` is passed over) asks.
    pub fn parse(path: &str) -> Result<Self, AskedError> {
        let fail = |reason: String| AskedError { path: path.to_owned(), reason };
        let (bare, pairs) = path.split_once('?').unwrap_or((path, ""));
        let pairs: Vec<(String, String)> = pairs
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "true")))
            .map(|(key, value)| (decode(key), decode(value)))
            .collect();
        let get = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let is = |key: &str| match get(key).as_deref() {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(fail(format!("{key} is {other:?}, not true or false"))),
        };
        let number = |key: &str| {
            get(key)
                .map(|text| text.parse::<u64>().map_err(|_discarded| fail(format!("{key} is {text:?}, not a number"))))
                .transpose()
        };
        let known: &[&str] =
            &["as_of", "not_current", "strict", "engine", "incident", "stack", "state", "all", "after", "limit"];
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(fail(format!("unknown parameter {name:?}")));
        }
        let parts: Vec<String> = bare.strip_prefix("/v1/").unwrap_or("").split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let owned = str::to_owned;
        Ok(match parts.as_slice() {
            ["stacks"] => Self::Stacks,
            ["stacks", stack] => Self::Stack { stack: owned(stack) },
            ["stacks", stack, "manifest"] => Self::Manifest { stack: owned(stack) },
            ["stacks", stack, "last-good"] => {
                Self::LastGood { stack: owned(stack), not_current: is("not_current")?, strict: is("strict")? }
            }
            ["stacks", stack, "traffic"] => Self::Traffic { stack: owned(stack), engine: get("engine") },
            ["stacks", stack, "timeline"] => Self::Timeline { stack: owned(stack), incident: get("incident") },
            ["stacks", stack, "now"] => Self::Now { stack: owned(stack) },
            ["stacks", stack, "rollback"] => Self::Rollback { stack: owned(stack) },
            ["stacks", stack, "slo"] => Self::Slo { stack: owned(stack) },
            ["stacks", stack, "capacity"] => Self::Capacity { stack: owned(stack) },
            ["alerts"] => {
                let state = match get("state").as_deref() {
                    None => None,
                    Some("firing") => Some(AlertState::Firing),
                    Some("resolved") => Some(AlertState::Resolved),
                    Some(other) => return Err(fail(format!("state is {other:?}, not firing or resolved"))),
                };
                Self::Alerts { stack: get("stack"), state, all: is("all")? }
            }
            ["waivers"] => Self::Waivers { stack: get("stack") },
            ["waivers", id] => Self::Waiver { id: owned(id) },
            ["incidents"] => Self::Incidents { stack: get("stack") },
            ["incidents", id] => Self::Incident { id: owned(id) },
            ["incidents", id, "report"] => Self::IncidentReport { id: owned(id) },
            ["backups"] => Self::Backups { stack: get("stack") },
            ["policy"] => Self::Policy { stack: get("stack") },
            ["policy", "proposals", id] => Self::Proposal { id: owned(id) },
            ["maintenance"] => Self::Maintenance { stack: get("stack") },
            ["keys"] => Self::Keys,
            ["commands", id] => Self::Command { id: owned(id) },
            ["rejected"] => {
                let limit = number("limit")?.map_or(REJECTED_LIMIT, |limit| {
                    usize::try_from(limit).unwrap_or(REJECTED_LIMIT).clamp(1, REJECTED_LIMIT)
                });
                Self::Rejected { after: number("after")?, limit }
            }
            _ => return Err(fail("no such path".to_owned())),
        })
    }
}

const fn flag(set: bool) -> Option<&'static str> {
    if set { Some("true") } else { None }
}

fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let set: Vec<String> =
        pairs.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={}", encode(value)))).collect();
    if set.is_empty() { String::new() } else { format!("?{}", set.join("&")) }
}

/// Percent-encodes all but RFC 3986 unreserved characters and `:`, which hashes hold.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = escaped {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

//! Maintenance windows: times in which alerts on a stack are recorded like any other, and nobody is told.
//!
//! One function, [`Maintenance::holds`], says whether telling is held. Nothing that is recorded depends on it.

#![expect(clippy::wildcard_enum_match_arm, reason = "only the requests about maintenance mean anything here")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::command::{MaintenanceWindow, Request, maintenance_id};
use crate::domain::policy::Rule;
use crate::domain::refusal::{Code, Refusal};
use crate::domain::time::{MICROS_PER_SECOND, Time};

/// The longest window: who needs a longer one changes the policy.
const WINDOW_SECONDS_MAX: i64 = 7 * 86_400;
/// Windows that are not over at once: each alert is compared with all of them.
const OPEN_MAX: usize = 1_000;

/// A window with who set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// What was set.
    pub window: MaintenanceWindow,
    /// Who set it.
    pub set_by: String,
    /// The entry that set it.
    pub position: u64,
    /// When it ends: as it was set, or earlier.
    pub ends: Time,
    /// Who ended it early, at which entry.
    pub ended: Option<(String, u64)>,
}

/// All windows, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    by_id: BTreeMap<String, Window>,
}

impl Maintenance {
    /// Decides about a maintenance command at `time`: nothing, or why not.
    pub fn decide(&self, time: Time, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::MaintenanceSet(window) => {
                check(window, time)?;
                if self.by_id.values().filter(|known| known.ends > time).count() >= OPEN_MAX {
                    return Err(refuse("to", format!("{OPEN_MAX} windows are not over yet")));
                }
                Ok(())
            }
            Request::MaintenanceEnd(end) => {
                let window = self
                    .by_id
                    .get(&end.window)
                    .ok_or_else(|| refuse("window", format!("there is no maintenance window {:?}", end.window)))?;
                if let Some((who, position)) = &window.ended {
                    let detail = format!("{} was already ended by {who} at position {position}", end.window);
                    return Err(refuse("window", detail).by(*position));
                }
                if window.ends <= time {
                    return Err(
                        refuse("window", format!("{} was over at {}", end.window, window.ends)).by(window.position)
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Folds an admitted maintenance command.
    pub fn apply(&mut self, position: u64, time: Time, principal: &str, request: &Request) {
        match request {
            Request::MaintenanceSet(window) => {
                let ends = window.to;
                let set_by = principal.to_owned();
                self.by_id.insert(
                    maintenance_id(position),
                    Window { window: window.clone(), set_by, position, ends, ended: None },
                );
            }
            Request::MaintenanceEnd(end) => {
                if let Some(window) = self.by_id.get_mut(&end.window) {
                    window.ends = window.ends.min(time);
                    window.ended = Some((principal.to_owned(), position));
                }
            }
            _ => {}
        }
    }

    /// The window that holds telling of `rule` on `stack` at `time`: of several, the one that ends last.
    pub fn holds(&self, stack: &str, rule: Rule, time: Time) -> Option<(&str, Time)> {
        let matches = |known: &Window| {
            let window = &known.window;
            window.stack == stack
                && (window.rules.is_empty() || window.rules.contains(&rule))
                && window.from <= time
                && time < known.ends
        };
        let holding = self.by_id.iter().filter(|(_, window)| matches(window));
        holding.max_by_key(|(_, window)| window.ends).map(|(id, window)| (id.as_str(), window.ends))
    }

    /// Whether telling was held from `from` up to `to` without a gap.
    pub fn holds_through(&self, stack: &str, rule: Rule, from: Time, to: Time) -> bool {
        let mut at = from;
        while let Some((_, ends)) = self.holds(stack, rule, at) {
            if ends >= to {
                return true;
            }
            at = ends;
        }
        false
    }

    /// One window.
    pub fn get(&self, id: &str) -> Option<&Window> {
        self.by_id.get(id)
    }

    /// All, in the order of their entries.
    pub fn oldest_first(&self) -> Vec<(&str, &Window)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(id, window)| (id.as_str(), window)).collect();
        all.sort_by_key(|(_, window)| window.position);
        all
    }
}

fn check(window: &MaintenanceWindow, time: Time) -> Result<(), Refusal> {
    for (field, value) in [("stack", &window.stack), ("reason", &window.reason)] {
        if value.trim().is_empty() {
            return Err(refuse(field, format!("field `{field}` is empty")));
        }
    }
    if window.to <= window.from || window.to <= time {
        return Err(refuse("to", format!("to {} is not after {} and the present", window.to, window.from)));
    }
    if window.to.micros_since(window.from) > WINDOW_SECONDS_MAX * MICROS_PER_SECOND {
        return Err(refuse("to", format!("it lasts longer than {} days", WINDOW_SECONDS_MAX / 86_400)));
    }
    Ok(())
}

fn refuse(field: &str, detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::CommandRefused, field.to_owned(), detail)
}

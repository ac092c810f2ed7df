//! Last good: the engine that is safe to go back to, how sure that is, and why the newer ones are not it.
//!
//! A pure question over the governance fold. Confidence falls in three steps: *proven* (clean, and said proven by an entry),
//! *unproven* (clean), *degraded* (a candidate that was unhealthy when last seen).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::alerts::Alerts;
use super::stacks::{Engine, Stack};
use crate::domain::event::Json;

/// How sure the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Unhealthy when last seen.
    Degraded,
    /// Clean, but watched for less than a quarter of an hour.
    Unproven,
    /// Clean, and served well-observed for a quarter of an hour.
    Proven,
}

/// An engine that is newer than the answer and is not it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PassedOver {
    /// The engine.
    pub engine_hash: String,
    /// Its version.
    pub version: Option<String>,
    /// Why not.
    pub reason: String,
    /// The entry that is the reason.
    pub position: u64,
}

/// The engine found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Its hash.
    pub engine_hash: String,
    /// Its version.
    pub version: Option<String>,
    /// Position of the entry that began the stint which qualified it.
    pub position: u64,
    /// The manifest of that stint.
    pub manifest: Option<Json>,
    /// How sure.
    pub confidence: Confidence,
    /// Whether it serves now.
    pub is_current: bool,
    /// For `degraded`: the alerts that say so, as rule names with their entries.
    pub alerts: Vec<(String, u64)>,
}

/// What may be answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// Leave the current engine out.
    pub not_current: bool,
    /// Where policy asks for a verified backup: the engines that have one.
    pub backed_up: Option<&'a BTreeSet<String>>,
}

struct Candidate<'a> {
    found: Found,
    first_published: u64,
    last_current: u64,
    engine: &'a Engine,
}

/// The last good engine of `stack`, if any, and what was passed over for it.
pub fn last_good(
    name: &str,
    stack: &Stack,
    alerts: &Alerts,
    question: Question<'_>,
) -> (Option<Found>, Vec<PassedOver>) {
    let mut candidates = Vec::new();
    let mut out = Vec::new();
    for (hash, engine) in &stack.engines {
        let Some(first_published) = engine.first_published else { continue };
        match qualify(name, stack, hash, engine, alerts, question) {
            Ok(found) => candidates.push(Candidate {
                found,
                first_published,
                last_current: engine.last_current.unwrap_or(0),
                engine,
            }),
            Err((reason, position)) => out.push((first_published, passed_over(hash, engine, reason, position))),
        }
    }
    let best = candidates
        .iter()
        .max_by_key(|candidate| (candidate.found.confidence, candidate.last_current))
        .map(|candidate| (candidate.first_published, candidate.found.clone()));
    if let Some((_, best)) = &best {
        for candidate in candidates.iter().filter(|candidate| candidate.found.engine_hash != best.engine_hash) {
            let (reason, position) = outranked(candidate, best);
            out.push((
                candidate.first_published,
                passed_over(&candidate.found.engine_hash, candidate.engine, reason, position),
            ));
        }
    }
    let after = best.as_ref().map(|(first_published, _)| *first_published);
    out.retain(|(first_published, _)| after.is_none_or(|after| *first_published > after));
    out.sort_by_key(|(first_published, _)| std::cmp::Reverse(*first_published));
    (best.map(|(_, found)| found), out.into_iter().map(|(_, passed)| passed).collect())
}

fn passed_over(hash: &str, engine: &Engine, reason: String, position: u64) -> PassedOver {
    PassedOver { engine_hash: hash.to_owned(), version: engine.version.clone(), reason, position }
}

/// Why a candidate lost against a better one.
fn outranked(candidate: &Candidate<'_>, best: &Found) -> (String, u64) {
    if candidate.found.confidence < best.confidence && candidate.found.confidence == Confidence::Degraded {
        let names: Vec<&str> = candidate.found.alerts.iter().map(|(rule, _)| rule.as_str()).collect();
        let position =
            candidate.found.alerts.iter().map(|(_, position)| *position).max().unwrap_or(candidate.found.position);
        return (format!("unhealthy: {} firing", names.join(", ")), position);
    }
    if candidate.found.confidence < best.confidence {
        return (
            "not proven: served for less than 15 minutes with enough traffic to judge".to_owned(),
            candidate.found.position,
        );
    }
    ("another engine was current more recently".to_owned(), candidate.last_current)
}

/// Whether an engine is a candidate, and how good; else why not, and the entry that says so.
fn qualify(
    name: &str,
    stack: &Stack,
    hash: &str,
    engine: &Engine,
    alerts: &Alerts,
    question: Question<'_>,
) -> Result<Found, (String, u64)> {
    let is_current = stack.current() == Some(hash);
    let since = engine.last_current.unwrap_or(0);
    if question.not_current && is_current {
        return Err(("it is the current engine".to_owned(), since));
    }
    if let Some((position, reason)) = &engine.condemned {
        return Err((format!("condemned: {reason}"), *position));
    }
    let finished = engine.last_finished.as_ref();
    if let Some(finished) = finished.filter(|finished| finished.rolled_back && !is_current) {
        return Err(("rolled back from".to_owned(), finished.ended_by));
    }
    let (position, manifest) = match engine.warm_up {
        Some(warm_up) if !warm_up.completed => return Err(("its last warm-up failed".to_owned(), warm_up.position)),
        Some(_) if is_current => {
            stack.stint.as_ref().map_or((since, None), |stint| (stint.position, stint.manifest.clone()))
        }
        Some(_) => finished.map_or((since, None), |finished| (finished.began, finished.manifest.clone())),
        None => match finished.filter(|finished| finished.warm) {
            Some(finished) => (finished.began, finished.manifest.clone()),
            None => return Err(("never warmed up since it last became current".to_owned(), since)),
        },
    };
    if question.backed_up.is_some_and(|backed_up| !backed_up.contains(hash)) {
        return Err(("no verified backup, which policy asks for".to_owned(), since));
    }
    let (confidence, alerts) = health(name, stack, hash, engine, alerts);
    Ok(Found {
        engine_hash: hash.to_owned(),
        version: engine.version.clone(),
        position,
        manifest,
        confidence,
        is_current,
        alerts,
    })
}

/// Clean, and proven?
fn health(name: &str, stack: &Stack, hash: &str, engine: &Engine, alerts: &Alerts) -> (Confidence, Vec<(String, u64)>) {
    let is_current = stack.current() == Some(hash);
    let present_stint_proven = is_current
        && engine.proven.zip(stack.stint.as_ref()).is_some_and(|((_, began), stint)| began == stint.position);
    let mut unhealthy = if is_current { alerts.unhealthy(name, hash, None) } else { Vec::new() };
    if let Some(finished) = engine.last_finished.as_ref().filter(|_| !present_stint_proven) {
        unhealthy.extend(alerts.unhealthy(name, hash, Some(finished.ended)));
    }
    let mut named: Vec<(String, u64)> =
        unhealthy.into_iter().map(|(alert, position)| (alert.rule.as_str().to_owned(), position)).collect();
    named.sort_unstable();
    named.dedup();
    let confidence = match (named.is_empty(), engine.proven) {
        (false, _) => Confidence::Degraded,
        (true, Some(_)) => Confidence::Proven,
        (true, None) => Confidence::Unproven,
    };
    (confidence, named)
}

//! What a governance ledger says, read without the service's folds; and what must hold of it whatever happened.

#![expect(clippy::wildcard_enum_match_arm, reason = "only what the service says and waivers mean anything here")]

use std::collections::{BTreeMap, BTreeSet};

use govledger::domain::command::{Request, waiver_id};
use govledger::domain::cut::Cut;
use govledger::domain::event::Event;
use govledger::domain::time::Time;
use govledger::domain::{envelope, leaf, report};
use govledger::projection::governance::{Governance, Verdict};
use ledger::Reader;

/// A waiver that finance approved.
#[derive(Debug)]
struct Approved {
    at: (u64, Time),
    revoked: Option<(u64, Time)>,
    expires: Time,
}

/// Read on and on.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    seen: u64,
    /// Cuts in effect, with their positions.
    pub(crate) cuts: Vec<(u64, Cut)>,
    /// Times of the reports and commands in effect.
    pub(crate) reports: Vec<Time>,
    /// What else the service said, by id: the payload.
    pub(crate) said: BTreeMap<String, Vec<u8>>,
    /// Cuts that were refused.
    pub(crate) refused_cuts: u64,
    requested: BTreeMap<String, Time>,
    decided: BTreeSet<String>,
    approved: BTreeMap<String, Approved>,
    expired: BTreeMap<String, Time>,
    exhausted: BTreeSet<String>,
}

impl Facts {
    /// Reads what was folded since.
    pub(crate) fn follow(&mut self, reader: &Reader, governance: &Governance) {
        for position in self.seen.max(1)..governance.size {
            let entry = reader.entry(position).unwrap();
            let leaf = leaf::split(&entry).unwrap();
            let Ok(read) = report::read(&leaf) else { continue };
            let verdict = governance.verdict_at(position);
            if let Event::Cut(cut) = &read.event {
                self.cut(position, leaf.header.time, cut, &verdict);
            }
            if verdict == Verdict::Admitted {
                self.admitted((position, leaf.header.time), &read.event, leaf.body);
            }
        }
        self.seen = governance.size;
    }

    /// The rule of cuts, once more: on the grid, after the last, and at most a minute later than its own entry.
    fn cut(&mut self, position: u64, time: Time, cut: &Cut, verdict: &Verdict) {
        let on_grid = cut.instant.micros() % 10_000_000 == 0;
        let after_last = self.cuts.last().is_none_or(|(_, last)| last.instant < cut.instant);
        let in_time = cut.instant.micros() - time.micros() <= 60_000_000;
        match verdict {
            Verdict::Admitted => {
                assert!(on_grid && after_last && in_time, "the cut of {} at {position} counts", cut.instant);
                self.cuts.push((position, cut.clone()));
            }
            Verdict::Duplicate { of } => {
                let first = self.cuts.iter().find(|(first, _)| first == of).unwrap();
                assert_eq!(first.1.instant, cut.instant, "a cut is a duplicate of one of another instant");
            }
            Verdict::Refused(_) => {
                assert!(!(on_grid && after_last && in_time), "the cut of {} at {position} is refused", cut.instant);
                self.refused_cuts += 1;
            }
        }
    }

    fn admitted(&mut self, at: (u64, Time), event: &Event, body: &[u8]) {
        match event {
            Event::Cut(_) | Event::PolicyRevised(_) | Event::FileRegistered(_) => return,
            Event::Alert(_)
            | Event::EngineProven(_)
            | Event::WaiverSpend(_)
            | Event::WaiverExpiring(_)
            | Event::IncidentSnapshot(_)
            | Event::IncidentImpact(_) => {}
            Event::WaiverExhausted(exhausted) => {
                self.exhausted.insert(exhausted.waiver.clone());
            }
            Event::WaiverExpired { waiver, expired } => {
                assert_eq!(self.expired.insert(waiver.clone(), *expired), None, "{waiver} expires twice");
            }
            Event::Command(command) => {
                self.reports.push(at.1);
                self.command(at, &command.request);
                return;
            }
            _ => {
                self.reports.push(at.1);
                return;
            }
        }
        let payload = envelope::open(std::str::from_utf8(body).unwrap()).unwrap().payload;
        assert_eq!(self.said.insert(id_of(&payload), payload), None, "said twice");
    }

    fn command(&mut self, at: (u64, Time), request: &Request) {
        match request {
            Request::WaiverRequest(scope) => {
                self.requested.insert(waiver_id(at.0), scope.expires);
            }
            Request::WaiverApprove(decision) | Request::WaiverRefuse(decision) => {
                assert!(self.decided.insert(decision.waiver.clone()), "{} is decided twice", decision.waiver);
                if matches!(request, Request::WaiverApprove(_)) {
                    let expires = self.requested[&decision.waiver];
                    self.approved.insert(decision.waiver.clone(), Approved { at, revoked: None, expires });
                }
            }
            Request::WaiverRevoke(decision) => {
                let waiver = self.approved.get_mut(&decision.waiver).unwrap();
                assert_eq!(waiver.revoked.replace(at), None, "{} is revoked twice", decision.waiver);
            }
            _ => {}
        }
    }

    /// Every approval that reached its end before a cut is over once, and no other. To be asked when nothing is unsaid.
    pub(crate) fn check_waivers(&self) {
        for (id, waiver) in &self.approved {
            let seen = |(position, time): (u64, Time), at: u64, cut: &Cut| position < at && time <= cut.instant;
            let ends = self.cuts.iter().find(|(at, cut)| waiver.expires <= cut.instant && seen(waiver.at, *at, cut));
            let expires = ends.is_some_and(|(at, cut)| waiver.revoked.is_none_or(|revoked| !seen(revoked, *at, cut)));
            if self.exhausted.contains(id) {
                assert!(!self.expired.contains_key(id), "{id} is exhausted and expires");
            } else {
                assert_eq!(self.expired.get(id), expires.then_some(&waiver.expires), "the expiry of {id}");
            }
        }
        for id in self.expired.keys().chain(&self.exhausted) {
            assert!(self.approved.contains_key(id), "{id} ends and was never approved");
        }
    }

    /// Approvals, expiries, caps reached, cuts refused.
    pub(crate) fn counts(&self) -> [u64; 4] {
        [self.approved.len() as u64, self.expired.len() as u64, self.exhausted.len() as u64, self.refused_cuts]
    }
}

pub(crate) fn id_of(payload: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
    value["id"].as_str().unwrap().to_owned()
}

//! What the service says itself: what an entry or a cut brings about, kept as *unsaid* until its own entry is folded.

use std::sync::atomic::Ordering;

use super::{Core, Incoming, Outcome};
use crate::domain::command::{Request, incident_id};
use crate::domain::cut::Cut;
use crate::domain::event::Event;
use crate::domain::leaf::Header;
use crate::domain::policy::Policy;
use crate::domain::settings::RULES_TWO_PEOPLE;
use crate::domain::time::Time;
use crate::projection::governance::{Applied, Governance};
use crate::projection::slo::Finding;
use crate::projection::waivers::Said;
use crate::sequencer::error::{SequencerError, of};
use crate::sequencer::sayings::Saying;

/// An alert brings about a snapshot, and a snapshot nothing: two rounds of sayings, and one to spare.
const SAYING_ROUNDS_MAX: usize = 3;

impl Core {
    /// The incident that an entry opened, and its stack, where the ledger's rules measure incidents.
    pub(super) fn opened_by(&self, applied: &Applied) -> Option<(String, String)> {
        let may_open = match &applied.event {
            Some(Event::Alert(_)) => true,
            Some(Event::Command(command)) => matches!(command.request, Request::IncidentOpen(_)),
            _ => false,
        };
        if !may_open || !self.shared.slo().measures_incidents() {
            return None;
        }
        let governance = self.shared.governance();
        let incident = governance.incidents.get(&incident_id(applied.position))?;
        Some((incident.id.clone(), incident.stack.clone()))
    }

    /// Keeps what is to be said, once.
    pub(super) fn owe(&mut self, saying: Saying) {
        let identity = saying.identity();
        if !self.unsaid.iter().any(|(unsaid, _)| *unsaid == identity) {
            self.unsaid.push((identity, saying));
        }
    }

    /// An entry of the service was folded: it is said. One that this node did not derive itself is an integrity alarm.
    pub(super) fn settle(&mut self, applied: &Applied) {
        let saying = match &applied.event {
            Some(Event::Alert(alert)) => Saying::alert(alert),
            Some(Event::EngineProven(proven)) => Saying::engine_proven(proven),
            Some(Event::IncidentSnapshot(snapshot)) => Saying::incident_snapshot(snapshot),
            Some(Event::IncidentImpact(impact)) => Saying::incident_impact(impact),
            Some(event) => match Said::of(event) {
                Some(said) => Saying::waiver(&said),
                None => return,
            },
            None => return,
        };
        let identity = saying.identity();
        let before = self.unsaid.len();
        // What is said of a waiver or an incident is wholly derived, so it must be the same, and not only about the same.
        let is_derived = applied.event.as_ref().is_some_and(|event| {
            matches!(event, Event::IncidentSnapshot(_) | Event::IncidentImpact(_)) || Said::of(event).is_some()
        });
        let differs =
            is_derived && self.unsaid.iter().any(|(unsaid, derived)| *unsaid == identity && *derived != saying);
        self.unsaid.retain(|(unsaid, _)| *unsaid != identity);
        if differs || self.unsaid.len() == before {
            self.shared.status.integrity_alarms.fetch_add(1, Ordering::SeqCst);
            tracing::error!(
                position = applied.position,
                event_type = applied.about.event_type,
                "integrity.underived: an entry of the service that this node does not derive itself"
            );
        }
    }

    /// Checks a cut against the ledgers here and keeps what it brought to light.
    pub(super) fn after_cut(&mut self, cut: &Cut, findings: Vec<Finding>) -> Result<(), SequencerError> {
        for listed in &cut.ledgers {
            if let Some(ledger) = self.metrics.get(&listed.ledger)
                && ledger.size() >= listed.size
                && ledger.root_at(listed.size).map_err(of("metrics"))? != listed.root
            {
                self.shared.status.integrity_alarms.fetch_add(1, Ordering::SeqCst);
                tracing::error!(ledger = listed.ledger, size = listed.size, instant = %cut.instant, "integrity.root: the cut names another root than this node's");
            }
        }
        let mut sayings = Vec::new();
        {
            let slo = self.shared.slo();
            for finding in findings {
                sayings.push(match finding {
                    Finding::Firing(draft) | Finding::Resolved(draft) => {
                        let mut alert = draft.alert;
                        alert.covered_by = slo
                            .waivers()
                            .covers(&alert.stack, &alert.engine_hash, alert.rule, cut.instant)
                            .map(str::to_owned);
                        Saying::alert(&alert)
                    }
                    Finding::Proven(proven) => Saying::engine_proven(&proven),
                    Finding::Waiver(said) => Saying::waiver(&said),
                    Finding::Impact(impact) => Saying::incident_impact(&impact),
                });
            }
        }
        for saying in sayings {
            self.owe(saying);
        }
        for (number, pending) in &mut self.pending {
            pending.release(cut.size_of(*number));
        }
        for state in self.shared.metrics_mut().values_mut() {
            state.forget_slots(cut.instant);
        }
        Ok(())
    }

    /// What was derived and is not yet in the ledger, sealed.
    pub fn unsaid(&self) -> Result<Vec<String>, SequencerError> {
        self.unsaid.iter().map(|(_, saying)| Ok(saying.seal(&self.shared.node_key())?)).collect()
    }

    /// Says what is unsaid, in this node's own order, and what that brings about (an alert opens an incident, which finds
    /// figures). For embedded mode; in Kafka mode it is produced.
    pub fn say_unsaid(&mut self) -> Result<(), SequencerError> {
        for _ in 0..SAYING_ROUNDS_MAX {
            let sayings: Vec<Saying> = self.unsaid.iter().map(|(_, saying)| saying.clone()).collect();
            if sayings.is_empty() {
                break;
            }
            self.say(&sayings, Time::default())?;
        }
        Ok(())
    }

    /// Appends sayings dated `time`, or like the entry before where that is later.
    pub fn say(&mut self, sayings: &[Saying], time: Time) -> Result<Vec<Outcome>, SequencerError> {
        let first = self.governance.size();
        let seal = |(index, saying): (u64, &Saying)| {
            Ok(Incoming {
                header: Header { serial: Some(first + index), ..Header::at(time) },
                body: saying.seal(&self.shared.node_key())?.into_bytes(),
            })
        };
        let items = (0..).zip(sayings).map(seal).collect::<Result<Vec<_>, SequencerError>>()?;
        self.append_governance(items)
    }

    /// The saying that puts the configured `policy` in force, where it can still be the first one. From the first cut on, or
    /// once a policy is in force, two admins change it and the file is only compared.
    pub fn policy_saying(&self, policy: &Policy) -> Result<Option<Saying>, SequencerError> {
        let governance = self.shared.governance();
        if governance.rules_version() < RULES_TWO_PEOPLE {
            return older_policy_saying(&governance, policy);
        }
        if *policy == governance.policy || (policy.revision == 0 && *policy == Policy::default()) {
            return Ok(None);
        }
        if governance.is_before_first_policy() {
            return Ok(Some(Saying::policy_revised(policy)));
        }
        tracing::warn!(
            configured = policy.revision,
            in_force = governance.policy.revision,
            position = governance.policy_position,
            "policy.file_differs: the configured policy is not the one in force; two admins change it with `govledger policy propose` and `policy approve`"
        );
        Ok(None)
    }

    /// The same, sealed, for whoever produces it.
    pub fn policy_sealed(&self, policy: &Policy) -> Result<Option<String>, SequencerError> {
        self.policy_saying(policy)?.map(|saying| Ok(saying.seal(&self.shared.node_key())?)).transpose()
    }
}

/// As a ledger of an older rules version has it: the higher revision wins.
fn older_policy_saying(governance: &Governance, policy: &Policy) -> Result<Option<Saying>, SequencerError> {
    match governance.policy_position {
        Some(position) if policy.revision == governance.policy.revision => {
            if *policy == governance.policy {
                Ok(None)
            } else {
                Err(SequencerError::PolicyConflict { revision: policy.revision, position })
            }
        }
        Some(_) if policy.revision < governance.policy.revision => {
            tracing::warn!(
                configured = policy.revision,
                in_force = governance.policy.revision,
                "policy.older: the configured policy is older than what is in force"
            );
            Ok(None)
        }
        None if policy.revision == 0 && *policy == Policy::default() => Ok(None),
        Some(_) | None => Ok(Some(Saying::policy_revised(policy))),
    }
}

//! Trust policies: which witnesses have to have cosigned a checkpoint (C2SP tlog-policy).
//!
//! In scope: the policy as a value, its file form read and written, and whether a set of cosignatures meets its quorum. Out of
//! scope: asking witnesses, and how an operator comes to such a policy.
//!
//! Invariants: names of witnesses and groups are one space and are defined before they are used, so there are no circles; each
//! is a member of one group at the most, so that a witness counts in one way; no public key stands for two logs or two
//! witnesses. A policy that broke any of these cannot be made. Files are read as UTF-8, which the format recommends and does
//! not demand.

mod file;
mod quorum;

use std::collections::BTreeSet;

use crate::note::{KeyKind, VerifierKey};

pub use file::TrustError;
pub use quorum::{Cosigner, Shortfall, Weighed};

/// Logs, witnesses and groups read of one policy, of each kind. The format asks for at least 32.
pub const TRUST_ITEMS_MAX: usize = 64;
/// The longest name of a witness or group, and the longest URL.
pub const TRUST_NAME_BYTES_MAX: usize = 200;
const URL_BYTES_MAX: usize = 2_000;
/// The quorum that needs nobody.
pub const NO_QUORUM: &str = "none";

/// How many members of a group it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// One.
    Any,
    /// Every one.
    All,
    /// So many.
    Count(usize),
}

/// A log that the policy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedLog {
    /// Its key, under its origin.
    pub key: VerifierKey,
    /// Where it is.
    pub url: Option<String>,
}

/// A witness that the policy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedWitness {
    /// What the policy calls it.
    pub name: String,
    /// The key of its cosignatures.
    pub key: VerifierKey,
    /// The prefix that checkpoints are submitted under.
    pub url: Option<String>,
}

/// Some witnesses or groups, of which so many count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedGroup {
    /// What the policy calls it.
    pub name: String,
    /// How many of the members it takes.
    pub threshold: Threshold,
    /// Names of witnesses and groups.
    pub members: Vec<String>,
}

/// Why something cannot be part of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustProblem {
    /// A name that cannot be one.
    #[error("{0:?} cannot be the name of a witness or group")]
    Name(String),
    /// The name of another witness or group.
    #[error("{0:?} is defined already")]
    Defined(String),
    /// A name that nothing before has.
    #[error("{0:?} is no witness or group that is defined before")]
    Unknown(String),
    /// A member of two groups, or of one twice.
    #[error("{0:?} is a member already, and may be one once")]
    Member(String),
    /// A key that signs something else.
    #[error("{key} is a key of another kind: {needed}")]
    Kind {
        /// The key.
        key: String,
        /// What is needed.
        needed: &'static str,
    },
    /// A key that is there under another name.
    #[error("the public key of {0} is there already")]
    Key(String),
    /// No key.
    #[error(transparent)]
    Note(#[from] crate::note::NoteError),
    /// A threshold that the group cannot have.
    #[error("{found:?} of {members} members: it is `any`, `all` or a number from 1 to {members}")]
    Threshold {
        /// What it was.
        found: String,
        /// The members.
        members: usize,
    },
    /// A URL with a space in it, or too long a one.
    #[error("{0:?} cannot be a URL here")]
    Url(String),
    /// More than [`TRUST_ITEMS_MAX`] of a kind.
    #[error("more than {TRUST_ITEMS_MAX} of its kind")]
    TooMany,
}

/// A trust policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustPolicy {
    logs: Vec<TrustedLog>,
    witnesses: Vec<TrustedWitness>,
    groups: Vec<TrustedGroup>,
    /// None needs nobody.
    quorum: Option<String>,
}

impl TrustPolicy {
    /// The logs, in order.
    pub fn logs(&self) -> &[TrustedLog] {
        &self.logs
    }

    /// The witnesses, in order.
    pub fn witnesses(&self) -> &[TrustedWitness] {
        &self.witnesses
    }

    /// The groups, each after its members.
    pub fn groups(&self) -> &[TrustedGroup] {
        &self.groups
    }

    /// The witness or group that has to have cosigned; none where nobody has to.
    pub fn quorum(&self) -> Option<&str> {
        self.quorum.as_deref()
    }

    /// Adds a log.
    pub fn add_log(&mut self, key: VerifierKey, url: Option<&str>) -> Result<(), TrustProblem> {
        check_kind(&key, KeyKind::Ed25519, "a log signs with a key of type 0x01")?;
        check_url(url)?;
        if self.logs.iter().any(|log| log.key.public() == key.public()) {
            return Err(TrustProblem::Key(key.to_string()));
        }
        check_count(self.logs.len())?;
        self.logs.push(TrustedLog { key, url: url.map(str::to_owned) });
        Ok(())
    }

    /// Adds a witness.
    pub fn add_witness(&mut self, name: &str, key: VerifierKey, url: Option<&str>) -> Result<(), TrustProblem> {
        self.check_new(name)?;
        check_kind(&key, KeyKind::Cosignature, "a witness cosigns with a key of type 0x04")?;
        check_url(url)?;
        if self.witnesses.iter().any(|witness| witness.key.public() == key.public()) {
            return Err(TrustProblem::Key(key.to_string()));
        }
        check_count(self.witnesses.len())?;
        self.witnesses.push(TrustedWitness { name: name.to_owned(), key, url: url.map(str::to_owned) });
        Ok(())
    }

    /// Adds a group of what is there.
    pub fn add_group(&mut self, name: &str, threshold: Threshold, members: &[&str]) -> Result<(), TrustProblem> {
        self.check_new(name)?;
        check_count(self.groups.len())?;
        if let Threshold::Count(count) = threshold
            && !(1..=members.len()).contains(&count)
        {
            return Err(TrustProblem::Threshold { found: count.to_string(), members: members.len() });
        }
        if members.is_empty() {
            return Err(TrustProblem::Threshold { found: threshold.to_string(), members: 0 });
        }
        let mut taken: BTreeSet<&str> =
            self.groups.iter().flat_map(|group| &group.members).map(String::as_str).collect();
        for member in members {
            if !self.is_defined(member) {
                return Err(TrustProblem::Unknown((*member).to_owned()));
            }
            if !taken.insert(member) {
                return Err(TrustProblem::Member((*member).to_owned()));
            }
        }
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.push(TrustedGroup { name: name.to_owned(), threshold, members });
        Ok(())
    }

    /// Says which witness or group has to have cosigned, or `none`.
    pub fn set_quorum(&mut self, name: &str) -> Result<(), TrustProblem> {
        if name != NO_QUORUM && !self.is_defined(name) {
            return Err(TrustProblem::Unknown(name.to_owned()));
        }
        self.quorum = (name != NO_QUORUM).then(|| name.to_owned());
        Ok(())
    }

    fn is_defined(&self, name: &str) -> bool {
        self.witnesses.iter().any(|witness| witness.name == name) || self.groups.iter().any(|group| group.name == name)
    }

    fn check_new(&self, name: &str) -> Result<(), TrustProblem> {
        let is_bad = |byte: u8| byte <= b' ' || byte == 0x7f;
        let is_name = !name.is_empty() && name.len() <= TRUST_NAME_BYTES_MAX && !name.bytes().any(is_bad);
        if !is_name || name == NO_QUORUM {
            return Err(TrustProblem::Name(name.to_owned()));
        }
        if self.is_defined(name) {
            return Err(TrustProblem::Defined(name.to_owned()));
        }
        Ok(())
    }
}

fn check_count(there: usize) -> Result<(), TrustProblem> {
    if there < TRUST_ITEMS_MAX { Ok(()) } else { Err(TrustProblem::TooMany) }
}

fn check_kind(key: &VerifierKey, kind: KeyKind, needed: &'static str) -> Result<(), TrustProblem> {
    if key.kind() == kind { Ok(()) } else { Err(TrustProblem::Kind { key: key.to_string(), needed }) }
}

fn check_url(url: Option<&str>) -> Result<(), TrustProblem> {
    let is_bad = |byte: u8| byte <= b' ' || byte == 0x7f;
    match url {
        Some(url) if url.is_empty() || url.len() > URL_BYTES_MAX || url.bytes().any(is_bad) => {
            Err(TrustProblem::Url(url.to_owned()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

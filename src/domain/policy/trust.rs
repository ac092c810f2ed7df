//! Which witnesses are to cosign the checkpoints of the governance ledger, and how many of them are enough.
//!
//! In scope: the table `[trust]`, its check, what it changes, and the same as a [`ledger::TrustPolicy`]. Out of scope: asking
//! witnesses (`notify`), and reading the file form (`ledger::trust`). No entry is judged by it.

use std::collections::{BTreeMap, BTreeSet};

use ledger::note::VerifierKey;
use ledger::trust::{NO_QUORUM, TRUST_ITEMS_MAX, Threshold};
use serde::{Deserialize, Serialize};

use super::{PolicyError, field_error};

/// The longest submission prefix.
const URL_BYTES_MAX: usize = 500;

/// Who is to vouch for checkpoints beside the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrustPolicy {
    /// The witnesses, by the name that this document gives them.
    pub witnesses: BTreeMap<String, WitnessPolicy>,
    /// Groups of witnesses or of other groups, by name. Each witness and group is a member of one group at the most.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupPolicy>,
    /// The witness or group that has to have cosigned a checkpoint; `none` where nobody has to.
    pub quorum: String,
}

/// One witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WitnessPolicy {
    /// The verifier key of its cosignatures, of type 0x04.
    pub vkey: String,
    /// Its submission prefix: checkpoints go to `URL/add-checkpoint`.
    pub url: String,
}

/// Some witnesses or groups that count as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupPolicy {
    /// How many members it takes: `any`, `all`, or a number.
    pub needs: GroupNeeds,
    /// Names of witnesses and groups.
    pub members: BTreeSet<String>,
}

/// How many members of a group it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "`needs` is \"any\", \"all\" or a number of members")]
pub enum GroupNeeds {
    /// One, or every one.
    Word(NeedsWord),
    /// So many.
    Count(u32),
}

/// How many members of a group it takes, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeedsWord {
    /// One.
    Any,
    /// Every one.
    All,
}

impl Default for TrustPolicy {
    fn default() -> Self {
        Self { witnesses: BTreeMap::new(), groups: BTreeMap::new(), quorum: NO_QUORUM.to_owned() }
    }
}

impl From<GroupNeeds> for Threshold {
    fn from(needs: GroupNeeds) -> Self {
        match needs {
            GroupNeeds::Word(NeedsWord::Any) => Self::Any,
            GroupNeeds::Word(NeedsWord::All) => Self::All,
            GroupNeeds::Count(count) => Self::Count(usize::try_from(count).unwrap_or(usize::MAX)),
        }
    }
}

impl TrustPolicy {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self) -> Result<(), PolicyError> {
        for (field, count) in [("trust.witnesses", self.witnesses.len()), ("trust.groups", self.groups.len())] {
            if count > TRUST_ITEMS_MAX {
                return Err(field_error(field, count, "at most 64 of a kind"));
            }
        }
        for (name, witness) in &self.witnesses {
            check_prefix(name, &witness.url)?;
        }
        self.resolve().map(|_policy| ())
    }

    /// The same, as checkpoints are weighed by it. It names no log: that depends on the node.
    pub fn resolve(&self) -> Result<ledger::TrustPolicy, PolicyError> {
        let mut policy = ledger::TrustPolicy::default();
        for (name, witness) in &self.witnesses {
            let refuse = |problem: String| said(format!("trust.witnesses.{name}"), &witness.vkey, problem);
            let key = VerifierKey::parse(&witness.vkey).map_err(|error| refuse(error.to_string()))?;
            policy.add_witness(name, key, Some(&witness.url)).map_err(|error| refuse(error.to_string()))?;
        }
        self.add_groups(&mut policy)?;
        policy.set_quorum(&self.quorum).map_err(|_unknown| {
            field_error("trust.quorum", format!("{:?}", self.quorum), "the name of a witness or group, or `none`")
        })?;
        Ok(policy)
    }

    /// Adds each group after its members; what is left at the end waits for itself.
    fn add_groups(&self, policy: &mut ledger::TrustPolicy) -> Result<(), PolicyError> {
        let mut left: Vec<(&String, &GroupPolicy)> = self.groups.iter().collect();
        for (name, group) in &left {
            let is_there =
                |member: &&String| !self.witnesses.contains_key(*member) && !self.groups.contains_key(*member);
            if let Some(member) = group.members.iter().find(is_there) {
                let field = format!("trust.groups.{name}.members");
                return Err(field_error(
                    field,
                    format!("{member:?}"),
                    "a member is a witness or group of this document",
                ));
            }
        }
        while !left.is_empty() {
            let before = left.len();
            let mut waiting = Vec::new();
            for (name, group) in left {
                let is_defined = |member: &String| {
                    self.witnesses.contains_key(member) || policy.groups().iter().any(|known| known.name == *member)
                };
                if !group.members.iter().all(is_defined) {
                    waiting.push((name, group));
                    continue;
                }
                let members: Vec<&str> = group.members.iter().map(String::as_str).collect();
                policy
                    .add_group(name, group.needs.into(), &members)
                    .map_err(|error| said(format!("trust.groups.{name}"), &members.join(", "), error.to_string()))?;
            }
            if waiting.len() == before {
                let names: Vec<&str> = waiting.iter().map(|(name, _)| name.as_str()).collect();
                return Err(field_error("trust.groups", names.join(", "), "no group is in the end a member of itself"));
            }
            left = waiting;
        }
        Ok(())
    }

    /// Its fields by name, as text, with `none` for what `other` alone has.
    pub(super) fn fields(&self, other: &Self) -> BTreeMap<String, String> {
        let none = || "none".to_owned();
        let mut all = BTreeMap::from([("quorum".to_owned(), self.quorum.clone())]);
        for name in self.witnesses.keys().chain(other.witnesses.keys()) {
            let own = self.witnesses.get(name).map(|witness| format!("{} {}", witness.vkey, witness.url));
            all.insert(format!("witnesses.{name}"), own.unwrap_or_else(none));
        }
        for name in self.groups.keys().chain(other.groups.keys()) {
            let own = self.groups.get(name).map(|group| {
                let members: Vec<&str> = group.members.iter().map(String::as_str).collect();
                format!("{} of {}", Threshold::from(group.needs), members.join(", "))
            });
            all.insert(format!("groups.{name}"), own.unwrap_or_else(none));
        }
        all
    }
}

/// A prefix is public: everybody who reads the policy sees it, so there is no place for a password in it.
fn check_prefix(name: &str, url: &str) -> Result<(), PolicyError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_plain = |text: &str| {
        let host = text.split('/').next().unwrap_or_default();
        !host.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#".contains(&byte))
    };
    if rest.is_some_and(is_plain) && url.len() <= URL_BYTES_MAX {
        return Ok(());
    }
    Err(field_error(
        format!("trust.witnesses.{name}.url"),
        format!("{url:?}"),
        "http:// or https://, a host and perhaps a path, in at most 500 characters; no user, query or fragment",
    ))
}

fn said(field: String, value: &str, problem: String) -> PolicyError {
    PolicyError::Trust { field, value: value.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::*;
    use ledger::note::KeyKind;

    fn vkey(seed: u8) -> String {
        VerifierKey::new("w.example", KeyKind::Cosignature, [seed; 32]).unwrap().to_string()
    }

    fn witness(name: &str, seed: u8) -> String {
        format!("[trust.witnesses.{name}]\nvkey = {:?}\nurl = \"https://{name}.example/add\"\n", vkey(seed))
    }

    fn document(quorum: &str, rest: &str) -> String {
        format!("[trust]\nquorum = {quorum:?}\n{}{}{rest}", witness("w1", 1), witness("w2", 2))
    }

    #[test]
    fn a_document_becomes_a_trust_policy_with_members_first() {
        // In the order of names the group `a` stands before its member.
        let groups = "[trust.groups.a]\nneeds = \"all\"\nmembers = [\"b\", \"w2\"]\n[trust.groups.b]\nneeds = 1\nmembers = [\"w1\"]\n";
        let policy = Policy::from_toml(&document("a", groups)).unwrap();
        let text = policy.trust.resolve().unwrap().to_string();
        assert!(text.ends_with("group b 1 w1\ngroup a all b w2\nquorum a\n"), "{text}");
        assert_eq!(policy, Policy::from_json(&serde_json::to_string(&policy).unwrap()).unwrap());
        assert_eq!(policy, Policy::from_toml(&toml::to_string(&policy).unwrap()).unwrap());
    }

    #[test]
    fn faults_name_the_field_and_the_value() {
        let check = |text: &str, field: &str, value: &str| {
            let said = Policy::from_toml(text).unwrap_err().to_string();
            assert!(said.contains(&format!("`{field}` is ")) && said.contains(value), "{said:?}: {field} {value}");
        };
        check(&document("w3", ""), "trust.quorum", "\"w3\"");
        check(&document("none", &witness("w3", 1)), "trust.witnesses.w3", "is there already");
        check(
            &document("none", "[trust.witnesses.w3]\nvkey = \"x\"\nurl = \"http://x\"\n"),
            "trust.witnesses.w3",
            "x: ",
        );
        let log = VerifierKey::new("log", KeyKind::Ed25519, [3; 32]).unwrap();
        let wrong = format!("[trust.witnesses.w3]\nvkey = \"{log}\"\nurl = \"http://x\"\n");
        check(&document("none", &wrong), "trust.witnesses.w3", "0x04");
        for url in ["ftp://x", "https://", "https:///x", "https://me:secret@x", "https://x?y", "https://x y"] {
            let text = format!("[trust.witnesses.w3]\nvkey = {:?}\nurl = {url:?}\n", vkey(3));
            check(&document("none", &text), "trust.witnesses.w3.url", url);
        }
        let group = |name: &str, needs: &str, members: &str| {
            format!("[trust.groups.{name}]\nneeds = {needs}\nmembers = [{members}]\n")
        };
        check(&document("none", &group("g", "3", "\"w1\", \"w2\"")), "trust.groups.g", "\"3\" of 2 members");
        check(&document("none", &group("g", "\"any\"", "")), "trust.groups.g", "of 0 members");
        check(&document("none", &group("g", "1", "\"w3\"")), "trust.groups.g.members", "\"w3\"");
        check(&document("none", &group("w1", "1", "\"w2\"")), "trust.groups.w1", "defined already");
        let twice = group("g", "1", "\"w1\"") + &group("h", "1", "\"w1\"");
        check(&document("none", &twice), "trust.groups.h", "a member already");
        let circle = group("g", "1", "\"h\"") + &group("h", "1", "\"g\"");
        check(&document("none", &circle), "trust.groups", "g, h");
        let said = Policy::from_toml(&document("none", &group("g", "\"most\"", "\"w1\""))).unwrap_err().to_string();
        assert!(said.contains("`needs` is \"any\", \"all\" or a number"), "{said}");
    }

    #[test]
    fn a_document_without_trust_is_written_as_before() {
        assert!(!serde_json::to_string(&Policy::default()).unwrap().contains("trust"));
    }
}

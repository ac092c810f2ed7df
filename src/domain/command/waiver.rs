//! What is asked of finance: the scope of a waiver, decisions about one, and the limit of who decides.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::envelope::hex;
use crate::domain::policy::Rule;
use crate::domain::time::Time;

/// The exact scope that an approval covers. Changing anything is another waiver.
///
/// The hash that approvals name is over this JSON: a field that is added later is absent where it is not given, so that the
/// hashes of older scopes stay what they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiverScope {
    /// The rule to be waived.
    pub rule: Rule,
    /// The stack.
    pub stack: String,
    /// One engine only, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_hash: Option<String>,
    /// Why.
    pub justification: String,
    /// What is done about the cause.
    pub mitigation_plan: String,
    /// The most that it may cost beyond the threshold, USD: required for `cost_per_request`, absent for all other rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cap_usd: Option<Decimal>,
    /// Covers from here; from its approval where absent or earlier. A retroactive one covers from here in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Time>,
    /// Covers until here.
    pub expires: Time,
    /// Ticket in another system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Who answers for the mitigation; whoever asks, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What else was considered, and why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternatives: Option<String>,
    /// Advisories and notices that bear on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisories: Vec<String>,
    /// Covers what is past as well, from `starts` on. Nothing else makes a waiver retroactive.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retroactive: bool,
    /// The waiver of the legacy log, shown as reported, that this one stands for once it is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl WaiverScope {
    /// A scope of what every waiver states.
    pub fn new(rule: Rule, stack: &str, justification: &str, mitigation_plan: &str, expires: Time) -> Self {
        Self {
            rule,
            stack: stack.to_owned(),
            engine_hash: None,
            justification: justification.to_owned(),
            mitigation_plan: mitigation_plan.to_owned(),
            cap_usd: None,
            starts: None,
            expires,
            ticket: None,
            owner: None,
            alternatives: None,
            advisories: Vec::new(),
            retroactive: false,
            reported: None,
        }
    }

    /// SHA-256 of the scope's JSON, hex: what an approval is over.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }
}

/// A decision about a waiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiverDecision {
    /// Which.
    pub waiver: String,
    /// The hash of the scope that the decider saw; an approval must name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_sha256: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// States up to which cap a principal may approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalLimit {
    /// Who.
    pub name: String,
    /// The largest `cap_usd` that they may approve from here on.
    #[schemars(with = "String")]
    pub finance_limit_usd: Decimal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_not_given_leave_the_hash_of_a_scope_alone() {
        let text = r#"{"rule":"cost_per_request","stack":"s","justification":"j","mitigation_plan":"m","cap_usd":"50","expires":"2026-11-20T00:00:00Z"}"#;
        let scope: WaiverScope = serde_json::from_str(text).unwrap();
        assert_eq!(scope.sha256(), hex(&Sha256::digest(text)));
    }
}

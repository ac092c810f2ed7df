//! Answers about waivers: where each stands, what was spent under it, what lies ahead, and what proves it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{AnswerError, View};
use crate::domain::authentication::Authentication;
use crate::domain::command::WaiverScope;
use crate::domain::policy::Rule;
use crate::domain::time::Time;
use crate::projection::timeline::Item;
use crate::projection::waivers::{Forecast, Status, Waiver};

/// Waivers, oldest first.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaiversAnswer {
    /// All that were asked for or reported.
    pub waivers: Vec<WaiverRow>,
}

/// One waiver.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaiverRow {
    /// Its id.
    pub id: String,
    /// The stack.
    pub stack: String,
    /// One engine only.
    pub engine_hash: Option<String>,
    /// The rule; none for a reported one.
    pub rule: Option<Rule>,
    /// Where it stands.
    pub status: Status,
    /// Who asked.
    pub requested_by: String,
    /// Who decided.
    pub decided_by: Option<String>,
    /// The entry that decided.
    pub decided_position: Option<u64>,
    /// How whoever decided was known: `token`, or the provider's word for it with the time of authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_authentication: Option<Authentication>,
    /// The most that it may cost beyond the threshold.
    #[schemars(with = "Option<String>")]
    pub cap_usd: Option<Decimal>,
    /// Covered requests above the threshold of their cut.
    pub requests_over: u64,
    /// Covered requests without a price: the sums do not hold them.
    pub unpriced: u64,
    /// Sum of cost less threshold over the requests above it: what counts against the cap.
    #[schemars(with = "String")]
    pub excess_usd: Decimal,
    /// Sum of the cost of the same requests.
    #[schemars(with = "String")]
    pub gross_usd: Decimal,
    /// When the cap is reached if the excess goes on at its mean rate since cover began.
    pub cap_forecast: Option<Time>,
    /// The last cut that brought spend.
    pub spent_through: Option<Time>,
    /// Covers from.
    pub starts: Option<Time>,
    /// Covers until.
    pub expires: Option<Time>,
    /// The entry that asked.
    pub position: u64,
    /// Whether it covers at the time of the answer.
    pub covers_now: bool,
    /// Why it was asked for.
    pub justification: String,
    /// Who answers for the mitigation.
    pub owner: String,
    /// It covers what lies before its approval as well, from `starts` on.
    pub retroactive: bool,
    /// Of the excess, what the past was charged with.
    #[schemars(with = "String")]
    pub retroactive_excess_usd: Decimal,
    /// Of a reported one: the approved waiver that stands for it; status, cap, spend and cover are that one's.
    pub approved_as: Option<String>,
    /// What an approval must name.
    pub scope_sha256: Option<String>,
    /// The entry that last changed where it stands: `ETag` and `If-Match` are this number in quotes.
    pub version: u64,
}

/// One waiver, whole.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WaiverAnswer {
    /// The row of the list.
    #[serde(flatten)]
    pub row: WaiverRow,
    /// What it covers.
    pub scope: Option<WaiverScope>,
    /// What lies ahead at the present rate; none for one that covers nothing.
    pub forecast: Option<Forecast>,
    /// What was done with it.
    pub history: Vec<Item>,
    /// Where each of these entries is, and its proof under the root that this answer states.
    pub proofs: Vec<Proof>,
}

/// Where an entry is, and what proves it.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Proof {
    /// The entry.
    pub position: u64,
    /// Its path.
    pub entry: String,
    /// The path of its tlog-proof.
    pub proof: String,
}

fn waiver_row(view: &View<'_>, id: &str, waiver: &Waiver) -> WaiverRow {
    let governance = view.governance;
    // A reported one says nothing of itself; once approved it is the waiver that stands for it.
    let standing = governance.waivers.standing(waiver).unwrap_or(waiver);
    let scope = standing.scope.as_ref();
    let covers = scope.and_then(|scope| {
        let engine_hash = scope.engine_hash.as_deref().unwrap_or_default();
        governance.waivers.covers(&scope.stack, engine_hash, scope.rule, governance.time)
    });
    let spend = &standing.spend;
    WaiverRow {
        id: id.to_owned(),
        stack: waiver.stack.clone(),
        engine_hash: scope.and_then(|scope| scope.engine_hash.clone()),
        rule: scope.map(|scope| scope.rule),
        status: standing.status,
        requested_by: waiver.requested_by.clone(),
        decided_by: standing.decided_by.clone(),
        decided_position: standing.decided_position,
        decided_authentication: standing
            .decided_position
            .and_then(|position| governance.authentications.get(&position).cloned()),
        cap_usd: scope.and_then(|scope| scope.cap_usd),
        requests_over: spend.requests_over,
        unpriced: spend.unpriced,
        excess_usd: spend.excess_usd,
        gross_usd: spend.gross_usd,
        cap_forecast: forecast(view, standing).and_then(|forecast| forecast.cap_reached),
        spent_through: spend.through,
        starts: standing.begins().or_else(|| scope.and_then(|scope| scope.starts)),
        expires: standing.expires,
        position: waiver.position,
        covers_now: covers.is_some_and(|covers| covers == waiver.approved_as.as_deref().unwrap_or(id)),
        justification: waiver.justification.clone(),
        owner: scope.and_then(|scope| scope.owner.clone()).unwrap_or_else(|| waiver.requested_by.clone()),
        retroactive: standing.is_retroactive(),
        retroactive_excess_usd: spend.retroactive_excess_usd,
        approved_as: waiver.approved_as.clone(),
        scope_sha256: scope.map(WaiverScope::sha256),
        version: waiver.changed,
    }
}

fn forecast(view: &View<'_>, waiver: &Waiver) -> Option<Forecast> {
    waiver.forecast(view.governance.last_cut.as_ref().map(|cut| cut.instant))
}

pub(super) fn waivers(view: &View<'_>, stack: Option<&str>) -> WaiversAnswer {
    let wanted = view
        .governance
        .waivers
        .oldest_first()
        .into_iter()
        .filter(|(_, waiver)| stack.is_none_or(|stack| waiver.stack == stack));
    WaiversAnswer { waivers: wanted.map(|(id, waiver)| waiver_row(view, id, waiver)).collect() }
}

pub(super) fn waiver(view: &View<'_>, id: &str) -> Result<WaiverAnswer, AnswerError> {
    let waiver =
        view.governance.waivers.get(id).ok_or_else(|| AnswerError::Unknown { kind: "waiver", name: id.to_owned() })?;
    let history = view
        .governance
        .timeline
        .of(&waiver.stack)
        .iter()
        .filter(|item| item.about.as_deref() == Some(id))
        .cloned()
        .collect::<Vec<Item>>();
    let size = view.governance.size;
    let proofs = history.iter().map(|item| {
        let entry = format!("/v1/entries/governance/{}", item.position);
        Proof { position: item.position, proof: format!("{entry}/proof?size={size}"), entry }
    });
    let standing = view.governance.waivers.standing(waiver).unwrap_or(waiver);
    Ok(WaiverAnswer {
        row: waiver_row(view, id, waiver),
        scope: standing.scope.clone(),
        forecast: forecast(view, standing),
        proofs: proofs.collect(),
        history,
    })
}

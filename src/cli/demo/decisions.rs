//! What people decide after the hour: on-call works the incident, finance accepts a cost that somebody else asks for.

use std::collections::BTreeSet;
use std::path::Path;

use rust_decimal::Decimal;

use super::hour::{QWEN, RERANK};
use crate::cli::error::CliError;
use crate::domain::command::{
    Acknowledgement, IncidentNote, PrincipalEnroll, PrincipalLimit, Request, WaiverDecision, WaiverScope,
};
use crate::domain::incident::{Duty, IncidentAssign, IncidentWork, NoteKind};
use crate::domain::policy::Rule;
use crate::domain::principal::{Role, token_sha256};
use crate::domain::time::Time;
use crate::projection::governance::Verdict;
use crate::sequencer::{CommandOutcome, Handle, new_token, write_durably};

/// What came of them.
#[derive(Debug)]
pub(super) struct Decided {
    /// The waiver.
    pub(super) waiver: String,
    /// Entries: asked, tried by the one who asked, approved.
    pub(super) requested: u64,
    pub(super) own_refused: (u64, String),
    pub(super) approved: u64,
    /// The incident of the regression, and the entry that acknowledged it.
    pub(super) incident: Option<(String, u64)>,
}

pub(super) async fn make(handle: &Handle, root: &Path, now: Time) -> Result<Decided, CliError> {
    for (name, roles) in [
        ("pavel", [Role::Publisher, Role::Finance].as_slice()),
        ("fiona", &[Role::Finance, Role::Reader]),
        ("olu", &[Role::Oncall, Role::Reader]),
    ] {
        let token = new_token()?;
        write_durably(&root.join(format!("demo/{name}.token")), format!("{token}\n").as_bytes(), 0o600)?;
        let enroll = PrincipalEnroll {
            name: name.to_owned(),
            roles: roles.iter().copied().collect::<BTreeSet<_>>(),
            token_sha256: token_sha256(&token),
            ..PrincipalEnroll::default()
        };
        applied(
            decide(handle, "ada", Role::Admin, &format!("enroll-{name}"), Request::PrincipalEnroll(enroll)).await?,
        )?;
    }
    let limit = PrincipalLimit { name: "fiona".to_owned(), finance_limit_usd: Decimal::new(1_000, 0) };
    applied(decide(handle, "ada", Role::Admin, "limit-fiona", Request::PrincipalLimit(limit)).await?)?;
    let scope = WaiverScope {
        cap_usd: Some(Decimal::new(250, 0)),
        ticket: Some("FIN-2041".to_owned()),
        ..WaiverScope::new(
            Rule::CostPerRequest,
            RERANK,
            "The yearly catalogue import sends whole product sheets as context",
            "Split the sheets before the next import",
            now.plus_seconds(7 * 86_400),
        )
    };
    let scope_sha256 = scope.sha256();
    let requested =
        applied(decide(handle, "pavel", Role::Publisher, "catalogue-import", Request::WaiverRequest(scope)).await?)?;
    let waiver = crate::domain::command::waiver_id(requested);
    let approve = || {
        Request::WaiverApprove(WaiverDecision {
            waiver: waiver.clone(),
            scope_sha256: Some(scope_sha256.clone()),
            reason: Some("within the import budget".to_owned()),
        })
    };
    let own_refused = refused(decide(handle, "pavel", Role::Finance, "approve-my-own", approve()).await?)?;
    let approved = applied(decide(handle, "fiona", Role::Finance, "approve-import", approve()).await?)?;
    let incident = handle
        .shared()
        .governance()
        .incidents
        .oldest_first()
        .into_iter()
        .find(|incident| incident.stack == QWEN)
        .map(|incident| incident.id.clone());
    let incident = match incident {
        None => None,
        Some(id) => {
            let position = on_call(handle, &id).await?;
            Some((id, position))
        }
    };
    Ok(Decided { waiver, requested, own_refused, approved, incident })
}

/// Olu works the incident of the regression, up to its report. The entry that acknowledged it.
async fn on_call(handle: &Handle, id: &str) -> Result<u64, CliError> {
    let incident = id.to_owned();
    let text = "rolled back to 1.4.0, figures are back".to_owned();
    let ack = Request::IncidentAcknowledge(Acknowledgement { incident: incident.clone(), text });
    let acknowledged = applied(decide(handle, "olu", Role::Oncall, "ack-regression", ack).await?)?;
    let snapshot = handle.shared().governance().incidents.get(id).and_then(|incident| incident.snapshot.clone());
    let assign = IncidentAssign { incident: incident.clone(), duty: Duty::Commander, assignee: "olu".to_owned() };
    let note = |kind, text: &str, snapshot| {
        Request::IncidentNote(IncidentNote { incident: incident.clone(), text: text.to_owned(), kind, snapshot })
    };
    for (key, request) in [
        ("lead-regression", Request::IncidentWork(IncidentWork::Assign(assign))),
        ("review-regression", note(NoteKind::Reviewed, "", snapshot.map(|snapshot| snapshot.position))),
        ("cause-regression", note(NoteKind::RootCause, "1.5.0 was built without KV cache reuse", None)),
    ] {
        applied(decide(handle, "olu", Role::Oncall, key, request).await?)?;
    }
    Ok(acknowledged)
}

async fn decide(
    handle: &Handle,
    principal: &str,
    role: Role,
    key: &str,
    request: Request,
) -> Result<(u64, Verdict), CliError> {
    match handle.command(principal, role, key, request).await?.1 {
        CommandOutcome::Decided(outcome) => Ok((outcome.position, outcome.verdict)),
        CommandOutcome::Pending => Err(CliError::failed("a command of the demo was not applied in time")),
    }
}

fn applied((position, verdict): (u64, Verdict)) -> Result<u64, CliError> {
    match verdict {
        Verdict::Admitted | Verdict::Duplicate { .. } => Ok(position),
        Verdict::Refused(refusal) => {
            Err(CliError::failed(format!("a command of the demo was refused at entry {position}: {}", refusal.detail)))
        }
    }
}

fn refused((position, verdict): (u64, Verdict)) -> Result<(u64, String), CliError> {
    match verdict {
        Verdict::Refused(refusal) => Ok((position, refusal.detail)),
        Verdict::Admitted | Verdict::Duplicate { .. } => {
            Err(CliError::failed(format!("entry {position}: somebody was allowed to approve their own waiver")))
        }
    }
}

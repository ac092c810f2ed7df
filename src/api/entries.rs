//! Raw entries: lists with filters and a cursor, one entry whole, and its proof.
//!
//! A list reads at most `SCAN_MAX` entries a request, so that a filter which matches nothing costs no more than one which
//! matches everything; `next` says where to go on.

use std::ops::ControlFlow;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use ledger::Checkpoint;
use ledger::proof::ProofFile;

use super::ApiState;
use super::problem::Problem;
use super::read::{Query, base64, present, reader};
use super::types::{EntriesAnswer, EntryAnswer, EntryRow};
use crate::domain::leaf::{self, Leaf};
use crate::domain::legacy_signature;
use crate::domain::metric::{self, MetricEvent};
use crate::domain::refusal::{Code, Refusal};
use crate::domain::report;
use crate::domain::time::Time;
use crate::projection::governance::Verdict;

/// Entries in one answer.
const LIMIT_MAX: usize = 1_000;
/// Entries read for one answer.
const SCAN_MAX: u64 = 100_000;

/// What a list is asked for.
struct Filter {
    event_type: Option<String>,
    stack: Option<String>,
    from: Option<Time>,
    to: Option<Time>,
}

impl Filter {
    fn fits(&self, row: &EntryRow) -> bool {
        self.event_type.as_deref().is_none_or(|wanted| row.event_type.as_deref() == Some(wanted))
            && self.stack.as_deref().is_none_or(|wanted| row.stack.as_deref() == Some(wanted))
            && self.from.is_none_or(|from| row.time >= from)
            && self.to.is_none_or(|to| row.time <= to)
    }
}

/// An entry as a row: what it says of itself, and what it counts for.
pub(super) fn row(state: &ApiState, ledger: &str, position: u64, entry: &[u8]) -> EntryRow {
    let mut row = EntryRow {
        position,
        time: Time::default(),
        event_type: None,
        stack: None,
        engine_hash: None,
        actor: None,
        verdict: Verdict::Admitted,
    };
    let leaf = match leaf::split(entry) {
        Ok(leaf) => leaf,
        Err(error) => {
            row.verdict = Verdict::Refused(Refusal::new(Code::MalformedJson, None, error.to_string()));
            return row;
        }
    };
    row.time = leaf.header.time;
    if ledger == "governance" {
        governance_row(state, &leaf, &mut row);
    } else if position > 0 {
        metrics_row(state, &leaf, entry, &mut row);
    }
    if position == 0 {
        row.event_type = Some("ledger_settings".to_owned());
    }
    row
}

fn governance_row(state: &ApiState, leaf: &Leaf<'_>, row: &mut EntryRow) {
    row.verdict = state.handle().shared().governance().verdict_at(row.position);
    if let Ok(report) = report::read(leaf) {
        row.event_type = Some(report.about.event_type);
        row.stack = report.about.stack;
        row.engine_hash = report.about.engine_hash;
        row.actor = report.about.actor;
    }
}

fn metrics_row(state: &ApiState, leaf: &Leaf<'_>, entry: &[u8], row: &mut EntryRow) {
    if let Some(refusal) = crate::sequencer::judge(entry, state.handle().times()) {
        row.verdict = Verdict::Refused(refusal);
        return;
    }
    let Ok(text) = std::str::from_utf8(leaf.body) else { return };
    match metric::parse_with(text, state.handle().times()) {
        Ok(MetricEvent::Request(record)) => {
            row.event_type = Some("llm.request".to_owned());
            row.engine_hash = Some(record.engine_hash.into_owned());
        }
        Ok(MetricEvent::Scrape(scrape)) => {
            row.event_type = Some("triton.scrape".to_owned());
            row.stack = Some(scrape.stack.into());
        }
        Ok(MetricEvent::Notice(_)) => row.event_type = Some("llm.notice".to_owned()),
        Err(_) => {}
    }
}

/// `/v1/entries`.
pub(crate) async fn list(State(state): State<ApiState>, uri: Uri) -> Result<Json<EntriesAnswer>, Problem> {
    Ok(Json(tokio::task::spawn_blocking(move || listed(&state, &uri)).await??))
}

fn listed(state: &ApiState, uri: &Uri) -> Result<EntriesAnswer, Problem> {
    let query = Query::of(uri, &["ledger", "type", "stack", "from", "to", "after", "limit"])?;
    let name = query.get("ledger").unwrap_or("governance").to_owned();
    let filter = Filter {
        event_type: query.get("type").map(str::to_owned),
        stack: query.get("stack").map(str::to_owned),
        from: query.time("from")?,
        to: query.time("to")?,
    };
    let limit = query.parsed("limit", "a number")?.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let after: Option<u64> = query.parsed("after", "a position")?;
    let reader = reader(state, &name)?;
    // One checkpoint for the whole answer: size and root belong together.
    let checkpoint = reader.checkpoint();
    let governed = name == "governance";
    let size =
        if governed { state.handle().shared().governance().size.min(checkpoint.size()) } else { checkpoint.size() };
    let mut start = after.map_or(0, |after| after.saturating_add(1)).min(size);
    if let Some(from) = filter.from.filter(|_| governed) {
        // Governance times never go back, so the first entry of a time is found without reading those before.
        start = start.max(state.handle().shared().size_at(Time::from_micros(from.micros() - 1))?);
    }
    let end = size.min(start + SCAN_MAX);
    let mut entries: Vec<EntryRow> = Vec::new();
    let mut next = (end < size).then(|| end.saturating_sub(1));
    if start < end {
        reader.for_each_entry(start..end, |position, entry| {
            let row = row(state, &name, position, entry);
            if governed && filter.to.is_some_and(|to| row.time > to) {
                next = None;
                return ControlFlow::Break(());
            }
            if filter.fits(&row) {
                if entries.len() == limit {
                    next = entries.last().map(|last| last.position);
                    return ControlFlow::Break(());
                }
                entries.push(row);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(EntriesAnswer {
        size: checkpoint.size(),
        root: checkpoint.root().to_string(),
        ledger: name,
        entries,
        next,
        as_of: present(state)?,
    })
}

/// `/v1/entries/{ledger}/{position}`.
pub(crate) async fn one(
    State(state): State<ApiState>,
    Path((ledger, position)): Path<(String, String)>,
) -> Result<Json<EntryAnswer>, Problem> {
    let position = parse_position(&position)?;
    Ok(Json(tokio::task::spawn_blocking(move || whole(&state, ledger, position)).await??))
}

fn parse_position(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_error| Problem::invalid("position", format!("position is {text:?}, not a number")))
}

fn whole(state: &ApiState, ledger: String, position: u64) -> Result<EntryAnswer, Problem> {
    let reader = reader(state, &ledger)?;
    let checkpoint = reader.checkpoint();
    let folded = state.handle().shared().governance().size;
    if ledger == "governance" && position >= folded {
        // Durable and not judged yet: it is shown once its verdict is known.
        return Err(Problem::not_found(format!("position {position} is not held: the ledger holds 0..{folded}")));
    }
    let entry = reader.entry(position)?;
    let (header, bytes) = match entry.iter().position(|byte| *byte == b'\n') {
        Some(end) => (serde_json::from_slice(&entry[..end]).unwrap_or_default(), &entry[end + 1..]),
        None => (serde_json::Value::Null, entry.as_slice()),
    };
    let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
    let is_legacy = |text: &&str| ledger == "governance" && text.contains("\"event_type\"");
    let secret = state.config().legacy_secret.as_ref();
    let legacy_signature =
        text.as_deref().filter(is_legacy).zip(secret).and_then(|(line, secret)| legacy_signature::check(line, secret));
    Ok(EntryAnswer {
        legacy_signature,
        row: row(state, &ledger, position, &entry),
        header,
        body_base64: text.is_none().then(|| base64(bytes)),
        body: text,
        entry_base64: base64(&entry),
        leaf_hash: ledger::tree::leaf_hash(&entry).to_string(),
        size: checkpoint.size(),
        root: checkpoint.root().to_string(),
        as_of: present(state)?,
        ledger,
    })
}

/// `/v1/entries/{ledger}/{position}/proof`: a tlog-proof file. At an earlier size the checkpoint is signed anew; the
/// signature is deterministic, so it is the one that was published then.
pub(crate) async fn proof(
    State(state): State<ApiState>,
    Path((ledger, position)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let position = parse_position(&position)?;
    let size: Option<u64> = Query::of(&uri, &["size"])?.parsed("size", "a number")?;
    let text = tokio::task::spawn_blocking(move || prove(&state, &ledger, position, size)).await??;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

fn prove(state: &ApiState, ledger: &str, position: u64, size: Option<u64>) -> Result<String, Problem> {
    let reader = reader(state, ledger)?;
    let current = reader.checkpoint();
    let checkpoint = match size.filter(|size| *size != current.size()) {
        None => current,
        Some(size) => {
            let root = reader.root_at(size)?;
            // A key signs for its own time alone.
            if reader.keys().key_at(size) != reader.keys().current() {
                let detail = "the key of that size was rotated since; its checkpoints are with those who kept them";
                return Err(Problem::invalid("size", detail));
            }
            let key = state.handle().data_dir().ledger_key()?;
            Checkpoint { origin: reader.origin().to_owned(), size, root }.sign(&key)
        }
    };
    let hashes = reader.inclusion_proof(position, checkpoint.size())?;
    Ok(ProofFile { extra: ProofFile::extra_of(reader.keys().text()), index: position, hashes, checkpoint }.to_string())
}

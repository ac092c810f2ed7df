//! `entries`, and `rejected` of a metrics ledger: the raw record, with what each entry counts for.

use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::args::{Entries, Options};
use super::error::{CliError, Exit, Outcome};
use super::out::{self, Tone, short, text, tone, when};
use super::source::{Files, Place, Source};
use crate::domain::leaf;
use crate::domain::metric::{self, MetricEvent, TimeFields};
use crate::domain::time::Time;
use crate::projection::governance::{Governance, Verdict};
use crate::projection::ids::MemoryIds;
use crate::sequencer::judge;

pub(crate) fn run(place: &Place, options: &Options, entries: &Entries) -> Outcome {
    let body = match (place.open()?, entries.position) {
        (Source::Server(client), None) => serde_json::from_slice(&client.fetch(&query(entries))?)?,
        (Source::Server(client), Some(position)) => {
            serde_json::from_slice(&client.fetch(&format!("/v1/entries/{}/{position}", out::encode(&entries.ledger)))?)?
        }
        (Source::Files(files), None) => listed(&files, entries)?,
        (Source::Files(files), Some(position)) => whole(&files, &entries.ledger, position)?,
    };
    if options.json {
        out::json(&body);
    } else if entries.position.is_some() {
        show_one(&body);
    } else {
        show(&body);
    }
    Ok(Exit::Fine)
}

/// The bytes behind a base64 text.
pub(crate) fn decode(text: &Value) -> Result<Vec<u8>, CliError> {
    BASE64.decode(text.as_str().unwrap_or_default()).map_err(CliError::failed)
}

fn query(entries: &Entries) -> String {
    let mut query = format!("/v1/entries?ledger={}&limit={}", out::encode(&entries.ledger), entries.limit);
    let pairs = [
        ("type", entries.event_type.clone()),
        ("stack", entries.stack.clone()),
        ("from", entries.from.map(|time| time.to_string())),
        ("to", entries.to.map(|time| time.to_string())),
        ("after", entries.after.map(|position| position.to_string())),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            for part in ["&", name, "=", &out::encode(&value)] {
                query.push_str(part);
            }
        }
    }
    query
}

/// A row as the API has it.
struct Row {
    value: Value,
    time: Time,
}

fn row(
    position: u64,
    time: Time,
    kind: Option<&str>,
    stack: Option<&str>,
    engine: Option<&str>,
    actor: Option<&str>,
    verdict: &Verdict,
) -> Row {
    Row {
        time,
        value: json!({ "position": position, "time": time, "type": kind, "stack": stack, "engine_hash": engine, "actor": actor, "verdict": verdict }),
    }
}

/// A metrics entry, judged as it was when it came.
fn metrics_row(position: u64, entry: &[u8], times: &TimeFields) -> Row {
    let time = leaf::split(entry).map(|leaf| leaf.header.time).unwrap_or_default();
    if position == 0 {
        return row(position, time, Some("ledger_settings"), None, None, None, &Verdict::Admitted);
    }
    if let Some(refusal) = judge(entry, times) {
        return row(position, time, None, None, None, None, &Verdict::Refused(refusal));
    }
    let text = std::str::from_utf8(leaf::body(entry)).unwrap_or_default();
    match metric::parse_with(text, times) {
        Ok(MetricEvent::Request(record)) => {
            row(position, time, Some("llm.request"), None, Some(&record.engine_hash), None, &Verdict::Admitted)
        }
        Ok(MetricEvent::Scrape(scrape)) => {
            row(position, time, Some("triton.scrape"), Some(&scrape.stack), None, None, &Verdict::Admitted)
        }
        Ok(MetricEvent::Notice(_)) => row(position, time, Some("llm.notice"), None, None, None, &Verdict::Admitted),
        Err(_) => row(position, time, None, None, None, None, &Verdict::Admitted),
    }
}

fn visit(files: &Files, ledger: &str, visit: &mut dyn FnMut(Row) -> ControlFlow<()>) -> Result<(), CliError> {
    let source = files.ledger(ledger)?;
    let times = TimeFields::default();
    if ledger == "governance" {
        // The verdict of an entry depends on those before it, so all of them are folded.
        let (mut governance, mut ids) = (Governance::default(), MemoryIds::default());
        source.for_each_entry(0..source.size(), &mut |position, entry| {
            let applied = governance.apply(position, entry, &mut ids);
            let about = &applied.about;
            let kind = Some(about.event_type.as_str()).filter(|kind| !kind.is_empty());
            visit(row(
                position,
                applied.time,
                kind,
                about.stack.as_deref(),
                about.engine_hash.as_deref(),
                about.actor.as_deref(),
                &applied.verdict,
            ))
        })?;
    } else {
        source.for_each_entry(0..source.size(), &mut |position, entry| visit(metrics_row(position, entry, &times)))?;
    }
    Ok(())
}

fn listed(files: &Files, entries: &Entries) -> Result<Value, CliError> {
    let fits = |row: &Row| {
        let is = |name: &str, wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| row.value[name] == wanted);
        is("type", &entries.event_type)
            && is("stack", &entries.stack)
            && entries.from.is_none_or(|from| row.time >= from)
            && entries.to.is_none_or(|to| row.time <= to)
            && entries.after.is_none_or(|after| row.value["position"].as_u64() > Some(after))
    };
    let (mut rows, mut next) = (Vec::new(), Value::Null);
    visit(files, &entries.ledger, &mut |row| {
        if fits(&row) {
            if rows.len() == entries.limit {
                next = rows.last().map_or(Value::Null, |last: &Value| last["position"].clone());
                return ControlFlow::Break(());
            }
            rows.push(row.value);
        }
        ControlFlow::Continue(())
    })?;
    let source = files.ledger(&entries.ledger)?;
    Ok(
        json!({ "ledger": entries.ledger, "size": source.size(), "root": source.root().to_string(), "entries": rows, "next": next }),
    )
}

fn whole(files: &Files, ledger: &str, position: u64) -> Result<Value, CliError> {
    let source = files.ledger(ledger)?;
    let entry = source.entry(position)?;
    let mut found = Value::Null;
    if ledger == "governance" {
        visit(files, ledger, &mut |row| {
            if row.value["position"] == position {
                found = row.value;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
    } else {
        found = metrics_row(position, &entry, &TimeFields::default()).value;
    }
    let (header, body) = match entry.iter().position(|byte| *byte == b'\n') {
        Some(end) => (serde_json::from_slice(&entry[..end]).unwrap_or_default(), &entry[end + 1..]),
        None => (Value::Null, entry.as_slice()),
    };
    found["ledger"] = ledger.into();
    found["header"] = header;
    match std::str::from_utf8(body) {
        Ok(text) => found["body"] = text.into(),
        Err(_) => found["body_base64"] = BASE64.encode(body).into(),
    }
    found["entry_base64"] = BASE64.encode(&entry).into();
    found["leaf_hash"] = ledger::tree::leaf_hash(&entry).to_string().into();
    found["size"] = source.size().into();
    found["root"] = source.root().to_string().into();
    Ok(found)
}

/// Refused records of a metrics ledger.
pub(crate) fn rejected(place: &Place, options: &Options, ledger: &str, after: Option<u64>, limit: usize) -> Outcome {
    let body = match place.open()? {
        Source::Server(client) => {
            let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
            serde_json::from_slice(
                &client.fetch(&format!("/v1/rejected?ledger={}&limit={limit}{after}", out::encode(ledger)))?,
            )?
        }
        Source::Files(files) => {
            let (mut rows, mut next) = (Vec::new(), Value::Null);
            visit(&files, ledger, &mut |row| {
                let position = row.value["position"].as_u64();
                let refusal = &row.value["verdict"]["refused"];
                if refusal.is_null() || after.is_some_and(|after| position <= Some(after)) {
                    return ControlFlow::Continue(());
                }
                if rows.len() == limit {
                    next = rows.last().map_or(Value::Null, |last: &Value| last["position"].clone());
                    return ControlFlow::Break(());
                }
                rows.push(json!({ "ledger": ledger, "position": position, "time": row.time, "refusal": refusal }));
                ControlFlow::Continue(())
            })?;
            json!({ "rejected": rows, "next": next })
        }
    };
    if options.json {
        out::json(&body);
    } else {
        super::show::rejected(&body);
    }
    Ok(Exit::Fine)
}

fn verdict(row: &Value) -> String {
    let verdict = &row["verdict"];
    if let Some(verdict) = verdict.as_str() {
        return verdict.to_owned();
    }
    if let Some(of) = verdict["duplicate"]["of"].as_u64() {
        return format!("duplicate of {of}");
    }
    tone(Tone::Warn, &format!("refused: {}", text(&verdict["refused"]["code"])))
}

fn show(body: &Value) {
    let rows = body["entries"].as_array().into_iter().flatten().map(|row| {
        vec![
            text(&row["position"]),
            when(&row["time"]),
            text(&row["type"]),
            text(&row["stack"]),
            short(&row["engine_hash"]),
            text(&row["actor"]),
            verdict(row),
        ]
    });
    out::table(&["entry", "time (UTC)", "type", "stack", "engine", "actor", "counts for"], rows, "no entry");
    out::line(format!("{} has {} entries, root {}", text(&body["ledger"]), text(&body["size"]), text(&body["root"])));
    if let Some(next) = body["next"].as_u64() {
        out::line(format!("more: --after {next}"));
    }
}

fn show_one(body: &Value) {
    out::line(format!(
        "{} entry {} of {} UTC: {}, {}",
        text(&body["ledger"]),
        text(&body["position"]),
        when(&body["time"]),
        text(&body["type"]),
        verdict(body)
    ));
    out::line(format!("header     {}", body["header"]));
    out::line(format!("leaf hash  {}", text(&body["leaf_hash"])));
    out::line(if body["body"].is_null() {
        format!("base64     {}", text(&body["body_base64"]))
    } else {
        text(&body["body"])
    });
    if body["verdict"].is_object() {
        out::line(format!("verdict    {}", body["verdict"]));
    }
}

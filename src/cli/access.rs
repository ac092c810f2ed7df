//! `access`: the trail of who was let in to what at this node.

use serde_json::{Value, json};

use super::args::{Access, Options};
use super::error::{Exit, Outcome};
use super::out::{self, text, when};
use super::source::Place;
use crate::identity::trail::ACCESS;
use crate::sequencer::DataDir;

pub(crate) fn run(place: &Place, options: &Options, access: &Access) -> Outcome {
    let answer: Value = if let Some(client) = place.service()? {
        let after = access.after.map(|after| format!("&after={after}")).unwrap_or_default();
        serde_json::from_slice(&client.fetch(&format!("/v1/access?limit={}{after}", access.limit))?)?
    } else {
        let reader = DataDir::open(&place.data)?.reader(ACCESS)?;
        let (entries, next) = crate::api::access_rows(&reader, access.after, access.limit)?;
        json!({ "entries": entries, "next": next, "size": reader.size(), "root": reader.root().to_string() })
    };
    if options.json {
        out::json(&answer);
        return Ok(Exit::Fine);
    }
    let rows = answer["entries"].as_array().into_iter().flatten().map(|row| {
        let what = if row["kind"] == "not_kept" {
            format!("{} since {}", row["counts"], when(&row["since"]))
        } else {
            format!("{} {}", text(&row["method"]), text(&row["path"]))
        };
        let answered =
            row["code"].as_str().map_or_else(|| text(&row["status"]), |code| format!("{} {code}", row["status"]));
        vec![
            when(&row["time"]),
            text(&row["position"]),
            text(&row["kind"]),
            text(&row["principal"]),
            text(&row["known_by"]),
            what,
            answered,
            text(&row["count"]),
        ]
    });
    let header = ["time (UTC)", "entry", "kind", "who", "known by", "what", "answer", "times"];
    out::table(&header, rows, "nothing yet");
    if !answer["next"].is_null() {
        out::line(format!("more with --after {}", answer["next"]));
    }
    Ok(Exit::Fine)
}

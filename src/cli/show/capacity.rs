//! How much of a stack is used.

use serde_json::Value;

use super::items;
use crate::cli::out::{self, Tone, short, text, tone, when};

pub(super) fn capacity(body: &Value) {
    out::line(format!("{} at the cut of {} UTC", tone(Tone::Strong, &text(&body["stack"])), when(&body["instant"])));
    let rows = items(&body["engines"]).map(|row| {
        vec![
            short(&row["engine_hash"]),
            if row["current"] == true { "current".to_owned() } else { "-".to_owned() },
            text(&row["seconds"]),
            text(&row["requests_per_s"]),
            format!("{} / {}", text(&row["tokens_in_per_s"]), text(&row["tokens_out_per_s"])),
            format!("{} of {}", text(&row["concurrency"]), text(&row["kv"]["max_batch_size"]["value"])),
            text(&row["kv"]["blocks_in_use"]),
            format!("{} of {}", text(&row["queue"]["p95_us_at_most"]), text(&row["queue"]["limit_us"])),
            format!("{} of {}", text(&row["token_limit"]["over"]), text(&row["token_limit"]["requests"])),
        ]
    });
    out::table(
        &[
            "engine",
            "",
            "seconds",
            "requests/s",
            "tokens in/out a s",
            "at once",
            "KV blocks (by tokens)",
            "queue P95 us",
            "over token limit",
        ],
        rows,
        "no record yet",
    );
    let servers = &body["servers"];
    let rows = items(&servers["last"]).map(|row| {
        vec![
            text(&row["instance"]),
            when(&row["scraped_at"]),
            format!("{} of {}", text(&row["gpu_free_bytes"]), text(&row["gpu_total_bytes"])),
            text(&row["gpu_utilization"]),
            format!("{} of {}", text(&row["kv_blocks_used"]), text(&row["kv_blocks_max"])),
        ]
    });
    out::table(
        &["server", "scraped (UTC)", "GPU bytes free", "GPU in use", "KV blocks in use"],
        rows,
        "no scrape in the last quarter of an hour",
    );
    for (what, headroom) in [("GPU memory", &servers["vram"]), ("KV blocks", &servers["kv"])] {
        out::line(format!(
            "{what} free: {} now, {} at the 95th percentile",
            text(&headroom["now"]),
            text(&headroom["p95"])
        ));
    }
    out::line(format!(
        "Triton: {} us in the queue and {} inferences a batch, on the mean",
        text(&servers["queue_us_mean"]),
        text(&servers["batch_size_mean"])
    ));
    for row in items(&body["speculation"]).filter(|row| row["calibrated"] == false) {
        out::line(format!(
            "{} {} (entry {})",
            tone(Tone::Bad, "speculation:"),
            text(&row["reason"]),
            text(&row["position"])
        ));
    }
    let advice = &body["advice"];
    let suggested =
        if advice["suggested"].is_null() { String::new() } else { format!(" to {}", text(&advice["suggested"])) };
    let action = text(&advice["action"]).replace('_', " ");
    out::line(format!("advice: {}{suggested}: {}", tone(Tone::Strong, &action), text(&advice["reason"])));
}

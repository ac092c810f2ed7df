//! Where the entries of a run come from: the lines of a provider's log, or made ones that look like them.

use std::{fs, io, ops::Range, path::Path};

/// A file's lines, over again until there are enough; made ones where there are none.
///
/// Blocks are compressed by themselves, so a line that comes again megabytes later makes none of them smaller.
pub(crate) struct Source {
    lines: Vec<String>,
}

impl Source {
    pub(crate) fn made() -> Self {
        Self { lines: Vec::new() }
    }

    pub(crate) fn of_log(path: &Path) -> io::Result<Self> {
        let lines: Vec<String> = fs::read_to_string(path)?.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the log has no lines"));
        }
        Ok(Self { lines })
    }

    /// The provider's line at a position.
    pub(crate) fn line(&self, position: u64) -> String {
        let nth = usize::try_from(position).unwrap_or_default();
        nth.checked_rem(self.lines.len()).and_then(|nth| self.lines.get(nth)).cloned().unwrap_or_else(|| made(position))
    }

    /// The entry that it becomes: a header line as the service writes it, and the line.
    pub(crate) fn entry(&self, position: u64) -> String {
        let time_us = 1_790_845_200_000_000 + position * 180_871;
        format!("{{\"t\":{time_us},\"f\":1,\"l\":{position}}}\n{}", self.line(position))
    }

    pub(crate) fn entries(&self, range: Range<u64>) -> Vec<String> {
        range.map(|position| self.entry(position)).collect()
    }
}

/// Pseudo-random numbers that are the same in every run.
pub(crate) fn mix(position: u64) -> u64 {
    let mut value = position.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn made(position: u64) -> String {
    let [a, b, c] = [mix(position), mix(position ^ 1 << 40), mix(position ^ 1 << 41)];
    format!(
        r#"{{"event":"llm.request","operation":"{}","model":"qwen3-32b","engine_hash":"sha256:934e4215157825f0c2127b83fceace96533aa140c73280d85de038456859bc53","quantisation":"w4a8","schema_id":"mapping.v{}","duration_ms":{}.{:03},"queue_delay_us":{}.{},"tokens_in":{}.0,"tokens_out":{}.0,"kv_cache_reuse":{{"hits":{},"misses":{}}},"speculative":{{"accepts":{},"attempts":{}}},"cost_usd":0.0{:07},"error_code":null,"queue_delay_budget_overrun":{},"token_budget_overrun":{},"recorded_at":"2026-10-01T09:{:02}:{:02}.{:06}+00:00"}}"#,
        ["judge", "generate_json", "summarise", "classify"][usize::try_from(a >> 60 & 3).unwrap_or_default()],
        1 + (b >> 60 & 3),
        100 + a % 1_900,
        a >> 32 & 511,
        b % 4_000,
        b >> 40 & 7,
        c % 4_096,
        c >> 20 & 1_023,
        c >> 32 & 63,
        c >> 40 & 63,
        a >> 48 & 31,
        32 + (b >> 50 & 31),
        b >> 20 & 0x7f_ffff,
        b % 4_000 > 2_500,
        c % 4_096 > 4_000,
        a >> 12 & 31,
        b >> 12 & 31,
        c >> 44,
    )
}

//! Seeded traces: logs of an imagined serving stack, with gaps, few samples, switched engines and lines that are no records.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// 2026-10-01T09:00:00Z.
const START_MS: i64 = 1_790_845_200_000;

/// A small generator of its own, so that a seed means the same trace for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// How the stack behaves for a while.
#[expect(clippy::struct_excessive_bools, reason = "four measures, each good or bad")]
#[derive(Clone, Copy)]
struct Phase {
    step_ms: u64,
    slow: bool,
    queued: bool,
    cold: bool,
    misguessed: bool,
    offences: u64,
}

impl Phase {
    fn random(random: &mut Random) -> Self {
        Self {
            step_ms: random.pick(&[400, 900, 2_000, 3_100, 9_000, 25_000, 50_000]),
            slow: random.percent(45),
            queued: random.percent(45),
            cold: random.percent(45),
            misguessed: random.percent(45),
            offences: random.pick(&[0, 0, 2, 15]),
        }
    }
}

fn time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    assert!((20_727..20_758).contains(&days), "the traces lie in October 2026");
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    format!(
        "2026-10-{:02}T{hours:02}:{minutes:02}:{:02}.{:03}+00:00",
        days - 20_726,
        of_day / 1_000 % 60,
        of_day % 1_000
    )
}

fn record(random: &mut Random, phase: Phase, engine: &str, model: &str, at_ms: i64) -> String {
    let bad = |random: &mut Random, bad: bool| bad && random.percent(92);
    let duration =
        if bad(random, phase.slow) { 800_000 + random.below(900_000) } else { 20_000 + random.below(820_000) };
    let queue = if bad(random, phase.queued) { 15_000 + random.below(11_000) } else { random.below(15_050) };
    let mut line = format!(
        "{{\"event\":\"llm.request\",\"operation\":\"judge\",\"model\":\"{model}\",\"engine_hash\":\"{engine}\",\"quantisation\":\"w4a8\",\"schema_id\":null,\"duration_ms\":{}.{:03},",
        duration / 1000,
        duration % 1000
    );
    if random.percent(90) {
        write!(line, "\"queue_delay_us\":{}.{},", queue / 10, queue % 10).unwrap();
    }
    let blocks = random.below(12);
    let hits = if phase.cold { blocks / 3 } else { blocks * 2 / 3 };
    match random.below(10) {
        0 => line.push_str("\"kv_cache_reuse\":{},"),
        1 => write!(line, "\"kv_cache_reuse\":{{\"hits\":{hits}}},").unwrap(),
        _ => write!(line, "\"kv_cache_reuse\":{{\"hits\":{hits},\"misses\":{}}},", blocks - hits).unwrap(),
    }
    let attempts = if random.percent(20) { 0 } else { random.below(90) };
    let accepts = if phase.misguessed { attempts * 11 / 20 } else { attempts * 13 / 20 };
    write!(line, "\"speculative\":{{\"attempts\":{attempts},\"accepts\":{accepts}}},").unwrap();
    let cost = match random.below(100) {
        roll if roll < phase.offences => "0.100001",
        roll if roll < 50 => "0.10",
        roll if roll < 60 => "1e-05",
        roll if roll < 70 => "null",
        _ => "0.042117",
    };
    let overrun = match random.below(100) {
        roll if roll < phase.offences => "true",
        roll if roll < 80 => "false",
        _ => "null",
    };
    write!(line, "\"tokens_in\":512.0,\"tokens_out\":null,\"cost_usd\":{cost},\"token_budget_overrun\":{overrun},\"error_code\":null").unwrap();
    if random.percent(95) {
        write!(line, ",\"recorded_at\":\"{}\"", time(at_ms)).unwrap();
    }
    line + "}\n"
}

fn report(kind: &str, stack: &str, engine: &str, payload: &str, at_ms: i64) -> String {
    format!(
        "{{\"event_type\":\"{kind}\",\"artifact\":{{\"artifact_id\":\"{stack}\",\"version\":\"1\",\"hash\":\"{engine}\"}},\"actor\":\"ci\",\"payload\":{payload},\"timestamp\":\"{}\"}}\n",
        time(at_ms)
    )
}

const STACKS: [&str; 2] = ["engine-a", "engine-b"];
const ENGINES: [&str; 3] = ["sha256:e1", "sha256:e2", "sha256:e3"];

fn governance(random: &mut Random, length_ms: i64) -> Vec<(i64, String)> {
    let mut events = Vec::new();
    for stack in STACKS {
        let mut at = START_MS + i64::try_from(random.below(200_000)).unwrap() - 300_000;
        while at < START_MS + length_ms {
            let engine = random.pick(&ENGINES);
            let manifest =
                format!("{{\"manifest\":{{\"engine_hash\":\"{engine}\",\"build_flags\":[\"{}\"]}}}}", random.below(3));
            let (kind, payload) = match random.below(10) {
                0..=4 => ("llm_engine_published", manifest.as_str()),
                5..=6 => ("llm_rollback_completed", "{}"),
                7 => ("llm_warmup_failed", "{\"error\":\"golden sample mismatch\"}"),
                8 => (
                    "llm_observability_alert",
                    "{\"operation\":\"judge\",\"schema_id\":null,\"reason\":\"queue_delay\",\"queue_delay_us\":9000.0,\"threshold\":2500}",
                ),
                _ => ("llm_warmup_completed", "{}"),
            };
            events.push((at, report(kind, stack, engine, payload, at)));
            if random.percent(60) {
                let later = at + i64::try_from(random.below(90_000)).unwrap();
                events.push((later, report("llm_warmup_completed", stack, engine, "{\"duration_s\":41.2}", later)));
            }
            at += i64::try_from(60_000 + random.below(2_400_000)).unwrap();
        }
    }
    events.sort();
    events
}

/// Writes the two logs of a random trace of about two hours.
pub(crate) fn random(seed: u64, folder: &Path) {
    let mut random = Random::new(seed);
    let length_ms = 7_200_000;
    let events = governance(&mut random, length_ms);
    let mut logs = String::new();
    let (mut at, mut ends, mut phase) = (0_i64, 0_i64, Phase::random(&mut random));
    let mut engine = ENGINES[0];
    while at < length_ms {
        if at >= ends {
            phase = Phase::random(&mut random);
            ends = at + i64::try_from(30_000 + random.below(1_500_000)).unwrap();
            engine = random.pick(&ENGINES);
            if random.percent(25) {
                at += i64::try_from(random.below(2_200_000)).unwrap();
            }
        }
        at += i64::try_from(1 + random.below(2 * phase.step_ms)).unwrap();
        let named = match random.below(100) {
            0..=1 => "sha256:nobodys",
            2..=5 => random.pick(&ENGINES),
            _ => engine,
        };
        // Some lines are stamped before the line they follow.
        let skew = i64::try_from(random.below(40)).unwrap() * 500;
        let stamped = START_MS + at - if random.percent(5) { skew } else { 0 };
        let model = random.pick(&["qwen3-32b", "qwen3-32b", "qwen3-8b"]);
        logs.push_str(&record(&mut random, phase, named, model, stamped));
        if random.percent(1) {
            logs.push_str(
                "{\"event\":\"llm.request\",\"duration_ms\":NaN,\"model\":\"m\",\"engine_hash\":\"sha256:e1\"}\n",
            );
        }
    }
    write(folder, &logs, &events.into_iter().map(|(_, line)| line).collect::<String>());
}

/// Writes a trace in which every cut brings enough records of every measure, so that every rule always has a verdict.
pub(crate) fn dense(seed: u64, folder: &Path) {
    let mut random = Random::new(seed);
    let mut logs = String::new();
    let mut phase = Phase::random(&mut random);
    for step in 0..18_000_i64 {
        if step % 900 == 0 {
            phase = Phase { step_ms: 0, ..Phase::random(&mut random) };
        }
        logs.push_str(&record(&mut random, phase, ENGINES[0], "qwen3-32b", START_MS + step * 250));
    }
    let published = report("llm_engine_published", STACKS[0], ENGINES[0], "{}", START_MS - 5_000);
    let warm = report("llm_warmup_completed", STACKS[0], ENGINES[0], "{}", START_MS - 4_000);
    write(folder, &logs, &(published + &warm));
}

fn write(folder: &Path, logs: &str, events: &str) {
    fs::write(folder.join("provider-logs.ndjson"), logs).unwrap();
    fs::write(folder.join("governance-events.ndjson"), events).unwrap();
}

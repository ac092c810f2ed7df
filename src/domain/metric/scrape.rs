//! One look at a Triton server's `/metrics`: what it says of its GPUs, its queues and its KV cache.
//!
//! In scope: the event `triton.scrape`, which holds the page's lines as they came, and the typed figures in them. Out of
//! scope: fetching the page (`ingest::triton`), and what follows from the figures (`projection::capacity`).
//!
//! Invariants: the lines are read at the fold, never at the scrape, so that whoever has the entry reads the same figures; a
//! figure is an integer from its decimal text; a line of a metric that is read here, and that cannot be read, refuses the
//! scrape with the metric's name and its value. Metrics that nothing here asks about are passed over, whatever they hold.

use serde::Deserialize;

use super::NAME_BYTES_MAX;
use super::number::Number;
use super::wire::{self, Raw, Text};
use crate::domain::exposition::{self, Sample};
use crate::domain::refusal::{Code, Refusal, quoted};
use crate::domain::time::Time;

/// Metrics that are read, and so kept of a page. A prefix of more than one keeps them all.
pub const KEPT: [&str; 7] = [
    "nv_gpu_memory_",
    "nv_gpu_utilization",
    "nv_inference_queue_duration_us",
    "nv_inference_request_success",
    "nv_inference_exec_count",
    "nv_inference_count",
    "nv_trt_llm_",
];

/// More GPUs or models than this are no server of ours.
const GPUS_MAX: usize = 256;
const MODELS_MAX: usize = 1_024;
/// Utilization is a share, in millionths.
const PPM: u64 = 1_000_000;
/// No memory, counter or number of blocks is beyond this.
const VALUE_MAX: u128 = 1 << 62;

/// A scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// The stack that the server serves, by the scraper's configuration.
    pub stack: Box<str>,
    /// Which of the stack's servers.
    pub instance: Box<str>,
    /// When the page was asked for.
    pub scraped_at: Option<Time>,
    /// Its GPUs, in the order of the page.
    pub gpus: Vec<Gpu>,
    /// Its models, in the order of the page.
    pub models: Vec<Model>,
}

/// One GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Its UUID.
    pub uuid: Box<str>,
    /// Memory in use.
    pub used_bytes: Option<u64>,
    /// All its memory.
    pub total_bytes: Option<u64>,
    /// Share of the time in use, in millionths.
    pub utilization_ppm: Option<u64>,
}

/// One model. Counters count from the server's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// Counter: time that requests spent in Triton's queue, in microseconds.
    pub queue_us: Option<u64>,
    /// Counter: requests that succeeded.
    pub requests: Option<u64>,
    /// Counter: executions, each of one batch.
    pub executions: Option<u64>,
    /// Counter: inferences, of which a batch holds some.
    pub inferences: Option<u64>,
    /// KV blocks in all.
    pub kv_max: Option<u64>,
    /// KV blocks in use.
    pub kv_used: Option<u64>,
    /// KV blocks that nobody uses.
    pub kv_free: Option<u64>,
    /// Tokens that a block holds.
    pub kv_tokens_per_block: Option<u64>,
    /// Requests in the batcher.
    pub active: Option<u64>,
    /// Requests that the batcher has scheduled.
    pub scheduled: Option<u64>,
    /// Requests that the batcher takes at once.
    pub max_requests: Option<u64>,
}

/// The event on the wire.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    stack: Option<Text<'a>>,
    #[serde(borrow)]
    instance: Option<Text<'a>>,
    #[serde(borrow)]
    scraped_at: Raw<'a>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
}

/// Whether the line of a page is one that is read.
pub fn is_kept(line: &str) -> bool {
    KEPT.iter().any(|prefix| line.starts_with(prefix))
}

/// Reads the event.
pub(super) fn scrape(body: &str) -> Result<Scrape, Refusal> {
    let wire: Wire<'_> = wire::read(body)?;
    let name = |field: &str, text: Option<Text<'_>>| -> Result<Box<str>, Refusal> {
        let text = text.ok_or_else(|| Refusal::missing(field))?.0;
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            let detail = format!("field `{field}` is {:?}: a name has from 1 to {NAME_BYTES_MAX} bytes", quoted(&text));
            return Err(Refusal::new(Code::OutOfRange, field.to_owned(), detail));
        }
        Ok(text.into())
    };
    let mut scrape = Scrape {
        stack: name("stack", wire.stack)?,
        instance: name("instance", wire.instance)?,
        scraped_at: super::clock::instant("scraped_at", wire.scraped_at)?,
        gpus: Vec::new(),
        models: Vec::new(),
    };
    let text = wire.text.ok_or_else(|| Refusal::missing("text"))?.0;
    let mut known = 0_u32;
    for sample in exposition::samples(&text) {
        let sample = sample.map_err(|fault| unreadable(&text, &fault))?;
        known += u32::from(scrape.take(&sample)?);
    }
    if known == 0 {
        let detail = format!("field `text` holds none of Triton's metrics: {:?}", quoted(&text));
        return Err(Refusal::new(Code::MissingField, "text".to_owned(), detail));
    }
    scrape.check()?;
    Ok(scrape)
}

fn unreadable(text: &str, fault: &exposition::Fault) -> Refusal {
    let line = text.split('\n').nth(fault.line.saturating_sub(1)).unwrap_or_default();
    let detail = format!("field `text`: {fault}: {:?}", quoted(line));
    Refusal::new(Code::WrongType, "text".to_owned(), detail)
}

impl Scrape {
    /// Takes one sample in; whether it is of a metric that is read.
    fn take(&mut self, sample: &Sample<'_>) -> Result<bool, Refusal> {
        match sample.name {
            "nv_gpu_memory_used_bytes" => set(sample, &mut self.gpu(sample)?.used_bytes, 1)?,
            "nv_gpu_memory_total_bytes" => set(sample, &mut self.gpu(sample)?.total_bytes, 1)?,
            "nv_gpu_utilization" => set(sample, &mut self.gpu(sample)?.utilization_ppm, PPM)?,
            // Of a model on several GPUs there is a line for each; older servers write them so.
            "nv_inference_queue_duration_us" => add(sample, &mut self.model(sample)?.queue_us)?,
            "nv_inference_request_success" => add(sample, &mut self.model(sample)?.requests)?,
            "nv_inference_exec_count" => add(sample, &mut self.model(sample)?.executions)?,
            "nv_inference_count" => add(sample, &mut self.model(sample)?.inferences)?,
            "nv_trt_llm_kv_cache_block_metrics" => {
                let kind = required(sample, "kv_cache_block_type")?.to_owned();
                let model = self.model(sample)?;
                match kind.as_str() {
                    "max" => set(sample, &mut model.kv_max, 1)?,
                    "used" => set(sample, &mut model.kv_used, 1)?,
                    "free" => set(sample, &mut model.kv_free, 1)?,
                    "tokens_per" => set(sample, &mut model.kv_tokens_per_block, 1)?,
                    // The share in use, and what later versions add: nothing that the others do not say.
                    _ => {}
                }
            }
            "nv_trt_llm_request_metrics" => {
                let kind = required(sample, "request_type")?.to_owned();
                let model = self.model(sample)?;
                match kind.as_str() {
                    "active" => set(sample, &mut model.active, 1)?,
                    "scheduled" => set(sample, &mut model.scheduled, 1)?,
                    "max" => set(sample, &mut model.max_requests, 1)?,
                    _ => {}
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn gpu(&mut self, sample: &Sample<'_>) -> Result<&mut Gpu, Refusal> {
        let uuid = required(sample, "gpu_uuid")?;
        let index = match self.gpus.iter().position(|gpu| &*gpu.uuid == uuid) {
            Some(index) => index,
            None if self.gpus.len() == GPUS_MAX => return Err(too_many(sample, "256 GPUs")),
            None => {
                self.gpus.push(Gpu { uuid: uuid.into(), ..Gpu::default() });
                self.gpus.len() - 1
            }
        };
        Ok(&mut self.gpus[index])
    }

    fn model(&mut self, sample: &Sample<'_>) -> Result<&mut Model, Refusal> {
        let (name, version) = (required(sample, "model")?, sample.label("version").unwrap_or_default());
        let is = |model: &Model| &*model.name == name && &*model.version == version;
        let index = match self.models.iter().position(is) {
            Some(index) => index,
            None if self.models.len() == MODELS_MAX => return Err(too_many(sample, "1024 models")),
            None => {
                self.models.push(Model { name: name.into(), version: version.into(), ..Model::default() });
                self.models.len() - 1
            }
        };
        Ok(&mut self.models[index])
    }

    /// What no sample shows alone.
    fn check(&self) -> Result<(), Refusal> {
        for gpu in &self.gpus {
            let (Some(used), Some(total)) = (gpu.used_bytes, gpu.total_bytes) else { continue };
            if used > total || total == 0 {
                let field = format!("nv_gpu_memory_used_bytes{{gpu_uuid={:?}}}", gpu.uuid);
                let detail = format!("field `{field}` is {used}, outside a memory of {total} bytes");
                return Err(Refusal::new(Code::OutOfRange, field, detail));
            }
        }
        Ok(())
    }

    /// Free and total memory of the GPU that has the smallest share free; the first of several. `None` where no GPU says both.
    pub fn tightest_gpu(&self) -> Option<(u64, u64)> {
        let both = self.gpus.iter().filter_map(|gpu| {
            let total = gpu.total_bytes?;
            Some((total.checked_sub(gpu.used_bytes?)?, total))
        });
        both.reduce(|tightest, next| {
            // free / total < free / total, without a division.
            let is_tighter = u128::from(next.0) * u128::from(tightest.1) < u128::from(tightest.0) * u128::from(next.1);
            if is_tighter { next } else { tightest }
        })
    }
}

fn too_many(sample: &Sample<'_>, bound: &str) -> Refusal {
    let detail = format!("line {}: more than {bound} in one page", sample.line);
    Refusal::new(Code::OutOfRange, sample.name.to_owned(), detail)
}

fn required<'s>(sample: &'s Sample<'_>, label: &str) -> Result<&'s str, Refusal> {
    let field = || format!("{}{{{label}}}", sample.name);
    let value = sample.label(label).ok_or_else(|| {
        Refusal::new(
            Code::MissingField,
            field(),
            format!("line {}: `{}` has no label `{label}`", sample.line, sample.name),
        )
    })?;
    if value.is_empty() || value.len() > NAME_BYTES_MAX {
        let detail = format!(
            "line {}: `{}` is {:?}: a name has from 1 to {NAME_BYTES_MAX} bytes",
            sample.line,
            field(),
            quoted(value)
        );
        return Err(Refusal::new(Code::OutOfRange, field(), detail));
    }
    Ok(value)
}

/// The value in whole units of 1 / `unit`, rounded half to even.
fn read(sample: &Sample<'_>, unit: u64) -> Result<u64, Refusal> {
    let say = |code, what: &str| {
        let detail = format!("line {}: `{}` is {}, {what}", sample.line, sample.name, quoted(sample.value));
        Refusal::new(code, sample.name.to_owned(), detail)
    };
    let text = sample.value.strip_prefix('+').unwrap_or(sample.value);
    let Some(number) = Number::parse(text) else {
        let word = sample.value.trim_start_matches(['+', '-']).to_ascii_lowercase();
        return Err(if matches!(word.as_str(), "nan" | "inf" | "infinity") {
            say(Code::NotFiniteNumber, "which is no figure")
        } else {
            say(Code::WrongType, "not a number")
        });
    };
    let decimals = if unit == PPM { 6 } else { 0 };
    if number.is_below_zero() {
        return Err(say(Code::OutOfRange, "outside the numbers from 0"));
    }
    let value =
        number.magnitude(decimals).filter(|value| *value <= VALUE_MAX && (unit == 1 || *value <= u128::from(PPM)));
    value.and_then(|value| u64::try_from(value).ok()).ok_or_else(|| say(Code::OutOfRange, "outside what it can be"))
}

/// A gauge, which a page holds once.
fn set(sample: &Sample<'_>, slot: &mut Option<u64>, unit: u64) -> Result<(), Refusal> {
    let value = read(sample, unit)?;
    if slot.replace(value).is_some() {
        let detail = format!("line {}: `{}` occurs twice with the same labels", sample.line, sample.name);
        return Err(Refusal::new(Code::OutOfRange, sample.name.to_owned(), detail));
    }
    Ok(())
}

/// A counter, which is the sum over its lines.
fn add(sample: &Sample<'_>, slot: &mut Option<u64>) -> Result<(), Refusal> {
    let value = read(sample, 1)?;
    *slot = Some(slot.unwrap_or(0).saturating_add(value));
    Ok(())
}

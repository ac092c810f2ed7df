//! Which real parts this machine has. `tests/parts/install` puts them under `target/parts` (or `$GOVLEDGER_PARTS_DIR`).
//!
//! A test asks for its part and returns where there is none:
//! `let Some(parts) = parts::kafka() else { return };`
//! The skip is written past the test harness's capture and noted for `tests/run`; with `CI=true` it is a failure.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The jars of a Kafka broker.
#[derive(Debug, Clone)]
pub(crate) struct KafkaParts {
    pub(crate) libs: PathBuf,
}

/// Verifiers written in Go by others, and on others' packages.
#[derive(Debug, Clone)]
pub(crate) struct GoParts {
    pub(crate) fsck: PathBuf,
    pub(crate) walker: PathBuf,
}

/// Prometheus and Alertmanager, with the tools that check their files.
#[derive(Debug, Clone)]
pub(crate) struct PrometheusParts {
    pub(crate) promtool: PathBuf,
    pub(crate) prometheus: PathBuf,
    pub(crate) alertmanager: PathBuf,
    pub(crate) amtool: PathBuf,
}

/// A Python that has the `standardwebhooks` and `cryptography` packages.
#[derive(Debug, Clone)]
pub(crate) struct WebhookParts {
    pub(crate) python: PathBuf,
}

/// A Chromium and the packages that drive it.
#[derive(Debug, Clone)]
pub(crate) struct BrowserParts {
    pub(crate) chromium: PathBuf,
    pub(crate) node_modules: PathBuf,
}

pub(crate) fn kafka() -> Option<KafkaParts> {
    let libs = directory().join("kafka/libs");
    let there = directory().join("kafka/stamp").exists() && runs("java", "-version") && runs("openssl", "version");
    there.then_some(KafkaParts { libs }).or_else(|| skip("kafka"))
}

/// `strace`, where this process may trace its children.
pub(crate) fn strace() -> Option<()> {
    runs("strace", "-V").then_some(()).or_else(|| skip("strace"))
}

/// `faketime`, which sets a process's clock.
pub(crate) fn faketime() -> Option<PathBuf> {
    let library = directory().join("faketime/libfaketimeMT.so.1");
    library.exists().then_some(library).or_else(|| skip("faketime"))
}

/// The `schemathesis` command.
pub(crate) fn schemathesis() -> Option<PathBuf> {
    let command = directory().join("schemathesis/bin/schemathesis");
    command.exists().then_some(command).or_else(|| skip("schemathesis"))
}

/// An S3-compatible server.
pub(crate) fn s3() -> Option<PathBuf> {
    let command = directory().join("s3/versitygw");
    command.exists().then_some(command).or_else(|| skip("s3"))
}

/// A witness that others wrote.
#[derive(Debug, Clone)]
pub(crate) struct WitnessParts {
    pub(crate) omniwitness: PathBuf,
    pub(crate) generate_keys: PathBuf,
    /// Verifies cosigned checkpoints with the witness's own libraries.
    pub(crate) opened: PathBuf,
}

pub(crate) fn witness() -> Option<WitnessParts> {
    let (part, bin) = (directory().join("witness"), directory().join("witness/bin"));
    let found = WitnessParts {
        omniwitness: bin.join("omniwitness"),
        generate_keys: bin.join("generate_keys"),
        opened: bin.join("opened"),
    };
    part.join("stamp").exists().then_some(found).or_else(|| skip("witness"))
}

/// A Python that has the `OpenSSF`'s `model-signing`.
/// `kubernetes-validate`.
pub(crate) fn kubernetes() -> Option<PathBuf> {
    let part = directory().join("kubernetes");
    part.join("stamp").exists().then_some(part.join("bin/kubernetes-validate")).or_else(|| skip("kubernetes"))
}

/// `systemd-analyze`.
pub(crate) fn systemd() -> Option<()> {
    runs("systemd-analyze", "--version").then_some(()).or_else(|| skip("systemd"))
}

pub(crate) fn modelsigning() -> Option<PathBuf> {
    let part = directory().join("modelsigning");
    part.join("stamp").exists().then_some(part.join("bin/python")).or_else(|| skip("modelsigning"))
}

/// nginx.
pub(crate) fn nginx() -> Option<PathBuf> {
    let command = directory().join("nginx/nginx");
    command.exists().then_some(command).or_else(|| skip("nginx"))
}

/// Envoy.
pub(crate) fn envoy() -> Option<PathBuf> {
    let command = directory().join("envoy/envoy");
    command.exists().then_some(command).or_else(|| skip("envoy"))
}

/// Says that the calling test is not run because this machine does not allow something.
pub(crate) fn not_allowed(what: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED: {}: {what} is not allowed here\n", thread.name().unwrap_or("a test"));
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(directory().join("skipped")) {
        let _ = file.write_all(line.as_bytes());
    }
}

pub(crate) fn go() -> Option<GoParts> {
    let bin = directory().join("go/bin");
    let found = GoParts { fsck: bin.join("fsck"), walker: bin.join("walker") };
    (found.fsck.exists() && found.walker.exists()).then_some(found).or_else(|| skip("go"))
}

pub(crate) fn prometheus() -> Option<PrometheusParts> {
    let bin = directory().join("prometheus/bin");
    let found = PrometheusParts {
        promtool: bin.join("promtool"),
        prometheus: bin.join("prometheus"),
        alertmanager: bin.join("alertmanager"),
        amtool: bin.join("amtool"),
    };
    let there =
        [&found.promtool, &found.prometheus, &found.alertmanager, &found.amtool].iter().all(|path| path.exists());
    there.then_some(found).or_else(|| skip("prometheus"))
}

pub(crate) fn webhooks() -> Option<WebhookParts> {
    let python = directory().join("webhooks/bin/python");
    let there = directory().join("webhooks/stamp").exists() && python.exists();
    there.then_some(WebhookParts { python }).or_else(|| skip("webhooks"))
}

/// The packages of an `OpenID` Connect provider.
pub(crate) fn oidc() -> Option<PathBuf> {
    let part = directory().join("oidc");
    let there = part.join("stamp").exists() && runs("node", "--version");
    there.then_some(part).or_else(|| skip("oidc"))
}

pub(crate) fn browser() -> Option<BrowserParts> {
    let part = directory().join("browser");
    let chromium = part.join("chromium").canonicalize().unwrap_or_default();
    let found = BrowserParts { chromium, node_modules: part.join("node_modules") };
    let there = found.chromium.exists() && found.node_modules.exists() && runs("node", "--version");
    there.then_some(found).or_else(|| skip("browser"))
}

/// A setting of the test run, from the environment: `GOVLEDGER_KILLS` and the like.
pub(crate) fn setting(name: &str) -> Option<String> {
    variable(name)
}

/// Where the parts are.
pub(crate) fn directory() -> PathBuf {
    match variable("GOVLEDGER_PARTS_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/parts"),
    }
}

/// Says that the calling test is not run for want of `part`; a failure where CI must have every part.
fn skip<T>(part: &str) -> Option<T> {
    let thread = std::thread::current();
    let line =
        format!("SKIPPED: {}: {part} not available (tests/parts/install {part})\n", thread.name().unwrap_or("a test"));
    assert!(variable("CI").as_deref() != Some("true"), "CI=true and {line}");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(directory().join("skipped")) {
        let _ = file.write_all(line.as_bytes());
    }
    None
}

fn runs(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[expect(clippy::disallowed_methods, reason = "the tests read the environment here and nowhere else")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

//! A webhook receiver in Python that verifies with others' libraries, and what it logged.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::key::LedgerKey;
use serde_json::Value;

use crate::support::guarded::Guarded;
use crate::support::parts::WebhookParts;
use crate::support::process::free_port;
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;

const SECRET: [u8; 32] = [3; 32];
const SEED: [u8; 32] = [7; 32];

/// The receiver and the files with the secrets that it checks by.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) secret_file: PathBuf,
    pub(crate) key_file: PathBuf,
    log: PathBuf,
    _process: Guarded,
}

impl Receiver {
    pub(crate) fn start(parts: &WebhookParts, scratch: &Scratch) -> Self {
        let port = free_port();
        let log = scratch.write("receiver.ndjson", "");
        let secret = format!("whsec_{}", STANDARD.encode(SECRET));
        let public = STANDARD.encode(LedgerKey::generate(SEED).public());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/notify/receiver.py");
        let mut command = Command::new(&parts.python);
        command.arg(script).arg(port.to_string()).arg(&log).arg(&secret).arg(public);
        let process = Guarded::start(&command, &scratch.join("receiver.log"));
        wait_for("the receiver", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(())
        });
        let private = |name: &str, text: String| {
            let path = scratch.write(name, text);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).unwrap();
            path
        };
        Self {
            port,
            secret_file: private("whsec", secret),
            key_file: private("whsk", format!("whsk_{}\n", STANDARD.encode(SEED))),
            log,
            _process: process,
        }
    }

    /// A `[[notify.webhook]]` table for one of its paths.
    pub(crate) fn table(&self, name: &str, rest: &str) -> String {
        format!(
            "[[notify.webhook]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{}/{name}\"\nsecret_file = {:?}\nsigning_key_file = {:?}\n{rest}\n",
            self.port, self.secret_file, self.key_file
        )
    }

    /// What came, in order.
    pub(crate) fn received(&self, path: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["path"] == path).collect()
    }
}

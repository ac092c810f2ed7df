//! Real witnesses: `omniwitness`, each with a key of its own, a database that outlives it, and our ledgers' keys.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::guarded::Guarded;
use crate::support::http::Http;
use crate::support::parts::WitnessParts;
use crate::support::process::{finish, free_port};
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;

/// A witness, which may be down.
#[derive(Debug)]
pub(crate) struct Omni {
    parts: WitnessParts,
    name: String,
    directory: PathBuf,
    port: u16,
    /// The verifier key of its cosignatures.
    pub(crate) vkey: String,
    process: Option<Guarded>,
}

impl Omni {
    /// Makes its key; it does not run yet.
    pub(crate) fn new(parts: &WitnessParts, scratch: &Scratch, name: &str) -> Self {
        let directory = scratch.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let (private, public) = (directory.join("private"), directory.join("public"));
        let mut command = Command::new(&parts.generate_keys);
        command.args(["--origin", &format!("{name}.example")]);
        command.arg("--out_priv").arg(&private).arg("--out_pub").arg(&public);
        finish(&mut command).expect(0);
        let vkey = std::fs::read_to_string(public).unwrap().trim().to_owned();
        Self { parts: parts.clone(), name: name.to_owned(), directory, port: free_port(), vkey, process: None }
    }

    /// Starts it, or starts it again; it knows the log with this verifier key.
    pub(crate) fn start(&mut self, log_vkey: &str) {
        let origin = log_vkey.split('+').next().unwrap();
        let logs = self.directory.join("logs.yaml");
        let yaml = format!("Logs:\n  - Origin: {origin}\n    PublicKey: {log_vkey}\n    URL: http://127.0.0.1:1/\n");
        std::fs::write(&logs, yaml).unwrap();
        let mut command = Command::new(&self.parts.omniwitness);
        command.arg(format!("--listen=127.0.0.1:{}", self.port)).arg("--metrics_listen=").arg("--logtostderr");
        command.arg(format!("--private_key_path={}", self.directory.join("private").display()));
        command.arg(format!("--additional_logs={}", logs.display()));
        command.arg(format!("--db_file={}", self.directory.join("witness.db").display()));
        let mut process = Guarded::start(&command, &self.directory.join("log"));
        let http = Http::new(&format!("http://127.0.0.1:{}", self.port));
        wait_for("the witness", Duration::from_secs(30), || {
            assert!(process.is_alive(), "the witness ended:\n{}", process.log_tail(20));
            http.try_get("/").is_ok().then_some(())
        });
        self.process = Some(process);
    }

    /// Takes it down at once.
    pub(crate) fn stop(&mut self) {
        self.process.take().unwrap().kill9();
    }

    /// The prefix that checkpoints are submitted under.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its table in a policy, with this key.
    pub(crate) fn table(&self, vkey: &str) -> String {
        format!("[trust.witnesses.{}]\nvkey = {vkey:?}\nurl = \"http://127.0.0.1:{}\"\n", self.name, self.port)
    }

    /// What its libraries say of a cosigned checkpoint.
    pub(crate) fn opened(&self, log_vkey: &str, checkpoint: &std::path::Path) -> crate::support::process::Finished {
        finish(Command::new(&self.parts.opened).arg(log_vkey).arg(checkpoint).arg(&self.vkey))
    }
}

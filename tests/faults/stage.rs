//! A service on a directory of its own, what it acknowledged, and the audit after a fault.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::http::Http;
use crate::support::process::{Service, ServiceOptions, free_port, govledger};
use crate::support::scratch::Scratch;
use crate::support::wait::wait_for;

pub(crate) const STACK: &str = "engine-qwen3";

/// How long a process may take to end once it should.
pub(crate) const END: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    pub(crate) scratch: Scratch,
    pub(crate) data: PathBuf,
    port: u16,
    /// Metric lines that were answered with 200.
    pub(crate) acknowledged: u64,
    sent: u64,
}

impl Stage {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let data = scratch.join("data");
        Self::at(scratch, data)
    }

    pub(crate) fn at(scratch: Scratch, data: PathBuf) -> Self {
        let token = scratch.join("token");
        let arguments =
            [OsString::from("init"), "--data".into(), data.clone().into(), "--token-out".into(), token.into()];
        govledger(&arguments).expect(0);
        Self { scratch, data, port: free_port(), acknowledged: 0, sent: 0 }
    }

    pub(crate) fn options(&self) -> ServiceOptions {
        let listen = format!("127.0.0.1:{}", self.port);
        let data = self.data.clone().into_os_string();
        ServiceOptions::new(
            ["--data".into(), data, "serve".into(), "--listen".into(), OsString::from(listen)],
            self.port,
        )
    }

    /// The same under another program, whose arguments come first.
    pub(crate) fn options_under(&self, program: &str, first: &[&str]) -> ServiceOptions {
        let mut options = self.options();
        let own = std::mem::replace(&mut options.program, program.into());
        let mut arguments: Vec<OsString> = first.iter().map(Into::into).collect();
        arguments.push(own.into());
        arguments.append(&mut options.arguments);
        options.arguments = arguments;
        options
    }

    /// As the first admin.
    pub(crate) fn admin(&self, service: &Service) -> Http {
        service.http().with_token(std::fs::read_to_string(self.scratch.join("token")).unwrap().trim())
    }

    /// As the directory's owner, by the token that the running service leaves there.
    pub(crate) fn owner(&self, service: &Service) -> Http {
        let found: Value = serde_json::from_slice(&std::fs::read(self.data.join("service.json")).unwrap()).unwrap();
        service.http().with_token(found["token"].as_str().unwrap())
    }

    /// Publishes an engine and warms it up: something for the governance ledger.
    pub(crate) fn publish(http: &Http) {
        for (kind, second) in [("llm_engine_published", 0), ("llm_warmup_completed", 1)] {
            let event = format!(
                r#"{{"event_type":"{kind}","artifact":{{"artifact_id":"{STACK}","version":"1.4.0","hash":"sha256:41"}},"actor":"ci","payload":{{}},"timestamp":"2026-10-01T08:30:0{second}+00:00"}}"#
            );
            http.post("/v1/events", &[("content-type", "application/json")], event.as_bytes()).expect(200);
        }
    }

    /// Sends one batch of `lines` metric lines; the status, or none where no answer came. Remembers what was acknowledged.
    pub(crate) fn send(&mut self, http: &Http, lines: u64) -> Option<(u16, Value)> {
        let mut body = String::new();
        for number in self.sent..self.sent + lines {
            writeln!(body, r#"{{"event":"llm.request","model":"m","engine_hash":"sha256:41","duration_ms":{number}}}"#)
                .unwrap();
        }
        let headers = [("content-type", "application/x-ndjson")];
        self.sent += lines;
        let reply = http.try_send("POST", "/v1/metrics", &headers, body.as_bytes()).ok()?;
        if reply.status == 200 {
            self.acknowledged += lines;
        }
        Some((reply.status, serde_json::from_slice(&reply.body).unwrap_or_default()))
    }

    /// Sends until something other than 200 comes; that answer.
    pub(crate) fn send_until_refused(&mut self, http: &Http, lines: u64, batches: u32) -> Option<(u16, Value)> {
        for _ in 0..batches {
            match self.send(http, lines) {
                Some((200, _)) => {}
                other => return other,
            }
        }
        panic!("{batches} batches were all acknowledged: the fault never came")
    }

    /// Starts it on the machine's own calls, and compares with what was acknowledged; then stops it and verifies the directory.
    pub(crate) fn recover(&mut self) -> String {
        let mut service = Service::start(self.options());
        let http = self.owner(&service);
        let size = Self::size(&http);
        assert!(size > self.acknowledged, "{} lines acknowledged, {size} entries with the settings", self.acknowledged);
        assert!(size <= self.sent + 1, "{} lines sent, {size} entries", self.sent);
        assert_eq!(self.send(&http, 3).unwrap().0, 200);
        assert_eq!(Self::size(&http), size + 3);
        assert_eq!(service.terminate(), 0);
        self.verify();
        service.log()
    }

    fn size(http: &Http) -> u64 {
        let text = http.get("/ledger/metrics-0/checkpoint").expect(200).text();
        text.lines().nth(1).unwrap().parse().unwrap()
    }

    /// Health says that the writer stopped: a moment after the caller was told, whose answer does not wait for it.
    pub(crate) fn wait_stopped(http: &Http) {
        wait_for("the writer's stop in /healthz", END, || (http.get("/healthz").status == 503).then_some(()));
        assert_eq!(http.get("/readyz").status, 503);
    }

    pub(crate) fn verify(&self) {
        govledger(&verify(&self.data)).expect(0);
    }
}

pub(crate) fn verify(data: &Path) -> [OsString; 3] {
    ["verify".into(), "--data".into(), data.into()]
}

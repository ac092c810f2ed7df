//! One way to start a service in a test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use govledger::api::{ApiConfig, ApiState, serve};
use govledger::clock::Clock;
use govledger::domain::metric::TimeFields;
use govledger::domain::principal::token_sha256;
use govledger::domain::settings::SourceSettings;
use govledger::identity::oidc::Providers;
use govledger::identity::trail::{Trail, TrailConfig};
use govledger::sequencer::{Core, DataDir, Handle, InitOptions, Options, Running, start};
use serde_json::{Value, json};

use crate::disk::FailingDisk;
use crate::support::http::{Http, Reply};
use crate::support::wait::wait_for;

pub(crate) const NOW: &str = "2026-11-01T00:00:00Z";
pub(crate) const LOCAL_TOKEN: &str = "glt_local";
pub(crate) const ROLES: [&str; 6] = ["reader", "publisher", "oncall", "finance", "auditor", "admin"];

/// A running service.
pub(crate) struct App {
    pub(crate) http: Http,
    pub(crate) address: String,
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) data: tempfile::TempDir,
    pub(crate) admin: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: Option<std::thread::JoinHandle<()>>,
    running: Option<Running>,
}

/// The token of the principal that a role's test acts as; its name is the role's.
pub(crate) fn token(role: &str) -> String {
    format!("glt_test_{role}")
}

impl App {
    pub(crate) fn start() -> Self {
        Self::with(ApiConfig::default())
    }

    /// With cuts as its clock passes.
    pub(crate) fn live() -> Self {
        Self::begin(ApiConfig::default(), true, Providers::default(), TrailConfig::default(), None)
    }

    pub(crate) fn with(config: ApiConfig) -> Self {
        Self::begin(config, false, Providers::default(), TrailConfig::default(), None)
    }

    /// That takes tokens of these providers.
    pub(crate) fn knowing(providers: Providers) -> Self {
        Self::begin(ApiConfig::default(), false, providers, TrailConfig::default(), None)
    }

    /// With an access trail like this, on a disk of its own.
    pub(crate) fn trailing(config: ApiConfig, trail: TrailConfig, disk: Option<FailingDisk>) -> Self {
        Self::begin(config, false, Providers::default(), trail, disk)
    }

    fn begin(
        config: ApiConfig,
        live_cuts: bool,
        providers: Providers,
        trail: TrailConfig,
        disk: Option<FailingDisk>,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = InitOptions {
            node: "test".into(),
            source: SourceSettings::Embedded,
            admin: "root".into(),
            settings: None,
            further_node_keys: Vec::new(),
            now: NOW.parse().unwrap(),
        };
        let made = DataDir::init(&data.path().join("data"), options).unwrap();
        let admin = made.admin_token.unwrap();
        let clock = Clock::manual(NOW.parse().unwrap());
        let core = Core::open(made.data_dir.clone(), TimeFields::default()).unwrap();
        let running = start(core, Options { live_cuts, clock: clock.clone(), policy: None }).unwrap();
        let handle = Handle::new(&running, made.data_dir, clock.clone(), TimeFields::default(), None).unwrap();
        let state = ApiState::new(handle.clone(), config, Some(LOCAL_TOKEN.to_owned()));
        let trailed = handle.data_dir().clone();
        let trailed = match disk {
            Some(disk) => trailed.on(std::sync::Arc::new(disk)),
            None => trailed,
        };
        state.keep(Trail::start(trailed, clock.clone(), trail).unwrap());
        state.know(providers);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let served = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let stop = async { drop(stopped.await) };
                serve(listener, state, stop).await.unwrap();
            });
        });
        let address = address.recv().unwrap().to_string();
        let http = Http::new(&format!("http://{address}"));
        let app = Self {
            http,
            address,
            handle,
            clock,
            data,
            admin,
            stop: Some(stop),
            served: Some(served),
            running: Some(running),
        };
        for role in ROLES {
            app.enroll(role, &[role]);
        }
        app
    }

    /// Gives `name` roles and the token that [`token`] says.
    pub(crate) fn enroll(&self, name: &str, roles: &[&str]) {
        let body = json!({ "name": name, "roles": roles, "token_sha256": token_sha256(&token(name)) });
        self.command(&self.admin, "/v1/principals", &format!("enroll-{name}"), &body).expect(200);
        if roles.contains(&"finance") {
            let limit = json!({ "finance_limit_usd": "1000" });
            let path = format!("/v1/principals/{name}/limit");
            self.command(&self.admin, &path, &format!("limit-{name}"), &limit).expect(200);
        }
    }

    /// What an approval names of a waiver: the scope that was seen.
    pub(crate) fn seen(&self, waiver: &str) -> Value {
        json!({ "scope_sha256": self.read(&format!("/v1/waivers/{waiver}")).expect(200).json()["scope_sha256"] })
    }

    /// As the principal whose only role is `role`.
    pub(crate) fn as_role(&self, role: &str) -> Http {
        self.http.with_token(&token(role))
    }

    pub(crate) fn command(&self, token: &str, path: &str, key: &str, body: &Value) -> Reply {
        self.http.with_token(token).post(
            path,
            &[("idempotency-key", key), ("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    pub(crate) fn read(&self, path: &str) -> Reply {
        self.as_role("reader").get(path)
    }

    pub(crate) fn publish(&self, body: &str) -> Reply {
        self.as_role("publisher").post(
            "/v1/events",
            &[("content-type", "application/cloudevents+json")],
            body.as_bytes(),
        )
    }

    /// Sends bytes as they are, closes that side, and returns all that comes back.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The status of a request whose answer may never end.
    pub(crate) fn status(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\n{authorization}Idempotency-Key: {path}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
    }

    pub(crate) fn size(&self) -> u64 {
        self.handle.shared().governance().size
    }

    /// Stops it; what is left is its directory.
    pub(crate) fn stopped(mut self) -> tempfile::TempDir {
        self.halt();
        std::mem::replace(&mut self.data, tempfile::tempdir().unwrap())
    }

    pub(crate) fn restart_is_clean(mut self) {
        self.halt();
        let data_dir = DataDir::open(&self.data.path().join("data")).unwrap();
        let core = Core::open(data_dir, TimeFields::default()).unwrap();
        drop(core);
    }

    fn halt(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(served) = self.served.take() {
            served.join().unwrap();
        }
        if let Some(running) = self.running.take() {
            running.stop().unwrap();
            self.wait_unlocked();
        }
    }

    /// A process that another test starts this moment has a copy of each open lock until it runs its program.
    fn wait_unlocked(&self) {
        for ledger in std::fs::read_dir(self.data.path().join("data")).unwrap() {
            let Ok(lock) = File::open(ledger.unwrap().path().join("lock")) else { continue };
            wait_for("the lock of a ledger", Duration::from_secs(10), || lock.try_lock().ok());
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.halt();
        }
    }
}

/// An event of the stack `s`.
pub(crate) fn event(id: &str, event_type: &str, data: &Value) -> String {
    json!({ "specversion": "1.0", "id": id, "source": "ci", "type": event_type, "subject": "s", "data": data })
        .to_string()
}

pub(crate) fn published(id: &str, engine: &str, version: &str) -> String {
    event(
        id,
        "llm_engine_published",
        &json!({ "engine_hash": engine, "version": version, "manifest": { "engine_hash": engine, "engine_version": version } }),
    )
}

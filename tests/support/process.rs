//! The `govledger` binary as a user runs it: a command to its end, or a service that is started, killed and started again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::guarded::Guarded;
use super::http::Http;
use super::scratch::Scratch;
use super::wait::{Deadline, wait_for};

/// How long a start may take. Debug builds on a loaded machine are slow; a service that is up is noticed at once.
const START_LIMIT: Duration = Duration::from_mins(1);

/// How long a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_govledger"))
}

/// A port on 127.0.0.1 that was free a moment ago and that no other caller in this process was given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        if given.insert(port) {
            return port;
        }
    }
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<&Output> for Finished {
    fn from(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Finished {
    /// Panics with both outputs where the exit code is another one.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {:?}; stderr:\n{}", self.stdout, self.stderr))
    }
}

/// Runs any program to its end without standard input.
pub(crate) fn finish(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished::from(&output)
}

/// Runs `govledger` with these arguments to its end.
pub(crate) fn govledger<A: Into<OsString> + Clone>(arguments: &[A]) -> Finished {
    finish(Command::new(binary()).args(arguments.iter().cloned().map(Into::into)))
}

/// How a service is started; kept, so that it can be started again after a kill.
#[derive(Debug, Clone)]
pub(crate) struct ServiceOptions {
    /// The program; `govledger` where not said otherwise.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: Option<PathBuf>,
    /// Where it will answer: `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// The path that answers 200 once it is ready.
    pub(crate) ready_path: String,
}

impl ServiceOptions {
    /// `govledger` with these arguments, answering `/readyz` at this port of 127.0.0.1.
    pub(crate) fn new<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>, port: u16) -> Self {
        Self {
            program: binary().to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            directory: None,
            url: format!("http://127.0.0.1:{port}"),
            ready_path: "/readyz".to_owned(),
        }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

/// A service that runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Service {
    process: Guarded,
    options: ServiceOptions,
    scratch: Scratch,
}

impl Service {
    /// Starts it and waits until it is ready; panics with its log where it ends or stays silent.
    pub(crate) fn start(options: ServiceOptions) -> Self {
        let mut service = Self::spawn(options);
        service.wait_ready();
        service
    }

    /// Starts it and returns at once.
    pub(crate) fn spawn(options: ServiceOptions) -> Self {
        let scratch = Scratch::new("service");
        let process = Guarded::start(&options.command(), &scratch.join("log"));
        Self { process, options, scratch }
    }

    pub(crate) fn wait_ready(&mut self) {
        let http = self.http();
        let deadline = Deadline::after(START_LIMIT);
        loop {
            if http.try_get(&self.options.ready_path).is_ok_and(|reply| reply.status == 200) {
                return;
            }
            assert!(self.process.is_alive(), "{:?} ended while starting", self.options.arguments);
            assert!(!deadline.passed(), "{:?} was not ready within {START_LIMIT:?}", self.options.arguments);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.options.url
    }

    /// A client without a token.
    pub(crate) fn http(&self) -> Http {
        Http::new(&self.options.url)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL: nothing is flushed and nobody is told.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGTERM; the exit status.
    pub(crate) fn terminate(&mut self) -> i32 {
        self.process.terminate(STOP_LIMIT)
    }

    /// `STOP` and `CONT` among others.
    pub(crate) fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    /// Starts it again with the same options, after `kill9` or `terminate`, and waits until it is ready.
    pub(crate) fn start_again(&mut self) {
        self.spawn_again();
        self.wait_ready();
    }

    /// Starts it again and returns at once.
    pub(crate) fn spawn_again(&mut self) {
        assert!(!self.process.is_alive(), "stop the service before starting it again");
        self.process = Guarded::start(&self.options.command(), &self.scratch.join("log"));
    }

    /// The exit status where it ends by itself within `limit`.
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> Option<i32> {
        self.process.wait(limit)
    }

    /// All that it has logged over all its starts.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn wait_for_log(&self, text: &str, limit: Duration) {
        wait_for(&format!("{text:?} in the log"), limit, || self.log().contains(text).then_some(()));
    }
}

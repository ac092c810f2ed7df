//! A data directory of one demo, made once and copied for each test, and a way to run the binary on it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The stacks of the demo.
pub(crate) const QWEN: &str = "engine-qwen3";
pub(crate) const RERANK: &str = "engine-rerank";

/// A directory of its own and what the demo said.
#[derive(Debug)]
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    /// What the demo said.
    pub(crate) told: String,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Asserts the exit code.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Asserts that it said something.
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(
            self.out.contains(words) || self.err.contains(words),
            "{words:?} is not in\n{}\n{}",
            self.out,
            self.err
        );
        self
    }
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_govledger"));
    for name in ["GOVLEDGER_URL", "GOVLEDGER_TOKEN", "GOVLEDGER_DATA"] {
        command.env_remove(name);
    }
    command
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl Bench {
    /// A place without a data directory.
    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), told: String::new() }
    }

    /// A copy of the demo's directory.
    pub(crate) fn demo() -> Self {
        static DEMO: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
        let (made, told) = DEMO.get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let output = binary().arg("demo").arg("--data").arg(directory.path().join("data")).output().unwrap();
            let told = ran(output).exits(0).out;
            (directory, told)
        });
        let bench = Self { told: told.clone(), ..Self::empty() };
        copy(&made.path().join("data"), &bench.root());
        bench
    }

    /// The data directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A line of a shell beside the data directory, which is found there under the name that it has by default: the exit code, and
    /// all that it said.
    pub(crate) fn shell(&self, line: &str) -> (i32, String) {
        let default = self.directory.path().join("govledger-data");
        if !default.exists() {
            std::os::unix::fs::symlink(self.root(), default).unwrap();
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_govledger")).parent().unwrap();
        let path = std::env::join_paths([programs, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec 2>&1; {line}")]).current_dir(self.directory.path()).env("PATH", path);
        for name in ["GOVLEDGER_URL", "GOVLEDGER_TOKEN", "GOVLEDGER_DATA"] {
            command.env_remove(name);
        }
        let ran = ran(command.output().unwrap());
        (ran.code.unwrap(), ran.out)
    }

    /// A path in the data directory.
    pub(crate) fn data(&self, name: &str) -> String {
        match name.strip_prefix("../") {
            Some(beside) => self.directory.path().join(beside).display().to_string(),
            None => self.root().join(name).display().to_string(),
        }
    }

    /// A file beside the data directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// An export beside the data directory.
    pub(crate) fn exported(&self) -> PathBuf {
        let path = self.directory.path().join("export");
        self.run(&["export", &path.display().to_string()]).exits(0);
        path
    }

    /// What the recomputation of these alerts from the export says.
    pub(crate) fn alert_figures(&self, alerts: &str) -> Ran {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/alert_figures.py");
        ran(Command::new("python3").arg(script).arg(self.exported()).arg(alerts).output().unwrap())
    }

    /// Runs a command on the data directory.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_in(&self.root().display().to_string(), args)
    }

    /// Runs a command on another data directory.
    pub(crate) fn run_in(&self, data: &str, args: &[&str]) -> Ran {
        let mut command = binary();
        command.args(["--data", data]).args(args).current_dir(self.directory.path());
        ran(command.stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a command as somebody.
    pub(crate) fn run_as(&self, principal: &str, args: &[&str]) -> Ran {
        let token = self.data(&format!("demo/{principal}.token"));
        self.run(&[args, &["--token-file", &token]].concat())
    }

    /// Runs a command with something on its standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut command = binary();
        command
            .args(args)
            .arg("--data")
            .arg(self.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        ran(child.wait_with_output().unwrap())
    }

    /// Runs a command that succeeds or says no, and parses its JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        parse(&self.run(&[args, &["--json"]].concat()))
    }

    /// The same, as somebody.
    pub(crate) fn json_as(&self, principal: &str, args: &[&str]) -> serde_json::Value {
        parse(&self.run_as(principal, &[args, &["--json"]].concat()))
    }
}

fn parse(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The largest file below a directory.
pub(crate) fn largest(directory: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                files.push((metadata.len(), entry.path()));
            }
        }
    }
    files.into_iter().max().unwrap().1
}

/// Flips one bit in the middle of a file.
pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A process that runs until it is told to stop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Option<std::process::Child>,
    url: String,
}

impl Process {
    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(mut self) -> Ran {
        let child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        ran(child.wait_with_output().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Bench {
    /// Starts a command and leaves it running.
    pub(crate) fn spawn(&self, args: &[&str]) -> Process {
        let mut command = binary();
        command.args(args).arg("--data").arg(self.root());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Process { child: Some(child), url: String::new() }
    }

    /// Starts the service and waits until it can be found.
    pub(crate) fn serve(&self) -> Process {
        self.serve_with(&[])
    }

    /// The same with more arguments.
    pub(crate) fn serve_with(&self, more: &[&str]) -> Process {
        let mut process = self.spawn(&[&["serve", "--listen", "127.0.0.1:0"], more].concat());
        let file = self.root().join("service.json");
        until(|| {
            assert!(process.child.as_mut().unwrap().try_wait().unwrap().is_none(), "the service ended by itself");
            file.exists()
        });
        let found: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        found["url"].as_str().unwrap().clone_into(&mut process.url);
        process
    }
}

/// Waits for something, for half a minute at the most.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("it did not come about within 30 s");
}

/// Permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

impl Bench {
    /// Runs a command in an environment, without naming a directory.
    pub(crate) fn run_env(&self, args: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = binary();
        command.args(args).current_dir(self.directory.path()).envs(environment.iter().copied()).stdin(Stdio::null());
        ran(command.output().unwrap())
    }
}

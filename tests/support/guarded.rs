//! Child processes that cannot outlive the test process, however it ends.
//!
//! Each runs under a small shell that holds the read end of a pipe. A line on the pipe is a signal to send; the end of the
//! pipe, which the kernel makes when the test process is gone, is SIGKILL. So a shared broker in a `static`, whose
//! destructor never runs, dies too. The shell ends when the process does, with its exit status (128 + signal where killed).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::wait::Deadline;

const GUARD: &str = r#"
log=$1; shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
pid=$!
echo $pid
exec >/dev/null 2>&1
( while read -r signal <&3; do kill -s "$signal" $pid; done; kill -s KILL $pid ) &
dog=$!
wait $pid
status=$?
kill $dog
exit $status
"#;

/// A running child process and its log.
#[derive(Debug)]
pub(crate) struct Guarded {
    shell: Child,
    control: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

impl Guarded {
    /// Starts `command` with both outputs appended to `log`.
    pub(crate) fn start(command: &Command, log: &Path) -> Self {
        let mut guard = Command::new("sh");
        guard.arg("-c").arg(GUARD).arg("guard").arg(log);
        guard.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(name, value),
                None => guard.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            guard.current_dir(directory);
        }
        let mut shell = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let control = shell.stdin.take();
        let mut first_line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
        let pid = first_line
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("no pid from the guard of {command:?}: {first_line:?}"));
        Self { shell, control, pid, log: log.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_none()
    }

    /// Sends a signal by its name without `SIG`: `TERM`, `STOP`, `CONT`, …
    pub(crate) fn signal(&mut self, name: &str) {
        if let Some(control) = &mut self.control {
            // A process that has ended already has no guard to read this.
            let _ = writeln!(control, "{name}");
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill9(&mut self) {
        self.signal("KILL");
        self.shell.wait().unwrap();
    }

    /// SIGTERM; the exit status, or a panic where the process is still there after `limit`.
    pub(crate) fn terminate(&mut self, limit: Duration) -> i32 {
        self.signal("TERM");
        self.wait(limit).unwrap_or_else(|| {
            panic!("process {} still runs {limit:?} after SIGTERM; its log:\n{}", self.pid, self.log_tail(60))
        })
    }

    /// The exit status where the process ends within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(status) = self.shell.try_wait().unwrap() {
                return Some(status.code().unwrap_or(-1));
            }
            if deadline.passed() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// All that it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last lines of {}:\n{}", self.log.display(), self.log_tail(40));
        }
        self.control = None;
        let _ = self.shell.wait();
    }
}

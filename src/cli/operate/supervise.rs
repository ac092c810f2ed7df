//! A command of the operator's, run under a time limit: how it ended, how long it took, and the end of what it printed.
//!
//! It gets a process group of its own, and the whole group is ended: a warm-up script that leaves a client running behind
//! would go on sending requests to an engine that was judged already.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cli::error::CliError;
use crate::cli::out;
use crate::clock::monotonic;

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long a command may take to end by itself once it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long its last output is waited for: a process that left the group may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(2);
/// Bytes of output kept.
const TAIL_BYTES_MAX: usize = 4_096;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that nobody here sent.
    Signalled(i32),
    /// It was stopped after the limit.
    TimedOut(Duration),
    /// It was stopped because this process was.
    Interrupted,
    /// It never began.
    NotStarted(String),
}

/// What a command did.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub(super) ending: Ending,
    pub(super) took: Duration,
    /// The last of standard output and standard error, as they came, valid UTF-8.
    pub(super) output_tail: String,
}

impl Ran {
    pub(super) fn succeeded(&self) -> bool {
        self.ending == Ending::Exited(0)
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "ended by signal {signal}"),
            Self::TimedOut(limit) => write!(f, "stopped after its time limit of {} s", limit.as_secs()),
            Self::Interrupted => f.write_str("interrupted"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
        }
    }
}

/// The end of what a command prints.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(TAIL_BYTES_MAX);
        self.0.drain(..excess);
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        // What was cut off in the middle of a character begins with its rest.
        text.trim_start_matches('\u{fffd}').to_owned()
    }
}

/// Runs `command` to its end, `limit` at the most. What it prints goes to standard error too, so that standard output stays
/// ours.
pub(super) fn run(command: &mut Command, limit: Duration, stop: &AtomicBool) -> Result<Ran, CliError> {
    let began = monotonic();
    // One pipe for both, so that an error message stands after what led to it.
    let (pipe, output) = std::io::pipe().map_err(CliError::failed)?;
    let errors = output.try_clone().map_err(CliError::failed)?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    let started = command.spawn();
    // Our own ends of the pipe, which would keep it open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            let why = format!("{}: {error}", command.get_program().display());
            return Ok(Ran { ending: Ending::NotStarted(why), took: began.elapsed(), output_tail: String::new() });
        }
    };
    let tail = Arc::new(Mutex::new(Tail::default()));
    let reader = follow(pipe, Arc::clone(&tail));
    let ending = wait(&mut child, began, limit, stop)?;
    let took = began.elapsed();
    let drained = monotonic();
    while !reader.is_finished() && drained.elapsed() < DRAIN {
        std::thread::sleep(POLL);
    }
    let output_tail = tail.lock().unwrap_or_else(PoisonError::into_inner).text();
    Ok(Ran { ending, took, output_tail })
}

fn follow(mut pipe: impl Read + Send + 'static, tail: Arc<Mutex<Tail>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8_192];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            // A terminal that went away does not end the command.
            let _ = std::io::stderr().lock().write_all(bytes);
            tail.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        }
    })
}

fn wait(child: &mut Child, began: Instant, limit: Duration, stop: &AtomicBool) -> Result<Ending, CliError> {
    loop {
        if let Some(status) = child.try_wait().map_err(CliError::failed)? {
            return Ok(ended(status));
        }
        if began.elapsed() >= limit {
            end(child)?;
            return Ok(Ending::TimedOut(limit));
        }
        if stop.load(Ordering::SeqCst) {
            end(child)?;
            return Ok(Ending::Interrupted);
        }
        std::thread::sleep(POLL);
    }
}

fn ended(status: ExitStatus) -> Ending {
    status.code().map_or_else(|| Ending::Signalled(status.signal().unwrap_or_default()), Ending::Exited)
}

/// Asks the whole group to end, then makes it.
fn end(child: &mut Child) -> Result<(), CliError> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal: Signal| {
        if let Some(group) = group {
            // A group that is gone already needs no signal.
            let _ = kill_process_group(group, signal);
        }
    };
    signal(Signal::TERM);
    let asked = monotonic();
    while asked.elapsed() < GRACE {
        if child.try_wait().map_err(CliError::failed)?.is_some() {
            break;
        }
        std::thread::sleep(POLL);
    }
    // Also after a polite end: what the command left behind in its group goes with it.
    signal(Signal::KILL);
    child.wait().map_err(CliError::failed)?;
    out::note("the command was stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ran {
        run(Command::new("sh").args(["-c", script]), limit, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn an_ending_is_what_it_was() {
        let minute = Duration::from_mins(1);
        assert!(shell("exit 0", minute).succeeded());
        assert_eq!(shell("exit 3", minute).ending, Ending::Exited(3));
        assert_eq!(shell("kill -9 $$", minute).ending, Ending::Signalled(9));
        let none = run(&mut Command::new("/no/such/program"), minute, &AtomicBool::new(false)).unwrap();
        assert!(matches!(none.ending, Ending::NotStarted(_)));
        let stopped = run(Command::new("sleep").arg("60"), minute, &AtomicBool::new(true)).unwrap();
        assert_eq!(stopped.ending, Ending::Interrupted);
    }

    #[test]
    fn the_limit_ends_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let script = format!("(sleep 1; touch {}) & sleep 60", mark.display());
        let ran = shell(&script, Duration::from_millis(200));
        assert_eq!(ran.ending, Ending::TimedOut(Duration::from_millis(200)));
        std::thread::sleep(Duration::from_millis(1_500));
        assert!(!mark.exists(), "what the command had started went on");
    }

    #[test]
    fn the_last_of_the_output_is_kept_and_is_text() {
        let ran = shell(
            "i=0; while [ $i -lt 2000 ]; do echo \"zeile-ü $i\"; i=$((i+1)); done; echo last >&2",
            Duration::from_mins(1),
        );
        assert!(ran.output_tail.len() <= TAIL_BYTES_MAX, "{}", ran.output_tail.len());
        assert!(ran.output_tail.contains("zeile-ü 1999") && ran.output_tail.contains("last"));
        assert!(!ran.output_tail.contains("zeile-ü 100\n"));
    }
}

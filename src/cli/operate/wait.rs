//! `wait-traffic`: returns once the gate of a stack is open, for init containers and start scripts.

use std::time::Duration;

use crate::cli::args::{Options, WaitTraffic};
use crate::cli::error::{CliError, Exit, Outcome};
use crate::cli::out;
use crate::cli::source::Place;
use crate::clock::monotonic;
use crate::projection::answers::Asked;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);

pub(in crate::cli) fn run(place: &Place, options: &Options, wait: &WaitTraffic) -> Outcome {
    let asked = Asked::Traffic { stack: wait.stack.clone(), engine: wait.engine.clone() };
    let began = monotonic();
    let mut last: Option<Result<String, CliError>> = None;
    loop {
        match place.open().and_then(|source| source.ask(&asked, None)) {
            Ok(reply) if !reply.negative => {
                if options.json {
                    out::json(&reply.body);
                } else {
                    crate::cli::show::answer(&asked, &reply);
                }
                return Ok(Exit::Fine);
            }
            Ok(reply) => say_once(&mut last, Ok(out::text(&reply.body["reason"]))),
            // A question that is wrong stays wrong.
            Err(error) if error.exit == Exit::Usage || error.exit == Exit::Refused => return Err(error),
            // An answer is worth more than a later silence.
            Err(error) if matches!(last, Some(Ok(_))) => out::note(error.text),
            Err(error) => say_once(&mut last, Err(error)),
        }
        if began.elapsed() + EVERY > wait.timeout.0 {
            break;
        }
        std::thread::sleep(EVERY);
    }
    let waited = wait.timeout.0.as_secs();
    match last {
        Some(Ok(reason)) => Err(CliError::new(Exit::No, format!("still closed after {waited} s: {reason}"))),
        Some(Err(error)) if wait.open_when_unreachable => {
            out::note(format!("nobody answered in {waited} s ({}); going on without", error.text));
            Ok(Exit::Fine)
        }
        Some(Err(error)) => Err(CliError::new(error.exit, format!("nobody answered in {waited} s: {}", error.text))),
        None => Err(CliError::failed("nothing was asked")),
    }
}

/// Tells what is new since the last time.
fn say_once(last: &mut Option<Result<String, CliError>>, now: Result<String, CliError>) {
    let text = |told: &Result<String, CliError>| match told {
        Ok(reason) => format!("closed: {reason}"),
        Err(error) => error.text.clone(),
    };
    if last.as_ref().map(text) != Some(text(&now)) {
        out::note(text(&now));
    }
    *last = Some(now);
}

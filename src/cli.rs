//! The command line: what can be asked for, and who does it.
//!
//! Reading commands open a [`source::Source`] and print its answers. Writing ones go to the running service where there is
//! one, else through a [`node::Node`] of their own. Nothing here decides or computes an answer.

mod args;
mod ask;
mod error;
mod export;
mod ingest;
mod init;
mod node;
mod out;
mod show;
mod source;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Task};
use error::{CliError, Exit, Outcome};

/// Runs the command that the arguments ask for.
pub fn run() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors; clap knows where each goes.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Fine }.into();
        }
    };
    match dispatch(args) {
        Ok(exit) => exit.into(),
        Err(CliError { exit, text }) => {
            out::note(format!("govledger: {text}"));
            exit.into()
        }
    }
}

fn dispatch(args: Args) -> Outcome {
    let place = args.place();
    let options = args.options();
    match args.task {
        Task::Init(init) => init::run(&place, &options, init),
        Task::Ingest(ingest) => ingest::run(&place, &options, ingest),
        Task::Read(read) => ask::run(&place, &options, read),
        Task::Verify(verify) => verify::run(&place, &options, &verify),
        Task::Export(export) => export::run(&place, &options, &export),
    }
}

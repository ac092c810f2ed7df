//! The command line: what can be asked for, and who does it.
//!
//! Reading commands open a [`source::Source`] and print its answers. Writing ones go to the running service where there is
//! one, else through a [`node::Node`] of their own. Nothing here decides or computes an answer.

mod access;
mod args;
mod ask;
mod bench;
mod check_answer;
mod decide;
mod deliveries;
mod demo;
mod doctor;
mod entries;
mod error;
mod export;
mod govern;
mod incidents;
mod ingest;
mod init;
mod node;
mod operate;
mod out;
mod policy;
mod principals;
mod prove;
mod rebuild;
mod schemas;
mod serve;
mod show;
mod source;
mod verify;
mod waiver_ask;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

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
    if args.is_local_only() && (place.server.is_some() || place.export.is_some()) {
        return Err(CliError::usage("this works on a data directory of this machine; name it with --data"));
    }
    let options = args.options();
    let named_data = args.named_data();
    match args.task {
        Task::Init(init) => init::run(&place, &options, init),
        Task::Ingest(ingest) => ingest::run(&place, &options, &ingest),
        Task::Doctor(doctor) => doctor::run(&place, &options, &doctor),
        Task::Serve(serve) => serve::run(&place, &options, &serve),
        Task::Bench(bench) => bench::run(&options, &bench),
        Task::Demo(demo) => demo::run(&options, named_data, &demo),
        Task::Entries(entries) => entries::run(&place, &options, &entries),
        Task::Waivers { task } => decide::waivers(&place, &options, task),
        Task::Incidents { task } => incidents::run(&place, &options, task),
        Task::Backup { task } => operate::backup(&place, &options, task),
        Task::Warmup(warmup) => operate::warmup(&place, &options, &warmup),
        Task::WaitTraffic(wait) => operate::wait_traffic(&place, &options, &wait),
        Task::Rollback { task } => operate::rollback(&place, &options, task),
        Task::Condemn(judgement) => decide::judge(&place, &options, judgement, true),
        Task::Reinstate(judgement) => decide::judge(&place, &options, judgement, false),
        Task::Adopt(adopt) => decide::adopt(&place, &options, adopt),
        Task::ConfirmHole(hole) => decide::hole(&place, &options, hole),
        Task::Token { task } => decide::token(&place, &options, task),
        Task::Principals { task } => principals::run(&place, &options, task),
        Task::Access(access) => access::run(&place, &options, &access),
        Task::Deliveries => deliveries::run(&place, &options),
        Task::Maintenance { task } => govern::maintenance(&place, &options, task),
        Task::Keys { task } => govern::keys(&place, &options, task),
        Task::Policy { task } => policy::run(&place, &options, task),
        Task::Prove(prove) => prove::prove(&place, &options, &prove),
        Task::CheckProof(check) => prove::check(&place, &options, &check),
        Task::CheckAnswer(check) => check_answer::run(&place, &options, &check),
        Task::Rebuild => rebuild::run(&place, &options),
        Task::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "govledger", &mut std::io::stdout());
            Ok(Exit::Fine)
        }
        Task::Schemas(schemas) => schemas::run(&schemas),
        Task::Read(read) => ask::run(&place, &options, read),
        Task::Verify(verify) => verify::run(&place, &options, &verify),
        Task::Export(export) => export::run(&place, &options, &export),
    }
}

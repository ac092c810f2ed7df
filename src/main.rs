//! The one binary: see [`govledger::cli`].

fn main() -> std::process::ExitCode {
    govledger::cli::run()
}

//! The one binary: see [`govledger::cli`].

/// Long runs hand large buffers from thread to thread; glibc keeps them in the arenas of the threads that made them, which grow
/// (docs/BENCHMARKS.md has the figures).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    govledger::cli::run()
}

//! The one binary: see [`govledger::cli`].

/// Long runs hand large buffers from thread to thread; glibc's arenas keep them where they were freed and grow with the log
/// (docs/BENCHMARKS.md has the figures).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    govledger::cli::run()
}

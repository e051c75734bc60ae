//! The `peerage` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Keys and values are small and of all sizes, and what one thread allocates another one frees:
/// the allocator of the system spends a fifth of the time of a busy node on that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    peerage::cli::main()
}

//! The `waxwing` program: parse, run, exit code.

use std::process::ExitCode;

/// Many small buffers come and go on many threads; the system's allocator pays for that in time and in memory kept.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SOCKETS_AFTER_TASKS: u32 = 13;

fn main() -> ExitCode {
    let cli = match waxwing::cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = cli.threads() {
        builder.worker_threads(threads);
    }
    // Sockets are looked at after so many tasks at the latest, not after 61: in a storm of new connections, each of which keeps a task busy,
    // those who are connected would wait for all of them.
    builder.event_interval(SOCKETS_AFTER_TASKS);
    match builder.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(waxwing::cli::run(cli));
            // A read of stdin that never ends must not keep the program.
            runtime.shutdown_background();
            code
        }
        Err(error) => waxwing::cli::cannot_run(&error),
    }
}

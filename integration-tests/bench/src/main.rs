//! `bench`: what the libraries cost, beside their neighbours. `cargo run --release -p bench -- --help`

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    return bench::main();
    #[cfg(not(target_os = "linux"))]
    {
        eprintln!("it measures with what Linux alone has: /proc/PID/schedstat, epoll, processor affinity");
        ExitCode::FAILURE
    }
}

//! The program `migrate-worker`; see the library of the same name.

use clap::Parser;
use migrate_worker::cli::{self, Cli};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    shared::connect::install_tls();
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // With nobody reading stderr a complaint about that would end the program by a panic.
    log.with_ansi(std::io::stderr().is_terminal()).log_internal_errors(false).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

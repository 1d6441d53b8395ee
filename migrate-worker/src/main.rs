//! The program `migrate-worker`; see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("migrate-worker is still to come; back up and restore with backup-agent meanwhile");
    ExitCode::from(2)
}

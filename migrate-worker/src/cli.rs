//! The commands.

use crate::runner::sql::child;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Changes databases safely: the harness around the migration tool a team has already.
#[derive(Debug, Parser)]
#[command(name = "migrate-worker", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs SQL migrations; meant for the runner `sql` only
    #[command(hide = true)]
    SqlRunner(child::SqlRunner),
}

/// Runs the command and returns the program's exit code.
pub async fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::SqlRunner(command) => child::run(command).await,
    }
}

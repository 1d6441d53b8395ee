//! The commands: arguments in, a task done or asked for, a report out. stdout is data, stderr is speech.

mod apply;
mod approve;
mod cancel;
mod dead_letters;
mod demo;
mod doctor;
mod gate;
mod history;
mod output;
mod rehearse;
mod resolve;
mod run;
mod schema;
mod show;
mod status;
mod submit;
mod support_bundle;
mod teller;
mod view;
mod with_lock;

use crate::runner::sql::child;
use crate::worker::WAITS;
use backup_agent::cli::{Done, Failure, Global, exit_code};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Migrations of PostgreSQL and SQLite databases that can always go back.
#[derive(Debug, Parser)]
#[command(name = "migrate-worker", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 succeeded; 1 failed; 2 wrong usage; 3 refused, nothing touched; 4 restored, it is as it was;
5 stuck, a person is needed; 9 waits for approval.

Try it: migrate-worker demo";

#[derive(Debug, Subcommand)]
enum Command {
    Apply(apply::Apply),
    Rehearse(rehearse::Rehearse),
    /// Runs SQL migrations; meant for the runner `sql` only
    #[command(hide = true)]
    SqlRunner(child::SqlRunner),
    Submit(submit::Submit),
    Status(status::Status),
    History(history::History),
    Show(show::Show),
    Output(output::Output),
    Cancel(cancel::Cancel),
    Approve(approve::Approve),
    Resolve(resolve::Resolve),
    Run(run::Run),
    DeadLetters(dead_letters::DeadLetters),
    Schema(schema::Schema),
    SupportBundle(support_bundle::SupportBundle),
    Current(view::CurrentCommand),
    Heads(view::Heads),
    Pending(view::Pending),
    Stamp(view::Stamp),
    Gate(gate::Gate),
    WithLock(with_lock::WithLock),
    Doctor(doctor::Doctor),
    Demo(demo::Demo),
}

/// Runs the command and returns the program's exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let global = &cli.global;
    let done: Done = match cli.command {
        Command::Apply(command) => command.run(global).await,
        Command::Rehearse(command) => command.run(global).await,
        Command::SqlRunner(command) => return child::run(command).await,
        Command::Submit(command) => command.run(global).await,
        Command::Status(command) => command.run(global).await,
        Command::History(command) => command.run(global).await,
        Command::Show(command) => command.run(global).await,
        Command::Output(command) => command.run(global).await,
        Command::Cancel(command) => command.run(global).await,
        Command::Approve(command) => command.run(global).await,
        Command::Resolve(command) => command.run(global).await,
        Command::Run(command) => command.run(global).await,
        Command::DeadLetters(command) => command.run(global).await,
        Command::Schema(command) => command.run(global).await,
        Command::SupportBundle(command) => command.run(global).await,
        Command::Current(command) => command.run(global).await,
        Command::Heads(command) => command.run(global).await,
        Command::Pending(command) => command.run(global).await,
        Command::Stamp(command) => command.run(global).await,
        Command::Gate(command) => command.run(global).await,
        Command::WithLock(command) => command.run(global).await,
        Command::Doctor(command) => command.run(global).await,
        Command::Demo(command) => command.run().await,
    };
    let waits = matches!(done, Err(Failure::Said(WAITS)));
    match exit_code(done) {
        // By this number backup-agent tells damage; here that is a failure like others.
        code if code == ExitCode::from(WAITS) && !waits => ExitCode::FAILURE,
        code => code,
    }
}

impl Cli {
    /// How much the program logs: a filter for tracing.
    pub fn log_filter(&self) -> &'static str {
        match (self.global.verbosity(), &self.command) {
            // Nobody watches the worker, so its log says what it does.
            (0, Command::Run(_)) => {
                "warn,migrate_worker=info,shared::queue=info,lapin=off,aws_config=error,aws_smithy_runtime=error,aws_runtime=error"
            }
            (0, _) => "warn,lapin=off,aws_config=error,aws_smithy_runtime=error,aws_runtime=error",
            (1, _) => "info,backup_agent=debug,migrate_worker=debug,shared=debug",
            _ => "debug",
        }
    }
}

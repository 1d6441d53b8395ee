//! The commands: arguments in, a verb called, a report out. stdout is data, stderr is speech.

/// Writes a line of speech to stderr. That nobody reads it any more is no reason to end: the work counts.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($part)*);
    }};
}

mod backup;
mod config;
pub mod demo;
mod diff;
pub mod doctor;
mod drill;
mod export;
mod forget;
pub mod history;
mod hold;
mod in_place;
mod init;
mod list;
pub mod open;
pub mod progress;
mod prune;
mod recorded;
mod restore;
mod run;
mod show;
mod status;
pub mod text;
mod verify;

use crate::error::Error;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Backups of PostgreSQL and SQLite databases that are proven by restoring them.
#[derive(Debug, Parser)]
#[command(name = "backup-agent", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 refused, nothing touched; 6 damage found; 7 differences found;
8 stale.

Try it: backup-agent demo";

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Configuration file [default: ./holdfast.toml, then /etc/holdfast/holdfast.toml; none is fine]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where backups are kept: file:PATH or s3://BUCKET/PREFIX [default: that of the configuration, else file:./holdfast-store]
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// Say more: -v what happens, -vv also what the libraries do
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// No progress
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Backup(backup::Backup),
    List(list::List),
    Show(show::Show),
    Diff(diff::Diff),
    History(history::History),
    Restore(restore::Restore),
    Verify(verify::Verify),
    Drill(drill::Drill),
    Export(export::Export),
    Run(run::Run),
    Status(status::Status),
    Config(config::ConfigCommand),
    Doctor(doctor::Doctor),
    Forget(forget::Forget),
    Unforget(forget::Unforget),
    Hold(hold::Hold),
    Release(hold::Release),
    Prune(prune::Prune),
    Demo(demo::Demo),
}

/// What a command ends in, besides success.
#[derive(Debug)]
pub enum Failure {
    /// An error with its own exit code.
    Error(Error),
    /// Wrong usage: exit code 2.
    Usage(String),
    /// The command has said everything itself; only the exit code is left.
    Said(u8),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Error(error.into())
    }
}

/// How a command ends.
pub type Done = Result<(), Failure>;

/// Runs the command and returns the program's exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let global = &cli.global;
    let done = match cli.command {
        Command::Init(command) => command.run(global).await,
        Command::Backup(command) => command.run(global).await,
        Command::List(command) => command.run(global).await,
        Command::Show(command) => command.run(global).await,
        Command::Diff(command) => command.run(global).await,
        Command::History(command) => command.run(global).await,
        Command::Restore(command) => command.run(global).await,
        Command::Verify(command) => command.run(global).await,
        Command::Drill(command) => command.run(global).await,
        Command::Export(command) => command.run(global).await,
        Command::Run(command) => command.run(global).await,
        Command::Status(command) => command.run(global).await,
        Command::Config(command) => command.run(global).await,
        Command::Doctor(command) => command.run(global).await,
        Command::Forget(command) => command.run(global).await,
        Command::Unforget(command) => command.run(global).await,
        Command::Hold(command) => command.run(global).await,
        Command::Release(command) => command.run(global).await,
        Command::Prune(command) => command.run(global).await,
        Command::Demo(command) => command.run(global).await,
    };
    exit_code(done)
}

/// Says what went wrong, if anything did, and returns the program's exit code.
pub fn exit_code(done: Done) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said(code)) => ExitCode::from(code),
        Err(Failure::Usage(message)) => {
            say!("error: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Error(error)) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn report(error: &Error) {
    match error {
        // A refusal begins with its own word.
        error if error.to_string().starts_with("refused: ") => say!("{error}"),
        error => say!("error: {error}"),
    }
    if let Error::Different { differences, .. } = error {
        text::print_differences(differences);
    }
    if let Some(hint) = error.hint() {
        say!("hint: {hint}");
    }
}

impl Global {
    /// The store named on the command line.
    pub fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// How often `-v` was given.
    pub fn verbosity(&self) -> u8 {
        self.verbose
    }
}

impl Cli {
    /// How much the program logs: a filter for tracing.
    pub fn log_filter(&self) -> &'static str {
        match (self.global.verbose, &self.command) {
            // Nobody watches the agent's work, so its log says what it does.
            (0, Command::Run(_)) => {
                "warn,backup_agent=info,lapin=off,aws_config=error,aws_smithy_runtime=error,aws_runtime=error"
            }
            // The SDK warns at length where one error of ours says it all.
            (0, _) => "warn,lapin=off,aws_config=error,aws_smithy_runtime=error,aws_runtime=error",
            (1, _) => "info,backup_agent=debug,shared=debug",
            _ => "debug",
        }
    }
}

/// Writes a line of data. A reader that has gone away is no failure: what the exit code says still counts. Data that
/// cannot be written for another reason (a full disk) end the program with 1.
pub fn put_line(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        say!("error: standard output cannot be written: {error}");
        std::process::exit(1);
    }
}

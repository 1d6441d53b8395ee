//! `migrate-worker resolve`

use super::apply::{Here, PROGRAM, open_world};
use super::teller::{Teller, Voice};
use crate::Error;
use crate::migration::Verdict;
use crate::runner;
use crate::story::Story;
use crate::worker::{self, as_error};
use crate::world::World;
use backup_agent::cli::history::find;
use backup_agent::cli::{Done, Failure, Global, put_line};
use clap::Args;
use shared::connect;
use shared::engine::postgres::{PostgresLive, PostgresLock};
use shared::engine::sqlite::live::{SqliteLive, SqliteLock};
use shared::model::{DatabaseName, DatabaseUrl, Task, TaskState};
use shared::task_log::{TaskLog, Worker};
use std::sync::Arc;
use std::time::Duration;

/// Shows what is known of a stuck migration, and ends it as a person decides
#[derive(Debug, Args)]
#[command(after_help = "Without --restore and --keep nothing is changed.
Example: migrate-worker resolve 0198c2e7 --restore")]
pub struct Resolve {
    /// The job, or the beginning of its id
    job: String,
    /// Put the backup back and prove it; the database that is there now is kept under another name
    #[arg(long, conflicts_with = "keep")]
    restore: bool,
    /// Accept the database as it is now
    #[arg(long)]
    keep: bool,
}

impl Resolve {
    pub(super) async fn run(self, global: &Global) -> Done {
        let world = open_world(global).await?;
        let log = connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from)?;
        let task = find(&*log, &self.job, super::history::LISTS_ALL).await?;
        let verdict = match (self.restore, self.keep) {
            (true, _) => Verdict::Restore,
            (_, true) => Verdict::Keep,
            _ => return evidence(&world, &*log, &task).await,
        };
        let story = Teller::new(global, Voice::Stdout);
        let here = Here { world: world.clone(), log: log.clone(), worker: Worker::here(PROGRAM), story };
        let claimed = log.take_stuck(&task.job_id, &here.worker, world.config.lease()).await.map_err(Error::from)?;
        let what = if verdict == Verdict::Restore { "put back" } else { "kept as it is" };
        here.story.head(&format!("job {}: {} is {what}", task.job_id, target(&task)));
        let outcome = here.settle(claimed, verdict).await?;
        match worker::exit_code(outcome.state) {
            0 => Ok(()),
            code => Err(Failure::Said(code)),
        }
    }
}

fn target(task: &Task) -> &str {
    task.target.as_ref().map_or("the database", |name| name.as_str())
}

/// What a person should see before deciding. Changes nothing.
async fn evidence(world: &World, log: &dyn TaskLog, task: &Task) -> Done {
    put_line(&format!("job {} of {}: {}", task.job_id, target(task), task.state));
    if let Some(message) = &task.report.error_message {
        put_line(&format!("  {message}"));
    }
    if let Some(hint) = task.report.result.as_ref().and_then(|result| result.get("hint")?.as_str()) {
        put_line(&format!("  {hint}"));
    }
    if let Some(backup) = &task.report.backup_id {
        put_line(&format!("  backup before it: {backup}"));
    }
    let notes = log.steps(&task.job_id).await.map_err(Error::from)?;
    if let Some(name) = &task.target {
        for line in crate::migration::whereabouts(world, name, &notes).await? {
            put_line(&format!("  {line}"));
        }
        put_line(&format!("  {}", stands(world, name).await));
        for line in crate::migration::noted_states(&notes)? {
            put_line(&format!("  {line}"));
        }
    }
    for note in notes.iter().rev().take(8).rev() {
        let phase = if note.phase == shared::model::Phase::Intent { "begun" } else { "done" };
        put_line(&format!("  {}  {} {phase}", backup_agent::cli::text::moment(note.at), note.step));
    }
    if task.state == TaskState::Stuck {
        let job = task.job_id;
        put_line(&format!("migrate-worker resolve {job} --restore   puts the backup back and proves it"));
        put_line(&format!("migrate-worker resolve {job} --keep      accepts the database as it is now"));
    } else {
        put_line("it is not stuck: there is nothing to resolve");
    }
    Ok(())
}

/// Where the database stands now, as far as it can be looked at: a fenced one cannot be by its public name.
async fn stands(world: &World, name: &DatabaseName) -> String {
    let look = async {
        let runner = runner::of(&world.config, name).map_err(as_error)?;
        let history = runner.history().await.map_err(as_error)?;
        let engine = connect::engine(world.url(name)?);
        Ok::<_, Error>(runner.current(&*engine, &history).await.map_err(as_error)?.heads)
    };
    match look.await {
        Ok(heads) => format!("it stands at {} now", crate::migration::heads(&heads)),
        Err(error) => format!("it cannot be looked at by its name: {error}"),
    }
}

/// The lock at a database, for a command that is no task.
pub(super) enum CommandLock {
    Sqlite { _lock: SqliteLock },
    Postgres { _lock: PostgresLock },
}

/// Takes the lock at a database for a short command.
pub(super) async fn lock_of(world: &Arc<World>, name: &DatabaseName, what: &str) -> Result<CommandLock, Error> {
    const PATIENCE: Duration = Duration::from_secs(10);
    Ok(match world.url(name)? {
        DatabaseUrl::Sqlite(path) => {
            let who = format!("{what} (process {})", std::process::id());
            CommandLock::Sqlite { _lock: SqliteLive::open(&path)?.lock(&who, PATIENCE).await? }
        }
        DatabaseUrl::Postgres(url) => {
            let live = PostgresLive::new(url.clone(), url);
            CommandLock::Postgres { _lock: live.lock(PATIENCE).await? }
        }
    })
}

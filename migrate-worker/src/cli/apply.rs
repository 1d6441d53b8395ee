//! `migrate-worker apply`

use super::teller::{Teller, Voice};
use crate::Error;
use crate::migration::{Outcome, Verdict};
use crate::spec::MigrateSpec;
use crate::story::Story;
use crate::worker::{self, MIGRATIONS, Performance};
use crate::world::World;
use backup_agent::cli::{Done, Failure, Global, put_line};
use backup_agent::record::TaskMeter;
use backup_agent::state::state_is_apart;
use backup_agent::stop::{self, StopReason};
use clap::Args;
use shared::clock;
use shared::connect;
use shared::model::{DatabaseName, NewTask, TaskKind, TaskState};
use shared::task_log::{Claimed, TaskLog, TaskLogError, Wanted, Worker};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Migrates a database here and now: backed up, rehearsed, applied, verified; taken back where anything fails
#[derive(Debug, Args)]
#[command(after_help = "Example: migrate-worker apply shop
         migrate-worker apply shop --to -1 --may-drop orders:note")]
pub struct Apply {
    /// A name from holdfast.toml
    database: DatabaseName,
    #[command(flatten)]
    wish: Wish,
    /// Print the outcome as JSON; the story goes to stderr
    #[arg(long)]
    json: bool,
}

/// What is asked for.
#[derive(Debug, Args)]
pub struct Wish {
    /// Where to: head, a revision, +N, -N, base
    #[arg(long, default_value = "head", allow_hyphen_values = true, value_name = "REVISION")]
    pub to: String,
    /// Data that may be lost: a table, or a column as TABLE:COLUMN; may be given several times
    #[arg(long, value_name = "TABLE[:COLUMN]")]
    pub may_drop: Vec<String>,
    /// Refuse where the database does not stand at this revision
    #[arg(long, value_name = "REVISION")]
    pub expected_from: Option<String>,
    /// Going back to base is meant
    #[arg(long)]
    pub yes: bool,
}

impl Wish {
    /// As a task has it. Refuses what is no goal.
    pub fn spec(self) -> Result<MigrateSpec, Failure> {
        self.to.parse::<crate::runner::Goal>().map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(MigrateSpec {
            to: self.to,
            expected_from: self.expected_from,
            mode: None,
            may_drop: self.may_drop,
            yes: self.yes,
        })
    }
}

impl Apply {
    pub(super) async fn run(self, global: &Global) -> Done {
        here_and_now(global, TaskKind::Migrate, self.database, self.wish, self.json).await
    }
}

/// Submits a task, does it in this process and ends with its outcome.
pub(super) async fn here_and_now(
    global: &Global,
    kind: TaskKind,
    database: DatabaseName,
    wish: Wish,
    json: bool,
) -> Done {
    let spec = wish.spec()?;
    let world = open_world(global).await?;
    world.url(&database)?;
    world.migrations(&database)?;
    let log = connect::task_log(&world.config, world.clock.clone()).await.map_err(Error::from)?;
    let story: Arc<Teller> = Teller::new(global, if json { Voice::Stderr } else { Voice::Stdout });
    let here = Here { world: world.clone(), log: log.clone(), worker: Worker::here(PROGRAM), story };
    here.recover_lost(&database).await?;
    let task = NewTask {
        spec: serde_json::to_value(&spec).map_err(|error| Error::failed(error.to_string()))?,
        requested_by: global.person(),
        // One whose worker was lost is begun anew, so that its copy is removed; a migration is recovered anyway.
        max_attempts: if kind == TaskKind::Rehearse { 3 } else { 1 },
        ..NewTask::new(kind, Some(database.clone()))
    };
    let claimed = log.submit_claimed(&task, &here.worker, world.config.lease()).await.map_err(busy)?;
    let url = world.url(&database)?;
    let doing = if kind == TaskKind::Rehearse { "rehearsing" } else { "migrating" };
    here.story.head(&format!("{doing} {database} ({url}) to {}; job {}", spec.to, task.job_id));
    let outcome = here.perform(claimed).await?;
    if json {
        let value = serde_json::json!({
            "job_id": task.job_id, "outcome": outcome.state, "message": outcome.message, "hint": outcome.hint,
            "backup": outcome.backup, "result": outcome.result,
        });
        put_line(&value.to_string());
    }
    match worker::exit_code(outcome.state) {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}

/// The program's name in the record.
pub const PROGRAM: &str = concat!("migrate-worker ", env!("CARGO_PKG_VERSION"));

/// The configuration, found good, and what it names.
pub async fn open_world(global: &Global) -> Result<Arc<World>, Error> {
    let config = global.config()?;
    state_is_apart(&config).await?;
    Ok(Arc::new(World::new(config, clock::system(), global.store().map(str::to_owned))))
}

/// This process as it works on one database.
pub struct Here {
    /// What all migrations work with.
    pub world: Arc<World>,
    /// The record.
    pub log: Arc<dyn TaskLog>,
    /// This process.
    pub worker: Worker,
    /// Tells how it goes.
    pub story: Arc<Teller>,
}

impl Here {
    /// Finishes or takes back what lost workers left of this database.
    pub async fn recover_lost(&self, database: &DatabaseName) -> Result<(), Error> {
        let wanted = Wanted { targets: Some(vec![database.clone()]), only_lost: true, ..Wanted::kinds(&MIGRATIONS) };
        while let Some(claimed) = self.log.claim(&self.worker, &wanted, self.world.config.lease()).await? {
            self.perform(claimed).await?;
        }
        Ok(())
    }

    /// Does a task; Ctrl-C, SIGTERM and a closed terminal cancel it, which takes back what has begun.
    pub async fn perform(&self, claimed: Claimed) -> Result<Outcome, Error> {
        self.work(claimed, None).await
    }

    /// Ends a stuck task that was taken.
    pub async fn settle(&self, claimed: Claimed, verdict: Verdict) -> Result<Outcome, Error> {
        self.work(claimed, Some(verdict)).await
    }

    async fn work(&self, claimed: Claimed, verdict: Option<Verdict>) -> Result<Outcome, Error> {
        let (stopper, stop) = stop::channel();
        let interrupted = stopper.clone();
        let listener = tokio::spawn(async move {
            if stop::told_to_end().await.is_ok() {
                interrupted.stop(StopReason::Cancelled);
            }
        });
        let story: Arc<dyn Story> = self.story.clone();
        let with = Performance {
            world: self.world.clone(),
            log: self.log.clone(),
            worker: self.worker.clone(),
            story,
            meter: Arc::new(TaskMeter::default()),
            stopper,
            stop,
            is_changing: Arc::new(AtomicBool::new(false)),
        };
        let outcome = match verdict {
            Some(verdict) => worker::settle(with, claimed, verdict).await,
            None => worker::perform(with, claimed).await,
        };
        listener.abort();
        outcome
    }
}

/// Somebody else has the database: nothing was touched.
fn busy(error: TaskLogError) -> Error {
    let hint = match &error {
        TaskLogError::Busy { job, state: TaskState::Stuck, .. } => {
            format!("migrate-worker resolve {job} shows what is there, and ends it")
        }
        TaskLogError::Busy { job, .. } => format!("migrate-worker show {job} tells how far it is"),
        _ => return error.into(),
    };
    Error::Refused { message: error.to_string(), hint: Some(hint) }
}

//! Does a database stand where the code expects it? Asked by deployment pipelines, before the code goes out.
//!
//! Only reads. What is asked first is whether somebody works on the database; then its revisions are compared with those
//! of the migration directory; and where these are the expected ones, its structure with the one the last migration left.

mod compare;
mod drift;
mod words;

pub use compare::Named;
pub use drift::Drift;

use crate::Error;
use crate::migration::{After, written_by};
use crate::runner::{self, Current, History, Runner};
use crate::worker::as_error;
use crate::world::World;
use backup_agent::in_place::InPlaceSpec;
use compare::{Comparison, compare};
use serde::Serialize;
use shared::connect::{self, ConnectError};
use shared::engine::Engine;
use shared::model::{DatabaseName, JobId, Task, TaskKind, TaskState};
use shared::task_log::{TaskFilter, TaskLog, TaskLogError};
use std::sync::Arc;

/// How a database stands to the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Where the code expects it.
    #[serde(rename = "as expected")]
    AsExpected,
    /// Revisions the code expects are not applied.
    #[serde(rename = "behind")]
    Behind,
    /// It has revisions the code does not expect.
    #[serde(rename = "ahead")]
    Ahead,
    /// Both, or the code itself has several newest revisions.
    #[serde(rename = "diverged")]
    Diverged,
    /// The revision is the expected one, the schema is not what the migrations made of it.
    #[serde(rename = "drift")]
    Drift,
    /// Somebody is changing it, or it is stuck in the middle of a change.
    #[serde(rename = "in progress")]
    InProgress,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::AsExpected => "as expected",
            Verdict::Behind => "behind",
            Verdict::Ahead => "ahead",
            Verdict::Diverged => "diverged",
            Verdict::Drift => "drift",
            Verdict::InProgress => "in progress",
        }
    }

    /// The exit code that says it.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::AsExpected => 0,
            Verdict::Behind => 10,
            Verdict::Ahead => 11,
            Verdict::Diverged => 12,
            Verdict::Drift => 13,
            Verdict::InProgress => 14,
        }
    }
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The database.
    pub database: DatabaseName,
    /// How it stands.
    pub verdict: Verdict,
    /// The same for a person, on one line.
    pub summary: String,
    /// Its newest applied revisions; empty where it was not looked at.
    pub at: Vec<String>,
    /// The newest revisions the code expects; empty where it was not looked at.
    pub expected: Vec<String>,
    /// Expected and not applied, oldest first.
    pub missing: Vec<Named>,
    /// Applied and not expected, oldest first.
    pub beyond: Vec<Named>,
    /// Whether the structure is the one the last migration left.
    pub drift: Drift,
    /// The job that works on it.
    pub job: Option<JobId>,
    /// What else there is to say, a line each.
    pub notes: Vec<String>,
    /// What a person can do.
    pub hint: Option<String>,
}

/// Looks at a database of the configuration; `pinned` is the revision the code expects, instead of the directory's newest.
///
/// Fails where the database or the record cannot be reached; a record that was never made is none.
pub async fn look(world: &World, name: &DatabaseName, pinned: Option<&str>) -> Result<Report, Error> {
    world.migrations(name)?;
    let log = record(world).await?;
    if let Some(log) = &log
        && let Some(task) = at_work(&**log, name).await?
    {
        return Ok(words::in_progress(name, &task, log.steps(&task.job_id).await?.last()));
    }
    stands(world, log.as_deref(), name, pinned).await
}

/// The same for somebody who has the database for himself, and so is the one that works on it.
pub async fn stands(
    world: &World,
    log: Option<&dyn TaskLog>,
    name: &DatabaseName,
    pinned: Option<&str>,
) -> Result<Report, Error> {
    let runner = runner::of(&world.config, name).map_err(as_error)?;
    let history = runner.history().await.map_err(as_error)?;
    let engine = connect::engine(world.url(name)?);
    let current = current(&*runner, &*engine, &history).await?;
    let compared = compare(&history, &current, pinned).map_err(as_error)?;
    if compared.verdict != Verdict::AsExpected {
        return Ok(words::of(name, compared, current, Drift::NotLookedAt, pinned));
    }
    let known = match log {
        Some(log) => drift::newest_after(&ended_well(log, name).await?, &current.heads),
        None => None,
    };
    let drift = match (known, log.is_some()) {
        (None, true) => Drift::NotJudged("the record holds no migration that led here".to_owned()),
        (None, false) => Drift::NotJudged("there is no record of tasks".to_owned()),
        (Some((job, after)), _) => drift::judge(job, &after, &now(&*engine, &current.heads).await?),
    };
    Ok(words::of(name, compared, current, drift, pinned))
}

/// Where the database stands. That it cannot be asked is no refusal of anything.
async fn current(runner: &dyn Runner, engine: &dyn Engine, history: &History) -> Result<Current, Error> {
    let unknown = |message: String, hint: Option<String>| Error::Failed { message, hint };
    engine.probe().await.map_err(|error| unknown(error.to_string(), error.hint().map(str::to_owned)))?;
    runner.current(engine, history).await.map_err(|error| unknown(error.message, error.hint))
}

/// How a database stands now, to be noted as what somebody's migration left.
pub async fn after(world: &World, name: &DatabaseName) -> Result<After, Error> {
    let runner = runner::of(&world.config, name).map_err(as_error)?;
    let history = runner.history().await.map_err(as_error)?;
    let engine = connect::engine(world.url(name)?);
    let current = current(&*runner, &*engine, &history).await?;
    now(&*engine, &current.heads).await
}

/// A database's newest revisions and structure, as a migration would leave them.
async fn now(engine: &dyn Engine, heads: &[String]) -> Result<After, Error> {
    let (probe, structure) = (engine.probe().await?, engine.structure().await?);
    let written_by = written_by(engine.kind(), &probe.server_version, probe.client_version.as_deref());
    Ok(After { heads: heads.to_vec(), structure: structure.digest(), written_by })
}

/// The record, where one was ever made.
async fn record(world: &World) -> Result<Option<Arc<dyn TaskLog>>, Error> {
    match connect::existing_task_log(&world.config, world.clock.clone()).await {
        Ok(log) => Ok(Some(log)),
        Err(ConnectError::TaskLog(TaskLogError::Missing { .. })) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The task that changes the database, or is stuck over it.
async fn at_work(log: &dyn TaskLog, name: &DatabaseName) -> Result<Option<Task>, Error> {
    let filter = TaskFilter {
        target: Some(name.clone()),
        kinds: vec![TaskKind::Migrate, TaskKind::Restore],
        states: vec![TaskState::Running, TaskState::Recovering, TaskState::Stuck],
        ..TaskFilter::default()
    };
    let mut tasks = log.tasks(&filter).await?;
    // A restore into another database leaves this one alone. What is stuck comes before what helps with it.
    tasks.retain(|task| task.kind == TaskKind::Migrate || InPlaceSpec::of(&task.spec).is_some());
    tasks.sort_by_key(|task| task.state != TaskState::Stuck);
    Ok(tasks.into_iter().next())
}

/// How many ended migrations are looked through for one that led where the database stands.
const LOOKED_THROUGH: u32 = 50;

async fn ended_well(log: &dyn TaskLog, name: &DatabaseName) -> Result<Vec<Task>, Error> {
    let filter = TaskFilter {
        target: Some(name.clone()),
        kinds: vec![TaskKind::Migrate],
        states: vec![TaskState::Succeeded],
        limit: LOOKED_THROUGH,
        ..TaskFilter::default()
    };
    Ok(log.tasks(&filter).await?)
}

//! Does one task: the verbs, on what the configuration names.

use super::{World, bring_back};
use crate::backup::{BackupOptions, backup};
use crate::choose;
use crate::error::Error;
use crate::forget;
use crate::guards::GuardOptions;
use crate::in_place::{self, InPlaceSpec};
use crate::prune::{self, PruneOptions};
use crate::record::{HeldLease, TaskMeter, of_backup, of_prune, of_restore, of_verification};
use crate::repository::Repository;
use crate::restore::drill;
use crate::retain;
use crate::scratch::scratch;
use crate::stop::{Stop, Stopper};
use futures_util::future::BoxFuture;
use serde_json::json;
use shared::engine::{DumpOptions, Engine, LoadOptions, LoadProgress, Progress};
use shared::model::{At, DatabaseName, NewTask, TaskKind, TaskReport};
use shared::task_log::Worker;
use std::sync::Arc;

/// One try of a task.
pub struct Try {
    /// The lease, where the record knows of the task; renewed by the caller.
    pub held: Option<HeldLease>,
    /// Whether somebody else had begun it and was lost.
    pub is_recovery: bool,
    /// Tells the record how far it is.
    pub meter: Arc<TaskMeter>,
    /// Ends it early.
    pub stop: Stop,
    /// Asks for that.
    pub stopper: Stopper,
}

/// Does a task and tells what it gave.
pub fn perform<'a>(world: &'a World, task: &'a NewTask, with: Try) -> BoxFuture<'a, Result<TaskReport, Error>> {
    Box::pin(async move {
        if let (TaskKind::Restore, Some(name), Some(spec)) = (task.kind, &task.target, InPlaceSpec::of(&task.spec)) {
            return replace(world, name, &spec, with).await;
        }
        let Try { is_recovery, meter, stop, .. } = with;
        let stop = &stop;
        match (task.kind, &task.target) {
            (TaskKind::Backup, Some(name)) => make_backup(world, name, meter, stop).await,
            (TaskKind::Drill, Some(name)) => prove(world, name, task, meter, stop).await,
            (TaskKind::Verify, Some(name)) => stop.or(verify(world, name, &meter)).await,
            (TaskKind::Prune, None) => stop.or(remove(world)).await,
            (TaskKind::Restore, Some(name)) => {
                bring_back::bring_back(world, name, task, is_recovery, meter, stop).await
            }
            (kind, _) => Err(Error::refused(format!("the agent does no task of kind {kind} on that"), None)),
        }
    })
}

/// A restore in place, whoever asked for it.
async fn replace(world: &World, name: &DatabaseName, spec: &InPlaceSpec, with: Try) -> Result<TaskReport, Error> {
    let Try { held, is_recovery, meter, stop, stopper } = with;
    let held = held.ok_or_else(|| Error::refused("without the record nothing is restored in place", None))?;
    let (worker, progress) = (Worker::here("backup-agent"), progress(meter.clone()));
    let task = in_place::Task { world, name, spec, held, is_recovery, worker, meter, progress, stop, stopper };
    Ok(in_place::run(task).await?.report())
}

pub(super) fn engine(world: &World, name: &DatabaseName) -> Result<Box<dyn Engine>, Error> {
    let url = world.config.database_url(name)?.ok_or_else(|| {
        Error::refused(format!("{name} is no configured database any more"), "add its section, or ignore this task")
    })?;
    Ok(shared::connect::engine(url))
}

async fn make_backup(
    world: &World,
    name: &DatabaseName,
    meter: Arc<TaskMeter>,
    stop: &Stop,
) -> Result<TaskReport, Error> {
    meter.step("waiting for the database");
    let engine = engine(world, name)?;
    let probe = stop.or(engine.probe()).await?;
    // Two entries may be one database: never two backups of it at a time.
    let busy = world.one_at_a_time(&probe.identity);
    let _guard = stop.or(async { Ok::<_, Error>(busy.lock_owned().await) }).await?;
    let repository = world.repository().await?;
    meter.step("reading");
    let dump = DumpOptions { spool: world.config.spool(), clock: world.clock.clone(), ..DumpOptions::default() };
    let options = BackupOptions { dump, stop: stop.clone(), ..BackupOptions::default() };
    let manifest = backup(&repository, name, &*engine, &options, meter.clone()).await?;
    let mut report = of_backup(&manifest);
    meter.step("applying retention");
    // The backup is made: what retention says of older ones must not make a failure of it.
    let retained = match stop.or(retain(world, &repository, name)).await {
        Ok(retained) => retained,
        Err(error) => {
            tracing::warn!(database = %name, %error, "retention was not applied; nothing was forgotten");
            json!({"refused": error.to_string()})
        }
    };
    if let Some(result) = &mut report.result {
        result["retention"] = retained;
    }
    Ok(report)
}

/// Forgets what the database's retention lets go.
async fn retain(world: &World, repository: &Repository, name: &DatabaseName) -> Result<serde_json::Value, Error> {
    let Some(policy) = world.policies.databases.get(name).filter(|policy| policy.retention.is_some()) else {
        return Ok(json!(null));
    };
    let plan = retain::plan(repository, name, policy, false, &world.guards()).await?;
    for line in &plan.backups {
        tracing::info!(database = %name, "{line}");
    }
    let done = forget::apply(repository, &plan, world.policies.prune.grace).await?;
    let forgotten: Vec<&str> = done.forgotten.iter().map(|line| line.id.as_str()).collect();
    Ok(json!({"forgotten": forgotten, "kept": plan.backups.len() - forgotten.len()}))
}

async fn prove(
    world: &World,
    name: &DatabaseName,
    task: &NewTask,
    meter: Arc<TaskMeter>,
    stop: &Stop,
) -> Result<TaskReport, Error> {
    let repository = world.repository().await?;
    let at = match task.spec.get("backup").and_then(|id| id.as_str()).map(str::parse) {
        Some(Ok(id)) => At::Id(id),
        _ => At::Latest,
    };
    let mut chosen = choose::by_time(&repository, name, &at).await;
    // The backup it was meant for may be forgotten by now; what counts is that the newest one is proven.
    if at != At::Latest && chosen.is_err() {
        chosen = choose::by_time(&repository, name, &At::Latest).await;
    }
    let chosen = chosen?;
    let header = &chosen.manifest.header;
    let raw_bytes = header.raw_bytes;
    let given = world.config.scratch_url(name)?;
    let url = world.config.database_url(name)?;
    let scratch = scratch(header.engine, name, given, url.as_ref(), &world.config.spool())?;
    meter.step("restoring into a scratch database");
    let work = drill(&repository, chosen, &*scratch.engine, LoadOptions::default(), progress(meter));
    let restored = stop.or(work).await?;
    let report = of_restore(&restored, raw_bytes);
    if restored.proven {
        return Ok(report);
    }
    Err(Error::failed(format!(
        "backup {} came back with all rows, but {} could not be created: {}",
        restored.backup,
        restored.defects.len(),
        restored.defects.join("; ")
    )))
}

/// Tells the record how far a restore is.
pub(super) fn progress(meter: Arc<TaskMeter>) -> Progress {
    Arc::new(move |news| match news {
        LoadProgress::Step(step) => meter.step(step),
        LoadProgress::Bytes(bytes) => meter.add(bytes),
    })
}

async fn verify(world: &World, name: &DatabaseName, meter: &TaskMeter) -> Result<TaskReport, Error> {
    let repository = world.repository().await?;
    let backups = repository.backups(name).await?;
    let found = repository.verify(&backups, &|bytes| meter.add(bytes)).await?;
    let damaged = found.backups.iter().filter(|backup| !backup.damage.is_empty()).count();
    if damaged > 0 {
        return Err(Error::Damaged(format!("{damaged} of {} backups of {name} are damaged", found.backups.len())));
    }
    Ok(of_verification(&found))
}

async fn remove(world: &World) -> Result<TaskReport, Error> {
    let repository = world.repository().await?;
    let GuardOptions { intervals, spool } = world.guards();
    let options = PruneOptions { grace: world.policies.prune.grace, intervals, spool };
    let plan = prune::plan(&repository, &options).await?;
    let pruned = prune::apply(&repository, &plan, &options).await?;
    Ok(of_prune(&pruned))
}

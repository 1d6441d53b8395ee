//! What workers that were lost in their last moment did not remove.

use crate::world::World;
use backup_agent::journal;
use shared::model::JobId;
use shared::task_log::{TaskFilter, TaskLog};

/// Removes journals and copies of tasks whose end is in the record already.
///
/// A task that the record does not know, or that has not ended, is left alone: somebody else's record may know it. Best
/// effort: what stays is named, and disturbs nobody.
pub async fn sweep(world: &World, log: &dyn TaskLog) {
    let spool = world.config.spool();
    let jobs = match journal::open_jobs(&spool) {
        Ok(jobs) => jobs,
        Err(error) => return tracing::warn!(spool = %spool.display(), %error, "the journals cannot be listed"),
    };
    for job in jobs {
        if has_ended(log, job).await {
            remove(world, &job);
        }
    }
}

async fn has_ended(log: &dyn TaskLog, job: JobId) -> bool {
    let asked = log.tasks(&TaskFilter { job_id: Some(job), ..TaskFilter::default() }).await;
    // A record that does not answer says nothing about the task's end.
    asked.is_ok_and(|tasks| tasks.iter().any(|task| task.job_id == job && task.state.is_terminal()))
}

fn remove(world: &World, job: &JobId) {
    let folder = world.folder(job);
    let removed = match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        // The journal last: it is what the rest is found by.
        _ => journal::discard(&world.config.spool(), job),
    };
    if let Err(error) = removed {
        tracing::warn!(%job, folder = %folder.display(), %error, "what an ended task left could not be removed");
    }
}

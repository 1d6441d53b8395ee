//! Tasks that are stuck: who may resolve them, and who may help meanwhile.

use super::session::{Fault, Row, Session, args};
use super::{Claimed, TaskLogError, Worker, claim, rows};
use crate::model::{JobId, NewTask, TaskKind, TaskState};

/// What may help with a stuck task.
const HELPERS: &[TaskKind] = &[TaskKind::Backup, TaskKind::Restore];

/// An active task that helps with the one in `$1`.
const ACTIVE_HELPER: &str = "SELECT job_id, target, kind, state FROM task_log
     WHERE stuck_job = $1 AND state IN ('running', 'recovering', 'stuck') LIMIT 1";

/// The condition under which a waiting row that is to help with a stuck task may do so.
pub fn may_help(alias: &str) -> String {
    format!(
        "(EXISTS (SELECT 1 FROM task_log AS helped WHERE helped.job_id = {alias}.stuck_job AND helped.state = 'stuck')
         AND NOT EXISTS (SELECT 1 FROM task_log AS helper WHERE helper.stuck_job = {alias}.stuck_job
             AND helper.state IN ('running', 'recovering', 'stuck')))"
    )
}

/// Keeps all others from beginning to resolve a task or to help with it until this transaction ends.
pub async fn lock(s: &mut dyn Session, job: &JobId) -> Result<(), Fault> {
    s.lock_word(&format!("stuck {job}")).await
}

/// Fails where `task` is none that could help with `helped`.
pub async fn check(s: &mut dyn Session, task: &NewTask, helped: &JobId) -> Result<(), Fault> {
    let row = rows::find(s, &helped.to_string()).await?.ok_or(TaskLogError::Unknown(*helped))?;
    is_stuck(s, helped, &row)?;
    let target = row.opt_text("target").map_err(|error| s.damaged(error))?;
    if HELPERS.contains(&task.kind) && target.as_deref() == task.target.as_ref().map(|name| name.as_str()) {
        return Ok(());
    }
    let message =
        format!("a {} of another kind or database cannot help with job {helped}; nothing was written", task.kind);
    let hint = Some("a backup or a restore of the very database can".to_owned());
    Err(TaskLogError::Unusable { place: s.place().to_owned(), message, hint }.into())
}

fn is_stuck(s: &dyn Session, job: &JobId, row: &Row) -> Result<(), Fault> {
    match rows::parsed(s, row, "state_now")? {
        TaskState::Stuck => Ok(()),
        state => Err(TaskLogError::NotStuck { job: *job, state }.into()),
    }
}

/// What keeps a task from helping with `helped`: that it is not stuck, or that another one helps already.
pub async fn obstacle(s: &mut dyn Session, helped: &JobId) -> Result<Option<TaskLogError>, Fault> {
    let id = helped.to_string();
    let Some(row) = rows::find(s, &id).await? else { return Ok(Some(TaskLogError::Unknown(*helped))) };
    match is_stuck(s, helped, &row) {
        Ok(()) => {}
        Err(Fault::Error(error)) => return Ok(Some(error)),
        Err(race) => return Err(race),
    }
    // A helper that is a backup can be dead; one that is a restore must be recovered first.
    let target = row.opt_text("target").map_err(|error| s.damaged(error))?;
    claim::lapse(s, &[TaskKind::Backup], target.as_deref()).await?;
    let helper = s.row(ACTIVE_HELPER, args![id]).await?;
    helper.map(|row| busy(s, &row)).transpose()
}

/// The error that names the task of a row.
pub fn busy(s: &dyn Session, row: &Row) -> Result<TaskLogError, Fault> {
    let target = row.text("target").and_then(|name| name.parse().map_err(|error| format!("{error}")));
    Ok(TaskLogError::Busy {
        target: target.map_err(|error| s.damaged(error))?,
        job: rows::parsed(s, row, "job_id")?,
        kind: rows::parsed(s, row, "kind")?,
        state: rows::parsed(s, row, "state")?,
    })
}

/// Takes a stuck task to resolve it; see [`super::StepLog::take_stuck`]. That it was stuck stays written in `outcome`
/// until it ends, so that it is stuck again when this holder is lost.
pub async fn take(s: &mut dyn Session, job: &JobId, worker: &Worker, lease_us: i64) -> Result<Claimed, Fault> {
    let (id, now) = (job.to_string(), s.now());
    lock(s, job).await?;
    if let Some(obstacle) = obstacle(s, job).await? {
        return Err(obstacle.into());
    }
    claim::register(s, worker).await?;
    let changed = s
        .execute(
            "UPDATE task_log SET state = 'recovering', outcome = 'stuck', lease_epoch = lease_epoch + 1,
                 lease_worker = $2, lease_until = $3, was_lost = 0, step = NULL, progress_bytes = NULL,
                 progress_bytes_expected = NULL, progress_at = NULL, cancel_requested_at = NULL,
                 cancel_requested_by = NULL
             WHERE job_id = $1 AND state = 'stuck'",
            args![id.as_str(), worker.id.as_str(), now.saturating_add(lease_us)],
        )
        .await?;
    if changed == 0 {
        return Err(Fault::Race);
    }
    claim::taken(s, &id, worker).await
}

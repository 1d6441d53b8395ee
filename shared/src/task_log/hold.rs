//! What the holder of a task writes, and the wish for a task's end.

use super::events::{self, Tell};
use super::session::{Fault, Session, args};
use super::{Ending, Renewal, TaskLease, TaskLogError, TaskProgress, claim, rows};
use crate::model::{JobId, TaskState};

/// The error of a lease that counts no more.
pub fn lease_lost(lease: &TaskLease) -> Fault {
    TaskLogError::LeaseLost { job: lease.job_id, epoch: lease.epoch }.into()
}

/// Fails where the lease counts no more; until this transaction ends nobody takes it away.
pub async fn hold_fast(s: &mut dyn Session, lease: &TaskLease) -> Result<(), Fault> {
    let held = s
        .execute(
            "UPDATE task_log SET lease_epoch = lease_epoch
             WHERE job_id = $1 AND lease_epoch = $2 AND lease_worker = $3 AND state IN ('running', 'recovering')",
            args![lease.job_id.to_string(), lease.epoch, lease.worker.as_str()],
        )
        .await?;
    if held == 0 { Err(lease_lost(lease)) } else { Ok(()) }
}

/// Renews a lease; see [`super::TaskLog::renew`].
pub async fn renew(
    s: &mut dyn Session,
    lease: &TaskLease,
    time_us: i64,
    progress: &TaskProgress,
) -> Result<Renewal, Fault> {
    let now = s.now();
    let row = s
        .row(
            "UPDATE task_log SET lease_until = $4, step = coalesce($5, step), progress_bytes = $6,
                 progress_bytes_expected = $7, progress_at = $8
             WHERE job_id = $1 AND lease_epoch = $2 AND lease_worker = $3 AND state IN ('running', 'recovering')
             RETURNING cancel_requested_at",
            args![
                lease.job_id.to_string(),
                lease.epoch,
                lease.worker.as_str(),
                now.saturating_add(time_us),
                progress.step.as_deref(),
                progress.bytes_done,
                progress.bytes_expected,
                now,
            ],
        )
        .await?;
    let row = row.ok_or_else(|| lease_lost(lease))?;
    let wished = row.opt_int("cancel_requested_at").map_err(|error| s.damaged(error))?;
    Ok(Renewal { cancel_requested: wished.is_some() })
}

/// Ends a try; see [`super::TaskLog::finish`].
pub async fn finish(s: &mut dyn Session, lease: &TaskLease, ending: &Ending) -> Result<(), Fault> {
    let job = lease.job_id.to_string();
    let now = s.now();
    let row = rows::find(s, &job).await?.ok_or_else(|| lease_lost(lease))?;
    let task = rows::task(&row, now).map_err(|error| s.damaged(format!("job {job}: {error}")))?;
    let may_wait = ending.state == TaskState::Queued || ending.state == TaskState::Stuck && task.kind.is_saga();
    if !ending.state.is_terminal() && !may_wait {
        let message = format!("job {job}: a try ({}) cannot end as {}; nothing was written", task.kind, ending.state);
        return Err(TaskLogError::Unusable { place: s.place().to_owned(), message, hint: None }.into());
    }
    // A last try is not tried again, nor is what somebody wishes to end. What helps with a stuck task and fails leaves
    // that one stuck, and is no second one a person must look after.
    let state = match ending.state {
        TaskState::Stuck if task.stuck_job.is_some() => TaskState::Failed,
        TaskState::Queued if task.cancel_requested => TaskState::Cancelled,
        TaskState::Queued if task.attempt >= task.max_attempts => TaskState::Failed,
        state => state,
    };
    let again_at = ending.again_at.filter(|_| state == TaskState::Queued);
    let report = &ending.report;
    let outcome = (task.kind.is_saga() && state != TaskState::Queued).then_some(state.as_str());
    let changed = s
        .execute(
            "UPDATE task_log SET state = $4, again_at = $5, finished_at = $6, lease_until = NULL, step = NULL,
                 backup_id = $7, rows_done = $8, bytes_in = $9, bytes_out = $10, result = $11, error_class = $12,
                 error_message = $13, outcome = $14
             WHERE job_id = $1 AND lease_epoch = $2 AND lease_worker = $3 AND state IN ('running', 'recovering')",
            args![
                job.as_str(),
                lease.epoch,
                lease.worker.as_str(),
                state.as_str(),
                again_at,
                state.is_terminal().then_some(now.unsigned_abs()),
                report.backup_id.as_deref(),
                report.rows,
                report.bytes_in,
                report.bytes_out,
                report.result.as_ref().map(|value| value.to_string()).as_deref(),
                report.error_class.as_deref(),
                report.error_message.as_deref(),
                outcome,
            ],
        )
        .await?;
    if changed == 0 {
        return if is_done_already(s, lease, state).await? { Ok(()) } else { Err(lease_lost(lease)) };
    }
    let (class, message) = (report.error_class.as_deref(), report.error_message.as_deref());
    let epoch = i64::try_from(lease.epoch).unwrap_or(i64::MAX);
    claim::close_attempt(s, &job, epoch, state.as_str(), class, message).await?;
    let detail = message.or(report.backup_id.as_deref()).unwrap_or_default();
    match (state, again_at) {
        (TaskState::Queued, Some(at)) => {
            events::append(s, &job, "retry", &format!("not before {at}: {detail}"), Tell::Nobody).await
        }
        (TaskState::Queued, None) => events::append(s, &job, "retry", detail, Tell::Nobody).await,
        _ => events::append(s, &job, state.as_str(), detail, Tell::Channels).await,
    }
}

/// Whether this very ending was written before: by a call whose answer was lost on its way.
async fn is_done_already(s: &mut dyn Session, lease: &TaskLease, state: TaskState) -> Result<bool, Fault> {
    let row = s
        .row(
            "SELECT 1 FROM task_log WHERE job_id = $1 AND lease_epoch = $2 AND lease_worker = $3 AND state = $4
                 AND was_lost = 0",
            args![lease.job_id.to_string(), lease.epoch, lease.worker.as_str(), state.as_str()],
        )
        .await?;
    Ok(row.is_some())
}

/// Asks for a task's end; see [`super::TaskLog::cancel`].
pub async fn cancel(s: &mut dyn Session, job: &JobId, by: &str) -> Result<TaskState, Fault> {
    let (id, now) = (job.to_string(), s.now());
    let message = format!("at the wish of {by}");
    let ended = s
        .execute(
            "UPDATE task_log SET state = 'cancelled', finished_at = $2, cancel_requested_at = $2,
                 cancel_requested_by = $3, error_class = 'cancelled', error_message = $4
             WHERE job_id = $1 AND state IN ('scheduled', 'queued', 'waiting')",
            args![id.as_str(), now, by, message.as_str()],
        )
        .await?;
    if ended > 0 {
        events::append(s, &id, "cancelled", &message, Tell::Channels).await?;
        return Ok(TaskState::Cancelled);
    }
    let asked = s
        .execute(
            "UPDATE task_log SET cancel_requested_at = $2, cancel_requested_by = $3
             WHERE job_id = $1 AND state IN ('running', 'recovering') AND cancel_requested_at IS NULL",
            args![id.as_str(), now, by],
        )
        .await?;
    if asked > 0 {
        events::append(s, &id, "cancel-requested", &message, Tell::Nobody).await?;
    }
    let row = rows::find(s, &id).await?.ok_or(TaskLogError::Unknown(*job))?;
    rows::parsed(s, &row, "state_now")
}

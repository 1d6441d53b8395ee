//! Tasks are handed out: first those whose holder was lost, then the most urgent that is due.

use super::events::{self, Tell};
use super::session::{Fault, Row, Session, args};
use super::{Claimed, TaskLease, Wanted, Worker, rows};
use crate::model::{TaskKind, TaskState};

/// Of these only one at a time works on a database.
pub const EXCLUSIVE: &[TaskKind] = &[TaskKind::Migrate, TaskKind::Rehearse, TaskKind::Backup];

/// How many rows one call ends on its way.
const SWEEP: u32 = 100;

/// How many unreadable rows are passed over in one call.
const UNREADABLE: usize = 20;

/// The condition of the index `task_log_one_active`.
pub fn active_and_exclusive(alias: &str) -> String {
    let kinds = rows::list(EXCLUSIVE, TaskKind::as_str);
    format!(
        "{alias}.state IN ('running', 'recovering', 'stuck') AND {alias}.kind IN ({kinds}) AND {alias}.stuck_job IS NULL"
    )
}

/// Claims a task; see [`super::TaskLog::claim`].
pub async fn claim(
    s: &mut dyn Session,
    worker: &Worker,
    wanted: &Wanted,
    lease_us: i64,
) -> Result<Option<Claimed>, Fault> {
    if wanted.kinds.is_empty() {
        return Ok(None);
    }
    lapse(s, &wanted.kinds, None).await?;
    expire(s).await?;
    let Some(job) = next(s, wanted).await? else { return Ok(None) };
    register(s, worker).await?;
    take(s, &job, worker, lease_us).await.map(Some)
}

/// Notes who a worker is, and that it is alive.
pub async fn register(s: &mut dyn Session, worker: &Worker) -> Result<(), Fault> {
    let now = s.now();
    s.execute(
        "INSERT INTO worker (id, program, host, boot_id, pid, start_ticks, first_seen_at, last_seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
         ON CONFLICT (id) DO UPDATE SET last_seen_at = excluded.last_seen_at",
        args![
            worker.id.as_str(),
            worker.program.as_str(),
            worker.host.as_str(),
            worker.boot_id.as_str(),
            i64::from(worker.pid),
            worker.start_ticks,
            now,
        ],
    )
    .await?;
    Ok(())
}

/// Takes the tasks of `kinds` (of one target, where one is given) from holders that were lost: back into the queue, or,
/// after the last try, to their end.
pub async fn lapse(s: &mut dyn Session, kinds: &[TaskKind], target: Option<&str>) -> Result<(), Fault> {
    let now = s.now();
    let sql = format!(
        "{} WHERE t.state IN ('running', 'recovering') AND t.kind IN ({}) AND coalesce($2, t.target, '') = coalesce(t.target, '')
         ORDER BY t.lease_until LIMIT 1000{}",
        rows::select(),
        rows::list(kinds, TaskKind::as_str),
        s.skip_locked()
    );
    for row in s.rows(&sql, args![now, target]).await? {
        match rows::task(&row, now) {
            Ok(task) if task.is_lapsed => lost(s, &row, task.attempt >= task.max_attempts).await?,
            Ok(_) => {}
            Err(error) => unreadable(s, &row, &error),
        }
    }
    Ok(())
}

async fn lost(s: &mut dyn Session, row: &Row, is_last: bool) -> Result<(), Fault> {
    let wrong = |s: &mut dyn Session, error: String| s.damaged(error);
    let job = row.text("job_id").map_err(|error| wrong(s, error))?;
    let epoch = row.int("lease_epoch").map_err(|error| wrong(s, error))?;
    let is_gone = rows::holder_is_gone(row).map_err(|error| wrong(s, error))?;
    let worker = row.opt_text("lease_worker").map_err(|error| wrong(s, error))?.unwrap_or_default();
    let why = if is_gone { "its process is gone" } else { "its lease ran out" };
    let detail = format!("worker {worker} was lost: {why}");
    let state = if is_last { TaskState::Failed } else { TaskState::Queued };
    let now = s.now();
    let changed = s
        .execute(
            "UPDATE task_log SET state = $3, was_lost = 1, lease_until = NULL, error_class = 'lost', error_message = $4,
                 finished_at = $5
             WHERE job_id = $1 AND lease_epoch = $2 AND state IN ('running', 'recovering')",
            args![job.as_str(), epoch, state.as_str(), detail.as_str(), is_last.then_some(now as u64)],
        )
        .await?;
    if changed == 0 {
        return Err(Fault::Race);
    }
    close_attempt(s, &job, epoch, "lost", Some("lost"), Some(&detail)).await?;
    events::append(s, &job, "lost", &detail, Tell::Nobody).await?;
    if is_last {
        events::append(s, &job, state.as_str(), &format!("{detail}; it was the last try"), Tell::Channels).await?;
    }
    Ok(())
}

/// Notes how a try ended.
pub async fn close_attempt(
    s: &mut dyn Session,
    job: &str,
    epoch: i64,
    ended_as: &str,
    class: Option<&str>,
    message: Option<&str>,
) -> Result<(), Fault> {
    let now = s.now();
    s.execute(
        "UPDATE task_attempt SET ended_at = $3, ended_as = $4, error_class = $5, error_message = $6
         WHERE job_id = $1 AND epoch = $2",
        args![job, epoch, now, ended_as, class, message],
    )
    .await?;
    Ok(())
}

/// Ends what was not begun in its time.
async fn expire(s: &mut dyn Session) -> Result<(), Fault> {
    let now = s.now();
    let sql = format!(
        "SELECT t.job_id FROM task_log AS t
         WHERE t.state IN ('scheduled', 'queued', 'waiting') AND t.attempt = 0 AND t.expires_at <= $1
         ORDER BY t.expires_at LIMIT {SWEEP}{}",
        s.skip_locked()
    );
    for row in s.rows(&sql, args![now]).await? {
        let job = row.text("job_id").map_err(|error| s.damaged(error))?;
        let sql = "UPDATE task_log SET state = 'expired', finished_at = $2 WHERE job_id = $1";
        s.execute(sql, args![job.as_str(), now]).await?;
        events::append(s, &job, "expired", "its time was over before it began", Tell::Channels).await?;
    }
    Ok(())
}

/// The task to do next. A row that cannot be read is named and passed over, so that it keeps nobody else waiting.
async fn next(s: &mut dyn Session, wanted: &Wanted) -> Result<Option<String>, Fault> {
    let now = s.now();
    let mut passed_over: Vec<String> = Vec::new();
    while passed_over.len() < UNREADABLE {
        let known = wanted.targets.as_deref().map(|targets| {
            // Names of databases consist of a-z, 0-9, '_' and '-'.
            let names: Vec<String> = targets.iter().map(|name| format!("'{name}'")).collect();
            let list = if names.is_empty() { "''".to_owned() } else { names.join(", ") };
            format!(" AND (t.target IS NULL OR t.target IN ({list}))")
        });
        let known = known.unwrap_or_default();
        let skipped: String = (0..passed_over.len()).map(|at| format!(" AND t.job_id <> ${}", at + 2)).collect();
        let sql = format!(
            "{} WHERE t.state IN ('scheduled', 'queued') AND t.kind IN ({})
                 AND coalesce(t.again_at, t.run_at, 0) <= $1
                 AND (t.expires_at IS NULL OR t.expires_at > $1 OR t.attempt > 0)
                 AND (t.target IS NULL OR t.stuck_job IS NOT NULL OR t.kind NOT IN ({}) OR NOT EXISTS (
                     SELECT 1 FROM task_log AS other WHERE other.target = t.target AND {})){known}{skipped}
             ORDER BY t.was_lost DESC, t.priority DESC, coalesce(t.again_at, t.run_at, t.created_at), t.created_at,
                 t.job_id
             LIMIT 1{}",
            rows::select(),
            rows::list(&wanted.kinds, TaskKind::as_str),
            rows::list(EXCLUSIVE, TaskKind::as_str),
            active_and_exclusive("other"),
            s.skip_locked()
        );
        let mut values = args![now];
        values.extend(passed_over.iter().map(|job| job.as_str().into()));
        let Some(row) = s.row(&sql, values).await? else { return Ok(None) };
        let job = row.text("job_id").map_err(|error| s.damaged(error))?;
        match rows::task(&row, now).and_then(|_| rows::channels(&row)) {
            Ok(_) => return Ok(Some(job)),
            Err(error) => unreadable(s, &row, &error),
        }
        passed_over.push(job);
    }
    Ok(None)
}

/// Names a row that cannot be read.
pub fn unreadable(s: &dyn Session, row: &Row, error: &str) {
    let job = row.text("job_id").unwrap_or_default();
    tracing::warn!("{}: job {job} cannot be read and is passed over: {error}", s.place());
}

/// Gives a waiting task to `worker`.
pub async fn take(s: &mut dyn Session, job: &str, worker: &Worker, lease_us: i64) -> Result<Claimed, Fault> {
    let now = s.now();
    let changed = s
        .execute(
            "UPDATE task_log SET state = CASE was_lost WHEN 0 THEN 'running' ELSE 'recovering' END,
                 attempt = attempt + 1, lease_epoch = lease_epoch + 1, lease_worker = $2, lease_until = $3,
                 started_at = coalesce(started_at, $4), was_lost = 0, again_at = NULL, step = NULL,
                 progress_bytes = NULL, progress_bytes_expected = NULL, progress_at = NULL
             WHERE job_id = $1 AND state IN ('scheduled', 'queued')",
            args![job, worker.id.as_str(), now.saturating_add(lease_us), now],
        )
        .await?;
    if changed == 0 {
        return Err(Fault::Race);
    }
    let row = rows::find(s, job).await?.ok_or(Fault::Race)?;
    let task = rows::task(&row, now).map_err(|error| s.damaged(format!("job {job}: {error}")))?;
    let epoch = row.int("lease_epoch").map_err(|error| s.damaged(error))?;
    s.execute(
        "INSERT INTO task_attempt (job_id, epoch, attempt, worker, started_at) VALUES ($1, $2, $3, $4, $5)",
        args![job, epoch, i64::from(task.attempt), worker.id.as_str(), now],
    )
    .await?;
    let is_recovery = task.state == TaskState::Recovering;
    let (attempt, of) = (task.attempt, task.max_attempts);
    let by = format!("try {attempt} of {of} by {} on {}, process {}", worker.program, worker.host, worker.pid);
    let tell = if is_recovery { Tell::Nobody } else { Tell::Channels };
    events::append(s, job, task.state.as_str(), &by, tell).await?;
    let lease = TaskLease { job_id: task.job_id, epoch: epoch.unsigned_abs(), worker: worker.id.clone() };
    Ok(Claimed { task, lease, is_recovery })
}

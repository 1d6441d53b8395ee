//! Tasks are handed out: first those whose holder was lost, then the most urgent that is due.

use super::events::{self, Tell};
use super::session::{Fault, Row, Session, args};
use super::{Claimed, TaskLease, Wanted, Worker, hold, rows, stuck};
use crate::model::{DatabaseName, JobId, NewTask, Task, TaskKind, TaskState, canonical_json};

/// Of these only one at a time works on a database; besides them of restores in place.
const EXCLUSIVE: &[TaskKind] = &[TaskKind::Migrate, TaskKind::Rehearse, TaskKind::Backup];

// Conditions of indexes, which SQLite uses only for queries that have them word by word. What waits for approval is
// among those that may expire, and never among those that are handed out.
const ACTIVE: &str = "state IN ('running', 'recovering', 'stuck')";
const WAITING: &str = "state IN ('scheduled', 'queued', 'waiting')";
const NEXT: &str = "state IN ('scheduled', 'queued', 'recovering')";

/// How many rows one call ends on its way.
const SWEEP: u32 = 100;

/// How many unreadable rows are passed over in one call.
const UNREADABLE: usize = 20;

/// Whether `task` is one of which only one at a time works on a database.
pub fn is_exclusive(task: &NewTask) -> bool {
    let is_in_place = || canonical_json(&task.spec).contains("\"in_place\":true");
    EXCLUSIVE.contains(&task.kind) || task.kind == TaskKind::Restore && is_in_place()
}

/// The same of a row. The spec is canonical JSON, so it has no spaces.
pub fn exclusive(alias: &str) -> String {
    let kinds = rows::list(EXCLUSIVE, TaskKind::as_str);
    format!("({alias}.kind IN ({kinds}) OR {alias}.kind = 'restore' AND {alias}.spec LIKE '%\"in_place\":true%')")
}

/// The condition of the index `task_log_one_active`.
pub fn active_and_exclusive(alias: &str) -> String {
    let exclusive = exclusive(alias);
    format!("{alias}.{ACTIVE} AND {exclusive} AND {alias}.stuck_job IS NULL")
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
    if wanted.kinds.contains(&TaskKind::Migrate) && !wanted.only_lost {
        make_way(s, wanted).await?;
    }
    let Some((job, helped)) = next(s, wanted).await? else { return Ok(None) };
    if let Some(helped) = helped {
        // Looked at again behind the lock: whoever resolves it was perhaps faster.
        stuck::lock(s, &helped).await?;
        if stuck::obstacle(s, &helped).await?.is_some() {
            return Err(Fault::Race);
        }
    }
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
/// after the last try, to their end. A saga waits to be recovered, or is stuck as it was before.
pub async fn lapse(s: &mut dyn Session, kinds: &[TaskKind], target: Option<&str>) -> Result<(), Fault> {
    let now = s.now();
    let sql = format!(
        "{} WHERE t.{ACTIVE} AND t.state <> 'stuck' AND t.kind IN ({}) AND coalesce($2, t.target, '') = coalesce(t.target, '')
         ORDER BY t.lease_until LIMIT 1000{}",
        rows::select(),
        rows::list(kinds, TaskKind::as_str),
        s.skip_locked()
    );
    for row in s.rows(&sql, args![now, target]).await? {
        match rows::task(&row, now) {
            Ok(task) if task.is_lapsed => lost(s, &row, &task).await?,
            Ok(_) => {}
            Err(error) => unreadable(s, &row, &error),
        }
    }
    Ok(())
}

/// What becomes of a task whose holder was lost.
fn after_loss(task: &Task, was_stuck: bool) -> TaskState {
    match task.kind.is_saga() {
        true if was_stuck => TaskState::Stuck,
        true => TaskState::Recovering,
        false if task.attempt >= task.max_attempts => TaskState::Failed,
        false => TaskState::Queued,
    }
}

async fn lost(s: &mut dyn Session, row: &Row, task: &Task) -> Result<(), Fault> {
    let wrong = |s: &mut dyn Session, error: String| s.damaged(error);
    let job = row.text("job_id").map_err(|error| wrong(s, error))?;
    let epoch = row.int("lease_epoch").map_err(|error| wrong(s, error))?;
    let is_gone = rows::holder_is_gone(row).map_err(|error| wrong(s, error))?;
    let worker = row.opt_text("lease_worker").map_err(|error| wrong(s, error))?.unwrap_or_default();
    let why = if is_gone { "its process is gone" } else { "its lease ran out" };
    let detail = format!("worker {worker} was lost: {why}");
    // Held again after it was stuck: by somebody who was to resolve it.
    let was_stuck = row.opt_text("outcome").map_err(|error| wrong(s, error))?.as_deref() == Some("stuck");
    let state = after_loss(task, was_stuck);
    // Why it is stuck is worth more than who was lost over it.
    let error = (state != TaskState::Stuck).then_some(detail.as_str());
    let kept_worker = (!task.kind.is_saga()).then_some(worker.as_str());
    let now = s.now();
    let changed = s
        .execute(
            "UPDATE task_log SET state = $3, was_lost = 1, lease_until = NULL, lease_worker = $6, finished_at = $5,
                 error_class = CASE WHEN $4 IS NULL THEN error_class ELSE 'lost' END,
                 error_message = coalesce($4, error_message)
             WHERE job_id = $1 AND lease_epoch = $2 AND state IN ('running', 'recovering')",
            args![
                job.as_str(),
                epoch,
                state.as_str(),
                error,
                state.is_terminal().then_some(now.unsigned_abs()),
                kept_worker,
            ],
        )
        .await?;
    if changed == 0 {
        return Err(Fault::Race);
    }
    close_attempt(s, &job, epoch, "lost", Some("lost"), Some(&detail)).await?;
    events::append(s, &job, "lost", &detail, Tell::Nobody).await?;
    match state {
        TaskState::Failed => {
            events::append(s, &job, "failed", &format!("{detail}; it was the last try"), Tell::Channels).await
        }
        TaskState::Stuck => events::append(s, &job, "stuck", "as before", Tell::Channels).await,
        _ => Ok(()),
    }
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

/// Ends what was not begun in its time, and what was to help with a task that needs no help any more.
pub async fn expire(s: &mut dyn Session) -> Result<(), Fault> {
    let now = s.now();
    let late = "t.attempt = 0 AND t.expires_at <= $1";
    let needless = "coalesce(t.created_at, 0) <= $1 AND t.stuck_job IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM task_log AS helped WHERE helped.job_id = t.stuck_job AND helped.state IN ('stuck', 'recovering'))";
    for (over, why) in
        [(late, "its time was over before it began"), (needless, "the task it was to help with has ended")]
    {
        let sql = format!(
            "SELECT t.job_id, t.state FROM task_log AS t WHERE t.{WAITING} AND {over}
             ORDER BY t.expires_at LIMIT {SWEEP}{}",
            s.skip_locked()
        );
        for row in s.rows(&sql, args![now]).await? {
            let job = row.text("job_id").map_err(|error| s.damaged(error))?;
            let is_unapproved = row.text("state").map_err(|error| s.damaged(error))? == TaskState::Waiting.as_str();
            let why = if is_unapproved { "its time was over before it was approved" } else { why };
            let sql = "UPDATE task_log SET state = 'expired', finished_at = $2 WHERE job_id = $1";
            s.execute(sql, args![job.as_str(), now]).await?;
            events::append(s, &job, "expired", why, Tell::Channels).await?;
        }
    }
    Ok(())
}

/// Asks for the end of scheduled backups whose databases a migration waits for: it makes a backup of its own, which
/// reuses what this one has stored. A backup that a person or a service asked for is waited for.
async fn make_way(s: &mut dyn Session, wanted: &Wanted) -> Result<(), Fault> {
    let now = s.now();
    let sql = format!(
        "SELECT * FROM (
             SELECT backup.job_id, (
                 SELECT min(t.job_id) FROM task_log AS t
                 WHERE t.target = backup.target AND t.kind = 'migrate' AND {WAITS}{}) AS migration
             FROM task_log AS backup
             WHERE backup.{ACTIVE} AND backup.state = 'running' AND backup.kind = 'backup' AND backup.door = 'schedule'
                 AND backup.cancel_requested_at IS NULL) AS blocked
         WHERE migration IS NOT NULL LIMIT {SWEEP}",
        of_targets(wanted)
    );
    for row in s.rows(&sql, args![now]).await? {
        let backup = rows::parsed(s, &row, "job_id")?;
        let migration = row.text("migration").map_err(|error| s.damaged(error))?;
        hold::cancel(s, &backup, &format!("the migration {migration}")).await?;
    }
    Ok(())
}

/// The condition of a row `t` that waits and is due, with the time now as `$1`.
const WAITS: &str = "t.state IN ('scheduled', 'queued') AND coalesce(t.again_at, t.run_at, 0) <= $1
    AND (t.expires_at IS NULL OR t.expires_at > $1 OR t.attempt > 0)";

/// The condition of a row `t` that is of a wanted database or of none, with an AND before it.
fn of_targets(wanted: &Wanted) -> String {
    // Names of databases consist of a-z, 0-9, '_' and '-'.
    let names =
        |targets: &[DatabaseName]| targets.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    wanted.targets.as_deref().map_or_else(String::new, |targets| match names(targets) {
        none if none.is_empty() => " AND t.target IS NULL".to_owned(),
        // Not by the index on the target, which would lead to everything those databases ever had.
        names => format!(" AND coalesce(t.target, '') IN ('', {names})"),
    })
}

/// The condition of a row `t` that may be handed out, with the time now as `$1`.
fn may_be_taken(wanted: &Wanted) -> String {
    let is_free = format!(
        "CASE WHEN t.stuck_job IS NOT NULL THEN {} WHEN t.target IS NULL OR NOT {} THEN true
             ELSE NOT EXISTS (SELECT 1 FROM task_log AS other WHERE other.target = t.target AND {}) END",
        stuck::may_help("t"),
        exclusive("t"),
        active_and_exclusive("other")
    );
    let is_lost = "t.state = 'recovering' AND t.lease_worker IS NULL";
    let kinds = rows::list(&wanted.kinds, TaskKind::as_str);
    let ready = if wanted.only_lost { is_lost.to_owned() } else { format!("({is_lost} OR {WAITS} AND {is_free})") };
    let known = of_targets(wanted);
    let asked = if wanted.scheduled { "" } else { " AND t.door <> 'schedule'" };
    format!("t.{NEXT} AND {ready} AND t.kind IN ({kinds}){known}{asked}")
}

/// The task to do next, and the stuck one it is to help with. A row that cannot be read is named and passed over, so that it keeps nobody else waiting.
async fn next(s: &mut dyn Session, wanted: &Wanted) -> Result<Option<(String, Option<JobId>)>, Fault> {
    let now = s.now();
    let ready = may_be_taken(wanted);
    let mut passed_over: Vec<String> = Vec::new();
    while passed_over.len() < UNREADABLE {
        let skipped: String = (0..passed_over.len()).map(|at| format!(" AND t.job_id <> ${}", at + 2)).collect();
        let sql = format!(
            "{} WHERE {ready}{skipped}
             ORDER BY CASE t.state WHEN 'recovering' THEN 0 ELSE 1 END, t.was_lost DESC, t.priority DESC,
                 coalesce(t.again_at, t.run_at, t.created_at), t.created_at, t.job_id
             LIMIT 1{}",
            rows::select(),
            s.skip_locked()
        );
        let mut values = args![now];
        values.extend(passed_over.iter().map(|job| job.as_str().into()));
        let Some(row) = s.row(&sql, values).await? else { return Ok(None) };
        let job = row.text("job_id").map_err(|error| s.damaged(error))?;
        match rows::task(&row, now).and_then(|task| rows::channels(&row).map(|_| task)) {
            Ok(task) => return Ok(Some((job, task.stuck_job.filter(|_| task.state != TaskState::Recovering)))),
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

/// Gives a task that may begin to `worker`. One that is recovered is still at the try whose holder was lost.
pub async fn take(s: &mut dyn Session, job: &str, worker: &Worker, lease_us: i64) -> Result<Claimed, Fault> {
    let now = s.now();
    let changed = s
        .execute(
            "UPDATE task_log SET state = CASE was_lost WHEN 0 THEN 'running' ELSE 'recovering' END,
                 attempt = attempt + CASE state WHEN 'recovering' THEN 0 ELSE 1 END, lease_epoch = lease_epoch + 1, lease_worker = $2, lease_until = $3,
                 started_at = coalesce(started_at, $4), was_lost = 0, again_at = NULL, step = NULL,
                 progress_bytes = NULL, progress_bytes_expected = NULL, progress_at = NULL
             WHERE job_id = $1 AND (state IN ('scheduled', 'queued') OR state = 'recovering' AND lease_worker IS NULL)",
            args![job, worker.id.as_str(), now.saturating_add(lease_us), now],
        )
        .await?;
    if changed == 0 {
        return Err(Fault::Race);
    }
    taken(s, job, worker).await
}

/// Writes down that `worker` has a task now whose row this transaction has just leased to it.
pub async fn taken(s: &mut dyn Session, job: &str, worker: &Worker) -> Result<Claimed, Fault> {
    let now = s.now();
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
